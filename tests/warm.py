"""Nodes forked from one warm process, as `slotfleet up` starts them: no test waits for imports.

The warm process is this file, run as a program by `Warm`. A line of JSON on its standard input
asks, a line on its standard output answers.
"""

import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import attrs

from cluster.processes import Fork


@attrs.define(eq=False)
class Warm:
    """Forks nodes; all of them end with it."""

    _process: subprocess.Popen[str] = attrs.field(init=False)
    _turn: threading.Lock = attrs.field(factory=threading.Lock)

    def __attrs_post_init__(self) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=pipe, stdout=pipe, text=True, start_new_session=True
        )

    def start(self, directives: list[str], directory: Path) -> "WarmProcess":
        """A node in `directory`, its output appended to `log` there."""
        return WarmProcess(self, [*directives], self.ask("start", str(directory), *directives))

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


def main() -> None:
    """The warm process."""
    from cluster.server import run_server

    fork, running = Fork(run_server), set()
    gc.collect()
    gc.freeze()
    for line in sys.stdin:
        answer = None
        match json.loads(line):
            case ["start", directory, *directives]:
                answer = fork(directives, Path(directory)).pid
                running.add(answer)
            case ["reap", pid]:
                answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                running.remove(pid)
        print(json.dumps(answer), flush=True)
    for pid in running:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
