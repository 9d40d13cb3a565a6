"""FAILOVER: a primary hands its role to one of its replicas.

    no-failover
    waiting-for-sync      clients' writes are held, so that the offset stands still, until the
                          replica has all of the log; after the timeout it ends, or, if forced,
                          goes on without that
    failover-in-progress  the node follows the chosen one, and asks it by PSYNC ... FAILOVER to
                          take over; clients may go on once it has

https://redis.io/docs/latest/commands/failover/
"""

import logging
from typing import TYPE_CHECKING

import attrs

from node.pause import FAILOVER, FOR_EVER_MS

if TYPE_CHECKING:
    from node.node import Node
    from node.replication.follower import Replica

_log = logging.getLogger(__name__)

# The states, as INFO shows them.
NONE, WAITING, UNDER_WAY = "no-failover", "waiting-for-sync", "failover-in-progress"

Address = tuple[str, int]


@attrs.define(eq=False)
class Failover:
    """state: one of the above. target: who is to take over; None: who has all of the log first.
    until_ms: monotonic; None: no end. forced: at that time the target takes over in any case.
    """

    node: "Node"
    state: str = NONE
    target: Address | None = None
    until_ms: int | None = None
    forced: bool = False

    def is_on(self) -> bool:
        return self.state != NONE

    def begin(self, target: Address | None, timeout_ms: int, forced: bool) -> None:
        """Hand over as soon as the target has all of the log. timeout_ms: 0 waits for ever."""
        node = self.node
        _log.info("FAILOVER requested%s.", f" to {_shown(target)}" if target else "")
        self.state, self.target, self.forced = WAITING, target, forced
        self.until_ms = node.now_ms + timeout_ms if timeout_ms else None
        node.role.primary.ask_acks_now()  # as long as the offset may still move
        node.pause.start(FAILOVER, FOR_EVER_MS)

    def abort(self, reason: str) -> None:
        """Be a primary as before."""
        target = f" to {_shown(self.target)}" if self.target else ""
        _log.info("Aborting failover%s while %s: %s", target, self.state, reason)
        if self.state == UNDER_WAY:
            self.node.config.replicaof = None
            self.node.promote()
        self._end()

    def answered(self, accepted: bool) -> None:
        """The target's word on PSYNC: it has taken over, or will not."""
        if self.state != UNDER_WAY:
            return
        if accepted:
            self._end()
        else:
            self.abort("Failover target rejected psync request")

    def check(self) -> None:
        """See whether the target is in step, or the time is over."""
        if self.state != WAITING:
            return
        if self.until_ms is not None and self.node.now_ms >= self.until_ms:
            if self.forced and self.target is not None:
                _log.info("Failover to %s time out exceeded, failing over.", _shown(self.target))
                self._hand_over(self.target)
            else:
                self.abort("Replica never caught up before timeout")
            return
        replica = self._replica_in_step()
        if replica is not None:
            _log.info("Failover target %s is synced, failing over.", _shown(replica.address))
            self._hand_over(replica.address)

    def _replica_in_step(self) -> "Replica | None":
        offset = self.node.log.flush()
        for replica in self.node.role.primary.replicas:
            wanted = self.target is None or replica.address == self.target
            if wanted and replica.streams() and replica.acked == offset:
                return replica
        return None

    def _hand_over(self, target: Address) -> None:
        self.state, self.target = UNDER_WAY, target
        self.node.config.replicaof = target
        self.node.follow(*target)

    def _end(self) -> None:
        self.state, self.target, self.until_ms, self.forced = NONE, None, None, False
        self.node.pause.stop(FAILOVER)

    def next_deadline_ms(self) -> int | None:
        return self.until_ms if self.state == WAITING else None


def _shown(target: Address) -> str:
    return f"{target[0]}:{target[1]}"
