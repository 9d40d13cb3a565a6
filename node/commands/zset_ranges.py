"""ZRANGE ZREVRANGE ZRANGEBYSCORE ZREVRANGEBYSCORE ZRANGEBYLEX ZREVRANGEBYLEX ZRANGESTORE ZCOUNT
ZLEXCOUNT ZREMRANGEBYRANK ZREMRANGEBYSCORE ZREMRANGEBYLEX.

A range is by places, by scores or by strings; all commands that read one are ZRANGE with part of
its options fixed.
"""

from math import isnan
from typing import Any

import attrs

from node.command import DENYOOM, FAST, READONLY, WRITE, Keys, command
from node.commands.arguments import integer
from node.commands.zset import remove_if_empty, scored
from node.data.keyspace import GENERIC, ZSET
from node.data.zset import LexBound, ScoreBound, Scored, ZSet
from node.replies import SYNTAX, ReplyError
from node.session import Session

_NOT_SCORES = ReplyError(b"ERR min or max is not a float")
_NOT_STRINGS = ReplyError(b"ERR min or max not valid string range item")
RANK, SCORE, LEX = range(3)


# --- bounds --------------------------------------------------------------------------------------


def score_bound(arg: bytes) -> ScoreBound:
    """`1.5`, `(1.5`, `-inf`; raises ReplyError. As strtod reads it: nothing is 0."""
    text = arg[1:] if arg[:1] == b"(" else arg
    text = text.partition(b"\0")[0] or b"0"
    try:
        score = float(text)
    except ValueError:
        raise _NOT_SCORES from None
    if isnan(score) or b"_" in text or text.strip() != text:
        raise _NOT_SCORES
    return score, arg[:1] == b"("


def lex_bounds(low: bytes, high: bytes) -> tuple[LexBound, LexBound] | None:
    """`[a`, `(a`, `-`, `+`; None where nothing can lie between them; raises ReplyError."""
    bounds = _lex_bound(low), _lex_bound(high)
    if low == b"+" or high == b"-":
        return None
    return bounds


def _lex_bound(arg: bytes) -> LexBound:
    if arg[:1] in (b"[", b"("):
        return arg[1:], arg[:1] == b"("
    if arg not in (b"-", b"+"):
        raise _NOT_STRINGS
    return None


@attrs.frozen
class Range:
    """What ZRANGE was asked for, the bounds in the order of its arguments."""

    by: int
    bounds: Any
    reverse: bool
    offset: int
    count: int
    with_scores: bool

    def read(self, value: ZSet) -> list[Scored]:
        """The members in the range."""
        if self.bounds is None:
            return []
        low, high = self.bounds
        if self.by == RANK:
            return value.by_rank(low, high, reverse=self.reverse)
        between = value.by_score if self.by == SCORE else value.by_lex
        return between(low, high, reverse=self.reverse, offset=self.offset, count=self.count)

    def read_members(self, value: ZSet) -> list[bytes]:
        """As `read`, without the scores."""
        if self.by == RANK:
            return value.members_by_rank(*self.bounds, reverse=self.reverse)
        return [member for _, member in self.read(value)]


def _parse(args: list[bytes], by: int | None, reverse: bool | None, store: bool = False) -> Range:
    """The range after the key (of a store: after the second key).

    by, reverse: as the command's name fixes them; None: options may.
    """
    at = 3 if store else 2
    kind, backwards = by, reverse
    offset, most, with_scores = 0, -1, False
    i = at + 2
    while i < len(args):
        word = args[i].upper()
        if word == b"WITHSCORES" and not store:
            with_scores = True
        elif word == b"LIMIT" and i + 2 < len(args):
            offset, most = integer(args[i + 1]), integer(args[i + 2])
            i += 2
        elif word == b"REV" and reverse is None:
            backwards = True
        elif word in (b"BYSCORE", b"BYLEX") and kind is None:
            kind = SCORE if word == b"BYSCORE" else LEX
        else:
            raise SYNTAX
        i += 1
    kind = RANK if kind is None else kind
    _check(kind, most, with_scores)
    bounds = _bounds(kind, args[at], args[at + 1], bool(backwards))
    return Range(kind, bounds, bool(backwards), offset, most, with_scores)


