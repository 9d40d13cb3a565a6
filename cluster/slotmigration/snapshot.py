"""The checkpoint of some slots: commands that make their keys on another node.

Written by a forked child, or, where the keys are few, on the spot.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from cluster.slots import members
from node.persistence.aof.commands import encode
from node.persistence.rdb import Record

if TYPE_CHECKING:
    from node.node import Node

AHEAD_MAX = 4 * 1024 * 1024  # bytes queued for the other node before the source must wait
FEW_KEYS = 200
FEW_BYTES = 256 * 1024


@attrs.define(eq=False)
class SlotSnapshot:
    """As node.replication.snapshot.Snapshot, for one receiver and without a header.

    on_piece, on_end: called with each piece, and in the end with the error if there was one.
    queued: how many bytes the receiver has not sent yet.
    """

    node: "Node"
    slots: int
    on_piece: Callable[[bytes], None]
    on_end: Callable[[str], None]
    queued: Callable[[], int]

    mark = b"-"  # what it ends with is not known beforehand

    def begin(self, length: int | None) -> None:
        """There is nothing to announce."""

    def receive(self, piece: bytes) -> None:
        self.on_piece(piece)

    def has_room(self) -> bool:
        return self.queued() < AHEAD_MAX

    def end(self, error: str = "") -> None:
        self.on_end(error)

    def pieces(self) -> Iterator[bytes]:
        """The commands, in pieces. The keyspace must not change meanwhile."""
        return encode(self._records())

    def _records(self) -> Iterator[Record]:
        for db in self.node.keyspace.databases:
            deadline = db.expires.get
            for slot in members(self.slots) if db.size else ():
                for key, value in db.keys_of_part(slot).items():
                    yield db.index, key, value, deadline(key), None, None

    def encode_here(self, limited: bool) -> bool:
        """Make the whole of it at once; False if that is too much work while others wait."""
        if limited and self._count() > FEW_KEYS:
            return False
        found: list[bytes] = []
        size = 0
        for piece in self.pieces():
            found.append(piece)
            size += len(piece)
            if limited and size > FEW_BYTES:
                return False
        self.receive(b"".join(found))
        self.end()
        return True

    def _count(self) -> int:
        databases = self.node.keyspace.databases
        slots = list(members(self.slots))
        return sum(len(db.keys_of_part(slot)) for db in databases if db.size for slot in slots)
