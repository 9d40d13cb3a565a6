"""The cluster bus on real sockets: links, time, and nodes.conf.

One task owns an epoll with the listeners and every link, as `node.turns` does for clients. What
arrives goes to the core, through the member, and what the core wants done is done in the same turn
and in order, except that what the core must be told next (a connection refused, a link broken while
sending) waits in `_news` until the present effects are done.

`pump` is one round without waiting, for whoever keeps the process busy.
"""

import errno
import logging
import os
import select
import socket
from collections.abc import Callable

import attrs
import trio

from cluster import effects as fx
from cluster import message as m
from cluster.configfile import ConfigFile
from cluster.member import Member
from node.server import keep_alive

_log = logging.getLogger(__name__)

TICK_MS = 100
READ_SIZE = 256 * 1024
ACCEPTS = 100
_READ = select.EPOLLIN
_WRITE = select.EPOLLOUT
_PUBSUB = (m.PUBLISH, m.PUBLISHSHARD)


@attrs.define(eq=False)
class Wire:
    """The socket of a link. `unsent` is what it had no room for; `up` is False while it is being
    connected."""

    link: int
    socket: socket.socket
    fd: int
    up: bool
    splitter: m.Splitter = attrs.field(factory=m.Splitter)
    unsent: bytearray = attrs.field(factory=bytearray)


