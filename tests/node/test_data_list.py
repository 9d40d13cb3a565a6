"""Lists against a real server, step by step."""

import random
from collections.abc import Iterable
from typing import Any

import pytest

from node.data import list as list_module
from node.data.limits import Limits
from node.data.list import List, move
from node.data.listpack import entry_size


def lies_otherwise_in_nodes(ours: List, real: bytes) -> bool:
    """The known difference: real nodes are not always as full as we think."""
    limits, size = ours.limits, sum(map(entry_size, ours.items)) + 7
    if ours.encoding() == b"quicklist":  # one node of few elements, grown by LSET and LINSERT
        return real == b"listpack" and size > limits.list_half_bytes == limits.list_bytes
    # Short enough, but in two nodes.
    short = size <= limits.list_half_bytes and len(ours) <= limits.list_half_count
    return short and real == b"quicklist"


def one_value(rng: random.Random) -> bytes:
    kind = rng.random()
    if kind < 0.4:
        return b"%d" % rng.choice([rng.randint(-20, 20), rng.randint(-(2**40), 2**40)])
    if kind < 0.9:
        return bytes(rng.choices(b"abc", k=rng.randint(0, 3)))
    return b"x" * rng.choice([10, 100, 1000, 3000])


def step(rng: random.Random, ours: List, oracle: Any) -> None:
    size = len(ours)
    a, b = rng.randint(-size - 2, size + 2), rng.randint(-size - 2, size + 2)
    value, other = one_value(rng), rng.choice(ours.items) if size else b"none"
    match rng.randrange(14):
        case 0 | 1:
            ours.push_left(value)
            oracle.expect(len(ours), "LPUSH", "k", value)
        case 2 | 3:
            values = [one_value(rng) for _ in range(rng.randint(1, 30))]
            ours.extend_right(values)
            oracle.expect(len(ours), "RPUSH", "k", *values)
        case 4:
            values = [one_value(rng) for _ in range(rng.randint(1, 3))]
            ours.extend_left(values)
            oracle.expect(len(ours), "LPUSH", "k", *values)
        case 5 if size:
            oracle.expect(ours.pop_left(), "LPOP", "k")
        case 6 if size:
            count = rng.randint(1, 40)
            oracle.expect(ours.take_right(count), "RPOP", "k", count)
        case 7:
            oracle.expect(ours.range(a, b), "LRANGE", "k", a, b)
            oracle.expect(ours.get(a), "LINDEX", "k", a)
        case 8 if size:
            if ours.set(a, value):
                oracle.expect(b"OK", "LSET", "k", a, value)
        case 9:
            after = rng.random() < 0.5
            done = ours.insert(other, value, after=after)
            length = len(ours) if done else -1 if size else 0
            oracle.expect(length, "LINSERT", "k", "AFTER" if after else "BEFORE", other, value)
        case 10:
            count = rng.randint(-3, 3)
            oracle.expect(ours.remove(other, count), "LREM", "k", count, other)
        case 11:
            if rng.random() < 0.3:
                ours.trim(a, b)
                oracle.expect(b"OK", "LTRIM", "k", a, b)
        case 12:
            rank, count, maxlen = rng.choice([1, 2, -1, -3]), rng.randint(0, 3), rng.randint(0, 9)
            found = ours.positions(other, rank, count, maxlen)
            command = ("RANK", rank, "COUNT", count, "MAXLEN", maxlen)
            oracle.expect(found, "LPOS", "k", other, *command)
        case 13 if size:
            left, to_left = rng.random() < 0.5, rng.random() < 0.5
            ends = ("LEFT" if left else "RIGHT", "LEFT" if to_left else "RIGHT")
            moved = move(ours, ours, from_left=left, to_left=to_left)
            oracle.expect(moved, "LMOVE", "k", "k", *ends)


@pytest.mark.parametrize("setting", [-2, -1, 5, 128])
def test_agrees_with_a_real_server(oracle, setting: int) -> None:
    rng = random.Random(setting)
    limits = Limits()
    limits.list_max_listpack_size = setting
    oracle.one("CONFIG", "SET", "list-max-listpack-size", setting)
    for _ in range(8):
        oracle.one("DEL", "k")
        ours = List(limits)
        for _ in range(150):
            step(rng, ours, oracle)
            ours.check()
            if not ours:
                ours = List(limits)
                continue
            real = oracle.one("OBJECT", "ENCODING", "k")
            if ours.encoding() != real and lies_otherwise_in_nodes(ours, real):
                oracle.one("DEL", "k")
                ours = List(limits)
            else:
                assert ours.encoding() == real
        twin = ours.copy()
        assert twin == ours
        twin.push_left(b"new")
        assert twin != ours


def test_reads_and_trims_at_any_depth() -> None:
    items = [b"%d" % i for i in range(1000)]
    rng = random.Random(1)
    for _ in range(300):
        ours = List(Limits(), items)
        a, b = rng.randrange(1000), rng.randrange(1000)
        assert ours.range(a, b) == items[a : b + 1]
        assert list(ours.items) == items
        ours.trim(a, b)
        assert list(ours.items) == items[a : b + 1]


def test_becomes_a_quicklist_at_the_exact_byte(oracle) -> None:
    """With one large element the limit is sharp; small ones bring it there and back."""
    for filler in (b"7", b"-300", b"abc", b"123456789"):
        oracle.one("DEL", "k")
        ours = List(Limits())
        while ours.encoding() == b"listpack":
            ours.push_right(filler)
            oracle.expect(len(ours), "RPUSH", "k", filler)
            oracle.expect(ours.encoding(), "OBJECT", "ENCODING", "k")
        while ours.encoding() == b"quicklist":
            ours.pop_right()
            oracle.one("RPOP", "k")
            real = oracle.one("OBJECT", "ENCODING", "k")
            assert ours.encoding() == real or lies_otherwise_in_nodes(ours, real)


@pytest.mark.parametrize("size", [400, 1160, 3000])
def test_a_queue_is_not_measured_at_every_push(monkeypatch, size: int) -> None:
    ours = List(Limits(), [b"x" * 5] * size)
    measured: list[int] = []
    real = list_module._measure

    def measure(items: Iterable[bytes]) -> int:
        measured.append(1)
        return real(items)

    monkeypatch.setattr(list_module, "_measure", measure)
    for _ in range(1000):
        ours.push_left(b"x" * 5)
        ours.pop_right()
    assert len(measured) < 10
