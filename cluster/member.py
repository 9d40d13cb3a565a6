"""A node and a core joined into a member of a cluster: what either side needs of the other.

The core hears of the node through `facts`; the node asks the core through its topology; of the
core's effects, those that concern the node are carried out here, and those that concern links and
nodes.conf by the driver. Real sockets or simulated ones: this part is the same.
"""

import itertools
import logging
from collections.abc import Iterator
from typing import Protocol

import attrs

from cluster import effects as fx
from cluster.core import Core
from cluster.directives import watch
from cluster.effects import Effect, Request
from cluster.message import Message
from cluster.routing import Routing
from cluster.slots import members, slot_set
from node.execute import execute
from node.node import Node
from node.pause import FAILOVER

_log = logging.getLogger(__name__)
_LEVELS = {
    "debug": logging.DEBUG,
    "verbose": logging.DEBUG,
    "notice": logging.INFO,
    "warning": logging.WARNING,
}
DROP_BATCH = 128  # keys deleted by one command


class Driver(Protocol):
    """Links and nodes.conf, real or simulated. None of these may call the member back at once.

    wake: something may be due earlier than `core.next_wake` said before.
    """

    def connect(self, effect: fx.Connect) -> None: ...
    def send(self, effect: fx.Send) -> None: ...
    def close_link(self, effect: fx.Close) -> None: ...
    def save(self, effect: fx.Save) -> None: ...
    def wake(self) -> None: ...


@attrs.define(eq=False)
class Member:
    """Calls the core with the present facts and time, and carries out what it wants.

    The driver calls `drop_some` until it says that nothing is left to drop.
    """

    node: Node
    core: Core
    routing: Routing
    driver: Driver = attrs.field(init=False)
    _epoch_ms: int = attrs.field(init=False)
    _dropping: Iterator[None] = attrs.field(factory=lambda: iter(()))

    def __attrs_post_init__(self) -> None:
        clock = self.node.clock
        # Unix time that goes on evenly, whatever is done to the wall clock.
        self._epoch_ms = clock.wall_ms() - clock.monotonic_ms()
        self.routing.ask = self.ask
        watch(self.core.options, self.node.config)

    def now(self) -> int:
        """The core's time, in milliseconds."""
        return self._epoch_ms + self.node.clock.monotonic_ms()

    # --- into the core ---------------------------------------------------------------------------

    def start(self) -> None:
        """The bus port is open and the data is loaded."""
        self._tell_facts()
        self._perform(self.core.start(self.now()))
        if used := self._used_slots():
            self.ask(fx.Loaded(used))

    def ask(self, request: Request) -> object:
        """What the core answers to a command; raises ClusterError."""
        self._tell_facts()
        result, effects = self.core.ask(request, self.now())
        self._perform(effects)
        self.driver.wake()
        return result

    def tick(self) -> None:
        self._tell_facts()
        self._perform(self.core.tick(self.now()))

    def accept(self, peer_ip: str, local_ip: str) -> int:
        return self.core.accept(peer_ip, local_ip, self.now())

    def link_up(self, link: int) -> None:
        self._tell_facts()
        self._perform(self.core.link_up(link, self.now()))

    def refused(self, link: int) -> None:
        self._tell_facts()
        self._perform(self.core.refused(link, self.now()))

    def link_down(self, link: int) -> None:
        self._tell_facts()
        self._perform(self.core.link_down(link, self.now()))

    def receive(self, link: int, message: Message) -> None:
        self._tell_facts()
        self._perform(self.core.receive(link, message, self.now()))

    def _tell_facts(self) -> None:
        node, facts = self.node, self.core.facts
        facts.offset = node.log.flush()
        facts.data_age = node.role.data_age_ms()
        facts.keys = sum(db.size for db in node.keyspace.databases)

    def _used_slots(self) -> int:
        db = self.node.keyspace[0]
        return slot_set(slot for slot, part in enumerate(db.parts) if part) if db.size else 0

    # --- out of the core -------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            self._carry_out(effect)
        if self.routing.refresh():
            self._send_away()

    def _carry_out(self, effect: Effect) -> None:
        node, driver = self.node, self.driver
        match effect:
            case fx.Send():
                driver.send(effect)
            case fx.Connect():
                driver.connect(effect)
            case fx.Close():
                driver.close_link(effect)
            case fx.Save():
                driver.save(effect)
            case fx.Log():
                _log.log(_LEVELS[effect.level], effect.text)
            case fx.Event():
                _log.debug("%s: %s %s", effect.kind, effect.node_id, effect.detail)
            case fx.Follow():
                node.follow(effect.ip, effect.port)
            case fx.Promote():
                node.promote()
            case fx.Flush():
                execute(node, node.internal_session(), [b"FLUSHALL"])
            case fx.DropSlots():
                self._drop(effect.slots)
            case fx.Pause():
                lasts_ms = effect.until - self.now()
                node.pause.start(FAILOVER, node.clock.monotonic_ms() + lasts_ms)
            case fx.Resume():
                node.pause.stop(FAILOVER)
            case fx.Deliver():
                give = node.pubsub.publish_to_shard if effect.sharded else node.pubsub.publish
                give(effect.channel, effect.payload)

    def _send_away(self) -> None:
        """Clients that wait for keys of slots that went elsewhere, or listen there, are told so."""
        node, routing = self.node, self.routing
        for session in list(node.blocking.sessions.values()):
            refusal = routing.redirect_waiting(session)
            if refusal is not None:
                node.blocking.answer(session, refusal)
        node.pubsub.drop_shards(routing.is_foreign)

    # --- dropping slots --------------------------------------------------------------------------

    def _drop(self, slots: int) -> None:
        """Delete the keys of slots that are served elsewhere, a slice at a time."""
        db = self.node.keyspace[0]
        held = [slot for slot in members(slots) if db.keys_of_part(slot)] if db.size else []
        if held:
            self._dropping = itertools.chain(self._dropping, self._deletions(held))

    def _deletions(self, slots: list[int]) -> Iterator[None]:
        session, view = self.node.internal_session(), self.core.view
        for slot in slots:
            keys = list(self.node.keyspace[0].keys_of_part(slot))
            for i in range(0, len(keys), DROP_BATCH):
                if view.owner[slot] is view.myself:
                    break
                execute(self.node, session, [b"UNLINK", *keys[i : i + DROP_BATCH]])
                yield

    def drop_some(self, budget_ms: int = 5) -> bool:
        """Go on dropping for a while; whether there may be more to do."""
        clock = self.node.clock
        until = clock.monotonic_ms() + budget_ms
        return any(clock.monotonic_ms() >= until for _ in self._dropping)
