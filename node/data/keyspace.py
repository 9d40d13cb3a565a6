"""The data of a node: databases of keys, split into 16384 parts each.

A part holds the keys of one hash slot where the node is in a cluster, and of one share of Python's
hash where it is not (that is cheaper). One mechanism serves SCAN's cursor, RANDOMKEY, counting,
listing, moving and dropping a slot; and no table ever gets large enough for its growth to be felt.

A string is bytes, or an int (what INCR left), or a bytearray (what APPEND left: cheap to change in
place). Every other value is an object of one of the classes in node.data.

Nothing here knows the time: `now_ms` is set by the node once per turn.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from random import Random
from typing import Any, TypeVar

import attrs

from node.data.expiry import Deadlines
from node.data.hash import Hash
from node.replies import WRONG_TYPE

PARTS = 16384
_MASK = PARTS - 1
_FEW = 1024  # keys that are found sooner by going through all parts than by trying some
_EMPTY: dict[bytes, Any] = {}  # stands for a part that has never had a key; never written to

# How keys whose time has come are treated.
EXPIRE = 0  # they are deleted when met
HIDE = 1  # a replica's: they look missing until the primary's DEL arrives
KEEP = 2  # while a primary's commands are applied or files loaded: they are there

# Classes of keyspace notifications (notify-keyspace-events).
GENERIC = 1 << 0
STRING = 1 << 1
LIST = 1 << 2
SET = 1 << 3
HASH = 1 << 4
ZSET = 1 << 5
EXPIRED = 1 << 6
EVICTED = 1 << 7
STREAM = 1 << 8
NEW = 1 << 10
MISS = 1 << 11
NO_EVENT = 0  # a change of which there is nothing to notify
# With a class: the key's value counts as unchanged for WATCH, caches and clients that wait for it.
UNWATCHED = 1 << 16

Value = Any
T = TypeVar("T")
ChangeListener = Callable[["Database", bytes, bytes, int], None]
KeyListener = Callable[["Database", bytes], None]


def hash_part(key: bytes) -> int:
    """The part of a key on a node that is in no cluster."""
    return hash(key) & _MASK


@attrs.define(eq=False)
class Keyspace:
    """All databases of a node, and what they share.

    now_ms: wall clock of this turn, milliseconds since the Unix epoch.
    dirty: changes made since start; save points and `finish` compare it.
    expiry: EXPIRE, HIDE or KEEP.
    on_change: called by `touch` for every change; None while nobody listens (see `listen`).
    expired, expired_fields: keys, and fields of hashes, deleted because their time had come.
    on_expired: called to delete a key whose time has come; without it the key is just dropped.
    part_of: key -> part. routed, routed_part: the key last asked for, the first one if there are
        several, and the part that they are all in, if whoever routed the command has worked that
        out already.
    hits, misses: lookups by commands that read.
    on_miss: called when such a command finds no key; None while nobody wants to know.
    on_access: called where accesses are watched, at each of them.
    on_new: called when a key comes into being, before `touch`; None while nobody wants to know.
    on_reset: called before a whole database is emptied or exchanged, with the one that takes its
    place, or None.
    watched_since_ms: since when accesses of keys are noted, None before; see `watch_accesses`.
    noting: whether they are just now; a client may ask not to count.
    hidden: parts whose keys are not to be seen yet; see `hide`.
    """

    databases: "list[Database]" = attrs.field(init=False)
    count: int = 16
    part_of: Callable[[bytes], int] = hash_part
    random: Random = attrs.field(factory=Random)
    now_ms: int = 0
    dirty: int = 0
    expiry: int = EXPIRE
    hits: int = 0
    misses: int = 0
    expired: int = 0
    expired_fields: int = 0
    on_change: ChangeListener | None = None
    on_expired: Callable[["Database", bytes], None] | None = None
    on_miss: KeyListener | None = None
    on_new: KeyListener | None = None
    on_access: KeyListener | None = None
    on_reset: "list[Callable[[Database, Database | None], None]]" = attrs.field(factory=list)
    watched_since_ms: int | None = None
    noting: bool = True
    limits: Any = None
    routed: bytes | None = None
    routed_part: int = 0
    hidden: frozenset[int] = frozenset()
    _postponed: "list[tuple[Database, bytes]]" = attrs.field(factory=list)
    _listeners: tuple[ChangeListener, ...] = ()

    def __attrs_post_init__(self) -> None:
        kind = HashedDatabase if self.part_of is hash_part else RoutedDatabase
        self.databases = [kind(self, index) for index in range(self.count)]

    def __getitem__(self, index: int) -> "Database":
        return self.databases[index]

    def listen(self, listener: ChangeListener) -> None:
        """Call `listener(db, key, event, kind)` at every change from here on, after those that
        listen already. A listener changes no data; while there is none a change costs nothing."""
        self._listeners = (*self._listeners, listener)
        self._arm()

    def ignore(self, listener: ChangeListener) -> None:
        """Call it no longer."""
        self._listeners = tuple(one for one in self._listeners if one != listener)
        self._arm()

    def _arm(self) -> None:
        listeners = self._listeners
        several = self._tell if listeners else None
        self.on_change = listeners[0] if len(listeners) == 1 else several

    def _tell(self, db: "Database", key: bytes, event: bytes, kind: int) -> None:
        for listener in self._listeners:
            listener(db, key, event, kind)

    def hide(self, parts: Iterable[int]) -> None:
        """From here on these parts, and no others, seem empty to whoever counts or lists keys, and
        nothing in them expires: they are on their way here."""
        self.hidden = frozenset(parts)
        postponed, self._postponed = self._postponed, []
        for db, key in postponed:
            for deadlines in (db.expires, db.field_expires):
                if key in deadlines:
                    deadlines.arm(key, deadlines[key])

    def flush(self) -> int:
        """Drop everything; the number of keys dropped."""
        return sum(db.flush() for db in self.databases)

    def swap(self, first: int, second: int) -> None:
        """Exchange two databases' contents; sessions keep the numbers they selected."""
        a, b = self.databases[first], self.databases[second]
        for listener in tuple(self.on_reset):
            listener(a, b)
            listener(b, a)
        a.parts, b.parts = b.parts, a.parts
        a.expires, b.expires = b.expires, a.expires
        a.field_expires, b.field_expires = b.field_expires, a.field_expires
        a.size, b.size = b.size, a.size
        a.accesses, b.accesses = b.accesses, a.accesses

    def watch_accesses(self) -> None:
        """Note from here on when each key was last accessed, for OBJECT IDLETIME and eviction.

        That takes half the time of a lookup again and memory for every key, so nodes don't do it
        until somebody wants to know.
        """
        if self.watched_since_ms is None:
            self.watched_since_ms = self.now_ms
            for db in self.databases:
                db.__class__ = WatchedDatabase


