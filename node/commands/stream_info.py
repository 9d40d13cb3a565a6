"""XINFO STREAM, XINFO GROUPS, XINFO CONSUMERS."""

from itertools import islice
from typing import Any

from node.command import LOADING, READONLY, STALE, command
from node.commands.arguments import integer
from node.commands.help import help_text
from node.commands.stream_arguments import show_entries, show_id, wrong_subcommand
from node.commands.stream_groups import no_group_for
from node.data.consumers import NEVER, UNKNOWN, Consumer, Group, PendingList
from node.data.stream import Stream
from node.replies import NO_SUCH_KEY, Status
from node.session import Session

Map = dict[bytes, Any]
_TWO_63 = 1 << 63  # a number that passes it is shown as a negative one, as C has it
_SHOWN = 10  # entries, and deliveries of each group and consumer, unless COUNT says another number


@command("XINFO", flags=0, group="stream", since="5.0.0", arity=-2, complexity="by subcommand")
def xinfo(session: Session, args: list[bytes]) -> None:
    """Commands about streams and what is known of them."""


@command(
    "XINFO STREAM key [<FULL> [COUNT count]]",
    flags=READONLY,
    group="stream",
    since="5.0.0",
    complexity="O(1) for a stream of bounded length",
    history=(
        ("6.0.0", "Added the `FULL` modifier."),
        (
            "7.0.0",
            "Added the `max-deleted-entry-id`, `entries-added`, `recorded-first-entry-id`, "
            "`entries-read` and `lag` fields",
        ),
        ("7.2.0", "Added the `active-time` field, and changed the meaning of `seen-time`."),
    ),
)
def xinfo_stream(session: Session, args: list[bytes]) -> Map:
    """What is known of a stream; FULL: its entries, groups and consumers too."""
    value = _look(session, args[2])
    full, count = _full(args)
    described: Map = {
        b"length": value.length,
        b"radix-tree-keys": len(value.blocks),
        b"radix-tree-nodes": value.tree_nodes(),
        b"last-generated-id": show_id(value.last_id),
        b"max-deleted-entry-id": show_id(value.max_deleted_id),
        b"entries-added": (value.entries_added + _TWO_63) % (2 * _TWO_63) - _TWO_63,
        b"recorded-first-entry-id": show_id(value.first_id()),
    }
    if full:
        described[b"entries"] = show_entries(value.range(count=count or -1))
        described[b"groups"] = [
            _full_group(value, name, group, count) for name, group in _groups(value)
        ]
        return described
    described[b"groups"] = len(value.groups)
    first, last = value.range(count=1), value.range(count=1, reverse=True)
    described[b"first-entry"] = show_entries(first)[0] if first else None
    described[b"last-entry"] = show_entries(last)[0] if last else None
    return described


def _look(session: Session, key: bytes) -> Stream:
    value = session.db.look(key, Stream)
    if value is None:
        raise NO_SUCH_KEY
    return value


def _full(args: list[bytes]) -> tuple[bool, int]:
    """Whether FULL was said, and the COUNT with it, 0 for all; raises ReplyError."""
    options = args[3:]
    if not options:
        return False, _SHOWN
    if len(options) not in (1, 3) or options[0].upper() != b"FULL":
        raise wrong_subcommand(args)
    if len(options) == 1:
        return True, _SHOWN
    if options[1].upper() != b"COUNT":
        raise wrong_subcommand(args)
    count = integer(options[2])
    return True, count if count >= 0 else _SHOWN


def _groups(value: Stream) -> list[tuple[bytes, Group]]:
    return sorted(value.groups.items(), key=lambda item: item[0])


def _entries_read(group: Group) -> int | None:
    return None if group.entries_read == UNKNOWN else group.entries_read


def _full_group(value: Stream, name: bytes, group: Group, count: int) -> Map:
    return {
        b"name": name,
        b"last-delivered-id": show_id(group.last_id),
        b"entries-read": _entries_read(group),
        b"lag": value.lag(group),
        b"pel-count": len(group.pending),
        b"pending": [
            [show_id(entry_id), one.consumer.name, one.delivered_ms, one.count]
            for entry_id, one in _first(group.pending, count)
        ],
        b"consumers": [_full_consumer(consumer, count) for consumer in group.in_order()],
    }


def _full_consumer(consumer: Consumer, count: int) -> Map:
    return {
        b"name": consumer.name,
        b"seen-time": consumer.seen_ms,
        b"active-time": consumer.active_ms,
        b"pel-count": len(consumer.pending),
        b"pending": [
            [show_id(entry_id), one.delivered_ms, one.count]
            for entry_id, one in _first(consumer.pending, count)
        ],
    }


def _first(pending: PendingList, count: int) -> list[tuple[int, Any]]:
    ids = pending.ids()
    return [
        (entry_id, pending.deliveries[entry_id])
        for entry_id in (islice(ids, count) if count else ids)
    ]


@command(
    "XINFO GROUPS key",
    flags=READONLY,
    group="stream",
    since="5.0.0",
    complexity="O(1) for a bounded number of groups",
    history=(("7.0.0", "Added the `entries-read` and `lag` fields"),),
)
def xinfo_groups(session: Session, args: list[bytes]) -> list[Map]:
    """The groups of a stream."""
    value = _look(session, args[2])
    return [
        {
            b"name": name,
            b"consumers": len(group.consumers),
            b"pending": len(group.pending),
            b"last-delivered-id": show_id(group.last_id),
            b"entries-read": _entries_read(group),
            b"lag": value.lag(group),
        }
        for name, group in _groups(value)
    ]


@command(
    "XINFO CONSUMERS key group",
    flags=READONLY,
    group="stream",
    since="5.0.0",
    complexity="O(1) for a bounded number of consumers",
    tips=(b"nondeterministic_output",),
    history=(("7.2.0", "Added the `inactive` field, and changed the meaning of `idle`."),),
)
def xinfo_consumers(session: Session, args: list[bytes]) -> list[Map]:
    """The consumers of a group."""
    value = _look(session, args[2])
    group = value.groups.get(args[3])
    if group is None:
        raise no_group_for(args[2], args[3])
    now_ms = session.node.keyspace.now_ms
    return [
        {
            b"name": consumer.name,
            b"pending": len(consumer.pending),
            b"idle": max(now_ms - consumer.seen_ms, 0),
            b"inactive": NEVER if consumer.active_ms == NEVER else now_ms - consumer.active_ms,
        }
        for consumer in group.in_order()
    ]


@command("XINFO HELP", flags=LOADING | STALE, group="stream", since="5.0.0", complexity="O(1)")
def xinfo_help(session: Session, args: list[bytes]) -> list[Status]:
    """What the subcommands do."""
    return help_text(session, b"XINFO")
