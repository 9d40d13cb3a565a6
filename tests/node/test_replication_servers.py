"""Replication over real sockets: ours as primary, as replica and in the middle of real servers."""

import socket
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

import hiredis
import pytest

QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
MANY = 6000  # keys: more than are written without a child

ServerProcess = Any  # of the fixtures that start one
Start = Callable[..., ServerProcess]


def wait_until(condition: Callable[[], object], what: str, timeout: float = 10) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.01)


@pytest.fixture
def ours(our_server: Start) -> Start:
    return lambda *directives: our_server(*QUICK, *directives)


@pytest.fixture(params=["redis-server", "valkey-server"])
def real(request: pytest.FixtureRequest) -> Start:
    fixture = request.getfixturevalue(request.param.replace("-", "_"))
    return lambda *directives: fixture(*QUICK, *directives)


def info(server: ServerProcess, section: str = "replication") -> dict[str, str]:
    text = server.call("INFO", section)
    assert isinstance(text, bytes)
    return dict(line.split(":", 1) for line in text.decode().splitlines() if ":" in line)


def pipeline(server: ServerProcess, commands: Iterable[tuple[str | int, ...]]) -> list[object]:
    requests = [hiredis.pack_command(command) for command in commands]
    reader, replies = hiredis.Reader(), []
    with socket.create_connection(("127.0.0.1", server.port), 10) as sock:
        sock.sendall(b"".join(requests))
        while len(replies) < len(requests):
            while (reply := reader.gets()) is False:
                reader.feed(sock.recv(1 << 20))
            replies.append(reply)
    return replies


def fill(server: ServerProcess, keys: int = 100) -> None:
    """Keys of several types, some in another database, some with a deadline."""
    commands: list[tuple[str | int, ...]] = [("SET", f"key:{i}", f"value-{i}") for i in range(keys)]
    commands += [("SET", "soon", "v", "EX", 1000), ("SET", "number", 12345)]
    commands += [("RPUSH", "list", *range(200)), ("SADD", "set", *range(50), "x")]
    commands += [("HSET", "hash", "f", "v", "g", "w"), ("ZADD", "zset", "1.5", "m", 2, "n")]
    commands += [("SELECT", 3), ("SET", "elsewhere", 1)]
    assert not [reply for reply in pipeline(server, commands) if isinstance(reply, Exception)]


def write(server: ServerProcess, tag: str) -> None:
    """Commands that are logged in other words than they came."""
    lines = (
        f"SET {tag} 1 EX 1000; INCR {tag}; INCRBYFLOAT {tag}f 0.1; SADD {tag}s 1 2 3 4 5;"
        f"SPOP {tag}s 2; RPUSH {tag}l 1 2 3; BLPOP {tag}l 1; LMOVE {tag}l {tag}m LEFT RIGHT;"
        f"MULTI; SET {tag}x 1; DEL {tag}f; EXEC; SELECT 2; SET {tag}z 1; ZADD {tag}y 1 a 2 b;"
        f"ZPOPMIN {tag}y"
    )
    commands = [tuple(line.split()) for line in lines.split(";")]
    assert not [reply for reply in pipeline(server, commands) if isinstance(reply, Exception)]


def contents(server: ServerProcess) -> dict[tuple[int, bytes], object]:
    """Every key with its value and whether it has a deadline."""
    found = {}
    for db in (0, 2, 3):
        _, keys = pipeline(server, [("SELECT", db), ("KEYS", "*")])
        assert isinstance(keys, list)
        types = pipeline(server, [("SELECT", db), *(("TYPE", key) for key in keys)])[1:]
        reads = [(*READERS[bytes(kind)], key) for key, kind in zip(keys, types, strict=True)]
        values = pipeline(server, [("SELECT", db), *((r[0], r[-1], *r[1:-1]) for r in reads)])[1:]
        deadlines = pipeline(server, [("SELECT", db), *(("PEXPIRETIME", key) for key in keys)])[1:]
        for key, kind, value, deadline in zip(keys, types, values, deadlines, strict=True):
            ordered = value if kind in (b"string", b"list", b"zset") else sorted(value)
            found[db, key] = (ordered, deadline)
    return found


READERS: dict[bytes, tuple[str | int, ...]] = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"set": ("SMEMBERS",),
    b"hash": ("HGETALL",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
}


def follow(replica: ServerProcess, primary: ServerProcess) -> None:
    assert str(replica.call("REPLICAOF", "127.0.0.1", primary.port)).startswith(("OK", "b'OK"))
    wait_linked(replica)


def wait_linked(replica: ServerProcess) -> None:
    wait_until(lambda: info(replica)["master_link_status"] == "up", "link up")


