"""Clients of the simulated cluster, as stock cluster clients are.

A client has one connection to each node it needs, learns the slots from CLUSTER SLOTS and MOVED,
follows ASK, gives up a node that is silent, and asks another for the map. It does one thing at a
time: its life is a generator that yields milliseconds to sleep, or an address and requests to send
there.
"""

from collections.abc import Generator
from random import Random
from typing import Any

import attrs
import hiredis

from cluster.checks import demand
from cluster.simulation.network import Address, Attempt, End, Network
from cluster.simulation.timeline import Action
from node.resp import encode_request

TIMEOUT_MS = 1500
BACKOFF_MS = 200
TRIES = 20

Requests = list[list[bytes]]
# None: the connection was lost, or there was no answer in time.
Replies = list[Any] | None
Steps = Generator[int | tuple[Address, Requests], Replies, Any]


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
class Client:
    """nodes: where it may ask for the map. answered_by: who has given the last replies."""

    place: str
    network: Network
    rng: Random
    nodes: list[Address]
    alive: bool = True
    answered_by: Address = ("", 0)
    _life: Steps = attrs.field(init=False)
    _moved: dict[int, Address] = attrs.field(factory=dict)  # slots, since the map was learned
    _map: list[tuple[int, Address]] = attrs.field(factory=list)  # last slot of a range, its owner
    _connections: dict[Address, Connection] = attrs.field(factory=dict)
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

    def _live(self) -> Steps:
        """All that it does."""
        yield from ()
        return None

    def _on_setback(self, kind: str) -> None:
        """Something has to be tried again."""

    # --- how it gets it done ---------------------------------------------------------------------

    def _do(self, slot: int, requests: Requests) -> Steps:
        """Have requests done by the slot's owner, wherever that is to be found; None: in vain."""
        for _ in range(TRIES):
            address = self._owner(slot)
            if address is None:
                yield from self._learn()
                continue
            replies = yield from self._try(address, requests)
            refusal = refusal_in(replies)
            if refusal and refusal[0] == "ASK" and requests[0] != [b"MULTI"]:
                self._on_setback("ASK")
                address = _address_in(refusal)
                replies = yield from self._try(address, [[b"ASKING"], *requests])
                refusal = refusal_in(replies)
                if replies is not None:
                    del replies[0]
            if not refusal:
                self.answered_by = address
                return replies
            yield from self._set_back(slot, refusal)
        return None

    def _try(self, address: Address, requests: Requests) -> Steps:
        """Ask a node, once."""
        return (yield address, requests)

    def _set_back(self, slot: int, refusal: list[str]) -> Steps:
        """Learn from a refusal, or wait a while."""
        self._on_setback(refusal[0])
        if refusal[0] == "MOVED":
            self._moved[slot] = _address_in(refusal)
            return None
        if refusal[0] not in ("ASK", "TRYAGAIN"):
            self._map.clear()
            self._moved.clear()
        yield self.rng.randint(1, BACKOFF_MS)
        return None

    def _owner(self, slot: int) -> Address | None:
        """Where a slot is served, as far as this client knows."""
        if slot in self._moved:
            return self._moved[slot]
        return next((address for last, address in self._map if slot <= last), None)

    def _place(self) -> str:
        """Which machine has given the last replies."""
        return self.network.places[self.answered_by[0]]

    def _learn(self) -> Steps:
        """Ask any node for the map."""
        node = self.nodes[self.rng.randrange(len(self.nodes))]
        replies = yield node, [[b"CLUSTER", b"SLOTS"]]
        entries = [] if replies is None or refusal_in(replies) else replies[0]
        self._map = [(last, (host.decode(), port)) for _, last, (host, port, *_), *_ in entries]
        if not entries:
            yield self.rng.randint(1, BACKOFF_MS)
        return None

    # --- connections -----------------------------------------------------------------------------

    def _go_on(self, replies: Replies) -> None:
        try:
            wanted = self._life.send(replies)
        except StopIteration:
            self.stop()
            return
        if isinstance(wanted, int):
            self.network.timeline.after(wanted, lambda: self.handle(lambda: self._go_on(None)))
        else:
            self._send(*wanted)

    def _send(self, address: Address, requests: Requests) -> None:
        """Send requests in one go, and go on with their replies."""
        self._request += 1
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


def _address_in(refusal: list[str]) -> Address:
    """Of MOVED or ASK."""
    host, _, port = refusal[2].rpartition(":")
    return host, int(port)


def refusal_in(replies: Replies) -> list[str]:
    """The words of the first error among replies, [] if there is none."""
    if replies is None:
        return ["lost"]
    errors = [str(reply) for reply in replies if isinstance(reply, hiredis.ReplyError)]
    for error in errors:
        demand("internal error" not in error, "no failure", error)
    return errors[0].split() if errors else []
