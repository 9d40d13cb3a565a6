"""A node as a simulated process: the twin of cluster.bus, node.turns and node.replication.links.

It holds one whole node and its core, and drives them as those do: one turn for whatever arrives
or falls due, effects in order and at once, replies and replication output after the turn's end.
"""

from collections.abc import Callable, Iterable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import attrs

from cluster import commands, nodesfile
from cluster import effects as fx
from cluster import message as m
from cluster.core import Core
from cluster.directives import BUS_OFFSET, options_of
from cluster.effects import Effect
from cluster.member import Member
from cluster.routing import Routing
from cluster.simulation.network import Attempt, End, Network
from cluster.simulation.timeline import Action, LocalClock
from node.config import Config
from node.disk import PowerLoss, SimulatedDisk
from node.node import Node
from node.replication.primary import Replica
from node.replication.replica import PrimaryLink
from node.replication.snapshot import Snapshot
from node.replication.transport import Peer
from node.session import Session

assert commands  # importing them fills the table

PORT = 6379
BUS_PORT = PORT + BUS_OFFSET
TICK_MS = 100
SEND_SIZE = 64 * 1024
NODES_CONF = "nodes.conf"


class Watcher:
    """Told of what a process does; does nothing itself."""

    def on_effect(self, process: "Process", effect: Effect) -> None:
        """The core wants this, and it is about to be done."""

    def on_turn(self, process: "Process") -> None:
        """A turn has ended; its replies are under way."""

    def on_power_loss(self, process: "Process") -> None:
        """The disk says that the power has gone, in the middle of a turn."""


@attrs.define
class Roughness:
    """What the driver does to messages of the bus, as the core's contract allows.

    lost, repeated: how likely. repeat_within: ms.
    """

    lost: float = 0.0
    repeated: float = 0.0
    repeat_within: int = 1000


@attrs.define(eq=False)
class SimulatedNode(Node):
    """A node that shares its program with others: the calls counted are everybody's."""

    def commands_processed(self) -> int:
        return 0


@attrs.define(eq=False)
class WatchedMember(Member):
    """A member whose effects are seen by the watcher first."""

    def _carry_out(self, effect: Effect) -> None:
        process: Process = self.driver  # type: ignore[assignment]
        process.watcher.on_effect(process, effect)
        super()._carry_out(effect)


@attrs.define(eq=False)
class Client:
    """A connection to the client port: a session, or what has become of it, a replica's link."""

    end: End
    session: Session
    replica: Replica | None = None


