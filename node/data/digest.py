"""Digests of values and of whole data sets: equal for equal data, in any order and encoding.

They are those of DEBUG DIGEST of real servers, so that ours can be compared with theirs. `mixed`
depends on the order in which things are mixed in; where there is none, digests are xored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from hashlib import sha1
from typing import Any

from node.data.hash import Hash
from node.data.keyspace import Database
from node.data.list import List
from node.data.number import format_double
from node.data.set import Set
from node.data.stream import SEQUENCE_MAX, Stream
from node.data.string import text
from node.data.zset import ZSet

_HAS_DEADLINE = b"!!expire!!"


def digest_of_all(databases: Iterable[Database]) -> bytes:
    """The digest of a data set, in hexadecimal. O(size of all data)."""
    total = 0
    for db in databases:
        if db.size:
            total = _mixed(total, db.index.to_bytes(4, "big"))
            for key in db:
                total ^= _sha1(_bytes(_value(_mixed(0, key), db, key)))
    return b"%040x" % total


def digest_of_value(db: Database, key: bytes) -> bytes:
    """The digest of one key's value, in hexadecimal; that of nothing is 0. O(size)."""
    return b"%040x" % (_value(0, db, key) if db.exists(key) else 0)


def _sha1(data: bytes) -> int:
    return int.from_bytes(sha1(data).digest(), "big")


def _bytes(digest: int) -> bytes:
    return digest.to_bytes(20, "big")


def _mixed(digest: int, data: bytes) -> int:
    return _sha1(_bytes(digest ^ _sha1(data)))


def _all_mixed(digest: int, parts: Iterable[bytes]) -> int:
    for part in parts:
        digest = _mixed(digest, part)
    return digest


def _value(digest: int, db: Database, key: bytes) -> int:
    """The digest so far, and what is at the key."""
    value = db.stored(key)
    number, add = _KINDS.get(type(value), (0, _string))
    digest = add(_mixed(digest, number.to_bytes(4, "big")), value)
    return digest ^ _sha1(_HAS_DEADLINE) if key in db.expires else digest


def _string(digest: int, value: bytes | int | bytearray) -> int:
    return _mixed(digest, bytes(text(value)))


def _list(digest: int, value: List) -> int:
    return _all_mixed(digest, value.items)


def _set(digest: int, value: Set) -> int:
    for member in value.order:
        digest ^= _sha1(member)
    return digest


def _zset(digest: int, value: ZSet) -> int:
    for member, score in value.scores.items():
        digest ^= _sha1(_bytes(_all_mixed(0, (member, format_double(score)))))
    return digest


def _hash(digest: int, value: Hash) -> int:
    for pair in value.fields.items():
        digest ^= _sha1(_bytes(_all_mixed(0, pair)))
    return digest


def _stream(digest: int, value: Stream) -> int:
    for entry_id, fields in value.range():
        digest = _mixed(digest, b"%d.%d" % (entry_id >> 64, entry_id & SEQUENCE_MAX))
        digest = _all_mixed(digest, fields)
    return digest


# What a real server numbers its types by, and how a value is mixed in.
_KINDS: dict[type, tuple[int, Callable[[int, Any], int]]] = {
    List: (1, _list),
    Set: (2, _set),
    ZSet: (3, _zset),
    Hash: (4, _hash),
    Stream: (6, _stream),
}
