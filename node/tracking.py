"""Client-side caching: who may hold a copy of which keys, and who is told that a copy is stale.

A client that is tracked is remembered with each key that it reads, and told once when that key
changes. One that is tracked by broadcasting is remembered with prefixes instead, and told of every
change under them at the end of the turn. Either gets pushes in RESP3; in RESP2 another connection
of its, to which messages are redirected, hears them on a channel.

The keys of all databases share one table, as in Redis: a change of the key of that name in any of
them counts. The table is bounded; the oldest entry goes first, and is announced as if it had
changed.

https://redis.io/docs/latest/develop/reference/client-side-caching/
"""

from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

from node.command import ANY, READONLY, Row
from node.command import PUBSUB as PUBSUB_COMMAND
from node.data.keyspace import UNWATCHED, Database
from node.replies import Encoded, Push
from node.resp import encode
from node.session import PUBSUB, Session, session_gate

if TYPE_CHECKING:
    from node.node import Node

CHANNEL = b"__redis__:invalidate"
EVERY_KEY, WHEN_ASKED, UNLESS_ASKED = 0, 1, 2  # which reads count


@attrs.define(eq=False)
class Tracked:
    """How one client is tracked.

    reads: which of its reads are remembered. asked: CLIENT CACHING was said of the next command.
    redirect: number of the client that is told, 0 for itself; broken: that one has gone.
    prefixes: of the keys it is told of, where it is tracked by broadcasting.
    """

    broadcast: bool = False
    reads: int = EVERY_KEY
    noloop: bool = False
    redirect: int = 0
    prefixes: set[bytes] = attrs.field(factory=set)
    asked: bool = False
    broken: bool = False

    @property
    def gate(self) -> int:
        """The flags of commands of this client that need a second look."""
        if self.broadcast:
            return 0
        return READONLY if self.reads == EVERY_KEY else ANY

    def remembers(self) -> bool:
        """Whether what the client reads now is to be remembered."""
        if self.broadcast:
            return False
        return self.reads == EVERY_KEY or self.asked == (self.reads == WHEN_ASKED)


@attrs.define(eq=False)
class Prefix:
    """Who is told of keys with a prefix; the keys that have changed in this turn, with the client
    that was the first to change them."""

    sessions: dict[int, Session] = attrs.field(factory=dict)
    changed: dict[bytes, Session | None] = attrs.field(factory=dict)


