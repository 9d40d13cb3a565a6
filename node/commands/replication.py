"""REPLICAOF SLAVEOF FAILOVER PSYNC SYNC REPLCONF WAIT ROLE."""

import logging
from typing import TYPE_CHECKING

from node.command import (
    ADMIN,
    ALLOW_BUSY,
    BLOCKING,
    FAST,
    LOADING,
    NO_ASYNC_LOADING,
    NO_MULTI,
    NOSCRIPT,
    STALE,
    command,
)
from node.commands.arguments import integer, integer_between
from node.data.number import INT64_MAX
from node.replies import NO_REPLY, OK, PENDING, SYNTAX, ReplyError, Status, Wait
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

INVALID_PORT = ReplyError(b"ERR Invalid master port")
TIMEOUT_NOT_INTEGER = ReplyError(b"ERR timeout is not an integer or out of range")
WAIT_ON_REPLICA = ReplyError(
    b"ERR WAIT cannot be used with replica instances. Please also note that if a replica is "
    b"configured to be writable (which is not the default) writes to replicas are just local and "
    b"are not propagated."
)

WAITAOF_ON_REPLICA = ReplyError(
    b"ERR WAITAOF cannot be used with replica instances. Please also note that writes to replicas "
    b"are just local and are not propagated."
)
NO_AOF = ReplyError(b"ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.")
NUMLOCAL_RANGE = ReplyError(b"ERR value is out of range, value must between 0 and 1")
NUMREPLICAS_RANGE = ReplyError(b"ERR value is out of range, must be positive")


@command(
    "REPLICAOF <host port | NO ONE>",
    flags=ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING,
    group="server",
    since="5.0.0",
    arity=3,
    complexity="O(1)",
)
def replicaof(session: Session, args: list[bytes]):
    """Make the server a replica of another, or a primary of its own."""
    node = session.node
    if node.topology.clustered:
        raise ReplyError(b"ERR REPLICAOF not allowed in cluster mode.")
    if node.role.failover.is_on():
        raise ReplyError(b"ERR REPLICAOF not allowed while failing over.")
    if args[1].lower() == b"no" and args[2].lower() == b"one":
        node.config.replicaof = None
        node.promote()
        return OK
    if session.replica is not None and session.replica in node.role.primary.replicas:
        raise ReplyError(b"ERR Command is not valid when client is a replica.")
    port = integer_between(args[2], 0, 65535, INVALID_PORT)
    host = args[1].decode("latin-1")
    link = node.role.link
    if link is not None and (link.host, link.port) == (host, port):
        return Status(b"OK Already connected to specified master")
    node.config.replicaof = host, port
    node.follow(host, port)
    return OK


@command(
    "SLAVEOF <host port | NO ONE>",
    flags=ADMIN | NOSCRIPT | STALE | NO_ASYNC_LOADING,
    group="server",
    since="1.0.0",
    arity=3,
    complexity="O(1)",
    deprecated=("5.0.0", "`REPLICAOF`"),
)
def slaveof(session: Session, args: list[bytes]):
    """Make the server a replica of another, or a primary of its own."""
    return replicaof(session, args)


@command(
    "FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT milliseconds]",
    flags=ADMIN | NOSCRIPT | STALE,
    group="server",
    since="6.2.0",
    complexity="O(1)",
)
def failover(session: Session, args: list[bytes]):
    """Hand the role of primary to a replica that has all there is."""
    node = session.node
    if node.topology.clustered:
        raise ReplyError(b"ERR FAILOVER not allowed in cluster mode.")
    target, forced, aborts, timeout_ms = _failover_options(args)
    under_way = node.role.failover
    if aborts:
        if not under_way.is_on():
            raise ReplyError(b"ERR No failover in progress.")
        under_way.abort("Failover manually aborted")
        return OK
    if under_way.is_on():
        raise ReplyError(b"ERR FAILOVER already in progress.")
    if node.is_replica():
        raise ReplyError(b"ERR FAILOVER is not valid when server is a replica.")
    if not node.role.primary.replicas:
        raise ReplyError(b"ERR FAILOVER requires connected replicas.")
    if forced and not (timeout_ms and target):
        text = b"ERR FAILOVER with force option requires both a timeout and target HOST and IP."
        raise ReplyError(text)
    if target is not None:
        _check_target(node, target)
    under_way.begin(target, timeout_ms, forced)
    return OK


