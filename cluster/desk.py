"""The desk at which the deciders sit: what they all read, and where they lay what they decide.

The core opens it at the start of a call and clears it at the end. Deciders change the view at
once, lay effects on it in order, and set the notes (`announce`, `report` ...) for what should be
done once at the end of the call, whoever and how many asked for it.
"""

from random import Random

from attrs import define, field

from cluster.effects import ClusterError, Effect, Event, Log, Send
from cluster.message import TYPE_NAMES, Face, Message
from cluster.view import Link, Node, View, new_id


@define
class Options:
    """The directives that the core obeys; the driver may change them between calls.

    Times are in milliseconds. `port`, `tls_port` and `bus_port` are those to announce; `ip`,
    `hostname`, `human_name` and what `face` holds are announced if not empty.
    """

    port: int = 6379
    bus_port: int = 16379
    tls_port: int = 0
    ip: str = ""
    hostname: str = ""
    human_name: str = ""
    face: Face = field(factory=Face)
    node_timeout: int = 15000
    ping_interval: int = 0
    report_refused: bool = True
    require_full_coverage: bool = True
    migration_barrier: int = 1
    allow_replica_migration: bool = True
    replica_validity_factor: int = 10
    replica_no_failover: bool = False
    replica_ping_period: int = 10000
    manual_failover_timeout: int = 5000
    blacklist_ttl: int = 60000
    # How long a primary that was restarted waits before it serves, so that it can be told news.
    writable_delay: int = 2000
    # Bounds of the node timeout when it serves as the delay after a minority partition.
    rejoin_delay_min: int = 500
    rejoin_delay_max: int = 5000
    replica_migration_delay: int = 5000


@define
class Facts:
    """What the driver tells about the node before each call.

    `offset` is the replication offset: written as a primary, applied as a replica. `data_age` is
    how many ms ago the replication link last brought anything from the present primary, or None
    if it never did since this node started to follow it. `keys` is how many keys there are.
    `exported` and `imported` are the slots on their way from or to this node as a whole.
    """

    offset: int = 0
    data_age: int | None = None
    keys: int = 0
    exported: int = 0
    imported: int = 0


@define(eq=False)
class Desk:
    """Shared by the deciders of one core. `now` is in ms of Unix time."""

    view: View
    options: Options
    facts: Facts
    rng: Random
    now: int = 0
    effects: list[Effect] = field(factory=list)
    next_link: int = 1
    # Notes for the end of the call.
    dirty: bool = False
    must_save: bool = False
    must_sync: bool = False
    announce: bool = False
    report: bool = False
    check_state: bool = False
    check_failover: bool = False
    role_changed: bool = False

    @property
    def myself(self) -> Node:
        return self.view.myself

    def do(self, effect: Effect) -> None:
        """Lay down an effect."""
        self.effects.append(effect)

    def log(self, level: str, text: str) -> None:
        self.effects.append(Log(level, text))

    def event(self, kind: str, node: Node, detail: str = "") -> None:
        self.effects.append(Event(kind, node.id, detail))

    def changed(self, sync: bool = False, save: bool = False) -> None:
        """Something that nodes.conf holds was changed. With `sync` it is this node's own promise,
        slots or role, which others rely on, and with `save` what must at least outlive this
        process; without, news of others that could be heard again.
        """
        self.dirty = True
        self.must_save |= save or sync
        self.must_sync |= sync
        self.check_state = True

    def send(self, link: Link | None, message: Message) -> None:
        """Send on a link, if there is one and it is up."""
        if link is None or not link.up:
            return
        kind = TYPE_NAMES[message.kind]
        self.view.sent[kind] = self.view.sent.get(kind, 0) + 1
        self.effects.append(Send(link.id, message))

    def known(self, node_id: str) -> Node:
        """The node of this id; ClusterError if there is none."""
        node = self.view.nodes.get(node_id)
        if node is None or node.in_handshake:
            raise ClusterError(f"ERR Unknown node {node_id}")
        return node

    def new_id(self) -> str:
        """An id that no node here has."""
        while (node_id := new_id(self.rng)) in self.view.nodes:
            pass
        return node_id
