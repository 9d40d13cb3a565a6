"""CLUSTER ASKING READONLY READWRITE."""

from collections.abc import Callable
from typing import Any

from cluster import effects as fx
from cluster.directives import BUS_OFFSET
from cluster.routing import Routing
from cluster.slots import SLOTS, key_slot, ranges
from cluster.view import Link
from cluster.view import Node as Peer
from node.command import (
    ADMIN,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NOSCRIPT,
    STALE,
    Handler,
    command,
)
from node.commands.arguments import integer
from node.commands.help import help_text
from node.replies import OK, SYNTAX, ReplyError, Status, Verbatim, wrong_arity
from node.session import Session, session_gate

DISABLED = ReplyError(b"ERR This instance has cluster support disabled")
INVALID_SLOT = ReplyError(b"ERR Invalid or out of range slot")
INVALID_SETSLOT = ReplyError(
    b"ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP"
)
_CHANGES = ADMIN | STALE | NO_ASYNC_LOADING
_VARIES = (b"nondeterministic_output",)
_OF_NODES = "O(N) where N is the number of nodes"
_OF_SLOTS = "O(N) where N is the number of slots given"


_Handler = Callable[[Routing, Session, list[bytes]], Any]


def _clustered(handler: _Handler) -> Handler:
    """A handler that only makes sense in a cluster: it gets the routing as well."""

    def checked(session: Session, args: list[bytes]) -> Any:
        routing = session.node.topology
        if not isinstance(routing, Routing):
            raise DISABLED
        try:
            return handler(routing, session, args)
        except fx.ClusterError as refusal:
            raise ReplyError(str(refusal).encode()) from None

    checked.__doc__ = handler.__doc__
    return checked


def _simple(usage: str, complexity: str = "O(1)", flags: int = _CHANGES, **more: Any) -> Any:
    """The table row of a CLUSTER subcommand; they have much in common."""
    more = {"since": "3.0.0", "keys": ()} | more

    def enter(handler: _Handler) -> _Handler:
        entry = command(usage, flags=flags, group="cluster", complexity=complexity, **more)
        entry(_clustered(handler))
        return handler

    return enter


@command(
    "CLUSTER",
    flags=0,
    group="cluster",
    since="3.0.0",
    arity=-2,
    complexity="Depends on subcommand.",
)
def cluster(session: Session, args: list[bytes]):
    """Everything about the cluster this node is in."""
    raise wrong_arity(b"cluster")


# --- who is who -----------------------------------------------------------------------------------


@_simple("CLUSTER MYID", flags=LOADING | STALE)
def my_id(routing: Routing, session: Session, args: list[bytes]):
    """The id of this node."""
    return routing.view.myself.id.encode()


@_simple("CLUSTER MYSHARDID", flags=LOADING | STALE, since="7.2.0", tips=_VARIES)
def my_shard_id(routing: Routing, session: Session, args: list[bytes]):
    """The id of the shard that this node belongs to."""
    return routing.view.myself.shard_id.encode()


@_simple("CLUSTER NODES", _OF_NODES, LOADING | STALE, tips=_VARIES)
def nodes(routing: Routing, session: Session, args: list[bytes]):
    """All that this node knows of every node, a line for each."""
    return Verbatim(routing.view.nodes_text().encode())


@_simple("CLUSTER INFO", flags=LOADING | STALE, tips=_VARIES)
def info(routing: Routing, session: Session, args: list[bytes]):
    """How the cluster is, as this node sees it, and what the bus has carried."""
    traffic = routing.traffic
    fields = [
        *routing.view.info(),
        ("cluster_stats_bytes_sent", traffic.sent),
        ("cluster_stats_bytes_received", traffic.received),
        ("cluster_stats_pubsub_bytes_sent", traffic.pubsub_sent),
        ("cluster_stats_pubsub_bytes_received", traffic.pubsub_received),
        ("cluster_stats_module_bytes_sent", 0),
        ("cluster_stats_module_bytes_received", 0),
        ("total_cluster_links_buffer_limit_exceeded", traffic.over_limit),
    ]
    return Verbatim("".join(f"{name}:{value}\r\n" for name, value in fields).encode())


@_simple("CLUSTER SLAVES node-id", _OF_NODES, ADMIN | STALE, tips=_VARIES,
         deprecated=("5.0.0", "`CLUSTER REPLICAS`"))  # fmt: skip
@_simple("CLUSTER REPLICAS node-id", _OF_NODES, ADMIN | STALE, since="5.0.0", tips=_VARIES)
def replicas(routing: Routing, session: Session, args: list[bytes]):
    """The replicas of a primary, each as in CLUSTER NODES."""
    primary = _known(routing, args[2])
    if primary.is_replica:
        raise ReplyError(b"ERR The specified node is not a master")
    return [routing.view.describe(node).encode() for node in primary.replicas]


