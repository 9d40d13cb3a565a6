"""CLUSTER and what goes with it; importing this package enters the rows into the table.

container  CLUSTER itself, HELP
report     who is who, and who serves what, as this node sees it
nodes      MEET FORGET REPLICATE FAILOVER RESET, epochs
slots      the slots this node serves, and the keys in them
setslot    SETSLOT: a slot on its way to another node
slot_stats SLOT-STATS
scan       CLUSTERSCAN
slotmigration  MIGRATESLOTS and what belongs to it
client     ASKING READONLY READWRITE
"""

from cluster.commands import (
    client,
    container,  # before the subcommands
    nodes,
    report,
    scan,
    setslot,
    slot_stats,
    slotmigration,
    slots,
)

__all__ = [
    "client",
    "container",
    "nodes",
    "report",
    "scan",
    "setslot",
    "slot_stats",
    "slotmigration",
    "slots",
]
