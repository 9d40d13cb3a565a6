"""In which sense two replies must be the same.

exact        to the byte, types included
sorted       the same elements in any order: sets, and what a hash table's order shows
pairs        as sorted, of fields with their values: a flat array in RESP2
approximate  numbers may differ by the time that lay between the two calls
scan         a whole iteration is sorted; of a part of one, only its form can be the same
shape        types and sizes, where chance decides the rest
Errors are always exact: the text is part of the interface.
"""

from collections.abc import Callable
from typing import Any

from fuzz.grammar import Command
from fuzz.replies import Reply

SLACK_S, SLACK_MS = 5, 5000


def exact(ours: Reply, real: Reply) -> bool:
    return ours == real


def in_any_order(ours: Reply, real: Reply) -> bool:
    if not isinstance(ours.value, tuple) or not isinstance(real.value, tuple):
        return ours == real
    return ours.kind == real.kind and sorted(map(str, ours.value)) == sorted(map(str, real.value))


def pairs(ours: Reply, real: Reply) -> bool:
    if not isinstance(ours.value, tuple) or not isinstance(real.value, tuple):
        return ours == real
    return ours.kind == real.kind and _paired(ours.value) == _paired(real.value)


def _paired(flat: tuple[Reply, ...]) -> list[tuple[str, str]]:
    return sorted((str(a), str(b)) for a, b in zip(flat[::2], flat[1::2], strict=True))


def within(slack: int) -> Callable[[Reply, Reply], bool]:
    """Numbers differ by at most so much; all else is exact."""

    def compare(ours: Reply, real: Reply) -> bool:
        if ours.kind != real.kind:
            return False
        if isinstance(ours.value, int) and isinstance(real.value, int):
            # Below zero are answers of another meaning: no such key, no time to live.
            if ours.value < 0 or real.value < 0:
                return bool(ours.value == real.value)
            return abs(ours.value - real.value) <= slack
        return _alike(ours.value, real.value, compare)

    return compare


def shape(ours: Reply, real: Reply) -> bool:
    if ours.kind != real.kind or type(ours.value) is not type(real.value):
        return False
    if isinstance(ours.value, tuple):
        return _alike(ours.value, real.value, shape)
    return True


def _alike(ours: Any, real: Any, compare: Callable[[Reply, Reply], bool]) -> bool:
    if not isinstance(ours, tuple) or not isinstance(real, tuple):
        return bool(ours == real)
    return len(ours) == len(real) and all(map(compare, ours, real))


def whole_scan(ours: Reply, real: Reply) -> bool:
    if not isinstance(ours.value, tuple) or not isinstance(real.value, tuple):
        return ours == real
    cursors = {ours.value[0].value, real.value[0].value}
    if cursors == {b"0"}:
        return in_any_order(ours.value[1], real.value[1])
    return part_of_scan(ours, real)


def part_of_scan(ours: Reply, real: Reply) -> bool:
    return [part.kind for part in ours.value] == [part.kind for part in real.value]


Compare = Callable[[Reply, Reply], bool]
KINDS: dict[str, Compare] = {
    **dict.fromkeys(("SMEMBERS", "SINTER", "SUNION", "SDIFF", "KEYS", "HKEYS"), in_any_order),
    **dict.fromkeys(("HVALS", "PUBSUB", "GEORADIUS", "GEORADIUS_RO", "GEOSEARCH"), in_any_order),
    **dict.fromkeys(("GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"), in_any_order),
    "HGETALL": pairs,
    **dict.fromkeys(("TTL", "EXPIRETIME", "HTTL", "HEXPIRETIME"), within(SLACK_S)),
    **dict.fromkeys(("PTTL", "PEXPIRETIME", "HPTTL", "HPEXPIRETIME"), within(SLACK_MS)),
    **dict.fromkeys(("XPENDING", "XINFO"), within(SLACK_MS)),
    **dict.fromkeys(("RANDOMKEY", "SRANDMEMBER", "SPOP", "HRANDFIELD", "ZRANDMEMBER"), shape),
    "DUMP": shape,
}


CURSORS = {"SCAN": 1, "SSCAN": 2, "HSCAN": 2, "ZSCAN": 2}  # where they stand


def compare_for(command: Command) -> Compare:
    """How replies to this command are compared."""
    if not command:
        return exact
    name = str(command[0]).upper()
    if name == "EVAL" and len(command) > 3 and "unpack(ARGV)" in str(command[1]):
        return _relaxed(compare_for(command[3:]))
    options = {str(word).upper() for word in command[1:]}
    if name.startswith("SORT") and ("BY" in options or options & {"T1", "T2", "T3"}):
        return in_any_order
    if name == "OBJECT":
        return within(SLACK_S) if "IDLETIME" in options else exact
    if name.startswith("GEO") and "ANY" in options:
        return shape
    if name in CURSORS:
        return whole_scan if str(command[CURSORS[name]]) == "0" else part_of_scan
    if name == "FUNCTION" and "LIST" in options:
        return in_any_order
    return KINDS.get(name, exact)


def _relaxed(compare: Compare) -> Compare:
    """A script's reply has lost its types: what was a set or a map is an array."""
    return in_any_order if compare is pairs else compare


def same(command: Command, ours: Reply, real: Reply) -> bool:
    """Whether both answered alike."""
    if ours == real:
        return True
    if ours.is_error() or real.is_error():
        return False
    return compare_for(command)(ours, real)
