"""Published messages: who gets them, and in which form.

There are three kinds of subscription: to a channel, to a pattern of channels, and to a shard
channel, which lives in the slot of its name. A client in RESP2 that has any may do little else;
in RESP3 messages are pushes beside its replies.

https://redis.io/docs/latest/develop/interact/pubsub/
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import attrs

from node.data.pattern import compiled
from node.replies import Push
from node.resp import encode
from node.session import NORMAL, PUBSUB, session_gate

if TYPE_CHECKING:
    from node.session import Session


@attrs.frozen
class Kind:
    """A kind of subscription, by the words that clients read: of a message, of the replies."""

    message: bytes
    subscribed: bytes
    unsubscribed: bytes


CHANNEL = Kind(b"message", b"subscribe", b"unsubscribe")
PATTERN = Kind(b"pmessage", b"psubscribe", b"punsubscribe")
SHARD = Kind(b"smessage", b"ssubscribe", b"sunsubscribe")
KINDS = (CHANNEL, PATTERN, SHARD)


@attrs.define(eq=False)
class Subscriptions:
    """What one client subscribes to, in order."""

    names: dict[Kind, dict[bytes, None]] = attrs.field(factory=lambda: {kind: {} for kind in KINDS})

    def count(self, kind: Kind) -> int:
        """The number that replies give: shard channels are counted apart."""
        if kind is SHARD:
            return len(self.names[SHARD])
        return len(self.names[CHANNEL]) + len(self.names[PATTERN])

    def total(self) -> int:
        return sum(map(len, self.names.values()))


@attrs.define(eq=False)
class PubSub:
    """All subscriptions of a node.

    current: the client whose command is running; what it publishes to itself follows its reply.
    """

    by_name: dict[Kind, "dict[bytes, dict[int, Session]]"] = attrs.field(
        factory=lambda: {kind: {} for kind in KINDS}
    )
    current: "Session | None" = None

    # --- subscribing -----------------------------------------------------------------------------

    def subscribe(self, session: "Session", kind: Kind, name: bytes) -> Push:
        """Send the client what is published there from now on; the confirmation to answer with."""
        if session.subscriptions is None:
            session.subscriptions = Subscriptions()
        session.subscriptions.names[kind][name] = None
        self.by_name[kind].setdefault(name, {})[session.id] = session
        self._update(session)
        return Push([kind.subscribed, name, session.subscriptions.count(kind)])

    def unsubscribe(self, session: "Session", kind: Kind, name: bytes | None) -> Push:
        """Undo a subscription, if there is one; None: there was nothing to undo."""
        subscriptions = session.subscriptions
        if subscriptions is None:
            return Push([kind.unsubscribed, name, 0])
        if name is not None and name in subscriptions.names[kind]:
            del subscriptions.names[kind][name]
            self._drop(session, kind, name)
            self._update(session)
        return Push([kind.unsubscribed, name, subscriptions.count(kind)])

    def forget(self, session: "Session") -> None:
        """The client subscribes to nothing any more."""
        subscriptions, session.subscriptions = session.subscriptions, None
        if subscriptions is not None:
            for kind, names in subscriptions.names.items():
                for name in names:
                    self._drop(session, kind, name)
            self._update(session)

    def drop_shards(self, is_gone: Callable[[bytes], bool]) -> None:
        """End the subscriptions to shard channels that are served elsewhere now."""
        for name in [name for name in self.by_name[SHARD] if is_gone(name)]:
            for session in list(self.by_name[SHARD][name].values()):
                session.push(self.unsubscribe(session, SHARD, name))

    def _drop(self, session: "Session", kind: Kind, name: bytes) -> None:
        subscribers = self.by_name[kind][name]
        del subscribers[session.id]
        if not subscribers:
            del self.by_name[kind][name]

    def _update(self, session: "Session") -> None:
        """A client with subscriptions is of another kind, and in RESP2 a restricted one."""
        subscribes = session.subscriptions is not None and session.subscriptions.total() > 0
        if subscribes and session.kind == NORMAL:
            session.kind = PUBSUB
        elif not subscribes and session.kind == PUBSUB:
            session.kind = NORMAL
        session.gate = session_gate(session)

    # --- publishing ------------------------------------------------------------------------------

    def publish(self, channel: bytes, message: bytes) -> int:
        """Send a message to all who subscribe to the channel or a pattern of it; how many."""
        count = 0
        subscribers = self.by_name[CHANNEL].get(channel)
        if subscribers:
            count += self._send(subscribers.values(), [CHANNEL.message, channel, message])
        if self.by_name[PATTERN]:
            for pattern, others in self.by_name[PATTERN].items():
                if compiled(pattern)(channel):
                    text = [PATTERN.message, pattern, channel, message]
                    count += self._send(others.values(), text)
        return count

    def publish_to_shard(self, channel: bytes, message: bytes) -> int:
        """Send a message to the subscribers of a shard channel of this node; how many."""
        subscribers = self.by_name[SHARD].get(channel, {})
        return self._send(subscribers.values(), [SHARD.message, channel, message])

    def _send(self, sessions: "Iterable[Session]", words: list[bytes]) -> int:
        """Encode a message once per protocol, and hand it out."""
        count = 0
        forms: dict[int, bytes] = {}
        for session in sessions:
            data = forms.get(session.protocol)
            if data is None:
                data = forms[session.protocol] = encode(Push(words), session.protocol)
            if session is self.current:
                session.late.append(data)
            elif not session.closing:
                session.push_encoded(data)
            count += 1
        return count

    # --- being asked -----------------------------------------------------------------------------

    def active(self, kind: Kind, pattern: bytes | None = None) -> list[bytes]:
        """The names that somebody subscribes to, and that match."""
        if pattern is None:
            return list(self.by_name[kind])
        matches = compiled(pattern)
        return [name for name in self.by_name[kind] if matches(name)]

    def subscribers(self, kind: Kind, name: bytes) -> int:
        return len(self.by_name[kind].get(name, ()))

    def clients(self) -> int:
        """How many clients subscribe to anything."""
        names = [names for kind in KINDS for names in self.by_name[kind].values()]
        return len({number for subscribers in names for number in subscribers})
