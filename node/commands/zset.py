"""ZADD ZINCRBY ZREM ZCARD ZSCORE ZMSCORE ZRANK ZREVRANK ZRANDMEMBER ZSCAN, and popping: ZPOPMIN
ZPOPMAX ZMPOP BZPOPMIN BZPOPMAX BZMPOP. Ranges are in zset_ranges, unions and their kin in
zset_algebra.
"""

from typing import Any

from node.command import BLOCKING, DENYOOM, FAST, READONLY, WRITE, Keys, command
from node.commands.arguments import (
    count,
    cursor,
    floating,
    numkeys,
    scan_options,
    signed_count,
    timeout_ms,
)
from node.data.keyspace import GENERIC, ZSET, Database
from node.data.number import INT64_MAX, format_double
from node.data.zset import ADDED, GT, INCR, LT, NX, UNCHANGED, XX, NotANumber, Scored, ZSet
from node.replies import (
    NULL_ARRAY,
    OUT_OF_RANGE,
    SYNTAX,
    ReplyError,
    Wait,
    forget_origin,
    wrong_arity,
)
from node.session import Session

_NUMKEYS = ReplyError(b"ERR numkeys should be greater than 0")
_COUNT = ReplyError(b"ERR count should be greater than 0")
_NOT_A_NUMBER = ReplyError(b"ERR resulting score is not a number (NaN)")
_POP = "RW ACCESS DELETE"
_RANDOM = (b"nondeterministic_output",)


# --- replies -------------------------------------------------------------------------------------


def scored(session: Session, found: list[Scored]) -> list[Any]:
    """Members with their scores: pairs in RESP3, a flat array in RESP2."""
    if session.protocol == 3:
        return [[member, score] for score, member in found]
    flat: list[bytes] = []
    for score, member in found:
        flat += (member, format_double(score))
    return flat


def _pairs(found: list[Scored]) -> list[list[Any]]:
    return [[member, score] for score, member in found]


def remove_if_empty(db: Database, key: bytes, value: ZSet) -> None:
    """An empty sorted set is none."""
    if not value.scores:
        db.drop(key)
        db.signal(key, b"del", GENERIC)


# --- scores --------------------------------------------------------------------------------------

_FLAGS = {b"NX": NX, b"XX": XX, b"GT": GT, b"LT": LT, b"INCR": INCR, b"CH": 1 << 8}
_CH = _FLAGS[b"CH"]


@command(
    "ZADD key [NX | XX] [GT | LT] [CH] [INCR] score member [score member ...]",
    flags=WRITE | DENYOOM | FAST,
    group="sorted-set",
    since="1.2.0",
    complexity="O(log(N)) for every member",
    history=(
        ("2.4.0", "Accepts multiple elements."),
        ("3.0.2", "Added the `XX`, `NX`, `CH` and `INCR` options."),
        ("6.2.0", "Added the `GT` and `LT` options."),
    ),
)
def zadd(session: Session, args: list[bytes]) -> Any:
    """Add members to a sorted set, or give them new scores."""
    if len(args) != 4:
        return _zadd_with_options(session, args)
    try:
        score = floating(args[2])
    except ReplyError as error:
        forget_origin(error)
        return _zadd_with_options(session, args)  # which knows whether it may be an option
    db, key = session.db, args[1]
    outcome = db.make(key, ZSet).put(args[3], score)
    if outcome == UNCHANGED:
        return 0
    db.touch(key, b"zadd", ZSET)
    return 1 if outcome == ADDED else 0


def _zadd_with_options(session: Session, args: list[bytes]) -> Any:
    flags, i = 0, 2
    while i < len(args) and (flag := _FLAGS.get(args[i].upper())) is not None:
        flags |= flag
        i += 1
    _check_zadd(flags, len(args) - i)
    added = [(args[j + 1], floating(args[j])) for j in range(i, len(args), 2)]
    return _add(session, args[1], added, flags)


def _check_zadd(flags: int, rest: int) -> None:
    """Refuse combinations of options that make no sense; `rest` arguments follow them."""
    if rest == 0 or rest % 2:
        raise SYNTAX
    if flags & NX and flags & XX:
        raise ReplyError(b"ERR XX and NX options at the same time are not compatible")
    if (flags & GT and flags & (NX | LT)) or (flags & LT and flags & NX):
        raise ReplyError(b"ERR GT, LT, and/or NX options at the same time are not compatible")
    if flags & INCR and rest > 2:
        raise ReplyError(b"ERR INCR option supports a single increment-element pair")