@attrs.define(eq=False)
class Bus:
    """Drives one member of a cluster."""

    member: Member
    file: ConfigFile
    listeners: list[socket.socket]
    _epoll: select.epoll = attrs.field(factory=select.epoll)
    _wakeup: int = attrs.field(factory=lambda: os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    _wires: dict[int, Wire] = attrs.field(factory=dict)  # by link
    _by_fd: dict[int, Wire | socket.socket] = attrs.field(factory=dict)
    _news: list[tuple[Callable[[int], None], int]] = attrs.field(factory=list)
    _next_tick: int = 0
    _encoded: tuple[m.Message | None, bytes] = (None, b"")
    _pumping: bool = False
    _opened: bool = False

    def __attrs_post_init__(self) -> None:
        self.member.driver = self
        self._epoll.register(self._wakeup, select.EPOLLIN)
        for listener in self.listeners:
            self._by_fd[listener.fileno()] = listener
            self._epoll.register(listener.fileno(), _READ)

    # --- the task --------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Keep the member in touch with the others, for ever."""
        node, fd = self.member.node, self._epoll.fileno()
        node.begin_turn()
        self.member.start()
        node.end_turn()
        while True:
            with trio.move_on_after(self._idle_ms() / 1000):
                await trio.lowlevel.wait_readable(fd)
            self.pump()

    def fileno(self) -> int:
        """A descriptor that is readable when `pump` has something to do but for the time."""
        return self._epoll.fileno()

    def _idle_ms(self) -> int:
        """How long there is nothing to do unless something arrives."""
        if self._news:
            return 0
        due = self._next_tick
        wake = self.member.core.next_wake()
        if wake is not None:
            due = min(due, wake)
        return max(due - self.member.now(), 0)

    def pump(self) -> None:
        """One round: whatever has arrived, and the time that has passed."""
        self._pump(self._keep_time)

    def pump_while_loading(self) -> None:
        """As `pump`, before `serve` and the node's data are there: the others get their answers,
        and nothing is begun."""
        self._pump(self._open)

    def _open(self) -> None:
        if not self._opened:
            self._opened = True
            self.member.open()

    def _pump(self, after: Callable[[], None]) -> None:
        if self._pumping:
            return
        # Looked up at once: a descriptor may be another's before its event is handled.
        events = [(fd, event, self._by_fd.get(fd)) for fd, event in self._epoll.poll(0)]
        if not events and self._idle_ms():
            return
        self._pumping = True
        try:
            self.member.node.begin_turn()
            for fd, event, what in events:
                if self._by_fd.get(fd) is what:
                    self._handle(fd, event, what)
                    self._tell_news()
            self._tell_news()
            after()
            self._tell_news()
            self.member.node.end_turn()
        finally:
            self._pumping = False

    def _handle(self, fd: int, event: int, what: Wire | socket.socket | None) -> None:
        if isinstance(what, Wire):
            self._on_wire(what, event)
        elif what is not None:
            self._accept(what)
        elif fd == self._wakeup:
            os.eventfd_read(fd)

    def _keep_time(self) -> None:
        now = self.member.now()
        wake = self.member.core.next_wake()
        if now >= self._next_tick or (wake is not None and now >= wake):
            self._next_tick = now + TICK_MS
            self.member.tick()
        if self.member.drop_some():
            self.wake()

    def _tell_news(self) -> None:
        while self._news:
            news, self._news = self._news, []
            for tell, link in news:
                tell(link)

    def _later(self, tell: Callable[[int], None], link: int) -> None:
        """Something to tell the core once it has finished with what it is at."""
        self._news.append((tell, link))
        self.wake()

    def wake(self) -> None:
        """Something may be due earlier than it was."""
        os.eventfd_write(self._wakeup, 1)

    # --- what arrives ----------------------------------------------------------------------------

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(ACCEPTS):
            try:
                sock, address = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                _log.warning("Error accepting cluster node: %s", error)
                return
            self._prepare(sock)
            link = self.member.accept(address[0], sock.getsockname()[0])
            self._add(Wire(link, sock, sock.fileno(), up=True), _READ)

    def _on_wire(self, wire: Wire, event: int) -> None:
        if not wire.up:
            self._connected(wire)
            return
        if event & _WRITE:
            self._flush(wire)
        if event & ~_WRITE and wire.link in self._wires:
            self._read(wire)

    def _connected(self, wire: Wire) -> None:
        """The outcome of a connection attempt is there."""
        error = wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._drop(wire)
            self._failed(wire.link, error)
            return
        wire.up = True
        self._epoll.modify(wire.fd, _READ)
        self.member.link_up(wire.link)

    def _failed(self, link: int, error: int) -> None:
        member = self.member
        self._later(member.refused if error == errno.ECONNREFUSED else member.link_down, link)

    def _read(self, wire: Wire) -> None:
        try:
            data = wire.socket.recv(READ_SIZE)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lose(wire)
            return
        traffic = self.member.routing.traffic
        traffic.received += len(data)
        wire.splitter.feed(data)
        try:
            while wire.link in self._wires:
                message = wire.splitter.next_message()
                if message is None:
                    return
                if isinstance(message, m.Publish):
                    traffic.pubsub_received += wire.splitter.size
                self.member.receive(wire.link, message)
        except m.BadMessage as error:
            _log.warning("Closing a link of the cluster bus: %s", error)
            self._lose(wire)

    def _lose(self, wire: Wire) -> None:
        """A link is broken; the core hears of it next."""
        if self._drop(wire):
            self._later(self.member.link_down, wire.link)

    # --- what the core wants ---------------------------------------------------------------------

    def connect(self, effect: fx.Connect) -> None:
        family = socket.AF_INET6 if ":" in effect.ip else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        self._prepare(sock)
        error = sock.connect_ex((effect.ip, effect.port))
        if error not in (0, errno.EINPROGRESS):
            sock.close()
            self._failed(effect.link, error)
            return
        self._add(Wire(effect.link, sock, sock.fileno(), up=False), _WRITE)

    def send(self, effect: fx.Send) -> None:
        wire = self._wires.get(effect.link)
        if wire is None:
            return
        data = self._encode(effect.message)
        traffic = self.member.routing.traffic
        traffic.sent += len(data)
        if effect.message.kind in _PUBSUB:
            traffic.pubsub_sent += len(data)
        waiting = bool(wire.unsent)
        wire.unsent += data
        if not waiting:
            self._flush(wire)
        self._bound(wire)

    def _encode(self, message: m.Message) -> bytes:
        """Its bytes; those of one that goes to many are made once."""
        if self._encoded[0] is not message:
            self._encoded = (message, m.encode(message))
        return self._encoded[1]

    def close_link(self, effect: fx.Close) -> None:
        wire = self._wires.get(effect.link)
        if wire is not None:
            self._drop(wire)

    def save(self, effect: fx.Save) -> None:
        """A node that can't keep its promises must not make any, unless it was told to go on."""
        try:
            self.file.save(effect.text, effect.sync)
        except OSError as error:
            if self.member.node.config.cluster_config_save_behavior == "best-effort":
                _log.warning("Can't update cluster config file, going on: %s", error)
                return
            _log.error("Fatal: can't update cluster config file: %s", error)
            os._exit(1)

    # --- sockets ---------------------------------------------------------------------------------

    def _prepare(self, sock: socket.socket) -> None:
        """Nothing is sent on a link that another opened unless it asks: only probes tell that its
        machine is gone, and that it hasn't a link to this node any more."""
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        keep_alive(sock, max(2 * self.member.core.options.node_timeout // 1000, 1))

    def _add(self, wire: Wire, interest: int) -> None:
        self._wires[wire.link] = self._by_fd[wire.fd] = wire
        self._epoll.register(wire.fd, interest)

    def _flush(self, wire: Wire) -> None:
        """Send what there is; a broken link is noticed by reading it."""
        unsent = wire.unsent
        try:
            with memoryview(unsent) as view:
                sent = wire.socket.send(view)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose(wire)
            return
        del unsent[:sent]
        self._epoll.modify(wire.fd, _READ | _WRITE if unsent else _READ)
        link = self.member.core.view.links.get(wire.link)
        if link is not None:
            link.queued = len(wire.unsent)

    def _bound(self, wire: Wire) -> None:
        """Give up a link whose peer reads too slowly, where the operator has set a limit."""
        limit = self.member.node.config.cluster_link_sendbuf_limit
        if limit and len(wire.unsent) > limit:
            _log.warning("Freeing a cluster link whose send buffer exceeds %d bytes", limit)
            self.member.routing.traffic.over_limit += 1
            self._lose(wire)

    def _drop(self, wire: Wire) -> bool:
        """Close a link's socket; False if that was done before."""
        if self._wires.pop(wire.link, None) is None:
            return False
        del self._by_fd[wire.fd]
        self._epoll.unregister(wire.fd)
        wire.socket.close()
        return True

    def close(self) -> None:
        """End all links, and let another process have the ports and nodes.conf."""
        self.member.settle()
        for wire in list(self._wires.values()):
            self._drop(wire)
        for listener in self.listeners:
            listener.close()
        self._epoll.close()
        os.close(self._wakeup)
        self.file.close()
