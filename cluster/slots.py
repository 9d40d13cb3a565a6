"""Hash slots: which of the 16384 a key belongs to, and sets of them.

A set of slots is a plain int whose bit *n* stands for slot *n*: union, intersection and
difference are `|`, `&` and `& ~`, counting is `int.bit_count`, and its 2048 little-endian bytes
are exactly the bitmap of the cluster bus. Source: the cluster specification at
https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/
"""

from binascii import crc_hqx
from collections.abc import Iterable, Iterator

SLOTS = 16384
BITMAP_BYTES = SLOTS // 8
EVERY_SLOT = (1 << SLOTS) - 1


def key_slot(key: bytes) -> int:
    """The slot of a key: CRC16 of its hash tag, or of all of it when it has none."""
    if 123 in key:  # "{" as a number, which is found six times as fast as b"{"
        _, _, rest = key.partition(b"{")
        tag, brace, _ = rest.partition(b"}")
        if tag and brace:
            key = tag
    return crc_hqx(key, 0) & 16383


def slot_set(slots: Iterable[int]) -> int:
    """The set of these slot numbers."""
    bitmap = bytearray(BITMAP_BYTES)
    for slot in slots:
        bitmap[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(bitmap, "little")


def slot_range(first: int, last: int) -> int:
    """The set of the slots from `first` to `last`, both included."""
    return ((1 << (last - first + 1)) - 1) << first


def lowest(slots: int) -> int:
    """The smallest slot of a set that is not empty."""
    return (slots & -slots).bit_length() - 1


def ranges(slots: int) -> list[tuple[int, int]]:
    """The set as ascending (first, last) pairs, both included."""
    found = []
    base = 0
    while slots:
        gap = lowest(slots)
        slots >>= gap
        length = lowest(~slots)
        slots >>= length
        found.append((base + gap, base + gap + length - 1))
        base += gap + length
    return found


def members(slots: int) -> Iterator[int]:
    """The slots of a set in ascending order."""
    for first, last in ranges(slots):
        yield from range(first, last + 1)


def to_bytes(slots: int) -> bytes:
    """The set as the bus's bitmap of 2048 bytes."""
    return slots.to_bytes(BITMAP_BYTES, "little")


def from_bytes(bitmap: bytes) -> int:
    """The set of a bitmap of the bus."""
    return int.from_bytes(bitmap, "little")


def to_text(slots: int) -> str:
    """The set as CLUSTER NODES and nodes.conf write it: `0-5460 9000 10000-16383`."""
    return " ".join(f"{a}-{b}" if a != b else f"{a}" for a, b in ranges(slots))


def parse_range(text: str) -> int:
    """The set that one word of such a text stands for; ValueError if it is none."""
    first, dash, last = text.partition("-")
    if not (text.isascii() and first.isdigit() and (last.isdigit() or not dash)):
        raise ValueError(f"not a slot range: {text!r}")
    low, high = int(first), int(last) if dash else int(first)
    if not low <= high < SLOTS:
        raise ValueError(f"not a slot range: {text!r}")
    return slot_range(low, high)
