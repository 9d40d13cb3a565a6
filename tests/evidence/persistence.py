"""Persistence beside a real server, both in one run; see scripts/bench-persistence."""

import argparse
import itertools
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from programs import Connection, Word, connect

from cluster.processes import find_program, free_run

QUIET_SECONDS = 2
GIVE_UP_SECONDS = 120
WRITES = ("set", "lpush", "hset", "zadd")
BAR_MS = 20.0
BAR_CPU = 1.8
BAR_KEYS_PER_SECOND = 300_000
ALONE = ("--save", "", "--enable-debug-command", "yes", "--repl-diskless-sync-delay", "0")
LOGGING = (
    *("--save", "", "--repl-diskless-sync-delay", "0", "--appendonly", "yes"),
    *("--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0"),
)


@attrs.define(eq=False)
class Server:
    """A server process in a directory that others may be started in after it."""

    command: list[str]
    directory: Path
    directives: tuple[str, ...]
    port: int = 0
    process: "subprocess.Popen[bytes]" = attrs.field(init=False)
    connection: Connection = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.port = free_run(1)
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [*self.command, *place, *self.directives], stdout=log, stderr=log
            )
        try:
            self.connection = connect(self.port, self.process, GIVE_UP_SECONDS)
        except OSError:
            sys.exit(f"{self.command[0]} does not listen:\n{self.log()[-2000:]}")

    def one(self, *command: Word) -> object:
        return self.connection.one(*command)

    def number(self, *command: Word) -> int:
        reply = self.one(*command)
        assert isinstance(reply, int), reply
        return reply

    def done(self, *command: Word) -> None:
        reply = self.one(*command)
        if isinstance(reply, Exception):
            raise Unavailable(f"{command[0]!s}: {reply}")

    def info(self, field: str) -> str:
        text = self.one("INFO", "everything")
        assert isinstance(text, bytes)
        return text.decode().partition(f"\r\n{field}:")[2].partition("\r\n")[0]

    def wait_for(self, field: str, value: str) -> None:
        deadline = time.monotonic() + GIVE_UP_SECONDS
        while self.info(field) != value:
            if time.monotonic() > deadline:
                sys.exit(f"{field} does not become {value}")
            time.sleep(0.005)

    def log(self) -> str:
        return (self.directory / "log").read_text(errors="replace")

    def cpu_seconds(self) -> float:
        """Of all threads the process has or had; children that it forked do not count."""
        return time.clock_gettime((~self.process.pid << 3) | 2)  # clock_getcpuclockid(3)

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class Unavailable(Exception):
    """The server can't do what is to be measured."""


@contextmanager
def running(command: list[str], directory: Path, *directives: str) -> Iterator[Server]:
    directory.mkdir(exist_ok=True)
    server = Server(command, directory, directives)
    try:
        yield server
    finally:
        server.end()


# --- a million keys -------------------------------------------------------------------------------


@attrs.define
class Figures:
    """What one server needed: seconds, and percentiles of a GET's milliseconds."""

    name: str
    seconds: dict[str, float] = attrs.field(factory=dict)
    get_ms: dict[str, tuple[float, float, float]] = attrs.field(factory=dict)
    fork_ms: dict[str, float] = attrs.field(factory=dict)
    keys: int = 0
    file_bytes: int = 0


def fill(server: Server, keys: int, types: bool) -> None:
    server.one("DEBUG", "POPULATE", keys)
    if not types:
        return
    items = [str(number) for number in range(10)]
    pairs = [word for item in items for word in (item, item)]
    for first in range(0, keys, 1000):
        server.connection.ask(
            *[
                command
                for number in range(first, first + 1000, 10)
                for command in (
                    ("RPUSH", f"list:{number}", *items),
                    ("SADD", f"set:{number}", *items, "x"),
                    ("HSET", f"hash:{number}", *pairs),
                    ("ZADD", f"zset:{number}", *pairs),
                )
            ]
        )


def get_for(server: Server, keys: int, seconds: float, taken: list[float]) -> None:
    """One GET after the other; how long each took, in milliseconds."""
    ask, clock = server.connection.one, time.perf_counter
    end = clock() + seconds
    number = len(taken)
    while (start := clock()) < end:
        number = (number + 7919) % keys
        ask("GET", f"key:{number}")
        taken.append((clock() - start) * 1000)


