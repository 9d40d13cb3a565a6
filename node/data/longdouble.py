"""x87's extended floating point, in which INCRBYFLOAT and HINCRBYFLOAT reckon.

64 bits of mantissa and 15 of exponent: every number is an integer times a power of two, held as
the pair (mantissa, exponent), so sums are made exactly and rounded once, as the hardware does.
Source: IEEE 754, "extended precision"; strtold and printf of the C library.
"""

import re
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal

BITS = 64
_LEAST_EXPONENT = -16445  # of the smallest denormal number
_GREATEST_EXPONENT = 16384  # every number is less than two to this power
_TEXT_MAX = 5 * 1024  # texts from this length on are refused
_DECIMALS = 17
_FAR = 1 << 20
_exact = Context(prec=MAX_PREC, Emin=MIN_EMIN, Emax=MAX_EMAX)

Number = tuple[int, int]
INFINITE: Number = (1, _GREATEST_EXPONENT)  # of either sign: nothing can be made of it

_decimal = re.compile(rb"([+-]?(?:\d+\.?\d*|\.\d+))(?:e([+-]?\d+))?", re.IGNORECASE).fullmatch
_hexadecimal = re.compile(
    rb"([+-]?)0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(?:p([+-]?\d+))?", re.IGNORECASE
).fullmatch
_infinite = re.compile(rb"[+-]?inf(inity)?", re.IGNORECASE).fullmatch


def parse(text: bytes) -> Number | None:
    """The number nearest to a text; None where it is no number, or none that can be held.

    Decimal and hexadecimal notation and infinities are taken, spaces and not-a-number are not.
    """
    if len(text) >= _TEXT_MAX:
        return None
    if parts := _decimal(text):
        return _parse_decimal(*parts.groups())
    if parts := _hexadecimal(text):
        return _parse_hexadecimal(*parts.groups())
    return INFINITE if _infinite(text) else None


def add(left: Number, right: Number) -> Number | None:
    """The sum, rounded to the nearest number; None if it is infinite or not a number."""
    if left == INFINITE or right == INFINITE:
        return None
    exponent = min(left[1], right[1])
    total = (left[0] << left[1] - exponent) + (right[0] << right[1] - exponent)
    return _nearest(total, 1, exponent)


def text(number: Number) -> bytes:
    """A finite number with up to 17 decimals, never with an exponent."""
    mantissa, exponent = number
    units = abs(mantissa) * 10**_DECIMALS
    units = units << exponent if exponent >= 0 else _divide(units, 1 << -exponent)
    digits = str(Decimal(units)).rjust(_DECIMALS + 1, "0")  # int to str has a limit
    shown = f"{digits[:-_DECIMALS]}.{digits[-_DECIMALS:]}".rstrip("0").rstrip(".")
    return (f"-{shown}" if mantissa < 0 and units else shown).encode()


def _parse_decimal(digits: bytes, power: bytes | None) -> Number | None:
    number = Decimal(digits.decode())
    if not number:
        return 0, 0
    exponent = _bounded(power)
    if not -_TEXT_MAX < number.adjusted() + exponent < _TEXT_MAX:
        return None
    return _nearest(*number.scaleb(exponent, _exact).as_integer_ratio(), 0)


def _parse_hexadecimal(sign: bytes, digits: bytes, power: bytes | None) -> Number | None:
    whole, _, fraction = digits.partition(b".")
    mantissa = int(sign + whole + fraction, 16)
    exponent = _bounded(power) - 4 * len(fraction)
    if not mantissa:
        return 0, 0
    if not -2 * _GREATEST_EXPONENT < exponent + mantissa.bit_length() <= _GREATEST_EXPONENT:
        return None
    return _nearest(mantissa, 1, exponent)


def _bounded(power: bytes | None) -> int:
    """An exponent as written, or one as good where it is far beyond all that matters."""
    return int(max(Decimal(-_FAR), min(Decimal((power or b"0").decode()), Decimal(_FAR))))


def _nearest(numerator: int, denominator: int, exponent: int) -> Number | None:
    """Round numerator / denominator * 2**exponent; None where that is infinite or comes to
    nothing without being nothing."""
    if not numerator:
        return 0, 0
    size = abs(numerator)
    power = size.bit_length() - denominator.bit_length()
    if _shifted(size, -power) >= _shifted(denominator, power):
        power += 1
    shift = max(power - BITS, _LEAST_EXPONENT - exponent)  # of the quotient's last bit
    mantissa = _divide(_shifted(size, -shift), _shifted(denominator, shift))
    exponent += shift
    if not mantissa or mantissa.bit_length() + exponent > _GREATEST_EXPONENT:
        return None
    return (mantissa if numerator > 0 else -mantissa), exponent


def _shifted(number: int, bits: int) -> int:
    return number << bits if bits > 0 else number


def _divide(numerator: int, denominator: int) -> int:
    """The nearest integer, the even one of two; both arguments are positive."""
    quotient, rest = divmod(numerator, denominator)
    rest *= 2
    return quotient + (rest > denominator or (rest == denominator and quotient & 1))
