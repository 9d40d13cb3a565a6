"""CLUSTERSCAN: the keys of the whole cluster, slot after slot, whoever serves them.

A cursor is `mark-{tag}-place`: a client sends it where the slot of its tag is served. The place,
and the mark of the node that gave it, tell how far within the slot a scan is. Slots are given
whole here, so a cursor of ours names the beginning of a slot, and another node's place within a
slot counts as its beginning, as that node's own would after a restart.

https://valkey.io/commands/clusterscan/
"""

import functools
import itertools
import re
from typing import Any

from cluster.commands.shared import clustered, slot_of
from cluster.routing import Routing
from cluster.slots import SLOTS, key_slot
from node.command import READONLY, TOUCHES_ARBITRARY_KEYS, Keys, command
from node.commands.generic import scan_filter
from node.replies import ReplyError
from node.session import Session

INVALID_CURSOR = ReplyError(b"ERR Invalid cursor")
MISMATCH = ReplyError(b"ERR Cursor slot mismatch with SLOT argument")
TWICE = ReplyError(b"ERR SLOT option can only be specified once")
START = END = b"0"
_is_cursor = re.compile(rb"[^-]*-[^-]*-([0-9]{1,20})\Z").match
_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SPECIAL = frozenset(b"*?[\\")


@command(
    "CLUSTERSCAN cursor [MATCH match-pattern] [COUNT count] [TYPE type] [SLOT slot]",
    flags=READONLY | TOUCHES_ARBITRARY_KEYS,
    group="cluster",
    since="9.1.0",
    keys=(Keys("NOT_KEY", 1),),
    categories="keyspace",
    complexity="O(N) where N is the number of elements returned",
    tips=(
        b"nondeterministic_output",
        b"request_policy:special",
        b"response_policy:special",
    ),
)
@clustered
def cluster_scan(routing: Routing, session: Session, args: list[bytes]) -> list[Any]:
    """Some keys of the cluster, and the cursor to go on with; 0 when all have been returned."""
    only, rest = _take_slot(args)
    chosen, most = scan_filter(rest)
    slot = _slot_of_cursor(args[1])
    only_by_pattern = _slot_of_matches(rest)
    if only is not None and slot is not None and slot != only:
        raise MISMATCH
    if only is None:
        only = only_by_pattern
    elif only_by_pattern not in (None, only):
        return [END, []]
    if slot is None or (only is not None and slot < only):
        return [_cursor(only or 0), []]
    if only is not None and slot > only:
        return [END, []]
    slot, found = _scan(routing, session, slot, slot if only is not None else SLOTS - 1, most)
    return [_cursor(slot) if slot < SLOTS and only is None else END, chosen(session.db, found)]


def _scan(
    routing: Routing, session: Session, slot: int, last: int, most: int
) -> tuple[int, list[bytes]]:
    """At least `most` keys, if there are so many in the slots from `slot` on up to the next one
    of another shard; and where to go on: not in an empty slot."""
    view, found = routing.view, list[bytes]()
    owner = view.owner[slot]
    while slot <= last and view.owner[slot] is owner:
        keys = session.db.keys_of_part(slot)
        if keys and len(found) >= most:
            break
        found += keys
        slot += 1
    return slot, found


def _slot_of_cursor(cursor: bytes) -> int | None:
    """Where a cursor is, None at the start; raises INVALID_CURSOR."""
    if cursor == START:
        return None
    place = _is_cursor(cursor)
    if place is None or int(place[1]) >= 1 << 64:
        raise INVALID_CURSOR
    return key_slot(cursor)


def _take_slot(args: list[bytes]) -> tuple[int | None, list[bytes]]:
    """The SLOT option, and the arguments without it."""
    slot = None
    rest = args[:2]
    i = 2
    while i < len(args):
        if args[i].upper() == b"SLOT" and i + 1 < len(args):
            scan_filter(rest)  # what is wrong before it comes first
            if slot is not None:
                raise TWICE
            slot = slot_of(args[i + 1])
        else:
            rest += args[i : i + 2]
        i += 2
    return slot, rest


def _slot_of_matches(args: list[bytes]) -> int | None:
    """The one slot that all keys are in which the pattern matches, if that is sure."""
    slot = None
    for word, value in zip(args[2::2], args[3::2], strict=False):
        if word.upper() == b"MATCH":
            slot = _slot_of_pattern(value)
    return slot


def _slot_of_pattern(pattern: bytes) -> int | None:
    head, brace, rest = pattern.partition(b"{")
    tag, end, _ = rest.partition(b"}")
    fixed = head + tag if brace and tag and end else pattern
    return None if _SPECIAL.intersection(fixed) else key_slot(pattern)


def _cursor(slot: int) -> bytes:
    """What stands for the beginning of a slot."""
    return b"0-{%b}-0" % tags()[slot]


@functools.cache
def tags() -> list[bytes]:
    """For each slot the first word that belongs to it, the shorter ones first."""
    found: dict[int, bytes] = {}
    for length in itertools.count(1):
        for word in map(bytes, itertools.product(_ALPHABET, repeat=length)):
            found.setdefault(key_slot(word), word)
        if len(found) == SLOTS:
            return [found[slot] for slot in range(SLOTS)]
    raise AssertionError("every slot has a word")
