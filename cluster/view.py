"""What this node believes about the cluster: its nodes, their roles, slots, links and health.

Only the core changes a view, through the methods below, which keep the derived facts true:
`owner` (slot to node), `unassigned`, `voters`, each primary's `replicas`. Everybody else reads:
`owner[slot]` for routing, `nodes_text`, `slot_map`, `shards` and `info` for CLUSTER commands.
All times are in milliseconds of the `now` that is given to the core, 0 for never.
"""

from collections.abc import Iterator
from random import Random

from attrs import define, field

from cluster.message import TYPE_NAMES, Face
from cluster.slots import EVERY_SLOT, SLOTS, ranges, to_text

# Flags of a node, as the bus carries them.
PRIMARY = 1 << 0
REPLICA = 1 << 1
PFAIL = 1 << 2  # this node couldn't reach it for the node timeout
FAIL = 1 << 3  # a majority of the primaries couldn't
MYSELF = 1 << 4
HANDSHAKE = 1 << 5  # met, but its real id isn't known yet
NOADDR = 1 << 6
MEET = 1 << 7  # our first words to it are MEET
MIGRATE_TO = 1 << 8  # had replicas once, so it may get another's
NOFAILOVER = 1 << 9
EXTENSIONS = 1 << 10  # understands extensions of pings
LIGHT_PUBLISH = 1 << 11  # understands light PUBLISH
MY_PRIMARY_FAIL = 1 << 13  # a replica says: my primary is FAIL in my view

FLAG_WORDS = (
    (MYSELF, "myself"),
    (PRIMARY, "master"),
    (REPLICA, "slave"),
    (PFAIL, "fail?"),
    (FAIL, "fail"),
    (HANDSHAKE, "handshake"),
    (NOADDR, "noaddr"),
    (NOFAILOVER, "nofailover"),
)


def new_id(rng: Random) -> str:
    """A node or shard id: 40 hexadecimal digits."""
    return f"{rng.getrandbits(160):040x}"


@define(eq=False)
class Link:
    """One connection of the bus. `node` is unknown (None) till an inbound link's first message.

    `up` is False while an outbound link is being connected. `queued` is the driver's to fill:
    the bytes waiting to be sent, for CLUSTER LINKS.
    """

    id: int
    inbound: bool
    created: int
    node: "Node | None" = field(default=None, repr=False)
    up: bool = False
    peer_ip: str = ""
    local_ip: str = ""
    queued: int = 0


@define(eq=False)
class Node:
    """One node, this one included. The view's methods change role, replicas and slots."""

    id: str
    shard_id: str
    flags: int = 0
    ip: str = ""
    port: int = 0
    tls_port: int = 0
    bus_port: int = 0
    hostname: str = ""
    human_name: str = ""
    face: Face = field(factory=Face)
    primary: "Node | None" = field(default=None, repr=False)
    replicas: "list[Node]" = field(factory=list, repr=False)
    config_epoch: int = 0
    slots: int = field(default=0, repr=to_text)
    offset: int = 0
    created: int = 0
    # When the ping was sent that is still unanswered, and when the latest one was.
    ping_sent: int = 0
    pinged: int = 0
    pong_received: int = 0
    data_received: int = 0
    # When it last said what it serves.
    claims_heard: int = 0
    meet_sent: int = 0
    fail_time: int = 0
    # It had failed before this node started: nobody knows how long ago.
    failed_before: bool = False
    orphaned_since: int = 0
    inbound_lost: int = 0
    # When this node last gave it its vote.
    voted_at: int = 0
    connect_tried: int = 0
    link: Link | None = field(default=None, repr=False)
    inbound: Link | None = field(default=None, repr=False)
    # Has answered a ping of ours since we started, at its present address.
    proven: bool = False
    # Nobody listened at its address when it was called last: its process has ended.
    gone: bool = False
    # The last link to it broke as soon as it was made, and was made again at once.
    hurried: bool = False
    # Who reported it failing, and when.
    fail_reports: "dict[str, int]" = field(factory=dict)

    @property
    def is_primary(self) -> bool:
        return bool(self.flags & PRIMARY)

    @property
    def is_replica(self) -> bool:
        return bool(self.flags & REPLICA)

    @property
    def is_voter(self) -> bool:
        """Primaries with slots are the ones that count: for failures, votes and size."""
        return bool(self.flags & PRIMARY and self.slots)

    @property
    def failed(self) -> bool:
        return bool(self.flags & FAIL)

    @property
    def suspected(self) -> bool:
        return bool(self.flags & PFAIL)

    @property
    def in_handshake(self) -> bool:
        return bool(self.flags & HANDSHAKE)

    @property
    def has_address(self) -> bool:
        return not self.flags & NOADDR and self.ip != ""

    @property
    def connected(self) -> bool:
        return self.link is not None and self.link.up

    def ip_for(self, ipv6: bool) -> str:
        """Where clients that came by IPv6, or by IPv4, are to reach it."""
        return (self.face.ipv6 if ipv6 else self.face.ipv4) or self.ip

    @property
    def client_port(self) -> int:
        return self.face.port or self.port

    @property
    def label(self) -> str:
        """How log lines name it: its id, and its name or address."""
        return f"{self.id} ({self.human_name or f'{self.ip}:{self.port}'})"

    @property
    def flag_words(self) -> str:
        """Its flags as CLUSTER NODES and nodes.conf write them."""
        words = [word for flag, word in FLAG_WORDS if self.flags & flag]
        return ",".join(words) or "noflags"

    @property
    def serving_epoch(self) -> int:
        """The config epoch of the slots it serves: a replica's is its primary's."""
        return self.primary.config_epoch if self.primary is not None else self.config_epoch