@_simple("CLUSTER COUNT-FAILURE-REPORTS node-id", _OF_NODES, ADMIN | STALE, tips=_VARIES)
def count_failure_reports(routing: Routing, session: Session, args: list[bytes]):
    """How many nodes hold a node for failed, as far as this one has heard lately."""
    return routing.ask(fx.CountFailureReports(_text(args[2])))


@_simple("CLUSTER LINKS", _OF_NODES, STALE, since="7.0.0", tips=_VARIES)
def links(routing: Routing, session: Session, args: list[bytes]):
    """The connections of the bus, to other nodes and from them."""
    return [
        _link(link, link.node)
        for node in routing.view.others()
        for link in (node.link, node.inbound)
        if link is not None and link.node is not None
    ]


def _link(link: Link, node: Peer) -> dict[bytes, Any]:
    return {
        b"direction": b"from" if link.inbound else b"to",
        b"node": node.id.encode(),
        b"create-time": link.created,
        b"events": b"rw" if link.queued or not link.up else b"r",
        b"send-buffer-allocated": link.queued,
        b"send-buffer-used": link.queued,
    }


# --- who serves what ------------------------------------------------------------------------------


@_simple("CLUSTER SLOTS", _OF_NODES, LOADING | STALE, tips=_VARIES)
def slots(routing: Routing, session: Session, args: list[bytes]):
    """Which nodes serve which ranges of slots, the primary first."""
    my_offset = session.node.log.offset
    return [
        [
            *(first, last, _place(routing, primary)),
            # A replica that has nothing yet isn't shown to anybody.
            *(_place(routing, node) for node in others if _offset(routing, node, my_offset)),
        ]
        for first, last, primary, others in routing.view.slot_map()
    ]


def _offset(routing: Routing, node: Peer, my_offset: int) -> int:
    """How far a node's data is: by its last word, or, for this node, now."""
    return my_offset if node is routing.view.myself else node.offset


def _place(routing: Routing, node: Peer) -> list[Any]:
    """A node in CLUSTER SLOTS: where clients are to reach it, and in what other ways they can."""
    preferred = routing.config.cluster_preferred_endpoint_type
    endpoint = routing.endpoint(node)
    more: dict[bytes, bytes] = {}
    if preferred != "ip":
        more[b"ip"] = node.ip.encode()
    if preferred != "hostname" and node.hostname:
        more[b"hostname"] = node.hostname.encode()
    if node.availability_zone:
        more[b"availability-zone"] = node.availability_zone.encode()
    return [None if endpoint is None else endpoint.encode(), node.port, node.id.encode(), more]


@_simple("CLUSTER SHARDS", _OF_NODES, LOADING | STALE, since="7.0.0", tips=_VARIES)
def shards(routing: Routing, session: Session, args: list[bytes]):
    """The shards: their slots, and their nodes with role, offset and health."""
    my_offset = session.node.log.offset
    return [
        {
            b"slots": [edge for pair in ranges(slots) for edge in pair],
            b"nodes": [_health(routing, node, my_offset) for node in nodes],
            b"id": nodes[0].shard_id.encode(),
        }
        for slots, nodes in routing.view.shards()
    ]


def _health(routing: Routing, node: Peer, my_offset: int) -> dict[bytes, Any]:
    """A node in CLUSTER SHARDS."""
    offset = _offset(routing, node, my_offset)
    fields: dict[bytes, Any] = {b"id": node.id.encode()}
    if node.port:
        fields[b"port"] = node.port
    if node.tls_port:
        fields[b"tls-port"] = node.tls_port
    fields[b"ip"] = node.ip.encode()
    fields[b"endpoint"] = (routing.endpoint(node) or "").encode()
    if node.hostname:
        fields[b"hostname"] = node.hostname.encode()
    if node.availability_zone:
        fields[b"availability-zone"] = node.availability_zone.encode()
    fields[b"role"] = b"replica" if node.is_replica else b"master"
    fields[b"replication-offset"] = offset
    if node.failed or node.suspected:
        fields[b"health"] = b"fail"
    else:
        # A replica that has nothing yet is on its way to its primary's data.
        fields[b"health"] = b"loading" if node.is_replica and not offset else b"online"
    return fields


@command(
    "CLUSTER KEYSLOT key",
    flags=STALE,
    group="cluster",
    since="3.0.0",
    keys=(),
    complexity="O(N) where N is the number of bytes in the key",
)
def keyslot(session: Session, args: list[bytes]):
    """The slot that a key belongs to."""
    return key_slot(args[2])


