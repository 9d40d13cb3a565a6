"""What happens to clients as time goes by: idle ones, and ones that owe too much, are closed.

The limits are those of `timeout` and `client-output-buffer-limit`, looked at in every tick; and of
a client that has just been found not to read, by its driver, at once. `client-query-buffer-limit`
is looked at whenever a client has sent so much that it may hold more.
"""

import logging
import sys
from typing import TYPE_CHECKING

import attrs

from node.session import NORMAL, PUBSUB, REPLICA, Session

if TYPE_CHECKING:
    from node.config.special import OutputLimit
    from node.node import Node

_log = logging.getLogger(__name__)
MEMORY_EVERY_MS = 1000


@attrs.define(eq=False)
class Housekeeper:
    """Part of a node's tick."""

    node: "Node"
    _memory_at_ms: int = 0

    def __attrs_post_init__(self) -> None:
        self.node.config.on_change("client-query-buffer-limit", lambda _: self._check_inputs())

    def tick(self) -> None:
        """Close who must be closed, and take samples for INFO."""
        node = self.node
        timeout_ms = node.config.timeout * 1000
        for session in list(node.sessions.values()):
            if session.output_size or session.output:
                self.check_output(session)
            if timeout_ms and session.active_ms < node.now_ms - timeout_ms:
                self._close_idle(session)
        self._sample()

    def check_output(self, session: Session) -> None:
        """Close a client that has left too much unread, or a lot for too long."""
        limit = self._limit(session)
        if limit is None:
            return
        unsent, now_ms = session.unsent(), self.node.now_ms
        if limit.soft_bytes and unsent > limit.soft_bytes:
            session.over_since_ms = session.over_since_ms or now_ms
            waited_ms = now_ms - session.over_since_ms
            too_long = waited_ms > limit.soft_seconds * 1000
        else:
            session.over_since_ms = 0
            too_long = False
        if too_long or (limit.hard_bytes and unsent > limit.hard_bytes):
            self.node.observe.output_overflows += 1
            _log.warning(
                "Client id=%d addr=%s closed for overcoming of output buffer limits.",
                *(session.id, session.address.decode()),
            )
            session.drop()

    def check_input(self, session: Session, arrived: int) -> None:
        """Close a client that has sent too much that could not run yet; say when to look again.

        arrived: bytes that have come and that its parser has not been given.
        """
        if session.from_primary or session.internal or session.imports is not None:
            session.check_input_at = sys.maxsize
            return
        limit = self.node.config.client_query_buffer_limit
        unrun = session.unrun() + arrived
        session.check_input_at = session.bytes_in + limit - unrun
        if unrun > limit:
            self.node.observe.input_overflows += 1
            _log.warning(
                "Closing client that reached max query buffer length: id=%d addr=%s",
                *(session.id, session.address.decode()),
            )
            session.drop()

    def _check_inputs(self) -> None:
        """The limit is another: each client is looked at when it next sends something."""
        for session in self.node.sessions.values():
            session.check_input_at = 0

    def _limit(self, session: Session) -> "OutputLimit | None":
        limits = self.node.config.client_output_buffer_limit
        kinds = {NORMAL: limits.normal, PUBSUB: limits.pubsub, REPLICA: limits.replica}
        return kinds.get(session.kind)

    def _close_idle(self, session: Session) -> None:
        """Those who wait, listen or replicate are idle by nature."""
        if session.imports is not None or session.replica is not None:
            return
        if session.kind == NORMAL and session.waiting is None:
            _log.info("Closing idle client")
            session.drop()

    def _sample(self) -> None:
        node, observe = self.node, self.node.observe
        now_ms = node.now_ms
        observe.command_rate.sample(node.commands_processed(), now_ms)
        received, sent = node.bytes_moved()
        observe.input_rate.sample(received, now_ms)
        observe.output_rate.sample(sent, now_ms)
        if now_ms - self._memory_at_ms >= MEMORY_EVERY_MS:
            self._memory_at_ms = now_ms
            observe.peak_memory = max(observe.peak_memory, node.host.memory())
