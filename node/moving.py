"""Keys on their way to another node: what MIGRATE does while the node goes on serving.

A delivery sends each key's RESTORE, all at once, and waits for the answers. Until it ends, commands
on its keys wait, as clients do in a pause; what changes a key in spite of that (a script that
didn't declare it) has it sent again. Keys that arrived are deleted here, and logged as one DEL.

Inside a transaction or a script nothing may happen in between, and so the node itself waits, as a
real server does for every MIGRATE: as long as the target makes progress within the timeout.

A connection outlives its delivery for a while, as the next one is likely to go the same way.

https://valkey.io/commands/migrate/
"""

from collections import deque
from typing import TYPE_CHECKING, Any

import attrs
import hiredis

from node.command import Row
from node.data.keyspace import EXPIRED, Database
from node.execute import execute
from node.persistence.rdb import encode_dump
from node.replies import NO_REPLY, OK, PENDING, UNBLOCKED, ReplyError, Wait
from node.resp import encode_request
from node.transaction import Place, keys_of

if TYPE_CHECKING:
    from node.node import Node
    from node.session import Session

IDLE_MS = 10_000  # how long a connection is kept without a delivery
MOST_IDLE = 64
NONE_SELECTED = -1
NO_ADDRESS = "Unable to connect"

NOT_CONNECTED = ReplyError(b"IOERR error or timeout connecting to the client")
NOT_SENT = ReplyError(b"IOERR error or timeout writing to target instance")
UNDER_WAY = ReplyError(b"TRYAGAIN a key is on its way to another server already")
NOT_ANSWERED = ReplyError(b"IOERR error or timeout reading to target instance")


@attrs.frozen
class Order:
    """Where keys are to go, and how. timeout_ms: without any progress. auth: AUTH's arguments."""

    host: str
    port: int
    db: int
    timeout_ms: int
    copy: bool = False
    replace: bool = False
    auth: tuple[bytes, ...] = ()


@attrs.define(eq=False)
class Delivery:
    """One MIGRATE under way.

    arrived: the keys that the target has taken. changed: those that changed since they were sent.
    refused: the target didn't let us in. reply: PENDING until it has ended.
    """

    session: "Session"
    db: Database
    keys: list[bytes]
    order: Order
    arrived: dict[bytes, None] = attrs.field(factory=dict)
    changed: dict[bytes, None] = attrs.field(factory=dict)
    error: ReplyError | None = None
    refused: bool = False
    reply: Any = PENDING

    def places(self) -> list[Place]:
        return [(self.db.index, key) for key in self.keys]


