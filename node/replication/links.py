"""The sockets of replication: to the primary, and to each replica.

One task waits for all of them, as `turns` does for clients; `pump` is one round without waiting.
What a peer has to send leaves when it says so, as far as its socket takes it; nobody waits for a
slow one. Errors on sending are left to be found by reading, so that no peer is told of its end in
the middle of its own work.
"""

import contextlib
import errno
import logging
import os
import select
import socket
from typing import TYPE_CHECKING

import attrs
import trio

from node.home import Home
from node.replication.source import Source
from node.replication.transport import Caller, Carrier, Peer

if TYPE_CHECKING:
    from node.node import Node
    from node.replication.follower import Replica
    from node.replication.snapshot import Snapshot
    from node.turns import Turns

_log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024
SEND_SIZE = 256 * 1024
BATCH = 128
_READ = select.EPOLLIN | select.EPOLLRDHUP
_TEMPORARY = (errno.EAGAIN, errno.EINTR)


@attrs.define(eq=False)
class Channel:
    """A peer's socket. unsent: what the socket has not taken yet of the peer's output."""

    peer: Peer
    socket: socket.socket
    connecting: bool = False
    unsent: bytes = b""
    interest: int = _READ


@attrs.define(eq=False)
class Links:
    """The transport of a node that is a process."""

    node: "Node"
    turns: "Turns"
    _epoll: select.epoll = attrs.field(factory=select.epoll)
    _wakeup: int = attrs.field(factory=lambda: os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    _channels: dict[int, Channel] = attrs.field(factory=dict)
    _by_peer: dict[Peer, Channel] = attrs.field(factory=dict)
    _adopted: "list[Replica]" = attrs.field(factory=list)
    _sources: "dict[Snapshot, Source]" = attrs.field(factory=dict)
    _resolving: dict[Peer, trio.CancelScope] = attrs.field(factory=dict)
    _nursery: trio.Nursery | None = None
    _home: Home = attrs.field(factory=Home)

    def __attrs_post_init__(self) -> None:
        self._epoll.register(self._wakeup, select.EPOLLIN)
        self.turns.look_after(self._epoll.fileno(), self.pump)
        self.node.transport = self

    async def serve(self) -> None:
        """Carry replication for ever."""
        config = self.node.config
        self._home.enter()
        try:
            async with trio.open_nursery() as self._nursery:
                if config.replicaof is not None:
                    self.node.begin_turn()
                    self.node.follow(*config.replicaof)
                    self.node.end_turn()
                while True:
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    while self.pump():
                        await trio.lowlevel.checkpoint()
        finally:
            self._close()

    def pump(self) -> bool:
        """One round, without waiting; whether there was anything to do."""
        events = self._epoll.poll(0, BATCH)
        if not events:
            return False
        self.node.begin_turn()
        # Looked up before anything is closed: a new socket may get the number of an old one.
        found = [(fd, self._channels.get(fd), event) for fd, event in events]
        for fd, channel, event in found:
            if channel is not None:
                self._serve(channel, event)
            elif fd == self._wakeup:
                os.eventfd_read(fd)
                self._take_over()
        self._pull()
        self.node.end_turn()
        self._pull()
        return True

    def _serve(self, channel: Channel, event: int) -> None:
        if self._by_peer.get(channel.peer) is not channel:
            return  # closed by an earlier event of this round
        if channel.connecting:
            self._finish_connecting(channel)
            return
        if event & select.EPOLLOUT:
            self._send(channel)
        if event & ~select.EPOLLOUT:
            self._read(channel)

    def _read(self, channel: Channel) -> None:
        try:
            data = channel.socket.recv(READ_SIZE)
        except OSError as error:
            if error.errno not in _TEMPORARY:
                self._lost(channel, error.strerror or str(error))
            return
        if data:
            channel.peer.receive(data)
        else:
            self._lost(channel, "the other side has closed it")

    def _lost(self, channel: Channel, reason: str) -> None:
        self.close(channel.peer)
        channel.peer.lost(reason)

    # --- as a transport --------------------------------------------------------------------------

    def flag(self, peer: Peer) -> None:
        channel = self._by_peer.get(peer)
        if channel is None:
            if (carrier := _carrier_of(peer)) is not None:
                carrier.wake_up()
        elif not channel.interest & select.EPOLLOUT:
            self._send(channel)

    def _send(self, channel: Channel) -> None:
        """Send as much as the socket takes."""
        while True:
            data = channel.unsent or channel.peer.take_output(SEND_SIZE)
            if not data:
                break
            try:
                sent = channel.socket.send(data)
            except OSError as error:
                if error.errno not in _TEMPORARY:
                    channel.unsent = b""
                    return
                sent = 0
            channel.unsent = data[sent:]
            if channel.unsent:
                break
        interest = _READ | select.EPOLLOUT if channel.unsent else _READ
        if interest != channel.interest:
            channel.interest = interest
            self._epoll.modify(channel.socket, interest)

    def close(self, peer: Peer) -> None:
        resolving = self._resolving.pop(peer, None)
        if resolving is not None:
            self._home.call(resolving.cancel)
        channel = self._by_peer.pop(peer, None)
        if channel is None:
            if (carrier := _carrier_of(peer)) is not None:
                carrier.end()
            return
        del self._channels[channel.socket.fileno()]
        self._epoll.unregister(channel.socket)
        with contextlib.suppress(OSError):
            channel.socket.shutdown(socket.SHUT_RDWR)
        channel.socket.close()

    # --- connecting ------------------------------------------------------------------------------

    def connect(self, link: Caller) -> None:
        try:
            flags = socket.AI_NUMERICHOST
            addresses = socket.getaddrinfo(link.host, link.port, 0, socket.SOCK_STREAM, 0, flags)
        except OSError:
            if self._nursery is None:
                link.lost("Unable to connect to MASTER: names are looked up only while serving")
                return
            scope = self._resolving[link] = trio.CancelScope()
            self._home.call(self._nursery.start_soon, self._resolve, link, scope)
            return
        self._dial(link, addresses[0][0], addresses[0][4])

    async def _resolve(self, link: Caller, scope: trio.CancelScope) -> None:
        """Look a host's name up; a name with several addresses gets each in turn."""
        error = None
        with scope:
            try:
                addresses = await trio.socket.getaddrinfo(
                    link.host, link.port, type=socket.SOCK_STREAM
                )
            except OSError as failure:
                error = failure
        if scope.cancelled_caught or self._resolving.pop(link, None) is not scope:
            return
        self.node.begin_turn()
        if error is not None:
            link.lost(f"Unable to connect to MASTER: {error}")
        else:
            address = addresses[link.attempts % len(addresses)]
            self._dial(link, address[0], address[4])
        self.node.end_turn()

    def attend(self, peer: Caller, timeout_ms: int) -> bool:
        resolving = self._resolving.pop(peer, None)
        if resolving is not None:
            self._home.call(resolving.cancel)
            self._resolve_now(peer)
            return True
        channel = self._by_peer.get(peer)
        if channel is None:
            return False
        poll = select.poll()
        poll.register(channel.socket, channel.interest)
        for _, event in poll.poll(timeout_ms):
            self._serve(channel, event)
            return True
        return False

    def _resolve_now(self, link: Caller) -> None:
        try:
            found = socket.getaddrinfo(link.host, link.port, type=socket.SOCK_STREAM)
        except OSError as error:
            link.lost(f"Unable to connect to MASTER: {error}")
            return
        self._dial(link, found[0][0], found[0][4])

    def _dial(self, link: Caller, family: int, address: tuple) -> None:
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code not in (0, errno.EINPROGRESS):
            sock.close()
            link.lost(f"Unable to connect to MASTER: {os.strerror(code)}")
            return
        self._add(Channel(link, sock, connecting=True, interest=select.EPOLLOUT))

    def _add(self, channel: Channel) -> None:
        self._channels[channel.socket.fileno()] = channel
        self._by_peer[channel.peer] = channel
        self._epoll.register(channel.socket, channel.interest)

    def _finish_connecting(self, channel: Channel) -> None:
        code = channel.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._lost(channel, f"Error condition on socket for SYNC: {os.strerror(code)}")
            return
        channel.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        channel.connecting = False
        channel.interest = _READ
        self._epoll.modify(channel.socket, _READ)
        channel.peer.connected()  # type: ignore[attr-defined]

    # --- replicas --------------------------------------------------------------------------------

    def adopt(self, replica: "Replica") -> None:
        self._adopted.append(replica)
        os.eventfd_write(self._wakeup, 1)

    def _take_over(self) -> None:
        """Take replicas' sockets from the clients' driver."""
        adopted, self._adopted = self._adopted, []
        for replica in adopted:
            released = self.turns.release(replica.session)
            if released is None:
                if replica.session.carrier is not None:
                    replica.session.carrier.carry(replica)
                else:  # it has gone meanwhile
                    self.node.close_session(replica.session)
                continue
            sock, unsent = released
            if self.node.config.repl_disable_tcp_nodelay and sock.family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 0)
            channel = Channel(replica, sock, unsent=unsent)
            self._add(channel)
            self._send(channel)

    # --- snapshots -------------------------------------------------------------------------------

    def produce(self, snapshot: "Snapshot") -> bool:
        try:
            source = Source.start(snapshot, self._epoll)
        except OSError as error:
            _log.warning("Can't save in background: fork: %s", error)
            snapshot.end(f"it can't be begun: {error.strerror}")
            return True
        self._sources[snapshot] = source
        _log.info("Background RDB transfer started by pid %d", source.pid)
        return True

    def cancel(self, snapshot: "Snapshot") -> None:
        source = self._sources.pop(snapshot, None)
        if source is not None:
            source.cancel()

    def _pull(self) -> None:
        """Let the snapshots' bytes go on to where there is room."""
        for snapshot, source in list(self._sources.items()):
            if snapshot in self._sources and not source.pull():
                self._sources.pop(snapshot, None)
        if any(source.has_more for source in self._sources.values()):
            os.eventfd_write(self._wakeup, 1)

    def _close(self) -> None:
        for source in self._sources.values():
            source.cancel()
        self._sources.clear()
        for peer in list(self._by_peer):
            self.close(peer)
        self._epoll.close()
        os.close(self._wakeup)


def _carrier_of(peer: Peer) -> Carrier | None:
    return getattr(peer, "carrier", None)