def _add(session: Session, key: bytes, added: list[tuple[bytes, float]], flags: int) -> Any:
    """ZADD's reply; of the last member its score, with INCR."""
    db = session.db
    value = db.find(key, ZSet)
    if value is None:
        if flags & XX:
            return None if flags & INCR else 0
        value = db.make(key, ZSet)
    value.expect(len(added), max(len(member) for member, _ in added))
    news = changes = 0
    final: float | None = None
    try:
        for member, score in added:
            outcome, final = value.add(member, score, flags)
            news += outcome == ADDED
            changes += outcome != UNCHANGED
    except NotANumber:
        raise _NOT_A_NUMBER from None
    if changes:
        db.touch(key, b"zincr" if flags & INCR else b"zadd", ZSET)
    if flags & INCR:
        return final
    return changes if flags & _CH else news


@command(
    "ZINCRBY key increment member",
    flags=WRITE | DENYOOM | FAST,
    group="sorted-set",
    since="1.2.0",
    access="RW ACCESS UPDATE",
    complexity="O(log(N))",
)
def zincrby(session: Session, args: list[bytes]) -> float:
    """Add to the score of a member; one that is not there counts as 0."""
    if args[2].upper() in _FLAGS:
        raise SYNTAX
    score: float = _add(session, args[1], [(args[3], floating(args[2]))], INCR)
    return score


@command(
    "ZREM key member [member ...]",
    flags=WRITE | FAST,
    group="sorted-set",
    since="1.2.0",
    access="RW DELETE",
    complexity="O(M*log(N)) for M members",
    history=(("2.4.0", "Accepts multiple elements."),),
)
def zrem(session: Session, args: list[bytes]) -> int:
    """Remove members from a sorted set."""
    db, key = session.db, args[1]
    value = db.find(key, ZSet)
    removed = 0 if value is None else sum(map(value.remove, args[2:]))
    if value is not None and removed:
        db.touch(key, b"zrem", ZSET)
        remove_if_empty(db, key, value)
    return removed


@command("ZCARD key", flags=READONLY | FAST, group="sorted-set", since="1.2.0", access="RO")
def zcard(session: Session, args: list[bytes]) -> int:
    """The number of members of a sorted set."""
    value = session.db.look(args[1], ZSet)
    return 0 if value is None else len(value.scores)


@command(
    "ZSCORE key member",
    flags=READONLY | FAST,
    group="sorted-set",
    since="1.2.0",
    complexity="O(1)",
)
def zscore(session: Session, args: list[bytes]) -> float | None:
    """The score of a member."""
    value = session.db.look(args[1], ZSet)
    return None if value is None else value.scores.get(args[2])


@command(
    "ZMSCORE key member [member ...]",
    flags=READONLY | FAST,
    group="sorted-set",
    since="6.2.0",
    complexity="O(N) for N members",
)
def zmscore(session: Session, args: list[bytes]) -> list[float | None]:
    """The scores of several members."""
    value = session.db.look(args[1], ZSet)
    return [None if value is None else value.scores.get(member) for member in args[2:]]


# --- places --------------------------------------------------------------------------------------


@command(
    "ZRANK key member [WITHSCORE]",
    flags=READONLY | FAST,
    group="sorted-set",
    since="2.0.0",
    complexity="O(log(N))",
    history=(("7.2.0", "Added the optional `WITHSCORE` argument."),),
)
def zrank(session: Session, args: list[bytes]) -> Any:
    """The place of a member, counted from the lowest score."""
    return _rank(session, args, False)


@command(
    "ZREVRANK key member [WITHSCORE]",
    flags=READONLY | FAST,
    group="sorted-set",
    since="2.0.0",
    complexity="O(log(N))",
    history=(("7.2.0", "Added the optional `WITHSCORE` argument."),),
)
def zrevrank(session: Session, args: list[bytes]) -> Any:
    """The place of a member, counted from the highest score."""
    return _rank(session, args, True)


