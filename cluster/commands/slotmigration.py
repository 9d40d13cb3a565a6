"""CLUSTER MIGRATESLOTS GETSLOTMIGRATIONS CANCELSLOTMIGRATIONS SYNCSLOTS.

https://valkey.io/commands/cluster-migrateslots/ and its neighbours; the words of errors are those
of valkey-server 9.1.
"""

from collections.abc import Sequence
from typing import Any

from cluster.commands.shared import CHANGES, entry, slot_of
from cluster.routing import Routing
from cluster.slotmigration import jobs
from cluster.slotmigration.jobs import EXPORT, IMPORT, Job, Range
from cluster.slotmigration.migrations import Migrations
from cluster.slots import lowest
from cluster.view import Node as Peer
from node.command import ALL_DBS, MAY_REPLICATE
from node.replies import NO_REPLY, OK, SYNTAX, ReplyError
from node.session import Session

ONLY_PRIMARIES = ReplyError(b"ERR Slot migration can only be used on primary nodes.")
IMPORTING = ReplyError(b"ERR Slots are being manually imported")
MIGRATING = ReplyError(b"ERR Slots are being manually migrated")
NO_END = ReplyError(b"ERR No end slot for final slot range")
NO_RANGES = ReplyError(b"ERR No slot ranges specified")
SEVERAL_SHARDS = ReplyError(b"ERR Requested slots span multiple shards")
NOT_SERVED_HERE = ReplyError(b"ERR Slots are not served by this node.")
OVERLAP = ReplyError(b"ERR Slot ranges in migrations overlap")
TARGET_IS_MYSELF = ReplyError(b"ERR Target node can not be this node.")
NONE_ONGOING = ReplyError(b"ERR No migrations ongoing")
UNKNOWN_SOURCE = ReplyError(b"ERR Target node does not know the source node")
SOURCE_IS_MYSELF = ReplyError(b"ERR Source node is target node itself")
DISAGREED = ReplyError(b"ERR Target node does not agree about current slot ownership")
IMPORTED_ALREADY = ReplyError(
    b"ERR Slot is already being imported on the target by a different migration"
)
NO_SUCH_JOB = ReplyError(b"ERR No such slot migration job")
ID_SIZE = 40
_OF_JOBS = "O(N) where N is the number of migrations"
_WORDS = frozenset(("ACK", *jobs.WORDS))  # that only the two sides say
_RESULTS = {b"SUCCESS": jobs.SUCCESS, b"FAILED": jobs.FAILED}


# --- what operators say ---------------------------------------------------------------------------


@entry(
    "CLUSTER MIGRATESLOTS <SLOTSRANGE <start-slot end-slot> [<start-slot end-slot> ...] "
    "NODE node-id> [<SLOTSRANGE <start-slot end-slot> [<start-slot end-slot> ...] "
    "NODE node-id> ...]",
    "O(N) where N is the number of slots given",
    CHANGES | ALL_DBS,
    since="9.0.0",
    arity=-4,
)
def migrate_slots(routing: Routing, session: Session, args: list[bytes]):
    """Moves slots of this node to others, each group as a whole."""
    migrations = routing.migrations
    _check_may_start(migrations)
    wanted: list[tuple[tuple[Range, ...], Peer]] = []
    at, seen = 2, 0
    while at < len(args):
        if args[at].upper() != b"SLOTSRANGE":
            raise SYNTAX
        ranges, owner, at = _ranges(migrations, args, at + 1)
        slots = jobs.slots_of(ranges)
        _check_own(migrations, owner, slots)
        if slots & seen:
            raise OVERLAP
        seen |= slots
        if at + 1 >= len(args) or args[at].upper() != b"NODE":
            raise SYNTAX
        wanted.append((ranges, _target(migrations, args[at + 1])))
        at += 2
    for ranges, target in wanted:
        migrations.start_export(ranges, target)
    return OK


