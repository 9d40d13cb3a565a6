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
from cluster.leftovers import deletions, held_slots
from cluster.message import Message
from cluster.routing import Routing
from cluster.slotmigration.migrations import Migrations
from node.execute import execute
from node.node import Node
from node.pause import FAILOVER

_log = logging.getLogger(__name__)
# Effects on a node that has its data.
_ON_DATA = (fx.Follow, fx.Promote, fx.Flush, fx.DropSlots)
_LEVELS = {
    "debug": logging.DEBUG,
    "verbose": logging.DEBUG,
    "notice": logging.INFO,
    "warning": logging.WARNING,
}


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

    migrations: slots that move as a whole.

    What is to be saved is saved once for all, when a turn of the node ends or anything but sending
    comes after it; what is to be sent waits for that.

    The driver calls `drop_some` until it says that nothing is left to drop.
    """

    node: Node
    core: Core
    routing: Routing
    driver: Driver = attrs.field(init=False)
    migrations: Migrations = attrs.field(init=False)
    _epoch_ms: int = attrs.field(init=False)
    _opened: bool = False
    _started: bool = False
    _held: list[Effect] = attrs.field(factory=list)  # until it has started
    _unsaved: fx.Save | None = None
    _unsent: list[fx.Send] = attrs.field(factory=list)  # until that is saved
    _dropping: Iterator[None] = attrs.field(factory=lambda: iter(()))

    def __attrs_post_init__(self) -> None:
        clock = self.node.clock
        # Unix time that goes on evenly, whatever is done to the wall clock.
        self._epoch_ms = clock.wall_ms() - clock.monotonic_ms()
        self.routing.ask = self.ask
        self.routing.end_turn = self.settle
        self.migrations = Migrations(self.node, self.routing)
        self.migrations.run_later = self._run_later
        self.routing.migrations = self.migrations
        watch(self.core.options, self.node.config, self._reconfigured)

    def now(self) -> int:
        """The core's time, in milliseconds."""
        return self._epoch_ms + self.node.clock.monotonic_ms()

    # --- into the core ---------------------------------------------------------------------------

    def open(self) -> None:
        """The bus port is open. Whatever concerns the node's data waits for `start`."""
        self._opened = True
        self._tell_facts()
        self._perform(self.core.start(self.now()))

    def start(self) -> None:
        """The bus port is open and the data is loaded."""
        self._started = True
        if not self._opened:
            self.open()
        held, self._held = self._held, []
        self._perform(held)
        self.migrations.loaded()
        if used := held_slots(self.node) & ~self.migrations.imported:
            self.ask(fx.Loaded(used))

    def _reconfigured(self) -> None:
        """A directive that the core obeys was changed: let it show at once."""
        if self._started:
            self.tick()

    def ask(self, request: Request) -> object:
        """What the core answers to a command; raises ClusterError."""
        self._tell_facts()
        result, effects = self.core.ask(request, self.now())
        self._perform(effects)
        if self.core.next_wake() is not None:
            self.driver.wake()
        return result

    def tick(self) -> None:
        self._tell_facts()
        self._perform(self.core.tick(self.now()))
        self.migrations.tick()

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
        facts.exported, facts.imported = self.migrations.exported, self.migrations.imported

    # --- out of the core -------------------------------------------------------------------------

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            if self._started or not isinstance(effect, _ON_DATA):
                self._do(effect)
            else:
                self._held.append(effect)
        if self.routing.refresh():
            self.node.slot_stats.serve(self.core.view.serving.slots)
            self._send_away()
            self.migrations.view_changed()

    def settle(self) -> None:
        """Save what is to be saved, and send what had to wait for it."""
        save, self._unsaved = self._unsaved, None
        if save is None:
            return
        self._carry_out(save)
        unsent, self._unsent = self._unsent, []
        for effect in unsent:
            self._carry_out(effect)

    def _do(self, effect: Effect) -> None:
        """Carry an effect out, now or with others that rest on the same save."""
        unsaved = self._unsaved
        if isinstance(effect, fx.Save):
            sync = effect.sync or (unsaved is not None and unsaved.sync)
            self._unsaved = attrs.evolve(effect, sync=sync)
        elif isinstance(effect, fx.Send) and unsaved is not None:
            self._unsent.append(effect)
        else:
            if not isinstance(effect, fx.Log):
                self.settle()
            self._carry_out(effect)

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
        if held := held_slots(self.node, among=slots):
            self._run_later(deletions(self.node, self.core.view, held))

    def _run_later(self, steps: Iterator[None]) -> None:
        """Do this after what is to be dropped already."""
        self._dropping = itertools.chain(self._dropping, steps)
        self.driver.wake()

    def drop_some(self, budget_ms: int = 5) -> bool:
        """Go on dropping for a while; whether there may be more to do."""
        clock = self.node.clock
        until = clock.monotonic_ms() + budget_ms
        return any(clock.monotonic_ms() >= until for _ in self._dropping)
