"""Keys of slots that are not served here: deleted a few at a time, beside the node's other work."""

from collections.abc import Iterator
from itertools import chain, compress

from cluster.slots import EVERY_SLOT, SLOTS, members, slot_set
from cluster.view import View
from node.data.keyspace import Database
from node.execute import execute
from node.node import Node
from node.session import Session

BATCH = 128  # keys deleted by one command


def deletions(node: Node, view: View, slots: int, *, hidden: bool = False) -> Iterator[None]:
    """Delete the keys of those slots that are not this node's, a batch at a step; a replica's
    keys are its primary's business, also if it has become one meanwhile.

    hidden: those of slots that are on their way here, too; else they are left alone.
    """
    session = node.internal_session()
    for slot in members(slots & ~view.myself.slots):
        for db in node.keyspace.databases:
            keys = list(db.parts[slot])
            for i in range(0, len(keys), BATCH):
                if view.myself.is_replica:
                    return
                comes = not hidden and slot in node.keyspace.hidden
                if comes or view.owner[slot] is view.myself:
                    break
                _delete(session, db, keys[i : i + BATCH])
                yield


def _delete(session: Session, db: Database, keys: list[bytes]) -> None:
    session.db = db
    execute(session.node, session, [b"UNLINK", *keys])


def held_slots(node: Node, among: int = EVERY_SLOT) -> int:
    """The slots, of these, of which there are keys here."""
    used = (compress(range(SLOTS), db.parts) for db in node.keyspace.databases if db.size)
    return slot_set(chain.from_iterable(used)) & among
