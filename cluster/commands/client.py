"""ASKING READONLY READWRITE."""

from cluster.commands.shared import DISABLED
from node.command import FAST, LOADING, STALE, command
from node.replies import OK
from node.session import Session, session_gate


@command(
    "ASKING",
    flags=FAST,
    group="cluster",
    since="3.0.0",
    categories="connection",
    complexity="O(1)",
)
def asking(session: Session, args: list[bytes]):
    """Lets the next command run on a slot that is being moved here."""
    if not session.node.topology.clustered:
        raise DISABLED
    session.asking = True
    session.gate = session_gate(session)
    return OK


@command(
    "READONLY",
    flags=FAST | LOADING | STALE,
    group="cluster",
    since="3.0.0",
    categories="connection",
    complexity="O(1)",
)
def readonly(session: Session, args: list[bytes]):
    """Lets this client read from a replica, whose data may be old."""
    session.reads_replica = True
    return OK


@command(
    "READWRITE",
    flags=FAST | LOADING | STALE,
    group="cluster",
    since="3.0.0",
    categories="connection",
    complexity="O(1)",
)
def readwrite(session: Session, args: list[bytes]):
    """Sends this client to the primary again for reads as well."""
    session.reads_replica = False
    return OK
