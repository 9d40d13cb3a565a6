"""The stream against a plain list of entries, and against what a real server keeps it in."""

import random
from typing import Any

import pytest

from node.data.consumers import MAX_ID, UNKNOWN, Group
from node.data.limits import Limits
from node.data.listpack import entry_size, integer_size
from node.data.stream import Stream
from node.persistence.rdb import decode_dump, encode_dump


def small_blocks() -> Limits:
    limits = Limits()
    limits.stream_node_max_entries = 5
    return limits


def some_fields(rng: random.Random) -> list[bytes]:
    if rng.random() < 0.7:
        return [b"name", b"%d" % rng.randint(-(2**40), 2**40), b"other", rng.randbytes(5)]
    return [rng.randbytes(rng.choice([1, 3, 70])) for _ in range(2 * rng.randint(1, 4))]


def filled(limits: Limits, count: int) -> Stream:
    value = Stream(limits)
    for number in range(1, count + 1):
        value.append(number << 64, [b"f", b"%d" % number])
    return value


class Model:
    """What a stream must look like from outside."""

    def __init__(self) -> None:
        self.entries: dict[int, list[bytes]] = {}
        self.last_id = self.added = self.max_deleted_id = 0

    def range(self, start: int, end: int, count: int, reverse: bool) -> list[Any]:
        ids = sorted((i for i in self.entries if start <= i <= end), reverse=reverse)
        ids = ids if count < 0 else ids[:count]
        return [(i, tuple(self.entries[i])) for i in ids]

    def first_id(self) -> int:
        return min(self.entries, default=0)


@pytest.mark.parametrize("seed", range(10))
def test_random_operations(seed: int) -> None:
    rng = random.Random(seed)
    limits = Limits()
    limits.stream_node_max_entries = rng.choice([0, 1, 5, 100])
    limits.stream_node_max_bytes = rng.choice([0, 100, 4096])
    value, model = Stream(limits), Model()

    def some_id() -> int:
        span = (model.last_id >> 64) + 2
        return min(rng.randrange(span) << 64 | rng.randrange(3), MAX_ID)

    for step in range(2000):
        what = rng.random()
        if what < 0.5:
            entry_id = model.last_id + rng.choice([1, 1, 2, 1 << 64, 5 << 64])
            fields = some_fields(rng)
            value.append(entry_id, fields)
            model.entries[entry_id] = fields
            model.last_id = entry_id
            model.added += 1
        elif what < 0.65:
            entry_id = rng.choice(list(model.entries)) if model.entries else 1
            entry_id = entry_id if rng.random() < 0.8 else some_id()
            deleted = model.entries.pop(entry_id, None) is not None
            assert value.delete(entry_id) == deleted
            if deleted:
                model.max_deleted_id = max(model.max_deleted_id, entry_id)
        elif what < 0.67:
            most = rng.randrange(len(model.entries) + 2)
            gone = sorted(model.entries)[: max(len(model.entries) - most, 0)]
            assert value.trim_to(most) == len(gone)
            model.entries = {i: f for i, f in model.entries.items() if i not in gone}
        elif what < 0.69:
            lowest = some_id()
            gone = [i for i in model.entries if i < lowest]
            assert value.trim_before(lowest) == len(gone)
            model.entries = {i: f for i, f in model.entries.items() if i >= lowest}
        else:
            start, end, reverse = some_id(), some_id(), rng.random() < 0.5
            count = rng.choice([-1, -1, 0, 1, 3, 50])
            expected = model.range(start, end, count, reverse)
            assert value.range(start, end, count, reverse=reverse) == expected
        assert (value.length, value.first_id()) == (len(model.entries), model.first_id())
        assert value.top_id() == max(model.entries, default=0)
        if step % 50 == 0:
            value.check()
    value.check()
    counters = value.last_id, value.entries_added, value.max_deleted_id
    assert counters == (model.last_id, model.added, model.max_deleted_id)
    assert all(value.get(entry_id) == tuple(f) for entry_id, f in model.entries.items())
    twin = value.copy()
    twin.check()
    assert twin == value
    twin.append(twin.last_id + 1, [b"a", b"b"])
    assert twin != value


def test_approximate_trimming_drops_whole_blocks() -> None:
    value = filled(small_blocks(), 23)
    assert len(value.blocks) == 5
    assert value.trim_to(14, whole_blocks=True) == 5
    assert value.trim_to(14, whole_blocks=True) == 0
    assert value.trim_to(0, whole_blocks=True, limit=4) == 0
    assert value.trim_to(0, whole_blocks=True, limit=11) == 10
    assert value.trim_before(21 << 64, whole_blocks=True) == 5
    assert value.trim_before(23 << 64, whole_blocks=True) == 0
    assert value.trim_before(24 << 64, whole_blocks=True) == 3
    assert value.length == 0
    value.check()


