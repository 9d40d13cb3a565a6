"""Keyspace notifications: every change, published to channels named after key and event.

https://redis.io/docs/latest/develop/use/keyspace-notifications/
"""

from typing import TYPE_CHECKING

import attrs

from node.config.special import KEYEVENT, KEYSPACE
from node.data.keyspace import MISS, NEW, Database

if TYPE_CHECKING:
    from node.config import Config
    from node.node import Node


@attrs.define(eq=False)
class Notifications:
    """classes: the bits of `notify-keyspace-events`; while there are none nothing listens."""

    node: "Node"
    classes: int = 0

    def configure(self, config: "Config") -> None:
        """Take over what `notify-keyspace-events` says."""
        keyspace = self.node.keyspace
        if self.classes:
            keyspace.ignore(self._changed)
            keyspace.on_miss = keyspace.on_new = None
        classes = config.notify_keyspace_events
        self.classes = classes if classes & (KEYSPACE | KEYEVENT) else 0
        if self.classes:
            keyspace.listen(self._changed)
        if self.classes & MISS:
            keyspace.on_miss = self._missed
        if self.classes & NEW:
            keyspace.on_new = self._came

    def _changed(self, db: Database, key: bytes, event: bytes, kind: int) -> None:
        if not kind & self.classes:
            return
        publish = self.node.pubsub.publish
        if self.classes & KEYSPACE:
            publish(b"__keyspace@%d__:%b" % (db.index, key), event)
        if self.classes & KEYEVENT:
            publish(b"__keyevent@%d__:%b" % (db.index, event), key)

    def _missed(self, db: Database, key: bytes) -> None:
        self._changed(db, key, b"keymiss", MISS)

    def _came(self, db: Database, key: bytes) -> None:
        self._changed(db, key, b"new", NEW)
