"""The node's topology in a cluster: which commands run here, and where the others belong.

`mine` serves the fast path: a 1 for each slot all of whose commands may run here at once, because
this node is its primary, the slot stays where it is, and the cluster is up. Everything else comes
to `route`, which answers as the cluster specification says: MOVED to the owner, ASK while a slot
moves and the key is there already, TRYAGAIN while only some of the keys are, CROSSSLOT for keys of
several slots, CLUSTERDOWN where nobody may serve.

Source: https://valkey.io/topics/cluster-spec/, and the words of valkey-server 9.1.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import attrs

from cluster.effects import PublishAll, Request
from cluster.slots import SLOTS, key_slot, ranges
from cluster.view import Node as Peer
from cluster.view import View
from node.command import ASKING, WRITE, Row
from node.config import Config
from node.data.keyspace import Database
from node.gate import flags_of
from node.persistence.rdb import Import as SlotImport
from node.replies import ReplyError
from node.session import Session, session_gate
from node.transaction import keys_of

if TYPE_CHECKING:
    from cluster.slotmigration.migrations import Migrations

CROSS_SLOT = ReplyError(b"CROSSSLOT Keys in request don't hash to the same slot")
TRY_AGAIN = ReplyError(b"TRYAGAIN Multiple keys request during rehashing of slot")
NOT_SERVED = ReplyError(b"CLUSTERDOWN Hash slot not served")
DOWN = ReplyError(b"CLUSTERDOWN The cluster is down")
DOWN_FOR_WRITES = ReplyError(b"CLUSTERDOWN The cluster is down and only accepts read commands")

# Commands on shard channels: those hash to slots like keys, but nothing is kept there.
_SHARD_CHANNELS = frozenset((b"spublish", b"ssubscribe", b"sunsubscribe"))
# After these an ASKING before them still counts for what comes next.
_KEEPS_ASKING = frozenset((b"asking", b"multi"))


@attrs.define
class Traffic:
    """What the bus has carried, in bytes, and how many links it gave up for a full buffer."""

    sent: int = 0
    received: int = 0
    pubsub_sent: int = 0
    pubsub_received: int = 0
    over_limit: int = 0


@attrs.define(eq=False)
class Routing:
    """The topology of one node of a cluster; `view` belongs to its core.

    The member sets the following. ask: gives a request to the core and has its effects carried out.
    end_turn: saves what the core has promised. migrations: slots that move as a whole.
    """

    view: View
    config: Config
    traffic: Traffic = attrs.field(factory=Traffic)
    mine: bytearray = attrs.field(factory=lambda: bytearray(SLOTS))
    ask: Callable[[Request], object] = attrs.field(init=False)
    end_turn: Callable[[], None] = attrs.field(default=lambda: None)
    migrations: "Migrations" = attrs.field(init=False)
    _seen: tuple[object, ...] = ()

    clustered = True
    slot_of = staticmethod(key_slot)

    @property
    def follows(self) -> bool:
        return self.view.myself.is_replica

    @property
    def node_id(self) -> str:
        return self.view.myself.id

    @property
    def is_needed(self) -> bool:
        """Whether this is a primary with slots."""
        return self.view.myself.is_voter

    def knows(self, node_id: str) -> bool:
        return node_id in self.view.nodes

    def publish(self, channel: bytes, message: bytes, sharded: bool) -> None:
        """Tell the other nodes, or those of this shard, of a published message."""
        self.ask(PublishAll(channel, message, sharded))

    def imports(self) -> list[SlotImport]:
        return self.migrations.imports()

    def take_imports(self, imports: list[SlotImport]) -> None:
        for move in imports:
            self.migrations.track(move.name.decode("latin-1"), move.ranges)

    def refresh(self) -> bool:
        """Bring `mine` up to date with the view, in place; whether the view had changed."""
        view = self.view
        seen = (view.version, tuple(view.migrating), tuple(view.importing))
        if seen == self._seen:
            return False
        self._seen = seen
        mine = bytearray(SLOTS)
        if view.ok and view.myself.is_primary:
            for first, last in ranges(view.myself.slots):
                mine[first : last + 1] = b"\1" * (last + 1 - first)
            for slot in (*view.migrating, *view.importing):
                mine[slot] = 0
        self.mine[:] = mine
        return True

    def route(self, session: Session, row: Row, args: Sequence[bytes]) -> ReplyError | None:
        """Why this command must not run here; None if it may."""
        asking = session.asking
        if asking:
            _end_asking(session, row)
        keys = keys_of(session, row, args)
        if not keys:
            return None
        slot = key_slot(keys[0])
        for key in keys:
            if key_slot(key) != slot:
                return CROSS_SLOT
        if self.mine[slot]:
            return None
        return self._decide(session, row, args, slot, keys, asking)

    def _decide(
        self,
        session: Session,
        row: Row,
        args: Sequence[bytes],
        slot: int,
        keys: list[bytes],
        asking: bool,
    ) -> ReplyError | None:
        """`route`, for a slot that isn't simply this node's."""
        view = self.view
        owner = view.owner[slot]
        if owner is None:
            return NOT_SERVED
        writes, channel = bool(flags_of(session, row, args) & WRITE), _is_of_channels(session, row)
        if not view.ok and (refusal := self._why_down(writes, channel)) is not None:
            return refusal
        target = view.migrating.get(slot) if owner is view.myself else None
        importing = slot in view.importing
        if target is not None or importing:
            if row.name == b"migrate":
                return None
            missing = 0 if channel or _queues(session, row) else _missing(session.db, slot, keys)
            if target is not None and missing:
                return (
                    TRY_AGAIN
                    if missing < len(keys)
                    else self.redirect(session, b"ASK", slot, target)
                )
            if importing and (asking or row.flags & ASKING):
                return TRY_AGAIN if missing and len(set(keys)) > 1 else None
        if owner is view.myself:
            return None
        if owner is view.myself.primary and (session.reads_replica or channel) and not writes:
            return None
        return self.redirect(session, b"MOVED", slot, owner)

    def _why_down(self, writes: bool, channel: bool) -> ReplyError | None:
        """What a cluster that is down still serves is for the operator to say."""
        if channel:
            return None if self.config.cluster_allow_pubsubshard_when_down else DOWN
        if not self.config.cluster_allow_reads_when_down:
            return DOWN
        return DOWN_FOR_WRITES if writes else None

    def redirect(self, session: Session, word: bytes, slot: int, node: Peer) -> ReplyError:
        """MOVED or ASK, naming a node by the address that this client is to use."""
        endpoint = (self.endpoint(session, node) or "").encode()
        return ReplyError(b"%b %d %b:%d" % (word, slot, endpoint, node.client_port))

    def endpoint(self, session: Session, node: Peer) -> str | None:
        """The host by which a client is told of a node; None: it knows it better."""
        preferred = self.config.cluster_preferred_endpoint_type
        if preferred == "hostname":
            return node.hostname or "?"
        return node.ip_for(uses_ipv6(session)) if preferred == "ip" else None

    def is_foreign(self, channel: bytes) -> bool:
        """Whether a shard channel belongs to another shard than this node's."""
        return self.view.owner[key_slot(channel)] is not self.view.serving

    def redirect_waiting(self, session: Session) -> ReplyError | None:
        """Where a client belongs that waits for keys whose slot isn't served here any more."""
        view, places = self.view, session.waiting.keys if session.waiting is not None else ()
        if not places:
            return None
        slot = key_slot(places[0][1])
        owner = view.owner[slot]
        if not view.ok and not self.config.cluster_allow_reads_when_down:
            return DOWN
        if owner is view.myself or slot in view.importing:
            return None
        if owner is not None and owner is view.myself.primary and session.reads_replica:
            return None
        return self.redirect(session, b"MOVED", slot, owner) if owner is not None else NOT_SERVED


