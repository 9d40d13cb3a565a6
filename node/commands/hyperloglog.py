"""PFADD PFCOUNT PFMERGE PFDEBUG PFSELFTEST."""

from collections.abc import Callable
from typing import Any

from node.command import ADMIN, DENYOOM, FAST, MAY_REPLICATE, READONLY, WRITE, Keys, command
from node.data import hyperloglog
from node.data.hyperloglog import Corrupted
from node.data.keyspace import NO_EVENT, STRING, Database
from node.data.string import String, editable
from node.replies import OK, ReplyError, Status, printed
from node.session import Session

_NOT_ONE = ReplyError(b"WRONGTYPE Key is not a valid HyperLogLog string value.")
_CORRUPTED = ReplyError(b"INVALIDOBJ Corrupted HLL object detected")
_NO_KEY = ReplyError(b"ERR The specified key does not exist")
_NOT_SPARSE = ReplyError(b"ERR HLL encoding is not sparse")
_ON_OR_OFF = ReplyError(b"ERR Argument must be ON or OFF")

# PFDEBUG SIMD: whether registers are merged all at once. Both ways give the same.
_merging = {"at_once": True}


def _checked(value: String | None) -> bytes | bytearray | None:
    """The string at a key as a HyperLogLog; raises _NOT_ONE if it is none."""
    if value is None:
        return None
    if isinstance(value, int) or not hyperloglog.is_valid(value):
        raise _NOT_ONE
    return value


def _editable(db: Database, key: bytes, value: bytes | bytearray | None) -> bytearray:
    """What is found at a key, to be changed in place; a new one where there is nothing."""
    if type(value) is bytearray:
        return value
    data = hyperloglog.new() if value is None else editable(value)
    db.replace(key, data)
    return data


# --- adding and counting --------------------------------------------------------------------------


@command(
    "PFADD key [element ...]",
    flags=WRITE | DENYOOM | FAST,
    group="hyperloglog",
    since="2.8.9",
    access="RW INSERT",
    complexity="O(1) for every element",
)
def pfadd(session: Session, args: list[bytes]) -> int:
    """Show elements to a HyperLogLog, which is made if there is none."""
    db, key = session.db, args[1]
    value = _checked(db.find_string(key))
    data = _editable(db, key, value)
    try:
        changed = hyperloglog.add(data, args[2:], session.node.config.hll_sparse_max_bytes)
    except Corrupted:
        raise _CORRUPTED from None
    if not changed and value is not None:
        return 0
    hyperloglog.forget_count(data)
    db.touch(key, b"pfadd", STRING)
    return 1


@command(
    "PFCOUNT key [key ...]",
    flags=READONLY | MAY_REPLICATE,
    group="hyperloglog",
    since="2.8.9",
    keys=(
        Keys(
            "RW ACCESS",
            last=-1,
            notes="RW because it may change the internal representation of the key, and propagate "
            "to replicas",
        ),
    ),
    complexity="O(1) for one key whose count is kept, O(N) with a large constant for N keys",
)
def pfcount(session: Session, args: list[bytes]) -> int:
    """About how many different elements one or several HyperLogLogs have seen."""
    try:
        if len(args) == 2:
            return _count_one(session.db, args[1])
        return hyperloglog.estimate(_union(session.db, args[1:])[0])
    except Corrupted:
        raise _CORRUPTED from None


def _count_one(db: Database, key: bytes) -> int:
    value = _checked(db.read_string(key))
    if value is None:
        return 0
    known = hyperloglog.known_count(value)
    if known is not None:
        return known
    data = _editable(db, key, value)
    number = hyperloglog.count(data)
    hyperloglog.keep_count(data, number)
    db.touch(key, b"", NO_EVENT)
    return number


def _union(db: Database, keys: list[bytes]) -> tuple[bytes | bytearray, bool]:
    """The registers of several taken together, and whether any is dense."""
    registers: bytes | bytearray = bytes(hyperloglog.REGISTERS)
    dense = False
    for key in keys:
        value = _checked(db.read_string(key))
        if value is not None:
            dense |= hyperloglog.is_dense(value)
            found = hyperloglog.registers_of(value)
            registers = hyperloglog.merged(registers, found, _merging["at_once"])
    return registers, dense


