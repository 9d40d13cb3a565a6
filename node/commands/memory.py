"""MEMORY USAGE STATS DOCTOR PURGE MALLOC-STATS: where the bytes are."""

from typing import Any

from node.command import LOADING, READONLY, STALE, command
from node.commands.arguments import integer
from node.commands.help import help_text
from node.data.keyspace import Database
from node.data.memory import SAMPLES, size_of
from node.eviction import PER_KEY
from node.info import memory_used
from node.replies import OK, SYNTAX, Verbatim
from node.session import Session

_PER_DEADLINE = 120  # of the tables of deadlines, the order in which they come included
_LITTLE = 5 << 20  # of data; a doctor has nothing to look at
_PEAK_IS_HIGH = 1.5  # times what is in use now
_UNSENT_IS_MUCH = 200 << 10  # bytes of replies that wait, per client
_ALL_SHARDS = (
    b"nondeterministic_output",
    b"request_policy:all_shards",
    b"response_policy:special",
)


@command(
    "MEMORY", flags=0, group="server", since="4.0.0", complexity="Depends on subcommand.", arity=-2
)
def memory(session: Session, args: list[bytes]) -> Any:
    """A container for memory diagnostics commands."""


@command(
    "MEMORY USAGE key [SAMPLES count]",
    flags=READONLY,
    group="server",
    since="4.0.0",
    access="RO",
    complexity="O(N) where N is the number of samples.",
)
def usage(session: Session, args: list[bytes]) -> int | None:
    """Estimates the bytes that a key and its value take."""
    samples, options = SAMPLES, args[3:]
    while options:
        if options[0].upper() != b"SAMPLES" or len(options) < 2:
            raise SYNTAX
        samples = integer(options[1])
        if samples < 0:
            raise SYNTAX
        options = options[2:]
    db, key = session.db, args[2]
    value = db.peek(key)
    if value is None:
        return None
    per_key = PER_KEY + (_PER_DEADLINE if key in db.expires else 0)
    return size_of(key) + size_of(value, samples) + per_key


@command(
    "MEMORY STATS",
    flags=0,
    group="server",
    since="4.0.0",
    complexity="O(1)",
    tips=_ALL_SHARDS,
)
def stats(session: Session, args: list[bytes]) -> dict[bytes, Any]:
    """Tells what the memory is used for."""
    node = session.node
    used, peak = memory_used(node)
    startup = node.observe.startup_memory
    sessions = list(node.sessions.values())
    databases = [db for db in node.keyspace.databases if db.size]
    backlog = node.log.backlog_length()
    unsent = sum(one.unsent() for one in sessions)
    tables = sum(_keys(db) + _deadlines(db) for db in databases)
    overhead = startup + backlog + unsent + tables
    dataset = max(used - overhead, 0)
    keys = sum(db.size for db in databases)
    result: dict[bytes, Any] = {
        b"peak.allocated": peak,
        b"total.allocated": used,
        b"startup.allocated": startup,
        b"replication.backlog": backlog,
        b"clients.slaves": 0,
        b"clients.normal": unsent,
        b"cluster.links": 0,
        b"aof.buffer": 0,
        b"lua.caches": node.scripting.cache.size(),
        b"functions.caches": node.scripting.libraries.size(),
    }
    for db in databases:
        result[b"db.%d" % db.index] = {
            b"overhead.hashtable.main": _keys(db),
            b"overhead.hashtable.expires": _deadlines(db),
        }
    return result | {
        b"overhead.total": overhead,
        b"keys.count": keys,
        b"keys.bytes-per-key": max(used - startup, 0) // keys if keys else 0,
        b"dataset.bytes": dataset,
        b"dataset.percentage": 100.0 * dataset / max(used - startup, 1),
        b"peak.percentage": 100.0 * used / max(peak, 1),
        b"fragmentation": 1.0,
    }


def _keys(db: Database) -> int:
    return db.size * PER_KEY


def _deadlines(db: Database) -> int:
    return (len(db.expires) + len(db.field_expires)) * _PER_DEADLINE


@command(
    "MEMORY DOCTOR",
    flags=0,
    group="server",
    since="4.0.0",
    complexity="O(1)",
    tips=_ALL_SHARDS,
)
def doctor(session: Session, args: list[bytes]) -> Verbatim:
    """Looks for problems with memory."""
    node = session.node
    used, peak = memory_used(node)
    if used - node.observe.startup_memory < _LITTLE:
        return Verbatim(b"Hi Sam, there is hardly anything in memory: come back with some data.")
    found = []
    if peak > _PEAK_IS_HIGH * used:
        found.append(
            b"Peak memory: more than half as much again was in use once (%d bytes, %d now). What "
            b"was freed may be kept for what comes; MEMORY PURGE gives it back." % (peak, used)
        )
    sessions = node.sessions.values()
    unsent = sum(one.unsent() for one in sessions)
    if unsent > _UNSENT_IS_MUCH * max(len(sessions), 1):
        found.append(
            b"Big replies: %d bytes wait for clients that read slowly. CLIENT LIST shows at omem "
            b"for whom." % unsent
        )
    if not found:
        return Verbatim(b"Hi Sam, I can't find any memory issue in your instance.")
    return Verbatim(
        b"Sam, I detected a few issues:\n\n" + b"\n".join(b" * " + one for one in found)
    )


@command(
    "MEMORY PURGE",
    flags=LOADING,
    group="server",
    since="4.0.0",
    complexity="O(N) where N is the number of objects in memory.",
    tips=(b"request_policy:all_shards", b"response_policy:all_succeeded"),
)
def purge(session: Session, args: list[bytes]) -> Any:
    """Gives memory that is free back to the operating system."""
    session.node.host.release_memory()
    return OK


@command(
    "MEMORY MALLOC-STATS",
    flags=LOADING,
    group="server",
    since="4.0.0",
    complexity="O(1)",
    tips=_ALL_SHARDS,
)
def malloc_stats(session: Session, args: list[bytes]) -> Verbatim:
    """Tells what the allocator says of itself; ours says nothing."""
    return Verbatim(b"Stats not supported for the current allocator")


@command(
    "MEMORY HELP",
    flags=LOADING | STALE,
    group="server",
    since="4.0.0",
    complexity="O(1)",
)
def help_(session: Session, args: list[bytes]) -> Any:
    """Shows the subcommands."""
    return help_text(session, b"MEMORY")
