"""What the CLUSTER subcommands have in common: their rows, and how their arguments are read."""

from collections.abc import Callable
from typing import Any

from cluster.effects import ClusterError
from cluster.routing import Routing
from cluster.slots import SLOTS
from cluster.view import Node as Peer
from node.command import ADMIN, NO_ASYNC_LOADING, STALE, Handler, command
from node.commands.arguments import integer
from node.replies import ReplyError, wrong_arity
from node.session import Session

DISABLED = ReplyError(b"ERR This instance has cluster support disabled")
INVALID_SLOT = ReplyError(b"ERR Invalid or out of range slot")
CHANGES = ADMIN | STALE | NO_ASYNC_LOADING
VARIES = (b"nondeterministic_output",)
OF_NODES = "O(N) where N is the number of nodes"
OF_SLOTS = "O(N) where N is the number of slots given"

_Handler = Callable[[Routing, Session, list[bytes]], Any]


def clustered(handler: _Handler) -> Handler:
    """A handler that only makes sense in a cluster: it gets the routing as well."""

    def checked(session: Session, args: list[bytes]) -> Any:
        routing = session.node.topology
        if not isinstance(routing, Routing):
            raise DISABLED
        try:
            return handler(routing, session, args)
        except ClusterError as refusal:
            raise ReplyError(str(refusal).encode()) from None

    checked.__doc__ = handler.__doc__
    return checked


def entry(usage: str, complexity: str = "O(1)", flags: int = CHANGES, **more: Any) -> Any:
    """The table row of a CLUSTER subcommand; they have much in common."""
    more = {"since": "3.0.0", "keys": ()} | more

    def enter(handler: _Handler) -> _Handler:
        row = command(usage, flags=flags, group="cluster", complexity=complexity, **more)
        row(clustered(handler))
        return handler

    return enter


# --- arguments ----------------------------------------------------------------------------------


def text_of(arg: bytes) -> str:
    """An id or address as text; whatever isn't one is still shown as it came."""
    return arg.decode("utf-8", "surrogateescape")


def slot_of(arg: bytes) -> int:
    """A slot's number; raises INVALID_SLOT."""
    slot = integer(arg, INVALID_SLOT)
    if not 0 <= slot < SLOTS:
        raise INVALID_SLOT
    return slot


def singles(args: list[bytes]) -> tuple[tuple[int, int], ...]:
    """The slots after the subcommand, each a range of its own; raises ReplyError."""
    return tuple((slot, slot) for slot in map(slot_of, args[2:]))


def pairs_of(args: list[bytes], name: bytes) -> tuple[tuple[int, int], ...]:
    """The ranges after the subcommand `name`; raises ReplyError."""
    if len(args) % 2:
        raise wrong_arity(name)
    edges = list(map(slot_of, args[2:]))
    pairs = tuple(zip(edges[::2], edges[1::2], strict=True))
    for first, last in pairs:
        if first > last:
            raise ReplyError(
                b"ERR start slot number %d is greater than end slot number %d" % (first, last)
            )
    return pairs


def known(routing: Routing, arg: bytes) -> Peer:
    """The node of this id; raises ReplyError."""
    node = routing.view.nodes.get(text_of(arg))
    if node is None:
        raise ReplyError(b"ERR Unknown node " + arg)
    return node


def wrong_subcommand(word: bytes) -> ReplyError:
    """The answer to arguments that no form of a subcommand has."""
    return ReplyError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try CLUSTER HELP." % word
    )
