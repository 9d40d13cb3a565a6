"""CLUSTER SETSLOT: a slot on its way to another node, key by key.

A primary first has its replicas do the same, and waits for them, so that whoever takes its place
knows of the move. They are told by the log; those that are older than Valkey 8 are not waited for.

https://valkey.io/commands/cluster-setslot/
"""

from typing import Any

import attrs

from cluster import effects as fx
from cluster.commands.shared import CHANGES, entry, slot_of, text_of
from cluster.routing import Routing
from node.command import MAY_REPLICATE
from node.commands.arguments import deadline_ms, integer
from node.execute import log_beside
from node.replication.follower import ONLINE
from node.replies import OK, PENDING, ReplyError, Wait
from node.session import Session

DEFAULT_TIMEOUT_MS = 2000
OLDEST_THAT_OBEYS = (8,)
INVALID = ReplyError(b"ERR Invalid CLUSTER SETSLOT action or number of arguments. Try CLUSTER HELP")
ONLY_PRIMARIES = ReplyError(b"ERR Please use SETSLOT only with masters.")
NO_TIMEOUT = ReplyError(b"ERR Missing timeout value")
TIMEOUT_NOT_INTEGER = ReplyError(b"ERR timeout is not an integer or out of range")
NOT_ENOUGH_REPLICAS = ReplyError(b"NOREPLICAS Not enough good replicas to write.")


@entry(
    "CLUSTER SETSLOT slot "
    "<IMPORTING node-id | MIGRATING node-id | NODE node-id | STABLE> [TIMEOUT timeout]",
    flags=CHANGES | MAY_REPLICATE,
    arity=-4,
    history=(("8.0.0", "A timeout may be given."),),
)
def set_slot(routing: Routing, session: Session, args: list[bytes]):
    """Begins, ends or gives up the move of a slot."""
    if session.internal:
        return OK  # an old log: nodes.conf holds what became of it
    if routing.view.myself.is_replica and not session.from_primary:
        raise ONLY_PRIMARIES
    request, rest = _read(args)
    _ask(routing, session, attrs.evolve(request, rehearsed=True))
    until_ms = _deadline_ms(session, rest)
    if session.from_primary or not _told_replicas(session):
        _ask(routing, session, request)
        return OK
    return _after_replicas(routing, session, args, request, until_ms)


def _read(args: list[bytes]) -> tuple[fx.SetSlot, list[bytes]]:
    """What is to be done, and the words after it."""
    slot = slot_of(args[2])
    action = args[3].upper()
    node_id, rest = "", args[4:]
    if action in (b"IMPORTING", b"MIGRATING", b"NODE") and len(args) >= 5:
        node_id, rest = text_of(args[4]), args[5:]
    elif action != b"STABLE":
        raise INVALID
    return fx.SetSlot(slot, action.decode(), node_id), rest


def _ask(routing: Routing, session: Session, request: fx.SetSlot) -> None:
    dbs = session.node.keyspace.databases
    keys = sum(len(db.keys_of_part(request.slot)) for db in dbs)
    routing.ask(attrs.evolve(request, keys=keys))


def _deadline_ms(session: Session, words: list[bytes]) -> int | None:
    """When to give up; words that aren't known are passed over, as a real server does."""
    now_ms = session.node.now_ms
    until_ms: int | None = now_ms + DEFAULT_TIMEOUT_MS
    for i, word in enumerate(words):
        if word.upper() == b"TIMEOUT":
            if i + 1 == len(words):
                raise NO_TIMEOUT
            until_ms = deadline_ms(integer(words[i + 1], TIMEOUT_NOT_INTEGER), now_ms)
    return until_ms


def _told_replicas(session: Session) -> list[Any]:
    """The replicas that do what they are told by SETSLOT."""
    replicas = session.node.role.primary.replicas
    return [r for r in replicas if r.state == ONLINE and r.version >= OLDEST_THAT_OBEYS]


def _after_replicas(
    routing: Routing, session: Session, args: list[bytes], request: fx.SetSlot, until_ms: int | None
) -> Wait:
    """Do it once all replicas have."""
    node = session.node
    log_beside(node, session, args)
    node.log.writers.append(session)  # who learns the offset after it
    node.role.has_new_waits = True
    node.role.primary.ask_acks()
    wanted = len(_told_replicas(session))

    def poll() -> Any:
        if routing.view.myself.is_replica:
            return ONLY_PRIMARIES  # its last slot has gone in the meantime: others know already
        replicas = _told_replicas(session)
        if sum(replica.acked >= session.wrote_at for replica in replicas) < wanted:
            return PENDING
        try:
            _ask(routing, session, request)
        except fx.ClusterError as refusal:
            return ReplyError(str(refusal).encode())
        return OK

    return Wait(poll, until_ms, NOT_ENOUGH_REPLICAS)
