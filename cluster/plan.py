"""A cluster as all its nodes tell it, and what to move where in it. Nothing here does anything.

A plan is a list of steps. `after` says how a cluster looks when a step has been done, so that plans
can follow on one another, and be tested without a node.
"""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import attrs

from cluster.slots import EVERY_SLOT, SLOTS, members, ranges, slot_set, to_text

Address = tuple[str, int]


class PlanError(ValueError):
    """What was asked for can't be planned; says why, in words for an operator."""


@attrs.frozen
class Member:
    """One node, as it tells of itself.

    slots: the set that it says it serves. keys: how many keys it has of slots that it doesn't
    serve, or that are on the move. opinion: whom it holds for the owner of what, by node id.
    atomic: whether it can move slots as a whole. A node that can't be asked is not reachable,
    and its slots are those that the others say it has.
    """

    id: str
    address: Address
    primary_id: str | None = None
    slots: int = 0
    migrating: Mapping[int, str] = attrs.field(factory=dict)
    importing: Mapping[int, str] = attrs.field(factory=dict)
    keys: Mapping[int, int] = attrs.field(factory=dict)
    key_count: int = 0
    epoch: int = 0
    opinion: Mapping[str, int] = attrs.field(factory=dict)
    atomic: bool = False
    reachable: bool = True

    @property
    def is_primary(self) -> bool:
        return self.primary_id is None

    @property
    def name(self) -> str:
        """How an operator knows it."""
        return f"{self.address[0]}:{self.address[1]}"


@attrs.frozen(slots=False)
class Census:
    """All the nodes of a cluster at about one moment, in order of their addresses.

    on_the_way: the slots that nodes are moving as a whole just now.
    """

    nodes: Sequence[Member]
    on_the_way: int = 0

    @cached_property
    def by_id(self) -> dict[str, Member]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def primaries(self) -> list[Member]:
        """Those that can be asked."""
        return [node for node in self.nodes if node.is_primary and node.reachable]

    @cached_property
    def claimed(self) -> int:
        """The slots that somebody reachable serves."""
        return union(node.slots for node in self.primaries)

    @cached_property
    def contested(self) -> int:
        """The slots that several say they serve."""
        seen = twice = 0
        for node in self.primaries:
            twice |= seen & node.slots
            seen |= node.slots
        return twice

    @cached_property
    def open_slots(self) -> int:
        """The slots whose move has begun by SETSLOT and not ended."""
        return slot_set(slot for p in self.primaries for slot in (*p.migrating, *p.importing))

    def replicas_of(self, node: Member) -> list[Member]:
        return [other for other in self.nodes if other.primary_id == node.id]

    def find(self, word: str) -> Member:
        """The node of this id or its beginning, or of this HOST:PORT. Raises PlanError."""
        named = [node for node in self.nodes if word in (node.id, node.name)]
        found = named or [node for node in self.nodes if word and node.id.startswith(word)]
        if len(found) != 1:
            raise PlanError(f"{'several nodes are' if found else 'no node is'} called {word}")
        return found[0]

    def find_primary(self, word: str) -> Member:
        """As `find`, for a primary that can be asked."""
        node = self.find(word)
        if not node.is_primary:
            raise PlanError(f"{node.name} is a replica")
        if not node.reachable:
            raise PlanError(f"{node.name} can't be reached")
        return node


# --- steps ----------------------------------------------------------------------------------------


@attrs.frozen
class Move:
    """Slots go to another node, with their keys."""

    slots: int
    source: Member
    target: Member

    def __str__(self) -> str:
        return f"move {told(self.slots)} from {self.source.name} to {self.target.name}"


@attrs.frozen
class Claim:
    """A node serves slots that nobody serves."""

    slots: int
    node: Member

    def __str__(self) -> str:
        return f"let {self.node.name} serve {told(self.slots)}"


@attrs.frozen
class Disown:
    """A node serves slots no more that it says it serves, in favour of another."""

    slots: int
    node: Member
    owner: Member

    def __str__(self) -> str:
        return f"let {self.node.name} leave {told(self.slots)} to {self.owner.name}"


@attrs.frozen
class Gather:
    """The keys that a node has of a slot go to who serves it."""

    slot: int
    holder: Member
    owner: Member

    def __str__(self) -> str:
        count = self.holder.keys.get(self.slot, 0)
        what = f"{count} key{'s' * (count != 1)} of slot {self.slot}"
        return f"bring {what} from {self.holder.name} to {self.owner.name}"


@attrs.frozen
class Settle:
    """A node forgets that slots were on the move."""

    slots: int
    node: Member

    def __str__(self) -> str:
        return f"end the move of {told(self.slots)} at {self.node.name}"


