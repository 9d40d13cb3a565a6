"""A few cores joined by a network without time of its own: bytes arrive in order, after a delay.

Everything is drawn from one seed, and every message goes through the real codec. `kill` ends a
process (connections to it are refused), `freeze` stops one (nothing comes from it any more).
"""

import heapq
import os
from collections.abc import Callable
from functools import partial
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

from cluster import effects as fx
from cluster import message as m
from cluster import nodesfile
from cluster.core import Core
from cluster.desk import Options
from cluster.view import PFAIL

TRANSCRIPTS = Path(__file__).parent / "transcripts"
START = 1_700_000_000_000
TICK = 100


class Host:
    """One node: its core, what its disk holds, and what it was told to do."""

    def __init__(self, number: int, core: Core) -> None:
        self.number = number
        self.core = core
        self.disk = ""
        self.links: dict[int, tuple[Host, int]] = {}
        self.alive = True
        self.frozen = False
        self.wake_at = 0
        self.following = ""
        self.effects: list[fx.Effect] = []

    @property
    def name(self) -> str:
        return f"n{self.number}"

    @property
    def id(self) -> str:
        return self.core.view.myself.id


class Network:
    """Virtual time and the wires between hosts."""

    def __init__(self, size: int, seed: int = 1, delay: int = 1, **options: Any) -> None:
        self.rng = Random(seed)
        self.now = START
        self.delay = delay
        self.options = options
        self.queue: list[tuple[int, int, Callable[[], None]]] = []
        self.order = count()
        self.trace: list[str] | None = None
        self.hosts = [self._boot(number, "") for number in range(1, size + 1)]
        for host in self.hosts:
            self._start(host)

    def _boot(self, number: int, disk: str) -> Host:
        rng = Random(self.rng.getrandbits(64))
        view = nodesfile.load(disk, rng, self.now) if disk else nodesfile.fresh_view(rng)
        options = Options(port=7000 + number, bus_port=17000 + number, **self.options)
        return Host(number, Core(view, options, rng))

    def _start(self, host: Host) -> None:
        self.carry_out(host, host.core.start(self.now))
        self.at(TICK, lambda: self._tick(host))

    def at(self, delay: int, action: Callable[[], None]) -> None:
        heapq.heappush(self.queue, (self.now + delay, next(self.order), action))

    def _tick(self, host: Host) -> None:
        if host.alive:
            if not host.frozen:
                self.carry_out(host, host.core.tick(self.now))
            self.at(TICK, lambda: self._tick(host))

    # ---- effects

    def carry_out(self, host: Host, effects: list[fx.Effect]) -> None:
        for effect in effects:
            host.effects.append(effect)
            if self.trace is not None:
                self.trace.append(f"{self.now - START:>6} {host.name} {self.describe(effect)}")
            match effect:
                case fx.Save():
                    host.disk = effect.text
                case fx.Connect():
                    self.at(self.delay, partial(self._connect, host, effect))
                case fx.Send():
                    data = m.encode(effect.message)
                    self.at(self.delay, partial(self._deliver, host, effect.link, data))
                case fx.Close():
                    self._hang_up(host, effect.link)
                case fx.Follow():
                    host.following = effect.node_id
                    host.core.facts.data_age = 0
                case fx.Promote():
                    host.following = ""
        host.core.view.check()
        wake = host.core.next_wake()
        if wake is not None and not self.now < host.wake_at <= wake:
            host.wake_at = max(wake, self.now + 1)
            self.at(host.wake_at - self.now, lambda: self._wake(host))

    def _wake(self, host: Host) -> None:
        if host.alive and not host.frozen and host.wake_at == self.now:
            self.carry_out(host, host.core.tick(self.now))

    def _connect(self, host: Host, effect: fx.Connect) -> None:
        target = next((h for h in self.hosts if h.number == effect.port - 17000), None)
        if not host.alive or effect.link not in host.core.view.links:
            return
        if target is None or not target.alive:
            self.carry_out(host, host.core.refused(effect.link, self.now))
            return
        number = target.core.accept(f"10.0.0.{host.number}", f"10.0.0.{target.number}", self.now)
        host.links[effect.link] = (target, number)
        target.links[number] = (host, effect.link)
        self.carry_out(host, host.core.link_up(effect.link, self.now))

    def _deliver(self, host: Host, link: int, data: bytes) -> None:
        if link in host.links:
            target, number = host.links[link]
            if target.frozen:
                self.at(TICK, lambda: self._deliver(host, link, data))
            elif target.alive:
                self.carry_out(target, target.core.receive(number, m.decode(data), self.now))

    def _hang_up(self, host: Host, link: int) -> None:
        if link in host.links:
            peer, number = host.links.pop(link)
            peer.links.pop(number, None)
            self.at(self.delay, lambda: self._notice(peer, number))

    def _notice(self, host: Host, link: int) -> None:
        if host.alive:
            self.carry_out(host, host.core.link_down(link, self.now))

    # ---- what happens to hosts

    def kill(self, host: Host) -> None:
        host.alive = False
        for link in list(host.links):
            self._hang_up(host, link)

    def restart(self, host: Host) -> Host:
        """The same node again, from its disk, at the same address."""
        fresh = self._boot(host.number, host.disk)
        self.hosts[self.hosts.index(host)] = fresh
        self._start(fresh)
        return fresh

    def ask(self, host: Host, request: fx.Request) -> object:
        result, effects = host.core.ask(request, self.now)
        self.carry_out(host, effects)
        return result

    # ---- time

    def run(self, duration: int) -> None:
        end = self.now + duration
        while self.queue and self.queue[0][0] <= end:
            self.now, _, action = heapq.heappop(self.queue)
            action()
        self.now = end

    def run_until(self, condition, limit: int = 60_000) -> int:
        """How many ms it took until the condition held; AssertionError if it never did."""
        start = self.now
        while not condition():
            assert self.queue and self.queue[0][0] <= start + limit, "it never happened"
            self.now, _, action = heapq.heappop(self.queue)
            action()
        return self.now - start

    # ---- a cluster

    def form(self, shards: int, replicas: int) -> None:
        """Everybody meets everybody; the first hosts are primaries, the others replicas."""
        primaries = self.hosts[:shards]
        edges = [i * 16384 // shards for i in range(shards + 1)]
        for i, host in enumerate(primaries):
            self.ask(host, fx.SetConfigEpoch(i + 1))
            self.ask(host, fx.AddSlots(((edges[i], edges[i + 1] - 1),)))
        for i, host in enumerate(self.hosts):
            for other in self.hosts[i + 1 :]:
                self.ask(
                    host,
                    fx.Meet(f"10.0.0.{other.number}", 7000 + other.number, 17000 + other.number),
                )
        size = len(self.hosts)
        self.run_until(lambda: all(self.knows_all(host, size) for host in self.hosts))
        for i, host in enumerate(self.hosts[shards:]):
            self.ask(host, fx.Replicate(primaries[i % shards].id))
        self.run_until(lambda: all(host.core.view.ok for host in self.hosts))
        self.run_until(lambda: all(self.agrees(host) for host in self.hosts))

    @staticmethod
    def knows_all(host: Host, size: int) -> bool:
        nodes = host.core.view.order
        return len(nodes) == size and not any(node.in_handshake for node in nodes)

    def agrees(self, host: Host) -> bool:
        """Whether a host sees everybody's role and slots as each sees its own."""
        for other in self.hosts:
            seen = host.core.view.nodes.get(other.id)
            own = other.core.view.myself
            if seen is None or (seen.slots, seen.is_replica) != (own.slots, own.is_replica):
                return False
        return True

    @staticmethod
    def _describe_message(message: m.Message) -> str:
        """Its type, the epochs of its header (current/config), and whom it is about."""
        header = message.header
        epochs = f" {header.current_epoch}/{header.config_epoch}" if header else ""
        about = f" {message.node_id}" if isinstance(message, m.Fail | m.Update) else ""
        if isinstance(message, m.Ping):
            about = "".join(
                f" {entry.node_id}{'?' if entry.flags & PFAIL else ''}" for entry in message.gossip
            )
        return f"{m.TYPE_NAMES[message.kind]}{epochs}{about}"

    # ---- transcripts

    def check_transcript(self, name: str) -> None:
        """Compare the trace with the kept one; with WRITE_TRANSCRIPTS=1 set, keep this one."""
        text = "".join(f"{line}\n" for line in self.trace or [])
        path = TRANSCRIPTS / f"{name}.txt"
        if os.environ.get("WRITE_TRANSCRIPTS"):
            path.write_text(text)
        assert text == path.read_text()

    def events(self, kind: str) -> list[tuple[str, str, str]]:
        """(host, about whom, detail) of every event of a kind so far, with names for ids."""
        names = {host.id: host.name for host in self.hosts}
        return [
            (
                host.name,
                names.get(effect.node_id, effect.node_id),
                names.get(effect.detail, effect.detail),
            )
            for host in self.hosts
            for effect in host.effects
            if isinstance(effect, fx.Event) and effect.kind == kind
        ]

    def describe(self, effect: fx.Effect) -> str:
        """An effect in a line, with ids by host name."""
        match effect:
            case fx.Save():
                epochs = effect.text.splitlines()[-1].removeprefix("vars ")
                text = f"save {epochs}{' sync' if effect.sync else ''}"
            case fx.Send():
                text = f"send {effect.link} {self._describe_message(effect.message)}"
            case fx.Log():
                text = f"log {effect.level}: {effect.text}"
            case fx.Event():
                text = f"event {effect.kind} {effect.node_id} {effect.detail}"
            case _:
                text = repr(effect)
        for host in self.hosts:
            text = text.replace(host.id, host.name)
            text = text.replace(host.core.view.myself.shard_id, f"shard-of-{host.name}")
        return text.rstrip()
