"""What COMMAND says of the table, beside what a real server says of its own."""

from collections.abc import Iterator
from typing import Any

# What differs on purpose: (command, field) -> why.
ON_PURPOSE = {
    (b"debug", "arguments"): "the subcommands are named, which a real server does not do",
}
DATA_MODEL = (
    *("string", "hash", "list", "set", "sorted-set", "stream", "bitmap", "hyperloglog", "geo"),
    *("generic", "pubsub", "transactions", "scripting"),
)
FIELDS = ("arity", "flags", "range", "categories", "tips", "keys")


def described(rows: list[Any]) -> dict[bytes, dict[str, Any]]:
    """By name, what COMMAND INFO says of each command and subcommand; order made to not matter."""
    found: dict[bytes, dict[str, Any]] = {}
    for name, arity, flags, first, last, step, categories, tips, keys, subcommands in rows:
        found[name] = {
            "arity": arity,
            "flags": sorted(map(str, flags)),
            "range": (first, last, step),
            "categories": sorted(map(str, categories)),
            "tips": sorted(tips),
            "keys": [_key_spec(spec) for spec in keys],
        }
        found.update(described(subcommands))
    return found


def _key_spec(flat: list[Any]) -> dict[bytes, Any]:
    spec = by_name(flat)
    spec.pop(b"notes", None)  # for people, in everybody's own words
    spec[b"flags"] = sorted(map(str, spec[b"flags"]))
    return spec


def by_name(flat: list[Any]) -> dict[bytes, Any]:
    """A map as RESP2 gives it."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


def differences(ours: list[Any], theirs: list[Any]) -> Iterator[str]:
    """Where two replies to COMMAND differ without a reason, on commands that both list."""
    real = described(theirs)
    for name, about in described(ours).items():
        for field in FIELDS:
            expected = real.get(name, {}).get(field)
            if about[field] != expected and (name, field) not in ON_PURPOSE:
                yield f"{name.decode()} {field}: ours {about[field]}, real {expected}"


def groups(docs: list[Any]) -> dict[bytes, str]:
    """By name, the group of each command and subcommand in a reply to COMMAND DOCS."""
    found: dict[bytes, str] = {}
    for name, flat in by_name(docs).items():
        about = by_name(flat)
        found[name] = about[b"group"].decode()
        found.update(groups(about.get(b"subcommands", [])))
    return found
