"""The string commands against a real server: replies, errors, extremes."""

import random
import time

import pytest
from differential import Ours, Pair

from node.data import longdouble

MAX, MIN = 2**63 - 1, -(2**63)


def test_set_options(pair: Pair) -> None:
    pair.lines(
        *("SET k v", "SET k v NX", "SET k v XX", "SET n v XX", "SET n v NX", "SET k w GET"),
        *("SET k v NX GET", "SET new v GET", "SET k v NX XX", "SET k v nx nx", "SET k v GET GET"),
        *("SET k v IFEQ v", "SET k w IFEQ v", "SET k x IFEQ v GET", "SET none v IFEQ v"),
        *("SET none v IFEQ v GET", "SET k v IFEQ", "SET k v IFEQ a IFEQ a", "SET k v IFEQ a NX"),
        *("SET k IFEQ", "SET k v IFEQ IFEQ", "GET k", "SET k", "SET k v FOO", "SET k v PERSIST"),
        *("SET k v EX 100", "SET k v KEEPTTL", "TTL k", "SET k v", "TTL k"),
        *("SET k v EX 10 PX 10", "SET k v EX 10 EX 100", "TTL k", "SET k v KEEPTTL EX 5"),
        *("SET k v EX", "SET k v EX 0", "SET k v PX -1", "SET k v EX abc", "SET k v EX abc FOO"),
        *("SET k v EXAT 33177117420", "EXPIRETIME k", "SET k v PXAT 33177117420123"),
        *("PEXPIRETIME k", "SET k v EXAT 1", "EXISTS k", "SET k v EXAT 1 GET", "SET k v XX EXAT 1"),
        f"SET k v EX {MAX}",
        f"SET k v PX {MAX}",
        f"SET k v PXAT {MAX}",
        *("LPUSH l a", "SET l v GET", "SET l v NX", "SET l v IFEQ v", "TYPE l", "SET l v", "GET l"),
    )


def test_setting_and_taking(pair: Pair) -> None:
    pair.lines(
        *("SETNX k v", "SETNX k w", "GETSET k x", "GETSET new x", "GETDEL k", "GETDEL k", "GET k"),
        *("SETEX k 0 v", "SETEX k -1 v", "SETEX k a v", "SETEX k 100 v", "TTL k", "PSETEX k 0 v"),
        f"SETEX k {MAX} v",
        f"PSETEX k {MAX} v",
        *("DELIFEQ k x", "DELIFEQ k v", "DELIFEQ k v", "SET i 10", "INCR i", "DELIFEQ i 11"),
        *("GETEX k", "SET k v", "GETEX k EX 100", "TTL k", "GETEX k PERSIST", "TTL k"),
        *("GETEX k PERSIST PERSIST", "GETEX k EX 10 PERSIST", "GETEX k EX 0", "GETEX k EX a"),
        *("GETEX k KEEPTTL", "GETEX k EX", "GETEX none EX 0", "GETEX k EXAT 1", "EXISTS k"),
        *("LPUSH l a", "GET l", "GETDEL l", "GETEX l", "GETEX l EX 0", "GETSET l v", "DELIFEQ l v"),
        *("STRLEN l", "STRLEN none", "APPEND l x", "SETEX l 100 v", "SETNX l v"),
    )


def test_many_keys(pair: Pair) -> None:
    pair.lines(
        *(
            "MSET a 1 b 2",
            "MGET a b none",
            "MSET a",
            "MSET a 1 b",
            "MSETNX a 1 b",
            "MSETNX a 1 c 2",
        ),
        *("MSETNX d 1 d 2", "GET d", "LPUSH l x", "MGET l a", "INCR a", "APPEND b x", "MGET a b"),
        *("MSETEX 0 a 1", "MSETEX a a 1", "MSETEX 2 a 1", "MSETEX 2 a 1 b", "MSETEX -1 a 1"),
        *("MSETEX 2147483648 a 1", "MSETEX 1073741824 a 1", "MSETEX 1 a 1 b 2", "MSETEX 1 a"),
        *("MSETEX 2 a 1 b 2 EX 100", "TTL a", "MSETEX 1 a 1 KEEPTTL", "TTL a", "MSETEX 1 a 1"),
        *("TTL a", "MSETEX 1 a 1 NX", "MSETEX 2 a 1 e 2 XX", "MSETEX 1 e 1 NX PX 100000"),
        *("MSETEX 1 a 1 EX 0", "MSETEX 1 a 1 EX", "MSETEX 1 a 1 EX x", "MSETEX 1 a 1 GET"),
        *("MSETEX 1 a 1 NX XX", "MSETEX 1 a 1 IFEQ 1", "MSETEX 1 a 1 EXAT 1", "EXISTS a"),
        *("MSETEX 1 l 1", "GET l"),
    )


