"""One seed's run: a cluster is formed, used and mistreated, then healed, and must be whole."""

from random import Random

import attrs

from cluster.checks import Violation
from cluster.simulation.faults import Faults
from cluster.simulation.settings import Settings, drawn
from cluster.simulation.world import World

SHORTEST_MS = 60_000
SETTLE_LIMIT_MS = 90_000
CALM_MS = 3000
LOOK_PERIOD_MS = 2000


@attrs.define
class Report:
    """What came of a run. failure: the broken rule, or "". counts: of what happened."""

    seed: int
    settings: Settings
    failure: str = ""
    rule: str = ""
    elapsed_ms: int = 0
    settled_in_ms: int = 0
    digest: str = ""
    counts: dict[str, int] = attrs.field(factory=dict)


def run_seed(
    seed: int,
    settings: Settings | None = None,
    shortest_ms: int = SHORTEST_MS,
    lines: list[str] | None = None,
) -> Report:
    """Run a seed; `settings` are drawn from it unless given. Lines of what happens go to `lines`.

    A run lasts shortest_ms or longer, three quarters of it under faults. The same seed gives the
    same report, in every process.
    """
    settings = settings or drawn(Random(seed))
    report = Report(seed, settings)
    world = World(seed, settings, lines)
    faults = Faults(world, Random(world.rng.getrandbits(64)))
    try:
        _live(world, faults, report, shortest_ms)
    except Violation as violation:
        report.failure, report.rule = str(violation), violation.rule
    except Exception as error:  # nothing that is run here may fail
        report.failure, report.rule = f"{type(error).__name__}: {error}", "no failure"
        if lines is not None:
            raise
    _sum_up(world, faults, report)
    return report


def _live(world: World, faults: Faults, report: Report, shortest_ms: int) -> None:
    world.form()
    world.every(LOOK_PERIOD_MS, lambda: world.checks.now_and_then(world.processes))
    world.add_writers()
    if world.settings.reshard_every:
        world.add_resharder()
    faults.start()
    world.run(shortest_ms * 3 // 4)
    faults.stop()
    for client in (*world.writers, world.resharder):
        if client is not None:
            client.stop()
    report.settled_in_ms = _settle(world)
    if world.resharder is not None:
        world.mend_slots()
    world.run(max(CALM_MS, shortest_ms - world.timeline.elapsed))
    _settle(world)
    world.checks.at_the_end([machine.process for machine in world.machines.values()])


def _settle(world: World) -> int:
    """Let time pass until all is well; a violation if that takes too long."""
    start = world.timeline.now
    while not world.settled() and world.timeline.now - start < SETTLE_LIMIT_MS:
        world.run(100)
    if not world.settled():
        processes = [machine.process for machine in world.machines.values()]
        raise Violation("settled", world.checks.unsettled(processes))
    return world.timeline.now - start


def _sum_up(world: World, faults: Faults, report: Report) -> None:
    ledger = world.ledger
    moved = world.resharder.done if world.resharder is not None else {}
    report.elapsed_ms = world.timeline.elapsed
    report.digest = world.trace.digest
    report.counts = {
        **{kind: world.counts.get(kind, 0) for kind in ("election", "vote", "promoted", "failed")},
        "faults": sum(faults.counts.values()),
        "restarts": world.restarts,
        "requests": ledger.requests,
        "writes": len(ledger.writes),
        "acknowledged": sum(write.acknowledged > 0 for write in ledger.writes.values()),
        "kept": len(world.checks.promises.kept),
        **{f"moved {what}": many for what, many in moved.items()},
        "full syncs": sum(m.process.node.observe.full_syncs for m in world.machines.values()),
        "partial syncs": sum(m.process.node.observe.partial_syncs for m in world.machines.values()),
        "events": world.timeline.events,
    }
