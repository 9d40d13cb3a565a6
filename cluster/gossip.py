"""Meeting, links and pings: how nodes come to know each other and keep in touch.

Each node opens one link to every other and pings on it; it answers on the links that others
opened. A node that is told to MEET another knows only an address: it keeps a node with a made-up
id in handshake until the answer tells the real one. The met one does the same the other way
round, and from then on the gossip of known nodes introduces the rest, with their real ids.

Once a second the one of five random nodes that was heard of longest ago is pinged, and any node
not heard of for a quarter of the node timeout (Redis waits for half of it, and so suspects a node
that is silent later; in a large cluster, where that would cost as much again, so do we). A link
on which nothing came for half the node timeout although an answer is due is opened anew, in case
only the connection is broken.
"""

from collections.abc import Iterable
from ipaddress import ip_address

from cluster import message as m
from cluster.desk import Desk
from cluster.effects import Close, ClusterError, Connect, Meet
from cluster.failure import Failure
from cluster.message import Gossip as Entry
from cluster.message import Header, Ping
from cluster.speaker import Speaker
from cluster.view import (
    EXTENSIONS,
    FAIL,
    HANDSHAKE,
    LIGHT_PUBLISH,
    MEET,
    MY_PRIMARY_FAIL,
    NOADDR,
    NOFAILOVER,
    PFAIL,
    PRIMARY,
    REPLICA,
    Link,
    Node,
)

PING_PERIOD = 1000
DRAWN = 5
SMALL_CLUSTER = 16  # nodes
RECONNECT_PERIOD = 100
SHORTEST_HANDSHAKE = 1000
# What a node says about itself and is believed; and of what others say about it.
SELF_REPORTED = NOFAILOVER | LIGHT_PUBLISH | MY_PRIMARY_FAIL
HEARSAY = PRIMARY | REPLICA | FAIL | NOFAILOVER | EXTENSIONS | LIGHT_PUBLISH


