"""CLUSTER MEET FORGET REPLICATE FAILOVER RESET BUMPEPOCH SET-CONFIG-EPOCH SAVECONFIG."""

from cluster import effects as fx
from cluster.commands.shared import OF_NODES, VARIES, entry, text_of, wrong_subcommand
from cluster.directives import BUS_OFFSET
from cluster.routing import Routing
from node.command import ADMIN, NOSCRIPT, STALE
from node.commands.arguments import integer
from node.replies import OK, SYNTAX, ReplyError, Status
from node.session import Session


@entry("CLUSTER MEET ip port [cluster-bus-port]",
         history=(("4.0.0", "The port of the bus may be given."),))  # fmt: skip
def meet(routing: Routing, session: Session, args: list[bytes]):
    """Lets this node and another join each other's cluster."""
    if len(args) > 5:
        raise wrong_subcommand(args[1])
    port = integer(args[3], ReplyError(b"ERR Invalid base port specified: " + args[3]))
    bus_port = port + BUS_OFFSET
    if len(args) > 4:
        bus_port = integer(args[4], ReplyError(b"ERR Invalid bus port specified: " + args[4]))
    if not 0 < port < 65536:
        raise ReplyError(b"ERR Port number is out of range")
    if not 0 < bus_port < 65536:
        raise ReplyError(b"ERR Cluster bus port number is out of range")
    routing.ask(fx.Meet(text_of(args[2]), port, bus_port))
    return OK


@entry("CLUSTER FORGET node-id")
def forget(routing: Routing, session: Session, args: list[bytes]):
    """Drops a node, and for a while doesn't let it back in."""
    routing.ask(fx.Forget(text_of(args[2])))
    return OK


@entry(
    "CLUSTER REPLICATE <node-id | NO ONE>",
    history=(("9.0.0", "NO ONE makes it an empty primary."),),
)
def replicate(routing: Routing, session: Session, args: list[bytes]):
    """Makes this node a replica of a primary, or of none."""
    if len(args) > 3:
        if len(args) != 4 or (args[2].upper(), args[3].upper()) != (b"NO", b"ONE"):
            raise wrong_subcommand(args[1])
        routing.ask(fx.Replicate(""))
        return OK
    routing.ask(fx.Replicate(text_of(args[2])))
    return OK


@entry("CLUSTER FAILOVER [FORCE | TAKEOVER]")
def failover(routing: Routing, session: Session, args: list[bytes]):
    """Lets this replica take its primary's place, with its consent, without, or without a vote."""
    words = [word.upper() for word in args[2:]]
    if session.from_primary:
        return _asked_by_primary(routing, args)
    if not set(words) <= {b"FORCE", b"TAKEOVER"}:
        raise SYNTAX
    routing.ask(fx.Failover(max(words, default=b"").decode()))  # TAKEOVER goes further
    return OK


def _asked_by_primary(routing: Routing, args: list[bytes]):
    """FORCE REPLICAID id: a primary that ends has chosen who takes its place."""
    if len(args) != 5 or args[3].upper() != b"REPLICAID":
        raise SYNTAX
    if text_of(args[4]) == routing.node_id:
        routing.ask(fx.Failover("FORCE"))
    return OK


@entry("CLUSTER RESET [HARD | SOFT]", OF_NODES, ADMIN | STALE | NOSCRIPT)
def reset(routing: Routing, session: Session, args: list[bytes]):
    """Takes this node out of its cluster; HARD gives it a new id, too."""
    if len(args) > 3:
        raise wrong_subcommand(args[1])
    word = args[2].upper() if len(args) > 2 else b"SOFT"
    if word not in (b"HARD", b"SOFT"):
        raise SYNTAX
    routing.ask(fx.Reset(word == b"HARD"))
    return OK


@entry("CLUSTER BUMPEPOCH", tips=VARIES)
def bump_epoch(routing: Routing, session: Session, args: list[bytes]):
    """Gives this node a greater epoch than any it knows of, without a vote."""
    return Status(str(routing.ask(fx.BumpEpoch())).encode())


@entry("CLUSTER SET-CONFIG-EPOCH config-epoch")
def set_config_epoch(routing: Routing, session: Session, args: list[bytes]):
    """Gives an epoch to a node that is new and alone."""
    routing.ask(fx.SetConfigEpoch(integer(args[2])))
    return OK


@entry("CLUSTER SAVECONFIG")
def save_config(routing: Routing, session: Session, args: list[bytes]):
    """Writes nodes.conf at once."""
    routing.ask(fx.SaveConfig())
    return OK
