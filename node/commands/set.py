"""SADD SREM SPOP SMOVE SISMEMBER SMISMEMBER SCARD SMEMBERS SRANDMEMBER SSCAN
SINTER SINTERCARD SINTERSTORE SUNION SUNIONSTORE SDIFF SDIFFSTORE.
"""

from collections.abc import Sequence
from typing import Any

from node.command import DENYOOM, FAST, READONLY, WRITE, Keys, command
from node.commands.arguments import count, cursor, scan_options, signed_count
from node.data.keyspace import GENERIC, SET, Database
from node.data.set import Set, difference, intersection, stored_difference, union
from node.replies import SYNTAX, Members, ReplyError
from node.session import Session

_STORE = (Keys("OW UPDATE"), Keys("RO ACCESS", first=2, last=-1))
_UNORDERED = (b"nondeterministic_output_order",)
_RANDOM = (b"nondeterministic_output",)


# --- members --------------------------------------------------------------------------------------


@command(
    "SADD key member [member ...]",
    flags=WRITE | DENYOOM | FAST,
    group="set",
    since="1.0.0",
    access="RW INSERT",
    complexity="O(N) for N members",
    history=(("2.4.0", "Accepts multiple `member` arguments."),),
)
def sadd(session: Session, args: list[bytes]) -> int:
    """Add members to a set, which is made if there is none."""
    db, key = session.db, args[1]
    value = db.make(key, Set)
    if len(args) == 3:
        added = int(value.add(args[2]))
    else:
        members = args[2:]
        value.expect(members)
        added = sum(map(value.add, members))
    if added:
        db.touch(key, b"sadd", SET)
    return added


@command(
    "SREM key member [member ...]",
    flags=WRITE | FAST,
    group="set",
    since="1.0.0",
    access="RW DELETE",
    complexity="O(N) for N members",
    history=(("2.4.0", "Accepts multiple `member` arguments."),),
)
def srem(session: Session, args: list[bytes]) -> int:
    """Remove members from a set."""
    db, key = session.db, args[1]
    value = db.find(key, Set)
    removed = 0 if value is None else sum(map(value.remove, args[2:]))
    if removed:
        db.touch(key, b"srem", SET)
        _remove_if_empty(db, key, value)
    return removed


def _remove_if_empty(db: Database, key: bytes, value: Set) -> None:
    if not value.order:
        db.drop(key)
        db.signal(key, b"del", GENERIC)


@command(
    "SMOVE source destination member",
    flags=WRITE | FAST,
    group="set",
    since="1.0.0",
    keys=(Keys("RW ACCESS DELETE"), Keys("RW INSERT", first=2)),
    complexity="O(1)",
)
def smove(session: Session, args: list[bytes]) -> int:
    """Move a member from one set to another."""
    db = session.db
    _, source_key, target_key, member = args
    source = db.find(source_key, Set)
    if source is None:
        return 0
    target = db.find(target_key, Set)
    if source is target:
        return int(member in source)
    if not source.remove(member):
        return 0
    db.touch(source_key, b"srem", SET)
    _remove_if_empty(db, source_key, source)
    if db.make(target_key, Set).add(member):
        db.touch(target_key, b"sadd", SET)
    return 1


@command(
    "SISMEMBER key member",
    flags=READONLY | FAST,
    group="set",
    since="1.0.0",
    access="RO",
    complexity="O(1)",
)
def sismember(session: Session, args: list[bytes]) -> int:
    """Whether something is a member of a set."""
    value = session.db.look(args[1], Set)
    return 0 if value is None else int(args[2] in value.place)


@command(
    "SMISMEMBER key member [member ...]",
    flags=READONLY | FAST,
    group="set",
    since="6.2.0",
    complexity="O(N) for N members",
)
def smismember(session: Session, args: list[bytes]) -> list[int]:
    """Which of several things are members of a set."""
    value = session.db.look(args[1], Set)
    return [0 if value is None else int(member in value.place) for member in args[2:]]


@command("SCARD key", flags=READONLY | FAST, group="set", since="1.0.0", access="RO")
def scard(session: Session, args: list[bytes]) -> int:
    """The number of members of a set."""
    value = session.db.look(args[1], Set)
    return 0 if value is None else len(value.order)


@command(
    "SMEMBERS key",
    flags=READONLY,
    group="set",
    since="1.0.0",
    complexity="O(N)",
    tips=_UNORDERED,
)
def smembers(session: Session, args: list[bytes]) -> Members:
    """All members of a set."""
    value = session.db.look(args[1], Set)
    return Members(() if value is None else value.members())


@command(
    "SSCAN key cursor [MATCH pattern] [COUNT count]",
    flags=READONLY,
    group="set",
    since="2.8.0",
    complexity="O(1) for every call, O(N) for a complete iteration",
    tips=_RANDOM,
)
def sscan(session: Session, args: list[bytes]) -> list[Any]:
    """Some members of a set, and where to go on."""
    start = cursor(args[2])
    value = session.db.look(args[1], Set)
    if value is None:
        return [b"0", []]
    test, most, _ = scan_options(args)
    following, members = value.scan(start, most)
    if test is not None:
        members = list(filter(test, members))
    return [b"%d" % following, members]


# --- random members -------------------------------------------------------------------------------


@command(
    "SPOP key [count]",
    flags=WRITE | FAST,
    group="set",
    since="1.0.0",
    access="RW ACCESS DELETE",
    complexity="O(N) for N members returned",
    history=(("3.2.0", "Added the `count` argument."),),
    tips=_RANDOM,
)
def spop(session: Session, args: list[bytes]) -> Any:
    """Remove and return random members of a set."""
    db, key = session.db, args[1]
    if len(args) > 2:
        return _spop_many(session, args)
    value = db.find(key, Set)
    if value is None:
        return None
    member = value.pop(session.node.random)
    session.effects = [[b"SREM", key, member]]
    db.touch(key, b"spop", SET)
    if not value.order:
        _remove_if_empty(db, key, value)
    return member


