"""A thread that has others served where a script gives its hook no chance to.

The hook runs between two of Lua's instructions. One of them may be a call into C that takes its
time: comparing two large strings, sorting a table. lupa lets go of Python's own lock meanwhile, so
another thread can do what the hook would: answer clients with BUSY and peers with PONG.

The node belongs to who holds the baton. The thread that serves holds it always, but lends it while
Lua runs, and takes it back for each call from Lua. (A lock that its holder may take again: Lua's
hook also runs where nothing has been lent.)
"""

import gc
import logging
import os
import threading
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from node.node import Node
    from node.scripting.running import Run

_log = logging.getLogger(__name__)

_LONGEST_S = 0.1  # between two looks
_SHORTEST_S = 0.01
_LOOKS = 4  # looks in the time after which a script is busy


@attrs.define(eq=False)
class Watchdog:
    """Of a node that is a process; to be made in the thread that serves."""

    node: "Node"
    _baton: threading.RLock = attrs.field(factory=threading.RLock)
    _ended: threading.Event = attrs.field(factory=threading.Event)
    _run: "Run | None" = None
    _since_ms: int = 0  # when that run was seen first

    def __attrs_post_init__(self) -> None:
        self._baton.acquire()
        scripting = self.node.scripting
        scripting.take, scripting.lend = self._baton.acquire, self._baton.release
        scripting.on_first = self._start

    def _start(self) -> None:
        threading.Thread(target=self._watch, name="watchdog", daemon=True).start()

    def end(self) -> None:
        """Let the thread end."""
        self._ended.set()

    def _watch(self) -> None:
        while not self._ended.wait(self._pause_s()):
            self._look()

    def _pause_s(self) -> float:
        if self._run is not None and self._run.busy:
            return _SHORTEST_S
        threshold_s = self.node.config.busy_reply_threshold / 1000
        return min(max(threshold_s / _LOOKS, _SHORTEST_S), _LONGEST_S)

    def _look(self) -> None:
        run = self.node.scripting.run
        now_ms = self.node.clock.monotonic_ms()
        if run is not self._run:
            self._run, self._since_ms = run, now_ms
        elif run is not None and run.is_due(self._since_ms, now_ms):
            self._attend(run)

    def _attend(self, run: "Run") -> None:
        """Serve others, if the one that serves is inside Lua."""
        if not self._baton.acquire(blocking=False):
            return
        # What is collected may be Lua's, which the other thread holds on to.
        collects = gc.isenabled()
        gc.disable()
        try:
            if self.node.scripting.run is run:
                run.attend(self._since_ms)
        except Exception:  # as where the hook does it
            _log.exception("Serving others beside a script has failed")
        except BaseException:  # nobody is above this thread who could end the process
            os._exit(1)
        finally:
            if collects:
                gc.enable()
            self._baton.release()
