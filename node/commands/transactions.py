"""MULTI EXEC DISCARD WATCH UNWATCH."""

from typing import Any

from node import gate
from node.command import (
    ALLOW_BUSY,
    FAST,
    LOADING,
    NO_MULTI,
    NOSCRIPT,
    SKIP_COMMANDLOG,
    STALE,
    Keys,
    command,
)
from node.execute import execute_all
from node.replies import NULL_ARRAY, OK, Encoded, ReplyError
from node.resp import encode
from node.session import Session
from node.transaction import Transaction

_COMMON = NOSCRIPT | LOADING | STALE

EXEC_WITHOUT_MULTI = ReplyError(b"ERR EXEC without MULTI")
DISCARD_WITHOUT_MULTI = ReplyError(b"ERR DISCARD without MULTI")
EXEC_ABORT = ReplyError(b"EXECABORT Transaction discarded because of previous errors.")


@command(
    "MULTI",
    flags=_COMMON | FAST | NO_MULTI | ALLOW_BUSY,
    group="transactions",
    since="1.2.0",
    complexity="O(1)",
)
def multi(session: Session, args: list[bytes]):
    """Begins a transaction: what follows is queued until EXEC."""
    session.transaction = Transaction()
    session.gate = gate.session_gate(session)
    return OK


@command(
    "EXEC",
    flags=_COMMON | SKIP_COMMANDLOG,
    group="transactions",
    since="1.2.0",
    complexity="Depends on commands in the transaction",
)
def exec_(session: Session, args: list[bytes]):
    """Runs the commands of a transaction, all of them or none."""
    transaction = session.transaction
    if transaction is None:
        raise EXEC_WITHOUT_MULTI
    node = session.node
    broken = node.watches.is_broken(session)
    end_transaction(session)
    if transaction.spoiled:
        raise EXEC_ABORT
    if broken:
        return NULL_ARRAY
    replies: list[bytes] = []

    def collect(value: Any) -> None:
        # At once, as a command may change the protocol for those after it.
        replies.append(encode(value, session.protocol))

    execute_all(node, session, transaction.commands, collect)
    count = len(transaction.commands)
    late, session.late = session.late, []
    return Encoded(b"".join([b"*%d\r\n" % count, *replies, *late]))


@command(
    "DISCARD",
    flags=_COMMON | FAST | ALLOW_BUSY,
    group="transactions",
    since="2.0.0",
    complexity="O(N), when N is the number of queued commands",
)
def discard(session: Session, args: list[bytes]):
    """Forgets a transaction, and which keys are watched."""
    if session.transaction is None:
        raise DISCARD_WITHOUT_MULTI
    end_transaction(session)
    return OK


@command(
    "WATCH key [key ...]",
    flags=_COMMON | FAST | NO_MULTI | ALLOW_BUSY,
    group="transactions",
    since="2.2.0",
    keys=(Keys("RO", 1, last=-1),),
    complexity="O(1) for every key.",
)
def watch(session: Session, args: list[bytes]):
    """Makes the next transaction depend on keys staying as they are."""
    for key in args[1:]:
        session.node.watches.watch(session, key)
    return OK


@command(
    "UNWATCH",
    flags=_COMMON | FAST | ALLOW_BUSY,
    group="transactions",
    since="2.2.0",
    complexity="O(1)",
)
def unwatch(session: Session, args: list[bytes]):
    """Forgets which keys are watched."""
    session.node.watches.forget(session)
    return OK


def end_transaction(session: Session) -> None:
    """What EXEC, DISCARD and RESET have in common."""
    session.transaction = None
    session.node.watches.forget(session)
    session.gate = gate.session_gate(session)
