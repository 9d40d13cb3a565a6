"""Groups of consumers: who was given which entries of a stream and has not acknowledged them.

A delivery is known to its group and to its consumer; both point to one `Pending`.
"""

from __future__ import annotations

from collections.abc import Iterator

from sortedcontainers import SortedList

UNKNOWN = -1  # how many entries a group has read, where nobody can tell
NEVER = -1  # when a consumer was given something, where it never was
MAX_ID = (1 << 128) - 1


class Pending:
    """A delivery: to whom, when (ms since the epoch) and how often."""

    __slots__ = ("consumer", "count", "delivered_ms")

    def __init__(self, consumer: Consumer, delivered_ms: int, count: int) -> None:
        self.consumer = consumer
        self.delivered_ms = delivered_ms
        self.count = count


class PendingList:
    """Deliveries by the ids of their entries; `deliveries` may be read by anybody.

    Only a list whose order was asked for keeps one: consumers that take entries and acknowledge
    them pay for a dict. Costs are for N deliveries.
    """

    __slots__ = ("_order", "deliveries")

    def __init__(self) -> None:
        self.deliveries: dict[int, Pending] = {}
        self._order: SortedList | None = None

    def __len__(self) -> int:
        return len(self.deliveries)

    def get(self, entry_id: int) -> Pending | None:
        """The delivery of an entry, or None. O(1)."""
        return self.deliveries.get(entry_id)

    def add(self, entry_id: int, pending: Pending) -> None:
        """Enter a delivery of an entry that has none. O(1), O(log N) where the order is kept."""
        self.deliveries[entry_id] = pending
        if self._order is not None:
            self._order.add(entry_id)

    def remove(self, entry_id: int) -> Pending | None:
        """Take out the delivery of an entry, if there is one. O(1) or O(log N), as `add`."""
        pending = self.deliveries.pop(entry_id, None)
        if pending is not None and self._order is not None:
            if self.deliveries:
                self._order.remove(entry_id)
            else:
                self._order = None
        return pending

    def ids(self, start: int = 0, end: int = MAX_ID) -> Iterator[int]:
        """The ids from `start` to `end`, ascending; change nothing while they are read.

        O(log N), and the first time O(N) if they came in order.
        """
        if self._order is None:
            self._order = SortedList(self.deliveries)
        return iter(self._order.irange(start, end))

    def ends(self) -> tuple[int, int]:
        """The lowest and the highest id of a list that is not empty. Complexity as for `ids`."""
        lowest = next(self.ids())
        assert self._order is not None
        return lowest, self._order[-1]

    def check(self) -> None:
        """The order, if there is one, has every id. O(N log N)."""
        if self._order is not None:
            assert list(self._order) == sorted(self.deliveries)


class Consumer:
    """One member of a group.

    seen_ms: when it last asked. active_ms: when it last was given something, or NEVER.
    """

    __slots__ = ("active_ms", "name", "pending", "seen_ms")

    def __init__(self, name: bytes, seen_ms: int) -> None:
        self.name = name
        self.seen_ms = seen_ms
        self.active_ms = NEVER
        self.pending = PendingList()


class Group:
    """Consumers that share the entries of a stream.

    last_id: up to where entries were delivered. entries_read: which entry that was, counted from
    the first the stream ever had, or UNKNOWN.
    """

    __slots__ = ("consumers", "entries_read", "last_id", "pending")

    def __init__(self, last_id: int, entries_read: int = UNKNOWN) -> None:
        self.last_id = last_id
        self.entries_read = entries_read
        self.pending = PendingList()
        self.consumers: dict[bytes, Consumer] = {}

    def __eq__(self, other: object) -> bool:
        return self._contents() == other._contents() if isinstance(other, Group) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _contents(self) -> tuple[object, ...]:
        pending = {
            entry_id: (one.consumer.name, one.delivered_ms, one.count)
            for entry_id, one in self.pending.deliveries.items()
        }
        seen = {name: consumer.seen_ms for name, consumer in self.consumers.items()}
        return self.last_id, self.entries_read, pending, seen

    def in_order(self) -> list[Consumer]:
        """The consumers, by name. O(C log C) for C consumers."""
        return [self.consumers[name] for name in sorted(self.consumers)]

    def join(self, name: bytes, now_ms: int) -> Consumer:
        """A new consumer; there is none of that name. O(1)."""
        consumer = self.consumers[name] = Consumer(name, now_ms)
        return consumer

    def leave(self, name: bytes) -> int | None:
        """Remove a consumer with its deliveries; how many it had, None if there is no such."""
        consumer = self.consumers.pop(name, None)
        if consumer is None:
            return None
        for entry_id in consumer.pending.deliveries:
            self.pending.remove(entry_id)
        return len(consumer.pending)

    def deliver(self, entry_id: int, consumer: Consumer, now_ms: int) -> Pending:
        """Give an entry to a consumer as if for the first time, whoever had it before. O(1)."""
        pending = self.pending.get(entry_id)
        if pending is None:
            return self.enter(entry_id, consumer, now_ms, 1)
        self.reassign(entry_id, pending, consumer)
        pending.delivered_ms = now_ms
        pending.count = 1
        return pending

    def enter(self, entry_id: int, consumer: Consumer, delivered_ms: int, count: int) -> Pending:
        """Note a delivery of an entry that nobody has. O(1)."""
        pending = Pending(consumer, delivered_ms, count)
        self.pending.add(entry_id, pending)
        consumer.pending.add(entry_id, pending)
        return pending

    def reassign(self, entry_id: int, pending: Pending, consumer: Consumer) -> None:
        """Give what is pending to another consumer. O(1)."""
        if pending.consumer is not consumer:
            pending.consumer.pending.remove(entry_id)
            consumer.pending.add(entry_id, pending)
            pending.consumer = consumer

    def acknowledge(self, entry_id: int) -> bool:
        """Forget the delivery of an entry; whether there was one. O(1)."""
        pending = self.pending.remove(entry_id)
        if pending is None:
            return False
        pending.consumer.pending.remove(entry_id)
        return True

    def copy(self) -> Group:
        """An independent group. O(N)."""
        twin = Group(self.last_id, self.entries_read)
        for name, consumer in self.consumers.items():
            twin.join(name, consumer.seen_ms).active_ms = consumer.active_ms
        for entry_id, one in self.pending.deliveries.items():
            owner = twin.consumers[one.consumer.name]
            twin.enter(entry_id, owner, one.delivered_ms, one.count)
        return twin

    def check(self) -> None:
        """What is pending is pending with one of the consumers. O(N log N)."""
        self.pending.check()
        held = 0
        for name, consumer in self.consumers.items():
            assert consumer.name == name
            consumer.pending.check()
            held += len(consumer.pending)
            for entry_id, pending in consumer.pending.deliveries.items():
                assert pending.consumer is consumer
                assert self.pending.get(entry_id) is pending
        assert held == len(self.pending)
