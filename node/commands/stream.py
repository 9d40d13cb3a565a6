"""XADD XLEN XRANGE XREVRANGE XREAD XDEL XTRIM XSETID. What concerns groups of consumers is in
stream_groups, XINFO in stream_info.
"""

from typing import Any

import attrs

from node.command import BLOCKING, DENYOOM, FAST, READONLY, WRITE, Keys, command
from node.commands.arguments import integer
from node.commands.stream_arguments import (
    Reading,
    Trimming,
    finish_trimming,
    parse_end,
    parse_id,
    parse_reading,
    parse_start,
    parse_trim_option,
    parse_trimming,
    show_entries,
    show_id,
)
from node.data.consumers import MAX_ID
from node.data.keyspace import STREAM, UNWATCHED
from node.data.stream import SEQUENCE_MAX, Stream
from node.replies import (
    NO_SUCH_KEY,
    NULL_ARRAY,
    OK,
    SYNTAX,
    Pairs,
    ReplyError,
    Status,
    Wait,
    wrong_arity,
)
from node.session import Session

_ENTRY_MAX_BYTES = 1 << 30
_ZERO_ID = ReplyError(b"ERR The ID specified in XADD must be greater than 0-0")
_TOO_LARGE = ReplyError(b"ERR Elements are too large to be stored")
_SMALL_ID = ReplyError(
    b"ERR The ID specified in XADD is equal or smaller than the target stream top item"
)
_EXHAUSTED = ReplyError(
    b"ERR The stream has exhausted the last possible ID, unable to add more items"
)
_RANDOM = (b"nondeterministic_output",)


# --- adding ---------------------------------------------------------------------------------------


@attrs.define
class _Addition:
    """What XADD was asked for.

    entry_id: None for one that is generated; any_sequence: only its milliseconds are given. at:
    the index of the id among the arguments. create: the stream, if there is none.
    """

    trimming: Trimming = attrs.field(factory=Trimming)
    entry_id: int | None = None
    any_sequence: bool = False
    at: int = 2
    create: bool = True


@command(
    "XADD key [NOMKSTREAM] [<MAXLEN | MINID> [= | ~] threshold [LIMIT count]] <* | id> field value "
    "[field value ...]",
    flags=WRITE | DENYOOM | FAST,
    group="stream",
    since="5.0.0",
    keys=(
        Keys(
            "RW UPDATE",
            notes="UPDATE instead of INSERT because of the optional trimming feature",
        ),
    ),
    complexity="O(1), and O(N) where N entries are trimmed",
    tips=_RANDOM,
    history=(
        (
            "6.2.0",
            "Added the `NOMKSTREAM` option, `MINID` trimming strategy and the `LIMIT` option.",
        ),
        ("7.0.0", "Added support for the `<ms>-*` explicit ID form."),
    ),
)
def xadd(session: Session, args: list[bytes]) -> bytes | None:
    """Append an entry to a stream, which is made if there is none."""
    addition = None if args[2] == b"*" else _parse_addition(session, args)
    at = 2 if addition is None else addition.at
    fields = args[at + 1 :]
    if len(fields) < 2 or len(fields) % 2:
        raise wrong_arity(b"xadd")
    if addition is not None and addition.entry_id == 0 and not addition.any_sequence:
        raise _ZERO_ID
    db, key = session.db, args[1]
    value = db.find(key, Stream)
    is_new = value is None
    if value is None:
        if addition is not None and not addition.create:
            return None
        value = Stream(db.keyspace.limits)
    entry_id = _new_id(value, addition, db.keyspace.now_ms)
    if sum(map(len, fields)) > _ENTRY_MAX_BYTES:
        raise _TOO_LARGE
    value.append(entry_id, fields)
    if is_new:
        db.replace(key, value)
    shown = show_id(entry_id)
    db.touch(key, b"xadd", STREAM)
    if addition is not None and addition.trimming.is_given() and addition.trimming.apply(value):
        db.touch(key, b"xtrim", STREAM)
    if session.node.log.active:
        session.effects = _exact(args, addition, shown, value)
    return shown


def _exact(
    args: list[bytes], addition: _Addition | None, shown: bytes, value: Stream
) -> list[list[bytes]] | None:
    """What to log of an XADD that would do something else at another time or place."""
    if addition is None:
        return [[*args[:2], shown, *args[3:]]]
    is_generated = addition.entry_id is None or addition.any_sequence
    if not (is_generated or addition.trimming.whole_blocks):
        return None
    effect = args.copy()
    if is_generated:
        effect[addition.at] = shown
    if addition.trimming.whole_blocks:
        addition.trimming.make_exact(effect, value)
    return [effect]


