"""Carry out what `cluster.plan` has planned, on the nodes of any server.

Each step may have been begun before, by a tool that was killed: it is then carried on. Slots move
as a whole where both ends can, https://valkey.io/topics/atomic-slot-migration/; elsewhere one by
one and key by key, by SETSLOT and MIGRATE, https://valkey.io/commands/cluster-setslot/.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Protocol

import attrs
import trio

from cluster.admin import parse_info
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
UP_AGAIN = 15.0  # seconds until all have heard that every slot is served again
BY_KEY_BATCH = 16  # slots
RETRY_PAUSE = 0.5


class StepFailed(OperatorError):
    """A node refused a step, or went away; says which and why."""


class Interrupted(OperatorError):
    """The operator wanted no more; what was begun has been ended."""


@attrs.frozen
class Settings:
    """How slots move. timeout_ms: for one MIGRATE. pipeline: keys in one MIGRATE. replace: keys
    that the target has already are overwritten. batch: slots that move as a whole at a time."""

    timeout_ms: int = 60000
    pipeline: int = 100
    replace: bool = False
    atomic: bool = True
    batch: int = 512


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
        await self._send_keys(slot, holder, owner, overwrite=self.settings.replace)
        await self._call_each(holder, [(slot, "STABLE")])

    # --- moves ------------------------------------------------------------------------------------

    async def _move(self, move: Move) -> None:
        whole = self.settings.atomic and move.source.atomic and move.target.atomic
        marks = {*move.source.migrating, *move.target.importing}
        begun = sum(1 << slot for slot in members(move.slots) if slot in marks)
        by_key = begun if whole else move.slots
        rest = move.slots & ~by_key
        while by_key:
            self._check_going_on()
            part = take(by_key, BY_KEY_BATCH)
            await self._move_by_key(list(members(part)), move.source, move.target)
            self.watcher.moved(part.bit_count(), told(part))
            by_key &= ~part
        while rest:
            self._check_going_on()
            part = take(rest, self.settings.batch)
            await self._move_whole(part, move.source, move.target)
            self.watcher.moved(part.bit_count(), told(part))
            rest &= ~part

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

    async def _move_by_key(self, slots: Sequence[int], source: Member, target: Member) -> None:
        """The target imports before the source sends clients there; and owns before the source
        gives up, so that at each moment somebody serves a slot.

        Several slots at a time, since a node makes each change durable, but all of a turn at once.
        """
        await self._call_each(target, [(slot, "IMPORTING", source.id) for slot in slots])
        await self._call_each(source, [(slot, "MIGRATING", target.id) for slot in slots])
        for slot in slots:
            # What the source has of a key is what clients see: a copy at the target is older.
            await self._send_keys(slot, source, target, overwrite=True)
        given = [(slot, "NODE", target.id) for slot in slots]
        await self._call_each(target, given)
        await self._call_each(source, given)
        async with trio.open_nursery() as nursery:
            for other in self.census.primaries:
                if other.id not in (source.id, target.id):
                    nursery.start_soon(self._hint, other, given)

    async def _hint(self, node: Member, given: Sequence[tuple[Argument, ...]]) -> None:
        """Tell one who hears of it by gossip, too."""
        with suppress(*SETBACKS):
            await self._call_each(node, given)

    # --- keys -------------------------------------------------------------------------------------

    async def _send_keys(self, slot: int, source: Member, target: Member, overwrite: bool) -> None:
        databases = await self._databases(source)
        for database in databases:
            if databases != [0]:
                await self.access.call(source, "SELECT", database)
            await self._send_keys_of(database, slot, source, target, overwrite)
        if databases not in ([], [0]):
            await self.access.call(source, "SELECT", 0)

    async def _databases(self, node: Member) -> list[int]:
        """Those that have keys."""
        keyspace = parse_info(await self.access.call(node, "INFO", "keyspace"))
        return [int(name[2:]) for name in keyspace if name.startswith("db")]

    async def _send_keys_of(
        self, database: int, slot: int, source: Member, target: Member, overwrite: bool
    ) -> None:
        kept: set[bytes] = set()
        while True:
            count = self.settings.pipeline + len(kept)
            found = await self.access.call(source, "CLUSTER", "GETKEYSINSLOT", slot, count)
            keys = [key for key in found if key not in kept]
            if not keys:
                return
            try:
                await self._migrate(keys, database, source, target, overwrite)
            except ReplyError as error:
                if "BUSYKEY" not in str(error):
                    raise
                kept |= await self._send_one_by_one(keys, database, source, target)

    async def _send_one_by_one(
        self, keys: Sequence[bytes], database: int, source: Member, target: Member
    ) -> set[bytes]:
        """The keys that stay where they are, since the target has others of their names."""
        kept = set()
        for key in keys:
            try:
                await self._migrate([key], database, source, target, False)
            except ReplyError as error:
                if "BUSYKEY" not in str(error):
                    raise
                if await self._is_same(key, database, source, target):
                    await self._migrate([key], database, source, target, True)
                    continue
                kept.add(key)
                text = key.decode(errors="backslashreplace")
                self.conflicts.append(f"{text} is at {source.name} and, other, at {target.name}")
        return kept

    async def _is_same(self, key: bytes, database: int, source: Member, target: Member) -> bool:
        """Whether both have the same value, dumped to the same bytes."""
        dumps = []
        for node in (source, target):
            asked = [("SELECT", database)] if database else []
            commands = [*asked, ("ASKING",), ("DUMP", key)]
            dumps.append((await self.access.pipeline(node, commands))[-1])
        if database:
            await self.access.call(target, "SELECT", 0)
        return isinstance(dumps[0], bytes) and dumps[0] == dumps[1]

    async def _migrate(
        self,
        keys: Sequence[bytes],
        database: int,
        source: Member,
        target: Member,
        overwrite: bool,
    ) -> None:
        host, port = target.address
        replace = ["REPLACE"] if overwrite else []
        words: list[Argument] = [host, port, "", database, self.settings.timeout_ms, *replace]
        command: list[Argument] = ["MIGRATE", *words, *self.access.migrate_auth(), "KEYS", *keys]
        give_up_at = trio.current_time() + UP_AGAIN
        while True:
            connection = await self.access.connection(source.address)
            try:
                with trio.fail_after(self.settings.timeout_ms / 1000 + self.access.timeout):
                    await connection.call(*command)
                return
            except ReplyError as error:
                if "CLUSTERDOWN" not in str(error) or trio.current_time() > give_up_at:
                    raise
            await trio.sleep(RETRY_PAUSE)


def _raise_for(replies: Sequence[Reply]) -> None:
    for reply in replies:
        if isinstance(reply, ReplyError):
            raise reply
