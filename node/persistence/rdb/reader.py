"""The bytes of an RDB file, in whatever pieces they come, as a data set."""

from __future__ import annotations

from struct import Struct

from node.data.limits import Limits
from node.persistence.rdb import codes
from node.persistence.rdb.codes import Import, RdbError, Version, crc64
from node.persistence.rdb.decode import (
    DECODERS,
    REDIS_DECODERS,
    VALKEY_DECODERS,
    Context,
    length,
    string,
    take,
)
from node.persistence.rdb.writer import Record

_MAGIC_BYTES = 9
_SECONDS = Struct("<i").unpack
_MILLISECONDS = Struct("<q").unpack_from
_U64 = Struct("<Q").unpack


class Reader:
    """Turns bytes into records: feed it, take the records, and finish() at the end of the input.

    `version` is known after the first nine bytes; `aux`, `functions` (sources of libraries) and
    `imports` grow as they are met; `sizes` has the hints (keys, deadlines) of each db; `is_done`
    once the checksum was read and found right, and `rest` is what follows it. Empty collections,
    which real servers have written in error, are left out and counted in `empty_skipped`. After an
    RdbError `before_error` are the records that were whole in the piece with the error, and
    `valid_up_to` is where what is broken starts; before, it is how far whole things go.

    Memory is bounded by what was fed: no length is believed before its bytes are here.
    """

    def __init__(self, limits: Limits, *, checksum: bool = True, relaxed: bool = False) -> None:
        self.limits = limits
        self.version: Version | None = None
        self.aux: dict[bytes, bytes] = {}
        self.functions: list[bytes] = []
        self.imports: list[Import] = []
        self.sizes: dict[int, tuple[int, int]] = {}
        self.is_done = False
        self.rest = b""
        self.empty_skipped = 0
        self.before_error: list[Record] = []
        self.offset = 0  # of the buffer's first byte in the input
        self._checks = checksum
        self._relaxed = relaxed  # versions that are not known are read, too
        self._crc = 0
        self._broken_at: int | None = None
        self._db = 0
        self._buffer = b""
        self._pieces: list[bytes] = []  # come after the buffer, not read yet
        self._held = 0  # bytes in both
        self._wanted = _MAGIC_BYTES
        self._context = Context(limits, Version(0, False))

    def feed(self, data: bytes) -> list[Record]:
        """Take the next bytes of the input; returns the records that are whole. RdbError.

        A record much larger than a piece may be held back until finish().
        """
        if self.is_done:
            self.rest += data
            return []
        self._pieces.append(data)
        self._held += len(data)
        return self._read() if self._held >= self._wanted else []

    def finish(self) -> list[Record]:
        """The input is over: the records that were held back. RdbError if it ended too early."""
        records = [] if self.is_done else self._read()
        if not self.is_done:
            reason = f"unexpected end of the file in what starts at {self.offset}"
            raise RdbError(reason, self.offset + self._held)
        return records

    @property
    def valid_up_to(self) -> int:
        return self.offset if self._broken_at is None else self._broken_at

    def _read(self) -> list[Record]:
        records: list[Record] = []
        at = 0
        self._buffer = b"".join((self._buffer, *self._pieces))
        self._pieces.clear()
        try:
            if self.version is None:
                at = self._read_magic()
            at = self._read_records(at, records)
        except RdbError as error:
            self.before_error = records
            raise RdbError(error.reason, self.offset + error.offset) from None
        if not self.is_done:
            self._consume(at)
            # What is left is read from its start again: double it first, to stay linear.
            self._held = len(self._buffer)
            self._wanted = 2 * self._held
        return records

    def _consume(self, at: int) -> None:
        if self._checks:
            self._crc = crc64(memoryview(self._buffer)[:at], self._crc)
        self._buffer = self._buffer[at:]
        self.offset += at

    def _read_magic(self) -> int:
        magic = self._buffer[:_MAGIC_BYTES]
        is_valkey = magic.startswith(codes.VALKEY_MAGIC)
        name = codes.VALKEY_MAGIC if is_valkey else codes.REDIS_MAGIC
        digits = magic[len(name) :]
        if len(magic) < _MAGIC_BYTES or not magic.startswith(name) or not digits.isdigit():
            raise RdbError("wrong signature", 0)
        self.version = Version(int(digits), is_valkey)
        if not self.version.is_readable(self._relaxed):
            raise RdbError(f"can't handle RDB format version {self.version.number}", 0)
        self._context = Context(self.limits, self.version)
        return _MAGIC_BYTES

    def _read_records(self, at: int, records: list[Record]) -> int:
        """Read whole records from `at` on; returns where the first that isn't whole starts.

        One loop over one buffer: a million keys pass here. Strings shorter than 64 bytes are read
        in place, the rest by the decoders.
        """
        buffer, db, context = self._buffer, self._db, self._context
        size = len(buffer)
        add = records.append
        own = VALKEY_DECODERS if context.version.is_valkey else REDIS_DECODERS
        decoders = DECODERS | own
        start = at
        deadline = idle = freq = None
        try:
            while True:
                kind = buffer[at]
                at += 1
                if kind < codes.SLOT_IMPORT:
                    first = buffer[at]
                    if first < 0x40:
                        end = at + 1 + first
                        key = buffer[at + 1 : end]
                    else:
                        key, end = string(buffer, at)
                    if kind == 0 and (first := buffer[end]) < 0x40:
                        at = end + 1 + first
                        if at > size:
                            break
                        value = buffer[end + 1 : at]
                    elif kind in decoders:
                        value, at = decoders[kind](buffer, end, context)
                        if not value and kind not in codes.MAY_BE_EMPTY:
                            self.empty_skipped += 1
                            value = None
                    else:
                        raise RdbError(f"value of unknown type {kind}", at - 1)
                    if value is not None:
                        add((db, key, value, deadline, idle, freq))
                    deadline = idle = freq = None
                elif kind == codes.EXPIRE_MS:
                    if at + 8 > size:
                        break
                    deadline = _MILLISECONDS(buffer, at)[0]
                    at += 8
                    continue
                elif kind == codes.EXPIRE_S:
                    deadline, at = _SECONDS(take(buffer, at, 4))[0] * 1000, at + 4
                    continue
                elif kind == codes.FREQ:
                    freq, at = buffer[at], at + 1
                    continue
                elif kind == codes.IDLE:
                    idle, at = length(buffer, at)
                    continue
                elif kind == codes.SELECT_DB:
                    db, at = length(buffer, at)
                    self._db = db
                elif kind == codes.EOF:
                    self._read_end(at)
                    break
                else:
                    at = self._read_other(kind, at, db)
                start = at
        except IndexError:
            pass  # the rest is still to come
        except RdbError:
            self._broken_at = self.offset + start
            raise
        return start

    def _read_other(self, kind: int, at: int, db: int) -> int:
        buffer = self._buffer
        if kind == codes.AUX:
            name, at = string(buffer, at)
            value, at = string(buffer, at)
            self.aux[name] = value
        elif kind == codes.RESIZE_DB:
            keys, at = length(buffer, at)
            deadlines, at = length(buffer, at)
            self.sizes[db] = keys, deadlines
        elif kind == codes.FUNCTION:
            source, at = string(buffer, at)
            self.functions.append(source)
        elif kind == codes.SLOT_INFO:
            at = _skip_lengths(buffer, at, 3)
        elif kind == codes.SLOT_IMPORT:
            found, at = _read_import(buffer, at)
            self.imports.append(found)
        elif kind == codes.MODULE_AUX:
            at = _skip_module_aux(buffer, at)
        else:
            raise RdbError("function in the form of a preliminary Redis 7.0", at - 1)
        return at

    def _read_end(self, at: int) -> None:
        """Check the checksum after the end mark; zero means that the writer made none."""
        end = at
        if self.version is not None and self.version.number >= codes.CHECKSUM_SINCE:
            end = at + 8
            expected = _U64(take(self._buffer, at, 8))[0]
            if self._checks and expected:
                crc = crc64(memoryview(self._buffer)[:at], self._crc)
                if crc != expected:
                    raise RdbError("wrong checksum", at)
        self.rest = self._buffer[end:]
        self.offset += end
        self._buffer = b""
        self.is_done = True