def _check_own(migrations: Migrations, owner: Peer, slots: int) -> None:
    if owner is not migrations.routing.view.myself:
        raise NOT_SERVED_HERE
    busy = slots & migrations.jobs.busy(EXPORT)
    if busy:
        raise ReplyError(b"ERR I am already migrating slot %d." % lowest(busy))


def _target(migrations: Migrations, arg: bytes) -> Peer:
    if len(arg) != ID_SIZE:
        raise ReplyError(b"ERR Invalid node name: " + arg)
    node = migrations.routing.view.nodes.get(arg.decode("latin-1"))
    if node is None:
        raise ReplyError(b"ERR Unknown node name: " + arg)
    if node is migrations.routing.view.myself:
        raise TARGET_IS_MYSELF
    return node


@entry("CLUSTER CANCELSLOTMIGRATIONS", _OF_JOBS, CHANGES | ALL_DBS, since="9.0.0")
def cancel_slot_migrations(routing: Routing, session: Session, args: list[bytes]):
    """Gives up every move of slots away from this node."""
    if not routing.migrations.cancel_exports():
        raise NONE_ONGOING
    return OK


@entry("CLUSTER GETSLOTMIGRATIONS", _OF_JOBS, since="9.0.0")
def get_slot_migrations(routing: Routing, session: Session, args: list[bytes]):
    """The moves of slots that are under way, and those that have ended of late."""
    return [_described(routing.migrations, job) for job in routing.migrations.jobs]


def _described(migrations: Migrations, job: Job) -> dict[bytes, Any]:
    fields: dict[bytes, Any] = {
        b"name": job.name.encode(),
        b"operation": job.operation.encode(),
        b"slot_ranges": jobs.to_text(job.ranges).encode(),
    }
    if not job.tracked:
        fields[b"target_node"] = job.target.encode()
        fields[b"source_node"] = job.source.encode()
    return fields | {
        b"create_time": job.created_s,
        b"last_update_time": job.updated_s,
        b"last_ack_time": job.acked_s,
        b"state": job.state.encode(),
        b"message": job.message.encode("latin-1", "replace"),
        b"cow_size": 0,
        b"remaining_repl_size": migrations.unsent(job),
    }


# --- what nodes say to each other -----------------------------------------------------------------


@entry(
    "CLUSTER SYNCSLOTS subcommand [argument ...]",
    "Depends on subcommand.",
    CHANGES | MAY_REPLICATE,
    since="9.0.0",
)
def sync_slots(routing: Routing, session: Session, args: list[bytes]):
    """How the two sides of a move of slots, and their replicas, speak of it."""
    migrations = routing.migrations
    word = args[2].upper()
    if word == b"ESTABLISH":
        return _establish(migrations, session, args)
    if word == b"FINISH":
        return _finish(migrations, args)
    if session.from_primary:
        return NO_REPLY  # a Valkey primary passes all on that its source says
    incoming, name = migrations.import_of(session), word.decode("latin-1")
    if incoming is not None:
        incoming.hear(name)
        return NO_REPLY
    if name == "CAPA":
        return NO_REPLY
    if name in _WORDS:
        text = b"ERR CLUSTER SYNCSLOTS %b should only be used by slot migration clients"
        raise ReplyError(text % word)
    raise SYNTAX


def _establish(migrations: Migrations, session: Session, args: list[bytes]) -> Any:
    """A source wants to send slots; or, in the stream of a primary or a file, has wanted to."""
    tracks = session.from_primary or session.internal
    if not tracks:
        _check_may_start(migrations)
    source = owner = None
    name = b""
    ranges: tuple[Range, ...] = ()
    at = 3
    while at < len(args):
        word = args[at].upper()
        if word == b"SLOTSRANGE" and not ranges:
            ranges, owner, at = _ranges(migrations, args, at + 1, check=not tracks)
            if jobs.slots_of(ranges) & migrations.jobs.busy(IMPORT):
                raise IMPORTED_ALREADY
            continue
        if at + 1 >= len(args) or len(args[at + 1]) != ID_SIZE:
            raise SYNTAX
        if word == b"SOURCE" and source is None:
            source = None if tracks else _source(migrations, args[at + 1])
        elif word == b"NAME" and not name:
            name = args[at + 1]
        else:
            raise SYNTAX
        at += 2
    if not name or not ranges or (source is None and not tracks):
        raise SYNTAX
    if tracks:
        migrations.track(name.decode("latin-1"), ranges)
        return OK
    if owner is not source:
        raise DISAGREED
    assert source is not None
    migrations.start_import(session, name.decode("latin-1"), ranges, source)
    return NO_REPLY


