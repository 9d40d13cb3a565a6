"""RDB bytes back into values: lengths, strings, and a decoder for each type.

A decoder takes the buffer, the place after the type, and a Context; it returns the value and the
place after it. It raises IndexError where the buffer ends too early (there may be more to come)
and RdbError, with a place in the buffer, where no further bytes could help. To load a further
type, enter its decoder in DECODERS, or in REDIS_DECODERS or VALKEY_DECODERS if the dialects differ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf, isnan
from struct import Struct
from typing import Any

import attrs
import lzf

from node.data.hash import Hash
from node.data.limits import Limits
from node.data.list import List
from node.data.listpack import ListpackError
from node.data.listpack import decode as decode_listpack
from node.data.set import Set
from node.data.zset import ZSet
from node.persistence.rdb import codes
from node.persistence.rdb.codes import RdbError, Version
from node.persistence.rdb.legacy import decode_intset, decode_ziplist, decode_zipmap

_DOUBLE = Struct("<d").unpack_from
_MILLISECONDS = Struct("<q").unpack_from
_INTEGER_SIZES = {codes.INT8: 1, codes.INT16: 2, codes.INT32: 4}
_INT8_TEXTS = [b"%d" % (n if n < 128 else n - 256) for n in range(256)]
_LZF_GAIN = 264  # no compressed byte stands for more than this


@attrs.frozen
class Context:
    """What a decoder must know besides the bytes: the encoding limits, and whose dialect it is."""

    limits: Limits
    version: Version


Decoder = Callable[[bytes, int, Context], tuple[Any, int]]
Unpack = Callable[[bytes], list[bytes]]


def length(buffer: bytes, at: int) -> tuple[int, int]:
    """A length or count, and the place after it."""
    first = buffer[at]
    if first < 0x40:
        return first, at + 1
    if first < 0x80:
        return (first & 0x3F) << 8 | buffer[at + 1], at + 2
    size = {0x80: 4, 0x81: 8}.get(first)
    if size is None:
        raise RdbError("not a length", at)
    return int.from_bytes(take(buffer, at + 1, size), "big"), at + 1 + size


def count(buffer: bytes, at: int) -> tuple[int, int]:
    """A count of elements; IndexError if not as many bytes follow, as each takes one at least."""
    number, at = length(buffer, at)
    if number > len(buffer) - at:
        raise IndexError
    return number, at


def take(buffer: bytes, at: int, size: int) -> bytes:
    """`size` bytes, all of them here."""
    end = at + size
    if end > len(buffer):
        raise IndexError
    return buffer[at:end]


def string(buffer: bytes, at: int) -> tuple[bytes, int]:
    """A string, integers as text, and the place after it."""
    first = buffer[at]
    if first < 0x40:
        start = at + 1
        end = start + first
    elif first < 0xC0:
        size, start = length(buffer, at)
        end = start + size
    else:
        return _special_string(buffer, at)
    if end > len(buffer):
        raise IndexError
    return buffer[start:end], end


def _special_string(buffer: bytes, at: int) -> tuple[bytes, int]:
    first = buffer[at]
    if first == codes.LZF:
        return _compressed_string(buffer, at)
    size = _INTEGER_SIZES.get(first)
    if size is None:
        raise RdbError("unknown encoding of a string", at)
    number = int.from_bytes(take(buffer, at + 1, size), "little", signed=True)
    return b"%d" % number, at + 1 + size


def _compressed_string(buffer: bytes, at: int) -> tuple[bytes, int]:
    packed_size, place = length(buffer, at + 1)
    size, place = length(buffer, place)
    if size > packed_size * _LZF_GAIN:
        raise RdbError("compressed string of an impossible length", at)
    packed = take(buffer, place, packed_size)
    try:
        value = lzf.decompress(packed, size)
    except ValueError:
        value = None
    if value is None or len(value) != size:
        raise RdbError("broken compressed string", at)
    return value, place + packed_size


def strings(buffer: bytes, at: int, number: int) -> tuple[list[bytes], int]:
    """`number` strings, and the place after them. The common ones are read in place."""
    found: list[bytes] = []
    add, int8 = found.append, _INT8_TEXTS
    size = len(buffer)
    for _ in range(number):
        first = buffer[at]
        if first < 0x40:
            start = at + 1
            at = start + first
            if at > size:
                raise IndexError
            add(buffer[start:at])
        elif first == codes.INT8:
            add(int8[buffer[at + 1]])
            at += 2
        else:
            value, at = string(buffer, at)
            add(value)
    return found, at


def milliseconds(buffer: bytes, at: int) -> tuple[int, int]:
    """A time in ms since the epoch, and the place after it."""
    return _MILLISECONDS(take(buffer, at, 8))[0], at + 8


def block(buffer: bytes, at: int, unpack: Unpack) -> tuple[list[bytes], int]:
    """The entries of a listpack, ziplist, zipmap or intset that is stored as a string."""
    packed, end = string(buffer, at)
    try:
        return unpack(packed), end
    except (ListpackError, RdbError) as error:
        reason = error.reason if isinstance(error, RdbError) else str(error)
        # A compressed block has no places of its own in the buffer.
        place = at if buffer[at] == codes.LZF else end - len(packed) + error.offset
        raise RdbError(reason, place) from None
    except IndexError:
        raise RdbError("broken block", at) from None


def _decode_string(buffer: bytes, at: int, context: Context) -> tuple[bytes | int, int]:
    first = buffer[at]
    if 0x40 <= first < 0x80:  # the common ones without further calls
        start = at + 2
        end = start + ((first & 0x3F) << 8 | buffer[at + 1])
        if end > len(buffer):
            raise IndexError
        return buffer[start:end], end
    if first in _INTEGER_SIZES:
        size = _INTEGER_SIZES[first]
        number = int.from_bytes(take(buffer, at + 1, size), "little", signed=True)
        return number, at + 1 + size
    return string(buffer, at)


def _decode_list(buffer: bytes, at: int, context: Context) -> tuple[List, int]:
    number, at = count(buffer, at)
    items, at = strings(buffer, at, number)
    return List(context.limits, items), at


def _decode_set(buffer: bytes, at: int, context: Context) -> tuple[Set, int]:
    start = at
    number, at = count(buffer, at)
    members, at = strings(buffer, at, number)
    return _set(members, start, context), at


def _set(members: list[bytes], start: int, context: Context, integers: bool = False) -> Set:
    try:
        return Set.of_distinct(context.limits, members, integers=integers)
    except ValueError:
        raise RdbError("set with a member twice", start) from None


def _set_of(unpack: Unpack) -> Decoder:
    integers = unpack is decode_intset

    def decode(buffer: bytes, at: int, context: Context) -> tuple[Set, int]:
        members, end = block(buffer, at, unpack)
        return _set(members, at, context, integers), end

    return decode


def _list_of(unpack: Unpack) -> Decoder:
    def decode(buffer: bytes, at: int, context: Context) -> tuple[List, int]:
        items, at = block(buffer, at, unpack)
        return List(context.limits, items), at

    return decode


def _decode_quicklist(buffer: bytes, at: int, context: Context) -> tuple[List, int]:
    number, at = count(buffer, at)
    items: list[bytes] = []
    for _ in range(number):
        node, at = block(buffer, at, decode_ziplist)
        items += node
    return List(context.limits, items), at


def _decode_quicklist_2(buffer: bytes, at: int, context: Context) -> tuple[List, int]:
    number, at = count(buffer, at)
    items: list[bytes] = []
    for _ in range(number):
        container = buffer[at]
        if container == codes.PACKED:
            node, at = block(buffer, at + 1, decode_listpack)
            items += node
        elif container == codes.PLAIN:
            item, at = string(buffer, at + 1)
            items.append(item)
        else:
            raise RdbError("unknown kind of list node", at)
    return List(context.limits, items), at


def _decode_hash(buffer: bytes, at: int, context: Context) -> tuple[Hash, int]:
    start = at
    number, at = count(buffer, at)
    flat, at = strings(buffer, at, 2 * number)
    return _hash(flat, start, context), at


def _hash(flat: list[bytes], start: int, context: Context) -> Hash:
    if len(flat) % 2:
        raise RdbError("hash with a field without value", start)
    by_turns = iter(flat)
    fields = dict(zip(by_turns, by_turns, strict=True))
    if len(fields) * 2 != len(flat):
        raise RdbError("hash with a field twice", start)
    return Hash(context.limits, fields)


def _hash_of(unpack: Unpack) -> Decoder:
    def decode(buffer: bytes, at: int, context: Context) -> tuple[Hash, int]:
        flat, end = block(buffer, at, unpack)
        return _hash(flat, at, context), end

    return decode


def _with_deadlines(
    flat: list[bytes], deadlines: Iterable[int | None], start: int, context: Context
) -> Hash:
    value = _hash(flat, start, context)
    for field, deadline in zip(flat[::2], deadlines, strict=True):
        if deadline is not None:
            if deadline >> 63:
                raise RdbError("deadline of a field out of range", start)
            value.set_deadline(field, deadline)
    return value


def _decode_valkey_hash(buffer: bytes, at: int, context: Context) -> tuple[Hash, int]:
    start = at
    number, at = count(buffer, at)
    flat: list[bytes] = []
    deadlines: list[int | None] = []
    for _ in range(number):
        pair, at = strings(buffer, at, 2)
        flat += pair
        deadline, at = milliseconds(buffer, at)
        deadlines.append(None if deadline < 0 else deadline)
    return _with_deadlines(flat, deadlines, start, context), at


def _redis_hash(has_minimum: bool) -> Decoder:
    """Redis 7.4's: before each field its deadline, 0 for none, counted from the earliest of all."""

    def decode(buffer: bytes, at: int, context: Context) -> tuple[Hash, int]:
        start, earliest = at, 1
        if has_minimum:
            earliest, at = milliseconds(buffer, at)
        number, at = count(buffer, at)
        flat: list[bytes] = []
        deadlines: list[int | None] = []
        for _ in range(number):
            ahead, at = length(buffer, at)
            pair, at = strings(buffer, at, 2)
            flat += pair
            deadlines.append(earliest + ahead - 1 if ahead else None)
        return _with_deadlines(flat, deadlines, start, context), at

    return decode


