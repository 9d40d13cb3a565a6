"""XGROUP XREADGROUP XACK XCLAIM XAUTOCLAIM XPENDING: groups of consumers that share a stream."""

from itertools import islice
from typing import Any

import attrs

from node.command import (
    BLOCKING,
    DENYOOM,
    FAST,
    LOADING,
    READONLY,
    STALE,
    WRITE,
    Keys,
    command,
)
from node.commands.arguments import integer, integer_between
from node.commands.help import help_text
from node.commands.stream import streams_reply
from node.commands.stream_arguments import (
    Reading,
    look_group,
    min_idle_ms,
    most,
    no_such_group,
    parse_bound,
    parse_end,
    parse_id,
    parse_reading,
    parse_start,
    show_entries,
    show_id,
    wrong_subcommand,
)
from node.data.consumers import MAX_ID, UNKNOWN, Consumer, Group, Pending
from node.data.keyspace import STREAM, UNWATCHED, Database
from node.data.stream import Stream
from node.execute import LOGGED
from node.replies import NULL_ARRAY, OK, SYNTAX, ReplyError, Status, Wait, forget_origin, printed
from node.session import Session

_NO_KEY = ReplyError(
    b"ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to "
    b"use the MKSTREAM option to create an empty stream automatically."
)
_BUSY_GROUP = ReplyError(b"BUSYGROUP Consumer Group name already exists")
_RANDOM = (b"nondeterministic_output",)


# --- XGROUP ---------------------------------------------------------------------------------------


@command("XGROUP", flags=0, group="stream", since="5.0.0", arity=-2, complexity="by subcommand")
def xgroup(session: Session, args: list[bytes]) -> None:
    """Commands about groups of consumers."""


@command(
    "XGROUP CREATE key group <id | $> [MKSTREAM] [ENTRIESREAD entries-read]",
    flags=WRITE | DENYOOM,
    group="stream",
    since="5.0.0",
    access="RW INSERT",
    complexity="O(1)",
    history=(("7.0.0", "Added the `entries_read` named argument."),),
)
def xgroup_create(session: Session, args: list[bytes]) -> Status:
    """Make a group that reads a stream from an id on."""
    make, entries_read = _group_options(args, True)
    db, key, name = session.db, args[2], args[3]
    value = db.find(key, Stream)
    if value is None and not make:
        raise _NO_KEY
    last_id = _top_of(value) if args[4] == b"$" else parse_id(args[4])
    kind = STREAM | UNWATCHED
    if value is None:
        value, kind = db.make(key, Stream), STREAM
    if name in value.groups:
        raise _BUSY_GROUP
    value.groups[name] = Group(last_id, entries_read)
    db.touch(key, b"xgroup-create", kind)
    return OK


@command(
    "XGROUP SETID key group <id | $> [ENTRIESREAD entries-read]",
    flags=WRITE,
    group="stream",
    since="5.0.0",
    access="RW UPDATE",
    complexity="O(1)",
    history=(("7.0.0", "Added the optional `entries_read` argument."),),
)
def xgroup_setid(session: Session, args: list[bytes]) -> Status:
    """Set up to where a group has been given a stream's entries."""
    _, entries_read = _group_options(args, False)
    value, group = _find_group(session.db, args[2], args[3])
    last_id = _top_of(value) if args[4] == b"$" else parse_bound(args[4])
    group.last_id, group.entries_read = last_id, entries_read
    session.db.touch(args[2], b"xgroup-setid", STREAM | UNWATCHED)
    return OK


def _top_of(value: Stream | None) -> int:
    """What `$` stands for."""
    return 0 if value is None else value.last_id


def _group_options(args: list[bytes], may_make: bool) -> tuple[bool, int]:
    """MKSTREAM and ENTRIESREAD; raises ReplyError."""
    make, entries_read = False, UNKNOWN
    if len(args) > (8 if may_make else 7):
        raise wrong_subcommand(args)
    i = 5
    while i < len(args):
        word = args[i].upper()
        if word == b"MKSTREAM" and may_make:
            make = True
            i += 1
        elif word == b"ENTRIESREAD" and i + 1 < len(args):
            entries_read = integer(args[i + 1])
            if entries_read < 0 and entries_read != UNKNOWN:
                raise ReplyError(b"ERR value for ENTRIESREAD must be positive or -1")
            i += 2
        else:
            raise wrong_subcommand(args)
    return make, entries_read


