"""What a cluster costs as it grows, idle and under a steady load; see scripts/size."""

import argparse
import itertools
import logging
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from programs import Connection, cluster_of

from cluster import message as m
from cluster.admin import parse_info
from cluster.core import Core
from cluster.launcher import HOST, Fleet
from cluster.processes import free_run
from cluster.simulation.bus import NODES_CONF
from cluster.simulation.process import BUS_PORT, PORT
from cluster.simulation.settings import Settings
from cluster.simulation.world import World
from cluster.slots import SLOTS, key_slot
from cluster.speaker import Speaker
from cluster.view import Node

NODE_TIMEOUT_MS = 15_000  # twice the time in which everybody is pinged
SETTLING_SECONDS = 5.0
WRITES_PER_SECOND = 2000  # of the whole cluster
PULSES_PER_SECOND = 20
MOST_GROWTH = 1.5  # of a cost that is to grow no faster than the number of nodes, beside that
TICKS = os.sysconf("SC_CLK_TCK")


@attrs.frozen
class Cost:
    """Of one cluster, per node and second. tick_us, message_us, ping_us: of one tick and of one
    message that comes, but for what is said then, and of one ping or pong that is said; if known.

    A ping tells of a tenth of the nodes, and each node is pinged twice in the node timeout: so the
    protocol has it that what is said grows with the square of the nodes.
    """

    who: str
    nodes: int
    load: str
    messages: float
    bytes: float
    cpu_ms: float
    tick_us: float | None = None
    message_us: float | None = None
    ping_us: float | None = None

    @property
    def parts(self) -> tuple[float | None, ...]:
        return self.tick_us, self.message_us, self.ping_us


# --- real processes -------------------------------------------------------------------------------