@attrs.define(eq=False)
class Tracking:
    """All that is tracked on a node.

    sessions: who is tracked. readers: for each key, the numbers of those who may hold a copy.
    items: entries of `readers` in all. While nobody is tracked, nothing is listened to.
    """

    node: "Node"
    sessions: dict[int, Session] = attrs.field(factory=dict)
    readers: OrderedDict[bytes, dict[int, None]] = attrs.field(factory=OrderedDict)
    items: int = 0
    prefixes: dict[bytes, Prefix] = attrs.field(factory=dict)
    _flushed_at: int = -1

    # --- who is tracked ---------------------------------------------------------------------------

    def start(self, session: Session, tracked: Tracked) -> None:
        """Track a client from here on. One that was tracked already keeps its prefixes."""
        if not self.sessions:
            self.node.keyspace.listen(self._key_changed)
            self.node.keyspace.on_reset.append(self._database_changes)
        if tracked.broadcast:
            for name in tracked.prefixes or {b""}:
                self.prefixes.setdefault(name, Prefix()).sessions[session.id] = session
            old = session.tracked.prefixes if session.tracked is not None else set()
            tracked.prefixes = old | (tracked.prefixes or {b""})
        self.sessions[session.id] = session
        session.tracked = tracked
        session.gate = session_gate(session)

    def stop(self, session: Session) -> None:
        """Track a client no longer, if it was."""
        tracked, session.tracked = session.tracked, None
        if tracked is None:
            return
        del self.sessions[session.id]
        session.gate = session_gate(session)
        for name in tracked.prefixes:
            prefix = self.prefixes[name]
            del prefix.sessions[session.id]
            if not prefix.sessions:
                del self.prefixes[name]
        if not self.sessions:
            self._forget_keys()
            self.node.keyspace.ignore(self._key_changed)
            self.node.keyspace.on_reset.remove(self._database_changes)

    def _forget_keys(self) -> None:
        self.readers.clear()
        self.items = 0

    # --- what they read ---------------------------------------------------------------------------

    def note(self, session: Session, row: Row, args: list[bytes]) -> None:
        """Remember the keys of a command that a tracked client has run, if it only reads."""
        if not row.flags & READONLY or row.flags & PUBSUB_COMMAND or row.group == "scripting":
            return
        if not session.tracked.remembers():
            return
        for i in row.key_indices(args):
            readers = self.readers.setdefault(args[i], {})
            if session.id not in readers:
                readers[session.id] = None
                self.items += 1
        self.bound()

    def command_over(self, session: Session, name: bytes) -> None:
        """A tracked client has got its reply: what it asked by CLIENT CACHING holds for a command,
        or for a transaction."""
        if session.transaction is None and name.lower() != b"client":
            session.tracked.asked = False

    def bound(self) -> None:
        """Forget what is too much by tracking-table-max-keys, as if it had changed."""
        most = self.node.config.tracking_table_max_keys
        while most and len(self.readers) > most:
            key, readers = self.readers.popitem(last=False)
            self._tell_readers(key, readers, None)

    # --- what changes -----------------------------------------------------------------------------

    def _key_changed(self, db: Database, key: bytes, event: bytes, kind: int) -> None:
        if kind & UNWATCHED:
            return
        author = self.node.pubsub.current
        for name, prefix in self.prefixes.items():
            if key.startswith(name):
                prefix.changed.setdefault(key, author)
        readers = self.readers.pop(key, None)
        if readers:
            self._tell_readers(key, readers, author)

    def _tell_readers(self, key: bytes, readers: Iterable[int], author: Session | None) -> None:
        for number in readers:
            self.items -= 1
            session = self.sessions.get(number)
            if session is None or session.tracked.broadcast:
                continue
            if not (session.tracked.noloop and session is author):
                self._send(session, [key])

    def end_turn(self) -> None:
        """Tell those who are tracked by broadcasting of the turn's changes."""
        if not self.prefixes:
            return
        for _, prefix in sorted(self.prefixes.items()):
            if prefix.changed:
                changed, prefix.changed = prefix.changed, {}
                keys = sorted(changed)
                for session in prefix.sessions.values():
                    others = [key for key in keys if changed[key] is not session]
                    told = others if session.tracked.noloop else keys
                    if told:
                        self._send(session, told)

    def _database_changes(self, db: Database, other: Database | None) -> None:
        """Before a database is emptied or gets other data. Exchanging two counts as no change, and
        all databases emptied by one command are announced once."""
        keyspace = self.node.keyspace
        if other is not None and other.keyspace is keyspace:
            return
        if self._flushed_at != keyspace.dirty:
            self._flushed_at = keyspace.dirty
            self._forget_keys()
            for session in self.sessions.values():
                self._send(session, None)

    # --- messages ---------------------------------------------------------------------------------

    def _send(self, session: Session, keys: list[bytes] | None) -> None:
        """Tell a client, or whom it redirects to, that these keys are stale, or all (None)."""
        tracked: Tracked = session.tracked
        target: Session | None = session
        if tracked.redirect:
            target = self.node.sessions.get(tracked.redirect)
            if target is None:
                tracked.broken = True
                if session.protocol == 3:
                    self._deliver(session, [b"tracking-redir-broken", tracked.redirect])
                return
        assert target is not None
        stale = Encoded(encode(keys, session.protocol))
        if target.protocol == 3:
            self._deliver(target, [b"invalidate", stale])
        elif tracked.redirect and target.kind == PUBSUB:
            self._deliver(target, [b"message", CHANNEL, stale])

    def _deliver(self, target: Session, words: list[Any]) -> None:
        """What a command brings its own client follows the reply."""
        data = encode(Push(words), target.protocol)
        if target is self.node.pubsub.current:
            target.late.append(data)
        elif not target.closing:
            target.push_encoded(data)
