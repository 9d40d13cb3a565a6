"""Why a command may not run now, in the order in which Redis asks.

Each question is a function that raises the ReplyError, or returns at once. The fast path in
node.execute comes here only for commands whose flags meet `session.gate | node.gate`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from node.command import (
    ALLOW_BUSY,
    ANY,
    CONTAINER,
    DENYOOM,
    LOADING,
    MAY_REPLICATE,
    NO_ASYNC_LOADING,
    NO_AUTH,
    NO_MULTI,
    READONLY,
    STALE,
    STEERS,
    WRITE,
    Row,
)
from node.replies import (
    LOADING as LOADING_ERROR,
)
from node.replies import (
    NOT_AUTHENTICATED,
    QUEUED,
    READ_ONLY_REPLICA,
    ReplyError,
)
from node.session import PUBSUB as SUBSCRIBER
from node.session import REDIRECT, Session, session_gate

if TYPE_CHECKING:
    from node.node import Node

MASTER_DOWN = ReplyError(
    b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
)
NOT_SAVED = ReplyError(
    b"MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to "
    b"disk. Commands that may modify the data set are disabled, because this instance is "
    b"configured to report errors during writes if RDB snapshotting fails "
    b"(stop-writes-on-bgsave-error option). Please check the Redis logs for details about the RDB "
    b"error."
)
LOOKS_ON = ReplyError(b"ERR Replica can't interact with the keyspace")
NO_REPLICAS = ReplyError(b"NOREPLICAS Not enough good replicas to write.")
OUT_OF_MEMORY = ReplyError(b"OOM command not allowed when used memory > 'maxmemory'.")
_ENDS_TRANSACTION = frozenset((b"exec", b"discard", b"quit", b"reset"))
# Commands that MULTI does not queue.
_NOT_QUEUED = frozenset((b"exec", b"discard", b"multi", b"watch", b"quit", b"reset"))
# The flags of node_gate that tell of the node, and not of the command alone.
_STATES = ~(CONTAINER | STEERS)
_MEMORY = DENYOOM | ANY  # what node_gate tells of it
# Commands that count as what the script or function declares to be.
SCRIPTS = frozenset((b"eval", b"evalsha", b"fcall", b"eval_ro", b"evalsha_ro", b"fcall_ro"))
# What is answered where a client is sent elsewhere.
_ELSEWHERE = (b"REDIRECT ", b"MOVED ", b"ASK ", b"CROSSSLOT ", b"TRYAGAIN ", b"CLUSTERDOWN ")
# What a RESP2 client may say while it is subscribed.
_SUBSCRIBER_MAY = frozenset(
    b"ping subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe quit reset".split()
)


def node_gate(node: "Node") -> int:
    """The flags that need a second look in the node's present state."""
    flags = CONTAINER | STEERS
    if node.loading is not None or node.observe.monitors or node.is_stale():
        flags |= ANY
    if node.role.loads_aside():
        flags |= NO_ASYNC_LOADING
    if node.scripting.is_busy():
        flags |= ANY
    if node.slot_stats.is_on():
        flags |= ANY
    if not_stored(node) is not None:
        flags |= ANY  # PING too
    if node.eviction.is_on():
        flags |= ANY if node.eviction.is_over else DENYOOM
    if node.is_replica() or node.lacks_replicas():
        flags |= WRITE | MAY_REPLICATE  # scripts may say that they write
    if node.pause.is_on():
        flags |= ANY if node.pause.everything else WRITE | MAY_REPLICATE
    if node.moving.is_on():
        flags |= WRITE | READONLY | MAY_REPLICATE
    return flags


def admit(node: "Node", session: Session, row: Row, args: list[bytes]) -> Any | None:
    """Ask everything. Returns None if the command may run, or what to answer instead; raises
    ReplyError."""
    row.check_arity(args)
    if session.imports is not None:
        session.imports(row, args)
    if session.internal or session.from_primary:
        return _queue(session, row, args)
    if not session.authenticated and not row.flags & NO_AUTH:
        raise NOT_AUTHENTICATED
    if session.transaction is not None and row.flags & NO_MULTI:
        raise ReplyError(b"ERR Command '%b' not allowed inside a transaction" % row.name)
    if session.user not in node.acl.unrestricted:
        session.last_row = row  # which ACL LOG shows
        node.acl.check(session, row, args)
    if node.gate & ANY and node.scripting.is_busy() and not row.flags & ALLOW_BUSY:
        raise node.scripting.busy_error()
    refusal = node.topology.route(session, row, args)
    if refusal is not None:
        raise refusal
    flags = flags_of(session, row, args)
    if session.capabilities:
        held = _redirection(node, session, flags, args)
        if held is not None:
            return held
    if node.gate & _MEMORY and node.eviction.is_on():
        _room(node, session, row, flags)
    special = flags & node.gate & _STATES
    if special:
        _saving(node, row, flags)
        _writing(node, flags)
    if session.kind == SUBSCRIBER:
        _subscriber(session, row)
    if special:
        _staleness(node, flags)
        if node.loading is not None and not flags & LOADING:
            raise LOADING_ERROR
        if flags & NO_ASYNC_LOADING and node.role.loads_aside():
            raise LOADING_ERROR
        if flags & (WRITE | READONLY) and session.id in node.observe.monitors:
            raise LOOKS_ON
    if session.transaction is not None and row.name not in _NOT_QUEUED:
        session.transaction.queue(row, args, flags)
        return QUEUED
    if not special:
        return None
    return _pause(node, session, flags, args) or _moving(node, session, row, args)


