"""A small RESP2 client on trio, and one for a cluster that behaves as stock cluster clients do.

The cluster client keeps a map of slots from CLUSTER SLOTS, follows MOVED and ASK, asks for the map
anew when a node doesn't answer, and tries again with a bounded backoff until its deadline. Every
setback is counted by its class, the names a user would see: `MOVED`, `CLUSTERDOWN`, `refused`.

https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/ (redirection and
resharding); https://valkey.io/commands/cluster-slots/
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Self

import attrs
import hiredis
import trio
from hiredis import ReplyError

from cluster.slots import SLOTS, key_slot

Address = tuple[str, int]
Reply = Any
Argument = bytes | str | int

# Error replies that mean "not here" or "not now": the command was not executed.
TURNED_AWAY = {"MOVED", "TRYAGAIN", "CLUSTERDOWN", "LOADING", "MASTERDOWN", "READONLY", "BUSY"}


class ConnectionLost(Exception):
    """The server closed the connection before its reply was complete."""


class Unavailable(Exception):
    """A command found no node to execute it before its deadline; its cause is the last setback."""


# What trying again may mend.
SETBACKS = (ReplyError, OSError, ConnectionLost, trio.TooSlowError)


def error_class(error: BaseException) -> str:
    """A setback's name: an error reply's first word, or how the connection failed."""
    match error:
        case ReplyError():
            return str(error).partition(" ")[0]
        case ConnectionRefusedError():
            return "refused"
        case trio.TooSlowError():
            return "timeout"
        case ConnectionLost() | ConnectionResetError() | BrokenPipeError():
            return "lost"
    return type(error).__name__


@attrs.define(eq=False)
class Connection:
    """One connection to one node, for one task at a time. Any failure leaves it closed."""

    address: Address
    _socket: trio.socket.SocketType
    _reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    @classmethod
    async def open(
        cls, address: Address, password: str | None = None, user: str | None = None
    ) -> Self:
        """Connect to (host, port). Raises OSError, and ReplyError for a wrong password."""
        family = trio.socket.AF_INET6 if ":" in address[0] else trio.socket.AF_INET
        socket = trio.socket.socket(family)
        try:
            socket.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            await socket.connect(address)
        except BaseException:
            socket.close()
            raise
        connection = cls(address, socket)
        if password is not None:
            who = [password] if user is None else [user, password]
            await connection.call("AUTH", *who)
        return connection

    @property
    def is_open(self) -> bool:
        return self._socket.fileno() >= 0

    def close(self) -> None:
        self._socket.close()

    async def call(self, *args: Argument) -> Reply:
        """Send one command and return its reply. Raises ReplyError, ConnectionLost or OSError."""
        [reply] = await self.pipeline([args])
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def pipeline(self, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """Send commands in one go and return their replies; error replies are among them."""
        try:
            await self._send(b"".join(map(_pack, commands)))
            return [await self._receive() for _ in commands]
        except BaseException:
            self.close()  # also when cancelled: a reply still to come would answer the next command
            raise

    async def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[await self._socket.send(view) :]

    async def _receive(self) -> Reply:
        while (reply := self._reader.gets()) is False:
            data = await self._socket.recv(65536)
            if not data:
                raise ConnectionLost(f"{self.address[0]}:{self.address[1]} closed the connection")
            self._reader.feed(data)
        return reply


def _pack(args: Sequence[Argument]) -> bytes:
    return hiredis.pack_command(tuple(args))  # type: ignore[arg-type]  # its stub takes one only


async def call_once(address: Address, *args: Argument, password: str | None = None) -> Reply:
    """One command on a connection of its own. Raises as `Connection.open` and `call` do."""
    connection = await Connection.open(address, password)
    try:
        return await connection.call(*args)
    finally:
        connection.close()


@attrs.define(eq=False)
class ClusterClient:
    """Executes commands wherever their slot lives; usable by many tasks at a time.

    `timeout` is for one attempt at one node and `deadline` for a command with all its attempts, in
    seconds; between attempts it waits `backoff` seconds, doubled each time up to `backoff_max`.
    """

    seeds: list[Address]
    password: str | None = None
    timeout: float = 1.0
    deadline: float = 30.0
    backoff: float = 0.002
    backoff_max: float = 0.025
    setbacks: Counter[str] = attrs.field(factory=Counter)
    _owners: list[Address | None] = attrs.field(factory=lambda: [None] * SLOTS)
    _nodes: list[Address] = attrs.field(factory=list)
    _idle: dict[Address, list[Connection]] = attrs.field(factory=dict)
    _refreshing: trio.Event | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every idle connection; those of commands under way close when cancelled."""
        for address in list(self._idle):
            self._forget(address)

    def owner(self, slot: int) -> Address | None:
        """The node that serves a slot, as far as this client knows."""
        return self._owners[slot]

    async def execute(self, key: bytes | str, *args: Argument) -> Reply:
        """Execute one command where `key` lives. Raises Unavailable, and ReplyError for any error
        reply that trying again can't mend."""
        [reply] = await self.pipeline(key, [args])
        if isinstance(reply, ReplyError):
            raise reply
        return reply

    async def pipeline(
        self, key: bytes | str, commands: Sequence[Sequence[Argument]]
    ) -> list[Reply]:
        """Execute commands that share the slot of `key`, in one go at one node.

        When the first is turned away all are tried again, so they must bear to be repeated. Raises
        Unavailable; other error replies are among those returned.
        """
        slot = key_slot(key.encode() if isinstance(key, str) else key)
        wait = 0.0
        last: BaseException | None = None
        with trio.move_on_after(self.deadline):
            while True:
                try:
                    return await self._attempt(slot, commands)
                except SETBACKS as error:
                    last = error
                self.setbacks[error_class(last)] += 1
                if error_class(last) != "MOVED":
                    await self.refresh()
                await trio.sleep(wait)
                wait = min(wait * 2 or self.backoff, self.backoff_max)
        raise Unavailable(f"slot {slot} not served for {self.deadline} s") from last

    async def _attempt(self, slot: int, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        """One try: the replies, or whatever turned it away, raised."""
        address = self._owners[slot]
        if address is None:
            await self.refresh()
            address = self._owners[slot]
            if address is None:
                raise ReplyError("CLUSTERDOWN no node is known for this slot")
        replies = await self._at(address, commands)
        first = replies[0]
        if isinstance(first, ReplyError):
            name = error_class(first)
            if name == "ASK":
                self.setbacks[name] += 1
                return await self._ask(_target(first, address), commands)
            if name == "MOVED":
                await self.refresh()
                self._owners[slot] = _target(first, address)  # who was asked may lag behind
            if name in TURNED_AWAY:
                raise first
        return replies

    async def _ask(self, address: Address, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        asked = [step for args in commands for step in (("ASKING",), args)]
        replies = (await self._at(address, asked))[1::2]
        if isinstance(replies[0], ReplyError) and error_class(replies[0]) in TURNED_AWAY:
            raise replies[0]
        return replies

    async def _at(self, address: Address, commands: Sequence[Sequence[Argument]]) -> list[Reply]:
        try:
            with trio.fail_after(self.timeout):
                connection = await self._take(address)
                replies = await connection.pipeline(commands)
        except SETBACKS:
            self._forget(address)
            raise
        self._idle.setdefault(address, []).append(connection)
        return replies

    def _forget(self, address: Address) -> None:
        """Close what is idle: it leads to the process that just failed."""
        for connection in self._idle.pop(address, ()):
            connection.close()

    async def _take(self, address: Address) -> Connection:
        idle = self._idle.get(address)
        return idle.pop() if idle else await Connection.open(address, self.password)

    async def refresh(self) -> None:
        """Ask one node after the other for the map of slots, until one answers.

        Tasks that come while it is asked for wait for that answer. When no node has one the old map
        stays.
        """
        if self._refreshing is not None:
            await self._refreshing.wait()
            return
        self._refreshing = trio.Event()
        try:
            for address in dict.fromkeys([*self._nodes, *self.seeds]):
                if await self._learn_from(address):
                    return
        finally:
            self._refreshing.set()
            self._refreshing = None

    async def _learn_from(self, address: Address) -> bool:
        try:
            [reply] = await self._at(address, [("CLUSTER", "SLOTS")])
            if isinstance(reply, ReplyError):
                raise reply
        except SETBACKS:
            # Asked last from now on, so that a node that hangs costs its timeout once.
            self._nodes = [node for node in self._nodes if node != address] + [address]
            return False
        self._use(reply, address)
        return True

    def _use(self, ranges: list[Any], source: Address) -> None:
        owners: list[Address | None] = [None] * SLOTS
        known: dict[Address, None] = {source: None}
        for first, last, primary, *replicas in ranges:
            owner = _node_address(primary, source)
            owners[first : last + 1] = [owner] * (last + 1 - first)
            for node in (primary, *replicas):
                known.setdefault(_node_address(node, source))
        self._owners = owners
        self._nodes = list(known)
        for address in [address for address in self._idle if address not in known]:
            self._forget(address)


def _node_address(node: list[Any], source: Address) -> Address:
    """(host, port) of a node in CLUSTER SLOTS; no host means the one that was asked."""
    host = node[0].decode() if node[0] else source[0]
    return host, node[1]


def _target(error: ReplyError, source: Address) -> Address:
    """Where `MOVED 3999 127.0.0.1:6381` or an ASK points; no host means the one that was asked."""
    host, _, port = str(error).split()[2].rpartition(":")
    return host or source[0], int(port)
