"""Compiled Lua functions, as string.dump gives them: one is refused here, others are adapted.

A function that takes `...` needs room on the stack for its named parameters twice, and Lua 5.1.5
makes sure of that only once: called with too few arguments it writes past the stack's end. The
spare slots that every stack has are enough for three named parameters.

`return redis.call(...)` is a tail call. Of a C function, as on a real server, that leaves the
script's frame on the stack, where errors find the line; of a Lua function, as here, it does not. So
tail calls of what a global holds, or a field of a global, become plain ones: those are never the
script's own functions, which may well count on tail calls.

Source: the layout and instructions of lua.org's ldump.c and lopcodes.h, version 0x51.
"""

from struct import iter_unpack, pack_into, unpack_from

SAFE_PARAMETERS = 3

_HEADER = 12  # bytes: signature, version, format, endianness, five sizes, kind of numbers
_INT, _SIZE, _NUMBER = 4, 8, 8
_NIL, _BOOLEAN, _NUMBER_TYPE, _STRING = 0, 1, 3, 4

_GET_GLOBAL, _GET_TABLE, _CALL, _TAIL_CALL = 5, 6, 28, 29
_OPCODE = 0x3F
# Instructions whose field A is not the register that they set.
_SET_NOTHING = frozenset((7, 8, 9, 22, 23, 24, 25, 26, 30, 34, 35))


def adapt(dumped: bytes) -> bytes | None:
    """The function to load in place of this one; None for one that must not run."""
    code = bytearray(dumped)
    safe, _ = _read_function(code, _HEADER)
    return bytes(code) if safe else None


def _read_function(data: bytearray, at: int) -> tuple[bool, int]:
    at = _skip_string(data, at) + 2 * _INT  # the source's name, the lines
    parameters, is_vararg = data[at + 1], data[at + 2]
    safe = not is_vararg or parameters <= SAFE_PARAMETERS
    at = _adapt_code(data, at + 4)
    at = _skip_constants(data, at)
    number, at = _int(data, at)
    for _ in range(number):
        inner, at = _read_function(data, at)
        safe = safe and inner
    return safe, _skip_debug(data, at)


def _adapt_code(data: bytearray, at: int) -> int:
    number, start = _int(data, at)
    end = start + _INT * number
    code = [word for (word,) in iter_unpack("<I", data[start:end])]
    for i, word in enumerate(code):
        if word & _OPCODE == _TAIL_CALL and _calls_global(code, i):
            pack_into("<I", data, start + _INT * i, word & ~_OPCODE | _CALL)
    return end


def _calls_global(code: list[int], i: int) -> bool:
    """Whether what instruction i calls comes from a global, or a field of one."""
    register = _a(code[i])
    i = _setter(code, i, register)
    if i >= 0 and code[i] & _OPCODE == _GET_TABLE and code[i] >> 23 == register:
        i = _setter(code, i, register)
    return i >= 0 and code[i] & _OPCODE == _GET_GLOBAL


def _setter(code: list[int], i: int, register: int) -> int:
    """The last instruction before i that sets a register; -1 if there is none."""
    i -= 1
    while i >= 0 and (_a(code[i]) != register or code[i] & _OPCODE in _SET_NOTHING):
        i -= 1
    return i


def _a(instruction: int) -> int:
    return instruction >> 6 & 0xFF


def _skip_constants(data: bytearray, at: int) -> int:
    number, at = _int(data, at)
    for _ in range(number):
        kind = data[at]
        at += 1
        if kind == _BOOLEAN:
            at += 1
        elif kind == _NUMBER_TYPE:
            at += _NUMBER
        elif kind == _STRING:
            at = _skip_string(data, at)
        elif kind != _NIL:
            raise ValueError(f"constant of unknown type {kind}")
    return at


def _skip_debug(data: bytearray, at: int) -> int:
    """Lines, names of locals with their ranges, names of upvalues."""
    number, at = _int(data, at)
    at += _INT * number
    number, at = _int(data, at)
    for _ in range(number):
        at = _skip_string(data, at) + 2 * _INT
    number, at = _int(data, at)
    for _ in range(number):
        at = _skip_string(data, at)
    return at


def _skip_string(data: bytearray, at: int) -> int:
    (size,) = unpack_from("<Q", data, at)
    return at + _SIZE + size


def _int(data: bytearray, at: int) -> tuple[int, int]:
    return unpack_from("<i", data, at)[0], at + _INT