def _read_import(buffer: bytes, at: int) -> tuple[Import, int]:
    start = at
    name, at = string(buffer, at)
    count, at = length(buffer, at)
    ranges = []
    for _ in range(count):
        first, at = length(buffer, at)
        last, at = length(buffer, at)
        if not first <= last < codes.SLOTS:
            raise RdbError(f"a move of slots {first} to {last}", start)
        ranges.append((first, last))
    if len(name) != codes.IMPORT_NAME_BYTES or not ranges:
        raise RdbError("a move of slots without a name or without slots", start)
    return Import(name, tuple(ranges)), at


def _skip_lengths(buffer: bytes, at: int, number: int) -> int:
    for _ in range(number):
        _, at = length(buffer, at)
    return at


_MODULE_END, _MODULE_FLOAT, _MODULE_DOUBLE, _MODULE_STRING = 0, 3, 4, 5


def _skip_module_aux(buffer: bytes, at: int) -> int:
    """What a module saved beside its values: annotated parts up to an end mark."""
    at = _skip_lengths(buffer, at, 3)  # the module, and when it is to get this
    while True:
        part, at = length(buffer, at)
        if part == _MODULE_END:
            return at
        if part in (1, 2):
            _, at = length(buffer, at)
        elif part in (_MODULE_FLOAT, _MODULE_DOUBLE):
            size = 4 if part == _MODULE_FLOAT else 8
            take(buffer, at, size)
            at += size
        elif part == _MODULE_STRING:
            _, at = string(buffer, at)
        else:
            raise RdbError("broken data of a module", at)
