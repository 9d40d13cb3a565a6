"""GET SET SETNX SETEX PSETEX GETSET GETDEL GETEX DELIFEQ MGET MSET MSETNX MSETEX STRLEN APPEND
GETRANGE SUBSTR SETRANGE INCR DECR INCRBY DECRBY INCRBYFLOAT LCS.
"""

from collections.abc import Sequence
from typing import Any

from node.command import DENYOOM, FAST, READONLY, WRITE, Keys, Usage, command
from node.commands import expire
from node.commands.arguments import INT32_MAX, integer, integer_between
from node.data import longdouble
from node.data.keyspace import GENERIC, STRING
from node.data.number import INT64_MAX, INT64_MIN
from node.data.string import (
    Common,
    String,
    editable,
    joined,
    length,
    overwrite,
    substring,
    text,
)
from node.data.string import integer as integer_of
from node.replies import (
    NOT_FLOAT,
    NOT_INTEGER,
    OK,
    OVERFLOW,
    STRING_TOO_LONG,
    SYNTAX,
    ReplyError,
    Status,
    wrong_arity,
)
from node.session import Session

_SET = Usage(
    "SET key value [NX | XX | IFEQ comparison-value] [GET] [EX seconds | PX milliseconds | "
    "EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]"
)
_GETEX = Usage(
    "GETEX key [EX seconds | PX milliseconds | EXAT unix-time-seconds | "
    "PXAT unix-time-milliseconds | PERSIST]"
)
_MSETEX = Usage(
    "MSETEX numkeys key value [key value ...] [NX | XX] [EX seconds | PX milliseconds | "
    "EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]"
)
_LCS = Usage("LCS key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]")

_KEEP = (b"KEEPTTL",)
_PERSIST = (b"PERSIST",)
_NUMKEYS = ReplyError(b"ERR invalid numkeys value or out of range")
_OFFSET = ReplyError(b"ERR offset is out of range")
_DECREMENT = ReplyError(b"ERR decrement would overflow")
_NOT_FINITE = ReplyError(b"ERR increment would produce NaN or Infinity")
_LCS_TYPE = ReplyError(b"ERR The specified keys must contain string values")
_LCS_BOTH = ReplyError(b"ERR If you want both the length and indexes, please just use IDX.")
_LCS_MEMORY = ReplyError(
    b"ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len"
)
_LCS_CELL_BYTES = 4  # of the table that a real server makes, which bounds what is accepted
_MULTI_SHARD = b"request_policy:multi_shard"
_ALL_SUCCEEDED = b"response_policy:all_succeeded"
_READ_WRITE = "RW ACCESS UPDATE"
_SMALL = 1 << 29  # integers of this size compare in a third of the time


# --- one key --------------------------------------------------------------------------------------


@command("GET key", flags=READONLY | FAST, group="string", since="1.0.0", complexity="O(1)")
def get(session: Session, args: list[bytes]) -> bytes | None:
    """The string at a key."""
    db = session.db
    value = db.get(args[1])
    if type(value) is bytes:
        db.keyspace.hits += 1
        return value
    value = db.read_string(args[1])
    return None if value is None else text(value)


def _set_access(args: Sequence[bytes]) -> str:
    reads = any(word.upper() == b"GET" for word in args[3:])
    return "RW ACCESS UPDATE" if reads else "OW UPDATE"


@command(
    _SET,
    flags=WRITE | DENYOOM,
    group="string",
    since="1.0.0",
    keys=(
        Keys(
            "RW ACCESS UPDATE VARIABLE_FLAGS",
            notes="RW and ACCESS due to the optional `GET` argument",
        ),
    ),
    find_access=_set_access,
    complexity="O(1)",
    history=(
        ("2.6.12", "Added the `EX`, `PX`, `NX` and `XX` options."),
        ("6.0.0", "Added the `KEEPTTL` option."),
        ("6.2.0", "Added the `GET`, `EXAT` and `PXAT` option."),
        ("7.0.0", "Allowed the `NX` and `GET` options to be used together."),
        ("8.1.0", "Added the `IFEQ` option."),
    ),
)
def set_(session: Session, args: list[bytes]) -> Status | bytes | None:
    """Put a string at a key, whatever is there."""
    if len(args) > 3:
        return _set_with_options(session, args)
    db, key = session.db, args[1]
    db.put(key, args[2])
    db.touch(key, b"set", STRING)
    return OK


