"""Why a command may not run now, in the order in which Redis asks.

Each question is a function that raises the ReplyError, or returns at once. The fast path in
node.execute comes here only for commands whose flags meet `session.gate | node.gate`.
"""

from typing import TYPE_CHECKING, Any

from node.command import (
    ANY,
    CONTAINER,
    LOADING,
    MAY_REPLICATE,
    NO_AUTH,
    NO_MULTI,
    STALE,
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
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node

MASTER_DOWN = ReplyError(
    b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
)
NO_REPLICAS = ReplyError(b"NOREPLICAS Not enough good replicas to write.")
# Commands that MULTI does not queue.
_NOT_QUEUED = frozenset((b"exec", b"discard", b"multi", b"watch", b"quit", b"reset"))
# What a RESP2 client may say while it is subscribed.
_SUBSCRIBER_MAY = frozenset(
    b"ping subscribe unsubscribe psubscribe punsubscribe ssubscribe sunsubscribe quit reset".split()
)


def node_gate(node: "Node") -> int:
    """The flags that need a second look in the node's present state."""
    flags = CONTAINER
    if node.loading or node.observe.monitors or node.is_stale():
        flags |= ANY
    if node.is_replica() or node.lacks_replicas():
        flags |= WRITE
    if node.pause.is_on():
        flags |= ANY if node.pause.everything else WRITE | MAY_REPLICATE
    return flags


def session_gate(session: Session) -> int:
    """The flags that need a second look for this client."""
    special = (
        not session.authenticated
        or session.transaction is not None
        or (session.kind == SUBSCRIBER and session.protocol == 2)
        or session.asking
    )
    return ANY if special else 0


def admit(node: "Node", session: Session, row: Row, args: list[bytes]) -> Any | None:
    """Ask everything. Returns None if the command may run, or what to answer instead; raises
    ReplyError."""
    row.check_arity(args)
    if session.internal:
        return None
    if session.from_primary:
        return None
    _authentication(session, row)
    if session.transaction is not None and row.flags & NO_MULTI and node.unit is None:
        raise ReplyError(b"ERR Command not allowed inside a transaction")
    refusal = node.topology.route(session, row, args)
    if refusal is not None:
        _spoil(session, row, refusal)
    _writing(node, row)
    _subscriber(session, row)
    _staleness(node, row)
    if node.loading and not row.flags & LOADING:
        raise LOADING_ERROR
    if session.transaction is not None and node.unit is None and row.name not in _NOT_QUEUED:
        session.transaction.queue(row, args)
        return QUEUED
    return _pause(node, session, row, args)


def _authentication(session: Session, row: Row) -> None:
    if not session.authenticated and not row.flags & NO_AUTH:
        raise NOT_AUTHENTICATED


def _spoil(session: Session, row: Row, refusal: ReplyError) -> None:
    """EXEC that is sent elsewhere ends its transaction."""
    if row.name == b"exec" and session.transaction is not None:
        session.transaction = None
        session.gate = session_gate(session)
    raise refusal


def _writing(node: "Node", row: Row) -> None:
    if not row.flags & WRITE:
        return
    if node.is_replica() and node.config.replica_read_only:
        raise READ_ONLY_REPLICA
    if node.lacks_replicas():
        raise NO_REPLICAS


def _subscriber(session: Session, row: Row) -> None:
    if session.kind == SUBSCRIBER and session.protocol == 2 and row.name not in _SUBSCRIBER_MAY:
        raise ReplyError(
            b"ERR Can't execute '%b': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET "
            b"are allowed in this context" % row.name
        )


def _staleness(node: "Node", row: Row) -> None:
    if not row.flags & STALE and node.is_stale():
        raise MASTER_DOWN


def _pause(node: "Node", session: Session, row: Row, args: list[bytes]) -> Any | None:
    if node.pause.holds(session, row):
        return node.pause.wait(session, args)
    return None
