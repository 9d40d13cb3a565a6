"""Kill a node under load, again and again, and look for what it had acknowledged.

Each client writes transactions, one after the other, that add its next number to a list of its own
and count it. After SIGKILL at a random moment, rewrites of the append-only file included, the node
is started again: each list must be the numbers from 0 on, as many as were counted, and no fewer
than were acknowledged; under everysec, no fewer than were acknowledged two seconds before.

A kill leaves what a process has written with the operating system. So this tells of the file's
order and of transactions, not of syncs; those are told by a trace of system calls.
"""

import argparse
import contextlib
import random
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import attrs
from programs import OURS, Connection

from cluster.processes import free_run

CLIENTS = 6
EVERYSEC_S = 2.0
READY_TIMEOUT = 60.0  # of a machine that others use as well
DIRECTIVES = (
    *("--save", "", "--appendonly", "yes", "--auto-aof-rewrite-min-size", "20kb"),
    *("--auto-aof-rewrite-percentage", "50"),
)


@attrs.define(eq=False)
class Client:
    """One that writes until its connection breaks. acked: when each of its transactions was."""

    port: int
    name: str
    acked: list[float] = attrs.field(factory=list)
    sent: int = 0

    def write(self) -> None:
        sock = socket.create_connection(("127.0.0.1", self.port), 10)
        connection = Connection(sock)
        with sock, contextlib.suppress(OSError, ConnectionError):
            while True:
                self._write_one(connection)

    def _write_one(self, connection: Connection) -> None:
        number, self.sent = self.sent, self.sent + 1
        replies = connection.ask(
            ("MULTI",),
            ("RPUSH", f"list:{self.name}", number),
            ("INCR", f"count:{self.name}"),
            ("EXEC",),
        )
        assert replies[-1] == [number + 1, number + 1], replies
        self.acked.append(time.monotonic())


@attrs.define
class Outcome:
    """Of one run. lost: acknowledged transactions that are not there; lost_old: of those, what was
    acknowledged longer ago than everysec may lose. wrong: what is there and should not be."""

    acked: int
    lost: int
    lost_old: int
    wrong: list[str]


def spawn(directives: list[str], directory: Path) -> subprocess.Popen[bytes]:
    with open(directory / "log", "ab") as log:
        command = [*OURS, *directives]
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


def start(port: int, directory: Path, policy: str) -> subprocess.Popen[bytes]:
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory)]
    process = spawn([*place, *DIRECTIVES, "--appendfsync", policy], directory)
    deadline = time.monotonic() + READY_TIMEOUT
    while not is_ready(port):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise RuntimeError(f"the node doesn't start:\n{(directory / 'log').read_text()}")
        time.sleep(0.01)
    return process


def is_ready(port: int) -> bool:
    try:
        return type(ask(port, ("DBSIZE",))[0]) is int
    except OSError:
        return False


def ask(port: int, *commands: tuple[Any, ...]) -> list[Any]:
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        return Connection(sock).ask(*commands)


def run(policy: str, rng: random.Random, seconds: float) -> Outcome:
    """Start a node, write, kill it after so long, start it again and look."""
    port = free_run(1)
    with tempfile.TemporaryDirectory(prefix="slotfleet-") as name:
        directory = Path(name)
        process = start(port, directory, policy)
        clients = [Client(port, str(number)) for number in range(CLIENTS)]
        threads = [threading.Thread(target=client.write) for client in clients]
        for thread in threads:
            thread.start()
        time.sleep(seconds / 2)
        if rng.random() < 0.5:
            with contextlib.suppress(OSError, ConnectionError):
                ask(port, ("BGREWRITEAOF",))
        time.sleep(seconds / 2)
        killed = time.monotonic()
        process.kill()
        process.wait()
        for thread in threads:
            thread.join()
        process = start(port, directory, policy)
        try:
            return judge(port, clients, killed)
        finally:
            process.kill()
            process.wait()


def judge(port: int, clients: list[Client], killed: float) -> Outcome:
    outcome = Outcome(0, 0, 0, [])
    for client in clients:
        found, count = ask(
            port, ("LRANGE", f"list:{client.name}", 0, -1), ("GET", f"count:{client.name}")
        )
        there = len(found)
        if found != [b"%d" % number for number in range(there)] or there > client.sent:
            outcome.wrong.append(f"client {client.name}: its list is not what it wrote")
        if int(count or 0) != there:
            outcome.wrong.append(f"client {client.name}: {there} numbers, but counted {count!r}")
        old = sum(at < killed - EVERYSEC_S for at in client.acked)
        outcome.acked += len(client.acked)
        outcome.lost += max(len(client.acked) - there, 0)
        outcome.lost_old += max(old - there, 0)
    return outcome


def drill(policy: str, runs: int, seed: int, longest: float, verbose: bool = False) -> Outcome:
    """Many runs; the sum of their outcomes."""
    rng = random.Random(seed)
    total = Outcome(0, 0, 0, [])
    for number in range(runs):
        one = run(policy, rng, rng.uniform(0.02, longest))
        total.acked += one.acked
        total.lost += one.lost
        total.lost_old += one.lost_old
        total.wrong += one.wrong
        if verbose and (one.lost or one.wrong or number % 10 == 9):
            print(f"run {number + 1}: {attrs.asdict(total)}", flush=True)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/kill-drill", description=__doc__)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--appendfsync", choices=("always", "everysec"), default="always")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, help="seconds until the kill, at most")
    args = parser.parse_args()
    longest = args.longest or (1.0 if args.appendfsync == "always" else 4.0)
    total = drill(args.appendfsync, args.runs, args.seed, longest, verbose=True)
    for line in total.wrong:
        print(line)
    print(
        f"{args.runs} kills with appendfsync {args.appendfsync}: {total.acked} acknowledged "
        f"transactions, {total.lost} lost, {total.lost_old} of them older than {EVERYSEC_S:g} s"
    )
    lost = total.lost if args.appendfsync == "always" else total.lost_old
    return 1 if lost or total.wrong or not total.acked else 0


if __name__ == "__main__":
    raise SystemExit(main())
