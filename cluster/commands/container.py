"""CLUSTER itself, and CLUSTER HELP."""

from cluster.commands.shared import entry
from cluster.routing import Routing
from node.command import LOADING, STALE, command
from node.commands.help import help_text
from node.replies import wrong_arity
from node.session import Session

_USAGES = """\
COUNTKEYSINSLOT <slot>
GETKEYSINSLOT <slot> <count>
INFO
KEYSLOT <key>
MYID
MYSHARDID
NODES
REPLICAS <node-id>
SLOTS
SLOT-STATS
SHARDS
ADDSLOTS <slot> [<slot> ...]
ADDSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]
BUMPEPOCH
COUNT-FAILURE-REPORTS <node-id>
DELSLOTS <slot> [<slot> ...]
DELSLOTSRANGE <start slot> <end slot> [<start slot> <end slot> ...]
FAILOVER [FORCE|TAKEOVER]
FORGET <node-id>
FLUSHSLOTS
MEET <ip> <port> [<bus-port>]
REPLICATE <node-id>
RESET [HARD|SOFT]
SET-CONFIG-EPOCH <epoch>
SETSLOT <slot> (IMPORTING <node-id>|MIGRATING <node-id>|STABLE|NODE <node-id>)
SAVECONFIG
LINKS
MIGRATESLOTS SLOTSRANGE start-slot end-slot [start-slot end-slot ...] NODE node-id \
[SLOTSRANGE start-slot end-slot [start-slot end-slot ...] NODE node-id ...]
CANCELSLOTMIGRATIONS ALL
GETSLOTMIGRATIONS"""


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
    return help_text(session, b"CLUSTER", _USAGES)
