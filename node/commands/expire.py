"""EXPIRE PEXPIRE EXPIREAT PEXPIREAT TTL PTTL EXPIRETIME PEXPIRETIME PERSIST; and deadlines in the
options of other commands.

Deadlines are absolute, in milliseconds since the Unix epoch, in the data and in the log.
"""

from node.command import FAST, READONLY, WRITE, command
from node.commands.arguments import integer
from node.data.keyspace import EXPIRE, EXPIRED, GENERIC
from node.data.number import INT64_MAX, INT64_MIN
from node.replies import ReplyError, printed
from node.session import Session

NO_KEY, NO_DEADLINE = -2, -1  # what the TTL family answers instead of a time

_NX, _XX, _GT, _LT = 1, 2, 4, 8
_CONDITIONS = {b"NX": _NX, b"XX": _XX, b"GT": _GT, b"LT": _LT}
_NX_ALONE = ReplyError(b"ERR NX and XX, GT or LT options at the same time are not compatible")
_GT_OR_LT = ReplyError(b"ERR GT and LT options at the same time are not compatible")
_CONDITIONS_ADDED = (("7.0.0", "Added options: `NX`, `XX`, `GT` and `LT`."),)
_MINUS_TWO_ADDED = (("2.8.0", "Added the -2 reply."),)
_NONDETERMINISTIC = (b"nondeterministic_output",)


# --- deadlines in options -------------------------------------------------------------------------


def invalid_expire_time(name: bytes) -> ReplyError:
    """The answer to a time that is out of range; `name` is the command's."""
    return ReplyError(b"ERR invalid expire time in '%b' command" % name.lower())


_UNITS = {  # milliseconds in a unit; whether it is counted from now
    b"EX": (1000, True),
    b"PX": (1, True),
    b"EXAT": (1000, False),
    b"PXAT": (1, False),
}


def deadline(session: Session, name: bytes, unit: bytes, number: bytes) -> int:
    """The deadline that an option EX, PX, EXAT or PXAT of the command `name` sets.

    It may be in the past. Raises ReplyError where the number is no integer, not positive, or too
    large.
    """
    unit_ms, relative = _UNITS[unit]
    amount = integer(number)
    at_ms = amount * unit_ms + (session.node.keyspace.now_ms if relative else 0)
    if amount <= 0 or at_ms > INT64_MAX:
        raise invalid_expire_time(name)
    return at_ms


def is_past(session: Session, at_ms: int) -> bool:
    """Whether a key with this deadline is deleted at once: only where this node decides that."""
    keyspace = session.node.keyspace
    return at_ms <= keyspace.now_ms and keyspace.expiry == EXPIRE


def expire_at_once(session: Session, key: bytes) -> None:
    """Delete a key that is there, because it was given a deadline in the past."""
    session.db.drop(key)
    session.db.touch(key, b"expired", EXPIRED)
    session.db.keyspace.expired += 1
    session.effects = [[session.node.deleting_word(), key]]


def set_deadline(session: Session, key: bytes, at_ms: int) -> None:
    """Give a key that is there a deadline, and log that."""
    if is_past(session, at_ms):
        expire_at_once(session, key)
        return
    session.db.expires.arm(key, at_ms)
    session.db.touch(key, b"expire", GENERIC)
    session.effects = [[b"PEXPIREAT", key, b"%d" % at_ms]]


def drop_deadline(session: Session, key: bytes) -> bool:
    """Let a key live for ever, and log that; False if it does so already."""
    db = session.db
    if db.expires_at(key) is None:
        return False
    del db.expires[key]
    db.touch(key, b"persist", GENERIC)
    session.effects = [[b"PERSIST", key]]
    return True


# --- setting --------------------------------------------------------------------------------------


@command(
    "EXPIRE key seconds [NX | XX | GT | LT]",
    flags=WRITE | FAST,
    group="generic",
    since="1.0.0",
    complexity="O(1)",
    history=_CONDITIONS_ADDED,
)
def expire(session: Session, args: list[bytes]) -> int:
    """Let a key expire after so many seconds."""
    return _expire(session, args, 1000, session.node.keyspace.now_ms)


@command(
    "PEXPIRE key milliseconds [NX | XX | GT | LT]",
    flags=WRITE | FAST,
    group="generic",
    since="2.6.0",
    complexity="O(1)",
    history=_CONDITIONS_ADDED,
)
def pexpire(session: Session, args: list[bytes]) -> int:
    """Let a key expire after so many milliseconds."""
    return _expire(session, args, 1, session.node.keyspace.now_ms)


