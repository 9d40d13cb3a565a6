"""The invariants of a cluster, checked while it runs.

Votes and epochs, at every effect of every core:
- `one vote per epoch`: a node that has voted never votes again in that epoch, not for the same
  candidate either, and not after a crash: that is why Save comes before a vote;
- `elected by a majority`: who is promoted has the votes of a majority of the voters it knows,
  unless it was told to take over;
- `one winner per epoch`: no epoch is won twice;
- `one owner per slot and epoch`: no two nodes ever claim a slot under one config epoch, unless
  somebody took that epoch without asking, as TAKEOVER, SETSLOT and a collision let it;
- `epochs don't go back`: a node's current epoch never falls while it runs, and a restart
  remembers the epochs of its votes, its elections and its claims.

Data, at every turn of every node:
- `one history per id`: what a node has logged under a replication id, byte by byte, is what the
  primary that began this history has logged, and nobody is ahead of it;
- `equal data at equal offsets`: nodes at one offset of one history hold the same data.

Files, whenever a process starts:
- `loaded what there was`: the data are what they were at some moment since the last start;
- `kept what was synced`: and at no earlier moment than the last that its files were to keep.

Promises to clients. Replication is asynchronous, so a write that was merely answered with OK may
be lost by a failover, as in Redis. What is promised is this: a write whose WAIT was answered by
every node of its shard that there is, dead or alive, survives whatever happens later, for each of
those that could be elected has it; unless a process that still is the primary by its nodes.conf
is started without that write, and comes to serve before it hears of a successor. A node whose data
is in memory alone, or saved now and then, can't keep that promise, nor does Redis. So:
- `kept what was acknowledged`: such a write is there whenever a client then asks, and at the end,
  if no primary of its shard was restarted without it after it was sent. MIGRATE, in Redis too,
  deletes a key as soon as another primary has it, so one that comes to its end before its replicas
  have the key as well ends the promise; a slot that moves as a whole has no such gap;
- `read what was written`: a read brings the value that was written under that key, or nothing.

Once all faults have ended (`unsettled` says what is still missing): every slot has one owner whom
all agree on, the cluster is up everywhere, replicas are linked, and equal to their primary in
offset and data.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from cluster import effects as fx
from cluster.effects import Effect
from cluster.message import AuthAck, AuthRequest
from cluster.simulation.past import Past, contents, shown
from cluster.slots import EVERY_SLOT, key_slot, slot_set
from node.data.keyspace import Keyspace
from node.node import Node
from node.persistence.aof.aof import ON
from node.persistence.aof.writer import ALWAYS
from node.persistence.log import Cursor, Log

if TYPE_CHECKING:
    from cluster.simulation.process import Process
    from cluster.simulation.writers import Ledger, Write


_UNASKED = re.compile(r"(?:New configEpoch|.*collision.* configEpoch) set to (\d+)", re.DOTALL)


class Violation(BaseException):
    """A rule was broken. No part of a node may catch it, so it is no Exception."""

    def __init__(self, rule: str, what: str) -> None:
        super().__init__(f"{rule}: {what}")
        self.rule = rule


def demand(holds: object, rule: str, what: str) -> None:
    """Raise Violation unless the rule holds."""
    if not holds:
        raise Violation(rule, what)


# --- votes and epochs -----------------------------------------------------------------------------


@attrs.define
class Promise:
    """What a node has let others know of its epochs, so that it must outlive the process."""

    voted: int = 0
    asked: int = 0
    claimed: int = 0


@attrs.define(eq=False)
class Epochs:
    """Who voted for whom, who won, who claimed what; by node id, over all restarts."""

    promises: dict[str, Promise] = attrs.field(factory=dict)
    votes: dict[int, dict[str, str]] = attrs.field(factory=dict)  # epoch: voter: candidate
    winners: dict[int, str] = attrs.field(factory=dict)
    claims: dict[int, dict[str, int]] = attrs.field(factory=dict)  # config epoch: node: slots
    current: "dict[Process, int]" = attrs.field(factory=dict)
    unasked: dict[int, None] = attrs.field(factory=dict)  # taken without votes
    _taking_over: "dict[Process, None]" = attrs.field(factory=dict)
    _seen: "dict[Process, tuple[int, int]]" = attrs.field(factory=dict)

    def promise(self, node_id: str) -> Promise:
        return self.promises.setdefault(node_id, Promise())

    def on_start(self, process: "Process") -> None:
        """A process has read its nodes.conf."""
        view, promise = process.core.view, self.promise(process.id)
        rule = "epochs don't go back"
        demand(
            view.last_vote_epoch >= promise.voted,
            rule,
            f"{process.place} voted in epoch {promise.voted}, and after its restart remembers "
            f"{view.last_vote_epoch}",
        )
        said = max(promise.voted, promise.asked, promise.claimed)
        demand(
            view.current_epoch >= said,
            rule,
            f"{process.place} has told of epoch {said}, and restarts at {view.current_epoch}",
        )
        myself = view.myself
        if myself.is_primary and myself.config_epoch > promise.claimed:
            self._on_forgotten_claim(process, myself.config_epoch)

    def _on_forgotten_claim(self, process: "Process", epoch: int) -> None:
        """It ended after it had saved an epoch, and before anybody heard of that: it was elected,
        or had asked nobody."""
        if self._votes_for(process, epoch):
            self._on_victory(process, epoch)
        else:
            self.unasked[epoch] = None

    def on_effect(self, process: "Process", effect: Effect) -> None:
        match effect:
            case fx.Send(message=AuthAck() as message):
                link = process.core.view.links.get(effect.link)
                candidate = link.node.id if link is not None and link.node is not None else ""
                self._on_vote(process, candidate, message.header.current_epoch)
            case fx.Send(message=AuthRequest() as message):
                promise = self.promise(process.id)
                promise.asked = max(promise.asked, message.header.current_epoch)
            case fx.Event(kind="promoted"):
                self._on_promotion(process, int(effect.detail))
            case fx.Log(text=text) if text.startswith("Taking over the primary"):
                self._taking_over[process] = None
            case fx.Log(text=text) if taken := _UNASKED.match(text):
                self.unasked[int(taken[1])] = None

    def _on_vote(self, process: "Process", candidate: str, epoch: int) -> None:
        votes = self.votes.setdefault(epoch, {})
        demand(
            process.id not in votes,
            "one vote per epoch",
            f"{process.place} votes in epoch {epoch} for {candidate}, and has voted for "
            f"{votes.get(process.id)}",
        )
        votes[process.id] = candidate
        self.promise(process.id).voted = epoch

    def _on_promotion(self, process: "Process", epoch: int) -> None:
        if self._taking_over.pop(process, self) is None:
            self.unasked[epoch] = None
            return
        votes, voters = self._votes_for(process, epoch), process.core.view.voters
        demand(
            2 * votes > voters,
            "elected by a majority",
            f"{process.place} is promoted in epoch {epoch} with {votes} votes of {voters}",
        )
        self._on_victory(process, epoch)

    def _votes_for(self, process: "Process", epoch: int) -> int:
        return sum(vote == process.id for vote in self.votes.get(epoch, {}).values())

    def _on_victory(self, process: "Process", epoch: int) -> None:
        winner = self.winners.setdefault(epoch, process.id)
        demand(
            winner == process.id,
            "one winner per epoch",
            f"epoch {epoch} is won by {process.place} after {winner}",
        )

    def on_turn(self, process: "Process") -> None:
        view = process.core.view
        before = self.current.get(process, 0)
        demand(
            view.current_epoch >= before,
            "epochs don't go back",
            f"{process.place} falls from epoch {before} to {view.current_epoch}",
        )
        self.current[process] = view.current_epoch
        myself = view.myself
        claim = (myself.config_epoch, myself.slots)
        if myself.is_primary and myself.slots and self._seen.get(process) != claim:
            self._seen[process] = claim
            self._on_claim(process, *claim)

    def _on_claim(self, process: "Process", epoch: int, slots: int) -> None:
        claims = self.claims.setdefault(epoch, {})
        for node_id, others in claims.items():
            demand(
                node_id == process.id or not others & slots or epoch in self.unasked,
                "one owner per slot and epoch",
                f"{process.place} and {node_id} claim the same slots under epoch {epoch}",
            )
        claims[process.id] = claims.get(process.id, 0) | slots
        promise = self.promise(process.id)
        promise.claimed = max(promise.claimed, epoch)


# --- histories and data ---------------------------------------------------------------------------


@attrs.define(eq=False)
class Chronicle:
    """The bytes of one history, as the primary that began it has logged them."""

    start: int
    data: bytearray = attrs.field(factory=bytearray)

    @property
    def end(self) -> int:
        return self.start + len(self.data)


@attrs.define(eq=False)
class Histories:
    """Every history's bytes, and how far each process has been compared with them."""

    chronicles: dict[str, Chronicle] = attrs.field(factory=dict)
    _compared: "dict[Process, tuple[str, int]]" = attrs.field(factory=dict)

    def on_turn(self, process: "Process") -> None:
        node = process.node
        at = (node.role.history.id, node.log.offset)
        before = self._compared.get(process)
        if at != before:
            self._compared[process] = at
            same = before is not None and before[0] == at[0] and before[1] <= at[1]
            self._compare(process, before[1] if same and before is not None else None)

    def _compare(self, process: "Process", since: int | None) -> None:
        """Look at what a process has logged since that offset, or at all that it still holds."""
        log, history = process.node.log, process.node.role.history
        first = log.first_offset() if since is None else max(since, log.first_offset())
        data = _bytes_from(log, first)
        chronicle = self.chronicles.setdefault(history.id, Chronicle(first))
        rule = "one history per id"
        if first < chronicle.start:
            chronicle.data[:0] = data[: chronicle.start - first]
            chronicle.start = first
        known = chronicle.data[first - chronicle.start : first - chronicle.start + len(data)]
        demand(
            data.startswith(bytes(known)),
            rule,
            f"{process.place} has other bytes than its primary behind offset {first} of "
            f"{history.id}",
        )
        news = data[len(known) :]
        if news:
            demand(
                not process.node.is_replica(),
                rule,
                f"{process.place} is ahead of its primary, at {log.offset} of {history.id}",
            )
            chronicle.data += news

    def compare_data(self, processes: "Iterable[Process]") -> None:
        """Nodes at one offset of one history hold the same."""
        found: dict[tuple[str, int], Process] = {}
        for process in processes:
            node = process.node
            if node.loading:
                continue
            other = found.setdefault((node.role.history.id, node.log.offset), process)
            if other is not process:
                difference = first_difference(other.node.keyspace, node.keyspace)
                demand(
                    not difference,
                    "equal data at equal offsets",
                    f"{other.place} and {process.place} at {node.log.offset}: {difference}",
                )


