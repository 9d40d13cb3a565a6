"""What versions before 10 stored small collections in: ziplist, zipmap; and the intset.

Each function takes a whole block and raises RdbError, offsets counted within it.
Sources: the descriptions of ziplist and zipmap in Redis 6, and blocks dumped by real servers.
"""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct, error, unpack_from

from node.persistence.rdb.codes import RdbError

_ZIPLIST_HEADER = Struct("<IIH")
_INTSET_HEADER = Struct("<II")
_INTEGERS = {0xC0: 2, 0xD0: 4, 0xE0: 8, 0xF0: 3, 0xFE: 1}
_WIDTHS = {2: "h", 4: "i", 8: "q"}


def decode_ziplist(block: bytes) -> list[bytes]:
    """The values of a ziplist, integers as text. O(bytes)."""
    if len(block) < 11 or block[-1] != 0xFF or _ZIPLIST_HEADER.unpack_from(block)[0] != len(block):
        raise RdbError("ziplist of another length than it says", 0)
    count = _ZIPLIST_HEADER.unpack_from(block)[2]
    values: list[bytes] = []
    at, end = 10, len(block) - 1
    try:
        while at < end:
            at += 5 if block[at] == 0xFE else 1  # the length of the entry before
            value, at = _ziplist_entry(block, at)
            values.append(value)
    except IndexError:
        at = end + 1
    if at != end or count not in (len(values), 0xFFFF):
        raise RdbError("broken ziplist", min(at, end))
    return values


def _ziplist_entry(block: bytes, at: int) -> tuple[bytes, int]:
    tag = block[at]
    if tag < 0xC0:
        if tag < 0x40:
            length, at = tag, at + 1
        elif tag < 0x80:
            length, at = (tag & 0x3F) << 8 | block[at + 1], at + 2
        else:
            length, at = int.from_bytes(block[at + 1 : at + 5], "big"), at + 5
        return block[at : at + length], at + length
    if 0xF1 <= tag <= 0xFD:
        return b"%d" % (tag - 0xF1), at + 1
    size = _INTEGERS.get(tag)
    if size is None:
        raise RdbError("unknown ziplist entry", at)
    at += 1
    return b"%d" % int.from_bytes(block[at : at + size], "little", signed=True), at + size


def decode_zipmap(block: bytes) -> list[bytes]:
    """The keys and values of a zipmap by turns. O(bytes)."""
    parts: list[bytes] = []
    at, end = 1, len(block) - 1
    try:
        while block[at] != 0xFF:
            length, at = _zipmap_length(block, at)
            free = 0
            if len(parts) % 2:
                free, at = block[at], at + 1
            parts.append(block[at : at + length])
            at += length + free
    except IndexError:
        at = end + 1
    if at != end or len(parts) % 2:
        raise RdbError("broken zipmap", min(at, end))
    return parts


def _zipmap_length(block: bytes, at: int) -> tuple[int, int]:
    length = block[at]
    if length < 0xFE:
        return length, at + 1
    length = int.from_bytes(block[at + 1 : at + 5], "little")
    if length < 0xFE:
        raise RdbError("length in a zipmap that has a shorter form", at)
    return length, at + 5


def decode_intset(block: bytes) -> list[bytes]:
    """The members of an intset as text, ascending. O(bytes)."""
    try:
        width, count = _INTSET_HEADER.unpack_from(block)
        if len(block) != _INTSET_HEADER.size + width * count:
            raise RdbError("intset of another length than it says", 0)
        numbers = unpack_from(f"<{count}{_WIDTHS[width]}", block, _INTSET_HEADER.size)
    except (error, KeyError):
        raise RdbError("broken intset", 0) from None
    return [b"%d" % number for number in numbers]


def encode_intset(members: Iterable[bytes]) -> bytes:
    """The intset of texts of integers. O(N log N)."""
    numbers = sorted(map(int, members))
    largest = max(-numbers[0] - 1, numbers[-1]) if numbers else 0
    width = 2 if largest < 1 << 15 else 4 if largest < 1 << 31 else 8
    packed = Struct(f"<{len(numbers)}{_WIDTHS[width]}").pack(*numbers)
    return _INTSET_HEADER.pack(width, len(numbers)) + packed
