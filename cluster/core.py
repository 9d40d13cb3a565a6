"""The cluster core: one node's share in the cluster, without sockets, clock, files or chance.

A driver owns one `Core` and calls it whenever something happens; each call gets `now`, in
milliseconds of Unix time that never go back, and returns the effects to carry out, in order
(see `effects`). Before each call the driver fills `core.facts`; it may change `core.options`
whenever a directive changes. It reads `core.view`, and never writes it.

    view = nodesfile.load(text, rng, now)  or  nodesfile.fresh_view(rng)
    core = Core(view, Options(port=7000, bus_port=17000), rng)
    effects = core.start(now)
    effects = core.tick(now)                      every 100 ms, and at core.next_wake() if sooner
    number = core.accept(peer_ip, local_ip, now)  a link from another node, then
    effects = core.receive(number, message, now)  for each message that comes on a link
    effects = core.link_up / refused / link_down(number, now)
    result, effects = core.ask(request, now)      or ClusterError

The links of `Connect` are numbered by the core, those of `accept` as well. A link that the core
closes, or that was reported down, is gone: what still comes for it is ignored.
"""

from collections.abc import Callable
from random import Random
from typing import Any

from cluster import message as m
from cluster.assignment import Assignment
from cluster.desk import Desk, Facts, Options
from cluster.effects import (
    AddSlots,
    BumpEpoch,
    ClusterError,
    CountFailureReports,
    Deliver,
    DelSlots,
    Effect,
    Failover,
    FlushSlots,
    Forget,
    Loaded,
    Meet,
    PublishAll,
    Replicate,
    Request,
    Reset,
    Save,
    SaveConfig,
    SetConfigEpoch,
    SetSlot,
    TakeSlots,
)
from cluster.election import Election
from cluster.failure import Failure
from cluster.gossip import Gossip
from cluster.message import Header, Message
from cluster.nodesfile import dump
from cluster.ownership import Ownership
from cluster.speaker import Speaker
from cluster.view import NOFAILOVER, Link, Node, View


