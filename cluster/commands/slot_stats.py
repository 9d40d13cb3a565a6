"""CLUSTER SLOT-STATS."""

from collections.abc import Iterable
from typing import Any

from cluster.commands.shared import entry, slot_of, wrong_subcommand
from cluster.routing import Routing
from cluster.slots import SLOTS, members
from node.command import LOADING, STALE
from node.commands.arguments import integer_between
from node.replies import SYNTAX, ReplyError
from node.session import Session

UNKNOWN_METRIC = ReplyError(b"ERR Unrecognized sort metric for ORDERBY.")
TWICE = ReplyError(b"ERR Multiple filters of the same type are disallowed.")
LIMIT = ReplyError(b"ERR Limit has to lie in between 1 and %d (maximum number of slots)." % SLOTS)
KEY_COUNT = b"key-count"

Stats = dict[bytes, int]


@entry(
    "CLUSTER SLOT-STATS <SLOTSRANGE start-slot end-slot | "
    "ORDERBY metric [LIMIT limit] [ASC | DESC]>",
    "O(N) for N slots, O(N*log(N)) with ORDERBY",
    LOADING | STALE,
    since="8.0.0",
    arity=-4,
    tips=(b"nondeterministic_output", b"request_policy:all_shards"),
)
def slot_stats(routing: Routing, session: Session, args: list[bytes]):
    """What the slots of this node's shard hold and cost."""
    word = args[2].upper()
    if word == b"SLOTSRANGE" and len(args) == 5:
        first, last = slot_of(args[3]), slot_of(args[4])
        if first > last:
            text = b"ERR Start slot number %d is greater than end slot number %d"
            raise ReplyError(text % (first, last))
        return _shown(session, (slot for slot in _mine(routing) if first <= slot <= last))
    if word == b"ORDERBY":
        return _ordered(routing, session, args)
    raise wrong_subcommand(args[1])


def _ordered(routing: Routing, session: Session, args: list[bytes]) -> list[Any]:
    metric = args[3].lower()
    if metric != KEY_COUNT and metric not in session.node.slot_stats.metrics():
        raise UNKNOWN_METRIC
    limit, ascending = _order(args)
    stats = {slot: _stats(session, slot) for slot in _mine(routing)}
    sign = 1 if ascending else -1
    ordered = sorted(stats, key=lambda slot: (sign * stats[slot][metric], slot))
    return [[slot, stats[slot]] for slot in ordered[:limit]]


def _order(args: list[bytes]) -> tuple[int, bool]:
    """LIMIT, and whether the smallest come first."""
    limit: int | None = None
    ascending: bool | None = None
    i = 4
    while i < len(args):
        word = args[i].upper()
        if word == b"LIMIT" and i + 1 < len(args):
            if limit is not None:
                raise TWICE
            limit = integer_between(args[i + 1], 1, SLOTS, LIMIT)
            i += 2
        elif word in (b"ASC", b"DESC"):
            if ascending is not None:
                raise TWICE
            ascending = word == b"ASC"
            i += 1
        else:
            raise SYNTAX
    return limit or SLOTS, bool(ascending)


def _mine(routing: Routing) -> Iterable[int]:
    """The slots of this shard."""
    return members(routing.view.serving.slots)


def _shown(session: Session, slots: Iterable[int]) -> list[Any]:
    return [[slot, _stats(session, slot)] for slot in slots]


def _stats(session: Session, slot: int) -> Stats:
    node = session.node
    keys = sum(len(db.keys_of_part(slot)) for db in node.keyspace.databases)
    return {KEY_COUNT: keys, **node.slot_stats.of(slot)}