@command(
    "PFMERGE destkey [sourcekey ...]",
    flags=WRITE | DENYOOM,
    group="hyperloglog",
    since="2.8.9",
    keys=(Keys("RW ACCESS INSERT"), Keys("RO ACCESS", first=2, last=-1)),
    complexity="O(N) for N keys, with a large constant",
)
def pfmerge(session: Session, args: list[bytes]) -> Status:
    """Make a HyperLogLog of what several have seen."""
    db, key = session.db, args[1]
    try:
        registers, dense = _union(db, args[1:])
        data = _editable(db, key, _checked(db.find_string(key)))
        if dense:
            hyperloglog.make_dense(data)
        hyperloglog.store(data, registers, session.node.config.hll_sparse_max_bytes)
    except Corrupted:
        raise _CORRUPTED from None
    db.touch(key, b"pfadd", STRING)
    return OK


# --- looking inside -------------------------------------------------------------------------------


@command(
    "PFDEBUG subcommand key",
    flags=WRITE | DENYOOM | ADMIN,
    group="hyperloglog",
    since="2.8.9",
    keys=(Keys("RW ACCESS", first=2),),
    complexity="N/A",
)
def pfdebug(session: Session, args: list[bytes]) -> Any:
    """Show what a HyperLogLog looks like inside."""
    word = args[1].upper()
    if word == b"SIMD":
        return _choose_merging(args[2].upper())
    db, key = session.db, args[2]
    value = _checked(db.find_string(key))
    if value is None:
        raise _NO_KEY
    if word not in _SUBCOMMANDS:
        raise ReplyError(b"ERR Unknown PFDEBUG subcommand '%b'" % printed(args[1]))
    try:
        return _SUBCOMMANDS[word](db, key, _editable(db, key, value))
    except Corrupted:
        raise _CORRUPTED from None


def _choose_merging(word: bytes) -> Status:
    if word not in (b"ON", b"OFF"):
        raise _ON_OR_OFF
    _merging["at_once"] = word == b"ON"
    return Status(b"enabled" if word == b"ON" else b"disabled")


def _to_dense(db: Database, key: bytes, value: bytearray) -> int:
    if hyperloglog.is_dense(value):
        return 0
    hyperloglog.make_dense(value)
    db.keyspace.dirty += 1
    return 1


def _registers(db: Database, key: bytes, value: bytearray) -> list[int]:
    _to_dense(db, key, value)
    return list(hyperloglog.registers_of(value))


def _encoding(db: Database, key: bytes, value: bytearray) -> Status:
    return Status(b"dense" if hyperloglog.is_dense(value) else b"sparse")


def _decode(db: Database, key: bytes, value: bytearray) -> bytes:
    """The runs of a sparse one: z, Z for long ones, of zeros; v:value,length."""
    if hyperloglog.is_dense(value):
        raise _NOT_SPARSE
    shown = (
        b"v:%d,%d" % (number, length)
        if number
        else b"%b:%d" % (b"z" if length <= hyperloglog.SHORT_ZEROS else b"Z", length)
        for number, length in hyperloglog.runs(value)
    )
    return b" ".join(shown)


_SUBCOMMANDS: dict[bytes, Callable[[Database, bytes, bytearray], Any]] = {
    b"GETREG": _registers,
    b"DECODE": _decode,
    b"ENCODING": _encoding,
    b"TODENSE": _to_dense,
}


@command(
    "PFSELFTEST",
    flags=ADMIN,
    group="hyperloglog",
    since="2.8.9",
    complexity="N/A",
)
def pfselftest(session: Session, args: list[bytes]) -> Status:
    """Check that registers keep what they are given, and that counts are near enough."""
    try:
        hyperloglog.check(session.node.random)
    except AssertionError as error:
        raise ReplyError(b"TESTFAILED %b" % str(error).encode()) from None
    return OK
