"""Clients that wait: for keys, for acknowledgements, for the end of a pause.

First come, first served per key. A waiting session takes no further input: what it has sent is
kept, and runs once it is answered.
"""

import heapq
import itertools
from typing import TYPE_CHECKING, Any

import attrs

from node.replies import PENDING, Wait
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node


@attrs.define(eq=False)
class Blocking:
    """Who waits, and for what."""

    node: "Node"
    sessions: dict[int, Session] = attrs.field(factory=dict)
    _by_key: dict[tuple[int, bytes], dict[int, Session]] = attrs.field(factory=dict)
    _pollers: dict[int, Session] = attrs.field(factory=dict)
    _deadlines: list[tuple[int, int, Session, Wait]] = attrs.field(factory=list)
    _ready: dict[tuple[int, bytes], None] = attrs.field(factory=dict)
    _order: Any = attrs.field(factory=itertools.count)

    def wait(self, session: Session, wait: Wait) -> None:
        """Answer the session's command later."""
        session.waiting = wait
        self.sessions[session.id] = session
        for key in wait.keys:
            self._by_key.setdefault(key, {})[session.id] = session
        if not wait.keys:
            self._pollers[session.id] = session
        if wait.deadline_ms is not None:
            entry = (wait.deadline_ms, next(self._order), session, wait)
            heapq.heappush(self._deadlines, entry)
            if self._deadlines[0] is entry:
                self.node.on_deadline()

    def key_changed(self, db: int, key: bytes) -> None:
        """Somebody may wait for this key; looked at in `serve`."""
        if (db, key) in self._by_key:
            self._ready[db, key] = None

    def has_ready(self) -> bool:
        return bool(self._ready)

    def serve(self) -> None:
        """Answer whoever waits for keys that have changed; what that changes counts too."""
        while self._ready:
            ready, self._ready = self._ready, {}
            for key in ready:
                for session in list(self._by_key.get(key, {}).values()):
                    self._poll(session)

    def poll(self) -> None:
        """Offsets or acknowledgements have moved: ask those who wait for no key."""
        for session in list(self._pollers.values()):
            self._poll(session)

    def _poll(self, session: Session) -> None:
        wait = session.waiting
        if wait is not None:
            value = wait.poll()
            if value is not PENDING:
                self.answer(session, value)

    def expire(self, now_ms: int) -> None:
        """Answer those whose deadline (monotonic milliseconds) has come."""
        while (at_ms := self.next_ms()) is not None and at_ms <= now_ms:
            _, _, session, wait = heapq.heappop(self._deadlines)
            self.answer(session, wait.expire())

    def next_ms(self) -> int | None:
        """The earliest deadline of anybody who still waits."""
        heap = self._deadlines
        while heap and heap[0][2].waiting is not heap[0][3]:
            heapq.heappop(heap)
        return heap[0][0] if heap else None

    def answer(self, session: Session, value: Any) -> None:
        """End a wait with this reply, then run what the client has sent meanwhile."""
        self.forget(session)
        session.push(value)
        self.node.resume(session)

    def forget(self, session: Session) -> None:
        """The session waits no longer: answered, or gone."""
        wait, session.waiting = session.waiting, None
        self.sessions.pop(session.id, None)
        self._pollers.pop(session.id, None)
        for key in wait.keys if wait is not None else ():
            waiting = self._by_key.get(key)
            if waiting is not None:
                waiting.pop(session.id, None)
                if not waiting:
                    del self._by_key[key]
