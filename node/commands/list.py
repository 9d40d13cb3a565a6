"""LPUSH RPUSH LPUSHX RPUSHX LPOP RPOP LMPOP LMOVE RPOPLPUSH LLEN LRANGE LINDEX LPOS LSET LINSERT
LTRIM LREM BLPOP BRPOP BLMPOP BLMOVE BRPOPLPUSH.
"""

from typing import Any

from node.command import BLOCKING, DENYOOM, FAST, READONLY, WRITE, Keys, command
from node.commands.arguments import count, integer, numkeys, signed_count, timeout_ms
from node.data.keyspace import GENERIC, LIST, UNWATCHED, Database
from node.data.list import List, move
from node.replies import (
    INDEX_OUT_OF_RANGE,
    NO_SUCH_KEY,
    NULL_ARRAY,
    OK,
    SYNTAX,
    ReplyError,
    Wait,
    wrong_arity,
)
from node.session import Session

_NUMKEYS = ReplyError(b"ERR numkeys should be greater than 0")
_COUNT = ReplyError(b"ERR count should be greater than 0")
_POP = "RW ACCESS DELETE"
_MOVE = (Keys(_POP), Keys("RW INSERT", first=2))


# --- pushing --------------------------------------------------------------------------------------


@command(
    "LPUSH key element [element ...]",
    flags=WRITE | DENYOOM | FAST,
    group="list",
    since="1.0.0",
    access="RW INSERT",
    complexity="O(N) for N elements",
    history=(("2.4.0", "Accepts multiple `element` arguments."),),
)
def lpush(session: Session, args: list[bytes]) -> int:
    """Prepend elements to a list, which is made if there is none."""
    db, key = session.db, args[1]
    value = db.make(key, List)
    if len(args) == 3:
        value.push_left(args[2])
    else:
        value.extend_left(args[2:])
    db.touch(key, b"lpush", LIST)
    return len(value.items)


@command(
    "RPUSH key element [element ...]",
    flags=WRITE | DENYOOM | FAST,
    group="list",
    since="1.0.0",
    access="RW INSERT",
    complexity="O(N) for N elements",
    history=(("2.4.0", "Accepts multiple `element` arguments."),),
)
def rpush(session: Session, args: list[bytes]) -> int:
    """Append elements to a list, which is made if there is none."""
    db, key = session.db, args[1]
    value = db.make(key, List)
    if len(args) == 3:
        value.push_right(args[2])
    else:
        value.extend_right(args[2:])
    db.touch(key, b"rpush", LIST)
    return len(value.items)


@command(
    "LPUSHX key element [element ...]",
    flags=WRITE | DENYOOM | FAST,
    group="list",
    since="2.2.0",
    access="RW INSERT",
    complexity="O(N) for N elements",
    history=(("4.0.0", "Accepts multiple `element` arguments."),),
)
def lpushx(session: Session, args: list[bytes]) -> int:
    """Prepend elements to a list if there is one."""
    return lpush(session, args) if session.db.find(args[1], List) is not None else 0


@command(
    "RPUSHX key element [element ...]",
    flags=WRITE | DENYOOM | FAST,
    group="list",
    since="2.2.0",
    access="RW INSERT",
    complexity="O(N) for N elements",
    history=(("4.0.0", "Accepts multiple `element` arguments."),),
)
def rpushx(session: Session, args: list[bytes]) -> int:
    """Append elements to a list if there is one."""
    return rpush(session, args) if session.db.find(args[1], List) is not None else 0


# --- popping --------------------------------------------------------------------------------------


@command(
    "LPOP key [count]",
    flags=WRITE | FAST,
    group="list",
    since="1.0.0",
    access=_POP,
    complexity="O(N) for N elements returned",
    history=(("6.2.0", "Added the `count` argument."),),
)
def lpop(session: Session, args: list[bytes]) -> Any:
    """Remove and return elements at the beginning of a list."""
    if len(args) > 2:
        return _pop_many(session, args, True)
    db, key = session.db, args[1]
    value = db.find(key, List)
    if value is None:
        return None
    element = value.pop_left()
    db.touch(key, b"lpop", LIST)
    if not value.items:
        _remove_empty(db, key)
    return element


