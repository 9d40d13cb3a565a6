"""One script or function under way: whether it may run at all, how long, and who may end it.

Past busy-reply-threshold the interpreter's hook lets the driver serve the other clients, who are
told BUSY; they may end a script that has not written anything.
"""

import logging
from typing import TYPE_CHECKING

import attrs

from node.clock import Clock
from node.gate import MASTER_DOWN, NO_REPLICAS
from node.persistence.log import AOF, BOTH, REPLICAS
from node.replies import ReplyError
from node.scripting.scripts import ALLOW_OOM, ALLOW_STALE, COMPATIBLE, NO_CLUSTER, NO_WRITES
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

NOT_BUSY = ReplyError(b"NOTBUSY No scripts in execution right now.")
UNKILLABLE = ReplyError(
    b"UNKILLABLE Sorry the script already executed write commands against the dataset. You can "
    b"either wait the script termination or kill the server in a hard way using the SHUTDOWN "
    b"NOSAVE command."
)
BUSY_SCRIPT = ReplyError(
    b"BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
)
BUSY_FUNCTION = ReplyError(
    b"BUSY Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE."
)
_RO_COMMAND = ReplyError(b"ERR Can not execute a script with write flag using *_ro command.")
_RO_REPLICA = ReplyError(b"READONLY You can not run script with write flag on readonly replica.")
_NO_CLUSTER = ReplyError(b"ERR Can not run script on cluster, 'no-cluster' flag is set.")

_NO_MEMORY = ReplyError(
    b"OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'"
)

SLICE = 1000  # instructions between two calls of the hook, as lua/limits.lua begins
_SLOW_MS = 50  # a slice that takes longer is made shorter
_SERVE_MS = 10  # others are served this often, at most
AUDIENCES = (0, AOF, REPLICAS, BOTH)  # by the numbers of redis.REPL_*


class Run:
    """session: the client's. command: what it said. read_only: it must not write.

    What most never need has its place in the class: one of these is made for every call.
    """

    started_ms = -1  # when the hook has first seen it; most are over before
    looked_ms = 0
    served_ms = 0
    slice = SLICE
    busy = False  # longer than busy-reply-threshold
    wrote = False  # something may have changed by now
    reason: bytes | None = None  # why it must end
    place: tuple[bytes, int] | None = None  # source and line where it was told so
    slot = -1  # of the keys it has met so far, where all must be in one
    discards = False  # what it did is lost: the process ends

    def __init__(
        self,
        node: "Node",
        session: Session,
        command: list[bytes],
        name: bytes,
        flags: int,
        is_function: bool,
        read_only: bool,
    ) -> None:
        self.node = node
        self.session = session
        self.command = command
        self.name = name
        self.flags = flags
        self.is_function = is_function
        self.read_only = read_only

    def look(self) -> tuple[bytes | None, int | None]:
        """Called by the hook every now and then: (why the script must end, another slice)."""
        now_ms = self.node.clock.monotonic_ms()
        if self.started_ms < 0:
            self.started_ms = self.looked_ms = now_ms
        if self.is_due(self.started_ms, now_ms):
            self._serve_others(now_ms)
            now_ms = self.node.clock.monotonic_ms()
        return self.reason, self._pace(now_ms)

    def is_due(self, since_ms: int, now_ms: int) -> bool:
        """Whether others are to be served, if it has been under way since then."""
        threshold_ms = self.node.config.busy_reply_threshold
        return now_ms - since_ms >= threshold_ms and now_ms - self.served_ms >= _SERVE_MS

    def attend(self, since_ms: int) -> None:
        """Serve others where the hook has not come to it; see node.watchdog."""
        now_ms = self.node.clock.monotonic_ms()
        if self.started_ms < 0:
            self.started_ms = self.looked_ms = since_ms
        if self.is_due(self.started_ms, now_ms):
            self._serve_others(now_ms)

    def _pace(self, now_ms: int) -> int | None:
        """A shorter slice where instructions take long, a longer one where they do no more."""
        spent_ms, self.looked_ms = now_ms - self.looked_ms, now_ms
        before = self.slice
        if spent_ms > _SLOW_MS:
            self.slice = max(1, self.slice * _SLOW_MS // (4 * spent_ms))
        elif self.slice < SLICE and spent_ms < _SLOW_MS // 4:
            self.slice = min(SLICE, self.slice * 2)
        return self.slice if self.slice != before else None

    def _serve_others(self, now_ms: int) -> None:
        node = self.node
        if not self.busy:
            self.busy = True
            node.refresh_gate()
            _log.warning(
                "Slow script detected: still in execution after %d milliseconds. You can try "
                "killing the script using the %s command.",
                now_ms - self.started_ms,
                "FUNCTION KILL" if self.is_function else "SCRIPT KILL",
            )
        with node.aside():
            node.on_busy()
        self.served_ms = node.clock.monotonic_ms()
        if node.shutdown.ended and self.reason is None:
            self.reason, self.discards = b"ERR the server is shutting down", True

    def refusal(self) -> ReplyError:
        """What others are told while this keeps the node busy."""
        return BUSY_FUNCTION if self.is_function else BUSY_SCRIPT

    def kill(self, is_function: bool) -> None:
        """SCRIPT KILL or FUNCTION KILL; raises ReplyError."""
        if self.wrote:
            raise UNKILLABLE
        if self.is_function != is_function:
            raise self.refusal()
        self.reason = b"ERR Script killed by user with " + (
            b"FUNCTION KILL." if is_function else b"SCRIPT KILL."
        )

    def ended_at(self, source: bytes | None, line: int | None) -> None:
        """The hook tells where the script was when it had to end."""
        if source is not None and line is not None:
            self.place = source, line

    def killed_text(self) -> bytes:
        """The error that the client gets of a script that was ended."""
        text = self.reason or b"ERR not enough memory"
        if self.place is not None:
            text += b" script: on %b:%d." % self.place
        return text


@attrs.define(eq=False)
class Loading:
    """A library being loaded: what a Run is to the hook."""

    clock: Clock
    until_ms: int
    reason: bytes | None = None

    def look(self) -> bytes | None:
        """Why loading must end."""
        if self.clock.monotonic_ms() >= self.until_ms:
            self.reason = b"ERR FUNCTION LOAD timeout"
        return self.reason

    def ended_at(self, source: bytes | None, line: int | None) -> None:
        """Nobody asks where."""


def check(node: "Node", flags: int, ro_command: bool) -> None:
    """Whether a script or function with these flags may run now; raises ReplyError."""
    if node.is_stale() and (flags & COMPATIBLE or not flags & ALLOW_STALE):
        raise MASTER_DOWN
    if flags & COMPATIBLE:
        return
    if node.topology.clustered and flags & NO_CLUSTER:
        raise _NO_CLUSTER
    if flags & NO_WRITES:
        return
    if ro_command:
        raise _RO_COMMAND
    if node.is_replica() and node.config.replica_read_only:
        raise _RO_REPLICA
    if node.lacks_replicas():
        raise NO_REPLICAS
    if node.eviction.is_full and not flags & ALLOW_OOM:
        raise _NO_MEMORY
