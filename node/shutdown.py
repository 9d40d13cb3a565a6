"""The end of a node, in order: replicas catch up, the file is written, the process ends.

SHUTDOWN, SIGTERM and SIGINT come here. A primary takes no more writes while it waits for its
replicas, up to shutdown-timeout. A file that can't be written keeps the node alive.

In a cluster it may be told not to end while its slots have nobody else (SAFE), and to have its
best replica take its place (FAILOVER), which it asks for by the log, as its last word.

https://redis.io/docs/latest/commands/shutdown/
"""

import logging
from typing import TYPE_CHECKING, Any

import attrs

from node.pause import FOR_EVER_MS, SHUTDOWN
from node.replies import PENDING, ReplyError
from node.resp import encode_request

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

FAILOVER_VERSION = (9,)  # of Valkey: older replicas don't know what is asked of them
FAILED = ReplyError(b"ERR Errors trying to SHUTDOWN. Check logs.")


@attrs.frozen
class Wish:
    """How to end. save: whether to write the file; None: if there are `save` points.

    now: don't wait for replicas. force: end even if the file can't be written, or others need this
    node. safe: don't end if they do. failover: hand the slots to a replica.
    """

    save: bool | None = None
    now: bool = False
    force: bool = False
    safe: bool = False
    failover: bool = False


@attrs.define(eq=False)
class Shutdown:
    """wish: of the shutdown under way. ended: nothing is left but to end the process."""

    node: "Node"
    wish: Wish | None = None
    ended: bool = False
    _until_ms: int = 0

    def begin(self, wish: Wish) -> None:
        """Begin to end, unless that is under way already; may have ended, or failed, on return."""
        if self.wish is not None or self.ended:
            return
        node = self.node
        _log.warning("User requested shutdown...")
        if wish.safe and not wish.force and node.topology.is_needed:
            _log.warning("This node is a voting primary: it is not safe to shut it down.")
            return
        self.wish = wish
        timeout_ms = 1000 * node.config.shutdown_timeout
        if wish.now or not timeout_ms or self._replicas_are_in_step():
            self._finish()
            return
        _log.info("Waiting for replicas before shutting down.")
        self._until_ms = node.now_ms + timeout_ms
        node.pause.start(SHUTDOWN, FOR_EVER_MS)
        node.role.primary.ask_acks()

    def abort(self) -> bool:
        """Go on serving; False if no shutdown is under way."""
        if self.wish is None:
            return False
        _log.info("Shutdown manually aborted.")
        self._go_on()
        return True

    def outcome(self) -> Any:
        """What a client that waits for the end is told; PENDING as long as it may come."""
        return PENDING if self.wish is not None or self.ended else FAILED

    def tick(self) -> None:
        """See whether the replicas have come, or the time."""
        if self.wish is None:
            return
        if self._replicas_are_in_step() or self.node.now_ms >= self._until_ms:
            self._finish()

    def _replicas_are_in_step(self) -> bool:
        offset = self.node.log.flush()
        return all(replica.acked == offset for replica in self.node.role.primary.replicas)

    def _finish(self) -> None:
        node, wish = self.node, self.wish
        assert wish is not None
        self._log_replicas()
        node.saves.cancel()
        if not node.aof.finish(force=wish.force, may_lose=wish.force or wish.save is False):
            self._go_on()
            return
        if self._is_to_save(wish) and not self._save(wish):
            _log.warning("Errors trying to shut down the server. Check the logs for more.")
            self._go_on()
            return
        if wish.failover and node.topology.is_needed:
            self._hand_over()
        self.wish, self.ended = None, True
        # The file must hold all that was answered.
        node.pause.start(SHUTDOWN, FOR_EVER_MS, everything=True)
        node.on_shutdown()

    def _hand_over(self) -> None:
        """Have the replica that has come furthest take this primary's place."""
        node = self.node
        replicas = node.role.primary.replicas
        if any(replica.version < FAILOVER_VERSION for replica in replicas):
            _log.warning("Unable to perform auto failover on shutdown: there are old replicas.")
            return
        known = (replica for replica in replicas if replica.node_id)
        best = max(known, key=lambda replica: replica.acked, default=None)
        if best is None or best.acked != node.log.flush():
            _log.warning("Unable to find a replica to perform the auto failover on shutdown.")
            return
        _log.info("Perform auto failover to replica %s on shutdown.", best.node_id)
        words = [b"CLUSTER", b"FAILOVER", b"FORCE", b"REPLICAID", best.node_id.encode()]
        node.log.append_control(encode_request(words))

    def _is_to_save(self, wish: Wish) -> bool:
        if self.node.loading is not None:
            return False
        return self.node.saves.has_points() if wish.save is None else wish.save

    def _save(self, wish: Wish) -> bool:
        _log.info("Saving the final RDB snapshot before exiting.")
        if self.node.saves.save():
            return True
        what = "exiting anyway, as is forced" if wish.force else "can't exit"
        _log.warning("Error trying to save the DB, %s.", what)
        return wish.force

    def _log_replicas(self) -> None:
        offset = self.node.log.offset
        replicas = self.node.role.primary.replicas
        late = [replica for replica in replicas if replica.acked != offset]
        for replica in late:
            _log.warning(
                "Lagging replica %s reported offset %d behind master, lag=%d, state=%s.",
                *(replica, offset - replica.acked, replica.lag_ms() // 1000, replica.state),
            )
        if replicas:
            in_step = len(replicas) - len(late)
            text = "%d of %d replicas are in sync when shutting down."
            _log.info(text, in_step, len(replicas))

    def _go_on(self) -> None:
        self.wish = None
        self.node.pause.stop(SHUTDOWN)
        self.node.blocking.poll()
