"""One task serves every plain socket, a whole batch of ready clients per turn.

An epoll descriptor can itself be waited for: trio wakes this task once for any number of ready
clients. A turn reads them all, runs what they asked, ends the turn (the log is written, and synced
where that is promised), and only then lets replies leave. Between turns other tasks run.

`streams.py` is the portable twin of this, one task per stream.
"""

import contextlib
import errno
import logging
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

import attrs
import trio

from node.execute import Batch
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

SPELL_SECONDS = 0.002  # how long turns may follow each other before other tasks run
LULL_SECONDS = 0.001  # how long a busy node waits for the next client by itself
READ_SIZE = 64 * 1024
BATCH = 512  # events taken from epoll at once
SEND_SIZE = 1024 * 1024
UNSENT_MAX = 64 * 1024 * 1024  # bytes; a client that owes more reading than this is not read
HELD_MAX = 1024 * 1024  # bytes of requests kept for a client that waits
_READ = select.EPOLLIN | select.EPOLLRDHUP
_GONE = select.EPOLLERR | select.EPOLLHUP
_OTHER = ~select.EPOLLIN


@attrs.define(eq=False)
class Connection:
    """A client's socket and its session.

    unsent: output that the socket did not take. interest: the events asked of epoll.
    """

    socket: socket.socket
    fd: int
    session: Session
    unsent: bytearray = attrs.field(factory=bytearray)
    interest: int = _READ
    recv: object = attrs.field(init=False)
    send: object = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.recv = self.socket.recv
        self.send = self.socket.send