def percentiles(taken: list[float]) -> tuple[float, float, float]:
    """p50, p99 and the largest."""
    ordered = sorted(taken)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100], ordered[-1]


def watch(server: Server, keys: int, progress: str, figures: Figures, name: str) -> None:
    """GET until work in the background is over."""
    taken: list[float] = []
    start = time.perf_counter()
    while server.info(progress) == "1":
        get_for(server, keys, 0.1, taken)
    if not taken:
        raise Unavailable(f"{name} was over before it could be watched")
    figures.seconds[name] = time.perf_counter() - start
    figures.get_ms[f"during {name}"] = percentiles(taken)
    figures.fork_ms[name] = int(server.info("latest_fork_usec")) / 1000


def timed(server: Server, *command: Word) -> float:
    start = time.perf_counter()
    server.done(*command)
    return time.perf_counter() - start


def full_sync(primary: Server, command: list[str], directory: Path) -> float:
    """Seconds from REPLICAOF until the link is up and the data are there."""
    with running(command, directory, *ALONE) as replica:
        start = time.perf_counter()
        replica.done("REPLICAOF", "127.0.0.1", primary.port)
        replica.wait_for("master_link_status", "up")
        took = time.perf_counter() - start
        assert replica.number("DBSIZE") == primary.number("DBSIZE")
        return took


def loading_seconds(command: list[str], directory: Path, keys: int) -> float:
    """As the server's own log tells it, so that the start of its program does not count."""
    with running(command, directory, *ALONE) as server:
        while isinstance(server.one("PING"), Exception):
            time.sleep(0.01)
        assert server.number("DBSIZE") == keys
        found = re.search(r"DB loaded from disk: ([\d.]+) seconds", server.log())
        assert found is not None
        return float(found[1])


def measure(name: str, command: list[str], o: argparse.Namespace) -> Figures:
    figures = Figures(name)
    with tempfile.TemporaryDirectory(prefix="slotfleet-bench-") as place:
        home = Path(place) / "home"
        with running(command, home, *ALONE) as server:
            fill(server, o.keys, o.types)
            figures.keys = server.number("DBSIZE")
            quiet: list[float] = []
            get_for(server, o.keys, QUIET_SECONDS, quiet)
            figures.get_ms["quiet"] = percentiles(quiet)
            server.done("BGSAVE")
            watch(server, o.keys, "rdb_bgsave_in_progress", figures, "BGSAVE")
            figures.seconds["SAVE"] = min(timed(server, "SAVE") for _ in range(o.rounds))
            figures.file_bytes = (home / "dump.rdb").stat().st_size
            figures.seconds["full sync"] = min(
                full_sync(server, command, Path(place) / f"replica-{i}") for i in range(o.rounds)
            )
            measure_rewrite(server, figures, o)
        figures.seconds["load"] = min(
            loading_seconds(command, home, figures.keys) for _ in range(o.rounds)
        )
    return figures


def measure_rewrite(server: Server, figures: Figures, o: argparse.Namespace) -> None:
    try:
        server.done("CONFIG", "SET", "appendonly", "yes")
        server.wait_for("aof_rewrite_in_progress", "0")
        server.done("BGREWRITEAOF")
        watch(server, o.keys, "aof_rewrite_in_progress", figures, "AOF rewrite")
    except Unavailable as error:
        print(f"{figures.name}: no AOF rewrite: {error}")


def show_keys(ours: Figures, theirs: Figures | None, types: bool) -> bool:
    kind = "keys of five types" if types else "strings"
    print(f"\n{ours.keys:,} {kind}, {ours.file_bytes >> 20} MB as RDB")
    print(f"{'seconds':22}{'ours':>10}{'theirs':>10}{'ratio':>8}")
    for name, value in ours.seconds.items():
        other = theirs.seconds.get(name) if theirs else None
        beside = f"{other:10.2f}{value / max(other, 0.001):8.1f}" if other is not None else ""
        print(f"{name:22}{value:10.2f}{beside}")
    rate = ours.keys / ours.seconds["load"]
    print(f"load: {rate:,.0f} keys a second (at least {BAR_KEYS_PER_SECOND:,} wanted of strings)")
    good = types or rate >= BAR_KEYS_PER_SECOND
    print(f"\n{'GET, milliseconds':22}{'p50':>8}{'p99':>8}{'most':>8}{'fork':>8}")
    for name in ours.get_ms:
        bar = BAR_MS
        for figures in filter(None, (theirs, ours)):
            if name not in figures.get_ms:
                continue
            p50, p99, most = figures.get_ms[name]
            fork = figures.fork_ms.get(name.removeprefix("during "))
            paused = f"{fork:8.2f}" if fork is not None else ""
            whose = "ours" if figures is ours else "theirs"
            print(f"{name + ', ' + whose:22}{p50:8.2f}{p99:8.2f}{most:8.2f}{paused}")
            if figures is theirs:
                bar = max(bar, 2 * p99)
        good = good and ours.get_ms[name][1] <= bar
    return good


