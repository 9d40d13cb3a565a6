"""Globs: by example, against a real server, and in bounded time."""

import random
import time

import pytest

from node.data.pattern import compiled, matches


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        (b"*", b"x", True),
        (b"*", b"", False),
        (b"", b"", True),
        (b"h?llo", b"hello", True),
        (b"h?llo", b"hllo", False),
        (b"h[ae]llo", b"hallo", True),
        (b"h[^e]llo", b"hello", False),
        (b"h[a-b]llo", b"hbllo", True),
        (b"h[b-a]llo", b"hallo", True),
        (b"a\\*c", b"a*c", True),
        (b"a\\*c", b"abc", False),
        (b"[", b"[", False),
        (b"[]", b"]", False),
        (b"[^]", b"]", True),
        (b"[a-]x", b"b", False),
        (b"a\nb*", b"a\nb\n", True),
        (b"x\\", b"x\\", True),
    ],
)
def test_examples(pattern: bytes, value: bytes, expected: bool) -> None:
    assert matches(pattern, value) is expected


def test_case_can_be_ignored() -> None:
    assert compiled(b"MaxMem*", True)(b"maxmemory")
    assert not compiled(b"MaxMem*")(b"maxmemory")
    assert not compiled(b"[A-z]", True)(b"_"), "the range is a to z, both made lower"


def test_stars_do_not_explode() -> None:
    started = time.process_time()
    assert not matches(b"a*" * 50 + b"b", b"a" * 20000)
    assert not matches(b"*a?" * 30 + b"*b", b"a" * 5000)
    assert time.process_time() - started < 1.0


def test_agrees_with_a_real_server(oracle) -> None:
    rng = random.Random(5)
    values = sorted({bytes(rng.choices(b"ab-]^\\[*", k=rng.randint(0, 6))) for _ in range(400)})
    oracle.one("MSET", *[part for value in values for part in (value, "x")])
    for _ in range(1500):
        pattern = bytes(rng.choices(b"aab--]^\\[[*?", k=rng.randint(0, 8)))
        if pattern == b"*":
            continue  # KEYS answers that one without looking
        ours = sorted(value for value in values if matches(pattern, value))
        oracle.expect(ours, "KEYS", pattern, compare=lambda a, b: a == sorted(b))


def test_a_thousand_stars_are_the_most() -> None:
    assert matches(b"*?" * 999 + b"*", b"a" * 2000)
    assert not matches(b"*?" * 1002, b"a" * 2000)
