"""SAVE BGSAVE BGREWRITEAOF LASTSAVE."""

from typing import TYPE_CHECKING

from node.command import ADMIN, FAST, LOADING, NO_ASYNC_LOADING, NO_MULTI, NOSCRIPT, STALE, command
from node.replies import OK, SYNTAX, ReplyError, Status
from node.session import Session

if TYPE_CHECKING:
    from node.persistence.saves import Saves

ALREADY_SAVING = ReplyError(b"ERR Background save already in progress")
NOT_SAVING = ReplyError(b"ERR Background saving is currently not in progress or scheduled")
FAILED = ReplyError(b"ERR")
BUSY_REWRITING = ReplyError(
    b"ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in "
    b"order to schedule a BGSAVE whenever possible."
)
ALREADY_REWRITING = ReplyError(b"ERR Background append only file rewriting already in progress")
CANNOT_REWRITE = ReplyError(
    b"ERR Can't execute an AOF background rewriting. Please check the server logs for more "
    b"information."
)


@command(
    "SAVE",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING | NO_MULTI,
    group="server",
    since="1.0.0",
    complexity="O(N) where N is the total number of keys in all databases",
)
def save(session: Session, args: list[bytes]):
    """Writes the data to their file, while everybody waits."""
    saves = session.node.saves
    if saves.running is not None:
        raise ALREADY_SAVING
    if not saves.save():
        raise FAILED
    return OK


@command(
    "BGSAVE [SCHEDULE | CANCEL]",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING,
    group="server",
    since="1.0.0",
    complexity="O(1)",
    history=(("3.2.2", "Added the `SCHEDULE` option."), ("8.1.0", "Added the `CANCEL` option.")),
)
def bgsave(session: Session, args: list[bytes]):
    """Writes the data to their file in the background."""
    node = session.node
    saves = node.saves
    word = args[1].upper() if len(args) == 2 else b""
    if len(args) > 2 or (word and word not in (b"SCHEDULE", b"CANCEL")):
        raise SYNTAX
    if word == b"CANCEL":
        return _cancel(saves)
    if saves.running is not None:
        raise ALREADY_SAVING
    rewrites = node.aof.rewriting.running is not None
    if rewrites and not word:
        raise BUSY_REWRITING
    # In the middle of a transaction there is no state to be saved.
    if rewrites or node.unit is not None:
        saves.scheduled = True
        return Status(b"Background saving scheduled")
    if not saves.start():
        raise FAILED
    return Status(b"Background saving started")


def _cancel(saves: "Saves") -> Status:
    if not saves.is_wanted():
        raise NOT_SAVING
    was_running = saves.running is not None
    saves.cancel()
    return Status(
        b"Background saving cancelled" if was_running else b"Scheduled background saving cancelled"
    )


@command(
    "BGREWRITEAOF",
    flags=ADMIN | NOSCRIPT | NO_ASYNC_LOADING,
    group="server",
    since="1.0.0",
    complexity="O(1)",
)
def bgrewriteaof(session: Session, args: list[bytes]):
    """Rewrites the append-only file in the background."""
    node = session.node
    rewriting = node.aof.rewriting
    if rewriting.running is not None:
        raise ALREADY_REWRITING
    if node.has_child() or node.unit is not None:
        rewriting.scheduled, rewriting.failures = True, 0
        return Status(b"Background append only file rewriting scheduled")
    if not rewriting.start():
        raise CANNOT_REWRITE
    return Status(b"Background append only file rewriting started")


@command(
    "LASTSAVE",
    flags=LOADING | STALE | FAST,
    group="server",
    since="1.0.0",
    categories="admin dangerous",
    complexity="O(1)",
    tips=(b"nondeterministic_output",),
)
def lastsave(session: Session, args: list[bytes]):
    """When the data were last written to their file, in seconds since the Unix epoch."""
    return session.node.saves.saved_at_ms // 1000
