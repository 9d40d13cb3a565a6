"""Sorted sets against a real server: every kind of range, options, encodings, algebra."""

import random
from math import inf, nan
from typing import Any

import pytest

from node.data import zset as zsets
from node.data.limits import Limits
from node.data.number import format_double
from node.data.set import Set
from node.data.zset import ADDED, GT, INCR, LT, NX, UNCHANGED, UPDATED, XX, NotANumber, ZSet

SCORES = [0.0, -0.0, 1.0, 2.5, -3.25, 0.1, 1e17, 1e20, 1.5e-7, 123456.789, inf, -inf]


def with_scores(found: list[tuple[float, bytes]]) -> list[bytes]:
    return [part for score, member in found for part in (member, format_double(score))]


def score_bound(rng: random.Random) -> tuple[tuple[float, bool], bytes]:
    score, excluded = rng.choice(SCORES), rng.random() < 0.4
    return (score, excluded), b"(" * excluded + format_double(score)


def lex_bound(rng: random.Random, infinite: bytes) -> tuple[tuple[bytes, bool] | None, bytes]:
    if rng.random() < 0.2:
        return None, infinite
    text, excluded = bytes(rng.choices(b"abc", k=rng.randrange(3))), rng.random() < 0.4
    return (text, excluded), (b"(" if excluded else b"[") + text


def ranges(rng: random.Random, ours: ZSet, oracle: Any, key: str) -> None:
    size, reverse = len(ours), rng.random() < 0.5
    rev = ("REV",) * reverse
    a, b = rng.randint(-size - 2, size + 2), rng.randint(-size - 2, size + 2)
    found = with_scores(ours.by_rank(a, b, reverse=reverse))
    oracle.expect(found, "ZRANGE", key, a, b, *rev, "WITHSCORES")
    offset, count = rng.randrange(4), rng.randint(-1, 5)
    limit = ("LIMIT", offset, count)
    (low, low_text), (high, high_text) = score_bound(rng), score_bound(rng)
    ends = (high_text, low_text) if reverse else (low_text, high_text)
    found = with_scores(ours.by_score(low, high, reverse=reverse, offset=offset, count=count))
    oracle.expect(found, "ZRANGE", key, *ends, "BYSCORE", *rev, *limit, "WITHSCORES")
    oracle.expect(ours.count_by_score(low, high), "ZCOUNT", key, low_text, high_text)
    same_score = len(set(ours.scores.values())) == 1
    if same_score or not ours.large:
        if not same_score:
            offset = 0  # Redis skips without looking at what it skips
        limit = ("LIMIT", offset, count)
        (first, first_text), (last, last_text) = lex_bound(rng, b"-"), lex_bound(rng, b"+")
        ends = (last_text, first_text) if reverse else (first_text, last_text)
        found_lex = ours.by_lex(first, last, reverse=reverse, offset=offset, count=count)
        members = [member for _, member in found_lex]
        oracle.expect(members, "ZRANGE", key, *ends, "BYLEX", *rev, *limit)
        oracle.expect(ours.count_by_lex(first, last), "ZLEXCOUNT", key, first_text, last_text)


def change(rng: random.Random, ours: ZSet, oracle: Any, key: str, scores: list[float]) -> None:
    member, score = bytes(rng.choices(b"abcd", k=rng.randrange(4))), rng.choice(scores)
    if rng.random() < 0.01:
        member = b"m" * rng.choice([64, 65])
    text = format_double(score)
    match rng.randrange(10):
        case 0 | 1 | 2 | 3:
            outcome = ours.put(member, score)
            oracle.expect(int(outcome != UNCHANGED), "ZADD", key, "CH", text, member)
        case 4 | 5:
            flags, words = rng.choice(
                [(NX, ["NX"]), (XX, ["XX"]), (GT, ["GT"]), (LT, ["LT"]), (XX | GT, ["XX", "GT"])]
            )
            outcome, _ = ours.add(member, score, flags)
            oracle.expect(int(outcome == ADDED), "ZADD", key, *words, text, member)
        case 6:
            flags, words = rng.choice(
                [(0, []), (NX, ["NX"]), (GT, ["GT"]), (XX | LT, ["XX", "LT"])]
            )
            try:
                _, now = ours.add(member, score, flags | INCR)
            except NotANumber:
                return
            reply = None if now is None else format_double(now)
            oracle.expect(reply, "ZADD", key, *words, "INCR", text, member)
        case 7:
            oracle.expect(int(ours.remove(member)), "ZREM", key, member)
        case 8:
            a = rng.randint(0, max(len(ours), 1))
            match rng.randrange(4):
                case 0:
                    oracle.expect(
                        len(ours.remove_by_rank(a, a + 1)), "ZREMRANGEBYRANK", key, a, a + 1
                    )
                case 1:
                    (low, low_text), (high, high_text) = score_bound(rng), score_bound(rng)
                    if rng.random() < 0.2:
                        removed = ours.remove_by_score(low, high)
                        oracle.expect(len(removed), "ZREMRANGEBYSCORE", key, low_text, high_text)
                case 2:
                    oracle.expect(with_scores(ours.pop_min(2)), "ZPOPMIN", key, 2)
                case 3:
                    oracle.expect(with_scores(ours.pop_max(1)), "ZPOPMAX", key)
        case 9:
            oracle.expect(ours.rank(member), "ZRANK", key, member)
            oracle.expect(ours.rank(member, reverse=True), "ZREVRANK", key, member)


