"""nodes.conf on disk: locked for this process alone, and replaced as a whole."""

import contextlib
import fcntl
import os


class FileInUse(Exception):
    """Another process holds this nodes.conf."""


class ConfigFile:
    """An open and locked nodes.conf; its directory is the working directory, or in `path`.

    Each save makes a new file and renames it over the old one; the new one is locked before it
    gets the name, so that there is no moment at which another process could take it.
    """

    def __init__(self, path: str) -> None:
        """Lock the file, which is made if needed; raises FileInUse or OSError."""
        self.path = os.path.abspath(path)
        self._fd = self._open()

    def _open(self) -> int:
        while True:
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(fd), os.stat(self.path)):
                    return fd
            except BlockingIOError:
                os.close(fd)
                raise FileInUse(self.path) from None
            except FileNotFoundError:
                pass
            os.close(fd)  # it was replaced between opening and locking

    def read(self) -> str:
        """The text; UnicodeDecodeError for what is no text at all."""
        with open(self.path, encoding="utf-8") as file:
            return file.read()

    def save(self, text: str, sync: bool) -> None:
        """Replace the text; if `sync`, it outlives a crash of the machine. Raises OSError."""
        draft = f"{self.path}.tmp-{os.getpid()}"
        fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _write(fd, text.encode())
            if sync:
                os.fsync(fd)
            os.rename(draft, self.path)
        except BaseException:
            os.close(fd)
            with contextlib.suppress(OSError):
                os.unlink(draft)
            raise
        self.close()
        self._fd = fd
        if sync:
            _sync_directory(os.path.dirname(self.path))

    def close(self) -> None:
        """Give up the lock."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def _sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