def test_an_emptied_block_stays_until_it_is_trimmed() -> None:
    value = filled(small_blocks(), 5)
    value.delete(5 << 64)
    assert value.trim_before(5 << 64) == 4  # the deleted fifth entry still ends the block
    assert (value.length, len(value.blocks), value.first_id(), value.top_id()) == (0, 1, 0, 0)
    value.check()
    value.append(6 << 64, [b"f", b"v"])
    assert (len(value.blocks), value.first_id()) == (2, 6 << 64)
    assert value.trim_to(0) == 1
    assert not value.blocks


def test_deleted_entries_go_on_taking_room() -> None:
    value = filled(small_blocks(), 4)
    before = value.blocks[0].size()
    value.delete(2 << 64)
    assert value.blocks[0].size() == before
    value.append(5 << 64, [b"f", b"5"])
    value.append(6 << 64, [b"f", b"6"])
    assert [len(block.ids) for block in value.blocks] == [4, 1]


def tree_nodes(keys: list[bytes]) -> int:
    """Of a compressed radix tree, from its definition."""
    if len(keys) == 1:
        return 2 if keys[0] else 1
    common = 0
    while len({key[common] for key in keys}) == 1:
        common += 1
    heads = sorted({key[common] for key in keys})
    rests = ([key[common + 1 :] for key in keys if key[common] == head] for head in heads)
    return 1 + (common > 0) + sum(map(tree_nodes, rests))


@pytest.mark.parametrize("seed", range(30))
def test_tree_nodes(seed: int) -> None:
    rng = random.Random(seed)
    value = Stream(Limits())
    assert value.tree_nodes() == 1
    bits = rng.choice([3, 20, 70, 128])
    ids = sorted({rng.getrandbits(bits) << rng.choice([0, 0, 60]) for _ in range(seed * 3 + 1)})
    value.starts = [entry_id & MAX_ID for entry_id in sorted({i & MAX_ID for i in ids})]
    keys = [entry_id.to_bytes(16, "big") for entry_id in value.starts]
    assert value.tree_nodes() == tree_nodes(keys)


def test_the_size_of_a_block_is_that_of_its_listpack() -> None:
    rng = random.Random(5)
    value = Stream(Limits())
    for _ in range(500):
        value.append(value.last_id + rng.choice([1, 1 << 64, (1 << 64) - 1]), some_fields(rng))
    loaded = decode_dump(encode_dump(value), Limits())
    assert [block.size() for block in loaded.blocks] == [block.size() for block in value.blocks]


@pytest.mark.parametrize("number", [0, 127, 128, 4095, 4096, -1, -4096, -4097, 2**23, -(2**63)])
def test_integers_take_what_their_text_takes(number: int) -> None:
    assert integer_size(number) == entry_size(b"%d" % number)


@pytest.mark.parametrize("seed", range(5))
def test_random_deliveries(seed: int) -> None:
    rng = random.Random(seed)
    group = Group(0)
    expected: dict[int, bytes] = {}
    for step in range(1500):
        entry_id = rng.randrange(300)
        name = rng.choice([b"a", b"b", b"c"])
        consumer = group.consumers.get(name) or group.join(name, 0)
        what = rng.random()
        if what < 0.5:
            group.deliver(entry_id, consumer, step)
            expected[entry_id] = name
        elif what < 0.9:
            assert group.acknowledge(entry_id) == (expected.pop(entry_id, None) is not None)
        elif what < 0.91:
            held = [i for i, owner in expected.items() if owner == name]
            assert group.leave(name) == len(held)
            expected = {i: owner for i, owner in expected.items() if owner != name}
        elif what < 0.95:
            low, high = sorted((rng.randrange(300), rng.randrange(300)))
            found = [i for i in sorted(expected) if low <= i <= high]
            assert list(group.pending.ids(low, high)) == found
        elif expected:
            assert group.pending.ends() == (min(expected), max(expected))
        group.check()
    owners = {i: one.consumer.name for i, one in group.pending.deliveries.items()}
    assert owners == expected
    assert group.copy() == group
    assert group.leave(b"nobody") is None


def test_how_far_a_group_has_come() -> None:
    value = filled(Limits(), 5)
    group = Group(0)
    assert value.lag(group) == 5
    value.advance(group, 1 << 64)
    assert (group.entries_read, value.lag(group)) == (1, 4)
    value.advance(group, 2 << 64)
    assert (group.entries_read, value.lag(group)) == (2, 3)
    value.delete(4 << 64)
    assert value.lag(group) is None
    value.advance(group, 3 << 64)
    assert group.entries_read == UNKNOWN
    value.advance(group, 5 << 64)
    assert (group.entries_read, value.lag(group)) == (5, 0)