def _spop_many(session: Session, args: list[bytes]) -> Members:
    if len(args) > 3:
        raise SYNTAX
    db, key = session.db, args[1]
    most = count(args[2])
    value = db.find(key, Set)
    if value is None or not most:
        return Members()
    if most >= len(value):
        popped = value.members()
        session.effects = [[session.node.dropping_word(), key]]
        db.touch(key, b"spop", SET)
        db.drop(key)
        db.signal(key, b"del", GENERIC)
        return Members(popped)
    popped = value.draw(most, session.node.random)
    for member in popped:
        value.remove(member)
    session.effects = [[b"SREM", key, *popped]]
    db.touch(key, b"spop", SET)
    return Members(popped)


@command(
    "SRANDMEMBER key [count]",
    flags=READONLY,
    group="set",
    since="1.0.0",
    complexity="O(N) for N members returned",
    history=(("2.6.0", "Added the optional `count` argument."),),
    tips=_RANDOM,
)
def srandmember(session: Session, args: list[bytes]) -> Any:
    """Random members of a set; with a negative count some may come more than once."""
    if len(args) > 3:
        raise SYNTAX
    most = signed_count(args[2]) if len(args) == 3 else 1
    value = session.db.look(args[1], Set)
    found = [] if value is None else value.draw(most, session.node.random)
    if len(args) == 3:
        return found
    return found[0] if found else None


# --- several sets ---------------------------------------------------------------------------------


def _sets(db: Database, keys: Sequence[bytes]) -> list[Set | None]:
    return [db.look(key, Set) for key in keys]


def _store(session: Session, key: bytes, value: Set, event: bytes) -> int:
    """Put a set at a key; an empty one is none."""
    db = session.db
    if value.order:
        db.put(key, value)
        db.touch(key, event, SET)
    elif db.remove(key) is not None:
        db.touch(key, b"del", GENERIC)
    return len(value.order)


@command(
    "SINTER key [key ...]",
    flags=READONLY,
    group="set",
    since="1.0.0",
    complexity="O(N*M) for M sets of which the smallest has N members",
    tips=_UNORDERED,
)
def sinter(session: Session, args: list[bytes]) -> Members:
    """The members that are in all of several sets."""
    return Members(intersection(_sets(session.db, args[1:])))


@command(
    "SINTERSTORE destination key [key ...]",
    flags=WRITE | DENYOOM,
    group="set",
    since="1.0.0",
    keys=_STORE,
    complexity="O(N*M) for M sets of which the smallest has N members",
)
def sinterstore(session: Session, args: list[bytes]) -> int:
    """Store the members that are in all of several sets."""
    members = intersection(_sets(session.db, args[2:]))
    return _store(session, args[1], Set(session.node.keyspace.limits, members), b"sinterstore")


@command(
    "SINTERCARD numkeys key [key ...] [LIMIT limit]",
    flags=READONLY,
    group="set",
    since="7.0.0",
    complexity="O(N*M) for M sets of which the smallest has N members",
)
def sintercard(session: Session, args: list[bytes]) -> int:
    """The number of members that are in all of several sets."""
    keys, most = intercard_options(args)
    return len(intersection(_sets(session.db, keys), most))


def intercard_options(args: list[bytes]) -> tuple[list[bytes], int]:
    """The keys and the limit of SINTERCARD and ZINTERCARD; raises ReplyError."""
    number = count(args[1], ReplyError(b"ERR numkeys should be greater than 0"), 1)
    if number > len(args) - 2:
        raise ReplyError(b"ERR Number of keys can't be greater than number of args")
    most = 0
    for i in range(2 + number, len(args), 2):
        if args[i].upper() != b"LIMIT" or i + 1 == len(args):
            raise SYNTAX
        most = count(args[i + 1], ReplyError(b"ERR LIMIT can't be negative"))
    return args[2 : 2 + number], most


@command(
    "SUNION key [key ...]",
    flags=READONLY,
    group="set",
    since="1.0.0",
    complexity="O(N) for N members in all sets",
    tips=_UNORDERED,
)
def sunion(session: Session, args: list[bytes]) -> Members:
    """The members that are in any of several sets."""
    return Members(union(_sets(session.db, args[1:])))


@command(
    "SUNIONSTORE destination key [key ...]",
    flags=WRITE | DENYOOM,
    group="set",
    since="1.0.0",
    keys=_STORE,
    complexity="O(N) for N members in all sets",
)
def sunionstore(session: Session, args: list[bytes]) -> int:
    """Store the members that are in any of several sets."""
    members = union(_sets(session.db, args[2:]))
    return _store(session, args[1], Set(session.node.keyspace.limits, members), b"sunionstore")


@command(
    "SDIFF key [key ...]",
    flags=READONLY,
    group="set",
    since="1.0.0",
    complexity="O(N) for N members in all sets",
    tips=_UNORDERED,
)
def sdiff(session: Session, args: list[bytes]) -> Members:
    """The members of the first of several sets that no other has."""
    return Members(difference(_sets(session.db, args[1:])))


@command(
    "SDIFFSTORE destination key [key ...]",
    flags=WRITE | DENYOOM,
    group="set",
    since="1.0.0",
    keys=_STORE,
    complexity="O(N) for N members in all sets",
)
def sdiffstore(session: Session, args: list[bytes]) -> int:
    """Store the members of the first of several sets that no other has."""
    result = stored_difference(session.node.keyspace.limits, _sets(session.db, args[2:]))
    return _store(session, args[1], result, b"sdiffstore")