def _set_with_options(session: Session, args: list[bytes]) -> Status | bytes | None:
    (condition, get_before, lifetime), _ = _SET.options(args, 3)
    if condition is not None and condition[0] == b"IFEQ":
        _refuse_second_ifeq(args)
    at_ms = _deadline(session, args[0], lifetime)
    db, key = session.db, args[1]
    before = db.read_string(key) if get_before else None
    reply = (None if before is None else text(before)) if get_before else OK
    if condition is not None and not _holds(session, key, condition):
        return reply if get_before else None
    if at_ms is not None and expire.is_past(session, at_ms):
        if db.exists(key):
            expire.expire_at_once(session, key)
        return reply
    _store(session, key, args[2], at_ms, lifetime == _KEEP)
    as_it_came = at_ms is None or lifetime[0] == b"PXAT"
    if not as_it_came or get_before or (condition is not None and condition[0] == b"IFEQ"):
        session.effects = [_as_set(key, args[2], at_ms, lifetime == _KEEP)]
    return reply


def _refuse_second_ifeq(args: list[bytes]) -> None:
    first = next(i for i, arg in enumerate(args) if i > 2 and arg.upper() == b"IFEQ")
    if _SET.options(args, first + 2)[0][0] is not None:
        raise SYNTAX


def _deadline(session: Session, name: bytes, lifetime: tuple[bytes, ...] | None) -> int | None:
    """The deadline of an option EX, PX, EXAT or PXAT, None for what sets none."""
    if lifetime is None or len(lifetime) == 1:
        return None
    return expire.deadline(session, name, *lifetime)


def _holds(session: Session, key: bytes, condition: tuple[bytes, ...]) -> bool:
    if condition[0] == b"NX":
        return not session.db.exists(key)
    if condition[0] == b"XX":
        return session.db.exists(key)
    value = session.db.find_string(key)
    return value is not None and text(value) == condition[1]


def _store(session: Session, key: bytes, value: bytes, at_ms: int | None, keep: bool) -> None:
    db = session.db
    if keep:
        db.get(key)  # one whose time has come goes first, with its deadline
        db.replace(key, value)
    else:
        db.put(key, value)
    db.touch(key, b"set", STRING)
    if at_ms is not None:
        db.expires.arm(key, at_ms)
        db.signal(key, b"expire", GENERIC)


def _as_set(key: bytes, value: bytes, at_ms: int | None, keep: bool = False) -> list[bytes]:
    """What was done, as a command for the log."""
    words = [b"SET", key, value]
    if at_ms is not None:
        words += [b"PXAT", b"%d" % at_ms]
    return [*words, b"KEEPTTL"] if keep else words


@command(
    "SETNX key value",
    flags=WRITE | DENYOOM | FAST,
    group="string",
    since="1.0.0",
    access="OW INSERT",
    complexity="O(1)",
)
def setnx(session: Session, args: list[bytes]) -> int:
    """Put a string at a key if there is nothing."""
    if session.db.get(args[1]) is not None:
        return 0
    _store(session, args[1], args[2], None, False)
    return 1


@command(
    "SETEX key seconds value",
    flags=WRITE | DENYOOM,
    group="string",
    since="2.0.0",
    access="OW UPDATE",
    complexity="O(1)",
)
def setex(session: Session, args: list[bytes]) -> Status:
    """Put a string at a key for so many seconds."""
    return _set_for(session, args, b"EX")


@command(
    "PSETEX key milliseconds value",
    flags=WRITE | DENYOOM,
    group="string",
    since="2.6.0",
    access="OW UPDATE",
    complexity="O(1)",
)
def psetex(session: Session, args: list[bytes]) -> Status:
    """Put a string at a key for so many milliseconds."""
    return _set_for(session, args, b"PX")


def _set_for(session: Session, args: list[bytes], unit: bytes) -> Status:
    name, key, number, value = args
    at_ms = expire.deadline(session, name, unit, number)
    _store(session, key, value, at_ms, False)
    session.effects = [_as_set(key, value, at_ms)]
    return OK