@command(
    "RPOP key [count]",
    flags=WRITE | FAST,
    group="list",
    since="1.0.0",
    access=_POP,
    complexity="O(N) for N elements returned",
    history=(("6.2.0", "Added the `count` argument."),),
)
def rpop(session: Session, args: list[bytes]) -> Any:
    """Remove and return elements at the end of a list."""
    if len(args) > 2:
        return _pop_many(session, args, False)
    db, key = session.db, args[1]
    value = db.find(key, List)
    if value is None:
        return None
    element = value.pop_right()
    db.touch(key, b"rpop", LIST)
    if not value.items:
        _remove_empty(db, key)
    return element


def _pop_many(session: Session, args: list[bytes], left: bool) -> Any:
    if len(args) > 3:
        raise wrong_arity(args[0].lower())
    most = count(args[2])
    db, key = session.db, args[1]
    value = db.find(key, List)
    if value is None:
        return NULL_ARRAY
    return _take(db, key, value, left, most) if most else []


def _take(db: Database, key: bytes, value: List, left: bool, most: int) -> list[bytes]:
    """Remove up to `most` elements; the key too, if they were the last."""
    taken = value.take_left(most) if left else value.take_right(most)
    db.touch(key, b"lpop" if left else b"rpop", LIST)
    if not value.items:
        _remove_empty(db, key)
    return taken


def _remove_empty(db: Database, key: bytes) -> None:
    db.drop(key)
    db.signal(key, b"del", GENERIC)


@command(
    "LMPOP numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    flags=WRITE,
    group="list",
    since="7.0.0",
    access=_POP,
    complexity="O(N + M) for N keys and M elements returned",
)
def lmpop(session: Session, args: list[bytes]) -> Any:
    """Remove and return elements of the first of several lists that has any."""
    popped = _pop_first(session, *_mpop_options(args, 1))
    return NULL_ARRAY if popped is None else popped


def _mpop_options(args: list[bytes], at: int) -> tuple[list[bytes], bool, int]:
    """The keys, the end to pop from and the count, from the number of keys at args[at] on."""
    keys = numkeys(args, at, _NUMKEYS)
    at += 1 + len(keys)
    if at >= len(args):
        raise SYNTAX
    left = _is_left(args[at])
    rest = args[at + 1 :]
    if not rest:
        return keys, left, 1
    if len(rest) < 2 or rest[0].upper() != b"COUNT":
        raise SYNTAX
    most = count(rest[1], _COUNT, 1)
    if len(rest) > 2:
        raise SYNTAX
    return keys, left, most


def _pop_first(session: Session, keys: list[bytes], left: bool, most: int) -> list[Any] | None:
    """LMPOP's reply for the first key with a list; None where there is none."""
    db = session.db
    for key in keys:
        value = db.find(key, List)
        if value is not None:
            session.effects = [
                [b"LPOP" if left else b"RPOP", key, b"%d" % min(most, len(value.items))]
            ]
            return [key, _take(db, key, value, left, most)]
    return None


def _is_left(word: bytes) -> bool:
    word = word.upper()
    if word not in (b"LEFT", b"RIGHT"):
        raise SYNTAX
    return word == b"LEFT"


# --- moving ---------------------------------------------------------------------------------------


@command(
    "LMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT>",
    flags=WRITE | DENYOOM,
    group="list",
    since="6.2.0",
    keys=_MOVE,
    complexity="O(1)",
)
def lmove(session: Session, args: list[bytes]) -> bytes | None:
    """Take an element off one list and push it on another."""
    return _move(session, args[1], args[2], _is_left(args[3]), _is_left(args[4]))


@command(
    "RPOPLPUSH source destination",
    flags=WRITE | DENYOOM,
    group="list",
    since="1.2.0",
    keys=_MOVE,
    complexity="O(1)",
    deprecated=("6.2.0", "`LMOVE` with the `RIGHT` and `LEFT` arguments"),
)
def rpoplpush(session: Session, args: list[bytes]) -> bytes | None:
    """Take the last element of one list and push it on the left of another."""
    return _move(session, args[1], args[2], False, True)


def _move(
    session: Session, source: bytes, target: bytes, from_left: bool, to_left: bool
) -> bytes | None:
    db = session.db
    taken_from = db.find(source, List)
    if taken_from is None:
        return None
    element = move(taken_from, db.make(target, List), from_left=from_left, to_left=to_left)
    db.touch(target, b"lpush" if to_left else b"rpush", LIST)
    db.signal(source, b"lpop" if from_left else b"rpop", LIST)
    if not taken_from.items:
        _remove_empty(db, source)
    return element


# --- reading --------------------------------------------------------------------------------------


