"""The sorted set: a dict of scores, and the members in order of score and then of bytes.

The ordered half is built when something first asks for an order, or when the set grows past
`_EAGER`, and is kept up from then on: so small sets that are only written to pay for a dict, and
no reader ever waits for a large sort.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING

from node.data.limits import Limits
from node.data.order import Order, draw
from node.data.ranking import Ranking, Scored
from node.data.set import Set
from node.data.span import span

if TYPE_CHECKING:
    from random import Random

NX, XX, GT, LT, INCR = 1, 2, 4, 8, 16  # what ZADD may be told
UNCHANGED, UPDATED, ADDED = 0, 1, 2  # what became of a member
_EAGER = 1024

ScoreBound = tuple[float, bool]  # a score, and whether it is left out
LexBound = tuple[bytes, bool] | None  # a string, and whether it is left out; None: no bound


class NotANumber(ArithmeticError):
    """An increment by which a score would become not-a-number."""


class ZSet:
    """Members with scores; `scores` may be read by anybody.

    Results are pairs (score, member). Ranges follow Redis: by places like LRANGE, by scores or
    strings with bounds; `reverse` counts and reads from the highest. Costs are for N members, of
    which M are returned; the first ordered access to a set that had none costs O(N log N) once.
    """

    __slots__ = ("_order", "_ranking", "large", "limits", "scores")

    def __init__(self, limits: Limits, scores: dict[bytes, float] | None = None) -> None:
        """A sorted set of `scores`, which it takes over and which holds no NaN. O(N)."""
        self.scores: dict[bytes, float] = {} if scores is None else scores
        self.limits = limits
        self.large = False
        self._ranking: Ranking | None = None
        self._order: Order | None = None
        if scores:
            self._measure(scores)

    def __len__(self) -> int:
        return len(self.scores)

    def __eq__(self, other: object) -> bool:
        return self.scores == other.scores if isinstance(other, ZSet) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def encoding(self) -> bytes:
        """What OBJECT ENCODING says. O(1)."""
        return b"skiplist" if self.large else b"listpack"

    def copy(self) -> ZSet:
        """An independent sorted set with the same scores and encoding. O(N)."""
        twin = ZSet(self.limits)
        twin.scores = self.scores.copy()
        twin.large = self.large
        if len(self) > _EAGER:
            twin._ranked()
        return twin

    def is_ordered(self) -> bool:
        """Whether an ordered access has been made, so that the order is kept. O(1)."""
        return self._ranking is not None

    def put(self, member: bytes, score: float) -> int:
        """Give a member a score (no NaN), as ZADD without options.

        Returns ADDED, UPDATED or UNCHANGED. O(log N), O(1) while the order was never asked for.
        """
        scores = self.scores
        old = scores.get(member)
        if old == score:
            return UNCHANGED
        if not self.large:
            if old is None:
                self._expect_one(member)
            if not self.large:
                score += 0.0  # a listpack holds no negative zero
        scores[member] = score
        ranking = self._ranking
        if old is not None:
            if ranking is not None:
                ranking.add(score, ranking.remove(old, member))
            return UPDATED
        if ranking is not None:
            ranking.add(score, member)
        if self._order is not None:
            self._order.append(member)
        if ranking is None and len(scores) > _EAGER:
            self._ranked()
        return ADDED

    def add(self, member: bytes, score: float, flags: int) -> tuple[int, float | None]:
        """Give a member a score under ZADD's options, an `|` of NX, XX, GT, LT and INCR.

        Returns what became of it, and its score now, or None where INCR was held back by another
        option. Raises NotANumber. Complexity as for put().
        """
        old = self.scores.get(member)
        if len(member) > self.limits.zset_max_listpack_value:
            self.large = True  # even if it is not added in the end
        if (flags & NX and old is not None) or (flags & XX and old is None):
            return UNCHANGED, None
        if flags & INCR and old is not None:
            score += old
        if isnan(score):
            raise NotANumber
        held_back = old is not None and (
            (flags & GT and score <= old) or (flags & LT and score >= old)
        )
        if held_back:
            return UNCHANGED, None
        return self.put(member, score), score

    def expect(self, count: int, longest: int) -> None:
        """Choose the encoding as ZADD does, by the number of pairs it was given, repeated or not.

        `longest` is the length of the longest member. For a command with several pairs, before it
        adds them. O(1).
        """
        limits = self.limits
        if count > limits.zset_max_listpack_entries or longest > limits.zset_max_listpack_value:
            self.large = True

    def score(self, member: bytes) -> float | None:
        """The score of a member, or None. O(1)."""
        return self.scores.get(member)

    def remove(self, member: bytes) -> bool:
        """Remove a member; True if there was one. O(log N)."""
        score = self.scores.pop(member, None)
        if score is None:
            return False
        if self._ranking is not None:
            self._ranking.remove(score, member)
        if self._order is not None:
            self._order.drop(member)
        return True

    def pairs(self) -> list[Scored]:
        """All members as (score, member) in ascending order. O(N), O(N log N) without an order."""
        if self._ranking is None:
            return sorted(zip(self.scores.values(), self.scores, strict=True))
        return list(self._ranking)

    def rank(self, member: bytes, *, reverse: bool = False) -> int | None:
        """The place of a member in the order, or None. O(log N)."""
        score = self.scores.get(member)
        if score is None:
            return None
        place = self._ranked().place(score, member)
        return len(self.scores) - 1 - place if reverse else place

    def by_rank(self, start: int, stop: int, *, reverse: bool = False) -> list[Scored]:
        """The members at the places `start` to `stop`, both included. O(log N + M)."""
        return self._read(*span(start, stop, len(self.scores)), reverse)

    def members_by_rank(self, start: int, stop: int, *, reverse: bool = False) -> list[bytes]:
        """As by_rank, without the scores. O(log N + M)."""
        first, end = self._ascending(*span(start, stop, len(self.scores)), reverse)
        found = self._ranked().read_members(first, end)
        if reverse:
            found.reverse()
        return found

    def by_score(
        self,
        low: ScoreBound,
        high: ScoreBound,
        *,
        reverse: bool = False,
        offset: int = 0,
        count: int = -1,
    ) -> list[Scored]:
        """The members with scores between two bounds, after `offset`, `count` of them (-1: all).

        O(log N + M).
        """
        return self._page(self._score_span(low, high), reverse, offset, count)

    def by_lex(
        self,
        low: LexBound,
        high: LexBound,
        *,
        reverse: bool = False,
        offset: int = 0,
        count: int = -1,
    ) -> list[Scored]:
        """The members between two strings, where all scores are equal. O(log N + M).

        With different scores it reads on from the first member in range to the first that is not.
        """
        return self._page(self._lex_span(low, high, reverse), reverse, offset, count)

    def count_by_score(self, low: ScoreBound, high: ScoreBound) -> int:
        """How many members have scores between two bounds. O(log N)."""
        first, end = self._score_span(low, high)
        return end - first

    def count_by_lex(self, low: LexBound, high: LexBound) -> int:
        """How many members lie between two strings, where all scores are equal. O(log N)."""
        first, end = self._lex_span(low, high, False)
        return end - first

    def remove_by_rank(self, start: int, stop: int) -> list[Scored]:
        """Remove the members at the places `start` to `stop` and return them. O(log N + M)."""
        return self._cut(*span(start, stop, len(self.scores)))

    def remove_by_score(self, low: ScoreBound, high: ScoreBound) -> list[Scored]:
        """Remove the members with scores between two bounds and return them. O(log N + M)."""
        return self._cut(*self._score_span(low, high))

    def remove_by_lex(self, low: LexBound, high: LexBound) -> list[Scored]:
        """Remove the members between two strings and return them. O(log N + M)."""
        return self._cut(*self._lex_span(low, high, False))

    def pop_min(self, count: int = 1) -> list[Scored]:
        """Remove and return the members with the lowest scores, lowest first. O(log N * count)."""
        if count == 1 and self.scores:
            return [self._take(0)]
        return self._cut(0, min(count, len(self.scores)))

    def pop_max(self, count: int = 1) -> list[Scored]:
        """Remove and return the members with the highest scores, highest first.

        O(log N * count)."""
        if count == 1 and self.scores:
            return [self._take(-1)]
        size = len(self.scores)
        return self._cut(max(size - count, 0), size)[::-1]

    def _take(self, place: int) -> Scored:
        """Remove and return the member at a place."""
        found = self._ranked().pop(place)
        del self.scores[found[1]]
        if self._order is not None:
            self._order.drop(found[1])
        return found

    def scan(self, cursor: int, count: int) -> tuple[int, list[Scored]]:
        """A step of ZSCAN: the next cursor (0: done) and members. O(count).

        A listpack is returned at once, in order.
        """
        if not self.large:
            return 0, self.pairs()
        following, found = self._drawable().walk(cursor, count)
        return following, [(self.scores[member], member) for member in found]

    def draw(self, count: int, random: Random) -> list[bytes]:
        """Random members: distinct for a positive count, with repeats for a negative. O(count)."""
        if self.large and count < len(self.scores):
            return draw(self._drawable().order, count, random)
        return draw([member for _, member in self.pairs()], count, random)

    def _ranked(self) -> Ranking:
        """Built when first asked for, then kept up. O(N log N) the first time."""
        if self._ranking is None:
            self._ranking = Ranking(zip(self.scores.values(), self.scores, strict=True))
        return self._ranking

    def _drawable(self) -> Order:
        """Built when first asked for, then kept up. O(N) the first time."""
        if self._order is None:
            self._order = Order(self.scores)
        return self._order

    def _expect_one(self, member: bytes) -> None:
        """Change the encoding if the new member that is about to come calls for it."""
        limits = self.limits
        if (
            len(self.scores) >= limits.zset_max_listpack_entries
            or len(member) > limits.zset_max_listpack_value
        ):
            self.large = True

    def _measure(self, scores: dict[bytes, float]) -> None:
        limits = self.limits
        self.large = (
            len(scores) > limits.zset_max_listpack_entries
            or max(map(len, scores)) > limits.zset_max_listpack_value
        )
        if not self.large and 0.0 in scores.values():
            for member, score in scores.items():
                if score == 0:
                    scores[member] = 0.0
        if len(scores) > _EAGER:
            self._ranked()

    def _read(self, first: int, end: int, reverse: bool) -> list[Scored]:
        found = self._ranked().read(*self._ascending(first, end, reverse))
        if reverse:
            found.reverse()
        return found

    def _ascending(self, first: int, end: int, reverse: bool) -> tuple[int, int]:
        """Places that are counted from the highest if `reverse`, counted from the lowest."""
        size = len(self.scores)
        return (size - end, size - first) if reverse else (first, end)

    def _page(
        self, places: tuple[int, int], reverse: bool, offset: int, count: int
    ) -> list[Scored]:
        first, end = places
        if offset < 0 and self.large:
            offset += end - first  # as in Redis, where a skiplist is asked for the n-th node
        if offset < 0:
            return []
        if reverse:
            size = len(self.scores)
            first, end = size - end, size - first
        first += offset
        if count >= 0:
            end = min(end, first + count)
        return self._read(first, end, reverse)

    def _score_span(self, low: ScoreBound, high: ScoreBound) -> tuple[int, int]:
        ranking = self._ranked()
        first = ranking.below(low[0], including=low[1])
        end = ranking.below(high[0], including=not high[1])
        return (first, end) if first < end else (0, 0)

    def _lex_span(self, low: LexBound, high: LexBound, reverse: bool) -> tuple[int, int]:
        if not self.scores:
            return 0, 0
        ranking = self._ranked()
        score = ranking.first_score()
        if score != ranking.last_score():
            return self._lex_run(low, high, reverse)
        first, end = 0, len(self.scores)
        if low is not None:
            first = ranking.place(score, _after(low[0]) if low[1] else low[0])
        if high is not None:
            end = ranking.place(score, high[0] if high[1] else _after(high[0]))
        return (first, end) if first < end else (0, 0)

    def _lex_run(self, low: LexBound, high: LexBound, reverse: bool) -> tuple[int, int]:
        """What Redis returns for different scores, where the outcome is not specified. O(N)."""
        size = len(self.scores)
        found = self._read(0, size, False)
        if not (_is_above(found[-1][1], low) and _is_below(found[0][1], high)):
            return 0, 0
        first = end = -1
        for place, (_, member) in enumerate(reversed(found) if reverse else found):
            above, below = _is_above(member, low), _is_below(member, high)
            if first < 0 and (below if reverse else above):
                first = place
            if first >= 0:
                if not (above if reverse else below):
                    break
                end = place + 1
        if end < 0:
            return 0, 0
        return (size - end, size - first) if reverse else (first, end)

    def _cut(self, first: int, end: int) -> list[Scored]:
        found = self._ranked().cut(first, end)
        for _, member in found:
            del self.scores[member]
            if self._order is not None:
                self._order.drop(member)
        return found

    def check(self) -> None:
        """Assert the invariants. O(N log N)."""
        assert all(type(m) is bytes and type(s) is float for m, s in self.scores.items())
        assert not any(isnan(score) for score in self.scores.values())
        expected = sorted(zip(self.scores.values(), self.scores, strict=True))
        if self._ranking is not None:
            self._ranking.check()
            assert list(self._ranking) == expected
        assert self._ranking is not None or len(expected) <= _EAGER
        if self._order is not None:
            self._order.check()
            assert set(self._order.order) == set(self.scores)
        if not self.large:
            assert not any(str(score) == "-0.0" for score in self.scores.values())


def _after(member: bytes) -> bytes:
    """The lowest string above this one."""
    return member + b"\0"


def _is_above(member: bytes, low: LexBound) -> bool:
    return low is None or member > low[0] or (member == low[0] and not low[1])


def _is_below(member: bytes, high: LexBound) -> bool:
    return high is None or member < high[0] or (member == high[0] and not high[1])


# ZUNION, ZINTER and ZDIFF take sorted sets and plain ones, whose scores count as 1.
Source = ZSet | Set | None
AGGREGATES = ("SUM", "MIN", "MAX")


def union(
    sources: Sequence[Source], weights: Sequence[float] = (), aggregate: str = "SUM"
) -> dict[bytes, float]:
    """The members of any source with their aggregated scores; None is empty. O(N) of all."""
    found: dict[bytes, float] = {}
    for source, weight in _by_size(sources, weights):
        for member, score in _scores(source).items():
            score = _times(weight, score)
            old = found.get(member)
            found[member] = score if old is None else _merge(old, score, aggregate)
    return found


def intersection(
    sources: Sequence[Source],
    weights: Sequence[float] = (),
    aggregate: str = "SUM",
    limit: int = 0,
) -> dict[bytes, float]:
    """The members of all sources, at most `limit` (0: all), with aggregated scores. O(N*M)."""
    (smallest, weight), *others = _by_size(sources, weights)
    rest = [(_scores(source), factor) for source, factor in others]
    found: dict[bytes, float] = {}
    for member, score in _scores(smallest).items():
        if not all(member in scores for scores, _ in rest):
            continue
        total = _times(weight, score)
        for scores, factor in rest:
            # Unlike in a union, 0 * inf is not taken for 0 here: a sum with it is.
            total = _merge(total, factor * scores[member], aggregate)
        found[member] = total
        if len(found) == limit:
            break
    return found


def difference(sources: Sequence[Source]) -> dict[bytes, float]:
    """The members of the first source that no other has, with their scores. O(N*M)."""
    first, *others = sources
    rest = [_scores(other) for other in others]
    return {
        member: score
        for member, score in _scores(first).items()
        if not any(member in scores for scores in rest)
    }


def _by_size(sources: Sequence[Source], weights: Sequence[float]) -> list[tuple[Source, float]]:
    factors = weights or [1.0] * len(sources)
    paired = zip(sources, factors, strict=True)
    return sorted(paired, key=lambda pair: 0 if pair[0] is None else len(pair[0]))


def _scores(source: Source) -> Mapping[bytes, float]:
    if source is None:
        return {}
    return source.scores if isinstance(source, ZSet) else dict.fromkeys(source.members(), 1.0)


def _times(weight: float, score: float) -> float:
    product = weight * score
    return 0.0 if isnan(product) else product


def _merge(left: float, right: float, aggregate: str) -> float:
    if aggregate == "MIN":
        return right if right < left else left
    if aggregate == "MAX":
        return right if right > left else left
    total = left + right
    return 0.0 if isnan(total) else total
