"""Numbers as strings: the two canonical forms that Redis's own values are written in."""

from decimal import Decimal

INT64_MIN = -(1 << 63)
INT64_MAX = (1 << 63) - 1
_EXACT = float(INT64_MAX // 2)  # Redis prints integral doubles up to here as integers


def as_integer(value: bytes) -> int | None:
    """The signed 64-bit integer that `value` is the canonical text of, else None.

    Canonical: no sign but a minus, no leading zero, no space. Complexity: O(len), 20 at most.
    """
    if value.isdigit():
        if len(value) < 19:
            return int(value) if value[0] != 48 or len(value) == 1 else None
        number = int(value) if len(value) == 19 and value[0] != 48 else INT64_MAX + 1
        return number if number <= INT64_MAX else None
    if value[:1] == b"-" and 1 < len(value) < 21 and value[1:].isdigit() and value[1] != 48:
        number = int(value)
        return number if number >= INT64_MIN else None
    return None


def format_double(number: float) -> bytes:
    """The shortest text that reads back as `number`, in the notation of Valkey's replies.

    Integral values up to 2**62 are written as integers, very large or small ones with an
    exponent (`1e+20`, `1.5e-7`); infinities are `inf` and `-inf`, not-a-number is `nan`.
    """
    if number != number:
        return b"nan"
    if number in (float("inf"), float("-inf")):
        return b"inf" if number > 0 else b"-inf"
    if number == 0:
        return b"-0" if str(number)[0] == "-" else b"0"
    if -_EXACT <= number <= _EXACT and number == int(number):
        return b"%d" % int(number)
    return _shortest(number).encode()


def _shortest(number: float) -> str:
    sign, digit_tuple, exponent = Decimal(repr(number)).normalize().as_tuple()
    assert isinstance(exponent, int)
    digits = "".join(map(str, digit_tuple))
    point = len(digits) + exponent  # how many digits stand before the point
    if exponent >= 0 and point - 1 < len(digits) + 7:
        text = digits + "0" * exponent
    elif exponent < 0 and (exponent > -7 or abs(point - 1) < 4):
        text = digits[:point] + "." + digits[point:] if point > 0 else "0." + "0" * -point + digits
    else:
        mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
        text = f"{mantissa}e{point - 1:+d}"
    return "-" + text if sign else text
