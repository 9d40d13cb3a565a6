"""The bitmap commands against a real server, and their speed."""

import random
import time

from differential import Ours, Pair

MAX, MIN = 2**63 - 1, -(2**63)


def test_single_bits(pair: Pair) -> None:
    pair.lines(
        *(
            "SETBIT b 7 1",
            "SETBIT b 7 1",
            "SETBIT b 7 0",
            "SETBIT b 100 0",
            "STRLEN b",
            "GETBIT b 7",
        ),
        *("SETBIT b 1000 1", "GET b", "GETBIT b 1000", "GETBIT b 999999", "GETBIT none 0"),
        *("SETBIT b -1 1", "SETBIT b 4294967296 1", "SETBIT b x 1", "SETBIT b 1 2", "SETBIT b 1 x"),
        *("GETBIT b -1", "GETBIT b 4294967296", "GETBIT b x", "LPUSH l a", "SETBIT l 1 1"),
        *("GETBIT l 1", "SET n 5", "INCR n", "GETBIT n 2", "SETBIT n 2 0", "GET n"),
    )


def test_counting_and_searching(pair: Pair) -> None:
    for value in (b"", b"\xff\xff\xff", b"\0\0\x10\xff", b"foobar", b"\0"):
        pair.same("SET", "b", value)
        for bit in (0, 1):
            pair.same("BITPOS", "b", bit)
        for start in (0, 1, 2, 5, 30, -1, -2, -30, MAX, MIN):
            pair.same("BITCOUNT", "b", start)
            pair.same("BITPOS", "b", 0, start)
            pair.same("BITPOS", "b", 1, start)
            for end in (0, 1, 2, 9, 30, -1, -2, -30, MAX, MIN):
                for unit in (("BIT",), ("byte",), ()):
                    pair.same("BITCOUNT", "b", start, end, *unit)
                    pair.same("BITPOS", "b", 0, start, end, *unit)
                    pair.same("BITPOS", "b", 1, start, end, *unit)


def test_errors_of_ranges(pair: Pair) -> None:
    pair.lines(
        *("SET b abc", "LPUSH l a", "BITCOUNT none", "BITCOUNT none a b", "BITCOUNT none 1"),
        *("BITCOUNT none 1 2 FOO", "BITCOUNT l a b", "BITCOUNT l 1", "BITCOUNT b 1 2 3 4"),
        *("BITCOUNT b BIT", "BITCOUNT b 1 BIT", "BITCOUNT b 0 x FOO", "BITCOUNT b x 1 FOO"),
        *("BITPOS none 1", "BITPOS none 0", "BITPOS none 2", "BITPOS l 2", "BITPOS l 1"),
        *(
            "BITPOS b x",
            "BITPOS b 2 x",
            "BITPOS b 0 x",
            "BITPOS b 0 1 x FOO",
            "BITPOS b 0 1 2 BIT x",
        ),
        *("BITPOS none 0 1 2 FOO", "BITPOS b 0 x 1 FOO"),
    )


def test_bitop(pair: Pair) -> None:
    pair.lines("LPUSH l a", "SET n 12", "INCR n")
    chosen = random.Random(2)
    for _ in range(60):
        for key in "abc":
            pair.same("SET", key, bytes(chosen.randbytes(chosen.choice((0, 1, 7, 8, 33)))))
        for operation in ("AND", "or", "XOR"):
            pair.same("BITOP", operation, "d", *chosen.choices(("a", "b", "c", "n", "none"), k=3))
            pair.same("GET", "d")
        pair.lines("BITOP NOT d a", "GET d")
    pair.lines(
        *("BITOP FOO d a", "BITOP NOT d a b", "BITOP AND d none", "EXISTS d", "BITOP AND d a l"),
        *("BITOP NOT l n", "TYPE l", "SET d x EX 100", "BITOP OR d n", "TTL d", "BITOP DIFF d a b"),
    )


def test_fields(pair: Pair) -> None:
    chosen = random.Random(4)
    numbers = (0, 1, -1, 127, 128, -128, -129, 255, 256, 2**31, MAX, MIN, MAX - 5, MIN + 5)
    for _ in range(500):
        words: list[str | int] = []
        for _ in range(chosen.randint(1, 4)):
            width = chosen.choice((1, 2, 3, 5, 8, 9, 16, 31, 32, 33, 62, 63, 64))
            sign = "i" if width == 64 else chosen.choice("iu")
            offset = chosen.choice((0, 1, 7, 8, 13, 64, 100, "#0", "#1", "#3"))
            if chosen.random() < 0.4:
                words += ["OVERFLOW", chosen.choice(("WRAP", "sat", "FAIL"))]
            kind = chosen.choice(("GET", "SET", "INCRBY"))
            words += [kind, f"{sign}{width}", offset]
            words += [] if kind == "GET" else [chosen.choice(numbers)]
        pair.same("BITFIELD", "b", *words)
        pair.same("GET", "b")
        if chosen.random() < 0.1:
            pair.same("DEL", "b")


def test_errors_of_fields(pair: Pair) -> None:
    for kind in ("u64", "i65", "u0", "i0", "x8", "U8", "u08", "u", "", "i-1", "i 8"):
        pair.same("BITFIELD", "b", "GET", kind, 0)
    for offset in (
        -1,
        "#-1",
        "#",
        "x",
        4294967287,
        4294967295,
        4294967296,
        "#536870912",
        f"#{MAX}",
    ):
        pair.same("BITFIELD", "b", "GET", "u8", offset)
    pair.lines(
        *("BITFIELD b", "EXISTS b", "BITFIELD b SET u8 0", "BITFIELD b FOO", "BITFIELD b GET u8"),
        *("BITFIELD b OVERFLOW", "BITFIELD b OVERFLOW FOO", "BITFIELD b OVERFLOW SAT", "EXISTS b"),
        *("BITFIELD b SET u8 0 abc", "BITFIELD b SET u8 0 1 GET x 0", "EXISTS b", "LPUSH l a"),
        *("BITFIELD l", "BITFIELD l GET u8 0", "BITFIELD l SET u8 0 1", "BITFIELD_RO l GET u8 0"),
        *("BITFIELD b OVERFLOW FAIL SET u8 100 300", "STRLEN b", "BITFIELD_RO b SET u8 0 1"),
        *("BITFIELD_RO b OVERFLOW SAT", "BITFIELD_RO b", "BITFIELD_RO b GET u8 0 GET i5 #3"),
    )


def test_ten_megabytes_are_quick() -> None:
    ours = Ours()
    data = random.Random(1).randbytes(10 << 20)
    ours.ask("SET", "a", data)
    ours.ask("SET", "b", data[::-1])
    started = time.process_time()
    assert ours.ask("BITCOUNT", "a") == sum(map(int.bit_count, data))
    assert ours.ask("BITOP", "XOR", "d", "a", "b") == len(data)
    assert ours.ask("BITPOS", "d", 1) >= 0
    assert time.process_time() - started < 3.0
