"""The keys that a writable replica's clients have given deadlines.

A replica deletes no key whose time has come before its primary says so. The primary knows nothing
of what was written here, so these keys the replica looks after by itself.
"""

import itertools
from typing import TYPE_CHECKING

import attrs

from node.data.expiry import Deadlines
from node.data.keyspace import KEEP, Database

if TYPE_CHECKING:
    from node.node import Node


@attrs.define(eq=False)
class OwnKeys:
    """Hears of changes only while there may be such keys."""

    node: "Node"
    _listens: bool = False
    _deadlines: dict[int, Deadlines] = attrs.field(factory=dict)  # by number of the database

    def __attrs_post_init__(self) -> None:
        self.node.config.on_change("replica-read-only", lambda _: self.refresh())

    def refresh(self) -> None:
        """To be called when the node's role or `replica-read-only` has changed."""
        node = self.node
        listens = node.is_replica() and not node.config.replica_read_only
        if listens == self._listens:
            return
        self._listens = listens
        self._deadlines.clear()
        if listens:
            node.keyspace.listen(self._note)
        else:
            node.keyspace.ignore(self._note)

    def _note(self, db: Database, key: bytes, event: bytes, kind: int) -> None:
        at_ms = db.expires_at(key)
        if at_ms is None or self.node.keyspace.expiry == KEEP:  # KEEP: it is the primary's doing
            return
        own = self._deadlines.setdefault(db.index, Deadlines())
        if own.get(key) != at_ms:
            own.arm(key, at_ms)

    def tick(self, most: int) -> None:
        """Delete those whose time has come, at most so many of each database."""
        keyspace = self.node.keyspace
        for index, own in self._deadlines.items():
            db = keyspace[index]
            for key in itertools.islice(own.due(keyspace.now_ms), most):
                if db.expires_at(key) == own.pop(key):
                    db.expire_now(key)
