"""A real server as the oracle of a value: the same calls go to both, and replies are compared."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import hiredis
import pytest
from differential import Pair, connect_when_ready
from witness import Witness

Arg = str | bytes | int | float
Compare = Callable[[Any, Any], bool]


def equal(ours: Any, theirs: Any) -> bool:
    return ours == theirs


@attrs.define(eq=False)
class Oracle:
    """Collects commands with the replies we expect; `settle` asks the server and compares."""

    sock: socket.socket
    reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)
    expected: list[tuple[tuple[Arg, ...], Any, Compare]] = attrs.field(factory=list)

    def expect(self, ours: Any, *command: Arg, compare: Compare = equal) -> None:
        self.expected.append((command, ours, compare))
        if len(self.expected) >= 500:
            self.settle()

    def settle(self) -> None:
        expected, self.expected = self.expected, []
        replies = self.ask(*[command for command, _, _ in expected])
        for number, (reply, (command, ours, compare)) in enumerate(
            zip(replies, expected, strict=True)
        ):
            before = [shown for shown, _, _ in expected[max(0, number - 5) : number]]
            assert compare(ours, reply), f"{command}: ours {ours!r}, real {reply!r}; after {before}"

    def ask(self, *commands: tuple[Any, ...]) -> list[Any]:
        self.sock.sendall(b"".join(hiredis.pack_command(command) for command in commands))
        return [self.next() for _ in commands]

    def next(self) -> Any:
        """What comes next; raises ConnectionError."""
        while (reply := self.reader.gets()) is False:
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionError("the server closed the connection")
            self.reader.feed(data)
        return reply

    def one(self, *command: Arg) -> Any:
        self.settle()
        return self.ask(command)[0]


@pytest.fixture
def connect() -> Iterator[Callable[[int], Oracle]]:
    """A function (port) that connects to a server on the loopback."""
    socks: list[socket.socket] = []

    def to(port: int) -> Oracle:
        socks.append(socket.create_connection(("127.0.0.1", port), 10))
        return Oracle(socks[-1])

    yield to
    for sock in socks:
        sock.close()


@pytest.fixture
def oracle(valkey_server: Any, connect: Callable[[int], Oracle]) -> Iterator[Oracle]:
    """A connection to a fresh valkey-server; what was expected and not settled is at the end."""
    found = connect(valkey_server("--enable-debug-command", "yes").port)
    yield found
    found.settle()


@pytest.fixture(scope="session")
def reference(tmp_path_factory: pytest.TempPathFactory, valkey_server_path: str) -> Iterator[str]:
    """One valkey-server for all tests that leave nothing behind but data; its Unix socket."""
    directory = tmp_path_factory.mktemp("reference")
    path = str(directory / "socket")
    directives = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", str(directory)]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen([valkey_server_path, *directives], stdout=log, stderr=log)
    connect_when_ready(path).close()
    yield path
    process.kill()
    process.wait()


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def pair(reference: str, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A node of ours and a real server, both empty, both spoken to in the same protocol."""
    with connect_when_ready(reference) as sock:
        yield Pair(sock, request.param)


@pytest.fixture
def witness(pair: Pair, reference: str) -> Iterator[Witness]:
    """A pair of which events and effects are compared as well."""
    found = Witness.of(pair, reference)
    yield found
    found.close()


@pytest.fixture
def resp2_pair(reference: str) -> Iterator[Pair]:
    """As `pair`, for what does not depend on the protocol."""
    with connect_when_ready(reference) as sock:
        yield Pair(sock, 2)


@pytest.fixture
def resp3_pair(reference: str) -> Iterator[Pair]:
    """As `pair`, for what only RESP3 tells."""
    with connect_when_ready(reference) as sock:
        yield Pair(sock, 3)
