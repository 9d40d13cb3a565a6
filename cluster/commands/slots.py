"""CLUSTER KEYSLOT COUNTKEYSINSLOT GETKEYSINSLOT FLUSHSLOT ADDSLOTS ADDSLOTSRANGE DELSLOTS
DELSLOTSRANGE FLUSHSLOTS."""

import itertools

from cluster import effects as fx
from cluster.commands.shared import (
    OF_SLOTS,
    VARIES,
    entry,
    pairs_of,
    singles,
    slot_of,
    wrong_subcommand,
)
from cluster.routing import Routing
from cluster.slots import SLOTS, key_slot
from node.command import ADMIN, ALL_DBS, NO_ASYNC_LOADING, STALE, WRITE, command
from node.commands.arguments import integer
from node.execute import execute, unit
from node.replies import OK, SYNTAX, ReplyError
from node.session import Session


@command(
    "CLUSTER KEYSLOT key",
    flags=STALE,
    group="cluster",
    since="3.0.0",
    keys=(),
    complexity="O(N) where N is the number of bytes in the key",
)
def keyslot(session: Session, args: list[bytes]):
    """The slot that a key belongs to."""
    return key_slot(args[2])


@entry("CLUSTER COUNTKEYSINSLOT slot", flags=STALE)
def count_keys_in_slot(routing: Routing, session: Session, args: list[bytes]):
    """How many keys of a slot this node holds."""
    slot = integer(args[2])
    if not 0 <= slot < SLOTS:
        raise ReplyError(b"ERR Invalid slot")
    return len(session.db.keys_of_part(slot))


@entry(
    "CLUSTER GETKEYSINSLOT slot count",
    "O(N) where N is the number of keys asked for",
    STALE,
    tips=VARIES,
)
def get_keys_in_slot(routing: Routing, session: Session, args: list[bytes]):
    """Some of the keys of a slot that this node holds."""
    slot, count = integer(args[2]), integer(args[3])
    if not 0 <= slot < SLOTS or count < 0:
        raise ReplyError(b"ERR Invalid slot or number of keys")
    return list(itertools.islice(session.db.keys_of_part(slot), count))


@entry(
    "CLUSTER FLUSHSLOT slot [ASYNC | SYNC]",
    "O(N) where N is the number of keys in the slot",
    WRITE | ADMIN | NO_ASYNC_LOADING | ALL_DBS,
    since="9.0.0",
    categories="keyspace",
)
def flush_slot(routing: Routing, session: Session, args: list[bytes]):
    """Deletes the keys of a slot, in every database."""
    if len(args) > 4:
        raise wrong_subcommand(args[1])
    slot = slot_of(args[2])
    if len(args) > 3 and args[3].upper() not in (b"ASYNC", b"SYNC"):
        raise SYNTAX
    drop_slot(session, slot)
    return OK


@entry("CLUSTER ADDSLOTS slot [slot ...]", OF_SLOTS)
def add_slots(routing: Routing, session: Session, args: list[bytes]):
    """Lets this node serve slots that nobody serves."""
    routing.ask(fx.AddSlots(singles(args)))
    return OK


@entry(
    "CLUSTER ADDSLOTSRANGE start-slot end-slot [start-slot end-slot ...]",
    OF_SLOTS,
    since="7.0.0",
)
def add_slots_range(routing: Routing, session: Session, args: list[bytes]):
    """As CLUSTER ADDSLOTS, for ranges."""
    routing.ask(fx.AddSlots(pairs_of(args, b"cluster|addslotsrange")))
    return OK


@entry("CLUSTER DELSLOTS slot [slot ...]", OF_SLOTS)
def del_slots(routing: Routing, session: Session, args: list[bytes]):
    """Makes this node hold slots for served by nobody."""
    routing.ask(fx.DelSlots(singles(args)))
    return OK


@entry(
    "CLUSTER DELSLOTSRANGE start-slot end-slot [start-slot end-slot ...]",
    OF_SLOTS,
    since="7.0.0",
)
def del_slots_range(routing: Routing, session: Session, args: list[bytes]):
    """As CLUSTER DELSLOTS, for ranges."""
    routing.ask(fx.DelSlots(pairs_of(args, b"cluster|delslotsrange")))
    return OK


@entry("CLUSTER FLUSHSLOTS")
def flush_slots(routing: Routing, session: Session, args: list[bytes]):
    """Makes this node serve no slots any more; it must be empty."""
    routing.ask(fx.FlushSlots())
    return OK


# --- keys that go with their slot -----------------------------------------------------------------

DROP_BATCH = 1024  # keys deleted by one command


def drop_slot(session: Session, slot: int) -> None:
    """Delete the keys of a slot, in every database, as if each had been deleted."""
    node = session.node
    deleter = node.internal_session()
    deleter.from_primary = session.from_primary
    with unit(node, session):
        for db in node.keyspace.databases:
            deleter.db = db
            keys = list(db.keys_of_part(slot))
            for i in range(0, len(keys), DROP_BATCH):
                execute(node, deleter, [b"DEL", *keys[i : i + DROP_BATCH]])
