"""Elections: how a replica takes its failed primary's place, and who votes for it.

The candidate. When its primary is FAIL and its data is young enough, a replica waits: 500 ms so
that the news spreads, up to 500 ms at random, and a second for each replica of the same primary
with more data, half a second for each other failed shard before its own. It doesn't wait at all
when it is surely the best: no such replica, no such shard, and every sibling that is in reach
has said that it too holds the primary for failed (so its offset is final and known). Then it
raises the current epoch, tells everybody the failure and asks for votes in that epoch.
With a majority of the voters it takes its primary's slots under the epoch as its config epoch.
An election that fails within two node timeouts is tried again after four.

The voter. A primary with slots votes once per epoch, never in an old one, only for a replica of
a failed primary, and only if nobody serves the slots under a greater config epoch. Its vote is
durable before it leaves.

By hand. CLUSTER FAILOVER asks the primary to hold its clients back and to tell its offset; when
the replica has come that far it is elected, and the voters don't mind that the primary is up.

Source: the cluster specification's section on replica election, and valkey 9.1's behaviour.
"""

from attrs import Factory, define

from cluster import message as m
from cluster.desk import Desk
from cluster.effects import ClusterError, Failover, Pause, Resume
from cluster.message import Header
from cluster.ownership import Ownership
from cluster.slots import lowest
from cluster.speaker import Speaker
from cluster.view import MY_PRIMARY_FAIL, NOFAILOVER, Link, Node

FIXED_DELAY = 500
RANDOM_DELAY = 500
RANK_DELAY = 1000
SHARD_RANK_DELAY = 500
SHORTEST_TIMEOUT = 2000
PAUSE_FACTOR = 2
RELOG_PERIOD = 1000
# How often a replica looks whether it has come to its paused primary's offset.
OFFSET_POLL = 10

TOO_OLD = (
    "Disconnected from primary for longer than allowed. "
    "Please check the 'cluster-replica-validity-factor' configuration option."
)
WAITING = "Waiting the delay before I can start a new failover."
EXPIRED = "Failover attempt expired."
VOTES_MISSING = "Waiting for votes, but majority still not reached."


@define
class Candidacy:
    """One attempt: planned for a time, then asked for votes, then won or expired."""

    at: int
    rank: int
    shard_rank: int
    epoch: int = 0
    asked: bool = False
    # Who voted, so that a message that comes twice counts once.
    votes: dict[str, None] = Factory(dict)


@define
class Manual:
    """A failover by hand, on the replica that wants it or on the primary that grants it."""

    until: int
    replica: Node | None = None
    primary_offset: int | None = None
    can_start: bool = False


