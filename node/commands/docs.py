"""Rows of the command table in the form of COMMAND INFO and COMMAND DOCS.

https://redis.io/docs/latest/commands/command-docs/ and .../command-info/
"""

import re
from collections.abc import Iterable, Sequence
from typing import Any

from node.command import FLAG_NAMES, TABLE, Argument, Group, Keys, Part, Row, Token
from node.replies import Members, Status

Map = dict[bytes, Any]


def all_rows() -> list[Row]:
    """Every command, without subcommands."""
    return list(TABLE.values())


def find(name: bytes) -> Row | None:
    """The row of `get` or of `config|get`, in any case."""
    head, bar, word = name.lower().partition(b"|")
    row = TABLE.get(head)
    if row is None or not bar:
        return row
    return row.subcommands.get(word)


# --- COMMAND INFO ---------------------------------------------------------------------------------


def info(row: Row) -> list[Any]:
    """The ten fields that describe a command to a client."""
    first, last, step = legacy_range(row.keys)
    flags = [Status(name) for bit, name in FLAG_NAMES if row.flags & bit]
    return [
        row.name,
        row.arity,
        Members(flags),
        first,
        last,
        step,
        Members(Status(name) for name in row.categories),
        Members(row.tips),
        Members(key_spec(keys) for keys in row.keys),
        [info(sub) for sub in row.subcommands.values()],
    ]


def legacy_range(specs: Sequence[Keys]) -> tuple[int, int, int]:
    """First key, last key and step, as clients knew keys before there were specifications.

    Specifications that follow each other make one range; what cannot be put this way is left out,
    and (0, 0, 0) means nothing could.
    """
    plain = [keys for keys in specs if not keys.moves()]
    if len(plain) == 1:
        keys = plain[0]
        return keys.first, keys.last if keys.last < 0 else keys.first + keys.last, keys.step
    first = last = 0
    for keys in plain:
        if keys.step != 1 or (last and last != keys.first - 1):
            return 0, 0, 0
        first, last = first or keys.first, keys.last + keys.first * (keys.last >= 0)
    return first, last, 1 if first else 0


def key_spec(keys: Keys) -> Map:
    """One key specification."""
    spec: Map = {b"notes": keys.notes.encode()} if keys.notes else {}
    spec[b"flags"] = Members(Status(word) for word in access_flags(keys.access))
    spec[b"begin_search"] = _begin_search(keys)
    spec[b"find_keys"] = _find_keys(keys)
    return spec


def access_flags(access: str) -> list[bytes]:
    """What a command does with a key: RO, RW, OW and RM stay upper case."""
    return [(word if len(word) == 2 else word.lower()).encode() for word in access.split()]


def _begin_search(keys: Keys) -> Map:
    if keys.is_unknown():
        return {b"type": b"unknown", b"spec": {}}
    if keys.keyword is None:
        return {b"type": b"index", b"spec": {b"index": keys.first}}
    spec = {b"keyword": keys.keyword, b"startfrom": keys.first}
    return {b"type": b"keyword", b"spec": spec}


def _find_keys(keys: Keys) -> Map:
    if keys.is_unknown():
        return {b"type": b"unknown", b"spec": {}}
    if keys.count_at is not None:
        counted = {b"keynumidx": keys.count_at, b"firstkey": keys.skip, b"keystep": keys.step}
        return {b"type": b"keynum", b"spec": counted}
    ranged = {b"lastkey": keys.last, b"keystep": keys.step, b"limit": keys.limit}
    return {b"type": b"range", b"spec": ranged}


# --- COMMAND DOCS ---------------------------------------------------------------------------------


def docs(row: Row) -> Map:
    """What a command is for, since when, and what arguments it takes."""
    answer: Map = {
        b"summary": row.summary.encode(),
        b"since": row.since.encode(),
        b"group": row.group.encode(),
    }
    if row.complexity:
        answer[b"complexity"] = row.complexity.encode()
    if row.deprecated is not None:
        since, instead = row.deprecated
        answer[b"doc_flags"] = Members([Status(b"deprecated")])
        answer[b"deprecated_since"] = since.encode()
        answer[b"replaced_by"] = instead.encode()
    if row.history:
        answer[b"history"] = Members([since.encode(), what.encode()] for since, what in row.history)
    if row.usage.parts:
        answer[b"arguments"] = arguments(row.usage.parts)
    if row.subcommands:
        answer[b"subcommands"] = {sub.name: docs(sub) for sub in row.subcommands.values()}
    return answer


