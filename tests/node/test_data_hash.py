"""Hashes: encodings and replies against a real server; field deadlines; scans."""

import random

from node.data.hash import Hash
from node.data.limits import Limits


def test_agrees_with_a_real_server(oracle) -> None:
    rng = random.Random(2)
    limits = Limits()
    limits.hash_max_listpack_entries = 20
    oracle.one("CONFIG", "SET", "hash-max-listpack-entries", 20)
    for round_ in range(12):
        key, ours = f"k{round_}", Hash(limits)
        for _ in range(80):
            field = b"f%d" % rng.randrange(18 + round_)
            value = b"v" * (rng.choice([64, 65]) if rng.random() < 0.01 else rng.randrange(9))
            if rng.random() < 0.7:
                oracle.expect(int(ours.set(field, value)), "HSET", key, field, value)
            else:
                oracle.expect(int(ours.delete(field)), "HDEL", key, field)
            oracle.expect(ours.get(field), "HGET", key, field)
            if not ours:
                ours = Hash(limits)
            else:
                oracle.expect(ours.encoding(), "OBJECT", "ENCODING", key)
            ours.check()
        oracle.expect(len(ours), "HLEN", key)


def test_encoding_of_a_key_made_by_many_pairs(oracle) -> None:
    for count in (512, 513):
        ours = Hash(Limits())
        ours.expect(count)
        ours.set(b"a", b"1")
        oracle.one("DEL", "k")
        oracle.one("HSET", "k", *["a", "1"] * count)
        oracle.expect(ours.encoding(), "OBJECT", "ENCODING", "k")


def test_field_deadlines() -> None:
    ours = Hash(Limits(), {b"a": b"1", b"b": b"2", b"c": b"3"})
    assert ours.next_deadline() is None and not ours.set_deadline(b"none", 5)
    for field, deadline in ((b"a", 30), (b"b", 20), (b"c", 10), (b"c", 40), (b"c", 10)):
        assert ours.set_deadline(field, deadline)
        ours.check()
    assert ours.encoding() == b"hashtable"
    assert ours.next_deadline() == 10
    assert ours.due(20, 9) == [b"c", b"b"] and ours.due(99, 1) == [b"c"] and ours.due(9, 9) == []
    ours.set(b"c", b"new", keep_deadline=True)
    assert ours.get_deadline(b"c") == 10
    ours.set(b"c", b"new")
    assert ours.get_deadline(b"c") is None and ours.due(99, 9) == [b"b", b"a"]
    twin = ours.copy()
    assert ours.delete(b"b") and ours.drop_deadline(b"a") and not ours.drop_deadline(b"a")
    assert ours.expires is None and ours.next_deadline() is None
    ours.check()
    assert twin.next_deadline() == 20
    twin.check()


def test_deadlines_set_again_and_again_take_no_room() -> None:
    ours = Hash(Limits(), {b"a": b"1"})
    for deadline in range(10000):
        ours.set_deadline(b"a", 10000 - deadline)
    ours.check()
    assert len(ours._heap) < 100 and ours.next_deadline() == 1


def test_random_deadlines_keep_the_invariants() -> None:
    rng = random.Random(4)
    ours = Hash(Limits())
    for _ in range(3000):
        field = b"%d" % rng.randrange(30)
        match rng.randrange(6):
            case 0 | 1:
                ours.set(field, b"v", keep_deadline=rng.random() < 0.5)
            case 2 | 3:
                ours.set_deadline(field, rng.randrange(50))
            case 4:
                ours.drop_deadline(field)
            case 5:
                now = rng.randrange(5)
                found = ours.due(now, 100)
                expected = {f for f, at in (ours.expires or {}).items() if at <= now}
                assert len(found) == len(expected) and set(found) == expected
                for field in found:
                    ours.delete(field)
        ours.check()
