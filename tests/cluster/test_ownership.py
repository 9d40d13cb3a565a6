"""Slots, epochs and roles: claims that conflict, commands, and replicas that move."""

import pytest
from core_network import START, Host, Network

from cluster import effects as fx
from cluster.effects import ClusterError
from cluster.slots import slot_range, slot_set

TIMEOUT = 1000


def cluster(shards: int = 3, replicas: int = 1, **options) -> Network:
    net = Network(shards * (1 + replicas), node_timeout=TIMEOUT, **options)
    net.form(shards, replicas)
    net.run(TIMEOUT)
    return net


def refusal(net: Network, host: Host, request: fx.Request) -> str:
    before = host.core.view.nodes_text()
    with pytest.raises(ClusterError) as error:
        net.ask(host, request)
    assert host.core.view.nodes_text() == before, "a refused request changes nothing"
    return str(error.value)


# ---- slots


def test_slots_are_added_and_taken_back():
    net = Network(1)
    host = net.hosts[0]
    view = host.core.view
    net.ask(host, fx.AddSlots(((0, 10), (20, 20))))
    assert view.myself.slots == slot_range(0, 10) | slot_set([20])
    net.ask(host, fx.DelSlots(((5, 10),)))
    assert view.owner[5] is None and view.owner[4] is view.myself
    net.ask(host, fx.FlushSlots())
    assert view.myself.slots == 0 and view.voters == 0


def test_a_node_with_all_slots_is_up_at_once():
    net = Network(1)
    net.ask(net.hosts[0], fx.AddSlots(((0, 16383),)))
    assert net.hosts[0].core.view.ok


def saves(net: Network, host: Host, slot: int, action: str, peer: Host) -> list[bool]:
    """What a SETSLOT has saved at once, and whether it was synced."""
    before = len(host.effects)
    net.ask(host, fx.SetSlot(slot, action, peer.id))
    return [effect.sync for effect in host.effects[before:] if isinstance(effect, fx.Save)]


def test_what_a_slot_on_the_move_promises_is_synced_where_it_must_not_be_forgotten():
    net = cluster(shards=3, replicas=1)
    source, third, target, replica = *net.hosts[:3], net.hosts[3]
    assert replica.core.view.myself.primary.id == source.id
    slot = source.core.view.myself.slots.bit_length() - 1
    assert saves(net, target, slot, "IMPORTING", source) == [True]
    assert saves(net, replica, slot, "MIGRATING", target) == [False]
    assert saves(net, source, slot, "MIGRATING", target) == [True]
    assert saves(net, target, slot, "NODE", target) == [True]
    assert saves(net, third, slot, "NODE", target) == []
    assert saves(net, replica, slot, "NODE", target) == []
    assert saves(net, source, slot, "NODE", target) == []
    assert saves(net, source, slot - 1, "NODE", target) == [True], "it was not on its way"


def test_who_hears_that_a_slot_has_gone_where_it_was_going_need_not_sync_that():
    net = cluster(shards=2, replicas=0)
    source, target = net.hosts
    net.ask(source, fx.SetSlot(0, "MIGRATING", target.id))
    for slot, synced in ((0, False), (1, True)):
        net.ask(target, fx.SetSlot(slot, "IMPORTING", source.id))
        net.ask(target, fx.BumpEpoch())
        before = len(source.effects)
        net.ask(target, fx.SetSlot(slot, "NODE", target.id))
        net.run(200)
        assert source.core.view.owner[slot].id == target.id
        saved = [e.sync for e in source.effects[before:] if isinstance(e, fx.Save)]
        assert saved[0] is synced


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (fx.AddSlots(((5, 5),)), "ERR Slot 5 is already busy"),
        (fx.AddSlots(((0, 20),)), "ERR Slot 5 is already busy"),
        (fx.AddSlots(((11, 12), (12, 12))), "ERR Slot 12 specified multiple times"),
        (fx.DelSlots(((5, 5), (11, 11))), "ERR Slot 11 is already unassigned"),
        (fx.DelSlots(((5, 6), (6, 7))), "ERR Slot 6 specified multiple times"),
        (fx.SetConfigEpoch(-1), "ERR Invalid config epoch specified: -1"),
        (fx.Replicate("f" * 40), f"ERR Unknown node {'f' * 40}"),
        (fx.CountFailureReports("f" * 40), f"ERR Unknown node {'f' * 40}"),
        (fx.Failover(), "ERR You should send CLUSTER FAILOVER to a replica"),
        (fx.SetSlot(11, "MIGRATING", "f" * 40), "ERR I'm not the owner of hash slot 11"),
        (fx.SetSlot(5, "IMPORTING", "f" * 40), "ERR I'm already the owner of hash slot 5"),
        (fx.SetSlot(5, "MIGRATING", "f" * 40), f"ERR I don't know about node {'f' * 40}"),
        (fx.SetSlot(5, "NODE", "f" * 40), f"ERR Unknown node {'f' * 40}"),
    ],
)
def test_wrong_requests_are_refused_in_redis_s_words(request_, error):
    net = Network(1)
    net.ask(net.hosts[0], fx.AddSlots(((5, 10),)))
    assert refusal(net, net.hosts[0], request_) == error