def _find_group(db: Database, key: bytes, name: bytes) -> tuple[Stream, Group]:
    """The stream and the group, both there; raises ReplyError."""
    value = db.find(key, Stream)
    if value is None:
        raise _NO_KEY
    group = value.groups.get(name)
    if group is None:
        raise no_group_for(key, name)
    return value, group


def no_group_for(key: bytes, name: bytes) -> ReplyError:
    """The answer where a stream that is there has no such group."""
    return ReplyError(
        b"NOGROUP No such consumer group '%b' for key name '%b'" % (printed(name), printed(key))
    )


@command(
    "XGROUP DESTROY key group",
    flags=WRITE,
    group="stream",
    since="5.0.0",
    access="RW DELETE",
    complexity="O(N) for N pending entries",
)
def xgroup_destroy(session: Session, args: list[bytes]) -> int:
    """Remove a group; whether there was one."""
    db, key = session.db, args[2]
    value = db.find(key, Stream)
    if value is None:
        raise _NO_KEY
    if value.groups.pop(args[3], None) is None:
        return 0
    db.touch(key, b"xgroup-destroy", STREAM | UNWATCHED)
    session.node.blocking.wake(db, key)  # for those who wait as its consumers
    return 1


@command(
    "XGROUP CREATECONSUMER key group consumer",
    flags=WRITE | DENYOOM,
    group="stream",
    since="6.2.0",
    access="RW INSERT",
    complexity="O(1)",
)
def xgroup_createconsumer(session: Session, args: list[bytes]) -> int:
    """Add a consumer to a group; whether it is new."""
    _, group = _find_group(session.db, args[2], args[3])
    if args[4] in group.consumers:
        return 0
    _join(session.db, args[2], group, args[4])
    return 1


def _join(db: Database, key: bytes, group: Group, name: bytes) -> Consumer:
    consumer = group.join(name, db.keyspace.now_ms)
    db.touch(key, b"xgroup-createconsumer", STREAM | UNWATCHED)
    return consumer


@command(
    "XGROUP DELCONSUMER key group consumer",
    flags=WRITE,
    group="stream",
    since="5.0.0",
    access="RW DELETE",
    complexity="O(1)",
)
def xgroup_delconsumer(session: Session, args: list[bytes]) -> int:
    """Remove a consumer with what is pending with it; how many entries that were."""
    _, group = _find_group(session.db, args[2], args[3])
    pending = group.leave(args[4])
    if pending is None:
        return 0
    session.db.touch(args[2], b"xgroup-delconsumer", STREAM | UNWATCHED)
    return pending


@command("XGROUP HELP", flags=LOADING | STALE, group="stream", since="5.0.0", complexity="O(1)")
def xgroup_help(session: Session, args: list[bytes]) -> list[Status]:
    """What the subcommands do."""
    return help_text(session, b"XGROUP")


# --- what is logged -------------------------------------------------------------------------------


@attrs.define
class _Effects:
    """What a command did to the deliveries of a group, as commands that do the same anywhere.

    joined: a consumer that is new; one that XCLAIM names comes into being by it.
    """

    session: Session
    key: bytes
    name: bytes
    group: Group
    joined: Consumer | None = None
    commands: list[list[bytes]] = attrs.field(factory=list)

    def claim(self, entry_id: int, pending: Pending) -> None:
        """A delivery is now as `pending` says; or was, if the entry is gone: then so it is."""
        if not self.session.node.log.active:
            return
        consumer = pending.consumer
        if consumer is self.joined:
            self.joined = None
        self.commands.append(
            [
                *(b"XCLAIM", self.key, self.name, consumer.name, b"0", show_id(entry_id)),
                *(b"TIME", b"%d" % pending.delivered_ms, b"RETRYCOUNT", b"%d" % pending.count),
                *(b"FORCE", b"JUSTID", b"LASTID", show_id(self.group.last_id)),
            ]
        )

    def advance(self) -> None:
        """The group has come further."""
        entries_read = b"%d" % self.group.entries_read
        last_id = show_id(self.group.last_id)
        self.commands.append(
            [b"XGROUP", b"SETID", self.key, self.name, last_id, b"ENTRIESREAD", entries_read]
        )

    def join(self) -> None:
        """The new consumer, where nothing else makes it."""
        if self.joined is not None:
            joined = [b"XGROUP", b"CREATECONSUMER", self.key, self.name, self.joined.name]
            self.commands.insert(0, joined)


