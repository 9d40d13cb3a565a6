"""Virtual time: what happens next, and when.

Events of one moment happen in the order in which they were planned, so a run depends on nothing
but its seed.
"""

import heapq
from collections.abc import Callable
from itertools import count

import attrs

START_MS = 1_700_000_000_000

Action = Callable[[], object]


@attrs.define(eq=False)
class Timeline:
    """The true time, `now`, in milliseconds, and everything that is planned."""

    now: int = START_MS
    events: int = 0
    _planned: list[tuple[int, int, Action]] = attrs.field(factory=list)
    _order: count = attrs.field(factory=count)

    @property
    def elapsed(self) -> int:
        """Milliseconds since the beginning."""
        return self.now - START_MS

    def at(self, moment: int, action: Action) -> None:
        """Plan an action; what is planned for the past happens now."""
        heapq.heappush(self._planned, (max(moment, self.now), next(self._order), action))

    def after(self, delay: int, action: Action) -> None:
        self.at(self.now + delay, action)

    def step(self, until: int) -> bool:
        """Let the next thing happen, if it is due by then; else it is that time, and False."""
        if not self._planned or self._planned[0][0] > until:
            self.now = max(until, self.now)
            return False
        self.now, _, action = heapq.heappop(self._planned)
        self.events += 1
        action()
        return True


@attrs.define(eq=False)
class LocalClock:
    """A machine's clock: off by `skew_ms`, and wrong by `drift_ppm` millionths as time goes by."""

    timeline: Timeline
    skew_ms: int = 0
    drift_ppm: int = 0

    def wall_ms(self) -> int:
        return self.monotonic_ms() + self.skew_ms

    def monotonic_ms(self) -> int:
        now = self.timeline.now
        return now + (now - START_MS) * self.drift_ppm // 1_000_000

    def monotonic_ns(self) -> int:
        return self.monotonic_ms() * 1_000_000

    def when(self, monotonic_ms: int) -> int:
        """The true time at which this clock's monotonic time will have come."""
        moment = monotonic_ms - (monotonic_ms - START_MS) * self.drift_ppm // 1_000_000
        while moment + (moment - START_MS) * self.drift_ppm // 1_000_000 < monotonic_ms:
            moment += 1
        return moment

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nobody sleeps in a simulation: the whole world would")
