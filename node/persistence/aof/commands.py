"""A data set as commands: the base of an append-only file, where that is to be readable as such.

Words of Redis 7.0 only, but for deadlines of fields, for which it has none.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from node.data.consumers import Consumer, Group
from node.data.hash import Hash
from node.data.list import List
from node.data.number import format_double
from node.data.set import Set
from node.data.stream import Stream
from node.data.zset import ZSet
from node.persistence.rdb import Record
from node.resp import encode_request

ITEMS_AT_ONCE = 64  # elements of a collection in one command
PIECE_SIZE = 256 * 1024

Command = list[bytes]


def encode(
    records: Iterable[Record],
    functions: Iterable[bytes] = (),
    now_s: int | None = None,
    on_key: Callable[[], None] | None = None,
) -> Iterator[bytes]:
    """The commands that make these records and functions, in pieces.

    now_s: written before them as the time, if given. on_key: called for each key.
    """
    parts = [] if now_s is None else [b"#TS:%d\r\n" % now_s]
    size = 0
    for command in commands(records, functions, on_key):
        encoded = encode_request(command)
        parts.append(encoded)
        size += len(encoded)
        if size >= PIECE_SIZE:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


def commands(
    records: Iterable[Record],
    functions: Iterable[bytes] = (),
    on_key: Callable[[], None] | None = None,
) -> Iterator[Command]:
    """As `encode`, one by one."""
    for source in functions:
        yield [b"FUNCTION", b"LOAD", source]
    current = None
    for db, key, value, deadline, _, _ in records:
        if db != current:
            current = db
            yield [b"SELECT", b"%d" % db]
        yield from _MAKERS[type(value)](key, value)
        if deadline is not None:
            yield [b"PEXPIREAT", key, b"%d" % deadline]
        if on_key is not None:
            on_key()


# --- a maker for each class of value --------------------------------------------------------------


def _string(key: bytes, value: bytes | bytearray | int) -> Iterator[Command]:
    yield [b"SET", key, b"%d" % value if isinstance(value, int) else bytes(value)]


def _some(words: Sequence[bytes], per_item: int = 1) -> Iterator[Sequence[bytes]]:
    step = ITEMS_AT_ONCE * per_item
    for start in range(0, len(words), step):
        yield words[start : start + step]


def _list(key: bytes, value: List) -> Iterator[Command]:
    for items in _some(list(value.items)):
        yield [b"RPUSH", key, *items]


def _set(key: bytes, value: Set) -> Iterator[Command]:
    for members in _some(value.order):
        yield [b"SADD", key, *members]


def _zset(key: bytes, value: ZSet) -> Iterator[Command]:
    flat = [word for score, member in value.pairs() for word in (format_double(score), member)]
    for pairs in _some(flat, 2):
        yield [b"ZADD", key, *pairs]


def _hash(key: bytes, value: Hash) -> Iterator[Command]:
    flat = [word for pair in value.fields.items() for word in pair]
    for pairs in _some(flat, 2):
        yield [b"HMSET", key, *pairs]
    by_deadline: dict[int, list[bytes]] = {}
    for field, deadline in (value.expires or {}).items():
        by_deadline.setdefault(deadline, []).append(field)
    for deadline, together in by_deadline.items():
        for fields in _some(together):
            count = b"%d" % len(fields)
            yield [b"HPEXPIREAT", key, b"%d" % deadline, b"FIELDS", count, *fields]


def _stream(key: bytes, value: Stream) -> Iterator[Command]:
    for block in value.blocks:
        for entry_id, fields in zip(block.ids, block.fields, strict=True):
            yield [b"XADD", key, _id(entry_id), *fields]
    if not value.length:  # an entry that goes at once makes a stream without any
        yield [b"XADD", key, b"MAXLEN", b"0", b"0-1", b"x", b"y"]
    counts = [b"ENTRIESADDED", b"%d" % value.entries_added]
    counts += [b"MAXDELETEDID", _id(value.max_deleted_id)]
    yield [b"XSETID", key, _id(value.last_id), *counts]
    for name, group in value.groups.items():
        yield from _group(key, name, group)


def _group(key: bytes, name: bytes, group: Group) -> Iterator[Command]:
    read = [b"ENTRIESREAD", b"%d" % group.entries_read]
    yield [b"XGROUP", b"CREATE", key, name, _id(group.last_id), *read]
    for consumer in group.in_order():
        if not consumer.pending.deliveries:
            yield [b"XGROUP", b"CREATECONSUMER", key, name, consumer.name]
        yield from _deliveries(key, name, consumer)


def _deliveries(key: bytes, name: bytes, consumer: Consumer) -> Iterator[Command]:
    for entry_id in consumer.pending.ids():
        one = consumer.pending.deliveries[entry_id]
        yield [
            *(b"XCLAIM", key, name, consumer.name, b"0", _id(entry_id)),
            *(b"TIME", b"%d" % one.delivered_ms, b"RETRYCOUNT", b"%d" % one.count),
            *(b"JUSTID", b"FORCE"),
        ]


def _id(entry_id: int) -> bytes:
    return b"%d-%d" % (entry_id >> 64, entry_id & ((1 << 64) - 1))


_MAKERS: dict[type, Callable[[bytes, Any], Iterator[Command]]] = {
    bytes: _string,
    bytearray: _string,
    int: _string,
    List: _list,
    Set: _set,
    ZSet: _zset,
    Hash: _hash,
    Stream: _stream,
}