def _failover_options(args: list[bytes]) -> tuple[tuple[str, int] | None, bool, bool, int]:
    """The target, whether FORCE and ABORT were said, and the timeout or 0."""
    target, forced, aborts, timeout_ms = None, False, False, 0
    i = 1
    while i < len(args):
        option, left = args[i].lower(), len(args) - i - 1
        if option == b"timeout" and left and not timeout_ms:
            timeout_ms = integer(args[i + 1])
            if timeout_ms <= 0:
                raise ReplyError(b"ERR FAILOVER timeout must be greater than 0")
            i += 1
        elif option == b"abort" and len(args) == 2:
            aborts = True
        elif option == b"to" and left >= 2 and target is None:
            target = args[i + 1].decode("latin-1"), integer(args[i + 2])
            i += 2
        elif option == b"force" and not forced:
            forced = True
        else:
            raise SYNTAX
        i += 1
    return target, forced, aborts, timeout_ms


def _check_target(node: "Node", target: tuple[str, int]) -> None:
    replica = node.role.primary.find(target)
    if replica is None:
        raise ReplyError(b"ERR FAILOVER target HOST and PORT is not a replica.")
    if not replica.is_online():
        raise ReplyError(b"ERR FAILOVER target replica is not online.")


@command(
    "PSYNC replicationid offset",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI,
    group="server",
    since="2.8.0",
    arity=-3,
)
def psync(session: Session, args: list[bytes]):
    """Begin to follow: go on from an offset of a history, or get the whole data set."""
    node = session.node
    offset = integer(args[2])
    id = args[1].decode("latin-1")
    if len(args) > 3 and args[3].lower() == b"failover":
        _take_over(session, id)
    _check_failover(session)
    replica = node.replica_of(session)
    node.role.primary.serve(replica, None if id == "?" else id.lower(), offset - 1)
    return NO_REPLY


def _take_over(session: Session, id: str) -> None:
    """The primary hands its role to this replica of it, and asks to follow."""
    node = session.node
    if not node.is_replica():
        raise ReplyError(b"ERR PSYNC FAILOVER can't be sent to a master.")
    _log.warning("Failover request received for replid %s.", id)
    if id.lower() != node.role.history.id:
        raise ReplyError(b"ERR PSYNC FAILOVER replid must match my replid.")
    node.config.replicaof = None
    node.promote()


def _check_failover(session: Session) -> None:
    """Nobody begins to follow a node that is about to hand over."""
    if session.node.role.failover.is_on():
        raise ReplyError(b"NOMASTERLINK Can't SYNC while failing over")


@command(
    "SYNC",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI,
    group="server",
    since="1.0.0",
)
def sync(session: Session, args: list[bytes]):
    """Get the whole data set, then the stream, as before PSYNC."""
    _check_failover(session)
    replica = session.node.replica_of(session)
    replica.wants_reply = False
    session.node.role.primary.serve(replica, None, 0)
    return NO_REPLY


@command(
    "REPLCONF",
    flags=ADMIN | NOSCRIPT | LOADING | STALE | ALLOW_BUSY,
    group="server",
    since="3.0.0",
    arity=-1,
    complexity="O(1)",
)
def replconf(session: Session, args: list[bytes]):
    """Tell the primary about this replica, or the other way round."""
    if len(args) % 2 == 0:
        raise SYNTAX
    answer = OK
    for i in range(1, len(args), 2):
        answer = _OPTIONS.get(args[i].lower(), _unknown)(session, args[i], args[i + 1], args)
        if answer is NO_REPLY:
            break
    return answer


def _listening_port(session: Session, name: bytes, value: bytes, args: list[bytes]):
    session.node.replica_of(session).port = integer(value)
    return OK


def _ip_address(session: Session, name: bytes, value: bytes, args: list[bytes]):
    if len(value) > 255:
        raise ReplyError(b"ERR REPLCONF ip-address provided by replica instance is too long: "
                         b"%d bytes" % len(value))  # fmt: skip
    session.node.replica_of(session).ip = value.decode("latin-1")
    return OK


def _capability(session: Session, name: bytes, value: bytes, args: list[bytes]):
    replica = session.node.replica_of(session)
    replica.takes_mark |= value.lower() == b"eof"
    replica.takes_id |= value.lower() == b"psync2"
    return OK


def _version(session: Session, name: bytes, value: bytes, args: list[bytes]):
    parts = value.split(b".")
    if len(parts) != 3 or not all(map(bytes.isdigit, parts)):
        raise ReplyError(b"ERR Unrecognized version format: %b" % value)
    session.node.replica_of(session).version = tuple(map(int, parts))
    return OK


def _node_id(session: Session, name: bytes, value: bytes, args: list[bytes]):
    id = value.decode("latin-1")
    if not session.node.topology.knows(id):
        raise ReplyError(b"ERR Unknown node %b" % value)
    session.node.replica_of(session).node_id = id
    return OK


def _rdb_only(session: Session, name: bytes, value: bytes, args: list[bytes]):
    session.node.replica_of(session).rdb_only = integer(value) == 1
    return OK