def _bytes_from(log: Log, offset: int) -> bytes:
    """What a log holds from an offset on."""
    cursor, pieces = Cursor(offset), []
    while piece := log.read(cursor, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def first_difference(one: Keyspace, other: Keyspace) -> str:
    """Where two keyspaces differ first, or an empty text."""
    for left, right in zip(one.databases, other.databases, strict=True):
        if left.expires != right.expires:
            return "deadlines"
        if left.parts == right.parts:
            continue
        for mine, theirs in zip(left.parts, right.parts, strict=True):
            if mine != theirs and (mine or theirs):
                difference = _difference_of_parts(mine or {}, theirs or {})
                if difference:
                    return difference
    return ""


def _difference_of_parts(one: dict[bytes, Any], other: dict[bytes, Any]) -> str:
    for key in sorted({*one, *other}):
        pair = shown(one.get(key)), shown(other.get(key))
        if pair[0] != pair[1]:
            return f"key {key!r}: {pair[0]!r} and {pair[1]!r}"
    return ""


# --- files ----------------------------------------------------------------------------------------


@attrs.define(eq=False)
class Saved:
    """How far one process has got with its RDB. started, ended_ms: of the last seen.

    turn: the moment at which the last turn ended. holds: that before the last save began.
    """

    started: int
    ended_ms: int
    turn: int
    holds: int = 0


@attrs.define(eq=False)
class Files:
    """What each machine's data have been, and what of that its files must bring back."""

    pasts: dict[str, Past] = attrs.field(factory=dict)  # by place
    _stale: dict[str, None] = attrs.field(factory=dict)  # all data were exchanged in this turn
    _saves: dict[str, "Saved"] = attrs.field(factory=dict)

    def on_load(self, process: "Process") -> None:
        """A process has loaded its data: see what they are, and watch them from here on."""
        place, node = process.place, process.node
        past = self.pasts.setdefault(place, Past())
        if process.keeps_files and past.moment:
            _compare_with_past(process, past)
        past.begin(node.keyspace)
        self._saves[place] = Saved(node.saves.started, node.saves.saved_at_ms, past.moment)
        node.keyspace.listen(lambda db, key, event, kind: past.note(db, key, node.unit))
        node.keyspace.on_reset.append(lambda db, other: self._stale.update({place: None}))

    def on_turn(self, process: "Process") -> None:
        """See what has been saved: at least what there was when the turn began that began it."""
        place, node = process.place, process.node
        past = self.pasts[place]
        exchanged = self._stale.pop(place, self) is None
        if (exchanged or not past.is_complete(node.keyspace)) and node.loading is None:
            past.take_in(node.keyspace)
        saved = self._saves[place]
        if node.saves.started != saved.started:
            saved.started, saved.holds = node.saves.started, saved.turn
        if node.saves.saved_at_ms != saved.ended_ms:
            saved.ended_ms = node.saves.saved_at_ms
            past.keep(saved.holds)
        saved.turn = past.moment
        if node.aof.state == ON:
            self._see_aof(node, past)

    @staticmethod
    def _see_aof(node: Node, past: Past) -> None:
        """Under `always` a turn is on disk when it ends, else when it is told to be."""
        aof = node.aof
        if node.config.appendfsync == ALWAYS and not aof.forbids_writes():
            past.keep(past.moment)
        past.at_offset(node.log.offset)
        synced = aof.synced_offset()
        if synced is not None:
            past.keep_offset(synced)


def _compare_with_past(process: "Process", past: Past) -> None:
    """What a process has loaded must have been there, and late enough."""
    place, found = process.place, past.find(process.node.keyspace)
    if found is None:
        why = f"{place} never had what it has loaded: {past.nearest(process.node.keyspace)}"
        raise Violation("loaded what there was", why)
    if found < past.kept:
        why = (
            f"{place} has loaded what it had at moment {found} of {past.moment}, and was to keep "
            f"{past.kept}: {past.nearest(process.node.keyspace)}"
        )
        raise Violation("kept what was synced", why)


# --- promises to clients --------------------------------------------------------------------------


@attrs.frozen
class Loss:
    """A primary that nobody had replaced was started without some data. kept: what it had."""

    slots: int
    when: int
    kept: dict[bytes, None] = attrs.field(repr=False)

    def concerns(self, write: "Write") -> bool:
        return (
            self.when >= write.sent
            and bool(self.slots >> write.slot & 1)
            and write.key not in self.kept
        )


@attrs.define(eq=False)
class Arrival:
    """A key that MIGRATE has brought to a primary. offset: of its log with that, once known."""

    process: "Process"
    offset: int | None = None


@attrs.define(eq=False)
class Promises:
    """Which writes must survive, and whether they do."""

    ledger: "Ledger"
    now: Callable[[], int]
    processes: "dict[str, Process]" = attrs.field(factory=dict)  # the latest by place
    kept: "dict[bytes, Write]" = attrs.field(factory=dict)
    losses: list[Loss] = attrs.field(factory=list)
    arrivals: dict[bytes, Arrival] = attrs.field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.ledger.on_kept = self.on_kept
        self.ledger.on_read = self.on_read

    def on_start(self, process: "Process") -> None:
        self.processes[process.place] = process

    def on_load(self, process: "Process") -> None:
        """A process has loaded its data; see what that ends of what was promised before."""
        if self.is_missed(process):
            view = process.core.view
            slots = view.myself.slots | slot_set(view.importing)
            kept = dict.fromkeys(contents(process.node.keyspace))
            self.losses.append(Loss(slots, self.now(), kept))

    def on_restore(self, process: "Process", key: bytes) -> None:
        """A key has come from another node; one that is hidden as yet is there, too."""
        hidden = process.member.migrations.imported
        if process.core.view.myself.is_primary and not hidden >> key_slot(key) & 1:
            self.arrivals[key] = Arrival(process)

    def on_turn(self, process: "Process") -> None:
        """See whose replicas have got what has come to it."""
        for key, arrival in list(self.arrivals.items()):
            holder = arrival.process
            if holder is process and arrival.offset is None:
                arrival.offset = process.node.log.offset
            if not (holder.alive and holder.core.view.myself.is_primary):
                self.kept.pop(key, None)
                del self.arrivals[key]
            elif arrival.offset is not None and self._is_everywhere(holder, arrival.offset):
                del self.arrivals[key]

    def _is_everywhere(self, primary: "Process", offset: int) -> bool:
        shard, id = primary.core.view.myself.shard_id, primary.node.role.history.id
        return all(
            other.node.role.history.id == id and other.node.log.offset >= offset
            for other in self.processes.values()
            if other is not primary and other.core.view.myself.shard_id == shard
        )

    def is_missed(self, process: "Process") -> bool:
        """Whether a process that is a primary by its own nodes.conf is taken for the owner of its
        slots by anybody else, dead or alive: nobody has replaced it, or not everybody knows."""
        myself = process.core.view.myself
        if not (myself.is_primary and myself.slots):
            return False
        others = [other for other in self.processes.values() if other.place != process.place]
        views = [other.core.view for other in others]
        return any(
            (seen := view.nodes.get(myself.id)) is not None and seen.slots & myself.slots
            for view in views
        )

    def on_kept(self, write: "Write") -> None:
        by = self.processes[write.by]
        shard = by.core.view.myself.shard_id
        others = sum(
            process.core.view.myself.shard_id == shard
            for process in self.processes.values()
            if process is not by
        )
        if others and write.copies >= others:
            self.kept[write.key] = write

    def holds(self, write: "Write") -> bool:
        """Whether a write was promised to survive, and nothing has ended that promise."""
        return write.key in self.kept and not any(loss.concerns(write) for loss in self.losses)

    def on_read(self, write: "Write", found: bytes | None, place: str, asked: int) -> None:
        demand(
            found is None or found == write.value,
            "read what was written",
            f"{place} has {found!r} as {write.key!r}, not {write.value!r}",
        )
        demand(
            found is not None or asked < write.acknowledged or not self.holds(write),
            "kept what was acknowledged",
            f"{place} has lost {write.key!r}, acknowledged by {write.by}",
        )

    def check_all(self) -> None:
        """At the end: what was promised is at each slot's owner."""
        for write in self.kept.values():
            if not self.holds(write):
                continue
            for process in self.processes.values():
                if process.core.view.myself.slots >> write.slot & 1:
                    held = process.node.keyspace[0].keys_of_part(write.slot)
                    self.on_read(write, shown(held.get(write.key)), process.place, self.now())


# --- all of them ----------------------------------------------------------------------------------


class Checks:
    """The rules, and what they remember. `now` gives the true time in milliseconds."""

    def __init__(self, ledger: "Ledger", now: Callable[[], int]) -> None:
        self.epochs = Epochs()
        self.histories = Histories()
        self.files = Files()
        self.promises = Promises(ledger, now)

    def on_start(self, process: "Process") -> None:
        self.epochs.on_start(process)
        self.promises.on_start(process)

    def on_load(self, process: "Process", error: str = "") -> None:
        demand(not error, "loaded what there was", f"{process.place}: {error}")
        self.files.on_load(process)
        self.promises.on_load(process)
        process.node.keyspace.listen(
            lambda db, key, event, kind: (
                self.promises.on_restore(process, key) if event == b"restore" else None
            )
        )

    def on_effect(self, process: "Process", effect: Effect) -> None:
        self.epochs.on_effect(process, effect)

    def on_turn(self, process: "Process") -> None:
        self.epochs.on_turn(process)
        self.histories.on_turn(process)
        self.files.on_turn(process)
        if self.promises.arrivals:
            self.promises.on_turn(process)

    def now_and_then(self, processes: "Sequence[Process]") -> None:
        """What takes too long to check at every turn."""
        for process in processes:
            process.core.view.check()
            process.node.log.check()
        self.histories.compare_data(processes)

    def at_the_end(self, processes: "Sequence[Process]") -> None:
        """When all has settled."""
        self.now_and_then(processes)
        missing = self.unsettled(processes) or _half_moved(processes)
        demand(not missing, "settled", missing)
        self.promises.check_all()

    def unsettled(self, processes: "Sequence[Process]") -> str:
        """What keeps the cluster from being whole, or an empty text."""
        for process in processes:
            missing = _unhealthy(process)
            if missing:
                return f"{process.place}: {missing}"
        return _disagreement(processes) or _unequal(processes)


def _unhealthy(process: "Process") -> str:
    """What one node lacks in its own eyes."""
    if not process.alive or process.paused:
        return "is not running"
    view = process.core.view
    if view.unassigned:
        return "knows of slots without an owner"
    if not view.ok:
        return "the cluster is down for it"
    for node in view.order:
        if node.failed or node.suspected or node.in_handshake:
            return f"{node.label} is {node.flag_words} for it"
        if node is not view.myself and not (node.connected and node.inbound is not None):
            return f"it has no links with {node.label}"
    return ""


def _disagreement(processes: "Sequence[Process]") -> str:
    """Who sees somebody otherwise than that one sees itself."""
    for process in processes:
        own = process.core.view.myself
        for other in processes:
            seen = other.core.view.nodes.get(own.id)
            if seen is None:
                return f"{other.place} doesn't know {process.place}"
            if (seen.slots, seen.is_primary) != (own.slots, own.is_primary):
                return f"{other.place} sees {process.place} as it is not"
            theirs = seen.primary.id if seen.primary is not None else ""
            if theirs != (own.primary.id if own.primary is not None else ""):
                return f"{other.place} takes {process.place} for another's replica"
    owned = 0
    for process in processes:
        owned |= process.core.view.myself.slots
    return "" if owned == EVERY_SLOT else "nobody serves some slots"


def _half_moved(processes: "Sequence[Process]") -> str:
    """Which move of a slot has not ended, or has left something behind."""
    for process in processes:
        view, db = process.core.view, process.node.keyspace[0]
        if not view.myself.is_primary:
            continue
        if view.migrating or view.importing:
            return f"{process.place} has slots on the move"
        for slot, part in enumerate(db.parts):
            if part and not view.myself.slots >> slot & 1:
                return f"{process.place} has keys of slot {slot}, which is served elsewhere"
    return ""


def _unequal(processes: "Sequence[Process]") -> str:
    """Which replica isn't up to date."""
    by_id = {process.id: process for process in processes}
    for process in processes:
        primary = process.core.view.myself.primary
        if primary is None:
            continue
        missing = _behind(process.node, by_id[primary.id].node)
        if missing:
            return f"{process.place}: {missing}"
    return ""


def _behind(replica: Node, primary: Node) -> str:
    link = replica.role.link
    if link is None or not link.is_up():
        return "has no link to its primary"
    if primary.is_replica():
        return "follows a replica"
    if replica.role.history.id != primary.role.history.id:
        return "is of another history than its primary"
    if replica.log.offset != primary.log.offset:
        return f"is at offset {replica.log.offset}, its primary at {primary.log.offset}"
    return first_difference(primary.keyspace, replica.keyspace)