def test_a_slot_with_keys_stays_and_so_do_nodes_with_keys():
    net = Network(2)
    net.form(2, 0)
    one, two = net.hosts
    one.core.facts.keys = 3
    assert refusal(net, one, fx.FlushSlots()) == (
        "ERR DB must be empty to perform CLUSTER FLUSHSLOTS."
    )
    assert refusal(net, one, fx.SetSlot(5, "NODE", two.id, keys=3)).startswith(
        "ERR Can't assign hashslot 5 to a different node while I still hold keys"
    )
    assert refusal(net, one, fx.Replicate(two.id)) == (
        "ERR To set a master the node must be empty and without assigned slots."
    )
    assert refusal(net, one, fx.Reset(hard=False)) == (
        "ERR CLUSTER RESET can't be called with master nodes containing keys"
    )


def test_changed_slots_are_told_at_once_but_not_once_per_command():
    net = Network(3)
    net.form(3, 0)
    net.ask(net.hosts[0], fx.DelSlots(((0, 999),)))
    net.run(500)
    net.hosts[0].effects.clear()
    for slot in range(1000):
        net.ask(net.hosts[0], fx.AddSlots(((slot, slot),)))
    net.run(2)
    assert net.hosts[1].core.view.disclaimed
    net.run(200)
    assert net.hosts[1].core.view.disclaimed == 0
    sent = [e for e in net.hosts[0].effects if isinstance(e, fx.Send)]
    assert len(sent) < 20


def test_a_slot_moves_between_primaries():
    net = cluster(2, 0)
    target, source = net.hosts
    net.ask(target, fx.SetSlot(9000, "IMPORTING", source.id))
    net.ask(source, fx.SetSlot(9000, "MIGRATING", target.id))
    assert f"[9000->-{target.id}]" in source.core.view.nodes_text()
    assert f"[9000-<-{source.id}]" in target.disk
    net.ask(target, fx.SetSlot(9000, "NODE", target.id))
    net.run(5)
    assert all(host.core.view.owner[9000].id == target.id for host in net.hosts)
    assert target.core.view.myself.config_epoch == 3, "greater than the old owner's"
    assert source.core.view.migrating == {} and target.core.view.importing == {}
    assert [e for e in source.effects if isinstance(e, fx.DropSlots)] == [fx.DropSlots(1 << 9000)]


def take(net: Network, taker: Host, slot: int) -> None:
    """Claim a slot under a greater epoch than anybody's, whatever its owner thinks of that."""
    net.ask(taker, fx.BumpEpoch())
    net.ask(taker, fx.SetSlot(slot, "NODE", taker.id))


def test_keys_of_a_slot_that_is_lost_unexpectedly_stay_until_its_new_owner_serves_it_for_good():
    net = cluster(2, 0)
    loser, taker = net.hosts
    take(net, taker, 7)
    net.run_until(lambda: loser.core.view.owner[7].id == taker.id)
    assert loser.core.view.ceded == 1 << 7 and "cededSlots 7" in loser.disk
    net.run(TIMEOUT)
    assert not any(isinstance(effect, fx.DropSlots) for effect in loser.effects)
    net.run(TIMEOUT)
    assert [e for e in loser.effects if isinstance(e, fx.DropSlots)] == [fx.DropSlots(1 << 7)]
    assert not loser.core.view.ceded and "ceded" not in loser.disk


