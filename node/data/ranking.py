"""Members in order of score and then of bytes, in chunks whose scores lie side by side.

A search halves an array of C doubles, so among a million members it touches a dozen cache lines.
With pairs in one sorted list each step follows a pair, its score and its member to three places of
the heap, and waits for memory at each: at that size a new score took twice as long.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Scored = tuple[float, bytes]

CHUNK = 256  # members of a chunk when it is new: it is split at twice that, joined below a quarter


class Ranking:
    """Pairs (score, member), each member once; no score is NaN.

    A place counts from the lowest pair, which has 0. Costs are for N members, of which M are
    returned; counts of places are kept from the first time that somebody asks for one.
    """

    __slots__ = ("_lasts", "_members", "_scores", "_tops", "_tree")

    def __init__(self, pairs: Iterable[Scored] = ()) -> None:
        """A ranking of `pairs`, in any order. O(N log N)."""
        ordered = sorted(pairs)
        starts = range(0, len(ordered), CHUNK)
        chunks = [tuple(zip(*ordered[i : i + CHUNK], strict=True)) for i in starts]
        self._scores = [array("d", scores) for scores, _ in chunks]
        self._members: list[list[bytes]] = [list(members) for _, members in chunks]
        self._tops = array("d", [scores[-1] for scores in self._scores])  # each chunk's last pair
        self._lasts = [members[-1] for members in self._members]
        self._tree: list[int] | None = None  # a Fenwick tree of how many members the chunks have

    def __iter__(self) -> Iterator[Scored]:
        for scores, members in zip(self._scores, self._members, strict=True):
            yield from zip(scores, members, strict=True)

    def add(self, score: float, member: bytes) -> None:
        """Add a member that is not there yet. O(log N)."""
        if not self._tops:
            self._replace(0, 0, array("d", [score]), [member])
            return
        at, place = self._find(score, member)
        scores = self._scores[at]
        scores.insert(place, score)
        self._members[at].insert(place, member)
        if place == len(scores) - 1:
            self._tops[at], self._lasts[at] = score, member
        if len(scores) > 2 * CHUNK:
            self._replace(at, at + 1, scores, self._members[at])
        elif self._tree is not None:
            _count(self._tree, at, 1)

    def remove(self, score: float, member: bytes) -> bytes:
        """Remove a member that is there with its score; returns it as it was added. O(log N)."""
        return self._take(*self._find(score, member))[1]

    def pop(self, place: int) -> Scored:
        """Remove and return the pair at a place, which there is; -1 is the last. O(log N)."""
        if place < 0:
            return self._take(len(self._tops) - 1, len(self._scores[-1]) - 1)
        return self._take(*self._locate(place))

    def first_score(self) -> float:
        """The lowest score of a ranking that isn't empty. O(1)."""
        return self._scores[0][0]

    def last_score(self) -> float:
        """The highest score of a ranking that isn't empty. O(1)."""
        return self._tops[-1]

    def place(self, score: float, member: bytes) -> int:
        """How many pairs are below this one, which needn't be there. O(log N)."""
        if not self._tops:
            return 0
        at, place = self._find(score, member)
        return self._before(at) + place

    def below(self, score: float, *, including: bool = False) -> int:
        """How many pairs have a lower score, or with `including` one no higher. O(log N)."""
        bisect = bisect_right if including else bisect_left
        at = bisect(self._tops, score)
        inside = bisect(self._scores[at], score) if at < len(self._tops) else 0
        return self._before(at) + inside

    def read(self, first: int, end: int) -> list[Scored]:
        """The pairs from the place `first` up to but without `end`, all of which there are.

        O(log N + M).
        """
        found: list[Scored] = []
        for at, part in self._parts(first, end):
            found.extend(zip(self._scores[at][part], self._members[at][part], strict=True))
        return found

    def read_members(self, first: int, end: int) -> list[bytes]:
        """As read(), without the scores."""
        found: list[bytes] = []
        for at, part in self._parts(first, end):
            found += self._members[at][part]
        return found

    def cut(self, first: int, end: int) -> list[Scored]:
        """Remove what read() would return, and return it. O(log N + M)."""
        found = self.read(first, end)
        if not found:
            return found
        (at, start), (last, stop) = self._locate(first), self._locate(end - 1)
        if at == last:
            del self._scores[at][start : stop + 1]
            del self._members[at][start : stop + 1]
            self._shrunk(at, start, len(found))
        else:
            scores = self._scores[at][:start] + self._scores[last][stop + 1 :]
            members = self._members[at][:start] + self._members[last][stop + 1 :]
            self._replace(at, last + 1, scores, members)
        return found

    def check(self) -> None:
        """Assert the invariants. O(N)."""
        pairs = list(self)
        assert pairs == sorted(pairs)
        assert all(0 < len(members) <= 2 * CHUNK for members in self._members)
        assert [len(scores) for scores in self._scores] == [len(m) for m in self._members]
        assert list(self._tops) == [scores[-1] for scores in self._scores]
        assert self._lasts == [members[-1] for members in self._members]
        if self._tree is not None:
            kept, self._tree = self._tree, None
            assert kept == self._lengths()

    # --- chunks -----------------------------------------------------------------------------------

    def _find(self, score: float, member: bytes) -> tuple[int, int]:
        """The chunk where a pair is or belongs, and its place there."""
        tops = self._tops
        at = bisect_left(tops, score)
        if at == len(tops):
            return at - 1, len(self._scores[-1])
        if tops[at] == score:  # several chunks may end with this score
            end = bisect_right(tops, score, at)
            at = bisect_left(self._lasts, member, at, end)
            if at == len(tops):
                return at - 1, len(self._scores[-1])
        scores = self._scores[at]
        place = bisect_left(scores, score)
        if place < len(scores) and scores[place] == score:
            end = place + 1
            if end < len(scores) and scores[end] == score:
                end = bisect_right(scores, score, end)
            place = bisect_left(self._members[at], member, place, end)
        return at, place

    def _take(self, at: int, place: int) -> Scored:
        pair = self._scores[at].pop(place), self._members[at].pop(place)
        self._shrunk(at, place, 1)
        return pair

    def _shrunk(self, at: int, place: int, members: int) -> None:
        """Keep up what is known of a chunk that has lost so many members at a place."""
        scores = self._scores[at]
        if not scores or (len(scores) < CHUNK // 4 and len(self._tops) > 1):
            self._join(at)
            return
        if place == len(scores):
            self._tops[at], self._lasts[at] = scores[-1], self._members[at][-1]
        if self._tree is not None:
            _count(self._tree, at, -members)

    def _join(self, at: int) -> None:
        """Put a chunk that has become small together with one beside it."""
        first = max(at - 1, 0)
        scores, members = array("d"), list[bytes]()
        for chunk in range(first, min(first + 2, len(self._tops))):
            scores += self._scores[chunk]
            members += self._members[chunk]
        self._replace(first, first + 2, scores, members)

    def _replace(self, first: int, end: int, scores: array[float], members: list[bytes]) -> None:
        """Put one chunk in the place of some: none if it is empty, two halves if it is too long."""
        half = len(members) // 2 if len(members) > 2 * CHUNK else 0
        parts = [part for part in (slice(half), slice(half, None)) if members[part]]
        self._scores[first:end] = [scores[part] for part in parts]
        self._members[first:end] = [members[part] for part in parts]
        self._tops[first:end] = array("d", [scores[part][-1] for part in parts])
        self._lasts[first:end] = [members[part][-1] for part in parts]
        self._tree = None

    # --- places -----------------------------------------------------------------------------------

    def _locate(self, place: int) -> tuple[int, int]:
        """The chunk of a place that there is, and the place within it."""
        if place < len(self._scores[0]):
            return 0, place
        tree = self._lengths()
        at, step = 0, 1 << (len(tree).bit_length() - 1)
        while step:
            if at + step < len(tree) and tree[at + step] <= place:
                at += step
                place -= tree[at]
            step >>= 1
        return at, place

    def _parts(self, first: int, end: int) -> Iterator[tuple[int, slice]]:
        """Where the places from `first` up to but without `end` are: chunks, and parts of them."""
        if first >= end:
            return
        at, place = self._locate(first)
        missing = end - first
        while missing > 0:
            yield at, slice(place, place + missing)
            missing -= len(self._members[at]) - place
            at, place = at + 1, 0

    def _before(self, at: int) -> int:
        """How many members the chunks before this one have."""
        if at == 0:
            return 0
        tree, members = self._lengths(), 0
        while at:
            members += tree[at]
            at &= at - 1
        return members

    def _lengths(self) -> list[int]:
        """The Fenwick tree: at i it has the sum of the i & -i chunks that end with the i-th."""
        tree = self._tree
        if tree is None:
            tree = self._tree = [0, *map(len, self._members)]
            for i in range(1, len(tree)):
                above = i + (i & -i)
                if above < len(tree):
                    tree[above] += tree[i]
        return tree


def _count(tree: list[int], at: int, change: int) -> None:
    """Note in a Fenwick tree that a chunk has more or fewer members."""
    at += 1
    while at < len(tree):
        tree[at] += change
        at += at & -at
