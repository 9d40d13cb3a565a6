"""What tests of our server as a process share."""

import select
import signal
import socket
import time
from collections.abc import Callable
from typing import Any

import hiredis

Server = Any  # of the fixtures that start one
Start = Callable[..., Server]


def wait_until(condition: Callable[[], object], what: str, timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.01)


def info(server: Server, section: str) -> dict[str, str]:
    """The fields of a section of INFO."""
    text = server.call("INFO", section)
    assert isinstance(text, bytes)
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def end(server: Server, number: int = signal.SIGTERM) -> int:
    """Ask a server to end; its exit code."""
    server.process.send_signal(number)
    return server.process.wait(10)


def is_unanswered(server: Server, *command: str | int, seconds: float = 0.3) -> bool:
    """Whether nothing comes back for so long."""
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(hiredis.pack_command(command))
        return not select.select([sock], [], [], seconds)[0]