# --- the cost of a write --------------------------------------------------------------------------


def write_cost(server: Server, test: str, pipeline: int, requests: int, keys: int) -> float:
    """Microseconds of the server's CPU time for a write, its replica's bytes included."""
    before = server.cpu_seconds()
    subprocess.run(
        shlex.split(
            f"redis-benchmark -p {server.port} -t {test} -r {keys} -q -n {requests} -P {pipeline}"
        ),
        stdout=subprocess.DEVNULL,
        timeout=GIVE_UP_SECONDS,
        check=True,
    )
    assert server.number("WAIT", 1, 30000) == 1
    return (server.cpu_seconds() - before) / requests * 1e6


def measure_writes(commands: dict[str, list[str]], o: argparse.Namespace) -> bool:
    """Print the table of CPU per write, with appendonly everysec and a replica."""
    print("\nCPU microseconds per write, appendonly everysec, one replica attached")
    print(f"{'test':12}{'pipeline':>9}{'ours':>9}{'theirs':>9}{'ratio':>8}")
    ratios = []
    with (
        tempfile.TemporaryDirectory(prefix="slotfleet-bench-") as place,
        with_replicas(commands, Path(place)) as servers,
    ):
        for pipeline, test in itertools.product((1, 16), WRITES):
            requests = o.requests * (1 if pipeline == 1 else 4)
            runs = [
                [write_cost(server, test, pipeline, requests, o.range) for server in servers]
                for _ in range(o.rounds + 2)
            ]
            best = [min(run[i] for run in runs) for i in range(len(servers))]
            beside = ""
            if len(best) > 1:
                ratios.append(best[0] / best[1])
                beside = f"{best[1]:9.2f}{ratios[-1]:8.2f}"
            print(f"{test:12}{pipeline:9}{best[0]:9.2f}{beside}", flush=True)
    if not ratios:
        return True
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios))
    print(f"geometric mean of the ratios {mean:.2f} (at most {BAR_CPU})")
    return mean <= BAR_CPU


@contextmanager
def with_replicas(commands: dict[str, list[str]], place: Path) -> Iterator[list[Server]]:
    """A primary of each kind. The replicas are all alike, a real server's where there is one."""
    follower = list(commands.values())[-1]
    started: list[Server] = []
    primaries = []
    try:
        for name, command in commands.items():
            (place / name).mkdir()
            (place / f"{name}-replica").mkdir()
            primary = Server(command, place / name, LOGGING)
            started.append(primary)
            replica = Server(follower, place / f"{name}-replica", ("--save", ""))
            started.append(replica)
            replica.done("REPLICAOF", "127.0.0.1", primary.port)
            replica.wait_for("master_link_status", "up")
            primaries.append(primary)
        yield primaries
    finally:
        for server in started:
            server.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition(";")[0])
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--range", type=int, default=100_000, help="of random keys and members")
    parser.add_argument("--only", choices=["keys", "types", "writes"])
    parser.add_argument("--server")
    parser.add_argument("--reference", default="redis-server")
    o = parser.parse_args()
    commands = {"ours": shlex.split(o.server or find_program("slotfleet-server"))}
    if shutil.which(o.reference):
        commands["theirs"] = [o.reference]
    else:
        print(f"no {o.reference} to compare with")
    print(f"beside {o.reference}; {os.cpu_count()} CPUs; the best of {o.rounds} where repeated")
    good = True
    for kind, keys in (("keys", o.keys), ("types", o.keys // 5)):
        if o.only in (None, kind):
            o.types, o.keys = kind == "types", keys
            figures = [measure(name, command, o) for name, command in commands.items()]
            good &= show_keys(figures[0], figures[1] if len(figures) > 1 else None, o.types)
    if o.only in (None, "writes"):
        good &= measure_writes(commands, o)
    sys.exit(not good)


if __name__ == "__main__":
    main()
