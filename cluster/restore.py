"""An append-only file as it was at a time: `slotfleet restore`.

Each increment tells by its annotations (aof-timestamp-enabled) when what follows was written. What
came after the wanted time is left out, and so is a tail that a crash has cut. The copy is a
directory that a node can be started in; the original stays as it is, unless it is itself to be
cut: then every file is replaced as a whole, the manifest first.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path

import attrs

from cluster.filecheck import PIECE_SIZE, read_manifest, shown_time
from cluster.processes import OperatorError
from node.data.limits import Limits
from node.disk import RealDisk, replace_by_way_of
from node.persistence import rdb
from node.persistence.aof import reader as aof
from node.persistence.aof.manifest import SUFFIX, Manifest, ManifestError, Part

_TEMPORARY = "temp-restore-"


@attrs.frozen
class Cut:
    """How much of a part is kept. left: bytes that are not."""

    part: Part
    kept: int
    left: int
    reason: str = ""


@attrs.frozen
class Plan:
    """What is kept of an append-only file.

    source: its directory. history: parts that are about to be removed anyway. dropped: parts of
    which nothing is kept. reached: the last time that the kept part tells, in seconds since the
    epoch; None if it tells none.
    """

    source: Path
    manifest_name: str
    manifest: Manifest
    history: tuple[Part, ...]
    cuts: tuple[Cut, ...]
    dropped: tuple[Part, ...]
    reached: int | None


def parse_time(text: str) -> int:
    """Seconds since the epoch: given as such, or as a date and time (ISO 8601), local without an
    offset. Raises OperatorError."""
    if text.isdigit() and text.isascii():
        return int(text)
    try:
        return int(datetime.fromisoformat(text).timestamp())
    except ValueError:
        raise OperatorError(
            f"{text!r} is no time; give one as 2026-01-31T18:30:00 or as seconds since 1970"
        ) from None


def plan(path: Path, at: int | None) -> Plan:
    """What to keep of the append-only file that a directory holds, or its manifest names.

    at: seconds since the epoch; None keeps all that is whole. Raises OperatorError where nothing
    of that time can be had.
    """
    place = _manifest_path(path)
    try:
        manifest = read_manifest(place)
        if manifest.is_empty():
            raise OperatorError(f"{place} names no files with data")
        return _plan(place, manifest, at)
    except ManifestError as error:
        raise OperatorError(f"{place}: {error}") from None
    except OSError as error:
        raise OperatorError(f"can't read {error.filename}: {error.strerror}") from None


def _manifest_path(path: Path) -> Path:
    if path.is_file() and path.name.endswith(SUFFIX):
        return path
    found = [*path.glob(f"*{SUFFIX}"), *path.glob(f"*/*{SUFFIX}")]
    if len(found) != 1:
        what = "no" if not found else "more than one"
        raise OperatorError(f"{what} manifest of an append-only file in {path}")
    return found[0]


def _plan(place: Path, manifest: Manifest, at: int | None) -> Plan:
    directory = place.parent
    cuts: list[Cut] = []
    reached: int | None = None
    if manifest.base is not None:
        size, taken = _measure_base(directory / manifest.base.name)
        if at is not None and taken is not None and taken > at:
            raise OperatorError(
                f"the base {manifest.base.name} holds the data of {shown_time(taken)}; what was "
                f"before can't be had from it"
            )
        cuts.append(Cut(manifest.base, size, 0))
        reached = taken
    parts = list(manifest.increments)
    told = False
    while parts:
        part = parts.pop(0)
        found = _Increment.read(directory / part.name)
        told = told or bool(found.timestamps)
        cut = found.cut(part, at)
        cuts.append(cut)
        reached = max([t for t, offset in found.timestamps if offset < cut.kept], default=reached)
        if cut.left:
            break
    if at is not None and not told and manifest.increments:
        raise OperatorError(
            f"the files in {directory} tell no times; a node writes them with "
            "aof-timestamp-enabled yes"
        )
    kept = attrs.evolve(
        manifest,
        increments=tuple(cut.part for cut in cuts if cut.part != manifest.base),
        history=(),
    )
    return Plan(directory, place.name, kept, manifest.history, tuple(cuts), tuple(parts), reached)


def _measure_base(path: Path) -> tuple[int, int | None]:
    """The size of a base, and of when its data are, as far as it tells."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        head = file.read(PIECE_SIZE)
    if aof.is_rdb(head):
        reader = rdb.Reader(Limits())
        try:
            reader.feed(head)
        except rdb.RdbError as error:
            raise OperatorError(f"the base {path} is broken: {error}") from None
        text = reader.aux.get(b"ctime", b"")
        return size, int(text) if text.isdigit() else None
    lines = aof.Reader()
    lines.feed(head)
    return size, lines.timestamps[0][0] if lines.timestamps else None


