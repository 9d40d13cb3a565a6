"""The numbers of the RDB format, its checksum and its one error.

Source: Redis's description of the format and real files; types 22 to 25 mean one thing under the
magic REDIS (7.4 and later) and another under VALKEY (9.0 and later).
"""

from typing import NamedTuple

import anycrc

REDIS_MAGIC, VALKEY_MAGIC = b"REDIS", b"VALKEY"
VERSION = 10  # what we write: the newest that Redis 7.0 reads
VALKEY_VERSION = 80  # what we write where a hash field has a deadline
NEWEST_REDIS_VERSION = 12
CHECKSUM_SINCE = 5

# Types of values.
STRING, LIST, SET, ZSET, HASH, ZSET_2 = range(6)
MODULE, MODULE_2 = 6, 7
HASH_ZIPMAP, LIST_ZIPLIST, SET_INTSET, ZSET_ZIPLIST, HASH_ZIPLIST, LIST_QUICKLIST = range(9, 15)
STREAM, HASH_LISTPACK, ZSET_LISTPACK, LIST_QUICKLIST_2, STREAM_2, SET_LISTPACK = range(15, 21)
STREAM_3 = 21
MAY_BE_EMPTY = frozenset({STRING, STREAM, STREAM_2, STREAM_3})
VALKEY_HASH_2 = 22
REDIS_HASH_TTL_EARLY, REDIS_HASH_LISTPACK_TTL_EARLY, REDIS_HASH_TTL, REDIS_HASH_LISTPACK_TTL = (
    range(22, 26)
)

# What may stand where a type is expected.
SLOT_IMPORT, SLOT_INFO, FUNCTION, FUNCTION_EARLY, MODULE_AUX = range(243, 248)
IDLE, FREQ, AUX, RESIZE_DB, EXPIRE_MS, EXPIRE_S, SELECT_DB, EOF = range(248, 256)

SLOTS, IMPORT_NAME_BYTES = 16384, 40

# How a string's first byte says that it is no plain string.
INT8, INT16, INT32, LZF = 0xC0, 0xC1, 0xC2, 0xC3

# A quicklist's nodes.
PLAIN, PACKED = 1, 2

_crc64 = anycrc.Model("CRC64-REDIS").calc


def crc64(data: bytes | memoryview, start: int = 0) -> int:
    """The checksum of RDB files and DUMP payloads, going on from `start`."""
    return int(_crc64(data, start))


class RdbError(ValueError):
    """Bytes that are no RDB, or one that we can't read.

    `reason` says what is wrong, `offset` at which byte it showed.
    """

    def __init__(self, reason: str, offset: int) -> None:
        super().__init__(f"{reason} at byte {offset}")
        self.reason = reason
        self.offset = offset


class PayloadError(RdbError):
    """A DUMP payload whose version or checksum is wrong."""


class Import(NamedTuple):
    """A move of slots to this node that is not complete: its name, and pairs of slots, first and
    last. What there is in them by now is not to be seen yet."""

    name: bytes
    ranges: tuple[tuple[int, int], ...]


class Version(NamedTuple):
    """Which dialect a file or payload is written in."""

    number: int
    is_valkey: bool

    @classmethod
    def of_payload(cls, number: int) -> "Version":
        """The version that a DUMP payload tells: from Valkey's first on they are Valkey's."""
        return cls(number, number >= VALKEY_VERSION)

    def is_readable(self, relaxed: bool = False) -> bool:
        """Whether we know it; `relaxed`: whether there may be such a version at all."""
        if relaxed:
            return self.number >= 1
        if self.is_valkey:
            return self.number == VALKEY_VERSION
        return 1 <= self.number <= NEWEST_REDIS_VERSION
