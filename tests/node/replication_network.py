"""Nodes in this process that replicate with each other, their bytes carried by the test."""

from random import Random

import attrs
from local import Client

from node.clock import VirtualClock
from node.config import Config
from node.node import Node
from node.replication.follower import Replica
from node.replication.replica import PrimaryLink
from node.replication.snapshot import Snapshot
from node.replication.transport import Peer
from node.session import Session

Address = tuple[str, int]


@attrs.define(eq=False)
class Accepted:
    """The accepting side of a connection, until its client turns out to be a replica."""

    session: Session

    def receive(self, data: bytes) -> None:
        self.session.receive(data)

    def take_output(self, most: int) -> bytes:
        return self.session.take_output()

    def lost(self, reason: str) -> None:
        self.session.node.close_session(self.session)


@attrs.define(eq=False)
class Wire:
    """A connection: a link, and what it is connected to. carried: bytes that have arrived."""

    link: PrimaryLink
    near: Node
    other: Peer
    far: Node
    carried: tuple[bytearray, bytearray] = attrs.field(factory=lambda: (bytearray(), bytearray()))

    def ends(self) -> list[tuple[Peer, Peer, Node, bytearray]]:
        """Sender, receiver, the receiver's node, and what it has got: there and back."""
        there, back = self.carried
        return [
            (self.link, self.other, self.far, there),
            (self.other, self.link, self.near, back),
        ]


@attrs.define(eq=False)
class Carrier:
    """The transport of one node."""

    network: "Network"
    node: Node
    forked: list[Snapshot] = attrs.field(factory=list)
    cancelled: list[Snapshot] = attrs.field(factory=list)
    can_fork: bool = False

    def connect(self, link: PrimaryLink) -> None:
        self.network.dialled.append((link, self.node))

    def adopt(self, replica: Replica) -> None:
        for wire in self.network.wires:
            if isinstance(wire.other, Accepted) and wire.other.session is replica.session:
                wire.other = replica

    def flag(self, peer: Peer) -> None:
        """Output is looked for in every round anyway."""

    def close(self, peer: Peer) -> None:
        self.network.cut(peer)

    def produce(self, snapshot: Snapshot) -> bool:
        if self.can_fork:
            self.forked.append(snapshot)
        return self.can_fork

    def cancel(self, snapshot: Snapshot) -> None:
        self.cancelled.append(snapshot)


@attrs.define(eq=False)
class Network:
    """Nodes by name, under one clock; a round carries at most `piece` bytes each way."""

    piece: int = 1 << 20
    clock: VirtualClock = attrs.field(factory=VirtualClock)
    nodes: dict[str, Node] = attrs.field(factory=dict)
    wires: list[Wire] = attrs.field(factory=list)
    dialled: list[tuple[PrimaryLink, Node]] = attrs.field(factory=list)
    unreachable: set[str] = attrs.field(factory=set)
    _pending: dict[int, bytes] = attrs.field(factory=dict)

    def add(self, name: str, **directives: object) -> Node:
        """A node whose clients and replicas find it at this name, port 6379."""
        config = Config()
        config.repl_diskless_sync_delay = 0
        config.databases = 8
        for directive, value in directives.items():
            setattr(config, directive, value)
        node = Node(config, self.clock, random=Random(name))
        node.transport = Carrier(self, node)
        self.nodes[name] = node
        return node

    def client(self, name: str) -> Client:
        node = self.nodes[name]
        return Client(node, node.session(b"10.0.0.1:5000", b"", lambda _: None))

    def settle(self, rounds: int = 100_000) -> None:
        """Carry bytes until nobody has any more."""
        while self._round():
            rounds -= 1
            assert rounds, "the nodes never fall silent"

    def run(self, milliseconds: int, step: int = 10) -> None:
        """Let time go by."""
        for _ in range(0, milliseconds, step):
            self.clock.advance(step)
            for node in list(self.nodes.values()):
                node.tick()
            self.settle()

    def cut(self, peer: Peer) -> None:
        """A connection ends; the other side will hear of it."""
        for wire in [wire for wire in self.wires if peer in (wire.link, wire.other)]:
            self.wires.remove(wire)
            gone, node = (wire.other, wire.far) if peer is wire.link else (wire.link, wire.near)
            self.dialled = [pair for pair in self.dialled if pair[0] is not peer]
            node.begin_turn()
            gone.lost("cut")
            node.end_turn()
        self.dialled = [pair for pair in self.dialled if pair[0] is not peer]

    def break_link(self, name: str) -> None:
        """The connection of this replica to its primary breaks for both."""
        link = self.nodes[name].role.link
        assert link is not None
        wire = next(wire for wire in self.wires if wire.link is link)
        self.wires.remove(wire)
        for peer, node in ((wire.link, wire.near), (wire.other, wire.far)):
            node.begin_turn()
            peer.lost("broken")
            node.end_turn()

    def _round(self) -> bool:
        busy = bool(self.dialled)
        dialled, self.dialled = self.dialled, []
        for link, node in dialled:
            self._connect(link, node)
        for wire in list(self.wires):
            for sender, receiver, node, carried in wire.ends():
                busy |= self._carry(wire, sender, receiver, node, carried)
        return busy

    def _carry(
        self, wire: Wire, sender: Peer, receiver: Peer, node: Node, carried: bytearray
    ) -> bool:
        key = id(carried)
        data = self._pending.pop(key, b"") or sender.take_output(self.piece)
        if not data or wire not in self.wires:
            return False
        data, rest = data[: self.piece], data[self.piece :]
        if rest:
            self._pending[key] = rest
        carried += data
        node.begin_turn()
        receiver.receive(data)
        node.end_turn()
        return True

    def _connect(self, link: PrimaryLink, node: Node) -> None:
        far = self.nodes.get(link.host)
        node.begin_turn()
        if far is None or link.host in self.unreachable:
            link.lost("Connection refused")
        else:
            session = far.session(b"10.0.0.%d:4000" % (len(self.wires) + 2), b"", lambda _: None)
            self.wires.append(Wire(link, node, Accepted(session), far))
            link.connected()
        node.end_turn()


def contents(node: Node) -> dict[tuple[int, bytes], tuple[object, int | None]]:
    """Every key with its value as DUMP would give it, and its deadline."""
    from node.persistence.rdb import encode_dump

    return {
        (db.index, key): (encode_dump(value), db.expires.get(key))
        for db in node.keyspace.databases
        for part in db.parts
        for key, value in part.items()
    }
