"""Form a cluster out of empty nodes, and wait until all of it is ready: any server's nodes."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Self

import attrs
import trio

from cluster.client import Address, Argument, Connection, ConnectionLost, Reply, ReplyError
from cluster.processes import OperatorError
from cluster.slots import SLOTS

POLL = 0.005


class FormationFailed(OperatorError):
    """A node refused a step, or the cluster was not ready in time; says which and why."""


@attrs.frozen
class NodeLine:
    """What a line of CLUSTER NODES says of one node. https://valkey.io/commands/cluster-nodes/"""

    id: str
    host: str
    port: int
    flags: frozenset[str]
    primary_id: str | None
    epoch: int
    linked: bool
    slots: str
    marks: Sequence[str] = ()

    @classmethod
    def parse(cls, line: str) -> "NodeLine":
        id, place, flags, primary, _, _, epoch, link, *words = line.split()
        host, _, port = place.partition(",")[0].partition("@")[0].rpartition(":")
        return cls(
            id,
            host,
            int(port),
            frozenset(flags.split(",")),
            None if primary == "-" else primary,
            int(epoch),
            link == "connected",
            " ".join(word for word in words if not word.startswith("[")),
            [word.strip("[]") for word in words if word.startswith("[")],
        )

    @property
    def is_primary(self) -> bool:
        return "master" in self.flags

    def on_the_move(self, arrow: str) -> dict[int, str]:
        """Slots that go to a node, for the arrow `->-`, or come from one, for `-<-`: its id."""
        pairs = (mark.split(arrow) for mark in self.marks if arrow in mark)
        return {int(slot): node_id for slot, node_id in pairs}


def parse_nodes(reply: bytes) -> list[NodeLine]:
    """The reply of CLUSTER NODES, line by line."""
    return [NodeLine.parse(line) for line in reply.decode().splitlines() if line]


def parse_info(reply: bytes) -> dict[str, str]:
    """The fields of INFO or CLUSTER INFO."""
    pairs = (line.partition(":") for line in reply.decode().splitlines())
    return {name: value for name, colon, value in pairs if colon}


@attrs.frozen
class View:
    """What one node says of itself and of the cluster, at one moment."""

    nodes: list[NodeLine]
    cluster: dict[str, str]
    replication: dict[str, str]
    keys: int

    @classmethod
    async def of(cls, connection: Connection) -> Self | None:
        """Ask a node; None while it is still loading its data. Raises as `Connection.call` does."""
        nodes, cluster, replication, keys = replies = await connection.pipeline(
            [("CLUSTER", "NODES"), ("CLUSTER", "INFO"), ("INFO", "replication"), ("DBSIZE",)]
        )
        if any(isinstance(reply, ReplyError) for reply in replies):
            return None
        return cls(parse_nodes(nodes), parse_info(cluster), parse_info(replication), keys)

    @property
    def myself(self) -> NodeLine:
        return next(node for node in self.nodes if "myself" in node.flags)

    @property
    def offset(self) -> int:
        """How far this node's data is, in bytes of its shard's replication stream."""
        return int(
            self.replication.get("slave_repl_offset", self.replication["master_repl_offset"])
        )

    @property
    def is_linked(self) -> bool:
        """Whether it follows its primary; a primary always is."""
        return self.replication.get("master_link_status", "up") == "up"

    def is_ready(self) -> bool:
        """Whether its cluster is ok, every node it knows is well, and it is linked."""
        unwell = {"handshake", "fail", "fail?", "noaddr"}
        return (
            self.cluster["cluster_state"] == "ok"
            and self.is_linked
            and not any(node.flags & unwell for node in self.nodes)
        )


def shard_slots(shards: int) -> list[tuple[int, int]]:
    """(first, last) slot of each shard, as even as can be."""
    edges = [round(i * SLOTS / shards) for i in range(shards + 1)]
    return [(first, after - 1) for first, after in pairwise(edges)]


