"""Streams as RDB: blocks of entries as listpacks, then the counters, then the groups.

A listpack starts with a master entry: how many entries are there and how many are deleted, the
names of the first entry's fields, a zero. Each entry is flags, its id less the block's first, its
fields (the values alone if the names are the master's), and the number of these parts. Type 15 has
no counters, type 19 (Redis 7.0) no time when a consumer was active last; 21 has all.
Importing this module enters its encoder and decoders in the tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct

from node.data.consumers import Consumer, Group, PendingList
from node.data.listpack import ListpackError, enclose, entries, integer_entry
from node.data.listpack import decode as decode_listpack
from node.data.stream import SEQUENCE_MAX, Block, Stream, distance
from node.persistence.rdb import codes
from node.persistence.rdb.codes import RdbError
from node.persistence.rdb.decode import DECODERS, Context, Decoder, count, length, string, take
from node.persistence.rdb.encode import ENCODERS
from node.persistence.rdb.encode import length as encode_length
from node.persistence.rdb.encode import string as encode_string

_DELETED, _SAME_FIELDS = 1, 2  # flags of an entry
_MILLISECONDS = Struct("<q")
_ID_BYTES = 16
_SIGN = 1 << 63


# --- writing --------------------------------------------------------------------------------------


def _encode(value: Stream, compress: bool) -> tuple[int, bytes]:
    blocks = [block for block in value.blocks if block.ids]
    parts = [encode_length(len(blocks))]
    for block in blocks:
        parts.append(encode_string(block.first.to_bytes(_ID_BYTES, "big"), compress))
        parts.append(encode_string(_encode_block(block), compress))
    parts.append(encode_length(value.length))
    parts += map(_encode_id, (value.last_id, value.first_id(), value.max_deleted_id))
    parts += (encode_length(value.entries_added), encode_length(len(value.groups)))
    for name in sorted(value.groups):
        parts.append(encode_string(name, compress))
        parts += _encode_group(value.groups[name], compress)
    return codes.STREAM_2, b"".join(parts)


def _encode_id(entry_id: int) -> bytes:
    return encode_length(entry_id >> 64) + encode_length(entry_id & SEQUENCE_MAX)


def _encode_block(block: Block) -> bytes:
    """The listpack of a block, without the entries that are deleted."""
    names = block.names
    width = len(names)
    parts = [integer_entry(len(block.ids)), _ZERO, integer_entry(width), *entries(names), _ZERO]
    same_fields, same_size = integer_entry(_SAME_FIELDS), integer_entry(width + 3)
    number = 4 + width
    for entry_id, fields in zip(block.ids, block.fields, strict=True):
        same = fields[::2] == names
        parts.append(same_fields if same else _ZERO)
        parts += map(integer_entry, distance(block.first, entry_id))
        if same:
            parts += entries(fields[1::2])
            parts.append(same_size)
            number += width + 4
        else:
            parts.append(integer_entry(len(fields) // 2))
            parts += entries(fields)
            parts.append(integer_entry(len(fields) + 4))
            number += len(fields) + 5
    return enclose(parts, number)


_ZERO = integer_entry(0)


def _encode_group(group: Group, compress: bool) -> Iterator[bytes]:
    yield _encode_id(group.last_id)
    yield encode_length(group.entries_read & SEQUENCE_MAX)
    yield encode_length(len(group.pending))
    for entry_id in sorted(group.pending.deliveries):
        pending = group.pending.deliveries[entry_id]
        yield entry_id.to_bytes(_ID_BYTES, "big") + _MILLISECONDS.pack(pending.delivered_ms)
        yield encode_length(pending.count)
    yield encode_length(len(group.consumers))
    for consumer in group.in_order():
        yield encode_string(consumer.name, compress) + _MILLISECONDS.pack(consumer.seen_ms)
        yield encode_length(len(consumer.pending)) + _encode_ids(consumer.pending)


def _encode_ids(pending: PendingList) -> bytes:
    return b"".join(
        [entry_id.to_bytes(_ID_BYTES, "big") for entry_id in sorted(pending.deliveries)]
    )


# --- reading --------------------------------------------------------------------------------------


def _decoder(kind: int) -> Decoder:
    def decode(buffer: bytes, at: int, context: Context) -> tuple[Stream, int]:
        start = at
        value = Stream(context.limits)
        number, at = count(buffer, at)
        for _ in range(number):
            at = _read_block(buffer, at, value)
        entries_left, at = length(buffer, at)
        if entries_left != value.length:
            raise RdbError("stream of another length than it says", start)
        value.last_id, at = _read_id(buffer, at)
        value.entries_added = value.length
        if kind != codes.STREAM:
            _, at = _read_id(buffer, at)  # the first entry's, which we know
            value.max_deleted_id, at = _read_id(buffer, at)
            value.entries_added, at = length(buffer, at)
        if value.top_id() > value.last_id:
            raise RdbError("stream with an entry beyond its last id", start)
        number, at = count(buffer, at)
        for _ in range(number):
            at = _read_group(buffer, at, value, kind)
        return value, at

    return decode


def _read_id(buffer: bytes, at: int) -> tuple[int, int]:
    ms, at = length(buffer, at)
    sequence, at = length(buffer, at)
    return ms << 64 | sequence, at


def _read_block(buffer: bytes, at: int, value: Stream) -> int:
    """Read a block with its key into the stream; returns the place after it."""
    start = at
    key, at = string(buffer, at)
    packed, end = string(buffer, at)
    if len(key) != _ID_BYTES:
        raise RdbError("block of a stream without an id", start)
    first = int.from_bytes(key, "big")
    if value.blocks and value.blocks[-1].last >= first:
        raise RdbError("blocks of a stream out of order", start)
    try:
        block = _decode_block(first, decode_listpack(packed))
    except (ListpackError, IndexError, ValueError):
        raise RdbError("broken block of a stream", at) from None
    block.resize(len(packed))
    value.add_block(block)
    return end


def _decode_block(first: int, items: list[bytes]) -> Block:
    """A block from what is in its listpack; IndexError or ValueError if that makes no sense."""
    left, deleted, width = int(items[0]), int(items[1]), int(items[2])
    names = tuple(items[3 : 3 + width])
    block = Block(first, names)
    ids, kept = block.ids, block.fields
    ms, sequence = first >> 64, first & SEQUENCE_MAX
    form = [part for name in names for part in (name, b"")]
    last = -1
    at, end = 4 + width, len(items)
    while at < end:
        flags = int(items[at])
        entry_id = ((ms + int(items[at + 1])) & SEQUENCE_MAX) << 64
        entry_id |= (sequence + int(items[at + 2])) & SEQUENCE_MAX
        if flags & _SAME_FIELDS:
            fields = form.copy()
            fields[1::2] = items[at + 3 : at + 3 + width]
            at += width + 4
        else:
            stop = at + 4 + 2 * int(items[at + 3])
            fields = items[at + 4 : stop]
            at = stop + 1
        if last >= entry_id:
            raise ValueError
        last = entry_id
        if not flags & _DELETED:
            ids.append(entry_id)
            kept.append(tuple(fields))
    if at != end or left != len(ids) or last < first or deleted < 0:
        raise ValueError
    block.last, block.deleted = last, deleted
    return block


def _read_group(buffer: bytes, at: int, value: Stream, kind: int) -> int:
    start = at
    name, at = string(buffer, at)
    last_id, at = _read_id(buffer, at)
    if kind == codes.STREAM:
        entries_read = value.count_up_to(last_id)
    else:
        entries_read, at = length(buffer, at)
        entries_read = (entries_read + _SIGN & SEQUENCE_MAX) - _SIGN
    if name in value.groups:
        raise RdbError("stream with a group twice", start)
    group = value.groups[name] = Group(last_id, entries_read)
    deliveries, at = _read_deliveries(buffer, at)
    number, at = count(buffer, at)
    for _ in range(number):
        at = _read_consumer(buffer, at, group, deliveries, kind)
    if deliveries:
        raise RdbError("pending entry without a consumer", start)
    return at


def _read_deliveries(buffer: bytes, at: int) -> tuple[dict[int, tuple[int, int]], int]:
    """When entries were delivered, and how often, by their ids."""
    number, at = count(buffer, at)
    found: dict[int, tuple[int, int]] = {}
    for _ in range(number):
        entry_id = int.from_bytes(take(buffer, at, _ID_BYTES), "big")
        delivered_ms, at = _read_ms(buffer, at + _ID_BYTES)
        times, at = length(buffer, at)
        found[entry_id] = delivered_ms, times
    return found, at


def _read_ms(buffer: bytes, at: int) -> tuple[int, int]:
    return _MILLISECONDS.unpack(take(buffer, at, 8))[0], at + 8


def _read_consumer(
    buffer: bytes, at: int, group: Group, deliveries: dict[int, tuple[int, int]], kind: int
) -> int:
    """Read a consumer with its share of the group's deliveries, which it takes."""
    start = at
    name, at = string(buffer, at)
    if name in group.consumers:
        raise RdbError("group with a consumer twice", start)
    seen_ms, at = _read_ms(buffer, at)
    consumer: Consumer = group.join(name, seen_ms)
    consumer.active_ms = seen_ms  # the best guess where nobody knows
    if kind == codes.STREAM_3:
        consumer.active_ms, at = _read_ms(buffer, at)
    number, at = count(buffer, at)
    for place in range(at, at + number * _ID_BYTES, _ID_BYTES):
        entry_id = int.from_bytes(take(buffer, place, _ID_BYTES), "big")
        delivery = deliveries.pop(entry_id, None)
        if delivery is None:
            raise RdbError("consumer with an entry that its group does not have", place)
        group.enter(entry_id, consumer, *delivery)
    return at + number * _ID_BYTES


ENCODERS[Stream] = _encode
for _kind in (codes.STREAM, codes.STREAM_2, codes.STREAM_3):
    DECODERS[_kind] = _decoder(_kind)
