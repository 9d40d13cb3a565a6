"""What replication asks of a driver: the one with sockets, or a simulation."""

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from node.replication.follower import Replica
    from node.replication.snapshot import Snapshot


class Peer(Protocol):
    """One end of a replication link, without its socket."""

    def receive(self, data: bytes) -> None:
        """Take bytes from the other side. Between node.begin_turn and node.end_turn."""
        ...

    def take_output(self, most: int) -> bytes:
        """Bytes to send, about `most` of them; b"" when there are none now."""
        ...

    def lost(self, reason: str) -> None:
        """The connection could not be made, or has ended. It is never called after `close`."""
        ...


class Caller(Peer, Protocol):
    """A peer that opens its connection itself: to `host`, `port`; of a name with several addresses
    to one after the other, as `attempts` says."""

    host: str
    port: int
    attempts: int

    def connected(self) -> None:
        """The connection is there."""
        ...


class Carrier(Protocol):
    """What carries the bytes of a client that came by something else than a plain socket."""

    def carry(self, replica: "Replica") -> None:
        """The client is this replica from here on."""
        ...

    def wake_up(self) -> None:
        """The replica has output."""
        ...

    def end(self) -> None:
        """End the connection at once."""
        ...


class Transport(Protocol):
    """A driver. None of these waits but `attend`."""

    def connect(self, link: Caller) -> None:
        """Open a connection to link.host, link.port; then link.connected() or link.lost()."""
        ...

    def adopt(self, replica: "Replica") -> None:
        """From the end of this turn the connection of replica.session is a replication link."""
        ...

    def flag(self, peer: Peer) -> None:
        """The peer has output."""
        ...

    def attend(self, peer: Caller, timeout_ms: int) -> bool:
        """Wait until something happens to this peer's connection, and see to that and nothing
        else; False if nothing does in time. For what everybody else has to wait for."""
        ...

    def close(self, peer: Peer) -> None:
        """End the peer's connection at once, or stop making it."""
        ...

    def produce(self, snapshot: "Snapshot") -> bool:
        """Write this snapshot beside the node's other work; False if there is no such way.

        The data are those of this moment. The driver calls snapshot.receive with each piece
        while snapshot.has_room(), and snapshot.end once; or snapshot.begin first, where the
        length is to be known beforehand.
        """
        ...

    def cancel(self, snapshot: "Snapshot") -> None:
        """Nobody needs this snapshot any more."""
        ...


class Unconnected:
    """The transport of a node that nobody drives: nothing ever arrives."""

    def connect(self, link: Caller) -> None:
        return None

    def adopt(self, replica: "Replica") -> None:
        return None

    def flag(self, peer: Peer) -> None:
        return None

    def attend(self, peer: Caller, timeout_ms: int) -> bool:
        return False

    def close(self, peer: Peer) -> None:
        return None

    def produce(self, snapshot: "Snapshot") -> bool:
        return False

    def cancel(self, snapshot: "Snapshot") -> None:
        return None
