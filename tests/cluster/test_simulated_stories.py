"""Stories of small simulated clusters: what is done to them, and what must come of it.

Whatever else happens meanwhile is checked by cluster.checks. Some leave a transcript of what the
nodes did, in tests/cluster/transcripts; WRITE_TRANSCRIPTS=1 writes it anew.
"""

import logging
from collections.abc import Iterator
from random import Random

import attrs
import pytest

from cluster.simulation.clients import Steps
from cluster.simulation.operators import Operator, Owner
from cluster.simulation.process import PORT
from cluster.simulation.settings import ALWAYS, RDB, Settings
from cluster.simulation.world import World
from cluster.slotmigration.jobs import Job
from tests.cluster.stories import acknowledged_since, check_transcript, finish, made_world


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
    before = world.timeline.elapsed
    written = [w for w in world.ledger.writes.values() if w.acknowledged]
    assert world.ask("r2", "CLUSTER", "FAILOVER") == b"OK"
    world.run(until=world.promoted("r2"))
    world.run(until=world.follows("p2", "r2"))
    world.run(1000)
    held = {key for process in world.processes for key in process.node.keyspace[0]}
    assert {w.key for w in written} <= held
    finish(world)
    check_transcript(world, "world-failover", before)


def test_forced_a_replica_does_not_wait_for_its_primary(world):
    """FORCE: for when the primary is out of reach, though nobody holds it for failed."""
    before = world.timeline.elapsed
    for one, other in (("p1", "r1"), ("r1", "p1")):
        world.cut(one, other)
    assert world.ask("r1", "CLUSTER", "FAILOVER", "FORCE") == b"OK"
    assert world.run(until=world.promoted("r1")) < 200
    world.run(until=lambda: world.view("p1").myself.is_replica)
    world.mend()
    world.run(until=world.follows("p1", "r1"))
    finish(world)
    check_transcript(world, "world-force", before)


def test_by_takeover_two_replicas_bring_back_a_cluster_without_a_majority(world):
    """TAKEOVER asks nobody: there is nobody left to be asked."""
    before = world.timeline.elapsed
    for name in ("p1", "p2"):
        world.kill(name)
    world.run(until=lambda: not world.view("p3").ok)
    for name in ("r1", "r2"):
        assert world.ask(name, "CLUSTER", "FAILOVER", "TAKEOVER") == b"OK"
    world.run(until=lambda: all(world.promoted(name)() for name in ("r1", "r2", "p3")))
    epochs = [world.view(name).myself.config_epoch for name in ("r1", "r2", "p3")]
    assert len(set(epochs)) == 3
    for name in ("p1", "p2"):
        world.restart(name)
    finish(world)
    assert world.follows("p1", "r1")() and world.follows("p2", "r2")()
    check_transcript(world, "world-takeover", before)


def test_an_orphaned_primary_is_given_a_replica_that_another_can_spare():
    world = made_world(replicas=2, replica_migration=True, report_refused=False)
    before = world.timeline.elapsed
    mine = [name for name in world.machines if world.follows(name, "p1")()]
    for name in mine:
        world.kill(name)
    took = world.run(until=lambda: _followers(world, "p1"))
    assert took > 5000, "it might have been a restart"
    (guest,) = _followers(world, "p1")
    world.run(1000)
    assert world.follows(guest, "p1")()
    for name in mine:
        world.restart(name)
    finish(world)
    check_transcript(world, "world-orphan", before)


def _followers(world: World, primary: str) -> list[str]:
    """Who is alive and has that node for its primary."""
    nodes = {process.place: process.core.view.myself.primary for process in world.processes}
    return [place for place, node in nodes.items() if node and world.name_of(node.id) == primary]


def test_a_stale_primary_that_hears_of_its_successor_from_others_serves_nothing(world):
    """UPDATE: the one that replaced it is out of its reach."""
    before = world.timeline.elapsed
    world.kill("p1")
    world.run(until=world.promoted("r1"))
    for one, other in (("p1", "r1"), ("r1", "p1")):
        world.cut(one, other)
    world.restart("p1")
    back = world.timeline.now
    world.run(until=lambda: world.view("p1").myself.is_replica)
    assert world.timeline.now - back < 1000
    world.run(2000)
    assert not acknowledged_since(world, back, "p1")
    world.mend()
    world.run(until=world.follows("p1", "r1"))
    finish(world)
    check_transcript(world, "world-stale-primary", before)


