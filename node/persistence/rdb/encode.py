"""Values as RDB: lengths, strings, and an encoder for each class of value.

An encoder takes a value and whether to compress, and returns a type and the bytes after it. To
save a further class of values, enter its encoder in ENCODERS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from struct import Struct
from typing import Any

import lzf

from node.data import listpack
from node.data.hash import Hash
from node.data.list import List
from node.data.number import as_integer, format_double
from node.data.set import INTSET, Set
from node.data.zset import ZSet
from node.persistence.rdb import codes
from node.persistence.rdb.legacy import encode_intset

Encoder = Callable[[Any, bool], tuple[int, bytes]]

_DOUBLE = Struct("<d").pack
_NO_DEADLINE = b"\xff" * 8
_SHORT = [bytes((n,)) for n in range(64)]
_COMPRESS_FROM = 21  # shorter strings gain nothing
_NODE_BYTES = 8192
_NINE = ord("9")  # no integer's text begins with a greater byte
_EXACT = 1 << 53  # integers below are doubles
_SMALL_SCORES = {float(number): listpack.integer_entry(number) for number in range(128)}


def length(number: int) -> bytes:
    """A length or count. ValueError above 2**64 - 1."""
    if number < 64:
        return _SHORT[number]
    if number < 16384:
        return (0x4000 | number).to_bytes(2, "big")
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def string(value: bytes | bytearray | int, compress: bool = True) -> bytes:
    """A string, as an integer where it is the text of a small one, by LZF where that is shorter."""
    if type(value) is int and -(1 << 31) <= value < 1 << 31:
        return _integer(value)
    text: bytes = value if type(value) is bytes else _text(value)
    size = len(text)
    if size < _COMPRESS_FROM:
        if 0 < size <= 11 and text[0] <= _NINE:
            number = as_integer(text)
            if number is not None and -(1 << 31) <= number < 1 << 31:
                return _integer(number)
        return _SHORT[size] + text
    if compress:
        packed = lzf.compress(text, size - 4)
        if packed:
            return b"\xc3%b%b%b" % (length(len(packed)), length(size), packed)
    return length(size) + text


def _text(value: bytearray | bytes | int) -> bytes:
    return b"%d" % value if isinstance(value, int) else bytes(value)


def _integer(number: int) -> bytes:
    if -128 <= number < 128:
        return b"\xc0" + number.to_bytes(1, "little", signed=True)
    if -(1 << 15) <= number < 1 << 15:
        return b"\xc1" + number.to_bytes(2, "little", signed=True)
    return b"\xc2" + number.to_bytes(4, "little", signed=True)


def strings(values: Iterable[bytes], compress: bool) -> bytes:
    """Strings one after the other."""
    return b"".join([string(value, compress) for value in values])


def _encode_string(value: bytes | bytearray | int, compress: bool) -> tuple[int, bytes]:
    return codes.STRING, string(value, compress)


def _encode_list(value: List, compress: bool) -> tuple[int, bytes]:
    nodes = list(_nodes(value, compress))
    return codes.LIST_QUICKLIST_2, length(len(nodes)) + b"".join(nodes)


def _nodes(value: List, compress: bool) -> Iterator[bytes]:
    """The list cut into listpacks of about a node's size, large elements on their own."""
    if not value.large:
        yield b"\x02" + string(listpack.encode(value.items), compress)
        return
    limit = max(value.limits.list_bytes, _NODE_BYTES)
    node: list[bytes] = []
    size = 0
    for item in value.items:
        if size + len(item) > limit and node:
            yield b"\x02" + string(listpack.encode(node), compress)
            node, size = [], 0
        if len(item) > limit:
            yield b"\x01" + string(item, compress)
        else:
            node.append(item)
            size += len(item) + 2
    if node:
        yield b"\x02" + string(listpack.encode(node), compress)


def _encode_set(value: Set, compress: bool) -> tuple[int, bytes]:
    if value.kind == INTSET:
        return codes.SET_INTSET, string(encode_intset(value.order), compress)
    return codes.SET, length(len(value)) + strings(value.order, compress)


def _encode_hash(value: Hash, compress: bool) -> tuple[int, bytes]:
    fields = value.fields
    if value.expires is not None:
        return codes.VALKEY_HASH_2, length(len(fields)) + _fields_with_deadlines(value, compress)
    flat = [part for pair in fields.items() for part in pair]
    if value.large:
        return codes.HASH, length(len(fields)) + strings(flat, compress)
    return codes.HASH_LISTPACK, string(listpack.encode(flat), compress)


def _fields_with_deadlines(value: Hash, compress: bool) -> bytes:
    parts: list[bytes] = []
    for field, text in value.fields.items():
        deadline = value.get_deadline(field)
        packed = _NO_DEADLINE if deadline is None else deadline.to_bytes(8, "little", signed=True)
        parts += (string(field, compress), string(text, compress), packed)
    return b"".join(parts)


def _encode_zset(value: ZSet, compress: bool) -> tuple[int, bytes]:
    ordered = value.pairs()
    if value.large:
        # From the highest to the lowest, which is the order that real servers load fastest.
        body = [string(member, compress) + _DOUBLE(score) for score, member in reversed(ordered)]
        return codes.ZSET_2, length(len(body)) + b"".join(body)
    scores = [_SMALL_SCORES.get(score) or _score_entry(score) for score, _ in ordered]
    members = [listpack.entry(member) for _, member in ordered]
    parts = [entry for pair in zip(members, scores, strict=True) for entry in pair]
    return codes.ZSET_LISTPACK, string(listpack.enclose(parts, len(parts)), compress)


def _score_entry(score: float) -> bytes:
    """As a listpack's: an integer where it is one."""
    if -_EXACT < score < _EXACT and (whole := int(score)) == score:
        return listpack.integer_entry(whole)
    return listpack.entry(format_double(score))


ENCODERS: dict[type, Encoder] = {
    bytes: _encode_string,
    bytearray: _encode_string,
    int: _encode_string,
    List: _encode_list,
    Hash: _encode_hash,
    Set: _encode_set,
    ZSet: _encode_zset,
}


def encode(value: Any, compress: bool = True) -> tuple[int, bytes]:
    """The type of a value and its bytes. KeyError for a class without encoder. O(bytes)."""
    return ENCODERS[type(value)](value, compress)
