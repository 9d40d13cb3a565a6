"""What a node's files hold, and up to where they are whole: `slotfleet check`.

A file is read as a node reads it at its start, into one that serves nobody: what is found is what
a node would have. Unlike a node, a check goes on to tell where it had to stop.
"""

import contextlib
import gc
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random

import attrs

from cluster import nodesfile
from cluster.processes import OperatorError
from node.clock import SystemClock
from node.config import Config
from node.data.hash import Hash
from node.data.keyspace import KEEP
from node.data.list import List
from node.data.set import Set
from node.data.stream import Stream
from node.data.zset import ZSet
from node.disk import SimulatedDisk
from node.node import Node
from node.persistence.aof import reader as aof
from node.persistence.aof.manifest import SUFFIX, Manifest, ManifestError
from node.persistence.checkpoint import Loader, take_functions
from node.persistence.rdb import RdbError

PIECE_SIZE = 64 * 1024
_KINDS: dict[type, tuple[str, str]] = {
    List: ("list", "lists"),
    Set: ("set", "sets"),
    Hash: ("hash", "hashes"),
    ZSet: ("sorted set", "sorted sets"),
    Stream: ("stream", "streams"),
}
_STRINGS = ("string", "strings")


@attrs.define(eq=False)
class FileReport:
    """One file. form: what it is. valid_up_to: bytes that are whole; problem: "" if all are.

    facts: what else there is to tell, each with its name.
    """

    path: Path
    form: str
    size: int
    valid_up_to: int = 0
    problem: str = ""
    facts: list[tuple[str, str]] = attrs.field(factory=list)


@attrs.define(eq=False)
class DataSet:
    """Files that together hold one set of data, and what the data are."""

    files: list[FileReport] = attrs.field(factory=list)
    contents: list[tuple[str, str]] = attrs.field(factory=list)

    def is_valid(self) -> bool:
        return not any(file.problem for file in self.files)


def check(path: Path, databases: int = 16) -> list[DataSet]:
    """Check a file, an append-only directory or all files of a node's directory.

    databases: how many a node that is to have these data would have. Raises OperatorError where
    there is nothing to check.
    """
    gc.disable()  # what is read stays
    try:
        if path.is_dir():
            return list(_check_directory(path, databases))
        return [_check_file(path, databases)]
    except OSError as error:
        raise OperatorError(f"can't read {error.filename}: {error.strerror}") from None
    finally:
        gc.enable()


def _check_directory(directory: Path, databases: int) -> Iterator[DataSet]:
    found = sorted(directory.glob(f"*{SUFFIX}"))
    if not found:  # else the other files in it are its parts
        patterns = ("*.rdb", "*.aof", f"*/*{SUFFIX}", "nodes*.conf")
        found = [path for pattern in patterns for path in sorted(directory.glob(pattern))]
    if not found:
        raise OperatorError(f"no data of a node in {directory}")
    for path in found:
        yield _check_file(path, databases)


def _check_file(path: Path, databases: int) -> DataSet:
    if path.name.endswith(SUFFIX):
        return _check_parts(path, databases)
    with open(path, "rb") as file:
        head = file.read(aof.HEAD_SIZE)
    if not head:
        return DataSet([FileReport(path, "empty file", 0)])
    if aof.is_rdb(head) or head[:1] in b"*#":
        reading = Reading(databases)
        report = reading.read(path)
        return DataSet([report], reading.contents())
    if path.suffix == ".conf":
        return _check_nodes(path)
    if path.suffix in (".rdb", ".aof"):
        wrong = "wrong signature" if path.suffix == ".rdb" else "no command at its start"
        size = path.stat().st_size
        return DataSet([FileReport(path, "unknown file", size, problem=f"{wrong}, at byte 0")])
    raise OperatorError(f"{path} is no RDB, no append-only file, no manifest and no nodes.conf")


# --- a cluster's view -----------------------------------------------------------------------------


def _check_nodes(path: Path) -> DataSet:
    text = path.read_text(errors="replace")
    report = FileReport(path, "nodes.conf", len(text))
    try:
        view = nodesfile.load(text, Random(0))
    except nodesfile.CorruptFile as error:
        report.problem = str(error)
        return DataSet([report])
    report.valid_up_to = report.size
    primaries = sum(node.is_primary for node in view.order)
    report.facts = [
        ("this node", view.myself.id),
        ("nodes", f"{len(view.order)}, {primaries} of them primaries"),
        ("epoch", str(view.current_epoch)),
    ]
    return DataSet([report])