def test_parts(pair: Pair) -> None:
    pair.same("SET", "s", "abc")
    ends = (0, 1, 2, 3, 5, -1, -2, -3, -4, -5, -100, MAX, MIN)
    for start in ends:
        for end in ends:
            pair.same("GETRANGE", "s", start, end)
    pair.lines(
        *("SUBSTR s 0 1", "GETRANGE none 0 1", "GETRANGE s a 1", "GETRANGE s 0 b", "SET i 10"),
        *("INCR i", "GETRANGE i 0 0", "APPEND i x", "GET i", "STRLEN i", "GETRANGE i 1 -1"),
        *("SETRANGE s -1 x", "SETRANGE s a x", "SETRANGE s 1 XY", "GET s", "SETRANGE s 6 z"),
        *("GET s", "SETRANGE none 536870912 ", "EXISTS none", "SETRANGE s 536870911 xy"),
        f"SETRANGE s {MAX} x",
        f"SETRANGE s {MAX} ",
        *("SETRANGE new 2 x", "GET new", "SETRANGE new 0 ", "LPUSH l a", "SETRANGE l 0 x"),
        *("GETRANGE l 0 1", "SETRANGE l -1 x", "APPEND new ", "APPEND empty ", "EXISTS empty"),
    )


def test_integers(pair: Pair) -> None:
    pair.lines(
        *("INCR n", "DECR n", "DECR n", "INCRBY n 10", "DECRBY n -5", "INCRBY n x", "INCRBY n +1"),
        *("INCRBY n 1.0", "INCRBY n  1", "DECRBY n 01", "INCRBY n -0", "GET n", "LPUSH l a"),
        *("INCR l", "INCRBY l x", "DECRBY l 1"),
    )
    for text in ("", " 1", "1 ", "+1", "01", "-0", "1.0", "abc", "-", MAX, MIN, MAX + 1, MIN - 1):
        pair.same("SET", "n", text)
        for command in (("INCR", "n"), ("DECR", "n"), ("INCRBY", "n", MAX), ("INCRBY", "n", MIN)):
            pair.same(*command)
        for command in (("DECRBY", "n", MAX), ("DECRBY", "n", MIN), ("INCRBY", "n", MAX + 1)):
            pair.same(*command)


FLOATS = [
    *("0", "-0", "0.0", "0.1", "0.2", "3.0e3", "1e17", "1e308", "-1e308", "1e4000", "1e-20", "5."),
    *(".5", "+1", "-1e-30", "1e4932", "1.2e4932", "1e-4940", "1e-4951", "3e-4951", "0x1p4", "0x.8"),
    *("0x1.8p-70", "0X1P-16445", "0x1p-16446", "0x1p16383", "0x1.fp16383", "0x", "0x1p", "0x.p1"),
    *("inf", "-inf", "INFINITY", "nan", "nan(1)", "1e99999999999", "1e-99999999999", "++1", "-"),
    *("0e99999999999", "1e", "1e+", "1_0", " 1", "1 ", ".", "", "abc", "9" * 40, "9" * 4400),
    *("0." + "3" * 60, "1" * 6000, "1e" + "0" * 4500 + "1", "123456789.987654321", "1e-17"),
]


def test_floats(pair: Pair) -> None:
    chosen = random.Random(7)
    for text in FLOATS:
        pair.same("SET", "n", text)
        pair.same("INCRBYFLOAT", "n", "1.5")
        pair.same("SET", "n", "10.5")
        pair.same("INCRBYFLOAT", "n", text)
        pair.same("INCRBYFLOAT", "n", chosen.choice(FLOATS))
    pair.lines("LPUSH l a", "INCRBYFLOAT l x", "INCRBYFLOAT none 2.5", "GET none")


