"""The seam between a node and whatever it is part of: where a command belongs, who else hears of a
message. A lone node's topology answers "here" to everything; a cluster's is cluster.routing.
"""

from collections.abc import Sequence
from typing import Any, Protocol

from node.command import Row
from node.data.keyspace import hash_part
from node.persistence.rdb import Import
from node.replies import ReplyError


class Topology(Protocol):
    """What a node asks.

    clustered: whether cluster mode is on.
    mine: one byte per slot, 1 where every command on the slot's keys may run here at once; the
        fast path looks no further. None: all of them.
    """

    clustered: bool

    @property
    def mine(self) -> bytearray | None: ...

    @property
    def follows(self) -> bool:
        """Whether this node is to be another's replica; known before it has begun to be."""
        ...

    @property
    def node_id(self) -> str:
        """This node's id in its cluster; empty for a lone node."""
        ...

    @property
    def is_needed(self) -> bool:
        """Whether nobody else serves what this node serves."""
        ...

    def knows(self, node_id: str) -> bool:
        """Whether there is a node of this id."""
        ...

    def slot_of(self, key: bytes) -> int:
        """The part of the keyspace where a key is kept."""
        ...

    def route(self, session: Any, row: Row, args: Sequence[bytes]) -> ReplyError | None:
        """Why this command must not run here (MOVED, ASK, CROSSSLOT ...); None if it may."""
        ...

    def publish(self, channel: bytes, message: bytes, sharded: bool) -> None:
        """Tell the other nodes of a published message."""
        ...

    def imports(self) -> list[Import]:
        """What of this node's data is still coming from others."""
        ...

    def take_imports(self, imports: list[Import]) -> None:
        """As it was with the node whose data this one has taken over."""
        ...

    def end_turn(self) -> None:
        """Replies are about to leave: make durable what they promise of the cluster."""
        ...


class Alone:
    """The topology of a node that is in no cluster."""

    clustered = False
    mine: bytearray | None = None
    follows = False
    node_id = ""
    is_needed = False
    slot_of = staticmethod(hash_part)

    def knows(self, node_id: str) -> bool:
        return False

    def route(self, session: Any, row: Row, args: Sequence[bytes]) -> ReplyError | None:
        return None

    def publish(self, channel: bytes, message: bytes, sharded: bool) -> None:
        """There is nobody to tell."""

    def imports(self) -> list[Import]:
        return []

    def take_imports(self, imports: list[Import]) -> None:
        """Without slots nothing can be hidden."""

    def end_turn(self) -> None:
        """There is nothing to keep."""
