"""What commands answer, as Lua values.

As Redis converts them: in RESP2, the default, a status is {ok=...}, an error {err=...}, null is
false; after redis.setresp(3) null is nil, and maps, sets, doubles, big numbers and verbatim strings
are tables {map=...}, {set=...}, {double=...}, {big_number=...}, {verbatim_string=...}.

https://valkey.io/topics/lua-api/#data-type-conversion
"""

from typing import TYPE_CHECKING, Any

from node.data.number import format_double
from node.replies import (
    NO_REPLY,
    NULL_ARRAY,
    BigNumber,
    Decimal,
    Members,
    Pairs,
    Push,
    ReplyError,
    Status,
    Verbatim,
)
from node.scripting.marks import ERROR, OUT_OF_MEMORY, STATUS

if TYPE_CHECKING:
    from node.scripting.interpreter import Interpreter

NO_ROOM = (False, OUT_OF_MEMORY)


class Converter:
    """Makes Lua values in one interpreter."""

    def __init__(self, interpreter: "Interpreter") -> None:
        self.interpreter = interpreter
        self.table = interpreter.lua.table_from

    def answer(self, value: Any, resp: int) -> Any:
        """What redis.call is given: a value, or (value, mark)."""
        kind = type(value)
        if kind is int:
            return value
        if kind is bytes:
            return value if self.interpreter.has_room(len(value)) else NO_ROOM
        if value is None:
            return False if resp == 2 else None
        if kind is Status:
            return value.text, STATUS
        if kind is ReplyError:
            return value.text, ERROR
        if not self.interpreter.has_room(_weight(value)):
            return NO_ROOM
        return self.value(value, resp)

    def value(self, value: Any, resp: int) -> Any:
        """A reply, or a part of one, as lupa takes it."""
        kind = type(value)
        if kind is bytes or kind is int:
            return value
        if value is None or value is NULL_ARRAY or value is NO_REPLY:
            return False if resp == 2 else None
        if kind is list or kind is Push:
            return self._list(value, resp)
        if kind is Status:
            return self.table({b"ok": value.text})
        if kind is ReplyError:
            return self.table({b"err": value.text, b"ignore_error_stats_update": True})
        if kind is bool:
            return value if resp == 3 else int(value)
        if kind is float:
            return self.table({b"double": value}) if resp == 3 else format_double(value)
        if kind is bytearray:
            return bytes(value)
        return self._rare(kind, value, resp)

    def _list(self, items: list[Any], resp: int) -> Any:
        convert = self.value
        return self.table(
            [
                item if type(item) is bytes or type(item) is int else convert(item, resp)
                for item in items
            ]
        )

    def _rare(self, kind: type, value: Any, resp: int) -> Any:
        if kind is Members or kind is set or kind is frozenset:
            if resp == 2:
                return self._list(list(value), resp)
            return self.table(
                {b"set": self.table({self.value(member, resp): True for member in value})}
            )
        if kind is dict or kind is Pairs:
            return self._map(list(value.items() if kind is dict else value), resp)
        if kind is Verbatim:
            if resp == 2:
                return value.text
            inner = self.table({b"string": value.text, b"format": value.kind})
            return self.table({b"verbatim_string": inner})
        if kind is Decimal:
            return self.table({b"double": float(value.text)}) if resp == 3 else value.text
        if kind is BigNumber:
            digits = b"%d" % value.value
            return self.table({b"big_number": digits}) if resp == 3 else digits
        return self._list(list(value), resp)

    def _map(self, pairs: list[tuple[Any, Any]], resp: int) -> Any:
        if resp == 2:
            return self._list([part for pair in pairs for part in pair], resp)
        table = {self.value(name, resp): self.value(value, resp) for name, value in pairs}
        return self.table({b"map": self.table(table)})


def _weight(value: Any) -> int:
    """About how many bytes a reply takes as Lua values."""
    kind = type(value)
    if kind is bytes:
        return 64 + len(value)
    if kind is dict:
        return 128 + sum(_weight(part) for pair in value.items() for part in pair)
    if isinstance(value, list | tuple | set | frozenset):
        return 128 + sum(map(_weight, value))
    return 128 + len(value.text) if kind is Verbatim else 64
