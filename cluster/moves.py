"""Slots on the move key by key: how a move goes on, or ends, as others change what they serve.

Which slots are on the move is in the view: `migrating` from this node's shard, and `importing` to
it. CLUSTER SETSLOT begins and ends a move (see `assignment`).
"""

from cluster.desk import Desk
from cluster.slots import slot_set
from cluster.view import Node

IN_VAIN_MS = 2000  # after which a primary that says nothing of a move's end has waited in vain

Ends = dict[int, tuple[Node, int]]


class Moves:
    """Looks after the moves of this node's shard."""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        # Those of which a replica has been told that they end: with whom, and when.
        self._imported: Ends = {}
        self._migrated: Ends = {}

    def given_to(self, claimer: Node) -> int:
        """The slots that are on their way from here to a node, those that move as a whole too."""
        return self.desk.facts.exported | self.leaving_to(claimer)

    def leaving_to(self, claimer: Node) -> int:
        """Those that go to it key by key."""
        moves = self.desk.view.migrating.items()
        return slot_set(slot for slot, to in moves if to is claimer)

    def coming(self) -> int:
        """The slots that are on their way here, or may be."""
        return slot_set([*self.desk.view.importing, *self._imported])

    def clear(self) -> None:
        """All has ended."""
        self.desk.view.migrating.clear()
        self.desk.view.importing.clear()
        self.forget_ends()

    # ---- what becomes of them when slots get another owner

    def taken_by(self, claimer: Node, taken: int) -> None:
        """Slots on the move have a new owner: a failover keeps the move, else it ends."""
        view = self.desk.view
        if not view.same_shard(claimer, view.myself):
            for slot in [slot for slot in view.migrating if taken >> slot & 1]:
                del view.migrating[slot]
        for slot, source in list(view.importing.items()):
            if taken >> slot & 1 and source is not claimer:
                if view.same_shard(claimer, source):
                    view.importing[slot] = claimer
                else:
                    del view.importing[slot]

    def follow(self, claimer: Node, epoch: int) -> None:
        """A failover in the shard that slots are moved to: its new primary is the target."""
        view = self.desk.view
        for slot, target in list(view.migrating.items()):
            outdone = target.config_epoch < epoch or target.is_replica
            if target is not claimer and outdone and view.same_shard(target, claimer):
                view.migrating[slot] = claimer
                self.desk.changed(sync=True)

    # ---- what a replica is told by its primary

    def told_of_end(self, slot: int) -> None:
        """My primary tells that a move ends. It does so before it ends it, and may wait in vain
        for one who was told: so what has become of it, it has to say."""
        view = self.desk.view
        for moves, ended in ((view.importing, self._imported), (view.migrating, self._migrated)):
            if slot in moves:
                ended[slot] = moves.pop(slot), self.desk.now

    def forget_end(self, slot: int) -> None:
        """My primary tells something else of a slot."""
        self._imported.pop(slot, None)
        self._migrated.pop(slot, None)

    def forget_ends(self) -> None:
        """My primary is another one than before, or none."""
        self._imported.clear()
        self._migrated.clear()

    def inherit(self) -> None:
        """This node takes its primary's place: what had not ended for all goes on."""
        view = self.desk.view
        served = view.myself.slots
        for moves, ended, done in (
            (view.importing, self._imported, served),
            (view.migrating, self._migrated, ~served),
        ):
            going_on = {slot: other for slot, (other, _) in ended.items() if not done >> slot & 1}
            moves.update((s, other) for s, other in going_on.items() if other.id in view.nodes)
        self.forget_ends()

    def hear_service(self, served: int) -> None:
        """My primary says what it serves: moves that it has not ended go on, others have ended."""
        view = self.desk.view
        self._settle(view.importing, self._imported, served)
        self._settle(view.migrating, self._migrated, ~served)

    def _settle(self, moves: dict[int, Node], ended: Ends, done: int) -> None:
        """Of slots on the move one way, some are where they were to go."""
        for slot in [slot for slot in (*moves, *ended) if done >> slot & 1]:
            moves.pop(slot, None)
            ended.pop(slot, None)
            self.desk.changed()
        for slot, (other, told_at) in list(ended.items()):
            if self.desk.now - told_at > IN_VAIN_MS:
                del ended[slot]
                if other.id in self.desk.view.nodes:
                    moves[slot] = other
                    self.desk.changed()
