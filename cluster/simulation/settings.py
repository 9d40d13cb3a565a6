"""What a run is like: how large, how rough, how long. A seed draws even this."""

from random import Random

import attrs

# How data are kept on disk: not at all, as an RDB every two seconds, or in an append-only file.
NONE, RDB, ALWAYS, EVERYSEC = "none", "rdb", "always", "everysec"


@attrs.frozen
class Settings:
    """Times are in milliseconds; likelihoods between 0 and 1.

    node_timeout, validity_factor, report_refused: directives. min_delay, max_delay, chop: of the
    network. lost, repeated: messages of the bus. skew_ms, drift_ppm: of the clocks, at most.
    writers, busy_ms: clients, and how long each thinks. fault_every: how often something is done
    to the cluster, on average. careful: who restarts processes takes care that no primary comes
    back without its data before it has been replaced, unless that takes longer than patience_ms.
    deaths_after_vote: how likely a voter dies
    right after a vote. persistence: what is on disk, one of those above. reshard_every: how often
    slots are moved, at most, 0 for never; whole: how likely they move all at once.
    """

    shards: int = 3
    replicas: int = 1
    node_timeout: int = 1000
    validity_factor: int = 10
    report_refused: bool = True
    replica_migration: bool = False
    min_delay: int = 1
    max_delay: int = 3
    chop: float = 0.0
    lost: float = 0.0
    repeated: float = 0.0
    skew_ms: int = 0
    drift_ppm: int = 0
    writers: int = 2
    busy_ms: int = 200
    fault_every: int = 3000
    careful: bool = True
    patience_ms: int = 15_000
    deaths_after_vote: float = 0.0
    persistence: str = NONE
    reshard_every: int = 0
    whole: float = 0.5


def drawn(rng: Random) -> Settings:
    """A run of any kind: small and gentle ones are likelier than large and rough ones."""
    wide = rng.random() < 0.25
    shards, replicas = rng.choice(((3, 1), (3, 1), (3, 1), (3, 2), (4, 1), (5, 1)))
    return Settings(
        shards=shards,
        replicas=replicas,
        node_timeout=rng.choice((1000, 2000, 3000) if shards * replicas == 3 else (3000, 5000)),
        validity_factor=rng.choice((10, 10, 2)),
        report_refused=rng.random() < 0.7,
        replica_migration=rng.random() < 0.25,
        min_delay=rng.choice((0, 1, 5)) if not wide else 10,
        max_delay=rng.choice((5, 20)) if not wide else 80,
        chop=rng.choice((0.0, 0.0, 0.05)),
        lost=rng.choice((0.0, 0.0, 0.01, 0.05)),
        repeated=rng.choice((0.0, 0.02, 0.2)),
        skew_ms=rng.choice((0, 50, 400)),
        drift_ppm=rng.choice((0, 100, 1000)),
        writers=rng.choice((2, 3)),
        busy_ms=rng.choice((150, 300)),
        fault_every=rng.choice((1500, 3000, 6000)),
        careful=rng.random() < 0.6,
        deaths_after_vote=rng.choice((0.0, 0.0, 0.3)),
        persistence=rng.choice((NONE, RDB, ALWAYS, EVERYSEC)),
        reshard_every=rng.choice((0, 500, 1500)),
        whole=rng.choice((0.0, 0.5, 1.0)),
    )
