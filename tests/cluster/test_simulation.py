"""Whole nodes in a simulated world: stories, many seeds, and mistakes that seeds must find."""

import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.checks import Violation
from cluster.election import Election
from cluster.simulation.settings import Settings
from cluster.simulation.trial import run_seed
from cluster.simulation.world import World
from cluster.view import View
from node.replication.primary import Primary
from node.replication.stream import Stream

ROOT = Path(__file__).parent.parent.parent
TRANSCRIPTS = Path(__file__).parent / "transcripts"
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


def made_world(**settings: object) -> World:
    world = World(7, Settings(**settings), lines=[])  # type: ignore[arg-type]
    world.trace.in_full = False
    world.form()
    world.add_writers()
    world.run(2000)
    return world


def finish(world: World) -> None:
    """Let all be well again, and check everything."""
    for writer in world.writers:
        writer.stop()
    world.run(until=world.settled)
    world.checks.at_the_end([machine.process for machine in world.machines.values()])


def acknowledged_since(world: World, moment: int, place: str) -> list[bytes]:
    """Keys of writes that a node has acknowledged after a moment."""
    writes = world.ledger.writes.values()
    return [w.key for w in writes if w.acknowledged > moment and w.by == place]


def check_transcript(world: World, name: str, since: int) -> None:
    """Compare what has happened with what is kept; with WRITE_TRANSCRIPTS=1 set, keep it."""
    lines = [line for line in world.trace.lines or [] if int(line.split()[0]) >= since]
    text = "".join(f"{line}\n" for line in lines)
    path = TRANSCRIPTS / f"{name}.txt"
    if os.environ.get("WRITE_TRANSCRIPTS"):
        path.write_text(text)
    assert text == path.read_text()


# --- stories --------------------------------------------------------------------------------------


def test_a_killed_primary_is_replaced_at_once_and_comes_back_as_a_replica(world):
    before = world.timeline.elapsed
    world.kill("p1")
    took = world.run(until=world.promoted("r1"))
    assert took < 300
    world.run(1000)
    world.restart("p1")
    world.run(until=world.follows("p1", "r1"))
    world.run(1000)
    assert world.checks.promises.kept
    finish(world)
    check_transcript(world, "world-kill", before)


def test_a_stopped_primary_is_replaced_after_the_node_timeout_and_acknowledges_nothing_then(world):
    world.pause("p1")
    took = world.run(until=world.promoted("r1"))
    assert 1000 <= took <= 3000
    world.run(500)
    woken = world.timeline.now
    world.resume("p1")
    world.run(until=world.follows("p1", "r1"))
    world.run(2000)
    assert not acknowledged_since(world, woken, "p1")
    assert acknowledged_since(world, woken, "r1")
    finish(world)


def test_a_primary_in_a_minority_stops_serving_and_rejoins_when_it_is_healed(world):
    before = world.timeline.elapsed
    world.part(["p1", "c1"])
    parted = world.timeline.now
    world.run(until=world.promoted("r1"))
    world.run(until=lambda: not world.view("p1").ok)
    assert world.timeline.now - parted <= 2500
    stopped = world.timeline.now
    answer = world.ask("p1", "SET", "{06S}", "1")  # slot 0
    assert str(answer).startswith("CLUSTERDOWN")
    world.run(2000)
    assert not acknowledged_since(world, stopped, "p1")
    assert acknowledged_since(world, stopped, "r1")
    world.mend()
    world.run(until=world.follows("p1", "r1"))
    finish(world)
    check_transcript(world, "world-partition", before)


def test_all_are_killed_and_restarted(world):
    before = world.timeline.elapsed
    for name in world.machines:
        world.kill(name)
    world.run(500)
    for name in world.machines:
        world.restart(name)
    world.run(until=world.settled)
    for i in "123":
        assert world.view(f"p{i}").myself.is_voter, "nobody has replaced anybody"
        assert world.follows(f"r{i}", f"p{i}")()
    finish(world)
    check_transcript(world, "world-restart", before)