def _log(session: Session, effects: list[_Effects]) -> None:
    """Log the effects instead of the command; without any, nothing."""
    if not session.node.log.active:
        return
    commands: list[list[bytes]] = []
    for one in effects:
        one.join()
        commands += one.commands
    session.effects = commands or LOGGED


# --- XREADGROUP -----------------------------------------------------------------------------------


@command(
    "XREADGROUP <GROUP group consumer> [COUNT count] [BLOCK milliseconds] [NOACK] <STREAMS key "
    "[key ...] id [id ...]>",
    flags=WRITE | BLOCKING,
    group="stream",
    since="5.0.0",
    keys=(Keys("RO ACCESS", first=4, last=-1, limit=2, keyword=b"STREAMS"),),
    complexity="O(N) for N entries returned",
)
def xreadgroup(session: Session, args: list[bytes]) -> Any:
    """The entries of streams that a group was not given yet, for one of its consumers, or what is
    pending with it; or wait for entries."""
    reading = parse_reading(session, args, in_group=True)
    sources = [_source(session, reading, i) for i in range(len(reading.keys))]
    dirty = session.node.keyspace.dirty
    found: list[list[Any]] = []
    effects: list[_Effects] = []
    for key, (value, group, after) in zip(reading.keys, sources, strict=True):
        session.db.look(key, Stream)
        effects.append(_Effects(session, key, reading.group or b"", group))
        entries = _read(session, reading, value, group, after, effects[-1])
        if entries is not None:
            found.append([key, entries])
            session.node.keyspace.dirty += 1  # nobody is notified of deliveries
    if session.node.keyspace.dirty != dirty:
        _log(session, effects)
    if found:
        return streams_reply(session, found)
    if not reading.blocks:
        return NULL_ARRAY
    places = tuple((session.db.index, key) for key in reading.keys)
    return Wait(None, reading.deadline_ms, NULL_ARRAY, places)


def _source(session: Session, reading: Reading, i: int) -> tuple[Stream, Group, int | None]:
    """A stream, its group, and the id after which to read what is pending; None for new entries.

    Raises ReplyError.
    """
    key, arg, name = reading.keys[i], reading.ids[i], reading.group or b""
    value, group = look_group(session, key, name)
    if value is None or group is None:
        raise ReplyError(
            b"NOGROUP No such key '%b' or consumer group '%b' in XREADGROUP with GROUP option"
            % (printed(key), printed(name))
        )
    if arg in (b"$", b"+"):
        raise ReplyError(
            b"ERR The %b ID is meaningless in the context of XREADGROUP: you want to read the "
            b"history of this consumer by specifying a proper ID, or use the > ID to get new "
            b"messages. The %b ID would just return an empty result set." % (arg, arg)
        )
    after = None if arg == b">" else parse_id(arg)
    return value, group, None if after == MAX_ID else after


def _read(
    session: Session,
    reading: Reading,
    value: Stream,
    group: Group,
    after: int | None,
    effects: _Effects,
) -> list[Any] | None:
    """What a consumer gets of one stream; None for nothing new."""
    now_ms = session.node.keyspace.now_ms
    consumer = group.consumers.get(reading.consumer)
    if consumer is None:
        consumer = effects.joined = _join(session.db, effects.key, group, reading.consumer)
    consumer.seen_ms = now_ms
    if after is not None:
        return _read_again(value, consumer, after + 1, reading.count, now_ms)
    if value.top_id() <= group.last_id:
        return None
    entries = value.range(group.last_id + 1, MAX_ID, reading.count)
    for entry_id, _ in entries:
        value.advance(group, entry_id)
        if not reading.acknowledged:
            effects.claim(entry_id, group.deliver(entry_id, consumer, now_ms))
            consumer.active_ms = now_ms
    effects.advance()
    return show_entries(entries)