def _queue(session: Session, row: Row, args: list[bytes]) -> Any | None:
    """Keep for EXEC what comes between MULTI and EXEC."""
    if session.transaction is None or row.name in _NOT_QUEUED:
        return None
    session.transaction.queue(row, args, flags_of(session, row, args))
    return QUEUED


def flags_of(session: Session, row: Row, args: Sequence[bytes]) -> int:
    """What a command counts as; EXEC as all that it will run."""
    if row.name == b"exec" and session.transaction is not None:
        return row.flags & session.transaction.common_flags | session.transaction.flags
    if row.name in SCRIPTS:
        return session.node.scripting.command_flags(args, row.flags)
    return row.flags


def _redirection(node: "Node", session: Session, flags: int, args: list[bytes]) -> Any | None:
    """A replica outside of a cluster sends those who can go there to its primary; as long as that
    one is about to become it, they wait."""
    link = node.role.link
    if link is None or node.topology.clustered or REDIRECT not in session.capabilities:
        return None
    if not flags & WRITE and (not flags & READONLY or session.reads_replica):
        return None
    if node.role.failover.is_on():
        return node.pause.wait(session, args)
    raise ReplyError(f"REDIRECT {link.host}:{link.port}".encode())


def abort(session: Session, error: ReplyError) -> ReplyError:
    """EXEC was refused: that ends the transaction, and what it would have changed."""
    session.transaction = None
    session.node.watches.forget(session)
    session.gate = session_gate(session)
    if error.text.startswith(_ELSEWHERE):
        return error
    reason = error.text.removeprefix(b"ERR ")
    return ReplyError(b"EXECABORT Transaction discarded because of: " + reason)


def _room(node: "Node", session: Session, row: Row, flags: int) -> None:
    """What needs memory is not to run where there is none; a transaction's queue needs some."""
    queues = session.transaction is not None and row.name not in _ENDS_TRANSACTION
    pubsub = node.pubsub
    current, pubsub.current = pubsub.current, None  # who asks hears of it before the reply
    try:
        has_room = node.eviction.make_room()
    finally:
        pubsub.current = current
    if not has_room and (flags & DENYOOM or queues):
        raise OUT_OF_MEMORY


def _saving(node: "Node", row: Row, flags: int) -> None:
    """What can't be saved is not to be written; a PING tells that, so that health checks see it."""
    refusal = not_stored(node)
    if refusal is None:
        return
    if flags & WRITE or row.name == b"ping":
        raise refusal
    if flags & (READONLY | MAY_REPLICATE) and node.aof.forbids_reads():
        raise refusal


def not_stored(node: "Node") -> ReplyError | None:
    """Why nothing may be changed, as it can't be kept; None if it can."""
    if node.saves.forbids_writes():
        return NOT_SAVED
    return node.aof.refusal() if node.aof.forbids_writes() else None


def _writing(node: "Node", flags: int) -> None:
    if not flags & WRITE:
        return
    if node.is_replica() and node.config.replica_read_only:
        raise READ_ONLY_REPLICA
    if node.lacks_replicas():
        raise NO_REPLICAS


def _subscriber(session: Session, row: Row) -> None:
    if session.protocol == 2 and row.name not in _SUBSCRIBER_MAY:
        raise ReplyError(
            b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
            b"are allowed in this context" % row.name
        )


def _staleness(node: "Node", flags: int) -> None:
    if not flags & STALE and node.is_stale():
        raise MASTER_DOWN


def _pause(node: "Node", session: Session, flags: int, args: list[bytes]) -> Any | None:
    if node.pause.holds(session, flags):
        return node.pause.wait(session, args)
    return None


def _moving(node: "Node", session: Session, row: Row, args: list[bytes]) -> Any | None:
    """What is on its way to another node is to be left alone till it is here or there."""
    moving = node.moving
    if moving.is_on() and node.unit is None and moving.holds(session, row, args):
        return moving.wait(session, row, args)
    return None
