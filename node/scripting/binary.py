"""The libraries bit and struct, and doubles for cmsgpack: what is awkward to do with Lua's numbers.

struct packs as Roberto Ierusalimschy's struct library 0.2 does, with native sizes of x86-64; bit as
Lua BitOp does, on numbers taken modulo 2**32.

https://valkey.io/topics/lua-api/#runtime-libraries
"""

import struct
from collections.abc import Generator
from typing import Any

import attrs

from node.scripting.calls import guarded

_U32 = 0xFFFFFFFF
_SIGN = 0x80000000
_TO_BIT = 6755399441055744.0  # 2**52 + 2**51: its sum with x has x's low bits at the end
_DOUBLE, _FLOAT = struct.Struct("<d"), struct.Struct("<f")

_SIZES = {"b": 1, "h": 2, "l": 8, "t": 8, "f": 4, "d": 8}
_INTEGERS = frozenset("bhltiBHLTI")
_NUMBER_MAX = (1 << 31) - 1  # in a format
_INT_MAX = 32  # bytes of an integer
_ALIGN_MAX = 8
_MOST = 7000  # values; Lua's stack takes no more


# --- bit ------------------------------------------------------------------------------------------


def _bits(number: float) -> int:
    """The low 32 bits of a number, rounded to an integer."""
    if type(number) is int and -(1 << 51) < number < 1 << 51:
        return number & _U32
    return int.from_bytes(_DOUBLE.pack(float(number) + _TO_BIT)[:4], "little")


def _signed(bits: int) -> int:
    bits &= _U32
    return bits - (1 << 32) if bits & _SIGN else bits


def bit_tobit(a: float) -> int:
    return _signed(_bits(a))


def bit_bnot(a: float) -> int:
    return _signed(~_bits(a))


def bit_bswap(a: float) -> int:
    return _signed(int.from_bytes(_bits(a).to_bytes(4, "little"), "big"))


def bit_band(a: float, b: float) -> int:
    return _signed(_bits(a) & _bits(b))


def bit_bor(a: float, b: float) -> int:
    return _signed(_bits(a) | _bits(b))


def bit_bxor(a: float, b: float) -> int:
    return _signed(_bits(a) ^ _bits(b))


def bit_lshift(a: float, b: float) -> int:
    return _signed(_bits(a) << (_bits(b) & 31))


def bit_rshift(a: float, b: float) -> int:
    return _signed(_bits(a) >> (_bits(b) & 31))


def bit_arshift(a: float, b: float) -> int:
    return _signed(_signed(_bits(a)) >> (_bits(b) & 31))


def bit_rol(a: float, b: float) -> int:
    bits, by = _bits(a), _bits(b) & 31
    return _signed(bits << by | bits >> (32 - by))


def bit_ror(a: float, b: float) -> int:
    return bit_rol(a, -(_bits(b) & 31))


def bit_tohex(a: float, digits: float) -> bytes:
    """Lower case, or upper case for a negative number of digits; at most 8."""
    number = _signed(_bits(digits))
    text = b"%08x" % _bits(a)
    if number < 0:
        text, number = text.upper(), -number
    return text[8 - min(number, 8) :]


# --- struct ---------------------------------------------------------------------------------------


class _Failure(Exception):
    """What is wrong with a format or with data, in the library's words; and with which argument."""

    def __init__(self, text: str, argument: int = 0) -> None:
        super().__init__(text)
        self.argument = argument

    def told(self, function: bytes) -> tuple[bool, bytes]:
        """As Lua gets it."""
        text = str(self).encode("latin-1")
        if self.argument:
            text = b"bad argument #%d to '%b' (%b)" % (self.argument, function, text)
        return False, text


@attrs.frozen
class _Item:
    """One option of a format. kind: its letter; size: in bytes; padding: before it."""

    kind: str
    size: int
    padding: int
    order: str


