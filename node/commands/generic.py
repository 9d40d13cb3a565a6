"""DEL UNLINK EXISTS TOUCH TYPE RENAME RENAMENX MOVE COPY KEYS SCAN RANDOMKEY OBJECT, DUMP and
RESTORE.
"""

from collections.abc import Callable
from typing import Any

from node.command import (
    DENYOOM,
    FAST,
    LOADING,
    READONLY,
    STALE,
    TOUCHES_ARBITRARY_KEYS,
    WRITE,
    Keys,
    Usage,
    command,
)
from node.commands.arguments import count, cursor, integer, integer32, scan_options
from node.commands.expire import is_past
from node.commands.help import help_text
from node.commands.keyspace import DB_OUT_OF_RANGE
from node.data import string
from node.data.hash import Hash
from node.data.keyspace import GENERIC, HIDE, Database
from node.data.list import List
from node.data.number import INT64_MAX
from node.data.pattern import compiled
from node.data.set import Set
from node.data.stream import Stream
from node.data.zset import ZSet
from node.persistence.rdb import VERSION, PayloadError, RdbError, decode_dump, encode_dump
from node.replies import BUSY_KEY, NO_SUCH_KEY, OK, SYNTAX, ReplyError, Status, printed
from node.session import Session

_COPY = Usage("COPY source destination [DB destination-db] [REPLACE]")
_RESTORE = Usage(
    "RESTORE key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]"
)

_SAME = ReplyError(b"ERR source and destination objects are the same")
_TTL = ReplyError(b"ERR Invalid TTL value, must be >= 0")
_IDLETIME = ReplyError(b"ERR Invalid IDLETIME value, must be >= 0")
_FREQ = ReplyError(b"ERR Invalid FREQ value, must be >= 0 and <= 255")
_PAYLOAD = ReplyError(b"ERR DUMP payload version or checksum are wrong")
_FORMAT = ReplyError(b"ERR Bad data format")
_NO_LFU = ReplyError(
    b"ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that "
    b"when switching between policies at runtime LRU and LFU data will take some time to adjust."
)
_NO_LRU = ReplyError(
    b"ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when "
    b"switching between policies at runtime LRU and LFU data will take some time to adjust."
)

_MULTI_SHARD_SUM = (b"request_policy:multi_shard", b"response_policy:agg_sum")
_NONDETERMINISTIC = (b"nondeterministic_output",)
_RANDOM_TRIES = 100

# What TYPE calls each class of values.
TYPES: dict[type, bytes] = {
    bytes: b"string",
    int: b"string",
    bytearray: b"string",
    List: b"list",
    Set: b"set",
    ZSet: b"zset",
    Hash: b"hash",
    Stream: b"stream",
}
_NO_TYPE = Status(b"none")
_TYPE_STATUS = {kind: Status(name) for kind, name in TYPES.items()}
_TYPE_NAMES = frozenset(TYPES.values())


# --- being there ----------------------------------------------------------------------------------


@command(
    "DEL key [key ...]",
    flags=WRITE,
    group="generic",
    since="1.0.0",
    access="RM DELETE",
    complexity="O(N) for N keys, and O(M) for a collection of M elements",
    tips=_MULTI_SHARD_SUM,
)
def delete(session: Session, args: list[bytes]) -> int:
    """Delete keys; how many there were."""
    db = session.db
    deleted = 0
    for key in args[1:]:
        if db.remove(key) is not None:
            db.touch(key, b"del", GENERIC)
            deleted += 1
    return deleted


@command(
    "UNLINK key [key ...]",
    flags=WRITE | FAST,
    group="generic",
    since="4.0.0",
    access="RM DELETE",
    complexity="O(N) for N keys, and O(M) for a collection of M elements",
    tips=_MULTI_SHARD_SUM,
)
def unlink(session: Session, args: list[bytes]) -> int:
    """Delete keys; how many there were."""
    return delete(session, args)


@command(
    "EXISTS key [key ...]",
    flags=READONLY | FAST,
    group="generic",
    since="1.0.0",
    access="RO",
    complexity="O(N) for N keys",
    tips=_MULTI_SHARD_SUM,
    history=(("3.0.3", "Accepts multiple `key` arguments."),),
)
def exists(session: Session, args: list[bytes]) -> int:
    """How many of these keys are there; one named twice counts twice."""
    return sum(map(session.db.ask, args[1:]))


@command(
    "TOUCH key [key ...]",
    flags=READONLY | FAST,
    group="generic",
    since="3.2.1",
    access="RO",
    complexity="O(N) for N keys",
    tips=_MULTI_SHARD_SUM,
)
def touch(session: Session, args: list[bytes]) -> int:
    """Note that keys are accessed, even for a client that said NO-TOUCH; how many there are."""
    keyspace = session.node.keyspace
    keyspace.watch_accesses()
    noting, keyspace.noting = keyspace.noting, True
    found = sum(session.db.read(key) is not None for key in args[1:])
    keyspace.noting = noting
    return found


