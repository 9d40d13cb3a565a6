"""An append-only file put into a node at its start, part by part, a piece at a time.

What the last part has at its end and no whole command or transaction is cut off, where
`aof-load-truncated` allows it; so is a tail that makes no sense, up to
`aof-load-corrupt-tail-max-size` bytes. Everything else that is wrong ends in LoadError, with
nothing loaded.
"""

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import attrs

from node.command import CONTAINER, Row
from node.data.keyspace import KEEP
from node.execute import answer_now, execute
from node.persistence.aof.manifest import ManifestError, Part
from node.persistence.aof.reader import HEAD_SIZE, Command, Reader, is_rdb, place_of
from node.persistence.checkpoint import Loader, seconds_per_key, take_functions, take_imports
from node.persistence.loading import LoadError, Loading
from node.persistence.rdb import RdbError
from node.replies import ReplyError, Wait

if TYPE_CHECKING:
    from node.disk import Source
    from node.node import Node
    from node.session import Session

_log = logging.getLogger(__name__)

PIECE_SIZE = 64 * 1024
_FIX = "make a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>"


def load(node: "Node") -> Iterator[None]:
    """Read the manifest, and put the parts it names into the node, which is empty.

    A step is a turn's work, inside begin_turn and end_turn. No parts are no data. Raises
    LoadError; the node is empty then, and so it is if the steps are not gone to the end.
    """
    parts, total = _find(node)
    if not total:
        return
    before, node.keyspace.expiry = node.keyspace.expiry, KEEP
    node.loading = Loading(node.keyspace.now_ms, total)
    node.refresh_gate()
    whole = False
    try:
        started_ms = node.clock.monotonic_ms()
        keys = 0
        for part in parts:
            one = PartLoading(node, part, is_last=part is parts[-1])
            yield from one.run()
            keys += one.rdb_keys
        node.saves.loaded(keys, 0)
        taken_s = (node.clock.monotonic_ms() - started_ms) / 1000
        _log.info("DB loaded from append only file: %.3f seconds", taken_s)
        whole = True
    finally:
        if not whole:
            node.keyspace.flush()
        node.keyspace.expiry = before
        node.loading = None
        node.refresh_gate()


def _find(node: "Node") -> tuple[tuple[Part, ...], int]:
    """The parts to load, and the bytes in all of them."""
    directory = node.aof.directory
    name = directory.prefix
    try:
        directory.read()
        if directory.is_to_upgrade():
            directory.upgrade()
        parts = directory.manifest.parts()
        for part in parts:
            name = part.name
            node.disk.open(directory.path(name)).close()
        return parts, sum(map(directory.size, parts))
    except ManifestError as error:
        text = f"FATAL AOF MANIFEST FILE ERROR: reading the manifest file, {error}"
        raise LoadError(text) from None
    except FileNotFoundError as error:
        text = f"Unable to obtain the AOF file {name} length. stat: {error.strerror}"
        raise LoadError(text) from None
    except OSError as error:
        text = f"Fatal error: can't open the append log file {name} for reading: {error.strerror}"
        raise LoadError(text) from None


