"""Who serves which slots, who replicates whom, and under which epoch.

A primary claims its slots in every ping, under its config epoch. Where two claim a slot, the
greater epoch wins; a node that sees a claim under a smaller one tells the claimer by UPDATE. Two
primaries that have the same config epoch part: the one with the smaller id takes a new one. A
node whose shard loses its last slot follows the winner, so a failed primary that comes back
becomes a replica of the one that replaced it.
"""

from cluster import message as m
from cluster.ceded import Ceded
from cluster.desk import Desk
from cluster.effects import (
    ClusterError,
    DropSlots,
    Flush,
    Follow,
    Promote,
    Replicate,
    Reset,
    SetConfigEpoch,
)
from cluster.gossip import Gossip
from cluster.message import Header
from cluster.moves import Moves
from cluster.slots import EVERY_SLOT, ranges
from cluster.speaker import Speaker
from cluster.view import FAIL, MIGRATE_TO, PFAIL, Node


class Ownership:
    """Claims, epochs and roles, and the commands that set the latter two."""

    def __init__(self, desk: Desk, speaker: Speaker, gossip: Gossip) -> None:
        self.desk = desk
        self.speaker = speaker
        self.gossip = gossip
        self.moves = Moves(desk)
        self.ceded = Ceded(desk)
        self._following: tuple[str, str, int] | None = None

    # ---- what a known sender's header says

    def hear_epochs(self, sender: Node, header: Header) -> bool:
        """Note epochs and offset; True if the sender has come to a greater config epoch."""
        view = self.desk.view
        view.current_epoch = max(view.current_epoch, header.current_epoch)
        sender.offset = header.offset
        if header.primary or header.config_epoch <= sender.config_epoch:
            return False
        sender.config_epoch = header.config_epoch
        # Not every message is asked for claims, but no old one counts under a new epoch.
        view.disclaimed |= sender.slots & ~header.slots
        self.desk.changed()
        return True

    def hear_role(self, sender: Node, header: Header) -> None:
        """Follow a sender's role and claims; tell it of those that others outdo."""
        was_replica = sender.is_replica
        if header.primary:
            self._hear_replica(sender, header)
        else:
            if not sender.is_primary:
                self.desk.view.make_primary(sender)
                self.desk.changed()
            disclaimed = self.desk.view.disclaimed & header.slots
            if was_replica or sender.slots != header.slots or disclaimed:
                self.hear_claims(sender, header.config_epoch, header.slots)
                self._correct(sender, header)
            # What is repeated late may be of an epoch, or of slots, that are no longer its own.
            is_new = header.config_epoch == sender.config_epoch
            if is_new and sender is self.desk.myself.primary:
                self.moves.hear_service(header.slots & sender.slots)
            if self.desk.view.ceded:
                self.ceded.hear_service(sender, header.slots)
        sender.claims_heard = self.desk.now
        self._part_epochs(sender, header)

    def _hear_replica(self, sender: Node, header: Header) -> None:
        desk, view = self.desk, self.desk.view
        primary = view.nodes.get(header.primary)
        if sender.is_primary and not self._hear_demotion(sender, primary, header):
            return
        if primary is None or primary is sender or primary is sender.primary:
            return
        view.make_replica(sender, primary)
        desk.log(
            "notice",
            f"Node {sender.label} is now a replica of node {primary.label} "
            f"in shard {primary.shard_id}",
        )
        self._leave_chain()
        sender.shard_id = primary.shard_id
        desk.changed()

    def _hear_demotion(self, sender: Node, primary: Node | None, header: Header) -> bool:
        """A primary says that it is a replica now; False if that is old news, to be ignored."""
        desk, view = self.desk, self.desk.view
        if primary is not None and view.same_shard(primary, sender) and sender.slots:
            if sender.config_epoch > header.config_epoch:
                desk.log(
                    "notice",
                    f"Ignore stale message from {sender.label} in shard {sender.shard_id}; "
                    f"gossip config epoch: {header.config_epoch}, "
                    f"current config epoch: {sender.config_epoch}",
                )
                return False
            # A replica tells its primary's slots: the winner of this failover claims them so.
            self.on_update(m.Update(header, primary.id, header.config_epoch, header.slots))
        view.make_replica(sender, None)
        if sender.slots:
            desk.log(
                "notice",
                f"Node {sender.label} is no longer primary of shard {sender.shard_id}; "
                f"removed all {sender.slots.bit_count()} slot(s) it used to own",
            )
            view.assign(sender.slots, None)
        desk.changed()
        return True

    def _leave_chain(self) -> None:
        """A replica whose primary has become a replica follows that one's primary."""
        myself = self.desk.myself
        primary = myself.primary
        if primary is None or primary.primary is None or primary.primary is myself:
            return
        self.desk.log(
            "notice",
            f"I'm a sub-replica! Reconfiguring myself as a replica of {primary.primary.id} "
            f"from {primary.id}",
        )
        self.follow(primary.primary)

    # ---- claims

    def hear_claims(self, claimer: Node, epoch: int, claimed: int) -> None:
        """A primary claims a set of slots under an epoch: rebind those it has a right to."""
        desk, view, myself = self.desk, self.desk.view, self.desk.myself
        # Who is held for the owner and claims a slot still has it; others' claims come to it below.
        disclaimed = view.disclaimed & ~(claimed & claimer.slots) | claimer.slots & ~claimed
        if disclaimed != view.disclaimed:
            view.disclaimed = disclaimed
            desk.changed()
        if claimer is myself:
            desk.log("notice", "Discarding UPDATE message about myself.")
            return
        serving = view.serving
        outdone = [node for node in view.order if node.config_epoch < epoch]
        free = view.unclaimed
        for node in outdone:
            free |= node.slots
        taken = free & claimed & ~claimer.slots
        lost = serving.slots & taken
        if taken:
            self._rebind(claimer, taken)
        self.moves.follow(claimer, epoch)
        if (lost and not serving.slots) or self._is_overtaken(claimer, epoch, claimed):
            self.yield_to(claimer, claimed)

    def _rebind(self, claimer: Node, taken: int) -> None:
        desk, view = self.desk, self.desk.view
        for node in view.order:
            if not view.same_shard(node, claimer):
                for first, last in ranges(node.slots & taken):
                    which = f"Slot {first}" if first == last else f"Slot range [{first}, {last}]"
                    desk.log(
                        "notice",
                        f"{which} is migrated from node {node.label} in shard "
                        f"{node.shard_id} to node {claimer.label} in shard {claimer.shard_id}.",
                    )
        mine = view.myself.slots & taken
        lost = view.serving.slots & taken
        given = self.moves.given_to(claimer) & mine
        # Who forgets that such a slot has gone still has it as migrating, and sends clients on.
        leaving = self.moves.leaving_to(claimer)
        view.assign(taken, claimer)
        self.moves.taken_by(claimer, taken)
        if lost and not view.same_shard(claimer, view.myself):
            self.ceded.add(lost & ~(given | self.moves.coming()))
        # One that loses all of its slots becomes a replica, whose data is replaced as a whole.
        if mine & given and view.myself.slots:
            desk.do(DropSlots(mine & given))
        desk.changed(sync=mine & ~leaving != 0)

    def _is_overtaken(self, claimer: Node, epoch: int, claimed: int) -> bool:
        """Without slots on either side, a shard's primary is the one with the greater epoch."""
        view, myself = self.desk.view, self.desk.myself
        return (
            not claimed
            and not myself.slots
            and myself.primary is not claimer
            and myself.serving_epoch < epoch
            and view.same_shard(claimer, myself)
            and not (myself.primary is not None and myself.primary.slots)
        )

    def yield_to(self, winner: Node, claimed: int) -> None:
        """My shard's last slot is gone: follow who has it, if that is allowed."""
        desk, view, myself = self.desk, self.desk.view, self.desk.myself
        same_shard = view.same_shard(winner, myself)
        if same_shard or desk.options.allow_replica_migration:
            desk.log(
                "notice",
                "Configuration change detected. Reconfiguring myself as a replica of node "
                f"{winner.label} in shard {winner.shard_id}",
            )
            self.follow(winner)
            desk.announce = True
        elif myself.is_primary:
            desk.log(
                "notice",
                f"My last slot was migrated to node {winner.label} in shard {winner.shard_id}. "
                "I am now an empty primary.",
            )
            desk.do(DropSlots(claimed & ~view.ceded))

    def _correct(self, sender: Node, header: Header) -> None:
        """Tell a sender about every owner that outdoes one of its claims."""
        view = self.desk.view
        contested = header.slots & ~sender.slots & ~view.unclaimed
        if not contested:
            return
        for owner in view.order:
            if owner.slots & contested and owner.config_epoch > header.config_epoch:
                self.desk.log(
                    "verbose",
                    f"Node {sender.label} has old slots configuration, sending an UPDATE "
                    f"message about {owner.label}",
                )
                self.speaker.update(sender, owner)

    def on_update(self, message: m.Update) -> None:
        """Somebody tells this node of an owner under an epoch that it doesn't know."""
        view = self.desk.view
        node = view.nodes.get(message.node_id)
        if node is None or node is view.myself or node.config_epoch >= message.config_epoch:
            return
        view.make_primary(node)
        node.config_epoch = message.config_epoch
        self.desk.changed()
        self.hear_claims(node, message.config_epoch, message.slots)

    def reclaim(self) -> None:
        """Take slots back that this node has lost, and that nobody serves."""
        desk, slots = self.desk, self.ceded.orphaned()
        if not slots:
            return
        for first, last in ranges(slots):
            desk.log("notice", f"Nobody serves slots {first}-{last} any more: taking them back.")
        desk.view.assign(slots, desk.myself)
        self.bump_epoch()
        desk.changed(sync=True)
        desk.announce = True

    # ---- epochs

    def _part_epochs(self, sender: Node, header: Header) -> None:
        """Of two primaries with one config epoch, the one with the smaller id takes another."""
        myself = self.desk.myself
        if not (myself.is_primary and sender.is_primary):
            return
        if header.config_epoch != myself.config_epoch or sender.id <= myself.id:
            return
        self._next_epoch()
        self.desk.log(
            "warning",
            f"configEpoch collision with node {sender.label}. "
            f"configEpoch set to {myself.config_epoch}",
        )
        self.speaker.pong_replicas()

    def _next_epoch(self) -> None:
        view = self.desk.view
        view.current_epoch += 1
        view.myself.config_epoch = view.current_epoch
        self.desk.changed(sync=True)

    def bump_epoch(self) -> bool:
        """Take an epoch greater than everybody's without asking; False if it is that already."""
        view = self.desk.view
        greatest = view.max_epoch()
        if 0 < view.myself.config_epoch == greatest:
            return False
        view.current_epoch = greatest
        self._next_epoch()
        self.desk.log("notice", f"New configEpoch set to {view.myself.config_epoch}")
        return True

    def set_config_epoch(self, request: SetConfigEpoch) -> None:
        """CLUSTER SET-CONFIG-EPOCH, for a node that is alone and has none."""
        view = self.desk.view
        if request.epoch < 0:
            raise ClusterError(f"ERR Invalid config epoch specified: {request.epoch}")
        if len(view.nodes) > 1:
            raise ClusterError(
                "ERR The user can assign a config epoch only when the node does not know any "
                "other node."
            )
        if view.myself.config_epoch:
            raise ClusterError("ERR Node config epoch is already non-zero")
        view.myself.config_epoch = request.epoch
        view.current_epoch = max(view.current_epoch, request.epoch)
        self.desk.changed(sync=True)
        self.desk.log("notice", f"configEpoch set to {request.epoch} via CLUSTER SET-CONFIG-EPOCH")

    # ---- roles of this node

    def follow(self, primary: Node) -> None:
        """Become a replica of a primary, or of another one than before."""
        desk, view, myself = self.desk, self.desk.view, self.desk.myself
        if not view.same_shard(primary, myself):
            self.moves.clear()
            view.ceded = 0
        was_primary = myself.is_primary
        self.moves.forget_ends()
        view.make_replica(myself, primary)
        myself.shard_id = primary.shard_id
        desk.role_changed = True
        desk.changed(sync=True)
        if was_primary:
            desk.event("demoted", myself, primary.id)

    def become_primary(self) -> None:
        """Stop replicating. Which slots to serve is the caller's matter."""
        self.desk.view.make_primary(self.desk.myself)
        self._following = None
        self.desk.do(Promote())
        self.desk.role_changed = True
        self.desk.changed(sync=True)

    def align_replication(self) -> None:
        """Let the node follow what the view says, wherever that is to be found now."""
        myself = self.desk.myself
        primary = myself.primary
        if primary is None or not primary.has_address:
            return
        target = (primary.id, primary.ip, primary.port)
        if myself.is_replica and target != self._following:
            self._following = target
            self.desk.do(Follow(*target))

    def replicate(self, request: Replicate) -> None:
        """CLUSTER REPLICATE; an empty id is NO ONE."""
        desk, myself = self.desk, self.desk.myself
        if not request.node_id:
            self._replicate_no_one()
            return
        primary = desk.known(request.node_id)
        if primary is myself:
            raise ClusterError("ERR Can't replicate myself")
        if primary.is_replica:
            raise ClusterError("ERR I can only replicate a master, not a replica.")
        if myself.is_primary and (myself.slots or desk.facts.keys):
            raise ClusterError(
                "ERR To set a master the node must be empty and without assigned slots."
            )
        if myself.primary is not primary:
            self.follow(primary)
            desk.announce = True

    def _replicate_no_one(self) -> None:
        desk, myself = self.desk, self.desk.myself
        if myself.is_primary:
            return
        myself.shard_id = desk.new_id()
        self.become_primary()
        self.moves.forget_ends()
        desk.do(Flush())
        desk.log("notice", "Stop replication and turning myself into empty primary.")
        desk.announce = True

    def reset(self, request: Reset) -> None:
        """CLUSTER RESET: alone again, without slots; HARD also with a new id and no epoch."""
        desk, view, myself = self.desk, self.desk.view, self.desk.myself
        if myself.is_primary and desk.facts.keys:
            raise ClusterError(
                "ERR CLUSTER RESET can't be called with master nodes containing keys"
            )
        if myself.is_replica:
            self.become_primary()
            desk.do(Flush())
            myself.shard_id = desk.new_id()
        self.moves.clear()
        view.ceded = 0
        view.assign(EVERY_SLOT & ~view.unassigned, None)
        for node in list(view.others()):
            self.gossip.remove(node)
        if request.hard:
            view.current_epoch = view.last_vote_epoch = myself.config_epoch = 0
            view.rename(myself, desk.new_id())
            myself.shard_id = desk.new_id()
            desk.log("notice", f"Node hard reset, now I'm {myself.id}")
        view.restarted = False
        desk.role_changed = True
        desk.changed(sync=True)

    # ---- replicas that move

    def check_orphans(self) -> None:
        """A replica that its primary can spare goes to a primary that has lost all of its own."""
        desk, view, myself = self.desk, self.desk.view, self.desk.myself
        if not (myself.primary and view.ok and desk.options.allow_replica_migration):
            return
        working = {
            node: sum(not replica.flags & (FAIL | PFAIL) for replica in node.replicas)
            for node in view.order
            if node.is_primary
        }
        target = self._orphan(working)
        most = max(working.values())
        mine = working.get(myself.primary, 0)
        if target is None or mine < 2 or mine < most or mine <= desk.options.migration_barrier:
            return
        spare = (
            replica.id for node in working if working[node] == most for replica in node.replicas
        )
        if min(spare) == myself.id:
            desk.log(
                "notice",
                f"Migrating to orphaned primary {target.label} in shard {target.shard_id}",
            )
            self.follow(target)
            desk.announce = True

    def _orphan(self, working: dict[Node, int]) -> Node | None:
        """The first primary that has been without working replicas for long enough."""
        found = None
        for node, replicas in working.items():
            if replicas or node.failed or not node.flags & MIGRATE_TO or not node.slots:
                node.orphaned_since = 0
                continue
            node.orphaned_since = node.orphaned_since or self.desk.now
            waited = self.desk.now - node.orphaned_since
            if found is None and waited > self.desk.options.replica_migration_delay:
                found = node
        return found