@command(
    "GETSET key value",
    flags=WRITE | DENYOOM | FAST,
    group="string",
    since="1.0.0",
    access=_READ_WRITE,
    complexity="O(1)",
)
def getset(session: Session, args: list[bytes]) -> bytes | None:
    """Put a string at a key and return what was there."""
    before = session.db.read_string(args[1])
    _store(session, args[1], args[2], None, False)
    session.effects = [_as_set(args[1], args[2], None)]
    return None if before is None else text(before)


@command(
    "GETDEL key",
    flags=WRITE | FAST,
    group="string",
    since="6.2.0",
    access="RW ACCESS DELETE",
    complexity="O(1)",
)
def getdel(session: Session, args: list[bytes]) -> bytes | None:
    """Delete a key and return the string that was there."""
    value = session.db.read_string(args[1])
    if value is None:
        return None
    _delete(session, args[1])
    return text(value)


def _delete(session: Session, key: bytes) -> None:
    session.db.remove(key)
    session.db.touch(key, b"del", GENERIC)
    session.effects = [[b"DEL", key]]


@command(
    "DELIFEQ key value",
    flags=WRITE | FAST,
    group="string",
    since="9.0.0",
    access="RM DELETE",
    complexity="O(1)",
)
def delifeq(session: Session, args: list[bytes]) -> int:
    """Delete a key if this string is there."""
    if not _holds(session, args[1], (b"IFEQ", args[2])):
        return 0
    _delete(session, args[1])
    return 1


@command(
    _GETEX,
    flags=WRITE | FAST,
    group="string",
    since="6.2.0",
    keys=(Keys(_READ_WRITE, notes="RW and UPDATE because it changes the TTL"),),
    complexity="O(1)",
)
def getex(session: Session, args: list[bytes]) -> bytes | None:
    """The string at a key, whose deadline may be set or taken away."""
    (lifetime,), _ = _GETEX.options(args, 2)
    at_ms = _deadline(session, args[0], lifetime)
    key = args[1]
    value = session.db.read_string(key)
    if value is None:
        return None
    if at_ms is not None:
        expire.set_deadline(session, key, at_ms)
    elif lifetime == _PERSIST:
        expire.drop_deadline(session, key)
    return text(value)


# --- many keys ------------------------------------------------------------------------------------


@command(
    "MGET key [key ...]",
    flags=READONLY | FAST,
    group="string",
    since="1.0.0",
    complexity="O(N) for N keys",
    tips=(_MULTI_SHARD,),
)
def mget(session: Session, args: list[bytes]) -> list[bytes | None]:
    """The strings at several keys, null for each that holds none."""
    db, keys = session.db, args[1:]
    values = list(map(db.get, keys))
    if None in values:
        for key, value in zip(keys, values, strict=True):
            if value is None:
                db.miss(key)
    db.keyspace.hits += len(values) - values.count(None)
    return [
        value if type(value) is bytes or value is None else _text_or_null(value) for value in values
    ]


def _text_or_null(value: Any) -> bytes | None:
    return text(value) if type(value) in (int, bytearray) else None


@command(
    "MSET key value [key value ...]",
    flags=WRITE | DENYOOM,
    group="string",
    since="1.0.1",
    access="OW UPDATE",
    complexity="O(N) for N keys",
    tips=(_MULTI_SHARD, _ALL_SUCCEEDED),
)
def mset(session: Session, args: list[bytes]) -> Status:
    """Put strings at several keys, at once."""
    if len(args) & 1 == 0:
        raise wrong_arity(b"mset")
    session.db.put_all(args[1::2], args[2::2])
    return OK


@command(
    "MSETNX key value [key value ...]",
    flags=WRITE | DENYOOM,
    group="string",
    since="1.0.1",
    access="OW INSERT",
    complexity="O(N) for N keys",
)
def msetnx(session: Session, args: list[bytes]) -> int:
    """Put strings at several keys, if there is nothing at any of them."""
    if len(args) & 1 == 0:
        raise wrong_arity(b"msetnx")
    if any(map(session.db.exists, args[1::2])):
        return 0
    mset(session, args)
    return 1


