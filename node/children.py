"""[trio] Work in the background: each piece in a forked child; calls that wait, in a thread."""

import os
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVarTuple

import attrs
import trio

from node import child
from node.background import AtOnce, Call, Called, Done, Work
from node.home import Home

if TYPE_CHECKING:
    from node.node import Node

Ts = TypeVarTuple("Ts")


@attrs.define(eq=False)
class Children:
    """The background of a node that is a process; `serve` must run."""

    node: "Node"
    _done: dict[int, Done] = attrs.field(factory=dict)
    _calls: deque[tuple[Call, Called]] = attrs.field(factory=deque)
    _nursery: trio.Nursery | None = None
    _home: Home = attrs.field(factory=Home)

    def __attrs_post_init__(self) -> None:
        self.node.background = self

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look after children for ever; who still works at the end is ended."""
        self._home.enter()
        try:
            async with trio.open_nursery() as self._nursery:
                task_status.started()
                await trio.sleep_forever()
        finally:
            self._nursery = None
            for pid in list(self._done):
                self.cancel(pid)

    def run(self, work: Work, done: Done) -> int:
        assert self._nursery is not None
        started = time.perf_counter_ns()
        pid = child.fork(lambda: work(os.getpid()), ())
        self.node.observe.forked((time.perf_counter_ns() - started) // 1000)
        self._done[pid] = done
        # Opened before anybody can reap the child: its id may be another's afterwards.
        self._start(self._wait, pid, os.pidfd_open(pid), done)
        return pid

    async def _wait(self, pid: int, descriptor: int, done: Done) -> None:
        try:
            await trio.lowlevel.wait_readable(descriptor)
        finally:
            os.close(descriptor)
        if self._done.get(pid) is not done:
            return  # it was cancelled
        del self._done[pid]
        code = child.reap(pid)
        self.node.begin_turn()
        done(code)
        self.node.end_turn()

    def cancel(self, pid: int) -> None:
        if self._done.pop(pid, None) is not None:
            child.reap(pid, kill=True)

    def call(self, call: Call, done: Called) -> None:
        if self._nursery is None:
            AtOnce().call(call, done)
            return
        self._calls.append((call, done))
        if len(self._calls) == 1:
            self._start(self._make_calls)

    def _start(self, task: Callable[[*Ts], Awaitable[object]], *args: *Ts) -> None:
        """Start a task, whichever thread has the node."""
        assert self._nursery is not None
        self._home.call(self._nursery.start_soon, task, *args)

    async def _make_calls(self) -> None:
        """One after the other, in the order in which they came."""
        while self._calls:
            call, done = self._calls[0]
            error = None
            try:
                await trio.to_thread.run_sync(call)
            except OSError as failure:
                error = failure
            self._calls.popleft()
            self.node.begin_turn()
            done(error)
            self.node.end_turn()
