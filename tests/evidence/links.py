"""Replication between ours and real servers under random writes of all types; see scripts/links."""

import argparse
import itertools
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
from alike import difference, exact
from data_set import contents
from programs import OURS, Connection, Word, connect
from write_load import LIBRARY, SHORT_MS, Load

from cluster.processes import find_program, free_run

BATCH = 40
PATIENCE = 30.0
QUIET = (  # pings would move offsets while they are compared
    *("--repl-ping-replica-period", "3600", "--repl-diskless-sync-delay", "0"),
    *("--repl-backlog-size", "64mb", "--save", ""),
)
# A word after a server's name asks for these.
VARIANTS = {
    "": (),
    "dual-channel": ("--dual-channel-replication-enabled", "yes"),
    "disk": ("--repl-diskless-sync", "no"),
    "swapdb": ("--repl-diskless-load", "swapdb"),
    "aof": ("--appendonly", "yes"),
}


class Mismatch(Exception):
    """Two servers differ where they must not."""


@attrs.define(eq=False)
class Server:
    """A server process that can be started anew with the data it has saved."""

    kind: str
    directory: Path
    port: int = attrs.field(factory=lambda: free_run(1))
    process: "subprocess.Popen[bytes]" = attrs.field(init=False)
    _connection: Connection | None = None

    def __attrs_post_init__(self) -> None:
        self.directory.mkdir()
        self.start()

    def start(self, *directives: str) -> None:
        program, _, variant = self.kind.partition(" ")
        command = OURS if program == "ours" else [find_program(program)]
        place = ["--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)]
        with open(self.directory / "log", "ab") as log:
            self.process = subprocess.Popen(
                [*command, *place, *QUIET, *VARIANTS[variant], *directives], stdout=log, stderr=log
            )
        self._connection = None
        until(lambda: self.ask("PING") == b"PONG", f"{self.kind} answers")

    def ask(self, *command: Word) -> Any:
        if self._connection is None:
            self._connection = connect(self.port, self.process, PATIENCE)
        try:
            return self._connection.one(*command)
        except OSError:
            self._connection = None
            raise

    def info(self, section: str = "replication") -> dict[str, str]:
        lines = self.ask("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def follow(self, primary: "Server") -> None:
        self.ask("REPLICAOF", "127.0.0.1", primary.port)
        self.await_link()

    def await_link(self) -> None:
        until(lambda: self.info()["master_link_status"] == "up", f"{self.kind} is linked")

    def restart(self, primary: "Server") -> None:
        """Save, end, and go on where the file ends."""
        self.ask("CONFIG", "SET", "save", "3600 1")
        with suppress(OSError):  # it answers by ending
            self.ask("SHUTDOWN", "SAVE")
        self.process.wait(PATIENCE)
        self.start("--replicaof", f"127.0.0.1 {primary.port}")
        self.await_link()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if condition():
                return
        except (OSError, KeyError):
            pass
        if time.monotonic() > deadline:
            raise Mismatch(f"timed out: {what}")
        time.sleep(0.01)


# --- writes --------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Writer:
    """Writes at random to a primary, in a thread. written: commands that were not refused."""

    load: Load
    target: Server
    written: int = 0
    refused: int = 0
    _going: bool = True

    def run(self) -> None:
        while self._going:
            try:
                with socket.create_connection(("127.0.0.1", self.target.port), 5) as sock:
                    self._write_on(Connection(sock), self.target)
            except OSError:
                time.sleep(0.01)

    def _write_on(self, connection: Connection, target: Server) -> None:
        while self._going and self.target is target:
            for reply in connection.ask(*self.load.batch(BATCH)):
                refused = isinstance(reply, Exception)
                self.refused += refused
                self.written += not refused

    def stop(self) -> None:
        self._going = False


@contextmanager
def writing(target: Server, seed: int, field_deadlines: bool, threads: int = 2) -> Iterator[Any]:
    """Writers at work; at the end everything that was to expire soon has done so."""
    target.ask("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    writers = [
        Writer(Load(random.Random(seed * 100 + number), field_deadlines), target)
        for number in range(threads)
    ]
    running = [threading.Thread(target=writer.run) for writer in writers]
    for thread in running:
        thread.start()
    try:
        yield writers
    finally:
        for writer in writers:
            writer.stop()
        for thread in running:
            thread.join()
    time.sleep(2 * SHORT_MS / 1000)


# --- what must be so at the end ------------------------------------------------------------------


def compare(primary: Server, replicas: list[Server], field_deadlines: bool) -> int:
    """Equal offsets, one history, equal content and functions; the number of keys."""
    for replica in replicas:
        until(lambda one=replica: is_in_step(primary, one), "equal offsets")  # type: ignore[misc]
    expected = exact(contents(primary.port, field_deadlines))
    for replica in replicas:
        found = exact(contents(replica.port, field_deadlines))
        for key in sorted(expected.keys() | found.keys(), key=repr):
            if expected.get(key) != found.get(key):
                raise Mismatch(f"{key}: {difference(expected.get(key), found.get(key))}"[:600])
        if functions(primary) != functions(replica):
            raise Mismatch("other functions")
        if not is_in_step(primary, replica):
            raise Mismatch("offsets have moved while nothing was written")
    return len(expected)


def is_in_step(primary: Server, replica: Server) -> bool:
    upper, lower = primary.info(), replica.info()
    return (
        upper["master_repl_offset"] == lower["master_repl_offset"] == lower["slave_repl_offset"]
        and upper["master_replid"] == lower["master_replid"]
    )


def functions(server: Server) -> object:
    return server.ask("FUNCTION", "LIST", "WITHCODE")


def check_syncs(server: Server, full: int, partial: int) -> None:
    stats = server.info("stats")
    found = int(stats["sync_full"]), int(stats["sync_partial_ok"])
    if found[0] != full or found[1] < partial:
        raise Mismatch(f"{server.kind}: {found} full and partial syncs, not {full}, {partial}")


# --- the cases -----------------------------------------------------------------------------------


@attrs.define(eq=False)
class Case:
    """Servers of these kinds, a time for writes, and where randomness comes from."""

    kinds: tuple[str, ...]
    seconds: float
    seed: int
    directory: Path
    servers: list[Server] = attrs.field(factory=list)
    writes: int = 0
    breaks: int = 0
    keys: int = 0

    def __enter__(self) -> "Case":
        for number, kind in enumerate(self.kinds):
            self.servers.append(Server(kind, self.directory / str(number)))
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.end()

    @property
    def field_deadlines(self) -> bool:
        return not any(kind.startswith("redis-server") for kind in self.kinds)

    @contextmanager
    def load(self, primary: Server) -> Iterator[list[Writer]]:
        with writing(primary, self.seed, self.field_deadlines) as writers:
            yield writers
        self.writes += sum(writer.written for writer in writers)

    def compare(self, primary: Server, *replicas: Server) -> None:
        self.keys = compare(primary, list(replicas), self.field_deadlines)

    def chain(self) -> None:
        """Each follows the one before; links break at random while the first is written to."""
        rng, servers = random.Random(self.seed), self.servers
        with self.load(servers[0]):
            time.sleep(self.seconds / 5)
            for upper, lower in itertools.pairwise(servers):
                lower.follow(upper)
            ends = time.monotonic() + self.seconds
            while time.monotonic() < ends:
                self._break_a_link(rng)
                time.sleep(rng.uniform(0, 0.3))
            lower = servers[-1]
            lower.restart(servers[-2])
        self.compare(servers[0], *servers[1:])
        for upper, _ in itertools.pairwise(servers):
            upper.ask("CLIENT", "KILL", "TYPE", "replica")
        for server in servers[1:]:
            server.await_link()
        self.compare(servers[0], *servers[1:])
        for upper, lower in itertools.pairwise(servers):
            # An append-only file doesn't tell a replica where in the history it is.
            starts_over = lower is servers[-1] and lower.kind.endswith(" aof")
            check_syncs(upper, 1 + starts_over, 1)

    def _break_a_link(self, rng: random.Random) -> None:
        upper, lower = rng.choice(list(itertools.pairwise(self.servers)))
        if rng.random() < 0.5:
            upper.ask("CLIENT", "KILL", "TYPE", "replica")
        else:
            lower.ask("CLIENT", "KILL", "TYPE", "master")
        self.breaks += 1
        for server in self.servers[1:]:
            server.await_link()

    def promotion(self) -> None:
        """The first of two replicas becomes the primary of the other and of the old one."""
        primary, heir, sibling = self.servers
        with self.load(primary):
            heir.follow(primary)
            sibling.follow(primary)
            time.sleep(self.seconds / 2)
        self.compare(primary, heir, sibling)
        heir.ask("REPLICAOF", "NO", "ONE")
        with self.load(heir):
            sibling.follow(heir)
            primary.follow(heir)
            time.sleep(self.seconds / 2)
        self.compare(heir, primary, sibling)
        check_syncs(heir, 0, 2)
        check_syncs(primary, 2, 0)

    def failover(self) -> None:
        """FAILOVER while writes go on; the other replica follows the old primary."""
        primary, heir, sibling = self.servers
        heir.follow(primary)
        sibling.follow(primary)
        with self.load(primary) as writers:
            for _ in range(3):
                time.sleep(self.seconds / 6)
                self._hand_over(primary, heir)
                for writer in writers:
                    writer.target = heir
                primary, heir = heir, primary
        self.compare(primary, heir, sibling)
        check_syncs(self.servers[1], 0, 1)

    def _hand_over(self, primary: Server, heir: Server) -> None:
        until(lambda: "state=online" in primary.info().get("slave0", ""), "a replica is online")
        reply = primary.ask("FAILOVER", "TO", "127.0.0.1", heir.port, "TIMEOUT", 20000)
        if reply != b"OK":
            raise Mismatch(f"FAILOVER: {reply}")
        until(lambda: heir.info()["role"] == "master", "the heir is primary")
        primary.await_link()
        self.breaks += 1


REAL = ("redis-server", "valkey-server")


def cases() -> Iterator[tuple[str, tuple[str, ...], Callable[[Case], None]]]:
    """A name, the kinds of the servers, what is done with them."""
    for real in REAL:
        short = real.partition("-")[0]
        yield f"{short} <- ours", (real, "ours"), Case.chain
        yield f"ours <- {short}", ("ours", real), Case.chain
        yield f"{short} <- ours <- {short}", (real, "ours", real), Case.chain
        yield f"ours <- {short} <- ours", ("ours", real, "ours"), Case.chain
        yield f"ours promoted beside {short}, under {short}", (real, "ours", real), Case.promotion
        yield f"ours promoted beside ours, under {short}", (real, "ours", "ours"), Case.promotion
        yield f"{short} promoted beside ours, under ours", ("ours", real, "ours"), Case.promotion
        yield f"FAILOVER between {short} and ours", (real, "ours", real), Case.failover
        yield f"FAILOVER between ours and {short}", ("ours", real, "ours"), Case.failover
    yield "ours <- ours <- ours", ("ours", "ours", "ours"), Case.chain
    dual = "valkey-server dual-channel"
    yield f"{dual} <- ours <- the same", (dual, "ours", dual), Case.chain
    for way in ("disk", "swapdb", "aof"):
        yield f"ours <- ours, by {way}", (f"ours {way}", f"ours {way}"), Case.chain
        yield f"redis <- ours, by {way}", (f"redis-server {way}", f"ours {way}"), Case.chain
        yield f"ours <- redis, by {way}", (f"ours {way}", f"redis-server {way}"), Case.chain


def run(name: str, kinds: tuple[str, ...], do: Callable[[Case], None], options: Any) -> bool:
    with tempfile.TemporaryDirectory(prefix="slotfleet-links-") as directory:
        case = Case(kinds, options.seconds, options.seed, Path(directory))
        started = time.monotonic()
        try:
            with case:
                do(case)
        except Exception as error:
            reason = str(error) if isinstance(error, Mismatch) else traceback.format_exc()
            print(f"  {name:<44} FAILED: {reason}", flush=True)
            if options.logs:
                for server in case.servers:
                    log = (server.directory / "log").read_text(errors="replace")
                    print(f"--- {server.kind} {server.port}\n{log[-6000:]}")
            return False
        print(
            f"  {name:<44} {case.writes:>9,} {case.breaks:>7} {case.keys:>6}"
            f" {time.monotonic() - started:>8.1f}",
            flush=True,
        )
        return True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="of writes in each case")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", default="", help="cases whose name has this in it")
    parser.add_argument("--logs", action="store_true", help="print servers' logs of failures")
    options = parser.parse_args()
    print(f"seed {options.seed}; <- is 'replicates to'\n")
    print(f"  {'':<44} {'writes':>9} {'breaks':>7} {'keys':>6} {'seconds':>8}")
    chosen = [case for case in cases() if options.only in case[0]]
    failed = [case[0] for case in chosen if not run(*case, options)]
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} as they must be")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
