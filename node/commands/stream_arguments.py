"""What stream commands have in common: ids, how entries are shown, options for trimming and
reading.
"""

from typing import Any

import attrs

from node.commands.arguments import deadline_ms, integer
from node.data.consumers import MAX_ID, Group
from node.data.stream import SEQUENCE_MAX, Entry, Stream
from node.replies import NOT_INTEGER, SYNTAX, ReplyError, printed
from node.session import Session

_INVALID_ID = ReplyError(b"ERR Invalid stream ID specified as stream command argument")
_INVALID_START = ReplyError(b"ERR invalid start ID for the interval")
_INVALID_END = ReplyError(b"ERR invalid end ID for the interval")
_ID_LENGTH_MAX = 127


# --- ids ------------------------------------------------------------------------------------------


def show_id(entry_id: int) -> bytes:
    """An id as text."""
    return b"%d-%d" % (entry_id >> 64, entry_id & SEQUENCE_MAX)


def parse_id(arg: bytes, missing: int = 0) -> int:
    """An id from its text; `missing` stands for a sequence that is not given. Raises ReplyError."""
    ms, dash, sequence = arg.partition(b"-")
    return _number(arg, ms) << 64 | (_number(arg, sequence) if dash else missing)


def _number(arg: bytes, digits: bytes) -> int:
    if not digits.isdigit():
        digits = digits.lstrip(b" \t\n\v\f\r").removeprefix(b"+")  # as strtoull reads them
    if not digits.isdigit() or len(arg) > _ID_LENGTH_MAX:
        raise _INVALID_ID
    number = int(digits)
    if number > SEQUENCE_MAX:
        raise _INVALID_ID
    return number


def parse_bound(arg: bytes, missing: int = 0) -> int:
    """As `parse_id`; `-` and `+` are the lowest and the highest id."""
    if arg == b"-":
        return 0
    return MAX_ID if arg == b"+" else parse_id(arg, missing)


def parse_start(arg: bytes) -> int:
    """The lowest id of a range, `(` before one that is left out; raises ReplyError."""
    if arg[:1] != b"(" or len(arg) == 1:
        return parse_bound(arg)
    entry_id = parse_id(arg[1:]) + 1
    if entry_id > MAX_ID:
        raise _INVALID_START
    return entry_id


def parse_end(arg: bytes) -> int:
    """The highest id of a range, as `parse_start`."""
    if arg[:1] != b"(" or len(arg) == 1:
        return parse_bound(arg, SEQUENCE_MAX)
    entry_id = parse_id(arg[1:], SEQUENCE_MAX) - 1
    if entry_id < 0:
        raise _INVALID_END
    return entry_id


# --- replies --------------------------------------------------------------------------------------


def show_entries(entries: list[Entry]) -> list[Any]:
    """Entries as clients see them."""
    return [
        [b"%d-%d" % (entry_id >> 64, entry_id & SEQUENCE_MAX), list(fields)]
        for entry_id, fields in entries
    ]


def no_such_group(key: bytes, group: bytes) -> ReplyError:
    """The answer where the key or the group is missing."""
    return ReplyError(
        b"NOGROUP No such key '%b' or consumer group '%b'" % (printed(key), printed(group))
    )


def wrong_subcommand(args: list[bytes]) -> ReplyError:
    """The answer to arguments that the subcommand of a container does not take."""
    return ReplyError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try %b HELP."
        % (printed(args[1][:128]), args[0].upper())
    )


def look_group(session: Session, key: bytes, name: bytes) -> tuple[Stream | None, Group | None]:
    """The stream and the group, as far as they are there; raises WRONG_TYPE."""
    value = session.db.look(key, Stream)
    return value, None if value is None else value.groups.get(name)


# --- trimming -------------------------------------------------------------------------------------

_TWO_STRATEGIES = ReplyError(
    b"ERR syntax error, MAXLEN and MINID options at the same time are not compatible"
)
_NO_STRATEGY = ReplyError(b"ERR syntax error, XTRIM must be called with a trimming strategy")
_LIMIT_ALONE = ReplyError(
    b"ERR syntax error, LIMIT cannot be used without specifying a trimming strategy"
)
_LIMIT_EXACT = ReplyError(b"ERR syntax error, LIMIT cannot be used without the special ~ option")
_NEGATIVE_LENGTH = ReplyError(b"ERR The MAXLEN argument must be >= 0.")
_NEGATIVE_LIMIT = ReplyError(b"ERR The LIMIT argument must be >= 0.")
_LIMIT_BLOCKS = 100  # so many blocks are dropped at once, where the client sets no limit
_LIMIT_DEFAULT, _LIMIT_MAX = 10_000, 1_000_000


@attrs.define
class Trimming:
    """How a stream is to be trimmed: to a length or from an id on, the other being None.

    whole_blocks: approximately. limit: of entries removed, 0 for none, None while not given.
    at: the index of the threshold among the arguments.
    """

    most: int | None = None
    lowest: int | None = None
    whole_blocks: bool = False
    limit: int | None = None
    at: int = 0

    def is_given(self) -> bool:
        return self.at > 0

    def apply(self, value: Stream) -> int:
        """Trim; how many entries were removed."""
        limit = self.limit or 0
        if self.most is not None:
            return value.trim_to(self.most, whole_blocks=self.whole_blocks, limit=limit)
        assert self.lowest is not None
        return value.trim_before(self.lowest, whole_blocks=self.whole_blocks, limit=limit)

    def make_exact(self, args: list[bytes], value: Stream) -> None:
        """Change the arguments so that they do anywhere what an approximate trimming did here."""
        args[self.at - 1] = b"="
        if self.most is not None:
            args[self.at] = b"%d" % value.length
        else:
            args[self.at] = show_id(value.starts[0] if value.starts else MAX_ID)


