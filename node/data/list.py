"""The list: a deque, and what it takes to know whether Redis would call it a listpack.

A list is a `listpack` while it fits into one node (list-max-listpack-size), then a `quicklist`,
and a listpack again once removals have brought it under half of that. To have the exact size at
every push would cost more than the push. So a small list only counts `room` down by an upper
bound of what is pushed, and a very long one waits until it is short; in between, around the
limits, the list is watched: its size is kept exactly. We keep no nodes, so one thing differs from
Redis: there, a quicklist becomes a listpack only if what is left also lies in a single node.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice

from node.data.limits import LISTPACK_OVERHEAD, Limits
from node.data.listpack import entry_size
from node.data.span import span

_ENDLESS = (1 << 30) - 1  # a large number that compares fast
_UNKNOWN = -1  # the size of a list too long to be a listpack
_OVERHEAD = Limits.ENTRY_OVERHEAD
_FEW = 10  # so many elements are looked up one by one
_NEAR = 128  # up to here walking to a place is cheaper than turning the deque


class List:
    """A list of byte strings; `items` may be read by anybody.

    Places count from 0, or from -1 downwards from the end.
    """

    __slots__ = ("items", "large", "limits", "room", "size", "watched")

    def __init__(self, limits: Limits, items: Iterable[bytes] = ()) -> None:
        """A list of `items`, encoded as a result that is stored. O(N)."""
        self.items: deque[bytes] = deque(items)
        self.limits = limits
        self.large = False
        self.watched = False
        self.size = 0  # as one listpack; while watched
        self.room = limits.list_room
        if self.items:
            self.room -= sum(map(len, self.items)) + _OVERHEAD * len(self.items)
            if self.room < 0:
                self._gained(())

    def __len__(self) -> int:
        return len(self.items)

    def __eq__(self, other: object) -> bool:
        return self.items == other.items if isinstance(other, List) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def encoding(self) -> bytes:
        """What OBJECT ENCODING says. O(1)."""
        return b"quicklist" if self.large else b"listpack"

    def copy(self) -> List:
        """An independent list of the same elements and encoding. O(N)."""
        twin = List(self.limits)
        twin.items = self.items.copy()
        twin.large, twin.watched = self.large, self.watched
        twin.size, twin.room = self.size, self.room
        return twin

    def push_left(self, value: bytes) -> None:
        """Put an element before the first. O(1)."""
        self.items.appendleft(value)
        self.room -= len(value) + _OVERHEAD
        if self.room < 0:
            self._gained((value,))

    def push_right(self, value: bytes) -> None:
        """Put an element after the last. O(1)."""
        self.items.append(value)
        self.room -= len(value) + _OVERHEAD
        if self.room < 0:
            self._gained((value,))

    def extend_left(self, values: Iterable[bytes]) -> None:
        """Push each of `values` on the left, so that the last of them becomes the first. O(len)."""
        values = tuple(values)
        self.items.extendleft(values)
        self._charge(values)

    def extend_right(self, values: Iterable[bytes]) -> None:
        """Push each of `values` on the right. O(len)."""
        values = tuple(values)
        self.items.extend(values)
        self._charge(values)

    def pop_left(self) -> bytes:
        """Remove and return the first element; IndexError if there is none. O(1)."""
        value = self.items.popleft()
        if self.watched and (self.size != _UNKNOWN or len(self.items) <= self.limits.list_short):
            self._lost((value,))
        return value

    def pop_right(self) -> bytes:
        """Remove and return the last element; IndexError if there is none. O(1)."""
        value = self.items.pop()
        if self.watched and (self.size != _UNKNOWN or len(self.items) <= self.limits.list_short):
            self._lost((value,))
        return value

    def take_left(self, count: int) -> list[bytes]:
        """Remove and return up to `count` elements, the first first. O(count)."""
        pop = self.items.popleft
        taken = [pop() for _ in range(min(count, len(self.items)))]
        self._lost(taken)
        return taken

    def take_right(self, count: int) -> list[bytes]:
        """Remove and return up to `count` elements, the last first. O(count)."""
        pop = self.items.pop
        taken = [pop() for _ in range(min(count, len(self.items)))]
        self._lost(taken)
        return taken

    def turn(self, *, from_left: bool, to_left: bool) -> bytes:
        """Take an element off one end and push it on one; IndexError if there is none. O(1)."""
        items = self.items
        value = items.popleft() if from_left else items.pop()
        if self.watched and self.size != _UNKNOWN:
            self.size -= entry_size(value)
        self._expect(value)
        (items.appendleft if to_left else items.append)(value)
        if self.watched and self.size != _UNKNOWN:
            self.size += entry_size(value)
        return value

    def get(self, index: int) -> bytes | None:
        """The element at a place, or None. O(N/64) in the middle, O(1) at the ends."""
        try:
            return self.items[index]
        except IndexError:
            return None

    def set(self, index: int, value: bytes) -> bool:
        """Replace the element at a place; False if there is no such place. O(N/64)."""
        items = self.items
        if not -len(items) <= index < len(items):
            return False
        self._expect(value)
        old, items[index] = items[index], value
        self._charge((value,))
        self._lost((old,))
        return True

    def range(self, start: int, stop: int) -> list[bytes]:
        """The elements from `start` to `stop`, both included.

        O(S/64 + M) for M elements, S away from the nearer end."""
        items = self.items
        first, end = span(start, stop, len(items))
        if end - first <= _FEW:
            return [items[place] for place in range(first, end)]
        if first <= _NEAR:
            return list(islice(items, first, end))
        if len(items) - end <= _NEAR:
            skip = len(items) - end
            return list(islice(reversed(items), skip, skip + end - first))[::-1]
        items.rotate(-first)
        found = list(islice(items, end - first))
        items.rotate(first)
        return found

    def trim(self, start: int, stop: int) -> None:
        """Keep only what `range(start, stop)` would return. O(removed)."""
        first, end = span(start, stop, len(self.items))
        if end - first < len(self.items) // 2:
            self._replace(self.range(first, end - 1) if first < end else ())
        else:
            self.take_right(len(self.items) - end)
            self.take_left(first)

    def insert(self, pivot: bytes, value: bytes, *, after: bool) -> bool:
        """Put `value` beside the first element equal to `pivot`; False if none is. O(N)."""
        self._expect(value)
        try:
            place = self.items.index(pivot)
        except ValueError:
            return False
        self.items.insert(place + after, value)
        self._charge((value,))
        return True

    def remove(self, value: bytes, count: int) -> int:
        """Remove elements equal to `value` and return how many.

        The first `count` of them, the last -`count` if negative, all if 0. O(N).
        """
        found = self.items.count(value)
        if not found:
            return 0
        wanted = min(abs(count), found) if count else found
        if wanted == found:
            self.items = deque(item for item in self.items if item != value)
        else:
            self._remove_some(value, wanted, from_right=count < 0)
        self._lost([value] * wanted)
        return wanted

    def _remove_some(self, value: bytes, wanted: int, *, from_right: bool) -> None:
        if from_right:
            self.items.reverse()
        for _ in range(wanted):
            self.items.remove(value)
        if from_right:
            self.items.reverse()

    def positions(self, value: bytes, rank: int = 1, count: int = 1, maxlen: int = 0) -> list[int]:
        """The places of elements equal to `value`, as LPOS finds them.

        Starts with the `rank`-th match (negative: counted and reported from the end), stops after
        `count` (0: all), compares at most `maxlen` elements (0: all). O(N).
        """
        found: list[int] = []
        source = self.items if rank > 0 else reversed(self.items)
        skip = abs(rank) - 1
        for place, item in enumerate(islice(source, maxlen or None)):
            if item != value:
                continue
            if skip:
                skip -= 1
                continue
            found.append(place if rank > 0 else len(self.items) - 1 - place)
            if len(found) == count:
                break
        return found

    def check(self) -> None:
        """Assert the invariants. O(N)."""
        limits, count, size = self.limits, len(self.items), _measure(self.items)
        assert all(type(item) is bytes for item in self.items)
        if not self.watched:
            assert not self.large and count <= limits.list_count
            assert self.room <= limits.room_for_list(size, count)
        elif self.size == _UNKNOWN:
            assert self.large and count > limits.list_short
        else:
            assert (self.size, self.room < 0) == (size, True)

    def _charge(self, values: Sequence[bytes]) -> None:
        self.room -= sum(map(len, values)) + _OVERHEAD * len(values)
        if self.room < 0:
            self._gained(values)

    def _expect(self, value: bytes) -> None:
        """What LSET, LINSERT and LMOVE do first: look whether one more element would still fit."""
        limits = self.limits
        if self.large or self.room > len(value) + _OVERHEAD:
            return
        if not self.watched:
            self.watched, self.size, self.room = True, _measure(self.items), -1
        if self.size + len(value) > limits.list_bytes or len(self.items) >= limits.list_count:
            self.large = True

    def _replace(self, items: Iterable[bytes]) -> None:
        """Keep only `items`, some of those that were there."""
        self.items = deque(items)
        if self.watched and self.size != _UNKNOWN:
            self.size = _measure(self.items)
        self._lost(())

    def _gained(self, values: Sequence[bytes]) -> None:
        """Elements came to a watched list, or to one whose room has run out."""
        limits, count = self.limits, len(self.items)
        added = entry_size(values[0]) if len(values) == 1 else sum(map(entry_size, values))
        if not self.watched:
            self.watched, self.size = True, _measure(self.items)
        else:
            self.size += added
        if not self.large:
            # Redis looks before it adds, when new elements are still strings without headers.
            projected = self.size - added + sum(map(len, values))
            self.large = projected > limits.list_bytes or count > limits.list_count
            if not self.large:
                self._relax()
        if self.large and count > 2 * limits.list_short + 8:
            self.size, self.room = _UNKNOWN, _ENDLESS

    def _lost(self, values: Sequence[bytes]) -> None:
        """Elements are gone."""
        if not self.watched:
            return
        limits, count = self.limits, len(self.items)
        if self.size == _UNKNOWN:
            if count > limits.list_short:
                return
            self.size, self.room = _measure(self.items), -1
        else:
            self.size -= entry_size(values[0]) if len(values) == 1 else sum(map(entry_size, values))
        if not self.large or (
            self.size <= limits.list_half_bytes and count <= limits.list_half_count
        ):
            self.large = False
            self._relax()

    def _relax(self) -> None:
        """Stop watching a listpack that is well under the limits."""
        limits, count = self.limits, len(self.items)
        if self.size * 2 <= limits.list_bytes and count * 2 <= limits.list_count:
            self.watched, self.room = False, limits.room_for_list(self.size, count)


def _measure(items: Iterable[bytes]) -> int:
    """The bytes of a listpack of `items`. O(N)."""
    return LISTPACK_OVERHEAD + sum(map(entry_size, items))


def move(source: List, target: List, *, from_left: bool, to_left: bool) -> bytes:
    """Take an element off one end of `source` and push it on one of `target`, maybe itself. O(1).

    IndexError if the source is empty.
    """
    if source is target:
        return source.turn(from_left=from_left, to_left=to_left)
    value = source.pop_left() if from_left else source.pop_right()
    (target.push_left if to_left else target.push_right)(value)
    return value
