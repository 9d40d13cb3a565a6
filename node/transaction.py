"""MULTI, EXEC and WATCH: commands that run as one, if nothing they rest on has changed.

A watched key is broken by any change to it between WATCH and EXEC, by another client or the same
one, by FLUSHALL and by its time coming; whether the new value equals the old one does not matter.
A key whose time had come before it was watched counts as missing from the start: that it is
deleted then is no change.

https://redis.io/docs/latest/develop/interact/transactions/
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import attrs

from node.command import Row
from node.data.keyspace import UNWATCHED, Database, Keyspace

if TYPE_CHECKING:
    from node.session import Session

Place = tuple[int, bytes]  # number of a database, key


@attrs.define(eq=False)
class Transaction:
    """What a client has queued since MULTI.

    flags: those that any of its commands has; common_flags: those that all have. EXEC answers for
    both. spoiled: a command was refused, so EXEC will be. database: which the next command will
    find chosen, where a SELECT was queued and the client's user may not do everything.
    """

    commands: list[tuple[Row, list[bytes]]] = attrs.field(factory=list)
    flags: int = 0
    common_flags: int = -1
    spoiled: bool = False
    database: int | None = None

    def queue(self, row: Row, args: list[bytes], flags: int) -> None:
        """Keep a command for EXEC; flags: what it counts as."""
        self.commands.append((row, args))
        self.flags |= flags
        self.common_flags &= flags

    def size(self) -> int:
        """Bytes held."""
        return sum(len(arg) for _, args in self.commands for arg in args)


@attrs.define(eq=False)
class Watch:
    """The keys that one client watches, each with whether its time had come by then.

    broken: one of them has changed.
    """

    keys: dict[Place, bool] = attrs.field(factory=dict)
    broken: bool = False


@attrs.define(eq=False)
class Watches:
    """Who watches which keys."""

    keyspace: Keyspace
    _by_key: dict[Place, "dict[int, Session]"] = attrs.field(factory=dict)

    def watch(self, session: "Session", key: bytes) -> None:
        """From here on a change of this key breaks the client's transaction. O(1)."""
        if session.watch is None:
            session.watch = Watch()
        place = session.db.index, key
        if place in session.watch.keys:
            return
        if not self._by_key:
            self.keyspace.listen(self._key_changed)
        self._by_key.setdefault(place, {})[session.id] = session
        session.watch.keys[place] = self._is_over(place)

    def forget(self, session: "Session") -> None:
        """The client watches nothing any more. O(keys it watched)."""
        watch, session.watch = session.watch, None
        if watch is None:
            return
        for place in watch.keys:
            watchers = self._by_key[place]
            del watchers[session.id]
            if not watchers:
                del self._by_key[place]
        if not self._by_key:
            self.keyspace.ignore(self._key_changed)

    def is_broken(self, session: "Session") -> bool:
        """Whether EXEC must do nothing. A key whose time has come unnoticed counts as changed."""
        watch: Watch | None = session.watch
        if watch is None:
            return False
        return watch.broken or any(
            not was_over and self._is_over(place) for place, was_over in watch.keys.items()
        )

    def database_emptied(self, db: Database, other: Database | None = None) -> None:
        """To be called before a database is emptied, or exchanged with an `other`: it breaks the
        transactions that watch keys which are in either. O(watched keys)."""
        for (index, key), watchers in self._by_key.items():
            if index == db.index and (_holds(db, key) or (other and _holds(other, key))):
                for session in watchers.values():
                    self._replaced(session.watch, db, other, key)

    def _replaced(self, watch: Watch, db: Database, other: Database | None, key: bytes) -> None:
        """A watched key is about to be gone, or what the other database has. Nothing has changed
        for who saw no key, or one whose time had come, and sees the same."""
        place = db.index, key
        stays_away = other is None or not _holds(other, key)
        is_over = not stays_away and other is not None and _is_over(other, key)
        if watch.keys[place] and (stays_away or is_over):
            watch.keys[place] = is_over
        elif not watch.keys[place] and not _holds(db, key) and is_over:
            watch.keys[place] = True
        else:
            watch.broken = True

    def clients(self) -> int:
        """How many clients watch something."""
        return len({number for watchers in self._by_key.values() for number in watchers})

    def keys(self) -> int:
        """How many keys are watched."""
        return len(self._by_key)

    def _is_over(self, place: Place) -> bool:
        index, key = place
        return _is_over(self.keyspace[index], key)

    def _key_changed(self, db: Database, key: bytes, event: bytes, kind: int) -> None:
        place = db.index, key
        watchers = self._by_key.get(place)
        if not watchers or kind & UNWATCHED:
            return
        gone = not _holds(db, key)
        for session in watchers.values():
            keys = session.watch.keys
            if keys[place] and gone:
                keys[place] = False  # what had no time left when it was watched is now deleted
            else:
                session.watch.broken = True


def keys_of(session: "Session", row: Row, args: Sequence[bytes]) -> list[bytes]:
    """The keys of a command; of EXEC those of all that it runs."""
    if row.single_key:
        return [args[1]]
    if row.keys or row.find_keys is not None:
        return [args[i] for i in row.key_indices(args)]
    if row.name == b"exec" and session.transaction is not None:
        queued = session.transaction.commands
        return [args[i] for row, args in queued for i in row.key_indices(args)]
    return []


def _holds(db: Database, key: bytes) -> bool:
    """Whether the key is there, its time come or not."""
    return key in db.keys_of_part(db.keyspace.part_of(key))


def _is_over(db: Database, key: bytes) -> bool:
    deadline_ms = db.expires_at(key)
    return deadline_ms is not None and deadline_ms <= db.keyspace.now_ms
