"""DEBUG: what tests of servers and clients use, as far as it harms nobody."""

import logging
from collections.abc import Callable
from typing import Any

from node.command import ADMIN, LOADING, NOSCRIPT, PROTECTED, STALE, UNBOUNDED, command
from node.commands.arguments import count as non_negative
from node.commands.generic import encoding_of
from node.config import allows
from node.config.values import memory as parse_memory
from node.data.digest import digest_of_all, digest_of_value
from node.data.keyspace import STRING
from node.data.pattern import matches
from node.execute import LOGGED
from node.persistence.rdb import encode_dump
from node.replies import (
    NO_SUCH_KEY,
    OK,
    BigNumber,
    Encoded,
    Members,
    Pairs,
    Push,
    ReplyError,
    Status,
    Verbatim,
)
from node.resp import encode
from node.session import Session

_log = logging.getLogger(__name__)

NOT_ALLOWED = ReplyError(
    b'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you '
    b"can run it from a local connection, otherwise you need to set this option in the "
    b"configuration file, and then restart the server."
)
NO_PUSH_IN_RESP2 = ReplyError(b"ERR RESP2 is not supported by this command")

_DUMP_FRAME = 11  # bytes of a DUMP payload beside the value: type, version, checksum

Subcommand = Callable[[Session, list[bytes]], Any]


@command(
    "DEBUG subcommand [arg ...]",
    flags=ADMIN | NOSCRIPT | LOADING | STALE | PROTECTED,
    group="server",
    since="1.0.0",
    complexity="Depends on subcommand.",
)
def debug(session: Session, args: list[bytes]):
    """Helps to test servers and clients."""
    if not allows(session.node.config.enable_debug_command, session.is_local()):
        raise NOT_ALLOWED
    low, high, subcommand = _SUBCOMMANDS.get(args[1].upper(), (0, 0, _help))
    if not low <= len(args) - 2 <= high or args[1].upper() not in _SUBCOMMANDS:
        raise ReplyError(
            b"ERR unknown subcommand or wrong number of arguments for '%b'. Try DEBUG HELP."
            % args[1]
        )
    keyspace = session.node.keyspace
    dirty = keyspace.dirty
    value = subcommand(session, args)
    if keyspace.dirty != dirty:
        session.effects = LOGGED  # loading data is no news for files and replicas
    return value


def _sleep(session: Session, args: list[bytes]) -> Any:
    """SLEEP <seconds>: Stop the server for so long."""
    try:
        seconds = float(args[2])
    except ValueError:
        seconds = 0.0
    node = session.node
    node.clock.sleep(seconds)
    if node.unit is None:  # for scripts and transactions time stands still
        node.begin_turn()
    return OK


def _error(session: Session, args: list[bytes]) -> Any:
    """ERROR <text>: Answer with this error."""
    return ReplyError(args[2])


def _write_log(session: Session, args: list[bytes]) -> Any:
    """LOG <message>: Write a message to the server's log."""
    _log.warning("DEBUG LOG: %s", args[2].decode(errors="replace"))
    return OK


def _set_active_expire(session: Session, args: list[bytes]) -> Any:
    """SET-ACTIVE-EXPIRE <0|1>: Delete keys whose time has come by themselves, or only when met."""
    session.node.expiring.is_on = args[2].strip() not in (b"0", b"")
    return OK


def _populate(session: Session, args: list[bytes]) -> Any:
    """POPULATE <count> [<prefix>] [<size>]: Make so many strings; replicas do not get them."""
    number = non_negative(args[2])
    prefix = args[3] if len(args) > 3 else b"key"
    size = non_negative(args[4]) if len(args) > 4 else 0
    db = session.db
    for i in range(number):
        key = b"%b:%d" % (prefix, i)
        if not db.exists(key):
            value = b"value:%d" % i
            db.put(key, value[:size].ljust(size, b"\0") if size else value)
            db.signal(key, b"set", STRING)
    return OK


