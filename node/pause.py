"""CLIENT PAUSE and a manual failover: commands that are held back for a while."""

from typing import TYPE_CHECKING

import attrs

from node.command import MAY_REPLICATE, WRITE
from node.replies import NO_REPLY, PENDING, Wait

if TYPE_CHECKING:
    from node.node import Node
    from node.session import Session


@attrs.define(eq=False)
class Pause:
    """until_ms: monotonic; 0 when nothing is paused. everything: reads are held as well."""

    node: "Node"
    until_ms: int = 0
    everything: bool = False

    def is_on(self) -> bool:
        return self.until_ms > self.node.now_ms

    def start(self, until_ms: int, everything: bool) -> None:
        """Hold commands until then; a pause under way is only made longer or stricter."""
        self.until_ms = max(self.until_ms, until_ms) if self.is_on() else until_ms
        self.everything = everything or (self.is_on() and self.everything)
        self.node.refresh_gate()

    def stop(self) -> None:
        """Let everybody go on."""
        self.until_ms = 0
        self.everything = False
        self.node.refresh_gate()
        self.node.blocking.poll()

    def holds(self, session: "Session", flags: int) -> bool:
        """Whether a command of these flags has to wait. Replicas' own traffic never does."""
        if not self.is_on() or session.replica is not None or self.node.unit is not None:
            return False
        return self.everything or bool(flags & (WRITE | MAY_REPLICATE))

    def wait(self, session: "Session", args: list[bytes]) -> Wait:
        """Hold this command: at the end of the pause it runs as if it came only then."""

        def retry() -> object:
            if self.is_on():
                return PENDING
            session.requests.insert(0, args)
            return NO_REPLY

        return Wait(retry, self.until_ms, retry, held_command=True)