@pytest.mark.parametrize("same_score", [False, True])
def test_agrees_with_a_real_server(oracle, same_score: bool) -> None:
    rng = random.Random(11 + same_score)
    limits = Limits()
    limits.zset_max_listpack_entries = 24
    oracle.one("CONFIG", "SET", "zset-max-listpack-entries", 24)
    for round_ in range(12):
        key, ours = f"k{round_}", ZSet(limits)
        scores = [rng.choice([-1.0, 0.0, 7.0])] if same_score else SCORES
        for _ in range(120):
            change(rng, ours, oracle, key, scores)
            if rng.random() < 0.3:
                ranges(rng, ours, oracle, key)
            if not ours:
                ours = ZSet(limits)
            else:
                oracle.expect(ours.encoding(), "OBJECT", "ENCODING", key)
            ours.check()
        twin = ours.copy()
        twin.check()
        assert twin == ours


def test_the_order_is_kept_up_in_a_large_set() -> None:
    rng = random.Random(12)
    ours = ZSet(Limits())
    for _ in range(6000):
        member = b"%d" % rng.randrange(3000)
        if rng.random() < 0.8:
            ours.put(member, float(rng.randrange(100)))
        else:
            ours.remove(member)
    ours.check()
    assert ours.is_ordered()
    expected = sorted((score, member) for member, score in ours.scores.items())
    assert ours.by_rank(0, -1) == expected
    assert ours.by_score((10, False), (20, True)) == [p for p in expected if 10 <= p[0] < 20]
    assert ours.remove_by_rank(5, 1500) == expected[5:1501]
    ours.check()


def test_encoding_of_a_key_made_by_many_pairs(oracle) -> None:
    for count, longest in ((128, 1), (129, 1), (2, 64), (2, 65)):
        pairs = [part for number in range(count) for part in (number, b"m" * longest)]
        ours = ZSet(Limits())
        ours.expect(count, longest)
        ours.put(b"m" * longest, 1.0)
        oracle.one("DEL", "k")
        oracle.one("ZADD", "k", *pairs)
        assert ours.encoding() == oracle.one("OBJECT", "ENCODING", "k")


def test_increment_to_nan_is_refused() -> None:
    ours = ZSet(Limits(), {b"a": inf})
    with pytest.raises(NotANumber):
        ours.add(b"a", -inf, INCR)
    with pytest.raises(NotANumber):
        ours.add(b"b", nan, 0)
    assert ours.add(b"a", 1.0, INCR) == (UNCHANGED, inf)
    assert ours.add(b"a", 1.0, 0) == (UPDATED, 1.0)


def test_algebra_agrees_with_a_real_server(oracle) -> None:
    rng = random.Random(13)
    weights_of = [1.0, 0.0, -1.0, 2.5, inf]
    for _ in range(150):
        oracle.one("FLUSHALL")
        values: list[ZSet | Set | None] = []
        for number in range(rng.randint(1, 4)):
            members = {
                bytes(rng.choices(b"abc", k=rng.randrange(3))): rng.choice(SCORES)
                for _ in range(rng.randrange(12))
            }
            if not members:
                values.append(None)
            elif rng.random() < 0.3:
                values.append(Set(Limits(), members))
                oracle.one("SADD", f"z{number}", *members)
            else:
                pairs = [p for m, s in members.items() for p in (format_double(s), m)]
                values.append(ZSet(Limits(), members))
                oracle.one("ZADD", f"z{number}", *pairs)
        keys = [f"z{number}" for number in range(len(values))]
        weights = [rng.choice(weights_of) for _ in keys]
        aggregate, limit = rng.choice(zsets.AGGREGATES), rng.randrange(3)
        how = ("WEIGHTS", *map(format_double, weights), "AGGREGATE", aggregate, "WITHSCORES")
        for command, function in (("ZUNION", zsets.union), ("ZINTER", zsets.intersection)):
            ours = ZSet(Limits(), function(values, weights, aggregate))
            found = with_scores(ours.by_rank(0, -1))
            oracle.expect(found, command, len(keys), *keys, *how, compare=same_zeros)
        found = with_scores(ZSet(Limits(), zsets.difference(values)).by_rank(0, -1))
        oracle.expect(found, "ZDIFF", len(keys), *keys, "WITHSCORES", compare=same_zeros)
        card = len(zsets.intersection(values, limit=limit))
        oracle.expect(card, "ZINTERCARD", len(keys), *keys, "LIMIT", limit)
        oracle.settle()


def same_zeros(ours: list[bytes], real: list[bytes]) -> bool:
    return [b"0" if p == b"-0" else p for p in ours] == [b"0" if p == b"-0" else p for p in real]