@_simple("CLUSTER COUNTKEYSINSLOT slot", flags=STALE)
def count_keys_in_slot(routing: Routing, session: Session, args: list[bytes]):
    """How many keys of a slot this node holds."""
    slot = integer(args[2])
    if not 0 <= slot < SLOTS:
        raise ReplyError(b"ERR Invalid slot")
    return _held(session, slot)


def _held(session: Session, slot: int) -> int:
    return sum(len(db.keys_of_part(slot)) for db in session.node.keyspace.databases)


@_simple(
    "CLUSTER GETKEYSINSLOT slot count",
    "O(N) where N is the number of keys asked for",
    STALE,
    tips=_VARIES,
)
def get_keys_in_slot(routing: Routing, session: Session, args: list[bytes]):
    """Some of the keys of a slot that this node holds."""
    slot, count = integer(args[2]), integer(args[3])
    if not 0 <= slot < SLOTS or count < 0:
        raise ReplyError(b"ERR Invalid slot or number of keys")
    return list(session.node.keyspace[0].keys_of_part(slot))[:count]


# --- changes --------------------------------------------------------------------------------------


@_simple("CLUSTER MEET ip port [cluster-bus-port]",
         history=(("4.0.0", "The port of the bus may be given."),))  # fmt: skip
def meet(routing: Routing, session: Session, args: list[bytes]):
    """Lets this node and another join each other's cluster."""
    port = integer(args[3], ReplyError(b"ERR Invalid base port specified: " + args[3]))
    bus_port = port + BUS_OFFSET
    if len(args) > 4:
        bus_port = integer(args[4], ReplyError(b"ERR Invalid bus port specified: " + args[4]))
    if not 0 < port < 65536:
        raise ReplyError(b"ERR Port number is out of range")
    if not 0 < bus_port < 65536:
        raise ReplyError(b"ERR Cluster bus port number is out of range")
    routing.ask(fx.Meet(_text(args[2]), port, bus_port))
    return OK


@_simple("CLUSTER FORGET node-id")
def forget(routing: Routing, session: Session, args: list[bytes]):
    """Drops a node, and for a while doesn't let it back in."""
    routing.ask(fx.Forget(_text(args[2])))
    return OK


@_simple("CLUSTER ADDSLOTS slot [slot ...]", _OF_SLOTS)
def add_slots(routing: Routing, session: Session, args: list[bytes]):
    """Lets this node serve slots that nobody serves."""
    routing.ask(fx.AddSlots(_singles(args)))
    return OK


@_simple(
    "CLUSTER ADDSLOTSRANGE start-slot end-slot [start-slot end-slot ...]",
    _OF_SLOTS,
    since="7.0.0",
)
def add_slots_range(routing: Routing, session: Session, args: list[bytes]):
    """As CLUSTER ADDSLOTS, for ranges."""
    routing.ask(fx.AddSlots(_pairs(args, b"cluster|addslotsrange")))
    return OK


@_simple("CLUSTER DELSLOTS slot [slot ...]", _OF_SLOTS)
def del_slots(routing: Routing, session: Session, args: list[bytes]):
    """Makes this node hold slots for served by nobody."""
    routing.ask(fx.DelSlots(_singles(args)))
    return OK


@_simple(
    "CLUSTER DELSLOTSRANGE start-slot end-slot [start-slot end-slot ...]",
    _OF_SLOTS,
    since="7.0.0",
)
def del_slots_range(routing: Routing, session: Session, args: list[bytes]):
    """As CLUSTER DELSLOTS, for ranges."""
    routing.ask(fx.DelSlots(_pairs(args, b"cluster|delslotsrange")))
    return OK


@_simple("CLUSTER FLUSHSLOTS")
def flush_slots(routing: Routing, session: Session, args: list[bytes]):
    """Makes this node serve no slots any more; it must be empty."""
    routing.ask(fx.FlushSlots())
    return OK


@_simple(
    "CLUSTER SETSLOT slot "
    "<IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE> [TIMEOUT timeout]",
    history=(("8.0.0", "A timeout may be given."),),
)
def set_slot(routing: Routing, session: Session, args: list[bytes]):
    """Begins, ends or gives up the move of a slot."""
    slot = _slot(args[2])
    action = args[3].upper()
    node_id = ""
    if action in (b"IMPORTING", b"MIGRATING", b"NODE") and len(args) >= 5:
        node_id = _text(args[4])
    elif action != b"STABLE":
        raise INVALID_SETSLOT
    routing.ask(fx.SetSlot(slot, action.decode(), node_id, _held(session, slot)))
    return OK


@_simple(
    "CLUSTER REPLICATE <node-id | NO ONE>",
    history=(("9.0.0", "NO ONE makes it an empty primary."),),
)
def replicate(routing: Routing, session: Session, args: list[bytes]):
    """Makes this node a replica of a primary, or of none."""
    if len(args) > 3:
        if len(args) != 4 or (args[2].upper(), args[3].upper()) != (b"NO", b"ONE"):
            raise _wrong_subcommand(args[1])
        routing.ask(fx.Replicate(""))
        return OK
    routing.ask(fx.Replicate(_text(args[2])))
    return OK


