"""Listpacks: many small strings and integers in one block, readable from both ends.

A block is its total length (4 bytes), the number of its entries (2 bytes, 65535: count them), the
entries and an end mark. An entry is a tag with the kind and length, the data, and the length of
both again, from the back, seven bits a byte. All small collections are saved in this form.
Source: the listpack specification (antirez/listpack).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from struct import Struct

from node.data.number import as_integer

_HEADER = Struct("<IH")
_U32 = Struct("<I").unpack_from
_END = 0xFF
_UNKNOWN = 0xFFFF
_INT16, _INT24, _INT32, _INT64 = 0xF1, 0xF2, 0xF3, 0xF4
_STRING32 = 0xF0


class ListpackError(ValueError):
    """Bytes that are no listpack; `offset` is where that showed."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


def entry_size(value: bytes) -> int:
    """The bytes that a value takes in a listpack. O(1)."""
    length = len(value)
    if length <= 20 and (number := as_integer(value)) is not None:
        return integer_size(number)
    if length < 64:
        return length + 2
    if length < 4096:
        return length + 2 + _back_size(length + 2)
    return length + 5 + _back_size(length + 5)


def integer_size(number: int) -> int:
    """The bytes that an integer of 64 bits takes in a listpack. O(1)."""
    if 0 <= number <= 127:
        return 2
    magnitude = number if number >= 0 else ~number
    if magnitude < 1 << 12:
        return 3
    if magnitude < 1 << 15:
        return 4
    if magnitude < 1 << 23:
        return 5
    return 6 if magnitude < 1 << 31 else 10


def _back_size(length: int) -> int:
    if length <= 127:
        return 1
    if length < 16383:
        return 2
    if length < 2097151:
        return 3
    return 4 if length < 268435455 else 5


_TAGS = [bytes((0x80 | n,)) for n in range(64)]
_BACKS = [bytes((n,)) for n in range(128)]
_TINY = [bytes((n, 1)) for n in range(128)]
_TEXTS = [b"%d" % n for n in range(128)]
_TINY_OF = dict(zip(_TEXTS, _TINY, strict=True))
_NINE = ord("9")  # no integer's text begins with a greater byte


def encode(values: Collection[bytes]) -> bytes:
    """The listpack of `values`; texts of integers are stored as integers. O(bytes)."""
    return enclose(entries(values), len(values))


def entries(values: Iterable[bytes]) -> list[bytes]:
    """The pieces of the entries for `values`, to be enclosed. O(bytes)."""
    parts: list[bytes] = []
    add = parts.append
    tiny = _TINY_OF.get
    for value in values:
        length = len(value)
        if (
            0 < length <= 20
            and value[0] <= _NINE
            and (entry := tiny(value) or _entry_of_digits(value)) is not None
        ):
            add(entry)
        elif length < 64:
            add(_TAGS[length])
            add(value)
            add(_BACKS[length + 1])
        else:
            parts.extend(_long_entry(value))
    return parts


def entry(value: bytes) -> bytes:
    """The entry for one value. O(bytes)."""
    length = len(value)
    if length >= 64:
        return b"".join(entries((value,)))
    if 0 < length <= 20 and value[0] <= _NINE:
        found = _TINY_OF.get(value) or _entry_of_digits(value)
        if found is not None:
            return found
    return b"%b%b%b" % (_TAGS[length], value, _BACKS[length + 1])


def _entry_of_digits(value: bytes) -> bytes | None:
    """The entry for the text of an integer; None for what is none."""
    number = as_integer(value)
    return None if number is None else integer_entry(number)


def integer_entry(number: int) -> bytes:
    """The entry for an integer of 64 bits. O(1)."""
    return _TINY[number] if 0 <= number <= 127 else _integer_entry(number)


def enclose(parts: Iterable[bytes], count: int) -> bytes:
    """The listpack of `count` entries, given as pieces. O(bytes)."""
    body = b"".join(parts)
    return b"%b%b\xff" % (
        _HEADER.pack(len(body) + 7, count if count < _UNKNOWN else _UNKNOWN),
        body,
    )


def _integer_entry(number: int) -> bytes:
    size = integer_size(number) - 1
    if size == 2:
        packed = (0xC000 | (number & 0x1FFF)).to_bytes(2, "big")
    else:
        tag = {3: _INT16, 4: _INT24, 5: _INT32, 9: _INT64}[size]
        packed = bytes((tag,)) + number.to_bytes(size - 1, "little", signed=True)
    return packed + _BACKS[size]


def _long_entry(value: bytes) -> tuple[bytes, bytes, bytes]:
    length = len(value)
    if length < 4096:
        tag = (0xE000 | length).to_bytes(2, "big")
    else:
        tag = bytes((_STRING32,)) + length.to_bytes(4, "little")
    return tag, value, _back(length + len(tag))


def _back(length: int) -> bytes:
    size = _back_size(length)
    groups = [(length >> 7 * place) & 127 | 128 for place in range(size)]
    groups[-1] &= 127  # the byte furthest from the end closes the number
    return bytes(reversed(groups))


def decode(block: bytes) -> list[bytes]:
    """The values of a listpack, integers as text; ListpackError if it is none. O(bytes)."""
    total = len(block)
    if total < 7 or block[-1] != _END:
        raise ListpackError("listpack without an end", total)
    declared, count = _HEADER.unpack_from(block)
    if declared != total:
        raise ListpackError("listpack of another length than it says", 0)
    values: list[bytes] = []
    at = _read_entries(block, values, total - 1)
    if at != total - 1:
        raise ListpackError("listpack entry beyond the end", min(at, total))
    if count not in (len(values), _UNKNOWN):
        raise ListpackError("listpack with another count than it says", 4)
    return values


def _read_entries(block: bytes, values: list[bytes], end: int) -> int:
    """Append the entries up to `end`; returns where reading stopped, `end` if all is well."""
    add, texts = values.append, _TEXTS
    at = 6
    while at < end:
        tag = block[at]
        if tag < 0x80:
            add(texts[tag])
            at += 2
        elif tag < 0xC0:
            stop = at + tag - 0x7F
            add(block[at + 1 : stop])
            at = stop + 1
        else:
            value, at = _read_rare(block, at, tag, end)
            add(value)
    return at


_INTEGERS = {_INT16: 2, _INT24: 3, _INT32: 4, _INT64: 8}


def _read_rare(block: bytes, at: int, tag: int, end: int) -> tuple[bytes, int]:
    if tag < 0xE0:
        number = (tag & 0x1F) << 8 | block[at + 1]
        return b"%d" % (number - 0x2000 if number & 0x1000 else number), at + 3
    if tag < _STRING32:
        start, length = at + 2, (tag & 0x0F) << 8 | block[at + 1]
    elif tag == _STRING32 and at + 5 <= end:
        start, length = at + 5, _U32(block, at + 1)[0]
    elif tag in _INTEGERS:
        size = _INTEGERS[tag]
        number = int.from_bytes(block[at + 1 : at + 1 + size], "little", signed=True)
        return b"%d" % number, at + size + 2
    else:
        raise ListpackError("unknown listpack entry", at)
    if start + length > end:
        raise ListpackError("listpack entry beyond the end", at)
    return block[start : start + length], start + length + _back_size(start - at + length)