@command(
    "TYPE key",
    flags=READONLY | FAST,
    group="generic",
    since="1.0.0",
    access="RO",
    complexity="O(1)",
)
def type_(session: Session, args: list[bytes]) -> Status:
    """What type of value a key holds."""
    db, key = session.db, args[1]
    return _type_status(db.peek(key)) if db.ask(key) else _NO_TYPE


def _type_status(value: Any) -> Status:
    return _TYPE_STATUS[type(value)]


# --- other names and places -----------------------------------------------------------------------


@command(
    "RENAME key newkey",
    flags=WRITE,
    group="generic",
    since="1.0.0",
    keys=(Keys("RW ACCESS DELETE"), Keys("OW UPDATE", first=2)),
    complexity="O(1)",
)
def rename(session: Session, args: list[bytes]) -> Status:
    """Give a key another name, in place of whatever has it."""
    db, key, name = session.db, args[1], args[2]
    if db.get(key) is None:
        raise NO_SUCH_KEY
    if key != name:
        _rename(db, key, name)
    return OK


@command(
    "RENAMENX key newkey",
    flags=WRITE | FAST,
    group="generic",
    since="1.0.0",
    keys=(Keys("RW ACCESS DELETE"), Keys("OW INSERT", first=2)),
    complexity="O(1)",
    history=(
        (
            "3.2.0",
            "The command no longer returns an error when source and destination names are the "
            "same.",
        ),
    ),
)
def renamenx(session: Session, args: list[bytes]) -> int:
    """Give a key another name, if nothing has it."""
    db, key, name = session.db, args[1], args[2]
    if db.get(key) is None:
        raise NO_SUCH_KEY
    if db.exists(name):
        return 0
    _rename(db, key, name)
    return 1


def _rename(db: Database, key: bytes, name: bytes) -> None:
    db.move(key, db, name)
    db.touch(key, b"rename_from", GENERIC)
    db.signal(name, b"rename_to", GENERIC)


def _database(session: Session, arg: bytes) -> Database:
    databases = session.node.keyspace.databases
    index = integer32(arg)
    if not 0 <= index < len(databases):
        raise DB_OUT_OF_RANGE
    return databases[index]


@command(
    "MOVE key db",
    flags=WRITE | FAST,
    group="generic",
    since="1.0.0",
    access="RW ACCESS UPDATE",
    complexity="O(1)",
)
def move(session: Session, args: list[bytes]) -> int:
    """Move a key to another database, if it is not there yet."""
    db, key = session.db, args[1]
    target = _database(session, args[2])
    if target is db:
        raise _SAME
    if db.get(key) is None or target.exists(key):
        return 0
    db.move(key, target, key)
    db.touch(key, b"move_from", GENERIC)
    target.signal(key, b"move_to", GENERIC)
    return 1


@command(
    _COPY,
    flags=WRITE | DENYOOM,
    group="generic",
    since="6.2.0",
    keys=(Keys("RO ACCESS"), Keys("OW UPDATE", first=2)),
    complexity="O(N) for a collection of N elements, O(1) for a string",
)
def copy(session: Session, args: list[bytes]) -> int:
    """Copy what is at a key to another key or database."""
    (index, replace), _ = _COPY.options(args, 3)
    db, key, name = session.db, args[1], args[2]
    target = db if index is None else _database(session, index)
    if target is db and key == name:
        raise _SAME
    value = db.read(key)
    if value is None or (target.exists(name) and not replace):
        return 0
    target.drop(name)
    target.put(name, string.copy(value) if _is_string(value) else value.copy())
    at_ms = db.expires_at(key)
    if at_ms is not None:
        target.expires.arm(name, at_ms)
    target.touch(name, b"copy_to", GENERIC)
    return 1


def _is_string(value: Any) -> bool:
    return type(value) in (bytes, int, bytearray)


# --- finding keys ---------------------------------------------------------------------------------


@command(
    "KEYS pattern",
    flags=READONLY,
    group="generic",
    since="1.0.0",
    categories="dangerous",
    complexity="O(N) for N keys in the database",
    tips=(b"request_policy:all_shards", b"nondeterministic_output_order"),
)
def keys(session: Session, args: list[bytes]) -> list[bytes]:
    """All keys whose names match a pattern."""
    db = session.db
    # A star alone means every key, while elsewhere it does not match an empty string.
    found = list(db) if args[1] == b"*" else list(filter(compiled(args[1]), db))
    return _alive(db, found)