def _read_again(
    value: Stream, consumer: Consumer, start: int, count: int, now_ms: int
) -> list[Any]:
    """What is pending with a consumer; entries that are gone come without fields."""
    found: list[Any] = []
    ids = consumer.pending.ids(start)
    for entry_id in ids if count < 0 else islice(ids, count):
        fields = value.get(entry_id)
        if fields is None:
            found.append([show_id(entry_id), NULL_ARRAY])
            continue
        pending = consumer.pending.deliveries[entry_id]
        pending.delivered_ms = now_ms
        pending.count += 1
        found.append([show_id(entry_id), list(fields)])
    return found


# --- acknowledging and claiming -------------------------------------------------------------------


@command(
    "XACK key group id [id ...]",
    flags=WRITE | FAST,
    group="stream",
    since="5.0.0",
    access="RW UPDATE",
    complexity="O(1) for each id",
)
def xack(session: Session, args: list[bytes]) -> int:
    """Acknowledge entries, so that they are pending no longer; how many were."""
    _, group = look_group(session, args[1], args[2])
    if group is None:
        return 0
    ids = [parse_id(arg) for arg in args[3:]]
    acknowledged = sum(map(group.acknowledge, ids))
    session.node.keyspace.dirty += acknowledged  # nobody is notified
    return acknowledged


@attrs.define
class _Claim:
    """XCLAIM's options; delivered_ms and count are None where not given."""

    ids: list[int]
    delivered_ms: int | None = None
    count: int | None = None
    force: bool = False
    ids_only: bool = False
    last_id: int = 0


@command(
    "XCLAIM key group consumer min-idle-time id [id ...] [IDLE ms] [TIME unix-time-milliseconds] "
    "[RETRYCOUNT count] [FORCE] [JUSTID] [LASTID lastid]",
    flags=WRITE | FAST,
    group="stream",
    since="5.0.0",
    access="RW UPDATE",
    complexity="O(log N) for N pending entries",
    tips=_RANDOM,
)
def xclaim(session: Session, args: list[bytes]) -> list[Any]:
    """Take over pending entries from other consumers, as if they were delivered now."""
    key, name = args[1], args[2]
    value, group = look_group(session, key, name)
    if value is None or group is None:
        raise no_such_group(key, name)
    idle_ms = min_idle_ms(args[4], b"XCLAIM")
    now_ms = session.node.keyspace.now_ms
    # A primary's clock may be ahead: all of its replicas take its word for the time.
    trusted = session.from_primary or session.internal
    claim = _parse_claim(args, now_ms, MAX_MS if trusted else now_ms)
    effects = _Effects(session, key, name, group)
    moved = claim.last_id > group.last_id
    group.last_id = max(group.last_id, claim.last_id)
    consumer = _claimer(session, effects, args[3])
    found: list[Any] = []
    for entry_id in claim.ids:
        fields = value.get(entry_id)
        pending = group.pending.get(entry_id)
        if fields is None:
            if pending is not None:
                _forget(effects, entry_id, pending)
            continue
        if pending is None:
            if not claim.force:
                continue
            pending = group.enter(entry_id, consumer, now_ms, 1)
        elif idle_ms and now_ms - pending.delivered_ms < idle_ms:
            continue
        _take(effects, consumer, entry_id, pending, claim)
        found.append(show_id(entry_id) if claim.ids_only else [show_id(entry_id), list(fields)])
    if moved and not effects.commands:
        effects.advance()
    _finish(session, effects, moved)
    return found


def _claimer(session: Session, effects: _Effects, name: bytes) -> Consumer:
    """The consumer that claims, made if there is none."""
    consumer = effects.group.consumers.get(name)
    if consumer is None:
        consumer = effects.joined = _join(session.db, effects.key, effects.group, name)
    consumer.seen_ms = session.node.keyspace.now_ms
    return consumer