class Election:
    """The candidate, the voter, and the failover by hand."""

    def __init__(self, desk: Desk, speaker: Speaker, ownership: Ownership) -> None:
        self.desk = desk
        self.speaker = speaker
        self.ownership = ownership
        self.candidacy: Candidacy | None = None
        self.manual: Manual | None = None
        self._obstacle = ""
        self._obstacle_logged = 0

    # ---- the candidate

    @property
    def timeout(self) -> int:
        """How long votes are waited for; twice that, and there is another election."""
        return max(self.desk.options.node_timeout * 2, SHORTEST_TIMEOUT)

    @property
    def by_hand(self) -> bool:
        return self.manual is not None and self.manual.can_start

    @property
    def is_waiting(self) -> bool:
        """Whether news of other replicas may move an election that is planned."""
        return self.candidacy is not None and not self.candidacy.asked

    def step(self) -> None:
        """Go as far towards being the primary as is possible now."""
        if not self._has_reason():
            self.candidacy = None
            self._obstacle = ""
            return
        if not self.by_hand and not self._is_fresh():
            self._stopped_by(TOO_OLD)
            return
        now, candidacy = self.desk.now, self.candidacy
        if candidacy is None or now - candidacy.at > self.timeout * 2:
            candidacy = self._plan()
            if now < candidacy.at:
                return
        elif not candidacy.asked and not self.by_hand:
            self._plan_anew(candidacy)
        if now < candidacy.at:
            self._stopped_by(WAITING)
        elif now - candidacy.at > self.timeout:
            self._stopped_by(EXPIRED)
        elif not candidacy.asked:
            self._ask(candidacy)
        elif len(candidacy.votes) >= self.desk.view.quorum:
            self._win(candidacy)
        else:
            self._stopped_by(VOTES_MISSING)

    def _has_reason(self) -> bool:
        primary = self.desk.myself.primary
        if primary is None:
            return False
        if self.by_hand:
            return True
        return primary.failed and primary.slots != 0 and not self.desk.options.replica_no_failover

    def _is_fresh(self) -> bool:
        """Whether the data is young enough to take the primary's place."""
        options, age = self.desk.options, self.desk.facts.data_age
        if not options.replica_validity_factor:
            return True
        if age is None:
            return False
        if age > options.node_timeout:
            age -= options.node_timeout
        allowed = options.node_timeout * options.replica_validity_factor
        return age <= options.replica_ping_period + allowed

    def _plan(self) -> Candidacy:
        """Set the time of the next election."""
        desk = self.desk
        rank, shard_rank = self._rank(), self._shard_rank()
        delay = 0
        if not (self.by_hand or self._is_surely_best(rank, shard_rank)):
            delay = FIXED_DELAY + desk.rng.randrange(RANDOM_DELAY)
            delay += rank * RANK_DELAY + shard_rank * SHARD_RANK_DELAY
        elif not self.by_hand:
            desk.log(
                "notice",
                "This is the best ranked replica and can initiate the election immediately.",
            )
        desk.log(
            "notice",
            f"Start of election delayed for {delay} milliseconds (rank #{rank}, "
            f"primary rank #{shard_rank}, offset {desk.facts.offset}).",
        )
        self.candidacy = Candidacy(desk.now + delay, rank, shard_rank)
        self.speaker.pong_siblings()
        return self.candidacy

    def _plan_anew(self, candidacy: Candidacy) -> None:
        """News of the other replicas and shards move a planned election."""
        desk = self.desk
        rank, shard_rank = self._rank(), self._shard_rank()
        if rank != candidacy.rank:
            added = (rank - candidacy.rank) * RANK_DELAY
            candidacy.rank = rank
            candidacy.at += added
            desk.log(
                "notice",
                f"Replica rank updated to #{rank}, added {added} milliseconds of delay.",
            )
        if shard_rank != candidacy.shard_rank:
            added = (shard_rank - candidacy.shard_rank) * SHARD_RANK_DELAY
            candidacy.shard_rank = shard_rank
            candidacy.at += added
            desk.log(
                "notice",
                f"Failed primary rank updated to #{shard_rank}, "
                f"added {added} milliseconds of delay.",
            )
        if candidacy.at > desk.now and self._is_surely_best(rank, shard_rank):
            candidacy.at = desk.now
            desk.log(
                "notice",
                "Myself become the best ranked replica, initiate the election immediately.",
            )

    def _siblings(self) -> list[Node]:
        """The other replicas of my primary that may want its place too."""
        primary = self.desk.myself.primary
        replicas = primary.replicas if primary is not None else []
        return [
            node
            for node in replicas
            if node is not self.desk.myself and not node.flags & NOFAILOVER
        ]

    def _rank(self) -> int:
        """How many siblings have more data; of those with as much, the smaller id goes first."""
        mine = (-self.desk.facts.offset, self.desk.myself.id)
        return sum((-node.offset, node.id) < mine for node in self._siblings())

    def _shard_rank(self) -> int:
        """How many other failed shards go first."""
        options, now, myself = self.desk.options, self.desk.now, self.desk.myself
        limit = options.node_timeout * options.replica_validity_factor or now
        return sum(
            node.failed
            and node.is_voter
            and bool(node.replicas)
            and now - node.fail_time <= limit
            and node.shard_id < myself.shard_id
            for node in self.desk.view.order
        )

    def _is_surely_best(self, rank: int, shard_rank: int) -> bool:
        """Nobody goes first, and no sibling can have data that this node hasn't heard of."""
        return not (rank or shard_rank) and all(
            node.failed or node.flags & MY_PRIMARY_FAIL for node in self._siblings()
        )

    def _ask(self, candidacy: Candidacy) -> None:
        """Ask for votes in a new epoch. The failure goes before, on each link, so that nobody
        refuses for not having heard of it: who is refused waits for four node timeouts."""
        desk, view, myself = self.desk, self.desk.view, self.desk.myself
        view.current_epoch += 1
        candidacy.epoch = view.current_epoch
        candidacy.asked = True
        desk.changed(sync=True)
        desk.log(
            "notice",
            f"Starting a failover election for epoch {candidacy.epoch}, "
            f"node config epoch is {myself.serving_epoch}",
        )
        desk.event("election", myself, str(candidacy.epoch))
        primary = myself.primary
        if primary is not None and primary.failed:
            self.speaker.to_all(m.Fail(self.speaker.header(), primary.id))
        self.speaker.to_all(m.AuthRequest(self.speaker.header(m.FORCE_ACK if self.by_hand else 0)))

    def on_ack(self, sender: Node, header: Header) -> None:
        """A vote, if it is one of this election's and its sender has one."""
        candidacy = self.candidacy
        if candidacy is None or not candidacy.asked or header.current_epoch != candidacy.epoch:
            return
        if sender.is_voter:
            candidacy.votes[sender.id] = None
            self.desk.check_failover = True

    def outdone_by(self, claimer: Node) -> None:
        """Somebody has come to an epoch: an election in a smaller one can't be won any more."""
        candidacy = self.candidacy
        if candidacy is None or not candidacy.asked or claimer.config_epoch < candidacy.epoch:
            return
        self.candidacy = None
        self.desk.check_failover = True
        self.desk.log(
            "warning",
            f"Failover election in progress for epoch {candidacy.epoch}, but received a claim "
            f"from node {claimer.label} with an equal or higher epoch {claimer.config_epoch}. "
            "Resetting the election since we cannot win an election in the past.",
        )

    def _win(self, candidacy: Candidacy) -> None:
        myself = self.desk.myself
        self.desk.log("notice", "Failover election won: I'm the new primary.")
        if myself.config_epoch < candidacy.epoch:
            myself.config_epoch = candidacy.epoch
            self.desk.log(
                "notice", f"configEpoch set to {candidacy.epoch} after successful failover"
            )
        self._replace_primary()

    def _replace_primary(self) -> None:
        """Take the primary's slots, under the epoch that this node has got for it."""
        desk, myself = self.desk, self.desk.myself
        old = myself.primary
        assert old is not None
        desk.log(
            "notice",
            f"Setting myself to primary in shard {myself.shard_id} after failover; "
            f"my old primary is {old.label}",
        )
        self.ownership.become_primary()
        desk.view.assign(old.slots, myself)
        self.ownership.moves.inherit()
        desk.event("promoted", myself, str(myself.config_epoch))
        desk.announce = True
        self.candidacy = None

    def _stopped_by(self, obstacle: str) -> None:
        """Log why there is no failover yet: once, and then once in a while."""
        desk = self.desk
        period = RELOG_PERIOD * (10 if obstacle == TOO_OLD else 1)
        if obstacle == self._obstacle and desk.now - self._obstacle_logged < period:
            return
        self._obstacle, self._obstacle_logged = obstacle, desk.now
        desk.log("notice", f"Currently unable to failover: {obstacle}")
        if self.candidacy is not None and obstacle in (VOTES_MISSING, EXPIRED):
            desk.log(
                "notice",
                f"Needed quorum: {desk.view.quorum}. "
                f"Number of votes received so far: {len(self.candidacy.votes)}",
            )

    # ---- the voter

    def on_request(self, candidate: Node, header: Header) -> None:
        """Somebody asks for this node's vote."""
        desk, view = self.desk, self.desk.view
        if not view.myself.is_voter:
            return
        refusal = self._refusal(candidate, header)
        if refusal:
            desk.log("warning", f"Failover auth denied to {candidate.label}{refusal}")
            desk.event("denied", candidate, str(header.current_epoch))
            return
        view.last_vote_epoch = view.current_epoch
        candidate.voted_at = desk.now
        desk.changed(sync=True)
        desk.log(
            "notice",
            f"Failover auth granted to {candidate.label} for epoch {view.current_epoch}",
        )
        desk.event("vote", candidate, str(view.current_epoch))
        self.speaker.reply(candidate, m.AuthAck(self.speaker.header()))

    def _refusal(self, candidate: Node, header: Header) -> str:
        """Why a candidate doesn't get this voter's vote, or an empty text."""
        view, primary, epoch = self.desk.view, candidate.primary, header.current_epoch
        if epoch < view.current_epoch:
            return f": reqEpoch ({epoch}) < curEpoch({view.current_epoch})"
        if view.last_vote_epoch >= view.current_epoch:
            return f": already voted for epoch {view.current_epoch}"
        if candidate.is_primary:
            return f" for epoch {epoch}: it is a primary node"
        if primary is None:
            return f" for epoch {epoch}: I don't know its primary"
        if not primary.failed and not header.message_flags & m.FORCE_ACK:
            return f" for epoch {epoch}: its primary is up"
        contested = header.slots & ~view.unclaimed
        for owner in view.order:
            if owner.slots & contested and owner.config_epoch > header.config_epoch:
                slot = lowest(owner.slots & contested)
                return (
                    f": slot {slot} epoch ({owner.config_epoch}) > "
                    f"reqConfigEpoch ({header.config_epoch})"
                )
        return ""

    # ---- by hand

    def failover(self, request: Failover) -> None:
        """CLUSTER FAILOVER"""
        desk, myself = self.desk, self.desk.myself
        primary = myself.primary
        if myself.is_primary:
            raise ClusterError("ERR You should send CLUSTER FAILOVER to a replica")
        if primary is None:
            raise ClusterError("ERR I'm a replica but my master is unknown to me")
        if not request.mode and (primary.failed or not primary.connected):
            raise ClusterError("ERR Master is down or failed, please use CLUSTER FAILOVER FORCE")
        self.reset_manual()
        self.manual = Manual(desk.now + desk.options.manual_failover_timeout)
        if request.mode == "TAKEOVER":
            desk.log("notice", "Taking over the primary (user request).")
            self.ownership.bump_epoch()
            self._replace_primary()
        elif request.mode == "FORCE":
            desk.log("notice", "Forced failover user request accepted.")
            self._start_by_hand(self.manual)
        else:
            desk.log("notice", "Manual failover user request accepted.")
            desk.send(primary.link, m.ManualFailoverStart(self.speaker.header()))

    def on_start(self, link: Link, sender: Node) -> None:
        """A replica of this primary asks it to make way."""
        desk, options = self.desk, self.desk.options
        if sender.primary is not desk.myself:
            return
        self.reset_manual()
        self.manual = Manual(desk.now + options.manual_failover_timeout, replica=sender)
        self.speaker.paused = True
        desk.do(Pause(desk.now + options.manual_failover_timeout * PAUSE_FACTOR))
        desk.log("notice", f"Manual failover requested by replica {sender.label}.")
        # It carries the offset that the replica has to come to.
        self.speaker.ping(link)

    def hear_offset(self, sender: Node, header: Header) -> None:
        """The paused primary tells how far the replica has to come."""
        manual = self.manual
        if manual is None or sender is not self.desk.myself.primary:
            return
        if header.message_flags & m.PAUSED and manual.primary_offset is None:
            manual.primary_offset = header.offset
            self.desk.log(
                "notice",
                f"Received replication offset for paused primary manual failover: {header.offset}",
            )
            self.step_manual()

    def step_manual(self) -> None:
        """Give a failover by hand up when its time is over, or see whether it can start."""
        manual, desk = self.manual, self.desk
        if manual is None:
            return
        if desk.now > manual.until:
            desk.log("warning", "Manual failover timed out.")
            self.reset_manual()
        elif manual.replica is not None:
            self.speaker.ping(manual.replica.link)
        elif not manual.can_start and manual.primary_offset == desk.facts.offset:
            desk.log(
                "notice",
                "All primary replication stream processed, manual failover can start.",
            )
            self._start_by_hand(manual)

    def _start_by_hand(self, manual: Manual) -> None:
        if self.candidacy is not None:
            self.desk.log(
                "warning",
                f"Failover election in progress for epoch {self.candidacy.epoch}, but received "
                "a new manual failover. Resetting the election.",
            )
            self.candidacy = None
        manual.can_start = True
        self.desk.check_failover = True

    def reset_manual(self) -> None:
        """End a failover by hand, whatever came of it."""
        if self.manual is not None and self.manual.replica is not None:
            self.desk.do(Resume())
        self.speaker.paused = False
        self.manual = None

    def wake_at(self) -> int | None:
        """When the next step is due by the mere passing of time."""
        manual = self.manual
        if manual is not None and manual.replica is None and not manual.can_start:
            return self.desk.now + OFFSET_POLL
        return self.candidacy.at if self.candidacy is not None and self.is_waiting else None
