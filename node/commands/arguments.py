"""Arguments as values. Redis is strict: no spaces, no leading zeros, no plus sign in an integer."""

import re
from math import isinf

from node.data.number import INT64_MAX, as_integer
from node.data.pattern import Matcher, compiled
from node.replies import MUST_BE_POSITIVE, NOT_FLOAT, NOT_INTEGER, SYNTAX, ReplyError, forget_origin

INVALID_CURSOR = ReplyError(b"ERR invalid cursor")
_UINT64_MAX = (1 << 64) - 1
_SMALL = {b"%d" % number: number for number in range(-128, 1025)}  # most integers that are sent


def integer(arg: bytes, error: ReplyError = NOT_INTEGER) -> int:
    """A signed 64-bit integer; raises `error`."""
    number = _SMALL.get(arg)
    if number is None:
        number = as_integer(arg)
        if number is None:
            raise error
    return number


def count(arg: bytes, error: ReplyError = MUST_BE_POSITIVE, low: int = 0) -> int:
    """An integer that is at least `low`; raises `error` for anything else."""
    number = integer(arg, error)
    if number < low:
        raise error
    return number


def integer_between(arg: bytes, low: int, high: int, error: ReplyError) -> int:
    """An integer from low to high, both included; raises `error` for anything else."""
    number = integer(arg, error)
    if not low <= number <= high:
        raise error
    return number


INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
_INT32 = ReplyError(
    b"ERR value is out of range, value must between %d and %d" % (INT32_MIN, INT32_MAX)
)


def integer32(arg: bytes) -> int:
    """A signed 32-bit integer; raises ReplyError."""
    number = integer(arg)
    if not INT32_MIN <= number <= INT32_MAX:
        raise _INT32
    return number


def signed_count(arg: bytes) -> int:
    """An integer whose absolute value is one as well; raises ReplyError."""
    number = integer(arg)
    if number < -INT64_MAX:
        raise ReplyError(
            b"ERR value is out of range, value must between %d and %d" % (-INT64_MAX, INT64_MAX)
        )
    return number


def floating(arg: bytes, error: ReplyError = NOT_FLOAT) -> float:
    """A double, infinities allowed; raises `error`, for one too large or too small as well."""
    small = _SMALL.get(arg)
    if small is not None:
        return float(small)
    try:
        number = float(arg)
    except ValueError:
        raise error from None
    # The difference to itself is 0 only of what is finite.
    if (number == 0 or number - number != 0) and not _is_exact(arg, number):
        raise error
    if b"_" in arg or arg[0] <= 32 or arg[-1] <= 32:  # float() is more generous than Redis
        raise error
    return number


def _is_exact(arg: bytes, number: float) -> bool:
    """Whether zero or infinity is what was written, and not all that a double can hold of it."""
    if number == 0:
        mantissa = arg.lower().partition(b"e")[0]
        return not any(digit in mantissa for digit in b"123456789")
    return isinf(number) and not any(digit in arg for digit in b"0123456789")


_HEXADECIMAL = re.compile(rb"[-+]?0[xX][0-9a-fA-F]{1,16}")


def timeout_ms(arg: bytes, now_ms: int) -> int | None:
    """A timeout in seconds as a deadline in milliseconds; None for 0, which is never."""
    try:
        seconds = float.fromhex(arg.decode()) if _HEXADECIMAL.fullmatch(arg) else floating(arg)
    except ReplyError as error:
        forget_origin(error)
        if not _is_too_large(arg):
            raise ReplyError(b"ERR timeout is not a float or out of range") from None
        seconds = float(arg)
    return deadline_ms(seconds * 1000, now_ms)


def deadline_ms(timeout: float, now_ms: int) -> int | None:
    """A timeout in milliseconds as a deadline; None for 0, which is never."""
    if timeout < 0:
        raise ReplyError(b"ERR timeout is negative")
    if timeout > INT64_MAX or timeout + now_ms > INT64_MAX:
        raise ReplyError(b"ERR timeout is out of range")
    whole = int(timeout) + (timeout != int(timeout))
    return now_ms + whole if whole else None


def _is_too_large(arg: bytes) -> bool:
    """Whether this is a number beyond a double (timeouts are read with more range than scores)."""
    try:
        return isinf(float(arg)) and arg.strip() == arg and b"_" not in arg
    except ValueError:
        return False


def numkeys(args: list[bytes], at: int, error: ReplyError) -> list[bytes]:
    """The keys after a count of keys at args[at]; raises `error` or SYNTAX."""
    number = count(args[at], error, 1)
    if number > len(args) - at - 1:
        raise SYNTAX
    return args[at + 1 : at + 1 + number]


# --- the SCAN family ------------------------------------------------------------------------------


def cursor(arg: bytes) -> int:
    """Where a scan goes on; raises INVALID_CURSOR."""
    number = _SMALL.get(arg, -1)
    if number < 0:
        if not _is_cursor(arg):
            raise INVALID_CURSOR
        number = int(arg)
        if abs(number) > _UINT64_MAX or (number < 0 and as_integer(arg) is not None):
            raise INVALID_CURSOR
        number &= _UINT64_MAX  # strtoull turns what is no integer of 64 bits around
    return number


_is_cursor = re.compile(rb"\s*[+-]?[0-9]{1,64}\Z").match  # as strtoull reads it


def scan_options(args: list[bytes], flag: bytes = b"") -> tuple[Matcher | None, int, bool]:
    """MATCH, COUNT and, where the command knows it, a flag such as NOVALUES, from args[3] on.

    Returns the test for what matches (None: everything does), the count, and whether the flag was
    given; raises ReplyError.
    """
    test, most, flagged = None, 10, False
    i = 3
    while i < len(args):
        word = args[i].upper()
        if word == b"COUNT" and i + 1 < len(args):
            most = integer(args[i + 1])
            if most < 1:
                raise SYNTAX
            i += 2
        elif word == b"MATCH" and i + 1 < len(args):
            test = None if args[i + 1] == b"*" else compiled(args[i + 1])
            i += 2
        elif word in _SCAN_FLAGS:
            if word != flag:
                raise ReplyError(
                    b"ERR %b option can only be used in %b" % (word, _SCAN_FLAGS[word])
                )
            flagged = True
            i += 1
        else:
            raise SYNTAX
    return test, most, flagged


_SCAN_FLAGS = {b"NOVALUES": b"HSCAN", b"NOSCORES": b"ZSCAN"}
