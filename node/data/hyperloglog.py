"""HyperLogLog: how many different elements a string of a few kilobytes has been shown, about.

A value is a string, to the byte as Redis keeps it: a header of 16 bytes and 16384 registers, of
which each holds the longest run of zeros in the hashes that fell to it. The header is `HYLL`, the
encoding, three bytes of nothing, and the last count, little endian, out of date where its highest
bit is set. Registers come in one of two encodings:

    dense   6 bits each, packed from the lowest bit of the first byte on: 12304 bytes in all.
    sparse  runs: 00llllll are l+1 zeros; 01llllll llllllll (14 bits) are l+1 zeros;
            1vvvvvll are l+1 registers of v+1. A value beyond 32 or a string beyond
            `hll-sparse-max-bytes` makes it dense for good.

Sources: P. Flajolet et al., HyperLogLog (2007); O. Ertl, New cardinality estimation algorithms for
HyperLogLog sketches (2017); the layout: https://redis.io/docs/latest/commands/pfcount/
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from math import inf, sqrt
from struct import unpack_from
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from random import Random

REGISTERS = 1 << 14
HEADER = 16
DENSE_SIZE = HEADER + REGISTERS * 6 // 8
DENSE, SPARSE = 0, 1

_MAGIC = b"HYLL"
_ENCODING = 4  # where it is in the header
_COUNT = slice(8, 16)
_STALE = 0x80  # in the last byte of the count
_HASH_BITS = 64 - 14  # of a hash, besides those that choose the register
_ALPHA = 0.721347520444481703680  # 1 / (2 ln 2)
SHORT_ZEROS = 64  # the most that fit in a run of one byte
_MOST_VALUES, _MAX_SPARSE = 4, 32


class Corrupted(ValueError):
    """A string that begins like a HyperLogLog, but whose registers make no sense."""


def new() -> bytearray:
    """One that has seen nothing: sparse, its count 0."""
    return bytearray(_MAGIC + bytes((SPARSE,)) + bytes(11)) + _zeros(REGISTERS)


def is_valid(value: bytes | bytearray) -> bool:
    """Whether a string is a HyperLogLog, as far as its header and length tell."""
    if len(value) < HEADER or value[:4] != _MAGIC or value[_ENCODING] > SPARSE:
        return False
    return value[_ENCODING] == SPARSE or len(value) == DENSE_SIZE


def is_dense(value: bytes | bytearray) -> bool:
    return value[_ENCODING] == DENSE


# --- elements -------------------------------------------------------------------------------------

_FACTOR = 0xC6A4A7935BD1E995
_SEED = 0xADC83B19
_64 = (1 << 64) - 1


def murmur(data: bytes, seed: int = _SEED) -> int:
    """MurmurHash64A, A. Appleby's 64-bit hash, as on little-endian machines. O(len)."""
    size = len(data)
    result = seed ^ (size * _FACTOR & _64)
    words = size >> 3
    if words:
        for word in unpack_from(f"<{words}Q", data):
            word = word * _FACTOR & _64
            result = (result ^ ((word ^ word >> 47) * _FACTOR & _64)) * _FACTOR & _64
    if size & 7:
        tail = int.from_bytes(data[words << 3 :], "little")
        result = (result ^ tail) * _FACTOR & _64
    result = (result ^ result >> 47) * _FACTOR & _64
    return result ^ result >> 47


def place(element: bytes) -> tuple[int, int]:
    """The register of an element, and the least that it holds once it has seen it: 1 to 51."""
    code = murmur(element)
    rest = code >> 14 | 1 << _HASH_BITS
    return code & REGISTERS - 1, (rest & -rest).bit_length()


def add(value: bytearray, elements: Iterable[bytes], sparse_max: int) -> bool:
    """Show it elements; whether any register has changed, and so the count is out of date.

    sparse_max: bytes that a sparse one may take. O(1) for an element where dense, O(length) where
    sparse. Raises Corrupted.
    """
    changed = False
    sparse = None
    for element in elements:
        register, run = place(element)
        if value[_ENCODING] == DENSE:
            changed |= _raise_dense(value, register, run)
        else:
            sparse = sparse or Runs(value, sparse_max)
            changed |= sparse.raise_to(register, run)
    if changed:
        forget_count(value)
    return changed


# --- the dense form -------------------------------------------------------------------------------