@command(
    _MSETEX,
    flags=WRITE | DENYOOM,
    group="string",
    since="9.1.0",
    keys=(Keys("OW UPDATE", count_at=0, skip=1, step=2),),
    complexity="O(N) for N keys",
    tips=(_MULTI_SHARD, _ALL_SUCCEEDED),
)
def msetex(session: Session, args: list[bytes]) -> int:
    """Put strings at several keys, at once, under a condition or for a time."""
    end = 2 + 2 * integer_between(args[1], 1, INT32_MAX, _NUMKEYS)
    if end > len(args):
        raise SYNTAX
    (condition, lifetime), _ = _MSETEX.options(args, end)
    at_ms = _deadline(session, args[0], lifetime)
    keys, values = args[2:end:2], args[3:end:2]
    if condition is not None and not all(_holds(session, key, condition) for key in keys):
        return 0
    keep = lifetime == _KEEP
    for key, value in zip(keys, values, strict=True):
        _store(session, key, value, at_ms, keep)
    session.effects = [[b"MSET", *args[2:end]]]
    if keep or at_ms is not None:
        pairs = zip(keys, values, strict=True)
        session.effects = [_as_set(key, value, at_ms, keep) for key, value in pairs]
    return 1


# --- parts of a string ----------------------------------------------------------------------------


@command(
    "STRLEN key",
    flags=READONLY | FAST,
    group="string",
    since="2.2.0",
    access="RO",
    complexity="O(1)",
)
def strlen(session: Session, args: list[bytes]) -> int:
    """The length of the string at a key, in bytes."""
    value = session.db.read_string(args[1])
    return 0 if value is None else length(value)


@command(
    "APPEND key value",
    flags=WRITE | DENYOOM | FAST,
    group="string",
    since="2.0.0",
    access="RW INSERT",
    complexity="O(1) on average",
)
def append(session: Session, args: list[bytes]) -> int:
    """Add bytes at the end of a string, which is made if there is none."""
    db, key, tail = session.db, args[1], args[2]
    value = db.find_string(key)
    if value is None:
        db.put(key, tail)
        size = len(tail)
    else:
        size = length(value) + len(tail)
        check_length(session, size)
        data = editable(value)
        data += tail
        db.replace(key, data)
    db.touch(key, b"append", STRING)
    return size


def check_length(session: Session, size: int) -> None:
    """Raises STRING_TOO_LONG for more bytes than a client may send."""
    if size > session.node.config.proto_max_bulk_len:
        raise STRING_TOO_LONG


@command(
    "SETRANGE key offset value",
    flags=WRITE | DENYOOM,
    group="string",
    since="2.2.0",
    access="RW UPDATE",
    complexity="O(M) for a value of M bytes",
)
def setrange(session: Session, args: list[bytes]) -> int:
    """Write over a part of a string, from an offset on; zeros fill what is missing before it."""
    db, key, data = session.db, args[1], args[3]
    offset = integer(args[2])
    if offset < 0:
        raise _OFFSET
    value = db.find_string(key)
    if not data:
        return 0 if value is None else length(value)
    check_length(session, offset + len(data))
    changed = editable(value)
    overwrite(changed, offset, data)
    db.replace(key, changed)
    db.touch(key, b"setrange", STRING)
    return len(changed)


@command(
    "GETRANGE key start end",
    flags=READONLY,
    group="string",
    since="2.4.0",
    complexity="O(N) for N bytes returned",
)
def getrange(session: Session, args: list[bytes]) -> bytes:
    """A part of the string at a key, both ends included, negative ones counted from the end."""
    start, end = integer(args[2]), integer(args[3])
    value = session.db.read_string(args[1])
    return b"" if value is None else substring(value, start, end)


@command(
    "SUBSTR key start end",
    flags=READONLY,
    group="string",
    since="1.0.0",
    complexity="O(N) for N bytes returned",
)
def substr(session: Session, args: list[bytes]) -> bytes:
    """A part of the string at a key; GETRANGE's former name."""
    return getrange(session, args)


# --- numbers --------------------------------------------------------------------------------------


@command(
    "INCR key",
    flags=WRITE | DENYOOM | FAST,
    group="string",
    since="1.0.0",
    access=_READ_WRITE,
    complexity="O(1)",
)
def incr(session: Session, args: list[bytes]) -> int:
    """Add one to the integer at a key, 0 if there is none."""
    return _add(session, args[1], 1)


@command(
    "DECR key",
    flags=WRITE | DENYOOM | FAST,
    group="string",
    since="1.0.0",
    access=_READ_WRITE,
    complexity="O(1)",
)
def decr(session: Session, args: list[bytes]) -> int:
    """Take one from the integer at a key, 0 if there is none."""
    return _add(session, args[1], -1)