def _alive(db: Database, found: list[bytes]) -> list[bytes]:
    """Those whose time has not come; the others are deleted where this node may."""
    expires = db.expires
    return [key for key in found if not (key in expires and db.is_expired(key))]


@command(
    "SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]",
    flags=READONLY | TOUCHES_ARBITRARY_KEYS,
    group="generic",
    since="2.8.0",
    complexity="O(1) for every call, O(N) for a whole scan of N keys",
    tips=(*_NONDETERMINISTIC, b"request_policy:special", b"response_policy:special"),
    history=(("6.0.0", "Added the `TYPE` subcommand."),),
)
def scan(session: Session, args: list[bytes]) -> list[Any]:
    """Some keys, and the cursor to go on with; 0 when all have been returned.

    A key that is there from the first call to the last is returned at least once.
    """
    place = cursor(args[1])
    chosen, most = scan_filter(args)
    place, found = session.db.scan(place, most)
    return [b"%d" % place, chosen(session.db, found)]


def scan_filter(args: list[bytes]) -> tuple[Callable[[Database, list[bytes]], list[bytes]], int]:
    """From SCAN's options, which begin at args[2], what picks those that are wanted of a
    database's keys, and how many are to be looked at; raises ReplyError."""
    wanted, others = _take_type(args)
    test, most, _ = scan_options(others)

    def chosen(db: Database, found: list[bytes]) -> list[bytes]:
        if wanted is not None:
            found = [key for key in found if TYPES[type(db.stored(key))] == wanted]
        return _alive(db, list(filter(test, found)) if test is not None else found)

    return chosen, most


def _take_type(args: list[bytes]) -> tuple[bytes | None, list[bytes]]:
    """The last TYPE option, and the arguments without any, as `scan_options` wants them."""
    wanted = None
    others = [*args[:2], b""]
    i = 2
    while i < len(args):
        if args[i].upper() == b"TYPE" and i + 1 < len(args):
            wanted = args[i + 1].lower()
            if wanted not in _TYPE_NAMES:
                scan_options(others)  # what is wrong before it comes first
                raise ReplyError(b"ERR unknown type name '%b'" % printed(args[i + 1]))
        else:
            others += args[i : i + 2]
        i += 2
    return wanted, others


@command(
    "RANDOMKEY",
    flags=READONLY | TOUCHES_ARBITRARY_KEYS,
    group="generic",
    since="1.0.0",
    complexity="O(1)",
    tips=(b"request_policy:all_shards", b"response_policy:special", *_NONDETERMINISTIC),
)
def randomkey(session: Session, args: list[bytes]) -> bytes | None:
    """Some key, null if there is none."""
    db = session.db
    tries = 0
    while (key := db.random_key()) is not None:
        tries += 1
        # A replica's expired keys stay until its primary deletes them; there may be no others.
        if (db.keyspace.expiry == HIDE and tries > _RANDOM_TRIES) or db.peek(key) is not None:
            break
    return key


# --- OBJECT ---------------------------------------------------------------------------------------


@command("OBJECT", flags=0, group="generic", since="2.2.3", arity=-2)
def object_(session: Session, args: list[bytes]) -> None:
    """Commands about values and how they are kept."""


@command(
    "OBJECT ENCODING key",
    flags=READONLY,
    group="generic",
    since="2.2.3",
    access="RO",
    complexity="O(1)",
    tips=_NONDETERMINISTIC,
)
def object_encoding(session: Session, args: list[bytes]) -> bytes | None:
    """How the value at a key is encoded."""
    db, key = session.db, args[2]
    value = db.peek(key)
    return None if value is None else encoding_of(key, value)


def encoding_of(key: bytes, value: Any) -> bytes:
    """What OBJECT ENCODING says of a value at this key."""
    return string.encoding(value, key) if _is_string(value) else value.encoding()


@command(
    "OBJECT FREQ key",
    flags=READONLY,
    group="generic",
    since="4.0.0",
    access="RO",
    complexity="O(1)",
    tips=_NONDETERMINISTIC,
)
def object_freq(session: Session, args: list[bytes]) -> int | None:
    """How often a key is accessed, as a logarithm; an eviction policy must make nodes count."""
    if session.db.peek(args[2]) is None:
        return None
    eviction = session.node.eviction
    if not eviction.counts():
        raise _NO_LFU
    return eviction.frequency(session.db, args[2])


@command(
    "OBJECT IDLETIME key",
    flags=READONLY,
    group="generic",
    since="2.2.3",
    access="RO",
    complexity="O(1)",
    tips=_NONDETERMINISTIC,
)
def object_idletime(session: Session, args: list[bytes]) -> int | None:
    """For how many seconds, at least, a key has not been accessed.

    Accesses are noted once somebody has asked for them by this command or TOUCH: what happened
    before is not known, and not guessed.
    """
    db, key = session.db, args[2]
    db.keyspace.watch_accesses()
    if db.peek(key) is None:
        return None
    if session.node.eviction.counts():
        raise _NO_LRU
    return db.idle_ms(key) // 1000


