"""Files: the only module that touches them, and its simulated twin.

What a program has written is in the operating system's hands until `sync`; a name it has given,
changed or taken away, until `sync_directory`. The simulated disk takes that at its word: at a crash
it keeps what was synced, loses or tears the rest, and undoes the youngest changes of names.
"""

import contextlib
import errno
import functools
import os
from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Protocol

import attrs


class Appender(Protocol):
    """A file that grows at its end."""

    def write(self, data: bytes) -> None:
        """Add bytes; raises OSError."""
        ...

    def sync(self) -> None:
        """Return when all that was written would survive a crash; raises OSError."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file down to `size` bytes."""
        ...

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def close(self) -> None: ...


class Source(Protocol):
    """A file that is read from its start."""

    def read(self, most: int) -> bytes:
        """The next bytes, at most so many; b"" at the end. Raises OSError."""
        ...

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def close(self) -> None: ...


class Disk(Protocol):
    """Names are relative to the working directory, or absolute. All raise OSError."""

    def read(self, name: str) -> bytes: ...

    def open(self, name: str) -> Source: ...

    def append_to(self, name: str) -> Appender:
        """Open a file at its end; it is made if there is none."""
        ...

    def rename(self, old: str, new: str) -> None:
        """Give a file another name, in place of the file that had it."""
        ...

    def remove(self, name: str) -> None: ...

    def exists(self, name: str) -> bool: ...

    def names(self, directory: str) -> list[str]:
        """What a directory holds, sorted."""
        ...

    def make_directory(self, name: str) -> None:
        """Make a directory if it isn't there."""
        ...

    def sync_directory(self, directory: str) -> None:
        """Return when the names in it would survive a crash."""
        ...


def replace(disk: Disk, name: str, data: bytes) -> None:
    """Give a file new content: after a crash at any moment it has the old or the new, whole."""
    directory = os.path.dirname(name) or "."
    temporary = os.path.join(directory, f"temp-{os.path.basename(name)}.tmp")
    replace_by_way_of(disk, temporary, name, [data])


def replace_by_way_of(
    disk: Disk, temporary: str, name: str, pieces: Iterable[bytes], sync_every: int = 0
) -> None:
    """As `replace`, for content in pieces, which are collected in the file `temporary`.

    sync_every: bytes after which what there is gets synced, so that the last sync doesn't have it
    all to do; 0: never before the end. If this fails, the temporary file is removed.
    """
    if disk.exists(temporary):
        disk.remove(temporary)
    try:
        write_pieces(disk, temporary, pieces, sync_every)
        disk.rename(temporary, name)
    except OSError:
        with contextlib.suppress(OSError):
            disk.remove(temporary)
        raise
    disk.sync_directory(os.path.dirname(name) or ".")


def write_pieces(disk: Disk, name: str, pieces: Iterable[bytes], sync_every: int = 0) -> None:
    """Append pieces to a file and sync it; `sync_every` as for `replace_by_way_of`."""
    file = disk.append_to(name)
    unsynced = 0
    try:
        for piece in pieces:
            file.write(piece)
            unsynced += len(piece)
            if sync_every and unsynced >= sync_every:
                file.sync()
                unsynced = 0
        file.sync()
    finally:
        file.close()


# --- the real one ---------------------------------------------------------------------------------


class _RealAppender:
    def __init__(self, name: str) -> None:
        self._fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)

    def write(self, data: bytes) -> None:
        with memoryview(data) as left:
            done = 0
            while done < len(left):
                done += os.write(self._fd, left[done:])

    def sync(self) -> None:
        try:
            os.fdatasync(self._fd)  # with the file's size, if that has changed
        except OSError as error:
            if error.errno != errno.EINVAL:  # of what is no file: /dev/full
                raise

    def truncate(self, size: int) -> None:
        os.ftruncate(self._fd, size)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)


class _RealSource:
    def __init__(self, name: str) -> None:
        self._fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, most: int) -> bytes:
        return os.read(self._fd, most)

    def size(self) -> int:
        return os.fstat(self._fd).st_size

    def close(self) -> None:
        os.close(self._fd)


class RealDisk:
    """The operating system's files."""

    def read(self, name: str) -> bytes:
        return Path(name).read_bytes()

    def open(self, name: str) -> Source:
        return _RealSource(name)

    def append_to(self, name: str) -> Appender:
        return _RealAppender(name)

    def rename(self, old: str, new: str) -> None:
        os.replace(old, new)

    def remove(self, name: str) -> None:
        os.unlink(name)

    def exists(self, name: str) -> bool:
        return os.path.exists(name)

    def names(self, directory: str) -> list[str]:
        return sorted(os.listdir(directory))

    def make_directory(self, name: str) -> None:
        os.makedirs(name, exist_ok=True)

    def sync_directory(self, directory: str) -> None:
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


