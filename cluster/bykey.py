"""One slot at a time, key by key, on the nodes of any server: by SETSLOT and MIGRATE, whose order
is that of https://valkey.io/commands/cluster-setslot/.
"""

from collections.abc import Sequence
from contextlib import suppress

import attrs
import trio

from cluster.admin import parse_info
from cluster.census import Access
from cluster.client import SETBACKS, Argument, ReplyError
from cluster.plan import Member

UP_AGAIN = 15.0  # seconds until all have heard that every slot is served again
RETRY_PAUSE = 0.5


@attrs.frozen
class Settings:
    """How slots move. timeout_ms: for one MIGRATE. pipeline: keys in one MIGRATE. replace: keys
    that the target has already are overwritten. batch: slots that move as a whole at a time."""

    timeout_ms: int = 60000
    pipeline: int = 100
    replace: bool = False
    atomic: bool = True
    batch: int = 512


@attrs.define(eq=False)
class Mover:
    """Moves slots, with connections of its own.

    `conflicts` tells of keys that stayed because the target has others of the same name. `others`
    hear of each slot's new owner.
    """

    access: Access
    settings: Settings
    conflicts: list[str]
    others: Sequence[Member] = ()

    async def move(self, slot: int, source: Member, target: Member) -> None:
        """The target imports before the source sends clients there; and owns before the source
        gives up, so that at each moment somebody serves the slot."""
        await self._set_slot(target, slot, "IMPORTING", source.id)
        await self._set_slot(source, slot, "MIGRATING", target.id)
        # What the source has of a key is what clients see: a copy at the target is older.
        await self.send_keys(slot, source, target, overwrite=True)
        await self._set_slot(target, slot, "NODE", target.id)
        await self._let_go(source, slot, target)
        async with trio.open_nursery() as nursery:
            for other in self.others:
                nursery.start_soon(self._hint, other, slot, target)

    async def _set_slot(self, node: Member, slot: int, *words: str) -> None:
        await self.access.call(node, "CLUSTER", "SETSLOT", slot, *words)

    async def _let_go(self, source: Member, slot: int, target: Member) -> None:
        try:
            await self._set_slot(source, slot, "NODE", target.id)
        except ReplyError as error:
            # It has heard of it already, and as that was its last slot it is a replica now.
            if "only with masters" not in str(error):
                raise

    async def _hint(self, node: Member, slot: int, target: Member) -> None:
        """Tell one who hears of it by gossip, too."""
        with suppress(*SETBACKS):
            await self._set_slot(node, slot, "NODE", target.id)

    # --- keys -------------------------------------------------------------------------------------

    async def send_keys(self, slot: int, source: Member, target: Member, overwrite: bool) -> None:
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