def _items(form: bytes, start: int = 0) -> Generator[_Item, int, None]:
    """The options of a format, for data from `start` on; the caller sends the place after each."""
    text = form.decode("latin-1")
    order, align, at, total = "little", 1, 0, start
    while at < len(text):
        kind = text[at]
        at += 1
        if kind in " ":
            continue
        digits_end = at
        while digits_end < len(text) and text[digits_end].isdecimal() and text[digits_end] < "\x80":
            digits_end += 1
        number = int(text[at:digits_end][:12]) if digits_end > at else None
        if number is not None and number > _NUMBER_MAX:
            raise _Failure("integral size overflow")
        if kind in "<>":
            order = "little" if kind == "<" else "big"
        elif kind == "!":
            at = digits_end
            align = _ALIGN_MAX if number is None else number
            if not align or align & (align - 1):
                raise _Failure(f"alignment {align} is not a power of 2")
        else:
            size, at = _size(kind, number, at, digits_end)
            padding = 0
            if kind not in "cxs" and size and align > 1:
                padding = -total % min(size, align)
            total = yield _Item(kind, size, padding, order)


def _size(kind: str, number: int | None, at: int, digits_end: int) -> tuple[int, int]:
    """How many bytes an option takes, and where it ends."""
    if kind in "iI":
        size = 4 if number is None else number
        if size > _INT_MAX:
            raise _Failure(f"integral size {size} is larger than limit of {_INT_MAX}")
        return size, digits_end
    if kind == "c":
        return 1 if number is None else number, digits_end
    if kind == "s":
        return 0, at
    if kind == "x":
        return 1, at
    fixed = _SIZES.get(kind if kind in "fd" else kind.lower() if kind in "bhltBHLT" else "")
    if fixed is None:
        raise _Failure(f"invalid format option '{kind}'", 1)
    return fixed, at


def struct_pack(form: bytes, *values: Any) -> Any:
    """The bytes; (False, problem) or (False, "value", number, kind) for an argument that is none
    of the kind."""
    out = bytearray()
    rest = iter(enumerate(values, 2))
    items = _items(form)
    try:
        item = next(items)
        while True:
            out += bytes(item.padding)
            if item.kind == "x":
                out.append(0)
            else:
                number, value = next(rest, (len(values) + 2, None))
                if value is None:
                    kind = b"string" if item.kind in "sc" else b"number"
                    return False, b"value", number, kind
                out += _packed(item, value, number)
            item = items.send(len(out))
    except StopIteration:
        return bytes(out)
    except _Failure as failure:
        return failure.told(b"pack")
    except _WrongKind as wrong:
        return False, b"value", wrong.number, wrong.kind


class _WrongKind(Exception):
    """An argument is of another kind."""

    def __init__(self, number: int, kind: bytes) -> None:
        self.number = number
        self.kind = kind


def _packed(item: _Item, value: Any, number: int) -> bytes:
    if item.kind in "sc":
        text = value if type(value) is bytes else _number_text(value)
        if item.kind == "s":
            return text + b"\0"
        size = item.size or len(text)
        if len(text) < size:
            raise _Failure("string too short", number + 1)
        return text[:size]
    amount = value if type(value) is not bytes else _as_number(value, number)
    if item.kind in "fd":
        codec = _DOUBLE if item.kind == "d" else _FLOAT
        try:
            data = codec.pack(amount)
        except OverflowError:
            data = codec.pack(float("inf") if amount > 0 else float("-inf"))
        return data if item.order == "little" else data[::-1]
    whole = _wrapped(amount)
    if item.size < 8:
        whole &= (1 << 8 * item.size) - 1
    else:
        whole &= (1 << 64) - 1
    return whole.to_bytes(max(item.size, 0), item.order)  # type: ignore[arg-type]


def _wrapped(amount: float) -> int:
    """A number as C converts it to a long long."""
    if type(amount) is int:
        return amount
    if not -(2.0**63) <= amount < 2.0**63:
        return int(amount) & ((1 << 64) - 1) if 2.0**63 <= amount < 2.0**64 else -(1 << 63)
    return int(amount)


