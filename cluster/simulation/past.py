"""What one machine's data have been, change by change: what its files may bring back.

Whatever a process loads when it starts must be its data as they were at some moment since the
last start, and no earlier moment than what it has promised to keep.
"""

from collections import deque
from typing import Any

import attrs

from node.data.keyspace import Database, Keyspace

# Keys that time alone takes away: a file may hold them longer, or no more.
FLEETING = b"}x"


@attrs.define(eq=False)
class Past:
    """moment: counts the changes since the start. kept: the moment that must not be lost.

    A moment lies between two changes; those of one transaction have none between them.
    """

    moment: int = 0
    kept: int = 0
    _values: dict[bytes, list[tuple[int, Any]]] = attrs.field(factory=dict)
    _present: dict[bytes, None] = attrs.field(factory=dict)
    _unit: object = None
    _offsets: deque[tuple[int, int]] = attrs.field(factory=deque)

    # --- what happens ----------------------------------------------------------------------------

    def begin(self, keyspace: Keyspace) -> None:
        """This is what the files have brought, and what was before will not come back."""
        self.moment = 0
        self._values.clear()
        self._offsets.clear()
        self.take_in(keyspace)
        self.kept = self.moment

    def take_in(self, keyspace: Keyspace) -> None:
        """All of the data may have changed at once."""
        self.moment += 1
        held = contents(keyspace)
        for key in [key for key in self._values if key not in held]:
            self._set(key, None)
        for key, value in held.items():
            self._set(key, value)
        self._present = {key: None for part in keyspace[0].parts if part for key in part}

    def is_complete(self, keyspace: Keyspace) -> bool:
        """Whether it knows of all there is: an empty node loads data without a word."""
        return len(self._present) == keyspace[0].size

    def note(self, db: Database, key: bytes, unit: object) -> None:
        """A key has changed, on its own or as part of a `unit`."""
        value = db.parts[db.keyspace.part_of(key)].get(key)  # be it hidden, too
        if value is None:
            self._present.pop(key, None)
        else:
            self._present[key] = None
        if key.endswith(FLEETING):
            return
        if unit is None or unit is not self._unit:
            self.moment += 1
        self._unit = unit
        self._set(key, shown(value))

    def _set(self, key: bytes, value: Any) -> None:
        values = self._values.get(key)
        if values is None:
            if value is not None:
                self._values[key] = [(self.moment, value)]
        elif values[-1][0] == self.moment:
            values[-1] = (self.moment, value)
        elif value != values[-1][1]:
            values.append((self.moment, value))

    # --- what is promised ------------------------------------------------------------------------

    def keep(self, moment: int) -> None:
        """What there was at that moment will be there after any crash."""
        self.kept = max(self.kept, moment)

    def at_offset(self, offset: int) -> None:
        """The log has come to that offset."""
        if self._offsets and self._offsets[-1][0] >= offset:
            if self._offsets[-1][0] > offset:
                self._offsets.clear()  # of another history
            else:
                self._offsets.pop()
        self._offsets.append((offset, self.moment))

    def keep_offset(self, offset: int) -> None:
        """So will what there was when the log had come there."""
        while self._offsets and self._offsets[0][0] <= offset:
            self.keep(self._offsets.popleft()[1])

    # --- what comes back -------------------------------------------------------------------------

    def find(self, keyspace: Keyspace) -> int | None:
        """The latest moment at which the data were these; None if they never were."""
        held = contents(keyspace)
        keys = {**dict.fromkeys(self._values), **dict.fromkeys(held)}
        agreeing: dict[int, int] = {}  # how many more keys agree from this moment on
        for key in keys:
            for first, end in self._spans(key, held.get(key)):
                agreeing[first] = agreeing.get(first, 0) + 1
                if end is not None:
                    agreeing[end] = agreeing.get(end, 0) - 1
        count, found, ended = 0, None, None
        for moment in sorted(agreeing):
            if count == len(keys):
                ended = moment
            count += agreeing[moment]
            if count == len(keys):
                found, ended = moment, None
        if not keys:
            return self.moment
        if found is None:
            return None
        return self.moment if ended is None else ended - 1

    def _spans(self, key: bytes, value: Any) -> list[tuple[int, int | None]]:
        """From which moments on, and up to which, a key had a value."""
        changes = [(0, None), *self._values.get(key, ())]
        ends = [moment for moment, _ in changes[1:]]
        return [
            (first, end)
            for (first, had), end in zip(changes, [*ends, None], strict=True)
            if had == value and first != end
        ]

    def nearest(self, keyspace: Keyspace) -> str:
        """For people: which keys are not as they were last."""
        held = contents(keyspace)
        parts = []
        for key, values in self._values.items():
            if values[-1][1] != held.get(key):
                parts.append(f"{key!r} is {told(held.get(key))}, was {told(values[-1][1])}")
        return "; ".join(parts[:4])


def contents(keyspace: Keyspace) -> dict[bytes, Any]:
    """All keys but fleeting ones, with copies of their values."""
    return {
        key: shown(value)
        for part in keyspace[0].parts
        if part
        for key, value in part.items()
        if not key.endswith(FLEETING)
    }


def shown(value: Any) -> Any:
    """A value in a form that can be kept and compared: strings have several."""
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, bytearray):
        return bytes(value)
    if value is None or isinstance(value, bytes):
        return value
    return value.copy() if len(value) else None


def told(value: Any) -> str:
    """A value for people."""
    return repr(value) if value is None or isinstance(value, bytes) else f"{type(value).__name__}"
