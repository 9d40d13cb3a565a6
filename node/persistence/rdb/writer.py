"""A data set as the bytes of an RDB file, piece by piece."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from struct import Struct
from typing import Any

from node.data.hash import Hash
from node.persistence.rdb import codes
from node.persistence.rdb.codes import Import, crc64
from node.persistence.rdb.encode import ENCODERS, length, string

# db, key, value, deadline in ms, idle seconds, access frequency; None where there is none.
Record = tuple[int, bytes, Any, int | None, int | None, int | None]

_PIECE_BYTES = 1 << 18
_EXPIRE = Struct("<BQ").pack
_CHECKSUM = Struct("<Q").pack


class FieldDeadlines(ValueError):
    """A hash with field deadlines, which the asked version has no form for."""


def write(
    records: Iterable[Record],
    *,
    version: int = codes.VERSION,
    aux: Mapping[bytes, bytes | int] | None = None,
    functions: Iterable[bytes] = (),
    imports: Iterable[Import] = (),
    sizes: Mapping[int, tuple[int, int]] | None = None,
    compress: bool = True,
    checksum: bool = True,
) -> Iterator[bytes]:
    """Yield the file in pieces of about 256 KiB.

    `records` come db by db. `version` is 10, or 80 if a hash may have field deadlines (see
    needs_valkey_version; FieldDeadlines is raised where 10 is not enough). `aux` are facts about
    the file such as `redis-ver`; `functions` the sources of libraries; `imports` is told only in
    version 80; `sizes` the numbers of keys and of deadlines of each db, a hint for the reader.
    `compress` and `checksum` are rdbcompression and rdbchecksum.
    """
    crc = 0
    head = b"".join(_head(version, aux or {}, functions, imports, compress))
    for piece in _pieces(head, records, version, sizes or {}, compress):
        if checksum:
            crc = crc64(piece, crc)
        yield piece
    yield _CHECKSUM(crc)


def needs_valkey_version(values: Iterable[Any]) -> bool:
    """Whether a hash among the values has field deadlines. O(N)."""
    return any(type(value) is Hash and value.expires is not None for value in values)


def magic(version: int) -> bytes:
    """The first nine bytes of a file."""
    if version == codes.VALKEY_VERSION:
        return codes.VALKEY_MAGIC + b"%03d" % version
    return codes.REDIS_MAGIC + b"%04d" % version


def _pieces(
    head: bytes,
    records: Iterable[Record],
    version: int,
    sizes: Mapping[int, tuple[int, int]],
    compress: bool,
) -> Iterator[bytes]:
    """Everything but the checksum. The loop over the records is as flat as it can be."""
    yield head
    parts: list[bytes] = []
    add = parts.append
    size = 0
    current = None
    for db, key, value, deadline, idle, freq in records:
        if db != current:
            add(_select(db, sizes))
            current = db
        if deadline is not None:
            add(_EXPIRE(codes.EXPIRE_MS, deadline & 0xFFFFFFFFFFFFFFFF))
        if idle is not None:
            add(b"\xf8" + length(idle))
        if freq is not None:
            add(bytes((codes.FREQ, freq)))
        if type(value) is bytes:
            encoded = b"\x00%b%b" % (string(key, compress), string(value, compress))
        else:
            kind, body = ENCODERS[type(value)](value, compress)
            if kind == codes.VALKEY_HASH_2 and version != codes.VALKEY_VERSION:
                raise FieldDeadlines(f"version {version} has no form for field deadlines")
            encoded = b"%c%b%b" % (kind, string(key, compress), body)
        add(encoded)
        size += len(encoded)
        if size >= _PIECE_BYTES:
            yield b"".join(parts)
            parts.clear()
            size = 0
    add(b"\xff")
    yield b"".join(parts)


def _head(
    version: int,
    aux: Mapping[bytes, bytes | int],
    functions: Iterable[bytes],
    imports: Iterable[Import],
    compress: bool,
) -> Iterator[bytes]:
    yield magic(version)
    for name, value in aux.items():
        yield b"\xfa" + string(name, compress) + string(value, compress)
    for source in functions:
        yield b"\xf5" + string(source, compress)
    for name, ranges in imports if version == codes.VALKEY_VERSION else ():
        edges = b"".join(length(slot) for pair in ranges for slot in pair)
        yield b"\xf3" + string(name, False) + length(len(ranges)) + edges


def _select(db: int, sizes: Mapping[int, tuple[int, int]]) -> bytes:
    select = b"\xfe" + length(db)
    if db not in sizes:
        return select
    keys, deadlines = sizes[db]
    return select + b"\xfb" + length(keys) + length(deadlines)
