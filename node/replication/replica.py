"""A replica's link to its primary.

    connect   wait for the moment to try (again)
    connecting
    handshake PING; then AUTH, REPLCONF listening-port, ip-address, capa, version; then PSYNC
    sync      +FULLRESYNC was the answer: the payload is coming in
    connected the stream

A link that breaks, or a primary that isn't ready, is tried again: at once after a link that had
been up, else after 50 ms and then ever longer, up to a second.

https://redis.io/docs/latest/operate/oss_and_stack/management/replication/
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from node.config.file import VALKEY_VERSION
from node.persistence.rdb import RdbError
from node.replication.failover import UNDER_WAY
from node.replication.snapshot import MARK_SIZE
from node.replication.stream import Stream, StreamError, primary_session
from node.replication.transfer import Transfer
from node.resp import encode_request

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

# The states, as ROLE shows them.
CONNECT, CONNECTING, HANDSHAKE = "connect", "connecting", "handshake"
SYNC, CONNECTED = "sync", "connected"

ANNOUNCED_VERSION = VALKEY_VERSION.encode()  # we read all that it sends to its own kind
RETRY_MIN_MS = 50
RETRY_MAX_MS = 1000
ACK_PERIOD_MS = 1000
NEWLINE_PERIOD_MS = 1000
LINE_MAX = 64 * 1024

Answer = Callable[[bytes], None]


class LinkError(Exception):
    """The primary said something that ends this attempt."""


@attrs.define(eq=False)
class PrimaryLink:
    """state: one of the above. db: the database that the stream is in.

    heard_ms: when the primary last sent anything (monotonic). down_since_ms: since when there has
    been no stream; None before the first. synced: the stream has run since this primary is
    followed.
    """

    node: "Node"
    host: str
    port: int
    db: int = 0
    state: str = CONNECT
    heard_ms: int = 0
    down_since_ms: int | None = None
    synced: bool = False
    transfer: Transfer | None = None
    stream: Stream | None = None
    attempts: int = 0
    retry_ms: int = 0
    _retry_after_ms: int = RETRY_MIN_MS
    _output: list[bytes] = attrs.field(factory=list)
    _line: bytes = b""
    _answers: deque[Answer] = attrs.field(factory=deque)
    _read: Callable[[bytes], bytes] = attrs.field(init=False)
    _resync: tuple[str, int] = ("", 0)  # the id and offset of a full sync under way
    _up_since_ms: int = 0
    _acked_ms: int = 0
    _ack_due: bool = False
    _owes_synced: int | None = None  # offset that was acknowledged, but wasn't on disk

    def __attrs_post_init__(self) -> None:
        self._read = self._read_line
        self.heard_ms = self.retry_ms = self.node.now_ms

    def is_up(self) -> bool:
        """Whether the stream runs."""
        return self.state == CONNECTED

    def unapplied(self) -> int:
        """Bytes of the stream that are here, but wait for the end of a command or transaction."""
        return self.stream.unapplied() if self.stream is not None else 0

    # --- the connection --------------------------------------------------------------------------

    def open(self) -> None:
        """Try to connect, now."""
        _log.info("Connecting to MASTER %s:%d", self.host, self.port)
        self.state = CONNECTING
        self.attempts += 1
        self.heard_ms = self.node.now_ms
        self.node.transport.connect(self)

    def connected(self) -> None:
        """The connection that `open` asked for is there."""
        _log.info("MASTER <-> REPLICA sync started")
        self.state = HANDSHAKE
        self.heard_ms = self.node.now_ms
        self._ask([b"PING"], self._on_pong)

    def lost(self, reason: str) -> None:
        """The connection could not be made, or has ended."""
        _log.warning("Connection with master %s:%d lost: %s", self.host, self.port, reason)
        now_ms = self.node.now_ms
        if self.state == CONNECTED and now_ms - self._up_since_ms >= RETRY_MAX_MS:
            self.retry_ms = now_ms
            self._retry_after_ms = RETRY_MIN_MS
        else:
            self.retry_ms = now_ms + self._retry_after_ms
            self._retry_after_ms = min(2 * self._retry_after_ms, RETRY_MAX_MS)
        self._reset()
        self.node.on_deadline()

    def close(self) -> None:
        """This primary is followed no more."""
        if self.state != CONNECT:
            self.node.transport.close(self)
        self._reset()

    def hold(self, reason: str) -> None:
        """Take nothing more from the primary for a second."""
        if self.state != CONNECT:
            self._fail(reason)
        self.retry_ms = self.node.now_ms + RETRY_MAX_MS

    def _fail(self, reason: str) -> None:
        self.node.transport.close(self)
        self.lost(reason)

    def _reset(self) -> None:
        """Forget whatever was under way; nothing that was applied is lost."""
        if self.state == CONNECTED:
            self.down_since_ms = self.node.now_ms
        self.state = CONNECT
        if self.transfer is not None:
            self.transfer.abandon()
            self.transfer = None
        if self.stream is not None:
            self.db = self.stream.session.db.index
            session, self.stream = self.stream.session, None
            session.on_output = None
            self.node.close_session(session)
        self._output.clear()
        self._answers.clear()
        self._line = b""
        self._read = self._read_line
        self.node.refresh_gate()

    # --- as a peer -------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        self.heard_ms = self.node.now_ms
        self.node.observe.replication_bytes_in += len(data)
        try:
            while data and self.state != CONNECT:
                data = self._read(data)
        except (LinkError, StreamError, RdbError) as error:
            self._fail(str(error))

    def take_output(self, most: int) -> bytes:
        if not self._output:
            return b""
        data = b"".join(self._output)
        self._output.clear()
        return data

    def _send(self, data: bytes) -> None:
        self._output.append(data)
        self.node.transport.flag(self)

    # --- the handshake ---------------------------------------------------------------------------

    def _ask(self, request: list[bytes], answer: Answer) -> None:
        self._answers.append(answer)
        self._send(encode_request(request))

    def _read_line(self, data: bytes) -> bytes:
        """Take a line; empty ones only say that the primary is still there."""
        line, newline, rest = (self._line + data).partition(b"\n")
        if not newline:
            if len(line) > LINE_MAX:
                raise LinkError("its answer has no end")
            self._line = line
            return b""
        self._line = b""
        line = line.rstrip(b"\r")
        if line:
            if not self._answers:
                raise LinkError(f"unexpected {_shown(line)}")
            self._answers.popleft()(line)
        return rest

    def _on_pong(self, line: bytes) -> None:
        """A refusal for want of a password is no reason to give up before AUTH."""
        refused = (b"-NOAUTH", b"-NOPERM", b"-ERR operation not permitted")
        if not line.startswith((b"+", *refused)):
            raise LinkError(f"Error reply to PING from master: {_shown(line)}")
        config = self.node.config
        if config.masterauth:
            user = [config.masteruser] if config.masteruser else []
            self._ask([b"AUTH", *user, config.masterauth], self._on_auth)
        port = config.replica_announce_port or config.port
        self._ask([b"REPLCONF", b"listening-port", b"%d" % port], self._on_option)
        if config.replica_announce_ip:
            ip = config.replica_announce_ip.encode()
            self._ask([b"REPLCONF", b"ip-address", ip], self._on_option)
        capabilities = [b"capa", b"eof", b"capa", b"psync2"]
        self._ask([b"REPLCONF", *capabilities], self._on_option)
        if node_id := self.node.topology.node_id:
            request = [b"REPLCONF", b"set-cluster-node-id", node_id.encode()]
            self._ask(request, self._on_option)
        self._ask([b"REPLCONF", b"version", ANNOUNCED_VERSION], self._on_version)

    def _on_auth(self, line: bytes) -> None:
        if not line.startswith(b"+"):
            raise LinkError(f"Unable to AUTH to MASTER: {_shown(line)}")

    def _on_option(self, line: bytes) -> None:
        if line.startswith(b"-"):
            _log.info("Master does not understand a REPLCONF: %s", _shown(line))

    def _on_version(self, line: bytes) -> None:
        """The last answer but PSYNC's; primaries other than Valkey don't know this option."""
        log, history = self.node.log, self.node.role.history
        if log.keeps_backlog:
            self._resync = (history.id, log.flush())
            _log.info("Trying a partial resynchronization (request %s:%d).", *self._next_byte())
        else:
            self._resync = ("?", -2)
            _log.info("Partial resynchronization not possible (no cached master)")
        id, next_byte = self._next_byte()
        request = [b"PSYNC", id.encode(), b"%d" % next_byte]
        if id != "?" and self.node.role.failover.state == UNDER_WAY:
            request.append(b"FAILOVER")
        self._ask(request, self._on_psync)

    def _next_byte(self) -> tuple[str, int]:
        id, offset = self._resync
        return id, offset + 1

    def _on_psync(self, line: bytes) -> None:
        words = line.split()
        if words[0] == b"+FULLRESYNC" and len(words) == 3 and words[2].isdigit():
            self._resync = (words[1].decode("latin-1"), int(words[2]))
            _log.info("Full resync from master: %s:%d", *self._resync)
            self._answers.append(self._on_payload)
            self.node.role.failover.answered(True)
        elif words[0] == b"+CONTINUE":
            _log.info("Successful partial resynchronization with master.")
            self._continue(words[1].decode("latin-1") if len(words) > 1 else "")
            self.node.role.failover.answered(True)
        elif self.node.role.failover.state == UNDER_WAY:
            _log.warning("Master answers PSYNC with %s", _shown(line))
            self.node.role.failover.answered(False)
        else:
            raise LinkError(f"MASTER is not ready to sync: {_shown(line)}")

    # --- the data --------------------------------------------------------------------------------

    def _on_payload(self, line: bytes) -> None:
        """`$<length>`, or `$EOF:<mark>` where the length is not known beforehand."""
        kind, _, mark = line.partition(b":")
        if kind == b"$EOF" and len(mark) == MARK_SIZE:
            self.transfer = Transfer(self.node, mark)
        elif line[:1] == b"$" and line[1:].isdigit():
            self.transfer = Transfer(self.node, b"", int(line[1:]))
        else:
            raise LinkError(f"MASTER aborted replication with {_shown(line)}")
        _log.info("MASTER <-> REPLICA sync: receiving and loading the data set")
        self.state = SYNC
        self._read = self._read_payload
        self.node.refresh_gate()

    def _read_payload(self, data: bytes) -> bytes:
        transfer = self.transfer
        assert transfer is not None
        rest = transfer.receive(data)
        if rest is None:
            return b""
        self.transfer = None
        transfer.put_in_place()
        db = transfer.aux.get(b"repl-stream-db", b"0")
        self.db = int(db) if db.isdigit() else 0
        self.node.role.take_history(*self._resync)
        _log.info("MASTER <-> REPLICA sync: Finished with success")
        self._start_stream()
        self._ack_due = True
        return rest

    def _continue(self, id: str) -> None:
        """Go on where the link broke; the history may go by another name now."""
        self.node.role.rename_history(id)
        self._start_stream()

    def _start_stream(self) -> None:
        node = self.node
        session = primary_session(node, f"{self.host}:{self.port}".encode(), self.db)
        session.on_output = self._on_output
        self.stream = Stream(node, session)
        self._read = self._read_stream
        self.state = CONNECTED
        self.synced = True
        self._up_since_ms = self._acked_ms = node.now_ms
        node.refresh_gate()

    def _read_stream(self, data: bytes) -> bytes:
        stream = self.stream
        assert stream is not None
        stream.session.active_ms = self.node.now_ms
        stream.session.bytes_in += len(data)
        stream.receive(data)
        self._ack_due |= stream.asked_ack
        stream.asked_ack = False
        return b""

    def _on_output(self, session: object) -> None:
        """Nobody answers a primary: somebody wants the link closed."""
        if self.stream is not None and self.stream.session.closing:
            self._fail("it was killed")

    # --- turns and time --------------------------------------------------------------------------

    def after_log(self) -> None:
        """The turn ends: what was applied is in the log, so it may be acknowledged."""
        if self._ack_due and self.state == CONNECTED:
            self._acknowledge()

    def _acknowledge(self) -> None:
        self._ack_due = False
        self._acked_ms = self.node.now_ms
        offset, synced = self.node.log.offset, self.node.aof.synced_offset()
        request = [b"REPLCONF", b"ACK", b"%d" % offset]
        if synced is not None:
            request += [b"FACK", b"%d" % synced]
            self._owes_synced = offset if synced < offset else None
        self._send(encode_request(request))

    def log_is_durable(self) -> None:
        """More of it is on disk: the primary wants to know, once it is all that it asked about."""
        synced = self.node.aof.synced_offset()
        if self._owes_synced is not None and synced is not None and synced >= self._owes_synced:
            self._owes_synced = None
            self._ack_due = True

    def tick(self) -> None:
        """Retry, acknowledge once a second, give up on a silent primary."""
        now_ms = self.node.now_ms
        if self.state == CONNECT:
            if now_ms >= self.retry_ms:
                self.open()
            return
        if now_ms - self.heard_ms > 1000 * self.node.config.repl_timeout:
            self._fail("it has timed out")
        elif self.state == CONNECTED and now_ms - self._acked_ms >= ACK_PERIOD_MS:
            self._ack_due = True
        elif self.state == SYNC and now_ms - self._acked_ms >= NEWLINE_PERIOD_MS:
            self._acked_ms = now_ms
            self._send(b"\n")

    def next_deadline_ms(self) -> int | None:
        """When to try again, on the monotonic clock."""
        return self.retry_ms if self.state == CONNECT else None


def _shown(line: bytes) -> str:
    return line[:200].decode("latin-1")