def _rank(session: Session, args: list[bytes], reverse: bool) -> Any:
    if len(args) > 4:
        raise wrong_arity(args[0].lower())
    with_score = len(args) == 4
    if with_score and args[3].upper() != b"WITHSCORE":
        raise SYNTAX
    value = session.db.look(args[1], ZSet)
    place = None if value is None else value.rank(args[2], reverse=reverse)
    if value is None or place is None:
        return NULL_ARRAY if with_score else None
    return [place, value.scores[args[2]]] if with_score else place


@command(
    "ZRANDMEMBER key [count [WITHSCORES]]",
    flags=READONLY,
    group="sorted-set",
    since="6.2.0",
    complexity="O(N) for N members returned",
    tips=_RANDOM,
)
def zrandmember(session: Session, args: list[bytes]) -> Any:
    """Random members of a sorted set; with a negative count some may come more than once."""
    most, with_scores = random_options(args, b"WITHSCORES")
    value = session.db.look(args[1], ZSet)
    if value is None:
        return None if most is None else []
    if most is None:
        return value.draw(1, session.node.random)[0]
    members = value.draw(most, session.node.random)
    if with_scores:
        return scored(session, [(value.scores[member], member) for member in members])
    return members


def random_options(args: list[bytes], flag: bytes) -> tuple[int | None, bool]:
    """The count and flag of ZRANDMEMBER and HRANDFIELD; raises ReplyError."""
    if len(args) == 2:
        return None, False
    most = signed_count(args[2])
    if len(args) > 4 or (len(args) == 4 and args[3].upper() != flag):
        raise SYNTAX
    if len(args) == 4 and abs(most) > INT64_MAX // 2:
        raise OUT_OF_RANGE
    return most, len(args) == 4


@command(
    "ZSCAN key cursor [MATCH pattern] [COUNT count] [NOSCORES]",
    flags=READONLY,
    group="sorted-set",
    since="2.8.0",
    complexity="O(1) for every call, O(N) for a complete iteration",
    history=(("8.0.0", "Added noscores option."),),
    tips=_RANDOM,
)
def zscan(session: Session, args: list[bytes]) -> list[Any]:
    """Some members of a sorted set with their scores, and where to go on."""
    start = cursor(args[2])
    value = session.db.look(args[1], ZSet)
    if value is None:
        return [b"0", []]
    test, most, no_scores = scan_options(args, b"NOSCORES")
    following, found = value.scan(start, most)
    if test is not None:
        found = [entry for entry in found if test(entry[1])]
    if no_scores:
        return [b"%d" % following, [member for _, member in found]]
    # A listpack keeps a score as text; others are written with as many digits as may matter.
    shown = (lambda score: b"%.17g" % score) if value.large else format_double
    return [b"%d" % following, [part for s, member in found for part in (member, shown(s))]]


# --- popping -------------------------------------------------------------------------------------


@command(
    "ZPOPMIN key [count]",
    flags=WRITE | FAST,
    group="sorted-set",
    since="5.0.0",
    access=_POP,
    complexity="O(log(N)*M) for M members popped",
)
def zpopmin(session: Session, args: list[bytes]) -> list[Any]:
    """Remove and return the members with the lowest scores."""
    return _pop(session, args, True)


@command(
    "ZPOPMAX key [count]",
    flags=WRITE | FAST,
    group="sorted-set",
    since="5.0.0",
    access=_POP,
    complexity="O(log(N)*M) for M members popped",
)
def zpopmax(session: Session, args: list[bytes]) -> list[Any]:
    """Remove and return the members with the highest scores."""
    return _pop(session, args, False)


def _pop(session: Session, args: list[bytes], lowest: bool) -> list[Any]:
    db, key = session.db, args[1]
    if len(args) == 2:
        value = db.find(key, ZSet)
        if value is None:
            return []
        score, member = _take(db, key, value, lowest, 1)[0]
        return [member, score]
    if len(args) > 3:
        raise SYNTAX
    most = count(args[2])
    value = db.find(key, ZSet)
    if value is None or not most:
        return []
    return scored(session, _take(db, key, value, lowest, most))