def _reload(session: Session, args: list[bytes]) -> Any:
    """RELOAD [MERGE] [NOFLUSH] [NOSAVE]: Write the data to their file and load them again, by
    default; MERGE lets them replace what is there by the same name."""
    words = {word.upper() for word in args[2:]}
    if words - {b"MERGE", b"NOFLUSH", b"NOSAVE"}:
        raise ReplyError(b"ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    options = {"save": b"NOSAVE" not in words, "flush": b"NOFLUSH" not in words}
    if not session.node.reload(**options, merge=b"MERGE" in words):
        raise ReplyError(b"ERR Error trying to load the RDB dump, check server logs.")
    return OK


def _load_aof(session: Session, args: list[bytes]) -> Any:
    """LOADAOF: Write what the append-only file lacks, and load it in place of what there is."""
    if not session.node.aof.reload():
        raise ReplyError(b"ERR Error trying to load the AOF files, check server logs.")
    return OK


def _object(session: Session, args: list[bytes]) -> Any:
    """OBJECT <key> [fast]: Low-level facts of a value."""
    db = session.db
    db.keyspace.watch_accesses()
    value = db.stored(args[2])
    if value is None:
        raise NO_SUCH_KEY
    encoding = encoding_of(args[2], value)
    words = [b"Value at:0x%x refcount:1 encoding:%b" % (id(value), encoding)]
    if len(args) == 3 or args[3].lower() != b"fast":
        words.append(b"serializedlength:%d" % (len(encode_dump(value)) - _DUMP_FRAME))
    idle_ms = db.idle_ms(args[2])
    used_s = (db.keyspace.now_ms - idle_ms) // 1000
    words.append(b"lru:%d lru_seconds_idle:%d" % (used_s & 0xFFFFFF, idle_ms // 1000))
    return Status(b" ".join(words))


def _digest(session: Session, args: list[bytes]) -> Any:
    """DIGEST: A digest of all data, equal for equal data."""
    return Status(digest_of_all(session.node.keyspace.databases))


def _digest_value(session: Session, args: list[bytes]) -> Any:
    """DIGEST-VALUE <key> [<key> ...]: A digest of each key's value."""
    return [Status(digest_of_value(session.db, key)) for key in args[2:]]


def _stringmatch_len(session: Session, args: list[bytes]) -> Any:
    """STRINGMATCH-LEN <len> <pattern>: Match a string of so many "a" against a pattern."""
    return int(matches(args[3], b"a" * non_negative(args[2])))


def _set_disable_deny_scripts(session: Session, args: list[bytes]) -> Any:
    """SET-DISABLE-DENY-SCRIPTS <0|1>: Let scripts call commands that are denied to them."""
    session.node.scripting.denies = args[2].strip() in (b"0", b"")
    return OK


def _set_skip_checksum_validation(session: Session, args: list[bytes]) -> Any:
    """SET-SKIP-CHECKSUM-VALIDATION <0|1>: Believe payloads and files whose checksum is wrong."""
    session.node.skips_checksums = args[2].strip() not in (b"0", b"")
    return OK


def _pause_cron(session: Session, args: list[bytes]) -> Any:
    """PAUSE-CRON <0|1>: Let nothing happen by itself, so that a test sees what a command did."""
    session.node.is_idle = args[2].strip() not in (b"0", b"")
    return OK


def _quicklist_packed_threshold(session: Session, args: list[bytes]) -> Any:
    """QUICKLIST-PACKED-THRESHOLD <size>: From which size on an element of a list stands alone. It
    always does here: our lists have no nodes, so only the size itself is looked at."""
    size = parse_memory(args[2].decode("latin-1"))
    if size is None or size >= 1 << 32:
        raise ReplyError(b"ERR argument must be a memory value bigger than 1 and smaller than 4gb")
    return OK


_PROTOCOL_VALUES: dict[bytes, Any] = {
    b"string": b"Hello World",
    b"integer": 12345,
    b"double": 3.141,
    b"bignum": BigNumber(1234567999999999999999999999999999999),
    b"null": None,
    b"array": [0, 1, 2],
    b"set": Members([0, 1, 2]),
    b"map": Pairs([(0, False), (1, True), (2, False)]),
    b"verbatim": Verbatim(b"This is a verbatim\nstring"),
    b"true": True,
    b"false": False,
}


def _protocol(session: Session, args: list[bytes]) -> Any:
    """PROTOCOL <type>: Answer with a value of that type, for tests of clients."""
    kind = args[2].lower()
    if kind == b"attrib" and not session.id:  # to scripts attributes are nothing
        return b"Some real reply following the attribute"
    if kind == b"attrib":
        about = encode({b"key-popularity": [b"key:123", 90]}, 3).replace(b"%", b"|", 1)
        shown = about if session.protocol == 3 else b""
        return Encoded(shown + encode(b"Some real reply following the attribute", 2))
    if kind == b"push":
        if session.protocol == 2:
            raise NO_PUSH_IN_RESP2
        pushed = encode(Push([b"server-cpu-usage", 42]), 3)
        return Encoded(encode(b"Some real reply following the push reply", 3) + pushed)
    if kind not in _PROTOCOL_VALUES:
        raise ReplyError(
            b"ERR Wrong protocol type name. Please use one of the following: string|integer|double|"
            b"bignum|null|array|set|map|attrib|push|verbatim|true|false"
        )
    return _PROTOCOL_VALUES[kind]


def _help(session: Session, args: list[bytes]) -> Any:
    """HELP: This."""
    lines = [b"DEBUG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"]
    for _, _, subcommand in _SUBCOMMANDS.values():
        usage, _, what = (subcommand.__doc__ or "").partition(": ")
        lines += [usage.encode(), b"    " + what.encode()]
    return [Status(line) for line in lines]


# The number of arguments after its name, at least and at most, and what it does.
_SUBCOMMANDS: dict[bytes, tuple[int, int, Subcommand]] = {
    b"DIGEST": (0, 0, _digest),
    b"DIGEST-VALUE": (1, UNBOUNDED, _digest_value),
    b"ERROR": (1, 1, _error),
    b"LOADAOF": (0, 0, _load_aof),
    b"LOG": (1, 1, _write_log),
    b"OBJECT": (1, 2, _object),
    b"POPULATE": (1, 3, _populate),
    b"PAUSE-CRON": (1, 1, _pause_cron),
    b"PROTOCOL": (1, 1, _protocol),
    b"QUICKLIST-PACKED-THRESHOLD": (1, 1, _quicklist_packed_threshold),
    b"RELOAD": (0, 3, _reload),
    b"SET-ACTIVE-EXPIRE": (1, 1, _set_active_expire),
    b"SET-DISABLE-DENY-SCRIPTS": (1, 1, _set_disable_deny_scripts),
    b"SET-SKIP-CHECKSUM-VALIDATION": (1, 1, _set_skip_checksum_validation),
    b"SLEEP": (1, 1, _sleep),
    b"STRINGMATCH-LEN": (2, 2, _stringmatch_len),
    b"HELP": (0, 0, _help),
}