@attrs.frozen
class Prevail:
    """A node takes a new epoch, so that all believe what it says of its slots."""

    node: Member

    def __str__(self) -> str:
        return f"let all believe {self.node.name} about its slots"


Step = Move | Claim | Disown | Gather | Settle | Prevail


def told(slots: int) -> str:
    """A set of slots in words, not too many of them."""
    count = slots.bit_count()
    words = to_text(slots).split()
    text = " ".join(words if len(words) <= 6 else [*words[:5], "..."])
    return f"slot {text}" if count == 1 else f"{count} slots ({text})"


def after(census: Census, step: Step) -> Census:
    """How the cluster looks when a step is done and all have heard of it."""
    match step:
        case Move(slots, source, target):
            kept = dict.fromkeys(members(slots))
            changed = {
                source.id: _without(census.by_id[source.id], kept, less=slots),
                target.id: _without(census.by_id[target.id], kept, more=slots),
            }
        case Claim(slots, node):
            changed = {node.id: _without(census.by_id[node.id], members(slots), more=slots)}
        case Disown(slots, node, owner):
            loser = census.by_id[node.id]
            marks = {**loser.importing, **dict.fromkeys(members(slots), owner.id)}
            kept_slots = loser.slots & ~slots
            changed = {loser.id: attrs.evolve(loser, slots=kept_slots, importing=marks)}
        case Gather(slot, holder, _):
            changed = {holder.id: _without(census.by_id[holder.id], [slot])}
        case Settle(slots, node):
            settled = _without(census.by_id[node.id], members(slots))
            changed = {node.id: attrs.evolve(settled, keys=census.by_id[node.id].keys)}
        case Prevail():
            changed = {}
    nodes = [changed.get(node.id, node) for node in census.nodes]
    return _agreed(attrs.evolve(census, nodes=nodes))


def after_all(census: Census, steps: Iterable[Step]) -> Census:
    for step in steps:
        census = after(census, step)
    return census


def _without(node: Member, slots: Iterable[int], more: int = 0, less: int = 0) -> Member:
    """A node without marks and stray keys of slots, and with other slots."""
    gone = set(slots)
    return attrs.evolve(
        node,
        slots=(node.slots | more) & ~less,
        migrating={slot: id for slot, id in node.migrating.items() if slot not in gone},
        importing={slot: id for slot, id in node.importing.items() if slot not in gone},
        keys={slot: count for slot, count in node.keys.items() if slot not in gone},
    )


def _agreed(census: Census) -> Census:
    opinion = {node.id: node.slots for node in census.nodes if node.slots}
    return attrs.evolve(
        census,
        nodes=[
            attrs.evolve(node, opinion=opinion) if node.reachable else node for node in census.nodes
        ],
    )


# --- what to move where ---------------------------------------------------------------------------


def union(sets: Iterable[int]) -> int:
    """All the slots that are in any of the sets."""
    result = 0
    for slots in sets:
        result |= slots
    return result


def take(slots: int, count: int) -> int:
    """The lowest `count` slots of a set, or all of it."""
    taken = 0
    for first, last in ranges(slots):
        size = min(last - first + 1, count)
        taken |= ((1 << size) - 1) << first
        count -= size
        if not count:
            break
    return taken


def shares(total: int, weights: Sequence[float]) -> list[int]:
    """`total` shared out by weight, to whole numbers that sum up to it; the first get what is over.

    Raises PlanError when all weights are 0.
    """
    whole = sum(weights)
    if whole <= 0:
        raise PlanError("no node has any weight")
    exact = [total * weight / whole for weight in weights]
    result = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: result[i] - exact[i])
    for i in by_remainder[: total - sum(result)]:
        result[i] += 1
    return result


def spread(slots: int, over: Sequence[Member]) -> dict[str, int]:
    """Slots shared out so that the nodes come to serve as evenly many as can be: by node id."""
    if not over:
        raise PlanError("there is no node to serve them")
    heap = [(node.slots.bit_count(), i) for i, node in enumerate(over)]
    heapq.heapify(heap)
    counts = [0] * len(over)
    for _ in range(slots.bit_count()):
        size, i = heap[0]
        counts[i] += 1
        heapq.heapreplace(heap, (size + 1, i))
    result = {}
    for node, count in zip(over, counts, strict=True):
        if count:
            result[node.id] = take(slots, count)
            slots &= ~result[node.id]
    return result


def reshard(count: int, sources: Sequence[Member], target: Member) -> list[Move]:
    """Moves of `count` slots to one node, from each source in proportion to what it has.

    Raises PlanError when they haven't as many.
    """
    sources = [source for source in sources if source.slots and source.id != target.id]
    held = [source.slots.bit_count() for source in sources]
    if count < 0 or count > sum(held):
        raise PlanError(f"{count} slots were asked for; the sources have {sum(held)}")
    if not count:
        return []
    return [
        Move(take(source.slots, part), source, target)
        for source, part in zip(sources, shares(count, held), strict=True)
        if part
    ]