def uses_ipv6(session: Session) -> bool:
    """Whether a client came by IPv6."""
    return session.local_address.startswith(b"[")


def _end_asking(session: Session, row: Row) -> None:
    """ASKING counts for one command, or for one whole transaction."""
    ends_here = session.transaction is None or row.name in (b"exec", b"discard")
    if ends_here and row.name not in _KEEPS_ASKING:
        session.asking = False
        session.gate = session_gate(session)


def _queues(session: Session, row: Row) -> bool:
    """Whether MULTI keeps this command for EXEC, which looks at all keys together."""
    return session.transaction is not None and row.name != b"exec"


def _is_of_channels(session: Session, row: Row) -> bool:
    """Whether shard channels are what it is about, or part of what a transaction is about."""
    if row.name == b"exec" and session.transaction is not None:
        return any(queued.name in _SHARD_CHANNELS for queued, _ in session.transaction.commands)
    return row.name in _SHARD_CHANNELS


def _missing(db: Database, slot: int, keys: list[bytes]) -> int:
    """How many of these keys of one slot aren't here; nothing is expired by looking."""
    here, now_ms = db.keys_of_part(slot), db.keyspace.now_ms
    return sum(
        key not in here or ((at_ms := db.expires_at(key)) is not None and at_ms <= now_ms)
        for key in keys
    )
