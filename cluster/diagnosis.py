"""What is wrong with a cluster, and how to mend it. Nothing here does anything.

Who is believed about a slot: who serves it. Nobody does: whoever has most of its keys, else who has
fewest slots. Several do: whoever has most of its keys, then the greatest epoch. A move that both
ends know of, and nobody else, is carried on; any other is given up, and the keys go to the owner.
"""

from collections import defaultdict
from collections.abc import Iterator

import attrs

from cluster.plan import (
    Census,
    Claim,
    Disown,
    Gather,
    Member,
    Move,
    Prevail,
    Settle,
    Step,
    after_all,
    spread,
    told,
    uncovered,
    union,
)
from cluster.slots import members, slot_set

UNREACHABLE = "unreachable"
LOST = "lost"
UNCOVERED = "uncovered"
CONTESTED = "contested"
OPEN = "open"
STRAY = "stray"
DISAGREED = "disagreed"
# With these a reshard can deal by itself: it ends what it, or another before it, has begun.
CARRIED_ON = {OPEN, STRAY, UNREACHABLE}


@attrs.frozen
class Finding:
    """One thing that is wrong, in words for an operator."""

    kind: str
    slots: int
    text: str


def findings(census: Census) -> list[Finding]:
    """All that is wrong with a cluster; nothing, if it is well."""
    return [
        *_unreachable(census),
        *_badly_served(census),
        *_open(census),
        *_strays(census),
        *_disagreed(census),
    ]


def _unreachable(census: Census) -> Iterator[Finding]:
    for node in census.nodes:
        if not node.reachable:
            role = "primary" if node.is_primary else "replica"
            text = f"{role} {node.name} ({node.id[:8]}) can't be reached"
            yield Finding(UNREACHABLE, 0, text)


def lost(census: Census) -> int:
    """The slots that only primaries serve that can't be reached."""
    gone = union(node.slots for node in census.nodes if node.is_primary and not node.reachable)
    return gone & uncovered(census)


def _badly_served(census: Census) -> Iterator[Finding]:
    gone = lost(census)
    if gone:
        yield Finding(LOST, gone, f"{told(gone)}: served by nobody who can be reached")
    orphaned = uncovered(census) & ~gone
    if orphaned:
        yield Finding(UNCOVERED, orphaned, f"{told(orphaned)}: served by nobody")
    for slots, owners in _by_claimants(census, census.contested).items():
        names = " and ".join(census.by_id[id].name for id in owners)
        yield Finding(CONTESTED, slot_set(slots), f"{told(slot_set(slots))}: served by {names}")


def _by_claimants(census: Census, slots: int) -> dict[tuple[int, ...], tuple[str, ...]]:
    """Who claims: groups of slots -> the ids of those who serve them."""
    groups: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for slot in members(slots):
        groups[tuple(node.id for node in census.primaries if node.slots >> slot & 1)].append(slot)
    return {tuple(found): ids for ids, found in groups.items()}


def _open(census: Census) -> Iterator[Finding]:
    for node in census.primaries:
        for mark, marks in (("going to", node.migrating), ("coming from", node.importing)):
            groups: dict[str, list[int]] = defaultdict(list)
            for slot, other in marks.items():
                groups[other].append(slot)
            for other, slots in groups.items():
                name = census.by_id[other].name if other in census.by_id else other[:8]
                text = f"{told(slot_set(slots))}: {mark} {name}, says {node.name}"
                yield Finding(OPEN, slot_set(slots), text)


def _strays(census: Census) -> Iterator[Finding]:
    """Keys where no client looks for them, of slots that are neither open nor contested."""
    otherwise = census.open_slots | census.contested | uncovered(census)
    for node in census.primaries:
        slots = slot_set(slot for slot, count in node.keys.items() if count)
        slots &= ~node.slots & ~otherwise & ~census.on_the_way
        if slots:
            count = sum(node.keys[slot] for slot in members(slots))
            text = f"{told(slots)}: {count} key{'s' * (count != 1)} at {node.name}, who serves none"
            yield Finding(STRAY, slots, text)