@attrs.define(eq=False)
class Formation:
    """The making of one cluster: the first `shards` nodes become primaries, the others replicas.

    `alive` is called between polls and raises when waiting on has become senseless.
    """

    addresses: Sequence[Address]
    shards: int
    password: str | None = None
    user: str | None = None
    alive: Callable[[], None] = lambda: None
    _connections: list[Connection] = attrs.field(factory=list)
    _ids: dict[int, bytes] = attrs.field(factory=dict)

    async def form(self, timeout: float = 20.0) -> None:
        """Share the slots out, introduce the nodes, and return once all of it is ready.

        Raises FormationFailed.
        """
        await self._within(timeout, self._form)

    async def wait_ready(self, timeout: float = 20.0) -> None:
        """Wait for a cluster that formed before, whoever its primaries are now.

        Raises FormationFailed.
        """
        await self._within(timeout, self._meet_again)

    async def _within(self, timeout: float, work: Callable[[], Awaitable[None]]) -> None:
        try:
            with trio.fail_after(timeout):
                await work()
        except trio.TooSlowError:
            raise FormationFailed(f"not ready after {timeout:g} s") from None
        except (OSError, ConnectionLost) as error:
            await self._hear_last_words()
            raise FormationFailed(f"lost a node: {error}") from error
        finally:
            for connection in self._connections:
                connection.close()

    async def _hear_last_words(self) -> None:
        """A connection breaks a moment before its process has ended and can be asked why."""
        for _ in range(40):
            self.alive()
            await trio.sleep(POLL)

    async def _form(self) -> None:
        await self._connect()
        await self._each(self._share_out, self._connections)
        await self._each(self._introduce, self._connections)
        await self._each(self._wait_acquainted, self._connections)
        await self._each(self._replicate, self._connections[self.shards :])
        await self._each(partial(self._wait_node, self._is_formed), self._connections)

    async def _share_out(self, connection: Connection) -> None:
        """A primary's slots, and an epoch of its own, which it takes only while it is alone.

        What a forming that was broken off has done already is left so.
        """
        index = self._connections.index(connection)
        if index < self.shards:
            first, last = shard_slots(self.shards)[index]
            [nodes] = await _demand(connection, ("CLUSTER", "NODES"))
            known = parse_nodes(nodes)
            me = next(line for line in known if "myself" in line.flags)
            if not me.slots:
                await _demand(connection, ("CLUSTER", "ADDSLOTSRANGE", first, last))
            if not me.epoch and len(known) == 1:
                await _demand(connection, ("CLUSTER", "SET-CONFIG-EPOCH", index + 1))
            [self._ids[index]] = await _demand(connection, ("CLUSTER", "MYID"))

    async def _meet_again(self) -> None:
        await self._connect()
        await self._each(partial(self._wait_node, self._is_ready), self._connections)

    async def _connect(self) -> None:
        self._connections = [await self._reach(address) for address in self.addresses]

    async def _reach(self, address: Address) -> Connection:
        """Connect as soon as the node listens."""
        while True:
            try:
                return await Connection.open(address, self.password, self.user)
            except ConnectionRefusedError:
                self.alive()
                await trio.sleep(POLL)
            except ReplyError as error:
                raise FormationFailed(f"port {address[1]}: {error}") from error

    async def _introduce(self, connection: Connection) -> None:
        """Every pair meets, so that nobody waits for gossip to spread."""
        others = self.addresses[self._connections.index(connection) + 1 :]
        await _demand(connection, *(("CLUSTER", "MEET", host, port) for host, port in others))

    async def _wait_acquainted(self, connection: Connection) -> None:
        """All know each other and are linked: so nobody misses when a replica tells its new role,
        which it does once, and then only with its next ping a second or more later."""
        while True:
            nodes = parse_nodes(await connection.call("CLUSTER", "NODES"))
            known = [node for node in nodes if node.linked and "handshake" not in node.flags]
            if len(known) == len(nodes) == len(self.addresses):
                return
            self.alive()
            await trio.sleep(POLL)

    async def _replicate(self, connection: Connection) -> None:
        index = self._connections.index(connection)
        await _demand(connection, ("CLUSTER", "REPLICATE", self._ids[index % self.shards]))

    async def _each(
        self, work: Callable[[Connection], Awaitable[None]], connections: Sequence[Connection]
    ) -> None:
        """Do this with all at a time; the first failure ends it and is raised."""
        failures: list[Exception] = []

        async def guarded(connection: Connection) -> None:
            try:
                await work(connection)
            except Exception as failure:
                failures.append(failure)
                nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for connection in connections:
                nursery.start_soon(guarded, connection)
        if failures:
            raise failures[0]

    async def _wait_node(self, condition: Callable[["View"], bool], connection: Connection) -> None:
        while not ((view := await View.of(connection)) and condition(view)):
            self.alive()
            await trio.sleep(POLL)

    def _is_formed(self, view: "View") -> bool:
        primaries = [node for node in view.nodes if node.is_primary]
        shares = all(node.slots for node in primaries) and len(primaries) == self.shards
        return shares and self._is_ready(view)

    def _is_ready(self, view: "View") -> bool:
        return len(view.nodes) == len(self.addresses) and view.is_ready()


async def _demand(connection: Connection, *commands: Sequence[Argument]) -> list[Reply]:
    """The replies of commands that must not fail."""
    replies = await connection.pipeline(commands)
    for args, reply in zip(commands, replies, strict=True):
        if isinstance(reply, ReplyError):
            words = " ".join(map(str, args))
            raise FormationFailed(f"port {connection.address[1]}: {words}: {reply}")
    return replies