@command("LLEN key", flags=READONLY | FAST, group="list", since="1.0.0", access="RO")
def llen(session: Session, args: list[bytes]) -> int:
    """The length of a list."""
    value = session.db.look(args[1], List)
    return 0 if value is None else len(value.items)


@command("LRANGE key start stop", flags=READONLY, group="list", since="1.0.0", complexity="O(S+N)")
def lrange(session: Session, args: list[bytes]) -> list[bytes]:
    """The elements between two places of a list."""
    start, stop = integer(args[2]), integer(args[3])
    value = session.db.look(args[1], List)
    return [] if value is None else value.range(start, stop)


@command("LINDEX key index", flags=READONLY, group="list", since="1.0.0", complexity="O(N)")
def lindex(session: Session, args: list[bytes]) -> bytes | None:
    """The element at a place of a list."""
    value = session.db.look(args[1], List)
    return None if value is None else value.get(integer(args[2]))


@command(
    "LPOS key element [RANK rank] [COUNT num-matches] [MAXLEN len]",
    flags=READONLY,
    group="list",
    since="6.0.6",
    complexity="O(N)",
)
def lpos(session: Session, args: list[bytes]) -> Any:
    """The places of elements equal to one."""
    rank, most, maxlen = _lpos_options(args)
    value = session.db.look(args[1], List)
    if value is None:
        return None if most is None else []
    if most is not None:
        return value.positions(args[2], rank, most, maxlen)
    found = value.positions(args[2], rank, 1, maxlen)
    return found[0] if found else None


def _lpos_options(args: list[bytes]) -> tuple[int, int | None, int]:
    rank, most, maxlen = 1, None, 0
    for i in range(3, len(args), 2):
        word = args[i].upper()
        if i + 1 == len(args):
            raise SYNTAX
        if word == b"RANK":
            rank = signed_count(args[i + 1])
            if rank == 0:
                raise ReplyError(
                    b"ERR RANK can't be zero: use 1 to start from the first match, 2 from the "
                    b"second ... or use negative to start from the end of the list"
                )
        elif word == b"COUNT":
            most = count(args[i + 1], ReplyError(b"ERR COUNT can't be negative"))
        elif word == b"MAXLEN":
            maxlen = count(args[i + 1], ReplyError(b"ERR MAXLEN can't be negative"))
        else:
            raise SYNTAX
    return rank, most, maxlen


# --- changing -------------------------------------------------------------------------------------


@command("LSET key index element", flags=WRITE | DENYOOM, group="list", since="1.0.0")
def lset(session: Session, args: list[bytes]) -> Any:
    """Replace the element at a place of a list."""
    db, key = session.db, args[1]
    value = db.find(key, List)
    if value is None:
        raise NO_SUCH_KEY
    index = integer(args[2])
    index = (index + (1 << 31) & 0xFFFFFFFF) - (1 << 31)  # a C int in Redis, in this command only
    if not value.set(index, args[3]):
        raise INDEX_OUT_OF_RANGE
    db.touch(key, b"lset", LIST)
    return OK


@command(
    "LINSERT key <BEFORE | AFTER> pivot element",
    flags=WRITE | DENYOOM,
    group="list",
    since="2.2.0",
    access="RW INSERT",
    complexity="O(N) for N elements before the pivot is seen",
)
def linsert(session: Session, args: list[bytes]) -> int:
    """Put an element before or after another one."""
    where = args[2].upper()
    if where not in (b"BEFORE", b"AFTER"):
        raise SYNTAX
    db, key = session.db, args[1]
    value = db.find(key, List)
    if value is None:
        return 0
    if not value.insert(args[3], args[4], after=where == b"AFTER"):
        return -1
    db.touch(key, b"linsert", LIST)
    return len(value.items)


@command(
    "LTRIM key start stop",
    flags=WRITE,
    group="list",
    since="1.0.0",
    access="RW DELETE",
    complexity="O(N) for N elements removed",
)
def ltrim(session: Session, args: list[bytes]) -> Any:
    """Keep only the elements between two places of a list."""
    start, stop = integer(args[2]), integer(args[3])
    db, key = session.db, args[1]
    value = db.find(key, List)
    if value is None:
        return OK
    before = len(value.items)
    value.trim(start, stop)
    if len(value.items) == before:
        db.signal(key, b"ltrim", LIST | UNWATCHED)
        return OK
    db.touch(key, b"ltrim", LIST)
    if not value.items:
        _remove_empty(db, key)
    return OK


