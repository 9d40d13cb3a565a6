"""An order for things that have none, so that they can be picked at random and scanned.

The members stand in a list, and a dict knows each one's place; to remove one, the last member
moves into the hole. A scan walks from the high end downwards: its cursor is the place below which
everything is still to be returned. A member's place never rises, so what lay below the cursor
stays below it: whoever is present throughout a scan is returned at least once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from random import Random

T = TypeVar("T")


class Order:
    """A set of byte strings with places. Every method but the scan and check is O(1)."""

    __slots__ = ("order", "place")

    def __init__(self, members: Iterable[bytes] = ()) -> None:
        self.order: list[bytes] = list(members)
        self.place: dict[bytes, int] = dict(zip(self.order, range(len(self.order)), strict=True))

    def __len__(self) -> int:
        return len(self.order)

    def append(self, member: bytes) -> None:
        """Give a new member the highest place."""
        self.place[member] = len(self.order)
        self.order.append(member)

    def drop(self, member: bytes) -> bool:
        """Remove a member, and tell whether there was one."""
        hole = self.place.pop(member, None)
        if hole is None:
            return False
        last = self.order.pop()
        if last is not member and hole < len(self.order):
            self.order[hole] = last
            self.place[last] = hole
        return True

    def walk(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Up to `count` members from `cursor` (0: from the start), and the next cursor (0: done).

        O(count).
        """
        end = min(cursor, len(self.order)) if cursor else len(self.order)
        start = max(end - count, 0)
        return start, self.order[start:end]

    def check(self) -> None:
        """Assert that the list and the dict agree. O(N)."""
        assert self.place == {m: i for i, m in enumerate(self.order)}
        assert len(self.place) == len(self.order)


def draw(items: Sequence[T], count: int, random: Random) -> list[T]:
    """Random items as SRANDMEMBER counts them: distinct if positive, with repeats if negative.

    O(count).
    """
    if count < 0:
        return [items[int(random.random() * len(items))] for _ in range(-count)] if items else []
    if count >= len(items):
        return list(items)
    return random.sample(items, count)
