"""What each slot costs: processor time, and bytes from and to clients (CLUSTER SLOT-STATS).

Measuring takes every command the long way, so it is done only while cluster-slot-stats-enabled
says so.
"""

from typing import TYPE_CHECKING, Any

import attrs

from node.command import Row
from node.resp import encode, encode_request
from node.transaction import keys_of

if TYPE_CHECKING:
    from node.node import Node
    from node.session import Session

CPU, BYTES_IN, BYTES_OUT = b"cpu-usec", b"network-bytes-in", b"network-bytes-out"


@attrs.define(eq=False)
class SlotStats:
    """Of commands whose keys are all in one slot."""

    node: "Node"
    _served: int = 0
    _nanoseconds: dict[int, int] = attrs.field(factory=dict)
    _bytes_in: dict[int, int] = attrs.field(factory=dict)
    _bytes_out: dict[int, int] = attrs.field(factory=dict)

    def is_on(self) -> bool:
        """Whether commands are to be measured."""
        return self.node.topology.clustered and self.node.config.cluster_slot_stats_enabled

    def metrics(self) -> tuple[bytes, ...]:
        """The names of what is measured."""
        return (CPU, BYTES_IN, BYTES_OUT) if self.is_on() else ()

    def of(self, slot: int) -> dict[bytes, int]:
        """What a slot has cost so far."""
        if not self.is_on():
            return {}
        return {
            CPU: self._nanoseconds.get(slot, 0) // 1000,
            BYTES_IN: self._bytes_in.get(slot, 0),
            BYTES_OUT: self._bytes_out.get(slot, 0),
        }

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        for counts in (self._nanoseconds, self._bytes_in, self._bytes_out):
            counts.clear()

    def serve(self, slots: int) -> None:
        """These are served from now on: those that are new, or gone, begin at zero."""
        changed, self._served = self._served ^ slots, slots
        for counts in (self._nanoseconds, self._bytes_in, self._bytes_out):
            for slot in [slot for slot in counts if changed >> slot & 1]:
                del counts[slot]

    def note(
        self, session: "Session", row: Row, args: list[bytes], value: Any, nanoseconds: int
    ) -> None:
        """A client's command has run, and answered `value`."""
        slot_of = self.node.topology.slot_of
        slots = {slot_of(key) for key in keys_of(session, row, args)}
        if len(slots) != 1:
            return
        slot = slots.pop()
        replied = len(encode(value, session.protocol))
        for counts, count in (
            (self._nanoseconds, nanoseconds),
            (self._bytes_in, len(encode_request(args))),
            (self._bytes_out, replied),
        ):
            counts[slot] = counts.get(slot, 0) + count
