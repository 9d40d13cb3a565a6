"""Two primaries, ours or real ones, and clients that write to them while slots move."""

import random
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import attrs
import hiredis

from cluster.slots import key_slot
from tests.conftest import Connection, ServerProcess, wait_until

HALF = 8192
SETTLE_S = 20.0


def connect_to(port: int) -> Connection:
    return Connection(socket.create_connection(("127.0.0.1", port), 15))


@attrs.define(eq=False)
class Company:
    """Two primaries with half of the slots each; their replicas, if any."""

    nodes: list[ServerProcess]
    ids: list[str]
    replicas: list[ServerProcess] = attrs.field(factory=list)

    def migrate(self, source: int, *ranges: int) -> Any:
        """Let a node give ranges to the other."""
        target = self.ids[1 - source]
        return self.nodes[source].call(
            "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *ranges, "NODE", target
        )

    def outcome(self, node: int) -> str:
        """The state of a node's latest migration, once it is over."""
        wait_until(lambda: state_of(self.nodes[node]) in OVER, "the migration is over", SETTLE_S)
        return state_of(self.nodes[node])

    def move(self, source: int, *ranges: int) -> None:
        """Let a node give ranges to the other, and wait until it has."""
        assert self.migrate(source, *ranges) == b"OK"
        outcome = self.outcome(source)
        told = [migrations(node)[0]["message"] for node in self.nodes]
        assert outcome == "success", told


GET = ("CLUSTER", "GETSLOTMIGRATIONS")
OVER = ("success", "failed", "cancelled")


def migrations(server: ServerProcess) -> list[dict[str, Any]]:
    """What a node knows of migrations, the latest first."""
    found = []
    for flat in server.call(*GET):
        pairs = zip(flat[::2], flat[1::2], strict=True)
        found.append({k.decode(): v.decode() if type(v) is bytes else v for k, v in pairs})
    return found


def state_of(server: ServerProcess) -> str:
    known = migrations(server)
    return known[0]["state"] if known else ""


def form(nodes: list[ServerProcess], replicas: list[ServerProcess] = ()) -> Company:
    """Make a cluster of two primaries, and of replicas of the first, the second ..."""
    for node, (first, last) in zip(nodes, ((0, HALF - 1), (HALF, 16383)), strict=True):
        assert node.call("CLUSTER", "ADDSLOTSRANGE", first, last) == b"OK"
    nodes[0].call("CLUSTER", "SET-CONFIG-EPOCH", 1)
    nodes[1].call("CLUSTER", "SET-CONFIG-EPOCH", 2)
    everybody = [*nodes, *replicas]
    for node in everybody[1:]:
        nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port)

    def all_know_all() -> bool:
        return all(
            len(lines := node.call("CLUSTER", "NODES").decode().splitlines()) == len(everybody)
            and not any("handshake" in line for line in lines)
            and b"cluster_state:ok" in node.call("CLUSTER", "INFO")
            for node in everybody
        )

    wait_until(all_know_all, "everybody knows everybody", SETTLE_S)
    company = Company(nodes, [node.call("CLUSTER", "MYID").decode() for node in nodes])
    for replica, primary in zip(replicas, company.ids, strict=False):
        assert replica.call("CLUSTER", "REPLICATE", primary) == b"OK"
        company.replicas.append(replica)
        wait_until(lambda: is_linked(replica), "the replica is linked", SETTLE_S)  # noqa: B023
    return company


def is_linked(replica: ServerProcess) -> bool:
    return b"master_link_status:up" in replica.call("INFO", "replication")


def owned(server: ServerProcess, node_id: str, *slots: int) -> bool:
    """Whether a node holds another for the owner of slots."""
    owners = {}
    for first, last, primary, *_ in server.call("CLUSTER", "SLOTS"):
        owners.update(dict.fromkeys(range(first, last + 1), primary[2].decode()))
    return all(owners.get(slot) == node_id for slot in slots)


def tags(count: int, first: int = 0, last: int = HALF - 1) -> Iterator[str]:
    """Hash tags of slots in a range."""
    found = number = 0
    while found < count:
        number += 1
        if first <= key_slot(b"%d" % number) <= last:
            found += 1
            yield str(number)


KINDS = ("string", "list", "counter", "set", "hash", "zset", "stream", "text")


