"""One follower of a node, as the node sees it: what it has told of itself, where it is in the log,
and what it is owed."""

from collections import deque
from typing import TYPE_CHECKING

import attrs

from node.persistence.log import Cursor
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node
    from node.replication.transport import Carrier

# A replica's state, as INFO shows it.
HANDSHAKE, WAITING, SENDING, ONLINE = "handshake", "wait_bgsave", "send_bulk", "online"


@attrs.define(eq=False)
class Replica:
    """One follower, as its primary sees it.

    port, ip: where it serves, as it says itself. version: of Valkey, as far as it has told.
    node_id: in its cluster, if it has told.
    takes_mark: it can read a payload that ends with a mark. takes_id: +CONTINUE may name an id.
    data, rdb_only: what it wants of a snapshot, and whether nothing after it. wants_reply: it has
    said PSYNC, not SYNC.
    synced: the offset up to which it has told to have everything on disk; -1: it hasn't told.
    acked, acked_ms: the offset it has told to have applied, and when (monotonic).
    progress_ms: when it last took or sent anything.
    queued: bytes of a snapshot that are here for it.
    carrier: the stream that it came by, where that is no plain socket.
    """

    node: "Node"
    session: Session
    state: str = HANDSHAKE
    port: int = 0
    ip: str = ""
    version: tuple[int, ...] = ()
    node_id: str = ""
    takes_mark: bool = False
    takes_id: bool = False
    data: bool = True
    rdb_only: bool = False
    wants_reply: bool = True
    cursor: Cursor | None = None
    awaits_ack: bool = False
    acked: int = 0
    synced: int = -1
    acked_ms: int = 0
    progress_ms: int = 0
    queued: int = 0
    over_limit_ms: int = 0
    carrier: "Carrier | None" = None
    _queue: deque[bytes] = attrs.field(factory=deque)
    _queue_ends: bool = False

    # --- as a peer -------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        self.progress_ms = self.node.now_ms
        self.session.receive(data)
        self.session.output.clear()  # of what no replica gets: answers

    def take_output(self, most: int) -> bytes:
        data = b""
        if self._queue:
            data = self._queue.popleft()
            self.queued -= len(data)
        if self._queue_ends and not self._queue:
            self._queue_ends = False
            self.node.role.primary.snapshot_taken(self)
        if not data and self.streams() and self.cursor is not None:
            data = self.node.log.read(self.cursor, most)
        if data:
            self.progress_ms = self.node.now_ms
            self.session.bytes_out += len(data)
            self.node.observe.replication_bytes_out += len(data)
        return data

    def lost(self, reason: str) -> None:
        self.node.close_session(self.session)

    # --- what its primary asks -------------------------------------------------------------------

    def queue(self, data: bytes) -> None:
        """Send this before the log."""
        self._queue.append(data)
        self.queued += len(data)
        self.node.transport.flag(self)

    def end_queue(self, awaits_ack: bool) -> None:
        """The log may follow, once what is queued has been taken and, where it must know that
        the payload has ended, the replica has said so."""
        self.awaits_ack = awaits_ack
        self._queue_ends = True
        self.node.transport.flag(self)

    def is_online(self) -> bool:
        return self.state == ONLINE

    def streams(self) -> bool:
        """Whether it gets the log."""
        return self.state == ONLINE and not self.awaits_ack

    def reads_valkey(self) -> bool:
        """Whether it knows the RDB version that has field deadlines."""
        return self.version >= (9,)

    def wants_same(self, other: "Replica") -> bool:
        """Whether one snapshot will do for both."""
        return self.data == other.data and self.reads_valkey() == other.reads_valkey()

    def owed(self) -> int:
        """Bytes that it has not taken."""
        behind = 0 if self.cursor is None else self.node.log.offset - self.cursor.offset
        return self.queued + behind

    def lag_ms(self) -> int:
        """Milliseconds since it told its offset."""
        return self.node.now_ms - self.acked_ms

    @property
    def address(self) -> tuple[str, int]:
        """Where its clients find it."""
        host, _, port = self.session.address.decode().rpartition(":")
        return self.ip or host.strip("[]"), self.port or int(port or 0)

    def __str__(self) -> str:
        host, port = self.address
        return f"{host}:{port}"
