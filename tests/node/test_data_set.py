"""Sets against a real server: replies, encodings, algebra."""

import random
from typing import Any

from node.data import set as sets
from node.data.limits import Limits
from node.data.set import Set


def as_sets(ours: Any, theirs: Any) -> bool:
    return len(ours) == len(theirs) and set(ours) == set(theirs)


def add_all(ours: Set, members: list[bytes]) -> int:
    """SADD."""
    if len(members) > 1:
        ours.expect(members)
    return sum(ours.add(member) for member in members)


def small_limits(oracle: Any) -> Limits:
    limits = Limits()
    limits.set_max_intset_entries = 12
    limits.set_max_listpack_entries = 8
    oracle.one("CONFIG", "SET", "set-max-intset-entries", 12, "set-max-listpack-entries", 8)
    return limits


def one_member(rng: random.Random, words: float) -> bytes:
    if rng.random() < words:
        return rng.choice([b"a", b"b", b"01", b"-0", b"+1", b"", b"9" * 25, b"x" * 64, b"x" * 65])
    return b"%d" % rng.choice([rng.randint(-9, 9), 2**63 - 1, 2**63, -(2**63), -(2**63) - 1])


def test_agrees_with_a_real_server(oracle) -> None:
    rng = random.Random(7)
    limits = small_limits(oracle)
    for round_ in range(60):
        key, ours, words = f"k{round_}", Set(limits), rng.choice([0, 0.05, 0.3])
        for _ in range(25):
            if rng.random() < 0.7:
                count = 1 if rng.random() < 0.7 else rng.randint(1, 15)
                members = [one_member(rng, words) for _ in range(count)]
                oracle.expect(add_all(ours, members), "SADD", key, *members)
            else:
                member = one_member(rng, words)
                oracle.expect(int(ours.remove(member)), "SREM", key, member)
            if not ours:
                ours = Set(limits)
            else:
                oracle.expect(ours.encoding(), "OBJECT", "ENCODING", key)
                exact = ours.kind == sets.INTSET
                compare = (lambda a, b: a == b) if exact else as_sets
                oracle.expect(ours.members(), "SMEMBERS", key, compare=compare)
            ours.check()
        assert ours.copy() == ours


def test_algebra_agrees_with_a_real_server(oracle) -> None:
    rng = random.Random(6)
    limits = small_limits(oracle)
    for _ in range(100):
        oracle.one("FLUSHALL")
        values: list[Set | None] = []
        for number in range(rng.randint(1, 4)):
            members = [one_member(rng, 0.3) for _ in range(rng.randrange(20))]
            values.append(Set(limits, members) if members else None)
            if members:
                oracle.one("SADD", f"s{number}", *members)
        keys = [f"s{number}" for number in range(len(values))]
        limit = rng.randrange(4)
        oracle.expect(sets.union(values), "SUNION", *keys, compare=as_sets)
        oracle.expect(sets.intersection(values), "SINTER", *keys, compare=as_sets)
        oracle.expect(sets.difference(values), "SDIFF", *keys, compare=as_sets)
        card = len(sets.intersection(values, limit))
        oracle.expect(card, "SINTERCARD", len(keys), *keys, "LIMIT", limit)
        for command, stored in (
            ("SUNIONSTORE", Set(limits, sets.union(values))),
            ("SINTERSTORE", Set(limits, sets.intersection(values))),
            ("SDIFFSTORE", sets.stored_difference(limits, values)),
        ):
            oracle.expect(len(stored), command, "d", *keys)
            if stored:
                oracle.expect(stored.encoding(), "OBJECT", "ENCODING", "d")
        oracle.settle()


def test_pop_takes_every_member_once() -> None:
    ours = Set(Limits(), [b"%d" % number for number in range(600)])
    rng = random.Random(1)
    taken = {ours.pop(rng) for _ in range(600)}
    assert len(taken) == 600 and not ours
    ours.check()
