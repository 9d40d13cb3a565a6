"""DBSIZE FLUSHDB FLUSHALL SWAPDB: whole databases."""

from node.command import ALL_DBS, FAST, READONLY, WRITE, command
from node.commands.arguments import INT32_MAX, INT32_MIN, integer_between
from node.replies import OK, SYNTAX, ReplyError, Status
from node.session import Session

DB_OUT_OF_RANGE = ReplyError(b"ERR DB index is out of range")
NOT_IN_A_CLUSTER = ReplyError(b"ERR SWAPDB is not allowed in cluster mode")
_FIRST = ReplyError(b"ERR invalid first DB index")
_SECOND = ReplyError(b"ERR invalid second DB index")
_HISTORY = (
    ("4.0.0", "Added the `ASYNC` flushing mode modifier."),
    ("6.2.0", "Added the `SYNC` flushing mode modifier."),
)
_ALL_SHARDS = b"request_policy:all_shards"
_FLUSH_TIPS = (_ALL_SHARDS, b"response_policy:all_succeeded")


@command(
    "DBSIZE",
    flags=READONLY | FAST,
    group="server",
    since="1.0.0",
    categories="keyspace",
    complexity="O(1)",
    tips=(_ALL_SHARDS, b"response_policy:agg_sum"),
)
def dbsize(session: Session, args: list[bytes]) -> int:
    """How many keys the database holds."""
    return len(session.db)


@command(
    "FLUSHDB [ASYNC | SYNC]",
    flags=WRITE,
    group="server",
    since="1.0.0",
    categories="keyspace dangerous",
    complexity="O(N) for N keys in the database",
    tips=_FLUSH_TIPS,
    history=_HISTORY,
)
def flushdb(session: Session, args: list[bytes]) -> Status:
    """Remove every key of the database."""
    _check_mode(args)
    session.node.watches.database_emptied(session.db)
    session.db.flush()
    session.node.keyspace.dirty += 1
    return OK


@command(
    "FLUSHALL [ASYNC | SYNC]",
    flags=WRITE | ALL_DBS,
    group="server",
    since="1.0.0",
    categories="keyspace dangerous",
    complexity="O(N) for N keys in all databases",
    tips=_FLUSH_TIPS,
    history=_HISTORY,
)
def flushall(session: Session, args: list[bytes]) -> Status:
    """Remove every key of every database."""
    _check_mode(args)
    node = session.node
    for db in node.keyspace.databases:
        node.watches.database_emptied(db)
    node.keyspace.flush()
    node.saves.flushed()
    node.keyspace.dirty += 1
    return OK


def _check_mode(args: list[bytes]) -> None:
    # Both modes come to the same here: the tables are dropped whole, the turn goes on at once.
    if len(args) > 2 or (len(args) == 2 and args[1].upper() not in (b"ASYNC", b"SYNC")):
        raise SYNTAX


@command(
    "SWAPDB index1 index2",
    flags=WRITE | FAST,
    group="server",
    since="4.0.0",
    categories="keyspace dangerous",
    complexity="O(N) for N clients that wait for keys of either database",
)
def swapdb(session: Session, args: list[bytes]) -> Status:
    """Exchange the contents of two databases."""
    keyspace = session.node.keyspace
    if session.node.topology.clustered:
        raise NOT_IN_A_CLUSTER
    first = integer_between(args[1], INT32_MIN, INT32_MAX, _FIRST)
    second = integer_between(args[2], INT32_MIN, INT32_MAX, _SECOND)
    for index in (first, second):
        if not 0 <= index < len(keyspace.databases):
            raise DB_OUT_OF_RANGE
    watches = session.node.watches
    watches.database_emptied(keyspace[first], keyspace[second])
    watches.database_emptied(keyspace[second], keyspace[first])
    keyspace.swap(first, second)
    keyspace.dirty += 1
    return OK
