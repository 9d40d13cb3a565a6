"""Keys and fields of hashes whose time has come: deleted beside the node's other work.

A spell of it lasts SPELL_MS at most. While more is due, the next one follows after a pause that
leaves others the rest of the time: 75 % of it with `active-expire-effort 1`, two less for each
step above.
"""

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

import attrs

from node.commands.hash_expiry import expire_due_fields
from node.data.keyspace import EXPIRE

if TYPE_CHECKING:
    from node.node import Node

SPELL_MS = 5
_LEAST_SHARE, _MORE_SHARE = 25, 2  # percent of the time, and how much each effort adds
_BATCH = 32  # keys deleted between two looks at the clock


@attrs.define(eq=False)
class Expiring:
    """is_on: DEBUG SET-ACTIVE-EXPIRE."""

    node: "Node"
    is_on: bool = True
    _next_ms: int | None = None  # when to go on, while more is due

    def tick(self) -> None:
        """Delete what is due, or as much of it as its share of the time allows."""
        node = self.node
        if self._next_ms is not None and node.now_ms < self._next_ms:
            return
        self._next_ms = None
        if not self._may_delete():
            return
        ends_ns = node.clock.monotonic_ns() + SPELL_MS * 1_000_000
        deletions = self._deletions()
        while sum(1 for _ in islice(deletions, _BATCH)) == _BATCH:
            if node.clock.monotonic_ns() >= ends_ns:
                self._next_ms = node.clock.monotonic_ms() + self._pause_ms()
                return

    def next_deadline_ms(self) -> int | None:
        """When to be called before the next regular tick."""
        return self._next_ms

    def _may_delete(self) -> bool:
        node = self.node
        waits = node.pause.is_on() or node.loading is not None
        return self.is_on and not waits and node.keyspace.expiry == EXPIRE

    def _pause_ms(self) -> int:
        share = _LEAST_SHARE + _MORE_SHARE * (self.node.config.active_expire_effort - 1)
        return SPELL_MS * (100 - share) // share

    def _deletions(self) -> Iterator[None]:
        """Each step deletes one key that is due, or fields of one hash."""
        now_ms = self.node.keyspace.now_ms
        for db in self.node.keyspace.databases:
            for key in db.expires.due(now_ms):
                db.expire_now(key)
                yield
            for key in db.field_expires.due(now_ms):
                if not db.postpones(key):
                    expire_due_fields(self.node, db, key)
                yield