def test_nobody_can_be_replaced_without_a_majority_until_one_is_back(world):
    for name in ("p1", "p2"):
        world.kill(name)
    world.run(8000)
    assert not any(world.view(f"r{i}").myself.is_primary for i in "12")
    assert not world.view("p3").ok
    world.restart("p2")
    world.run(until=world.promoted("r1"))
    world.restart("p1")
    finish(world)


def test_what_nobody_synced_may_be_gone_after_a_loss_of_power_but_no_vote():
    world = made_world(node_timeout=500, report_refused=False)
    world.kill("p1")
    world.run(until=world.promoted("r1"))
    voter = "p2" if world.view("p2").last_vote_epoch else "p3"
    epoch = world.view(voter).last_vote_epoch
    assert epoch
    world.lose_power(voter)
    world.run(100)
    world.restart(voter)
    assert world.view(voter).last_vote_epoch == epoch
    world.restart("p1")
    finish(world)


def test_a_node_whose_disk_knows_only_itself_is_met_again():
    world = World(7, Settings())
    world.form()
    world.lose_power("p2")
    world.run(100)
    world.restart("p2")
    assert len(world.view("p2").order) == 1, "nobody had asked for more to be synced"
    finish(world)


def test_a_direction_that_is_cut_parts_nodes_as_well(world):
    for other in ("p2", "p3", "r1", "r2", "r3"):
        world.cut("p1", other)
    world.run(until=world.promoted("r1"))
    world.run(3000)
    deposed = world.timeline.now
    world.run(2000)
    assert not acknowledged_since(world, deposed, "p1")
    world.mend()
    finish(world)


def test_a_ping_that_got_lost_is_repeated_though_the_other_side_goes_on_talking(world):
    """Without that the other one would be suspected for ever: it owes an answer to nothing."""
    world.roughness.lost = 1.0
    for end in list(world.network.ends):
        if end.owner is world["p1"] and end.other.owner is world["p2"]:
            world.break_connection(end)
    seen = world.view("p1").nodes[world["p2"].id]
    world.run(until=lambda: seen.suspected)
    world.roughness.lost = 0.0
    world.run(3000, until=lambda: not seen.suspected)
    finish(world)


def test_a_failover_by_hand_loses_nothing_that_was_acknowledged(world):
    written = [w for w in world.ledger.writes.values() if w.acknowledged]
    assert world.ask("r2", "CLUSTER", "FAILOVER") == b"OK"
    world.run(until=world.promoted("r2"))
    world.run(until=world.follows("p2", "r2"))
    world.run(1000)
    held = {key for process in world.processes for key in process.node.keyspace[0]}
    assert {w.key for w in written} <= held
    finish(world)


# --- seeds ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_seed(seed):
    report = run_seed(seed)
    assert not report.failure, f"scripts/simulate --verbose {seed} tells how"
    assert report.elapsed_ms >= 60_000 and report.counts["kept"]


def test_a_seed_gives_the_same_run_in_every_process():
    def digests(hash_seed: str) -> list[str]:
        command = [sys.executable, "-m", "cluster.simulation", "--seeds", "2-4", "--jobs", "1"]
        run = subprocess.run(
            [*command, "--seconds", "16", "--digests"],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return re.findall(r"seed \d+ ([0-9a-f]{32})", run.stdout)

    first, second = digests("1"), digests("2")
    assert first == second and len(set(first)) == 3


def test_what_a_node_logs_does_not_change_the_run():
    quiet, told = run_seed(3, shortest_ms=12_000), []
    assert run_seed(3, shortest_ms=12_000, lines=told).digest == quiet.digest
    assert any("restarts" in line for line in told)


# --- mistakes that seeds must find ----------------------------------------------------------------


# Where messages are often repeated, and a vote is often a voter's last deed.
ROUGH = Settings(node_timeout=500, repeated=0.9, deaths_after_vote=1.0, fault_every=1000)


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
        self.desk.must_sync = saved_anyway

    monkeypatch.setattr(Election, "on_request", on_request)


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


def test_a_broken_rule_is_raised_where_it_is_broken(world):
    with pytest.raises(Violation, match="read what was written"):
        write = next(iter(world.ledger.writes.values()))
        world.checks.promises.on_read(write, b"another", "p1", 0)
