"""Operators of the simulated cluster: one moves slots about, one puts right what is half-done.

The first does it as redis-cli does, key by key, or as a whole, and gives up as soon as anything
goes wrong; so it leaves every kind of half-done move behind. Like every such tool it doesn't begin
another move of a slot of which one is open, for the other side of that has keys of it: it goes on
with that one, as long as its target is there.
"""

from collections.abc import Callable

import attrs

from cluster.simulation.clients import Client, Steps, refusal_in
from cluster.simulation.network import Address
from cluster.simulation.writers import Ledger

KEYS_AT_ONCE = 5
MOST_ROUNDS = 60
PATIENCE_MS = 1000  # of each command
WIDEST_RANGE = 3000


@attrs.frozen
class Owner:
    """A primary: where it is, and the ranges of its slots."""

    id: bytes
    address: Address
    ranges: tuple[tuple[int, int], ...] = ()

    def has(self, slot: int) -> bool:
        return any(first <= slot <= last for first, last in self.ranges)


@attrs.define(eq=False)
class Operator(Client):
    """What both need. done: by kind, what has been done."""

    done: dict[str, int] = attrs.field(factory=dict)

    def _tell(self, owner: Owner, *words: bytes) -> Steps:
        """The answer to one command; None if it was refused or there was none."""
        replies = yield owner.address, [list(words)]
        return None if replies is None or refusal_in(replies) else replies[0]

    def _set_slot(self, owner: Owner, slot: int, *words: bytes) -> Steps:
        request = [b"CLUSTER", b"SETSLOT", b"%d" % slot, *words, b"TIMEOUT", b"%d" % PATIENCE_MS]
        return (yield from self._tell(owner, *request))

    def _carry(self, slot: int, source: Owner, target: Owner) -> Steps:
        """Send all keys of a slot, some at a time; False if that could not be done."""
        host, port = target.address
        order = [b"MIGRATE", host.encode(), b"%d" % port, b"", b"0", b"%d" % PATIENCE_MS]
        for _ in range(MOST_ROUNDS):
            wanted = (b"CLUSTER", b"GETKEYSINSLOT", b"%d" % slot, b"%d" % KEYS_AT_ONCE)
            keys = yield from self._tell(source, *wanted)
            if not keys:
                return keys is not None
            if (yield from self._tell(source, *order, b"REPLACE", b"KEYS", *keys)) is None:
                return False
            self._count("keys", len(keys))
        return False

    def _count(self, what: str, many: int = 1) -> None:
        self.done[what] = self.done.get(what, 0) + many


@attrs.define(eq=False)
class Resharder(Operator):
    """Moves slots, those rather that clients write to. whole: how likely as a whole, all at once.
    busy_ms: how long it rests at most between two moves."""

    ledger: Ledger = attrs.field(kw_only=True)
    whole: float = attrs.field(kw_only=True)
    busy_ms: int = attrs.field(kw_only=True)
    _open: dict[int, bytes] = attrs.field(factory=dict)  # slots that are half-moved, and where to

    def _live(self) -> Steps:
        while True:
            yield self.rng.randint(1, self.busy_ms)
            owners = yield from self._owners()
            if len(owners) < 2:
                continue
            source, target = self.rng.sample(owners, 2)
            if self.rng.random() < self.whole:
                yield from self._move_range(source, target)
            else:
                yield from self._move_slot(source, target, owners)

    def _owners(self) -> Steps:
        """All primaries with slots, as any node sees them."""
        node = self.nodes[self.rng.randrange(len(self.nodes))]
        replies = yield node, [[b"CLUSTER", b"SLOTS"]]
        if replies is None or refusal_in(replies):
            return []
        ranges: dict[tuple[bytes, Address], list[tuple[int, int]]] = {}
        for first, last, (host, port, node_id, *_), *_ in replies[0]:
            ranges.setdefault((node_id, (host.decode(), port)), []).append((first, last))
        return [Owner(*who, tuple(found)) for who, found in ranges.items()]

    def _move_slot(self, source: Owner, target: Owner, owners: list[Owner]) -> Steps:
        slot = self._slot_of(source)
        target_id = self._open.setdefault(slot, target.id)
        if target_id not in [owner.id for owner in owners if owner is not source]:
            return None
        (target,) = [owner for owner in owners if owner.id == target_id]
        if (yield from self._set_slot(target, slot, b"IMPORTING", source.id)) is None:
            return None
        if (yield from self._set_slot(source, slot, b"MIGRATING", target.id)) is None:
            return None
        if not (yield from self._carry(slot, source, target)):
            return None
        for owner in (target, source):
            if (yield from self._set_slot(owner, slot, b"NODE", target.id)) is None:
                return None
        del self._open[slot]
        self._count("slots")
        return None

    def _slot_of(self, source: Owner) -> int:
        """One of its slots, with keys if there is any."""
        keys = self.ledger.keys
        for _ in range(20):
            slot = self.ledger.writes[self.rng.choice(keys)].slot if keys else -1
            if source.has(slot):
                return slot
        return source.ranges[0][0]

    def _move_range(self, source: Owner, target: Owner) -> Steps:
        first, last = self.rng.choice(source.ranges)
        first = self.rng.randint(first, last)
        last = min(last, first + self.rng.randint(0, WIDEST_RANGE))
        spec = (b"SLOTSRANGE", b"%d" % first, b"%d" % last, b"NODE", target.id)
        if (yield from self._tell(source, b"CLUSTER", b"MIGRATESLOTS", *spec)) is not None:
            self._count("ranges")
        return None


@attrs.frozen
class Trouble:
    """A slot that is half-way between its owner and another primary that has keys of it, or has
    said that it would give or take it."""

    slot: int
    owner: Owner
    other: Owner


@attrs.define(eq=False)
class Mender(Operator):
    """Lets each slot's owner have all of its keys, and ends every move. find: the next trouble."""

    find: Callable[[], Trouble | None] = attrs.field(kw_only=True)

    def _live(self) -> Steps:
        while (trouble := self.find()) is not None:
            yield from self._mend(trouble)
            yield 50
        return None

    def _mend(self, trouble: Trouble) -> Steps:
        slot, owner, other = trouble.slot, trouble.owner, trouble.other
        yield from self._set_slot(owner, slot, b"STABLE")
        if other.id != owner.id:
            yield from self._set_slot(other, slot, b"IMPORTING", owner.id)
            if not (yield from self._carry(slot, other, owner)):
                return None
            yield from self._set_slot(other, slot, b"STABLE")
        self._count("mended")
        return None
