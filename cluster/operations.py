"""Carry out what `cluster.plan` has planned, on the nodes of any server.

Each step may have been begun before, by a tool that was killed: it is then carried on. Slots move
as a whole where both ends can, https://valkey.io/topics/atomic-slot-migration/; elsewhere one by
one and key by key.
"""

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs
import trio

from cluster.bykey import RETRY_PAUSE, Mover, Settings
from cluster.census import Access, Export, exports
from cluster.client import SETBACKS, Argument, Reply, ReplyError
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
    take,
    told,
)
from cluster.processes import OperatorError
from cluster.slots import members, ranges

POLL = 0.02
ATTEMPTS = 3
MOVERS = 8  # at a time: a node makes what they want of it durable together


class StepFailed(OperatorError):
    """A node refused a step, or went away; says which and why."""


class Interrupted(OperatorError):
    """The operator wanted no more; what was begun has been ended."""


class Watcher(Protocol):
    """Who is told how it goes."""

    def begin(self, step: Step) -> None: ...

    def moved(self, slots: int, text: str) -> None:
        """So many slots more have moved."""


@attrs.define(eq=False)
class Operations:
    """The doing of one plan. `stopping` tells whether to stop once what has begun is done."""

    access: Access
    census: Census
    watcher: Watcher
    settings: Settings = attrs.field(factory=Settings)
    stopping: Callable[[], bool] = lambda: False
    conflicts: list[str] = attrs.field(factory=list)

    async def carry_out(self, steps: Sequence[Step]) -> None:
        """Do the steps in order. Raises StepFailed and Interrupted.

        `conflicts` then tells of keys that stayed because their owner has others of the same name.
        """
        for step in steps:
            self._check_going_on()
            self.watcher.begin(step)
            try:
                await self._do(step)
            except SETBACKS as error:
                reason = str(error) or "no answer in time"
                raise StepFailed(f"could not {step}: {reason}") from error

    def _check_going_on(self) -> None:
        if self.stopping():
            raise Interrupted("stopped")

    async def _do(self, step: Step) -> None:
        match step:
            case Move():
                await self._move(step)
            case Claim(slots, node):
                await self._claim(slots, node)
            case Disown(slots, node, owner):
                await self._disown(slots, node, owner)
            case Gather(slot, holder, owner):
                await self._gather(slot, holder, owner)
            case Settle(slots, node):
                await self._call_each(node, ((slot, "STABLE") for slot in members(slots)))
            case Prevail(node):
                await self.access.call(node, "CLUSTER", "BUMPEPOCH")

    async def _call_each(self, node: Member, words: Iterable[Sequence[Argument]]) -> None:
        """CLUSTER SETSLOT with each of these."""
        replies = await self.access.pipeline(node, [("CLUSTER", "SETSLOT", *w) for w in words])
        _raise_for(replies)

    # --- who serves what --------------------------------------------------------------------------

    async def _claim(self, slots: int, node: Member) -> None:
        """The node may believe that another serves them, or that they are on the move."""
        each = list(members(slots))
        await self._call_each(node, ((slot, "STABLE") for slot in each))
        await self.access.pipeline(node, [("CLUSTER", "DELSLOTS", slot) for slot in each])
        edges = [edge for pair in ranges(slots) for edge in pair]
        await self.access.call(node, "CLUSTER", "ADDSLOTSRANGE", *edges)
        await self.access.call(node, "CLUSTER", "BUMPEPOCH")

    async def _disown(self, slots: int, node: Member, owner: Member) -> None:
        """Importing, it deletes nothing when it hears of the owner, and can give its keys away."""
        for slot in members(slots):
            _, importing = await self.access.pipeline(
                node,
                [
                    ("CLUSTER", "DELSLOTS", slot),  # refused if it has just heard of the owner
                    ("CLUSTER", "SETSLOT", slot, "IMPORTING", owner.id),
                ],
            )
            _raise_for([importing])

    async def _gather(self, slot: int, holder: Member, owner: Member) -> None:
        await self._call_each(holder, [(slot, "IMPORTING", owner.id)])
        mover = Mover(self.access, self.settings, self.conflicts)
        await mover.send_keys(slot, holder, owner, overwrite=self.settings.replace)
        await self._call_each(holder, [(slot, "STABLE")])

    # --- moves ------------------------------------------------------------------------------------

    async def _move(self, move: Move) -> None:
        whole = self.settings.atomic and move.source.atomic and move.target.atomic
        marks = {*move.source.migrating, *move.target.importing}
        begun = sum(1 << slot for slot in members(move.slots) if slot in marks)
        by_key = begun if whole else move.slots
        rest = move.slots & ~by_key
        await self._move_by_key(by_key, move.source, move.target)
        while rest:
            self._check_going_on()
            part = take(rest, self.settings.batch)
            await self._move_whole(part, move.source, move.target)
            self.watcher.moved(part.bit_count(), told(part))
            rest &= ~part

    async def _move_by_key(self, slots: int, source: Member, target: Member) -> None:
        """Several movers share the slots; after a failure they end only what they have begun."""
        others = [one for one in self.census.primaries if one.id not in (source.id, target.id)]
        waiting = deque(members(slots))
        failures: list[Exception] = []

        async def work() -> None:
            async with self.access.another() as access:
                mover = Mover(access, self.settings, self.conflicts, others)
                while waiting and not failures and not self.stopping():
                    slot = waiting.popleft()
                    try:
                        await mover.move(slot, source, target)
                    except SETBACKS as error:
                        failures.append(error)
                    else:
                        self.watcher.moved(1, str(slot))

        async with trio.open_nursery() as nursery:
            for _ in range(min(MOVERS, len(waiting))):
                nursery.start_soon(work)
        if failures:
            raise failures[0]
        if waiting:
            self._check_going_on()

    async def _move_whole(self, slots: int, source: Member, target: Member) -> None:
        edges = [edge for pair in ranges(slots) for edge in pair]
        request: tuple[Argument, ...]
        request = ("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", *edges, "NODE", target.id)
        for attempt in range(ATTEMPTS):
            known = {job.name for job in await exports(self.access, source)}
            await self.access.call(source, *request)
            job = await self._outcome(source, known)
            if job.state == "success":
                return
            if attempt + 1 < ATTEMPTS:
                await trio.sleep(RETRY_PAUSE)
        raise ReplyError(f"{job.state}: {job.message}")

    async def _outcome(self, source: Member, known: set[str]) -> Export:
        """The move that has just begun, once it has ended."""
        while True:
            jobs = [job for job in await exports(self.access, source) if job.name not in known]
            if jobs and not jobs[0].is_under_way:
                return jobs[0]
            await trio.sleep(POLL)


def _raise_for(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply
