"""maxmemory: how much the data take, and which keys go when that is too much.

What the process takes says little of what deleting a key gives back. So while there is a limit,
every change of a key is followed: its size is estimated anew, and the sum of all sizes is added to
what the process took beside its data when the limit was set. Without a limit nobody looks.

Keys to evict are the best of a few chosen at random, as in Redis: by time of access, by frequency
(counted logarithmically and halved over time, 8 bits), by deadline, or any.

https://redis.io/docs/latest/develop/reference/eviction/
"""

from itertools import chain
from typing import TYPE_CHECKING

import attrs

from node.data.keyspace import EVICTED, Database
from node.data.memory import size_of

if TYPE_CHECKING:
    from node.node import Node

PER_KEY = 104  # bytes of the table of keys: an entry, its hash, and room to grow
FREQUENCY_OF_NEW = 5
_MOST = 255
_SLICE_MS = 5  # for so long commands wait while keys go; then the tick goes on with it
_MINUTE_MS = 60_000


@attrs.define(eq=False)
class Eviction:
    """is_full: the last look found more than maxmemory, and nothing that may go. is_over: there has
    come to be more than that, and whatever comes next has to wait until keys have gone.

    evicted: keys that went so far.
    """

    node: "Node"
    is_full: bool = False
    is_over: bool = False
    evicted: int = 0
    _follows: bool = False
    _base: int = 0
    _total: int = 0
    _sizes: list[dict[bytes, int]] = attrs.field(factory=list)
    _counts: list[dict[bytes, tuple[int, int]]] = attrs.field(factory=list)  # and the minute

    def __attrs_post_init__(self) -> None:
        databases = self.node.keyspace.databases
        self._sizes = [{} for _ in databases]
        self._counts = [{} for _ in databases]
        for name in ("maxmemory", "maxmemory-policy"):
            self.node.config.on_change(name, lambda _: self.configure())

    # --- what a node is told to do ---------------------------------------------------------------

    def is_on(self) -> bool:
        """Whether there is a limit that this node keeps."""
        config = self.node.config
        return config.maxmemory > 0 and not (
            self.node.is_replica() and config.replica_ignore_maxmemory
        )

    def configure(self) -> None:
        """Look after what the directives ask for now; the first time once the node is whole."""
        keyspace, policy = self.node.keyspace, self.node.config.maxmemory_policy
        keyspace.on_access = self._count if policy.endswith("lfu") else None
        if policy.endswith(("lru", "lfu")):
            keyspace.watch_accesses()
        limited = self.node.config.maxmemory > 0
        if limited and not self._follows:
            keyspace.listen(self._changed)
            self._measure()
            self._base = max(self.node.host.memory() - self._total, 0)
        elif self._follows and not limited:
            keyspace.ignore(self._changed)
            self.is_full = self.is_over = False
        self._follows = limited
        self.node.refresh_gate()

    # --- how much there is -----------------------------------------------------------------------

    def used(self) -> int:
        """Bytes in use: of the process, or while there is a limit what counts against it."""
        if not self._follows:
            return self.node.host.memory()
        if sum(map(len, self._sizes)) != sum(db.size for db in self.node.keyspace.databases):
            self._measure()  # a data set was loaded, dropped or exchanged
        return self._base + self._total

    def _measure(self) -> None:
        self._total = 0
        for db, sizes in zip(self.node.keyspace.databases, self._sizes, strict=True):
            sizes.clear()
            for key in chain.from_iterable(db.parts):
                sizes[key] = self._size(db, key)
            self._total += sum(sizes.values())

    def _changed(self, db: Database, key: bytes, event: bytes, kind: int) -> None:
        sizes = self._sizes[db.index]
        before = sizes.pop(key, 0)
        after = self._size(db, key)
        self._total += after - before
        if after > before and not self.is_over:
            self.is_over = self._base + self._total > self.node.config.maxmemory
            if self.is_over:
                self.node.refresh_gate()
        if after:
            sizes[key] = after
        else:
            self._counts[db.index].pop(key, None)

    @staticmethod
    def _size(db: Database, key: bytes) -> int:
        value = db.glance(key)
        return 0 if value is None else size_of(key) + size_of(value) + PER_KEY

    # --- making room -----------------------------------------------------------------------------

    def make_room(self) -> bool:
        """Let keys go until the rest is within the limit; whether more may be written."""
        if not self.is_on() or self.node.pause.is_on():
            self.is_full = False
            return True
        clock = self.node.clock
        until_ms = clock.monotonic_ms() + _SLICE_MS
        while self.used() > self.node.config.maxmemory:
            found = self._choose()
            if found is None:
                self.is_full = True
                return False
            self._evict(*found)
            if clock.monotonic_ms() > until_ms:
                break
        self.is_full = False
        if self.is_over:
            self.is_over = False
            self.node.refresh_gate()
        return True

    def _evict(self, db: Database, key: bytes) -> None:
        node = self.node
        db.drop(key)
        self.evicted += 1
        if node.log.active:
            lazy = node.config.lazyfree_lazy_eviction
            node.log.append_one(db.index, [b"UNLINK" if lazy else b"DEL", key])
        if node.keyspace.on_change is not None:
            node.keyspace.on_change(db, key, b"evicted", EVICTED)

    def _choose(self) -> tuple[Database, bytes] | None:
        """The next to go; None where the policy lets nothing go."""
        keys, _, measure = self.node.config.maxmemory_policy.partition("-")
        if not measure:
            return None
        databases = [db for db in self.node.keyspace.databases if len(db)]
        if keys == "volatile":
            databases = [db for db in databases if db.expires]
        if not databases:
            return None
        if measure == "random":
            db = self.node.random.choice(databases)
            return db, self._some(db, keys, 1)[0]
        count = self.node.config.maxmemory_samples
        candidates = [(db, key) for db in databases for key in self._some(db, keys, count)]
        return max(candidates, key=lambda place: self._worth_evicting(measure, *place))

    def _some(self, db: Database, keys: str, count: int) -> list[bytes]:
        if keys == "volatile":
            return db.expires.sample(self.node.random, count)
        found = (db.random_key() for _ in range(count))
        return [key for key in found if key is not None]

    def _worth_evicting(self, measure: str, db: Database, key: bytes) -> int:
        if measure == "ttl":
            return -db.expires[key]
        return db.idle_ms(key) if measure == "lru" else _MOST - self.frequency(db, key)

    # --- how often keys are accessed -------------------------------------------------------------

    def counts(self) -> bool:
        """Whether frequencies are counted."""
        return self.node.keyspace.on_access is not None

    def frequency(self, db: Database, key: bytes) -> int:
        """How often the key was accessed lately, as OBJECT FREQ tells it: from 0 to 255."""
        count, minute = self._counts[db.index].get(key, (FREQUENCY_OF_NEW, self._minute()))
        period = self.node.config.lfu_decay_time
        return max(count - (self._minute() - minute) // period, 0) if period else count

    def set_frequency(self, db: Database, key: bytes, frequency: int) -> None:
        self._counts[db.index][key] = frequency, self._minute()

    def _minute(self) -> int:
        return self.node.keyspace.now_ms // _MINUTE_MS

    def _count(self, db: Database, key: bytes) -> None:
        """One more access: the more there were, the less likely it is to count."""
        frequency = self.frequency(db, key)
        above = max(frequency - FREQUENCY_OF_NEW, 0)
        chance = 1 / (above * self.node.config.lfu_log_factor + 1)
        if frequency < _MOST and self.node.random.random() < chance:
            frequency += 1
        self.set_frequency(db, key, frequency)
