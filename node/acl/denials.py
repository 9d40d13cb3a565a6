"""ACL LOG: what was refused to whom, like with like."""

from typing import TYPE_CHECKING

import attrs

from node.acl.selector import CHANNEL, COMMAND, KEY, OTHER_DATABASE
from node.client_line import describe

if TYPE_CHECKING:
    from node.session import Session

AUTH = 0  # a wrong name or password; the other reasons are those of a refusal
REASONS = {
    AUTH: b"auth",
    COMMAND: b"command",
    KEY: b"key",
    CHANNEL: b"channel",
    OTHER_DATABASE: b"database",
}
# Where a refused command came from.
TOPLEVEL, MULTI, SCRIPT = b"toplevel", b"multi", b"lua"

_ALIKE_MS = 60_000  # as long as this after the last, the same again counts as one more of it
_LOOK_BACK = 10  # entries among which the same is looked for


@attrs.define(eq=False)
class Entry:
    """A refusal, and how often it came; times in milliseconds since 1970."""

    number: int
    reason: int
    context: bytes
    object: bytes
    user: bytes
    client: bytes
    created_ms: int
    updated_ms: int
    count: int = 1

    def is_like(self, other: "Entry") -> bool:
        """Whether the other one, which is younger, is more of the same."""
        mine = self.reason, self.context, self.object, self.user
        theirs = other.reason, other.context, other.object, other.user
        return mine == theirs and other.created_ms - self.updated_ms <= _ALIKE_MS


@attrs.define(eq=False)
class Denials:
    """The log, the youngest first, and how many refusals of each reason there were."""

    entries: list[Entry] = attrs.field(factory=list)
    counts: dict[int, int] = attrs.field(factory=lambda: dict.fromkeys(REASONS, 0))
    _next: int = 0

    def note(
        self, session: "Session", reason: int, context: bytes, what: bytes, user: bytes, most: int
    ) -> None:
        """Something was refused.

        session: the client. what: the command, key, channel or database it was about. most:
        entries that the log may have.
        """
        self.counts[reason] += 1
        if most:
            now_ms = session.node.keyspace.now_ms
            self._add(
                Entry(self._next, reason, context, what, user, describe(session), now_ms, now_ms)
            )
        del self.entries[most:]

    def _add(self, new: Entry) -> None:
        for i, old in enumerate(self.entries[:_LOOK_BACK]):
            if old.is_like(new):
                old.count += 1
                old.updated_ms, old.client = new.updated_ms, new.client
                self.entries.insert(0, self.entries.pop(i))
                return
        self._next += 1
        self.entries.insert(0, new)

    def forget_counts(self) -> None:
        """CONFIG RESETSTAT."""
        self.counts = dict.fromkeys(REASONS, 0)