@_simple("CLUSTER FAILOVER [FORCE | TAKEOVER]")
def failover(routing: Routing, session: Session, args: list[bytes]):
    """Lets this replica take its primary's place, with its consent, without, or without a vote."""
    words = [word.upper() for word in args[2:]]
    if not set(words) <= {b"FORCE", b"TAKEOVER"}:
        raise SYNTAX
    routing.ask(fx.Failover(max(words, default=b"").decode()))  # TAKEOVER goes further
    return OK


@_simple("CLUSTER RESET [HARD | SOFT]", _OF_NODES, ADMIN | STALE | NOSCRIPT)
def reset(routing: Routing, session: Session, args: list[bytes]):
    """Takes this node out of its cluster; HARD gives it a new id, too."""
    if len(args) > 3:
        raise _wrong_subcommand(args[1])
    word = args[2].upper() if len(args) > 2 else b"SOFT"
    if word not in (b"HARD", b"SOFT"):
        raise SYNTAX
    routing.ask(fx.Reset(word == b"HARD"))
    return OK


@_simple("CLUSTER BUMPEPOCH", tips=_VARIES)
def bump_epoch(routing: Routing, session: Session, args: list[bytes]):
    """Gives this node a greater epoch than any it knows of, without a vote."""
    return Status(str(routing.ask(fx.BumpEpoch())).encode())


@_simple("CLUSTER SET-CONFIG-EPOCH config-epoch")
def set_config_epoch(routing: Routing, session: Session, args: list[bytes]):
    """Gives an epoch to a node that is new and alone."""
    routing.ask(fx.SetConfigEpoch(integer(args[2])))
    return OK


@_simple("CLUSTER SAVECONFIG")
def save_config(routing: Routing, session: Session, args: list[bytes]):
    """Writes nodes.conf at once."""
    routing.ask(fx.SaveConfig())
    return OK


@_simple("CLUSTER HELP", flags=LOADING | STALE, since="5.0.0")
def help_(routing: Routing, session: Session, args: list[bytes]):
    """The subcommands."""
    return help_text(session, b"CLUSTER")


# --- arguments ------------------------------------------------------------------------------------


def _text(arg: bytes) -> str:
    """An id or address as text; whatever isn't one is still shown as it came."""
    return arg.decode("utf-8", "surrogateescape")


def _slot(arg: bytes) -> int:
    slot = integer(arg, INVALID_SLOT)
    if not 0 <= slot < SLOTS:
        raise INVALID_SLOT
    return slot


def _singles(args: list[bytes]) -> tuple[tuple[int, int], ...]:
    return tuple((slot, slot) for slot in map(_slot, args[2:]))


def _pairs(args: list[bytes], name: bytes) -> tuple[tuple[int, int], ...]:
    if len(args) % 2:
        raise wrong_arity(name)
    edges = list(map(_slot, args[2:]))
    pairs = tuple(zip(edges[::2], edges[1::2], strict=True))
    for first, last in pairs:
        if first > last:
            raise ReplyError(
                b"ERR start slot number %d is greater than end slot number %d" % (first, last)
            )
    return pairs


def _known(routing: Routing, arg: bytes) -> Peer:
    node = routing.view.nodes.get(_text(arg))
    if node is None:
        raise ReplyError(b"ERR Unknown node " + arg)
    return node


def _wrong_subcommand(word: bytes) -> ReplyError:
    return ReplyError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try CLUSTER HELP." % word
    )


# --- what a client says of itself -----------------------------------------------------------------


@command(
    "ASKING",
    flags=FAST,
    group="cluster",
    since="3.0.0",
    categories="connection",
    complexity="O(1)",
)
def asking(session: Session, args: list[bytes]):
    """Lets the next command run on a slot that is being moved here."""
    if not session.node.topology.clustered:
        raise DISABLED
    session.asking = True
    session.gate = session_gate(session)
    return OK


@command(
    "READONLY",
    flags=FAST | LOADING | STALE,
    group="cluster",
    since="3.0.0",
    categories="connection",
    complexity="O(1)",
)
def readonly(session: Session, args: list[bytes]):
    """Lets this client read from a replica, whose data may be old."""
    session.reads_replica = True
    return OK


@command(
    "READWRITE",
    flags=FAST | LOADING | STALE,
    group="cluster",
    since="3.0.0",
    categories="connection",
    complexity="O(1)",
)
def readwrite(session: Session, args: list[bytes]):
    """Sends this client to the primary again for reads as well."""
    session.reads_replica = False
    return OK
