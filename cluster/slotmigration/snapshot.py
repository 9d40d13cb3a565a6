"""The checkpoint of some slots: commands that make their keys on another node.

Written by a forked child, or, where the keys are few, on the spot. Each key is a RESTORE with all
that DUMP tells of its value, and with its deadline.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from cluster.slots import members
from node.persistence.rdb import encode_dump
from node.resp import encode_request

if TYPE_CHECKING:
    from node.data.keyspace import Database
    from node.node import Node

PIECE_SIZE = 64 * 1024
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
        found: list[bytes] = []
        size = 0
        for command in self._commands():
            found.append(command)
            size += len(command)
            if size >= PIECE_SIZE:
                yield b"".join(found)
                found.clear()
                size = 0
        yield b"".join(found)

    def _commands(self) -> Iterator[bytes]:
        compress = self.node.config.rdbcompression
        for db, keys in self._parts():
            yield encode_request([b"SELECT", b"%d" % db.index])
            for key, value in keys.items():
                yield restore(db, key, value, compress)

    def _parts(self) -> "Iterator[tuple[Database, dict[bytes, Any]]]":
        for db in self.node.keyspace.databases:
            for slot in members(self.slots) if db.size else ():
                if keys := db.keys_of_part(slot):
                    yield db, keys

    def encode_here(self, limited: bool) -> bool:
        """Make the whole of it at once; False if that is too much work while others wait."""
        if limited and sum(len(keys) for _, keys in self._parts()) > FEW_KEYS:
            return False
        found: list[bytes] = []
        size = 0
        for command in self._commands():
            found.append(command)
            size += len(command)
            if limited and size > FEW_BYTES:
                return False
        self.receive(b"".join(found))
        self.end()
        return True


def restore(db: "Database", key: bytes, value: Any, compress: bool) -> bytes:
    """What makes a key elsewhere, whatever is there."""
    at_ms = db.expires_at(key)
    payload = encode_dump(value, compress=compress)
    args = [b"RESTORE", key, b"%d" % (at_ms or 0), payload, b"REPLACE", b"ABSTTL"]
    return encode_request(args)
