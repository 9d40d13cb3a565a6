"""Ask all the nodes of a cluster how they see it, for `cluster.plan` to work on: any server's."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Self

import attrs
import trio

from cluster.admin import NodeLine, parse_info, parse_nodes
from cluster.client import SETBACKS, Address, Argument, Connection, Reply, ReplyError
from cluster.diagnosis import CONTESTED, DISAGREED, UNCOVERED, findings
from cluster.plan import Census, Member, union
from cluster.processes import OperatorError
from cluster.slots import EVERY_SLOT, members, parse_range

BATCH = 2048  # commands sent in one go
SETTLE_POLL = 0.1
ENDED = ("success", "failed", "cancelled")


class CensusFailed(OperatorError):
    """The node that was named doesn't answer, or belongs to no cluster."""


@attrs.define(eq=False)
class Access:
    """The way to every node of a cluster: who we are, and connections that are kept.

    timeout: seconds for connecting and for an answer that needs no work.
    """

    user: str | None = None
    password: str | None = None
    timeout: float = 5.0
    _connections: dict[Address, Connection] = attrs.field(factory=dict)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections.values():
            connection.close()

    def another(self) -> "Access":
        """The same with connections of its own, for another task."""
        return Access(self.user, self.password, self.timeout)

    async def connection(self, address: Address) -> Connection:
        """For one task at a time. Raises as `Connection.open` does, and trio.TooSlowError."""
        connection = self._connections.get(address)
        if connection is None or not connection.is_open:
            with trio.fail_after(self.timeout):
                connection = await Connection.open(address, self.password, self.user)
            self._connections[address] = connection
        return connection

    async def call(self, node: Member | Address, *args: Argument) -> Reply:
        """One command's reply. Raises as `Connection.call` does, and trio.TooSlowError."""
        [reply] = await self.pipeline(node, [args])
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def pipeline(
        self, node: Member | Address, commands: Sequence[Sequence[Argument]]
    ) -> list[Reply]:
        """The replies of commands, error replies among them. Raises as `Connection.pipeline`."""
        connection = await self.connection(node.address if isinstance(node, Member) else node)
        replies: list[Reply] = []
        for i in range(0, len(commands), BATCH):
            with trio.fail_after(self.timeout):
                replies += await connection.pipeline(commands[i : i + BATCH])
        return replies

    def migrate_auth(self) -> list[str]:
        """The words by which MIGRATE says who it is. https://valkey.io/commands/migrate/"""
        if self.password is None:
            return []
        return ["AUTH2", self.user, self.password] if self.user else ["AUTH", self.password]


@attrs.frozen
class Told:
    """What one node has said: its own line, and those of the others."""

    address: Address
    lines: list[NodeLine]
    atomic: bool
    databases: Mapping[int, int]
    on_the_way: int

    @property
    def myself(self) -> NodeLine:
        return next(line for line in self.lines if "myself" in line.flags)

    def address_of(self, line: NodeLine) -> Address:
        """Where a node is that this one knows; without a host, where this one is."""
        return (line.host or self.address[0], line.port)


async def take_census(access: Access, seed: Address) -> Census:
    """Ask the node at `seed`, and all that it knows. Raises CensusFailed."""
    try:
        told = {seed: await ask(access, seed)}
    except SETBACKS as error:
        reason = str(error) or "no answer in time"
        raise CensusFailed(f"{seed[0]}:{seed[1]}: {reason}") from error
    asked = {told[seed].myself.id}
    known = _known(told.values())
    while waiting := {id: address for id, address in known.items() if id not in asked}:
        async with trio.open_nursery() as nursery:
            for address in waiting.values():
                nursery.start_soon(_try_to_ask, access, address, told)
        asked |= waiting.keys()
        known = _known(told.values())
    members_ = [_member(id, address, told) for id, address in known.items()]
    members_.sort(key=lambda node: node.address)
    on_the_way = union(one.on_the_way for one in told.values())
    return await _with_keys(access, Census(members_, on_the_way), told)


def _known(told: Iterable[Told]) -> dict[str, Address]:
    """Whom anybody knows: id -> address, by its own word if it has said one."""
    known: dict[str, Address] = {}
    for one in told:
        for line in one.lines:
            if not line.flags & {"handshake", "noaddr"}:
                known.setdefault(line.id, one.address_of(line))
    known.update((one.myself.id, one.address) for one in told)
    return known


async def _try_to_ask(access: Access, address: Address, told: dict[Address, Told]) -> None:
    with suppress(*SETBACKS):
        told[address] = await ask(access, address)


