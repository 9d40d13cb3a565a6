"""Whole nodes in a simulated world: many seeds, and mistakes that they must find."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import evolve

from cluster import effects as fx
from cluster.checks import Violation
from cluster.election import Election
from cluster.ownership import Ownership
from cluster.simulation.bus import Bus
from cluster.simulation.settings import ALWAYS, RDB, Settings
from cluster.simulation.trial import run_seed
from cluster.simulation.world import World
from cluster.view import View
from node.disk import Appender, SimulatedDisk
from node.persistence.aof.aof import Aof
from node.persistence.aof.writer import Writer
from node.replication.primary import Primary
from node.replication.stream import Stream
from tests.cluster.stories import made_world

ROOT = Path(__file__).parent.parent.parent
SEEDS = range(1, 61)  # the rest of them is for scripts/simulate
MORE_SEEDS = range(1001, 1101)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """What all the nodes log would be many times what they do."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture
def world() -> World:
    """Three primaries p1 p2 p3 with a replica each, r1 r2 r3, and two clients that write."""
    return made_world()


# --- seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_seed(seed):
    report = run_seed(seed)
    assert not report.failure, f"scripts/simulate --verbose {seed} tells how"
    assert report.elapsed_ms >= 60_000 and report.counts["kept"]


def test_a_seed_gives_the_same_run_in_every_process():
    def digests(hash_seed: str) -> list[str]:
        command = [sys.executable, "-m", "cluster.simulation", "--seeds", "2-3", "--jobs", "1"]
        run = subprocess.run(
            [*command, "--seconds", "12", "--digests"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return re.findall(r"seed \d+ ([0-9a-f]{32})", run.stdout)

    first, second = digests("1"), digests("2")
    assert first == second and len(set(first)) == 2


def test_what_a_node_logs_does_not_change_the_run():
    quiet, told = run_seed(3, shortest_ms=12_000), []
    assert run_seed(3, shortest_ms=12_000, lines=told).digest == quiet.digest
    assert any("restarts" in line for line in told)


# --- mistakes that seeds must find ----------------------------------------------------------------


# Where messages are often repeated, and a vote is often a voter's last deed.
ROUGH = Settings(node_timeout=500, repeated=0.9, deaths_after_vote=1.0, fault_every=1000)


SAVING = Settings(persistence=RDB, fault_every=1000)
MOVING = Settings(reshard_every=200, whole=0.0, fault_every=1000)
LOGGING = Settings(persistence=ALWAYS, fault_every=1000)


def first_failure(settings: Settings | None = None) -> str:
    """The rule that is broken first."""
    for seed in MORE_SEEDS:
        report = run_seed(seed, settings)
        if report.rule:
            return report.rule
    return ""


def vote_without_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """A vote that is saved whenever something else is."""
    real = Election.on_request

    def on_request(self, candidate, header):
        saved_anyway = self.desk.must_sync
        real(self, candidate, header)
        self.desk.must_save = self.desk.must_sync = saved_anyway

    monkeypatch.setattr(Election, "on_request", on_request)


def leave_votes_unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver that writes nodes.conf, and doesn't wait until it is on the disk."""
    real = Bus.save
    monkeypatch.setattr(Bus, "save", lambda self, effect: real(self, evolve(effect, sync=False)))


def leave_data_unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for the file with the data."""
    real = SimulatedDisk.append_to

    def append_to(self: SimulatedDisk, name: str) -> Appender:
        file = real(self, name)
        if name.endswith(".rdb"):
            monkeypatch.setattr(file, "sync", lambda: None)
        return file

    monkeypatch.setattr(SimulatedDisk, "append_to", append_to)


def reply_before_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """An append-only file that is not synced before a turn's replies leave."""
    monkeypatch.setattr(Aof, "tick", lambda self: None)
    monkeypatch.setattr(Writer, "_sync_now", lambda self: None)


def take_slots_under_the_old_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary that is given a slot and keeps its epoch, so that others may not believe it."""
    monkeypatch.setattr(Ownership, "bump_epoch", lambda self: False)


def vote_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A voter that doesn't ask itself whether it has voted."""
    real = Election._refusal

    def refusal(self, candidate, header):
        view = self.desk.view
        remembered, view.last_vote_epoch = view.last_vote_epoch, 0
        try:
            return real(self, candidate, header)
        finally:
            view.last_vote_epoch = remembered

    monkeypatch.setattr(Election, "_refusal", refusal)


def win_without_votes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A candidate that doesn't count."""
    monkeypatch.setattr(View, "quorum", 0)


def count_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A primary that takes its replicas' word for granted."""
    monkeypatch.setattr(Primary, "count_acknowledged", lambda self, offset: len(self.replicas))


def skip_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that doesn't do all that its primary did."""
    real = Stream._apply
    monkeypatch.setattr(
        Stream, "_apply", lambda self, name, args: name == b"SADD" or real(self, name, args)
    )


@pytest.mark.parametrize(
    ("mistake", "settings", "rules"),
    [
        (vote_without_saving, None, {"epochs don't go back", "one vote per epoch"}),
        (leave_votes_unsynced, ROUGH, {"epochs don't go back", "one vote per epoch"}),
        (leave_data_unsynced, SAVING, {"loaded what there was", "kept what was synced"}),
        (reply_before_sync, LOGGING, {"kept what was synced"}),
        (take_slots_under_the_old_epoch, MOVING, {"settled", "one owner per slot and epoch"}),
        (vote_twice, ROUGH, {"one vote per epoch"}),
        (win_without_votes, None, {"elected by a majority", "one winner per epoch"}),
        (skip_a_command, None, {"equal data at equal offsets", "settled"}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_seeds_find(monkeypatch, mistake, settings, rules):
    mistake(monkeypatch)
    assert first_failure(settings) in rules


def test_two_votes_of_one_voter_are_noticed_over_its_restart(monkeypatch):
    """The rule itself, not only the memory that a restart should have."""
    vote_without_saving(monkeypatch)
    monkeypatch.setattr("cluster.checks.Epochs.on_start", lambda self, process: None)
    assert first_failure(ROUGH) == "one vote per epoch"


def test_a_write_that_no_replica_has_is_missed_after_the_failover(monkeypatch, world):
    count_everybody(monkeypatch)
    world.cut("p1", "r1")
    world.run(1500)
    world.kill("p1")
    with pytest.raises(Violation, match="kept what was acknowledged"):
        world.run(until=world.promoted("r1"))
        world.checks.promises.check_all()


def test_a_slow_process_keeps_the_order_of_what_arrives_when_it_is_stopped(world):
    process, done = world["p1"], []
    world.slow_down("p1", 20)
    for i in range(3):
        process.handle(lambda i=i: done.append(i))
    world.pause("p1")
    process.handle(lambda: done.append(3))
    world.run(100)
    world.slow_down("p1", 0)
    world.resume("p1")
    process.handle(lambda: done.append(4))
    world.run(50)
    assert done == [0, 1, 2, 3, 4]


def test_an_epoch_that_was_taken_unasked_is_known_though_its_taker_died_before_it_told(world):
    process = world["p1"]
    _, effects = process.core.ask(fx.BumpEpoch(), process.member.now())
    (save,) = [effect for effect in effects if isinstance(effect, fx.Save)]
    process.bus.save(save)
    world.kill("p1")
    epoch = process.core.view.myself.config_epoch
    assert epoch not in world.checks.epochs.unasked
    world.restart("p1")
    assert epoch in world.checks.epochs.unasked


def test_a_broken_rule_is_raised_where_it_is_broken(world):
    with pytest.raises(Violation, match="read what was written"):
        write = next(iter(world.ledger.writes.values()))
        world.checks.promises.on_read(write, b"another", "p1", 0)