@attrs.define(eq=False)
class Process:
    """One run of a server program, from start to death.

    place: the machine's name. slow_ms: how long it takes for each thing. paused: it has been
    stopped, and what arrives waits in `inbox`.
    """

    place: str
    ip: str
    network: Network
    disk: SimulatedDisk
    clock: LocalClock
    config: Config
    rng: Random
    watcher: Watcher
    roughness: Roughness = attrs.field(factory=Roughness)
    node: Node = attrs.field(init=False)
    core: Core = attrs.field(init=False)
    member: Member = attrs.field(init=False)
    alive: bool = True
    paused: bool = False
    slow_ms: int = 0
    inbox: list[Action] = attrs.field(factory=list)
    _free_at: int = 0
    _next_tick: int = 0
    _alarm_at: int = 0
    _wires: dict[int, End] = attrs.field(factory=dict)
    _attempts: dict[int, Attempt] = attrs.field(factory=dict)
    _encoded: tuple[m.Message | None, bytes] = (None, b"")
    _flagged_sessions: dict[int, Client] = attrs.field(factory=dict)
    _clients: dict[int, Client] = attrs.field(factory=dict)  # by session
    _peers: dict[Peer, End | Attempt] = attrs.field(factory=dict)
    _flagged_peers: dict[Peer, None] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        now = self.clock.wall_ms()
        text = self.disk.read(NODES_CONF).decode() if self.disk.exists(NODES_CONF) else ""
        view = nodesfile.load(text, self.rng, now) if text else nodesfile.fresh_view(self.rng)
        routing = Routing(view, self.config)
        self.node = SimulatedNode(
            self.config, self.clock, self.rng, disk=self.disk, topology=routing
        )
        self.node.transport = self
        self.core = Core(view, options_of(self.config), self.rng)
        self.member = WatchedMember(self.node, self.core, routing)
        self.member.driver = self

    def start(self) -> None:
        """Open the ports and begin."""
        self.network.listen((self.ip, PORT), self, self._accept_client)
        self.network.listen((self.ip, BUS_PORT), self, self._accept_node)
        self.handle(self.member.start)

    @property
    def id(self) -> str:
        return self.core.view.myself.id

    # --- turns -----------------------------------------------------------------------------------

    def handle(self, action: Action) -> None:
        """Do this in a turn of its own: now, after what is still to be done, or never."""
        if not self.alive:
            return
        timeline = self.network.timeline
        if self.paused:
            self.inbox.append(action)
        elif self.slow_ms or timeline.now < self._free_at:
            self._free_at = max(self._free_at, timeline.now) + self.slow_ms
            timeline.at(self._free_at, partial(self._come_to, action))
        else:
            self._turn(action)

    def _come_to(self, action: Action) -> None:
        if self.paused:
            self.inbox.append(action)
        elif self.alive:
            self._turn(action)

    def _turn(self, action: Action) -> None:
        try:
            self.node.begin_turn()
            action()
            self.node.end_turn()
            self._send_all()
        except PowerLoss:
            self.watcher.on_power_loss(self)
            return
        if self.alive:
            self._set_alarm()
            self.watcher.on_turn(self)

    def _send_all(self) -> None:
        """After the end of a turn: replies, and what replication has to say."""
        while self._flagged_sessions or self._flagged_peers:
            clients, self._flagged_sessions = self._flagged_sessions, {}
            for client in clients.values():
                self._send_replies(client)
            peers, self._flagged_peers = self._flagged_peers, {}
            for peer in peers:
                self._send_output(peer)

    # --- time ------------------------------------------------------------------------------------

    def _set_alarm(self) -> None:
        """Wake up when something is next due."""
        due = self._next_tick
        wake = self.core.next_wake()
        if wake is not None:
            due = min(due, wake - self.member.now() + self.clock.monotonic_ms())
        deadline = self.node.next_deadline_ms()
        if deadline is not None:
            due = min(due, deadline)
        moment = max(self.clock.when(due), self.network.timeline.now + 1)
        if not self.network.timeline.now < self._alarm_at <= moment:
            self._alarm_at = moment
            self.network.timeline.at(moment, partial(self._ring, moment))

    def _ring(self, moment: int) -> None:
        if self._alarm_at == moment:
            self.handle(self._keep_time)

    def _keep_time(self) -> None:
        now = self.clock.monotonic_ms()
        if now >= self._next_tick:
            self._next_tick = now + TICK_MS
            self.node.tick()
            self.member.tick()
        else:
            deadline, wake = self.node.next_deadline_ms(), self.core.next_wake()
            if deadline is not None and now >= deadline:
                self.node.tick()
            if wake is not None and self.member.now() >= wake:
                self.member.tick()
        self.member.drop_some()

    # --- the bus ---------------------------------------------------------------------------------

    def _accept_node(self, end: End) -> None:
        link = self.member.accept(self._ip_of(end.other), self.ip)
        self._open_wire(link, end)

    def _ip_of(self, end: End) -> str:
        return next(ip for ip, place in self.network.places.items() if place == end.owner.place)

    def _open_wire(self, link: int, end: End) -> None:
        splitter = m.Splitter()
        self._wires[link] = end
        end.keepalive_ms = 2 * self.config.cluster_node_timeout
        end.on_data = partial(self._read_bus, link, splitter)
        end.on_end = lambda reason: self._lose(link)

    def _read_bus(self, link: int, splitter: m.Splitter, data: bytes) -> None:
        splitter.feed(data)
        while link in self._wires:
            message = splitter.next_message()
            if message is None:
                return
            self.member.receive(link, message)

    def _lose(self, link: int) -> None:
        del self._wires[link]
        self.member.link_down(link)

    def connect(self, effect: "fx.Connect | PrimaryLink") -> None:
        """For both the cluster's driver and replication's."""
        if isinstance(effect, PrimaryLink):
            self._connect_primary(effect)
            return
        link = effect.link

        def up(end: End) -> None:
            del self._attempts[link]
            self._open_wire(link, end)
            self.member.link_up(link)

        def failed(tell: Callable[[int], None]) -> None:
            del self._attempts[link]
            tell(link)

        self._attempts[link] = self.network.connect(
            self,
            (effect.ip, effect.port),
            on_up=up,
            on_refused=partial(failed, self.member.refused),
            on_failed=partial(failed, self.member.link_down),
        )

    def send(self, effect: fx.Send) -> None:
        if self._encoded[0] is not effect.message:
            self._encoded = (effect.message, m.encode(effect.message))
        data, rough = self._encoded[1], self.roughness
        end = self._wires.get(effect.link)
        if end is None or (rough.lost and self.rng.random() < rough.lost):
            return
        end.send(data)
        if rough.repeated and self.rng.random() < rough.repeated:
            delay = self.rng.randint(0, rough.repeat_within)
            self.network.timeline.after(delay, partial(self._repeat, end, data))

    def _repeat(self, end: End, data: bytes) -> None:
        """Send once more, on whichever link there is to that node by now."""
        place = end.other.owner.place
        if not self.alive or self.paused:
            return
        for wire in self._wires.values():
            if wire.other.owner.place == place and self.core.view.links:
                wire.send(data)
                return

    def close_link(self, effect: fx.Close) -> None:
        attempt = self._attempts.pop(effect.link, None)
        if attempt is not None:
            attempt.cancel()
        end = self._wires.pop(effect.link, None)
        if end is not None:
            end.close()

    def save(self, effect: fx.Save) -> None:
        """As cluster.configfile does it.

        Without `sync` the new text may be lost, but is never half there: what journaling file
        systems keep in order, data before the name, is asked of the simulated disk by a sync.
        """
        draft = f"{NODES_CONF}.tmp"
        if self.disk.exists(draft):
            self.disk.remove(draft)
        file = self.disk.append_to(draft)
        file.write(effect.text.encode())
        file.sync()
        self.disk.rename(draft, NODES_CONF)
        if effect.sync:
            self.disk.sync_directory(".")

    def wake(self) -> None:
        """The alarm is set after every turn anyway."""

    # --- clients ---------------------------------------------------------------------------------

    def _accept_client(self, end: End) -> None:
        address = f"{self._ip_of(end.other)}:{len(self._clients) + 40000}".encode()
        session = self.node.session(address, f"{self.ip}:{PORT}".encode(), self._flag_session)
        client = self._clients[session.id] = Client(end, session)
        end.on_data = partial(self._read_client, client)
        end.on_end = partial(self._lose_client, client)

    def _flag_session(self, session: Session) -> None:
        client = self._clients.get(session.id)
        if client is not None:
            self._flagged_sessions[session.id] = client

    def _read_client(self, client: Client, data: bytes) -> None:
        if client.replica is not None:
            client.replica.receive(data)
        else:
            client.session.receive(data)
            self._flagged_sessions[client.session.id] = client

    def _lose_client(self, client: Client, reason: str) -> None:
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

    # --- replication -----------------------------------------------------------------------------

    def _connect_primary(self, link: PrimaryLink) -> None:
        def up(end: End) -> None:
            self._peers[link] = end
            end.on_data = link.receive
            end.on_end = lost
            link.connected()

        def lost(reason: str) -> None:
            self._peers.pop(link, None)
            link.lost(reason)

        self._peers[link] = self.network.connect(
            self,
            (link.host, link.port),
            on_up=up,
            on_refused=partial(lost, "connection refused"),
            on_failed=partial(lost, "connection timed out"),
        )

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

    # --- the operator ----------------------------------------------------------------------------

    def ask(self, *args: str | bytes | int) -> bytes:
        """Run one command as a client on this very machine does; the reply's bytes."""
        request = [str(arg).encode() if not isinstance(arg, bytes) else arg for arg in args]
        answer: list[bytes] = []

        def run() -> None:
            session = self.node.session(b"127.0.0.1:1", b"127.0.0.1:6379")
            session.receive(_packed(request))
            answer.append(session.take_output())
            self.node.close_session(session)

        self._turn(run)
        return answer[0]

    # --- the end ---------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop it as SIGSTOP does."""
        self.paused = True

    def resume(self) -> None:
        """Let it go on, with all that has arrived meanwhile."""
        self.paused = False
        waiting, self.inbox = self.inbox, []
        for action in waiting:
            self.handle(action)
        if self.alive and not self.paused:
            self.handle(self._keep_time)

    def die(self) -> None:
        """The process is gone, and with it all it knew."""
        self.alive = False
        self.inbox.clear()


def _packed(args: Iterable[bytes]) -> bytes:
    parts = [b"$%d\r\n%b\r\n" % (len(arg), arg) for arg in args]
    return b"*%d\r\n%b" % (len(parts), b"".join(parts))
