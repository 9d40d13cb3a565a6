"""The Redis serialization protocol: requests in, replies out. RESP2 and RESP3.

Requests are arrays of bulk strings, or inline commands (a line of words). hiredis splits the
common case in C, but it is a parser of *replies*: left alone it accepts arguments that are no bulk
strings, and reserves memory for whatever count a header claims. So a chunk goes to hiredis only
when it starts at the start of a request, claims no more than five digits' worth of arguments and
holds no line of another type that would pass for a request or an argument (`_is_odd`); and what
comes out must be lists of bytes (`_check`). All else (inline commands, odd headers, the unfinished
request at a chunk's end, clients that have not authenticated) goes to `_Strict`, which knows
Redis's limits and error texts.

https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

import re
from typing import Any

import hiredis

from node.data.number import as_integer, format_double
from node.replies import (
    NO_REPLY,
    NULL_ARRAY,
    BigNumber,
    Decimal,
    Encoded,
    Members,
    Pairs,
    Push,
    ReplyError,
    Status,
    Verbatim,
)

INLINE_MAX = 64 * 1024
MULTIBULK_MAX = (1 << 31) - 1
UNAUTHENTICATED_ARGS_MAX = 10
UNAUTHENTICATED_BULK_MAX = 16 * 1024
DEFAULT_BULK_MAX = 512 * 1024 * 1024

_STAR = 0x2A
_NEWLINE = 0x0A
_RETURN = 0x0D
# A `*` that ends a line is an argument, as in XADD and KEYS; as a header hiredis refuses it.
_odd_header = re.compile(rb"\*(?!\r\n|[1-9]\d{0,4}\r\n\$)").search
# What all odd headers are but for `*0` and those of one digit that no bulk follows, which show in
# what hiredis makes of them. Other things are as well, but this is found in half the time.
_no_digit = re.compile(rb"\*.[^\r]", re.DOTALL).search
_join = b"".join
# Comes out of hiredis as a value of its own only where no request is under way. (That its buffer
# is empty says nothing: a request may have been cut right after one of its arguments.)
_END = b":1\r\n"
# What hiredis gives as requests or their arguments, or reserves memory for, though it is neither.
_PLUS, _EQUAL, _TILDE, _BAR, _ANGLE = b"+=~|>"
_other_type = re.compile(rb"\n[+=~|>]").search
_NOTHING = object()
TAIL_TRIES = 8
# Bytes. A request that comes alone and is shorter is looked at for what hiredis doesn't mind: an
# argument that ends in anything else than a line break. Where thousands come at a time that would
# take longer than it is worth: no client writes such things, but those who try.
SHORT = 1024


class ProtocolError(Exception):
    """A request that cannot be understood; the connection ends after this error line."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = b"ERR Protocol error: " + text