@attrs.define(eq=False)
class Courier:
    """A connection to another node, one end of it without its socket.

    attempts: which of the host's addresses to try, for the driver. selected: the database there.
    _asked: what each answer that is still to come is about, a key or None for AUTH and SELECT.
    """

    moving: "Moving"
    host: str
    port: int
    attempts: int = 0
    up: bool = False
    selected: int = NONE_SELECTED
    delivery: Delivery | None = None
    progress_ms: int = 0
    _output: bytes = b""
    _asked: deque[bytes | None] = attrs.field(factory=deque)
    _reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    # --- as a peer of the transport --------------------------------------------------------------

    def connected(self) -> None:
        """The connection is there."""
        self.up = True
        self._begin()

    def lost(self, reason: str) -> None:
        """There is no connection, or none any more."""
        self.moving.lost(self, NO_ADDRESS in reason)

    def take_output(self, most: int) -> bytes:
        data, self._output = self._output[:most], self._output[most:]
        if data:
            self.progress_ms = self.moving.node.now_ms
        return data

    def receive(self, data: bytes) -> None:
        self.progress_ms = self.moving.node.now_ms
        self._reader.feed(data)
        try:
            while self._asked and (answer := self._reader.gets()) is not False:
                self._answered(self._asked.popleft(), answer)
        except hiredis.ProtocolError:
            self.moving.drop(self)
            return
        if self.delivery is not None and not self._asked:
            self._complete(self.delivery)

    # --- a delivery ------------------------------------------------------------------------------

    def take(self, delivery: Delivery) -> None:
        """Deliver: at once, or as soon as the connection is there."""
        self.delivery = delivery
        self.progress_ms = self.moving.node.now_ms
        if self.up:
            self._begin()

    def _begin(self) -> None:
        delivery = self.delivery
        assert delivery is not None
        order = delivery.order
        requests: list[list[bytes]] = []
        if order.auth:
            requests.append([b"AUTH", *order.auth])
        if order.db != self.selected:
            requests.append([b"SELECT", b"%d" % order.db])
            self.selected = order.db
        self._asked.extend([None] * len(requests))
        self._send(delivery, delivery.keys, requests, order.replace)

    def _send(
        self, delivery: Delivery, keys: list[bytes], requests: list[list[bytes]], replace: bool
    ) -> None:
        for key in keys:
            request = self._restore(delivery, key, replace)
            if request is not None:
                requests.append(request)
                self._asked.append(key)
        self._output += b"".join(map(encode_request, requests))
        if requests:
            self.moving.node.transport.flag(self)
        else:
            self._complete(delivery)

    def _restore(self, delivery: Delivery, key: bytes, replace: bool) -> list[bytes] | None:
        """What makes the key there; None if it is gone here."""
        node, db = self.moving.node, delivery.db
        value = db.peek(key)
        if value is None:
            return None
        at_ms = db.expires_at(key)
        ttl_ms = 0 if at_ms is None else max(at_ms - node.keyspace.now_ms, 1)
        name = b"RESTORE-ASKING" if node.topology.clustered else b"RESTORE"
        request = [name, key, b"%d" % ttl_ms, encode_dump(value)]
        return [*request, b"REPLACE"] if replace else request

    def _answered(self, key: bytes | None, answer: Any) -> None:
        delivery = self.delivery
        assert delivery is not None
        if isinstance(answer, hiredis.ReplyError):
            self.selected = NONE_SELECTED
            delivery.refused |= key is None
            text = b"ERR Target instance replied with error: " + str(answer).encode()
            delivery.error = delivery.error or ReplyError(text)
        elif key is not None and not delivery.refused:
            delivery.arrived[key] = None

    def _complete(self, delivery: Delivery) -> None:
        """All answers are there; but what has changed since it was sent goes once more."""
        again = [key for key in delivery.changed if key in delivery.arrived]
        delivery.changed.clear()
        if again and delivery.error is None:
            for key in again:
                del delivery.arrived[key]
            self._send(delivery, again, [], replace=True)
            return
        self.delivery = None
        self.moving.end(delivery, delivery.error or OK)

    def complaint(self, nobody: bool) -> ReplyError:
        """What to say of a connection that fails now; `nobody`: none was even refused."""
        if not self.up:
            return NOT_CONNECTED if nobody else NOT_SENT
        return NOT_SENT if self._output else NOT_ANSWERED