@attrs.frozen
class _Increment:
    """What reading one has told."""

    path: Path
    size: int
    timestamps: list[tuple[int, int]]
    valid_up_to: int
    problem: str

    @classmethod
    def read(cls, path: Path) -> "_Increment":
        reader = aof.Reader()
        for piece in _pieces(path, None):
            reader.feed(piece)
            if reader.error is not None:
                break
        reader.finish()
        problem = ""
        if reader.error is not None:
            problem = str(reader.error)
        elif reader.is_truncated():
            problem = "the end is cut"
        return cls(path, path.stat().st_size, reader.timestamps, reader.valid_up_to, problem)

    def cut(self, part: Part, at: int | None) -> Cut:
        kept, reason = self.valid_up_to, self.problem
        place = None if at is None else aof.cut_at(self.timestamps, at)
        if place is not None and place < kept:
            kept, reason = self._whole_up_to(place), "later"
        return Cut(part, kept, self.size - kept, reason if kept < self.size else "")

    def _whole_up_to(self, place: int) -> int:
        """As `place`, or where the transaction begins that goes on there."""
        reader = aof.Reader()
        for piece in _pieces(self.path, place):
            reader.feed(piece)
        reader.finish()
        return reader.valid_up_to


def _pieces(path: Path, most: int | None) -> Iterator[bytes]:
    """A file's bytes, the first `most` of them."""
    left = path.stat().st_size if most is None else most
    with open(path, "rb") as file:
        while left and (piece := file.read(min(left, PIECE_SIZE))):
            left -= len(piece)
            yield piece


# --- carrying it out ------------------------------------------------------------------------------


def copy(made: Plan, target: Path) -> Path:
    """Write what is kept into a new directory, where a node can be started; the place of the
    append-only file in it. Raises OperatorError."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OperatorError(f"{target} is there already")
    directory = target / made.source.name
    disk = RealDisk()
    try:
        disk.make_directory(str(directory))
        for cut in made.cuts:
            _write(disk, directory, cut.part.name, _pieces(made.source / cut.part.name, cut.kept))
        _write(disk, directory, made.manifest_name, [made.manifest.encode()])
        disk.sync_directory(str(target))
    except OSError as error:
        raise OperatorError(f"can't write {error.filename or target}: {error.strerror}") from None
    return directory


def cut_in_place(made: Plan) -> Path:
    """Cut the original itself; no node may be using it. Its directory. Raises OperatorError."""
    disk = RealDisk()
    manifest = attrs.evolve(made.manifest, history=made.history)
    try:
        _write(disk, made.source, made.manifest_name, [manifest.encode()])
        for cut in made.cuts:
            if cut.left:
                pieces = _pieces(made.source / cut.part.name, cut.kept)
                _write(disk, made.source, cut.part.name, pieces)
        for part in made.dropped:
            (made.source / part.name).unlink(missing_ok=True)
        disk.sync_directory(str(made.source))
    except OSError as error:
        raise OperatorError(f"can't write {error.filename}: {error.strerror}") from None
    return made.source


def _write(disk: RealDisk, directory: Path, name: str, pieces: Iterable[bytes]) -> None:
    temporary = directory / f"{_TEMPORARY}{name}"
    replace_by_way_of(disk, str(temporary), str(directory / name), pieces)


# --- for the terminal -----------------------------------------------------------------------------


def plain(made: Plan) -> Iterator[str]:
    """The lines that say what is kept and what is not."""
    for cut in made.cuts:
        text = f"{cut.kept:,} bytes"
        if cut.left:
            text += f", without the last {cut.left:,} ({cut.reason})"
        yield f"  {cut.part.name:32} {text}"
    for part in made.dropped:
        yield f"  {part.name:32} left out"
    if made.reached is not None:
        yield f"the last time told in what is kept: {shown_time(made.reached)}"
