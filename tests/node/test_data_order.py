"""Scans return whatever stays, however the rest changes; random picks are fair."""

import random
from collections import Counter
from typing import Any

import pytest

from node.data.hash import Hash
from node.data.limits import Limits
from node.data.order import Order, draw
from node.data.set import Set
from node.data.zset import ZSet


def add(value: Any, member: bytes) -> None:
    if isinstance(value, Hash):
        value.set(member, b"v")
    elif isinstance(value, ZSet):
        value.put(member, 1.0)
    else:
        value.add(member)


def remove(value: Any, member: bytes) -> None:
    (value.delete if isinstance(value, Hash) else value.remove)(member)


def member_of(found: Any) -> bytes:
    return found if isinstance(found, bytes) else next(p for p in found if p not in (b"v", 1.0))


@pytest.mark.parametrize("kind", [Hash, Set, ZSet])
def test_a_scan_returns_all_that_stays(kind: Any) -> None:
    rng = random.Random(3)
    for _ in range(30):
        value = kind(Limits())
        stay = [b"stay%d" % i for i in range(rng.randint(1, 700))]
        come = [b"come%d" % i for i in range(rng.randint(1, 700))]
        for member in rng.sample(stay + come, len(stay) + len(come)):
            add(value, member)
        cursor, steps = 0, 0
        seen: set[bytes] = set()
        while True:
            cursor, found = value.scan(cursor, rng.randint(1, 50))
            seen.update(member_of(one) for one in found)
            steps += 1
            for member in rng.sample(come, min(len(come), 20)):
                (add if rng.random() < 0.4 else remove)(value, member)
            if cursor == 0:
                break
            assert steps < 5000
        assert seen >= set(stay)
        value.check()


@pytest.mark.parametrize("kind", [Hash, Set, ZSet])
def test_a_small_one_is_returned_at_once(kind: Any) -> None:
    value = kind(Limits())
    for number in (30, 4, 100):
        add(value, b"%d" % number)
    cursor, found = value.scan(7, 1)
    assert cursor == 0 and len(found) == 3


@pytest.mark.parametrize("size", [5, 1000])
@pytest.mark.parametrize("kind", [Hash, Set, ZSet])
def test_draws(kind: Any, size: int) -> None:
    rng = random.Random(9)
    value = kind(Limits())
    for number in range(size):
        add(value, b"m%d" % number)
    assert len(set(value.draw(4, rng))) == 4
    assert len(set(value.draw(size * 2, rng))) == len(value.draw(size * 2, rng)) == size
    repeated = value.draw(-size * 20, rng)
    assert len(repeated) == size * 20
    assert len(set(repeated)) > size * 0.9
    assert max(Counter(repeated).values()) < 80


def test_draw_from_nothing() -> None:
    assert draw([], -3, random.Random(1)) == draw([], 3, random.Random(1)) == []


def test_order_keeps_its_places() -> None:
    rng = random.Random(8)
    order = Order([b"a", b"b"])
    for _ in range(2000):
        member = b"%d" % rng.randrange(40)
        if member in order.place:
            assert order.drop(member)
        else:
            assert not order.drop(member)
            order.append(member)
        order.check()
