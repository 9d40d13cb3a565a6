"""Files as accidents leave them: cut, flipped, torn, with lengths that lie."""

import random
from collections.abc import Callable

from node.persistence.rdb.codes import crc64

HUGE = (1 << 60, 1 << 63, (1 << 64) - 1, 1 << 40, 1 << 31, (1 << 32) - 1)
_CHECKSUM_BYTES = 8

Damage = Callable[[random.Random, bytearray], None]


def _cut(rng: random.Random, data: bytearray) -> None:
    del data[rng.randrange(len(data)) :]


def _flip(rng: random.Random, data: bytearray) -> None:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _change(rng: random.Random, data: bytearray) -> None:
    odd = (0, 1, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xC0, 0xC3, 0xF0, 0xFE, 0xFF)
    data[rng.randrange(len(data))] = rng.choice(odd)


def _lose(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    del data[at : at + rng.randint(1, 50)]


def _gain(rng: random.Random, data: bytearray) -> None:
    at = rng.randrange(len(data))
    data[at:at] = rng.randbytes(rng.randint(1, 20))


def _tear(rng: random.Random, data: bytearray) -> None:
    """A block that was never written."""
    at = rng.randrange(len(data))
    end = min(at + rng.choice([8, 64, 512]), len(data))
    data[at:end] = bytes(end - at)


def _repeat(rng: random.Random, data: bytearray) -> None:
    at, size = rng.randrange(len(data)), rng.randint(1, 300)
    place = rng.randrange(len(data))
    data[place:place] = data[at : at + size]


def _lie_in_rdb(rng: random.Random, data: bytearray) -> None:
    """Somewhere stands a length that the file can't have."""
    at = rng.randrange(len(data))
    size = rng.choice(HUGE)
    packed = b"\x81" + size.to_bytes(8, "big") if size >> 32 else b"\x80" + size.to_bytes(4, "big")
    data[at : at + rng.choice([0, 1, len(packed)])] = packed


def _lie_in_log(rng: random.Random, data: bytearray) -> None:
    """A number of words, or of bytes in one, that the file can't have."""
    at = data.find(rng.choice([b"$", b"*"]), rng.randrange(len(data)))
    end = data.find(b"\r\n", at)
    if at >= 0 and end >= 0:
        data[at + 1 : end] = b"%d" % rng.choice([*HUGE, 1 << 70, -1, 0, 1000])


_COMMON: tuple[Damage, ...] = (_cut, _flip, _flip, _change, _lose, _gain, _tear, _repeat)


def damaged_rdb(rng: random.Random, whole: bytes) -> bytes:
    """An RDB with one to three accidents; in half of the cases its checksum vouches for it."""
    data = bytearray(whole[:-_CHECKSUM_BYTES])
    for _ in range(rng.randint(1, 3)):
        if data:
            rng.choice((*_COMMON, _lie_in_rdb, _lie_in_rdb))(rng, data)
    if rng.random() < 0.5:
        return bytes(data) + crc64(bytes(data)).to_bytes(_CHECKSUM_BYTES, "little")
    return bytes(data) + whole[-_CHECKSUM_BYTES:]


def damaged_log(rng: random.Random, whole: bytes) -> bytes:
    """An append-only file with one to three accidents."""
    data = bytearray(whole)
    for _ in range(rng.randint(1, 3)):
        if data:
            rng.choice((*_COMMON, _lie_in_log, _lie_in_log))(rng, data)
    return bytes(data)
