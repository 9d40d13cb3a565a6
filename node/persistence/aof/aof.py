"""A node's append-only file: on or off, and the turn's share of it.

off       nothing is written
waiting   it is to be on: a first base is being made of the data there are. What happens meanwhile
          goes to a file that counts only with that base
on        each turn's part of the log is written before its replies leave

Under `always` a reply promises that what it tells is on disk. So if a turn's part can't be
written, its replies are replaced by errors, and until it can be nothing of the data is told or
changed. A real server ends its process there.

https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""

import logging
import os
from typing import TYPE_CHECKING

import attrs

from node.config import ConfigError
from node.persistence.aof import loading
from node.persistence.aof.directory import Directory
from node.persistence.aof.rewriting import Rewriting
from node.persistence.aof.writer import ALWAYS, Writer
from node.persistence.loading import LoadError
from node.replies import ReplyError
from node.resp import count_replies, encode_error
from node.session import NORMAL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from node.config import Config
    from node.node import Node
    from node.session import Session

_log = logging.getLogger(__name__)

OFF, WAITING, ON = "off", "waiting", "on"


@attrs.define(eq=False)
class Aof:
    """state: one of the above. writer: of the increment under way.

    base_size: bytes in all parts right after the last rewrite, or in the base that was loaded.
    """

    node: "Node"
    state: str = OFF
    directory: Directory = attrs.field(init=False)
    rewriting: Rewriting = attrs.field(init=False)
    writer: Writer | None = None
    base_size: int = 0
    _others: int = 0  # bytes in the parts before the increment under way

    def __attrs_post_init__(self) -> None:
        config = self.node.config
        self.directory = Directory(self.node.disk, config)
        self.rewriting = Rewriting(self)
        config.on_change("appendonly", self._switch)
        config.on_change("appendfsync", lambda _: self.node.refresh_gate())
        config.on_change("aof-disable-auto-gc", lambda _: self._remove_history())

    # --- what others ask -------------------------------------------------------------------------

    def forbids_writes(self) -> bool:
        """Whether clients must not change what can't be written."""
        writer = self.writer
        return writer is not None and (writer.error or writer.sync_error) is not None

    def forbids_reads(self) -> bool:
        """Whether clients must not even see the data, as it has been promised that what they see
        is on disk."""
        writer = self.writer
        return writer is not None and writer.is_stuck() and self.node.config.appendfsync == ALWAYS

    def refusal(self) -> ReplyError:
        """What clients are told then."""
        assert self.writer is not None
        error = self.writer.error or self.writer.sync_error
        assert error is not None
        reason = (error.strerror or str(error)).encode()
        return ReplyError(b"MISCONF Errors writing to the AOF file: " + reason)

    def synced_offset(self) -> int | None:
        """The log's offset up to which all is on disk; None while that can't be said."""
        return None if self.writer is None else self.writer.synced_offset

    def size(self) -> int:
        """Bytes in all parts that count."""
        return self._others + (0 if self.writer is None else self.writer.size)

    def growth(self) -> int | None:
        """Per cent by which the file has grown since its last rewrite, if that asks for another."""
        config, size = self.node.config, self.size()
        percentage = config.auto_aof_rewrite_percentage
        if self.state != ON or not percentage or size <= config.auto_aof_rewrite_min_size:
            return None
        growth = size * 100 // (self.base_size or 1) - 100
        return growth if growth >= percentage else None

    # --- turns and time --------------------------------------------------------------------------

    def end_turn(self) -> None:
        """Write the turn's part of the log; to be called while `log.aof` is not None. Raises
        NotDurable."""
        log, writer = self.node.log, self.writer
        assert writer is not None
        if not log.aof:
            writer.pass_to(log.offset)
            return
        data, log.aof = log.aof, []
        was_stuck = writer.is_stuck()
        writer.take(data, log.offset)
        writer.flush()
        if writer.is_stuck() and not was_stuck and self.forbids_reads():
            self._retract()

    def tick(self) -> None:
        """Try again what has failed, sync what is due, rewrite."""
        if self.writer is not None:
            self.writer.flush()
            if self.writer.is_stuck() and not self.node.config.replica_ignore_disk_write_errors:
                self.node.role.hold("what it sends can't be written to the AOF file")
        self.rewriting.tick()

    def advanced(self) -> None:
        """More of the log is on disk: tell those who wait for that."""
        node = self.node
        node.role.log_is_durable()
        node.blocking.poll()

    def _retract(self) -> None:
        """The replies of this turn rest on what couldn't be written: tell that instead."""
        text = b". What was asked for is done, but not durable; nobody sees it before it is"
        line = encode_error(ReplyError(self.refusal().text + text))
        for session in list(self.node.sessions.values()):
            if session.output and session.kind == NORMAL:
                self._retract_from(session, line)

    def _retract_from(self, session: "Session", line: bytes) -> None:
        if session.id in self.node.observe.monitors:
            return
        if session.tracked is not None or session.subscriptions is not None:
            session.drop()  # messages are among its replies
            return
        count = count_replies(b"".join(session.output))
        session.output[:] = [line * count]

    # --- on and off ------------------------------------------------------------------------------

    def load(self) -> "Iterator[None]":
        """Put the data into the node, which is empty, and write to the file from there on.

        A step is a turn's work. Raises LoadError; the node is empty then.
        """
        yield from loading.load(self.node)
        self.open()

    def open(self) -> None:
        """Go on with the parts there are, which are loaded, or with new ones. Raises LoadError."""
        directory, node = self.directory, self.node
        try:
            directory.make()
            if directory.manifest.is_empty():
                is_rdb = node.config.aof_use_rdb_preamble
                directory.create_base(self.rewriting.base(is_rdb), is_rdb)
                before = base = 0
            else:
                sizes = [directory.size(part) for part in directory.manifest.parts()]
                before, base = sum(sizes), sizes[0] if directory.manifest.base else 0
            file, size = directory.open_last_increment()
        except OSError as error:
            raise LoadError(f"Can't open the append-only file: {error}") from None
        self._others, self.base_size = before - size if before else 0, base
        self.writer = Writer(node, file, size, synced_offset=node.log.flush())
        self.state = ON
        node.log.open_aof()
        self._remove_history()

    def _switch(self, config: "Config") -> None:
        """CONFIG SET appendonly."""
        if not config.appendonly:
            self.stop()
        elif self.state == OFF and not self.start():
            raise ConfigError("Unable to turn on AOF. Check server logs.")

    def start(self) -> bool:
        """Be on, once a base has been made; False if that can't begin, and the log says why."""
        node = self.node
        self.state = WAITING
        if self.rewriting.running is not None:
            self.rewriting.cancel()  # its base would lack what happens before it is there
        if node.has_child() or node.unit is not None:
            self.rewriting.scheduled = True
            _log.info(
                "AOF was enabled but there is already another background operation. An AOF "
                "background was scheduled to start when possible."
            )
            return True
        if not self.rewriting.start():
            self.state = OFF
            _log.warning(
                "The server needs to enable the AOF but can't trigger a background AOF rewrite "
                "operation. Check the above logs for more info about the error."
            )
            return False
        return True

    def stop(self) -> None:
        """Be off, with all there is written and synced."""
        if self.state == OFF:
            return
        self.rewriting.cancel()
        self.rewriting.scheduled = False
        waited = self.state == WAITING
        self._close()
        self.state = OFF
        if waited:
            self._remove_temporary()
        self.node.refresh_gate()
        self.node.blocking.poll()

    def restart(self) -> None:
        """The node has got another data set: the file is to hold that."""
        if self.state == OFF:
            return
        self.stop()
        if not self.start():
            self.state = WAITING
            self.rewriting.scheduled = True

    def _close(self) -> None:
        writer = self.writer
        if writer is not None:
            self.flush()
            self.writer = None
            writer.close()
            self.node.log.close_aof()

    def flush(self) -> None:
        """Write what has happened up to now."""
        log, writer = self.node.log, self.writer
        if writer is not None:
            log.flush()
            if log.aof:
                data, log.aof = log.aof, []
                writer.take(data, log.offset)
            writer.flush(force=True)

    def reload(self) -> bool:
        """DEBUG LOADAOF: load what is on disk in place of what there is; False if that fails, and
        the log says why."""
        self.flush()
        self.node.keyspace.flush()
        try:
            for _ in loading.load(self.node):
                continue
        except LoadError as error:
            _log.warning("%s", error)
            return False
        _log.info("Append Only File loaded by DEBUG LOADAOF")
        return True

    def finish(self, *, force: bool, may_lose: bool) -> bool:
        """The process is about to end: write and sync all there is. False if it must not end: there
        is no base yet, or something can't be written.

        force: it ends even so. may_lose: it ends even if something can't be written.
        """
        if self.state == WAITING:
            if not force:
                _log.warning("Writing initial AOF, can't exit")
                return False
            _log.warning("Writing initial AOF. Exit anyway.")
        if self.rewriting.running is not None:
            _log.warning("There is a child rewriting the AOF. Killing it!")
            self.rewriting.cancel()
        if self.writer is not None:
            _log.info("Calling fsync() on the AOF file.")
            self.flush()
            self.writer.sync()
            if self.writer.is_stuck() and not may_lose:
                _log.warning("The AOF file lacks what can't be written to it, can't exit")
                return False
        return True

    # --- what a rewrite asks ---------------------------------------------------------------------

    def rotate(self) -> None:
        """What happens from here on goes to another increment. Raises OSError, ManifestError."""
        directory, node = self.directory, self.node
        directory.make()
        if self.state == OFF:
            directory.read()
        elif self.writer is None:
            directory.read()
            self.writer = Writer(node, directory.open_temporary_increment())
            node.log.open_aof()
        else:
            writer = self.writer
            self.flush()
            if writer.error is not None:
                raise writer.error
            writer.settle()
            file = directory.open_new_increment()
            self._others += writer.size
            writer.switch(file)
            node.log.open_aof()

    def adopt(self, written: str, is_rdb: bool) -> None:
        """Let a base count that has been written into that file. Raises OSError."""
        keep = 0 if self.writer is None else 1
        waiting = self.state == WAITING
        self.directory.adopt(written, is_rdb, waiting=waiting, keep=keep)

    def rewritten(self) -> None:
        """The base of a rewrite counts."""
        base, writer = self.directory.manifest.base, self.writer
        assert base is not None
        if writer is not None:
            self._others = self._size_of(base.name)
            self.base_size = self.size()
            self.state = ON
            writer.renewed()
        self._remove_history()

    def _size_of(self, name: str) -> int:
        try:
            file = self.node.disk.open(self.directory.path(name))
        except OSError:
            return 0
        try:
            return file.size()
        finally:
            file.close()

    def rewrite_failed(self) -> None:
        """The file goes on as it was; one that was to be is tried again."""
        if self.state == WAITING:
            self._close()
            self._remove_temporary()
            self.rewriting.scheduled = True

    def _remove_temporary(self) -> None:
        try:
            self.directory.remove_temporary_increment()
        except OSError as error:
            _log.warning("Can't remove a temporary AOF file: %s", error)

    def _remove_history(self) -> None:
        """Remove the files that are history, a call aside, and let the manifest forget them."""
        directory, disk = self.directory, self.node.disk
        paths = directory.history_paths()
        if not paths or self.node.config.aof_disable_auto_gc:
            return
        for path in paths:
            _log.info("Removing the history file %s in the background", os.path.basename(path))

        def remove() -> None:
            for path in paths:
                if disk.exists(path):
                    disk.remove(path)

        self.node.background.call(remove, _removed)
        try:
            directory.forget_history()
        except OSError as error:
            _log.warning("Can't write the AOF manifest: %s", error)

    # --- INFO ------------------------------------------------------------------------------------

    def info(self) -> dict[str, str | int]:
        """The fields of INFO persistence."""
        rewriting, writer = self.rewriting, self.writer
        fields: dict[str, str | int] = {
            "aof_enabled": int(self.state != OFF),
            "aof_rewrite_in_progress": int(rewriting.running is not None),
            "aof_rewrite_scheduled": int(rewriting.scheduled),
            "aof_last_rewrite_time_sec": _seconds(rewriting.took_ms),
            "aof_current_rewrite_time_sec": _seconds(rewriting.running_ms()),
            "aof_last_bgrewrite_status": "err" if rewriting.failed else "ok",
            "aof_rewrites": rewriting.started,
            "aof_rewrites_consecutive_failures": rewriting.failures,
            "aof_last_write_status": "err" if self.forbids_writes() else "ok",
            "aof_last_cow_size": 0,
        }
        if self.state == OFF:
            return fields
        return fields | {
            "aof_current_size": self.size(),
            "aof_base_size": self.base_size,
            "aof_pending_rewrite": 0,
            "aof_buffer_length": 0 if writer is None else writer.pending(),
            "aof_pending_bio_fsync": 0 if writer is None else writer.syncs_running,
            "aof_delayed_fsync": 0 if writer is None else writer.delayed,
        }


def _removed(error: OSError | None) -> None:
    if error is not None:
        _log.warning("Can't remove an AOF file that is history: %s", error)


def _seconds(milliseconds: int | None) -> int:
    return -1 if milliseconds is None else milliseconds // 1000
