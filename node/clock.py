"""Milliseconds, read once per turn; the only module that asks the operating system for the time."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where a node gets the time: the real one here, a virtual one in simulations and tests."""

    def wall_ms(self) -> int:
        """Milliseconds since the Unix epoch; may jump."""
        ...

    def monotonic_ms(self) -> int:
        """Milliseconds since some fixed moment; never goes back."""
        ...

    def monotonic_ns(self) -> int:
        """The same in nanoseconds, to measure how long something takes."""
        ...

    def sleep(self, seconds: float) -> None:
        """Do nothing at all for so long; what DEBUG SLEEP is for."""
        ...


class SystemClock:
    """The operating system's clocks."""

    def wall_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def monotonic_ns(self) -> int:
        return time.monotonic_ns()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class VirtualClock:
    """A clock that stands still until it is told to advance."""

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = start_ms

    def wall_ms(self) -> int:
        return self._now_ms

    def monotonic_ms(self) -> int:
        return self._now_ms

    def monotonic_ns(self) -> int:
        return self._now_ms * 1_000_000

    def sleep(self, seconds: float) -> None:
        self.advance(int(seconds * 1000))

    def advance(self, milliseconds: int) -> None:
        """Move time forward."""
        if milliseconds < 0:
            raise ValueError("time does not go back")
        self._now_ms += milliseconds
