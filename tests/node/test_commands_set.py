"""The set commands against a real server: replies, errors, events, effects, encodings."""

import random
from typing import Any

import pytest
from differential import Ours, Pair, decoded, script
from witness import Witness


def test_members(pair: Pair) -> None:
    pair.lines(
        *script("""
        SADD t a b c a; SADD t a d; SADD t a; SCARD t; SCARD none; SISMEMBER t a; SISMEMBER t x;
        SISMEMBER none a; SMISMEMBER t a x b; SMISMEMBER none a b; SREM t a x; SREM t x;
        SREM none a; SADD t; SREM t; SET s v; SADD s a; SREM s a; SCARD s; SISMEMBER s a;
        SMISMEMBER s a; SMEMBERS s; SMEMBERS none; SADD u b z; SMOVE t u b; SMOVE t u b;
        SMOVE none u b; SMOVE t s c; SMOVE s t c; SMOVE none s c; SMOVE t t c; SMOVE t t x;
        SMOVE t new c; SMOVE t new d; EXISTS t; SREM u b z; EXISTS u
        """)
    )


def test_several_sets(pair: Pair) -> None:
    pair.lines(*script("SADD a 1 2 3 x y; SADD b 2 3 4 y; SADD c 3 4 5; SET s v; RPUSH l a"))
    for keys in (("a",), ("a", "b"), ("b", "a", "c"), ("a", "none"), ("none", "a"), ("none",)):
        for name in ("SINTER", "SUNION", "SDIFF"):
            pair.unordered(name, *keys)
            pair.same(f"{name}STORE", "d", *keys)
            pair.same("OBJECT", "ENCODING", "d")
            pair.unordered("SMEMBERS", "d")
        pair.same("SINTERCARD", len(keys), *keys)
        pair.same("SINTERCARD", len(keys), *keys, "LIMIT", 1)
    pair.lines(
        *script("""
        SINTER a s; SINTER none s; SUNION s a; SDIFF none s; SDIFFSTORE d a l; SINTERSTORE s a b;
        SUNIONSTORE s none; EXISTS s; SINTERCARD 0 a; SINTERCARD x a; SINTERCARD 2 a;
        SINTERCARD 1 a LIMIT; SINTERCARD 1 a LIMIT -1; SINTERCARD 1 a LIMIT x;
        SINTERCARD 1 a FOO 1; SINTERCARD 1 a LIMIT 0; SINTERCARD 2 a l;
        SINTERCARD 1 a LIMIT 2 LIMIT 1; SINTER; SINTERSTORE d; EXPIRE a 100; SUNIONSTORE a a b;
        TTL a
        """)
    )


def test_random_members(pair: Pair) -> None:
    pair.lines(
        *script("""
        SPOP none; SPOP none 1; SRANDMEMBER none; SRANDMEMBER none 1; SADD t a; SRANDMEMBER t;
        SRANDMEMBER t 1; SRANDMEMBER t -3; SRANDMEMBER t 0; SPOP t 0; SPOP t; EXISTS t; SET s v;
        SPOP s; SPOP s 1; SRANDMEMBER s; SPOP t -1; SPOP t x; SPOP t 1 2; SRANDMEMBER t x;
        SRANDMEMBER t 1 2; SRANDMEMBER t -9223372036854775808; SADD t a; SPOP t 1; EXISTS t
        """)
    )
    members = {b"m%d" % number for number in range(300)}
    for command, number in (("SRANDMEMBER", 50), ("SRANDMEMBER", 299), ("SPOP", 249)):
        for server in (pair.ours.raw, pair.theirs_raw):
            server("SADD", "big", *members)
            found = decoded(server(command, "big", number))
            assert len(set(found)) == len(found) == number and members >= set(found)
    pair.same("SCARD", "big")
    assert len(pair.ours.ask("SRANDMEMBER", "big", -1000)) == 1000
    assert len(pair.ours.ask("SPOP", "big", 1000)) == 300 - 249
    pair.ours.raw("SADD", "big", *members)
    assert set(pair.ours.ask("SPOP", "big", 1000)) == members


def test_every_member_is_drawn() -> None:
    ours = Ours()
    ours.ask("SADD", "t", *range(20))
    assert len({ours.ask("SRANDMEMBER", "t") for _ in range(400)}) == 20
    assert len({ours.ask("SPOP", "t") for _ in range(20)}) == 20


