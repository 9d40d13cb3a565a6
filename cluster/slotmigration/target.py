"""The target's end of a migration: a client that writes to slots which are not served here.

Its commands run as any client's do, except that no gate holds them up, and that an error ends the
migration. It gets no replies, but words of ours.
"""

from typing import TYPE_CHECKING

import attrs

from cluster.slotmigration import jobs
from cluster.slotmigration.jobs import Job, JobFailure
from cluster.slotmigration.source import CLAIM_MS, word
from cluster.slots import key_slot
from cluster.view import NOFAILOVER
from node.command import MAY_REPLICATE, WRITE, Row
from node.replies import ReplyError
from node.session import REPLY_OFF, Session, session_gate

if TYPE_CHECKING:
    from cluster.slotmigration.migrations import Migrations

NOT_ABOUT_SLOTS = ReplyError(b"ERR A source may only write to the slots that it moves")
_SAYS = frozenset((b"select", b"cluster|syncslots", b"ping"))
REPLICAS_MS = 2000  # how long the target's replicas may take to have everything
CLOSED = (
    "Connection lost to source. Check CLUSTER GETSLOTMIGRATIONS on the source node for more "
    "information."
)


@attrs.define(eq=False)
class Import:
    """session: the source's connection."""

    migrations: "Migrations"
    job: Job
    session: Session
    _waits_ms: int = 0  # since when it waits for its replicas
    _may_pause: bool = False  # they follow
    _needed: int | None = None  # the offset that they must have, once writes are held back
    _counted: int = 0  # bytes of the source's

    def take_over(self) -> None:
        """From here on the client is the source."""
        session = self.session
        session.push_encoded(b"+OK\r\n")
        session.internal = True
        session.imports = self._admit
        session.db = self.migrations.node.keyspace[0]
        session.reply_mode = REPLY_OFF
        session.gate = session_gate(session)
        self._counted = session.bytes_in
        session.on_error = self._on_error
        session.on_close = lambda _: self.migrations.fail(self.job, CLOSED)

    def say(self, name: str) -> None:
        """Send a word."""
        self.session.push_encoded(word(name))

    def close(self) -> None:
        session = self.session
        session.on_close = session.on_error = None
        if not session.dropped:
            session.drop()

    def _admit(self, row: Row, args: list[bytes]) -> None:
        """No gate stands before a source, so it may do no more than it has to."""
        if row.name in _SAYS:
            return
        keys = [args[1]] if row.single_key else [args[i] for i in row.key_indices(args)]
        foreign = any(not self.job.slots >> key_slot(key) & 1 for key in keys)
        changes = row.flags & (WRITE | MAY_REPLICATE) and row.group != "scripting"
        if not changes or not keys or foreign:
            raise NOT_ABOUT_SLOTS

    def _on_error(self, error: ReplyError) -> None:
        text = error.text.decode("latin-1")
        self.migrations.fail(self.job, jobs.REFUSED, f"the source's command ended in: {text}")

    # --- what the source says --------------------------------------------------------------------

    def hear(self, name: str) -> None:
        """A word of the source."""
        migrations, job = self.migrations, self.job
        migrations.heard(job, name)
        try:
            after = job.hear(name)
        except JobFailure as failure:
            migrations.fail(job, str(failure))
            return
        if after == job.state:
            return
        if after == jobs.FAILOVER_REQUESTED:
            self._wait_for_replicas()
        else:
            migrations.move(job, after)
            self._act(after)

    def _act(self, state: str) -> None:
        if state == jobs.WAITING_FOR_PAUSED:
            # A Valkey source counts on that, whatever database its snapshot has ended in.
            self.session.db = self.migrations.node.keyspace[0]
            self._waits_ms = self.migrations.node.now_ms
        elif state == jobs.GRANTED:
            self._claim()

    def _claim(self) -> None:
        """Take the slots, if the source will hear of that before it lets writes go on."""
        migrations = self.migrations
        if migrations.node.now_ms - self._waits_ms > CLAIM_MS // 2:
            migrations.fail(self.job, jobs.GRANTED_TOO_LATE)
        else:
            migrations.claim(self.job)

    # --- what was acknowledged must survive the target, too --------------------------------------

    #
    # So the slots are not taken before each replica that may take this node's place has all of
    # them; nor are writes held back before each of those follows.

    def _wait_for_replicas(self) -> None:
        """The source waits for us: let the replicas have everything first."""
        if self._needed is not None:
            self.migrations.fail(self.job, jobs.UNEXPECTED)
            return
        node = self.migrations.node
        node.role.primary.ask_acks()
        self._needed, self._waits_ms, self._may_pause = node.log.flush(), node.now_ms, True

    def _heirs(self) -> int:
        """How many replicas may take this node's place: not those whose process has ended, as it
        follows anew when it is back, nor those that have been out of reach for too long."""
        node = self.migrations.node
        config, now = node.config, node.keyspace.now_ms
        factor = config.cluster_replica_validity_factor
        lasts_ms = (factor + 1) * config.cluster_node_timeout
        lasts_ms += 1000 * config.repl_ping_replica_period
        return sum(
            not replica.gone
            and not replica.flags & NOFAILOVER
            and not (factor and replica.failed and now - replica.fail_time > lasts_ms)
            for replica in self.migrations.routing.view.myself.replicas
        )

    def after_log(self) -> None:
        """A turn has ended: perhaps the replicas have said that they have it all."""
        self.migrations.node.observe.slot_bytes_in += self.session.bytes_in - self._counted
        self._counted = self.session.bytes_in
        if self.job.state == jobs.WAITING_FOR_PAUSED:
            if self._needed is not None:
                self._ask_for_slots(self._needed)
            elif not self._may_pause:
                self._ask_for_pause()

    def _ask_for_pause(self) -> None:
        node = self.migrations.node
        follow = sum(replica.streams() for replica in node.role.primary.replicas)
        if follow >= self._heirs():
            self._may_pause = True
            self.say("REQUEST-PAUSE")
        elif node.now_ms - self._waits_ms > 1000 * node.config.repl_timeout:
            self.migrations.fail(self.job, jobs.NOT_FOLLOWED)

    def _ask_for_slots(self, needed: int) -> None:
        node = self.migrations.node
        if node.role.primary.count_acknowledged(needed) >= self._heirs():
            self.migrations.move(self.job, jobs.FAILOVER_REQUESTED)
            self.say("REQUEST-FAILOVER")
            self._waits_ms = node.now_ms
        elif node.now_ms - self._waits_ms > REPLICAS_MS:
            self.migrations.fail(self.job, jobs.NOT_FOLLOWED)
