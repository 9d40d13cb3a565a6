"""A node in this process and clients without sockets, for tests of what is said and answered."""

from typing import Any

import attrs
import hiredis

from node.clock import VirtualClock
from node.config import Config
from node.disk import Disk, RealDisk
from node.node import Node
from node.session import Session


@attrs.define(eq=False)
class Client:
    """A client of a node in this process."""

    node: Node
    session: Session
    reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    def raw(self, data: bytes) -> bytes:
        """Send bytes; what comes back by the turn's end."""
        self.node.begin_turn()
        self.session.receive(data)
        self.node.end_turn()
        return self.session.take_output()

    def send(self, *command: str | bytes | int) -> bytes:
        """As `raw`, for one command."""
        return self.raw(hiredis.pack_command(command))

    def call(self, *command: str | bytes | int) -> Any:
        """The reply to one command; False for none."""
        self.reader.feed(self.send(*command))
        return self.reader.gets()

    def next(self) -> Any:
        """What else has come; False for nothing."""
        self.reader.feed(self.session.take_output())
        return self.reader.gets()


@attrs.define(eq=False)
class Local:
    """A node whose time stands still unless told otherwise."""

    node: Node
    clock: VirtualClock

    def client(self, address: bytes = b"127.0.0.1:1000") -> Client:
        return Client(self.node, self.node.session(address, b"127.0.0.1:6379", lambda _: None))

    def advance(self, milliseconds: int) -> None:
        """Let time go by, and what is due be done."""
        self.clock.advance(milliseconds)
        self.node.tick()


def local_node(disk: Disk | None = None, **directives: object) -> Local:
    """A node with these directives."""
    config = Config()
    for name, value in directives.items():
        setattr(config, name, value)
    clock = VirtualClock()
    return Local(Node(config, clock, disk=disk or RealDisk()), clock)
