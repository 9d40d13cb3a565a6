"""Slots that this node's shard has lost, and whose keys may be the only ones.

A claim may be outdated, though its epoch is the greater one: a node that was away tells in good
faith what is no longer so, and SETSLOT gives slots away to a smaller epoch. So a primary that
loses slots unexpectedly keeps their keys until the new owner has been heard to serve them, a while
later; and if that one says it doesn't, and nobody else does either, it takes them back. Its
replicas know as much, for they may be next.
"""

from cluster.desk import Desk
from cluster.effects import DropSlots
from cluster.view import Node


class Ceded:
    """Looks after `view.ceded`."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self._added_at = 0
        # Of these slots, those that nobody serves, and since when.
        self._unclaimed = 0
        self._unclaimed_since = 0

    def add(self, slots: int) -> None:
        """My shard serves these slots no more, if their new owner really does."""
        self.desk.view.ceded |= slots
        self._added_at = self.desk.now

    def hear_service(self, owner: Node, claimed: int) -> None:
        """Somebody says what it serves: what it has taken from my shard is its own for good."""
        desk, view = self.desk, self.desk.view
        served = view.ceded & owner.slots & claimed
        # What was on its way when the slots were lost may be outdated in the same manner.
        if not served or desk.now - self._added_at <= desk.options.node_timeout:
            return
        view.ceded &= ~served
        desk.changed()
        if view.myself.is_primary:
            desk.do(DropSlots(served))

    def orphaned(self) -> int:
        """Those that nobody serves, as everybody has said for long enough."""
        desk, view = self.desk, self.desk.view
        slots = view.ceded & view.unclaimed if view.myself.is_primary else 0
        if slots != self._unclaimed:
            self._unclaimed, self._unclaimed_since = slots, desk.now
        # What was under way then may be older than what their owner says now.
        said_at = self._unclaimed_since + desk.options.node_timeout
        if slots and all(
            node.claims_heard > said_at or (node.is_replica and node.failed)
            for node in view.others()
        ):
            return slots
        return 0
