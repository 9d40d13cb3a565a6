"""HEXPIRE HPEXPIRE HEXPIREAT HPEXPIREAT HTTL HPTTL HEXPIRETIME HPEXPIRETIME HPERSIST HGETEX HSETEX
HGETDEL: single fields of a hash with deadlines.

As in Valkey, a field whose time has come is missing for whoever asks, and is deleted a little
later by the node's tick, which logs that as HDEL. Deadlines are absolute in the data and the log.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from node.command import DENYOOM, FAST, READONLY, WRITE, command
from node.commands.arguments import integer
from node.commands.expire import conditions, invalid_expire_time, is_allowed, is_past
from node.commands.hash import deadline_effects, get_field, make_room, remove_if_empty
from node.data.hash import Hash
from node.data.keyspace import GENERIC, HASH, Database
from node.data.number import INT64_MAX
from node.replies import SYNTAX, ReplyError
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node

_NUMFIELDS = ReplyError(
    b"ERR numfields should be greater than 0 and match the provided number of fields"
)
MISSING, NO_DEADLINE = -2, -1
REFUSED, ARMED, DELETED = 0, 1, 2  # what HEXPIRE answers for a field
_BATCH = 256  # fields deleted of one hash before others get their turn


# --- arguments -----------------------------------------------------------------------------------


def _fields_word(args: list[bytes], start: int) -> int:
    """Where FIELDS stands; raises ReplyError."""
    for i in range(start, len(args) - 1):
        if args[i].upper() == b"FIELDS":
            return i
    raise _NUMFIELDS


def _fields(
    args: list[bytes], at: int, width: int = 1, error: ReplyError = _NUMFIELDS
) -> list[bytes]:
    """What follows FIELDS and the number of fields at args[at]; raises ReplyError."""
    number = integer(args[at])
    if number < 1 or number * width != len(args) - at - 1:
        raise error
    return args[at + 1 :]


def _fields_at_once(args: list[bytes], error: ReplyError = _NUMFIELDS) -> list[bytes]:
    """The fields of a command in which FIELDS follows the key; raises ReplyError."""
    if args[2].upper() != b"FIELDS":
        raise SYNTAX
    return _fields(args, 3, error=error)


def _deadline(session: Session, name: bytes, number: bytes, unit_ms: int, relative: bool) -> int:
    """A deadline, perhaps in the past; raises ReplyError."""
    amount = integer(number)
    at_ms = amount * unit_ms + (session.node.keyspace.now_ms if relative else 0)
    if amount < 0 or at_ms > INT64_MAX:
        raise invalid_expire_time(name)
    return at_ms


_UNITS = {b"EX": (1000, True), b"PX": (1, True), b"EXAT": (1000, False), b"PXAT": (1, False)}


@attrs.define
class _Options:
    """What stands before FIELDS in HGETEX and HSETEX."""

    unit: bytes | None = None
    number: bytes = b""
    keeps: bool = False  # PERSIST of HGETEX, KEEPTTL of HSETEX: no new deadline
    key: bytes | None = None  # NX or XX
    field: bytes | None = None  # FNX or FXX


def _options(words: list[bytes], keep: bytes, conditional: bool) -> _Options:
    """Parse them; `keep` is PERSIST or KEEPTTL; raises ReplyError."""
    options = _Options()
    i = 0
    while i < len(words):
        word = words[i].upper()
        if word in _UNITS and i + 1 < len(words) and not options.keeps:
            if options.unit not in (None, word):
                raise SYNTAX
            options.unit, options.number = word, words[i + 1]
            i += 1
        elif word == keep and options.unit is None:
            options.keeps = True
        elif conditional and word in (b"NX", b"XX") and options.key in (None, word):
            options.key = word
        elif conditional and word in (b"FNX", b"FXX") and options.field in (None, word):
            options.field = word
        else:
            raise SYNTAX
        i += 1
    return options


# --- deadlines of fields -------------------------------------------------------------------------


def _arm(session: Session, key: bytes, value: Hash, fields: list[bytes], at_ms: int) -> None:
    """Give fields that are there a deadline and log that; delete them if it has passed."""
    db = session.db
    if not fields:
        return
    if is_past(session, at_ms):
        for field in fields:
            value.delete(field)
        db.keyspace.expired_fields += len(fields)
        session.effects = [[b"HDEL", key, *fields]]
        db.touch(key, b"hexpired", HASH)
        remove_if_empty(db, key, value)
        return
    for field in fields:
        value.set_deadline(field, at_ms)
    db.arm_fields(key, value)
    session.effects = [[b"HPEXPIREAT", key, b"%d" % at_ms, b"FIELDS", b"%d" % len(fields), *fields]]
    db.touch(key, b"hexpire", HASH)


def _disarm(session: Session, key: bytes, value: Hash, fields: list[bytes]) -> list[bytes]:
    """Let fields live for ever and log that; those which had a deadline."""
    freed = [field for field in fields if value.drop_deadline(field)]
    if freed:
        session.effects = [[b"HPERSIST", key, b"FIELDS", b"%d" % len(freed), *freed]]
        session.db.touch(key, b"hpersist", HASH)
    return freed


def expire_due_fields(node: "Node", db: Database, key: bytes) -> None:
    """Delete fields of a hash whose time has come, or find out when to look again."""
    db.field_expires.pop(key, None)
    value = db.peek(key)
    if type(value) is not Hash:
        return
    fields = value.due(db.keyspace.now_ms, _BATCH)
    if fields:
        for field in fields:
            value.delete(field)
        db.keyspace.expired_fields += len(fields)
        if node.log.active:
            node.log.append_one(db.index, [b"HDEL", key, *fields])
        db.touch(key, b"hexpired", HASH)
        remove_if_empty(db, key, value)
    db.arm_fields(key, value)


# --- HEXPIRE and its kin -------------------------------------------------------------------------


def _hexpire(session: Session, args: list[bytes], unit_ms: int, relative: bool) -> list[int]:
    at = _fields_word(args, 3)
    asked = conditions(args[3:at])
    fields = _fields(args, at + 1)
    at_ms = _deadline(session, args[0], args[2], unit_ms, relative)
    db, key = session.db, args[1]
    value = db.find(key, Hash)
    if value is None:
        return [MISSING] * len(fields)
    done = DELETED if is_past(session, at_ms) else ARMED
    outcomes: list[int] = []
    changed: dict[bytes, None] = {}
    for field in fields:
        if get_field(db, value, field) is None or (done == DELETED and field in changed):
            outcomes.append(MISSING)
        elif not is_allowed(asked, at_ms if field in changed else value.get_deadline(field), at_ms):
            outcomes.append(REFUSED)
        else:
            changed[field] = None
            outcomes.append(done)
    _arm(session, key, value, list(changed), at_ms)
    return outcomes


_EXPIRE: dict[str, Any] = {
    "flags": WRITE | FAST,
    "group": "hash",
    "since": "9.0.0",
    "complexity": "O(N) for N fields",
}


@command("HEXPIRE key seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]", **_EXPIRE)
def hexpire(session: Session, args: list[bytes]) -> list[int]:
    """Let fields of a hash expire after some seconds."""
    return _hexpire(session, args, 1000, True)


@command(
    "HPEXPIRE key milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]", **_EXPIRE
)
def hpexpire(session: Session, args: list[bytes]) -> list[int]:
    """Let fields of a hash expire after some milliseconds."""
    return _hexpire(session, args, 1, True)


@command(
    "HEXPIREAT key unix-time-seconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    **_EXPIRE,
)
def hexpireat(session: Session, args: list[bytes]) -> list[int]:
    """Let fields of a hash expire at a time in Unix seconds."""
    return _hexpire(session, args, 1000, False)


@command(
    "HPEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT] FIELDS numfields field [field ...]",
    **_EXPIRE,
)
def hpexpireat(session: Session, args: list[bytes]) -> list[int]:
    """Let fields of a hash expire at a time in Unix milliseconds."""
    return _hexpire(session, args, 1, False)


@command("HPERSIST key FIELDS numfields field [field ...]", **_EXPIRE)
def hpersist(session: Session, args: list[bytes]) -> list[int]:
    """Let fields of a hash live for ever."""
    fields = _fields_at_once(args)
    db, key = session.db, args[1]
    value = db.find(key, Hash)
    if value is None:
        return [MISSING] * len(fields)
    there = [field for field in fields if get_field(db, value, field) is not None]
    freed = dict.fromkeys(_disarm(session, key, value, there))
    outcomes: list[int] = []
    for field in fields:
        if field in freed:
            del freed[field]
            outcomes.append(1)
        else:
            outcomes.append(NO_DEADLINE if field in there else MISSING)
    return outcomes


# --- HTTL and its kin ----------------------------------------------------------------------------


def _times(session: Session, args: list[bytes], in_unit: Callable[[int], int]) -> list[int]:
    fields = _fields_at_once(args, SYNTAX)
    db = session.db
    value = db.look(args[1], Hash)
    if value is None:
        return [MISSING] * len(fields)
    times: list[int] = []
    for field in fields:
        if get_field(db, value, field) is None:
            times.append(MISSING)
        else:
            at_ms = value.get_deadline(field)
            times.append(NO_DEADLINE if at_ms is None else in_unit(at_ms))
    return times


def _seconds(milliseconds: int) -> int:
    return (max(milliseconds, 0) + 500) // 1000


_TIME: dict[str, Any] = {
    "flags": READONLY | FAST,
    "group": "hash",
    "since": "9.0.0",
    "complexity": "O(N) for N fields",
}


@command("HTTL key FIELDS numfields field [field ...]", **_TIME)
def httl(session: Session, args: list[bytes]) -> list[int]:
    """How many seconds fields of a hash have left."""
    now_ms = session.node.keyspace.now_ms
    return _times(session, args, lambda at_ms: _seconds(at_ms - now_ms))


@command("HPTTL key FIELDS numfields field [field ...]", **_TIME)
def hpttl(session: Session, args: list[bytes]) -> list[int]:
    """How many milliseconds fields of a hash have left."""
    now_ms = session.node.keyspace.now_ms
    return _times(session, args, lambda at_ms: max(at_ms - now_ms, 0))


@command("HEXPIRETIME key FIELDS numfields field [field ...]", **_TIME)
def hexpiretime(session: Session, args: list[bytes]) -> list[int]:
    """When fields of a hash expire, in Unix seconds."""
    return _times(session, args, _seconds)


@command("HPEXPIRETIME key FIELDS numfields field [field ...]", **_TIME)
def hpexpiretime(session: Session, args: list[bytes]) -> list[int]:
    """When fields of a hash expire, in Unix milliseconds."""
    return _times(session, args, lambda at_ms: at_ms)


# --- reading or writing and deadlines at once ----------------------------------------------------


@command(
    "HGETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
    "PXAT unix-time-milliseconds | PERSIST] FIELDS numfields field [field ...]",
    flags=WRITE | FAST,
    group="hash",
    since="9.0.0",
    access="RW ACCESS UPDATE",
    complexity="O(N) for N fields",
)
def hgetex(session: Session, args: list[bytes]) -> list[bytes | None]:
    """The values of fields of a hash, which may get a deadline or lose theirs."""
    at = _fields_word(args, 2)
    options = _options(args[2:at], b"PERSIST", conditional=False)
    fields = _fields(args, at + 1)
    db, key = session.db, args[1]
    value = db.look(key, Hash)
    at_ms = None
    if options.unit is not None:
        at_ms = _deadline(session, args[0], options.number, *_UNITS[options.unit])
    if value is None:
        return [None] * len(fields)
    found = [get_field(db, value, field) for field in fields]
    there = dict.fromkeys(
        f for f, content in zip(fields, found, strict=True) if content is not None
    )
    if at_ms is not None:
        if is_past(session, at_ms):  # each goes as soon as it has been read
            first = {field: i for i, field in reversed(list(enumerate(fields)))}
            found = [found[i] if first[f] == i else None for i, f in enumerate(fields)]
        _arm(session, key, value, list(there), at_ms)
    elif options.keeps:
        _disarm(session, key, value, list(there))
    return found


@command(
    "HSETEX key [NX | XX] [FNX | FXX] [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
    "PXAT unix-time-milliseconds | KEEPTTL] FIELDS numfields field value [field value ...]",
    flags=WRITE | DENYOOM | FAST,
    group="hash",
    since="9.0.0",
    access="RW INSERT",
    complexity="O(N) for N fields",
)
def hsetex(session: Session, args: list[bytes]) -> int:
    """Set fields of a hash with a deadline, if a condition holds."""
    at = _fields_word(args, 2)
    options = _options(args[2:at], b"KEEPTTL", conditional=True)
    pairs = _fields(args, at + 1, width=2)
    db, key = session.db, args[1]
    value = db.find(key, Hash)
    if options.key is not None and (value is None) != (options.key == b"NX"):
        return 0  # whatever the deadline says
    at_ms = None
    if options.unit is not None:
        at_ms = _deadline(session, args[0], options.number, *_UNITS[options.unit])
    fields = pairs[::2]
    if not _fields_hold(db, value, options.field, fields):
        return 0
    if at_ms is not None and is_past(session, at_ms):
        _set_and_delete(session, key, fields)
        return 1
    value = db.make(key, Hash)
    make_room(db, key, value, fields)
    value.expect(len(fields))
    for field, content in zip(fields, pairs[1::2], strict=True):
        value.set(field, content, keep_deadline=options.keeps)
    db.touch(key, b"hset", HASH)
    if at_ms is not None:
        _arm(session, key, value, list(dict.fromkeys(fields)), at_ms)
    session.effects = [[b"HSET", key, *pairs], *deadline_effects(key, value, fields)]
    return 1


def _fields_hold(
    db: Database, value: Hash | None, condition: bytes | None, fields: list[bytes]
) -> bool:
    """Whether the fields are there, or not, as FXX or FNX want it."""
    if condition is None:
        return True
    return all(
        (value is not None and get_field(db, value, field) is not None) == (condition == b"FXX")
        for field in fields
    )


def _set_and_delete(session: Session, key: bytes, fields: list[bytes]) -> None:
    """HSETEX with a deadline in the past: the fields end up deleted, the rest is show."""
    db = session.db
    value = db.make(key, Hash)
    there = [field for field in dict.fromkeys(fields) if field in value.fields]
    db.keyspace.expired_fields += len(fields)
    db.signal(key, b"hset", HASH)
    db.signal(key, b"hexpire", HASH)
    if there:
        for field in there:
            value.delete(field)
        session.effects = [[b"HDEL", key, *there]]
        db.touch(key, b"hexpired", HASH)
        remove_if_empty(db, key, value)
    else:
        db.signal(key, b"hexpired", HASH)
        if not value.fields:
            db.drop(key)
            db.signal(key, b"del", GENERIC)


@command(
    "HGETDEL key FIELDS numfields field [field ...]",
    flags=WRITE | FAST,
    group="hash",
    since="9.1.0",
    access="RW ACCESS DELETE",
    complexity="O(N) for N fields",
)
def hgetdel(session: Session, args: list[bytes]) -> list[bytes | None]:
    """The values of fields of a hash, which are deleted."""
    fields = _fields_at_once(args)
    db, key = session.db, args[1]
    value = db.find(key, Hash)
    if value is None:
        return [None] * len(fields)
    found: list[bytes | None] = []
    deleted: list[bytes] = []
    for field in fields:
        content = get_field(db, value, field)
        found.append(content)
        if content is not None:
            value.delete(field)
            deleted.append(field)
    if deleted:
        session.effects = [[b"HDEL", key, *deleted]]
        db.touch(key, b"hdel", HASH)
        remove_if_empty(db, key, value)
    return found
