"""Nodes forked from one warm process, as `slotfleet up` starts them: no test waits for imports.

The warm process is this file, run as a program by `Warm`. A line of JSON on its standard input
asks, a line on its standard output answers. `slotfleet` itself can be run in the same way.
"""

import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from cluster.processes import Fork, Process

STREAMS = ("stdout", "stderr")


@attrs.define(eq=False)
class Warm:
    """Forks nodes, as a `Spawner` or with more to hold on to; all of them end with it."""

    _process: subprocess.Popen[str] = attrs.field(init=False)
    _turn: threading.Lock = attrs.field(factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )

    def __call__(self, directives: Sequence[str], directory: Path) -> Process:
        """A node in `directory`, its output appended to `log` there."""
        return Process.of(self.ask("start", str(directory), *directives))

    def start(self, directives: list[str], directory: Path) -> "WarmProcess":
        return WarmProcess(self, directives, self(directives, directory).pid)

    def slotfleet(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run a command of the program `slotfleet` to its end."""
        with tempfile.TemporaryDirectory() as name:
            process = WarmProcess(self, [*words], self.ask("slotfleet", name, *words))
            try:
                code = process.wait(timeout)
            finally:
                process.kill()
            said = [Path(name, stream).read_text() for stream in STREAMS]
        return subprocess.CompletedProcess(words, code, *said)

    def ask(self, *words: str | int) -> Any:
        asks, answers = self._process.stdin, self._process.stdout
        assert asks and answers
        with self._turn:
            asks.write(json.dumps(words) + "\n")
            asks.flush()
            return json.loads(answers.readline())

    def close(self) -> None:
        self._process.communicate()


@attrs.define(eq=False)
class WarmProcess:
    """As a `subprocess.Popen`, as far as tests need one."""

    _warm: Warm
    args: list[str]
    pid: int
    returncode: int | None = None
    _end: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._end = os.pidfd_open(self.pid)

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        code = self._ended(timeout)
        if code is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(self.args, timeout)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _ended(self, timeout: float | None) -> int | None:
        """The exit code, once there is one, at most `timeout` seconds from now."""
        if self.returncode is None:
            waiting = select.poll()
            waiting.register(self._end, select.POLLIN)
            if waiting.poll(None if timeout is None else 1000 * timeout):
                self.returncode = self._warm.ask("reap", self.pid)
                os.close(self._end)
        return self.returncode


def run_slotfleet(words: list[str]) -> int:
    for fd, stream in enumerate(STREAMS, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT), fd)
    from cluster.__main__ import main as program

    return program(words, prog_name="slotfleet")


def main() -> None:
    """The warm process."""
    from cluster.server import run_server

    for name in ("__main__", "drill", "launcher", "status"):
        importlib.import_module(f"cluster.{name}")
    forks = {"start": Fork(run_server), "slotfleet": Fork(run_slotfleet)}
    running = set()
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        answer = None
        match json.loads(line):
            case ["start" | "slotfleet" as what, directory, *words]:
                answer = forks[what](words, Path(directory)).pid
                running.add(answer)
            case ["reap", pid]:
                answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                running.remove(pid)
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
