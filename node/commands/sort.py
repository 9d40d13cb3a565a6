"""SORT SORT_RO."""

from collections.abc import Sequence
from typing import Any

import attrs

from node.command import DENYOOM, READONLY, WRITE, Keys, command
from node.commands.arguments import floating, integer
from node.data.hash import Hash
from node.data.keyspace import GENERIC, LIST, Database
from node.data.list import List
from node.data.set import Set
from node.data.string import text
from node.data.zset import ZSet
from node.replies import SYNTAX, WRONG_TYPE, ReplyError
from node.session import Session

_NOT_DOUBLE = ReplyError(b"ERR One or more scores can't be converted into double")
_NO_PERMISSION = b"ERR %b option of SORT denied due to insufficient ACL permissions."
_DENIED = (
    b"ERR %b option of SORT denied in Cluster mode when keys formed by the pattern may be in "
    b"different slots."
)
_OPTIONS = (
    "[BY by-pattern] [LIMIT offset count] [GET get-pattern [GET get-pattern ...]] "
    "[ASC | DESC] [ALPHA]"
)
_COMPLEXITY = "O(N+M*log(M)) for N elements, of which M are sorted"
_BY_GET = (
    "For the optional BY/GET keyword. It is marked 'unknown' because the key names derive from "
    "the content of the key we sort"
)
_STORE = (
    "For the optional STORE keyword. It is marked 'unknown' because the keyword can appear "
    "anywhere in the argument array"
)


@attrs.define
class _Request:
    """What SORT was told. by: None for the elements themselves; see `_Pattern`."""

    descending: bool = False
    alphabetic: bool = False
    offset: int = 0
    count: int = -1
    by: "_Pattern | None" = None
    get: "list[_Pattern]" = attrs.field(factory=list)
    store: bytes | None = None

    def keeps_order(self) -> bool:
        """Whether the elements stay in the order that they have."""
        return self.by is not None and not self.by.is_open()

    def cut(self, elements: Sequence[bytes]) -> Sequence[bytes]:
        """The elements that LIMIT lets through."""
        first = max(self.offset, 0)
        return elements[first:] if self.count < 0 else elements[first : first + self.count]


@attrs.frozen
class _Pattern:
    """A pattern of BY or GET: where its star stands an element is put in; `#` is the element.

    field: of a hash, after `->` behind the star; None for a string.
    """

    head: bytes
    tail: bytes | None  # None without a star
    field: bytes | None
    is_element: bool

    @classmethod
    def parse(cls, pattern: bytes) -> "_Pattern":
        head, star, tail = pattern.partition(b"*")
        if not star:
            return cls(head, None, None, pattern == b"#")
        name, _, field = tail.partition(b"->")
        return cls(head, name, field, False) if field else cls(head, tail, None, False)

    def is_open(self) -> bool:
        return self.tail is not None

    def look_up(self, db: Database, element: bytes) -> bytes | None:
        """What the pattern says of an element, None for nothing."""
        if self.is_element:
            return element
        if self.tail is None:
            return None
        value = db.read(self.head + element + self.tail)
        if self.field is not None:
            return value.get(self.field) if type(value) is Hash else None
        return text(value) if isinstance(value, bytes | int | bytearray) else None


def _parse(session: Session, args: list[bytes], may_store: bool) -> _Request:
    request = _Request()
    i = 2
    while i < len(args):
        word = args[i].upper()
        left = len(args) - i - 1
        if word in (b"ASC", b"DESC"):
            request.descending = word == b"DESC"
        elif word == b"ALPHA":
            request.alphabetic = True
        elif word == b"LIMIT" and left >= 2:
            request.offset, request.count = integer(args[i + 1]), integer(args[i + 2])
            i += 2
        elif word == b"STORE" and may_store and left:
            request.store = args[i + 1]
            i += 1
        elif word in (b"BY", b"GET") and left:
            pattern = _pattern(session, args[1], word, args[i + 1])
            if word == b"GET" or pattern.is_open():
                _may_read(session, args, word)
            if word == b"BY":
                request.by = pattern
            else:
                request.get.append(pattern)
            i += 1
        else:
            raise SYNTAX
        i += 1
    return request


def _pattern(session: Session, key: bytes, word: bytes, text: bytes) -> _Pattern:
    """Raises ReplyError where a cluster may keep the keys that it names elsewhere."""
    pattern = _Pattern.parse(text)
    topology = session.node.topology
    if topology.clustered and pattern.is_open() and not _is_fixed(text, topology, key):
        raise ReplyError(_DENIED % word)
    return pattern