@command(
    "INCRBY key increment",
    flags=WRITE | DENYOOM | FAST,
    group="string",
    since="1.0.0",
    access=_READ_WRITE,
    complexity="O(1)",
)
def incrby(session: Session, args: list[bytes]) -> int:
    """Add to the integer at a key, 0 if there is none."""
    return _add(session, args[1], integer(args[2]))


@command(
    "DECRBY key decrement",
    flags=WRITE | DENYOOM | FAST,
    group="string",
    since="1.0.0",
    access=_READ_WRITE,
    complexity="O(1)",
)
def decrby(session: Session, args: list[bytes]) -> int:
    """Take from the integer at a key, 0 if there is none."""
    number = integer(args[2])
    if number == INT64_MIN:
        raise _DECREMENT
    return _add(session, args[1], -number)


def _add(session: Session, key: bytes, increment: int) -> int:
    db = session.db
    value = db.get(key)
    number = value if type(value) is int else _number(session, key)
    number += increment
    if not -_SMALL < number < _SMALL and not INT64_MIN <= number <= INT64_MAX:
        raise OVERFLOW
    if value is None:
        db.replace(key, number)
    else:
        db.overwrite(key, number)
    db.touch(key, b"incrby", STRING)
    return number


def _number(session: Session, key: bytes) -> int:
    value = session.db.find_string(key)
    number = 0 if value is None else integer_of(value)
    if number is None:
        raise NOT_INTEGER
    return number


@command(
    "INCRBYFLOAT key increment",
    flags=WRITE | DENYOOM | FAST,
    group="string",
    since="2.6.0",
    access=_READ_WRITE,
    complexity="O(1)",
)
def incrbyfloat(session: Session, args: list[bytes]) -> bytes:
    """Add to the floating-point number at a key, 0 if there is none."""
    db, key = session.db, args[1]
    value = db.find_string(key)
    result = increase(b"0" if value is None else text(value), args[2])
    check_length(session, len(result))
    db.replace(key, result)
    db.touch(key, b"incrbyfloat", STRING)
    session.effects = [_as_set(key, result, None, True)]
    return result


def increase(value: bytes, increment: bytes) -> bytes:
    """The sum of two numbers, as INCRBYFLOAT and HINCRBYFLOAT write it; raises ReplyError."""
    left, right = longdouble.parse(value), longdouble.parse(increment)
    if left is None or right is None:
        raise NOT_FLOAT
    total = longdouble.add(left, right)
    if total is None:
        raise _NOT_FINITE
    return longdouble.text(total)


# --- LCS ------------------------------------------------------------------------------------------


@command(
    _LCS,
    flags=READONLY,
    group="string",
    since="7.0.0",
    keys=(Keys("RO ACCESS", last=1),),
    complexity="O(N*M/64) for strings of N and M bytes",
)
def lcs(session: Session, args: list[bytes]) -> bytes | int | dict[bytes, Any]:
    """The longest common subsequence of two strings, its length, or where it is in them."""
    left, right = _lcs_string(session, args[1]), _lcs_string(session, args[2])
    (want_length, want_places, least, with_length), _ = _LCS.options(args, 3)
    least_length = 0 if least is None else max(integer(least), 0)
    if want_length and want_places:
        raise _LCS_BOTH
    cells = (len(left) + 1) * (len(right) + 1)
    if cells * _LCS_CELL_BYTES > session.node.config.proto_max_bulk_len:
        raise _LCS_MEMORY
    common = Common(left, right)
    if want_length:
        return common.length()
    runs = list(common.runs())
    if not want_places:
        return joined(left, runs)
    matches = [_match(run, with_length) for run in runs if run[2] >= least_length]
    return {b"matches": matches, b"len": sum(size for _, _, size in runs)}


def _lcs_string(session: Session, key: bytes) -> bytes:
    value: String | None = session.db.read(key)
    if value is None:
        return b""
    if type(value) not in (bytes, int, bytearray):
        raise _LCS_TYPE
    return text(value)


def _match(run: tuple[int, int, int], with_length: bool | None) -> list[Any]:
    left, right, size = run
    places: list[Any] = [[left, left + size - 1], [right, right + size - 1]]
    return [*places, size] if with_length else places
