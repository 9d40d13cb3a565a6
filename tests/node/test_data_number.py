"""Integers and doubles as text, against Redis's rules and a real server."""

import random
import struct

from hypothesis import given
from hypothesis import strategies as st

from node.data.number import INT64_MAX, INT64_MIN, as_integer, format_double
from node.data.span import span


@given(st.integers(INT64_MIN - 5, INT64_MAX + 5))
def test_canonical_integers(number: int) -> None:
    expected = number if INT64_MIN <= number <= INT64_MAX else None
    assert as_integer(b"%d" % number) == expected


def test_other_texts_are_no_integers() -> None:
    for text in (b"", b"-", b"-0", b"00", b"01", b"-01", b"+1", b" 1", b"1_0", b"1.0", b"a"):
        assert as_integer(text) is None
    assert as_integer("\u0661".encode()) is None


@given(st.floats(allow_nan=False))
def test_doubles_read_back(number: float) -> None:
    assert float(format_double(number)) == number


def test_doubles_agree_with_a_real_server(oracle) -> None:
    rng = random.Random(20)
    numbers = [rng.choice([1, -1]) * 10 ** rng.uniform(-30, 30) for _ in range(500)]
    numbers += [float(f"{rng.randrange(1, 9999)}e{rng.randrange(-30, 30)}") for _ in range(1000)]
    numbers += [struct.unpack("d", rng.randbytes(8))[0] for _ in range(500)]
    numbers += [
        rng.randrange(10 ** rng.randrange(1, 17)) / 10 ** rng.randrange(5) for _ in range(500)
    ]
    numbers += [n * 1.1 for n in range(500)]
    numbers += [0.1, 1e21, 1e-7, 2.0**62, 2.0**63, 5e-324, 1e-5, 123456789012345678.0]
    for number in numbers:
        if number == number:
            oracle.one("ZADD", "k", repr(number), "m")
            oracle.expect(format_double(number), "ZSCORE", "k", "m")


@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(0, 5))
def test_span(start: int, stop: int, length: int) -> None:
    first, end = span(start, stop, length)
    places = range(length)
    low = start if start >= 0 else start + length
    high = stop if stop >= 0 else stop + length
    assert [*places[first:end]] == [place for place in places if low <= place <= high]
