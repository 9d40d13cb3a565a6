"""INFO TIME LOLWUT SHUTDOWN."""

from node import info as information
from node.command import (
    ADMIN,
    ALLOW_BUSY,
    FAST,
    LOADING,
    NO_MULTI,
    NOSCRIPT,
    READONLY,
    STALE,
    command,
)
from node.commands.arguments import integer
from node.config.file import REDIS_VERSION
from node.replies import OK, PENDING, SYNTAX, ReplyError, Verbatim, Wait
from node.session import Session
from node.shutdown import Wish

NO_CLUSTER = ReplyError(b"ERR SHUTDOWN FAILOVER is only supported in cluster mode.")
NOT_SHUTTING_DOWN = ReplyError(b"ERR No shutdown in progress.")
_MASTHEAD = r"""
      |    |    |
     )_)  )_)  )_)
    )___))___))___)\
   )____)____)_____)\\
 _____|____|____|____\\\__
 \  0    5460   10922  16383/
~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~~
"""


@command(
    "INFO [section ...]",
    flags=LOADING | STALE,
    group="server",
    since="1.0.0",
    categories="dangerous",
    complexity="O(1)",
    tips=(
        b"nondeterministic_output",
        b"request_policy:all_shards",
        b"response_policy:special",
    ),
    history=(("7.0.0", "Takes several sections."),),
)
def info(session: Session, args: list[bytes]):
    """What the server is, how it is doing and what it has done."""
    names = [arg.decode(errors="replace") for arg in args[1:]] or ["default"]
    return Verbatim(information.text(session.node, names).encode())


@command(
    "TIME",
    flags=LOADING | STALE | FAST,
    group="server",
    since="2.6.0",
    complexity="O(1)",
    tips=(b"nondeterministic_output",),
)
def time(session: Session, args: list[bytes]):
    """The server's clock: seconds since the Unix epoch, and microseconds into the second."""
    seconds, milliseconds = divmod(session.node.keyspace.now_ms, 1000)
    return [b"%d" % seconds, b"%d" % (milliseconds * 1000)]


@command(
    "LOLWUT [VERSION version]",
    flags=READONLY | FAST,
    group="server",
    since="5.0.0",
)
def lolwut(session: Session, args: list[bytes]):
    """Sails past, and tells the version."""
    for arg in args[2 if len(args) > 2 and args[1].upper() == b"VERSION" else 1 :]:
        integer(arg)
    return Verbatim(f"{_MASTHEAD}Slotfleet, Redis ver. {REDIS_VERSION}\n".encode())


@command(
    "SHUTDOWN [ABORT | NOSAVE | SAVE] [NOW] [FORCE] [SAFE] [FAILOVER]",
    flags=ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI | ALLOW_BUSY,
    group="server",
    since="1.0.0",
    complexity="O(N) when saving, where N is the total number of keys in all databases when saving "
    "data, otherwise O(1)",
    history=(("7.0.0", "Knows `NOW`, `FORCE` and `ABORT`."),),
)
def shutdown(session: Session, args: list[bytes]):
    """Ends the server, after writing what has to be written."""
    node = session.node
    words = {arg.upper() for arg in args[1:]}
    if words - _SHUTDOWN_WORDS or words >= {b"SAVE", b"NOSAVE"}:
        raise SYNTAX
    if b"ABORT" in words:
        if len(words) > 1:
            raise SYNTAX
        if not node.shutdown.abort():
            raise NOT_SHUTTING_DOWN
        return OK
    if b"FAILOVER" in words and not node.topology.clustered:
        raise NO_CLUSTER
    save = True if b"SAVE" in words else False if b"NOSAVE" in words else None
    now = b"NOW" in words
    if node.scripting.is_busy():
        save, now = False, True  # the data are those of a script's half
    safe, failover = b"SAFE" in words, b"FAILOVER" in words
    node.shutdown.begin(Wish(save, now, b"FORCE" in words, safe, failover))
    outcome = node.shutdown.outcome()
    return Wait(node.shutdown.outcome, held_command=True) if outcome is PENDING else outcome


_SHUTDOWN_WORDS = frozenset((b"ABORT", b"NOSAVE", b"SAVE", b"NOW", b"FORCE", b"SAFE", b"FAILOVER"))
