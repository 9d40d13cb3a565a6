"""PING ECHO."""

from node.command import FAST, command
from node.replies import PONG
from node.session import Session


@command("PING [message]", flags=FAST, group="connection", since="1.0.0", arity=-1)
def ping(session: Session, args: list[bytes]):
    """Tell whether the server is there."""
    return args[1] if len(args) > 1 else PONG
