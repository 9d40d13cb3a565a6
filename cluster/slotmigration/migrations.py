"""All migrations of a node's slots: how they begin, what ends them, what is left of them.

The member tells of time and of changes in the view; clients and peers come by the commands.
"""

import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import attrs

from cluster.effects import ClusterError, TakeSlots
from cluster.leftovers import deletions, held_slots
from cluster.slotmigration import jobs
from cluster.slotmigration.jobs import EXPORT, IMPORT, Job, Jobs, Range
from cluster.slotmigration.source import CLOSED, Export, establish
from cluster.slotmigration.target import Import
from cluster.slots import members, slot_set
from cluster.view import Node as Peer
from node.data.keyspace import Database
from node.pause import MIGRATION
from node.persistence.log import BOTH
from node.persistence.rdb import Import as SlotImport
from node.session import Session

if TYPE_CHECKING:
    from cluster.routing import Routing
    from node.node import Node

_log = logging.getLogger(__name__)

SECOND_MS = 1000


@attrs.define(eq=False)
class Migrations:
    """What there is of them on one node.

    exported, imported: the slots on their way from and to this node.
    run_later: goes through an iterator in steps, beside the node's other work; the member sets it.
    """

    node: "Node"
    routing: "Routing"
    jobs: Jobs = attrs.field(factory=Jobs)
    exported: int = 0
    imported: int = 0
    run_later: Callable[[Iterator[None]], None] = attrs.field(init=False)
    _exports: dict[Job, Export] = attrs.field(factory=dict)
    _imports: dict[Job, Import] = attrs.field(factory=dict)
    _seconds_ms: int = 0
    _promoted_ms: int | None = None  # until it has been seen to what was inherited
    _was_primary: bool = True

    def __attrs_post_init__(self) -> None:
        self.node.keyspace.on_reset.append(self._database_changes)
        self.node.on_snapshot.append(self._tell_of_moves)

    # --- beginnings ------------------------------------------------------------------------------

    def start_export(self, ranges: tuple[Range, ...], target: Peer) -> None:
        """Give these slots to a node."""
        me, now_s = self.routing.view.myself.id, self._now_s()
        name = f"{self.node.random.getrandbits(160):040x}"
        job = Job(name, EXPORT, ranges, me, target.id, jobs.CONNECTING, now_s)
        job.heard_ms = self.node.now_ms
        self.jobs.add(job)
        self._refresh()
        _log.info("Slot migration %s begins", job)
        export = self._exports[job] = Export(self, job, target.ip, target.port)
        self._listen()
        self.node.transport.connect(export)

    def start_import(
        self, session: Session, name: str, ranges: tuple[Range, ...], source: Peer
    ) -> None:
        """Take slots from the node whose connection this is."""
        me = self.routing.view.myself.id
        job = Job(name, IMPORT, ranges, source.id, me, jobs.WAITING_FOR_ACK, self._now_s())
        job.heard_ms = self.node.now_ms
        self._drop_leftovers(job)
        self.jobs.add(job)
        self._refresh()
        _log.info("Slot migration %s begins", job)
        self._imports[job] = incoming = Import(self, job, session)
        self._listen()
        self._tell_replicas(establish(job))
        incoming.take_over()

    def track(self, name: str, ranges: tuple[Range, ...]) -> None:
        """The primary imports slots, or this node did so before it was restarted."""
        self.jobs.forget(name)
        job = Job(name, IMPORT, ranges, "", "", jobs.ON_PRIMARY, self._now_s(), tracked=True)
        self.jobs.add(job)
        self._refresh()

    def imports(self) -> list[SlotImport]:
        """What is not all there yet, or is still to be cleaned up."""
        unfinished = self.jobs.unfinished(IMPORT)
        return [SlotImport(job.name.encode(), job.ranges) for job in unfinished]

    def import_of(self, session: Session) -> Import | None:
        """The import that this client is the source of."""
        return next((one for one in self._imports.values() if one.session is session), None)

    def _drop_leftovers(self, job: Job) -> None:
        """What is still here of the slots from former times."""
        for _ in deletions(self.node, self.routing.view, job.slots):
            continue

    def _drop_inherited(self, promoted_ms: int) -> None:
        """A former primary may have died before it had deleted all of the slots that it gave away.

        Which those are their owners have to say themselves, after the failover: before it, this
        node may not have heard that a slot had come to its primary. What is on its way here key by
        key stays: this node has been told of that whenever it was given such keys.
        """
        view, node = self.routing.view, self.node
        waited_ms = node.now_ms - promoted_ms
        if waited_ms < 2 * node.config.cluster_node_timeout:
            return
        kept = view.myself.slots | view.unclaimed | view.ceded | self.imported
        rest = held_slots(node) & ~(kept | slot_set(view.importing))
        foreign = 0
        for other in view.others():
            if other.connected and other.claims_heard > node.keyspace.now_ms - waited_ms:
                foreign |= other.slots & rest
        if foreign:
            self.run_later(deletions(node, view, foreign))
        if foreign == rest or view.myself.is_replica:
            self._promoted_ms = None

    # --- the course of things --------------------------------------------------------------------

    def move(self, job: Job, state: str) -> None:
        """A step forward."""
        _log.info("Slot migration %s: %s -> %s", job, job.state, state)
        job.state = state
        job.updated_s = self._now_s()

    def heard(self, job: Job, word: str) -> None:
        """The other side has said something."""
        job.heard_ms = self.node.now_ms
        if word == "ACK":
            job.acked_s = self._now_s()

    def _after_log(self) -> None:
        """The end of each turn, while there is something under way."""
        for export in tuple(self._exports.values()):
            export.after_log()
        for incoming in tuple(self._imports.values()):
            incoming.after_log()

    def _listen(self) -> None:
        listeners = self.node.on_logged
        listens = self._after_log in listeners
        if listens != bool(self._exports or self._imports):
            if listens:
                listeners.remove(self._after_log)
            else:
                listeners.append(self._after_log)

    def tick(self) -> None:
        """What time brings, ten times a second."""
        for job in self.jobs:
            if job.is_under_way:
                self._check(job)
        self.start_snapshots()
        if self.node.now_ms - self._seconds_ms >= SECOND_MS:
            self._seconds_ms = self.node.now_ms
            self._say_acks()
            if self._promoted_ms is not None:
                self._drop_inherited(self._promoted_ms)
        self.jobs.trim(self.node.config.cluster_slot_migration_log_max_len)

    def _check(self, job: Job) -> None:
        node = self.node
        export, incoming = self._exports.get(job), self._imports.get(job)
        if incoming is not None:
            job.heard_ms = max(job.heard_ms, incoming.session.active_ms)
        if job.tracked and self.routing.view.myself.is_primary:
            self.fail(job, jobs.RESTARTED)  # a file tells of it that has just been loaded
            return
        silent_ms = node.now_ms - job.heard_ms
        if job.times_out and silent_ms > 1000 * node.config.repl_timeout:
            self.fail(job, jobs.TIMED_OUT)
        elif incoming is not None and not node.eviction.make_room():
            self.fail(job, jobs.OUT_OF_MEMORY)
        elif export is not None:
            self._check_export(export)

    def _check_export(self, export: Export) -> None:
        job = export.job
        if job.state == jobs.PAUSED and export.is_pause_over():
            self.fail(job, jobs.PAUSE_TIMED_OUT)
        elif job.state == jobs.GRANTED and export.is_pause_over():
            _log.warning(
                "Slot migration %s: the target has not claimed the slots in time. If it still "
                "does, what is written here from now on will be lost!",
                job,
            )
            self.fail(job, jobs.MAY_HAVE_SUCCEEDED)
        elif export.is_overrun():
            self.fail(job, CLOSED, "the target takes too little of what it is sent")

    def start_snapshots(self) -> None:
        """One at a time: each may be a child process."""
        exports = list(self._exports.values())
        if any(export.snapshot is not None for export in exports):
            return
        for export in exports:
            if export.job.state == jobs.WAITING_TO_SNAPSHOT:
                export.start_snapshot()
                return

    def _say_acks(self) -> None:
        sides: list[Export | Import] = [*self._exports.values(), *self._imports.values()]
        for side in sides:
            if side.job.says_ack:
                side.say("ACK")

    # --- ends ------------------------------------------------------------------------------------

    def claim(self, job: Job) -> None:
        """The source has let go: the slots are this node's."""
        try:
            self.routing.ask(TakeSlots(job.slots))
        except ClusterError as error:
            self.fail(job, str(error))
            return
        self.finish(job, jobs.SUCCESS)

    def unsent(self, job: Job) -> int:
        """Bytes that wait for the target to take them."""
        export = self._exports.get(job)
        return 0 if export is None else export.queued

    def cancel_exports(self) -> bool:
        """End all that give slots away, but for those whose target may have taken them already;
        False if there is none."""
        if not self.jobs.unfinished(EXPORT):
            return False
        for job in self.jobs.under_way(EXPORT):
            if job.state != jobs.GRANTED:
                self.finish(job, jobs.CANCELLED)
        return True

    def fail(self, job: Job, message: str, why: str = "") -> None:
        """It can't be done; why: for the log."""
        if job.is_under_way:
            _log.warning("Slot migration %s failed: %s", job, why or message)
            self.finish(job, jobs.FAILED, message)

    def finish(self, job: Job, state: str, message: str = "") -> None:
        """Bring a migration to its end; keys that should not be here are deleted first."""
        job.message = message
        if job.operation == EXPORT:
            self._end_export(job)
        elif self._must_clean(job, state):
            self._end_import(job)
            self.move(job, jobs.CLEANING_UP)
            self.run_later(self._clean(job, state))
            return
        self._conclude(job, state)

    def _end_export(self, job: Job) -> None:
        export = self._exports.pop(job, None)
        if export is not None:
            export.close()
        self._listen()
        job.pause_until_ms = 0
        if not any(other.pause_until_ms for other in self.jobs):
            self.node.pause.stop(MIGRATION)

    def _end_import(self, job: Job) -> None:
        incoming = self._imports.pop(job, None)
        if incoming is not None:
            incoming.close()
        self._listen()

    def _must_clean(self, job: Job, state: str) -> bool:
        """Replicas, and nodes that load their data, are told of each key that is deleted."""
        is_primary = self.routing.view.myself.is_primary
        return is_primary and state != jobs.SUCCESS and self.node.loading is None

    def _clean(self, job: Job, state: str) -> Iterator[None]:
        yield from deletions(self.node, self.routing.view, job.slots, hidden=True)
        if job.state == jobs.CLEANING_UP:
            self._conclude(job, state)

    def _conclude(self, job: Job, state: str) -> None:
        self.move(job, state)
        self._refresh()
        if job.operation == IMPORT:
            self._end_import(job)
            if self.routing.view.myself.is_primary:
                self._tell_replicas(_finish(job))

    def _refresh(self) -> None:
        """Bring up to date which slots are on their way; keys that come are hidden."""
        self.exported, imported = self.jobs.busy(EXPORT), self.jobs.busy(IMPORT)
        if imported != self.imported:
            self.imported = imported
            self.node.keyspace.hide(members(imported))

    def _tell_replicas(self, args: list[bytes]) -> None:
        """Log something that changes no data, for those who must hide the same slots."""
        node = self.node
        if not node.log.active or node.log.follows or node.loading is not None:
            return
        if node.unit is not None:
            node.unit.add(0, [args])
        else:
            node.log.append(0, [args], BOTH)

    def _tell_of_moves(self) -> None:
        """A replica gets all data anew, which tell nothing of moves key by key."""
        view = self.routing.view
        for action, moves in ((b"IMPORTING", view.importing), (b"MIGRATING", view.migrating)):
            for slot, other in moves.items():
                order = (b"CLUSTER", b"SETSLOT", b"%d" % slot, action, other.id.encode())
                self._tell_replicas([*order])

    # --- what happens to the node ----------------------------------------------------------------

    def loaded(self) -> None:
        """The node has loaded its data: what was under way before is no more."""
        if self.routing.view.myself.is_primary:
            self._fail_imports(jobs.RESTARTED)

    def view_changed(self) -> None:
        """Slots or roles are others than before."""
        is_primary = self.routing.view.myself.is_primary
        if is_primary and not self._was_primary:
            self._fail_imports(jobs.FAILED_OVER)
            self._promoted_ms = self.node.now_ms
        self._was_primary = is_primary
        for job in self.jobs.under_way(EXPORT):
            self._check_source(job)
        for job in self.jobs.under_way(IMPORT):
            self._check_target(job)

    def _check_source(self, job: Job) -> None:
        owner = self._owner(job)
        if owner is None or owner.id not in (job.source, job.target):
            self.fail(job, jobs.NOT_MINE)
        elif owner.id == job.target:
            self.finish(job, jobs.SUCCESS)

    def _check_target(self, job: Job) -> None:
        view = self.routing.view
        if view.myself.is_replica:
            # The new primary knows of it and ends it, or its data will replace ours as a whole.
            if job.state != jobs.ON_PRIMARY:
                job.tracked = True
                self._end_import(job)
                self.move(job, jobs.ON_PRIMARY)
            return
        if job.tracked or job.state == jobs.GRANTED:
            return
        owner = self._owner(job)
        if owner is view.myself:
            self.fail(job, jobs.ASSIGNED_TO_ME)
        elif owner is None or owner.id != job.source:
            self.fail(job, jobs.NOT_ITS)

    def _owner(self, job: Job) -> Peer | None:
        """Who owns all the slots of a migration."""
        owner = self.routing.view.owner
        first = owner[job.ranges[0][0]]
        if first is None or job.slots & ~first.slots:
            return None
        return first

    def _fail_imports(self, message: str) -> None:
        for job in self.jobs.under_way(IMPORT):
            self.fail(job, message)

    def _database_changes(self, db: Database, other: Database | None) -> None:
        """A database is emptied, or gets the contents of another one: of a full sync."""
        message = jobs.FLUSHED if other is None else jobs.RESYNCED
        for job in self.jobs:
            if job.is_under_way:
                self.fail(job, message)

    def _now_s(self) -> int:
        return self.node.keyspace.now_ms // 1000


def _finish(job: Job) -> list[bytes]:
    """What tells the target's replicas how a migration has ended."""
    state = b"SUCCESS" if job.state == jobs.SUCCESS else b"FAILED"
    return [
        *(b"CLUSTER", b"SYNCSLOTS", b"FINISH", b"STATE", state),
        *(b"NAME", job.name.encode(), b"MESSAGE", job.message.encode()),
    ]
