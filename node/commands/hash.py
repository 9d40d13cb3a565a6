"""HSET HSETNX HMSET HGET HMGET HGETALL HKEYS HVALS HLEN HEXISTS HSTRLEN HDEL HINCRBY HINCRBYFLOAT
HRANDFIELD HSCAN. Fields with deadlines are in hash_expiry; here they only matter in that a field
whose time has come counts as missing until it is deleted.
"""

from collections.abc import Collection
from typing import Any

from node.command import DENYOOM, FAST, READONLY, WRITE, command
from node.commands.arguments import cursor, integer, scan_options
from node.commands.zset import random_options
from node.data import longdouble
from node.data.hash import Hash
from node.data.keyspace import GENERIC, HASH, KEEP, Database
from node.data.number import INT64_MAX, INT64_MIN, as_integer
from node.data.order import draw
from node.replies import NOT_FLOAT, OK, OVERFLOW, ReplyError, wrong_arity
from node.session import Session

_RANDOM = (b"nondeterministic_output",)
_UNORDERED = (b"nondeterministic_output_order",)


# --- fields whose time has come ------------------------------------------------------------------


def gone(db: Database, value: Hash) -> Collection[bytes]:
    """The fields that are still in a hash, but count as missing. O(1) where there are none."""
    deadline_ms = value.next_deadline()
    keyspace = db.keyspace
    if deadline_ms is None or deadline_ms > keyspace.now_ms or keyspace.expiry == KEEP:
        return ()
    assert value.expires is not None
    return frozenset(value.due(keyspace.now_ms, len(value.expires)))


def is_gone(db: Database, value: Hash, field: bytes) -> bool:
    """Whether a field that may still be in a hash counts as missing. O(1)."""
    deadline_ms = value.get_deadline(field)
    keyspace = db.keyspace
    return deadline_ms is not None and deadline_ms <= keyspace.now_ms and keyspace.expiry != KEEP


def get_field(db: Database, value: Hash, field: bytes) -> bytes | None:
    """The value of a field that is not missing."""
    if value.expires is not None and is_gone(db, value, field):
        return None
    return value.fields.get(field)


def make_room(db: Database, key: bytes, value: Hash, fields: Collection[bytes]) -> bool:
    """Before fields are written: delete those of them that count as missing; whether any did."""
    if value.expires is None:
        return False
    dead = [field for field in fields if is_gone(db, value, field)]
    for field in dead:
        value.delete(field)
    if dead:
        db.keyspace.expired_fields += len(dead)
        db.signal(key, b"hexpired", HASH)
    return bool(dead)


def remove_if_empty(db: Database, key: bytes, value: Hash) -> None:
    """An empty hash is none."""
    if not value.fields:
        db.drop(key)
        db.signal(key, b"del", GENERIC)


def visible(db: Database, value: Hash) -> list[bytes]:
    """The fields that are not missing. O(N)."""
    dead = gone(db, value)
    return [field for field in value.fields if field not in dead] if dead else list(value.fields)


# --- writing -------------------------------------------------------------------------------------


@command(
    "HSET key field value [field value ...]",
    flags=WRITE | DENYOOM | FAST,
    group="hash",
    since="2.0.0",
    complexity="O(N) for N fields",
    history=(("4.0.0", "Accepts multiple `field` and `value` arguments."),),
)
def hset(session: Session, args: list[bytes]) -> int:
    """Set fields of a hash, which is made if there is none."""
    db, key = session.db, args[1]
    if len(args) == 4:
        value = db.make(key, Hash)
        if value.expires is None:
            added = value.set(args[2], args[3])
            db.touch(key, b"hset", HASH)
            return 1 if added else 0
    return _set_all(session, args)


def _set_all(session: Session, args: list[bytes]) -> int:
    if len(args) % 2:
        raise wrong_arity(args[0].lower())
    db, key = session.db, args[1]
    value = db.make(key, Hash)
    fields = args[2::2]
    make_room(db, key, value, fields)
    value.expect(len(fields))
    added = sum(map(value.set, fields, args[3::2]))
    db.touch(key, b"hset", HASH)
    return added


@command(
    "HMSET key field value [field value ...]",
    flags=WRITE | DENYOOM | FAST,
    group="hash",
    since="2.0.0",
    complexity="O(N) for N fields",
    deprecated=("4.0.0", "`HSET` with multiple field-value pairs"),
)
def hmset(session: Session, args: list[bytes]) -> Any:
    """Set fields of a hash, which is made if there is none."""
    _set_all(session, args)
    return OK


