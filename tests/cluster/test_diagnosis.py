"""What is wrong with a cluster, and that it is well after the steps that are to mend it."""

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import diagnosis as dx
from cluster.diagnosis import findings, mends
from cluster.plan import Census, Claim, Disown, Gather, Member, Move, Prevail, Settle, after_all
from cluster.slots import EVERY_SLOT, slot_range

A, B, C = "a" * 40, "b" * 40, "c" * 40
PARTS = {A: slot_range(0, 5460), B: slot_range(5461, 10922), C: slot_range(10923, 16383)}


def cluster(**changes):
    """Three primaries, all well but for what is told of `a`, `b` and `c`."""
    nodes = []
    for i, (id, slots) in enumerate(PARTS.items()):
        node = Member(id, ("h", 7000 + i), slots=slots, epoch=i + 1, opinion=PARTS)
        nodes.append(attrs.evolve(node, **changes.get(id[0], {})))
    return Census(nodes)


def kinds(census):
    return {found.kind for found in findings(census)}


def mended(census, **options):
    steps = mends(census, **options)
    return steps, after_all(census, steps)


def without(id, *slots):
    return PARTS[id] & ~sum(1 << slot for slot in slots)


def test_a_cluster_that_is_well_is_left_alone():
    assert findings(cluster()) == []
    assert mends(cluster()) == []


def test_a_move_that_both_ends_know_is_carried_on():
    census = cluster(a={"migrating": {7: B}}, b={"importing": {7: A}, "keys": {7: 3}})
    assert kinds(census) == {dx.OPEN}
    steps, after = mended(census)
    assert [(type(step), step.source.id, step.target.id) for step in steps] == [(Move, A, B)]
    assert findings(after) == []
    assert after.by_id[B].slots >> 7 & 1


def test_of_a_move_that_only_the_source_knows_nothing_stays():
    census = cluster(a={"migrating": {7: B}})
    steps, after = mended(census)
    assert steps == [Settle(1 << 7, census.by_id[A])]
    assert findings(after) == []


def test_of_a_move_that_only_the_target_knows_the_keys_come_home():
    census = cluster(b={"importing": {7: A, 8: A}, "keys": {7: 2}})
    steps, after = mended(census)
    assert steps[0] == Gather(7, census.by_id[B], census.by_id[A])
    assert [step.slots for step in steps[1:]] == [1 << 8]
    assert findings(after) == []
    assert after.by_id[A].slots == PARTS[A]


def test_a_move_that_two_import_is_given_up():
    census = cluster(
        a={"migrating": {7: B}},
        b={"importing": {7: A}, "keys": {7: 1}},
        c={"importing": {7: A}, "keys": {7: 1}},
    )
    steps, after = mended(census)
    assert [type(step) for step in steps] == [Gather, Gather, Settle]
    assert findings(after) == []


def test_strangers_keys_are_out_of_the_way_before_a_move_is_carried_on():
    census = cluster(
        a={"migrating": {7: B}}, b={"importing": {7: A}, "keys": {7: 1}}, c={"keys": {7: 5}}
    )
    steps, after = mended(census)
    assert [type(step) for step in steps] == [Gather, Move]
    assert steps[0].holder.id == C
    assert findings(after) == []


def test_a_slot_of_nobody_goes_to_who_has_most_of_its_keys():
    census = cluster(a={"slots": without(A, 7), "keys": {7: 1}, "opinion": {}}, c={"keys": {7: 2}})
    assert dx.UNCOVERED in kinds(census)
    steps, after = mended(census)
    assert Claim(1 << 7, census.by_id[C]) in steps
    gathered = [step for step in steps if isinstance(step, Gather)]
    assert [(step.holder.id, step.owner.id) for step in gathered] == [(A, C)]
    assert findings(after) == []


def test_slots_of_nobody_without_keys_go_to_who_has_fewest():
    census = cluster(a={"slots": without(A, *range(10))})
    steps, after = mended(census)
    assert [step.node.id for step in steps if isinstance(step, Claim)] == [A]
    assert findings(after) == []


def test_a_slot_of_two_stays_with_who_has_most_of_its_keys():
    census = cluster(b={"slots": PARTS[B] | 1 << 7, "keys": {7: 1}}, a={"keys": {7: 2}})
    assert dx.CONTESTED in kinds(census)
    steps, after = mended(census)
    assert [type(step) for step in steps] == [Disown, Prevail, Gather]
    assert (steps[0].node.id, steps[0].owner.id, steps[1].node.id) == (B, A, A)
    assert findings(after) == []


