"""Whether two data sets are the same, but for what real servers do not carry over to replicas."""

from typing import Any

# Of a stream: not carried over exactly by redis-server 7.0 itself.
INEXACT = {b"entries-read", b"lag"}
# A consumer for whom there was nothing: valkey-server does not tell its replicas of it.
IDLE = [b"pending", []]


def exact(value: Any) -> Any:
    """Without what servers do not carry over."""
    if isinstance(value, dict):
        return {key: exact(each) for key, each in value.items()}
    if not isinstance(value, list | tuple):
        return value
    found, skips = [], False
    for each in value:
        if skips or (isinstance(each, bytes) and each in INEXACT):
            skips = not skips
            continue
        if isinstance(each, list) and each[-2:] == IDLE:
            continue
        found.append(exact(each))
    return found


def difference(one: Any, other: Any) -> str:
    """The innermost values that differ, and where they are."""
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        at = next(i for i in range(len(one)) if one[i] != other[i])
        before = f"{one[at - 1]!r} " if at and isinstance(one[at - 1], bytes) else ""
        return f"[{at}] {before}{difference(one[at], other[at])}"
    return f"{one!r} and {other!r}"