def get_register(value: bytes | bytearray, register: int) -> int:
    """A register of a dense one."""
    bit = register * 6
    at = HEADER + (bit >> 3)
    return int.from_bytes(value[at : at + 2], "little") >> (bit & 7) & 63


def _raise_dense(value: bytearray, register: int, run: int) -> bool:
    bit = register * 6
    at, shift = HEADER + (bit >> 3), bit & 7
    pair = value[at] if shift < 3 else value[at] | value[at + 1] << 8
    if pair >> shift & 63 >= run:
        return False
    pair = pair & ~(63 << shift) | run << shift
    value[at] = pair & 255
    if shift > 2:
        value[at + 1] = pair >> 8
    return True


def _table(work: Iterable[int]) -> bytes:
    return bytes(number & 255 for number in work)


# Three bytes hold four registers. A table for each part of a register that a byte holds, and
# bytes.translate, take them apart and together a hundred times as fast as a loop does.
_LOW_6 = _table(byte & 63 for byte in range(256))
_HIGH_2 = _table(byte >> 6 for byte in range(256))
_LOW_4 = _table((byte & 15) << 2 for byte in range(256))
_HIGH_4 = _table(byte >> 4 for byte in range(256))
_LOW_2 = _table((byte & 3) << 4 for byte in range(256))
_HIGH_6 = _table(byte >> 2 for byte in range(256))
_TO_HIGH_2 = _table(byte << 6 for byte in range(256))
_TO_LOW_4 = _table(byte >> 2 for byte in range(256))
_TO_HIGH_4 = _table(byte << 4 for byte in range(256))
_TO_LOW_2 = _table(byte >> 4 for byte in range(256))
_TO_HIGH_6 = _table(byte << 2 for byte in range(256))


def _both(left: bytes, right: bytes) -> bytes:
    """The bitwise or of two strings of one length."""
    number = int.from_bytes(left, "little") | int.from_bytes(right, "little")
    return number.to_bytes(len(left), "little")


def _unpack(packed: bytes | bytearray) -> bytearray:
    """A byte for each register of the dense form."""
    first, second, third = (bytes(packed[i::3]) for i in range(3))
    registers = bytearray(REGISTERS)
    registers[0::4] = first.translate(_LOW_6)
    registers[1::4] = _both(first.translate(_HIGH_2), second.translate(_LOW_4))
    registers[2::4] = _both(second.translate(_HIGH_4), third.translate(_LOW_2))
    registers[3::4] = third.translate(_HIGH_6)
    return registers


def _pack(registers: bytes | bytearray) -> bytearray:
    """The dense form of registers, a byte each."""
    first, second, third, fourth = (bytes(registers[i::4]) for i in range(4))
    packed = bytearray(DENSE_SIZE - HEADER)
    packed[0::3] = _both(first, second.translate(_TO_HIGH_2))
    packed[1::3] = _both(second.translate(_TO_LOW_4), third.translate(_TO_HIGH_4))
    packed[2::3] = _both(third.translate(_TO_LOW_2), fourth.translate(_TO_HIGH_6))
    return packed


def make_dense(value: bytearray) -> None:
    """Change the encoding, and nothing else. O(registers); raises Corrupted."""
    if value[_ENCODING] == SPARSE:
        value[HEADER:] = _pack(registers_of(value))
        value[_ENCODING] = DENSE


# --- the sparse form ------------------------------------------------------------------------------


def _zeros(length: int) -> bytes:
    if length <= SHORT_ZEROS:
        return bytes((length - 1,)) if length else b""
    return bytes((0x40 | length - 1 >> 8, length - 1 & 255))


def _values(number: int, length: int) -> bytes:
    return bytes((0x80 | number - 1 << 2 | length - 1,)) if length else b""


def runs(value: bytes | bytearray) -> Iterator[tuple[int, int]]:
    """The runs of a sparse one, as (what the registers hold, how many). Raises Corrupted."""
    total, at, end = 0, HEADER, len(value)
    while at < end:
        head = value[at]
        if head & 0x80:
            number, length = (head >> 2 & 31) + 1, (head & 3) + 1
        elif head & 0x40 and at + 1 < end:
            number, length = 0, ((head & 63) << 8 | value[at + 1]) + 1
            at += 1
        elif head & 0x40:
            raise Corrupted
        else:
            number, length = 0, head + 1
        at += 1
        total += length
        yield number, length
    if total != REGISTERS:
        raise Corrupted


