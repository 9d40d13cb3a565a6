"""The slots of this node as the operator assigns them, and as its data demand.

CLUSTER ADDSLOTS, DELSLOTS, FLUSHSLOTS and SETSLOT, and what a node does after loading keys of
slots that it doesn't serve.
"""

from cluster.desk import Desk
from cluster.effects import (
    AddSlots,
    ClusterError,
    DelSlots,
    DropSlots,
    FlushSlots,
    Loaded,
    SetSlot,
    TakeSlots,
)
from cluster.ownership import Ownership
from cluster.slots import lowest, members, slot_range
from cluster.view import Node

ANNOUNCE_PERIOD = 100


class Assignment:
    """Which slots this node is given and takes, and telling the others in time."""

    def __init__(self, desk: Desk, ownership: Ownership) -> None:
        self.desk = desk
        self.ownership = ownership
        self._announced = 0
        self._announce_due = False

    def add_slots(self, request: AddSlots) -> None:
        """CLUSTER ADDSLOTS, ADDSLOTSRANGE"""
        wanted = self._checked(request.ranges, busy=True)
        self._free_moves(wanted)
        self.desk.view.assign(wanted, self.desk.myself)
        self._slots_changed()

    def del_slots(self, request: DelSlots) -> None:
        """CLUSTER DELSLOTS, DELSLOTSRANGE"""
        unwanted = self._checked(request.ranges, busy=False)
        self._free_moves(unwanted)
        self.desk.view.assign(unwanted, None)
        self.desk.view.ceded &= ~unwanted
        self._slots_changed()

    def flush_slots(self, request: FlushSlots) -> None:
        """CLUSTER FLUSHSLOTS"""
        if self.desk.facts.keys:
            raise ClusterError("ERR DB must be empty to perform CLUSTER FLUSHSLOTS.")
        self.desk.view.assign(self.desk.myself.slots, None)
        self._slots_changed()

    def _checked(self, ranges: tuple[tuple[int, int], ...], busy: bool) -> int:
        """The set of the slots given; ClusterError for one that is (not) `busy`, or there twice."""
        chosen = 0
        for first, last in ranges:
            span = slot_range(first, last)
            wrong = span & (~self.desk.view.unassigned if busy else self.desk.view.unassigned)
            twice = span & chosen
            if wrong and (not twice or lowest(wrong) <= lowest(twice)):
                state = "busy" if busy else "unassigned"
                raise ClusterError(f"ERR Slot {lowest(wrong)} is already {state}")
            if twice:
                raise ClusterError(f"ERR Slot {lowest(twice)} specified multiple times")
            chosen |= span
        return chosen

    def _free_moves(self, slots: int) -> None:
        for slot in [slot for slot in self.desk.view.importing if slots >> slot & 1]:
            del self.desk.view.importing[slot]

    def _slots_changed(self) -> None:
        """Let the others know, but not once for each of 16384 commands in a row."""
        self.desk.changed(sync=True)
        self._announce_due = True
        self.announce_if_due()

    def wake_at(self) -> int | None:
        """When a change of slots is due to be told."""
        return self._announced + ANNOUNCE_PERIOD if self._announce_due else None

    def announce_if_due(self) -> None:
        """Tell the changed slots if the last time is long enough ago."""
        if self._announce_due and self.desk.now - self._announced >= ANNOUNCE_PERIOD:
            self._announced = self.desk.now
            self._announce_due = False
            self.desk.announce = True

    def set_slot(self, request: SetSlot) -> None:
        """CLUSTER SETSLOT. A replica does it as its primary, which tells it to."""
        view, slot = self.desk.view, request.slot
        node = self._checked_target(request)
        if request.rehearsed:
            return
        if request.action != "NODE":
            self.ownership.moves.forget_end(slot)
        if node is None:
            view.importing.pop(slot, None)
            view.migrating.pop(slot, None)
            self.desk.log("notice", f"Marking slot {slot} stable")
        elif request.action == "MIGRATING":
            view.migrating[slot] = node
        elif request.action == "IMPORTING":
            view.importing[slot] = node
        else:
            self._give_slot(slot, node, request.keys)
            return
        # A replica has it from its primary, and will need it only should that be lost.
        self.desk.changed(save=True, sync=self.desk.myself.is_primary)

    def _checked_target(self, request: SetSlot) -> Node | None:
        """The node that is meant, None for STABLE; ClusterError if that can't be done."""
        view, slot, action = self.desk.view, request.slot, request.action
        self._check_stays(slot)
        if action == "STABLE":
            return None
        mine = view.owner[slot] is view.serving
        if action == "MIGRATING" and not mine:
            raise ClusterError(f"ERR I'm not the owner of hash slot {slot}")
        if action == "IMPORTING" and mine:
            raise ClusterError(f"ERR I'm already the owner of hash slot {slot}")
        node = view.nodes.get(request.node_id)
        if node is None or node.in_handshake:
            unknown = "Unknown node" if action == "NODE" else "I don't know about node"
            raise ClusterError(f"ERR {unknown} {request.node_id}")
        if action != "NODE" and node is view.myself:
            raise ClusterError("ERR Target node is myself")
        if node.is_replica:
            raise ClusterError("ERR Target node is not a master")
        if action == "NODE" and mine and node is not view.serving and request.keys:
            raise ClusterError(
                f"ERR Can't assign hashslot {slot} to a different node while I still hold keys "
                "for this hash slot."
            )
        return node

    def _check_stays(self, slot: int) -> None:
        """A slot moves in one way at a time."""
        facts = self.desk.facts
        for slots, direction in ((facts.exported, "export"), (facts.imported, "import")):
            if self.desk.myself.is_primary and slots >> slot & 1:
                raise ClusterError(f"ERR Slot {direction} in progress.")

    def _give_slot(self, slot: int, node: Node, keys: int) -> None:
        """CLUSTER SETSLOT slot NODE id: the end of a move, on either side of it."""
        view, myself = self.desk.view, self.desk.myself
        if myself.is_replica:
            self.ownership.moves.told_of_end(slot)
            view.assign(1 << slot, node)
            self.desk.changed()
            return
        imported = node is myself and view.importing.pop(slot, None) is not None
        was_mine, was_leaving = view.owner[slot] is myself, slot in view.migrating
        if keys == 0:
            view.migrating.pop(slot, None)
        view.assign(1 << slot, node)
        # Who forgets that it gave a slot away still has it as migrating, and sends clients on.
        self.desk.changed(sync=node is myself or (was_mine and not was_leaving))
        if imported:
            # Without a greater epoch the old owner's claim would win.
            self.ownership.bump_epoch()
            self.desk.announce = True
        if was_mine and not myself.slots and node is not myself:
            self.ownership.yield_to(node, 1 << slot)

    def take_slots(self, request: TakeSlots) -> None:
        """The end of a move of slots as a whole, on the side that they come to."""
        view, myself = self.desk.view, self.desk.myself
        if myself.is_replica:
            raise ClusterError("ERR Slots can only be taken by a primary")
        self._free_moves(request.slots)
        view.assign(request.slots, myself)
        # Without a greater epoch the old owner's claim would win.
        self.ownership.bump_epoch()
        self.desk.changed(sync=True)
        self.desk.announce = True

    def loaded(self, request: Loaded) -> None:
        """Make slots and data agree after a start."""
        desk, view, myself = self.desk, self.desk.view, self.desk.myself
        if myself.is_replica:
            return
        taken = request.slots & view.unassigned
        for slot in members(taken):
            desk.log(
                "notice",
                f"I have keys for unassigned slot {slot}. Taking responsibility for it.",
            )
        view.assign(taken, myself)
        foreign = request.slots & ~(myself.slots | view.ceded)
        for slot in [slot for slot in view.importing if foreign >> slot & 1]:
            foreign &= ~(1 << slot)
        for slot in members(foreign):
            desk.log(
                "notice",
                f"I have keys for slot {slot}, but the slot is assigned to another node. "
                "Deleting keys in the slot.",
            )
        if foreign:
            desk.do(DropSlots(foreign))
        if taken:
            desk.changed(sync=True)
