"""DUMP and RESTORE: one value, or the libraries of functions, a version and a checksum."""

from __future__ import annotations

from collections.abc import Iterable
from struct import Struct
from typing import Any

from node.data.limits import Limits
from node.persistence.rdb import codes
from node.persistence.rdb.codes import PayloadError, RdbError, Version, crc64
from node.persistence.rdb.decode import Context, decoder
from node.persistence.rdb.decode import string as decode_string
from node.persistence.rdb.encode import encode, string

_FOOTER = Struct("<HQ")


def encode_dump(value: Any, *, compress: bool = True) -> bytes:
    """The payload that DUMP returns: version 10, or 80 for a hash with field deadlines."""
    kind, body = encode(value, compress)
    version = codes.VALKEY_VERSION if kind == codes.VALKEY_HASH_2 else codes.VERSION
    payload = b"%c%b%b" % (kind, body, version.to_bytes(2, "little"))
    return payload + crc64(payload).to_bytes(8, "little")


def decode_dump(
    payload: bytes, limits: Limits, *, relaxed: bool = False, checksum: bool = True
) -> Any:
    """The value in a payload of ours or of a real server.

    relaxed: of one whose version we don't know, too. checksum: whether to check it.
    Raises PayloadError if version or checksum are wrong, RdbError if what they vouch for is bad.
    """
    end, version = _check_footer(payload, relaxed, checksum)
    if not end:
        raise PayloadError("payload of a footer alone", 0)
    decode = decoder(payload[0], version)
    if decode is None:
        raise RdbError(f"value of unknown type {payload[0]}", 0)
    try:
        value, _ = decode(payload[:end], 1, Context(limits, version))
    except IndexError:
        raise RdbError("unexpected end of the payload", end) from None
    if payload[0] not in codes.MAY_BE_EMPTY and not value:
        raise RdbError("empty collection", 1)
    return value


def _check_footer(
    payload: bytes, relaxed: bool = False, checks: bool = True
) -> tuple[int, Version]:
    """Where the footer begins, and the version it tells; raises PayloadError."""
    end = len(payload) - _FOOTER.size
    if end < 0:
        raise PayloadError("payload without a footer", len(payload))
    number, checksum = _FOOTER.unpack_from(payload, end)
    version = Version.of_payload(number)
    if not version.is_readable(relaxed):
        raise PayloadError(f"payload of version {number}", end)
    if checks and checksum and crc64(memoryview(payload)[: end + 2]) != checksum:
        raise PayloadError("wrong checksum", end + 2)
    return end, version


def encode_functions(sources: Iterable[bytes]) -> bytes:
    """The payload that FUNCTION DUMP returns, of libraries' sources."""
    body = b"".join(b"%c%b" % (codes.FUNCTION, string(source)) for source in sources)
    payload = body + codes.VERSION.to_bytes(2, "little")
    return payload + crc64(payload).to_bytes(8, "little")


def decode_functions(payload: bytes) -> list[bytes]:
    """The sources in FUNCTION DUMP's payload, of ours or of a real server; raises RdbError."""
    end, _ = _check_footer(payload)
    at, sources = 0, []
    try:
        while at < end:
            if payload[at] != codes.FUNCTION:
                raise RdbError("no function", at)
            source, at = decode_string(payload[:end], at + 1)
            sources.append(source)
    except IndexError:
        raise RdbError("unexpected end of the payload", end) from None
    return sources