# --- append-only parts ----------------------------------------------------------------------------


def read_manifest(path: Path) -> Manifest:
    """A manifest file's; raises ManifestError."""
    return Manifest.parse(path.read_bytes())


def _check_parts(path: Path, databases: int) -> DataSet:
    report = FileReport(path, "manifest", path.stat().st_size)
    try:
        manifest = read_manifest(path)
    except ManifestError as error:
        report.problem = str(error)
        return DataSet([report])
    report.valid_up_to = report.size
    parts = manifest.parts()
    report.facts.append(("parts", ", ".join(part.name for part in parts) or "none"))
    found, reading = DataSet([report]), Reading(databases)
    for part in parts:
        place = path.parent / part.name
        if not place.exists():
            found.files.append(FileReport(place, "part", 0, problem="the file is missing"))
            break
        if place.stat().st_size or part is not parts[-1]:
            found.files.append(reading.read(place, is_last=part is parts[-1]))
        else:
            found.files.append(FileReport(place, "append-only file", 0))
        if found.files[-1].problem:
            break
    found.contents = reading.contents()
    return found


# --- data -----------------------------------------------------------------------------------------


class UnknownCommand(Exception):
    """place: how many commands came before it in what was just read."""

    def __init__(self, text: str, place: int) -> None:
        super().__init__(text)
        self.place = place


class Reading:
    """Files read one after the other into one set of data."""

    def __init__(self, databases: int) -> None:
        config = Config()
        config.databases = databases
        # Whatever a file says, nothing of it happens outside this node.
        self.node = Node(config, SystemClock(), disk=SimulatedDisk(Random(0)))
        self.node.keyspace.expiry = KEEP
        self._session = self.node.internal_session()

    def read(self, path: Path, is_last: bool = True) -> FileReport:
        """Read a file, an RDB or an append-only one, up to its end or to where it is broken.

        is_last: no other follows, so that a command that is cut at its end can be left out.
        """
        report = FileReport(path, "append-only file", path.stat().st_size)
        with open(path, "rb") as file:
            pieces = iter(lambda: file.read(PIECE_SIZE), b"")
            first = next(pieces, b"")
            if aof.is_rdb(first):
                rest = self._read_rdb(first, pieces, report)
                if report.problem or not rest:
                    return report
                report.form = "append-only file that begins with an RDB"
                first = rest
            self._read_commands(first, pieces, report, is_last)
        return report

    def _read_rdb(self, first: bytes, pieces: Iterable[bytes], report: FileReport) -> bytes:
        """Returns what follows it in the pieces that were needed."""
        loader = Loader(self.node.keyspace)
        reader = loader.reader
        rest = b""
        try:
            loader.receive(first)
            for piece in pieces if not reader.is_done else ():
                loader.receive(piece)
                if reader.is_done:
                    break
            rest = loader.finish()
            take_functions(self.node, loader)
        except RdbError as error:
            report.problem = f"{error.reason}, at byte {error.offset}"
            with contextlib.suppress(RdbError):
                loader.salvage()
        report.valid_up_to = reader.valid_up_to
        report.form = "RDB"
        if reader.version is not None:
            dialect = "Valkey's " if reader.version.is_valkey else ""
            report.form = f"RDB of {dialect}version {reader.version.number}"
        report.facts += _facts(reader.aux)
        return rest

    def _read_commands(
        self, first: bytes, pieces: Iterable[bytes], report: FileReport, is_last: bool
    ) -> None:
        reader = aof.Reader(report.valid_up_to)
        counts: Counter[str] = Counter()
        try:
            for piece in itertools.chain([first], pieces):
                report.valid_up_to = reader.valid_up_to
                self._apply(reader.feed(piece), counts)
            self._apply(reader.finish(), counts)
            report.valid_up_to = reader.valid_up_to
            report.problem = _end(reader, is_last)
        except UnknownCommand as error:
            report.valid_up_to = _place(report.path, report.valid_up_to, error.place)
            report.problem = f"{error}, at byte {report.valid_up_to}"
        report.facts += _history(reader, counts)

    def _apply(self, commands: list[list[bytes]], counts: Counter[str]) -> None:
        node, session = self.node, self._session
        node.begin_turn()
        for place, command in enumerate(commands):
            if node.rows.find(command[0]) is None:
                raise UnknownCommand(f"unknown command {_name(command)!r}", place)
            counts[_name(command)] += 1
            node.run(session, [command])
            session.output.clear()
        node.end_turn()

    def contents(self) -> list[tuple[str, str]]:
        """What the data are: a line for each database, and one for the functions."""
        found = []
        now_ms = self.node.clock.wall_ms()
        for db in self.node.keyspace.databases:
            if not db.size:
                continue
            kinds: Counter[tuple[str, str]] = Counter()
            for part in db.parts:
                kinds.update(_KINDS.get(type(value), _STRINGS) for value in part.values())
            order = (_STRINGS, *_KINDS.values())
            line = ", ".join(_many(kinds[kind], *kind) for kind in order if kind in kinds)
            line = f"{_many(db.size, 'key', 'keys')}: {line}"
            if db.expires:
                past = sum(at_ms <= now_ms for at_ms in db.expires.values())
                line += f"; {len(db.expires):,} with a deadline"
                line += f", {past:,} of them past" if past else ""
            if db.field_expires:
                line += (
                    f"; {_many(len(db.field_expires), 'hash', 'hashes')} with deadlines of fields"
                )
            found.append((f"database {db.index}", line))
        libraries = sorted(self.node.scripting.libraries.by_name)
        if libraries:
            names = ", ".join(name.decode(errors="replace") for name in libraries)
            found.append(("functions", f"{_many(len(libraries), 'library', 'libraries')}: {names}"))
        return found or [("data", "none")]