@attrs.define(eq=False)
class PartLoading:
    """One part. rdb_keys: how many its RDB has, if there is one."""

    node: "Node"
    part: Part
    is_last: bool
    rdb_keys: int = 0
    _start: int = 0  # of the commands in the file
    _done: int = 0  # commands
    _session: "Session" = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._session = self.node.internal_session()
        self._session.from_primary = True  # nothing of it is logged

    def run(self) -> Iterator[None]:
        """Load it, step by step; raises LoadError."""
        path = self.node.aof.directory.path(self.part.name)
        try:
            file = self.node.disk.open(path)
            try:
                reader = yield from self._read(file)
                size = file.size()
            finally:
                file.close()
            self._judge(reader, path, size)
        except OSError as error:
            name = self.part.name
            text = f"Unrecoverable error reading the append only file {name}: {error.strerror}"
            raise LoadError(text) from None
        except RdbError as error:
            raise LoadError(
                f"Error reading the RDB base file {self.part.name}, AOF loading aborted: "
                f"{error.reason}, at offset {error.offset}"
            ) from None

    def _read(self, file: "Source") -> Any:
        """A generator of steps that returns the Reader, which has read all."""
        loading, config = self.node.loading, self.node.config
        assert loading is not None
        size = min(PIECE_SIZE, config.loading_process_events_interval_bytes)
        head = file.read(HEAD_SIZE) if file.size() else b""  # a device may have no end
        loader = self._rdb_loader() if is_rdb(head) else None
        reader, data = Reader(), head
        while data and reader.error is None:
            loading.advance(len(data), self.node.keyspace.now_ms)
            if loader is None:
                self._apply(reader.feed(data))
            else:
                self._load(loader, data)
                if loader.reader.is_done:
                    reader, loader = self._pass(loader), None
            yield
            data = file.read(size)
        if loader is not None:
            reader = self._pass(loader)
        self._apply(reader.finish())
        return reader

    def _rdb_loader(self) -> Loader:
        _log.info("Reading RDB base file on AOF loading...")
        return Loader.of(self.node)

    def _load(self, loader: Loader, data: bytes) -> None:
        keys = loader.keys
        loader.receive(data)
        self._take_time(loader.keys - keys)

    def _pass(self, loader: Loader) -> Reader:
        """The RDB is over: what follows it is for the reader."""
        rest = loader.finish()
        take_functions(self.node, loader)
        take_imports(self.node, loader)
        self.rdb_keys = loader.keys
        self._start = loader.reader.offset
        reader = Reader(self._start)
        self._apply(reader.feed(rest))
        return reader

    def _take_time(self, count: int) -> None:
        delay_s = seconds_per_key(self.node.config.key_load_delay)
        if delay_s and count:
            self.node.clock.sleep(delay_s * count)

    # --- commands --------------------------------------------------------------------------------

    def _apply(self, commands: list[Command]) -> None:
        rows, session = self.node.rows, self._session
        row: Row | None
        for args in commands:
            row = rows.get(args[0])
            try:
                if row is None or row.flags & CONTAINER or not row.low <= len(args) <= row.high:
                    value = self._execute(args)
                else:
                    value = row.handler(session, args)
            except ReplyError as error:
                value = error
            session.effects = None
            kind = type(value)
            if kind is ReplyError:
                self._complain(args, value)
            elif kind is Wait:
                answer_now(value)
            self._done += 1
        self._take_time(len(commands))

    def _execute(self, args: Command) -> Any:
        value = execute(self.node, self._session, args)
        if type(value) is ReplyError and value.text.startswith(b"ERR unknown command"):
            raise LoadError(
                f"Unknown command '{args[0][:128].decode(errors='replace')}' reading the append "
                f"only file {self.part.name}, at offset {self._place()}"
            )
        return value

    def _place(self) -> int:
        """Where in the file the command under way is."""
        file = self.node.disk.open(self.node.aof.directory.path(self.part.name))
        try:
            skipped = 0
            while skipped < self._start:
                skipped += len(file.read(min(PIECE_SIZE, self._start - skipped)))
            return place_of(iter(lambda: file.read(PIECE_SIZE), b""), self._done, self._start)
        finally:
            file.close()

    def _complain(self, args: Command, error: ReplyError) -> None:
        """A command that was logged did something once: that it fails now is odd, but no reason
        to be without all the others; except that they would go to a wrong database."""
        text = error.text.decode(errors="replace")
        if args[0].upper() == b"SELECT":
            raise LoadError(
                f"The append only file {self.part.name} says {args[:2]!r}: {text}, "
                f"at offset {self._place()}"
            )
        _log.warning(
            "A command of the append only file %s has failed: %s after processing %r",
            *(self.part.name, text, args[0][:64]),
        )
        if self.node.config.propagation_error_behavior == "panic":
            raise LoadError(f"Giving up, as propagation-error-behavior asks: {text}")

    # --- the end ---------------------------------------------------------------------------------

    def _judge(self, reader: Reader, path: str, size: int) -> None:
        """The part has been read: cut off what its end has too much, or refuse it."""
        name, config = self.part.name, self.node.config
        tail = size - reader.valid_up_to
        if reader.error is not None:
            if not (self.is_last and tail <= config.aof_load_corrupt_tail_max_size):
                raise LoadError(
                    f"Bad file format reading the append only file {name}: {_FIX}. {reader.error}"
                )
            _log.warning("!!! Warning: corrupt tail of %d bytes in the AOF file %s!!!", tail, name)
        elif reader.is_truncated():
            if reader.is_in_transaction():
                _log.warning("Revert incomplete MULTI/EXEC transaction in AOF file %s", name)
            if not config.aof_load_truncated:
                raise LoadError(
                    f"Unexpected end of file reading the append only file {name}. You can: 1) "
                    f"{_FIX[0].upper()}{_FIX[1:]}. 2) Alternatively you can set the "
                    "'aof-load-truncated' configuration option to yes and restart the server. "
                    f"It is whole up to offset {reader.valid_up_to}"
                )
            _log.warning("!!! Warning: short read while loading the AOF file %s!!!", name)
            if not self.is_last:
                raise LoadError(f"Fatal error: the truncated file {name} is not the last file")
        if tail and self.is_last:
            self._cut(path, reader.valid_up_to)

    def _cut(self, path: str, size: int) -> None:
        name = self.part.name
        _log.warning("!!! Truncating the AOF %s at offset %d !!!", name, size)
        file = self.node.disk.append_to(path)
        try:
            file.truncate(size)
            file.sync()
        finally:
            file.close()
        _log.warning("AOF %s loaded anyway because aof-load-truncated is enabled", name)
