"""A network in virtual time: connections that carry bytes in order, and what goes wrong with them.

A connection has two ends. Each direction delivers what was sent in order, every piece after a
delay of its own; as with TCP nothing is lost but by the end of the connection:

- what is sent in a direction that is cut waits, and arrives some time after the cut is mended;
- a connection that breaks loses what is under way, and both ends hear of it, each when it does;
- an owner whose process dies closes its connections behind what it has sent; one whose machine
  loses power does not, and the peers hear of it only when they send something after it is back,
  or by keepalive probes.

Opening a connection needs both directions. To a machine that is up and has nobody at that port it
is refused; a machine without power, or behind a cut, is tried again and again.
"""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol

import attrs

from cluster.simulation.timeline import Action, Timeline

Address = tuple[str, int]

FIRST_RETRY_MS = 1000
LAST_RETRY_MS = 4000
RETRIES = 6
RETRANSMIT_MS = 400
NOTICE_MS = 300


class Owner(Protocol):
    """Whoever has connections. place: the name of its machine. alive: it has not ended."""

    place: str
    alive: bool

    def handle(self, action: Action) -> None:
        """Do this now, or when it can, or never because it has died."""
        ...


@attrs.define(eq=False)
class End:
    """One end of a connection. Its owner sets on_data and on_end as soon as it has it.

    on_end is called once, when the other side has closed the connection or it is broken; never
    after `close`. keepalive_ms: how long it takes to notice that the other machine has lost power
    although nothing is sent; None: for ever.
    """

    network: "Network"
    owner: Owner
    on_data: Callable[[bytes], None] = attrs.field(init=False)
    on_end: Callable[[str], None] = attrs.field(init=False)
    other: "End" = attrs.field(init=False)
    open: bool = True
    keepalive_ms: int | None = None
    broken: bool = False  # what is under way is lost
    vanished: bool = False  # its machine has lost power, and knows nothing of it any more
    missed: bool = False  # something came for it after that
    held: list[bytes | None] = attrs.field(factory=list)  # waits for a cut to be mended
    last_arrival: int = 0  # of what was sent from here
    since: int = 0  # its owner has it

    def send(self, data: bytes) -> None:
        """Send bytes; into a connection that has ended they vanish."""
        if self.open:
            for piece in self.network.pieces(data):
                self._pass(piece)

    def close(self) -> None:
        """The other side gets what was sent, and then the end."""
        if self.open:
            self.open = False
            self.network.forget(self)
            self._pass(None)

    def _pass(self, piece: bytes | None) -> None:
        if self.held or self.network.is_cut(self.owner.place, self.other.owner.place):
            self.held.append(piece)
        else:
            self._carry(piece, self.network.delay())

    def _carry(self, piece: bytes | None, delay: int) -> None:
        timeline = self.network.timeline
        self.last_arrival = max(self.last_arrival, self.other.since, timeline.now + delay)
        timeline.at(self.last_arrival, partial(self.other._arrive, piece))

    def release(self) -> None:
        """The cut is mended: what has waited goes on its way."""
        pieces, self.held = self.held, []
        delay = self.network.rng.randint(0, RETRANSMIT_MS)
        for piece in pieces:
            self._carry(piece, delay)

    def _arrive(self, piece: bytes | None) -> None:
        if self.broken:
            return
        if self.vanished:
            self.missed = True
            if self.network.has_power(self.owner.place):
                self.deny()
        elif self.open:
            self.owner.handle(partial(self._take, piece))

    def deny(self) -> None:
        """The machine, restarted, says that it knows of no such connection."""
        if self.other.open and not self.other.broken:
            self.other.reset("reset by a machine that was restarted")

    def _take(self, piece: bytes | None) -> None:
        if not self.open:
            return
        if piece is None:
            self._ended("closed by the other side")
        else:
            self.network.on_delivery(self, piece)
            self.on_data(piece)

    def _ended(self, reason: str) -> None:
        if self.open:
            self.open = False
            self.network.forget(self)
            self.on_end(reason)

    def reset(self, reason: str) -> None:
        """This side hears, in a while, that the connection is no more."""
        self.broken = True
        timeline = self.network.timeline
        moment = max(timeline.now + self.network.rng.randint(1, NOTICE_MS), self.since)
        timeline.at(moment, lambda: self.owner.handle(lambda: self._ended(reason)))


@attrs.define(eq=False)
class Attempt:
    """A connection that is being opened."""

    network: "Network"
    owner: Owner
    address: Address
    on_up: Callable[[End], None]
    on_refused: Callable[[], None]
    on_failed: Callable[[], None]
    over: bool = False
    tries: int = 0

    def cancel(self) -> None:
        self.over = True

    def knock(self) -> None:
        """The first packet has arrived, if it does."""
        if self.over or not self.owner.alive:
            return
        network = self.network
        place = network.places.get(self.address[0], "")
        if not network.has_power(place) or network.is_parted(self.owner.place, place):
            self._try_again()
            return
        listener = network.listeners.get(self.address)
        if listener is None:
            self._answer(self.on_refused)
            return
        host, accept = listener
        mine, theirs = End(network, self.owner), End(network, host)
        mine.other, theirs.other = theirs, mine
        network.ends += [mine, theirs]
        host.handle(lambda: accept(theirs))
        mine.since = self._answer(lambda: self.on_up(mine), mine.close)

    def _try_again(self) -> None:
        self.tries += 1
        if self.tries > RETRIES:
            self._answer(self.on_failed)
        else:
            wait = min(FIRST_RETRY_MS << (self.tries - 1), LAST_RETRY_MS)
            self.network.timeline.after(wait, self.knock)

    def _answer(self, outcome: Action, too_late: Action = lambda: None) -> int:
        """Let the owner know; returns when it will."""

        def tell() -> None:
            (too_late if self.over else outcome)()
            self.over = True

        timeline = self.network.timeline
        moment = timeline.now + self.network.delay()
        timeline.at(moment, lambda: self.owner.handle(tell))
        return moment


