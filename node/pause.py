"""Commands that are held back for a while: CLIENT PAUSE, a failover by hand, a shutdown.

Each purpose holds commands until a time of its own, and ends on its own; a command waits for all of
them. While any is on, keys whose time has come are hidden and not deleted, so that the log
stands still.
"""

from typing import TYPE_CHECKING

import attrs

from node.command import MAY_REPLICATE, WRITE
from node.replies import NO_REPLY, PENDING, Wait

if TYPE_CHECKING:
    from node.node import Node
    from node.session import Session

# Purposes, as INFO names them.
BY_CLIENT = "client_pause"
SHUTDOWN = "shutdown_in_progress"
FAILOVER = "failover_in_progress"
MIGRATION = "slot_migration_in_progress"

FOR_EVER_MS = 1 << 62


@attrs.define
class Hold:
    """until_ms: monotonic. everything: reads are held as well as writes."""

    until_ms: int
    everything: bool


@attrs.define(eq=False)
class Pause:
    """until_ms: when the last of them ends (monotonic), 0 when nothing is paused. everything:
    reads are held as well."""

    node: "Node"
    until_ms: int = 0
    everything: bool = False
    _holds: dict[str, Hold] = attrs.field(factory=dict)

    def is_on(self) -> bool:
        return self.until_ms > self.node.now_ms

    def is_on_for(self, purpose: str) -> bool:
        hold = self._holds.get(purpose)
        return hold is not None and hold.until_ms > self.node.now_ms

    def reason(self) -> str:
        """The purpose that holds commands longest; `none` if nothing is paused."""
        if not self.is_on():
            return "none"
        return max(self._holds, key=lambda purpose: self._holds[purpose].until_ms)

    def start(self, purpose: str, until_ms: int, everything: bool = False) -> None:
        """Hold commands until then; a pause under way is only made longer or stricter."""
        hold = self._holds.get(purpose)
        if hold is not None and self.is_on_for(purpose):
            until_ms = max(until_ms, hold.until_ms)
            everything = everything or hold.everything
        self._holds[purpose] = Hold(until_ms, everything)
        self._changed()

    def stop(self, purpose: str) -> None:
        """Let everybody go on, unless there is another purpose."""
        if self._holds.pop(purpose, None) is not None:
            self._changed()

    def tick(self) -> None:
        """End what has come to its end."""
        if any(hold.until_ms <= self.node.now_ms for hold in self._holds.values()):
            self._changed()

    def next_deadline_ms(self) -> int | None:
        """When, on the monotonic clock, everybody may go on."""
        return self.until_ms or None

    def _changed(self) -> None:
        now_ms = self.node.now_ms
        self._holds = {name: hold for name, hold in self._holds.items() if hold.until_ms > now_ms}
        holds = self._holds.values()
        self.until_ms = max((hold.until_ms for hold in holds), default=0)
        self.everything = any(hold.everything for hold in holds)
        self.node.refresh_gate()
        self.node.role.refresh_expiry()
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

        return Wait(retry, held_command=True)
