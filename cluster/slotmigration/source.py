"""The source's end of a migration: from connecting to the target to its claim of the slots.

It is a peer of the node's transport, as a replica's link to its primary is. What goes out is
queued here: the handshake, the checkpoint, and what of the log came after it.
"""

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from cluster.slotmigration import jobs
from cluster.slotmigration.jobs import Job, JobFailure
from cluster.slotmigration.snapshot import AHEAD_MAX, SlotSnapshot
from cluster.slotmigration.tail import Tail
from node.pause import FAILOVER, MIGRATION
from node.resp import RequestParser, encode_request

if TYPE_CHECKING:
    from cluster.slotmigration.migrations import Migrations

_log = logging.getLogger(__name__)

LINE_MAX = 16 * 1024
PAUSE_FACTOR = 2  # times the timeout of a failover by hand
CLAIM_MS = 2000  # how long a target may take to claim what it was granted, at least
CLOSED = (
    "Connection lost to target. Check CLUSTER GETSLOTMIGRATIONS on the target node for more "
    "information."
)


def word(name: str) -> bytes:
    """A CLUSTER SYNCSLOTS command without arguments."""
    return encode_request([b"CLUSTER", b"SYNCSLOTS", name.encode()])


@attrs.define(eq=False)
class Export:
    """host, port: of the target. attempts: which of its addresses to try, for the driver.

    queued: bytes that have not been taken.
    """

    migrations: "Migrations"
    job: Job
    host: str
    port: int
    attempts: int = 0
    queued: int = 0
    snapshot: SlotSnapshot | None = None
    _queue: deque[bytes] = attrs.field(factory=deque)
    _tail: Tail | None = None
    _line: bytes = b""
    _answers: deque[Callable[[bytes], None]] = attrs.field(factory=deque)
    _parser: RequestParser = attrs.field(factory=RequestParser)
    _open: bool = True

    # --- as a peer of the transport --------------------------------------------------------------

    def connected(self) -> None:
        """The connection is there: say who asks for what."""
        config = self.migrations.node.config
        if config.masterauth:
            user = [config.masteruser] if config.masteruser else []
            self._answers.append(self._on_auth)
            self._send(encode_request([b"AUTH", *user, config.masterauth]))
            self.migrations.move(self.job, jobs.READING_AUTH)
        else:
            self._establish()

    def lost(self, reason: str) -> None:
        """The connection could not be made, or has ended.

        Once the slots were granted the target may have taken them: only its claim, or the end of
        the pause, can tell.
        """
        self._open = False
        self.close()
        if self.job.state == jobs.GRANTED:
            return
        if self.job.state == jobs.CONNECTING:
            why = reason.rpartition(": ")[2]
            self.migrations.fail(self.job, f"Unable to connect to target node: {why}")
        else:
            self.migrations.fail(self.job, CLOSED)

    def receive(self, data: bytes) -> None:
        try:
            while data and self._answers and self._open:
                data = self._read_line(data)
            if data and self._open:
                self._read_words(data)
        except JobFailure as failure:
            self.migrations.fail(self.job, str(failure))

    def take_output(self, most: int) -> bytes:
        if not self._queue:
            return b""
        data = self._queue.popleft()
        self.queued -= len(data)
        self.migrations.node.observe.slot_bytes_out += len(data)
        return data

    def _send(self, data: bytes) -> None:
        if data and self._open:
            self._queue.append(data)
            self.queued += len(data)
            self.migrations.node.transport.flag(self)

    def say(self, name: str) -> None:
        """Send a word."""
        self._send(word(name))

    def close(self) -> None:
        """Nothing is sent, and nothing of the log wanted, any more."""
        node = self.migrations.node
        if self._open:
            self._open = False
            node.transport.close(self)
        if self.snapshot is not None:
            snapshot, self.snapshot = self.snapshot, None
            node.transport.cancel(snapshot)  # type: ignore[arg-type]
        if self._tail is not None:
            self._tail.close()
            self._tail = None
        self._queue.clear()
        self.queued = 0

    # --- the handshake ---------------------------------------------------------------------------

    def _read_line(self, data: bytes) -> bytes:
        line, newline, rest = (self._line + data).partition(b"\r\n")
        if not newline:
            if len(line) > LINE_MAX:
                raise JobFailure("Response to establish job is larger than buffer limit")
            self._line = line
            return b""
        self._line = b""
        self._answers.popleft()(line)
        return rest

    def _on_auth(self, line: bytes) -> None:
        if line.startswith(b"-"):
            shown = line.decode("latin-1")
            raise JobFailure(f"Failed to AUTH to target node: {shown}")
        self._establish()

    def _establish(self) -> None:
        self.migrations.move(self.job, jobs.SENDING_ESTABLISH)
        self._answers.append(self._on_established)
        self._send(encode_request(establish(self.job)))
        self.migrations.move(self.job, jobs.READING_ESTABLISH)

    def _on_established(self, line: bytes) -> None:
        if line.startswith(b"-"):
            shown = line.decode("latin-1")
            raise JobFailure(f"Received error during handshake to target: {shown}\r\n")
        self.migrations.move(self.job, jobs.WAITING_TO_SNAPSHOT)
        self.say("ACK")
        self.migrations.start_snapshots()

    # --- the data --------------------------------------------------------------------------------

    def start_snapshot(self) -> None:
        """Let the checkpoint be written, and note what is logged from here on."""
        node = self.migrations.node
        self.migrations.move(self.job, jobs.SNAPSHOTTING)
        self._tail = Tail(node, self.job.slots)
        self.snapshot = snapshot = SlotSnapshot(
            node, self.job.slots, self._send, self._snapshot_ended, lambda: self.queued
        )
        produce = node.transport.produce
        if not snapshot.encode_here(limited=True) and not produce(snapshot):  # type: ignore[arg-type]
            snapshot.encode_here(limited=False)

    def _snapshot_ended(self, error: str) -> None:
        self.snapshot = None
        if error:
            _log.warning("The snapshot for slot migration %s failed: %s", self.job, error)
            self.migrations.fail(self.job, jobs.NO_SNAPSHOT)
            return
        self.say("SNAPSHOT-EOF")
        self.migrations.move(self.job, jobs.REPLICATING)

    def after_log(self) -> None:
        """A turn has ended: what it logged follows what is sent already."""
        if self._tail is None or self.snapshot is not None:
            return
        self._send(self._tail.read())
        if self.job.state == jobs.WAITING_TO_PAUSE:
            self._pause()

    def is_overrun(self) -> bool:
        """Whether the target takes so little that this node would run out of memory."""
        most = self.migrations.node.config.client_output_buffer_limit.replica.hard_bytes
        return most > 0 and self.queued > max(most, 2 * AHEAD_MAX)

    # --- the end ---------------------------------------------------------------------------------

    def _pause(self) -> None:
        """Hold back writes, if nothing is in between and little is left to be sent."""
        node = self.migrations.node
        most = node.config.slot_migration_max_failover_repl_bytes
        if node.unit is not None or node.scripting.is_busy() or node.moving.is_on():
            return
        if node.pause.is_on_for(FAILOVER):
            return
        if 0 <= most < self.queued:
            return
        pause_ms = PAUSE_FACTOR * node.config.cluster_manual_failover_timeout
        self._hold(node.now_ms + pause_ms)
        self.say("PAUSED")
        self.migrations.move(self.job, jobs.PAUSED)

    def _hold(self, until_ms: int) -> None:
        self.job.pause_until_ms = until_ms
        self.migrations.node.pause.start(MIGRATION, until_ms)

    def is_pause_over(self) -> bool:
        """Whether others may have written since."""
        node = self.migrations.node
        return self.job.pause_until_ms < node.now_ms or not node.pause.is_on_for(MIGRATION)

    def _read_words(self, data: bytes) -> None:
        for args in self._parser.feed(data):
            if [arg.upper() for arg in args[:2]] != [b"CLUSTER", b"SYNCSLOTS"] or len(args) < 3:
                raise JobFailure(jobs.UNKNOWN_WORD)
            self._on_word(args[2].upper().decode("latin-1"))
            if not self._open:
                return
        if self._parser.error is not None:
            raise JobFailure(jobs.UNKNOWN_WORD)

    def _on_word(self, name: str) -> None:
        self.migrations.heard(self.job, name)
        after = self.job.hear(name)
        if after == jobs.GRANTED:
            self._grant()
        elif after != self.job.state:
            self.migrations.move(self.job, after)

    def _grant(self) -> None:
        if self.is_pause_over():
            raise JobFailure(jobs.PAUSE_OVER)
        if self.migrations.node.pause.is_on_for(FAILOVER):
            raise JobFailure(jobs.REPLICA_TAKES_OVER)
        claim_by_ms = self.migrations.node.now_ms + CLAIM_MS
        if self.job.pause_until_ms < claim_by_ms:
            self._hold(claim_by_ms)
        self.say("FAILOVER-GRANTED")
        self.migrations.move(self.job, jobs.GRANTED)


def establish(job: Job) -> list[bytes]:
    """What tells the target, and its replicas, of a migration."""
    edges = [b"%d" % edge for pair in job.ranges for edge in pair]
    return [
        *(b"CLUSTER", b"SYNCSLOTS", b"ESTABLISH", b"SOURCE", job.source.encode()),
        *(b"NAME", job.name.encode(), b"SLOTSRANGE", *edges),
    ]
