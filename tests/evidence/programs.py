"""Servers to measure or to compare: processes on free ports of the loopback, and connections."""

import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import attrs
import hiredis
import trio

from cluster.launcher import Fleet, Plan, start
from cluster.processes import Program, find_program, free_run

OURS = [sys.executable, "-m", "node"]
READY_TIMEOUT = 10.0
ANSWER_TIMEOUT = 20.0
FORMATION_SECONDS = 120.0

Word = str | bytes | int | float


@attrs.define(eq=False)
class Connection:
    """A client's connection; errors are returned, not raised."""

    sock: socket.socket
    reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    def send(self, *commands: tuple[Word, ...]) -> None:
        self.sock.sendall(b"".join(hiredis.pack_command(command) for command in commands))

    def next(self) -> Any:
        """The next reply or message."""
        while (reply := self.reader.gets()) is False:
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionError("the server closed the connection")
            self.reader.feed(data)
        return reply

    def ask(self, *commands: tuple[Word, ...]) -> list[Any]:
        """Send commands at once; their replies."""
        self.send(*commands)
        return [self.next() for _ in commands]

    def one(self, *command: Word) -> Any:
        return self.ask(command)[0]

    def close(self) -> None:
        self.sock.close()


class Server:
    """A server process with a directory of its own, as a context manager."""

    def __init__(self, command: list[str], *directives: str) -> None:
        self.port = free_run(1)
        self._directory = tempfile.TemporaryDirectory(prefix="slotfleet-")
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", self._directory.name]
        self.process = subprocess.Popen(
            [*command, *place, "--save", "", *directives],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def connect(self) -> Connection:
        """A connection, once the server accepts them."""
        return connect(self.port, self.process, ANSWER_TIMEOUT)

    def __enter__(self) -> "Server":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        self.process.wait()
        self._directory.cleanup()


def connect(port: int, process: "subprocess.Popen[bytes]", timeout: float) -> Connection:
    """A connection to a server's process, once it accepts them; `timeout` is that of an answer."""
    deadline = time.monotonic() + READY_TIMEOUT
    while True:
        try:
            sock = socket.create_connection(("127.0.0.1", port), timeout)
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.01)
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return Connection(sock)


@contextmanager
def cluster_of(server: str, shards: int, directory: Path, *directives: str) -> Iterator[Fleet]:
    """A new cluster of a named server's nodes, each primary with a replica."""
    fleet = Fleet(Plan(shards, 1, free_run(2 * shards), directives, server), directory)
    try:
        start(fleet, Program(find_program(server)))
        trio.run(fleet.formation().form, FORMATION_SECONDS)
        yield fleet
    finally:
        fleet.end(grace=2)
