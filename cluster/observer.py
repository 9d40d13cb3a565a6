"""What a cluster itself says while one of its nodes is gone: when did who know what.

The survivors are asked every few milliseconds, so a moment is as exact as that interval, and one
that passed between two questions is seen at the second: a node may be failed and never suspected.
"""

import attrs
import trio

from cluster.admin import NodeLine, View, parse_info, parse_nodes
from cluster.client import SETBACKS, Address, Connection, call_once

INTERVAL = 0.008
MOMENTS = ("suspected", "failed", "election", "promoted", "rejoined")


@attrs.define(eq=False)
class Observer:
    """Notes when each of MOMENTS was first seen, in trio's seconds, from when it starts.

    `suspected` and `failed` are any survivor's word on the victim, `election` a raised current
    epoch, `promoted` another primary with slots of the victim's, `rejoined` the victim's own word
    that it follows that primary and its link is up.
    """

    victim: Address
    survivors: list[Address]
    moments: dict[str, float] = attrs.field(factory=dict)
    victim_id: str = ""
    slots: str = ""
    epoch: int = 0
    _changed: trio.Event = attrs.field(factory=trio.Event)

    async def prepare(self) -> None:
        """Learn what is normal, before the fault. Raises as `call_once` does."""
        nodes = parse_nodes(await call_once(self.victim, "CLUSTER", "NODES"))
        me = next(node for node in nodes if "myself" in node.flags)
        self.victim_id, self.slots = me.id, me.slots
        self.epoch = await self._current_epoch()

    async def _current_epoch(self) -> int:
        infos = [await call_once(node, "CLUSTER", "INFO") for node in self.survivors]
        return max(int(parse_info(info)["cluster_current_epoch"]) for info in infos)

    async def watch(self) -> None:
        """Ask until cancelled."""
        async with trio.open_nursery() as nursery:
            for i, address in enumerate(self.survivors):
                nursery.start_soon(self._watch_survivor, address, i / len(self.survivors))

    async def wait_for(self, moment: str) -> None:
        """Return when a moment has been seen."""
        while moment not in self.moments:
            await self._changed.wait()

    async def wait_rejoined(self) -> None:
        """Ask the victim itself until it follows its successor."""
        while "rejoined" not in self.moments:
            with trio.move_on_after(0.2):
                await self._ask_victim()
            await trio.sleep(INTERVAL)

    def _note(self, moment: str) -> None:
        if moment not in self.moments:
            self.moments[moment] = trio.current_time()
            self._changed.set()
            self._changed = trio.Event()

    async def _watch_survivor(self, address: Address, phase: float) -> None:
        await trio.sleep(phase * INTERVAL)
        connection = await Connection.open(address)
        try:
            while "promoted" not in self.moments:
                nodes, info = await connection.pipeline([("CLUSTER", "NODES"), ("CLUSTER", "INFO")])
                self.read(parse_nodes(nodes), parse_info(info))
                await trio.sleep(INTERVAL)
        except SETBACKS:
            return  # the others still watch
        finally:
            connection.close()

    def read(self, nodes: list[NodeLine], info: dict[str, str]) -> None:
        """Take in what a survivor says: its CLUSTER NODES and CLUSTER INFO."""
        for node in nodes:
            if node.id == self.victim_id:
                if "fail?" in node.flags:
                    self._note("suspected")
                if "fail" in node.flags:
                    self._note("failed")
            elif node.is_primary and node.slots == self.slots:
                self._note("promoted")
        if int(info["cluster_current_epoch"]) > self.epoch:
            self._note("election")

    async def _ask_victim(self) -> None:
        try:
            connection = await Connection.open(self.victim)
        except OSError:
            return
        try:
            view = await View.of(connection)
        except SETBACKS:
            return
        finally:
            connection.close()
        if view is not None and not view.myself.is_primary and view.is_linked:
            self._note("rejoined")