@command(
    "HSETNX key field value",
    flags=WRITE | DENYOOM | FAST,
    group="hash",
    since="2.0.0",
    access="RW INSERT",
    complexity="O(1)",
)
def hsetnx(session: Session, args: list[bytes]) -> int:
    """Set a field of a hash if it is not there."""
    db = session.db
    _, key, field, content = args
    value = db.make(key, Hash)
    if get_field(db, value, field) is not None:
        return 0
    if make_room(db, key, value, (field,)):
        session.effects = [[b"HSET", key, field, content]]
    value.set(field, content)
    db.touch(key, b"hset", HASH)
    return 1


@command(
    "HDEL key field [field ...]",
    flags=WRITE | FAST,
    group="hash",
    since="2.0.0",
    access="RW DELETE",
    complexity="O(N) for N fields",
    history=(("2.4.0", "Accepts multiple `field` arguments."),),
)
def hdel(session: Session, args: list[bytes]) -> int:
    """Delete fields of a hash."""
    db, key = session.db, args[1]
    value = db.find(key, Hash)
    if value is None:
        return 0
    fields = args[2:]
    if value.expires is not None:
        fields = [field for field in fields if not is_gone(db, value, field)]
    removed = sum(map(value.delete, fields))
    if removed:
        db.touch(key, b"hdel", HASH)
        remove_if_empty(db, key, value)
    return removed


@command(
    "HINCRBY key field increment",
    flags=WRITE | DENYOOM | FAST,
    group="hash",
    since="2.0.0",
    access="RW ACCESS UPDATE",
    complexity="O(1)",
)
def hincrby(session: Session, args: list[bytes]) -> int:
    """Add to the integer in a field; one that is not there counts as 0."""
    db = session.db
    _, key, field, increment = args
    amount = integer(increment)
    value = db.find(key, Hash)
    before = None if value is None else get_field(db, value, field)
    total = 0 if before is None else as_integer(before)
    if total is None:
        raise ReplyError(b"ERR hash value is not an integer")
    total += amount
    if not INT64_MIN <= total <= INT64_MAX:
        raise OVERFLOW
    if value is None:
        value = db.make(key, Hash)
    text = b"%d" % total
    if make_room(db, key, value, (field,)):
        session.effects = [[b"HSET", key, field, text]]
    value.set(field, text, keep_deadline=True)
    db.touch(key, b"hincrby", HASH)
    return total


@command(
    "HINCRBYFLOAT key field increment",
    flags=WRITE | DENYOOM | FAST,
    group="hash",
    since="2.6.0",
    access="RW ACCESS UPDATE",
    complexity="O(1)",
)
def hincrbyfloat(session: Session, args: list[bytes]) -> bytes:
    """Add to the number in a field; one that is not there counts as 0."""
    db = session.db
    _, key, field, increment = args
    amount = longdouble.parse(increment)
    if amount is None:
        raise NOT_FLOAT
    if amount == longdouble.INFINITE:
        raise ReplyError(b"ERR value is NaN or Infinity")
    value = db.find(key, Hash)
    before = None if value is None else get_field(db, value, field)
    start = longdouble.parse(b"0" if before is None else before)
    if start is None:
        raise ReplyError(b"ERR hash value is not a float")
    total = longdouble.add(start, amount)
    if total is None:
        raise ReplyError(b"ERR increment would produce NaN or Infinity")
    if value is None:
        value = db.make(key, Hash)
    text = longdouble.text(total)
    make_room(db, key, value, (field,))
    value.set(field, text, keep_deadline=True)
    session.effects = [[b"HSET", key, field, text], *deadline_effects(key, value, [field])]
    db.touch(key, b"hincrbyfloat", HASH)
    return text


def deadline_effects(key: bytes, value: Hash, fields: list[bytes]) -> list[list[bytes]]:
    """The commands that give fields again the deadlines that they have."""
    by_deadline: dict[int, list[bytes]] = {}
    for field in dict.fromkeys(fields):
        at_ms = value.get_deadline(field)
        if at_ms is not None:
            by_deadline.setdefault(at_ms, []).append(field)
    return [
        [b"HPEXPIREAT", key, b"%d" % at_ms, b"FIELDS", b"%d" % len(some), *some]
        for at_ms, some in by_deadline.items()
    ]


# --- reading -------------------------------------------------------------------------------------


@command("HGET key field", flags=READONLY | FAST, group="hash", since="2.0.0", complexity="O(1)")
def hget(session: Session, args: list[bytes]) -> bytes | None:
    """The value of a field."""
    db = session.db
    value = db.look(args[1], Hash)
    return None if value is None else get_field(db, value, args[2])