def test_two_that_took_one_epoch_behind_a_partition_part_when_they_meet(world):
    before = world.timeline.elapsed
    world.part(["p2", "r2", "c1"])
    world.part(["p3", "r3", "c2"])
    world.run(3000)
    for name in ("r2", "r3"):
        assert world.ask(name, "CLUSTER", "FAILOVER", "TAKEOVER") == b"OK"
    world.run(until=lambda: all(world.view(name).myself.is_primary for name in ("r2", "r3")))
    ours = [world.view(name).myself for name in ("r2", "r3")]
    assert ours[0].config_epoch == ours[1].config_epoch
    world.mend()
    world.run(until=lambda: ours[0].config_epoch != ours[1].config_epoch)
    finish(world)
    check_transcript(world, "world-collision", before)


# --- files ----------------------------------------------------------------------------------------


def test_a_replica_that_was_shut_down_goes_on_where_its_file_ends():
    world = made_world(persistence=RDB)
    before = world.timeline.elapsed
    world.shut_down("r1")
    world.run(until=lambda: not world.machines["r1"].up)
    world.run(1000)
    world.restart("r1")
    assert len(world["r1"].node.keyspace[0]), "it has what it had"
    world.run(until=world.follows("r1", "p1"))
    assert world["p1"].node.observe.partial_syncs == 1
    finish(world)
    check_transcript(world, "world-shutdown", before)


def test_after_a_loss_of_power_a_replica_goes_on_from_its_last_save():
    world = made_world(persistence=RDB)
    world.run(3000)
    world.lose_power("r1")
    world.run(500)
    world.restart("r1")
    loaded = world["r1"].node.log.offset
    assert 0 < loaded < world["p1"].node.log.offset
    world.run(until=world.follows("r1", "p1"))
    assert world["p1"].node.observe.partial_syncs == 1
    finish(world)


def test_a_rewrite_that_a_crash_has_cut_short_does_not_get_into_the_next():
    world = made_world(persistence=ALWAYS)
    for _ in range(2):
        world.ask("r1", "BGREWRITEAOF")
        world.kill("r1")
        world.restart("r1")
        world.run(until=world.follows("r1", "p1"))
    world.ask("r1", "BGREWRITEAOF")
    world.run(1000)
    world.kill("r1")
    world.restart("r1")
    assert len(world["r1"].node.keyspace[0])
    finish(world)


def test_a_write_that_was_answered_under_always_outlives_a_loss_of_power():
    world = made_world(persistence=ALWAYS)
    assert world.ask("p1", "SET", "{06S}", "kept") == b"OK"
    world.lose_power("p1")
    world.restart("p1")
    assert world["p1"].node.keyspace[0].get(b"{06S}") == b"kept"
    finish(world)


# --- slots on the move ----------------------------------------------------------------------------


@pytest.mark.parametrize("whole", [0.0, 1.0], ids=["key by key", "as a whole"])
def test_slots_move_while_clients_write_and_nothing_is_lost(whole):
    world = made_world(reshard_every=200, whole=whole)
    world.add_resharder()
    world.run(10_000)
    world.resharder.stop()
    assert world.resharder.done.get("ranges" if whole else "keys", 0) > 10
    assert world.ledger.setbacks.keys() <= {"MOVED", "ASK", "TRYAGAIN"}, "no errors for clients"
    world.run(until=world.settled)
    world.mend_slots()
    finish(world)
    assert len(world.checks.promises.kept) > 100


def test_a_target_that_dies_amid_a_move_of_a_range_leaves_it_to_its_source():
    world = made_world()
    held = dict.fromkeys(world["p1"].node.keyspace[0])
    target = world["p2"].id
    assert (
        world.ask("p1", "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 0, 5000, "NODE", target) == b"OK"
    )
    world.run(3)
    world.kill("p2")
    world.run(until=world.promoted("r2"))
    world.restart("p2")
    finish(world)
    assert world.view("p1").myself.slots & 1
    assert held.keys() <= dict.fromkeys(world["p1"].node.keyspace[0]).keys()


def give_range(world: World, source: str, target: str) -> Job:
    """Let the first slots move as a whole; the source's side of that."""
    order = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 0, 99, "NODE", world[target].id)
    assert world.ask(source, *order) == b"OK"
    return next(iter(world[source].member.migrations.jobs))