def _parse_addition(session: Session, args: list[bytes]) -> _Addition:
    """XADD's options and id; raises ReplyError."""
    addition = _Addition()
    i, end = 2, len(args)
    while i < end and args[i] != b"*":
        following = parse_trim_option(addition.trimming, args, i) if i + 1 < end else None
        if following is not None:
            i = following
        elif args[i].upper() == b"NOMKSTREAM":
            addition.create = False
            i += 1
        else:
            addition.any_sequence = args[i].endswith(b"-*")
            addition.entry_id = parse_id(args[i][:-2] if addition.any_sequence else args[i])
            break
    addition.at = i
    finish_trimming(session, addition.trimming)
    return addition


def _new_id(value: Stream, addition: _Addition | None, now_ms: int) -> int:
    """The id of the entry to be added; raises ReplyError."""
    if value.last_id == MAX_ID:
        raise _EXHAUSTED
    if addition is None or addition.entry_id is None:
        return value.next_id(now_ms)
    entry_id = addition.entry_id
    if addition.any_sequence and entry_id >> 64 == value.last_id >> 64:
        if value.last_id & SEQUENCE_MAX == SEQUENCE_MAX:
            raise _SMALL_ID
        return value.last_id + 1
    if entry_id <= value.last_id:
        raise _SMALL_ID
    return entry_id


# --- reading --------------------------------------------------------------------------------------


@command("XLEN key", flags=READONLY | FAST, group="stream", since="5.0.0", access="RO")
def xlen(session: Session, args: list[bytes]) -> int:
    """The number of entries in a stream."""
    value = session.db.look(args[1], Stream)
    return 0 if value is None else value.length


@command(
    "XRANGE key start end [COUNT count]",
    flags=READONLY,
    group="stream",
    since="5.0.0",
    complexity="O(N) for N entries returned",
    history=(("6.2.0", "Added exclusive ranges."),),
)
def xrange(session: Session, args: list[bytes]) -> Any:
    """The entries of a stream with ids between two."""
    return _range(session, args, parse_start(args[2]), parse_end(args[3]), False)


@command(
    "XREVRANGE key end start [COUNT count]",
    flags=READONLY,
    group="stream",
    since="5.0.0",
    complexity="O(N) for N entries returned",
    history=(("6.2.0", "Added exclusive ranges."),),
)
def xrevrange(session: Session, args: list[bytes]) -> Any:
    """The entries of a stream with ids between two, the last first."""
    start = parse_start(args[3])
    return _range(session, args, start, parse_end(args[2]), True)


def _range(session: Session, args: list[bytes], start: int, end: int, reverse: bool) -> Any:
    most = -1
    for i in range(4, len(args), 2):
        if args[i].upper() != b"COUNT" or i + 1 == len(args):
            raise SYNTAX
        most = max(integer(args[i + 1]), 0)
    value = session.db.look(args[1], Stream)
    if value is None:
        return []
    return show_entries(value.range(start, end, most, reverse=reverse)) if most else NULL_ARRAY


@command(
    "XREAD [COUNT count] [BLOCK milliseconds] <STREAMS key [key ...] id [id ...]>",
    flags=READONLY | BLOCKING,
    group="stream",
    since="5.0.0",
    keys=(Keys("RO ACCESS", first=1, last=-1, limit=2, keyword=b"STREAMS"),),
)
def xread(session: Session, args: list[bytes]) -> Any:
    """The entries of streams after given ids, or wait for such."""
    reading = parse_reading(session, args, in_group=False)
    after = [_read_from(session, *pair) for pair in zip(reading.keys, reading.ids, strict=True)]
    found: list[list[Any]] = []
    for key, entry_id in zip(reading.keys, after, strict=True):
        value = session.db.look(key, Stream)
        if value is not None and value.top_id() > entry_id:
            entries = value.range(entry_id + 1, MAX_ID, reading.count)
            found.append([key, show_entries(entries)])
    if found:
        return streams_reply(session, found)
    return _wait(session, args, reading, after) if reading.blocks else NULL_ARRAY


def _read_from(session: Session, key: bytes, arg: bytes) -> int:
    """The id after which XREAD reads a stream; raises ReplyError."""
    value = session.db.look(key, Stream)
    if arg == b"$":
        return 0 if value is None else value.last_id
    if arg == b"+":
        return 0 if value is None or not value.last_id else value.last_id - 1
    if arg == b">":
        raise ReplyError(
            b"ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> "
            b"<consumer> option."
        )
    return parse_id(arg)


