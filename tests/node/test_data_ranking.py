"""A ranking against a plain sorted list of pairs: with many chunks, and with many equal scores."""

import random
from bisect import bisect_left, insort
from math import inf

import pytest

from node.data import ranking
from node.data.ranking import Ranking, Scored


@pytest.fixture(autouse=True)
def short_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranking, "CHUNK", 8)


class Pair:
    """A ranking and the sorted list that it must be like."""

    def __init__(self, rng: random.Random, scores: list[float], size: int) -> None:
        self.rng, self.scores = rng, scores
        self.known = {b"%d" % rng.randrange(10 * size): rng.choice(scores) for _ in range(size)}
        self.expected = sorted((score, member) for member, score in self.known.items())
        self.ours = Ranking((score, member) for member, score in self.known.items())

    def add(self) -> None:
        member, score = b"%d" % self.rng.randrange(5000), self.rng.choice(self.scores)
        if member not in self.known:
            self.known[member] = score
            insort(self.expected, (score, member))
            self.ours.add(score, member)

    def remove(self) -> None:
        if self.known:
            member = self.rng.choice(list(self.known))
            score = self.known.pop(member)
            del self.expected[bisect_left(self.expected, (score, member))]
            assert self.ours.remove(score, bytes(bytearray(member))) == member

    def pop(self) -> None:
        if self.known:
            place = self.rng.choice([0, -1, self.rng.randrange(len(self.known))])
            pair = self.ours.pop(place)
            assert pair == self.expected.pop(place)
            del self.known[pair[1]]

    def cut(self) -> None:
        first, end = self.places(self.rng.choice([3, 40]))
        assert self.ours.cut(first, end) == self.forget(first, end)

    def forget(self, first: int, end: int) -> list[Scored]:
        gone = self.expected[first:end]
        del self.expected[first:end]
        for _, member in gone:
            del self.known[member]
        return gone

    def places(self, most: int) -> tuple[int, int]:
        first = self.rng.randint(0, len(self.expected))
        return first, min(first + self.rng.randint(0, most), len(self.expected))

    def ask(self) -> None:
        first, end = self.places(60)
        assert self.ours.read(first, end) == self.expected[first:end]
        members = [member for _, member in self.expected[first:end]]
        assert self.ours.read_members(first, end) == members
        member, score = b"%d" % self.rng.randrange(5000), self.rng.choice([*self.scores, -inf, inf])
        assert self.ours.place(score, member) == bisect_left(self.expected, (score, member))
        below = sum(one < score for one, _ in self.expected)
        assert self.ours.below(score) == below
        equal = sum(one == score for one, _ in self.expected)
        assert self.ours.below(score, including=True) == below + equal
        if self.expected:
            assert self.ours.first_score() == self.expected[0][0]
            assert self.ours.last_score() == self.expected[-1][0]


@pytest.mark.parametrize("scores", [[0.0], [0.0, -0.0, 1.0], [x / 7 for x in range(2000)]])
@pytest.mark.parametrize("size", [0, 1, 300])
def test_is_like_a_sorted_list(scores: list[float], size: int) -> None:
    rng = random.Random(size)
    pair = Pair(rng, scores, size)
    for weights in ((6, 2, 1, 0, 2), (2, 6, 2, 1, 2), (5, 5, 1, 1, 1), (0, 4, 4, 1, 1)):
        for _ in range(500):
            rng.choices([pair.add, pair.remove, pair.pop, pair.cut, pair.ask], weights)[0]()
            pair.ours.check()
        assert list(pair.ours) == pair.expected


def test_chunks_are_joined_when_they_become_small() -> None:
    ours = Ranking((float(number), b"%d" % number) for number in range(800))
    for number in range(800):
        if number % 20:
            ours.remove(float(number), b"%d" % number)
    ours.check()
    assert [score for score, _ in ours] == [float(number) for number in range(0, 800, 20)]
    assert len(ours._members) <= 40 // 2


def test_a_zero_keeps_its_sign() -> None:
    ours = Ranking([(-0.0, b"a")])
    ours.add(0.0, b"b")
    assert [str(score) for score, _ in ours] == ["-0.0", "0.0"]
