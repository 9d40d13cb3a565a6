"""Clients that wait: for keys, for acknowledgements, for the end of a pause.

First come, first served per key. A key that has changed is looked at right after the command that
changed it (or after the whole transaction or script): each client that waits for it and for a
value of this class runs its command again, and what that does is logged as a command of its own.
A waiting session takes no further input: what it has sent is kept, and runs once it is answered.
"""

import heapq
import itertools
from typing import TYPE_CHECKING, Any

import attrs

from node.data.keyspace import UNWATCHED, Database
from node.replies import PENDING, Wait
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node

Place = tuple[int, bytes]  # number of a database, key


@attrs.define(eq=False)
class Blocking:
    """Who waits, and for what.

    ready: keys that somebody waits for and that have changed since the last `serve`.
    """

    node: "Node"
    sessions: dict[int, Session] = attrs.field(factory=dict)
    ready: dict[Place, None] = attrs.field(factory=dict)
    _by_key: dict[Place, dict[int, Session]] = attrs.field(factory=dict)
    _held: dict[Place, None] = attrs.field(factory=dict)  # ready, but nobody could be served
    _commands: dict[int, list[bytes]] = attrs.field(factory=dict)
    _pollers: dict[int, Session] = attrs.field(factory=dict)
    _deadlines: list[tuple[int, int, Session, Wait]] = attrs.field(factory=list)
    _order: Any = attrs.field(factory=itertools.count)

    def wait(self, session: Session, wait: Wait, args: list[bytes]) -> None:
        """Answer the session's command, `args`, later."""
        session.waiting = wait
        self.sessions[session.id] = session
        self._commands[session.id] = args if wait.command is None else wait.command
        if wait.keys and not self._by_key:
            self._listen()
        for place in wait.keys:
            self._by_key.setdefault(place, {})[session.id] = session
        if wait.poll is not None:
            self._pollers[session.id] = session
        if wait.deadline_ms is not None:
            entry = (wait.deadline_ms, next(self._order), session, wait)
            heapq.heappush(self._deadlines, entry)

    # --- keys -------------------------------------------------------------------------------------

    def _listen(self, on: bool = True) -> None:
        """Hear of changes only while somebody waits: then they cost nothing otherwise."""
        keyspace = self.node.keyspace
        if on:
            keyspace.listen(self._key_changed)
            keyspace.on_reset.append(self._database_changes)
        else:
            keyspace.ignore(self._key_changed)
            keyspace.on_reset.remove(self._database_changes)

    def _key_changed(self, db: Database, key: bytes, event: bytes, kind: int) -> None:
        if not kind & UNWATCHED:
            self.wake(db, key)

    def wake(self, db: Database, key: bytes) -> None:
        """Let those who wait for this key look again."""
        if (db.index, key) in self._by_key:
            self.ready[db.index, key] = None

    def _database_changes(self, db: Database, other: Database | None) -> None:
        for place in self._by_key:
            if place[0] == db.index:
                self.ready[place] = None

    def serve(self) -> None:
        """Run again the commands that wait for keys which have changed; what those change counts
        too."""
        if self.ready:
            self.node.begin_turn()  # what comes before may have taken its time
        while self.ready:
            ready, self.ready = self.ready, {}
            for place in ready:
                self._serve_key(place)

    def _serve_key(self, place: Place) -> None:
        db = self.node.keyspace[place[0]]
        for session in list(self._by_key.get(place, {}).values()):
            wait = session.waiting
            if wait is None or (wait.kind and type(db.glance(place[1])) is not wait.kind):
                continue
            value = self.node.run_again(session, self._commands[session.id])
            if type(value) is not Wait:
                self.answer(session, value)
            elif value.held_command:
                self._held[place] = None

    # --- anything else ----------------------------------------------------------------------------

    def poll(self) -> None:
        """Offsets or acknowledgements have moved, or what held commands back may be over: ask
        those who wait for no key, and let those look again who could not be served."""
        self.ready.update(self._held)
        self._held.clear()
        for session in list(self._pollers.values()):
            wait = session.waiting
            if wait is not None and wait.poll is not None:
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

    # --- the end of a wait ------------------------------------------------------------------------

    def answer(self, session: Session, value: Any) -> None:
        """End a wait with this reply, then run what the client has sent meanwhile."""
        self.forget(session)
        session.push(value)
        for late in session.late:
            session.push_encoded(late)
        session.late.clear()
        self.node.resume(session)

    def forget(self, session: Session) -> None:
        """The session waits no longer: answered, or gone."""
        wait, session.waiting = session.waiting, None
        if wait is None:
            return
        del self.sessions[session.id], self._commands[session.id]
        self._pollers.pop(session.id, None)
        for place in wait.keys:
            waiting = self._by_key.get(place)
            if waiting is not None:
                waiting.pop(session.id, None)
                if not waiting:
                    del self._by_key[place]
        if wait.keys and not self._by_key:
            self._listen(False)
