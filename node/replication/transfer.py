"""A full sync's payload coming in: an RDB, of a length told beforehand or up to a mark.

An empty node loads it as it comes, and tells its clients that it is loading. One that has data
keeps and serves them until the new ones are complete, so that a link that breaks half-way, or a
primary that dies, leaves a whole data set behind; `repl-diskless-load flush-before-load` spares
the memory for two.
"""

from typing import TYPE_CHECKING

import attrs

from node.data.keyspace import HIDE, KEEP, Keyspace
from node.persistence.checkpoint import Loader, put_in_place, take_functions, take_imports
from node.persistence.loading import Loading
from node.persistence.rdb import RdbError
from node.replication.snapshot import MARK_SIZE

if TYPE_CHECKING:
    from node.node import Node


@attrs.define(eq=False)
class Transfer:
    """One payload.

    mark: what ends it, or b"" where `remaining` counts the bytes still to come.
    received: bytes so far. loader: where the data go: the node's own keyspace or, while that
    keeps what it has, another one.
    """

    node: "Node"
    mark: bytes
    remaining: int = 0
    received: int = 0
    loader: Loader = attrs.field(init=False)
    _tail: bytes = b""

    def __attrs_post_init__(self) -> None:
        node = self.node
        own = node.keyspace
        if node.config.repl_diskless_load == "flush-before-load":
            own.flush()
        if any(map(len, own.databases)):
            shadow = Keyspace(own.count, own.part_of, own.random, limits=own.limits)
            self.loader = Loader.of(node, shadow)
        else:
            self.loader = Loader.of(node)
            node.loading = Loading(node.keyspace.now_ms, self.remaining)
            node.refresh_gate()

    @property
    def is_aside(self) -> bool:
        """Whether the operator wants the old data served meanwhile, and some commands refused."""
        aside = self.loader.keyspace is not self.node.keyspace
        return aside and self.node.config.repl_diskless_load == "swapdb"

    @property
    def aux(self) -> dict[bytes, bytes]:
        """Facts that came with the data set."""
        return self.loader.reader.aux

    def receive(self, data: bytes) -> bytes | None:
        """Take bytes; once the payload is whole returns what followed it. Raises RdbError."""
        self.received += len(data)
        if self.node.loading is not None:
            self.node.loading.loaded = self.received
        self.node.keyspace.expiry = KEEP
        try:
            return self._receive_marked(data) if self.mark else self._receive_counted(data)
        finally:
            self.node.keyspace.expiry = HIDE

    def _receive_marked(self, data: bytes) -> bytes | None:
        """The primary sends nothing after the mark until we have acknowledged the payload."""
        self.loader.receive(data)
        self._tail = (self._tail + data[-MARK_SIZE:])[-MARK_SIZE:]
        if self._tail != self.mark:
            return None
        if self.loader.finish() != self.mark:
            raise RdbError("more than the data set before the mark", self.received)
        return b""

    def _receive_counted(self, data: bytes) -> bytes | None:
        payload, rest = data[: self.remaining], data[self.remaining :]
        self.remaining -= len(payload)
        self.loader.receive(payload)
        if self.remaining:
            return None
        if self.loader.finish():
            raise RdbError("more than the data set in the payload", self.received)
        return rest

    def put_in_place(self) -> None:
        """The payload is whole: it is the node's data from here on. Raises RdbError."""
        try:
            take_functions(self.node, self.loader)
        except RdbError:
            self.abandon()
            raise
        if self.loader.keyspace is not self.node.keyspace:
            put_in_place(self.node.keyspace, self.loader.keyspace)
            self.node.role.discard(self.loader.keyspace)
        take_imports(self.node, self.loader)
        self._stop_loading()

    def abandon(self) -> None:
        """The rest will not come: what has been loaded is no data set."""
        if self.loader.keyspace is self.node.keyspace:
            self.node.keyspace.flush()
        else:
            self.node.role.discard(self.loader.keyspace)
        self._stop_loading()

    def _stop_loading(self) -> None:
        self.node.loading = None
        self.node.refresh_gate()
