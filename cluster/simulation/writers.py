"""Clients of the simulated cluster: they write unique values, as stock cluster clients would.

A writer has one connection to each node it needs, learns the slots from CLUSTER SLOTS and MOVED,
gives up a node that is silent, and asks another for the map. It does one thing at a time: its
life is a generator that yields milliseconds to sleep, or an address and requests to send there.
What it was told goes into the ledger, which the checks read.
"""

from collections.abc import Callable, Generator
from random import Random
from typing import Any

import attrs
import hiredis

from cluster.checks import demand
from cluster.simulation.network import Address, Attempt, End, Network
from cluster.simulation.timeline import Action
from cluster.slots import key_slot
from node.resp import encode_request

TIMEOUT_MS = 1500
WAIT_MS = 1000
BACKOFF_MS = 200
TRIES = 20
SHARED_TAGS = 12

Requests = list[list[bytes]]
# None: the connection was lost, or there was no answer in time.
Replies = list[Any] | None
Steps = Generator[int | tuple[Address, Requests], Replies, Replies]


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
class Connection:
    """A client's connection to a node, being opened or open."""

    opening: Attempt | None = None
    end: End | None = None
    reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    def close(self) -> None:
        if self.opening is not None:
            self.opening.cancel()
        if self.end is not None:
            self.end.close()


@attrs.define(eq=False)
class Writer:
    """One client. nodes: where it may ask for the map. copies: replicas it wants its writes to
    reach. busy_ms: how long it thinks at most between two things."""

    place: str
    network: Network
    rng: Random
    ledger: Ledger
    nodes: list[Address]
    copies: int
    busy_ms: int
    alive: bool = True
    _life: Steps = attrs.field(init=False)
    _moved: dict[int, Address] = attrs.field(factory=dict)  # slots, since the map was learned
    _map: list[tuple[int, Address]] = attrs.field(factory=list)  # last slot of a range, its owner
    _connections: dict[Address, Connection] = attrs.field(factory=dict)
    _number: int = 0
    _request: int = 0  # of the request under way: what belongs to an older one comes too late

    def start(self) -> None:
        self._life = self._live()
        self._go_on(None)

    def stop(self) -> None:
        """Send no more, and leave."""
        self.alive = False
        for connection in self._connections.values():
            connection.close()

    def handle(self, action: Action) -> None:
        if self.alive:
            action()

    # --- its life --------------------------------------------------------------------------------

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
            write.by = self._place_of(write.slot)
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
            self.ledger.on_read(write, replies[0], self._place_of(write.slot), asked)
        return None

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

    # --- how it gets it done ---------------------------------------------------------------------

    def _do(self, slot: int, requests: Requests) -> Steps:
        """Have requests done by the slot's owner, wherever that is to be found; None: in vain."""
        for _ in range(TRIES):
            address = self._owner(slot)
            if address is None:
                yield from self._learn()
                continue
            replies = yield address, requests
            refusal = _refusal(replies)
            if not refusal:
                return replies
            self.ledger.setback(refusal[0])
            if refusal[0] == "MOVED":
                host, _, port = refusal[2].rpartition(":")
                self._moved[slot] = (host, int(port))
            else:
                self._map.clear()
                self._moved.clear()
                yield self.rng.randint(1, BACKOFF_MS)
        return None

    def _owner(self, slot: int) -> Address | None:
        """Where a slot is served, as far as this client knows."""
        if slot in self._moved:
            return self._moved[slot]
        return next((address for last, address in self._map if slot <= last), None)

    def _place_of(self, slot: int) -> str:
        address = self._owner(slot)
        assert address is not None
        return self.network.places[address[0]]

    def _learn(self) -> Steps:
        """Ask any node for the map."""
        node = self.nodes[self.rng.randrange(len(self.nodes))]
        replies = yield node, [[b"CLUSTER", b"SLOTS"]]
        entries = [] if replies is None or _refusal(replies) else replies[0]
        self._map = [(last, (host.decode(), port)) for _, last, (host, port, *_), *_ in entries]
        if not entries:
            yield self.rng.randint(1, BACKOFF_MS)
        return None

    # --- connections -----------------------------------------------------------------------------

    def _go_on(self, replies: Replies) -> None:
        wanted = self._life.send(replies)
        if isinstance(wanted, int):
            self.network.timeline.after(wanted, lambda: self.handle(lambda: self._go_on(None)))
        else:
            self._send(*wanted)

    def _send(self, address: Address, requests: Requests) -> None:
        """Send requests in one go, and go on with their replies."""
        self._request += 1
        self.ledger.requests += 1
        number, replies = self._request, []
        connection = self._connections.setdefault(address, Connection())

        def read(piece: bytes) -> None:
            connection.reader.feed(piece)
            while (reply := connection.reader.gets()) is not False:
                replies.append(reply)
            if len(replies) == len(requests):
                over(replies)

        def give_up() -> None:
            if self._request == number:
                over(None)

        def over(outcome: Replies) -> None:
            self._request += 1
            if outcome is None:
                self._connections.pop(address).close()
            self._go_on(outcome)

        def ended(reason: str) -> None:
            if self._request == number:
                over(None)
            else:
                self._connections.pop(address, None)

        def up(end: End) -> None:
            connection.opening, connection.end = None, end
            end.on_data, end.on_end = read, ended
            end.send(b"".join(encode_request(args) for args in requests))

        if connection.end is not None:
            up(connection.end)
        else:
            connection.opening = self.network.connect(
                self, address, up, lambda: ended("refused"), lambda: ended("timed out")
            )
        self.network.timeline.after(TIMEOUT_MS, lambda: self.handle(give_up))


def _refusal(replies: Replies) -> list[str]:
    """The words of the first error among replies, [] if there is none."""
    if replies is None:
        return ["lost"]
    errors = [str(reply) for reply in replies if isinstance(reply, hiredis.ReplyError)]
    for error in errors:
        demand("internal error" not in error, "no failure", error)
    return errors[0].split() if errors else []
