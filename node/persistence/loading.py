"""The data set that a node starts with: its file, read a piece at a time.

Between two pieces clients are told that the node is loading. A file that is broken anywhere ends in
an error, never in a part of its data being served.
"""

import logging
from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING

import attrs

from node.persistence.checkpoint import Loader, seconds_per_key, take_functions, take_imports
from node.persistence.rdb import RdbError

if TYPE_CHECKING:
    from node.disk import Source
    from node.node import Node

_log = logging.getLogger(__name__)

PIECE_SIZE = 64 * 1024
PROGRESS_MS = 2000  # from one line in the log to the next


class LoadError(Exception):
    """Why a file's data can't be had, told for the log."""


@attrs.define(eq=False)
class Loading:
    """How far it is. started_ms: wall clock. total, loaded: bytes; a total of 0 is unknown."""

    started_ms: int
    total: int
    loaded: int = 0
    _told_ms: int = 0

    def advance(self, size: int, now_ms: int) -> None:
        """So many bytes more are loaded; now and then that is told to the log."""
        self.loaded += size
        if now_ms - max(self._told_ms, self.started_ms) >= PROGRESS_MS:
            self._told_ms = now_ms
            _log.info(
                "Loading the data set: %d of %d MB, %.0f%%, about %d seconds left",
                *(self.loaded >> 20, self.total >> 20, 100 * self.loaded / (self.total or 1)),
                self.seconds_left(now_ms),
            )

    def seconds_left(self, now_ms: int) -> int:
        """About how long it will still take."""
        elapsed_s = (now_ms - self.started_ms) // 1000
        if not elapsed_s or not self.loaded:
            return 1
        return max(elapsed_s * (self.total - self.loaded) // self.loaded, 0)


def load(
    node: "Node", name: str, *, resumes: bool = True, keeps: bool = False, merges: bool = False
) -> Iterator[None]:
    """Put a file's data into the node, which is empty.

    resumes: the node goes on with the history that the file tells of. keeps, merges: see Loader;
    what a node keeps does not get lost if the file can't be loaded. A step is a turn's work,
    inside begin_turn and end_turn. No file is no data. Raises LoadError; the node is empty then,
    and so it is if the steps are not gone to the end.
    """
    if not node.disk.exists(name):
        return
    whole = False
    try:
        file = node.disk.open(name)
        node.loading = Loading(node.keyspace.now_ms, file.size())
        node.refresh_gate()
        loader = yield from _read(node, file, keeps, merges)
        _take_over(node, loader, resumes)
        whole = True
    except OSError as error:
        text = f"Fatal error: can't open the RDB file {name} for reading: {error.strerror}"
        raise LoadError(text) from None
    except RdbError as error:
        raise LoadError(
            f"Bad RDB file {name}: {error.reason}, at offset {error.offset}. "
            "Terminating server after rdb file reading failure."
        ) from None
    finally:
        if not whole and not keeps:
            node.keyspace.flush()
        node.loading = None
        node.refresh_gate()


def _read(node: "Node", file: "Source", keeps: bool, merges: bool) -> Generator[None, None, Loader]:
    started_ms = node.clock.monotonic_ms()
    config, loading = node.config, node.loading
    assert loading is not None
    loader = Loader.of(
        node,
        drops_before_ms=None if node.is_to_follow() or node.is_replica() else node.keyspace.now_ms,
        keeps=keeps,
        merges=merges,
    )
    delay_s = seconds_per_key(config.key_load_delay)
    size = min(PIECE_SIZE, config.loading_process_events_interval_bytes)
    try:
        while data := file.read(size):
            keys = loader.keys
            loader.receive(data)
            loading.advance(len(data), node.keyspace.now_ms)
            if delay_s:
                node.clock.sleep(delay_s * (loader.keys - keys))
            yield
    finally:
        file.close()
    if loader.finish():
        raise RdbError("more than a data set in the file", loader.reader.offset)
    take_functions(node, loader)
    take_imports(node, loader)
    _log_origin(loader.reader.aux, node.keyspace.now_ms)
    _log.info(
        "Done loading RDB, keys loaded: %d, keys expired: %d.", loader.keys, len(loader.expired)
    )
    taken_s = (node.clock.monotonic_ms() - started_ms) / 1000
    _log.info("DB loaded from disk: %.3f seconds", taken_s)
    return loader


def _log_origin(aux: dict[bytes, bytes], now_ms: int) -> None:
    version = aux.get(b"redis-ver", aux.get(b"valkey-ver", b"?")).decode(errors="replace")
    _log.info("Loading RDB produced by version %s", version)
    if (since := aux.get(b"ctime", b"")).isdigit():
        _log.info("RDB age %d seconds", max(now_ms // 1000 - int(since), 0))
    if (used := aux.get(b"used-mem", b"")).isdigit():
        _log.info("RDB memory usage when created %.2f Mb", int(used) / (1 << 20))


def _take_over(node: "Node", loader: Loader, resumes: bool) -> None:
    """The data are whole: they are the node's, at their place in a history if they tell one."""
    aux = loader.reader.aux
    node.saves.loaded(loader.keys, len(loader.expired))
    if not resumes:
        return
    id, offset = aux.get(b"repl-id", b"").decode("latin-1"), aux.get(b"repl-offset", b"")
    if len(id) != 40 or not offset.isdigit():
        return
    db = aux.get(b"repl-stream-db", b"0")
    node.role.resume(id, int(offset), int(db) if db.isdigit() else 0)
    if node.log.active:
        for index, key in loader.expired:  # replicas that go on from here still have these
            node.log.append_one(index, [node.deleting_word(), key])