def _take(
    effects: _Effects, consumer: Consumer, entry_id: int, pending: Pending, claim: _Claim
) -> None:
    now_ms = effects.session.node.keyspace.now_ms
    effects.group.reassign(entry_id, pending, consumer)
    pending.delivered_ms = now_ms if claim.delivered_ms is None else claim.delivered_ms
    if claim.count is not None:
        pending.count = claim.count
    elif not claim.ids_only:
        pending.count += 1
    consumer.active_ms = now_ms
    effects.claim(entry_id, pending)
    effects.session.node.keyspace.dirty += 1


def _forget(effects: _Effects, entry_id: int, pending: Pending) -> None:
    """An entry that is gone can be pending no longer. Others find that out by the same XCLAIM."""
    effects.claim(entry_id, pending)
    effects.group.acknowledge(entry_id)
    effects.session.node.keyspace.dirty += 1


def _finish(session: Session, effects: _Effects, changed: bool) -> None:
    """Log what a claim did, if it did anything."""
    if changed:
        session.node.keyspace.dirty += 1
    if changed or effects.commands or effects.joined is not None:
        _log(session, [effects])


def _parse_claim(args: list[bytes], now_ms: int, latest_ms: int) -> _Claim:
    """The ids and options of XCLAIM; raises ReplyError. latest_ms: no delivery is later."""
    claim = _Claim([])
    i, end = 5, len(args)
    while i < end and (entry_id := _id_or_none(args[i])) is not None:
        claim.ids.append(entry_id)
        i += 1
    while i < end:
        word = args[i].upper()
        if word in (b"FORCE", b"JUSTID"):
            claim.force |= word == b"FORCE"
            claim.ids_only |= word == b"JUSTID"
            i += 1
        elif word in _CLAIM_NUMBERS and i + 1 < end:
            _take_option(claim, word, args[i + 1], now_ms, latest_ms)
            i += 2
        else:
            raise ReplyError(b"ERR Unrecognized XCLAIM option '%b'" % printed(args[i]))
    return claim


MAX_MS = (1 << 63) - 1
_CLAIM_NUMBERS = (b"IDLE", b"TIME", b"RETRYCOUNT", b"LASTID")


def _take_option(claim: _Claim, word: bytes, arg: bytes, now_ms: int, latest_ms: int) -> None:
    if word == b"LASTID":
        claim.last_id = parse_id(arg)
        return
    number = integer(arg, ReplyError(b"ERR Invalid %b option argument for XCLAIM" % word))
    if word == b"RETRYCOUNT":
        claim.count = number if number >= 0 else None
        return
    if word == b"IDLE":
        number = now_ms - number
    # Clocks differ, so a time that makes no sense is no error.
    claim.delivered_ms = number if 0 <= number <= latest_ms else now_ms


def _id_or_none(arg: bytes) -> int | None:
    try:
        return parse_id(arg)
    except ReplyError as error:
        forget_origin(error)
        return None


_COUNT_MAX = ((1 << 63) - 1) // 16
_COUNT_AFFORDED = 1 << 36  # real servers allocate memory for as many ids
_NO_COUNT = ReplyError(b"ERR COUNT must be > 0")
_TOO_MANY = ReplyError(
    b"ERR Insufficient memory, failed allocating transient memory, COUNT too high."
)
_ATTEMPTS = 10  # deliveries looked at for each entry that may be claimed


@command(
    "XAUTOCLAIM key group consumer min-idle-time start [COUNT count] [JUSTID]",
    flags=WRITE | FAST,
    group="stream",
    since="6.2.0",
    access="RW DELETE",
    complexity="O(1) for a small COUNT",
    tips=_RANDOM,
    history=(
        (
            "7.0.0",
            "Added an element to the reply array, containing deleted entries the command cleared "
            "from the PEL",
        ),
    ),
)
def xautoclaim(session: Session, args: list[bytes]) -> list[Any]:
    """Take over entries that have been pending for long; where to go on, the entries, and the ids
    of those that are gone."""
    key, name = args[1], args[2]
    idle_ms = min_idle_ms(args[4], b"XAUTOCLAIM")
    start = parse_start(args[5])
    count, claim = _parse_autoclaim(args)
    value, group = look_group(session, key, name)
    if value is None or group is None:
        raise no_such_group(key, name)
    if count > _COUNT_AFFORDED:
        raise _TOO_MANY
    effects = _Effects(session, key, name, group)
    consumer = _claimer(session, effects, args[3])
    now_ms = session.node.keyspace.now_ms
    found: list[Any] = []
    gone: list[bytes] = []
    ids = list(islice(group.pending.ids(start), count * _ATTEMPTS + 1))
    looked_at = 0
    for entry_id in ids[: count * _ATTEMPTS]:
        if len(found) + len(gone) == count:
            break
        looked_at += 1
        pending, fields = group.pending.deliveries[entry_id], value.get(entry_id)
        if fields is None:
            _forget(effects, entry_id, pending)
            gone.append(show_id(entry_id))
        elif not idle_ms or now_ms - pending.delivered_ms >= idle_ms:
            _take(effects, consumer, entry_id, pending, claim)
            shown = show_id(entry_id)
            found.append(shown if claim.ids_only else [shown, list(fields)])
    _finish(session, effects, False)
    following = ids[looked_at] if looked_at < len(ids) else 0
    return [show_id(following), found, gone]


