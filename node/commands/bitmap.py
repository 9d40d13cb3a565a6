"""SETBIT GETBIT BITCOUNT BITPOS BITOP BITFIELD BITFIELD_RO."""

import re
from collections.abc import Iterator, Sequence

import attrs

from node.command import DENYOOM, FAST, READONLY, WRITE, Keys, command
from node.commands.arguments import integer, integer_between
from node.data import bitmap
from node.data.keyspace import GENERIC, STRING
from node.data.number import INT64_MAX
from node.data.string import editable, text
from node.replies import SYNTAX, ReplyError
from node.session import Session

_OFFSET = ReplyError(b"ERR bit offset is not an integer or out of range")
_BIT = ReplyError(b"ERR bit is not an integer or out of range")
_BIT_ARGUMENT = ReplyError(b"ERR The bit argument must be 1 or 0.")
_NOT_SINGLE = ReplyError(b"ERR BITOP NOT must be called with a single source key.")
_FIELD_TYPE = ReplyError(
    b"ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but "
    b"i64 is."
)
_OVERFLOW_TYPE = ReplyError(b"ERR Invalid OVERFLOW type specified")
_ONLY_GET = ReplyError(b"ERR BITFIELD_RO only supports the GET subcommand")


def _offset(session: Session, arg: bytes, width: int = 0) -> int:
    """A bit offset; `#n` counts in fields of `width` bits where that is not 0."""
    unit = 1
    if width and arg[:1] == b"#":
        arg, unit = arg[1:], width
    offset = integer(arg, _OFFSET) * unit
    if not 0 <= offset < 8 * session.node.config.proto_max_bulk_len:
        raise _OFFSET
    return offset


def _read(session: Session, key: bytes) -> bytes | bytearray | None:
    """The string at a key, for a command that only reads."""
    value = session.db.read_string(key)
    return value if value is None or type(value) is bytearray else text(value)


# --- single bits ----------------------------------------------------------------------------------


@command(
    "SETBIT key offset value",
    flags=WRITE | DENYOOM,
    group="bitmap",
    since="2.2.0",
    access="RW ACCESS UPDATE",
    complexity="O(1)",
)
def setbit(session: Session, args: list[bytes]) -> int:
    """Set or clear one bit of a string, which is made or made longer as needed."""
    db, key = session.db, args[1]
    offset = _offset(session, args[2])
    bit = integer_between(args[3], 0, 1, _BIT)
    data = editable(db.find_string(key))
    before, size = bitmap.get_bit(data, offset), len(data)
    bitmap.grow(data, (offset >> 3) + 1)
    if before != bit or len(data) > size:
        bitmap.set_bit(data, offset, bit)
        db.replace(key, data)
        db.touch(key, b"setbit", STRING)
    return before


@command(
    "GETBIT key offset",
    flags=READONLY | FAST,
    group="bitmap",
    since="2.2.0",
    complexity="O(1)",
)
def getbit(session: Session, args: list[bytes]) -> int:
    """One bit of a string, 0 beyond its end."""
    offset = _offset(session, args[2])
    return bitmap.get_bit(_read(session, args[1]) or b"", offset)


# --- counting and searching -----------------------------------------------------------------------


@attrs.frozen
class _Range:
    """A range of bytes or bits as written, `end` None where it was left out."""

    start: int
    end: int | None
    in_bits: bool

    def is_backward(self) -> bool:
        """Whether it goes from one place before the end to an earlier one."""
        return self.end is not None and self.end < self.start < 0

    def within(self, data: bytes | bytearray) -> tuple[int, int]:
        """The first and last bit of the range inside a string; last < first if it is empty."""
        size = len(data) * (8 if self.in_bits else 1)
        end = -1 if self.end is None else self.end
        first = self.start if self.start >= 0 else max(self.start + size, 0)
        last = min(end if end >= 0 else max(end + size, 0), size - 1)
        return (first, last) if self.in_bits else (8 * first, 8 * last + 7)


def _range(args: list[bytes]) -> _Range:
    """A range from `[start [end [BYTE | BIT]]]`."""
    if len(args) > 3:
        raise SYNTAX
    start = integer(args[0]) if args else 0
    unit = args[2].upper() if len(args) > 2 else b"BYTE"
    if unit not in (b"BYTE", b"BIT"):
        raise SYNTAX
    end = integer(args[1]) if len(args) > 1 else None
    return _Range(start, end, unit == b"BIT")


