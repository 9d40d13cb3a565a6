"""What is moved where: by small cases, and by rules that any plan keeps."""

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import plan
from cluster.plan import Census, Member, Move, PlanError, after_all, take
from cluster.slots import EVERY_SLOT, SLOTS, slot_range, slot_set

some = settings(deadline=None, max_examples=40)


def member(i, slots=0, **fields):
    return Member(str(i) * 40, ("127.0.0.1", 7000 + i), slots=slots, **fields)


def cluster(*slots, **fields):
    return Census([member(i, part) for i, part in enumerate(slots)], **fields)


def thirds():
    return cluster(slot_range(0, 5460), slot_range(5461, 10922), slot_range(10923, 16383))


def sizes(census):
    return [node.slots.bit_count() for node in census.nodes]


slot_sets = st.sets(st.integers(0, 63)).map(
    lambda blocks: plan.union(slot_range(i * 256, i * 256 + i * 4) for i in blocks)
)


@st.composite
def censuses(draw):
    """Clusters of 1 to 6 primaries that share all slots, some of them none."""
    count = draw(st.integers(1, 6))
    owners = draw(st.lists(st.integers(0, count - 1), min_size=64, max_size=64))
    block = SLOTS // 64
    parts = [0] * count
    for i, owner in enumerate(owners):
        parts[owner] |= slot_range(i * block, i * block + block - 1)
    return cluster(*parts)


def is_whole(census):
    return census.claimed == EVERY_SLOT and not census.contested


@some
@given(slot_sets, st.integers(0, SLOTS))
def test_taking_takes_the_lowest(slots, count):
    taken = take(slots, count)
    rest = slots & ~taken
    assert taken & ~slots == 0
    assert taken.bit_count() == min(count, slots.bit_count())
    assert not rest or not taken or taken.bit_length() <= (rest & -rest).bit_length()


@some
@given(st.integers(0, SLOTS), st.lists(st.floats(0, 100), min_size=1, max_size=8))
def test_shares_sum_up_and_are_off_by_less_than_one(total, weights):
    if not sum(weights):
        with pytest.raises(PlanError, match="no node has any weight"):
            plan.shares(total, weights)
        return
    parts = plan.shares(total, weights)
    assert sum(parts) == total
    exact = [total * weight / sum(weights) for weight in weights]
    assert all(abs(part - share) < 1.001 for part, share in zip(parts, exact, strict=True))


def test_a_reshard_takes_from_each_by_what_it_has():
    census = cluster(slot_range(0, 9999), slot_range(10000, 14999), slot_range(15000, 16383))
    moves = plan.reshard(300, census.primaries, census.nodes[2])
    assert [(move.source.id[0], move.slots.bit_count()) for move in moves] == [
        ("0", 200),
        ("1", 100),
    ]
    assert sizes(after_all(census, moves)) == [9800, 4900, 1684]


def test_a_reshard_of_too_many_is_refused():
    census = thirds()
    with pytest.raises(PlanError, match=r"10924 slots were asked for; the sources have 10923"):
        plan.reshard(10924, census.primaries, census.nodes[0])


@some
@given(censuses(), st.data())
def test_a_reshard_moves_as_many_as_asked_for(census, data):
    target = data.draw(st.sampled_from(census.nodes))
    others = SLOTS - target.slots.bit_count()
    count = data.draw(st.integers(0, others))
    done = after_all(census, plan.reshard(count, census.primaries, target))
    assert is_whole(done)
    assert done.by_id[target.id].slots.bit_count() == target.slots.bit_count() + count


@some
@given(censuses(), slot_sets, st.data())
def test_named_slots_go_once_however_often_they_are_asked_for(census, slots, data):
    target = data.draw(st.sampled_from(census.nodes))
    done = after_all(census, plan.gather_slots(slots, census, target))
    assert is_whole(done)
    assert slots & ~done.by_id[target.id].slots == 0
    assert plan.gather_slots(slots, done, done.by_id[target.id]) == []


@some
@given(censuses(), st.data())
def test_after_a_rebalance_each_has_its_share_and_nothing_is_left_to_do(census, data):
    weights = {
        node.id: data.draw(st.sampled_from([0.0, 0.5, 1.0, 2.0, 3.0])) for node in census.nodes
    }
    if not sum(weights.values()):
        with pytest.raises(PlanError):
            plan.rebalance(census, weights)
        return
    done = after_all(census, plan.rebalance(census, weights, threshold=0))
    assert is_whole(done)
    whole = sum(weights.values())
    for node in done.nodes:
        assert abs(node.slots.bit_count() - SLOTS * weights[node.id] / whole) <= 2
    assert plan.rebalance(done, weights, threshold=0) == []