def _parse_autoclaim(args: list[bytes]) -> tuple[int, _Claim]:
    count, claim = 100, _Claim([])
    i = 6
    while i < len(args):
        word = args[i].upper()
        if word == b"COUNT" and i + 1 < len(args):
            count = integer_between(args[i + 1], 1, _COUNT_MAX, _NO_COUNT)
            i += 2
        elif word == b"JUSTID":
            claim.ids_only = True
            i += 1
        else:
            raise SYNTAX
    return count, claim


# --- XPENDING -------------------------------------------------------------------------------------


@command(
    "XPENDING key group [[IDLE min-idle-time] start end count [consumer]]",
    flags=READONLY,
    group="stream",
    since="5.0.0",
    complexity="O(N) for N entries returned, or looked at with IDLE; O(C) for C consumers in the "
    "summary",
    tips=_RANDOM,
    history=(("6.2.0", "Added the `IDLE` option and exclusive range intervals."),),
)
def xpending(session: Session, args: list[bytes]) -> list[Any]:
    """What is pending with a group: the numbers, or the deliveries."""
    if len(args) != 3 and not 6 <= len(args) <= 9:
        raise SYNTAX
    query = _parse_pending(args) if len(args) > 3 else None
    _, group = look_group(session, args[1], args[2])
    if group is None:
        raise no_such_group(args[1], args[2])
    if query is None:
        return _summary(group)
    return query.run(group, session.node.keyspace.now_ms)


@attrs.frozen
class _PendingQuery:
    idle_ms: int
    start: int
    end: int
    count: int
    consumer: bytes | None

    def run(self, group: Group, now_ms: int) -> list[Any]:
        """Id, consumer, idle time and number of deliveries of what is pending."""
        pending = group.pending
        if self.consumer is not None:
            consumer = group.consumers.get(self.consumer)
            if consumer is None:
                return []
            pending = consumer.pending
        found: list[Any] = []
        for entry_id in pending.ids(self.start, self.end):
            if len(found) >= self.count:
                break
            one = pending.deliveries[entry_id]
            idle_ms = now_ms - one.delivered_ms
            if not self.idle_ms or idle_ms >= self.idle_ms:
                shown = show_id(entry_id), one.consumer.name, max(idle_ms, 0), one.count
                found.append(list(shown))
        return found


def _parse_pending(args: list[bytes]) -> _PendingQuery:
    """XPENDING's options; raises ReplyError."""
    at, idle_ms = 3, 0
    if args[3].upper() == b"IDLE":
        idle_ms = integer(args[4])
        if len(args) < 8:
            raise SYNTAX
        at = 5
    count = most(args[at + 2])
    start, end = parse_start(args[at]), parse_end(args[at + 1])
    consumer = args[at + 3] if at + 3 < len(args) else None
    return _PendingQuery(idle_ms, start, end, count, consumer)


def _summary(group: Group) -> list[Any]:
    if not len(group.pending):
        return [0, None, None, NULL_ARRAY]
    holders = [
        [consumer.name, b"%d" % len(consumer.pending)]
        for consumer in group.in_order()
        if len(consumer.pending)
    ]
    lowest, highest = group.pending.ends()
    return [len(group.pending), show_id(lowest), show_id(highest), holders]
