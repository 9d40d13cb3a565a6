"""The set: an Order of members, and the algebra of sets.

A set is an `intset` while it holds nothing but a few integers, a `listpack` while it is small, and
a `hashtable` from then on: these only go one way until the set is built anew. Sets of
unordered members would be enough for Redis; ours have an order so that random picks are O(1) and
results are the same in every process.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from node.data.limits import Limits
from node.data.number import as_integer
from node.data.order import Order, draw

if TYPE_CHECKING:
    from random import Random

INTSET, LISTPACK, HASHTABLE = 0, 1, 2
_NAMES = (b"intset", b"listpack", b"hashtable")


class Set(Order):
    """Distinct byte strings; `order` and `place` may be read by anybody."""

    __slots__ = ("kind", "limits")

    def __init__(self, limits: Limits, members: Iterable[bytes] = ()) -> None:
        """A set of `members`, repeated or not, encoded as a result that is stored. O(N)."""
        super().__init__(dict.fromkeys(members))
        self.limits = limits
        self.kind = self._fitting() if self.order else INTSET

    @classmethod
    def of_distinct(cls, limits: Limits, members: list[bytes], *, integers: bool = False) -> Set:
        """A set of members that are all different, encoded as by the constructor.

        It takes the list over. integers: they are known to be nothing else. ValueError if a member
        is there twice. O(N).
        """
        found = cls(limits)
        found.order = members
        found.place = dict(zip(members, range(len(members)), strict=True))
        if len(found.place) != len(members):
            raise ValueError("a member twice")
        is_intset = integers and len(members) <= limits.set_max_intset_entries
        found.kind = INTSET if is_intset else found._fitting()
        return found

    def __contains__(self, member: bytes) -> bool:
        return member in self.place

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Set):
            return NotImplemented
        return self.place.keys() == other.place.keys()

    __hash__ = None  # type: ignore[assignment]

    def encoding(self) -> bytes:
        """What OBJECT ENCODING says. O(1)."""
        return _NAMES[self.kind]

    def copy(self) -> Set:
        """An independent set of the same members and encoding. O(N)."""
        twin = Set(self.limits)
        twin.order, twin.place = self.order.copy(), self.place.copy()
        twin.kind = self.kind
        return twin

    def expect(self, members: Sequence[bytes]) -> None:
        """Choose the encoding as SADD does, by the number of members it was given, repeated or not.

        For a command that adds several at once, before it adds them. O(1).
        """
        limits, count = self.limits, len(members)
        if self.order:
            if (
                count
                > (limits.set_max_intset_entries, limits.set_max_listpack_entries, count)[self.kind]
            ):
                self.kind = HASHTABLE
        elif as_integer(members[0]) is not None and count <= limits.set_max_intset_entries:
            self.kind = INTSET
        else:
            self.kind = LISTPACK if count <= limits.set_max_listpack_entries else HASHTABLE

    def add(self, member: bytes) -> bool:
        """Add a member; True if it is new. O(1)."""
        place = self.place
        if member in place:
            return False
        order = self.order
        place[member] = len(order)
        order.append(member)
        if self.kind != HASHTABLE:
            self._fit(member)
        return True

    def remove(self, member: bytes) -> bool:
        """Remove a member; True if there was one. O(1)."""
        return self.drop(member)

    def members(self) -> list[bytes]:
        """All members, those of an intset in ascending order. O(N)."""
        return sorted(self.order, key=int) if self.kind == INTSET else self.order.copy()

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """A step of SSCAN: the next cursor (0: done) and members. O(count).

        An intset or a listpack is returned at once.
        """
        return self.walk(cursor, count) if self.kind == HASHTABLE else (0, self.members())

    def draw(self, count: int, random: Random) -> list[bytes]:
        """Random members: distinct for a positive count, with repeats for a negative. O(count)."""
        return self.members() if count >= len(self.order) else draw(self.order, count, random)

    def pop(self, random: Random) -> bytes:
        """Remove and return a random member; IndexError if there is none. O(1)."""
        member = self.order[int(random.random() * len(self.order))]
        self.drop(member)
        return member

    def _fit(self, member: bytes) -> None:
        """Change the encoding if the member just added calls for it."""
        limits, count = self.limits, len(self.order)
        if self.kind == INTSET:
            if as_integer(member) is None:
                self.kind = self._without_integers(member)
            elif count > limits.set_max_intset_entries:
                self.kind = HASHTABLE
        elif count > limits.set_max_listpack_entries or len(member) > limits.set_max_listpack_value:
            self.kind = HASHTABLE

    def _without_integers(self, member: bytes) -> int:
        """The encoding of an intset that got a member which is no integer."""
        limits = self.limits
        longest = max(map(len, self.order))
        fits = len(self.order) <= limits.set_max_listpack_entries
        return LISTPACK if fits and longest <= limits.set_max_listpack_value else HASHTABLE

    def _fitting(self) -> int:
        """The smallest encoding for what is in the set."""
        limits, count = self.limits, len(self.order)
        if count <= limits.set_max_intset_entries:
            for member in self.order:
                if as_integer(member) is None:
                    break
            else:
                return INTSET
        if count > limits.set_max_listpack_entries:
            return HASHTABLE
        longest = max(map(len, self.order), default=0)
        return LISTPACK if longest <= limits.set_max_listpack_value else HASHTABLE

    def check(self) -> None:
        """Assert the invariants. O(N)."""
        super().check()
        assert all(type(member) is bytes for member in self.order)
        if self.kind == INTSET:
            assert all(as_integer(member) is not None for member in self.order)


def union(sets: Iterable[Set | None]) -> list[bytes]:
    """The members of any of the sets; None is an empty one. O(N) of all together."""
    found: dict[bytes, None] = {}
    for one in sets:
        if one is not None:
            found.update(dict.fromkeys(one.order))
    return list(found)


def intersection(sets: Sequence[Set | None], limit: int = 0) -> list[bytes]:
    """The members of all the sets, at most `limit` of them (0: all). O(N*M), N the smallest."""
    present = [one for one in sets if one]
    if len(present) < len(sets):
        return []
    smallest, *others = sorted(present, key=len)
    found: list[bytes] = []
    for member in smallest.members():
        if all(member in other.place for other in others):
            found.append(member)
            if len(found) == limit:
                break
    return found


def difference(sets: Sequence[Set | None]) -> list[bytes]:
    """The members of the first set that no other has. O(N*M), N the first."""
    first, *others = sets
    if first is None:
        return []
    places = [other.place for other in others if other is not None]
    return [m for m in first.members() if not any(m in place for place in places)]


def stored_difference(limits: Limits, sets: Sequence[Set | None]) -> Set:
    """The difference() as a new set, in the encoding in which SDIFFSTORE leaves it. O(N*M).

    Where there is much to look up, Redis copies the first set and removes the others' members from
    the copy, whose encoding then is that of the first.
    """
    first, *others = sets
    present = [other for other in others if other]
    found = difference(sets)
    if first is None:
        return Set(limits)
    lookups = len(first) * (1 + len(present)) // 2
    if lookups <= len(first) + sum(map(len, present)):
        return Set(limits, found)
    result = Set(limits, first.members())
    kept = dict.fromkeys(found)
    for member in first.order:
        if member not in kept:
            result.remove(member)
    return result