@some
@given(censuses())
def test_a_rebalance_interrupted_anywhere_is_carried_on_by_another(census):
    moves = plan.rebalance(census, use_empty=True, threshold=0)
    for done in range(len(moves) + 1):
        halfway = after_all(census, moves[:done])
        if done < len(moves):
            move = moves[done]
            part = take(move.slots, move.slots.bit_count() // 2)
            halfway = plan.after(halfway, Move(part, move.source, move.target))
        final = after_all(halfway, plan.rebalance(halfway, use_empty=True, threshold=0))
        assert max(sizes(final)) - min(sizes(final)) <= 2
        assert is_whole(final)


def test_an_even_cluster_is_left_alone_and_so_is_an_empty_primary():
    assert plan.rebalance(thirds(), threshold=0) == []
    census = cluster(slot_range(0, 8191), slot_range(8192, 16383), 0)
    assert plan.rebalance(census) == []
    assert sizes(after_all(census, plan.rebalance(census, use_empty=True))) == [5462, 5461, 5461]


def test_within_the_threshold_nothing_moves():
    census = cluster(slot_range(0, 8291), slot_range(8292, 16383))
    assert plan.rebalance(census, threshold=2.0) == []
    assert sizes(after_all(census, plan.rebalance(census, threshold=1.0))) == [8192, 8192]


def test_a_weight_below_nothing_is_refused():
    census = thirds()
    with pytest.raises(PlanError, match="a weight is 0 or more"):
        plan.rebalance(census, {census.nodes[0].id: -1})


@some
@given(censuses())
def test_an_emptied_node_has_nothing_and_the_others_all(census):
    node = census.nodes[0]
    if len(census.nodes) == 1:
        with pytest.raises(PlanError):
            plan.empty(node, census)
        return
    done = after_all(census, plan.empty(node, census))
    assert is_whole(done)
    assert done.by_id[node.id].slots == 0


def test_an_emptied_node_leaves_the_others_even():
    census = thirds()
    assert sizes(after_all(census, plan.empty(census.nodes[1], census))) == [8192, 0, 8192]


def test_a_node_is_found_by_id_by_its_beginning_and_by_its_place():
    census = thirds()
    for word in ("1" * 40, "11", "127.0.0.1:7001"):
        assert census.find(word) is census.nodes[1]
    with pytest.raises(PlanError, match="no node is called x"):
        census.find("x")
    twins = Census([member(1), attrs.evolve(member(2), id="1" * 39 + "2")])
    with pytest.raises(PlanError, match="several nodes are called 11"):
        twins.find("11")


def test_a_replica_and_who_is_away_are_no_primaries_to_move_to():
    census = Census([member(0), member(1, primary_id="0" * 40), member(2, reachable=False)])
    with pytest.raises(PlanError, match="is a replica"):
        census.find_primary("1")
    with pytest.raises(PlanError, match="can't be reached"):
        census.find_primary("2")


def test_who_needs_a_replica_most_has_fewest():
    nodes = [member(0, 1), member(1, 2), member(2), member(3, primary_id="0" * 40)]
    assert plan.fewest_replicas(Census(nodes)).id == "1" * 40


@some
@given(st.integers(1, 4), st.integers(0, 3), st.integers(1, 4))
def test_every_node_of_a_new_cluster_has_its_place(primaries, replicas, hosts):
    count = primaries * (1 + replicas)
    addresses = [(f"10.0.0.{i % hosts}", 7000 + i) for i in range(count)]
    arranged = plan.arrange(addresses, replicas)
    assert sorted(arranged) == sorted(addresses)


@pytest.mark.parametrize("hosts", ["001122", "000111", "011122", "012012"])
def test_a_replica_is_on_another_host_than_its_primary(hosts):
    arranged = plan.arrange([(f"10.0.0.{host}", i) for i, host in enumerate(hosts)], 1)
    assert len({host for host, _ in arranged[:3]}) == len(set(hosts))
    assert all(arranged[i][0] != arranged[i + 3][0] for i in range(3))


@pytest.mark.parametrize(("count", "replicas"), [(0, 0), (3, 1), (2, 2), (4, -1)])
def test_a_number_of_nodes_that_does_not_go_up_is_refused(count, replicas):
    with pytest.raises(PlanError, match="are no number of primaries"):
        plan.arrange([("h", i) for i in range(count)], replicas)


def test_a_node_named_twice_is_refused():
    with pytest.raises(PlanError, match="named twice"):
        plan.arrange([("h", 1), ("h", 1)], 0)


def test_many_slots_are_told_in_few_words():
    assert plan.told(slot_set([7])) == "slot 7"
    assert plan.told(slot_set([1, 2, 9])) == "3 slots (1-2 9)"
    assert plan.told(slot_set(range(0, 20, 2))) == "10 slots (0 2 4 6 8 ...)"
