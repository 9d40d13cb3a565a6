"""Strings: bytes, or an int (what INCR left), or a bytearray (what is changed in place).

Bytes may well be the text of an integer; that is looked at only when somebody asks. A bytearray
is what Redis calls a raw string.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from node.data.number import as_integer

String = bytes | int | bytearray

_OBJECT_BYTES = 128  # a key and its string up to this size are one object, hence "embstr"
_OBJECT_OVERHEAD = 15
_LONG_KEY = 32  # a key from this length on has a longer header
_LONG_KEY_OVERHEAD = 2


def text(value: String) -> bytes:
    """The string itself, as GET returns it. O(1) for bytes."""
    if type(value) is bytes:
        return value
    return b"%d" % value if isinstance(value, int) else bytes(value)


def length(value: String) -> int:
    """The number of bytes. O(1)."""
    return len(b"%d" % value) if isinstance(value, int) else len(value)


def integer(value: String) -> int | None:
    """The signed 64-bit integer that the string is the canonical text of, else None. O(1)."""
    if isinstance(value, int):
        return value
    if isinstance(value, bytearray):
        return as_integer(bytes(value)) if len(value) <= 20 else None
    return as_integer(value)


def editable(value: String | None) -> bytearray:
    """The string as a bytearray to change in place: itself if it is one. O(N) if it is not."""
    if type(value) is bytearray:
        return value
    return bytearray() if value is None else bytearray(text(value))


def copy(value: String) -> String:
    """An independent string of the same encoding."""
    return bytearray(value) if type(value) is bytearray else value


def encoding(value: String, key: bytes) -> bytes:
    """What OBJECT ENCODING says of the string at a key. O(1).

    Whether a string fits into one object with its key is worked out as for a key that is new; a
    real server may have kept an object that was there before.
    """
    if type(value) is bytearray:
        return b"raw"
    if integer(value) is not None:
        return b"int"
    size = _OBJECT_OVERHEAD + len(key) + length(value)
    size += _LONG_KEY_OVERHEAD if len(key) >= _LONG_KEY else 0
    return b"embstr" if size <= _OBJECT_BYTES else b"raw"


def substring(value: String, start: int, end: int) -> bytes:
    """GETRANGE: the bytes from start to end, both included, negative ones from the end. O(M).

    An end that lies before the first byte means the first byte, unless start lies behind it.
    """
    size = length(value)
    if start < 0 and end < 0 and start > end:
        return b""
    first = start if start >= 0 else max(start + size, 0)
    last = end if end >= 0 else max(end + size, 0)
    data = text(value) if isinstance(value, int) else value
    return bytes(data[first : last + 1])


def overwrite(value: bytearray, offset: int, data: bytes) -> None:
    """SETRANGE: put bytes at an offset, behind zeros where the string is too short. O(M)."""
    missing = offset - len(value)
    if missing > 0:
        value += bytes(missing)
    value[offset : offset + len(data)] = data


# --- the longest common subsequence ---------------------------------------------------------------


class Common:
    """The longest common subsequence of two strings, by bit-parallel rows.

    After i bytes of `left`, row i has a zero at each place of `right` where one byte more makes
    the subsequence longer. O(N * M / 64) time and, for `runs`, the same in memory, in words.
    Source: H. Hyyro, Bit-parallel LCS-length computation revisited (2004).
    """

    def __init__(self, left: bytes, right: bytes) -> None:
        self.left = left
        self.right = right
        self._everything = (1 << len(right)) - 1
        self._places = _places(right)

    def length(self) -> int:
        """How long it is."""
        last = deque(self._rows(), 1)
        return len(self.right) - last.pop().bit_count() if last else 0

    def runs(self) -> Iterator[tuple[int, int, int]]:
        """Runs of bytes common to both: start in left, start in right, length; the last first.

        Of several longest subsequences it is the one that a real server finds, which gives up a
        byte of `right` before one of `left`.
        """
        rows = [self._everything, *self._rows()]
        i, j, size = len(self.left), len(self.right), 0
        while i and j:
            if self.left[i - 1] == self.right[j - 1]:
                i, j, size = i - 1, j - 1, size + 1
                continue
            if size:
                yield i, j, size
                size = 0
            if rows[i] >> (j - 1) & 1:
                j -= 1
            else:
                i -= 1
        if size:
            yield i, j, size

    def _rows(self) -> Iterator[int]:
        row, everything = self._everything, self._everything
        places = self._places
        for byte in self.left:
            found = row & places.get(byte, 0)
            row = (row + found | row - found) & everything
            yield row


def _places(string: bytes) -> dict[int, int]:
    """For each byte, the places where it stands, as the ones of a number."""
    marks = {byte: bytearray((len(string) + 7) // 8) for byte in set(string)}
    for place, byte in enumerate(string):
        marks[byte][place >> 3] |= 1 << (place & 7)
    return {byte: int.from_bytes(mark, "little") for byte, mark in marks.items()}


def joined(left: bytes, runs: Iterable[tuple[int, int, int]]) -> bytes:
    """The subsequence itself, from `Common.runs` of `left`."""
    return b"".join([left[start : start + size] for start, _, size in runs][::-1])