@command(
    "LREM key count element",
    flags=WRITE,
    group="list",
    since="1.0.0",
    access="RW DELETE",
    complexity="O(N + M) for M elements removed",
)
def lrem(session: Session, args: list[bytes]) -> int:
    """Remove elements equal to one."""
    most = signed_count(args[2])
    db, key = session.db, args[1]
    value = db.find(key, List)
    removed = 0 if value is None else value.remove(args[3], most)
    if removed:
        db.touch(key, b"lrem", LIST)
        if not value:
            _remove_empty(db, key)
    return removed


# --- blocking -------------------------------------------------------------------------------------


def _wait(session: Session, keys: list[bytes], deadline_ms: int | None) -> Wait:
    db = session.db.index
    return Wait(None, deadline_ms, NULL_ARRAY, tuple((db, key) for key in keys), List)


@command(
    "BLPOP key [key ...] timeout",
    flags=WRITE | BLOCKING,
    group="list",
    since="2.0.0",
    access=_POP,
    complexity="O(N) for N keys",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
)
def blpop(session: Session, args: list[bytes]) -> Any:
    """Remove and return the first element of a list, or wait for one."""
    return _blocking_pop(session, args, True)


@command(
    "BRPOP key [key ...] timeout",
    flags=WRITE | BLOCKING,
    group="list",
    since="2.0.0",
    access=_POP,
    complexity="O(N) for N keys",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
)
def brpop(session: Session, args: list[bytes]) -> Any:
    """Remove and return the last element of a list, or wait for one."""
    return _blocking_pop(session, args, False)


def _blocking_pop(session: Session, args: list[bytes], left: bool) -> Any:
    deadline_ms = timeout_ms(args[-1], session.node.now_ms)
    db, keys = session.db, args[1:-1]
    for key in keys:
        value = db.find(key, List)
        if value is not None:
            session.effects = [[b"LPOP" if left else b"RPOP", key]]
            return [key, _take(db, key, value, left, 1)[0]]
    return _wait(session, keys, deadline_ms)


@command(
    "BLMPOP timeout numkeys key [key ...] <LEFT | RIGHT> [COUNT count]",
    flags=WRITE | BLOCKING,
    group="list",
    since="7.0.0",
    keys=(Keys(_POP, first=2, count_at=0, skip=1),),
    complexity="O(N + M) for N keys and M elements returned",
)
def blmpop(session: Session, args: list[bytes]) -> Any:
    """As LMPOP, or wait for an element."""
    keys, left, most = _mpop_options(args, 2)
    deadline_ms = timeout_ms(args[1], session.node.now_ms)
    popped = _pop_first(session, keys, left, most)
    return _wait(session, keys, deadline_ms) if popped is None else popped


@command(
    "BLMOVE source destination <LEFT | RIGHT> <LEFT | RIGHT> timeout",
    flags=WRITE | DENYOOM | BLOCKING,
    group="list",
    since="6.2.0",
    keys=_MOVE,
    complexity="O(1)",
)
def blmove(session: Session, args: list[bytes]) -> Any:
    """As LMOVE, or wait for an element."""
    from_left, to_left = _is_left(args[3]), _is_left(args[4])
    return _blocking_move(session, args, from_left, to_left, [b"LMOVE", *args[1:5]])


@command(
    "BRPOPLPUSH source destination timeout",
    flags=WRITE | DENYOOM | BLOCKING,
    group="list",
    since="2.2.0",
    keys=_MOVE,
    complexity="O(1)",
    history=(("6.0.0", "`timeout` is interpreted as a double instead of an integer."),),
    deprecated=("6.2.0", "`BLMOVE` with the `RIGHT` and `LEFT` arguments"),
)
def brpoplpush(session: Session, args: list[bytes]) -> Any:
    """As RPOPLPUSH, or wait for an element."""
    return _blocking_move(session, args, False, True, [b"RPOPLPUSH", *args[1:3]])


def _blocking_move(
    session: Session, args: list[bytes], from_left: bool, to_left: bool, effect: list[bytes]
) -> Any:
    deadline_ms = timeout_ms(args[-1], session.node.now_ms)
    element = _move(session, args[1], args[2], from_left, to_left)
    if element is None:
        wait = _wait(session, args[1:2], deadline_ms)
        wait.at_once = None
        return wait
    session.effects = [effect]
    return element
