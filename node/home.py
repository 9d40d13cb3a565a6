"""[trio] What a driver asks of trio while another thread has the node; see node.watchdog."""

from collections.abc import Callable
from typing import TypeVarTuple

import trio

Ts = TypeVarTuple("Ts")


class Home:
    """The run that a driver's tasks belong to, from `enter` on; before, there is nothing to wait
    for."""

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: trio.lowlevel.TrioToken | None = None

    def enter(self) -> None:
        """Called by the driver's task, in its run."""
        self._token = trio.lowlevel.current_trio_token()

    def call(self, function: Callable[[*Ts], object], *args: *Ts) -> None:
        """Call it where trio can be asked: at once in the run's own thread, else soon there."""
        if self._token is None or trio.lowlevel.in_trio_run():
            function(*args)
        else:
            self._token.run_sync_soon(function, *args)
