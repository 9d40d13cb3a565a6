"""One task per stream: the portable twin of `turns`.

It serves whatever trio calls a stream: TLS, sockets of platforms without epoll, in-memory streams
in tests. Each piece that is read is a turn of its own, and replies leave only after its end. A
second task sends, so that a client that does not read holds up nobody but itself.
"""

from typing import TYPE_CHECKING

import attrs
import trio

from node.session import Session

if TYPE_CHECKING:
    from node.node import Node
    from node.replication.follower import Replica

READ_SIZE = 64 * 1024
REPLICA_SIZE = 256 * 1024
UNSENT_MAX = 64 * 1024 * 1024  # bytes; a client that owes more reading than this is not read
HELD_MAX = 1024 * 1024  # bytes of requests kept for a client that waits


async def serve_stream(
    node: "Node", stream: trio.abc.Stream, address: bytes = b"", local_address: bytes = b""
) -> None:
    """Serve one client until either side ends the connection; closes the stream."""
    served = _Served(node, stream)
    served.session = node.session(address, local_address, served.wake_up)
    served.session.carrier = served
    try:
        async with trio.open_nursery() as nursery:
            served.scope = nursery.cancel_scope
            nursery.start_soon(served.send)
            await served.receive()
    except* (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the peer has gone: nothing is left to be said to it
    finally:
        node.close_session(served.session)
        await trio.aclose_forcefully(stream)


@attrs.define(eq=False)
class _Served:
    """A stream with its session.

    replica: what the client has become, if it follows this node. scope: of both tasks.
    _moved: set when there may be something to send, or room to read again.
    """

    node: "Node"
    stream: trio.abc.Stream
    session: Session = attrs.field(init=False)
    replica: "Replica | None" = None
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _moved: trio.Event = attrs.field(factory=trio.Event)

    def carry(self, replica: "Replica") -> None:
        """From here on the client is a replica: what it gets is the transport's to say."""
        self.replica = replica
        replica.carrier = self
        self.wake_up()

    def end(self) -> None:
        """End the connection at once."""
        self.scope.cancel()

    def wake_up(self, session: Session | None = None) -> None:
        """Let both tasks look again; a session that is dropped ends them wherever they are."""
        if self.session.dropped:
            self.scope.cancel()
        self._moved.set()
        self._moved = trio.Event()

    async def receive(self) -> None:
        """Read and run until the stream ends, or the session, whose last words `send` sends."""
        node, session = self.node, self.session
        while not session.closing:
            if self._is_full():
                await self._moved.wait()
                continue
            data = await self.stream.receive_some(READ_SIZE)
            if not data:
                self.scope.cancel()
                return
            node.begin_turn()
            peer = session if self.replica is None else self.replica
            peer.receive(bytes(data))
            node.end_turn()
            self.wake_up()

    async def send(self) -> None:
        """Send what the client is owed, as it comes."""
        session = self.session
        while True:
            data = session.take_output()
            if not data and self.replica is not None:
                data = self.replica.take_output(REPLICA_SIZE)
            if data:
                session.output_size = len(data)
                await self.stream.send_all(data)
                session.output_size = 0
                self._go_on()
                self.wake_up()
            elif session.closing:
                self.scope.cancel()
                return
            else:
                await self._moved.wait()

    def _go_on(self) -> None:
        """Run what was held back until the client had read this far."""
        if self.session.requests and self.session.waiting is None:
            self.node.begin_turn()
            self.node.resume(self.session)
            self.node.end_turn()

    def _is_full(self) -> bool:
        session = self.session
        held = (session.waiting is not None or session.requests) and session.held() >= HELD_MAX
        return bool(held) or session.unsent() >= UNSENT_MAX