def wait_in_sync(primary: ServerProcess, *replicas: ServerProcess) -> None:
    """Same offset, same history, same data."""
    for replica in replicas:
        wait_until(
            lambda replica=replica: (  # type: ignore[misc]
                info(replica)["slave_repl_offset"] == info(primary)["master_repl_offset"]
            ),
            "offsets agree",
        )
        assert info(replica)["master_replid"] == info(primary)["master_replid"]
        assert contents(replica) == contents(primary)


def break_links(server: ServerProcess, kind: str) -> None:
    """Cut the connections to its replicas, or to its primary."""
    assert server.call("CLIENT", "KILL", "TYPE", kind)


def test_a_real_replica_of_ours(ours, real):
    primary, replica = ours(), real()
    fill(primary)
    follow(replica, primary)
    write(primary, "a")
    wait_in_sync(primary, replica)
    assert f"port={replica.port},state=online" in info(primary)["slave0"]
    break_links(replica, "master")
    write(primary, "b")
    wait_until(lambda: info(primary, "stats")["sync_partial_ok"] == "1", "partial sync")
    wait_linked(replica)
    wait_in_sync(primary, replica)
    assert primary.call("WAIT", 1, 2000) == 1
    assert info(primary, "stats")["sync_full"] == "1"


@pytest.mark.parametrize("diskless", ["yes", "no"])
def test_a_large_data_set_is_written_by_a_child_while_clients_go_on(ours, redis_server, diskless):
    primary = ours("--repl-diskless-sync", diskless)
    first, second = redis_server(*QUICK), ours()
    fill(primary, MANY)
    for replica in (first, second):
        replica.call("REPLICAOF", "127.0.0.1", primary.port)
    for round in range(20):
        write(primary, f"during{round}")
    for replica in (first, second):
        wait_linked(replica)
    wait_in_sync(primary, first, second)
    assert "Background RDB transfer started" in primary.log()


def test_ours_as_replica_of_a_real_server(ours, real):
    primary, replica = real(), ours()
    fill(primary)
    replica.call("SET", "stale", 1)
    follow(replica, primary)
    write(primary, "a")
    assert primary.call("WAIT", 1, 2000) == 1
    wait_in_sync(primary, replica)
    assert f"port={replica.port},state=online" in info(primary)["slave0"]
    assert str(replica.call("SET", "k", 1)).startswith("READONLY")
    assert replica.call("ROLE")[:4] == [b"slave", b"127.0.0.1", primary.port, b"connected"]
    break_links(primary, "replica")
    write(primary, "b")
    wait_until(lambda: info(primary, "stats")["sync_partial_ok"] == "1", "partial sync")
    wait_linked(replica)
    wait_in_sync(primary, replica)


def test_ours_between_real_servers_until_it_is_promoted(ours, real):
    top, middle, bottom = real("--repl-diskless-sync", "no"), ours(), real()
    fill(top)
    follow(middle, top)
    follow(bottom, middle)
    write(top, "a")
    wait_in_sync(top, middle, bottom)
    break_links(top, "replica")
    write(top, "b")
    wait_until(lambda: info(top, "stats")["sync_partial_ok"] == "1", "partial sync")
    wait_linked(middle)
    wait_in_sync(top, middle, bottom)
    assert middle.call("REPLICAOF", "NO", "ONE") == b"OK"
    follow(top, middle)
    write(middle, "c")
    wait_linked(bottom)
    wait_in_sync(middle, top, bottom)
    assert info(middle, "stats")["sync_full"] == "1"  # only bottom's first


def test_a_real_primary_hands_over_to_ours(ours, valkey_server):
    primary, replica = valkey_server(*QUICK), ours()
    fill(primary)
    follow(replica, primary)
    wait_until(lambda: "state=online" in info(primary)["slave0"], "online for the primary too")
    hand_over = ("FAILOVER", "TO", "127.0.0.1", replica.port, "TIMEOUT", 5000)
    assert primary.call(*hand_over) == b"OK"
    wait_until(lambda: info(replica)["role"] == "master", "promoted")
    wait_linked(primary)
    write(replica, "a")
    wait_in_sync(replica, primary)
    assert info(replica, "stats")["sync_partial_ok"] == "1"


def test_a_replica_finds_its_primary_by_name_from_the_start(ours):
    primary = ours()
    fill(primary)
    replica = ours("--replicaof", f"localhost {primary.port}")
    wait_linked(replica)
    wait_in_sync(primary, replica)


def test_a_password_is_given(ours):
    primary = ours("--requirepass", "secret")
    replica = ours("--masterauth", "secret")
    replica.call("REPLICAOF", "127.0.0.1", primary.port)
    wait_linked(replica)


def test_redis_cli_takes_a_snapshot(ours, redis_cli, tmp_path):
    primary = ours()
    fill(primary)
    path = tmp_path / "copy.rdb"
    command = [redis_cli, "-p", str(primary.port), "--rdb", str(path)]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    assert b"Transfer finished with success" in done.stdout + done.stderr
    assert path.read_bytes().startswith(b"REDIS0010")