# --- its simulated twin ---------------------------------------------------------------------------


class PowerLoss(BaseException):
    """The simulated machine has lost its power amid an operation."""


@attrs.define(eq=False)
class _File:
    """content: as a program sees it. durable: as a crash leaves it at least."""

    content: bytearray = attrs.field(factory=bytearray)
    durable: bytes = b""

    def survivor(self, random: Random) -> "_File":
        """What is there after a crash: of bytes never synced a part, or zeros in their place."""
        if not self.content.startswith(self.durable):  # truncated, and not synced since
            return _File(bytearray(self.durable), self.durable)
        kept = random.randint(len(self.durable), len(self.content))
        data = bytes(self.content[:kept])
        if random.random() < 0.25:
            data += bytes(random.randint(0, len(self.content) - kept))
        return _File(bytearray(data), data)


@attrs.define(eq=False)
class _SimulatedSource:
    content: bytes
    _at: int = 0

    def read(self, most: int) -> bytes:
        data = self.content[self._at : self._at + most]
        self._at += len(data)
        return data

    def size(self) -> int:
        return len(self.content)

    def close(self) -> None:
        """Nothing is held open."""


@functools.lru_cache(maxsize=1024)
def _directory_of(name: str) -> str:
    return os.path.normpath(os.path.dirname(name) or ".")


class _SimulatedAppender:
    def __init__(self, disk: "SimulatedDisk", file: _File) -> None:
        self._disk = disk
        self._file = file

    def write(self, data: bytes) -> None:
        self._disk.spend_power()
        self._file.content += data

    def sync(self) -> None:
        self._disk.spend_power()
        self._file.durable = bytes(self._file.content)

    def truncate(self, size: int) -> None:
        self._disk.spend_power()
        del self._file.content[size:]

    def size(self) -> int:
        return len(self._file.content)

    def close(self) -> None:
        """Closing makes nothing durable."""


@attrs.define(eq=False)
class SimulatedDisk:
    """A disk in memory; `crash` makes it what a real one may be after a loss of power.

    power: operations that change something until PowerLoss is raised; None: no end.
    """

    random: Random
    power: int | None = None
    _files: dict[str, _File] = attrs.field(factory=dict)
    _durable: dict[str, _File] = attrs.field(factory=dict)
    # Names as they were after each change since they were last synced.
    _since: list[dict[str, _File]] = attrs.field(factory=list)

    def spend_power(self) -> None:
        """Count an operation that changes something; raises PowerLoss when it is one too many."""
        if self.power is None:
            return
        if self.power <= 0:
            raise PowerLoss
        self.power -= 1

    def crash(self) -> None:
        """Lose the power and come back: only what was synced is sure to be there."""
        self.power = None
        names = self.random.choice([self._durable, *self._since])
        survivors = {id(file): file.survivor(self.random) for file in names.values()}
        self._files = {name: survivors[id(file)] for name, file in names.items()}
        self._durable = dict(self._files)
        self._since.clear()

    def read(self, name: str) -> bytes:
        return bytes(self._find(name).content)

    def open(self, name: str) -> Source:
        return _SimulatedSource(self.read(name))

    def append_to(self, name: str) -> Appender:
        key = os.path.normpath(name)
        if key not in self._files:
            self.spend_power()
            self._files[key] = _File()
            self._names_changed()
        return _SimulatedAppender(self, self._files[key])

    def rename(self, old: str, new: str) -> None:
        file = self._find(old)
        self.spend_power()
        del self._files[os.path.normpath(old)]
        self._files[os.path.normpath(new)] = file
        self._names_changed()

    def remove(self, name: str) -> None:
        self._find(name)
        self.spend_power()
        del self._files[os.path.normpath(name)]
        self._names_changed()

    def exists(self, name: str) -> bool:
        return os.path.normpath(name) in self._files

    def names(self, directory: str) -> list[str]:
        place = os.path.normpath(directory)
        return sorted(
            os.path.basename(name) for name in self._files if _directory_of(name) == place
        )

    def make_directory(self, name: str) -> None:
        """A directory is there as soon as a file's name says so."""

    def sync_directory(self, directory: str) -> None:
        """Names of other directories stay as they are: each is synced by its own call."""
        self.spend_power()
        place = os.path.normpath(directory)
        now = {name: file for name, file in self._files.items() if _directory_of(name) == place}
        for names in (self._durable, *self._since):
            for name in [name for name in names if _directory_of(name) == place]:
                del names[name]
            names.update(now)
        while self._since and self._since[0] == self._durable:
            del self._since[0]

    def _find(self, name: str) -> _File:
        file = self._files.get(os.path.normpath(name))
        if file is None:
            raise FileNotFoundError(2, "No such file or directory", name)
        return file

    def _names_changed(self) -> None:
        self._since.append(dict(self._files))
