"""CLUSTER itself, and CLUSTER HELP."""

from cluster.commands.shared import entry
from cluster.routing import Routing
from node.command import LOADING, STALE, command
from node.commands.help import help_text
from node.replies import wrong_arity
from node.session import Session


@command(
    "CLUSTER",
    flags=0,
    group="cluster",
    since="3.0.0",
    arity=-2,
    complexity="Depends on subcommand.",
)
def cluster(session: Session, args: list[bytes]):
    """Everything about the cluster this node is in."""
    raise wrong_arity(b"cluster")


@entry("CLUSTER HELP", flags=LOADING | STALE, since="5.0.0")
def help_(routing: Routing, session: Session, args: list[bytes]):
    """The subcommands."""
    return help_text(session, b"CLUSTER")
