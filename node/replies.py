"""What a command may answer besides None, int, bytes, float, bool, list and dict; and every error
text that more than one command uses.

The texts are Redis's own: clients match on them.
"""

from collections.abc import Callable
from typing import Any

import attrs


class ReplyError(Exception):
    """A command's refusal; `text` is the whole error line without the leading '-'.

    counted: it is another one passed on, which statistics have seen.
    """

    counted = False

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text

    def __repr__(self) -> str:
        return f"ReplyError({self.text!r})"


def forget_origin(error: ReplyError) -> None:
    """Let an error that was raised and caught hold nothing of where it came from.

    The errors shared by commands are raised again and again, and Python would add to the traceback
    of each without end, keeping alive whatever the functions in it had in hand.
    """
    link: BaseException | None = error
    while link is not None:
        link.__traceback__ = None
        context, link.__context__ = link.__context__, None
        link = context


def printed(word: bytes) -> bytes:
    """A client's word within an error: C ends it at the first NUL."""
    return word.partition(b"\0")[0]


class Status:
    """A simple string such as OK. Not bytes: a status inside a list must not pass for a bulk.

    line: its form on the wire, in both protocols.
    """

    __slots__ = ("line", "text")

    def __init__(self, text: bytes) -> None:
        self.text = text
        self.line = b"+%b\r\n" % text

    def __repr__(self) -> str:
        return f"Status({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Status) and other.text == self.text

    def __hash__(self) -> int:
        return hash(self.text)


class Members(list):
    """Distinct elements: a set in RESP3, an array in RESP2."""


class Pairs(list):
    """A list of (key, value): a map in RESP3, a flat array in RESP2. For maps whose keys may
    repeat or cannot be hashed; a dict serves otherwise."""


class Push(list):
    """Out-of-band data: a push in RESP3, an array in RESP2."""


class Verbatim:
    """Text with a three-letter format in RESP3, a bulk string in RESP2."""

    __slots__ = ("kind", "text")

    def __init__(self, text: bytes, kind: bytes = b"txt") -> None:
        self.text = text
        self.kind = kind


class BigNumber:
    """An integer of any size in RESP3, a bulk string in RESP2."""

    __slots__ = ("value",)

    def __init__(self, value: int) -> None:
        self.value = value


class Decimal:
    """The text of a double that is to be shown with these very digits: a double in RESP3, a bulk
    string in RESP2."""

    __slots__ = ("text",)

    def __init__(self, text: bytes) -> None:
        self.text = text


class Encoded:
    """Replies that are on the wire's form already; several of them may be joined here."""

    __slots__ = ("data",)

    def __init__(self, data: bytes) -> None:
        self.data = data


class _NoReply:
    """The command answers nothing, or has answered by itself."""


class _NullArray:
    """RESP2's `*-1`; RESP3 knows one null only."""


PENDING = object()


@attrs.define(eq=False)
class Wait:
    """The command cannot be answered yet.

    A command that waits for keys runs again, as if its client had just sent it, once one of them
    has changed; it gives a reply then, or another Wait, which is taken for "not yet".

    poll: for what waits for anything else: gives the reply once there is one, and PENDING until
    then; it is called on every change of offsets or acknowledgements.
    deadline_ms: on the node's monotonic clock; None waits for ever.
    timeout_reply: what the client gets at the deadline, a value or a function that gives it.
    keys: (db index, key) pairs.
    kind: only a value of this class at a key lets the command run again; None: any change does,
    the key's end too.
    command: what runs again, where that is not what the client sent: XREAD with its `$` resolved.
    held_command: a pause holds the command back; CLIENT UNBLOCK does not end that.
    at_once: what the client gets where it may not wait, in a transaction or a script; PENDING: the
    same as at the deadline.
    """

    poll: Callable[[], Any] | None = None
    deadline_ms: int | None = None
    timeout_reply: Any = None
    keys: tuple[tuple[int, bytes], ...] = ()
    kind: type | None = None
    held_command: bool = False
    command: list[bytes] | None = None
    at_once: Any = PENDING

    def expire(self) -> Any:
        """The reply at the deadline."""
        return self.timeout_reply() if callable(self.timeout_reply) else self.timeout_reply


NO_REPLY = _NoReply()
NULL_ARRAY = _NullArray()
OK = Status(b"OK")
QUEUED = Status(b"QUEUED")
PONG = Status(b"PONG")

WRONG_TYPE = ReplyError(b"WRONGTYPE Operation against a key holding the wrong kind of value")
SYNTAX = ReplyError(b"ERR syntax error")
NOT_INTEGER = ReplyError(b"ERR value is not an integer or out of range")
NOT_FLOAT = ReplyError(b"ERR value is not a valid float")
OUT_OF_RANGE = ReplyError(b"ERR value is out of range")
MUST_BE_POSITIVE = ReplyError(b"ERR value is out of range, must be positive")
INDEX_OUT_OF_RANGE = ReplyError(b"ERR index out of range")
NO_SUCH_KEY = ReplyError(b"ERR no such key")
OVERFLOW = ReplyError(b"ERR increment or decrement would overflow")
NOT_AUTHENTICATED = ReplyError(b"NOAUTH Authentication required.")
UNBLOCKED = ReplyError(
    b"UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)"
)
READ_ONLY_REPLICA = ReplyError(b"READONLY You can't write against a read only replica.")
LOADING = ReplyError(b"LOADING Redis is loading the dataset in memory")
BUSY_KEY = ReplyError(b"BUSYKEY Target key name already exists.")
STRING_TOO_LONG = ReplyError(b"ERR string exceeds maximum allowed size (proto-max-bulk-len)")


def wrong_arity(name: bytes) -> ReplyError:
    """The answer to too few or too many arguments; `name` is as in COMMAND, `config|get`."""
    return ReplyError(b"ERR wrong number of arguments for '%b' command" % name)