def _source(migrations: Migrations, arg: bytes) -> Peer:
    view = migrations.routing.view
    node = view.nodes.get(arg.decode("latin-1"))
    if node is None:
        raise UNKNOWN_SOURCE
    if node is view.myself:
        raise SOURCE_IS_MYSELF
    return node


def _finish(migrations: Migrations, args: list[bytes]) -> Any:
    """A primary tells its replicas how a migration has ended."""
    told: dict[bytes, bytes] = {}
    for at in range(3, len(args), 2):
        word = args[at].upper()
        if word not in (b"STATE", b"NAME", b"MESSAGE") or word in told or at + 1 >= len(args):
            raise SYNTAX
        told[word] = args[at + 1]
    if b"STATE" not in told or len(told.get(b"NAME", b"")) != ID_SIZE:
        raise SYNTAX
    job = migrations.jobs.find(told[b"NAME"].decode("latin-1"))
    if job is None:
        raise NO_SUCH_JOB
    state = _RESULTS.get(told[b"STATE"].upper())
    if state is None:
        raise SYNTAX
    if job.operation == EXPORT or not job.is_under_way:
        return OK
    migrations.finish(job, state, told.get(b"MESSAGE", b"").decode("latin-1"))
    return OK


# --- arguments ------------------------------------------------------------------------------------


def _check_may_start(migrations: Migrations) -> None:
    view = migrations.routing.view
    if not view.myself.is_primary:
        raise ONLY_PRIMARIES
    if view.importing:
        raise IMPORTING
    if view.migrating:
        raise MIGRATING


def _ranges(
    migrations: Migrations, args: Sequence[bytes], at: int, *, check: bool = True
) -> tuple[tuple[Range, ...], Peer, int]:
    """The pairs of slots from `at` on, who owns them all, and where they end.

    check: False for what was true at another node: the slots may be anybody's here.
    """
    found: list[Range] = []
    myself = migrations.routing.view.myself
    owner: Peer | None = None if check else myself
    while at < len(args) and _is_number(args[at]):
        first = slot_of(args[at])
        if at + 1 >= len(args):
            raise NO_END
        last = slot_of(args[at + 1])
        if first > last:
            text = b"ERR Start slot number %d is greater than end slot number %d."
            raise ReplyError(text % (first, last))
        if check:
            owner = _owner(migrations, first, last, owner)
        _check_apart(found, first, last)
        found.append((first, last))
        at += 2
    if not found:
        raise NO_RANGES
    assert owner is not None
    return tuple(found), owner, at


def _owner(migrations: Migrations, first: int, last: int, known: Peer | None) -> Peer:
    """Who owns all of these slots and is who owns those before."""
    owners = migrations.routing.view.owner
    for slot in range(first, last + 1):
        owner = owners[slot]
        if owner is None:
            raise ReplyError(b"ERR Slot %d has no node served." % slot)
        if known is not None and owner is not known:
            raise SEVERAL_SHARDS
        known = owner
    assert known is not None
    return known


def _check_apart(found: list[Range], first: int, last: int) -> None:
    for low, high in found:
        if first <= high and last >= low:
            text = b"ERR Slot range %d-%d overlaps with previous range %d-%d."
            raise ReplyError(text % (first, last, low, high))


def _is_number(arg: bytes) -> bool:
    return arg.removeprefix(b"-").isdigit()
