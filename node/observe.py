"""Everything that only watches: counters, error statistics, MONITOR."""

from typing import Any

import attrs

from node.replies import ReplyError

_ERROR_KINDS_MAX = 128


@attrs.define(eq=False)
class ErrorStats:
    """How often each kind of error was answered; the kind is the error's first word."""

    total: int = 0
    by_kind: dict[bytes, int] = attrs.field(factory=dict)

    def count(self, error: ReplyError) -> None:
        if error.counted:
            return
        self.total += 1
        kind = b"".join(error.text.split(None, 1)[:1])
        if kind in self.by_kind or len(self.by_kind) < _ERROR_KINDS_MAX:
            self.by_kind[kind] = self.by_kind.get(kind, 0) + 1

    def reset(self) -> None:
        self.total = 0
        self.by_kind.clear()


@attrs.define(eq=False)
class Rate:
    """Events per second, as the mean over the last samples, one per tick."""

    _samples: list[float] = attrs.field(factory=lambda: [0.0] * 16)
    _place: int = 0
    _count: int = 0
    _at_ms: int = 0

    def sample(self, count: int, now_ms: int) -> None:
        """count: all events so far; now_ms: monotonic."""
        elapsed_ms = now_ms - self._at_ms
        if elapsed_ms <= 0:
            return
        self._samples[self._place % 16] = (count - self._count) * 1000 / elapsed_ms
        self._place += 1
        self._count, self._at_ms = count, now_ms

    def per_second(self) -> float:
        return sum(self._samples) / 16


@attrs.define(eq=False)
class Observe:
    """Counters since start, or since CONFIG RESETSTAT."""

    errors: ErrorStats = attrs.field(factory=ErrorStats)
    monitors: dict[int, Any] = attrs.field(factory=dict)
    connections: int = 0
    connections_rejected: int = 0
    bytes_in_of_the_gone: int = 0
    bytes_out_of_the_gone: int = 0
    command_rate: Rate = attrs.field(factory=Rate)
    input_rate: Rate = attrs.field(factory=Rate)
    output_rate: Rate = attrs.field(factory=Rate)
    full_syncs: int = 0
    partial_syncs: int = 0
    partial_syncs_refused: int = 0
    replication_bytes_in: int = 0  # from the primary
    slot_bytes_in: int = 0  # of slots that come from other nodes
    slot_bytes_out: int = 0
    replication_bytes_out: int = 0  # to replicas
    forks: int = 0
    fork_us: int = 0  # microseconds that the last one took
    peak_memory: int = 0
    startup_memory: int = 0
    input_overflows: int = 0  # clients closed for what they sent, or for what they did not read
    output_overflows: int = 0

    def forked(self, took_us: int) -> None:
        """A child was forked."""
        self.forks += 1
        self.fork_us = took_us

    def reset(self) -> None:
        """CONFIG RESETSTAT."""
        self.forks = self.fork_us = 0
        self.errors.reset()
        self.connections = self.connections_rejected = 0
        self.bytes_in_of_the_gone = self.bytes_out_of_the_gone = 0
        self.input_overflows = self.output_overflows = 0
        self.peak_memory = 0
        self.replication_bytes_in = self.replication_bytes_out = 0
        self.slot_bytes_in = self.slot_bytes_out = 0
        self.full_syncs = self.partial_syncs = self.partial_syncs_refused = 0
