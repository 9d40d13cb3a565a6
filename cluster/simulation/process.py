"""A node as a simulated process: one run of a server program.

It holds a whole node and its core, and drives them as cluster.server's process does: a turn for
whatever arrives or falls due, effects in order and at once, replies after the turn's end.
"""

from collections import deque
from collections.abc import Callable
from functools import partial
from random import Random

import attrs

from cluster import commands, nodesfile
from cluster.core import Core
from cluster.directives import BUS_OFFSET, options_of
from cluster.effects import Effect
from cluster.member import Member
from cluster.routing import Routing
from cluster.simulation.bus import NODES_CONF, Bus, Roughness
from cluster.simulation.connections import Connections
from cluster.simulation.network import Network
from cluster.simulation.timeline import Action, LocalClock, Timeline
from node.background import Call, Called, Done, Work
from node.config import Config
from node.disk import PowerLoss, SimulatedDisk
from node.node import Node
from node.persistence.loading import LoadError
from node.resp import encode_request

assert commands  # importing them fills the table

PORT = 6379
BUS_PORT = PORT + BUS_OFFSET
TICK_MS = 100
SLOWEST_CHILD_MS = 300
SLOWEST_SYNC_MS = 30


class Watcher:
    """Told of what a process does; does nothing itself."""

    def on_effect(self, process: "Process", effect: Effect) -> None:
        """The core wants this, and it is about to be done."""

    def on_load(self, process: "Process", error: str = "") -> None:
        """The data are there with which a process starts, or can't be had."""

    def on_turn(self, process: "Process") -> None:
        """A turn has ended; its replies are under way."""

    def on_end(self, process: "Process") -> None:
        """The process has ended by itself, as it was told to."""

    def on_power_loss(self, process: "Process") -> None:
        """The disk says that the power has gone, in the middle of a turn."""


@attrs.define(eq=False)
class SimulatedNode(Node):
    """A node that shares its program with others: the calls counted are everybody's."""

    def commands_processed(self) -> int:
        return 0


@attrs.define(eq=False)
class Helpers:
    """Children that do what they are told on the data of this moment, and are noticed later; and
    a thread that waits for the disk."""

    process: "Process"
    rng: Random
    _last: int = 0
    _running: dict[int, None] = attrs.field(factory=dict)
    _called_until: int = 0

    def run(self, work: Work, done: Done) -> int:
        self._last += 1
        pid = self._last
        code = work(pid)
        self._running[pid] = None

        def ended() -> None:
            if pid in self._running:
                del self._running[pid]
                done(code)

        delay = self.rng.randint(1, SLOWEST_CHILD_MS)
        self._timeline.after(delay, lambda: self.process.handle(ended))
        return pid

    @property
    def _timeline(self) -> Timeline:
        return self.process.network.timeline

    def cancel(self, pid: int) -> None:
        self._running.pop(pid, None)

    def call(self, call: Call, done: Called) -> None:
        def make() -> None:
            call()
            done(None)

        timeline = self._timeline
        moment = timeline.now + self.rng.randint(1, SLOWEST_SYNC_MS)
        self._called_until = max(self._called_until, moment)
        timeline.at(self._called_until, lambda: self.process.handle(make))


@attrs.define(eq=False)
class WatchedMember(Member):
    """A member whose effects somebody sees before they are carried out."""

    on_effect: Callable[[Effect], None] = attrs.field(kw_only=True)

    def _carry_out(self, effect: Effect) -> None:
        self.on_effect(effect)
        super()._carry_out(effect)


