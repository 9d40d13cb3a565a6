"""What every test can ask for: free ports, real servers as processes, the tools they come with.

A real server is started on free ports in a directory of its own, is ready when the fixture's call
returns, and is killed by its pid when the test ends.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import hiredis
import hypothesis
import pytest

from cluster.processes import FREE_PORTS, find_program, taken_ports
from tests.warm import Warm, WarmProcess

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile(
    "busy", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("busy")

READY_TIMEOUT = 10.0
OURS = "slotfleet-server"


def _worker_ports() -> Iterator[int]:
    """Endless candidates; each pytest worker has its share of the ports."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = len(FREE_PORTS) // workers
    share = FREE_PORTS[worker * size : (worker + 1) * size]
    start = random.randrange(size)
    while True:
        yield share[start % size]
        start += 1


_candidates = _worker_ports()


def free_ports(count: int = 1) -> list[int]:
    """Ports of the loopback that are free together with their bus ports, no two alike."""
    found: list[int] = []
    while len(found) < count:
        port = next(_candidates)
        if not taken_ports([port]):
            found.append(port)
    return found


def free_run(count: int) -> int:
    """The first of `count` consecutive ports, each free together with its bus port."""
    while True:
        first = next(_candidates)
        if not taken_ports(range(first, first + count)):
            return first


def wait_until(
    condition: Callable[[], object], what: object, timeout: float = READY_TIMEOUT
) -> None:
    """Poll `condition` until it is true; fail the test, naming `what`, after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        since = time.monotonic()
        if condition():
            return
        now = time.monotonic()
        if now > deadline:
            pytest.fail(f"timed out after {timeout} s: {what}")
        time.sleep(min(max(0.005, 2 * (now - since)), 0.1))  # what is costly is asked less often


def call(port: int, *args: str | bytes | int, timeout: float = 5.0) -> object:
    """Send one command on a connection of its own; an error reply is returned, not raised."""
    with socket.create_connection(("127.0.0.1", port), timeout) as sock:
        sock.sendall(hiredis.pack_command(args))
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            data = sock.recv(65536)
            if not data:
                raise ConnectionError(f"port {port} closed the connection")
            reader.feed(data)
        return reply


@attrs.define(eq=False)
class ServerProcess:
    """A server that answers on `port` of the loopback, with its files in `directory`."""

    process: subprocess.Popen[bytes] | WarmProcess
    port: int
    directory: Path

    @property
    def pid(self) -> int:
        return self.process.pid

    def call(self, *args: str | bytes | int) -> object:
        return call(self.port, *args)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def pause(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def wait_ready(self) -> None:
        def answers() -> bool:
            if self.process.poll() is not None:
                pytest.fail(f"the server ended with {self.process.returncode}:\n{self.log()}")
            try:
                return self.call("PING") is not None
            except OSError:
                return False

        wait_until(answers, self)

    def __str__(self) -> str:
        """What is said of a server that isn't ready."""
        return f"server on port {self.port} answers PING\n{self.log()}"


StartServer = Callable[..., ServerProcess]


def run(command: list[str], directory: Path) -> subprocess.Popen[bytes]:
    """Run a program in `directory`, its output appended to `log` there."""
    with open(directory / "log", "ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=directory
        )


@pytest.fixture(scope="session")
def warm() -> Iterator[Warm]:
    """What all nodes of this test process are forked from."""
    found = Warm()
    yield found
    found.close()


@pytest.fixture
def start_server(tmp_path: Path, warm: Warm) -> Iterator[StartServer]:
    """A function (command, *directives, port=None) that starts a server and waits until it answers.

    `command` is the program with its leading arguments; directives are given as on its command
    line: `start_server(["redis-server"], "--appendonly", "yes")`. The program `OURS` is not run
    but forked.
    """
    started: list[ServerProcess] = []

    def start(
        command: list[str], *directives: str, port: int | None = None, name: str | None = None
    ) -> ServerProcess:
        port = port or free_ports(1)[0]
        directory = tmp_path / (name or f"server-{port}")
        directory.mkdir(exist_ok=True)
        place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
        first, *words = [*command, *place, *directives]
        process = warm.start(words, directory) if first == OURS else run([first, *words], directory)
        server = ServerProcess(process, port, directory)
        started.append(server)
        server.wait_ready()
        return server

    yield start
    for server in started:
        server.kill()


@attrs.define(eq=False)
class Connection:
    """A client's connection; errors are returned, not raised."""

    sock: socket.socket
    reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    def ask(self, *commands: tuple[str | bytes | int, ...]) -> list[Any]:
        """Send commands at once; their replies."""
        self.sock.sendall(b"".join(hiredis.pack_command(command) for command in commands))
        return [self.next() for _ in commands]

    def one(self, *command: str | bytes | int) -> Any:
        return self.ask(command)[0]

    def next(self) -> Any:
        """What comes next, be it a reply or a message."""
        while (reply := self.reader.gets()) is False:
            data = self.sock.recv(1 << 20)
            if not data:
                raise ConnectionError("the server closed the connection")
            self.reader.feed(data)
        return reply


@pytest.fixture
def connect() -> Iterator[Callable[[int], Connection]]:
    """A function (port) that connects to a server on the loopback."""
    socks: list[socket.socket] = []

    def to(port: int) -> Connection:
        socks.append(socket.create_connection(("127.0.0.1", port), 10))
        return Connection(socks[-1])

    yield to
    for sock in socks:
        sock.close()


def tool(name: str, package: str) -> str:
    """The path of a program; the test is skipped where it is missing."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"needs {name} (Debian: {package})")
    return path


@pytest.fixture(scope="session")
def redis_cli() -> str:
    return tool("redis-cli", "redis-tools")


@pytest.fixture(scope="session")
def redis_benchmark() -> str:
    return tool("redis-benchmark", "redis-tools")


@pytest.fixture(scope="session")
def redis_server_path() -> str:
    return tool("redis-server", "redis-server")


@pytest.fixture(scope="session")
def valkey_server_path() -> str:
    return find_program("valkey-server")


@pytest.fixture(scope="session")
def node_clients() -> Path:
    """The directory of the Node.js clients, installed."""
    directory = Path(__file__).parent / "clients"
    tool("node", "nodejs")
    if not (directory / "node_modules" / "ioredis").is_dir():
        pytest.skip("needs ioredis: npm install --prefix tests/clients")
    return directory


@pytest.fixture
def valkey_server(start_server: StartServer, valkey_server_path: str) -> StartServer:
    """A function (*directives) that starts a real valkey-server without snapshots."""
    return lambda *directives, **options: start_server(
        [valkey_server_path], "--save", "", *directives, **options
    )


@pytest.fixture
def our_server(start_server: StartServer) -> StartServer:
    """A function (*directives) that starts a server of ours, forked from a warm process."""
    return lambda *directives, **options: start_server([OURS], *directives, **options)


@pytest.fixture
def our_program(start_server: StartServer) -> StartServer:
    """As `our_server`, by running the program `slotfleet-server`."""
    program = find_program("slotfleet-server")
    return lambda *directives, **options: start_server([program], *directives, **options)


@pytest.fixture
def redis_server(start_server: StartServer, redis_server_path: str) -> StartServer:
    """A function (*directives) that starts a real redis-server without snapshots."""
    return lambda *directives, **options: start_server(
        [redis_server_path], "--save", "", *directives, **options
    )