@command(
    "OBJECT REFCOUNT key",
    flags=READONLY,
    group="generic",
    since="2.2.3",
    access="RO",
    complexity="O(1)",
    tips=_NONDETERMINISTIC,
)
def object_refcount(session: Session, args: list[bytes]) -> int | None:
    """How many keys share the value at a key: 1, since none do."""
    return None if session.db.peek(args[2]) is None else 1


@command("OBJECT HELP", flags=LOADING | STALE, group="generic", since="6.2.0", complexity="O(1)")
def object_help(session: Session, args: list[bytes]) -> list[Status]:
    """What the subcommands do."""
    return help_text(session, b"OBJECT")


# --- DUMP and RESTORE -----------------------------------------------------------------------------


@command(
    "DUMP key",
    flags=READONLY,
    group="generic",
    since="2.6.0",
    complexity="O(N) for a collection of N elements",
    tips=_NONDETERMINISTIC,
)
def dump(session: Session, args: list[bytes]) -> bytes | None:
    """The value at a key as bytes that RESTORE takes, on any compatible server."""
    value = session.db.read(args[1])
    if value is None:
        return None
    return encode_dump(value, compress=session.node.config.rdbcompression)


@command(
    _RESTORE,
    flags=WRITE | DENYOOM,
    group="generic",
    since="2.6.0",
    access="OW UPDATE",
    categories="dangerous",
    complexity="O(N) for a collection of N elements",
    history=(
        ("3.0.0", "Added the `REPLACE` modifier."),
        ("5.0.0", "Added the `ABSTTL` modifier."),
        ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
    ),
)
def restore(session: Session, args: list[bytes]) -> Status:
    """Make a key of what DUMP returned."""
    (replace, absolute, idle_s, frequency), _ = _RESTORE.options(args, 4)
    idle_ms = _idle_ms(idle_s, frequency)
    db, key = session.db, args[1]
    if not replace and db.exists(key):
        raise BUSY_KEY
    at_ms = count(args[2], _TTL) if integer(args[2]) else None
    if at_ms is not None and not absolute:
        at_ms = min(at_ms + session.node.keyspace.now_ms, INT64_MAX)
    value = _decoded(session, args[3])
    if at_ms is not None and is_past(session, at_ms):
        if db.remove(key) is not None:
            db.touch(key, b"del", GENERIC)
            session.effects = [[session.node.dropping_word(), key]]
        return OK
    db.drop(key)
    db.put(key, value)
    if at_ms is not None:
        db.expires.arm(key, at_ms)
    if idle_ms is not None:
        db.keyspace.watch_accesses()
        db.accesses[key] = db.keyspace.now_ms - idle_ms
    if frequency is not None and session.node.eviction.counts():
        session.node.eviction.set_frequency(db, key, integer(frequency))
    db.touch(key, b"restore", GENERIC)
    as_it_came = absolute and at_ms is not None and args[0].upper() == b"RESTORE"
    if not as_it_came or _is_new(args[3]):
        session.effects = [_as_restore(key, at_ms, args[3], value)]
    return OK


def _idle_ms(idle_s: bytes | None, frequency: bytes | None) -> int | None:
    """Check both options, of which one may be given."""
    if idle_s is not None and frequency is not None:
        raise SYNTAX
    if frequency is not None and not 0 <= integer(frequency) <= 255:
        raise _FREQ
    if idle_s is None:
        return None
    if integer(idle_s) < 0:
        raise _IDLETIME
    return 1000 * integer(idle_s)


def _decoded(session: Session, payload: bytes) -> Any:
    node = session.node
    try:
        return decode_dump(
            payload,
            node.keyspace.limits,
            relaxed=node.config.rdb_version_check == "relaxed",
            checksum=not node.skips_checksums,
        )
    except PayloadError:
        raise _PAYLOAD from None
    except RdbError:
        raise _FORMAT from None


def _is_new(payload: bytes) -> bool:
    """Whether a replica of Redis 7.0 could not read it."""
    return int.from_bytes(payload[-10:-8], "little") > VERSION


def _as_restore(key: bytes, at_ms: int | None, payload: bytes, value: Any) -> list[bytes]:
    """What was done, as a command for the log, with a payload that an older replica can read."""
    if _is_new(payload):
        payload = encode_dump(value)
    words = [b"RESTORE", key, b"%d" % (at_ms or 0), payload, b"REPLACE"]
    return words if at_ms is None else [*words, b"ABSTTL"]