@command(
    "BITCOUNT key [start [end [BYTE | BIT]]]",
    flags=READONLY,
    group="bitmap",
    since="2.6.0",
    complexity="O(N)",
    history=(
        ("7.0.0", "Added the `BYTE|BIT` option."),
        (
            "8.0.0",
            "`end` made optional; when called without argument the command reports the last BYTE.",
        ),
    ),
)
def bitcount(session: Session, args: list[bytes]) -> int:
    """How many bits of a string, or of a part of it, are set."""
    wanted = _range(args[2:])
    data = _read(session, args[1])
    if not data or wanted.is_backward():
        return 0
    first, last = wanted.within(data)
    return bitmap.count(data, first, last) if first <= last else 0


@command(
    "BITPOS key bit [start [end [BYTE | BIT]]]",
    flags=READONLY,
    group="bitmap",
    since="2.8.7",
    complexity="O(N)",
    history=(("7.0.0", "Added the `BYTE|BIT` option."),),
)
def bitpos(session: Session, args: list[bytes]) -> int:
    """Where the first bit that is set, or clear, stands in a string or a part of it.

    A string is followed by clear bits without end, unless the end of the part was given.
    """
    bit = integer(args[2])
    if bit not in (0, 1):
        raise _BIT_ARGUMENT
    wanted = _range(args[3:])
    data = _read(session, args[1])
    if data is None:
        return -1 if bit else 0
    first, last = wanted.within(data)
    if first > last:
        return -1
    found = bitmap.find(data, bit, first, last)
    return 8 * len(data) if found < 0 and not bit and wanted.end is None else found


# --- whole strings --------------------------------------------------------------------------------


@command(
    "BITOP <AND | OR | XOR | NOT> destkey key [key ...]",
    flags=WRITE | DENYOOM,
    group="bitmap",
    since="2.6.0",
    keys=(Keys("OW UPDATE", first=2), Keys("RO ACCESS", first=3, last=-1)),
    complexity="O(N)",
)
def bitop(session: Session, args: list[bytes]) -> int:
    """Combine the bits of several strings and store the result."""
    operation, target = args[1].upper(), args[2]
    if operation not in (b"AND", b"OR", b"XOR", b"NOT"):
        raise SYNTAX
    if operation == b"NOT" and len(args) > 4:
        raise _NOT_SINGLE
    strings = [_read(session, key) or b"" for key in args[3:]]
    result = bitmap.combine(operation, strings)
    db = session.db
    if result:
        db.put(target, result)
        db.touch(target, b"set", STRING)
    elif db.remove(target) is not None:
        db.touch(target, b"del", GENERIC)
    return len(result)


# --- fields ---------------------------------------------------------------------------------------

_WRAP, _SAT, _FAIL = b"WRAP", b"SAT", b"FAIL"
_OPERANDS = {b"GET": 2, b"SET": 3, b"INCRBY": 3, b"OVERFLOW": 1}
_field_type = re.compile(rb"([iu])([1-9][0-9]?)").fullmatch
_UINT64_MASK = (1 << 64) - 1


@attrs.frozen
class _Step:
    """One subcommand of BITFIELD; `operand` is what to set or to add."""

    kind: bytes
    offset: int
    width: int
    signed: bool
    operand: int
    overflow: bytes

    def end_byte(self) -> int:
        """How long the string must be for this to be written."""
        return (self.offset + self.width + 7) >> 3

    def result(self, before: int) -> int | None:
        """What the field becomes, None where that overflows and must not."""
        number = self._unlimited(before)
        low, high = bitmap.limits(self.width, self.signed)
        if low <= number <= high:
            return number
        if self.overflow == _FAIL:
            return None
        if self.overflow == _SAT:
            return high if number > high or self._wraps(high - number) else low
        return bitmap.wrap(number, self.width, self.signed)

    def _wraps(self, distance: int) -> bool:
        """A real server's distance to the limit is an int64 that can become negative when an
        integer is set; replicas of either kind must come to the same."""
        return self.kind == b"SET" and self.signed and distance > INT64_MAX

    def _unlimited(self, before: int) -> int:
        if self.kind == b"INCRBY":
            return before + self.operand
        return self.operand if self.signed else self.operand & _UINT64_MASK


