"""ZUNION ZUNIONSTORE ZINTER ZINTERSTORE ZINTERCARD ZDIFF ZDIFFSTORE: sorted sets and plain ones,
whose members have a score of 1.
"""

from collections.abc import Callable
from typing import Any

import attrs

from node.command import DENYOOM, READONLY, WRITE, Keys, command
from node.commands.arguments import count, floating, integer
from node.commands.zset import scored
from node.commands.zset_ranges import store
from node.data.keyspace import Database
from node.data.set import Set
from node.data.zset import AGGREGATES, Source, ZSet, difference, intersection, union
from node.replies import SYNTAX, WRONG_TYPE, ReplyError
from node.session import Session

_WEIGHT = ReplyError(b"ERR weight value is not a float")
_LIMIT = ReplyError(b"ERR LIMIT can't be negative")
_STORE = (Keys("OW UPDATE"), Keys("RO ACCESS", first=2, count_at=0, skip=1))


@attrs.define
class Options:
    """What follows the keys."""

    weights: tuple[float, ...] = ()
    aggregate: str = "SUM"
    with_scores: bool = False
    limit: int = 0


def _sources(db: Database, args: list[bytes], at: int) -> tuple[list[Source], int]:
    """The sets whose number is args[at], and the place after their keys; raises ReplyError."""
    number = integer(args[at])
    if number < 1:
        raise ReplyError(b"ERR at least 1 input key is needed for '%b' command" % args[0].lower())
    end = at + 1 + number
    if end > len(args):
        raise SYNTAX
    return [_source(db, key) for key in args[at + 1 : end]], end


def _source(db: Database, key: bytes) -> Source:
    value = db.read(key)
    if value is not None and type(value) is not ZSet and type(value) is not Set:
        raise WRONG_TYPE
    return value


def _options(args: list[bytes], i: int, number: int, known: tuple[bytes, ...]) -> Options:
    """The options from args[i] on, of which the command knows some; raises ReplyError."""
    options = Options()
    while i < len(args):
        word, rest = args[i].upper(), len(args) - i - 1
        if word not in known:
            raise SYNTAX
        if word == b"WEIGHTS" and rest >= number:
            options.weights = tuple(floating(arg, _WEIGHT) for arg in args[i + 1 : i + 1 + number])
            i += number
        elif word == b"AGGREGATE" and rest >= 1:
            options.aggregate = _aggregate(args[i + 1])
            i += 1
        elif word == b"LIMIT" and rest >= 1:
            options.limit = count(args[i + 1], _LIMIT)
            i += 1
        elif word == b"WITHSCORES":
            options.with_scores = True
        else:
            raise SYNTAX
        i += 1
    return options


def _aggregate(arg: bytes) -> str:
    word = arg.upper().decode("latin-1")
    if word not in AGGREGATES:
        raise SYNTAX
    return word


_Combine = Callable[[list[Source], Options], dict[bytes, float]]


def _union(sources: list[Source], options: Options) -> dict[bytes, float]:
    return union(sources, options.weights, options.aggregate)


def _intersection(sources: list[Source], options: Options) -> dict[bytes, float]:
    return intersection(sources, options.weights, options.aggregate)


def _difference(sources: list[Source], options: Options) -> dict[bytes, float]:
    return difference(sources)


def _read(
    session: Session, args: list[bytes], combine: _Combine, known: tuple[bytes, ...]
) -> list[Any]:
    sources, i = _sources(session.db, args, 1)
    options = _options(args, i, len(sources), (*known, b"WITHSCORES"))
    scores = combine(sources, options)
    found = sorted(zip(scores.values(), scores, strict=True))
    return scored(session, found) if options.with_scores else [member for _, member in found]


def _store(
    session: Session,
    args: list[bytes],
    combine: _Combine,
    known: tuple[bytes, ...],
    event: bytes,
) -> int:
    sources, i = _sources(session.db, args, 2)
    options = _options(args, i, len(sources), known)
    result = ZSet(session.node.keyspace.limits, combine(sources, options))
    return store(session, args[1], result, event)


_WEIGHED = (b"WEIGHTS", b"AGGREGATE")


@command(
    "ZUNION numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] "
    "[WITHSCORES]",
    flags=READONLY,
    group="sorted-set",
    since="6.2.0",
    complexity="O(N)+O(M*log(M)) for N members in all sets and M in the result",
)
def zunion(session: Session, args: list[bytes]) -> list[Any]:
    """The members that are in any of several sorted sets, with aggregated scores."""
    return _read(session, args, _union, _WEIGHED)


@command(
    "ZUNIONSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] "
    "[AGGREGATE <SUM | MIN | MAX>]",
    flags=WRITE | DENYOOM,
    group="sorted-set",
    since="2.0.0",
    keys=_STORE,
    complexity="O(N)+O(M*log(M)) for N members in all sets and M in the result",
)
def zunionstore(session: Session, args: list[bytes]) -> int:
    """Store the members that are in any of several sorted sets."""
    return _store(session, args, _union, _WEIGHED, b"zunionstore")


@command(
    "ZINTER numkeys key [key ...] [WEIGHTS weight [weight ...]] [AGGREGATE <SUM | MIN | MAX>] "
    "[WITHSCORES]",
    flags=READONLY,
    group="sorted-set",
    since="6.2.0",
    complexity="O(N*K)+O(M*log(M)) for K sets of which the smallest has N members, M in the result",
)
def zinter(session: Session, args: list[bytes]) -> list[Any]:
    """The members that are in all of several sorted sets, with aggregated scores."""
    return _read(session, args, _intersection, _WEIGHED)


@command(
    "ZINTERSTORE destination numkeys key [key ...] [WEIGHTS weight [weight ...]] "
    "[AGGREGATE <SUM | MIN | MAX>]",
    flags=WRITE | DENYOOM,
    group="sorted-set",
    since="2.0.0",
    keys=_STORE,
    complexity="O(N*K)+O(M*log(M)) for K sets of which the smallest has N members, M in the result",
)
def zinterstore(session: Session, args: list[bytes]) -> int:
    """Store the members that are in all of several sorted sets."""
    return _store(session, args, _intersection, _WEIGHED, b"zinterstore")


@command(
    "ZINTERCARD numkeys key [key ...] [LIMIT limit]",
    flags=READONLY,
    group="sorted-set",
    since="7.0.0",
    complexity="O(N*K) for K sets of which the smallest has N members",
)
def zintercard(session: Session, args: list[bytes]) -> int:
    """The number of members that are in all of several sorted sets."""
    sources, i = _sources(session.db, args, 1)
    options = _options(args, i, len(sources), (b"LIMIT",))
    return len(intersection(sources, limit=options.limit))


@command(
    "ZDIFF numkeys key [key ...] [WITHSCORES]",
    flags=READONLY,
    group="sorted-set",
    since="6.2.0",
    complexity="O(L + (N-K)log(N)) for L members in all sets, N in the first, K in the result",
)
def zdiff(session: Session, args: list[bytes]) -> list[Any]:
    """The members of the first of several sorted sets that no other has."""
    return _read(session, args, _difference, ())


@command(
    "ZDIFFSTORE destination numkeys key [key ...]",
    flags=WRITE | DENYOOM,
    group="sorted-set",
    since="6.2.0",
    keys=_STORE,
    complexity="O(L + (N-K)log(N)) for L members in all sets, N in the first, K in the result",
)
def zdiffstore(session: Session, args: list[bytes]) -> int:
    """Store the members of the first of several sorted sets that no other has."""
    return _store(session, args, _difference, (), b"zdiffstore")
