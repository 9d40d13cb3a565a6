"""Clients that write unique values, and read them back.

What they were told goes into the ledger, which the checks read.
"""

from collections.abc import Callable

import attrs

from cluster.simulation.clients import Client, Requests, Steps
from cluster.simulation.network import Address
from cluster.slots import key_slot

WAIT_MS = 1000
SHARED_TAGS = 12


@attrs.define(eq=False)
class Write:
    """A key that is written by one client, once or more often with the same value.

    sent, acknowledged: ms of true time when the first request left, and when a reply said that it
    was done; 0 for never. copies: replicas that had it, by WAIT. by: the place that answered.
    """

    key: bytes
    value: bytes
    slot: int
    sent: int
    acknowledged: int = 0
    copies: int = 0
    by: str = ""


@attrs.define(eq=False)
class Ledger:
    """What all writers have been told.

    on_kept: told of a write when WAIT has answered. on_read: told what was found of a write by a
    request that left at some time, and where.
    """

    writes: dict[bytes, Write] = attrs.field(factory=dict)
    keys: list[bytes] = attrs.field(factory=list)
    requests: int = 0
    setbacks: dict[str, int] = attrs.field(factory=dict)
    on_kept: Callable[[Write], None] = lambda write: None
    on_read: Callable[[Write, bytes | None, str, int], None] = lambda *what: None

    def open(self, write: Write) -> Write:
        self.writes[write.key] = write
        self.keys.append(write.key)
        return write

    def setback(self, kind: str) -> None:
        self.setbacks[kind] = self.setbacks.get(kind, 0) + 1


@attrs.define(eq=False)
class Writer(Client):
    """copies: replicas it wants its writes to reach. busy_ms: how long it thinks at most between
    two things."""

    ledger: Ledger = attrs.field(kw_only=True)
    copies: int = attrs.field(kw_only=True)
    busy_ms: int = attrs.field(kw_only=True)
    _number: int = 0

    def _on_setback(self, kind: str) -> None:
        self.ledger.setback(kind)

    def _live(self) -> Steps:
        while True:
            yield self.rng.randint(1, self.busy_ms)
            draw = self.rng.random()
            if draw < 0.25 and self.ledger.keys:
                yield from self._read()
            elif draw < 0.45:
                yield from self._change_shared()
            else:
                yield from self._write()

    def _write(self) -> Steps:
        """A new key, and word of how many replicas have it."""
        self._number += 1
        key = b"%b:%d" % (self.place.encode(), self._number)
        value = b"%b-%d" % (key, self.rng.getrandbits(30))
        write = self.ledger.open(Write(key, value, key_slot(key), self.network.timeline.now))
        wait = [b"WAIT", b"%d" % self.copies, b"%d" % WAIT_MS]
        replies = yield from self._do(write.slot, [[b"SET", key, value], wait])
        if replies is not None:
            assert replies[0] == b"OK", replies
            write.acknowledged = self.network.timeline.now
            write.copies = replies[1]
            write.by = self._place()
            self.ledger.on_kept(write)
        return None

    def _read(self) -> Steps:
        """Read something back, rather one of the latest."""
        keys = self.ledger.keys
        back = min(int(self.rng.expovariate(0.05)), len(keys) - 1)
        write = self.ledger.writes[keys[-1 - back]]
        asked = self.network.timeline.now
        replies = yield from self._do(write.slot, [[b"GET", write.key]])
        if replies is not None:
            self.ledger.on_read(write, replies[0], self._place(), asked)
        return None

    def _try(self, address: Address, requests: Requests) -> Steps:
        self.ledger.requests += 1
        return super()._try(address, requests)

    def _change_shared(self) -> Steps:
        """Change a key that others change as well, in one of many ways."""
        tag = b"{%d}" % self.rng.randrange(SHARED_TAGS)
        value = b"%d" % self.rng.randrange(100)
        changes: list[Requests] = [
            [[b"INCR", tag + b"n"]],
            [[b"RPUSH", tag + b"l", value, value]],
            [[b"LPOP", tag + b"l"]],
            [[b"SADD", tag + b"s", value]],
            [[b"SPOP", tag + b"s"]],
            [[b"HSET", tag + b"h", value, value]],
            [[b"ZADD", tag + b"z", value, value]],
            [[b"SET", tag + b"x", value, b"PX", b"%d" % self.rng.randint(1, 2000)]],
            [[b"DEL", tag + b"l", tag + b"s"]],
            [[b"MULTI"], [b"INCR", tag + b"n"], [b"RPUSH", tag + b"l", value], [b"EXEC"]],
        ]
        return self._do(key_slot(tag), changes[self.rng.randrange(len(changes))])
