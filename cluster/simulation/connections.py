"""Clients and replication in a simulated network: the twin of node.turns and replication.links."""

from functools import partial
from typing import TYPE_CHECKING

import attrs

from cluster.simulation.network import Attempt, End, Network
from node.node import Node
from node.replication.follower import Replica
from node.replication.snapshot import Snapshot
from node.replication.transport import Caller, Peer
from node.session import Session

if TYPE_CHECKING:
    from cluster.simulation.process import Process

SEND_SIZE = 64 * 1024
FIRST_CLIENT_PORT = 40000


@attrs.define(eq=False)
class Client:
    """A connection to the client port: a session, or what has become of it, a replica's link."""

    end: End
    session: Session
    replica: Replica | None = None


@attrs.define(eq=False)
class Connections:
    """Everything that comes to one node's client port, and its link to a primary.

    What there is to send leaves in `send_all`, after the end of the turn.
    """

    process: "Process"
    network: Network
    node: Node
    _accepted: int = 0
    _clients: dict[int, Client] = attrs.field(factory=dict)  # by session
    _flagged_clients: dict[int, Client] = attrs.field(factory=dict)
    _peers: dict[Peer, End | Attempt] = attrs.field(factory=dict)
    _flagged_peers: dict[Peer, None] = attrs.field(factory=dict)

    def send_all(self) -> None:
        """The turn is over: replies leave, and what replication has to say."""
        while self._flagged_clients or self._flagged_peers:
            clients, self._flagged_clients = self._flagged_clients, {}
            for client in clients.values():
                self._send_replies(client)
            peers, self._flagged_peers = self._flagged_peers, {}
            for peer in peers:
                self._send_output(peer)

    # --- clients ---------------------------------------------------------------------------------

    def accept(self, end: End) -> None:
        """Somebody has connected to the client port."""
        self._accepted += 1
        ip = self.network.ip_of(end.other.owner.place)
        address = b"%b:%d" % (ip.encode(), FIRST_CLIENT_PORT + self._accepted)
        session = self.node.session(address, self.process.ip.encode(), self._flag_client)
        client = self._clients[session.id] = Client(end, session)
        end.on_data = partial(self._read, client)
        end.on_end = partial(self._lose, client)

    def _flag_client(self, session: Session) -> None:
        client = self._clients.get(session.id)
        if client is not None:
            self._flagged_clients[session.id] = client

    def _read(self, client: Client, data: bytes) -> None:
        if client.replica is not None:
            client.replica.receive(data)
        else:
            client.session.receive(data)
            self._flagged_clients[client.session.id] = client

    def _lose(self, client: Client, reason: str) -> None:
        self._clients.pop(client.session.id, None)
        if client.replica is not None:
            self._peers.pop(client.replica, None)
            client.replica.lost(reason)
        else:
            self.node.close_session(client.session)

    def _send_replies(self, client: Client) -> None:
        session = client.session
        if session.id not in self._clients or client.replica is not None:
            return
        data = session.take_output()
        if data and not session.dropped:
            client.end.send(data)
        if session.closing:
            client.end.close()
            del self._clients[session.id]
            self.node.close_session(session)

    # --- replication: the node's transport -------------------------------------------------------

    def connect(self, link: Caller) -> None:
        def up(end: End) -> None:
            self._peers[link] = end
            end.on_data = link.receive
            end.on_end = lost
            link.connected()

        def lost(reason: str) -> None:
            self._peers.pop(link, None)
            link.lost(reason)

        self._peers[link] = self.network.connect(
            self.process,
            (link.host, link.port),
            on_up=up,
            on_refused=partial(lost, "connection refused"),
            on_failed=partial(lost, "connection timed out"),
        )

    def attend(self, peer: Caller, timeout_ms: int) -> bool:
        return False  # time does not pass within a turn

    def adopt(self, replica: Replica) -> None:
        client = self._clients[replica.session.id]
        client.replica = replica
        self._peers[replica] = client.end
        self._flagged_peers[replica] = None

    def flag(self, peer: Peer) -> None:
        self._flagged_peers[peer] = None

    def _send_output(self, peer: Peer) -> None:
        end = self._peers.get(peer)
        if isinstance(end, End):
            while data := peer.take_output(SEND_SIZE):
                end.send(data)

    def close(self, peer: Peer) -> None:
        end = self._peers.pop(peer, None)
        if isinstance(end, Attempt):
            end.cancel()
        elif end is not None:
            end.close()
        if isinstance(peer, Replica):
            self._clients.pop(peer.session.id, None)

    def produce(self, snapshot: Snapshot) -> bool:
        """There are no child processes here: the node writes its snapshots itself."""
        return False

    def cancel(self, snapshot: Snapshot) -> None:
        """There is nothing to cancel."""
