"""What this node says: headers, pings with their gossip, and messages to one or to all."""

from cluster import message as m
from cluster.desk import Desk
from cluster.effects import PublishAll
from cluster.message import Extensions, Gossip, Header, Message, Ping
from cluster.view import (
    EXTENSIONS,
    LIGHT_PUBLISH,
    MY_PRIMARY_FAIL,
    Link,
    Node,
)

LEAST_GOSSIP = 3
# A ping tells of every node in doubt, up to this many: more are told of by the next ones.
MOST_SUSPECTS = 500


class Speaker:
    """Builds messages from the view and the facts, and lays them on the desk."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        # While a manual failover runs here, a primary's messages say that it is paused.
        self.paused = False

    def header(self, message_flags: int = 0) -> Header:
        """What every message says about this node; a replica tells its primary's slots."""
        desk, myself, options = self.desk, self.desk.myself, self.desk.options
        serving = desk.view.serving
        if self.paused and myself.is_primary:
            message_flags |= m.PAUSED
        return Header(
            sender=myself.id,
            current_epoch=desk.view.current_epoch,
            config_epoch=serving.config_epoch,
            offset=desk.facts.offset,
            slots=serving.slots,
            primary=myself.primary.id if myself.primary is not None else "",
            ip=options.ip,
            port=options.port,
            tls_port=options.tls_port,
            bus_port=options.bus_port,
            flags=self._flags_of_mine(),
            failing=not desk.view.ok,
            message_flags=message_flags,
        )

    def _flags_of_mine(self) -> int:
        myself = self.desk.myself
        flags = myself.flags | EXTENSIONS | LIGHT_PUBLISH
        if myself.primary is not None and myself.primary.failed:
            flags |= MY_PRIMARY_FAIL
        return flags

    def ping(self, link: Link | None, kind: int = m.PING) -> None:
        """Send PING, PONG or MEET on a link, with gossip about others than its other end."""
        if link is None or not link.up:
            return
        node = link.node
        if node is not None and not link.inbound:
            if kind == m.PING:
                # What is still unanswered keeps its age.
                node.ping_sent = node.ping_sent or self.desk.now
                node.pinged = self.desk.now
            elif kind == m.MEET:
                node.meet_sent = self.desk.now
        extensions = None
        if node is not None and node.flags & EXTENSIONS:
            extensions = self._extensions()
        # The flag tells that this node would understand extensions, even when there are none.
        header = self.header(m.EXTENSION_DATA)
        self.desk.send(link, Ping(kind, header, self._gossip(node), extensions))

    def _extensions(self) -> Extensions:
        now = self.desk.now
        forgotten = [
            (node_id, (until - now) // 1000)
            for node_id, until in self.desk.view.forgotten.items()
            if until > now
        ]
        options = self.desk.options
        names = (options.hostname, options.human_name)
        shard_id = self.desk.myself.shard_id
        return Extensions(shard_id, *names, tuple(forgotten), options.face)

    def _gossip(self, receiver: Node | None) -> tuple[Gossip, ...]:
        """A tenth of the nodes drawn at random, at least three, and all that are in doubt."""
        view, rng = self.desk.view, self.desk.rng
        wanted = min(max(LEAST_GOSSIP, len(view.order) // 10), len(view.order) - 2)
        chosen: dict[str, Node] = {}
        for _ in range(3 * max(wanted, 0)):
            if len(chosen) >= wanted:
                break
            node = rng.choice(view.order)
            if node is not receiver and not node.suspected and self._worth_telling(node):
                chosen[node.id] = node
        suspects = [node for node in view.suspects.values() if self._worth_telling(node)]
        told = [*chosen.values(), *suspects[:MOST_SUSPECTS]]
        return tuple(self._entry(node) for node in told)

    def _worth_telling(self, node: Node) -> bool:
        if node is self.desk.myself or node.in_handshake or not node.has_address:
            return False
        return node.connected or node.slots != 0 or node.suspected

    @staticmethod
    def _entry(node: Node) -> Gossip:
        return Gossip(
            node_id=node.id,
            ping_sent=node.ping_sent // 1000,
            pong_received=node.pong_received // 1000,
            ip=node.ip,
            port=node.port,
            bus_port=node.bus_port,
            flags=node.flags & 0xFFFF,
            tls_port=node.tls_port,
        )

    def to_all(self, message: Message) -> None:
        """Send one message to every node that has been introduced."""
        for node in self.desk.view.others():
            if not node.in_handshake:
                self.desk.send(node.link, message)

    def pong_all(self) -> None:
        """Tell everybody how this node stands now."""
        for node in self.desk.view.others():
            if not node.in_handshake:
                self.ping(node.link, m.PONG)

    def pong_siblings(self) -> None:
        """Tell the other replicas of this node's primary its offset."""
        primary = self.desk.myself.primary
        if primary is not None:
            for node in primary.replicas:
                if node is not self.desk.myself:
                    self.ping(node.link, m.PONG)

    def pong_replicas(self) -> None:
        """Tell this node's replicas its epoch: voters who know it deny one that names an older."""
        for node in self.desk.myself.replicas:
            self.ping(node.link, m.PONG)

    def pong_judges(self) -> None:
        """Tell those whose judgement counts, and the replicas that wait for it, whom I suspect."""
        for node in self.desk.view.others():
            waits = node.primary is not None and node.primary.suspected
            if node.is_voter or waits:
                self.ping(node.link, m.PONG)

    def reply(self, node: Node, message: Message) -> None:
        """Answer a node by our own link to it, or by its link to us while ours is down."""
        self.desk.send(node.link if node.connected else node.inbound, message)

    def update(self, node: Node, owner: Node) -> None:
        """Tell a node who owns slots that it wrongly claims."""
        slots = owner.slots & ~self.desk.view.disclaimed
        self.reply(node, m.Update(self.header(), owner.id, owner.config_epoch, slots))

    def publish(self, request: PublishAll) -> None:
        """Give a published message to everybody, or to this node's shard."""
        channel, payload, sharded = request.channel, request.payload, request.sharded
        light = m.Publish(None, channel, payload, sharded)
        whole = m.Publish(self.header(), channel, payload, sharded)
        view = self.desk.view
        for node in view.others():
            if not node.in_handshake and (not sharded or view.same_shard(node, view.myself)):
                self.desk.send(node.link, light if node.flags & LIGHT_PUBLISH else whole)