class RequestParser:
    """Bytes of one client in, requests out.

    trusted: False bounds arguments to what AUTH and HELLO need.
    bulk_max: proto-max-bulk-len in bytes.
    error: set once the input made no sense; nothing is parsed after that.
    verbatim: the chunk last fed, where its requests are that chunk byte for byte; else None.
    """

    __slots__ = ("_reader", "_strict", "bulk_max", "error", "trusted", "verbatim")

    def __init__(self, trusted: bool = True, bulk_max: int = DEFAULT_BULK_MAX) -> None:
        self.trusted = trusted
        self.bulk_max = bulk_max
        self.error: ProtocolError | None = None
        self.verbatim: bytes | None = None
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        self._strict: _Strict | None = None

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The requests completed by these bytes, in order; `error` tells if more cannot follow."""
        if data[0] != _STAR or self._strict is not None or not self.trusted:
            return self._feed_otherwise(data)
        if _is_odd(data):
            return self._feed_strict(data)
        reader = self._reader
        reader.feed(data)
        try:
            first = reader.gets()
            text = _join(first)  # TypeError for whatever is no list of bytes
            if reader.has_data():
                return self._feed_several(data, first)
            if text and (len(data) >= SHORT or data.count(b"\r\n") == 2 * len(first) + 1):
                self.verbatim = data
                return [first]
        except (hiredis.ProtocolError, TypeError):
            pass
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        return self._feed_strict(data)

    def _feed_several(self, data: bytes, first: list[bytes]) -> list[list[bytes]]:
        """What `feed` does where more than a request has come; raises as hiredis does, and
        TypeError for what is no request."""
        reader = self._reader
        requests = [first, *iter(reader.gets, _NOTHING)]
        _check(requests)
        if reader.has_data() or not self._ends_here():
            return self._split_tail(data, requests)
        self.verbatim = data
        return requests

    def _feed_otherwise(self, data: bytes) -> list[list[bytes]]:
        """What `feed` does with all that hiredis must not see."""
        if self._strict is not None:
            return self._resume(data)
        if data[0] != _STAR and _plain_inline(data):
            self.verbatim = None
            return [words for words in map(bytes.split, data.split(b"\n")) if words]
        return self._feed_strict(data)

    def buffered(self) -> int:
        """Bytes held of a request that is not complete."""
        return 0 if self._strict is None else self._strict.size()

    def unfinished(self) -> int:
        """Bytes fed that belong to no request given yet."""
        return 0 if self._strict is None else self._strict.unfinished()

    def unread(self) -> int:
        """Bytes fed of an argument that is not complete."""
        return 0 if self._strict is None else self._strict.unread()

    def _ends_here(self) -> bool:
        """Whether no request is under way; the reader is of no use any more if one is."""
        self._reader.feed(_END)
        return type(self._reader.gets()) is int

    def _split_tail(self, data: bytes, requests: list[list[bytes]]) -> list[list[bytes]]:
        """Hand the unfinished request at the end of a chunk to the strict parser."""
        self._reader = hiredis.Reader(notEnoughData=_NOTHING)
        end = len(data)
        for _ in range(TAIL_TRIES):  # an argument may look like the beginning of a request
            end = data.rfind(b"\r\n*", 0, end) + 2
            if end < 2:
                break
            if _has_just(data[:end], len(requests)):
                return requests + self._feed_strict(data[end:])
        return self._feed_strict(data)

    def _resume(self, data: bytes) -> list[list[bytes]]:
        """Finish the one request under way, then give the rest of the chunk to `feed`."""
        requests = self._feed_strict(data, one=True)
        if self._strict is not None and requests and self.error is None:
            rest = self._strict.take_rest()
            self._strict = None
            requests += self.feed(rest)
            self.verbatim = None
        return requests

    def _feed_strict(self, data: bytes, one: bool = False) -> list[list[bytes]]:
        self.verbatim = None
        if self.error is not None:
            return []
        strict = self._strict
        if strict is None:
            strict = self._strict = _Strict()
        requests: list[list[bytes]] = []
        try:
            strict.feed(data, requests, self, one)
        except ProtocolError as error:
            self.error = error
        if strict.is_empty():
            self._strict = None
        return requests


def _is_odd(data: bytes) -> bool:
    """Whether hiredis must not see these bytes, which begin with a request: it would reserve memory
    for what they claim to hold, or take other types for requests and arguments."""
    if _no_digit(data) and _odd_header(data):
        return True
    # A number is found, or missed, ten times as fast as bytes are.
    if _PLUS in data or _EQUAL in data or _TILDE in data or _BAR in data or _ANGLE in data:
        return _other_type(data) is not None
    return False


def _check(requests: list[Any]) -> None:
    """TypeError unless what hiredis gave are lists of bytes, in each of them at least one byte."""
    # Maps can be joined as well, and so can an empty bulk.
    if list(map(type, requests)).count(list) != len(requests) or not all(map(_join, requests)):
        raise TypeError


def _has_just(data: bytes, count: int) -> bool:
    """Whether these bytes, the beginning of some that hiredis could read, are so many requests."""
    reader = hiredis.Reader(notEnoughData=_NOTHING)
    reader.feed(data)
    found = sum(1 for _ in iter(reader.gets, _NOTHING))
    if found != count or reader.has_data():
        return False
    reader.feed(_END)
    return type(reader.gets()) is int


def whole_requests(data: bytes) -> list[list[bytes]] | None:
    """The requests that these bytes are, whole and in canonical form, one or more; None if they
    are anything else, or may be."""
    if data[:1] != b"*" or _is_odd(data):
        return None
    reader = hiredis.Reader(notEnoughData=_NOTHING)
    reader.feed(data)
    reader.feed(_END)
    try:
        requests = list(iter(reader.gets, _NOTHING))
        if not requests or requests.pop() != 1:
            return None
        _check(requests)
    except (hiredis.ProtocolError, TypeError):
        return None
    return requests


def count_replies(data: bytes) -> int:
    """How many replies these bytes are."""
    reader = hiredis.Reader(notEnoughData=_NOTHING)
    reader.feed(data)
    return sum(1 for _ in iter(reader.gets, _NOTHING))


def _plain_inline(data: bytes) -> bool:
    """Whole lines of words, without quotes and without a `*` that may open an array."""
    return data[-1] == _NEWLINE and not (
        b"*" in data or b'"' in data or b"'" in data or b"\0" in data
    )


class _Strict:
    """A parser that takes Redis's word for every byte. Used where hiredis must not be."""

    __slots__ = ("_args", "_buffer", "_bulk", "_missing", "_position", "_start")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._position = 0
        self._start = 0  # of the request under way; negative where the buffer begins after it
        self._args: list[bytes] = []
        self._missing = 0  # arguments still to come of the request under way
        self._bulk = -1  # length of the argument under way; -1: its header is still to come

    def is_empty(self) -> bool:
        return not self._buffer and not self._missing

    def size(self) -> int:
        return len(self._buffer) + sum(map(len, self._args))

    def unfinished(self) -> int:
        return len(self._buffer) - self._start

    def unread(self) -> int:
        return len(self._buffer) - self._position

    def take_rest(self) -> bytes:
        """The bytes not looked at yet; only between requests."""
        return bytes(self._buffer)

    def feed(
        self, data: bytes, requests: list[list[bytes]], limits: RequestParser, one: bool
    ) -> None:
        """Append complete requests (or only `one`) to `requests`; raises ProtocolError."""
        self._buffer += data
        while self._step(requests, limits) and not (one and requests):
            pass
        if self._position:
            del self._buffer[: self._position]
            self._start -= self._position
            self._position = 0

    def _step(self, requests: list[list[bytes]], limits: RequestParser) -> bool:
        """Go one header, argument or inline request further; False when bytes are missing."""
        if self._missing:
            return self._argument(requests, limits)
        if self._position >= len(self._buffer):
            return False
        if self._buffer[self._position] == _STAR:
            return self._header(limits)
        return self._inline(requests)

    def _line(self, too_long: bytes) -> bytes | None:
        end = self._buffer.find(b"\r", self._position)
        if end < 0:
            if len(self._buffer) - self._position > INLINE_MAX:
                raise ProtocolError(too_long)
            return None
        if end + 1 >= len(self._buffer):
            return None
        if self._buffer[end + 1] != _NEWLINE:
            raise ProtocolError(b"invalid CRLF in request")
        line = bytes(self._buffer[self._position : end])
        self._position = end + 2
        return line

    def _header(self, limits: RequestParser) -> bool:
        line = self._line(b"too big mbulk count string")
        if line is None:
            return False
        count = _header_number(line)
        if count is None or count > MULTIBULK_MAX:
            raise ProtocolError(b"invalid multibulk length")
        if count > UNAUTHENTICATED_ARGS_MAX and not limits.trusted:
            raise ProtocolError(b"unauthenticated multibulk length")
        self._missing = max(count, 0)
        if not self._missing:
            self._start = self._position
        return True

    def _argument(self, requests: list[list[bytes]], limits: RequestParser) -> bool:
        if self._bulk < 0:
            line = self._line(b"too big bulk count string")
            if line is None:
                return False
            self._bulk = _bulk_length(line, limits)
        end = self._position + self._bulk
        if len(self._buffer) < end + 2:
            return False
        if self._buffer[end : end + 2] != b"\r\n":
            raise ProtocolError(b"invalid CRLF in request")
        self._args.append(bytes(self._buffer[self._position : end]))
        self._position = end + 2
        self._bulk = -1
        self._missing -= 1
        if not self._missing:
            requests.append(self._args)
            self._args = []
            self._start = self._position
        return True

    def _inline(self, requests: list[list[bytes]]) -> bool:
        end = self._buffer.find(b"\n", self._position)
        if end < 0:
            if len(self._buffer) - self._position > INLINE_MAX:
                raise ProtocolError(b"too big inline request")
            return False
        line = bytes(self._buffer[self._position : end])
        self._position = end + 1
        words = split_words(line.removesuffix(b"\r"))
        if words is None:
            raise ProtocolError(b"unbalanced quotes in request")
        if words:
            requests.append(words)
        self._start = self._position
        return True


