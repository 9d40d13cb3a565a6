"""Cluster clients that nobody here wrote, unmodified: they write, a primary dies, they go on.

Each client writes half of its keys, and a replica has them all. While it writes the other half a
primary is killed. Afterwards every key must be read back, but for what the victim acknowledged at
the very last; and the victim, started again, follows its successor with equal data.
"""

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import redis
import redis.exceptions
import valkey
import valkey.exceptions

from cluster.admin import parse_info, parse_nodes, shard_slots
from cluster.launcher import Fleet, Plan, start
from cluster.slots import key_slot
from tests.conftest import OURS, call, free_run, wait_until
from tests.warm import Warm

KEYS = 10_000
BATCH = 100
DEADLINE = 20.0


class PythonClient:
    """redis-py or valkey-py: the first hundred keys one by one, the others in pipelines."""

    def __init__(self, cluster: Any, errors: type[Exception]) -> None:
        self.cluster = cluster
        self.errors = errors

    def insist(self, action: Callable[[], Any]) -> Any:
        """Try again with the same client, as an application would."""
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                return action()
            except self.errors:
                assert time.monotonic() < deadline
                time.sleep(0.02)

    def pipelined(self, keys: list[str], command: Callable[[Any, str], Any]) -> list[Any]:
        def run() -> list[Any]:
            pipeline = self.cluster.pipeline()
            for key in keys:
                command(pipeline, key)
            return pipeline.execute()

        return self.insist(run)

    def write(self, keys: list[str]) -> dict[str, float]:
        """When each key was first sent, in seconds since the epoch; all are acknowledged."""
        times = {}
        for key in keys[:BATCH]:
            times[key] = time.time()
            self.insist(lambda key=key: self.cluster.set(key, key))
        for i in range(BATCH, len(keys), BATCH):
            part = keys[i : i + BATCH]
            times |= dict.fromkeys(part, time.time())
            assert all(self.pipelined(part, lambda pipeline, key: pipeline.set(key, key)))
        return times

    def read(self, keys: list[str]) -> dict[str, str | None]:
        values = [self.insist(lambda key=key: self.cluster.get(key)) for key in keys[:BATCH]]
        for i in range(BATCH, len(keys), BATCH):
            values += self.pipelined(keys[i : i + BATCH], lambda pipeline, key: pipeline.get(key))
        return dict(zip(keys, values, strict=True))

    def close(self) -> None:
        self.cluster.close()


class NodeClient:
    """ioredis in a Node.js process that follows JSON lines."""

    def __init__(self, directory: Path, port: int) -> None:
        self.process = subprocess.Popen(
            ["node", "ioredis_cluster.js", str(port)],
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, do: str, keys: list[str]) -> Any:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps({"do": do, "keys": keys}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "ioredis ended"
        return json.loads(line)

    def write(self, keys: list[str]) -> dict[str, float]:
        times = self.ask("write", keys)["times"]
        return {key: time / 1000 for key, time in zip(keys, times, strict=True)}

    def read(self, keys: list[str]) -> dict[str, str | None]:
        return dict(zip(keys, self.ask("read", keys)["values"], strict=True))

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        try:
            self.process.wait(5)
        finally:
            self.process.kill()
            self.process.wait()


@attrs.define
class Killing:
    """A primary that dies a moment from now, and when it did."""

    fleet: Fleet
    port: int
    time: float = 0.0

    def start(self, delay: float = 0.1) -> threading.Timer:
        timer = threading.Timer(delay, self._kill)
        timer.start()
        return timer

    def _kill(self) -> None:
        self.fleet.processes[self.port].send(signal.SIGKILL)
        self.time = time.time()


@pytest.fixture
def fleet(warm: Warm, tmp_path: Path) -> Iterator[Fleet]:
    """Three shards with a replica each."""
    import trio

    directives = ("--cluster-node-timeout", "1000", "--save", "")
    fleet = Fleet(Plan(3, 1, free_run(6), directives, OURS), tmp_path)
    start(fleet, warm)
    try:
        trio.run(fleet.become_ready)
        yield fleet
    finally:
        fleet.end(grace=0)


@pytest.fixture(params=["redis-py", "valkey-py", "ioredis"])
def client(request: pytest.FixtureRequest, fleet: Fleet) -> Iterator[PythonClient | NodeClient]:
    made: PythonClient | NodeClient
    port = fleet.plan.port
    if request.param == "redis-py":
        cluster = redis.RedisCluster(host="127.0.0.1", port=port, decode_responses=True)
        made = PythonClient(cluster, redis.exceptions.RedisError)
    elif request.param == "valkey-py":
        cluster = valkey.ValkeyCluster(host="127.0.0.1", port=port, decode_responses=True)
        made = PythonClient(cluster, valkey.exceptions.ValkeyError)
    else:
        made = NodeClient(request.getfixturevalue("node_clients"), port)
    yield made
    made.close()


def replication(port: int) -> dict[str, str]:
    reply = call(port, "INFO", "replication")
    return parse_info(reply) if isinstance(reply, bytes) else {}


def replica_has_all(port: int) -> bool:
    """Whether a primary's only replica acknowledged everything."""
    info = replication(port)
    fields = dict(field.split("=") for field in info["slave0"].split(","))
    return int(fields["offset"]) >= int(info["master_repl_offset"])


def data_of(port: int) -> dict[bytes, bytes]:
    """All keys of a node with their values, asked from a replica if it is one."""
    with redis.Redis(port=port) as node:
        keys = node.keys("*")
        pipeline = node.pipeline(transaction=False)
        pipeline.execute_command("READONLY")
        for key in keys:
            pipeline.get(key)
        _, *values = pipeline.execute()
        return dict(zip(keys, values, strict=True))


def primary_of(port: int) -> int | None:
    """The port of the primary that a node follows over a working link, or None."""
    info = replication(port)
    if info.get("role") != "slave" or info["master_link_status"] != "up":
        return None
    return int(info["master_port"])


def comes_back_as_replica(fleet: Fleet, port: int, warm: Warm) -> int:
    """Start a node that was killed; the port of the primary it follows then."""
    fleet.spawn(warm, port)

    def follows() -> bool:
        try:
            return primary_of(port) is not None
        except OSError:
            return False

    wait_until(follows, "the killed node is a replica", timeout=20)
    primary = primary_of(port)
    assert primary is not None
    wait_until(lambda: replica_has_all(primary), "the replica has everything")
    return primary


def test_a_stock_client_goes_on_when_a_primary_dies(fleet, client, warm):
    keys = [f"key:{i}" for i in range(KEYS)]
    first, second = keys[: KEYS // 2], keys[KEYS // 2 :]
    client.write(first)
    for port in fleet.plan.ports[:3]:
        wait_until(lambda port=port: replica_has_all(port), "a replica has every key")

    low, high = shard_slots(3)[1]
    killing = Killing(fleet, fleet.plan.ports[1])
    timer = killing.start()
    times = client.write(second)
    timer.join()
    more = [f"after:{i}" for i in range(300)]
    client.write(more)

    values = client.read(keys + more)
    missing = {key for key, value in values.items() if value != key}
    at_risk = {
        key
        for key, sent in times.items()
        if sent <= killing.time and low <= key_slot(key.encode()) <= high
    }
    assert missing <= at_risk

    heir = comes_back_as_replica(fleet, killing.port, warm)
    nodes = parse_nodes(call(heir, "CLUSTER", "NODES"))
    assert next(node for node in nodes if node.port == heir).slots == f"{low}-{high}"
    data = data_of(heir)
    assert len(data) > KEYS / 4
    assert data_of(killing.port) == data