def test_a_slot_that_was_lost_and_that_nobody_serves_comes_back():
    net = cluster(3, 0)
    loser, taker, third = net.hosts
    take(net, taker, 7)
    net.run_until(lambda: loser.core.view.owner[7].id == taker.id)
    net.ask(taker, fx.DelSlots(((7, 7),)))
    third.frozen = True
    net.run(TIMEOUT // 2)
    loser = net.hosts[0] = net.restart(loser)  # it remembers
    net.run(3 * TIMEOUT)
    assert not loser.core.view.myself.slots >> 7 & 1, "the third might serve it"
    third.frozen = False
    net.run(3 * TIMEOUT)
    assert all(host.core.view.owner[7].id == loser.id for host in net.hosts)
    assert all(net.agrees(host) for host in net.hosts)
    assert not any(isinstance(effect, fx.DropSlots) for effect in loser.effects)


def test_nobody_tells_after_a_restart_that_an_owner_has_what_it_gave_away():
    net = cluster(3, 0)
    giver, taker, witness = net.hosts
    net.kill(witness)
    take(net, taker, 7)
    net.run_until(lambda: giver.core.view.owner[7].id == taker.id)
    net.kill(taker)
    net.ask(giver, fx.BumpEpoch())
    for _ in range(2):
        witness = net.restart(witness)
        net.run(TIMEOUT)
        assert witness.core.view.nodes[giver.id].config_epoch == 5
        assert witness.core.view.owner[7].id == giver.id, "it hasn't heard of the taker"
        net.kill(witness)
    net.kill(giver)
    witness, taker = net.restart(witness), net.restart(taker)
    net.run(TIMEOUT)
    assert taker.core.view.myself.slots >> 7 & 1
    assert witness.core.view.owner[7].id == taker.id


def test_a_replica_that_was_told_of_a_move_s_end_goes_on_with_it_unless_the_slot_has_come():
    net = cluster(3, 1)
    source, target, heir = net.hosts[0], net.hosts[1], net.hosts[4]
    for slot in (7, 8):
        for host in (heir, target):
            net.ask(host, fx.SetSlot(slot, "IMPORTING", source.id))
        net.ask(heir, fx.SetSlot(slot, "NODE", target.id))
    assert heir.core.view.importing == {}
    net.kill(target)
    heir.core.view.assign(1 << 7, heir.core.view.nodes[source.id])  # its claim was heard
    net.run_until(lambda: heir.core.view.myself.is_primary)
    assert heir.core.view.importing.keys() == {7}
    assert heir.core.view.owner[8] is heir.core.view.myself


def test_a_move_can_be_called_off():
    net = cluster(2, 0)
    source, target = net.hosts
    net.ask(source, fx.SetSlot(7, "MIGRATING", target.id))
    net.ask(source, fx.SetSlot(7, "STABLE"))
    assert source.core.view.migrating == {}


def test_a_failover_in_the_target_s_shard_keeps_the_move():
    net = cluster(2, 1)
    source, target, _, heir = net.hosts
    net.ask(source, fx.SetSlot(7, "MIGRATING", target.id))
    net.ask(heir, fx.Failover("TAKEOVER"))
    net.run(50)
    assert source.core.view.migrating[7].id == heir.id


def test_keys_after_a_start_decide_who_serves_what_nobody_serves():
    net = Network(2, require_full_coverage=False)
    net.form(2, 0)
    one, two = net.hosts
    net.ask(one, fx.DelSlots(((0, 9),)))
    one.effects.clear()
    net.ask(one, fx.Loaded(slot_set([3, 50, 16000])))
    assert one.core.view.owner[3] is one.core.view.myself
    assert fx.DropSlots(slot_set([16000])) in one.effects
    assert two.core.view.owner[16000].id == two.id


# ---- epochs


def test_two_primaries_with_one_epoch_part():
    net = Network(2)
    one, two = net.hosts
    for host, first in ((one, 0), (two, 8192)):
        net.ask(host, fx.SetConfigEpoch(5))
        net.ask(host, fx.AddSlots(((first, first + 8191),)))
    net.trace = []
    net.ask(one, fx.Meet("10.0.0.2", 7002, 17002))
    net.run(20)
    net.check_transcript("collision")
    smaller, greater = sorted(net.hosts, key=lambda host: host.id)
    assert smaller.core.view.myself.config_epoch == 6
    assert greater.core.view.myself.config_epoch == 5


def test_a_primary_that_takes_another_epoch_tells_its_replica_at_once():
    """One that is told to take over by force would be denied by all who know the new epoch."""
    net = cluster(shards=3, replicas=1)
    one, other = sorted(net.hosts[:2], key=lambda host: host.id)
    replica = next(h for h in net.hosts if h.core.view.myself.primary is h.core.view.nodes[one.id])
    mine = one.core.view.myself
    net.run(150 - (net.now - START) % 100)  # between two ticks, in which everybody pings
    mine.config_epoch = taken = other.core.view.myself.config_epoch
    slot = other.core.view.myself.slots.bit_length() - 1
    net.ask(other, fx.DelSlots(((slot, slot),)))  # it says so at once
    net.run(3 * net.delay)
    assert mine.config_epoch > taken
    assert replica.core.view.nodes[one.id].config_epoch == mine.config_epoch
    net.ask(replica, fx.Failover("FORCE"))
    net.run(TIMEOUT)
    assert replica.core.view.myself.is_primary


def test_many_fresh_nodes_come_to_different_epochs():
    net = Network(5)
    for other in net.hosts[1:]:
        net.ask(
            net.hosts[0],
            fx.Meet(f"10.0.0.{other.number}", 7000 + other.number, 17000 + other.number),
        )
    net.run(5000)
    assert len({host.core.view.myself.config_epoch for host in net.hosts}) == 5


def test_epochs_are_set_once_and_bumped_when_not_the_greatest():
    net = cluster(3, 0)
    one = net.hosts[0]
    assert net.ask(net.hosts[2], fx.BumpEpoch()) == "STILL 3"
    assert net.ask(one, fx.BumpEpoch()) == "BUMPED 4"
    assert net.ask(one, fx.BumpEpoch()) == "STILL 4"
    assert refusal(net, one, fx.SetConfigEpoch(9)).startswith(
        "ERR The user can assign a config epoch only when"
    )
    net = Network(1)
    net.ask(net.hosts[0], fx.SetConfigEpoch(9))
    assert net.hosts[0].core.view.current_epoch == 9
    assert refusal(net, net.hosts[0], fx.SetConfigEpoch(10)) == (
        "ERR Node config epoch is already non-zero"
    )


# ---- roles


def test_a_primary_that_was_replaced_comes_back_as_a_replica():
    net = cluster()
    old, heir = net.hosts[0], net.hosts[3]
    net.kill(old)
    net.run_until(lambda: heir.core.view.myself.is_primary)
    net.run(300)
    for host in net.hosts:
        host.effects.clear()
    net.trace = []
    old = net.restart(old)
    net.run(20)
    net.check_transcript("stale-primary")
    assert old.following == heir.id and not old.core.view.myself.slots
    assert net.events("demoted") == [("n1", "n1", "n4")]
    assert not any(isinstance(e, fx.DropSlots) for e in old.effects), "its data is replaced whole"
    assert not old.core.view.myself.is_primary
    assert all(net.agrees(host) for host in net.hosts)


def test_an_update_corrects_whom_the_winner_cannot_reach():
    net = cluster()
    old, heir = net.hosts[0], net.hosts[3]
    net.kill(old)
    net.run_until(lambda: heir.core.view.myself.is_primary)
    net.run(300)
    heir.frozen = True
    old = net.restart(old)
    took = net.run_until(lambda: old.core.view.myself.is_replica)
    assert took < 50 and old.following == heir.id


def test_the_other_replica_follows_the_winner():
    net = cluster(3, 2)
    first, second = net.hosts[3], net.hosts[6]
    net.kill(net.hosts[0])
    net.run_until(lambda: first.core.view.myself.is_primary or second.core.view.myself.is_primary)
    winner, loser = sorted((first, second), key=lambda host: host.core.view.myself.is_replica)
    net.run(10)
    assert loser.following == winner.id
    shards = loser.core.view.shards()
    assert len(shards) == 3 and {len(nodes) for _, nodes in shards} == {3}


def test_a_replica_is_moved_and_everybody_sees_it():
    net = cluster(2, 1)
    replica, to = net.hosts[2], net.hosts[1]
    net.ask(replica, fx.Replicate(to.id))
    net.run(5)
    assert replica.following == to.id
    assert len(net.hosts[0].core.view.nodes[to.id].replicas) == 2
    assert replica.core.view.myself.shard_id == to.core.view.myself.shard_id
    assert refusal(net, replica, fx.Replicate(replica.id)) == "ERR Can't replicate myself"
    assert refusal(net, replica, fx.Replicate(net.hosts[3].id)) == (
        "ERR I can only replicate a master, not a replica."
    )


def test_a_replica_may_replicate_no_one():
    net = cluster(2, 1)
    replica = net.hosts[2]
    net.ask(replica, fx.Replicate(""))
    net.run(5)
    assert replica.core.view.myself.is_primary and replica.following == ""
    assert fx.Flush() in replica.effects
    assert all(net.agrees(host) for host in net.hosts)


def give_all(net: Network, giver: Host, taker: Host) -> None:
    """Every slot of one node becomes another's, by the other's greater epoch."""
    net.ask(taker, fx.BumpEpoch())
    for slot in range(8192):
        net.ask(taker, fx.SetSlot(slot, "NODE", taker.id))
    net.run(2000)
    assert not giver.core.view.myself.slots


def test_a_primary_that_loses_its_last_slot_follows_who_got_it():
    net = cluster(2, 0)
    one, two = net.hosts
    give_all(net, one, two)
    assert one.core.view.myself.is_replica and one.following == two.id
    assert one.core.view.myself.shard_id == two.core.view.myself.shard_id


def test_without_replica_migration_it_stays_an_empty_primary():
    net = cluster(2, 0, allow_replica_migration=False)
    one, two = net.hosts
    give_all(net, one, two)
    assert one.core.view.myself.is_primary and one.following == ""
    assert any(isinstance(effect, fx.DropSlots) for effect in one.effects)


def test_reset_leaves_a_node_alone():
    net = cluster(2, 1)
    replica = net.hosts[2]
    node_id, shard_id = replica.id, replica.core.view.myself.shard_id
    net.ask(replica, fx.Reset(hard=False))
    view = replica.core.view
    assert view.nodes_text().startswith(f"{node_id} 10.0.0.3:7003@17003 myself,master - 0 0 ")
    assert len(view.nodes) == 1 and view.unassigned.bit_count() == 16384
    assert view.myself.shard_id != shard_id and fx.Flush() in replica.effects
    net.ask(replica, fx.Reset(hard=True))
    assert replica.id != node_id and view.current_epoch == view.myself.config_epoch == 0


def test_a_spare_replica_moves_to_a_primary_that_lost_its_own():
    net = Network(6, node_timeout=TIMEOUT, replica_migration_delay=2000)
    net.form(2, 1)
    one, two = net.hosts[0], net.hosts[1]
    for host in net.hosts[2:]:
        net.ask(host, fx.Replicate(one.id))
    net.ask(net.hosts[3], fx.Replicate(two.id))
    net.run(2000)
    net.kill(net.hosts[3])
    took = net.run_until(
        lambda: any(host.following == two.id for host in net.hosts[2:] if host.alive)
    )
    assert 2000 <= took <= 2500
    net.run(5000)
    moved = [host for host in net.hosts if host.alive and host.following == two.id]
    candidates = sorted(host.id for host in (net.hosts[2], *net.hosts[4:]))
    assert [host.id for host in moved] == candidates[:1], "only one, the one with the smallest id"


@pytest.mark.parametrize("options", [{"migration_barrier": 3}, {"allow_replica_migration": False}])
def test_replicas_stay_when_they_are_to(options):
    net = Network(6, node_timeout=TIMEOUT, replica_migration_delay=1000, **options)
    net.form(2, 1)
    one, two = net.hosts[0], net.hosts[1]
    for host in net.hosts[2:]:
        net.ask(host, fx.Replicate(one.id))
    net.ask(net.hosts[3], fx.Replicate(two.id))
    net.run(2000)
    net.kill(net.hosts[3])
    net.run(8000)
    assert not any(host.following == two.id for host in net.hosts if host.alive)