def _header_number(line: bytes) -> int | None:
    return as_integer(line[1:])


def _bulk_length(line: bytes, limits: RequestParser) -> int:
    if line[:1] != b"$":
        got = line[:1] or b"\r"
        raise ProtocolError(b"expected '$', got '%b'" % got)
    length = _header_number(line)
    if length is None or length < 0 or length > limits.bulk_max:
        raise ProtocolError(b"invalid bulk length")
    if length > UNAUTHENTICATED_BULK_MAX and not limits.trusted:
        raise ProtocolError(b"unauthenticated bulk length")
    return length


_ESCAPES = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"a": b"\a"}
_word = re.compile(
    rb"""[\s\0]* (?: "(?P<double>(?:\\.|[^"\\])*)"
               | '(?P<single>(?:\\'|[^'])*)'
               | (?P<plain>[^\s\0"']+) )""",
    re.VERBOSE | re.DOTALL,
)
_escape = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)", re.DOTALL)


def split_words(line: bytes) -> list[bytes] | None:
    """Words of an inline command or a configuration line, with Redis's quoting rules.

    Double quotes know \\n \\r \\t \\b \\a \\xHH, single quotes know \\'. None: unbalanced quotes.
    """
    if b'"' not in line and b"'" not in line:
        return line.replace(b"\0", b" ").split()
    words: list[bytes] = []
    glue = False
    position = 0
    line = line.rstrip(b" \t\r\n\v\f\0")
    while position < len(line):
        match = _word.match(line, position)
        if match is None:
            return None
        word = _unquote(match)
        start = match.start(match.lastgroup or 0) - (match.lastgroup != "plain")
        # Text that touches the word before belongs to it: ab"c d" is one word.
        glue = bool(words) and start == position and position > 0
        if glue:
            words[-1] += word
        else:
            words.append(word)
        position = match.end()
    return words