class Runs:
    """The runs of a sparse value, to change it in place.

    Registers that are raised in ascending order are found from where the last one was.
    """

    __slots__ = ("_at", "_first", "_last", "_sparse_max", "_value")

    def __init__(self, value: bytearray, sparse_max: int) -> None:
        self._value = value
        self._sparse_max = sparse_max
        self._at = HEADER  # a run that lies before the last one found and the one before that
        self._first = 0  # its first register
        self._last = -1  # the register that was raised last

    def raise_to(self, register: int, run: int) -> bool:
        """Let a register hold at least `run`; whether it has held less. Raises Corrupted.

        O(length). The runs that come out depend on the order in which registers were raised, and
        are those that Redis makes.
        """
        value = self._value
        if value[_ENCODING] == DENSE:
            return _raise_dense(value, register, run)
        if run > _MAX_SPARSE:
            return self._raise_as_dense(register, run)
        before, at, first, length = self._find(register)
        head = value[at]
        number = (head >> 2 & 31) + 1 if head & 0x80 else 0
        if number >= run:
            return False
        width = 2 if head & 0xC0 == 0x40 else 1
        rest = first + length - 1 - register
        if length == 1:
            split = _values(run, 1)
        elif number:
            split = _values(number, register - first) + _values(run, 1) + _values(number, rest)
        else:
            split = _zeros(register - first) + _values(run, 1) + _zeros(rest)
        longer = len(split) - width
        if longer > 0 and len(value) + longer > self._sparse_max:
            return self._raise_as_dense(register, run)
        value[at : at + width] = split
        self._merge(before)
        return True

    def _find(self, register: int) -> tuple[int, int, int, int]:
        """Of the run with a register: where the one before it is (or itself, if it is the first),
        where it is, its first register and its length."""
        if register <= self._last:
            self._at, self._first = HEADER, 0
        value, end = self._value, len(self._value)
        at = before = earlier = self._at
        first = before_first = earlier_first = self._first
        while at < end:
            head = value[at]
            if head & 0x80:
                length, width = (head & 3) + 1, 1
            elif head & 0x40:
                if at + 1 == end:
                    break
                length, width = ((head & 63) << 8 | value[at + 1]) + 1, 2
            else:
                length, width = head + 1, 1
            if register < first + length:
                self._at, self._first, self._last = earlier, earlier_first, register
                return before, at, first, length
            earlier, earlier_first = before, before_first
            before, before_first = at, first
            at += width
            first += length
        raise Corrupted

    def _merge(self, at: int) -> None:
        """Join runs of equal values among the five from `at` on."""
        value = self._value
        for _ in range(5):
            if at >= len(value):
                return
            head = value[at]
            if not head & 0x80:
                at += 2 if head & 0x40 else 1
                continue
            following = value[at + 1] if at + 1 < len(value) else 0
            length = (head & 3) + (following & 3) + 2
            if following & 0xFC == head & 0xFC and length <= _MOST_VALUES:
                value[at : at + 2] = bytes((head & 0xFC | length - 1,))
            else:
                at += 1

    def _raise_as_dense(self, register: int, run: int) -> bool:
        make_dense(self._value)
        return _raise_dense(self._value, register, run)


# --- all registers --------------------------------------------------------------------------------


def registers_of(value: bytes | bytearray) -> bytearray:
    """A byte for each register. Raises Corrupted."""
    if value[_ENCODING] == DENSE:
        return _unpack(value[HEADER:])
    registers = bytearray()
    for number, length in runs(value):
        registers += bytes((number,)) * length
    return registers


_ONES = int.from_bytes(b"\1" * REGISTERS, "little")


def merged(left: bytes | bytearray, right: bytes | bytearray, at_once: bool = True) -> bytes:
    """The greater of each two registers: what has seen the elements of both.

    at_once: as two long numbers, forty times as fast as one by one. Registers hold at most 63, so
    the highest bit of each byte is free to tell which is greater.
    """
    if not at_once:
        return bytes(map(max, left, right))
    a, b = int.from_bytes(left, "little"), int.from_bytes(right, "little")
    greater = ((a | _ONES << 7) - b >> 7 & _ONES) * 255
    return (a & greater | b & ~greater).to_bytes(REGISTERS, "little")