class Gossip:
    """Links, handshakes, pings and what they say of third nodes."""

    def __init__(self, desk: Desk, speaker: Speaker, failure: Failure) -> None:
        self.desk = desk
        self.speaker = speaker
        self.failure = failure
        self._next_draw = 0

    # ---- links

    def accept(self, peer_ip: str, local_ip: str) -> Link:
        """Somebody has connected to this node's bus port."""
        return self._new_link(Link(0, True, 0, None, True, peer_ip, local_ip))

    def connect(self, node: Node) -> None:
        """Open this node's own link to another, unless there is one."""
        if node is self.desk.myself or node.link is not None or not node.has_address:
            return
        node.connect_tried = self.desk.now
        # Whoever can't even be connected to owes an answer since now.
        node.ping_sent = node.ping_sent or self.desk.now
        node.link = self._new_link(Link(0, False, 0, node))
        self.desk.do(Connect(node.link.id, node.ip, node.bus_port))

    def _new_link(self, link: Link) -> Link:
        desk = self.desk
        link.id, link.created = desk.next_link, desk.now
        desk.next_link += 1
        desk.view.links[link.id] = link
        return link

    def link_up(self, link: Link) -> None:
        """A link of ours is there: ping at once, or MEET if this is how we get in."""
        node = link.node
        assert node is not None
        link.up = True
        node.gone = False
        self.speaker.ping(link, m.MEET if node.flags & MEET else m.PING)

    def link_down(self, link: Link) -> None:
        """A link ended, or couldn't be opened. One that worked is opened again at once."""
        node, was_up = link.node, link.up
        self._drop(link)
        if node is None or link.inbound:
            return
        hasty = self.desk.now - node.connect_tried < RECONNECT_PERIOD
        # A dying process may lose its links before its port: then the next one is accepted, and
        # broken when the port goes. So one more is tried at once.
        if was_up and not (hasty and node.hurried):
            node.hurried = hasty
            self.connect(node)

    def close(self, link: Link | None) -> None:
        """End a link from our side."""
        if link is not None:
            self._drop(link)
            self.desk.do(Close(link.id))

    def _drop(self, link: Link) -> None:
        self.desk.view.links.pop(link.id, None)
        node = link.node
        link.up = False
        if node is not None and node.link is link:
            node.link = None
        if node is not None and node.inbound is link:
            node.inbound = None
            node.inbound_lost = self.desk.now

    def _bind(self, link: Link, node: Node) -> None:
        """Remember who is at the other end of an inbound link; there is one per node."""
        if link.node is node:
            return
        if link.node is not None and link.node.inbound is link:
            link.node.inbound = None
        if node.inbound is not None:
            self.close(node.inbound)
        link.node, node.inbound = node, link

    def sender_of(self, link: Link, header: Header | None) -> Node | None:
        """Who sent a message: by its header, or for a light one by its link. None if unknown."""
        if header is None:
            node = link.node
            return node if node is not None and not node.in_handshake else None
        node = self.desk.view.nodes.get(header.sender)
        if node is not None and node is not self.desk.myself and link.inbound:
            self._bind(link, node)
        return node

    # ---- nodes coming and going

    def meet(self, request: Meet) -> None:
        """CLUSTER MEET: start a handshake with whoever answers at an address."""
        address = f"{request.ip}:{request.port}"
        try:
            ip = str(ip_address(request.ip))
        except ValueError:
            raise ClusterError(f"ERR Invalid node address specified: {address}") from None
        if not (0 < request.port < 65536 and 0 < request.bus_port < 65536):
            raise ClusterError(f"ERR Invalid node address specified: {address}")
        self.desk.log("notice", f"Cluster meet {address}.")
        if not self._handshake_with(ip, request.port, request.bus_port):
            self._introduce(ip, request.port, 0, request.bus_port, HANDSHAKE | MEET)

    def _handshake_with(self, ip: str, port: int, bus_port: int) -> bool:
        return any(
            node.in_handshake and (node.ip, node.port, node.bus_port) == (ip, port, bus_port)
            for node in self.desk.view.others()
        )

    def _introduce(
        self, ip: str, port: int, tls_port: int, bus_port: int, flags: int, node_id: str = ""
    ) -> Node:
        """Take in a node and open our link to it; without an id it gets one for the time."""
        desk = self.desk
        node = Node(
            node_id or desk.new_id(),
            desk.new_id(),
            flags=flags,
            ip=ip,
            port=port,
            tls_port=tls_port,
            bus_port=bus_port,
            created=desk.now,
            inbound_lost=desk.now,
        )
        desk.view.add(node)
        desk.changed()
        self.connect(node)
        return node

    def remove(self, node: Node) -> None:
        """Drop a node and its links."""
        self.close(node.link)
        self.close(node.inbound)
        self.desk.view.remove(node)
        self.desk.changed()

    def forget(self, node: Node, ttl_ms: int) -> None:
        """Drop a node and don't let gossip bring it back for a time."""
        self.desk.view.forgotten[node.id] = self.desk.now + ttl_ms
        self.desk.event("forgotten", node)
        self.remove(node)

    def is_forgotten(self, node_id: str) -> bool:
        """Whether a node was forgotten and may not yet come back."""
        forgotten, now = self.desk.view.forgotten, self.desk.now
        for expired in [who for who, until in forgotten.items() if until <= now]:
            del forgotten[expired]
        return node_id in forgotten

    # ---- PING, PONG, MEET

    def on_ping(self, link: Link, sender: Node | None, message: Ping) -> Node | None:
        """Answer a ping, finish a handshake, note who is there and what it says of others.

        Gives the sender if it is known now, so that its role and slots can be looked at, else
        None: nothing else of such a message counts.
        """
        if message.kind != m.PONG:
            self._learn_own_ip(link, message.kind)
            if message.kind == m.MEET:
                self._let_in(link, sender, message)
            self._note_extensions(link, message)
            self.speaker.ping(link, m.PONG)
        if not link.inbound:
            sender = self._check_identity(link, sender, message)
        if sender is None or sender.in_handshake or sender is self.desk.myself:
            return None
        said = message.header.flags & SELF_REPORTED
        self.desk.view.set_flags(sender, said, MEET | (SELF_REPORTED & ~said))
        self._note_extensions(link, message)
        if message.kind == m.PING:
            self._follow_address(link, sender, message.header)
        if message.kind == m.PONG and not link.inbound:
            self.failure.answered(sender)
        return sender

    def _note_extensions(self, link: Link, message: Ping) -> None:
        if link.node is not None and message.header.message_flags & m.EXTENSION_DATA:
            self.desk.view.set_flags(link.node, add=EXTENSIONS)

    def _learn_own_ip(self, link: Link, kind: int) -> None:
        """The address by which another reached this node is the one to be known by."""
        desk, myself = self.desk, self.desk.myself
        if desk.options.ip or not link.local_ip or link.local_ip == myself.ip:
            return
        if kind == m.MEET or not myself.ip:
            myself.ip = link.local_ip
            desk.view.version += 1
            desk.log("notice", f"IP address for this node updated to {myself.ip}")
            desk.changed()

    def _let_in(self, link: Link, sender: Node | None, message: Ping) -> None:
        """Somebody asks to be let in: shake hands with a stranger."""
        header = message.header
        if sender is not None:
            if sender.link is not None and self._timed_out(sender.created):
                # It asks as if we had never met: let it see a new link of ours.
                self.close(sender.link)
                self.connect(sender)
        elif link.node is None:
            ip = header.ip or link.peer_ip
            if not self._handshake_with(ip, header.port, header.bus_port):
                node = self._introduce(ip, header.port, header.tls_port, header.bus_port, HANDSHAKE)
                self._bind(link, node)

    def _check_identity(self, link: Link, sender: Node | None, message: Ping) -> Node | None:
        """Who answers on our own link: the end of a handshake, or not whom we thought."""
        node = link.node
        assert node is not None
        if node.in_handshake:
            return self._end_handshake(node, sender, message)
        if node is not sender:
            self._lost_identity(link, node)
            return None
        return sender

    def _end_handshake(self, node: Node, sender: Node | None, message: Ping) -> Node | None:
        desk, header = self.desk, message.header
        if sender is not None:
            self._end_needless_handshake(node, sender, header)
            return None
        desk.view.forgotten.pop(header.sender, None)
        desk.view.rename(node, header.sender)
        role = REPLICA if header.primary else PRIMARY
        desk.view.set_flags(node, add=role | EXTENSIONS * bool(header.message_flags & 4))
        desk.view.set_flags(node, remove=HANDSHAKE)
        desk.log("debug", f"Handshake with node {node.label} completed.")
        desk.event("joined", node)
        desk.changed()
        return node

    def _end_needless_handshake(self, node: Node, sender: Node, header: Header) -> None:
        """The one we met is known already: by another address, or it is this node itself."""
        if sender is not self.desk.myself:
            self.desk.log(
                "verbose",
                f"Handshake: we already know node {sender.label}, updating the address if needed.",
            )
            self._move(sender, node.ip, header)
            if node.inbound is not None and sender.inbound is None:
                self._bind(node.inbound, sender)
        self.remove(node)

    def _lost_identity(self, link: Link, node: Node) -> None:
        """Another node answers at this one's address: nobody knows where it is now."""
        desk = self.desk
        desk.log(
            "notice",
            f"PONG contains mismatching sender ID. About node {node.label} in shard "
            f"{node.shard_id} added {desk.now - node.created} ms ago, having flags {node.flags}",
        )
        desk.view.set_flags(node, add=NOADDR)
        node.ip, node.port, node.tls_port, node.bus_port = "", 0, 0, 0
        node.proven = False
        self.close(link)
        if not node.failed:
            self.failure.fail(node, desk.myself.id)
            self.speaker.to_all(m.Fail(self.speaker.header(), node.id))

    def _follow_address(self, link: Link, sender: Node, header: Header) -> None:
        """A ping on a link that the sender opened tells where it can be reached."""
        ip = header.ip or link.peer_ip
        if link.inbound and ip:
            self._move(sender, ip, header)

    def _move(self, node: Node, ip: str, header: Header) -> None:
        """Note a node's address; a link to an old one is given up."""
        old = (node.ip, node.port, node.tls_port, node.bus_port)
        new = (ip, header.port, header.tls_port, header.bus_port)
        if old == new:
            return
        node.ip, node.port, node.tls_port, node.bus_port = new
        self.desk.view.set_flags(node, remove=NOADDR)
        self.desk.view.version += 1
        self.desk.log("notice", f"Address updated for node {node.label}, now {ip}:{header.port}")
        self.desk.changed()
        if (old[0], old[3]) != (new[0], new[3]):
            node.proven = False
            self.close(node.link)
            self.connect(node)

    # ---- what a ping says of third nodes

    def hear(self, sender: Node, message: Ping) -> None:
        """Take in the gossip and the extensions of a known node's ping."""
        for entry in message.gossip:
            node = self.desk.view.nodes.get(entry.node_id)
            if node is None:
                self._hear_of_new(entry)
            elif node is not self.desk.myself:
                self._hear_of_known(sender, node, entry)
        if message.header.message_flags & m.EXTENSION_DATA:
            self._hear_extensions(sender, message.extensions or m.Extensions())

    def _hear_of_new(self, entry: Entry) -> None:
        if entry.flags & (NOADDR | HANDSHAKE) or not entry.ip or self.is_forgotten(entry.node_id):
            return
        node = self._introduce(
            entry.ip,
            entry.port,
            entry.tls_port,
            entry.bus_port,
            entry.flags & HEARSAY,
            entry.node_id,
        )
        if node.failed:
            node.fail_time = self.desk.now
        self.desk.event("joined", node)

    def _hear_of_known(self, sender: Node, node: Node, entry: Entry) -> None:
        failing = bool(entry.flags & (FAIL | PFAIL))
        self.failure.reported(node, sender, failing)
        if failing:
            return
        if node.ping_sent == 0 and not node.fail_reports:
            # Another heard from it more lately than we did: that will do for us too.
            heard = entry.pong_received * 1000
            if node.pong_received < heard <= self.desk.now + 500:
                node.pong_received = heard
        old = (node.ip, node.port, node.bus_port)
        if (
            node.flags & (FAIL | PFAIL)
            and entry.ip
            and not entry.flags & NOADDR
            and old != (entry.ip, entry.port, entry.bus_port)
        ):
            moved = Header(
                node.id, port=entry.port, tls_port=entry.tls_port, bus_port=entry.bus_port
            )
            self._move(node, entry.ip, moved)

    def _hear_extensions(self, sender: Node, extensions: m.Extensions) -> None:
        desk = self.desk
        self._forget_alike(extensions.forgotten)
        names = (extensions.hostname, extensions.human_name, extensions.face)
        if names != (sender.hostname, sender.human_name, sender.face):
            sender.hostname, sender.human_name, sender.face = names
            desk.view.version += 1
            desk.changed()
        shard_id = extensions.shard_id
        if sender.primary is not None:
            # It tells what it believes, and a primary of Redis 7.0 tells nothing.
            shard_id = sender.primary.shard_id
        if shard_id and shard_id != sender.shard_id:
            self._set_shard(sender, shard_id)

    def _set_shard(self, sender: Node, shard_id: str) -> None:
        """A node tells its shard; replicas share their primary's, be it that those can't tell."""
        for node in (sender, *sender.replicas):
            node.shard_id = shard_id
        self.desk.view.version += 1
        self.desk.changed()

    def _forget_alike(self, forgotten: Iterable[tuple[str, int]]) -> None:
        """Forget whom another was told to forget, but neither myself nor my primary."""
        for node_id, ttl_s in forgotten:
            node = self.desk.view.nodes.get(node_id)
            if node is not None and node not in (self.desk.myself, self.desk.myself.primary):
                self.forget(node, min(ttl_s, 86400) * 1000)

    # ---- as time passes

    def tick(self) -> None:
        """Reopen links, drop handshakes that came to nothing, ping, and notice silence."""
        myself = self.desk.myself
        for node in list(self.desk.view.order):
            if node is myself:
                continue
            if node.flags & HANDSHAKE and self._timed_out(node.created):
                self.desk.log("warning", f"Clusterbus handshake timeout {node.ip}:{node.bus_port}")
                self.remove(node)
                continue
            if node.link is None or node.inbound is None:
                self._keep_link(node)
            if not node.flags & (HANDSHAKE | NOADDR) and node.ip:
                self._keep_touch(node)
        self._ping_one_of_few()

    def _handshake_timeout(self) -> int:
        return max(self.desk.options.node_timeout, SHORTEST_HANDSHAKE)

    def _timed_out(self, since: int) -> bool:
        return self.desk.now - since > self._handshake_timeout()

    def _keep_link(self, node: Node) -> None:
        if node.link is None and self.desk.now - node.connect_tried >= RECONNECT_PERIOD:
            self.connect(node)
        # We know it but it has no link to us: it may never have heard of us.
        settled = not node.flags & (HANDSHAKE | MEET | PFAIL | FAIL)
        unheard = node.connected and node.inbound is None and self._timed_out(node.inbound_lost)
        if settled and unheard and self._timed_out(node.meet_sent):
            self.desk.view.set_flags(node, add=MEET)
            self.desk.log(
                "notice",
                f"Sending MEET packet to node {node.label} because there is no inbound link for it",
            )
            self.speaker.ping(node.link, m.MEET)

    def _keep_touch(self, node: Node) -> None:
        now, timeout = self.desk.now, self.desk.options.node_timeout
        if not node.ping_sent:
            few = len(self.desk.view.order) <= SMALL_CLUSTER
            if now - node.pong_received > timeout // (4 if few else 2) and node.connected:
                self.speaker.ping(node.link)
            return
        link = node.link
        silent = now - max(node.ping_sent, node.data_received)
        if link is not None and now - link.created > timeout and silent > timeout // 2:
            self.close(link)
        # A ping may get lost: while others of its node's messages come, it is repeated.
        if node.connected and now - node.pinged > timeout // 2:
            self.speaker.ping(node.link)
        self.failure.check_silence(node)

    def _ping_one_of_few(self) -> None:
        """Once a second, ping the one of five random nodes that answered longest ago."""
        now, view, rng = self.desk.now, self.desk.view, self.desk.rng
        if now < self._next_draw:
            return
        self._next_draw = now + (self.desk.options.ping_interval or PING_PERIOD)
        drawn = [rng.choice(view.order) for _ in range(DRAWN)]
        idle = [
            node
            for node in drawn
            if node.connected and not node.ping_sent and not node.in_handshake
        ]
        if idle:
            self.speaker.ping(min(idle, key=lambda node: node.pong_received).link)
