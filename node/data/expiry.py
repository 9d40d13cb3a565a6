"""Which keys are due: deadlines of keys, in the order of time.

A heap beside the dict of deadlines. An entry whose deadline is no longer the key's own is stale
and passed over; the heap is rebuilt once stale entries are the majority, so that work and memory
stay proportional to the deadlines in force.
"""

import heapq
import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random


class Deadlines(dict[bytes, int]):
    """Key -> milliseconds since the Unix epoch at which it expires.

    Set by `arm` only; deleting from the dict disarms. arm and due: O(log n) each.
    """

    def __init__(self) -> None:
        super().__init__()
        self._heap: list[tuple[int, bytes]] = []

    def arm(self, key: bytes, at_ms: int) -> None:
        """Let the key expire at that time, whatever was set before."""
        self[key] = at_ms
        if len(self._heap) > 2 * len(self) + 64:
            self._heap = [(at, k) for k, at in self.items()]
            heapq.heapify(self._heap)
        else:
            heapq.heappush(self._heap, (at_ms, key))

    def next_ms(self) -> int | None:
        """The earliest deadline in force."""
        heap = self._heap
        while heap and self.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def due(self, now_ms: int) -> Iterator[bytes]:
        """Keys whose time has come, earliest first. The caller deletes each before the next."""
        while True:
            at_ms = self.next_ms()
            if at_ms is None or at_ms > now_ms:
                return
            yield heapq.heappop(self._heap)[1]

    def sample(self, random: "Random", count: int) -> list[bytes]:
        """Up to `count` of the keys, one at least if there are any, chosen at random. O(count)."""
        heap = self._heap
        chosen = (heap[random.randrange(len(heap))] for _ in range(4 * count) if heap)
        found = [key for at_ms, key in chosen if self.get(key) == at_ms]
        return found[:count] or list(itertools.islice(self, 1))

    def clear(self) -> None:
        super().clear()
        self._heap.clear()

    def check(self) -> None:
        """Every deadline in force has its entry in the heap."""
        entries = set(self._heap)
        assert all((at, key) in entries for key, at in self.items())