def _may_read(session: Session, args: list[bytes], word: bytes) -> None:
    """Raises ReplyError where the client's user may not read whatever a pattern leads to."""
    row = session.node.rows.find(args[0])
    assert row is not None
    if not session.node.acl.may_read_all(session, row, args):
        raise ReplyError(_NO_PERMISSION % word)


def _is_fixed(pattern: bytes, topology: Any, key: bytes) -> bool:
    """Whether all keys of a pattern are in the slot of `key`: by a hash tag without a star."""
    _, brace, rest = pattern.partition(b"{")
    tag, closing, _ = rest.partition(b"}")
    named = brace and closing and tag and b"*" not in pattern[: pattern.index(b"}")]
    return bool(named) and topology.slot_of(pattern) == topology.slot_of(key)


def _elements(value: Any) -> list[bytes]:
    if value is None:
        return []
    if type(value) is List:
        return list(value.items)
    if type(value) is Set:
        return value.members()
    if type(value) is ZSet:
        value.large = True  # a real server needs a skiplist to sort, and clients can see it
        return value.members_by_rank(0, -1)
    raise WRONG_TYPE


def _sorted(db: Database, elements: list[bytes], request: _Request) -> list[bytes]:
    weights = elements
    if request.by is not None:
        weights = [request.by.look_up(db, element) for element in elements]  # type: ignore[misc]
    if request.alphabetic:
        order: list[Any] = [_collated(weight, request) for weight in weights]
    else:
        order = [
            (0.0 if weight is None else floating(weight, _NOT_DOUBLE), element)
            for weight, element in zip(weights, elements, strict=True)
        ]
    places = sorted(range(len(elements)), key=order.__getitem__, reverse=request.descending)
    return [elements[place] for place in places]


def _collated(weight: bytes | None, request: _Request) -> tuple[bool, bytes]:
    """What ALPHA compares. C's collation looks no further than a zero byte; what is stored must
    not depend on it."""
    if weight is None:
        return False, b""
    return True, weight if request.store is not None else weight.partition(b"\0")[0]


def _sort(session: Session, args: list[bytes], may_store: bool) -> list[Any] | int:
    request = _parse(session, args, may_store)
    db = session.db
    value = db.read(args[1])
    elements = _elements(value)
    in_script = not session.id and session.node.scripting.run is not None
    if request.keeps_order() and type(value) is Set and (request.store is not None or in_script):
        # A set's order is its own affair; what is stored must be the same on every replica.
        request.by, request.alphabetic = None, True
    if not request.keeps_order():
        elements = _sorted(db, elements, request)
    elif request.descending:
        elements.reverse()
    result = _results(db, request.cut(elements), request)
    if request.store is None:
        return result
    return _stored(session, request.store, [item or b"" for item in result])


def _results(db: Database, elements: Sequence[bytes], request: _Request) -> list[Any]:
    if not request.get:
        return list(elements)
    return [pattern.look_up(db, element) for element in elements for pattern in request.get]


def _stored(session: Session, target: bytes, items: list[bytes]) -> int:
    db = session.db
    if items:
        db.put(target, List(db.keyspace.limits, items))
        db.touch(target, b"sortstore", LIST)
    elif db.remove(target) is not None:
        db.touch(target, b"del", GENERIC)
    return len(items)


def _sort_keys(args: Sequence[bytes]) -> list[int]:
    """The key that is sorted, and the last one after STORE."""
    found = [1]
    i = 2
    while i < len(args) - 1:
        word = args[i].upper()
        if word == b"STORE":
            found[1:] = [i + 1]
        i += {b"LIMIT": 3, b"STORE": 2, b"BY": 2, b"GET": 2}.get(word, 1)
    return found


@command(
    f"SORT key {_OPTIONS} [STORE destination]",
    flags=WRITE | DENYOOM,
    group="generic",
    since="1.0.0",
    categories="-keyspace set sortedset list dangerous",
    keys=(
        Keys("RO ACCESS"),
        Keys("RO ACCESS", 0, notes=_BY_GET),
        Keys("OW UPDATE", 0, notes=_STORE),
    ),
    find_keys=_sort_keys,
    complexity=_COMPLEXITY,
)
def sort(session: Session, args: list[bytes]) -> list[Any] | int:
    """Sort the elements of a list, a set or a sorted set, and return or store them."""
    return _sort(session, args, True)


@command(
    f"SORT_RO key {_OPTIONS}",
    flags=READONLY,
    group="generic",
    since="7.0.0",
    categories="-keyspace set sortedset list dangerous",
    keys=(Keys("RO ACCESS"), Keys("RO ACCESS", 0, notes=_BY_GET)),
    complexity=_COMPLEXITY,
)
def sort_ro(session: Session, args: list[bytes]) -> list[Any] | int:
    """Sort the elements of a list, a set or a sorted set, and return them."""
    return _sort(session, args, False)
