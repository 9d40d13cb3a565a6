"""A node's data as of one offset of one history: as an RDB, and back.

Full syncs and files are this one act; who runs it (a forked child, or the node itself where the
data are few) and where the bytes go is others' business.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from node.config.file import REDIS_VERSION
from node.data.hash import Hash
from node.data.keyspace import PARTS, Database, Keyspace, hash_part
from node.persistence.rdb import VALKEY_VERSION, VERSION, RdbError, Reader, Record, write
from node.replies import ReplyError

if TYPE_CHECKING:
    from node.node import Node

_MASK = PARTS - 1
_CONTENTS = [name for name in Database.__slots__ if name not in ("index", "keyspace")]

Aux = Mapping[bytes, bytes | int]
FrequencyOf = Callable[[Database, bytes], int]


# --- data to bytes --------------------------------------------------------------------------------


def take(
    node: "Node", version: int, *, data: bool = True, aof_base: bool = False
) -> Iterator[bytes]:
    """The RDB of a node's data as they are now, in pieces, written as its configuration asks.

    version, data: as for `encode`. aof_base: it begins an append-only file. What the first piece
    needs to know of the node is read at once; the data must stay as they are until the last.
    """
    config, clock = node.config, node.clock
    delay_s = seconds_per_key(config.rdb_key_save_delay)
    return encode(
        node.keyspace,
        facts(node, aof_base),
        version,
        data=data,
        compress=config.rdbcompression,
        checksum=config.rdbchecksum,
        functions=node.scripting.libraries.sources(),
        imports=node.topology.imports() if data else (),
        idle=config.maxmemory_policy.endswith("lru"),
        frequency=node.eviction.frequency if node.eviction.counts() else None,
        on_key=(lambda: clock.sleep(delay_s)) if delay_s else None,
    )


def facts(node: "Node", aof_base: bool = False) -> Aux:
    """What a file tells beside the data.

    Where this node has told others its history, and nothing is to be loaded after the file, the
    place in it: `repl-offset` bytes of the history `repl-id`, the last of them in database
    `repl-stream-db`.
    """
    offset = node.log.flush()
    found: dict[bytes, bytes | int] = {
        b"redis-ver": REDIS_VERSION.encode(),
        b"redis-bits": 64,
        b"ctime": node.keyspace.now_ms // 1000,
        b"used-mem": node.host.memory(),
    }
    if node.log.keeps_backlog and not aof_base:
        found[b"repl-stream-db"] = node.role.stream_db()
        found[b"repl-id"] = node.role.history.id.encode()
        found[b"repl-offset"] = offset
    found[b"aof-base"] = int(aof_base)
    return found


def version_for(node: "Node") -> int:
    """The version of RDB that has a form for all there is; the older one where that is enough."""
    keyspace = node.keyspace
    if node.topology.imports():
        return VALKEY_VERSION
    for db in keyspace.databases:
        for key in db.field_expires:
            value = db.parts[keyspace.part_of(key)].get(key)
            if type(value) is Hash and value.expires is not None:
                return VALKEY_VERSION
    return VERSION


def encode(
    keyspace: Keyspace,
    aux: Aux,
    version: int,
    *,
    data: bool = True,
    idle: bool = False,
    frequency: FrequencyOf | None = None,
    on_key: Callable[[], None] | None = None,
    **options: Any,
) -> Iterator[bytes]:
    """The RDB in pieces; FieldDeadlines where `version` has no form for some value.

    data: without it the keys are left out, as a replica may ask. idle: tell for how long each was
    not accessed, as far as that is known. frequency: tells how often one was. on_key: called for
    each of them.
    options: those of node.persistence.rdb.write.
    """
    found = records(keyspace, idle, frequency) if data else iter(())
    return write(
        found if on_key is None else _telling(found, on_key),
        version=version,
        aux=aux,
        sizes=sizes(keyspace) if data else None,
        **options,
    )


def records(
    keyspace: Keyspace, idle: bool = False, frequency: FrequencyOf | None = None
) -> Iterator[Record]:
    """Every key of every database. The keyspace must not change meanwhile."""
    tells_idle = idle and keyspace.watched_since_ms is not None
    for db in keyspace.databases:
        if not db.size:
            continue
        index = db.index
        deadline = db.expires.get
        for part in filter(None, db.parts):
            for key, value in part.items():
                idle_s = db.idle_ms(key) // 1000 if tells_idle else None
                freq = None if frequency is None else frequency(db, key)
                yield index, key, value, deadline(key), idle_s, freq


def _telling(found: Iterator[Record], on_key: Callable[[], None]) -> Iterator[Record]:
    for record in found:
        on_key()
        yield record


def sizes(keyspace: Keyspace) -> dict[int, tuple[int, int]]:
    """Per database that has any: the numbers of keys and of deadlines."""
    return {db.index: (db.size, len(db.expires)) for db in keyspace.databases if db.size}


def seconds_per_key(delay: int) -> float:
    """What rdb-key-save-delay and key-load-delay mean: microseconds, or below zero a fraction of
    one."""
    return (delay if delay >= 0 else -1 / delay) / 1_000_000


# --- bytes to data --------------------------------------------------------------------------------


@attrs.define(eq=False)
class Loader:
    """Puts an RDB into a keyspace, as its bytes come in.

    The keyspace should be empty. checksum: whether to check it.
    drops_before_ms: keys whose time had come by then are left out; None keeps them all, as a
    replica does, which waits for its primary's word.
    set_frequency: told how often a key was accessed, where the RDB says so.
    relaxed: versions that are not known are read, too. keeps: there may be data, which stay;
    merges: what is loaded goes in the place of namesakes.
    keys: how many have been put; expired: those left out, with the numbers of their databases.
    """

    keyspace: Keyspace
    checksum: bool = True
    drops_before_ms: int | None = None
    set_frequency: Callable[[Database, bytes, int], None] | None = None
    relaxed: bool = False
    keeps: bool = False
    merges: bool = False
    reader: Reader = attrs.field(init=False)
    keys: int = 0
    expired: list[tuple[int, bytes]] = attrs.field(factory=list)

    @classmethod
    def of(cls, node: "Node", keyspace: Keyspace | None = None, **options: Any) -> "Loader":
        """One for a node's data, as its configuration asks; keyspace: another than the node's."""
        eviction = node.eviction
        return cls(
            node.keyspace if keyspace is None else keyspace,
            node.config.rdbchecksum and not node.skips_checksums,
            set_frequency=eviction.set_frequency if eviction.counts() else None,
            relaxed=node.config.rdb_version_check == "relaxed",
            **options,
        )

    def __attrs_post_init__(self) -> None:
        self.reader = Reader(self.keyspace.limits, checksum=self.checksum, relaxed=self.relaxed)

    def receive(self, data: bytes) -> None:
        """Take the next bytes; raises RdbError."""
        self._put(self.reader.feed(data))

    def finish(self) -> bytes:
        """The input is over: returns what followed the RDB; RdbError if it ended too early."""
        self._put(self.reader.finish())
        return self.reader.rest

    def salvage(self) -> None:
        """After an RdbError of the reader's: put also what was whole before the error."""
        whole, self.reader.before_error = self.reader.before_error, []
        self._put(whole)

    def _put(self, loaded: Iterable[Record]) -> None:
        """A million keys pass here, so the common ones are put without further calls."""
        keyspace = self.keyspace
        part_of = keyspace.part_of
        is_hashed = part_of is hash_part
        drops_before_ms = self.drops_before_ms
        current = None
        is_plain = keyspace.on_new is None and keyspace.watched_since_ms is None
        for db, key, value, deadline, idle_s, frequency in loaded:
            if db != current:
                current, database = db, self._database(db)
                parts = database.parts
            part = parts[hash(key) & _MASK if is_hashed else part_of(key)]
            if key in part:
                if not self.merges:
                    raise RdbError(f"key {key[:64]!r} is there twice", self.reader.offset)
                database.drop(key)
            if deadline is not None:
                if drops_before_ms is not None and deadline < drops_before_ms:
                    self.expired.append((db, key))
                    continue
                database.expires.arm(key, deadline)
            self.keys += 1
            if part and is_plain and type(value) is not Hash and idle_s is None:
                part[key] = value
                database.size += 1
                continue
            if type(value) is Hash and drops_before_ms and value.is_over(drops_before_ms):
                database.expires.pop(key, None)
                self.expired.append((db, key))
                self.keys -= 1
                continue
            database.replace(key, value)
            if idle_s is not None:
                keyspace.watch_accesses()
                is_plain = False
                database.accesses[key] = keyspace.now_ms - 1000 * idle_s
            if frequency is not None and self.set_frequency is not None:
                self.set_frequency(database, key, frequency)

    def _database(self, number: int) -> Database:
        databases = self.keyspace.databases
        if number >= len(databases):
            reason = f"database {number} is beyond the {len(databases)} of this server"
            raise RdbError(reason, self.reader.offset)
        return databases[number]


def take_imports(node: "Node", loader: Loader) -> None:
    """Let a node that has its new data know which of them are not complete."""
    if loader.reader.imports:
        node.topology.take_imports(loader.reader.imports)


def take_functions(node: "Node", loader: Loader) -> None:
    """Let a node have the libraries of functions that came with the data, and others only if
    the loader keeps what there was; raises RdbError for one that is broken or there already."""
    libraries = node.scripting.libraries
    try:
        if not loader.keeps:
            libraries.replace_all(loader.reader.functions)
            return
        for source in loader.reader.functions:
            libraries.load(source, loader.merges)
    except ReplyError as error:
        reason = f"a library of functions can't be loaded: {error.text.decode(errors='replace')}"
        raise RdbError(reason, loader.reader.offset) from None


def put_in_place(keyspace: Keyspace, loaded: Keyspace) -> None:
    """Let a keyspace hold what another one does, and nothing else."""
    for db, other in zip(keyspace.databases, loaded.databases, strict=True):
        for listener in keyspace.on_reset:
            listener(db, other)
        for attribute in _CONTENTS:
            setattr(db, attribute, getattr(other, attribute))
    keyspace.dirty += 1