def parse_trimming(session: Session, args: list[bytes]) -> Trimming:
    """The options of XTRIM; raises ReplyError."""
    trimming = Trimming()
    i = 2
    while i < len(args):
        if i + 1 == len(args):
            raise SYNTAX
        following = parse_trim_option(trimming, args, i)
        if following is None:
            raise SYNTAX
        i = following
    if not (trimming.limit or trimming.is_given()):
        raise _NO_STRATEGY
    finish_trimming(session, trimming)
    return trimming


def parse_trim_option(trimming: Trimming, args: list[bytes], i: int) -> int | None:
    """Take an option for trimming at args[i], which others follow; the index after it, or None
    where it is something else. Raises ReplyError."""
    word = args[i].upper()
    if word == b"LIMIT":
        trimming.limit = integer(args[i + 1])
        if trimming.limit < 0:
            raise _NEGATIVE_LIMIT
        return i + 2
    if word not in (b"MAXLEN", b"MINID"):
        return None
    if trimming.is_given():
        raise _TWO_STRATEGIES
    at = i + 1
    if args[at] in (b"~", b"=") and at + 1 < len(args):
        trimming.whole_blocks = args[at] == b"~"
        at += 1
    if word == b"MAXLEN":
        trimming.most = integer(args[at])
        if trimming.most < 0:
            raise _NEGATIVE_LENGTH
    else:
        trimming.lowest = parse_id(args[at])
    trimming.at = at
    return at + 1


def finish_trimming(session: Session, trimming: Trimming) -> None:
    """Check what was given as a whole, and set the limit; raises ReplyError."""
    if trimming.limit and not trimming.is_given():
        raise _LIMIT_ALONE
    if session.internal or session.from_primary:
        trimming.limit = 0  # what comes from a primary or a file is exact
    elif trimming.limit is not None:
        if not trimming.whole_blocks:
            raise _LIMIT_EXACT
    elif trimming.whole_blocks:
        limit = _LIMIT_BLOCKS * session.node.keyspace.limits.stream_node_max_entries
        trimming.limit = min(limit, _LIMIT_MAX) if limit > 0 else _LIMIT_DEFAULT


# --- reading --------------------------------------------------------------------------------------

_NO_GROUP_OPTION = ReplyError(b"ERR Missing GROUP option for XREADGROUP")


@attrs.define
class Reading:
    """What XREAD and XREADGROUP were asked for.

    count: entries of each stream, -1 for all. blocks: whether to wait, until deadline_ms.
    keys: of the streams, and `ids`, as they were given, from which on to read. at: the index of
    the first id among the arguments.
    """

    count: int = -1
    blocks: bool = False
    deadline_ms: int | None = None
    group: bytes | None = None
    consumer: bytes = b""
    acknowledged: bool = False
    keys: list[bytes] = attrs.field(factory=list)
    ids: list[bytes] = attrs.field(factory=list)
    at: int = 0


def parse_reading(session: Session, args: list[bytes], in_group: bool) -> Reading:
    """The options of XREAD or XREADGROUP; raises ReplyError."""
    reading = Reading()
    i, end = 1, len(args)
    while not reading.at:
        if i == end:
            raise SYNTAX
        word, more = args[i].upper(), end - i - 1
        if word == b"BLOCK" and more:
            timeout = integer(args[i + 1], _NOT_A_TIMEOUT)
            reading.blocks, reading.deadline_ms = True, deadline_ms(timeout, session.node.now_ms)
            i += 2
        elif word == b"COUNT" and more:
            reading.count = max(integer(args[i + 1]), 0) or -1
            i += 2
        elif word == b"STREAMS" and more:
            _parse_streams(reading, args, i + 1, in_group)
        elif word == b"GROUP" and more >= 2:
            _only_in_groups(word, in_group)
            reading.group, reading.consumer = args[i + 1 : i + 3]
            i += 3
        elif word == b"NOACK":
            _only_in_groups(word, in_group)
            reading.acknowledged = True
            i += 1
        else:
            raise SYNTAX
    if in_group and reading.group is None:
        raise _NO_GROUP_OPTION
    return reading


_NOT_A_TIMEOUT = ReplyError(b"ERR timeout is not an integer or out of range")


def _only_in_groups(word: bytes, in_group: bool) -> None:
    if not in_group:
        raise ReplyError(
            b"ERR The %b option is only supported by XREADGROUP. You called XREAD instead." % word
        )


def _parse_streams(reading: Reading, args: list[bytes], first: int, in_group: bool) -> None:
    number, odd = divmod(len(args) - first, 2)
    if odd:
        name, mark = (b"xreadgroup", b">") if in_group else (b"xread", b"$")
        raise ReplyError(
            b"ERR Unbalanced '%b' list of streams: for each stream key an ID or '%b' must be "
            b"specified." % (name, mark)
        )
    reading.at = first + number
    reading.keys, reading.ids = args[first : reading.at], args[reading.at :]


def min_idle_ms(arg: bytes, command: bytes) -> int:
    """The least time since a delivery for which it may be claimed; raises ReplyError."""
    error = ReplyError(b"ERR Invalid min-idle-time argument for %b" % command)
    return max(integer(arg, error), 0)


def most(arg: bytes) -> int:
    """A count, where one below zero means none; raises ReplyError."""
    return max(integer(arg, NOT_INTEGER), 0)