def _rdb_filter_only(session: Session, name: bytes, value: bytes, args: list[bytes]):
    wanted = value.split()
    for word in wanted:
        if word != b"functions":
            raise ReplyError(b"ERR Unsupported rdb-filter-only option: %b" % word)
    session.node.replica_of(session).data = False
    return OK


def _ack(session: Session, name: bytes, value: bytes, args: list[bytes]):
    """An offset, and with `fack` another: of what is on the replica's disk."""
    replica = session.replica
    if replica is not None and replica in session.node.role.primary.replicas and value.isdigit():
        synced = None
        if len(args) == 5 and args[3].lower() == b"fack" and args[4].isdigit():
            synced = int(args[4])
        session.node.role.primary.acknowledge(replica, int(value), synced)
    return NO_REPLY


def _getack(session: Session, name: bytes, value: bytes, args: list[bytes]):
    """Only a primary's stream may ask; see node.replication.stream."""
    return NO_REPLY


def _unknown(session: Session, name: bytes, value: bytes, args: list[bytes]):
    raise ReplyError(b"ERR Unrecognized REPLCONF option: %b" % name)


_OPTIONS = {
    b"listening-port": _listening_port,
    b"ip-address": _ip_address,
    b"capa": _capability,
    b"version": _version,
    b"set-cluster-node-id": _node_id,
    b"rdb-only": _rdb_only,
    b"rdb-filter-only": _rdb_filter_only,
    b"ack": _ack,
    b"getack": _getack,
}


@command(
    "WAIT numreplicas timeout",
    flags=BLOCKING,
    group="generic",
    since="3.0.0",
    categories="-keyspace connection",
    complexity="O(1)",
    tips=(b"request_policy:all_shards", b"response_policy:agg_min"),
)
def wait(session: Session, args: list[bytes]):
    """Wait until so many replicas have applied all that this client has written so far."""
    node = session.node
    if node.is_replica():
        raise WAIT_ON_REPLICA
    wanted = integer(args[1])
    timeout_ms = integer(args[2], TIMEOUT_NOT_INTEGER)
    if timeout_ms < 0:
        raise ReplyError(b"ERR timeout is negative")
    if timeout_ms > INT64_MAX - node.now_ms:
        raise ReplyError(b"ERR timeout is out of range")
    primary = node.role.primary
    asked = False

    def acknowledged() -> int:
        return primary.count_acknowledged(session.wrote_at)

    def poll() -> object:
        nonlocal asked
        count = acknowledged()
        if count >= wanted:
            return count
        if not asked:
            primary.ask_acks()
        asked = True
        return PENDING

    # What this client has just written gets its offset at the end of the turn.
    node.role.has_new_waits = True
    return Wait(poll, node.now_ms + timeout_ms if timeout_ms else None, acknowledged)


@command(
    "WAITAOF numlocal numreplicas timeout",
    flags=BLOCKING,
    group="generic",
    since="7.2.0",
    categories="-keyspace connection",
    complexity="O(1)",
    tips=(b"request_policy:all_shards", b"response_policy:agg_min"),
)
def waitaof(session: Session, args: list[bytes]):
    """Wait until all that this client has written so far is on disk: here, and at so many
    replicas."""
    node = session.node
    local = integer(args[1])
    if not 0 <= local <= 1:
        raise NUMLOCAL_RANGE
    wanted = integer(args[2], NUMREPLICAS_RANGE)
    if wanted < 0:
        raise NUMREPLICAS_RANGE
    timeout_ms = integer(args[3], TIMEOUT_NOT_INTEGER)
    if timeout_ms < 0:
        raise ReplyError(b"ERR timeout is negative")
    if timeout_ms > INT64_MAX - node.now_ms:
        raise ReplyError(b"ERR timeout is out of range")
    if node.is_replica():
        raise WAITAOF_ON_REPLICA
    if local and not node.config.appendonly:
        raise NO_AOF
    primary = node.role.primary
    asked = False

    def synced() -> list[int]:
        here = node.aof.synced_offset()
        offset = session.wrote_at
        return [int(here is not None and here >= offset), primary.count_synced(offset)]

    def poll() -> object:
        nonlocal asked
        if local and not node.config.appendonly:
            return NO_AOF
        counts = synced()
        if counts[0] >= local and counts[1] >= wanted:
            return counts
        if wanted and not asked:
            primary.ask_acks()
            asked = True
        return PENDING

    node.role.has_new_waits = True
    return Wait(poll, node.now_ms + timeout_ms if timeout_ms else None, synced)


@command("ROLE", flags=NOSCRIPT | LOADING | STALE | FAST, group="server", since="2.8.12",
         categories="admin dangerous", complexity="O(1)")  # fmt: skip
def role(session: Session, args: list[bytes]):
    """Say whether the server is a primary or a replica, and how far it is."""
    return session.node.describe_role()
