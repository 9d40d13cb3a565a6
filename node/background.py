"""Work on the data of one moment that leaves the node free: what it asks of its driver.

A process does it in a forked child (node.children), a node that nobody drives at once.
"""

from collections.abc import Callable
from typing import Protocol

Work = Callable[[int], int]
"""Given the id of the process that does it, to name files by; gives an exit code, 0 for success."""
Done = Callable[[int], None]
"""Given that code, or the negative number of the signal that ended the work."""

Call = Callable[[], None]
"""May raise OSError."""
Called = Callable[[OSError | None], None]
"""Given that error, if there was one."""


class Background(Protocol):
    """A driver."""

    def run(self, work: Work, done: Done) -> int:
        """Do the work on the data as they are now; the id of the process that does it.

        `done` is called between begin_turn and end_turn. OSError if it can't be done.
        """
        ...

    def cancel(self, pid: int) -> None:
        """End the work at once; nobody is told that it is done."""
        ...

    def call(self, call: Call, done: Called) -> None:
        """Make a call that does nothing but wait, for the disk, after all those before it.

        `done` is called between begin_turn and end_turn, or before `call` returns.
        """
        ...


class AtOnce:
    """Does the work on the spot, and is done before `run` returns."""

    def run(self, work: Work, done: Done) -> int:
        done(work(0))
        return 0

    def cancel(self, pid: int) -> None:
        """Nothing is ever under way."""

    def call(self, call: Call, done: Called) -> None:
        error = None
        try:
            call()
        except OSError as failure:
            error = failure
        done(error)