@attrs.define(eq=False)
class Running:
    """A cluster of real processes. connections: one to each node, by port."""

    shards: int
    ports: list[int]
    pids: list[int]
    connections: dict[int, Connection] = attrs.field(factory=dict)

    def connect(self) -> None:
        self.connections = {
            port: Connection(socket.create_connection((HOST, port), timeout=20))
            for port in self.ports
        }

    def counted(self) -> tuple[int, int, float]:
        """Messages and bytes that all have sent on the bus, and milliseconds of processor time."""
        messages = sent = 0
        for connection in self.connections.values():
            connection.send(("CLUSTER", "INFO"))
            info = parse_info(connection.next())
            messages += int(info.get("cluster_stats_messages_sent", 0))
            sent += int(info.get("cluster_stats_bytes_sent", 0))
        return messages, sent, sum(map(cpu_ms, self.pids))

    def write(self, seconds: float) -> None:
        """Write evenly to all shards."""
        keys = keys_by_shard(self.shards)
        each = max(WRITES_PER_SECOND // PULSES_PER_SECOND // self.shards, 1)
        value = b"x" * 64
        pulses = [
            (self.connections[port], [("SET", keys[i], value)] * each)
            for i, port in enumerate(self.ports[: self.shards])
        ]
        begun = time.monotonic()
        for n in range(int(seconds * PULSES_PER_SECOND)):
            time.sleep(max(begun + n / PULSES_PER_SECOND - time.monotonic(), 0))
            for connection, commands in pulses:
                connection.send(*commands)
            for connection, commands in pulses:
                for _ in commands:
                    assert connection.next() == b"OK"


def keys_by_shard(shards: int) -> list[bytes]:
    """A key of each shard, where slots are shared out evenly and in order."""
    found: dict[int, bytes] = {}
    for n in range(100_000):
        key = b"key:%d" % n
        found.setdefault(key_slot(key) * shards // SLOTS, key)
        if len(found) == shards:
            break
    return [found[i] for i in range(shards)]


def cpu_ms(pid: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1000 * (int(fields[11]) + int(fields[12])) / TICKS


@contextmanager
def ours(nodes: int, directory: Path) -> Iterator[Running]:
    """As `slotfleet up` starts it."""
    shards, port = nodes // 2, free_run(nodes)
    slotfleet = [sys.executable, "-m", "cluster"]
    where = ["--dir", str(directory)]
    shape = ["--shards", str(shards), "--replicas", "1", "--port", str(port), "--detach"]
    told = ["--cluster-node-timeout", str(NODE_TIMEOUT_MS)]
    subprocess.run([*slotfleet, "up", *where, *shape, *told], check=True, capture_output=True)
    try:
        fleet = Fleet.load(directory)
        assert fleet is not None
        pids = [process.pid for process in fleet.processes.values()]
        yield Running(shards, list(fleet.plan.ports), pids)
    finally:
        subprocess.run([*slotfleet, "down", *where], check=False, capture_output=True)


@contextmanager
def valkeys(nodes: int, directory: Path) -> Iterator[Running]:
    """valkey-servers, formed as ours are."""
    shards = nodes // 2
    told = ("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--save", "")
    with cluster_of("valkey-server", shards, directory, *told) as fleet:
        pids = [process.pid for process in fleet.processes.values()]
        yield Running(shards, list(fleet.plan.ports), pids)


def measure_processes(
    who: str, make: Callable[..., Iterator[Running]], nodes: int, seconds: float
) -> Iterator[Cost]:
    with (
        tempfile.TemporaryDirectory(prefix="slotfleet-size-") as directory,
        make(nodes, Path(directory) / "cluster" if who == "ours" else Path(directory)) as running,
    ):
        running.connect()
        time.sleep(SETTLING_SECONDS)
        for load, act in (("idle", time.sleep), ("busy", running.write)):
            before, began = running.counted(), time.monotonic()
            act(seconds)
            took, after = time.monotonic() - began, running.counted()
            messages, sent, cpu = (
                (late - early) / nodes / took for early, late in zip(before, after, strict=True)
            )
            yield Cost(who, nodes, load, messages, sent, cpu)


# --- simulated ------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Meter:
    """Seconds spent in some methods, but not in others of them that they call, and how often they
    were called."""

    seconds: dict[str, float] = attrs.field(factory=dict)
    calls: dict[str, int] = attrs.field(factory=dict)
    _inner: float = 0.0  # spent so far in those that the present one has called

    def watch(self, owner: type, name: str) -> None:
        real = getattr(owner, name)

        def timed(*args: object) -> object:
            if isinstance(args[0], Core):
                look_at(args[0])
            since, outer, self._inner = time.thread_time(), self._inner, 0.0
            try:
                return real(*args)
            finally:
                took = time.thread_time() - since
                self.seconds[name] = self.seconds.get(name, 0.0) + took - self._inner
                self.calls[name] = self.calls.get(name, 0) + 1
                self._inner = outer + took

        setattr(owner, name, timed)

    def mean_us(self, name: str) -> float:
        return 1e6 * self.seconds.get(name, 0.0) / max(self.calls.get(name, 0), 1)

    def clear(self) -> None:
        self.seconds.clear()
        self.calls.clear()


def look_at(core: Core) -> None:
    """Let the processor have a node's view at hand: of hundreds in one process each would find its
    own gone, and the more, the more of them there are."""
    for node in core.view.order:
        _ = (node.flags, node.link, node.ping_sent, node.pong_received, node.data_received)


def measure_simulated(nodes: int, seconds: float, meter: Meter) -> Iterator[Cost]:
    """In virtual time; the processor time is that of the cores alone."""
    logging.disable(logging.CRITICAL)
    world = World(1, Settings(shards=nodes // 2, replicas=1, node_timeout=NODE_TIMEOUT_MS))
    world.checks.on_turn = lambda process: None  # type: ignore[method-assign]
    form(world)
    world.run(int(1000 * SETTLING_SECONDS))
    yield spent(world, "idle", seconds, meter)
    keep_writing(world)
    yield spent(world, "busy", seconds, meter)


def spent(world: World, load: str, seconds: float, meter: Meter) -> Cost:
    """What a world costs while so many seconds pass."""
    sizes: list[int] = []
    real = m.encode
    m.encode = lambda message: _counted(real(message), sizes)  # type: ignore[assignment]
    meter.clear()
    before = sent_by(world)
    try:
        world.run(int(1000 * seconds))
    finally:
        m.encode = real
    messages = sent_by(world) - before
    spent_ms = 1000 * sum(meter.seconds.values())
    mean = sum(sizes) / max(len(sizes), 1)
    nodes = len(world.machines)
    per = nodes * seconds
    return Cost(
        *("simulated", nodes, load, messages / per, messages * mean / per, spent_ms / per),
        tick_us=meter.mean_us("tick"),
        message_us=meter.mean_us("receive"),
        ping_us=meter.mean_us("ping"),
    )


def keep_writing(world: World) -> None:
    """From now on, write evenly to all shards."""
    shards = len(world.machines) // 2
    keys = keys_by_shard(shards)
    each = max(WRITES_PER_SECOND // PULSES_PER_SECOND // shards, 1)

    def pulse() -> None:
        for name, key in zip(world.machines, keys, strict=False):  # primaries come first
            for _ in range(each):
                assert world.ask(name, "SET", key, b"x" * 64) == b"OK"

    world.every(1000 // PULSES_PER_SECOND, pulse)


def _counted(data: bytes, sizes: list[int]) -> bytes:
    sizes.append(len(data))
    return data


def sent_by(world: World) -> int:
    return sum(sum(process.core.view.sent.values()) for process in world.processes)


def form(world: World) -> None:
    """Start all with files in which everybody is: meeting each other takes 300 nodes long, and is
    not what is measured."""
    views = {name: world.view(name).myself for name in world.machines}
    for name, machine in world.machines.items():
        world.kill(name)
        lines = [told(world, other, views, myself=other == name) for other in views]
        text = "".join(f"{line}\n" for line in [*lines, VARS.format(len(views) // 2)])
        file = machine.disk.append_to(f"{NODES_CONF}.new")
        file.write(text.encode())
        machine.disk.rename(f"{NODES_CONF}.new", NODES_CONF)
    for name in world.machines:
        world.restart(name)
    while not (world.all_acquainted() and all(p.core.view.ok for p in world.processes)):
        world.run(1000)


VARS = "vars currentEpoch {} lastVoteEpoch 0"


def told(world: World, name: str, nodes: dict[str, Node], *, myself: bool) -> str:
    """A line of nodes.conf: the first half are primaries, the others their replicas in order."""
    names = list(nodes)
    number, shards = names.index(name), len(names) // 2
    node, primary = nodes[name], nodes[names[number % shards]]
    first, end = (SLOTS * (number + i) // shards for i in (0, 1))
    role, leader, slots = ("master", "-", f"{first}-{end - 1}")
    if node is not primary:
        role, leader, slots = ("slave", primary.id, "")
    flags = f"myself,{role}" if myself else role
    where = f"{world.machines[name].ip}:{PORT}@{BUS_PORT},,tls-port=0,shard-id={primary.shard_id}"
    return f"{node.id} {where} {flags} {leader} 0 0 {number % shards + 1} connected {slots}"


# --- the table ------------------------------------------------------------------------------------


def show_heads() -> None:
    print(f"{'':<10}{'nodes':>6} {'load':<5}{'msg/s':>8}{'kB/s':>8}{'cpu ms/s':>9}", end="")
    print(
        f"{'us/tick':>9}{'us/msg':>8}{'us/ping':>8}   growth against the smallest: bytes, cpu",
        flush=True,
    )


def show(cost: Cost, costs: list[Cost]) -> None:
    """One row; the smallest of its kind is the first of `costs`."""
    least = next(one for one in costs if (one.who, one.load) == (cost.who, cost.load))
    row = f"{cost.who:<10}{cost.nodes:>6} {cost.load:<5}{cost.messages:>8.1f}"
    row += f"{cost.bytes / 1000:>8.2f}{cost.cpu_ms:>9.2f}"
    row += "".join(
        f"{'' if value is None else format(value, '.1f'):>{width}}"
        for value, width in zip(cost.parts, (9, 8, 8), strict=True)
    )
    if cost is not least:
        row += f"   {cost.nodes / least.nodes:.1f} times the nodes: "
        row += f"{cost.bytes / least.bytes:.1f}, {cost.cpu_ms / max(least.cpu_ms, 0.01):.1f}"
    print(row, flush=True)


def grows_too_fast(costs: list[Cost]) -> bool:
    """Whether a tick, a message or a ping costs a node more than the number of nodes explains."""
    simulated = sorted(
        (cost for cost in costs if cost.tick_us is not None), key=lambda c: (c.load, c.nodes)
    )
    return any(
        late > early * MOST_GROWTH * large.nodes / small.nodes
        for small, large in itertools.pairwise(simulated)
        if small.load == large.load
        for early, late in zip(small.parts, large.parts, strict=True)
        if early is not None and late is not None
    )


def _sizes(text: str) -> list[int]:
    return [int(word) for word in text.split(",") if word]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=_sizes, default=[6, 12, 30])
    parser.add_argument("--reference", type=_sizes, default=[6, 30])
    parser.add_argument("--simulated", type=_sizes, default=[30, 100, 300])
    parser.add_argument("--seconds", type=float, default=NODE_TIMEOUT_MS / 1000)
    options = parser.parse_args()
    costs: list[Cost] = []
    show_heads()
    for cost in measured(options):
        costs.append(cost)
        show(cost, costs)
    if grows_too_fast(costs):
        print("FAILED: the core's work grows faster than the number of nodes")
        return 1
    return 0


def measured(options: argparse.Namespace) -> Iterator[Cost]:
    """Everything that was asked for, the smallest first."""
    for who, make, sizes in (
        ("ours", ours, options.nodes),
        ("valkey", valkeys, options.reference),
    ):
        for nodes in sizes:
            yield from measure_processes(who, make, nodes, options.seconds)
    meter = Meter()
    for owner, name in ((Core, "tick"), (Core, "receive"), (Speaker, "ping")):
        meter.watch(owner, name)
    for nodes in options.simulated:
        yield from measure_simulated(nodes, options.seconds, meter)


if __name__ == "__main__":
    sys.exit(main())