def _take(db: Database, key: bytes, value: ZSet, lowest: bool, most: int) -> list[Scored]:
    taken = value.pop_min(most) if lowest else value.pop_max(most)
    db.touch(key, b"zpopmin" if lowest else b"zpopmax", ZSET)
    if not value.scores:
        remove_if_empty(db, key, value)
    return taken


@command(
    "ZMPOP numkeys key [key ...] <MIN | MAX> [COUNT count]",
    flags=WRITE,
    group="sorted-set",
    since="7.0.0",
    access=_POP,
    complexity="O(K) + O(M*log(N)) for K keys and M members popped",
)
def zmpop(session: Session, args: list[bytes]) -> Any:
    """Remove and return members of the first of several sorted sets that has any."""
    popped = _pop_first(session, *_mpop_options(args, 1))
    return NULL_ARRAY if popped is None else popped


def _mpop_options(args: list[bytes], at: int) -> tuple[list[bytes], bool, int]:
    """The keys, the end to pop from and the count, from the number of keys at args[at] on."""
    keys = numkeys(args, at, _NUMKEYS)
    at += 1 + len(keys)
    where = args[at].upper() if at < len(args) else b""
    if where not in (b"MIN", b"MAX"):
        raise SYNTAX
    rest = args[at + 1 :]
    if not rest:
        return keys, where == b"MIN", 1
    if len(rest) < 2 or rest[0].upper() != b"COUNT":
        raise SYNTAX
    most = count(rest[1], _COUNT, 1)
    if len(rest) > 2:
        raise SYNTAX
    return keys, where == b"MIN", most


def _pop_first(session: Session, keys: list[bytes], lowest: bool, most: int) -> Any:
    """ZMPOP's reply for the first key with a sorted set; None where there is none."""
    db = session.db
    for key in keys:
        value = db.find(key, ZSet)
        if value is not None:
            taken = min(most, len(value.scores))
            session.effects = [[b"ZPOPMIN" if lowest else b"ZPOPMAX", key, b"%d" % taken]]
            return [key, _pairs(_take(db, key, value, lowest, most))]
    return None


def _wait(session: Session, keys: list[bytes], deadline_ms: int | None) -> Wait:
    db = session.db.index
    return Wait(None, deadline_ms, NULL_ARRAY, tuple((db, key) for key in keys), ZSet)


@command(
    "BZPOPMIN key [key ...] timeout",
    flags=WRITE | FAST | BLOCKING,
    group="sorted-set",
    since="5.0.0",
    access=_POP,
    complexity="O(log(N))",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
)
def bzpopmin(session: Session, args: list[bytes]) -> Any:
    """Remove and return the member with the lowest score, or wait for one."""
    return _blocking_pop(session, args, True)


@command(
    "BZPOPMAX key [key ...] timeout",
    flags=WRITE | FAST | BLOCKING,
    group="sorted-set",
    since="5.0.0",
    access=_POP,
    complexity="O(log(N))",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
)
def bzpopmax(session: Session, args: list[bytes]) -> Any:
    """Remove and return the member with the highest score, or wait for one."""
    return _blocking_pop(session, args, False)


def _blocking_pop(session: Session, args: list[bytes], lowest: bool) -> Any:
    deadline_ms = timeout_ms(args[-1], session.node.now_ms)
    db, keys = session.db, args[1:-1]
    for key in keys:
        value = db.find(key, ZSet)
        if value is not None:
            session.effects = [[b"ZPOPMIN" if lowest else b"ZPOPMAX", key]]
            score, member = _take(db, key, value, lowest, 1)[0]
            return [key, member, score]
    return _wait(session, keys, deadline_ms)


@command(
    "BZMPOP timeout numkeys key [key ...] <MIN | MAX> [COUNT count]",
    flags=WRITE | BLOCKING,
    group="sorted-set",
    since="7.0.0",
    keys=(Keys(_POP, first=2, count_at=0, skip=1),),
    complexity="O(K) + O(M*log(N)) for K keys and M members popped",
)
def bzmpop(session: Session, args: list[bytes]) -> Any:
    """As ZMPOP, or wait for a member."""
    keys, lowest, most = _mpop_options(args, 2)
    deadline_ms = timeout_ms(args[1], session.node.now_ms)
    popped = _pop_first(session, keys, lowest, most)
    return _wait(session, keys, deadline_ms) if popped is None else popped