def _redis_hash_listpack(has_minimum: bool) -> Decoder:
    """Redis 7.4's: field, value and deadline by turns in a listpack, 0 for none."""

    def decode(buffer: bytes, at: int, context: Context) -> tuple[Hash, int]:
        if has_minimum:
            _, at = milliseconds(buffer, at)
        triples, end = block(buffer, at, decode_listpack)
        if len(triples) % 3:
            raise RdbError("hash with a field without value", at)
        flat = [part for place, part in enumerate(triples) if place % 3 < 2]
        try:
            deadlines = [int(text) or None for text in triples[2::3]]
        except ValueError:
            raise RdbError("deadline of a field that is no number", at) from None
        return _with_deadlines(flat, deadlines, at, context), end

    return decode


def _zset(members: Sequence[bytes], scores: Sequence[float], start: int, context: Context) -> ZSet:
    found = dict(zip(members, scores, strict=True))
    if len(found) != len(members):
        raise RdbError("sorted set with a member twice", start)
    # The sum is none either if one of them is none; or of opposite infinities.
    if isnan(sum(scores)) and any(map(isnan, scores)):
        raise RdbError("score that is not a number", start)
    return ZSet(context.limits, found)


def _zset_of(unpack: Unpack) -> Decoder:
    def decode(buffer: bytes, at: int, context: Context) -> tuple[ZSet, int]:
        flat, end = block(buffer, at, unpack)
        if len(flat) % 2:
            raise RdbError("sorted set with a member without score", at)
        try:
            scores = list(map(float, flat[1::2]))
        except ValueError:
            raise RdbError("score that is not a number", at) from None
        return _zset(flat[::2], scores, at, context), end

    return decode