@attrs.define(eq=False)
class Writer:
    """A client that writes unique values of all types, follows MOVED and takes no other error.

    done: how many of its steps were acknowledged. moved: how often it was sent elsewhere.
    slowest_s: the longest it has waited for an answer. db: the database it uses.
    """

    nodes: list[ServerProcess]
    tag: str
    db: int = 0
    done: int = 0
    moved: int = 0
    slowest_s: float = 0.0
    failure: str = ""
    _port: int = 0
    _connections: dict[int, Connection] = attrs.field(factory=dict)
    _stopping: threading.Event = attrs.field(factory=threading.Event)
    _thread: threading.Thread = attrs.field(init=False)

    def start(self) -> "Writer":
        self._port = self.nodes[0].port
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(20)
        assert not self._thread.is_alive()

    def _write(self) -> None:
        try:
            while not self._stopping.is_set():
                reply = self.ask(*self.step(self.done))
                if isinstance(reply, Exception):
                    self.failure = str(reply)
                    return
                self.done += 1
        except OSError as error:
            self.failure = repr(error)

    def close(self) -> None:
        for connection in self._connections.values():
            connection.sock.close()

    def key(self, kind: str) -> str:
        return f"{{{self.tag}}}:{kind}"

    def step(self, number: int) -> tuple[str | int, ...]:
        """The command of a step."""
        kind = KINDS[number % len(KINDS)]
        key = self.key(kind)
        value = f"{self.tag}-{number}"
        return {
            "string": ("SET", key, value),
            "list": ("RPUSH", key, value),
            "counter": ("INCR", key),
            "set": ("SADD", key, value),
            "hash": ("HSET", key, value, number),
            "zset": ("ZADD", key, number, value),
            "stream": ("XADD", key, f"{number + 1}-1", "value", value),
            "text": ("APPEND", key, f"{value},"),
        }[kind]

    def ask(self, *command: str | int) -> Any:
        """A command's reply, from whoever has the slot."""
        started = time.monotonic()
        while True:
            reply = self._connection(self._port).one(*command)
            if not isinstance(reply, hiredis.ReplyError):
                break
            word, _, rest = str(reply).partition(" ")
            if word != "MOVED":
                break
            self.moved += 1
            self._port = int(rest.rpartition(":")[2])
        self.slowest_s = max(self.slowest_s, time.monotonic() - started)
        return reply

    def _connection(self, port: int) -> Connection:
        if port not in self._connections:
            self._connections[port] = connection = connect_to(port)
            if self.db:
                assert connection.one("SELECT", self.db) == b"OK"
        return self._connections[port]

    def check(self) -> None:
        """All that was acknowledged is there, once."""
        assert not self.failure, self.failure
        steps = range(self.done)
        values = {
            kind: [f"{self.tag}-{n}".encode() for n in steps if KINDS[n % len(KINDS)] == kind]
            for kind in KINDS
        }
        ask = self.ask
        assert ask("LRANGE", self.key("list"), 0, -1) == values["list"]
        assert int(ask("GET", self.key("counter")) or 0) == len(values["counter"])
        assert sorted(ask("SMEMBERS", self.key("set"))) == sorted(values["set"])
        assert sorted(ask("HKEYS", self.key("hash"))) == sorted(values["hash"])
        assert ask("ZRANGE", self.key("zset"), 0, -1) == values["zset"]
        entries = ask("XRANGE", self.key("stream"), "-", "+")
        assert [fields[1] for _, fields in entries] == values["stream"]
        assert ask("GET", self.key("string")) == values["string"][-1]
        assert ask("GET", self.key("text")) == b"".join(v + b"," for v in values["text"])


def fill(server: ServerProcess, count: int, last: int = HALF - 1) -> dict[str, bytes]:
    """Write keys of a server's slots below `last`; the keys and values."""
    data = {f"{{{tag}}}:fill": random.randbytes(20) for tag in tags(count, 0, last)}
    replies = ask_all(server, [("SET", key, value) for key, value in data.items()])
    assert set(replies) == {b"OK"}
    return data


def ask_all(server: ServerProcess, commands: list[tuple[str | bytes, ...]]) -> list[Any]:
    """The replies to commands that are sent at once."""
    connection = connect_to(server.port)
    try:
        return connection.ask(*commands)
    finally:
        connection.sock.close()


def read(server: ServerProcess, keys: list[str]) -> dict[str, bytes | None]:
    """Keys as a server has them."""
    replies = ask_all(server, [("GET", key) for key in keys])
    return dict(zip(keys, replies, strict=True))
