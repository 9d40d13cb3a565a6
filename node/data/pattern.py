"""Redis's glob patterns: KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET.

`*` is any run of bytes, `?` one byte, `[a-z]` and `[^a-z]` classes, a backslash makes the next
byte literal. A pattern is cut at its stars into pieces of fixed length; finding each piece as far
left as possible is enough, so no pattern takes more than O(len(pattern) * len(value)). The odd
cases (a class that is never closed, a range that swallows the bracket) are those of a real server.
"""

import re
from collections.abc import Callable
from functools import lru_cache

Matcher = Callable[[bytes], bool]

_MOST_STARS = 1000  # a real server goes no deeper, and finds no match

_STAR, _ANY, _OPEN, _CLOSE, _CARET, _DASH, _ESCAPE = b"*?[]^-\\"


def matches(pattern: bytes, value: bytes) -> bool:
    """Whether the whole of `value` matches. Only an empty pattern matches an empty value."""
    return compiled(pattern)(value)


@lru_cache(maxsize=1024)
def compiled(pattern: bytes, ignore_case: bool = False) -> Matcher:
    """The test for a pattern, made once and kept for the most recently used patterns.

    With `ignore_case` ASCII letters match their other case, in ranges too.
    """
    if ignore_case:
        test = compiled(pattern.lower())
        return lambda value: test(value.lower())
    if not pattern:
        return lambda value: not value
    if not re.search(rb"[?[\\]", pattern):
        plain = _plain(pattern)
        if plain is not None:
            return plain
    if pattern.count(b"*") > _MOST_STARS < sum(map(bool, _pieces(pattern)[1:])):
        return lambda value: False
    found = re.compile(_translate(pattern), re.DOTALL).fullmatch
    return lambda value: value != b"" and found(value) is not None


def _plain(pattern: bytes) -> Matcher | None:
    """A test without a regular expression, for patterns with one star, at an end, or none."""
    head, star, tail = pattern.partition(b"*")
    if not star:
        return pattern.__eq__
    if not head and not tail:
        return bool
    if not tail:
        return lambda value: value.startswith(head)
    if not head and b"*" not in tail:
        return lambda value: value.endswith(tail)
    return None


def _translate(pattern: bytes) -> bytes:
    """The regular expression of a pattern.

    A piece between two stars is found with its star in an atomic group, which is never entered
    again; only the run before the last piece gives back bytes, and once.
    """
    first, *pieces = _pieces(pattern)
    if not pieces:
        return first
    *middle, last = pieces
    return first + b"".join(b"(?>.*?%b)" % piece for piece in middle if piece) + b".*" + last


def _pieces(pattern: bytes) -> list[bytes]:
    """Regular expressions of fixed length for what stands between the stars."""
    pieces = [b""]
    at = 0
    while at < len(pattern):
        byte = pattern[at]
        if byte == _STAR:
            pieces.append(b"")
            at += 1
        elif byte == _ANY:
            pieces[-1] += b"."
            at += 1
        elif byte == _OPEN:
            piece, at = _byte_class(pattern, at + 1)
            pieces[-1] += piece
        else:
            if byte == _ESCAPE and at + 1 < len(pattern):
                at += 1
            pieces[-1] += re.escape(pattern[at : at + 1])
            at += 1
    return pieces


def _byte_class(pattern: bytes, at: int) -> tuple[bytes, int]:
    """The expression of a class whose bracket opened before `at`, and where reading goes on."""
    size = len(pattern)
    negated = at < size and pattern[at] == _CARET
    at += negated
    members = bytearray(256)
    while at < size and pattern[at] != _CLOSE:
        low = high = pattern[at]
        if low == _ESCAPE and at + 1 < size:
            low = high = pattern[at + 1]
            at += 1
        elif at + 2 < size and pattern[at + 1] == _DASH:
            high = pattern[at + 2]
            at += 2
        for byte in range(min(low, high), max(low, high) + 1):
            members[byte] = 1
        at += 1
    chosen = [byte for byte in range(256) if members[byte] != negated]
    if not chosen:
        return b"(?!)", at + 1
    return b"[%b]" % b"".join(b"\\x%02x" % byte for byte in chosen), at + 1