def _check(by: int, most: int, with_scores: bool) -> None:
    if most != -1 and by == RANK:
        raise ReplyError(
            b"ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX"
        )
    if with_scores and by == LEX:
        raise ReplyError(b"ERR syntax error, WITHSCORES not supported in combination with BYLEX")


def _bounds(by: int, first: bytes, second: bytes, reverse: bool) -> Any:
    if by == RANK:
        return integer(first), integer(second)
    low, high = (second, first) if reverse else (first, second)
    return (score_bound(low), score_bound(high)) if by == SCORE else lex_bounds(low, high)


# --- reading -------------------------------------------------------------------------------------


def _range(session: Session, args: list[bytes], by: int | None, reverse: bool | None) -> list[Any]:
    asked = _parse(args, by, reverse)
    value = session.db.look(args[1], ZSet)
    if value is None:
        return []
    return scored(session, asked.read(value)) if asked.with_scores else asked.read_members(value)


_READ: dict[str, Any] = {
    "flags": READONLY,
    "group": "sorted-set",
    "complexity": "O(log(N)+M) for M members returned",
}


@command(
    "ZRANGE key start stop [BYSCORE | BYLEX] [REV] [LIMIT offset count] [WITHSCORES]",
    since="1.2.0",
    history=(("6.2.0", "Added the `REV`, `BYSCORE`, `BYLEX` and `LIMIT` options."),),
    **_READ,
)
def zrange(session: Session, args: list[bytes]) -> list[Any]:
    """The members in a range of places, scores or strings."""
    return _range(session, args, None, None)


@command(
    "ZREVRANGE key start stop [WITHSCORES]",
    since="1.2.0",
    deprecated=("6.2.0", "`ZRANGE` with the `REV` argument"),
    **_READ,
)
def zrevrange(session: Session, args: list[bytes]) -> list[Any]:
    """The members in a range of places, highest score first."""
    return _range(session, args, RANK, True)


@command(
    "ZRANGEBYSCORE key min max [WITHSCORES] [LIMIT offset count]",
    since="1.0.5",
    history=(("2.0.0", "Added the `WITHSCORES` modifier."),),
    deprecated=("6.2.0", "`ZRANGE` with the `BYSCORE` argument"),
    **_READ,
)
def zrangebyscore(session: Session, args: list[bytes]) -> list[Any]:
    """The members in a range of scores."""
    return _range(session, args, SCORE, False)


@command(
    "ZREVRANGEBYSCORE key max min [WITHSCORES] [LIMIT offset count]",
    since="2.2.0",
    history=(("2.1.6", "`min` and `max` can be exclusive."),),
    deprecated=("6.2.0", "`ZRANGE` with the `REV` and `BYSCORE` arguments"),
    **_READ,
)
def zrevrangebyscore(session: Session, args: list[bytes]) -> list[Any]:
    """The members in a range of scores, highest score first."""
    return _range(session, args, SCORE, True)


@command(
    "ZRANGEBYLEX key min max [LIMIT offset count]",
    since="2.8.9",
    deprecated=("6.2.0", "`ZRANGE` with the `BYLEX` argument"),
    **_READ,
)
def zrangebylex(session: Session, args: list[bytes]) -> list[Any]:
    """The members between two strings, of a sorted set with equal scores."""
    return _range(session, args, LEX, False)


@command(
    "ZREVRANGEBYLEX key max min [LIMIT offset count]",
    since="2.8.9",
    deprecated=("6.2.0", "`ZRANGE` with the `REV` and `BYLEX` arguments"),
    **_READ,
)
def zrevrangebylex(session: Session, args: list[bytes]) -> list[Any]:
    """The members between two strings, last first, of a sorted set with equal scores."""
    return _range(session, args, LEX, True)


