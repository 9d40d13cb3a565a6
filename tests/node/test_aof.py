"""The append-only file of a node without sockets, on a disk that loses what wasn't synced."""

import random
from typing import Any

import pytest
from local import Local, local_node

from node.disk import SimulatedDisk
from node.persistence.aof.manifest import Manifest

NAME = "appendonlydir/appendonly.aof"


def started(disk: Any, **directives: Any) -> Local:
    """A node that has loaded what the disk holds."""
    local = local_node(disk, **{"appendonly": True, "save": (), **directives})
    local.node.begin_turn()
    for _ in local.node.load():
        continue
    local.node.end_turn()
    return local


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(1))


def manifest(disk: SimulatedDisk) -> Manifest:
    return Manifest.parse(disk.read(NAME + ".manifest"))


def contents(local: Local) -> dict[bytes, Any]:
    client = local.client()
    return {key: client.call("DUMP", key) for key in sorted(client.call("KEYS", "*"))}


def test_what_is_written_is_there_after_the_next_start(disk):
    local = started(disk, appendfsync="always")
    client = local.client()
    client.call("SET", "a", 1)
    client.call("MULTI")
    client.call("RPUSH", "l", 1, 2)
    client.call("SELECT", 3)
    client.call("SET", "b", 2, "EX", 100)
    client.call("EXEC")
    assert disk.names("appendonlydir") == [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
    ]
    disk.crash()
    again = started(disk).client()
    assert again.call("GET", "a") == b"1" and again.call("LRANGE", "l", 0, -1) == [b"1", b"2"]
    again.call("SELECT", 3)
    assert again.call("TTL", "b") == 100