def _unquote(match: re.Match[bytes]) -> bytes:
    if match.lastgroup == "double":
        return _escape.sub(_unescape, match["double"])
    if match.lastgroup == "single":
        return match["single"].replace(b"\\'", b"'")
    return match["plain"]


def _unescape(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if len(code) == 3:
        return bytes((int(code[1:], 16),))
    return _ESCAPES.get(code, code)


SMALL = 1024  # what is counted in less than this is looked up: formatting takes three times as long
BULK_HEADS = [b"$%d\r\n" % n for n in range(SMALL)]
INTEGERS = [b":%d\r\n" % n for n in range(SMALL)]
_FEW = 4  # so many bulk strings are put together one by one
_NEXT_HEADS = [b"\r\n$%d\r\n" % n for n in range(SMALL)]  # with the end of what comes before


def is_canonical(chunk: bytes, requests: list[list[bytes]]) -> bool:
    """Whether the chunk that RequestParser has split into these requests is what they are encoded
    as, with a line break after each argument, too.

    False also where that cannot be told soon, because an argument holds a carriage return.
    """
    lines = len(requests) + 2 * sum(map(len, requests))
    return chunk.count(b"\r\n") == lines and _RETURN not in _join(map(_join, requests))


def encode_request(args: list[bytes]) -> bytes:
    """A request in its canonical form, as the log and replicas get it."""
    return hiredis.pack_command(tuple(args))  # type: ignore[arg-type]


def encode_bulks(items: list[bytes], head: bytes) -> bytes:
    """An array of bulk strings after its header; raises TypeError where an item is no bytes.

    Joining all parts in C beats formatting each item in Python by three to one, and items of one
    length, which have one header, by five to one.
    """
    if len(items) <= _FEW:
        for item in items:
            size = len(item)
            head += (BULK_HEADS[size] if size < SMALL else b"$%d\r\n" % size) + item + b"\r\n"
        return head
    lengths = list(map(len, items))
    first = lengths[0]
    if lengths.count(first) == len(lengths):
        bulk = b"$%d\r\n" % first
        return head + bulk + (b"\r\n" + bulk).join(items) + b"\r\n"
    try:
        heads = [_NEXT_HEADS[length] for length in lengths]
    except IndexError:
        heads = [b"\r\n$%d\r\n" % length for length in lengths]
    parts: list[bytes] = heads * 2
    parts[::2] = heads
    parts[1::2] = items
    parts[0] = head + b"$%d\r\n" % first
    return _join(parts) + b"\r\n"


def encode(value: Any, protocol: int) -> bytes:
    """A reply as bytes; protocol is 2 or 3."""
    return _ENCODERS[type(value)](value, protocol)


def encode_error(error: ReplyError) -> bytes:
    """An error line; line breaks inside become spaces, as the line ends the reply."""
    return b"-%b\r\n" % error.text.replace(b"\r", b" ").replace(b"\n", b" ")


def _encode_none(value: Any, protocol: int) -> bytes:
    return b"_\r\n" if protocol == 3 else b"$-1\r\n"


def _encode_null_array(value: Any, protocol: int) -> bytes:
    return b"_\r\n" if protocol == 3 else b"*-1\r\n"


def _encode_bool(value: bool, protocol: int) -> bytes:
    if protocol == 3:
        return b"#t\r\n" if value else b"#f\r\n"
    return b":1\r\n" if value else b":0\r\n"


def _encode_float(value: float, protocol: int) -> bytes:
    text = format_double(value)
    return b",%b\r\n" % text if protocol == 3 else b"$%d\r\n%b\r\n" % (len(text), text)


def _encode_bytes(value: bytes | bytearray, protocol: int) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(value), bytes(value))


