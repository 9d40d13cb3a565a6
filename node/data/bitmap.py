"""Strings as arrays of bits; bit 0 is the highest bit of the first byte.

Whole strings are taken as one large integer each: Python then works on them a word at a time.
"""

from collections.abc import Sequence
from functools import reduce
from operator import and_, or_, xor

Bits = bytes | bytearray


def get_bit(data: Bits, offset: int) -> int:
    """The bit at an offset, 0 beyond the end. O(1)."""
    place = offset >> 3
    return data[place] >> (7 - (offset & 7)) & 1 if place < len(data) else 0


def set_bit(data: bytearray, offset: int, bit: int) -> None:
    """Set the bit at an offset inside the string. O(1)."""
    mask = 0x80 >> (offset & 7)
    if bit:
        data[offset >> 3] |= mask
    else:
        data[offset >> 3] &= ~mask


def grow(data: bytearray, size: int) -> None:
    """Make it at least `size` bytes long, with zeros."""
    if size > len(data):
        data += bytes(size - len(data))


def count(data: Bits, first: int, last: int) -> int:
    """The number of ones among the bits first to last, both included and both there. O(N)."""
    number = _window(data, first, last)
    return number.bit_count()


def find(data: Bits, bit: int, first: int, last: int) -> int:
    """The offset of the first such bit among the bits first to last, -1 for none. O(N)."""
    size = last - first + 1
    number = _window(data, first, last)
    if not bit:
        number ^= (1 << size) - 1
    return last + 1 - number.bit_length() if number else -1


def _window(data: Bits, first: int, last: int) -> int:
    """The bits first to last as a number."""
    number = int.from_bytes(memoryview(data)[first >> 3 : (last >> 3) + 1], "big")
    number >>= 7 - (last & 7)
    return number & (1 << (last - first + 1)) - 1


def combine(operation: bytes, strings: Sequence[Bits]) -> bytearray:
    """AND, OR, XOR of strings, the shorter ones followed by zeros, or NOT of the only one. O(N)."""
    size = max(map(len, strings))
    # Little-endian, so that a missing tail is a missing high part.
    numbers = [int.from_bytes(string, "little") for string in strings]
    if operation == b"NOT":
        result = numbers[0] ^ (1 << 8 * size) - 1
    else:
        result = reduce({b"AND": and_, b"OR": or_, b"XOR": xor}[operation], numbers)
    return bytearray(result.to_bytes(size, "little"))


# --- integers inside a string ---------------------------------------------------------------------


def get_field(data: Bits, offset: int, width: int, signed: bool) -> int:
    """The integer of `width` bits at a bit offset; bits beyond the end are zeros. O(1)."""
    first, last = offset >> 3, (offset + width - 1) >> 3
    window = bytes(data[first : last + 1]).ljust(last + 1 - first, b"\0")
    number = int.from_bytes(window, "big") >> (-(offset + width) & 7)
    return wrap(number, width, signed)


def set_field(data: bytearray, offset: int, width: int, number: int) -> None:
    """Store the low `width` bits of a number at a bit offset inside the string. O(1)."""
    first, last = offset >> 3, (offset + width - 1) >> 3
    shift = -(offset + width) & 7
    mask = (1 << width) - 1
    window = int.from_bytes(data[first : last + 1], "big")
    window = window & ~(mask << shift) | (number & mask) << shift
    data[first : last + 1] = window.to_bytes(last + 1 - first, "big")


def wrap(number: int, width: int, signed: bool) -> int:
    """What is left of a number in `width` bits."""
    number &= (1 << width) - 1
    return number - (1 << width) if signed and number >> (width - 1) else number


def limits(width: int, signed: bool) -> tuple[int, int]:
    """The least and the greatest integer of `width` bits."""
    return (-(1 << width - 1), (1 << width - 1) - 1) if signed else (0, (1 << width) - 1)