async def ask(access: Access, address: Address) -> Told:
    """What one node says. Raises as `Access.pipeline` does, and ReplyError."""
    nodes, command, keyspace = await access.pipeline(
        address,
        [
            ("CLUSTER", "NODES"),
            ("COMMAND", "INFO", "CLUSTER|MIGRATESLOTS"),
            ("INFO", "keyspace"),
        ],
    )
    for reply in (nodes, keyspace):
        if isinstance(reply, ReplyError):
            raise reply
    atomic = isinstance(command, list) and bool(command) and bool(command[0])
    moves = await exports(access, address) if atomic else []
    on_the_way = union(job.slots for job in moves if job.is_under_way)
    return Told(address, parse_nodes(nodes), atomic, _databases(keyspace), on_the_way)


def _databases(keyspace: bytes) -> dict[int, int]:
    """How many keys are in which database, as INFO keyspace tells."""
    fields = parse_info(keyspace)
    return {
        int(name[2:]): int(value.partition(",")[0].removeprefix("keys="))
        for name, value in fields.items()
        if name.startswith("db")
    }


def _slots(line: NodeLine) -> int:
    return union(map(parse_range, line.slots.split()))


def _member(id: str, address: Address, told: Mapping[Address, Told]) -> Member:
    """A node by its own word; by that of others if it says nothing."""
    own = told.get(address)
    if own is None or own.myself.id != id:
        lines = [line for one in told.values() for line in one.lines if line.id == id]
        primary_id = next((line.primary_id for line in lines if line.primary_id), None)
        return Member(id, address, primary_id, union(map(_slots, lines)), reachable=False)
    me = own.myself
    return Member(
        id,
        address,
        me.primary_id,
        _slots(me),
        me.on_the_move("->-"),
        me.on_the_move("-<-"),
        {},
        sum(own.databases.values()),
        me.epoch,
        {line.id: _slots(line) for line in own.lines if line.slots},
        own.atomic,
    )


async def _with_keys(access: Access, census: Census, told: Mapping[Address, Told]) -> Census:
    """With the count of each primary's keys that are elsewhere than they should, or may be."""
    nodes = {node.id: node for node in census.nodes}
    doubtful = census.contested | census.open_slots

    async def count(node: Member) -> None:
        databases = list(told[node.address].databases)
        slots = list(members(EVERY_SLOT & ~node.slots | doubtful))
        with suppress(*SETBACKS):
            keys = await count_keys(access, node, slots, databases)
            nodes[node.id] = attrs.evolve(node, keys=keys)

    async with trio.open_nursery() as nursery:
        for node in census.primaries:
            if node.key_count:
                nursery.start_soon(count, node)
    return attrs.evolve(census, nodes=list(nodes.values()))


async def count_keys(
    access: Access, node: Member, slots: Sequence[int], databases: Sequence[int]
) -> dict[int, int]:
    """How many keys a node has of slots, where it has any."""
    found: dict[int, int] = {}
    for database in databases:
        if len(databases) > 1:
            await access.call(node, "SELECT", database)
        replies = await access.pipeline(
            node, [("CLUSTER", "COUNTKEYSINSLOT", slot) for slot in slots]
        )
        for slot, reply in zip(slots, replies, strict=True):
            if isinstance(reply, int) and reply:
                found[slot] = found.get(slot, 0) + reply
    if len(databases) > 1:
        await access.call(node, "SELECT", 0)
    return found


# --- moves of slots as a whole --------------------------------------------------------------------


@attrs.frozen
class Export:
    """A move of slots away from a node, by CLUSTER GETSLOTMIGRATIONS."""

    name: str
    target: str
    slots: int
    state: str
    message: str
    unsent: int

    @property
    def is_under_way(self) -> bool:
        return self.state not in ENDED


async def exports(access: Access, node: Member | Address) -> list[Export]:
    """A node's moves of slots to others, under way and past."""
    found = []
    for flat in await access.call(node, "CLUSTER", "GETSLOTMIGRATIONS"):
        job = {name.decode(): value for name, value in zip(flat[::2], flat[1::2], strict=True)}
        if job["operation"] == b"EXPORT":
            slots = union(map(parse_range, job["slot_ranges"].decode().split()))
            name, target, state, message = (
                job[field].decode(errors="replace")
                for field in ("name", "target_node", "state", "message")
            )
            unsent = int(job.get("remaining_repl_size", 0))
            found.append(Export(name, target, slots, state, message, unsent))
    return found


async def settled_census(access: Access, seed: Address, patience: float = 3.0) -> Census:
    """A census after gossip has done its work: all agree, or a while is over.

    Raises CensusFailed.
    """
    deadline = trio.current_time() + patience
    passing = {CONTESTED, DISAGREED, UNCOVERED}
    while True:
        census = await take_census(access, seed)
        if not any(found.kind in passing for found in findings(census)):
            return census
        if trio.current_time() > deadline:
            return census
        await trio.sleep(SETTLE_POLL)