def test_random_floats(pair: Pair) -> None:
    chosen = random.Random(11)
    for _ in range(400):
        if chosen.random() < 0.2:
            pair.same("SET", "n", repr(chosen.uniform(-1e6, 1e6)))
        magnitude = 10.0 ** chosen.randint(-25, 25)
        pair.same("INCRBYFLOAT", "n", repr(chosen.uniform(-1, 1) * magnitude))


def test_a_sum_is_rounded_once() -> None:
    one, tiny = longdouble.parse(b"1"), longdouble.parse(b"0x1p-64")
    assert one is not None and tiny is not None
    assert longdouble.add(one, tiny) == longdouble.parse(b"1")
    more = longdouble.parse(b"0x1.8p-64")
    assert more is not None
    assert longdouble.add(one, more) == longdouble.parse(b"0x1.0000000000000002p0")


def test_lcs(pair: Pair) -> None:
    pair.lines(
        *("SET a ohmytext", "SET b mynewtext", "LCS a b", "LCS a b LEN", "LCS a b IDX"),
        *("LCS a b IDX MINMATCHLEN 4", "LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN", "LCS a none"),
        *("LCS a b LEN IDX", "LCS a b MINMATCHLEN", "LCS a b MINMATCHLEN x", "LCS a b FOO"),
        *("LCS none none IDX", "LCS none b LEN", "LCS a b MINMATCHLEN -5 IDX", "LPUSH l 1"),
        *("LCS a l", "LCS l a FOO", "SET n 5", "INCR n", "LCS n n", "LCS a b LEN LEN"),
    )
    chosen = random.Random(3)
    for _ in range(150):
        for key in "ab":
            pair.same("SET", key, "".join(chosen.choices("abc", k=chosen.randrange(40))))
        pair.lines("LCS a b", "LCS a b LEN", "LCS a b IDX WITHMATCHLEN")
    pair.same("SET", "a", "x" * 20000)
    pair.same("LCS", "a", "a", "LEN")


def test_a_long_lcs_is_quick() -> None:
    ours = Ours()
    chosen = random.Random(5)
    for key in "ab":
        ours.ask("SET", key, bytes(chosen.choices(b"abcdefgh", k=8000)))
    started = time.process_time()
    length = ours.ask("LCS", "a", "b", "LEN")
    assert len(ours.ask("LCS", "a", "b")) == length > 4000
    assert time.process_time() - started < 1.0


@pytest.mark.parametrize("size", [0, 1, 44, 103, 111, 112, 113, 200])
def test_encodings(pair: Pair, size: int) -> None:
    for key in ("k", "k" * 31, "k" * 32, "k" * 64):
        pair.same("SET", key, "x" * size)
        pair.same("OBJECT", "ENCODING", key)
        pair.same("DEL", key)  # a real server's object stays what it was when it is set again
        pair.same("SET", key, "x" * size, "EX", 1000)
        pair.same("OBJECT", "ENCODING", key)


def test_encodings_of_what_was_changed(pair: Pair) -> None:
    pair.lines(
        *("SET k 12", "OBJECT ENCODING k", "INCR k", "OBJECT ENCODING k", "APPEND k ", "GET k"),
        *("OBJECT ENCODING k", "COPY k j", "OBJECT ENCODING j", "INCR k", "OBJECT ENCODING k"),
        *("APPEND new 12", "OBJECT ENCODING new", "SETRANGE r 0 12", "OBJECT ENCODING r"),
        *("SETBIT b 5 1", "OBJECT ENCODING b", "BITOP AND d k", "OBJECT ENCODING d"),
        f"SET k {MAX}",
        "OBJECT ENCODING k",
        f"SET k {MAX + 1}",
        *("OBJECT ENCODING k", "SET k 01", "OBJECT ENCODING k", "OBJECT REFCOUNT k"),
        *("OBJECT ENCODING none", "OBJECT REFCOUNT none", "OBJECT FREQ none", "OBJECT FREQ k"),
    )