@command(
    "EXPIREAT key unix-time-seconds [NX | XX | GT | LT]",
    flags=WRITE | FAST,
    group="generic",
    since="1.2.0",
    complexity="O(1)",
    history=_CONDITIONS_ADDED,
)
def expireat(session: Session, args: list[bytes]) -> int:
    """Let a key expire at a time in Unix seconds."""
    return _expire(session, args, 1000, 0)


@command(
    "PEXPIREAT key unix-time-milliseconds [NX | XX | GT | LT]",
    flags=WRITE | FAST,
    group="generic",
    since="2.6.0",
    complexity="O(1)",
    history=_CONDITIONS_ADDED,
)
def pexpireat(session: Session, args: list[bytes]) -> int:
    """Let a key expire at a time in Unix milliseconds."""
    return _expire(session, args, 1, 0)


def _expire(session: Session, args: list[bytes], unit_ms: int, base_ms: int) -> int:
    asked = conditions(args[3:]) if len(args) > 3 else 0
    at_ms = integer(args[2]) * unit_ms
    if not INT64_MIN <= at_ms <= INT64_MAX - base_ms:
        raise invalid_expire_time(args[0])
    at_ms += base_ms
    db, key = session.db, args[1]
    if db.get(key) is None:
        return 0
    if asked and not is_allowed(asked, db.expires_at(key), at_ms):
        return 0
    set_deadline(session, key, max(at_ms, 0))
    return 1


def conditions(words: list[bytes]) -> int:
    """What NX, XX, GT and LT ask for, for `is_allowed`; raises ReplyError for other words."""
    asked = 0
    for word in words:
        condition = _CONDITIONS.get(word.upper())
        if condition is None:
            raise ReplyError(b"ERR Unsupported option %b" % printed(word))
        asked |= condition
    if asked & _NX and asked != _NX:
        raise _NX_ALONE
    if asked & _GT and asked & _LT:
        raise _GT_OR_LT
    return asked


def is_allowed(asked: int, before_ms: int | None, at_ms: int) -> bool:
    """Whether a new deadline may take the place of the one before; none is later than any."""
    if before_ms is None:
        return not asked & (_XX | _GT)
    if asked & _NX:
        return False
    if asked & _GT:
        return at_ms > before_ms
    return at_ms < before_ms if asked & _LT else True


@command("PERSIST key", flags=WRITE | FAST, group="generic", since="2.2.0", complexity="O(1)")
def persist(session: Session, args: list[bytes]) -> int:
    """Take a key's deadline away."""
    key = args[1]
    return int(session.db.get(key) is not None and drop_deadline(session, key))


# --- asking ---------------------------------------------------------------------------------------


@command(
    "TTL key",
    flags=READONLY | FAST,
    group="generic",
    since="1.0.0",
    complexity="O(1)",
    tips=_NONDETERMINISTIC,
    history=_MINUS_TWO_ADDED,
)
def ttl(session: Session, args: list[bytes]) -> int:
    """How many seconds a key has left."""
    left_ms = _time(session, args[1], session.node.keyspace.now_ms)
    return left_ms if left_ms < 0 else (left_ms + 500) // 1000


@command(
    "PTTL key",
    flags=READONLY | FAST,
    group="generic",
    since="2.6.0",
    complexity="O(1)",
    tips=_NONDETERMINISTIC,
    history=_MINUS_TWO_ADDED,
)
def pttl(session: Session, args: list[bytes]) -> int:
    """How many milliseconds a key has left."""
    return _time(session, args[1], session.node.keyspace.now_ms)


@command("EXPIRETIME key", flags=READONLY | FAST, group="generic", since="7.0.0", complexity="O(1)")
def expiretime(session: Session, args: list[bytes]) -> int:
    """When a key expires, in Unix seconds."""
    at_ms = _time(session, args[1], 0)
    return at_ms if at_ms < 0 else (at_ms + 500) // 1000


@command(
    "PEXPIRETIME key", flags=READONLY | FAST, group="generic", since="7.0.0", complexity="O(1)"
)
def pexpiretime(session: Session, args: list[bytes]) -> int:
    """When a key expires, in Unix milliseconds."""
    return _time(session, args[1], 0)


def _time(session: Session, key: bytes, base_ms: int) -> int:
    """A key's deadline after `base_ms`, or NO_KEY or NO_DEADLINE."""
    db = session.db
    if not db.ask(key):
        return NO_KEY
    at_ms = db.expires_at(key)
    return NO_DEADLINE if at_ms is None else max(at_ms - base_ms, 0)