def _decode_zset_2(buffer: bytes, at: int, context: Context) -> tuple[ZSet, int]:
    start = at
    number, at = count(buffer, at)
    members: list[bytes] = []
    scores: list[float] = []
    add_member, add_score, double = members.append, scores.append, _DOUBLE
    size = len(buffer) - 8
    for _ in range(number):
        first = buffer[at]
        if first < 0x40:  # the common ones without further calls
            begin = at + 1
            at = begin + first
            member = buffer[begin:at]
        else:
            member, at = string(buffer, at)
        if at > size:
            raise IndexError
        add_member(member)
        add_score(double(buffer, at)[0])
        at += 8
    return _zset(members, scores, start, context), at


_SPECIAL_SCORES = {253: float("nan"), 254: inf, 255: -inf}


def _decode_zset(buffer: bytes, at: int, context: Context) -> tuple[ZSet, int]:
    start = at
    number, at = count(buffer, at)
    members: list[bytes] = []
    scores: list[float] = []
    for _ in range(number):
        member, at = string(buffer, at)
        members.append(member)
        score, at = _score(buffer, at)
        scores.append(score)
    return _zset(members, scores, start, context), at


def _score(buffer: bytes, at: int) -> tuple[float, int]:
    size = buffer[at]
    at += 1
    if size in _SPECIAL_SCORES:
        return _SPECIAL_SCORES[size], at
    try:
        return float(take(buffer, at, size)), at + size
    except ValueError:
        raise RdbError("score that is not a number", at) from None


