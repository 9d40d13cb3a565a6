"""The cluster bus in a simulated network: the twin of cluster.bus."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import attrs

from cluster import effects as fx
from cluster import message as m
from cluster.member import Member
from cluster.simulation.network import Attempt, End, Network
from node.disk import SimulatedDisk

if TYPE_CHECKING:
    from cluster.simulation.process import Process

NODES_CONF = "nodes.conf"


@attrs.define
class Roughness:
    """What happens to messages of the bus, as the core's contract allows.

    lost, repeated: how likely. repeat_within: ms.
    """

    lost: float = 0.0
    repeated: float = 0.0
    repeat_within: int = 1000


@attrs.define(eq=False)
class Bus:
    """Links and nodes.conf of one member. rough: the same for all that are in one world."""

    process: "Process"
    network: Network
    member: Member
    disk: SimulatedDisk
    rng: Random
    rough: Roughness
    _wires: dict[int, End] = attrs.field(factory=dict)  # by link
    _attempts: dict[int, Attempt] = attrs.field(factory=dict)
    _encoded: tuple[m.Message | None, bytes] = (None, b"")

    # --- what arrives ----------------------------------------------------------------------------

    def accept(self, end: End) -> None:
        """Somebody has connected to the bus port."""
        link = self.member.accept(self.network.ip_of(end.other.owner.place), self.process.ip)
        self._open(link, end)

    def _open(self, link: int, end: End) -> None:
        self._wires[link] = end
        end.keepalive_ms = 2 * self.member.core.options.node_timeout
        end.on_data = partial(self._read, link, m.Splitter())
        end.on_end = lambda reason: self._lose(link)

    def _read(self, link: int, splitter: m.Splitter, data: bytes) -> None:
        splitter.feed(data)
        while link in self._wires:
            message = splitter.next_message()
            if message is None:
                return
            self.member.receive(link, message)

    def _lose(self, link: int) -> None:
        del self._wires[link]
        self.member.link_down(link)

    # --- what the core wants ---------------------------------------------------------------------

    def connect(self, effect: fx.Connect) -> None:
        link = effect.link

        def up(end: End) -> None:
            del self._attempts[link]
            self._open(link, end)
            self.member.link_up(link)

        def failed(tell: Callable[[int], None]) -> None:
            del self._attempts[link]
            tell(link)

        self._attempts[link] = self.network.connect(
            self.process,
            (effect.ip, effect.port),
            on_up=up,
            on_refused=partial(failed, self.member.refused),
            on_failed=partial(failed, self.member.link_down),
        )

    def send(self, effect: fx.Send) -> None:
        if self._encoded[0] is not effect.message:
            self._encoded = (effect.message, m.encode(effect.message))
        data, rough = self._encoded[1], self.rough
        end = self._wires.get(effect.link)
        if end is None or (rough.lost and self.rng.random() < rough.lost):
            return
        end.send(data)
        if rough.repeated and self.rng.random() < rough.repeated:
            delay = self.rng.randint(0, rough.repeat_within)
            place = end.other.owner.place
            self.network.timeline.after(delay, lambda: self._repeat(place, data))

    def _repeat(self, place: str, data: bytes) -> None:
        """Send once more, on whichever link there is to that node by now."""
        ends = [end for end in self._wires.values() if end.other.owner.place == place]
        if ends and self.process.alive and not self.process.paused:
            ends[0].send(data)

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
        """The process sets its alarm after every turn anyway."""
