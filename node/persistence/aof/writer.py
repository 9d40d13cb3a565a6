"""The increment under way: written each turn, and synced as `appendfsync` promises.

always    in the turn, before any of its replies leaves
everysec  by a call aside, a second after the last one began. While that takes its time, writing
          waits for it up to two seconds, as it might be held up by the operating system; after
          that it goes on whatever it costs
no        when the operating system likes

A write that fails is undone, kept, and tried again each turn and tick. Under `always` a sync that
fails ends the process (NotDurable): what it should have written may be lost though a later sync
succeeds, and replies have promised it. Otherwise that makes the file doubtful until the next
rewrite.

https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

import contextlib
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs

from node.disk import Appender

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

ALWAYS, EVERYSEC = "always", "everysec"
SYNC_PERIOD_MS = 1000
POSTPONED_MAX_MS = 2000
LITTLE = 1 << 20  # bytes that may be synced while the node waits
COMPLAINT_PERIOD_MS = 30_000


class NotDurable(BaseException):
    """What has been promised to be on disk isn't, and never may be: the process has to end.

    No failure of a command, which a client could be told: nobody must catch it but the process.
    """


@attrs.define(eq=False)
class Writer:
    """size: bytes in the file.

    error, sync_error: of the last try to write, and to sync, if it failed.
    synced_offset: the log's offset up to which everything is as durable as it gets; None while
        that can't be said.
    doubted: files of which a sync has failed, until a rewrite has replaced them.
    delayed: how often writing went on though a sync was under way.
    """

    node: "Node"
    file: Appender
    size: int = 0
    error: OSError | None = None
    sync_error: OSError | None = None
    synced_offset: int | None = None
    doubted: list[Appender] = attrs.field(factory=list)
    delayed: int = 0
    syncs_running: int = 0
    _pending: list[bytes] = attrs.field(factory=list)
    _pending_offset: int = 0  # of the log, after what is pending
    _written_offset: int = 0  # and after what the file holds
    _sync_offset: int = 0  # and after what the last sync covers
    _synced_size: int = 0  # of the file, when the last sync began
    _sync_ms: int = 0  # when that was
    _postponed_ms: int | None = None  # since when writing has been waiting for a sync
    _complained_ms: int | None = None
    _told_s: int = 0  # the time of the last annotation

    def __attrs_post_init__(self) -> None:
        self._synced_size = self.size
        self._sync_ms = self.node.now_ms
        self._pending_offset = self._written_offset = self._sync_offset = self.node.log.offset

    # --- what a turn calls -----------------------------------------------------------------------

    def take(self, data: list[bytes], offset: int) -> None:
        """Add what the log has encoded; `offset`: the log's after it."""
        if self.node.config.aof_timestamp_enabled:
            self._tell_time()
        self._pending += data
        self._pending_offset = offset

    def _tell_time(self) -> None:
        now_s = self.node.keyspace.now_ms // 1000
        if now_s > self._told_s:
            self._told_s = now_s
            self._pending.append(b"#TS:%d\r\n" % now_s)

    def flush(self, *, force: bool = False) -> None:
        """Write what is pending and see to its sync; force: don't wait for one that is under way.

        Raises NotDurable.
        """
        policy = self.node.config.appendfsync
        if self._pending:
            waits = policy == EVERYSEC and self.syncs_running and not force
            if (waits and self._postpone()) or not self._write():
                return
        if policy == ALWAYS:
            if self.size != self._synced_size and not self._spares_disk():
                self._sync_now()
        elif policy == EVERYSEC:
            self._sync_aside()

    def pass_to(self, offset: int) -> None:
        """The log has come to that offset by what is for replicas only."""
        if not self._pending and offset != self._written_offset:
            self._pending_offset = self._written_offset = offset
            if self.size == self._synced_size and not self.syncs_running:
                self._advance(offset)

    def pending(self) -> int:
        """Bytes that the file has not got."""
        return sum(map(len, self._pending))

    def is_stuck(self) -> bool:
        """Whether there is something that the file can't be given."""
        return self.error is not None

    # --- writing ---------------------------------------------------------------------------------

    def _postpone(self) -> bool:
        """Whether writing is to wait for the sync under way."""
        now_ms = self.node.now_ms
        if self._postponed_ms is None:
            self._postponed_ms = now_ms
        if now_ms - self._postponed_ms < POSTPONED_MAX_MS:
            return True
        self.delayed += 1
        _log.info(
            "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer "
            "without waiting for fsync to complete, this may slow down the server."
        )
        return False

    def _write(self) -> bool:
        self._postponed_ms = None
        data = self._pending[0] if len(self._pending) == 1 else b"".join(self._pending)
        try:
            self.file.write(data)
        except OSError as error:
            self._undo(data)
            self._fail(error)
            return False
        self._pending.clear()
        self.size += len(data)
        self._written_offset = self._pending_offset
        if self.error is not None:
            self.error = self._complained_ms = None
            _log.warning("AOF write error looks solved. The server can write again.")
            self.node.refresh_gate()
        return True

    def _undo(self, data: bytes) -> None:
        """A write has failed, maybe half-way: the file is to end with a whole command again."""
        written = 0
        with contextlib.suppress(OSError):
            written = self.file.size() - self.size
        if written > 0:
            try:
                self.file.truncate(self.size)
                written = 0
            except OSError as error:
                _log.warning(
                    "Could not remove short write from the append-only file. The server may refuse "
                    "to load the AOF the next time it starts. ftruncate: %s",
                    error.strerror,
                )
                self.size += written
        self._pending = [data[max(written, 0) :]]

    def _fail(self, error: OSError) -> None:
        now_ms = self.node.now_ms
        if self._complained_ms is None or now_ms - self._complained_ms >= COMPLAINT_PERIOD_MS:
            self._complained_ms = now_ms
            _log.warning("Error writing to the AOF file: %s", error.strerror)
        self.error = error
        self.node.refresh_gate()

    # --- syncing ---------------------------------------------------------------------------------

    def _spares_disk(self) -> bool:
        """Whether no-appendfsync-on-rewrite asks for no sync now."""
        return self.node.config.no_appendfsync_on_rewrite and self.node.has_child()

    def _sync_now(self) -> None:
        try:
            self.file.sync()
        except OSError as error:
            _log.error(
                "Can't persist AOF for fsync error when the AOF fsync policy is 'always': %s. "
                "Exiting...",
                error.strerror,
            )
            raise NotDurable from error
        self._synced_size = self.size
        self._sync_ms = self.node.now_ms
        self._synced(self.file, self._written_offset, None)

    def _sync_aside(self) -> None:
        now_ms = self.node.now_ms
        if self.size == self._synced_size or now_ms - self._sync_ms < SYNC_PERIOD_MS:
            return
        if not self.syncs_running and not self._spares_disk():
            self._begin_sync()

    def _begin_sync(self) -> None:
        self._sync_ms = self.node.now_ms
        self._synced_size = self.size
        self._aside(self.file, self.file.sync)

    def _aside(self, file: Appender, sync: Callable[[], None]) -> None:
        """Let a sync of all that has been written go on while the node does."""
        offset = self._written_offset
        self.syncs_running += 1

        def ended(error: OSError | None) -> None:
            self.syncs_running -= 1
            self._synced(file, offset, error)

        self.node.background.call(sync, ended)

    def _synced(self, file: Appender, offset: int, error: OSError | None) -> None:
        """A sync of everything up to that offset has ended."""
        if error is not None:
            _log.warning("Fail to fsync the AOF file: %s", error.strerror)
            self.doubted.append(file)
            if file is self.file:
                self._synced_size = -1  # so that it is tried again
            self.node.aof.rewriting.scheduled = True
        self._set_sync_error(error)
        if error is None:
            self._advance(offset)

    def _set_sync_error(self, error: OSError | None) -> None:
        if (error is None) != (self.sync_error is None):
            self.sync_error = error
            self.node.refresh_gate()

    def _advance(self, offset: int) -> None:
        self._sync_offset = max(self._sync_offset, offset)
        if self.synced_offset is None or self.syncs_running or self.doubted:
            return
        if self.synced_offset < self._sync_offset:
            self.synced_offset = self._sync_offset
            self.node.aof.advanced()

    def sync_ahead(self) -> bool:
        """If much is to be synced, begin that aside; False if there is little."""
        if self.size - self._synced_size <= LITTLE or self._spares_disk():
            return False
        if not self.syncs_running:
            self._begin_sync()
        return True

    # --- the file --------------------------------------------------------------------------------

    def settle(self) -> None:
        """Sync all that has been written, now: another file is to follow, and after a crash none
        but the last may lack its end."""
        if self.size == self._synced_size and not self.syncs_running:
            return
        failure = None
        try:
            self.file.sync()
            self._synced_size = self.size
        except OSError as error:
            failure = error
        self._synced(self.file, self._written_offset, failure)

    def switch(self, file: Appender) -> None:
        """Go on in another file, an empty one. The old one, to which all has been written, is
        synced and closed aside."""
        old, is_synced = self.file, self.size == self._synced_size and not self.syncs_running
        if is_synced:
            old.close()
        else:
            self._aside(old, lambda: _sync_and_close(old))
        self.file, self.size, self._synced_size = file, 0, 0
        self._told_s = 0

    def renewed(self) -> None:
        """A rewrite has replaced all that was written before this file: from here on it can be
        said what is durable."""
        self.doubted = [file for file in self.doubted if file is self.file]
        if not self.doubted:
            self._set_sync_error(None)
        if self.synced_offset is None:
            self.synced_offset = 0
        self._advance(self._sync_offset)

    def sync(self) -> None:
        """Sync what has been written, now; an error is logged."""
        try:
            self.file.sync()
        except OSError as error:
            _log.warning("Fail to fsync the AOF file: %s", error.strerror)

    def close(self) -> None:
        """Sync what has been written, and close the file."""
        self.synced_offset = None
        self.sync()
        if self.syncs_running:
            self.node.background.call(self.file.close, lambda _: None)
        else:
            self.file.close()


def _sync_and_close(file: Appender) -> None:
    try:
        file.sync()
    finally:
        file.close()