def store(value: bytearray, registers: bytes | bytearray, sparse_max: int) -> None:
    """Raise each register to at least that; the count is out of date then. Raises Corrupted."""
    if is_dense(value):
        value[HEADER:] = _pack(merged(_unpack(value[HEADER:]), registers))
    else:
        sparse = Runs(value, sparse_max)
        for register, number in enumerate(registers):
            if number:
                sparse.raise_to(register, number)
    forget_count(value)


# --- counting -------------------------------------------------------------------------------------


def count(value: bytes | bytearray) -> int:
    """About how many different elements it has seen, within 0.81 %. O(registers); raises
    Corrupted."""
    if value[_ENCODING] == DENSE:
        return estimate(_unpack(value[HEADER:]))
    numbers = [0] * 64
    for number, length in runs(value):
        numbers[number] += length
    return _estimate(numbers)


def estimate(registers: bytes | bytearray) -> int:
    """As `count`, from the registers, a byte each."""
    return _estimate([registers.count(number) for number in range(max(registers) + 1)])


def _estimate(numbers: list[int]) -> int:
    """Ertl's improved estimator, from how many registers hold 0, 1, 2 ..."""
    numbers = (numbers + [0] * 64)[:64]
    total = REGISTERS * _tau(1 - numbers[_HASH_BITS + 1] / REGISTERS)
    for number in range(_HASH_BITS, 0, -1):
        total = (total + numbers[number]) * 0.5
    total += REGISTERS * _sigma(numbers[0] / REGISTERS)
    return int(_ALPHA * REGISTERS * REGISTERS / total + 0.5)


def _tau(x: float) -> float:
    if x in (0, 1):
        return 0.0
    previous, y, z = -1.0, 1.0, 1 - x
    while z != previous:
        previous = z
        x = sqrt(x)
        y *= 0.5
        z -= (1 - x) ** 2 * y
    return z / 3


def _sigma(x: float) -> float:
    if x == 1:
        return inf
    previous, y, z = -1.0, 1.0, x
    while z != previous:
        previous = z
        x *= x
        z += x * y
        y += y
    return z


def known_count(value: bytes | bytearray) -> int | None:
    """The count that is kept, None where it is out of date."""
    return None if value[15] & _STALE else int.from_bytes(value[_COUNT], "little")


def keep_count(value: bytearray, number: int) -> None:
    """Keep the count until something changes."""
    value[_COUNT] = number.to_bytes(8, "little")


def forget_count(value: bytearray) -> None:
    """What is kept is out of date."""
    value[15] |= _STALE


# --- a check of all of the above ------------------------------------------------------------------

_SPARSE_SIZE = 300  # elements: what is sparse takes time in proportion to what it has seen
_SIZES = (1, 10, 100, _SPARSE_SIZE, 1000, 5000)
_TOLERANCE = 6 * 1.04 / sqrt(REGISTERS)  # six standard errors


def check(random: Random) -> None:
    """Raises AssertionError, with the reason, where one of the forms loses something or where
    counts are too far off."""
    registers = random.randbytes(REGISTERS).translate(_LOW_6)
    others = random.randbytes(REGISTERS).translate(_LOW_6)
    packed = bytes(HEADER) + _pack(registers)
    assert _unpack(packed[HEADER:]) == registers, "packed registers come out changed"
    some = random.sample(range(REGISTERS), 200)
    assert all(get_register(packed, i) == registers[i] for i in some), "a register is misplaced"
    assert merged(registers, others) == merged(registers, others, False), "merging loses a register"
    _check_counts(b"%x-" % random.getrandbits(64))


def _check_counts(prefix: bytes) -> None:
    sparse, dense, shown = new(), new(), 0
    make_dense(dense)
    for size in _SIZES:
        elements = [b"%b%d" % (prefix, number) for number in range(shown, size)]
        shown = size
        add(dense, elements, DENSE_SIZE)
        assert abs(count(dense) - size) <= max(1, size * _TOLERANCE), f"too far off at {size}"
        if size <= _SPARSE_SIZE:
            add(sparse, elements, DENSE_SIZE)
            assert registers_of(sparse) == registers_of(dense), "sparse and dense differ"
            assert count(sparse) == count(dense), "sparse and dense are counted differently"
