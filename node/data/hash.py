"""The hash: a dict of fields, with deadlines for single fields where somebody sets them."""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

from node.data.limits import Limits
from node.data.order import Order, draw

if TYPE_CHECKING:
    from random import Random


class Hash:
    """Fields and their values; `fields` and `expires` may be read by anybody.

    `expires` maps fields to deadlines (ms since the epoch, as given), or is None while no field
    has one. A field past its deadline stays until somebody drops it: the hash knows no clock.
    """

    __slots__ = ("_heap", "_order", "expires", "fields", "large", "limits")

    def __init__(self, limits: Limits, fields: dict[bytes, bytes] | None = None) -> None:
        """A hash of `fields`, which it takes over. O(N)."""
        self.fields: dict[bytes, bytes] = {} if fields is None else fields
        self.limits = limits
        self.large = False
        self.expires: dict[bytes, int] | None = None
        self._heap: list[tuple[int, bytes]] = []
        self._order: Order | None = None
        if fields:
            self._measure(fields)

    def __len__(self) -> int:
        return len(self.fields)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Hash):
            return NotImplemented
        return self.fields == other.fields and (self.expires or {}) == (other.expires or {})

    __hash__ = None  # type: ignore[assignment]

    def encoding(self) -> bytes:
        """What OBJECT ENCODING says. O(1)."""
        return b"hashtable" if self.large else b"listpack"

    def copy(self) -> Hash:
        """An independent hash with the same fields, deadlines and encoding. O(N)."""
        twin = Hash(self.limits)
        twin.fields = self.fields.copy()
        twin.large = self.large
        if self.expires is not None:
            twin.expires = self.expires.copy()
            twin._heap = self._heap.copy()
        return twin

    def expect(self, count: int) -> None:
        """Choose the encoding as HSET does, by the number of pairs it was given, repeated or not.

        For a command with several pairs, before it sets them. O(1).
        """
        if count > self.limits.hash_max_listpack_entries:
            self.large = True

    def set(self, field: bytes, value: bytes, *, keep_deadline: bool = False) -> bool:
        """Give a field a value, without a deadline unless told; True if it is new. O(1)."""
        fields = self.fields
        before = len(fields)
        fields[field] = value
        if not self.large:
            longest = self.limits.hash_max_listpack_value
            if len(value) > longest or len(field) > longest:
                self.large = True
        elif self.expires is not None and not keep_deadline:
            self.drop_deadline(field)
        if len(fields) == before:
            return False
        if self._order is not None:
            self._order.append(field)
        elif before >= self.limits.hash_max_listpack_entries:
            self.large = True
        return True

    def get(self, field: bytes) -> bytes | None:
        """The value of a field, or None. O(1)."""
        return self.fields.get(field)

    def delete(self, field: bytes) -> bool:
        """Remove a field and its deadline; True if there was one. O(1)."""
        if self.fields.pop(field, None) is None:
            return False
        if self._order is not None:
            self._order.drop(field)
        if self.expires is not None:
            self.drop_deadline(field)
        return True

    def set_deadline(self, field: bytes, deadline_ms: int) -> bool:
        """Give a present field a deadline; False if there is no such field. O(log N)."""
        if field not in self.fields:
            return False
        if self.expires is None:
            self.expires = {}
            self.large = True  # a listpack has no room for deadlines
        self.expires[field] = deadline_ms
        heappush(self._heap, (deadline_ms, field))
        if len(self._heap) > 2 * len(self.expires) + 64:
            self._heap = [(deadline, field) for field, deadline in self.expires.items()]
            heapify(self._heap)
        return True

    def get_deadline(self, field: bytes) -> int | None:
        """The deadline of a field in ms, or None. O(1)."""
        return None if self.expires is None else self.expires.get(field)

    def drop_deadline(self, field: bytes) -> bool:
        """Let a field live on; True if it had a deadline. O(1)."""
        if self.expires is None or self.expires.pop(field, None) is None:
            return False
        if not self.expires:
            self.expires = None
            self._heap.clear()
        return True

    def is_over(self, now_ms: int) -> bool:
        """Whether the time of every field has come. O(N), O(1) where one has no deadline."""
        expires = self.expires
        if expires is None or len(expires) < len(self.fields):
            return False
        return all(at_ms <= now_ms for at_ms in expires.values())

    def next_deadline(self) -> int | None:
        """The earliest deadline of all fields in ms, or None. Amortized O(log N)."""
        expires, heap = self.expires, self._heap
        if expires is None:
            return None
        while expires.get(heap[0][1]) != heap[0][0]:
            heappop(heap)
        return heap[0][0]

    def due(self, now_ms: int, count: int) -> list[bytes]:
        """Up to `count` fields whose deadline is `now_ms` or earlier, earliest first.

        O(count log N). They stay in the hash: the caller deletes them through a command.
        """
        found: list[tuple[int, bytes]] = []
        expires, heap = self.expires, self._heap
        while expires is not None and heap and len(found) < count:
            deadline, field = heap[0]
            if expires.get(field) != deadline or heap[0] in found[-1:]:
                heappop(heap)  # since moved, or set twice to the same
            elif deadline > now_ms:
                break
            else:
                found.append(heappop(heap))
        for entry in found:
            heappush(heap, entry)
        return [field for _, field in found]

    def scan(self, cursor: int, count: int) -> tuple[int, list[tuple[bytes, bytes]]]:
        """A step of HSCAN: the next cursor (0: done) and fields with their values. O(count).

        A listpack is returned at once.
        """
        fields = self.fields
        if not self.large:
            return 0, list(fields.items())
        following, found = self._ordered().walk(cursor, count)
        return following, [(field, fields[field]) for field in found]

    def draw(self, count: int, random: Random) -> list[bytes]:
        """Random fields: distinct for a positive count, with repeats for a negative. O(count)."""
        return draw(self._ordered().order if self.large else list(self.fields), count, random)

    def _ordered(self) -> Order:
        """Built when first asked for, then kept up. O(N) the first time."""
        if self._order is None:
            self._order = Order(self.fields)
        return self._order

    def _measure(self, fields: dict[bytes, bytes]) -> None:
        limits = self.limits
        if len(fields) > limits.hash_max_listpack_entries:
            self.large = True
        else:
            longest = max(max(map(len, fields)), max(map(len, fields.values())))
            self.large = longest > limits.hash_max_listpack_value

    def check(self) -> None:
        """Assert the invariants. O(N log N)."""
        fields = self.fields
        assert all(type(f) is bytes and type(v) is bytes for f, v in fields.items())
        if self._order is not None:
            self._order.check()
            assert set(self._order.order) == set(fields)
        if self.expires is None:
            assert not self._heap
        else:
            assert self.large and self.expires and set(self.expires) <= set(fields)
            assert {(deadline, field) for field, deadline in self.expires.items()} <= set(
                self._heap
            )
            assert self.next_deadline() == min(self.expires.values())