def test_slots_are_not_taken_before_a_replica_that_may_succeed_their_target_has_them():
    """It has stopped, and when it goes on it may be elected, as its data are not old."""
    world = made_world()
    world.pause("r2")
    job = give_range(world, "p1", "p2")
    world.run(until=lambda: job.is_over)
    assert job.state == "failed" and world.view("p1").myself.slots & 1

    world.kill("p2")
    world.restart("p2")
    world.run(until=lambda: world.view("p2").ok)
    job = give_range(world, "p1", "p2")
    world.run(2000)
    assert job.state == "replicating", "writes are not held back meanwhile"
    world.kill("r2")
    world.run(500, until=lambda: job.state == "success")
    world.restart("r2")
    finish(world)


def test_a_target_that_stopped_takes_no_slots_that_it_was_granted_long_ago():
    """The source has let writes go on since."""
    world = made_world(node_timeout=20_000)
    job = give_range(world, "p1", "p2")
    world.run(until=lambda: job.state == "failover-granted")
    world.pause("p2")
    world.run(until=lambda: job.is_over)
    assert job.state == "failed"
    assert world.ask("p1", "SET", "{06S}", "new") == b"OK"
    world.resume("p2")
    world.run(1000)
    finish(world)
    assert world.view("p1").myself.slots & 1
    assert world["p1"].node.keyspace[0].get(b"{06S}") == b"new"


def test_a_move_of_which_the_target_may_be_the_owner_already_is_not_cancelled():
    """Else writes would go on here that its claim then takes away."""
    world = made_world()
    job = give_range(world, "p1", "p2")
    world.run(until=lambda: job.state == "failover-granted")
    assert world.ask("p1", "CLUSTER", "CANCELSLOTMIGRATIONS") == b"OK"
    world.run(until=lambda: job.is_over)
    assert job.state == "success" and world.view("p2").myself.slots & 1
    finish(world)


def test_a_replica_that_gets_all_data_amid_a_move_of_a_range_hides_what_is_coming():
    world = made_world()
    world.ask("p1", "SET", "{06S}", "one")  # slot 0
    job = give_range(world, "p1", "p2")
    world.run(until=lambda: job.state == "replicating")
    world.cut("p2", "p1")
    world.kill("r2")
    world.run(100)
    world.restart("r2")
    world.run(until=world.follows("r2", "p2"))
    world.run(200)
    keyspace = world["r2"].node.keyspace
    value, hidden = keyspace[0].get(b"{06S}"), 0 in keyspace.hidden
    assert value == b"one" and hidden
    world.kill("p2")
    world.mend()
    world.run(until=world.promoted("r2"))
    world.run(500)
    left, hidden = list(keyspace[0].keys_of_part(0)), list(keyspace.hidden)
    assert not left and not hidden
    world.restart("p2")
    finish(world)
    assert world.view("p1").myself.slots & 1


@attrs.define(eq=False)
class Giver(Operator):
    """Gives slot 0 away, without its keys."""

    source: Owner = attrs.field(kw_only=True)
    target: Owner = attrs.field(kw_only=True)

    def _live(self) -> Steps:
        yield from self._set_slot(self.target, 0, b"IMPORTING", self.source.id)
        for owner in (self.target, self.source):
            yield from self._set_slot(owner, 0, b"NODE", self.target.id)
        return None


def set_to_work(world: World, kind: type[Operator], source: str, target: str) -> None:
    """Let an operator do its work from a place that nothing cuts off."""
    one, other = (
        Owner(world[name].id.encode(), (world[name].ip, PORT)) for name in (source, target)
    )
    world.network.places["10.0.3.1"] = "op"
    operator = kind("op", world.network, Random(1), [], source=one, target=other)
    operator.start()
    world.run(until=lambda: not operator.alive)


def test_a_slot_that_its_target_loses_to_old_news_of_its_source_comes_back_with_its_keys():
    """SETSLOT: the target couldn't know that the source had come to a greater epoch."""
    world = made_world(node_timeout=5000)
    world.part(["p2", "r2"])
    for name in ("p3", "p1"):
        world.ask(name, "CLUSTER", "BUMPEPOCH")
        world.run(1500)
    epoch = world.view("p1").myself.config_epoch
    world.part(["p1", "r1"])
    set_to_work(world, Giver, "p1", "p2")
    assert world.ask("p2", "SET", "{06S}", "new") == b"OK"
    assert world.view("p2").myself.config_epoch < epoch
    for one, other in (("p2", "p3"), ("p3", "p2")):
        world.mend_cut(one, other)
    world.run(until=lambda: not world.view("p2").myself.slots & 1)
    world.mend()
    finish(world)
    assert world.view("p2").myself.slots & 1
    assert world["p2"].node.keyspace[0].get(b"{06S}") == b"new"


