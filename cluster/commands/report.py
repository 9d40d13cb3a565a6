"""CLUSTER MYID MYSHARDID NODES INFO REPLICAS SLAVES COUNT-FAILURE-REPORTS LINKS SLOTS SHARDS."""

from typing import Any

from cluster import effects as fx
from cluster.commands.shared import OF_NODES, VARIES, entry, known, text_of
from cluster.routing import Routing, uses_ipv6
from cluster.slots import ranges
from cluster.view import Link
from cluster.view import Node as Peer
from node.command import ADMIN, LOADING, STALE
from node.replies import ReplyError, Verbatim
from node.session import Session


@entry("CLUSTER MYID", flags=LOADING | STALE)
def my_id(routing: Routing, session: Session, args: list[bytes]):
    """The id of this node."""
    return routing.view.myself.id.encode()


@entry("CLUSTER MYSHARDID", flags=LOADING | STALE, since="7.2.0", tips=VARIES)
def my_shard_id(routing: Routing, session: Session, args: list[bytes]):
    """The id of the shard that this node belongs to."""
    return routing.view.myself.shard_id.encode()


@entry("CLUSTER NODES", OF_NODES, LOADING | STALE, tips=VARIES)
def nodes(routing: Routing, session: Session, args: list[bytes]):
    """All that this node knows of every node, a line for each."""
    return Verbatim(routing.view.nodes_text(uses_ipv6(session)).encode())


@entry("CLUSTER INFO", flags=LOADING | STALE, tips=VARIES)
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


@entry("CLUSTER SLAVES node-id", OF_NODES, ADMIN | STALE, tips=VARIES,
         deprecated=("5.0.0", "`CLUSTER REPLICAS`"))  # fmt: skip
@entry("CLUSTER REPLICAS node-id", OF_NODES, ADMIN | STALE, since="5.0.0", tips=VARIES)
def replicas(routing: Routing, session: Session, args: list[bytes]):
    """The replicas of a primary, each as in CLUSTER NODES."""
    primary = known(routing, args[2])
    if primary.is_replica:
        raise ReplyError(b"ERR The specified node is not a master")
    return [routing.view.describe(node, uses_ipv6(session)).encode() for node in primary.replicas]


@entry("CLUSTER COUNT-FAILURE-REPORTS node-id", OF_NODES, ADMIN | STALE, tips=VARIES)
def count_failure_reports(routing: Routing, session: Session, args: list[bytes]):
    """How many nodes hold a node for failed, as far as this one has heard lately."""
    return routing.ask(fx.CountFailureReports(text_of(args[2])))


@entry("CLUSTER LINKS", OF_NODES, STALE, since="7.0.0", tips=VARIES)
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


@entry("CLUSTER SLOTS", OF_NODES, LOADING | STALE, tips=VARIES)
def slots(routing: Routing, session: Session, args: list[bytes]):
    """Which nodes serve which ranges of slots, the primary first."""
    my_offset = session.node.log.offset
    return [
        [
            *(first, last, _place(routing, session, primary)),
            # A replica that has nothing yet isn't shown to anybody.
            *(
                _place(routing, session, node)
                for node in others
                if _offset(routing, node, my_offset)
            ),
        ]
        for first, last, primary, others in routing.view.slot_map()
    ]


def _offset(routing: Routing, node: Peer, my_offset: int) -> int:
    """How far a node's data is: by its last word, or, for this node, now."""
    return my_offset if node is routing.view.myself else node.offset


def _place(routing: Routing, session: Session, node: Peer) -> list[Any]:
    """A node in CLUSTER SLOTS: where clients are to reach it, and in what other ways they can."""
    preferred = routing.config.cluster_preferred_endpoint_type
    endpoint = routing.endpoint(session, node)
    more: dict[bytes, bytes] = {}
    if preferred != "ip":
        more[b"ip"] = node.ip_for(uses_ipv6(session)).encode()
    if preferred != "hostname" and node.hostname:
        more[b"hostname"] = node.hostname.encode()
    if node.face.zone:
        more[b"availability-zone"] = node.face.zone.encode()
    return [
        None if endpoint is None else endpoint.encode(),
        node.client_port,
        node.id.encode(),
        more,
    ]


@entry("CLUSTER SHARDS", OF_NODES, LOADING | STALE, since="7.0.0", tips=VARIES)
def shards(routing: Routing, session: Session, args: list[bytes]):
    """The shards: their slots, and their nodes with role, offset and health."""
    my_offset = session.node.log.offset
    return [
        {
            b"slots": [edge for pair in ranges(slots) for edge in pair],
            b"nodes": [_health(routing, session, node, my_offset) for node in nodes],
            b"id": nodes[0].shard_id.encode(),
        }
        for slots, nodes in routing.view.shards()
    ]


def _health(routing: Routing, session: Session, node: Peer, my_offset: int) -> dict[bytes, Any]:
    """A node in CLUSTER SHARDS."""
    offset = _offset(routing, node, my_offset)
    fields: dict[bytes, Any] = {b"id": node.id.encode()}
    if node.client_port:
        fields[b"port"] = node.client_port
    if node.tls_port:
        fields[b"tls-port"] = node.face.tls_port or node.tls_port
    fields[b"ip"] = node.ip_for(uses_ipv6(session)).encode()
    fields[b"endpoint"] = (routing.endpoint(session, node) or "").encode()
    if node.hostname:
        fields[b"hostname"] = node.hostname.encode()
    if node.face.zone:
        fields[b"availability-zone"] = node.face.zone.encode()
    fields[b"role"] = b"replica" if node.is_replica else b"master"
    fields[b"replication-offset"] = offset
    if node.failed or node.suspected:
        fields[b"health"] = b"fail"
    else:
        # A replica that has nothing yet is on its way to its primary's data.
        fields[b"health"] = b"loading" if node.is_replica and not offset else b"online"
    return fields
