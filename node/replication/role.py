"""The node's role: a primary, or the replica of one; and the history its data belong to."""

import logging
from typing import TYPE_CHECKING, Any

import attrs

from node.command import BLOCKING, READONLY, WRITE
from node.data.keyspace import EXPIRE, HIDE, Keyspace
from node.replication.failover import Failover
from node.replication.history import History, new_id
from node.replication.own_keys import OwnKeys
from node.replication.primary import Primary
from node.replication.replica import PrimaryLink
from node.replies import UNBLOCKED, ReplyError
from node.session import REDIRECT

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

FREED_PER_TICK = 20_000  # keys
EXPIRED_PER_TICK = 256  # of each database


@attrs.define(eq=False)
class Role:
    """link: to the primary that this node follows; None while it is a primary itself.

    primary: what it does for its own replicas, in either role.
    failover: handing that over, if that is under way.
    own_keys: those written here that expire, on a writable replica.
    resumes_in_db: where the stream is, if this node goes on as a replica after a start.
    has_new_waits: somebody has said WAIT in this turn.
    """

    node: "Node"
    history: History = attrs.field(init=False)
    primary: Primary = attrs.field(init=False)
    failover: Failover = attrs.field(init=False)
    own_keys: OwnKeys = attrs.field(init=False)
    link: PrimaryLink | None = None
    resumes_in_db: int = 0
    has_new_waits: bool = False
    _discarded: list[dict[bytes, Any]] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.history = History(new_id(self.node.random))
        self.primary = Primary(self.node)
        self.failover = Failover(self.node)
        self.own_keys = OwnKeys(self.node)

    # --- changes ---------------------------------------------------------------------------------

    def follow(self, host: str, port: int) -> None:
        """Be that primary's replica: connect to it at once. Data and replicas are kept until it
        shows that they are of another history."""
        link = self.link
        if link is not None and (link.host, link.port) == (host, port):
            return
        node = self.node
        db, self.resumes_in_db = self.resumes_in_db, 0
        if link is not None:
            link.close()
            db = link.db
        else:
            node.log.follow(True)
            self._unblock_clients(host, port)
        self.refresh_expiry()
        self.link = PrimaryLink(node, host, port, db)
        self.own_keys.refresh()
        node.refresh_gate()
        node.blocking.poll()
        self.link.open()

    def promote(self) -> None:
        """Be a primary, with the data there are. The new history is known as the old one up to
        here, so that the old primary's other replicas can go on from it."""
        link, node = self.link, self.node
        if not node.log.follows:
            return
        if link is not None:
            link.close()
        self.link = None
        self.history.branch(new_id(node.random), node.log.flush())
        node.log.follow(False)
        self.refresh_expiry()
        self.own_keys.refresh()
        self.primary.drop_all("this node is a primary now")
        node.refresh_gate()
        node.blocking.poll()
        _log.info(
            "MASTER MODE enabled. Second replication ID is %s, valid up to offset %d. "
            "New replication ID is %s",
            *(self.history.previous_id, self.history.previous_end + 1, self.history.id),
        )

    def resume(self, id: str, offset: int, db: int) -> None:
        """The data that were loaded at the start are the first `offset` bytes of history `id`.

        Who is to be a replica can go on from there, and waits to be told whom to follow. A primary
        begins a history of its own: nobody knows what its old one has become.
        """
        node = self.node
        self.history.adopt(id)
        node.log.restart(offset)
        node.log.keep_backlog(node.config.repl_backlog_size)
        self.primary.expect_replicas()
        if node.is_to_follow():
            self.resumes_in_db = db
            node.log.follow(True)
            self.refresh_expiry()
        else:
            self.history.branch(new_id(node.random), offset)

    def refresh_expiry(self) -> None:
        """A replica waits for its primary's word before it deletes a key, and a primary for the
        end of a pause, during which its offset must stand still, or of an import, of which the
        source decides what expires."""
        node = self.node
        waits = node.log.follows or node.pause.is_on() or node.config.import_mode
        node.keyspace.expiry = HIDE if waits else EXPIRE

    def _unblock_clients(self, host: str, port: int) -> None:
        """Who waits for something that a primary does, waits in vain now; some know how to go on
        at the new one."""
        node = self.node
        redirect = ReplyError(f"REDIRECT {host}:{port}".encode())
        for session in list(node.blocking.sessions.values()):
            if session.waiting is None or session.waiting.held_command:
                continue
            flags = session.last_row.flags
            if not flags & BLOCKING:
                continue
            goes_on = REDIRECT in session.capabilities and flags & (READONLY | WRITE)
            if goes_on and not node.topology.clustered:
                node.blocking.answer(session, redirect)
            else:
                node.blocking.answer(session, UNBLOCKED)
                session.close()

    # --- what the link reports -------------------------------------------------------------------

    def take_history(self, id: str, offset: int) -> None:
        """A full sync is done: data, id and offset are the primary's."""
        log = self.node.log
        self.primary.drop_all("this node has got another data set")
        self.history.adopt(id)
        log.restart(offset)
        log.keep_backlog(self.node.config.repl_backlog_size)
        self.node.aof.restart()

    def rename_history(self, id: str) -> None:
        """A partial sync goes on under this id; "" if the primary named none."""
        log = self.node.log
        if id and id != self.history.id:
            self.history.branch(id, log.flush())
            self.primary.drop_all("the history goes by another replication id")
        log.keep_backlog(self.node.config.repl_backlog_size)

    def discard(self, keyspace: Keyspace) -> None:
        """Free these data, which nobody sees any more, a little at each tick."""
        for db in keyspace.databases:
            self._discarded += filter(None, db.parts)

    def _free(self) -> None:
        keys = 0
        while self._discarded and keys < FREED_PER_TICK:
            keys += len(self._discarded.pop())

    # --- questions -------------------------------------------------------------------------------

    def loads_aside(self) -> bool:
        """Whether a new data set comes in beside the one that is served, as the operator wants."""
        transfer = self.link.transfer if self.link is not None else None
        return transfer is not None and transfer.is_aside

    def is_stale(self) -> bool:
        """Whether clients must not be served, as the primary is out of reach."""
        link = self.link
        return (
            link is not None and not link.is_up() and not self.node.config.replica_serve_stale_data
        )

    def lacks_replicas(self) -> bool:
        """Whether min-replicas-to-write forbids a primary to take writes."""
        config = self.node.config
        if self.link is not None or not config.min_replicas_to_write:
            return False
        if not config.min_replicas_max_lag:
            return False
        return self.primary.count_good() < config.min_replicas_to_write

    def stream_db(self) -> int:
        """The database that the stream to this node's replicas is in."""
        link = self.link
        if link is None:
            return self.node.log.selected or 0
        return link.stream.session.db.index if link.stream is not None else link.db

    def data_age_ms(self) -> int | None:
        """Milliseconds since the stream last brought anything from the present primary; None if
        it never has."""
        link = self.link
        if link is None or not link.synced:
            return None
        if link.is_up():
            return self.node.now_ms - link.heard_ms
        return self.node.now_ms - (link.down_since_ms or 0)

    # --- turns and time --------------------------------------------------------------------------

    def poll_new_waits(self) -> None:
        """Look at what was said WAIT for, now that the offset of each client's writes is known."""
        if self.has_new_waits:
            self.has_new_waits = False
            self.node.log.flush()
            self.node.blocking.poll()

    def before_log(self) -> None:
        """Before the log takes in the turn."""
        self.primary.before_log()

    def after_log(self) -> None:
        """After that."""
        if self.primary.replicas:
            self.primary.after_log()
        if self.link is not None:
            self.link.after_log()

    def hold(self, reason: str) -> None:
        """As a replica, take nothing more from the primary for a second."""
        if self.link is not None:
            self.link.hold(reason)

    def log_is_durable(self) -> None:
        """More of the log is on disk than was."""
        if self.link is not None:
            self.link.log_is_durable()

    def tick(self) -> None:
        """What time brings, ten times a second."""
        self.failover.check()
        self.primary.tick()
        self.own_keys.tick(EXPIRED_PER_TICK)
        if self._discarded:
            self._free()
        if self.link is not None:
            self.link.tick()

    def next_deadline_ms(self) -> int | None:
        """When, on the monotonic clock, something is due before the next regular tick."""
        return (
            self.failover.next_deadline_ms() if self.link is None else self.link.next_deadline_ms()
        )