@attrs.define(eq=False)
class HalfMover(Operator):
    """Moves the keys of slot 0, and leaves before the slot is the target's."""

    source: Owner = attrs.field(kw_only=True)
    target: Owner = attrs.field(kw_only=True)

    def _live(self) -> Steps:
        yield from self._set_slot(self.target, 0, b"IMPORTING", self.source.id)
        yield from self._set_slot(self.source, 0, b"MIGRATING", self.target.id)
        yield from self._carry(0, self.source, self.target)
        return None


def test_a_replica_that_gets_all_data_amid_a_move_knows_of_it():
    world = made_world()
    world.ask("p1", "SET", "{06S}", "one")  # slot 0
    world.kill("r2")
    world.run(100)
    set_to_work(world, HalfMover, "p1", "p2")
    world.restart("r2")
    world.run(until=world.follows("r2", "p2"))
    world.run(200)
    world.kill("p2")
    world.run(until=world.promoted("r2"))
    world.restart("p2")
    world.run(5000)
    assert world.view("r2").importing.keys() == {0}
    assert world["r2"].node.keyspace[0].get(b"{06S}") == b"one"
    world.mend_slots()
    finish(world)


@attrs.define(eq=False)
class Finisher(Operator):
    """Ends the move of slot 0."""

    source: Owner = attrs.field(kw_only=True)
    target: Owner = attrs.field(kw_only=True)

    def _live(self) -> Steps:
        yield from self._set_slot(self.target, 0, b"NODE", self.target.id)
        return None


def test_a_replica_that_was_told_of_the_end_of_a_move_that_did_not_come_keeps_the_keys():
    """Its primary waited for it in vain, and so refused; later the replica takes over."""
    world = made_world()
    world.ask("p1", "SET", "{06S}", "one")  # slot 0
    set_to_work(world, HalfMover, "p1", "p2")
    world.pause("r2")
    set_to_work(world, Finisher, "p1", "p2")
    assert not world.view("p2").myself.slots & 1
    world.resume("r2")
    world.run(200)
    assert 0 not in world.view("r2").importing, "it was told that the move ends"
    world.run(5000, until=lambda: 0 in world.view("r2").importing)
    world.kill("p2")
    world.run(until=world.promoted("r2"))
    world.restart("p2")
    world.run(5000)
    assert world["r2"].node.keyspace[0].get(b"{06S}") == b"one"
    world.mend_slots()
    assert world["p1"].node.keyspace[0].get(b"{06S}") == b"one"
    finish(world)


def test_a_half_done_move_is_put_right():
    world = made_world()
    world.ask("p1", "SET", "{06S}", "one")  # slot 0
    set_to_work(world, HalfMover, "p1", "p2")
    assert world["p2"].node.keyspace[0].get(b"{06S}") == b"one"
    assert not world["p1"].node.keyspace[0].get(b"{06S}")
    world.mend_slots()
    assert world["p1"].node.keyspace[0].get(b"{06S}") == b"one"
    assert not world.view("p1").migrating and not world.view("p2").importing
    finish(world)


@pytest.mark.parametrize("given", [False, True])
def test_a_source_that_loses_power_knows_which_slot_was_on_its_way(given):
    """Though it may forget that it gave the slot away: till it hears that, it sends clients on."""
    world = made_world(replicas=0, persistence=ALWAYS)
    source, target = world["p1"].id, world["p2"].id
    assert world.ask("p1", "CLUSTER", "COUNTKEYSINSLOT", 0) == 0

    def set_slot(name: str, *words: str) -> None:
        assert world.ask(name, "CLUSTER", "SETSLOT", 0, *words) == b"OK"

    set_slot("p2", "IMPORTING", source)
    set_slot("p1", "MIGRATING", target)
    if given:
        set_slot("p2", "NODE", target)
        set_slot("p1", "NODE", target)
        assert not world.view("p1").migrating
    world.lose_power("p1")
    world.restart("p1")
    view = world.view("p1")
    assert [(slot, node.id) for slot, node in view.migrating.items()] == [(0, target)]
    assert view.owner[0] is view.myself
    world.mend_slots()
    world.run(until=world.settled)
    assert (world.view("p1").owner[0].id == target) is given
    finish(world)