def _place(path: Path, start: int, number: int) -> int:
    """The offset of the command after so many that follow a place in the file."""
    with open(path, "rb") as file:
        file.seek(start)
        return aof.place_of(iter(lambda: file.read(PIECE_SIZE), b""), number, start)


def _name(command: list[bytes]) -> str:
    return command[0].decode(errors="replace").upper()[:64]


def _many(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"


def shown_time(seconds: int) -> str:
    """A time since the epoch as a local one that `slotfleet restore` takes."""
    return datetime.fromtimestamp(seconds).isoformat(sep=" ")


def _facts(aux: dict[bytes, bytes]) -> Iterator[tuple[str, str]]:
    for name, value in aux.items():
        text = value.decode(errors="backslashreplace")
        if name == b"ctime" and value.isdigit() and len(value) < 12:
            text = f"{text} ({shown_time(int(value))})"
        yield name.decode(errors="backslashreplace"), text


def _history(reader: aof.Reader, counts: Counter[str]) -> Iterator[tuple[str, str]]:
    common = ", ".join(f"{name} {number:,}" for name, number in counts.most_common(8))
    more = f", {_many(len(counts) - 8, 'other', 'others')}" if len(counts) > 8 else ""
    yield "commands", f"{counts.total():,}{': ' if common else ''}{common}{more}"
    if reader.transactions:
        yield "transactions", f"{reader.transactions:,}"
    if reader.timestamps:
        first, last = reader.timestamps[0][0], reader.timestamps[-1][0]
        yield "timestamps", f"from {shown_time(first)} to {shown_time(last)}"


def _end(reader: aof.Reader, is_last: bool) -> str:
    if reader.error is not None:
        return f"{reader.error.reason}, at byte {reader.error.offset}"
    if not reader.is_truncated():
        return ""
    amid = "a transaction" if reader.is_in_transaction() else "a command"
    cure = "; aof-load-truncated leaves that out" if is_last else ""
    return f"cut amid {amid}{cure}"


# --- for the terminal -----------------------------------------------------------------------------


def plain(found: Iterable[DataSet]) -> Iterator[str]:
    """The lines of a report."""
    for data_set in found:
        for file in data_set.files:
            verdict = "broken" if file.problem else "valid"
            yield f"{file.path}: {file.form}, {file.size:,} bytes, {verdict}"
            if file.problem:
                yield _row("problem", file.problem)
                yield _row("valid up to", f"byte {file.valid_up_to:,} of {file.size:,}")
            yield from (_row(*fact) for fact in file.facts)
        if data_set.contents:
            yield "data" if data_set.is_valid() else "data up to there"
            yield from (_row(*line) for line in data_set.contents)


def _row(name: str, text: str) -> str:
    return f"  {name:14} {text}"
