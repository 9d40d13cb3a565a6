"""MONITOR."""

from node import monitor as monitors
from node.command import ADMIN, LOADING, NOSCRIPT, STALE, command
from node.replies import NO_REPLY, OK, ReplyError
from node.session import Session

_NOT_HERE = ReplyError(b"ERR MONITOR isn't allowed for DENY BLOCKING client")


@command(
    "MONITOR",
    flags=ADMIN | NOSCRIPT | LOADING | STALE,
    group="server",
    since="1.0.0",
)
def monitor(session: Session, args: list[bytes]):
    """Shows every command that the server runs from now on."""
    if session.node.unit is not None:
        raise _NOT_HERE
    return OK if monitors.start(session.node, session) else NO_REPLY
