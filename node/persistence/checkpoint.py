"""A node's data as of one offset of one history: as an RDB, and back.

Full syncs and files are this one act; who runs it (a forked child, or the node itself where the
data are few) and where the bytes go is others' business.
"""

from collections.abc import Iterable, Iterator, Mapping

import attrs

from node.data.keyspace import Database, Keyspace
from node.persistence.rdb import RdbError, Reader, Record, write

_CONTENTS = [name for name in Database.__slots__ if name not in ("index", "keyspace")]


def records(keyspace: Keyspace) -> Iterator[Record]:
    """Every key of every database. The keyspace must not change meanwhile."""
    for db in keyspace.databases:
        if not db.size:
            continue
        index = db.index
        deadline = db.expires.get
        for part in db.parts:
            for key, value in part.items():
                yield index, key, value, deadline(key), None, None


def sizes(keyspace: Keyspace) -> dict[int, tuple[int, int]]:
    """Per database that has any: the numbers of keys and of deadlines."""
    return {db.index: (db.size, len(db.expires)) for db in keyspace.databases if db.size}


def encode(
    keyspace: Keyspace,
    aux: Mapping[bytes, bytes | int],
    version: int,
    *,
    data: bool = True,
    compress: bool = True,
) -> Iterator[bytes]:
    """The RDB in pieces; FieldDeadlines where `version` has no form for some value.

    data: without it the keys are left out, as a replica may ask.
    """
    return write(
        records(keyspace) if data else (),
        version=version,
        aux=aux,
        sizes=sizes(keyspace) if data else None,
        compress=compress,
    )


@attrs.define(eq=False)
class Loader:
    """Puts an RDB into a keyspace, as its bytes come in.

    The keyspace should be empty. Keys whose time has come are kept: a replica waits for its
    primary's word. keys: how many have been put.
    """

    keyspace: Keyspace
    reader: Reader = attrs.field(init=False)
    keys: int = 0

    def __attrs_post_init__(self) -> None:
        self.reader = Reader(self.keyspace.limits)

    def receive(self, data: bytes) -> None:
        """Take the next bytes; raises RdbError."""
        self._put(self.reader.feed(data))

    def finish(self) -> bytes:
        """The input is over: returns what followed the RDB; RdbError if it ended too early."""
        self._put(self.reader.finish())
        return self.reader.rest

    def _put(self, loaded: Iterable[Record]) -> None:
        databases = self.keyspace.databases
        for db, key, value, deadline, _, _ in loaded:
            try:
                database = databases[db]
            except IndexError:
                reason = f"database {db} is beyond the {len(databases)} of this server"
                raise RdbError(reason, self.reader.offset) from None
            database.replace(key, value)
            if deadline is not None:
                database.expires.arm(key, deadline)
            self.keys += 1


def put_in_place(keyspace: Keyspace, loaded: Keyspace) -> None:
    """Let a keyspace hold what has been loaded into another, which gets what it had."""
    for db, other in zip(keyspace.databases, loaded.databases, strict=True):
        for listener in keyspace.on_reset:
            listener(db, other)
        for attribute in _CONTENTS:
            mine = getattr(db, attribute)
            setattr(db, attribute, getattr(other, attribute))
            setattr(other, attribute, mine)
    keyspace.dirty += 1
