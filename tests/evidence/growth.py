"""How a node's structures grow, and how long a GET takes while a million keys are there; see
scripts/growth."""

import argparse
import random
import shlex
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from programs import OURS, Connection, Server, Word

Command = tuple[Word, ...]

SIZES = (1_000, 10_000, 100_000, 1_000_000)
ROUNDS = 5
ROUND_SECONDS = 0.15  # of commands whose time is taken together
BATCH = 50
ELEMENTS = 1000  # of one command, while a structure is built
BAR_MS = 10.0
SAMPLES = 30_000


@attrs.frozen
class Operation:
    """A command whose time is taken; `limit` is by how much a thousandfold size may slow it down.

    make: gives the command for a structure of so many elements.
    """

    name: str
    complexity: str
    limit: float
    make: Callable[[random.Random, int], Command]


CONSTANT, LOGARITHMIC, LINEAR = 3.0, 5.0, 1500.0
OPERATIONS = (
    Operation(
        "ZADD", "O(log N)", LOGARITHMIC, lambda r, n: ("ZADD", "z", r.random() * n, some(r, n))
    ),
    Operation("ZRANK", "O(log N)", LOGARITHMIC, lambda r, n: ("ZRANK", "z", some(r, n))),
    Operation(
        "ZRANGE of 10", "O(log N + 10)", LOGARITHMIC, lambda r, n: ("ZRANGE", "z", *ten(r, n))
    ),
    Operation("LINDEX", "O(N)", LINEAR, lambda r, n: ("LINDEX", "l", r.randrange(n))),
    Operation(
        "LINSERT in the middle",
        "O(N)",
        LINEAR,
        lambda r, n: ("LINSERT", "l", "BEFORE", "middle", "x"),
    ),
    Operation("RPUSH", "O(1)", CONSTANT, lambda r, n: ("RPUSH", "l", "x")),
    Operation("HSET", "O(1)", CONSTANT, lambda r, n: ("HSET", "h", some(r, n), "value")),
    Operation("HGET", "O(1)", CONSTANT, lambda r, n: ("HGET", "h", some(r, n))),
    Operation("SADD", "O(1)", CONSTANT, lambda r, n: ("SADD", "s", some(r, 2 * n))),
    Operation("SRANDMEMBER", "O(1)", CONSTANT, lambda r, n: ("SRANDMEMBER", "s")),
    Operation("SRANDMEMBER of 10", "O(10)", CONSTANT, lambda r, n: ("SRANDMEMBER", "s", 10)),
    Operation("XADD", "O(1)", CONSTANT, lambda r, n: ("XADD", "x", "*", "field", "value")),
    Operation(
        "XRANGE of 10",
        "O(log N + 10)",
        LOGARITHMIC,
        lambda r, n: ("XRANGE", "x", f"{r.randrange(1, n)}-0", "+", "COUNT", 10),
    ),
    Operation(
        "SCAN of 10", "O(10)", CONSTANT, lambda r, n: ("SCAN", r.randrange(16384), "COUNT", 10)
    ),
)


def some(chosen: random.Random, size: int) -> str:
    return f"element:{chosen.randrange(size)}"


def ten(chosen: random.Random, size: int) -> tuple[int, int]:
    start = chosen.randrange(size - 10)
    return start, start + 9


# --- how structures grow -------------------------------------------------------------------------