def gather_slots(slots: int, census: Census, target: Member) -> list[Move]:
    """Moves of just these slots to one node, from whoever has them; those it has stay."""
    return [
        Move(slots & node.slots, node, target)
        for node in census.primaries
        if slots & node.slots and node.id != target.id
    ]


def rebalance(
    census: Census,
    weights: Mapping[str, float] | None = None,
    use_empty: bool = False,
    threshold: float = 2.0,
) -> list[Move]:
    """Moves after which every primary has its share by weight (1 unless told by node id).

    Primaries without slots take part if `use_empty`, or if a weight names them. Nothing moves
    while no node is further than `threshold` percent from its share. Raises PlanError.
    """
    weights = weights or {}
    if any(weight < 0 for weight in weights.values()):
        raise PlanError("a weight is 0 or more")
    taking_part = [
        node for node in census.primaries if node.slots or use_empty or node.id in weights
    ]
    total = union(node.slots for node in taking_part).bit_count()
    wanted = shares(total, [weights.get(node.id, 1.0) for node in taking_part])
    surplus = [
        node.slots.bit_count() - share for node, share in zip(taking_part, wanted, strict=True)
    ]
    if not any(
        abs(more) > share * threshold / 100
        for more, share in zip(surplus, wanted, strict=True)
        if abs(more) > 1 or not share
    ):
        return []
    return _even_out(taking_part, surplus)


def _even_out(nodes: Sequence[Member], surplus: Sequence[int]) -> list[Move]:
    """Moves from who has too many to who has too few, the greatest first."""
    order = sorted(range(len(nodes)), key=lambda i: surplus[i])
    takers = [[i, -surplus[i]] for i in order if surplus[i] < 0]
    moves = []
    for i in reversed(order):
        left, slots = surplus[i], nodes[i].slots
        while left > 0:
            taker = takers[0]
            part = take(slots, min(left, taker[1]))
            moves.append(Move(part, nodes[i], nodes[taker[0]]))
            slots &= ~part
            left -= part.bit_count()
            taker[1] -= part.bit_count()
            if not taker[1]:
                takers.pop(0)
    return moves


def empty(node: Member, census: Census) -> list[Move]:
    """Moves after which a node serves nothing, and the others as evenly many as can be."""
    others = [other for other in census.primaries if other.id != node.id]
    with_slots = [other for other in others if other.slots] or others
    if not node.slots:
        return []
    return [
        Move(part, node, census.by_id[id]) for id, part in spread(node.slots, with_slots).items()
    ]


def fewest_replicas(census: Census, but: str = "") -> Member:
    """The primary with slots that needs a replica most. Raises PlanError if there is none."""
    candidates = [node for node in census.primaries if node.slots and node.id != but]
    if not candidates:
        raise PlanError("there is no primary with slots")
    return min(candidates, key=lambda node: (len(census.replicas_of(node)), node.address))


def arrange(addresses: Sequence[Address], replicas: int) -> list[Address]:
    """The nodes of a new cluster: the primaries, then their replicas, round by round.

    The replica at place i follows primary i % primaries. Primaries are spread over the hosts, and
    a replica is on another host than its primary where there is one. Raises PlanError.
    """
    if len(set(addresses)) != len(addresses):
        raise PlanError("a node was named twice")
    count = len(addresses) // (1 + replicas) if replicas >= 0 else 0
    if count < 1 or count * (1 + replicas) != len(addresses):
        raise PlanError(
            f"{len(addresses)} nodes are no number of primaries with {replicas} replicas each"
        )
    if count > SLOTS:
        raise PlanError(f"there can't be more than {SLOTS} primaries")
    rest = _by_turns(addresses)
    primaries, rest = rest[:count], rest[count:]
    rest = rest[1:] + rest[:1]  # with as many nodes on each host, none now meets its own
    for i, address in enumerate(rest):
        if address[0] == primaries[i % count][0]:
            for j, other in enumerate(rest):
                swapped_well = other[0] != primaries[i % count][0]
                if swapped_well and address[0] != primaries[j % count][0]:
                    rest[i], rest[j] = other, address
                    break
    return primaries + rest


def _by_turns(addresses: Sequence[Address]) -> list[Address]:
    """The first of each host, then the second ..."""
    seen: dict[str, int] = {}
    turns = []
    for address in addresses:
        turns.append(seen.get(address[0], 0))
        seen[address[0]] = turns[-1] + 1
    return [addresses[i] for i in sorted(range(len(addresses)), key=lambda i: turns[i])]


def uncovered(census: Census) -> int:
    """The slots that nobody reachable serves."""
    return EVERY_SLOT & ~census.claimed
