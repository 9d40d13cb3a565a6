"""Slots that move away and back under applications at work; see scripts/live-reshard."""

import argparse
import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import attrs
from programs import Connection, cluster_of

from cluster.admin import NodeLine, parse_nodes, shard_slots
from cluster.launcher import HOST, Fleet
from cluster.slots import SLOTS, key_slot

OURS, VALKEY = "slotfleet-server", "valkey-server"
ROOT = Path(__file__).parents[2]
SHARDS = 3
DIRECTIVES = ("--cluster-node-timeout", "15000", "--save", "")
TAGS = 50  # of each client; each tag has two keys that it writes, and others in the same slot
BESIDE = 20  # keys that are just there, in each slot that clients write to
BATCH = 500
# How many slots move if nothing else was asked for: one by one takes real servers 10 to 20 ms each.
MOVING = {"redis-cli": 1024, "by-key": 2048}
REST_SECONDS = 1.0
PATIENCE = 60.0  # seconds; the machine may be busy


# --- the cluster ----------------------------------------------------------------------------------


@attrs.define(eq=False)
class Cluster:
    """A fleet with a connection to each node, by port."""

    fleet: Fleet
    connections: dict[int, Connection]

    @property
    def primaries(self) -> list[int]:
        return list(self.fleet.plan.ports)[:SHARDS]

    def ask(self, port: int, *command: Any) -> Any:
        return self.connections[port].one(*command)

    def nodes(self, port: int) -> list[NodeLine]:
        return parse_nodes(self.ask(port, "CLUSTER", "NODES"))

    def id(self, port: int) -> str:
        return self.ask(port, "CLUSTER", "MYID").decode()

    def owners(self) -> list[int]:
        """The port of each slot's owner, once all nodes agree and none is on the move."""
        try:
            wait_until(self._agree, "all nodes agree")
        except TimeoutError as error:
            seen = [f"{port}:\n{self._view(port)}" for port in self.connections]
            raise TimeoutError("\n".join([str(error), *seen])) from None
        owner = [0] * SLOTS
        for node in self.nodes(self.primaries[0]):
            for word in node.slots.split():
                first, _, last = word.partition("-")
                owner[int(first) : int(last or first) + 1] = [node.port] * (
                    int(last or first) - int(first) + 1
                )
        return owner

    def _view(self, port: int) -> str:
        """What a node says of the cluster, for whoever reads why they did not agree."""
        nodes = self.ask(port, "CLUSTER", "NODES").decode()
        return f"{nodes}{self.ask(port, 'CLUSTER', 'GETSLOTMIGRATIONS')}"

    def _agree(self) -> bool:
        seen = [
            sorted((node.id, node.primary_id, node.slots, tuple(node.marks)) for node in nodes)
            for nodes in map(self.nodes, self.connections)
        ]
        return all(one == seen[0] for one in seen) and not any(marks for *_, marks in seen[0])

    def by_owner(self, keys: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Keys in batches, with the port of who owns them."""
        owner = self.owners()
        of = lambda key: owner[key_slot(key.encode())]  # noqa: E731
        for port, group in itertools.groupby(sorted(keys, key=of), of):
            waiting = list(group)
            for i in range(0, len(waiting), BATCH):
                yield port, waiting[i : i + BATCH]

    def write(self, values: dict[str, str]) -> None:
        for port, keys in self.by_owner(list(values)):
            replies = self.connections[port].ask(*(("SET", key, values[key]) for key in keys))
            assert all(reply == b"OK" for reply in replies), replies

    def read(self, keys: Sequence[str]) -> dict[str, Any]:
        """What the owners have, errors among it."""
        found: dict[str, Any] = {}
        for port, some in self.by_owner(keys):
            replies = self.connections[port].ask(*(("GET", key) for key in some))
            found.update(zip(some, replies, strict=True))
        return found

    def held(self) -> tuple[int, int]:
        """How many keys primaries and replicas hold."""
        sizes = [self.ask(port, "DBSIZE") for port in self.fleet.plan.ports]
        return sum(sizes[:SHARDS]), sum(sizes[SHARDS:])


@contextmanager
def running(server: str) -> Iterator[Cluster]:
    with (
        tempfile.TemporaryDirectory(prefix="slotfleet-live-") as directory,
        cluster_of(server, SHARDS, Path(directory), *DIRECTIVES) as fleet,
    ):
        connections = {
            port: Connection(socket.create_connection((HOST, port), timeout=PATIENCE))
            for port in fleet.plan.ports
        }
        yield Cluster(fleet, connections)


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE:g} s: {what}")
        time.sleep(0.02)


# --- ways to move slots ---------------------------------------------------------------------------


@attrs.frozen
class Move:
    """Slots from first to last, between two nodes by their ports."""

    first: int
    last: int
    source: int
    target: int

    @property
    def back(self) -> "Move":
        return Move(self.first, self.last, self.target, self.source)


def moves_away(cluster: Cluster, slots: int) -> list[Move]:
    """The first two shards give the third so many of their slots, the lowest, half each."""
    one, two, three = cluster.primaries
    (first, _), (second, _), _ = shard_slots(SHARDS)
    half = slots // 2
    return [
        Move(first, first + half - 1, one, three),
        Move(second, second + slots - half - 1, two, three),
    ]


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}")


def by_redis_cli(cluster: Cluster, move: Move) -> None:
    """It takes the lowest slots of the source."""
    program = shutil.which("redis-cli")
    if program is None:
        raise RuntimeError("needs redis-cli (Debian: redis-tools)")
    ends = ("--cluster-from", cluster.id(move.source), "--cluster-to", cluster.id(move.target))
    count = ("--cluster-slots", str(move.last - move.first + 1))
    run(program, "--cluster", "reshard", f"{HOST}:{move.source}", *ends, *count, "--cluster-yes")


def by_slotfleet(cluster: Cluster, move: Move, *options: str) -> None:
    slots, target = f"{move.first}-{move.last}", f"{HOST}:{move.target}"
    words = ("reshard", f"{HOST}:{move.source}", "--to", target, "--range", slots, "--yes")
    run(sys.executable, "-m", "cluster", *words, *options)


def by_key(cluster: Cluster, move: Move) -> None:
    by_slotfleet(cluster, move, "--by-key")


def as_a_whole(cluster: Cluster, move: Move) -> None:
    """All at once."""
    slots = ("SLOTSRANGE", move.first, move.last)
    target = cluster.id(move.target)
    begun = cluster.ask(move.source, "CLUSTER", "MIGRATESLOTS", *slots, "NODE", target)
    assert begun == b"OK", begun
    wait_until(lambda: latest_state(cluster, move.source) in ENDS, "the migration ends")
    state = latest_state(cluster, move.source)
    if state != b"success":
        raise RuntimeError(f"the migration {state!r}")


ENDS = (b"success", b"failed", b"cancelled")


def latest_state(cluster: Cluster, port: int) -> bytes:
    words = cluster.ask(port, "CLUSTER", "GETSLOTMIGRATIONS")[0]
    return dict(zip(words[::2], words[1::2], strict=True))[b"state"]


MODES: dict[str, Callable[[Cluster, Move], None]] = {
    "redis-cli": by_redis_cli,
    "by-key": by_key,
    "slotfleet": by_slotfleet,
    "atomic": as_a_whole,
}


# --- the applications -----------------------------------------------------------------------------


@attrs.define(eq=False)
class Seen:
    """What the applications saw, all together."""

    requests: list[tuple[float, float]] = attrs.field(factory=list)
    errors: Counter[str] = attrs.field(factory=Counter)
    lost: list[str] = attrs.field(factory=list)
    stale: list[str] = attrs.field(factory=list)
    last: dict[str, tuple[str, int, int]] = attrs.field(factory=dict)  # name, acknowledged, sent

    def add(self, text: str) -> None:
        """What one client has told."""
        told = json.loads(text)
        self.requests += map(tuple, told["requests"])
        self.errors += Counter(told["errors"])
        self.lost += told["lost"]
        self.stale += told["stale"]
        for key, (acknowledged, sent) in told["keys"].items():
            self.last[key] = (key.strip("{").split(":")[0], acknowledged, sent)

    def check(self, cluster: Cluster, resident: dict[str, str]) -> None:
        """Look at the owners for what was acknowledged last, and for all that was just there."""
        found = cluster.read([*self.last, *resident])
        for key, value in resident.items():
            if found[key] != value.encode():
                self.lost.append(f"{key}: {found[key]!r} on its owner")
        for key, (name, acknowledged, sent) in self.last.items():
            allowed = [f"{name}:{i}".encode() for i in range(acknowledged, sent + 1)]
            if found[key] not in allowed:
                text = f"{key}: {acknowledged} was acknowledged, {found[key]!r} on its owner"
                self.lost.append(text)
        wanted = (len(found), len(found))
        wait_until(lambda: cluster.held() == wanted, f"{wanted} keys, {cluster.held()} are there")


@attrs.frozen
class Work:
    """What the applications do. clients: of each kind. pause_ms: between two writes of a client.
    keys: how many are there that nobody writes to."""

    clients: int
    pause_ms: float
    keys: int

    @property
    def names(self) -> list[str]:
        return [f"client{i}" for i in range(2 * self.clients)]

    def residents(self) -> dict[str, str]:
        """Keys that nobody writes to: beside those of the clients, and anywhere."""
        tags = [f"{{{name}:{i}}}" for name in self.names for i in range(TAGS)]
        beside = [f"{tag}:{j}" for tag in tags for j in range(BESIDE)]
        keys = [*beside, *(f"resident:{i}" for i in range(self.keys - len(beside)))]
        return {key: f"value of {key}" for key in keys[: self.keys]}


@attrs.define(eq=False)
class Applications:
    """All clients at work, as processes."""

    processes: list["subprocess.Popen[str]"]

    @classmethod
    def start(cls, port: int, work: Work) -> "Applications":
        """Returns when each has its keys."""
        rest = (str(TAGS), str(work.pause_ms))
        clients = ROOT / "tests/clients"
        if not (clients / "node_modules/ioredis").is_dir():
            raise RuntimeError("needs ioredis: npm install --prefix tests/clients")
        python, ioredis = work.names[: work.clients], ",".join(work.names[work.clients :])
        client = str(Path(__file__).with_name("live_client.py"))
        commands = [[sys.executable, client, str(port), name, *rest] for name in python]
        commands.append(["node", str(clients / "ioredis_live.js"), str(port), ioredis, *rest])
        started = cls([])
        for command in commands:
            started.processes.append(
                subprocess.Popen(
                    command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
                )
            )
        for process in started.processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        return started

    def stop(self) -> Seen:
        seen = Seen()
        for process in self.processes:
            output, _ = process.communicate(timeout=PATIENCE)
            for line in output.splitlines():
                seen.add(line)
        return seen

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
            process.wait()


@contextmanager
def at_work(port: int, work: Work) -> Iterator[Applications]:
    applications = Applications.start(port, work)
    try:
        yield applications
    finally:
        applications.kill()


# --- one row --------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Row:
    """One way of moving on one kind of server. away_s, back_s: how long the tool took. Latencies in
    milliseconds: those at rest, before, and those of requests that slots moved under."""

    server: str
    mode: str
    slots: int
    keys: int
    away_s: float
    back_s: float
    seen: Seen
    at_rest: list[float]
    moving: list[float]

    @property
    def is_good(self) -> bool:
        """Real servers may show errors: they are what ours are compared with."""
        seen = self.seen
        return not (seen.lost or seen.stale or (seen.errors and self.server == OURS))


def measure(cluster: Cluster, server: str, mode: str, slots: int, work: Work) -> Row:
    away, resident = moves_away(cluster, slots), work.residents()
    with at_work(cluster.primaries[0], work) as applications:
        time.sleep(REST_SECONDS)
        began = time.time()
        away_s = sum(timed_move(cluster, mode, move) for move in away)
        back_s = sum(timed_move(cluster, mode, move.back) for move in away)
        ended = time.time()
        seen = applications.stop()
    assert len(seen.last) == 2 * TAGS * len(work.names)
    seen.check(cluster, resident)
    return Row(
        *(server, mode, slots, len(resident) + len(seen.last), away_s, back_s, seen),
        at_rest=durations(seen.requests, began - REST_SECONDS, began),
        moving=durations(seen.requests, began, ended),
    )


def timed_move(cluster: Cluster, mode: str, move: Move) -> float:
    """Do it, and wait until all know; the seconds that the doing took."""
    before = cluster.owners()
    since = time.monotonic()
    MODES[mode](cluster, move)
    took = time.monotonic() - since
    wanted = [
        move.target if move.first <= slot <= move.last else owner
        for slot, owner in enumerate(before)
    ]
    wait_until(lambda: cluster.owners() == wanted, f"all know of {move}")
    return took


def durations(requests: list[tuple[float, float]], began: float, ended: float) -> list[float]:
    """Of the requests that were under way in this time, in seconds since 1970; sorted."""
    return sorted(
        took for start, took in requests if start + took >= 1000 * began and start <= 1000 * ended
    )


# --- the table ------------------------------------------------------------------------------------

HEADS = (
    *("server", "mode", "slots", "away s", "back s", "keys", "requests", "errors", "lost", "stale"),
    *("p50 ms", "p99", "longest", "p50 at rest", "p99"),
)
WIDTHS = (17, 10, 6, 8, 8, 7, 9, 7, 6, 6, 8, 8, 9, 13, 8)


def show(cells: Sequence[object]) -> None:
    texts = [
        format(cell, f"{'<' if i < 2 else '>'}{width}{'.2f' if isinstance(cell, float) else ''}")
        for i, (cell, width) in enumerate(zip(cells, WIDTHS, strict=True))
    ]
    print("".join(texts).rstrip(), flush=True)


def show_row(row: Row) -> None:
    seen, moving, rest = row.seen, row.moving, row.at_rest
    counts = (len(moving), seen.errors.total(), len(seen.lost), len(seen.stale))
    times = (quantile(moving, 0.5), quantile(moving, 0.99), quantile(moving, 1))
    at_rest = (quantile(rest, 0.5), quantile(rest, 0.99))
    moved = (row.slots, row.away_s, row.back_s, row.keys)
    show((row.server, row.mode, *moved, *counts, *times, *at_rest))
    for kind, count in seen.errors.most_common():
        print(f"    {count} times {kind}")
    for text in [*seen.lost[:5], *seen.stale[:5]]:
        print(f"    {text}", flush=True)


def quantile(values: list[float], part: float) -> float:
    return values[min(int(part * len(values)), len(values) - 1)] if values else 0.0


def main() -> int:
    words = lambda text: text.split(",")  # noqa: E731
    parser = argparse.ArgumentParser(prog="scripts/live-reshard", description=__doc__)
    parser.add_argument("--servers", type=words, default=[OURS, VALKEY])
    parser.add_argument("--modes", type=words, default=list(MODES))
    parser.add_argument("--slots", type=int)
    parser.add_argument("--keys", type=int, default=30_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--pause-ms", type=float, default=10.0)
    options = parser.parse_args()
    show(HEADS)
    good = [row.is_good for row in rows(options)]
    if not all(good):
        print("FAILED")
    return 0 if all(good) else 1


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Each way of moving, on one kind of servers after the other."""
    work = Work(options.clients, options.pause_ms, options.keys)
    with ExitStack() as stack:
        clusters = {server: stack.enter_context(running(server)) for server in options.servers}
        for cluster in clusters.values():
            cluster.write(work.residents())
        for mode, (server, cluster) in itertools.product(options.modes, clusters.items()):
            slots = options.slots or MOVING.get(mode, SLOTS // 2)
            row = measure(cluster, server, mode, slots, work)
            show_row(row)
            yield row


if __name__ == "__main__":
    sys.exit(main())
