"""Writers that tell what a cluster promised: unique values to every shard, each with its time.

Every shard has a plain writer, whose rhythm shows when the shard can't be written, and a writer
that asks with WAIT whether a replica has its value. Afterwards every acknowledged value is read
back. The clock is trio's, in seconds.
"""

from collections.abc import Iterator
from itertools import count, pairwise

import attrs
import trio

from cluster.client import Address, Argument, ClusterClient, Unavailable
from cluster.slots import key_slot

WAIT_MS = 50
READ_BATCH = 500


@attrs.frozen
class Load:
    """How hard to write: each kind of writer's pause after a write, and the limit of an attempt."""

    plain_pause_ms: float = 4
    confirmed_pause_ms: float = 8
    attempt_timeout_ms: float = 250


@attrs.frozen
class Ack:
    """A write that was acknowledged, and whether a replica had it by then."""

    time: float
    key: str
    confirmed: bool


@attrs.define(eq=False)
class Workload:
    """The writers of one cluster and what they were told; shards are their ranges of slots."""

    seeds: list[Address]
    shards: list[tuple[int, int]]
    load: Load
    acks: list[list[Ack]] = attrs.field(init=False)
    client: ClusterClient = attrs.field(init=False)
    unserved: int = 0

    def __attrs_post_init__(self) -> None:
        self.acks = [[] for _ in self.shards]
        self.client = ClusterClient(self.seeds, timeout=self.load.attempt_timeout_ms / 1000)

    async def write(self) -> None:
        """Write until cancelled."""
        try:
            async with trio.open_nursery() as nursery:
                for shard, slots in enumerate(self.shards):
                    plain, confirmed = tags(slots, 2)
                    nursery.start_soon(self._write_plain, shard, plain)
                    nursery.start_soon(self._write_confirmed, shard, confirmed)
        finally:
            self.client.close()

    async def _write_plain(self, shard: int, tag: str) -> None:
        for key in keys(tag):
            await self._write(shard, key, [("SET", key, key)])
            await trio.sleep(self.load.plain_pause_ms / 1000)

    async def _write_confirmed(self, shard: int, tag: str) -> None:
        for key in keys(tag):
            await self._write(shard, key, [("SET", key, key), ("WAIT", 1, WAIT_MS)])
            await trio.sleep(self.load.confirmed_pause_ms / 1000)

    async def _write(self, shard: int, key: str, commands: list[tuple[Argument, ...]]) -> None:
        try:
            replies = await self.client.pipeline(key, commands)
        except Unavailable:
            self.unserved += 1
            return
        if replies[0] == b"OK":
            confirmed = isinstance(replies[-1], int) and replies[-1] >= 1
            self.acks[shard].append(Ack(trio.current_time(), key, confirmed))

    def longest_gap(self, shard: int, start: float, end: float) -> float | None:
        """The longest time without an acknowledged write to a shard, of the gaps that touch the
        time from `start` to `end`; None when no write was acknowledged afterwards."""
        times = sorted(ack.time for ack in self.acks[shard])
        if not times or times[-1] < start:
            return None
        gaps = [
            (after - before) for before, after in pairwise(times) if after > start and before < end
        ]
        return max(gaps, default=None)

    async def lost(self) -> list[Ack]:
        """The acknowledged writes that a read doesn't find. Raises Unavailable."""
        missing = []
        async with ClusterClient(self.seeds) as reader:
            for acks in self.acks:
                by_slot: dict[int, list[Ack]] = {}
                for ack in acks:
                    by_slot.setdefault(key_slot(ack.key.encode()), []).append(ack)
                for group in by_slot.values():
                    missing += await _missing(reader, group)
        return missing


async def _missing(reader: ClusterClient, acks: list[Ack]) -> list[Ack]:
    """Those of one slot's writes whose value isn't there."""
    missing = []
    for i in range(0, len(acks), READ_BATCH):
        batch = acks[i : i + READ_BATCH]
        values = await reader.pipeline(batch[0].key, [("GET", ack.key) for ack in batch])
        missing += [
            ack for ack, value in zip(batch, values, strict=True) if value != ack.key.encode()
        ]
    return missing


def tags(slots: tuple[int, int], count_: int) -> list[str]:
    """Hash tags whose slots lie within (first, last)."""
    first, last = slots
    within = (f"t{i}" for i in count() if first <= key_slot(b"t%d" % i) <= last)
    return [next(within) for _ in range(count_)]


def keys(tag: str) -> Iterator[str]:
    """Endless keys of one slot, no two alike."""
    return (f"{{{tag}}}:{i}" for i in count())
