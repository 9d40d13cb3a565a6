"""The command table against COMMAND INFO of a real server, for groups that are complete."""

from typing import Any

import pytest
from differential import Pair, decoded

from node.command import every_row

GROUPS = ("string", "bitmap", "generic", "stream", "hyperloglog", "geo")
MORE = (b"dbsize", b"flushdb", b"flushall", b"swapdb")
ROWS = [row for row in every_row() if row.group in GROUPS or row.name in MORE]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.decode())
def test_a_row(resp3_pair: Pair, row: Any) -> None:
    ours, theirs = map(decoded, resp3_pair.both("COMMAND", "INFO", row.name))
    assert _comparable(ours[0]) == _comparable(theirs[0])


def _comparable(info: list[Any]) -> list[Any]:
    name, arity, flags, first, last, step, categories, tips, keys, subcommands = info
    return [
        *(name, arity, first, last, step),
        *(sorted(flags), sorted(categories), sorted(tips)),
        [{**spec, b"flags": sorted(spec[b"flags"])} for spec in keys],
        sorted(sub[0] for sub in subcommands),
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name.decode())
def test_what_is_documented(resp3_pair: Pair, row: Any) -> None:
    ours, theirs = (
        decoded(raw).get(row.name) for raw in resp3_pair.both("COMMAND", "DOCS", row.name)
    )
    assert ours is not None and theirs is not None
    for field in (b"since", b"group", b"history", b"deprecated_since", b"replaced_by"):
        assert ours.get(field) == theirs.get(field)
    assert _shape(ours.get(b"arguments", [])) == _shape(theirs.get(b"arguments", []))


def _shape(arguments: list[Any]) -> list[Any]:
    """Names, tokens and structure of arguments."""
    return [
        (
            part.get(b"token"),
            sorted(part.get(b"flags", ())),
            _shape(part.get(b"arguments", [])),
        )
        for part in arguments
    ]