def _number_text(value: float) -> bytes:
    return b"%d" % value if type(value) is int else b"%.14g" % value


def _as_number(value: bytes, number: int) -> float:
    try:
        return float(value)
    except ValueError:
        raise _WrongKind(number, b"number") from None


def struct_unpack(form: bytes, data: bytes, start: float) -> Any:
    """The values and the place after them; (False, problem)."""
    if start == 0:
        return _Failure("offset must be 1 or greater", 3).told(b"unpack")
    if not 1 <= start <= len(data) + 1:
        return _Failure("data string too short", 2).told(b"unpack")
    at = int(start) - 1
    found: list[Any] = []
    items = _items(form, at)
    try:
        item = next(items)
        while True:
            at = _unpacked(item, data, at + item.padding, found)
            if len(found) > _MOST:
                return False, b"too many results"
            item = items.send(at)
    except StopIteration:
        return (*found, at + 1)
    except _Failure as failure:
        return failure.told(b"unpack")


def _unpacked(item: _Item, data: bytes, at: int, found: list[Any]) -> int:
    """Append what an option reads; the place after it."""
    kind, size = item.kind, item.size
    if kind == "c" and not size:
        if not found or type(found[-1]) is bytes:
            raise _Failure("format 'c0' needs a previous size")
        size = int(found.pop())
        if size < 0:
            raise _Failure("data string too short", 2)
    if at + size > len(data):
        raise _Failure("data string too short", 2)
    if kind == "x":
        return at + 1
    if kind == "s":
        end = data.find(b"\0", at)
        if end < 0:
            raise _Failure("unfinished string in data")
        found.append(data[at:end])
        return end + 1
    piece = data[at : at + size]
    if kind == "c":
        found.append(piece)
    elif kind in "fd":
        codec = _DOUBLE if kind == "d" else _FLOAT
        found.append(codec.unpack(piece if item.order == "little" else piece[::-1])[0])
    else:
        found.append(_integer(piece, item))
    return at + size


def _integer(piece: bytes, item: _Item) -> float:
    """An integer as Lua's number has it; of more than 8 bytes the low ones count."""
    number = int.from_bytes(piece, item.order) & ((1 << 64) - 1)  # type: ignore[arg-type]
    if item.kind.islower():
        bits = 8 * min(item.size, 8)
        if bits and number >> (bits - 1) & 1:
            number -= 1 << bits
    return number if abs(number) < 1 << 53 else float(number)


def struct_size(form: bytes) -> Any:
    """How many bytes a format takes; (False, problem)."""
    at = 0
    items = _items(form)
    try:
        item = next(items)
        while True:
            if item.kind == "s" or (item.kind == "c" and not item.size):
                option = item.kind + "0" * (item.kind == "c")
                raise _Failure(f"option '{option}' has no fixed size", 1)
            at += item.padding + item.size
            item = items.send(at)
    except StopIteration:
        return at
    except _Failure as failure:
        return failure.told(b"size")


# --- cmsgpack -------------------------------------------------------------------------------------


def float_bytes(number: float) -> bytes:
    """MessagePack's form of a number that is no integer: short where nothing is lost."""
    try:
        if _FLOAT.unpack(_FLOAT.pack(number))[0] == number:
            return b"\xca" + struct.pack(">f", number)
    except OverflowError:
        pass  # too large for a float
    return b"\xcb" + struct.pack(">d", number)


def from_float(data: bytes) -> float:
    """A number from 4 or 8 bytes."""
    return struct.unpack(">f" if len(data) == 4 else ">d", data)[0]


def functions() -> dict[bytes, Any]:
    """By the names that lua/*.lua call them."""
    named = [value for name, value in globals().items() if name.startswith(("bit_", "struct_"))]
    named += [float_bytes, from_float]
    return {function.__name__.encode(): guarded(function) for function in named}
