"""The hyperloglog commands against a real server: replies, and the very bytes of the values."""

import random

import pytest
from differential import Pair, script
from witness import Witness

from node.data import hyperloglog


def test_adding_and_counting(pair: Pair) -> None:
    pair.lines(
        *script("""
            PFADD h; GET h; PFADD h; PFCOUNT h; GET h; PFADD h a b c; GET h; PFADD h a; PFCOUNT h
            GET h; PFCOUNT h; PFCOUNT none; PFCOUNT none h h; PFADD g d e; PFCOUNT h g none
            PFMERGE m h g none; GET m; PFCOUNT m; PFMERGE new; GET new; PFMERGE h; PFCOUNT h
            OBJECT ENCODING h; COPY h c; PFADD c x; PFCOUNT c h; STRLEN h; TYPE h; EXPIRE h 100
            PFADD h y; TTL h; PFMERGE h g; TTL h; RENAME h i; PFCOUNT i; PFADD; PFCOUNT; PFMERGE
        """)
    )


def test_what_is_none(pair: Pair) -> None:
    pair.lines(
        *script("""
            SET s x; LPUSH l x; SET n 5; INCR n; PFADD h a
            PFADD s a; PFADD l a; PFADD n a; PFCOUNT s; PFCOUNT l; PFCOUNT h s; PFCOUNT l h
            PFMERGE s h; PFMERGE h s; PFMERGE l h; PFMERGE h l; PFMERGE x h l; EXISTS x
            PFDEBUG GETREG s; PFDEBUG ENCODING l; PFDEBUG DECODE none; PFDEBUG FOO h
            PFDEBUG FOO none; PFDEBUG DECODE; SETRANGE h 0 hyll; PFADD h a; GET h
        """)
    )
    sound = bytes(hyperloglog.new())
    for broken in (
        *(sound[:-1], sound[:-2], sound + b"\0", sound[:4] + b"\2" + sound[5:], sound[:15]),
        *(sound[:4] + b"\0" + sound[5:], sound[:16] + b"\x7f", sound[:16] + b"\xff" * 5000),
    ):
        pair.same("SET", "h", broken)
        pair.same("PFCOUNT", "h")
        pair.same("PFCOUNT", "h", "none")
        pair.same("PFDEBUG", "ENCODING", "h")
        pair.same("PFMERGE", "m", "h")
    pair.same("SET", "h", sound[:15] + b"\x80" + sound[16:-1] + b"\x01")
    pair.lines(
        "PFCOUNT h", "PFCOUNT h none", "PFMERGE m h", "PFDEBUG TODENSE h", "PFDEBUG GETREG h"
    )


def test_inside(pair: Pair) -> None:
    pair.lines(
        *script("""
            PFADD h a b c d e f g; PFDEBUG DECODE h; PFDEBUG ENCODING h; PFDEBUG TODENSE h; GET h
            PFDEBUG TODENSE h; PFDEBUG DECODE h; PFDEBUG ENCODING h; PFDEBUG GETREG h
            PFADD h h i j; GET h; PFCOUNT h; PFADD s a; PFDEBUG getreg s; PFDEBUG ENCODING s
            PFADD t a; PFMERGE t h; PFDEBUG ENCODING t; GET t; PFSELFTEST
        """)
    )


@pytest.mark.parametrize("limit", [3000, 200, 0, 20000])
def test_bytes_stay_the_same(resp2_pair: Pair, limit: int) -> None:
    """Sparse runs are split and joined as a real server does it, until it goes over to dense."""
    resp2_pair.same("CONFIG", "SET", "hll-sparse-max-bytes", limit)
    chosen = random.Random(limit)
    for step in range(120):
        key = chosen.choice("ab")
        elements = [
            chosen.randbytes(chosen.randrange(1, 40)) for _ in range(chosen.choice((1, 30)))
        ]
        resp2_pair.same("PFADD", key, *elements)
        resp2_pair.same("GET", key)
        if step % 20 == 0:
            resp2_pair.same("PFMERGE", "c", "a", "b")
            resp2_pair.same("GET", "c")
            resp2_pair.same("PFCOUNT", key)
            resp2_pair.same("PFCOUNT", "a", "b")
            resp2_pair.same("PFADD", key, *elements)
    resp2_pair.same("PFDEBUG", "GETREG", "a")
    resp2_pair.same("CONFIG", "SET", "hll-sparse-max-bytes", 3000)


def test_large_counts(resp2_pair: Pair) -> None:
    for start in range(0, 20000, 2000):
        resp2_pair.same("PFADD", "h", *range(start, start + 2000))
        resp2_pair.same("PFCOUNT", "h")
    resp2_pair.same("GET", "h")
    resp2_pair.same("PFADD", "g", *range(100))
    for way in ("ON", "OFF", "ON"):
        resp2_pair.ours.raw("PFDEBUG", "SIMD", way)
        resp2_pair.same("PFCOUNT", "h", "g")


def test_events_and_effects(witness: Witness) -> None:
    witness.agree(
        *script("""
            PFADD h a; PFADD h a; PFADD h b; PFCOUNT h; PFCOUNT h; PFCOUNT none h; PFADD e
            PFMERGE m h e none; PFMERGE m; PFDEBUG TODENSE h; PFDEBUG TODENSE h; PFDEBUG GETREG m
            PFDEBUG GETREG m; PFCOUNT none; PFCOUNT m
        """)
    )


def test_a_count_that_is_kept_is_a_change_to_those_who_watch(pair: Pair) -> None:
    pair.lines("PFADD h a b", "WATCH h", "PFCOUNT h", "MULTI", "PING", "EXEC")
    pair.lines("WATCH h", "PFCOUNT h", "MULTI", "PING", "EXEC")


def test_the_check_notices_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    hyperloglog.check(random.Random(3))
    monkeypatch.setattr(hyperloglog, "_ALPHA", 0.6)
    with pytest.raises(AssertionError, match="too far off"):
        hyperloglog.check(random.Random(3))
