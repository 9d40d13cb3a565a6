"""Rewriting: a new base in the background, so that the append-only file holds no more than it must.

From the moment of its start changes go to a new increment. Once the base is written both take the
place of all that was before; if it fails, what was before goes on to count, with one increment
more. After three failures in a row the tries by itself wait a minute, then two, up to an hour.

https://redis.io/docs/latest/commands/bgrewriteaof/
"""

import contextlib
import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from node.persistence import checkpoint
from node.persistence.aof import commands
from node.persistence.aof.manifest import ManifestError

if TYPE_CHECKING:
    from node.persistence.aof.aof import Aof

_log = logging.getLogger(__name__)

FAILURES_BORNE = 2  # in a row, before tries wait
WAIT_MAX_MINUTES = 60
SYNC_EVERY = 4 * 1024 * 1024  # bytes


@attrs.define(eq=False)
class Rewrite:
    """One that is under way. is_rdb: the form of the base."""

    since_ms: int
    is_rdb: bool
    pid: int = 0

    @property
    def file(self) -> str:
        """Where the base is written."""
        return _temporary(self.pid)


@attrs.define(eq=False)
class Rewriting:
    """running: the rewrite under way. scheduled: one is to follow as soon as it can.

    failed: the last one did. failures: in a row. started: rewrites ever begun. took_ms: the last.
    """

    aof: "Aof"
    running: Rewrite | None = None
    scheduled: bool = False
    failed: bool = False
    failures: int = 0
    started: int = 0
    took_ms: int | None = None
    _wait_minutes: int = 0
    _not_before_ms: int | None = None
    _synced_ahead: bool = False

    def running_ms(self) -> int | None:
        """How long the rewrite under way has taken so far."""
        return None if self.running is None else self.aof.node.now_ms - self.running.since_ms

    # --- one rewrite -----------------------------------------------------------------------------

    def start(self) -> bool:
        """Begin one; False if that failed, and the log says why. Nothing else may be under way in
        the background, nor a transaction."""
        node = self.aof.node
        assert self.running is None
        try:
            self.aof.rotate()
        except (OSError, ManifestError) as error:
            _log.warning("Can't begin to rewrite the append only file: %s", error)
            self.failed = True
            self.failures += 1
            return False
        self.started += 1
        is_rdb = node.config.aof_use_rdb_preamble
        pieces = self.base(is_rdb)
        running = self.running = Rewrite(node.now_ms, is_rdb)
        self.scheduled = False
        try:
            running.pid = node.background.run(lambda pid: self._write(pid, pieces), self._ended)
        except OSError as error:
            _log.warning("Can't rewrite append only file in background: fork: %s", error.strerror)
            self.running = None
            self.failed = True
            self.aof.rewrite_failed()
            return False
        _log.info("Background append only file rewriting started by pid %d", running.pid)
        return True

    def base(self, is_rdb: bool) -> Iterable[bytes]:
        """A base with the data as they are now, in pieces; they must stay as they are."""
        node = self.aof.node
        if is_rdb:
            version = checkpoint.version_for(node)
            return checkpoint.take(node, version, aof_base=True)
        config, clock = node.config, node.clock
        delay_s = checkpoint.seconds_per_key(config.rdb_key_save_delay)
        return commands.encode(
            checkpoint.records(node.keyspace),
            list(node.scripting.libraries.sources()),
            node.keyspace.now_ms // 1000 if config.aof_timestamp_enabled else None,
            (lambda: clock.sleep(delay_s)) if delay_s else None,
        )

    def _write(self, pid: int, pieces: Iterable[bytes]) -> int:
        """0, or the number of the operating system's error. Runs in a child."""
        sync_every = SYNC_EVERY if self.aof.node.config.aof_rewrite_incremental_fsync else 0
        try:
            self.aof.directory.write_base(_temporary(pid), pieces, sync_every)
        except OSError as error:
            return error.errno or 1
        return 0

    def _ended(self, code: int) -> None:
        running, self.running = self.running, None
        assert running is not None
        self.took_ms = self.aof.node.now_ms - running.since_ms
        self.failed = not self._succeeds(running, code)
        if self.failed:
            self.failures += 1
            self._remove(running)
            self.aof.rewrite_failed()
            return
        self.failures = 0
        self.aof.rewritten()
        _log.info("Background AOF rewrite finished successfully")

    def _succeeds(self, running: Rewrite, code: int) -> bool:
        if code < 0:
            _log.warning("Background AOF rewrite terminated by signal %d", -code)
            return False
        if code > 0:
            _log.warning("Background AOF rewrite terminated with error %d", code)
            return False
        _log.info("Background AOF rewrite terminated with success")
        try:
            self.aof.adopt(running.file, running.is_rdb)
        except OSError as error:
            _log.warning("Can't let the rewritten append only file count: %s", error)
            return False
        return True

    def cancel(self) -> None:
        """End the rewrite under way; nothing has come of it."""
        running, self.running = self.running, None
        if running is not None:
            _log.info("Killing running AOF rewrite child: %d", running.pid)
            self.aof.node.background.cancel(running.pid)
            self._remove(running)

    def _remove(self, running: Rewrite) -> None:
        disk = self.aof.node.disk
        with contextlib.suppress(OSError):
            if disk.exists(running.file):
                disk.remove(running.file)

    # --- by itself -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Begin a rewrite that is scheduled, or due as the file has grown."""
        node = self.aof.node
        if node.has_child() or node.loading is not None:
            return
        if self.scheduled:
            if not self._is_to_wait() and self._is_prepared():
                self.start()
            return
        growth = self.aof.growth()
        if growth is not None and not self._is_to_wait() and self._is_prepared():
            _log.info("Starting automatic rewriting of AOF on %d%% growth", growth)
            self.start()

    def _is_prepared(self) -> bool:
        """What was written is on disk but for a little, so that the start need not wait for it."""
        writer = self.aof.writer
        if writer is None:
            return True
        if not self._synced_ahead:
            self._synced_ahead = writer.sync_ahead()
            return not self._synced_ahead
        if writer.syncs_running:
            return False
        self._synced_ahead = False
        return True

    def _is_to_wait(self) -> bool:
        """Whether too many have failed for another try now."""
        now_ms = self.aof.node.now_ms
        if self.failures <= FAILURES_BORNE:
            self._wait_minutes, self._not_before_ms = 0, None
            return False
        if self._not_before_ms is not None:
            if now_ms < self._not_before_ms:
                return True
            self._not_before_ms = None
            return False
        self._wait_minutes = min(2 * self._wait_minutes or 1, WAIT_MAX_MINUTES)
        self._not_before_ms = now_ms + 60_000 * self._wait_minutes
        _log.warning(
            "Background AOF rewrite has repeatedly failed and triggered the limit, "
            "will retry in %d minutes",
            self._wait_minutes,
        )
        return True


def _temporary(pid: int) -> str:
    return f"temp-rewriteaof-bg-{pid}.aof"
