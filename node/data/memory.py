"""How many bytes a value takes, by what the interpreter says of its objects.

Collections are measured by a few of their members, as MEMORY USAGE does: `samples` of them, the
first ones, stand for all; 0 looks at every one. Strings that several structures share are counted
once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sized
from itertools import islice
from sys import getsizeof
from typing import Any

from node.data.hash import Hash
from node.data.list import List
from node.data.set import Set
from node.data.stream import Block, Stream
from node.data.zset import ZSet

SAMPLES = 5  # as MEMORY USAGE takes them unless told otherwise
_SLOT = 8  # a reference
_DICT_ENTRY = 100  # what a dict keeps of a small entry, its room to grow included
_PAIR = 8 + _SLOT  # in the order of a sorted set: a score, and a member


def size_of(value: Any, samples: int = SAMPLES) -> int:
    """The bytes of any value of the keyspace. O(samples)."""
    measure = _MEASURES.get(type(value))
    return getsizeof(value) if measure is None else getsizeof(value) + measure(value, samples)


def _members(members: Iterable[Any], samples: int) -> int:
    """The bytes of all members, if they are like the first."""
    assert isinstance(members, Sized)
    count = len(members)
    looked_at = list(islice(members, samples or count))
    size = sum(map(_flat, looked_at))
    return size * count // len(looked_at) if looked_at else 0


def _flat(member: Any) -> int:
    """The bytes of a string, or of a tuple of them."""
    size = getsizeof(member)
    return size + sum(map(getsizeof, member)) if type(member) is tuple else size


def _list(value: List, samples: int) -> int:
    return getsizeof(value.items) + _members(value.items, samples)


def _hash(value: Hash, samples: int) -> int:
    size = getsizeof(value.fields) + _members(value.fields, samples)
    size += _members(value.fields.values(), samples)
    if value.expires is not None:
        size += getsizeof(value.expires) + _members(value.expires.values(), samples)
    return size


def _set(value: Set, samples: int) -> int:
    places = getsizeof(value.order) + getsizeof(value.place)
    return places + _members(value.order, samples)


def _zset(value: ZSet, samples: int) -> int:
    size = getsizeof(value.scores) + _members(value.scores, samples)
    size += _members(value.scores.values(), samples)
    return size + (len(value) * _PAIR if value.is_ordered() else 0)


def _stream(value: Stream, samples: int) -> int:
    blocks = value.blocks
    looked_at = list(islice(blocks, samples or len(blocks)))
    size = sum(_block(block, samples) for block in looked_at)
    size = size * len(blocks) // len(looked_at) if looked_at else 0
    size += getsizeof(blocks) + getsizeof(value.starts)
    for name, group in value.groups.items():
        size += getsizeof(name) + getsizeof(group) + len(group.pending) * _DICT_ENTRY
        size += sum(
            getsizeof(consumer) + getsizeof(name) for name, consumer in group.consumers.items()
        )
    return size


def _block(block: Block, samples: int) -> int:
    size = getsizeof(block) + getsizeof(block.ids) + getsizeof(block.fields)
    size += _members(block.ids, samples) + _members(block.fields, samples)
    return size + sum(map(getsizeof, block.names))


_MEASURES: dict[type, Callable[[Any, int], int]] = {
    Hash: _hash,
    List: _list,
    Set: _set,
    Stream: _stream,
    ZSet: _zset,
}