def arguments(parts: Iterable[Part]) -> list[Map]:
    """The arguments of a usage line, or of a part of it."""
    keys = 0
    described = []
    for one in _with_tokens(parts):
        described.append(_sequence(one))
        if described[-1][b"type"] == b"key":
            described[-1][b"key_spec_index"] = keys
            keys += 1
    return described


def _with_tokens(parts: Iterable[Part]) -> list[tuple[Part, ...]]:
    """Parts one by one, but a token together with what it introduces."""
    together: list[tuple[Part, ...]] = []
    for part in parts:
        if together and isinstance(together[-1][-1], Token) and not isinstance(part, Token):
            together[-1] += (part,)
        else:
            together.append((part,))
    return together


def _sequence(parts: tuple[Part, ...], optional: bool = False, multiple: bool = False) -> Map:
    """One argument: a token, a value after a token or without one, or a block of them."""
    if len(parts) == 1 and isinstance(parts[0], Group):
        return _group(parts[0])
    described: Map
    if isinstance(parts[0], Token):
        described = _introduced(parts[0], parts[1:])
    elif len(parts) == 1:
        assert isinstance(parts[0], Argument)
        described = _value(parts[0].name)
    else:
        described = {b"name": b"arguments", b"type": b"block", b"arguments": arguments(parts)}
    return _flagged(described, optional, multiple)


def _introduced(token: Token, rest: tuple[Part, ...]) -> Map:
    name = token.text.lower()
    if not rest:
        return {
            b"name": name,
            b"type": b"pure-token",
            b"display_text": name,
            b"token": token.text,
        }
    if len(rest) > 1:
        described: Map = {b"name": name, b"type": b"block", b"arguments": arguments(rest)}
    else:
        described = _sequence(rest)
    return _ordered({**described, b"token": token.text})


def _group(group: Group) -> Map:
    if len(group.alternatives) == 1:
        described = _flagged(_sequence(group.alternatives[0]), group.optional, group.multiple)
        if group.multiple and isinstance(group.alternatives[0][0], Token):
            described[b"flags"] = Members([*described[b"flags"], Status(b"multiple_token")])
        return described
    choices = [_sequence(body) for body in group.alternatives]
    described = {
        b"name": b"-or-".join(choice[b"name"] for choice in choices[:2]),
        b"type": b"oneof",
        b"arguments": choices,
    }
    return _flagged(described, group.optional, group.multiple)


def _flagged(described: Map, optional: bool, multiple: bool) -> Map:
    flags = list(described.get(b"flags", ()))
    flags += [Status(b"optional")] * optional + [Status(b"multiple")] * multiple
    if not flags:
        return described
    return _ordered({**described, b"flags": Members(dict.fromkeys(flags))})


_ORDER = (
    *(b"name", b"type", b"display_text", b"key_spec_index", b"token", b"flags", b"arguments"),
)


def _ordered(described: Map) -> Map:
    return {name: described[name] for name in _ORDER if name in described}


def _value(name: str) -> Map:
    text = name.encode()
    return {b"name": text, b"type": _type_of(name), b"display_text": text}


# Which values are what, by the names that usage lines give them.
_TYPES = (
    (b"key", r"key\d?|newkey|sourcekey|destkey|source|destination"),
    (b"pattern", r"pattern"),
    (b"unix-time", r"unix-time-.*|timestamp"),
    (
        b"integer",
        r"seconds|milliseconds|count|numkeys|index|start|stop|end|offset|db|bit|"
        r"cursor|length|len|limit|maxage|idle|client-id|protover|rank|decrement|numreplicas|"
        r"numlocal|slot|.*-slot|port|threshold|frequency|idle-time|destination-db|index\d",
    ),
    (b"double", r"score|min-score|max-score|longitude|latitude|radius|width|height|timeout|weight"),
)
_TYPE_TESTS = tuple((kind, re.compile(names).fullmatch) for kind, names in _TYPES)


def _type_of(name: str) -> bytes:
    for kind, test in _TYPE_TESTS:
        if test(name):
            return kind
    return b"string"
