"""What a node does for the replicas that follow it.

A replica's client session becomes a `Replica` when it says REPLCONF, and starts to follow with
PSYNC: from the backlog, if that holds what it lacks, else by a snapshot and then the log from that
moment on. Each has a cursor in the one log; nobody waits for a slow one, which is dropped when it
owes too much reading.
"""

import logging
from typing import TYPE_CHECKING

import attrs

from node.pause import FAILOVER, SHUTDOWN
from node.replication.follower import ONLINE, SENDING, WAITING, Replica
from node.replication.snapshot import MARK_SIZE, Snapshot
from node.session import REPLICA, REPLY_OFF

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

NO_PRIMARY_LINK = b"-NOMASTERLINK Can't SYNC while not connected with my master\r\n"
NEWLINE_PERIOD_MS = 1000
_PING = b"*1\r\n$4\r\nPING\r\n"
_GETACK = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"


@attrs.define(eq=False)
class Primary:
    """The node's replicas, and what they need done.

    snapshot: the one being written. _asks_acks: somebody waits for acknowledgements.
    """

    node: "Node"
    replicas: list[Replica] = attrs.field(factory=list)
    snapshot: Snapshot | None = None
    _asks_acks: bool = False
    _waiting_since_ms: int = 0
    _alone_since_ms: int = 0
    _pinged_ms: int = 0
    _newline_ms: int = 0

    # --- PSYNC -----------------------------------------------------------------------------------

    def serve(self, replica: Replica, id: str | None, offset: int) -> None:
        """Let a replica follow. It has `offset` bytes of history `id`; None if it has nothing."""
        if replica in self.replicas:
            return
        role = self.node.role
        if role.link is not None and not role.link.is_up():
            replica.session.push_encoded(NO_PRIMARY_LINK)
            return
        session = replica.session
        session.kind = REPLICA
        session.reply_mode = REPLY_OFF
        session.flagged = False
        session.on_output = lambda _: self._on_output(replica)
        session.on_close = lambda _: self._remove(replica)
        replica.acked_ms = replica.progress_ms = self.node.now_ms
        self.replicas.append(replica)
        self.node.transport.adopt(replica)
        if id is not None and self._continue(replica, id, offset):
            return
        if id is not None:
            self.node.observe.partial_syncs_refused += 1
        self.node.observe.full_syncs += 1
        _log.info("Full resync requested by replica %s", replica)
        if not any(other.state == WAITING for other in self.replicas):
            self._waiting_since_ms = self.node.now_ms
        replica.state = WAITING

    def _continue(self, replica: Replica, id: str, offset: int) -> bool:
        """Go on from the backlog, if it holds what the replica lacks."""
        history, log = self.node.role.history, self.node.log
        if not history.includes(id, offset):
            _log.info(
                "Partial resynchronization not accepted: Replication ID mismatch (Replica asked "
                "for '%s', my replication IDs are '%s' and '%s')",
                *(id, history.id, history.previous_id),
            )
            return False
        if not log.holds(offset):
            _log.info(
                "Unable to partial resync with replica %s for lack of backlog "
                "(Replica request was: %d).",
                *(replica, offset + 1),
            )
            return False
        self.node.observe.partial_syncs += 1
        _log.info("Partial resynchronization request from %s accepted.", replica)
        replica.cursor = log.open_cursor_at(offset)
        replica.acked = offset
        replica.queue(
            b"+CONTINUE %b\r\n" % history.id.encode() if replica.takes_id else b"+CONTINUE\r\n"
        )
        self._go_online(replica)
        return True

    # --- full syncs ------------------------------------------------------------------------------

    def _start_snapshot(self) -> None:
        """Write a snapshot for those who wait, if it is time."""
        waiting = [replica for replica in self.replicas if replica.state == WAITING]
        if not waiting or self.snapshot is not None:
            return
        if not self._is_due(waiting) and not Snapshot.is_small(self.node.keyspace):
            return
        first = waiting[0]
        alike = [replica for replica in waiting if replica.wants_same(first)]
        snapshot = Snapshot(self.node, alike, data=first.data)
        self._open_log()
        for replica in alike:
            self._announce(replica)
        self.snapshot = snapshot
        config = self.node.config
        if config.repl_diskless_sync and all(replica.takes_mark for replica in alike):
            snapshot.mark = b"%0*x" % (MARK_SIZE, self.node.random.getrandbits(4 * MARK_SIZE))
        if not snapshot.encode_here(limited=True) and not self.node.transport.produce(snapshot):
            snapshot.encode_here(limited=False)
        for listener in self.node.on_snapshot:
            listener()

    def _is_due(self, waiting: list[Replica]) -> bool:
        """Whether it is no use to wait for more replicas that could share a snapshot."""
        config = self.node.config
        most = config.repl_diskless_sync_max_replicas
        waited_ms = self.node.now_ms - self._waiting_since_ms
        return (
            not config.repl_diskless_sync
            or waited_ms >= 1000 * config.repl_diskless_sync_delay
            or 0 < most <= len(waiting)
        )

    def _open_log(self) -> None:
        """Keep what happens from here on. What came before nobody has seen: a new history."""
        log = self.node.log
        if not log.keeps_backlog:
            self.node.role.history.begin(self.node.random)
            log.keep_backlog(self.node.config.repl_backlog_size)
            _log.info(
                "Replication backlog created, my new replication IDs are '%s' and '%s'",
                *(self.node.role.history.id, self.node.role.history.previous_id),
            )

    def _announce(self, replica: Replica) -> None:
        replica.cursor = self.node.log.open_cursor()
        replica.state = SENDING
        replica.acked = replica.cursor.offset
        history = self.node.role.history.id.encode()
        if replica.wants_reply:
            replica.queue(b"+FULLRESYNC %b %d\r\n" % (history, replica.cursor.offset))

    def snapshot_ended(self, snapshot: Snapshot, error: str) -> None:
        """All of it has been queued; or it failed, and those who wait for it must ask again."""
        self.snapshot = None
        for replica in list(snapshot.replicas):
            if error:
                self.drop(replica, f"its snapshot failed: {error}")
            else:
                replica.end_queue(awaits_ack=bool(snapshot.mark))

    def snapshot_taken(self, replica: Replica) -> None:
        """A replica has been sent all of its snapshot."""
        _log.info("Synchronization with replica %s succeeded", replica)
        if replica.rdb_only and replica.cursor is not None:
            self.node.log.close_cursor(replica.cursor)
            replica.cursor = None
        else:
            self._go_online(replica)

    def _go_online(self, replica: Replica) -> None:
        replica.state = ONLINE
        replica.acked_ms = self.node.now_ms
        self.node.refresh_gate()

    def find(self, address: tuple[str, int]) -> Replica | None:
        """The replica that clients find there."""
        return next((one for one in self.replicas if one.address == address), None)

    # --- acknowledgements ------------------------------------------------------------------------

    def acknowledge(self, replica: Replica, offset: int, synced: int | None = None) -> None:
        """A replica has applied everything up to that offset, and has it on disk up to `synced`."""
        node = self.node
        replica.acked = max(replica.acked, offset)
        if synced is not None:
            replica.synced = max(replica.synced, synced)
        replica.acked_ms = node.now_ms
        if replica.awaits_ack and replica.state == ONLINE:
            replica.awaits_ack = False
            node.transport.flag(replica)
        node.role.failover.check()
        node.blocking.poll()

    def ask_acks_now(self) -> None:
        """As `ask_acks`, as the last thing before the log must stand still."""
        self._write_ask()

    def ask_acks(self) -> None:
        """Let the replicas say at the end of the turn, not only once a second, how far they are."""
        self._asks_acks = True

    def count_acknowledged(self, offset: int) -> int:
        """How many replicas have applied everything up to that offset."""
        return sum(r.state == ONLINE and r.acked >= offset for r in self.replicas)

    def count_synced(self, offset: int) -> int:
        """How many replicas have everything up to that offset on disk."""
        return sum(r.state == ONLINE and r.synced >= offset for r in self.replicas)

    def count_good(self) -> int:
        """How many count for min-replicas-to-write."""
        most_ms = 1000 * self.node.config.min_replicas_max_lag
        return sum(r.state == ONLINE and r.lag_ms() <= most_ms for r in self.replicas)

    # --- turns and time --------------------------------------------------------------------------

    def before_log(self) -> None:
        """The turn ends: what has to be in the log with it."""
        if self._asks_acks and not self.node.pause.is_on_for(FAILOVER):
            self._write_ask()

    def _write_ask(self) -> None:
        self._asks_acks = False
        self.node.log.append_control(_GETACK)

    def after_log(self) -> None:
        """The log has the whole turn: let the replicas have it."""
        end = self.node.log.offset
        for replica in list(self.replicas):
            if replica.cursor is not None and replica.cursor.offset < end and replica.streams():
                self.node.transport.flag(replica)
        self._start_snapshot()

    def tick(self) -> None:
        """What time brings: pings, timeouts, limits, the end of the backlog."""
        node = self.node
        now_ms = node.now_ms
        if not self.replicas:
            self._forget_backlog()
            return
        self._alone_since_ms = now_ms
        period_ms = 1000 * node.config.repl_ping_replica_period
        # Who waits for replicas to come into step must not keep them going.
        awaited = node.pause.is_on_for(FAILOVER) or node.pause.is_on_for(SHUTDOWN)
        if now_ms - self._pinged_ms >= period_ms and not awaited:
            self._pinged_ms = now_ms
            node.log.append_control(_PING)
        if now_ms - self._newline_ms >= NEWLINE_PERIOD_MS:
            self._newline_ms = now_ms
            self._keep_alive()
        for replica in list(self.replicas):
            self._check(replica)

    def _keep_alive(self) -> None:
        """A newline tells those who wait for a snapshot that they are not forgotten."""
        snapshot = self.snapshot
        unannounced = snapshot.replicas if snapshot is not None and not snapshot.begun else []
        for replica in self.replicas:
            if replica.state == WAITING or replica in unannounced:
                replica.queue(b"\n")

    def _check(self, replica: Replica) -> None:
        """Drop a replica that is silent for too long or owes too much reading."""
        now_ms = self.node.now_ms
        heard_ms = replica.acked_ms if replica.streams() else replica.progress_ms
        # One that said SYNC need not acknowledge anything.
        listens = replica.streams() and not replica.wants_reply
        if not listens and now_ms - heard_ms > 1000 * self.node.config.repl_timeout:
            self.drop(replica, "it has timed out")
            return
        config = self.node.config
        limit = config.client_output_buffer_limit.replica
        owed = replica.owed()
        hard = max(limit.hard_bytes, config.repl_backlog_size) if limit.hard_bytes else 0
        soft = max(limit.soft_bytes, config.repl_backlog_size) if limit.soft_bytes else 0
        if not soft or owed <= soft:
            replica.over_limit_ms = now_ms
        too_long = now_ms - replica.over_limit_ms > 1000 * limit.soft_seconds
        if (hard and owed > hard) or too_long:
            self.node.observe.output_overflows += 1
            self.drop(replica, f"it has not taken {owed} bytes, more than its output limit")

    def expect_replicas(self) -> None:
        """There is a backlog for replicas that may come back: its time to live begins now."""
        self._alone_since_ms = self.node.now_ms

    def _forget_backlog(self) -> None:
        """Without replicas for repl-backlog-ttl, a primary keeps no backlog."""
        node = self.node
        ttl_ms = 1000 * node.config.repl_backlog_ttl
        if not node.log.keeps_backlog or node.role.link is not None or not ttl_ms:
            self._alone_since_ms = node.now_ms
        elif node.now_ms - self._alone_since_ms > ttl_ms:
            node.role.history.begin(node.random)
            node.log.drop_backlog()
            _log.info("Replication backlog freed after it had no replica for %d s", ttl_ms // 1000)

    # --- the end ---------------------------------------------------------------------------------

    def drop(self, replica: Replica, reason: str) -> None:
        """End a replica's link; it may come back."""
        _log.warning("Disconnecting replica %s: %s", replica, reason)
        self.node.transport.close(replica)
        self.node.close_session(replica.session)

    def drop_all(self, reason: str) -> None:
        """End every replica's link: they have to learn that the history has another name."""
        for replica in list(self.replicas):
            self.drop(replica, reason)

    def _on_output(self, replica: Replica) -> None:
        """A replica gets no replies: somebody wants its link closed."""
        if replica.session.closing:
            self.drop(replica, "it was killed")
        replica.session.take_output()

    def _remove(self, replica: Replica) -> None:
        if replica not in self.replicas:
            return
        self.replicas.remove(replica)
        _log.info("Connection with replica %s lost.", replica)
        if replica.cursor is not None:
            self.node.log.close_cursor(replica.cursor)
        snapshot = self.snapshot
        if snapshot is not None and replica in snapshot.replicas:
            snapshot.replicas.remove(replica)
            if not snapshot.replicas:
                self.snapshot = None
                self.node.transport.cancel(snapshot)
        self._alone_since_ms = self.node.now_ms
        self.node.refresh_gate()