class Core:
    """Hands each input to the deciders and collects what they want done."""

    def __init__(
        self, view: View, options: Options, rng: Random, facts: Facts | None = None
    ) -> None:
        self.view = view
        self.options = options
        self.facts = facts if facts is not None else Facts()
        self._desk = desk = Desk(view, options, self.facts, rng)
        self._speaker = Speaker(desk)
        self._failure = Failure(desk, self._speaker)
        self._gossip = Gossip(desk, self._speaker, self._failure)
        self._ownership = Ownership(desk, self._speaker, self._gossip)
        self._assignment = Assignment(desk, self._ownership)
        self._election = Election(desk, self._speaker, self._ownership)
        self._answers = self._table()

    # ---- what happens

    def start(self, now: int) -> list[Effect]:
        """The node is up and its bus port open: save the view and call everybody in it."""
        self._begin(now)
        if not self.view.restarted:
            self._desk.log("notice", f"No cluster configuration found, I'm {self.view.myself.id}")
        for node in self.view.order:
            node.created = node.inbound_lost = node.meet_sent = now
        self._describe_myself()
        self._desk.changed(sync=True)
        for node in self.view.others():
            self._gossip.connect(node)
        return self._finish()

    def tick(self, now: int) -> list[Effect]:
        """Time has passed."""
        desk = self._desk
        self._begin(now)
        self._failure.awake_at = now
        self._describe_myself()
        self._gossip.tick()
        self._election.step_manual()
        desk.check_failover = True
        self._ownership.check_orphans()
        self._ownership.reclaim()
        self._assignment.announce_if_due()
        desk.check_state |= not self.view.ok
        return self._finish(save=desk.dirty)

    def _begin(self, now: int) -> None:
        self._desk.now = now
        self._failure.notice_sleep()

    def next_wake(self) -> int | None:
        """When `tick` should be called, if before its regular time."""
        times = (self._failure.wake_at(), self._election.wake_at(), self._assignment.wake_at())
        return min((time for time in times if time is not None), default=None)

    def accept(self, peer_ip: str, local_ip: str, now: int) -> int:
        """A node has connected from `peer_ip` to this node's `local_ip`: the link's number."""
        self._begin(now)
        return self._gossip.accept(peer_ip, local_ip).id

    def link_up(self, link: int, now: int) -> list[Effect]:
        """The connection that `Connect` asked for is there."""
        if known := self._known(link, now):
            self._gossip.link_up(known)
        return self._finish()

    def refused(self, link: int, now: int) -> list[Effect]:
        """It was refused: nobody listens at that port."""
        known = self._known(link, now)
        if known is not None and known.node is not None:
            self._gossip.link_down(known)
            known.node.gone = True
            self._failure.refused(known.node)
        return self._finish()

    def link_down(self, link: int, now: int) -> list[Effect]:
        """A link has ended or broken, or couldn't be connected for another reason."""
        if known := self._known(link, now):
            self._gossip.link_down(known)
        return self._finish()

    def _known(self, link: int, now: int) -> Link | None:
        self._begin(now)
        return self.view.links.get(link)

    def receive(self, link: int, message: Message, now: int) -> list[Effect]:
        """A message has come on a link."""
        known = self._known(link, now)
        if known is not None:
            kind = m.TYPE_NAMES[message.kind] if message.kind < len(m.TYPE_NAMES) else "unknown"
            self.view.received[kind] = self.view.received.get(kind, 0) + 1
            self._receive(known, message)
        return self._finish()

    def _receive(self, link: Link, message: Message) -> None:
        header = message.header
        sender = self._gossip.sender_of(link, header)
        if sender is not None and sender is not self.view.myself:
            self._hear_header(sender, header)
        match message:
            case m.Ping():
                self._on_ping(link, sender, message)
            case m.Unknown():
                self._desk.log("warning", f"Received unknown packet type: {message.kind}")
            case m.Publish() if sender is None and message.header is None:
                # A light message says nothing of its sender, who must have been heard before.
                self._gossip.close(link)
            case _ if sender is None:
                self._ignore(message)
            case _ if sender is not self.view.myself:
                self._on_known(link, sender, message)

    def _hear_header(self, sender: Node, header: Header | None) -> None:
        """What any message of a known node tells."""
        sender.data_received = self._desk.now
        if header is None:
            return
        if self._ownership.hear_epochs(sender, header):
            self._election.outdone_by(sender)
        self._election.hear_offset(sender, header)
        self._desk.check_failover |= self._election.is_waiting

    def _on_ping(self, link: Link, sender: Node | None, message: m.Ping) -> None:
        known = self._gossip.on_ping(link, sender, message)
        if known is None:
            return
        if sender is None:
            self._hear_header(known, message.header)
        self._ownership.hear_role(known, message.header)
        self._gossip.hear(known, message)

    def _ignore(self, message: Message) -> None:
        if isinstance(message, m.Fail):
            self._desk.log(
                "notice",
                f"Ignoring FAIL message from unknown node {message.header.sender} "
                f"about {message.node_id}",
            )

    def _on_known(self, link: Link, sender: Node, message: Message) -> None:
        match message:
            case m.Fail():
                self._failure.on_fail(sender, message)
            case m.AuthRequest():
                self._election.on_request(sender, message.header)
            case m.AuthAck():
                self._election.on_ack(sender, message.header)
            case m.Update():
                self._ownership.on_update(message)
            case m.ManualFailoverStart():
                self._election.on_start(link, sender)
            case m.Publish():
                self._desk.do(Deliver(message.channel, message.payload, message.sharded))

    # ---- what is asked

    def ask(self, request: Request, now: int) -> tuple[object, list[Effect]]:
        """Do what a command wants: its result and effects, or `ClusterError` and no change."""
        self._begin(now)
        try:
            result = self._answers[type(request)](request)
        except ClusterError:
            assert not self._desk.effects, "a refused request has no effects"
            raise
        return result, self._finish()

    def _table(self) -> dict[type, Callable[[Any], object]]:
        """Who answers which request."""
        ownership, assignment = self._ownership, self._assignment
        return {
            Meet: self._gossip.meet,
            AddSlots: assignment.add_slots,
            DelSlots: assignment.del_slots,
            FlushSlots: assignment.flush_slots,
            SetSlot: assignment.set_slot,
            BumpEpoch: self._bump_epoch,
            SetConfigEpoch: ownership.set_config_epoch,
            Forget: self._forget,
            Replicate: ownership.replicate,
            Reset: ownership.reset,
            Failover: self._election.failover,
            SaveConfig: self._save_config,
            CountFailureReports: self._count_reports,
            PublishAll: self._speaker.publish,
            TakeSlots: assignment.take_slots,
            Loaded: assignment.loaded,
        }

    def _bump_epoch(self, request: BumpEpoch) -> str:
        word = "BUMPED" if self._ownership.bump_epoch() else "STILL"
        return f"{word} {self.view.myself.config_epoch}"

    def _save_config(self, request: SaveConfig) -> None:
        self._desk.changed(sync=True)

    def _count_reports(self, request: CountFailureReports) -> int:
        return self._failure.report_count(self._desk.known(request.node_id))

    def _forget(self, request: Forget) -> None:
        myself = self.view.myself
        node = self.view.nodes.get(request.node_id)
        if node is None and self._gossip.is_forgotten(request.node_id):
            return
        if node is None:
            raise ClusterError(f"ERR Unknown node {request.node_id}")
        if node is myself:
            raise ClusterError("ERR I tried hard but I can't forget myself...")
        if node is myself.primary:
            raise ClusterError("ERR Can't forget my master!")
        self._gossip.forget(node, self.options.blacklist_ttl)

    # ---- at the end of each call

    def _describe_myself(self) -> None:
        """What the directives say about this node."""
        myself, options = self.view.myself, self.options
        ip = options.ip or myself.ip
        told = (ip, options.port, options.tls_port, options.bus_port)
        known = (myself.ip, myself.port, myself.tls_port, myself.bus_port)
        names = (options.hostname, options.human_name, options.face)
        if (known, (myself.hostname, myself.human_name, myself.face)) != (told, names):
            myself.ip, myself.port, myself.tls_port, myself.bus_port = told
            myself.hostname, myself.human_name, myself.face = names
            self.view.version += 1
            self._desk.changed()
        if options.replica_no_failover:
            self.view.set_flags(myself, add=NOFAILOVER)
        else:
            self.view.set_flags(myself, remove=NOFAILOVER)

    def _finish(self, save: bool = False) -> list[Effect]:
        """Do once what was noted during the call, and hand over its effects.

        What others may rely on is saved before anything else; the rest waits for the next tick.
        """
        desk = self._desk
        if desk.check_failover:
            desk.check_failover = False
            self._election.step()
        if desk.role_changed:
            self._election.reset_manual()
        if desk.check_state:
            self._failure.update_state()
        self._ownership.align_replication()
        if desk.announce:
            self._speaker.pong_all()
        elif desk.report and self.view.myself.is_voter:
            self._speaker.pong_judges()
        effects = desk.effects
        if desk.must_save or save:
            effects.insert(0, Save(dump(self.view), desk.must_sync))
            desk.dirty = desk.must_save = desk.must_sync = False
        desk.effects = []
        desk.announce = desk.report = desk.check_state = desk.role_changed = False
        return effects
