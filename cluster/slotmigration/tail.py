"""Of a node's log, the share of some slots: what another node needs that has a checkpoint of them.

Commands without keys are left out, and so are MULTI and EXEC: nobody sees the slots before all of
it is there. SELECT is said where it is needed.
"""

from typing import TYPE_CHECKING

import attrs

from cluster.slots import key_slot
from node.command import find_row
from node.replies import ReplyError
from node.resp import RequestParser, encode_request

if TYPE_CHECKING:
    from node.node import Node
    from node.persistence.log import Cursor

READ_SIZE = 1 << 20


@attrs.define(eq=False)
class Tail:
    """A reader of the log, from the moment it was made on; `close` it in the end."""

    node: "Node"
    slots: int
    _cursor: "Cursor" = attrs.field(init=False)
    _parser: RequestParser = attrs.field(factory=RequestParser)
    _db: bytes = b"0"  # where the log is
    _told: bytes = b""  # where the other node has been sent

    def __attrs_post_init__(self) -> None:
        self._cursor = self.node.log.open_cursor()

    def read(self) -> bytes:
        """What has been logged of the slots since the last time."""
        found: list[bytes] = []
        log = self.node.log
        log.flush()
        while data := log.read(self._cursor, READ_SIZE):
            for args in self._parser.feed(data):
                self._take(args, found)
        return b"".join(found)

    def _take(self, args: list[bytes], found: list[bytes]) -> None:
        if args[0].upper() == b"SELECT":
            self._db = args[1]
        elif self._is_wanted(args):
            if self._db != self._told:
                self._told = self._db
                found.append(encode_request([b"SELECT", self._db]))
            found.append(encode_request(args))

    def _is_wanted(self, args: list[bytes]) -> bool:
        """Whether it is about these slots; all keys of a command are in one."""
        try:
            row = find_row(self.node.rows, args)
        except ReplyError:
            return False
        if row.single_key:
            return bool(self.slots >> key_slot(args[1]) & 1)
        indices = row.key_indices(args)
        return bool(indices) and bool(self.slots >> key_slot(args[indices[0]]) & 1)

    def close(self) -> None:
        self.node.log.close_cursor(self._cursor)