@attrs.define(eq=False)
class Moving:
    """Every delivery under way, and the connections."""

    node: "Node"
    _places: dict[Place, Delivery] = attrs.field(factory=dict)
    _couriers: list[Courier] = attrs.field(factory=list)
    _held: list[tuple[Delivery, Any]] = attrs.field(factory=list)

    def is_on(self) -> bool:
        """Whether any key is on its way."""
        return bool(self._places)

    def connections(self) -> int:
        """How many there are to other nodes."""
        return len(self._couriers)

    # --- clients ---------------------------------------------------------------------------------

    def begin(self, session: "Session", keys: list[bytes], order: Order) -> Wait:
        """Send keys, which are there, away; raises ReplyError if that can't even be tried."""
        delivery, _ = self._start(session, keys, order)
        if isinstance(delivery.reply, ReplyError):
            raise delivery.reply
        return Wait(lambda: delivery.reply, held_command=True)

    def carry(self, session: "Session", keys: list[bytes], order: Order) -> Any:
        """As `begin`, in a transaction or a script: the node waits for the end. The reply."""
        if any((session.db.index, key) in self._places for key in keys):
            raise UNDER_WAY
        delivery, courier = self._start(session, keys, order)
        attend = self.node.transport.attend
        while delivery.reply is PENDING:
            if not attend(courier, order.timeout_ms):
                self.drop(courier)
        if isinstance(delivery.reply, ReplyError):
            raise delivery.reply
        return delivery.reply

    def _start(
        self, session: "Session", keys: list[bytes], order: Order
    ) -> tuple[Delivery, Courier]:
        delivery = Delivery(session, session.db, keys, order)
        if not self._places:
            self.node.keyspace.listen(self._key_changed)
        self._places.update(dict.fromkeys(delivery.places(), delivery))
        self.node.refresh_gate()
        courier = self._courier(order)
        courier.take(delivery)
        if not courier.up:
            self.node.transport.connect(courier)
        return delivery, courier

    def _courier(self, order: Order) -> Courier:
        for courier in self._couriers:
            idle = courier.up and courier.delivery is None
            if idle and (courier.host, courier.port) == (order.host, order.port):
                return courier
        courier = Courier(self, order.host, order.port)
        self._couriers.append(courier)
        return courier

    def holds(self, session: "Session", row: Row, args: list[bytes]) -> bool:
        """Whether a command is about a key that is on its way."""
        db = session.db.index
        return any((db, key) in self._places for key in keys_of(session, row, args))

    def wait(self, session: "Session", row: Row, args: list[bytes]) -> Wait:
        """Hold this command: once its keys are here or there it runs as if it came only then."""

        def retry() -> object:
            if self.holds(session, row, args):
                return PENDING
            session.requests.insert(0, args)
            return NO_REPLY

        return Wait(retry, held_command=True)

    def _key_changed(self, db: Database, key: bytes, event: bytes, kind: int) -> None:
        delivery = self._places.get((db.index, key))
        if delivery is not None and kind != EXPIRED:
            delivery.changed[key] = None

    # --- the end of a delivery -------------------------------------------------------------------

    def end(self, delivery: Delivery, reply: Any) -> None:
        """Delete what has arrived, and let everybody go on; but not while nothing may be written:
        a replica that takes over in the meantime wouldn't hear of it."""
        node = self.node
        if node.pause.is_on() and node.unit is None:
            self._held.append((delivery, reply))
            return
        for place in delivery.places():
            self._places.pop(place, None)
        if not self._places:
            node.keyspace.ignore(self._key_changed)
        if node.is_replica():
            reply = UNBLOCKED  # its data are another's now
        elif not delivery.order.copy:
            self._delete(delivery)
        delivery.reply = reply
        node.refresh_gate()
        if node.unit is None:  # else nobody has had a turn in which to wait
            node.blocking.poll()

    def _delete(self, delivery: Delivery) -> None:
        keys = [key for key in delivery.arrived if key not in delivery.changed]
        if not keys:
            return
        mover = self.node.internal_session()
        mover.db = delivery.db
        execute(self.node, mover, [b"DEL", *keys])
        if self.node.log.active:
            self.node.log.writers.append(delivery.session)

    def lost(self, courier: Courier, nobody: bool = True) -> None:
        """A connection has ended, or there was never one."""
        if courier in self._couriers:
            self._couriers.remove(courier)
        delivery, courier.delivery = courier.delivery, None
        if delivery is not None:
            self.end(delivery, delivery.error or courier.complaint(nobody))

    def drop(self, courier: Courier) -> None:
        """End a connection from this side."""
        self.node.transport.close(courier)
        self.lost(courier)

    # --- time ------------------------------------------------------------------------------------

    def tick(self) -> None:
        """End what makes no progress, and connections that nobody uses."""
        held, self._held = self._held, []
        for delivery, reply in held:
            self.end(delivery, reply)
        now_ms = self.node.now_ms
        idle = 0
        for courier in list(self._couriers):
            under_way = courier.delivery
            idle += under_way is None
            limit_ms = IDLE_MS if under_way is None else under_way.order.timeout_ms
            if now_ms - courier.progress_ms > limit_ms or idle > MOST_IDLE:
                self.drop(courier)

    def next_deadline_ms(self) -> int | None:
        """When, on the monotonic clock, a delivery may time out."""
        times = [
            courier.progress_ms + courier.delivery.order.timeout_ms + 1
            for courier in self._couriers
            if courier.delivery is not None
        ]
        return min(times, default=None)