def building(size: int) -> Iterator[Command]:
    """Commands that make each structure with so many elements."""
    for first in range(0, size, ELEMENTS):
        numbers = range(first, min(first + ELEMENTS, size))
        names = [f"element:{i}" for i in numbers]
        yield (
            "ZADD",
            "z",
            *(word for i, name in zip(numbers, names, strict=True) for word in (i, name)),
        )
        yield ("RPUSH", "l", *("middle" if i == size // 2 else f"element:{i}" for i in numbers))
        yield ("HSET", "h", *(word for name in names for word in (name, "value")))
        yield ("SADD", "s", *names)
        yield ("MSET", *(word for name in names for word in (f"key:{name}", "value")))
        for i in numbers:
            yield ("XADD", "x", f"{i + 1}-0", "field", "value")


def send(connection: Connection, commands: Iterator[Command]) -> None:
    batch: list[Command] = []
    for command in commands:
        batch.append(command)
        if len(batch) == 200:
            connection.ask(*batch)
            batch = []
    connection.ask(*batch)


def cpu_seconds(server: Server) -> float:
    tasks = Path(f"/proc/{server.process.pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def microseconds(server: Server, connection: Connection, operation: Operation, size: int) -> float:
    """The processor time that the server takes for one of these, the median of some rounds."""
    chosen = random.Random(size)
    rounds = []
    for _ in range(ROUNDS):
        done, since, before = 0, time.monotonic(), cpu_seconds(server)
        while time.monotonic() - since < ROUND_SECONDS:
            connection.ask(*(operation.make(chosen, size) for _ in range(BATCH)))
            done += BATCH
        rounds.append((cpu_seconds(server) - before) / done * 1e6)
    return statistics.median(rounds)


def times_by_size(command: list[str], sizes: tuple[int, ...]) -> dict[str, list[float]]:
    """Microseconds of each operation, for each size."""
    times: dict[str, list[float]] = {operation.name: [] for operation in OPERATIONS}
    for size in sizes:
        with Server(command) as server:
            connection = server.connect()
            send(connection, building(size))
            for operation in OPERATIONS:
                times[operation.name].append(microseconds(server, connection, operation, size))
    return times


def measure_growth(command: list[str], reference: list[str], sizes: tuple[int, ...]) -> bool:
    """Print microseconds by size, and by how much a thousandfold size slows down, here and on a
    real server; whether all is as documented."""
    times, theirs = times_by_size(command, sizes), times_by_size(reference, sizes)
    shown = "".join(f"{size:>10}" for size in sizes)
    print(f"{'processor time, µs':24}{shown}   growth  theirs  documented")
    fine = True
    for operation in OPERATIONS:
        row = times[operation.name]
        growth = row[-1] / row[0]
        usual = theirs[operation.name][-1] / theirs[operation.name][0]
        verdict = "" if growth <= operation.limit else f"  more than {operation.limit:g}"
        fine = fine and not verdict
        cells = "".join(f"{value:10.1f}" for value in row)
        print(
            f"{operation.name:24}{cells} {growth:8.2f}{usual:8.2f}  {operation.complexity}{verdict}"
        )
    return fine


# --- how long a GET takes ------------------------------------------------------------------------


def mixed_keys(count: int) -> Iterator[Command]:
    """So many keys: half strings, the others lists, hashes, sets and sorted sets of five."""
    for i in range(0, count, 8):
        yield ("MSET", *(word for j in range(4) for word in (f"string:{i + j}", f"value:{i}")))
        yield ("RPUSH", f"list:{i}", *"abcde")
        yield ("HSET", f"hash:{i}", *"a1b2c3d4e5")
        yield ("SADD", f"set:{i}", *"abcde")
        yield ("ZADD", f"zset:{i}", *"1a2b3c4d5e")


def keep_busy(port: int) -> subprocess.Popen[bytes]:
    """Clients that write and read all types as fast as they can."""
    words = ["-p", str(port), "-c", "10", "-r", "1000000", "-n", "20000", "-q", "-l"]
    tests = "set,lpush,rpop,sadd,hset,spop,zadd,zpopmin"
    return subprocess.Popen(["redis-benchmark", *words, "-t", tests], stdout=subprocess.DEVNULL)


def write_all_types(connect: Callable[[], Connection], stop: threading.Event) -> None:
    """A client beside the others: it makes and drops containers, which the collector sees."""
    connection, number = connect(), 0
    while not stop.is_set():
        number += 1
        connection.ask(
            ("HSET", f"temporary:{number}", "a", 1, "b", 2),
            ("ZADD", f"ranks:{number}", 1, "a", 2, "b"),
            ("XADD", "events", "MAXLEN", "1000", "*", "number", number),
            ("EVAL", "return redis.call('INCR', KEYS[1])", 1, "counter"),
            ("DEL", f"temporary:{number - 100}", f"ranks:{number - 100}"),
        )
        time.sleep(0.001)
    connection.close()


def latencies_ms(connection: Connection, count: int, samples: int) -> list[float]:
    """How long each of so many GETs took, one after the other."""
    chosen = random.Random(1)
    found = []
    for _ in range(samples):
        key = f"string:{chosen.randrange(0, count, 8)}"
        since = time.perf_counter()
        connection.one("GET", key)
        found.append((time.perf_counter() - since) * 1000)
    return sorted(found)


def measure_latency(command: list[str], count: int) -> bool:
    """Print how long GETs take while others write; whether 99.9 % stay under the bar."""
    with Server(command) as server:
        connection = server.connect()
        send(connection, mixed_keys(count))
        keys = connection.one("DBSIZE")
        stop = threading.Event()
        writer = threading.Thread(target=write_all_types, args=(server.connect, stop))
        busy = keep_busy(server.port)
        writer.start()
        try:
            times = latencies_ms(connection, count, SAMPLES)
        finally:
            stop.set()
            writer.join()
            busy.kill()
            busy.wait()
    print(f"\nGET while 11 clients write, {keys} keys of mixed types, {len(times)} samples, ms")
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("most", 1.0)):
        print(f"{name:>6} {times[min(int(len(times) * share), len(times) - 1)]:8.2f}")
    return times[int(len(times) * 0.999)] < BAR_MS


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/growth", description=__doc__)
    parser.add_argument("--largest", type=int, default=SIZES[-1], help="members, at most")
    parser.add_argument("--keys", type=int, default=1_000_000, help="resident while GET is timed")
    parser.add_argument("--only", choices=("growth", "latency"))
    parser.add_argument("--server", default=shlex.join(OURS), help="command of ours")
    parser.add_argument("--reference", default="redis-server", help="command of a real server")
    options = parser.parse_args()
    command, reference = shlex.split(options.server), shlex.split(options.reference)
    fine = True
    if options.only != "latency":
        sizes = tuple(size for size in SIZES if size <= options.largest)
        fine = measure_growth(command, reference, sizes)
    if options.only != "growth":
        fine = measure_latency(command, options.keys) and fine
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
