"""Our node and a real server side by side: the same commands go to both, replies are compared.

Ours runs inside the test process, without sockets; what is compared is what a client would get,
byte for byte, in the protocol that the pair speaks.
"""

import socket
import time
from random import Random
from typing import Any

import attrs
import hiredis

from node.clock import SystemClock
from node.config import Config
from node.data.keyspace import EXPIRED, NO_EVENT, Database
from node.node import Node
from node.session import Session

Word = str | bytes | int | float
Event = tuple[int, bytes, bytes]  # number of the database, event, key


@attrs.define(eq=False)
class Ours:
    """A client of a node of its own; events: what notifications would tell, `take_log` what
    replicas would get."""

    node: Node = attrs.field(factory=lambda: Node(Config(), SystemClock(), Random(1)))
    session: Session = attrs.field(init=False)
    events: list[Event] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.session = self.node.session()
        keyspace = self.node.keyspace
        keyspace.listen(self._note)
        keyspace.on_miss = lambda db, key: self.events.append((db.index, b"keymiss", key))
        keyspace.on_new = lambda db, key: self.events.append((db.index, b"new", key))
        self.node.log.keep_backlog(1 << 20)
        self._cursor = self.node.log.open_cursor()

    _cursor: Any = attrs.field(init=False)

    def _note(self, db: Database, key: bytes, event: bytes, kind: int) -> None:
        assert kind == EXPIRED or event != b"expired"
        if kind != NO_EVENT:
            self.events.append((db.index, event, key))

    def raw(self, *command: Word) -> bytes:
        """The reply as it goes over the wire."""
        self.node.begin_turn()
        self.session.receive(hiredis.pack_command(command))
        self.node.end_turn()
        return self.session.take_output()

    def ask(self, *command: Word) -> Any:
        """The reply as a value; errors are returned."""
        return decoded(self.raw(*command))

    def take_events(self) -> list[Event]:
        events, self.events = self.events, []
        return events

    def take_log(self) -> list[list[bytes]]:
        """What has been logged since the last call, without SELECT."""
        self.node.log.flush()
        reader = hiredis.Reader()
        reader.feed(self.node.log.read(self._cursor, 1 << 30))
        commands = list(iter(reader.gets, False))
        return [words for words in commands if words[0] != b"SELECT"]


@attrs.define(eq=False)
class Pair:
    """Both servers, empty; see `same`."""

    sock: socket.socket
    protocol: int
    ours: Ours = attrs.field(factory=Ours)
    history: list[tuple[Word, ...]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.theirs_raw("FLUSHALL")
        self.theirs_raw("SELECT", 0)
        self.theirs_raw("HELLO", self.protocol)
        self.ours.raw("HELLO", self.protocol)

    def theirs_raw(self, *command: Word) -> bytes:
        self.sock.sendall(hiredis.pack_command(command))
        reader, data = hiredis.Reader(notEnoughData=...), b""
        while True:
            chunk = self.sock.recv(1 << 20)
            assert chunk, "the real server closed the connection"
            data += chunk
            reader.feed(chunk)
            if reader.gets() is not ...:
                return data

    def both(self, *command: Word) -> tuple[bytes, bytes]:
        self.history = [*self.history[-9:], command]
        return self.ours.raw(*command), self.theirs_raw(*command)

    def same(self, *command: Word) -> Any:
        """The replies must be equal to the last byte; the reply as a value."""
        ours, theirs = self.both(*command)
        assert ours == theirs, f"{command}: ours {ours!r}, real {theirs!r}; after {self.history}"
        return decoded(ours)

    def lines(self, *lines: str) -> None:
        """`same` for each of these, split at spaces."""
        for line in lines:
            self.same(*line.split(" "))

    def unordered(self, *command: Word) -> list[Any]:
        """The replies are arrays of the same elements, in whatever order."""
        ours, theirs = map(decoded, self.both(*command))
        assert sorted(ours) == sorted(theirs), f"{command}: ours {ours!r}, real {theirs!r}"
        return ours

    def close(self, most: int, *command: Word) -> None:
        """The replies are integers that differ by no more than `most`."""
        ours, theirs = map(decoded, self.both(*command))
        assert abs(ours - theirs) <= most, f"{command}: ours {ours!r}, real {theirs!r}"


def connect_when_ready(path: str, timeout: float = 10.0) -> socket.socket:
    """A connection to a server that may still be starting, by its Unix socket."""
    deadline = time.monotonic() + timeout
    while True:
        sock = socket.socket(socket.AF_UNIX)
        sock.settimeout(timeout)
        try:
            sock.connect(path)
            return sock
        except OSError:
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.005)


def decoded(data: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(data)
    return reader.gets()


def script(text: str) -> list[str]:
    """Commands, separated by semicolons and line breaks; `lines` takes them."""
    return [line.strip() for line in text.replace(";", "\n").splitlines() if line.strip()]