@attrs.define(eq=False)
class Turns:
    """Serves plain sockets for one node."""

    node: "Node"
    _epoll: select.epoll = attrs.field(factory=select.epoll)
    _wakeup: int = attrs.field(factory=lambda: os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    _connections: dict[int, Connection] = attrs.field(factory=dict)
    _by_session: dict[int, Connection] = attrs.field(factory=dict)
    _flagged: list[Session] = attrs.field(factory=list)
    _resumable: list[Session] = attrs.field(factory=list)
    _in_turn: bool = False
    _ready: list[Connection] = attrs.field(factory=list)  # of the turn under way: may have output
    _batch: Batch = attrs.field(factory=list)  # and what it runs
    _others: dict[int, Callable[[], object]] = attrs.field(factory=dict)
    _due: list[Callable[[], object]] = attrs.field(factory=list)  # of those, after the turn

    def __attrs_post_init__(self) -> None:
        self._epoll.register(self._wakeup, select.EPOLLIN)

    # --- connections -----------------------------------------------------------------------------

    def add(self, sock: socket.socket, address: bytes, local_address: bytes) -> Session:
        """Serve this non-blocking socket from now on."""
        session = self.node.session(address, local_address, self._on_output)
        session.fd = sock.fileno()
        connection = Connection(sock, sock.fileno(), session)
        self._connections[connection.fd] = connection
        self._by_session[session.id] = connection
        self._epoll.register(connection.fd, _READ)
        return session

    def look_after(self, fd: int, pump: Callable[[], object]) -> None:
        """Whenever that descriptor is readable, call another driver's `pump` between two turns."""
        self._others[fd] = pump
        self._epoll.register(fd, select.EPOLLIN)

    def release(self, session: Session) -> tuple[socket.socket, bytes] | None:
        """Give up a client's socket, unclosed, with what is still to be sent: another driver takes
        over (a replica's link). None if it has gone."""
        connection = self._by_session.pop(session.id, None)
        if connection is None:
            return None
        del self._connections[connection.fd]
        self._epoll.unregister(connection.fd)
        return connection.socket, bytes(connection.unsent) + session.take_output()

    def _close(self, connection: Connection) -> None:
        session = connection.session
        if self._by_session.pop(session.id, None) is None:
            return
        del self._connections[connection.fd]
        # A forked child may share the socket: without these two the peer would see no end, and
        # epoll would go on reporting a descriptor that is closed here.
        self._epoll.unregister(connection.fd)
        _shut_down(connection.socket)
        connection.socket.close()
        self.node.close_session(session)

    def close(self) -> None:
        """Close every connection and the epoll descriptor."""
        for connection in list(self._connections.values()):
            self._close(connection)
        self._epoll.close()
        os.close(self._wakeup)

    # --- turns -----------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Take turns for ever.

        Waiting through trio costs as much as several requests. So while clients keep coming, turns
        follow each other directly, drivers that have been made known have theirs between them, and
        other tasks run after each spell of SPELL_SECONDS.
        """
        fd = self._epoll.fileno()
        while True:
            await trio.lowlevel.wait_readable(fd)
            ends = trio.current_time() + SPELL_SECONDS
            while self.pump(LULL_SECONDS):
                if trio.current_time() >= ends:
                    await trio.lowlevel.checkpoint()
                    ends = trio.current_time() + SPELL_SECONDS

    def pump(self, lull: float = 0) -> bool:
        """One turn; whether there was anything to do. Waits at most `lull` seconds for it."""
        events = self._epoll.poll(lull, BATCH)
        if not events and not self._flagged and not self._resumable:
            return False
        self._in_turn = True
        self.node.begin_turn()
        ready = self._read(events)
        if self._resumable:
            self._resume()
        self.node.end_turn()
        self._in_turn = False
        self._write(ready)
        self._write_flagged()
        while self._due:
            self._due.pop()()
        return True

    def pump_aside(self, busy: Session) -> None:
        """A turn amid another, for all clients but the one whose script keeps the node busy.

        Those whose requests were to follow in that turn have them run now.
        """
        outer_ready, outer_batch, in_turn = self._ready, self._batch, self._in_turn
        place = next((i for i, entry in enumerate(outer_batch) if entry[0] is busy), -1)
        rest = outer_batch[place + 1 :]
        del outer_batch[place + 1 :]
        self._in_turn = True
        self.node.begin_turn()
        ready = self._read(self._epoll.poll(0, BATCH), rest, busy)
        if self._resumable:
            self._resume()
        self.node.end_turn()
        self._in_turn, self._ready, self._batch = in_turn, outer_ready, outer_batch
        self._write(ready)
        self._write(outer_ready)
        self._write_flagged()
        outer_ready[:] = [one for one in outer_ready if one.session.id in self._by_session]

    def _write_flagged(self) -> None:
        """Send what was made outside the turns of those who get it."""
        while self._flagged:
            flagged, self._flagged = self._flagged, []
            for session in flagged:
                session.flagged = False  # also where there turns out to be nothing to send
            self._write([c for s in flagged if (c := self._by_session.get(s.id)) is not None])

    def _resume(self) -> None:
        """Let those go on who have read what they were owed."""
        resumable, self._resumable = self._resumable, []
        for session in resumable:
            self.node.resume(session)

    def _read(
        self, events: list[tuple[int, int]], first: Batch | None = None, but: Session | None = None
    ) -> list[Connection]:
        """Read and run what has come in; the connections that may have output.

        first: what to run before that. but: whose connection must not be touched.
        """
        ready: list[Connection] = []
        odd: list[Session] = []  # whose input may have made no sense
        batch: Batch = first or []
        self._ready, self._batch = ready, batch
        connections = self._connections
        for fd, event in events:
            connection = connections.get(fd)
            if connection is None:
                if fd == self._wakeup:
                    os.eventfd_read(fd)
                elif fd in self._others:
                    self._due.append(self._others[fd])
                continue
            if connection.session is but:
                continue
            if event & _OTHER and not self._has_more(connection, event, ready):
                continue
            try:
                data = connection.recv(READ_SIZE)  # type: ignore[operator]
            except OSError as error:
                self._failed(connection, error)
                continue
            if not data:
                self._close(connection)
                continue
            session = connection.session
            requests = session.accept(data)
            verbatim = session.parser.verbatim
            if requests:
                batch.append((session, requests, verbatim))
            if verbatim is None:
                odd.append(session)
            ready.append(connection)
        self.node.run_all(batch)
        self._batch = []
        for session in odd:
            session.reject_input()
        return ready

    def _has_more(self, connection: Connection, event: int, ready: list[Connection]) -> bool:
        """Whether to read on an unusual event: room for what is unsent, the end, an error."""
        if event & select.EPOLLOUT:
            ready.append(connection)
        if not event & select.EPOLLIN and event & (select.EPOLLRDHUP | _GONE):
            self._close(connection)
        return bool(event & select.EPOLLIN)

    def _write(self, ready: list[Connection]) -> None:
        """Send what each of these is owed."""
        for connection in ready:
            session = connection.session
            if session.dropped:
                self._close(connection)
                continue
            if connection.unsent:
                self._write_unsent(connection)
            elif session.output:
                data = session.take_output()
                try:
                    sent = connection.send(data)  # type: ignore[operator]
                except OSError as error:
                    if not _is_temporary(error):
                        self._close(connection)
                        continue
                    sent = 0
                if sent != len(data):
                    connection.unsent += data[sent:]
                    session.output_size = len(connection.unsent)
                    self.node.housekeeper.check_output(session)
                    self._watch(connection)
            if session.requests and session.waiting is None and not connection.unsent:
                self._resumable.append(session)
            if session.waiting is not None or connection.interest != _READ:
                self._watch(connection)
            if session.closing and not connection.unsent:
                self._close(connection)

    def _write_unsent(self, connection: Connection) -> None:
        """Go on with output that the socket had no room for."""
        unsent = connection.unsent
        unsent += connection.session.take_output()
        try:
            with memoryview(unsent) as view:
                sent = connection.send(view[:SEND_SIZE])  # type: ignore[operator]
        except OSError as error:
            if not _is_temporary(error):
                self._close(connection)
                return
            sent = 0
        del unsent[:sent]
        connection.session.output_size = len(unsent)
        self.node.housekeeper.check_output(connection.session)
        self._watch(connection)

    def _watch(self, connection: Connection) -> None:
        """Ask epoll for what this connection now needs."""
        interest = select.EPOLLRDHUP
        session = connection.session
        holds = session.waiting is not None or bool(session.requests)
        if len(connection.unsent) < UNSENT_MAX and (not holds or session.held() < HELD_MAX):
            interest |= select.EPOLLIN
        if connection.unsent:
            interest |= select.EPOLLOUT
        if interest != connection.interest:
            connection.interest = interest
            self._epoll.modify(connection.fd, interest)

    def _failed(self, connection: Connection, error: OSError) -> None:
        if not _is_temporary(error):
            self._close(connection)

    def _on_output(self, session: Session) -> None:
        self._flagged.append(session)
        if not self._in_turn and len(self._flagged) == 1:
            os.eventfd_write(self._wakeup, 1)


def _is_temporary(error: OSError) -> bool:
    return error.errno in (errno.EAGAIN, errno.EINTR)


def _shut_down(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the peer may have been faster
        sock.shutdown(socket.SHUT_RDWR)
