"""The file that holds a node's data: when it is written, how that goes, and what became of it.

A save in the background takes the data of one moment. Once enough has changed for one of the `save`
points, one is started; after one that failed the next try waits, and while `save` points are
set a failure keeps clients from writing what can't be saved (stop-writes-on-bgsave-error).

https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

import logging
import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

import attrs

from node.disk import replace_by_way_of
from node.persistence import checkpoint

if TYPE_CHECKING:
    from node.config.special import SavePoint
    from node.node import Node

_log = logging.getLogger(__name__)

RETRY_MS = 5000  # after a save in the background that failed
SYNC_EVERY = 4 * 1024 * 1024  # bytes


@attrs.define(eq=False)
class Save:
    """One that is under way. dirty: the changes that it holds, as the keyspace counts them."""

    dirty: int
    since_ms: int
    pid: int = 0


@attrs.define(eq=False)
class Saves:
    """saves_by_itself: whether `save` points, FLUSHALL and the end of the process write the file.

    running: the save in the background. scheduled: one is to follow as soon as it can.
    failed: the last one in the background did. started: saves ever begun, in either way.
    saved_at_ms: wall clock of the last that succeeded. took_ms: the last one's in the background.
    keys_loaded, keys_expired: of the file that the node started with.
    """

    node: "Node"
    saves_by_itself: bool = False
    running: Save | None = None
    scheduled: bool = False
    failed: bool = False
    started: int = 0
    saved_at_ms: int = 0
    took_ms: int | None = None
    keys_loaded: int = 0
    keys_expired: int = 0
    _saved_ms: int = 0  # monotonic
    _saved_dirty: int = 0
    _tried_ms: int | None = None

    def __attrs_post_init__(self) -> None:
        node = self.node
        node.config.on_change("save", lambda _: node.refresh_gate())
        node.config.on_change("stop-writes-on-bgsave-error", lambda _: node.refresh_gate())

    def changes(self) -> int:
        """Changes that the file doesn't hold."""
        return self.node.keyspace.dirty - self._saved_dirty

    def forbids_writes(self) -> bool:
        """Whether clients must not write, as nothing gets saved."""
        config = self.node.config
        return self.failed and config.stop_writes_on_bgsave_error and bool(config.save)

    def has_points(self) -> bool:
        """Whether this node is to write its file without being told."""
        return self.saves_by_itself and bool(self.node.config.save)

    def begin(self) -> None:
        """The node starts: what it holds now needs no saving."""
        self._saved_ms, self.saved_at_ms = self.node.now_ms, self.node.keyspace.now_ms

    def loaded(self, keys: int, expired: int) -> None:
        """The node holds what the file does."""
        self.keys_loaded, self.keys_expired = keys, expired
        self._saved_dirty = self.node.keyspace.dirty

    # --- at once ---------------------------------------------------------------------------------

    def save(self) -> bool:
        """Write the file, now; False if that failed, and the log says why."""
        node = self.node
        self.started += 1
        dirty = node.keyspace.dirty
        code = self._write(node.host.process_id, self._pieces())
        if code:
            _log.warning("Write error saving DB on disk: %s", os.strerror(code))
            return False
        self._succeeded(dirty)
        return True

    def _pieces(self) -> Iterable[bytes]:
        return checkpoint.take(self.node, checkpoint.version_for(self.node))

    def _write(self, pid: int, pieces: Iterable[bytes]) -> int:
        """0, or the number of the operating system's error. Runs in a child too."""
        config, disk = self.node.config, self.node.disk
        sync_every = SYNC_EVERY if config.rdb_save_incremental_fsync else 0
        try:
            replace_by_way_of(disk, _temporary(pid), config.dbfilename, pieces, sync_every)
        except OSError as error:
            return error.errno or 1
        return 0

    def _succeeded(self, dirty: int) -> None:
        _log.info("DB saved on disk")
        self._saved_dirty = dirty
        self._saved_ms, self.saved_at_ms = self.node.now_ms, self.node.keyspace.now_ms
        self._set_failed(False)

    def _set_failed(self, failed: bool) -> None:
        self.failed = failed
        self.node.refresh_gate()

    # --- in the background -----------------------------------------------------------------------

    def start(self) -> bool:
        """Begin to write the file; False if that failed, and the log says why."""
        node = self.node
        assert self.running is None
        self.started += 1
        self.scheduled = False
        self._tried_ms = node.now_ms
        pieces = self._pieces()
        running = self.running = Save(node.keyspace.dirty, node.now_ms)
        try:
            running.pid = node.background.run(lambda pid: self._write(pid, pieces), self._ended)
        except OSError as error:
            _log.warning("Can't save in background: fork: %s", error.strerror)
            self.running = None
            self._set_failed(True)
            return False
        _log.info("Background saving started by pid %d", running.pid)
        return True

    def _ended(self, code: int) -> None:
        running, self.running = self.running, None
        assert running is not None
        self.took_ms = self.node.now_ms - running.since_ms
        if code == 0:
            self._succeeded(running.dirty)
            _log.info("Background saving terminated with success")
            return
        if code < 0:
            _log.warning("Background saving terminated by signal %d", -code)
            self._remove_temporary(running.pid)
        else:
            _log.warning("Background saving error: %s", os.strerror(code))
        self._set_failed(True)

    def running_ms(self) -> int | None:
        """How long the save under way has taken so far."""
        return None if self.running is None else self.node.now_ms - self.running.since_ms

    def is_wanted(self) -> bool:
        """Whether one is under way or to follow."""
        return self.scheduled or self.running is not None

    def cancel(self) -> None:
        """End what is under way or about to be."""
        self.scheduled = False
        running, self.running = self.running, None
        if running is not None:
            _log.info("Killing the child that saves: %d", running.pid)
            self.node.background.cancel(running.pid)
            self._remove_temporary(running.pid)

    def _remove_temporary(self, pid: int) -> None:
        disk, name = self.node.disk, _temporary(pid)
        try:
            if disk.exists(name):
                disk.remove(name)
        except OSError as error:
            _log.warning("Can't remove %s: %s", name, error.strerror)

    # --- by itself -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Begin a save that has become due."""
        node = self.node
        if self.running is not None or node.loading is not None:
            return
        if node.aof.rewriting.running is not None:
            return
        if self.failed and self._tried_ms is not None and node.now_ms - self._tried_ms <= RETRY_MS:
            return
        point = self._point_due()
        if point is not None:
            _log.info("%d changes in %d seconds. Saving...", point[1], point[0])
        if point is not None or self.scheduled:
            self.start()

    def _point_due(self) -> "SavePoint | None":
        if not self.has_points():
            return None
        changes, passed_ms = self.changes(), self.node.now_ms - self._saved_ms
        for point in self.node.config.save:
            seconds, many = point
            if changes >= many and passed_ms > 1000 * seconds:
                return point
        return None

    def flushed(self) -> None:
        """FLUSHALL: a start must not bring back what is gone now."""
        self.cancel()
        if self.has_points():
            self.save()


def _temporary(pid: int) -> str:
    return f"temp-{pid}.rdb"