def _encode_items(value: list[Any], protocol: int, head: bytes) -> bytes:
    if not value or type(value[-1]) is bytes:
        try:
            return encode_bulks(value, head)
        except TypeError:  # not all of them bytes
            pass
    return head + _join([_ENCODERS[type(item)](item, protocol) for item in value])


def _encode_list(value: list[Any], protocol: int) -> bytes:
    return _encode_items(value, protocol, b"*%d\r\n" % len(value))


def _encode_members(value: list[Any], protocol: int) -> bytes:
    head = b"~%d\r\n" if protocol == 3 else b"*%d\r\n"
    return _encode_items(value, protocol, head % len(value))


def _encode_push(value: list[Any], protocol: int) -> bytes:
    head = b">%d\r\n" if protocol == 3 else b"*%d\r\n"
    return _encode_items(value, protocol, head % len(value))


def _encode_dict(value: dict[Any, Any], protocol: int) -> bytes:
    flat = [None] * (2 * len(value))
    flat[::2] = value
    flat[1::2] = value.values()
    return _encode_map(flat, protocol)


def _encode_pairs(value: list[tuple[Any, Any]], protocol: int) -> bytes:
    return _encode_map([part for pair in value for part in pair], protocol)


def _encode_map(flat: list[Any], protocol: int) -> bytes:
    if protocol != 3:
        return _encode_list(flat, protocol)
    return _encode_items(flat, protocol, b"%%%d\r\n" % (len(flat) // 2))


def _encode_verbatim(value: Verbatim, protocol: int) -> bytes:
    if protocol == 3:
        return b"=%d\r\n%b:%b\r\n" % (len(value.text) + 4, value.kind, value.text)
    return _encode_bytes(value.text, protocol)


def _encode_big_number(value: BigNumber, protocol: int) -> bytes:
    text = b"%d" % value.value
    return b"(%b\r\n" % text if protocol == 3 else _encode_bytes(text, protocol)


def _encode_decimal(value: Decimal, protocol: int) -> bytes:
    return b",%b\r\n" % value.text if protocol == 3 else _encode_bytes(value.text, protocol)


_ENCODERS: dict[type, Any] = {
    type(None): _encode_none,
    int: lambda value, protocol: b":%d\r\n" % value,
    bytes: _encode_bytes,
    bytearray: _encode_bytes,
    bool: _encode_bool,
    float: _encode_float,
    list: _encode_list,
    tuple: lambda value, protocol: _encode_list(list(value), protocol),
    dict: _encode_dict,
    Status: lambda value, protocol: value.line,
    Members: _encode_members,
    Pairs: _encode_pairs,
    Push: _encode_push,
    Verbatim: _encode_verbatim,
    BigNumber: _encode_big_number,
    Decimal: _encode_decimal,
    Encoded: lambda value, protocol: value.data,
    ReplyError: lambda value, protocol: encode_error(value),
    type(NO_REPLY): lambda value, protocol: b"",
    type(NULL_ARRAY): _encode_null_array,
}