def disagreed(census: Census) -> dict[str, int]:
    """The slots that somebody holds another for the owner of than who serves them: by who does."""
    moving = census.contested | census.on_the_way
    wrong: dict[str, int] = defaultdict(int)
    for node in census.nodes:
        if not node.reachable:
            continue
        for owner in census.primaries:
            differ = (owner.slots & ~node.opinion.get(owner.id, 0)) & ~moving
            if differ:
                wrong[owner.id] |= differ
    return wrong


def _disagreed(census: Census) -> Iterator[Finding]:
    for id, slots in disagreed(census).items():
        yield Finding(DISAGREED, slots, f"{told(slots)}: not all know {census.by_id[id].name}'s")


# --- how to mend it -------------------------------------------------------------------------------


def mends(census: Census, with_unreachable: bool = False) -> list[Step]:
    """The steps after which nothing is wrong that steps can mend.

    with_unreachable: also give the slots away of primaries that can't be reached; what they had is
    lost unless they come back.
    """
    steps: list[Step] = []
    orphaned = uncovered(census) & (-1 if with_unreachable else ~lost(census))
    for make in (
        lambda seen: _adopt(seen, orphaned),
        _end_contests,
        _bring_home,
        _end_moves,
        _convince,
    ):
        made = list(make(census))
        steps += made
        census = after_all(census, made)
    return steps


def _adopt(census: Census, orphaned: int) -> Iterator[Step]:
    """Slots without an owner go to who has their keys, else to who has few slots."""
    chosen: dict[str, int] = defaultdict(int)
    for slot in members(orphaned):
        best = max(census.primaries, key=lambda node: node.keys.get(slot, 0), default=None)
        if best is not None and best.keys.get(slot):
            chosen[best.id] |= 1 << slot
    rest = orphaned & ~union(chosen.values())
    if rest:
        takers = [node for node in census.primaries if node.slots] or census.primaries
        for id, slots in spread(rest, takers).items():
            chosen[id] |= slots
    for id, slots in chosen.items():
        yield Claim(slots, census.by_id[id])


def _end_contests(census: Census) -> Iterator[Step]:
    lots: dict[tuple[str, str], int] = defaultdict(int)
    for slot in members(census.contested):
        owners = [node for node in census.primaries if node.slots >> slot & 1]
        winner = max(owners, key=lambda node: (node.keys.get(slot, 0), node.epoch))
        for loser in owners:
            if loser is not winner:
                lots[loser.id, winner.id] |= 1 << slot
    for (loser_id, winner_id), slots in lots.items():
        yield Disown(slots, census.by_id[loser_id], census.by_id[winner_id])
    for winner_id in dict.fromkeys(id for _, id in lots):
        yield Prevail(census.by_id[winner_id])


def _owner(census: Census, slot: int) -> Member | None:
    return next((node for node in census.primaries if node.slots >> slot & 1), None)


def _carried_on(census: Census, slot: int) -> Move | None:
    """The move of a slot that is to be finished."""
    owner = _owner(census, slot)
    if owner is None or slot not in owner.migrating:
        return None
    target = census.by_id.get(owner.migrating[slot])
    importers = [node for node in census.primaries if slot in node.importing]
    return Move(1 << slot, owner, target) if target and importers == [target] else None


def _bring_home(census: Census) -> Iterator[Step]:
    """Keys that are where no client looks for them go to the owner."""
    for node in census.primaries:
        for slot, count in node.keys.items():
            owner = _owner(census, slot)
            if not count or owner is None or owner is node or census.on_the_way >> slot & 1:
                continue
            move = _carried_on(census, slot)
            if move is None or move.target is not node:
                yield Gather(slot, node, owner)


def _end_moves(census: Census) -> Iterator[Step]:
    """Moves that can be are carried on; the marks of others go."""
    carried: dict[tuple[str, str], int] = defaultdict(int)
    for slot in members(census.open_slots):
        if move := _carried_on(census, slot):
            carried[move.source.id, move.target.id] |= move.slots
    for node in census.primaries:
        own = union(slots for ends, slots in carried.items() if node.id in ends)
        slots = slot_set((*node.migrating, *node.importing)) & ~own
        if slots:
            yield Settle(slots, node)
    for (source, target), slots in carried.items():
        yield Move(slots, census.by_id[source], census.by_id[target])


def _convince(census: Census) -> Iterator[Step]:
    for id in disagreed(census):
        yield Prevail(census.by_id[id])