def test_a_slot_of_two_without_keys_stays_with_who_has_the_greater_epoch():
    """As when a tool died between telling the target and the source of a move that it is over."""
    census = cluster(
        a={"migrating": {7: B}}, b={"slots": PARTS[B] | 1 << 7, "keys": {7: 2}, "epoch": 9}
    )
    steps, after = mended(census)
    assert (steps[0].node.id, steps[0].owner.id) == (A, B)
    assert findings(after) == []
    assert after.by_id[B].slots >> 7 & 1


def test_keys_that_nobody_looks_for_come_home():
    census = cluster(c={"keys": {7: 4}})
    assert [found.text for found in findings(census)] == [
        "slot 7: 4 keys at h:7002, who serves none"
    ]
    steps, after = mended(census)
    assert steps == [Gather(7, census.by_id[C], census.by_id[A])]
    assert findings(after) == []


def test_keys_of_slots_that_are_on_the_way_as_a_whole_are_where_they_belong():
    census = attrs.evolve(cluster(c={"keys": {7: 4}}), on_the_way=1 << 7)
    assert findings(census) == []
    assert mends(census) == []


def test_who_is_not_believed_takes_a_new_epoch():
    wrong = {A: without(A, 7), B: PARTS[B] | 1 << 7, C: PARTS[C]}
    census = cluster(c={"opinion": wrong})
    assert kinds(census) == {dx.DISAGREED}
    steps, after = mended(census)
    assert steps == [Prevail(census.by_id[A])]
    assert findings(after) == []


def test_slots_of_who_is_away_are_given_to_others_only_when_told_to():
    census = cluster(c={"reachable": False})
    assert kinds(census) == {dx.UNREACHABLE, dx.LOST}
    assert mends(census) == []
    _, after = mended(census, with_unreachable=True)
    assert after.claimed == EVERY_SLOT
    assert kinds(after) == {dx.UNREACHABLE}


def test_a_replica_that_is_away_takes_nothing_with_it():
    nodes = [*cluster().nodes, Member("d" * 40, ("h", 7003), primary_id=A, reachable=False)]
    assert kinds(Census(nodes)) == {dx.UNREACHABLE}


SLOTS_SEEN = (0, 1, 5461, 5462, 10923)
marks = st.dictionaries(st.sampled_from(SLOTS_SEEN), st.sampled_from([A, B, C, "e" * 40]))
counts = st.dictionaries(st.sampled_from(SLOTS_SEEN), st.integers(0, 3))


@st.composite
def broken(draw):
    """Any mixture of slots lost and served twice, marks, stray keys, beliefs and absences."""
    changes = {}
    for id, part in PARTS.items():
        more = draw(st.sets(st.sampled_from(SLOTS_SEEN)))
        less = draw(st.sets(st.sampled_from(SLOTS_SEEN)))
        slots = (part | sum(1 << slot for slot in more)) & ~sum(1 << slot for slot in less)
        changes[id[0]] = {
            "slots": slots,
            "migrating": draw(marks),
            "importing": draw(marks),
            "keys": draw(counts),
            "epoch": draw(st.integers(0, 2)),
            "opinion": draw(st.sampled_from([PARTS, {}])),
            "reachable": draw(st.integers(0, 5)) > 0 or id == A,
        }
    return cluster(**changes)


@settings(deadline=None, max_examples=60)
@given(broken())
def test_whatever_is_broken_is_well_after_mending(census):
    steps, after = mended(census, with_unreachable=True)
    assert kinds(after) <= {dx.UNREACHABLE}
    assert after.claimed == EVERY_SLOT
    assert not after.contested
    assert not after.open_slots
    for step in steps:
        if isinstance(step, Move):
            assert step.target.reachable
        if isinstance(step, Gather):
            assert step.holder.reachable
            assert step.owner.reachable
            assert step.holder.id != step.owner.id


@settings(deadline=None, max_examples=30)
@given(broken(), st.data())
def test_mending_that_was_interrupted_is_carried_on(census, data):
    steps = mends(census, with_unreachable=True)
    halfway = after_all(census, steps[: data.draw(st.integers(0, len(steps)))])
    _, after = mended(halfway, with_unreachable=True)
    assert kinds(after) <= {dx.UNREACHABLE}