def _steps(session: Session, args: list[bytes]) -> Iterator[_Step]:
    """The subcommands; raises ReplyError."""
    overflow = _WRAP
    i = 2
    while i < len(args):
        kind = args[i].upper()
        operands = args[i + 1 : i + 1 + _OPERANDS.get(kind, 0)]
        if kind not in _OPERANDS or len(operands) < _OPERANDS[kind]:
            raise SYNTAX
        i += 1 + len(operands)
        if kind == b"OVERFLOW":
            overflow = operands[0].upper()
            if overflow not in (_WRAP, _SAT, _FAIL):
                raise _OVERFLOW_TYPE
            continue
        width, signed = _type(operands[0])
        offset = _offset(session, operands[1], width)
        number = integer(operands[2]) if len(operands) > 2 else 0
        yield _Step(kind, offset, width, signed, number, overflow)


def _type(arg: bytes) -> tuple[int, bool]:
    match = _field_type(arg)
    if match is None:
        raise _FIELD_TYPE
    width, signed = int(match[2]), match[1] == b"i"
    if width > (64 if signed else 63):
        raise _FIELD_TYPE
    return width, signed


def _field_access(args: Sequence[bytes]) -> str:
    """BITFIELD only reads where all it is asked is GET."""
    i = 2
    while i < len(args):
        word, left = args[i].upper(), len(args) - i - 1
        if word == b"GET" and left >= 2:
            i += 3
        elif word == b"OVERFLOW" and left >= 1:
            i += 2
        else:
            return "RW ACCESS UPDATE"
    return "RO ACCESS"


@command(
    "BITFIELD key [GET encoding offset | [OVERFLOW <WRAP | SAT | FAIL>] "
    "<SET encoding offset value | INCRBY encoding offset increment> ...]",
    flags=WRITE | DENYOOM,
    group="bitmap",
    since="3.2.0",
    keys=(
        Keys(
            "RW ACCESS UPDATE VARIABLE_FLAGS",
            notes="This command allows both access and modification of the key",
        ),
    ),
    find_access=_field_access,
    complexity="O(1) for each subcommand",
)
def bitfield(session: Session, args: list[bytes]) -> list[int | None]:
    """Read, set and add to integers of any width inside a string."""
    steps = list(_steps(session, args))
    if all(step.kind == b"GET" for step in steps):
        return _get_fields(session, args[1], steps)
    db, key = session.db, args[1]
    data = editable(db.find_string(key))
    size = len(data)
    bitmap.grow(data, max(step.end_byte() for step in steps if step.kind != b"GET"))
    grown = len(data) > size
    db.replace(key, data)
    replies, changes = _apply(data, steps, grown)
    if changes:
        db.touch(key, b"setbit", STRING)
    elif grown:
        session.node.keyspace.dirty += 1  # nobody is told, but replicas must grow theirs as well
    return replies


def _apply(data: bytearray, steps: Sequence[_Step], grown: bool) -> tuple[list[int | None], int]:
    """Run the subcommands on a string that is long enough; the replies, and how many changed it."""
    replies: list[int | None] = []
    changes = 0
    for step in steps:
        before = bitmap.get_field(data, step.offset, step.width, step.signed)
        if step.kind == b"GET":
            replies.append(before)
            continue
        after = step.result(before)
        if after is not None:
            bitmap.set_field(data, step.offset, step.width, after)
            changes += grown or after != before
        replies.append(before if after is not None and step.kind == b"SET" else after)
    return replies, changes


def _get_fields(session: Session, key: bytes, steps: Sequence[_Step]) -> list[int | None]:
    data = _read(session, key) or b""
    return [bitmap.get_field(data, step.offset, step.width, step.signed) for step in steps]


@command(
    "BITFIELD_RO key [GET encoding offset [GET encoding offset ...]]",
    flags=READONLY | FAST,
    group="bitmap",
    since="6.0.0",
    complexity="O(1) for each subcommand",
)
def bitfield_ro(session: Session, args: list[bytes]) -> list[int | None]:
    """Read integers of any width inside a string."""
    steps = list(_steps(session, args))
    if any(step.kind != b"GET" for step in steps):
        raise _ONLY_GET
    return _get_fields(session, args[1], steps)