@command(
    "HMGET key field [field ...]",
    flags=READONLY | FAST,
    group="hash",
    since="2.0.0",
    complexity="O(N) for N fields",
)
def hmget(session: Session, args: list[bytes]) -> list[bytes | None]:
    """The values of several fields."""
    db = session.db
    value = db.look(args[1], Hash)
    if value is None:
        return [None] * (len(args) - 2)
    if value.expires is None:
        return list(map(value.fields.get, args[2:]))
    return [get_field(db, value, field) for field in args[2:]]


@command("HGETALL key", flags=READONLY, group="hash", since="2.0.0", tips=_UNORDERED)
def hgetall(session: Session, args: list[bytes]) -> dict[bytes, bytes]:
    """All fields of a hash with their values."""
    db = session.db
    value = db.look(args[1], Hash)
    if value is None:
        return {}
    if value.expires is None:
        return value.fields.copy()
    return {field: value.fields[field] for field in visible(db, value)}


@command("HKEYS key", flags=READONLY, group="hash", since="2.0.0", tips=_UNORDERED)
def hkeys(session: Session, args: list[bytes]) -> list[bytes]:
    """All fields of a hash."""
    value = session.db.look(args[1], Hash)
    return [] if value is None else visible(session.db, value)


@command("HVALS key", flags=READONLY, group="hash", since="2.0.0", tips=_UNORDERED)
def hvals(session: Session, args: list[bytes]) -> list[bytes]:
    """All values of a hash."""
    value = session.db.look(args[1], Hash)
    return [] if value is None else [value.fields[field] for field in visible(session.db, value)]


@command("HLEN key", flags=READONLY | FAST, group="hash", since="2.0.0", access="RO")
def hlen(session: Session, args: list[bytes]) -> int:
    """The number of fields of a hash, those included whose time has come but lately."""
    value = session.db.look(args[1], Hash)
    return 0 if value is None else len(value.fields)


@command("HEXISTS key field", flags=READONLY | FAST, group="hash", since="2.0.0", access="RO")
def hexists(session: Session, args: list[bytes]) -> int:
    """Whether a hash has a field."""
    db = session.db
    value = db.look(args[1], Hash)
    return 0 if value is None or get_field(db, value, args[2]) is None else 1


@command("HSTRLEN key field", flags=READONLY | FAST, group="hash", since="3.2.0", access="RO")
def hstrlen(session: Session, args: list[bytes]) -> int:
    """The length of the value of a field, in bytes."""
    db = session.db
    value = db.look(args[1], Hash)
    return 0 if value is None else len(get_field(db, value, args[2]) or b"")


@command(
    "HRANDFIELD key [count [WITHVALUES]]",
    flags=READONLY,
    group="hash",
    since="6.2.0",
    complexity="O(N) for N fields returned",
    tips=_RANDOM,
)
def hrandfield(session: Session, args: list[bytes]) -> Any:
    """Random fields of a hash; with a negative count some may come more than once."""
    most, with_values = random_options(args, b"WITHVALUES")
    db = session.db
    value = db.look(args[1], Hash)
    fields = [] if value is None else _draw(session, value, 1 if most is None else most)
    if most is None:
        return fields[0] if fields else None
    if value is None or not with_values:
        return fields
    if session.protocol == 3:
        return [[field, value.fields[field]] for field in fields]
    return [part for field in fields for part in (field, value.fields[field])]


def _draw(session: Session, value: Hash, most: int) -> list[bytes]:
    if gone(session.db, value):
        return draw(visible(session.db, value), most, session.node.random)
    return value.draw(most, session.node.random)


@command(
    "HSCAN key cursor [MATCH pattern] [COUNT count] [NOVALUES]",
    flags=READONLY,
    group="hash",
    since="2.8.0",
    complexity="O(1) for every call, O(N) for a complete iteration",
    tips=_RANDOM,
)
def hscan(session: Session, args: list[bytes]) -> list[Any]:
    """Some fields of a hash with their values, and where to go on."""
    start = cursor(args[2])
    db = session.db
    value = db.look(args[1], Hash)
    if value is None:
        return [b"0", []]
    test, most, no_values = scan_options(args, b"NOVALUES")
    following, found = value.scan(start, most)
    dead = gone(db, value)
    if dead or test is not None:
        found = [
            entry for entry in found if entry[0] not in dead and (test is None or test(entry[0]))
        ]
    if no_values:
        return [b"%d" % following, [field for field, _ in found]]
    return [b"%d" % following, [part for entry in found for part in entry]]