class Database:
    """One numbered database.

    parts: per part a dict key -> value. expires: deadlines. size: number of keys.
    field_expires: of hashes whose fields have deadlines, the earliest, or an earlier time.
    accesses: when a key was last accessed, in milliseconds; see `Keyspace.watch_accesses`.
    """

    __slots__ = ("accesses", "expires", "field_expires", "index", "keyspace", "parts", "size")

    def __init__(self, keyspace: Keyspace, index: int) -> None:
        self.keyspace = keyspace
        self.index = index
        self.parts: list[dict[bytes, Value]] = [_EMPTY] * PARTS
        self.expires = Deadlines()
        self.field_expires = Deadlines()
        self.accesses: dict[bytes, int] = {}
        self.size = 0

    # --- one key ---------------------------------------------------------------------------------

    def get(self, key: bytes) -> Value | None:
        """The value, or None. O(1)."""
        if key in self.expires and self.is_expired(key):
            return None
        keyspace = self.keyspace
        i = keyspace.routed_part if key is keyspace.routed else keyspace.part_of(key)
        return self.parts[i].get(key)

    def peek(self, key: bytes) -> Value | None:
        """As `get`, but no access: for commands that ask about a key. O(1)."""
        return Database.get(self, key)

    def glance(self, key: bytes) -> Value | None:
        """As `peek`, but a key whose time has come is left where it is. O(1)."""
        at_ms = self.expires.get(key)
        if at_ms is not None and at_ms <= self.keyspace.now_ms:
            return None
        return self.stored(key)

    def stored(self, key: bytes) -> Value | None:
        """What is kept at a key, even where its time has come. O(1)."""
        return self.parts[self.keyspace.part_of(key)].get(key)

    def read(self, key: bytes) -> Value | None:
        """As `get`, for a command that only reads: counts a hit or a miss."""
        value = self.get(key)
        if value is None:
            self.miss(key)
        else:
            self.keyspace.hits += 1
        return value

    def miss(self, key: bytes) -> None:
        """A command that only reads has found no key."""
        keyspace = self.keyspace
        keyspace.misses += 1
        if keyspace.on_miss is not None:
            keyspace.on_miss(self, key)

    def ask(self, key: bytes) -> bool:
        """Whether the key is there, for a command that only reads: no access, but a hit or miss."""
        if self.peek(key) is None:
            self.miss(key)
            return False
        self.keyspace.hits += 1
        return True

    def read_string(self, key: bytes) -> bytes | int | bytearray | None:
        """As `find_string`, for a command that only reads: counts a hit or a miss."""
        value = self.read(key)
        if value is None or type(value) in _STRINGS:
            return value
        raise WRONG_TYPE

    def find(self, key: bytes, kind: type[T]) -> T | None:
        """The value if it is of that class, None if there is none; raises WRONG_TYPE."""
        value = self.get(key)
        if value is None or type(value) is kind:
            return value
        raise WRONG_TYPE

    def look(self, key: bytes, kind: type[T]) -> T | None:
        """As `find`, for a command that only reads: counts a hit or a miss."""
        value = self.get(key)
        if value is None:
            self.miss(key)
            return None
        self.keyspace.hits += 1
        if type(value) is kind:
            return value
        raise WRONG_TYPE

    def make(self, key: bytes, kind: type[T]) -> T:
        """As `find`, but a missing value is made, empty. Parse all arguments first."""
        value = self.find(key, kind)
        if value is None:
            value = kind(self.keyspace.limits)  # type: ignore[call-arg]
            self.replace(key, value)
        return value

    def find_string(self, key: bytes) -> bytes | int | bytearray | None:
        """The string, None if there is none; raises WRONG_TYPE."""
        value = self.get(key)
        if value is None or type(value) in _STRINGS:
            return value
        raise WRONG_TYPE

    def put(self, key: bytes, value: Value) -> None:
        """Set a key, as SET does: whatever it was before, its deadline goes.

        One whose time has come goes first, as it would have before any other command.
        """
        if key in self.expires:
            self.is_expired(key)
            if key in self.expires:  # its time has not come, or this node may not say so
                del self.expires[key]
        self.replace(key, value)

    def put_all(self, keys: list[bytes], values: list[bytes]) -> None:
        """Set many keys to strings, as MSET does, and touch each."""
        keyspace = self.keyspace
        if self.expires or keyspace.on_change is not None:
            self._put_each(keys, values)
            return
        parts = self.parts
        for i, key, value in zip(self._parts_of(keys), keys, values, strict=True):
            part = parts[i]
            if key in part:
                part[key] = value
            else:
                self.put(key, value)
        keyspace.dirty += len(keys)

    def _put_each(self, keys: list[bytes], values: list[bytes]) -> None:
        for key, value in zip(keys, values, strict=True):
            self.put(key, value)
            self.touch(key, b"set", STRING)

    def _parts_of(self, keys: list[bytes]) -> Iterable[int]:
        return map(self.keyspace.part_of, keys)

    def overwrite(self, key: bytes, value: Value) -> None:
        """Give a key that is there another value; its deadline stays."""
        self.replace(key, value)

    def replace(self, key: bytes, value: Value) -> None:
        """Set a key and keep its deadline."""
        keyspace = self.keyspace
        i = keyspace.routed_part if key is keyspace.routed else keyspace.part_of(key)
        part = self.parts[i]
        if part is _EMPTY:
            part = self.parts[i] = {}
        before = len(part)
        part[key] = value
        if type(value) is Hash and value.expires is not None:
            self.arm_fields(key, value)
        if len(part) != before:
            self.size += 1
            if self.keyspace.on_new is not None:
                self.keyspace.on_new(self, key)

    def remove(self, key: bytes) -> Value | None:
        """Take a key out with its deadline; its value, or None where there was none."""
        if key in self.expires and self.is_expired(key):
            return None
        return self.drop(key)

    def drop(self, key: bytes) -> Value | None:
        """As `remove`, even where the key's time has come."""
        value = self.parts[self.keyspace.part_of(key)].pop(key, None)
        if value is not None:
            self.size -= 1
            self.expires.pop(key, None)
            if self.field_expires:
                self.field_expires.pop(key, None)
        return value

    def exists(self, key: bytes) -> bool:
        return self.peek(key) is not None

    def move(self, key: bytes, target: "Database", name: bytes) -> None:
        """Give a key that is there another name or database, where whatever is there goes."""
        value = self.parts[self.keyspace.part_of(key)][key]
        at_ms = self.expires.get(key)
        self.drop(key)
        target.drop(name)
        target.put(name, value)
        if at_ms is not None:
            target.expires.arm(name, at_ms)

    def idle_ms(self, key: bytes) -> int:
        """Milliseconds since the last access to a key, as far as it is known: at least so long,
        if it has not been accessed since `watch_accesses`."""
        since_ms = self.keyspace.watched_since_ms
        at_ms = self.accesses.get(key, since_ms)
        return max(0, self.keyspace.now_ms - at_ms) if at_ms is not None else 0

    # --- time ------------------------------------------------------------------------------------

    def is_expired(self, key: bytes) -> bool:
        """Whether the key counts as missing; deletes it where this node may."""
        keyspace = self.keyspace
        if self.expires[key] > keyspace.now_ms or keyspace.expiry == KEEP:
            return False
        if keyspace.hidden and self.is_hidden(key):
            return False
        if keyspace.expiry == EXPIRE:
            self.expire_now(key)
        return True

    def expire_now(self, key: bytes) -> None:
        """Delete a key because its time has come."""
        if self.keyspace.hidden and self.postpones(key):
            return
        self.keyspace.expired += 1
        if self.keyspace.on_expired is not None:
            self.keyspace.on_expired(self, key)
        else:
            self.drop(key)

    def is_hidden(self, key: bytes) -> bool:
        """Whether the key's part is hidden."""
        return self.keyspace.part_of(key) in self.keyspace.hidden

    def postpones(self, key: bytes) -> bool:
        """Whether what has come due of a key has to wait until its part is hidden no more."""
        if not self.is_hidden(key):
            return False
        self.keyspace._postponed.append((self, key))
        return True

    def arm_fields(self, key: bytes, value: Hash) -> None:
        """Have the hash at a key looked after: some of its fields have got deadlines."""
        at_ms = value.next_deadline()
        if at_ms is not None and at_ms < self.field_expires.get(key, at_ms + 1):
            self.field_expires.arm(key, at_ms)

    def expires_at(self, key: bytes) -> int | None:
        """The deadline in milliseconds since the Unix epoch, None for none."""
        return self.expires.get(key)

    # --- change ----------------------------------------------------------------------------------

    def touch(self, key: bytes, event: bytes, kind: int) -> None:
        """Say that the key has changed: what happened, and its class for notifications."""
        keyspace = self.keyspace
        keyspace.dirty += 1
        if keyspace.on_change is not None:
            keyspace.on_change(self, key, event, kind)

    def signal(self, key: bytes, event: bytes, kind: int) -> None:
        """As `touch`, where listeners are told but nothing has changed (LTRIM of nothing), or what
        has is counted already: a list that is deleted with its last element."""
        if self.keyspace.on_change is not None:
            self.keyspace.on_change(self, key, event, kind)

    def flush(self) -> int:
        """Drop every key; the number of keys dropped."""
        for listener in tuple(self.keyspace.on_reset):
            listener(self, None)
        dropped, self.size = self.size, 0
        self.parts = [_EMPTY] * PARTS
        self.expires = Deadlines()
        self.field_expires = Deadlines()
        self.accesses = {}
        return dropped

    # --- many keys -------------------------------------------------------------------------------

    def __len__(self) -> int:
        hidden = self.keyspace.hidden
        return self.size - sum(len(self.parts[part]) for part in hidden) if hidden else self.size

    def __iter__(self) -> Iterator[bytes]:
        """Every key, those whose time has come included; do not change anything meanwhile."""
        hidden = self.keyspace.hidden
        if not hidden:
            return itertools.chain.from_iterable(self.parts)
        shown = (part for number, part in enumerate(self.parts) if number not in hidden)
        return itertools.chain.from_iterable(shown)

    def keys_of_part(self, part: int) -> dict[bytes, Value]:
        """The keys of one part (in a cluster: of one slot) with their values; do not change it."""
        return _EMPTY if part in self.keyspace.hidden else self.parts[part]

    def drop_part(self, part: int) -> int:
        """Drop the keys of one part; how many there were."""
        keys = self.parts[part]
        if keys is not _EMPTY:
            for key in keys:
                self.expires.pop(key, None)
                self.field_expires.pop(key, None)
                self.accesses.pop(key, None)
            self.size -= len(keys)
            self.parts[part] = _EMPTY
        return len(keys)

    def scan(self, cursor: int, count: int) -> tuple[int, list[bytes]]:
        """Keys from `cursor` on, at least `count` unless the end comes first, and the next cursor.

        A cursor is the number of a part, 0 at the start and at the end. Parts are given whole, so
        a key that is there from the first call to the last is returned.
        """
        keys: list[bytes] = []
        if cursor >= PARTS:
            return 0, []
        while cursor < PARTS:
            keys.extend(self.keys_of_part(cursor))
            cursor += 1
            if len(keys) >= count:
                break
        return cursor & _MASK, keys

    def random_key(self) -> bytes | None:
        """Some key, all but equally likely; None in an empty database."""
        size = len(self)
        if not size:
            return None
        rng = self.keyspace.random
        if size < _FEW:
            return next(itertools.islice(self, rng.randrange(size), None))
        most = max(8, 4 * size // PARTS)
        for _ in range(64 * PARTS // min(size, PARTS)):
            part = self.keys_of_part(rng.randrange(PARTS))
            # Taking a part in proportion to its keys makes every key as likely as any other.
            if part and rng.randrange(most) < len(part):
                return next(itertools.islice(part, rng.randrange(len(part)), None))
        return next(iter(self))

    def check(self) -> None:
        """Every key is in its part, sizes and deadlines agree."""
        part_of = self.keyspace.part_of
        assert all(part_of(key) == i for i, part in enumerate(self.parts) for key in part)
        assert self.size == sum(map(len, self.parts))
        assert all(key in self.parts[part_of(key)] for key in self.expires)
        assert all(key in self.parts[part_of(key)] for key in self.accesses)
        assert not _EMPTY
        for key, value in itertools.chain.from_iterable(part.items() for part in self.parts):
            if type(value) is Hash and value.expires is not None:
                assert self.field_expires[key] <= value.next_deadline()  # type: ignore[operator]
        self.expires.check()
        self.field_expires.check()


class HashedDatabase(Database):
    """A database whose parts are those of `hash_part`, which the hottest methods work out in place:
    calling a function for it takes as long as all the rest of a lookup."""

    __slots__ = ()

    def get(self, key: bytes) -> Value | None:
        if key in self.expires and self.is_expired(key):
            return None
        return self.parts[hash(key) & _MASK].get(key)

    def find(self, key: bytes, kind: type[T]) -> T | None:
        value = self.parts[hash(key) & _MASK].get(key)
        if value is None or (key in self.expires and self.is_expired(key)):
            return None
        if type(value) is kind:
            return value
        raise WRONG_TYPE

    def make(self, key: bytes, kind: type[T]) -> T:
        value = self.parts[hash(key) & _MASK].get(key)
        if value is None or key in self.expires:
            return Database.make(self, key, kind)
        if type(value) is kind:
            return value
        raise WRONG_TYPE

    def _parts_of(self, keys: list[bytes]) -> Iterable[int]:
        return [hash(key) & _MASK for key in keys]

    def put(self, key: bytes, value: Value) -> None:
        part = self.parts[hash(key) & _MASK]
        if key in part and type(value) is bytes and key not in self.expires:
            part[key] = value
        else:
            Database.put(self, key, value)

    def overwrite(self, key: bytes, value: Value) -> None:
        self.parts[hash(key) & _MASK][key] = value


class RoutedDatabase(Database):
    """A database whose parts are a cluster's slots. Its hottest methods are for keys that whoever
    routed the command has worked out the slot of."""

    __slots__ = ()

    def get(self, key: bytes) -> Value | None:
        if key in self.expires and self.is_expired(key):
            return None
        keyspace = self.keyspace
        if key is keyspace.routed:
            return self.parts[keyspace.routed_part].get(key)
        return self.parts[keyspace.part_of(key)].get(key)

    def find(self, key: bytes, kind: type[T]) -> T | None:
        keyspace = self.keyspace
        if key is not keyspace.routed:
            return Database.find(self, key, kind)
        value = self.parts[keyspace.routed_part].get(key)
        if value is None or (key in self.expires and self.is_expired(key)):
            return None
        if type(value) is kind:
            return value
        raise WRONG_TYPE

    def make(self, key: bytes, kind: type[T]) -> T:
        keyspace = self.keyspace
        if key is keyspace.routed:
            value = self.parts[keyspace.routed_part].get(key)
            if type(value) is kind and key not in self.expires:
                return value
        return Database.make(self, key, kind)

    def _parts_of(self, keys: list[bytes]) -> Iterable[int]:
        keyspace = self.keyspace
        if keys[0] is keyspace.routed:
            return [keyspace.routed_part] * len(keys)
        return Database._parts_of(self, keys)

    def put(self, key: bytes, value: Value) -> None:
        keyspace = self.keyspace
        if key is keyspace.routed:
            part = self.parts[keyspace.routed_part]
            if key in part and type(value) is bytes and key not in self.expires:
                part[key] = value
                return
        Database.put(self, key, value)

    def overwrite(self, key: bytes, value: Value) -> None:
        keyspace = self.keyspace
        if key is keyspace.routed:
            self.parts[keyspace.routed_part][key] = value
        else:
            self.parts[keyspace.part_of(key)][key] = value


class WatchedDatabase(Database):
    """A database that notes when its keys are accessed; what `watch_accesses` makes of others.

    A class of its own, so that those who don't need this don't even pay for the question.
    """

    __slots__ = ()

    def get(self, key: bytes) -> Value | None:
        value = Database.get(self, key)
        if value is not None and self.keyspace.noting:
            self.accesses[key] = self.keyspace.now_ms
            if self.keyspace.on_access is not None:
                self.keyspace.on_access(self, key)
        return value

    def replace(self, key: bytes, value: Value) -> None:
        Database.replace(self, key, value)
        self.accesses[key] = self.keyspace.now_ms

    def put_all(self, keys: list[bytes], values: list[bytes]) -> None:
        self._put_each(keys, values)

    def drop(self, key: bytes) -> Value | None:
        self.accesses.pop(key, None)
        return Database.drop(self, key)


_STRINGS = frozenset((bytes, int, bytearray))