def test_scanning(pair: Pair) -> None:
    pair.lines(
        *script("""
        SSCAN none 0; SSCAN none x; SSCAN none 0 FOO; SADD t 3 1 2; SSCAN t 0; SSCAN t 0 MATCH 1*;
        SSCAN t 0 COUNT 1; SSCAN t 0 COUNT 0; SSCAN t 0 COUNT x; SSCAN t 0 COUNT; SSCAN t 0 FOO;
        SSCAN t -1; SSCAN t 0 NOVALUES; SSCAN t 0 NOSCORES; SSCAN t 18446744073709551616; SET s v;
        SSCAN s 0; SSCAN s x; SSCAN t 0 MATCH 1 MATCH 2 COUNT 5 COUNT 10
        """)
    )


def test_a_scan_meets_whoever_stays() -> None:
    ours = Ours()
    chosen = random.Random(2)
    stay = {b"stay%d" % number for number in range(300)}
    ours.ask("SADD", "t", *stay, *[f"go{number}" for number in range(300)])
    cursor, met = b"0", set[Any]()
    while True:
        cursor, found = ours.ask("SSCAN", "t", cursor, "COUNT", 7)
        met |= set(found)
        if cursor == b"0":
            break
        ours.ask("SREM", "t", *[f"go{chosen.randrange(300)}" for _ in range(9)])
        ours.ask("SADD", "t", *[f"new{chosen.randrange(300)}" for _ in range(5)])
    assert stay <= met


@pytest.mark.parametrize("small", [(4, 3, 5), (512, 128, 64), (2, 6, 2)])
def test_encodings(pair: Pair, small: tuple[int, int, int]) -> None:
    names = ("set-max-intset-entries", "set-max-listpack-entries", "set-max-listpack-value")
    for name, limit in zip(names, small, strict=True):
        pair.same("CONFIG", "SET", name, limit)
    chosen = random.Random(small[0])
    for _ in range(60):
        pair.same("DEL", "t")
        for _ in range(chosen.randrange(1, 4)):
            words = (*range(9), "a", "bcd", "long-member", "01", -5, 2**63)
            pair.same("SADD", "t", *chosen.choices(words, k=chosen.randrange(1, 7)))
            pair.same("OBJECT", "ENCODING", "t")
            pair.same("SREM", "t", chosen.choice(words))
            pair.same("OBJECT", "ENCODING", "t")
    for name, limit in zip(names, (512, 128, 64), strict=True):
        pair.same("CONFIG", "SET", name, limit)


def test_events_and_effects(witness: Witness) -> None:
    witness.agree(
        *script("""
        SADD s a b c; SADD s a; SREM s c y; SREM s y; SMOVE s t a; SMOVE s s b; SMOVE s t b;
        SMOVE s t b; SADD s a; SPOP s; SADD s x; SPOP s 9; SPOP s; SPOP s 1; SADD s 1; SPOP s 0;
        SADD s 1 2; SINTERSTORE d s s; SINTERSTORE d s none; SINTERSTORE d s none;
        SUNIONSTORE d s t; SDIFFSTORE d s t; SDIFFSTORE d t t; SUNIONSTORE d none; SINTER s none;
        SMEMBERS none; SISMEMBER none x; SCARD none; SSCAN none 0; SRANDMEMBER none
        """)
    )


def test_spop_logs_what_it_took() -> None:
    ours = Ours()
    ours.ask("SADD", "t", *range(100))
    ours.take_log()
    one, some = ours.ask("SPOP", "t"), ours.ask("SPOP", "t", 30)
    assert ours.take_log() == [[b"SREM", b"t", one], [b"SREM", b"t", *some]]


def test_spop_of_all_is_logged_as_lazyfree_asks() -> None:
    ours = Ours()
    for word in ("UNLINK", "DEL"):
        ours.ask("CONFIG", "SET", "lazyfree-lazy-server-del", "no" if word == "DEL" else "yes")
        ours.ask("SADD", "t", 1, 2)
        ours.take_log()
        ours.ask("SPOP", "t", 2)
        assert ours.take_log() == [[word.encode(), b"t"]]