@attrs.define(eq=False)
class Network:
    """Places with addresses, their connections, and the faults between them.

    min_delay, max_delay: of a piece, in ms. chop: how likely a piece arrives in two parts.
    on_delivery: told of every piece that arrives.
    """

    timeline: Timeline
    rng: Random
    min_delay: int = 1
    max_delay: int = 3
    chop: float = 0.0
    on_delivery: Callable[[End, bytes], None] = lambda end, piece: None
    places: dict[str, str] = attrs.field(factory=dict)  # by ip
    listeners: dict[Address, tuple[Owner, Callable[[End], None]]] = attrs.field(factory=dict)
    ends: list[End] = attrs.field(factory=list)
    without_power: dict[str, None] = attrs.field(factory=dict)
    cuts: dict[tuple[str, str], None] = attrs.field(factory=dict)  # directions

    # --- questions -------------------------------------------------------------------------------

    def has_power(self, place: str) -> bool:
        return place not in self.without_power

    def is_cut(self, source: str, target: str) -> bool:
        """Whether nothing gets from one place to the other."""
        return (source, target) in self.cuts

    def is_parted(self, one: str, other: str) -> bool:
        """Whether either direction between two places is cut."""
        return self.is_cut(one, other) or self.is_cut(other, one)

    def ip_of(self, place: str) -> str:
        return next(ip for ip, name in self.places.items() if name == place)

    def delay(self) -> int:
        return self.rng.randint(self.min_delay, self.max_delay)

    def pieces(self, data: bytes) -> list[bytes]:
        """What was sent, in the parts in which it arrives."""
        if len(data) > 1 and self.chop and self.rng.random() < self.chop:
            middle = self.rng.randrange(1, len(data))
            return [data[:middle], data[middle:]]
        return [data]

    # --- connections -----------------------------------------------------------------------------

    def connect(
        self,
        owner: Owner,
        address: Address,
        on_up: Callable[[End], None],
        on_refused: Callable[[], None],
        on_failed: Callable[[], None],
    ) -> Attempt:
        """Open a connection: one of the three is called, unless it is cancelled before."""
        attempt = Attempt(self, owner, address, on_up, on_refused, on_failed)
        self.timeline.after(self.delay(), attempt.knock)
        return attempt

    def listen(self, address: Address, owner: Owner, accept: Callable[[End], None]) -> None:
        """Let an owner have the connections that come to an address."""
        self.listeners[address] = owner, accept

    def forget(self, end: End) -> None:
        """An end is closed; its connection counts as long as the other is not, or data waits."""
        if not end.other.open or end.other.vanished:
            self.ends = [known for known in self.ends if known not in (end, end.other)]

    # --- faults ----------------------------------------------------------------------------------

    def cut(self, source: str, target: str) -> None:
        """Let nothing get from one place to another."""
        self.cuts[source, target] = None

    def mend(self, source: str, target: str) -> None:
        """Let it get there again."""
        if self.cuts.pop((source, target), self) is self:
            return
        for end in list(self.ends):
            if end.held and (end.owner.place, end.other.owner.place) == (source, target):
                end.release()

    def mend_all(self) -> None:
        for source, target in list(self.cuts):
            self.mend(source, target)

    def break_connection(self, end: End) -> None:
        """Lose a connection and what is under way in it."""
        for one in (end, end.other):
            one.held.clear()
            if one.open:
                one.reset("connection reset by peer")

    def stop_listening(self, owner: Owner) -> None:
        self.listeners = {
            address: entry for address, entry in self.listeners.items() if entry[0] is not owner
        }

    def close_all(self, owner: Owner) -> None:
        """A process has died: its connections are closed for it."""
        self.stop_listening(owner)
        for end in list(self.ends):
            if end.owner is owner:
                end.close()

    def lose_power(self, owner: Owner) -> None:
        """A machine has died: its connections are closed by nobody."""
        self.stop_listening(owner)
        self.without_power[owner.place] = None
        for end in self.ends:
            if end.owner is owner:
                end.vanished = True
                end.open = False
                end.held.clear()
                if end.other.keepalive_ms is not None:
                    self.timeline.after(end.other.keepalive_ms, partial(self._probe, end.other))

    def _probe(self, end: End) -> None:
        if end.open and not end.broken:
            end.reset("no answer to keepalive probes")

    def regain_power(self, place: str) -> None:
        """A machine is back; what was sent to it meanwhile is sent again, and denied."""
        self.without_power.pop(place, None)
        for end in list(self.ends):
            if end.missed and end.owner.place == place:
                end.deny()