@command(
    "ZCOUNT key min max",
    flags=READONLY | FAST,
    group="sorted-set",
    since="2.0.0",
    complexity="O(log(N))",
)
def zcount(session: Session, args: list[bytes]) -> int:
    """The number of members in a range of scores."""
    low, high = score_bound(args[2]), score_bound(args[3])
    value = session.db.look(args[1], ZSet)
    return 0 if value is None else value.count_by_score(low, high)


@command(
    "ZLEXCOUNT key min max",
    flags=READONLY | FAST,
    group="sorted-set",
    since="2.8.9",
    complexity="O(log(N))",
)
def zlexcount(session: Session, args: list[bytes]) -> int:
    """The number of members between two strings, of a sorted set with equal scores."""
    bounds = lex_bounds(args[2], args[3])
    value = session.db.look(args[1], ZSet)
    return 0 if value is None or bounds is None else value.count_by_lex(*bounds)


# --- storing and removing ------------------------------------------------------------------------


def store(session: Session, key: bytes, value: ZSet, event: bytes) -> int:
    """Put a sorted set at a key; an empty one is none."""
    db = session.db
    if value.scores:
        db.put(key, value)
        db.touch(key, event, ZSET)
    elif db.remove(key) is not None:
        db.touch(key, b"del", GENERIC)
    return len(value.scores)


@command(
    "ZRANGESTORE dst src min max [BYSCORE | BYLEX] [REV] [LIMIT offset count]",
    flags=WRITE | DENYOOM,
    group="sorted-set",
    since="6.2.0",
    keys=(Keys("OW UPDATE"), Keys("RO ACCESS", first=2)),
    complexity="O(log(N)+M) for M members stored",
)
def zrangestore(session: Session, args: list[bytes]) -> int:
    """Store the members in a range of places, scores or strings."""
    asked = _parse(args, None, None, store=True)
    value = session.db.look(args[2], ZSet)
    found = [] if value is None else asked.read(value)
    result = ZSet(session.node.keyspace.limits)
    result.expect(len(found), 0)
    for score, member in found:  # one by one: the encoding depends on the order
        result.put(member, score)
    return store(session, args[1], result, b"zrangestore")


_REMOVE: dict[str, Any] = {
    "flags": WRITE,
    "group": "sorted-set",
    "access": "RW DELETE",
    "complexity": "O(log(N)+M) for M members removed",
}


def _removed(session: Session, key: bytes, value: ZSet, found: list[Scored], event: bytes) -> int:
    if found:
        session.db.touch(key, event, ZSET)
        remove_if_empty(session.db, key, value)
    return len(found)


@command("ZREMRANGEBYRANK key start stop", since="2.0.0", **_REMOVE)
def zremrangebyrank(session: Session, args: list[bytes]) -> int:
    """Remove the members in a range of places."""
    start, stop = integer(args[2]), integer(args[3])
    value = session.db.find(args[1], ZSet)
    if value is None:
        return 0
    return _removed(session, args[1], value, value.remove_by_rank(start, stop), b"zremrangebyrank")


@command("ZREMRANGEBYSCORE key min max", since="1.2.0", **_REMOVE)
def zremrangebyscore(session: Session, args: list[bytes]) -> int:
    """Remove the members in a range of scores."""
    low, high = score_bound(args[2]), score_bound(args[3])
    value = session.db.find(args[1], ZSet)
    if value is None:
        return 0
    return _removed(session, args[1], value, value.remove_by_score(low, high), b"zremrangebyscore")


@command("ZREMRANGEBYLEX key min max", since="2.8.9", **_REMOVE)
def zremrangebylex(session: Session, args: list[bytes]) -> int:
    """Remove the members between two strings, of a sorted set with equal scores."""
    bounds = lex_bounds(args[2], args[3])
    value = session.db.find(args[1], ZSet)
    if value is None or bounds is None:
        return 0
    return _removed(session, args[1], value, value.remove_by_lex(*bounds), b"zremrangebylex")
