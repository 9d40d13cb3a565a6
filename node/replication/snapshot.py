"""One data set on its way to one or more replicas."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import attrs

from node.data.keyspace import Keyspace
from node.persistence import checkpoint
from node.persistence.rdb import VALKEY_VERSION, VERSION, FieldDeadlines

if TYPE_CHECKING:
    from node.node import Node
    from node.replication.follower import Replica

AHEAD_MAX = 4 * 1024 * 1024  # bytes queued for the slowest replica before the source must wait
FEW_KEYS = 5000
FEW_BYTES = 1024 * 1024
MARK_SIZE = 40


@attrs.define(eq=False)
class Snapshot:
    """The RDB of one moment, for all replicas that were waiting then.

    mark: ends the payload, where its length is not known beforehand; b"" where it is.
    data: False where the replicas want no keys. begun: the payload has been announced.
    """

    node: "Node"
    replicas: "list[Replica]"
    mark: bytes = b""
    data: bool = True
    begun: bool = False

    @property
    def version(self) -> int:
        """Of the RDB: what the replicas, which are alike, can read."""
        return VALKEY_VERSION if self.replicas[0].reads_valkey() else VERSION

    @staticmethod
    def is_small(keyspace: Keyspace) -> bool:
        """Whether there are so few keys that writing them at once may be no work worth noting."""
        return sum(map(len, keyspace.databases)) <= FEW_KEYS

    def pieces(self) -> Iterator[bytes]:
        """The RDB of the node's data as they are now."""
        return checkpoint.take(self.node, self.version, data=self.data)

    def begin(self, length: int | None) -> None:
        """Announce the payload; its length in bytes, or None if a mark will end it."""
        head = b"$EOF:%b\r\n" % self.mark if length is None else b"$%d\r\n" % length
        self.begun = True
        self.receive(head)

    def receive(self, piece: bytes) -> None:
        """Pass a piece on."""
        for replica in self.replicas:
            replica.queue(piece)

    def has_room(self) -> bool:
        """Whether the source should go on: memory stays bounded by the slowest replica."""
        return all(replica.queued < AHEAD_MAX for replica in self.replicas)

    def end(self, error: str = "") -> None:
        """All pieces have been passed on; or the source has failed."""
        if self.mark and not error:
            self.receive(self.mark)
        self.node.role.primary.snapshot_ended(self, error)

    def encode_here(self, limited: bool) -> bool:
        """Make the whole of it at once; False if that is too much work while others wait.

        limited: there is another way for a large data set.
        """
        keyspace = self.node.keyspace
        if limited and self.data and not self.is_small(keyspace):
            return False
        pieces: list[bytes] = []
        size = 0
        try:
            for piece in self.pieces():
                pieces.append(piece)
                size += len(piece)
                if limited and size > FEW_BYTES:
                    return False
        except FieldDeadlines as error:
            self.end(str(error))
            return True
        self.mark = b""
        self.begin(size)
        for piece in pieces:
            self.receive(piece)
        self.end()
        return True