@define(eq=False, repr=False)
class View:
    """The cluster as `myself` sees it. `nodes` holds every known node, myself first or not."""

    myself: Node
    current_epoch: int = 0
    last_vote_epoch: int = 0
    # Loaded from a nodes.conf that knew more than a fresh node: others may know better now.
    restarted: bool = False
    ok: bool = False
    nodes: dict[str, Node] = field(init=False)
    # The same nodes in a list, so that one can be drawn at random.
    order: list[Node] = field(init=False)
    owner: list[Node | None] = field(init=False, factory=lambda: [None] * SLOTS)
    unassigned: int = field(init=False, default=EVERY_SLOT)
    # Slots whose owner said it no longer serves them, while nobody else has claimed them.
    disclaimed: int = field(init=False, default=0)
    # Slots that my shard gave up as another's claim was greater, until that one is heard to serve
    # them: there may be keys of theirs here, maybe the only ones.
    ceded: int = field(init=False, default=0)
    voters: int = field(init=False, default=0)
    migrating: dict[int, Node] = field(init=False, factory=dict)
    importing: dict[int, Node] = field(init=False, factory=dict)
    links: dict[int, Link] = field(init=False, factory=dict)
    # The nodes that this node can't reach, while a majority hasn't judged them.
    suspects: dict[str, Node] = field(init=False, factory=dict)
    # Ids that were forgotten, with the time when they may come back.
    forgotten: dict[str, int] = field(init=False, factory=dict)
    sent: dict[str, int] = field(init=False, factory=dict)
    received: dict[str, int] = field(init=False, factory=dict)
    # Rises whenever slots, roles, addresses or failure flags change, so that answers made from
    # them can be kept.
    version: int = field(init=False, default=0)

    def __attrs_post_init__(self) -> None:
        self.nodes = {self.myself.id: self.myself}
        self.order = [self.myself]

    # ---- nodes

    def add(self, node: Node) -> Node:
        """Take in a node whose id isn't known yet."""
        assert node.id not in self.nodes
        self.nodes[node.id] = node
        self.order.append(node)
        self.set_flags(node, node.flags)
        self.version += 1
        return node

    def remove(self, node: Node) -> None:
        """Drop a node, its slots, its reports and whatever referred to it. Not its links."""
        assert node is not self.myself
        self.assign(node.slots, None)
        self.set_primary_of(node, None)
        for replica in list(node.replicas):
            replica.primary = None
        for other in self.order:
            other.fail_reports.pop(node.id, None)
        for moves in (self.migrating, self.importing):
            for slot in [slot for slot, other in moves.items() if other is node]:
                del moves[slot]
        del self.nodes[node.id]
        self.suspects.pop(node.id, None)
        self.order.remove(node)
        self.version += 1

    def rename(self, node: Node, node_id: str) -> None:
        """Give a node its real id, which nobody else has."""
        assert node_id not in self.nodes
        del self.nodes[node.id]
        self.suspects.pop(node.id, None)
        node.id = node_id
        self.nodes[node_id] = node
        self.set_flags(node, node.flags)
        self.version += 1

    def set_flags(self, node: Node, add: int = 0, remove: int = 0) -> bool:
        """Change flags that aren't a role; True if any changed."""
        before = node.flags
        node.flags = (before | add) & ~remove
        if node.flags & PFAIL:
            self.suspects[node.id] = node
        else:
            self.suspects.pop(node.id, None)
        changed = node.flags != before
        self.version += changed
        return changed

    def make_primary(self, node: Node) -> None:
        """A replica, or a node of no role yet, becomes a primary."""
        if node.is_primary:
            return
        if node.primary is not None and node is not self.myself:
            node.flags |= MIGRATE_TO
        self.set_primary_of(node, None)
        node.flags = node.flags & ~REPLICA | PRIMARY
        self.voters += bool(node.slots)
        self.version += 1

    def make_replica(self, node: Node, primary: Node | None) -> None:
        """A node becomes a replica; of whom may be unknown (None)."""
        if node.is_voter:
            self.voters -= 1
        node.flags = node.flags & ~(PRIMARY | MIGRATE_TO) | REPLICA
        self.set_primary_of(node, primary)
        self.version += 1

    def set_primary_of(self, node: Node, primary: Node | None) -> None:
        """Note whom a node replicates, on both sides."""
        if node.primary is not None:
            node.primary.replicas.remove(node)
            if not node.primary.replicas:
                node.primary.flags &= ~MIGRATE_TO
        node.primary = primary
        if primary is not None:
            primary.replicas.append(node)
            primary.flags |= MIGRATE_TO
        self.version += 1

    # ---- slots

    def assign(self, slots: int, node: Node | None) -> None:
        """Bind a set of slots to a node, or to nobody, whoever had them."""
        if not slots:
            return
        for loser in self.order:
            if loser is not node and loser.slots & slots:
                self._set_slots(loser, loser.slots & ~slots)
        if node is not None:
            first_ones = not node.slots
            self._set_slots(node, node.slots | slots)
            if node is self.myself:
                self.ceded &= ~slots
            # A new primary may be given replicas, in a cluster that has any.
            if first_ones and any(other.is_replica for other in self.order):
                node.flags |= MIGRATE_TO
        self.unassigned = self.unassigned | slots if node is None else self.unassigned & ~slots
        self.disclaimed &= ~slots
        for first, last in ranges(slots):
            self.owner[first : last + 1] = [node] * (last - first + 1)
        self.version += 1

    def _set_slots(self, node: Node, slots: int) -> None:
        was = node.is_voter
        node.slots = slots
        self.voters += node.is_voter - was

    @property
    def unclaimed(self) -> int:
        """Slots that any primary may claim, whatever its epoch."""
        return self.unassigned | self.disclaimed

    @property
    def quorum(self) -> int:
        """How many voters are a majority."""
        return self.voters // 2 + 1

    @property
    def serving(self) -> Node:
        """Who serves the slots of my shard: my primary if I know one, else myself."""
        return self.myself.primary or self.myself

    def same_shard(self, one: Node, other: Node) -> bool:
        return one.shard_id == other.shard_id

    def max_epoch(self) -> int:
        """The greatest epoch that anybody is known to have."""
        return max(self.current_epoch, *(node.config_epoch for node in self.order))

    def report_count(self, node: Node, now: int, validity_ms: int) -> int:
        """How many reports of its failure are still valid; the others are dropped."""
        reports = node.fail_reports
        for reporter in [who for who, when in reports.items() if now - when > validity_ms]:
            del reports[reporter]
        return len(reports)

    # ---- what CLUSTER commands show

    def others(self) -> Iterator[Node]:
        return (node for node in self.order if node is not self.myself)

    def slot_map(self) -> list[tuple[int, int, Node, list[Node]]]:
        """CLUSTER SLOTS: (first, last, primary, its replicas that aren't failed), ascending."""
        found = [
            (first, last, node, [replica for replica in node.replicas if not replica.failed])
            for node in self.order
            for first, last in ranges(node.slots)
        ]
        return sorted(found, key=lambda entry: entry[0])

    def shards(self) -> list[tuple[int, list[Node]]]:
        """CLUSTER SHARDS: (set of slots, nodes with the primary first) per shard."""
        groups: dict[str, list[Node]] = {}
        for node in self.order:
            if not node.in_handshake:
                groups.setdefault(node.shard_id, []).append(node)
        for nodes in groups.values():
            nodes.sort(key=lambda node: not node.is_primary)
        return [(sum(node.slots for node in nodes), nodes) for nodes in groups.values()]

    def describe(self, node: Node, ipv6: bool = False) -> str:
        """One line of CLUSTER NODES, as Redis 7 writes it, for clients of IPv6 or of IPv4."""
        hostname = f",{node.hostname}" if node.hostname else ""
        place = f"{node.ip_for(ipv6)}:{node.client_port}@{node.bus_port}"
        return self.line(node, place + hostname)

    def line(self, node: Node, place: str) -> str:
        """The fields that CLUSTER NODES and nodes.conf share, after where it is."""
        is_up = node is self.myself or node.connected
        primary = node.primary.id if node.primary is not None else "-"
        fields = [
            node.id,
            place,
            node.flag_words,
            primary,
            str(node.ping_sent),
            str(node.pong_received),
            str(node.serving_epoch),
            "connected" if is_up else "disconnected",
        ]
        if node.slots:
            fields.append(to_text(node.slots))
        if node is self.myself:
            fields += [f"[{slot}->-{other.id}]" for slot, other in self.migrating.items()]
            fields += [f"[{slot}-<-{other.id}]" for slot, other in self.importing.items()]
        return " ".join(fields)

    def nodes_text(self, ipv6: bool = False) -> str:
        """CLUSTER NODES: a line per node."""
        return "".join(f"{self.describe(node, ipv6)}\n" for node in self.order)

    def info(self) -> list[tuple[str, str | int]]:
        """CLUSTER INFO: the fields in Redis's order."""
        failed = sum(node.slots.bit_count() for node in self.order if node.failed)
        doubtful = sum(node.slots.bit_count() for node in self.order if node.suspected)
        assigned = SLOTS - self.unassigned.bit_count()
        fields: list[tuple[str, str | int]] = [
            ("cluster_state", "ok" if self.ok else "fail"),
            ("cluster_slots_assigned", assigned),
            ("cluster_slots_ok", assigned - failed - doubtful),
            ("cluster_slots_pfail", doubtful),
            ("cluster_slots_fail", failed),
            ("cluster_nodes_pfail", sum(node.suspected for node in self.order)),
            ("cluster_nodes_fail", sum(node.failed for node in self.order)),
            ("cluster_voting_nodes_pfail", self._count_voters(PFAIL)),
            ("cluster_voting_nodes_fail", self._count_voters(FAIL)),
            ("cluster_known_nodes", len(self.nodes)),
            ("cluster_size", self.voters),
            ("cluster_current_epoch", self.current_epoch),
            ("cluster_my_epoch", self.myself.serving_epoch),
        ]
        for counts, direction in ((self.sent, "sent"), (self.received, "received")):
            fields += [
                (f"cluster_stats_messages_{kind}_{direction}", counts[kind])
                for kind in TYPE_NAMES
                if kind in counts
            ]
            fields.append((f"cluster_stats_messages_{direction}", sum(counts.values())))
        return fields

    def _count_voters(self, flag: int) -> int:
        return sum(bool(node.is_voter and node.flags & flag) for node in self.order)

    def check(self) -> None:
        """Assert everything that must always hold between the parts."""
        assert self.order == list(dict.fromkeys(self.order))
        assert {node.id: node for node in self.order} == self.nodes
        seen = 0
        for node in self.order:
            assert not node.slots & seen, "a slot with two owners"
            seen |= node.slots
            for replica in node.replicas:
                assert replica.primary is node
            if node.primary is not None:
                assert node in node.primary.replicas and not node.is_primary
            for link in (node.link, node.inbound):
                assert link is None or self.links[link.id] is link
        assert list(self.suspects.values()) == [
            self.nodes[node_id] for node_id in self.suspects
        ] and set(self.suspects) == {node.id for node in self.order if node.suspected}
        assert self.unassigned == EVERY_SLOT & ~seen
        for owner, slots in [(None, self.unassigned), *((n, n.slots) for n in self.order)]:
            for first, last in ranges(slots):
                assert self.owner[first : last + 1].count(owner) == last + 1 - first
        assert self.voters == sum(node.is_voter for node in self.order)
