"""Where a large snapshot comes from: a forked child that writes it into a pipe.

The pieces go on to the replicas as they come. Where a replica must be told the length first, they
are kept in a nameless temporary file until it is known.
"""

import contextlib
import fcntl
import os
import select
import tempfile
import time
from collections.abc import Iterable
from typing import IO

import attrs

from node import child
from node.persistence.rdb import FieldDeadlines
from node.replication.snapshot import Snapshot

PIECE_SIZE = 256 * 1024
PIPE_SIZE = 1024 * 1024
PIECES_AT_ONCE = 8
# Exit codes: a replica can't read what would have to be written; nobody reads it any more.
_UNWRITABLE, _UNWANTED = 3, 4
_REASONS = {
    1: "the child that wrote it has failed, as it says above",
    _UNWRITABLE: "a hash has field deadlines, which not all of them can read",
}


@attrs.define(eq=False)
class Source:
    """fd: of the pipe. waits: it is not read, as the replicas have enough to take. has_more: the
    last pull ended because others should have their turn.
    """

    snapshot: Snapshot
    epoll: select.epoll
    pid: int
    fd: int
    waits: bool = False
    has_more: bool = False
    _file: IO[bytes] | None = None
    _size: int = 0

    @classmethod
    def start(cls, snapshot: Snapshot, epoll: select.epoll) -> "Source":
        """Fork the child; raises OSError."""
        file = None
        if not snapshot.mark:
            file = tempfile.TemporaryFile(dir=snapshot.node.config.dir)  # noqa: SIM115
        try:
            source = cls._fork(snapshot, epoll)
        except OSError:
            if file is not None:
                file.close()
            raise
        source._file = file
        if file is None:
            snapshot.begin(None)
        return source

    @classmethod
    def _fork(cls, snapshot: Snapshot, epoll: select.epoll) -> "Source":
        out, into = os.pipe()
        with contextlib.suppress(OSError):  # a larger one only saves wakeups
            fcntl.fcntl(out, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        pieces = snapshot.pieces()
        started = time.perf_counter_ns()
        try:
            pid = child.fork(lambda: _write(pieces, into), [into])
            snapshot.node.observe.forked((time.perf_counter_ns() - started) // 1000)
        except OSError:
            os.close(out)
            raise
        finally:
            os.close(into)
        os.set_blocking(out, False)
        epoll.register(out, select.EPOLLIN)
        return cls(snapshot, epoll, pid, out)

    def pull(self) -> bool:
        """Take what is there, as far as there is room for it; False once nothing will follow."""
        self.has_more = False
        try:
            return self._pull()
        except OSError as error:  # of the temporary file: a full disk
            self.cancel()
            self.snapshot.end(f"it can't be kept in a file: {error.strerror}")
            return False

    def _pull(self) -> bool:
        for _ in range(PIECES_AT_ONCE):
            waits = self.fd < 0 or (self._file is None and not self.snapshot.has_room())
            if waits != self.waits:
                self._wait(waits)
            if waits:
                return self.fd >= 0 or self._pull_from_file()
            try:
                piece = os.read(self.fd, PIECE_SIZE)
            except BlockingIOError:
                return True
            if not piece:
                return self._ended()
            if self._file is None:
                self.snapshot.receive(piece)
            else:
                self._file.write(piece)
                self._size += len(piece)
        self.has_more = True
        return True

    def _wait(self, waits: bool) -> None:
        self.waits = waits
        if self.fd < 0:
            return
        if waits:  # an interest in nothing would still hear of the other end's close, all the time
            self.epoll.unregister(self.fd)
        else:
            self.epoll.register(self.fd, select.EPOLLIN)

    def _ended(self) -> bool:
        """The child has closed its end of the pipe."""
        self._close_pipe()
        code = child.reap(self.pid)
        self.pid = 0
        if code or self._file is None:
            reason = _REASONS.get(code, f"the child that wrote it ended with {code}")
            self._close_file()
            self.snapshot.end(reason if code else "")
            return False
        self._file.seek(0)
        self.snapshot.begin(self._size)
        return self._pull_from_file()

    def _pull_from_file(self) -> bool:
        assert self._file is not None
        for _ in range(PIECES_AT_ONCE):
            if not self.snapshot.has_room():
                return True
            piece = self._file.read(PIECE_SIZE)
            if not piece:
                self._close_file()
                self.snapshot.end()
                return False
            self.snapshot.receive(piece)
        self.has_more = True
        return True

    def cancel(self) -> None:
        """Nobody needs it any more."""
        self._close_pipe()
        self._close_file()
        if self.pid:
            child.reap(self.pid, kill=True)

    def _close_pipe(self) -> None:
        if self.fd >= 0:
            if not self.waits:
                self.epoll.unregister(self.fd)
            os.close(self.fd)
            self.fd = -1

    def _close_file(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):  # of a full disk
                self._file.close()
            self._file = None


def _write(pieces: Iterable[bytes], into: int) -> int:
    """In the child: all pieces into the pipe."""
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(into, view) :]
    except FieldDeadlines:
        return _UNWRITABLE
    except BrokenPipeError:  # the parent is gone, or wants no more
        return _UNWANTED
    return 0
