"""Numbers as strings: the two canonical forms that Redis's own values are written in.

Valkey prints a double with Grisu2: always text that reads back as the same number, nearly always
the shortest, sometimes a digit longer or with another last digit than Python's repr. Clients and
files see that text, so it is done here in the same way.
Source: F. Loitsch, Printing Floating-Point Numbers Quickly and Accurately with Integers (2010).
"""

from functools import cache
from math import copysign, frexp, isinf, isnan

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
    """The text of a double in the notation of Valkey's replies; it reads back as `number`.

    Integral values up to 2**62 are written as integers, very large or small ones with an
    exponent (`1e+20`, `1.5e-7`); infinities are `inf` and `-inf`, not-a-number is `nan`.
    """
    if -_EXACT <= number <= _EXACT:
        whole = int(number)
        if whole == number:
            return b"%d" % whole if whole or copysign(1, number) > 0 else b"-0"
    elif isinf(number):
        return b"inf" if number > 0 else b"-inf"
    elif isnan(number):
        return b"nan"
    # With up to three decimals and fifteen digits Grisu2 can't miss the shortest text.
    text = repr(number)
    if len(text) < 17 and text[-4:].count(".") == 1:
        return text.encode()
    sign = "-" if number < 0 else ""
    return (sign + _notation(*_digits(abs(number)))).encode()


def _notation(digits: str, exponent: int) -> str:
    """The number 0.digits * 10**(exponent + len(digits)) as text, with or without an `e`."""
    point = len(digits) + exponent  # how many digits stand before the point
    if exponent >= 0 and point - 1 < len(digits) + 7:
        return digits + "0" * exponent
    if exponent < 0 and (exponent > -7 or abs(point - 1) < 4):
        return digits[:point] + "." + digits[point:] if point > 0 else "0." + "0" * -point + digits
    mantissa = digits[0] + ("." + digits[1:] if len(digits) > 1 else "")
    return f"{mantissa}e{point - 1:+d}"


_HIDDEN = 1 << 52  # the bit of a double's fraction that is not stored


def _digits(number: float) -> tuple[str, int]:
    """Grisu2: digits and an exponent of ten for a positive finite number.

    The number and the middles between it and its neighbours, 64-bit fractions with one exponent,
    are scaled by a power of ten so that the digits can be cut off the upper middle, and as few of
    them as still lie above the lower one.
    """
    fraction, exponent = frexp(number)
    fraction, exponent = int(fraction * (1 << 53)), exponent - 53
    if exponent < -1074:  # subnormal: fewer bits
        fraction, exponent = fraction >> (-1074 - exponent), -1074
    upper = 2 * fraction + 1
    shift = 64 - upper.bit_length()
    upper_exponent = exponent - 1 - shift
    lower_shift = 2 if fraction == _HIDDEN else 1
    lower = ((fraction << lower_shift) - 1) << (exponent - lower_shift - upper_exponent)
    scale, scale_exponent, tens = _power_of_ten(upper_exponent)
    middle = _times(fraction << (exponent - upper_exponent), scale)
    high, low = _times(upper << shift, scale) - 1, _times(lower, scale) + 1
    return _cut_digits(middle, high, low, -(upper_exponent + scale_exponent + 64), -tens)


def _cut_digits(middle: int, high: int, low: int, bits: int, exponent: int) -> tuple[str, int]:
    """The digits of `high`, whose last `bits` bits are the fraction, until they are above `low`."""
    delta, wanted = high - low, high - middle
    whole, rest = high >> bits, high & ((1 << bits) - 1)
    text = str(whole)
    for place in range(len(text)):
        unit = 10 ** (len(text) - 1 - place)
        left = ((whole % unit) << bits) + rest
        if left <= delta:
            cut = len(text) - 1 - place
            return _round(text[: place + 1], delta, left, unit << bits, wanted), exponent + cut
    digits = text if whole else ""
    while True:
        rest, delta, wanted, exponent = rest * 10, delta * 10, wanted * 10, exponent - 1
        digit, rest = rest >> bits, rest & ((1 << bits) - 1)
        if digit or digits:
            digits += str(digit)
        if rest < delta:
            return _round(digits, delta, rest, 1 << bits, wanted), exponent


def _round(digits: str, delta: int, left: int, unit: int, wanted: int) -> str:
    """Lower the last digit while that brings the number nearer and keeps it in range."""
    last = int(digits[-1])
    while (
        left < wanted
        and delta - left >= unit
        and (left + unit < wanted or wanted - left > left + unit - wanted)
    ):
        last -= 1
        left += unit
    return digits[:-1] + str(last)


def _times(left: int, right: int) -> int:
    """The upper half of a product of 64-bit fractions, rounded."""
    return (left * right + (1 << 63)) >> 64


def _power_of_ten(exponent: int) -> tuple[int, int, int]:
    """Of 10**-348, 10**-340 ...: the one that scales numbers with this exponent to 4 to 32 bits.

    Returns its 64-bit fraction, its exponent of two, and its exponent of ten.
    """
    tens = -348 + 8 * int((-(exponent + 87) * 0.30102999566398114 + 348) / 8)
    while True:
        fraction, power = _normalized_power(tens)
        if exponent + power + 64 < -60:
            tens += 8
        elif exponent + power + 64 > -32:
            tens -= 8
        else:
            return fraction, power, tens


@cache
def _normalized_power(tens: int) -> tuple[int, int]:
    """10**tens as a 64-bit fraction, rounded, and an exponent of two."""
    power = 0
    number = 10**tens if tens >= 0 else 1
    if tens < 0:
        power = -(10**-tens).bit_length() - 72
        number = (1 << -power) // 10**-tens
    excess = number.bit_length() - 64
    if excess <= 0:
        return number << -excess, power + excess
    return (number + (1 << excess - 1)) >> excess, power + excess