@attrs.define(eq=False)
class Process:
    """One run of a server program, from start to death.

    place: the machine's name. slow_ms: how long it takes for each thing. paused: it has been
    stopped, and what arrives waits.
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
    member: WatchedMember = attrs.field(init=False)
    bus: Bus = attrs.field(init=False)
    connections: Connections = attrs.field(init=False)
    alive: bool = True
    paused: bool = False
    slow_ms: int = 0
    _inbox: deque[Action] = attrs.field(factory=deque)
    _is_coming: bool = False
    _is_ending: bool = False
    _next_tick: int = 0
    _alarm_at: int = 0

    def __attrs_post_init__(self) -> None:
        now = self.clock.wall_ms()
        text = self.disk.read(NODES_CONF).decode() if self.disk.exists(NODES_CONF) else ""
        view = nodesfile.load(text, self.rng, now) if text else nodesfile.fresh_view(self.rng)
        routing = Routing(view, self.config)
        self.node = SimulatedNode(
            self.config, self.clock, self.rng, disk=self.disk, topology=routing
        )
        self.connections = Connections(self, self.network, self.node)
        self.node.transport = self.connections
        self.core = Core(view, options_of(self.config), self.rng)
        self.member = WatchedMember(
            self.node, self.core, routing, on_effect=partial(self.watcher.on_effect, self)
        )
        self.bus = Bus(self, self.network, self.member, self.disk, self.rng, self.roughness)
        self.member.driver = self.bus
        self.node.background = Helpers(self, self.rng)
        self.node.on_shutdown = self._end
        self.node.saves.saves_by_itself = True

    def start(self) -> None:
        """Load the data, open the ports and begin."""
        self.network.listen((self.ip, PORT), self, self.connections.accept)
        self.network.listen((self.ip, BUS_PORT), self, self.bus.accept)
        self.handle(self._begin)

    def _begin(self) -> None:
        try:
            for _ in self.node.load():
                continue
        except LoadError as error:
            self.watcher.on_load(self, str(error))
            raise
        self.watcher.on_load(self)
        self.member.start()

    def _end(self) -> None:
        """It was told to shut down, and has: last replies leave with the turn."""
        self._is_ending = True

    @property
    def keeps_files(self) -> bool:
        """Whether it writes its data to files."""
        return bool(self.config.save) or self.config.appendonly

    @property
    def id(self) -> str:
        return self.core.view.myself.id

    # --- turns -----------------------------------------------------------------------------------

    def handle(self, action: Action) -> None:
        """Do this in a turn of its own: now, after what is still to be done, or never."""
        if not self.alive:
            return
        if self.paused or self.slow_ms or self._inbox:
            self._inbox.append(action)
            if not self.paused:
                self._come_back()
        else:
            self._turn(action)

    def _come_back(self) -> None:
        """Plan the next thing that waits to be done."""
        if not self._is_coming:
            self._is_coming = True
            self.network.timeline.after(self.slow_ms, self._do_next)

    def _do_next(self) -> None:
        self._is_coming = False
        if self.alive and not self.paused and self._inbox:
            self._turn(self._inbox.popleft())
            if self._inbox:
                self._come_back()

    def _turn(self, action: Action) -> None:
        try:
            self.node.begin_turn()
            action()
            self.node.end_turn()
            self.connections.send_all()
        except PowerLoss:
            self.watcher.on_power_loss(self)
            return
        if self.alive:
            self._set_alarm()
            self.watcher.on_turn(self)
        if self.alive and self._is_ending:
            self.watcher.on_end(self)

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

    # --- the operator ----------------------------------------------------------------------------

    def ask(self, *args: str | bytes | int) -> bytes:
        """Run one command as a client on this very machine does; the reply's bytes, b"" if there
        is none."""
        request = [str(arg).encode() if not isinstance(arg, bytes) else arg for arg in args]
        answer: list[bytes] = []

        def run() -> None:
            session = self.node.session(b"127.0.0.1:1", b"127.0.0.1:6379")
            session.receive(encode_request(request))
            answer.append(session.take_output())
            self.node.close_session(session)

        self._turn(run)
        return answer[0] if answer else b""

    # --- the end ---------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop it as SIGSTOP does."""
        self.paused = True

    def resume(self) -> None:
        """Let it go on, with all that has arrived meanwhile."""
        self.paused = False
        self._inbox.append(self._keep_time)
        self._come_back()

    def die(self) -> None:
        """The process is gone, and with it all it knew."""
        self.alive = False
        self._inbox.clear()