DECODERS: dict[int, Decoder] = {
    codes.STRING: _decode_string,
    codes.LIST: _decode_list,
    codes.LIST_ZIPLIST: _list_of(decode_ziplist),
    codes.LIST_QUICKLIST: _decode_quicklist,
    codes.LIST_QUICKLIST_2: _decode_quicklist_2,
    codes.SET: _decode_set,
    codes.SET_INTSET: _set_of(decode_intset),
    codes.SET_LISTPACK: _set_of(decode_listpack),
    codes.HASH: _decode_hash,
    codes.HASH_ZIPMAP: _hash_of(decode_zipmap),
    codes.HASH_ZIPLIST: _hash_of(decode_ziplist),
    codes.HASH_LISTPACK: _hash_of(decode_listpack),
    codes.ZSET: _decode_zset,
    codes.ZSET_2: _decode_zset_2,
    codes.ZSET_ZIPLIST: _zset_of(decode_ziplist),
    codes.ZSET_LISTPACK: _zset_of(decode_listpack),
}
VALKEY_DECODERS: dict[int, Decoder] = {codes.VALKEY_HASH_2: _decode_valkey_hash}
REDIS_DECODERS: dict[int, Decoder] = {
    codes.REDIS_HASH_TTL_EARLY: _redis_hash(has_minimum=False),
    codes.REDIS_HASH_LISTPACK_TTL_EARLY: _redis_hash_listpack(has_minimum=False),
    codes.REDIS_HASH_TTL: _redis_hash(has_minimum=True),
    codes.REDIS_HASH_LISTPACK_TTL: _redis_hash_listpack(has_minimum=True),
}


def decoder(kind: int, version: Version) -> Decoder | None:
    """The decoder of a type in a dialect, or None."""
    own = VALKEY_DECODERS if version.is_valkey else REDIS_DECODERS
    return DECODERS.get(kind) or own.get(kind)
