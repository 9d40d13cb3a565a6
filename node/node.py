"""A node without its sockets: the data, the log, the clients, and what happens with time.

Drivers call `session`, `session.receive`, `end_turn` and `tick`; everything else happens inside.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from random import Random
from typing import TYPE_CHECKING, Any

import attrs

from node import commands, gate, monitor
from node.acl.acl import Acl
from node.background import AtOnce, Background
from node.blocking import Blocking
from node.clock import Clock
from node.command import ANY, TABLE, FastTable, every_row
from node.data.keyspace import EXPIRED, Database, Keyspace
from node.data.limits import Limits
from node.disk import Disk, RealDisk
from node.eviction import Eviction
from node.execute import Batch, Unit, run, run_again
from node.expiring import Expiring
from node.host import Host, Nowhere
from node.housekeeper import Housekeeper
from node.moving import Moving
from node.notifications import Notifications
from node.observe import Observe
from node.pause import Pause
from node.persistence.aof.aof import Aof
from node.persistence.loading import LoadError, Loading, load
from node.persistence.log import Log
from node.persistence.saves import Saves
from node.pubsub import PubSub
from node.replication.follower import Replica
from node.replication.report import replication_info, role_reply
from node.replication.role import Role
from node.replication.transport import Transport, Unconnected
from node.resp import RequestParser
from node.scripting.engine import Scripting
from node.session import Session
from node.shutdown import Shutdown
from node.slot_stats import SlotStats
from node.topology import Alone, Topology
from node.tracking import Tracking
from node.transaction import Watches

if TYPE_CHECKING:
    from node.config import Config

_log = logging.getLogger(__name__)

VERSION = "7.2.4"  # of Redis, whose dialect this is
_EVERY = 1023  # turns pass unmeasured between two that are not; one less than a power of two

assert commands  # importing them fills the table


@attrs.define(eq=False)
class Node:
    """Builds and owns all there is in one node.

    now_ms: monotonic milliseconds of this turn. gate: flags of commands that need a second look
    in the node's present state. unit: set while several commands are logged as one.
    is_idle: nothing happens by itself, but for the deadlines of clients; for tests.
    role: primary or replica, and all of replication. transport: carries its links. disk, host:
    files, and what INFO tells of process and machine. background: work that leaves the node free.
    saves: the file with its data. moving: keys on their way to other nodes. slot_stats: what each
    slot costs.
    loading: how far the loading of a data set is, while it lasts.
    on_shutdown, on_deadline: the driver's; called to end the process, and when something has
    become due before the next regular tick. on_busy: called while a script keeps the node busy, to
    serve others; see `aside`.
    on_logged: called at the end of each turn, when the log has all of it. on_snapshot: called
    when a snapshot for replicas has begun; what is logged then follows it.
    """

    config: "Config"
    clock: Clock
    random: Random = attrs.field(factory=Random)
    topology: Topology = attrs.field(factory=Alone)
    keyspace: Keyspace = attrs.field(init=False)
    log: Log = attrs.field(factory=Log)
    observe: Observe = attrs.field(factory=Observe)
    blocking: Blocking = attrs.field(init=False)
    pause: Pause = attrs.field(init=False)
    role: Role = attrs.field(init=False)
    transport: Transport = attrs.field(factory=Unconnected)
    disk: Disk = attrs.field(factory=RealDisk)
    background: Background = attrs.field(factory=AtOnce)
    saves: Saves = attrs.field(init=False)
    aof: Aof = attrs.field(init=False)
    shutdown: Shutdown = attrs.field(init=False)
    moving: Moving = attrs.field(init=False)
    slot_stats: SlotStats = attrs.field(init=False)
    host: Host = attrs.field(factory=Nowhere)
    pubsub: PubSub = attrs.field(factory=PubSub)
    watches: Watches = attrs.field(init=False)
    tracking: Tracking = attrs.field(init=False)
    housekeeper: Housekeeper = attrs.field(init=False)
    scripting: Scripting = attrs.field(init=False)
    notifications: Notifications = attrs.field(init=False)
    acl: Acl = attrs.field(init=False)
    eviction: Eviction = attrs.field(init=False)
    expiring: Expiring = attrs.field(init=False)
    rows: FastTable = attrs.field(factory=lambda: FastTable(TABLE))
    sessions: dict[int, Session] = attrs.field(factory=dict)
    now_ms: int = 0
    started_ms: int = 0
    started_wall_ms: int = 0
    skips_checksums: bool = False
    is_idle: bool = False
    gate: int = 0
    loading: Loading | None = None
    unit: Unit | None = None
    run_id: str = ""
    on_shutdown: Callable[[], None] = lambda: None
    on_deadline: Callable[[], None] = lambda: None
    on_busy: Callable[[], None] = lambda: None
    on_logged: list[Callable[[], None]] = attrs.field(factory=list)
    on_snapshot: list[Callable[[], None]] = attrs.field(factory=list)
    _next_id: int = 1
    _turns: int = 0
    _resumed: list[Session] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.keyspace = Keyspace(
            count=self.database_count(),
            random=self.random,
            part_of=self.topology.slot_of,
            limits=self._limits(),
            on_expired=self._expire_key,
        )
        self.blocking = Blocking(self)
        self.pause = Pause(self)
        self.role = Role(self)
        self.watches = Watches(self.keyspace)
        self.tracking = Tracking(self)
        self.housekeeper = Housekeeper(self)
        self.scripting = Scripting(self)
        self.notifications = Notifications(self)
        self.saves = Saves(self)
        self.aof = Aof(self)
        self.shutdown = Shutdown(self)
        self.moving = Moving(self)
        self.slot_stats = SlotStats(self)
        self.acl = Acl(self)
        self.eviction = Eviction(self)
        self.expiring = Expiring(self)
        self.run_id = f"{self.random.getrandbits(160):040x}"
        self.begin_turn()
        self.started_ms, self.started_wall_ms = self.now_ms, self.keyspace.now_ms
        self.saves.begin()
        self.observe.startup_memory = self.host.memory()
        for name in GATING:
            self.config.on_change(name, lambda _: self.refresh_gate())
        self.config.on_change("repl-backlog-size", self._resize_backlog)
        for name in LIMIT_DIRECTIVES:
            self.config.on_change(name.replace("_", "-"), self._change_limits)
        self.config.on_change("proto-max-bulk-len", self._change_bulk_max)
        self.config.on_change("notify-keyspace-events", self.notifications.configure)
        self.notifications.configure(self.config)
        self.config.on_change("tracking-table-max-keys", lambda _: self.tracking.bound())
        self.config.on_change("import-mode", lambda _: self.role.refresh_expiry())
        self.config.on_change("hz", lambda _: self.on_deadline())
        self.eviction.configure()

    # --- clients ---------------------------------------------------------------------------------

    def session(
        self,
        address: bytes = b"",
        local_address: bytes = b"",
        on_output: Callable[[Session], None] | None = None,
    ) -> Session:
        """A new client."""
        let_in = self.acl.lets_in()
        parser = RequestParser(let_in, self.config.proto_max_bulk_len)
        session = Session(self, self._next_id, self.keyspace[0], parser, address, local_address)
        session.created_ms = session.active_ms = self.now_ms
        session.authenticated = let_in
        session.gate = gate.session_gate(session)
        session.on_output = on_output
        self._next_id += 1
        self.sessions[session.id] = session
        self.observe.connections += 1
        return session

    def internal_session(self) -> Session:
        """Somebody who may do everything and is no client: loading, the primary's stream."""
        session = Session(self, 0, self.keyspace[0], RequestParser())
        session.internal = True
        return session

    def close_session(self, session: Session) -> None:
        """The client has gone."""
        if self.sessions.pop(session.id, None) is None:
            return
        observe = self.observe
        observe.bytes_in_of_the_gone += session.bytes_in
        observe.bytes_out_of_the_gone += session.bytes_out
        self.blocking.forget(session)
        self.watches.forget(session)
        self.pubsub.forget(session)
        self.tracking.stop(session)
        monitor.stop(self, session)
        if session.on_close is not None:
            session.on_close(session)

    def run(
        self, session: Session, requests: list[list[bytes]], chunk: bytes | None = None
    ) -> None:
        """Run a client's requests."""
        run(self, [(session, requests, chunk)])

    def run_all(self, batch: Batch) -> None:
        """Run the requests of several clients."""
        run(self, batch)

    def run_again(self, session: Session, args: list[bytes]) -> Any:
        """Run the command of a client that waits for keys once more."""
        return run_again(self, session, args)

    def resume(self, session: Session) -> None:
        """Let a client that has been answered go on with what it sent meanwhile, at the end of
        the turn: not now, in the middle of somebody else's command."""
        if session.requests and session.waiting is None:
            self._resumed.append(session)

    def refresh_gate(self) -> None:
        """To be called whenever something that node_gate looks at has changed."""
        self.gate = gate.node_gate(self)

    # --- time ------------------------------------------------------------------------------------

    def begin_turn(self) -> None:
        """Read the clocks, once for all that happens until end_turn."""
        self.now_ms = self.clock.monotonic_ms()
        self.keyspace.now_ms = self.clock.wall_ms()
        self._turns = turns = self._turns + 1 & _EVERY
        if turns < 2:
            self._sample(turns == 0)

    def _sample(self, on: bool) -> None:
        """Measure the commands of this turn, which stand for those of the next ones too; the gate
        sends all of them the way on which that is done."""
        if on:
            self.gate |= ANY
        else:
            self.refresh_gate()

    def end_turn(self) -> None:
        """Make what has happened durable and known, so that replies may leave after it."""
        while self.blocking.ready or self._resumed or self.role.has_new_waits:
            self.role.poll_new_waits()
            self.blocking.serve()
            resumed, self._resumed = self._resumed, []
            for session in resumed:
                requests, session.requests = session.requests, []
                run(self, [(session, requests, None)])
                session.flag()
        self.tracking.end_turn()
        self.role.before_log()
        self.log.flush()
        if self.log.aof is not None:
            self.aof.end_turn()
            if self._resumed:  # by what is durable now
                self.on_deadline()
        self.role.after_log()
        if self.on_logged:
            for listener in tuple(self.on_logged):
                listener()
        self.topology.end_turn()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Serve others while a script is under way: nothing of it shows, and time stands still
        for it."""
        unit, ready, current = self.unit, self.blocking.ready, self.pubsub.current
        now_ms, wall_ms, noting = self.now_ms, self.keyspace.now_ms, self.keyspace.noting
        self.unit, self.blocking.ready, self.pubsub.current = None, {}, None
        try:
            yield
        finally:
            self.unit, self.blocking.ready, self.pubsub.current = unit, ready, current
            self.now_ms, self.keyspace.now_ms, self.keyspace.noting = now_ms, wall_ms, noting

    def tick(self) -> None:
        """What is due: to be called every 1000 / hz milliseconds, and at next_deadline_ms."""
        self.begin_turn()
        if self.is_idle:
            self.blocking.expire(self.now_ms)
            self.end_turn()
            return
        self.expiring.tick()
        self.blocking.expire(self.now_ms)
        self.pause.tick()
        self.role.tick()
        self.saves.tick()
        self.aof.tick()
        self.shutdown.tick()
        self.moving.tick()
        self.housekeeper.tick()
        self.eviction.make_room()
        self.refresh_gate()
        self.end_turn()

    def next_deadline_ms(self) -> int | None:
        """When, on the monotonic clock, something must happen before the next regular tick."""
        times = (
            self.blocking.next_ms(),
            self.pause.next_deadline_ms(),
            self.role.next_deadline_ms(),
            self.moving.next_deadline_ms(),
            self.expiring.next_deadline_ms(),
        )
        return min((at_ms for at_ms in times if at_ms is not None), default=None)

    def database_count(self) -> int:
        """How many databases clients may choose from."""
        config = self.config
        return config.cluster_databases if self.topology.clustered else config.databases

    def commands_processed(self) -> int:
        """Commands run since start, or since the statistics were reset."""
        return sum(row.calls for row in every_row())

    def bytes_moved(self) -> tuple[int, int]:
        """Bytes that clients have sent and were sent, since start or the statistics' reset."""
        observe, sessions = self.observe, self.sessions.values()
        received = sum(session.bytes_in for session in sessions)
        sent = sum(session.bytes_out for session in sessions)
        return received + observe.bytes_in_of_the_gone, sent + observe.bytes_out_of_the_gone

    def reset_statistics(self) -> None:
        """CONFIG RESETSTAT."""
        received, sent = self.bytes_moved()
        self.observe.reset()
        self.acl.log.forget_counts()
        self.observe.bytes_in_of_the_gone -= received
        self.observe.bytes_out_of_the_gone -= sent
        self.keyspace.hits = self.keyspace.misses = self.keyspace.expired = 0
        self.keyspace.expired_fields = 0
        for row in every_row():
            row.calls = row.failed = row.rejected = 0
            row.times.clear()
        self.slot_stats.reset()

    def _expire_key(self, db: Database, key: bytes) -> None:
        """Delete a key because its time has come, and tell replicas, files and listeners."""
        db.drop(key)
        if self.log.active:
            delete = [self.deleting_word(), key]
            if self.unit is not None:
                self.unit.add(db.index, [delete])
            else:
                self.log.append_one(db.index, delete)
        if self.keyspace.on_change is not None:
            self.keyspace.on_change(db, key, b"expired", EXPIRED)

    def deleting_word(self) -> bytes:
        """How the log says that a key has expired, as lazyfree-lazy-expire asks for it."""
        return b"UNLINK" if self.config.lazyfree_lazy_expire else b"DEL"

    def dropping_word(self) -> bytes:
        """How the log says that a command took a whole key, as lazyfree-lazy-server-del asks."""
        return b"UNLINK" if self.config.lazyfree_lazy_server_del else b"DEL"

    def has_child(self) -> bool:
        """Whether work on the data of one moment is under way in the background."""
        running = self.saves.running or self.aof.rewriting.running or self.role.primary.snapshot
        return running is not None

    def load(self) -> Iterator[None]:
        """Put the data that are on disk into the node, which is empty: those of its append-only
        file, if it is to have one, else those of its snapshot.

        A step is a turn's work, inside begin_turn and end_turn. Raises LoadError; the node is
        empty then.
        """
        return self.aof.load() if self.config.appendonly else load(self, self.config.dbfilename)

    def reload(self, *, save: bool, flush: bool, merge: bool) -> bool:
        """DEBUG RELOAD: save the data, and load them again in place of what there is, beside it
        or over it; False if that failed, and the log says why."""
        if save and not self.saves.save():
            return False
        if flush:
            self.keyspace.flush()
        try:
            name = self.config.dbfilename
            for _ in load(self, name, resumes=False, keeps=not flush, merges=merge):
                continue
        except LoadError as error:
            _log.warning("%s", error)
            return False
        return True

    # --- role ------------------------------------------------------------------------------------

    def follow(self, host: str, port: int) -> None:
        """Be the replica of that primary; connects at once, and keeps trying."""
        self.role.follow(host, port)

    def promote(self) -> None:
        """Be a primary, with the data there are."""
        self.role.promote()

    def is_to_follow(self) -> bool:
        """Whether this node, which has not begun to serve, will be a replica."""
        return self.config.replicaof is not None or self.topology.follows

    def is_replica(self) -> bool:
        return self.role.link is not None

    def is_stale(self) -> bool:
        """A replica without its primary that must not serve old data."""
        return self.role.is_stale()

    def lacks_replicas(self) -> bool:
        """A primary with fewer good replicas than min-replicas-to-write asks for."""
        return self.role.lacks_replicas()

    def replica_of(self, session: Session) -> Replica:
        """What this node knows of the client as one that follows it, or is about to."""
        if session.replica is None:
            session.replica = Replica(self, session)
        return session.replica

    def describe_role(self) -> list[Any]:
        """The answer to ROLE."""
        return role_reply(self)

    def describe_replication(self) -> dict[str, str | int]:
        """The fields of INFO replication."""
        return replication_info(self)

    def _resize_backlog(self, config: "Config") -> None:
        self.log.backlog_size = config.repl_backlog_size

    def _limits(self) -> Limits:
        limits = Limits()
        for name in LIMIT_DIRECTIVES:
            setattr(limits, name, getattr(self.config, name))
        return limits

    def _change_limits(self, config: "Config") -> None:
        for name in LIMIT_DIRECTIVES:
            setattr(self.keyspace.limits, name, getattr(config, name))

    def _change_bulk_max(self, config: "Config") -> None:
        for session in self.sessions.values():
            session.parser.bulk_max = config.proto_max_bulk_len


# Directives that change which commands need a second look.
GATING = (
    "replica-read-only",
    "replica-serve-stale-data",
    "min-replicas-to-write",
    "cluster-slot-stats-enabled",
)

LIMIT_DIRECTIVES = (
    "list_max_listpack_size",
    "hash_max_listpack_entries",
    "hash_max_listpack_value",
    "set_max_intset_entries",
    "set_max_listpack_entries",
    "set_max_listpack_value",
    "stream_node_max_bytes",
    "stream_node_max_entries",
    "zset_max_listpack_entries",
    "zset_max_listpack_value",
)