def streams_reply(session: Session, found: list[list[Any]]) -> Any:
    """Streams with their entries: a map in RESP3, pairs in RESP2."""
    return Pairs(found) if session.protocol == 3 else found


def _wait(session: Session, args: list[bytes], reading: Reading, after: list[int]) -> Wait:
    """Wait for entries after those that are there now, whatever comes later."""
    db = session.db.index
    places = tuple((db, key) for key in reading.keys)
    command = args.copy()
    for i, arg in enumerate(reading.ids):
        if arg == b"$":
            command[reading.at + i] = show_id(after[i])
    return Wait(None, reading.deadline_ms, NULL_ARRAY, places, Stream, command=command)


# --- removing -------------------------------------------------------------------------------------


@command(
    "XDEL key id [id ...]",
    flags=WRITE | FAST,
    group="stream",
    since="5.0.0",
    access="RW DELETE",
    complexity="O(1) for each entry deleted",
)
def xdel(session: Session, args: list[bytes]) -> int:
    """Delete entries of a stream; how many there were."""
    db, key = session.db, args[1]
    value = db.find(key, Stream)
    if value is None:
        return 0
    deleted = sum([value.delete(entry_id) for entry_id in [parse_id(arg) for arg in args[2:]]])
    if deleted:
        db.touch(key, b"xdel", STREAM)
    return deleted


@command(
    "XTRIM key <<MAXLEN | MINID> [= | ~] threshold [LIMIT count]>",
    arity=-4,
    flags=WRITE,
    group="stream",
    since="5.0.0",
    access="RW DELETE",
    complexity="O(N) for N entries removed",
    tips=_RANDOM,
    history=(("6.2.0", "Added the `MINID` trimming strategy and the `LIMIT` option."),),
)
def xtrim(session: Session, args: list[bytes]) -> int:
    """Remove the first entries of a stream; how many were removed."""
    trimming = parse_trimming(session, args)
    db, key = session.db, args[1]
    value = db.find(key, Stream)
    removed = 0 if value is None else trimming.apply(value)
    if value is not None and removed:
        db.touch(key, b"xtrim", STREAM)
        if trimming.whole_blocks:
            effect = args.copy()
            trimming.make_exact(effect, value)
            session.effects = [effect]
    return removed


@command(
    "XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]",
    flags=WRITE | DENYOOM | FAST,
    group="stream",
    since="5.0.0",
    complexity="O(1)",
    history=(("7.0.0", "Added the `entries_added` and `max_deleted_entry_id` arguments."),),
)
def xsetid(session: Session, args: list[bytes]) -> Status:
    """Set what a stream remembers of its entries: the last id, and more."""
    last_id = parse_id(args[2])
    added, max_deleted_id = _counters(args, last_id)
    db, key = session.db, args[1]
    value = db.find(key, Stream)
    if value is None:
        raise NO_SUCH_KEY
    _check_last_id(value, last_id, added)
    value.last_id = last_id
    if added is not None:
        value.entries_added = added
    value.max_deleted_id = max_deleted_id or value.max_deleted_id
    db.touch(key, b"xsetid", STREAM | UNWATCHED)
    return OK


def _counters(args: list[bytes], last_id: int) -> tuple[int | None, int]:
    """XSETID's options; raises ReplyError."""
    added, max_deleted_id = None, 0
    for i in range(3, len(args), 2):
        word = args[i].upper()
        if i + 1 == len(args) or word not in (b"ENTRIESADDED", b"MAXDELETEDID"):
            raise SYNTAX
        if word == b"ENTRIESADDED":
            added = integer(args[i + 1])
            if added < 0:
                raise ReplyError(b"ERR entries_added must be positive")
        else:
            max_deleted_id = parse_id(args[i + 1])
            if last_id < max_deleted_id:
                raise _refused(b"ID", b"smaller than the provided max_deleted_entry_id")
    return added, max_deleted_id


def _check_last_id(value: Stream, last_id: int, added: int | None) -> None:
    if last_id < value.max_deleted_id:
        raise _refused(b"ID", b"smaller than current max_deleted_entry_id")
    if value.length and last_id < value.top_id():
        raise _refused(b"ID", b"smaller than the target stream top item")
    if added is not None and value.length > added:
        raise _refused(b"entries_added", b"smaller than the target stream length")


def _refused(what: bytes, why: bytes) -> ReplyError:
    return ReplyError(b"ERR The %b specified in XSETID is %b" % (what, why))
