"""One client, without its socket: bytes in, bytes out.

A session holds what the client has set for itself (database, protocol, user, transaction, reply
mode) and what it is owed. A driver feeds `receive` with what it read and sends `take_output`.
Output that is made outside the client's own turn calls `on_output` once, until it is taken.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import attrs

from node.command import ANY, QUEUES
from node.replies import ReplyError, Wait
from node.resp import RequestParser, encode, encode_error

if TYPE_CHECKING:
    from node.node import Node

# CLIENT REPLY
REPLY_ON, REPLY_OFF, REPLY_SKIP_NEXT, REPLY_SKIP = range(4)

REDIRECT = b"redirect"  # CLIENT CAPA: it follows -REDIRECT

# What kind of client it is (CLIENT LIST TYPE, output buffer limits).
NORMAL, REPLICA, PUBSUB, PRIMARY = b"normal", b"replica", b"pubsub", b"primary"


@attrs.define(eq=False)
class Session:
    """The state of one client.

    gate: flags of commands that need a second look for this client; see node.gate.
    effects: what to log instead of the command under way, set by its handler.
    requests: parsed, but held back while the client waits (blocked), is paused, or has a lot to
        read.
    wrote_at: log offset after this client's last write, for WAIT.
    closing: the connection ends once the output has been sent; dropped: without that.
    """

    node: "Node"
    id: int
    db: Any
    parser: RequestParser
    address: bytes = b""
    local_address: bytes = b""
    created_ms: int = 0
    active_ms: int = 0
    kind: bytes = NORMAL
    protocol: int = 2
    user: bytes = b"default"
    authenticated: bool = True
    name: bytes = b""
    library: bytes = b""
    library_version: bytes = b""
    gate: int = 0
    output: list[bytes] = attrs.field(factory=list)
    output_size: int = 0  # bytes that the driver holds unsent
    over_since_ms: int = 0  # when its output passed the soft limit; 0: it has not
    fd: int = -1  # of the driver's socket, for CLIENT LIST
    on_output: Callable[["Session"], None] | None = None
    on_close: Callable[["Session"], None] | None = None
    flagged: bool = False  # on_output was called, and the output has not been taken
    effects: list[list[bytes]] | None = None
    wrote_at: int = 0
    requests: list[list[bytes]] = attrs.field(factory=list)
    waiting: Wait | None = None
    reply_mode: int = REPLY_ON
    closing: bool = False
    dropped: bool = False
    transaction: Any = None  # node.transaction.Transaction between MULTI and EXEC
    watch: Any = None  # node.transaction.Watch once it has said WATCH
    subscriptions: Any = None  # node.pubsub.Subscriptions once it has subscribed
    tracked: Any = None  # node.tracking.Tracked once it said CLIENT TRACKING ON
    late: list[bytes] = attrs.field(factory=list)  # what it sent itself: follows the reply
    asking: bool = False
    reads_replica: bool = False  # READONLY
    no_evict: bool = False
    no_touch: bool = False
    import_source: bool = False  # CLIENT IMPORT-SOURCE: it sees keys whose time has come
    internal: bool = False  # expiry, loading: not a client at all
    from_primary: bool = False  # the primary's stream, which is logged as it came
    # Of another node that moves slots here: raises ReplyError at what it must not say.
    imports: Callable[[Any, list[bytes]], None] | None = None
    on_error: Callable[[ReplyError], None] | None = None  # who gets no replies has failed
    carrier: Any = None  # of its bytes, where that is a stream and no socket: see node.streams
    replica: Any = None  # node.replication.primary.Replica once it said REPLCONF or PSYNC
    capabilities: frozenset[bytes] = frozenset()  # CLIENT CAPA
    last_row: Any = None  # of the command it ran last
    commands: int = 0  # that have come, but for those refused, and calls of scripts
    bytes_in: int = 0
    bytes_out: int = 0
    check_input_at: int = 0  # how many bytes must have come before it can hold too much input

    # --- what a driver calls ---------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the client, and run what they complete."""
        requests = self.accept(data)
        if requests:
            self.node.run(self, requests, self.parser.verbatim)
        if self.parser.error is not None:
            self.reject_input()

    def accept(self, data: bytes) -> list[list[bytes]]:
        """Take bytes from the client; the requests to run now. For drivers that run those of many
        clients together, and then call `reject_input` if `parser.error` is set."""
        self.bytes_in += len(data)
        if self.bytes_in > self.check_input_at:
            self.node.housekeeper.check_input(self, len(data))
            if self.dropped:
                return []
        requests = self.parser.feed(data)
        self.commands += len(requests)
        self.active_ms = self.node.now_ms
        if self.waiting is None and not self.requests:
            return requests
        self.requests += requests
        return []

    def reject_input(self) -> None:
        """End the connection for what could not be understood."""
        parser = self.parser
        if parser.error is not None and not self.closing and self.waiting is None:
            self._fail(parser)

    def take_output(self) -> bytes:
        """Bytes to send; they are the driver's from here on."""
        output = self.output
        self.flagged = False
        if not output:
            return b""
        data = output[0] if len(output) == 1 else b"".join(output)
        output.clear()
        self.bytes_out += len(data)
        return data

    def is_local(self) -> bool:
        """Whether the client is on this machine."""
        return self.address.startswith((b"127.", b"[::1]", b"/"))

    def unsent(self) -> int:
        """Bytes of output that the client has not taken."""
        return self.output_size + sum(map(len, self.output))

    def commands_run(self) -> int:
        """How many of the client's commands have been answered, or will not be."""
        is_current = self.node.pubsub.current is self or self.waiting is not None
        return self.commands - is_current - len(self.requests)

    def held(self) -> int:
        """Bytes kept of input that has not run."""
        return self.parser.buffered() + self._held_back()

    def unrun(self) -> int:
        """Bytes that count against client-query-buffer-limit: of input that has not been looked
        at, or that EXEC is to run. As in Redis, complete arguments of one request do not."""
        queued = self.transaction.size() if self.transaction is not None else 0
        return self.parser.unread() + self._held_back() + int(queued)

    def _held_back(self) -> int:
        return sum(len(arg) for args in self.requests for arg in args)

    # --- what the node calls ---------------------------------------------------------------------

    def push(self, value: Any) -> None:
        """Send a reply or push that is not the answer to a request under way."""
        self.push_encoded(encode(value, self.protocol))

    def push_encoded(self, data: bytes) -> None:
        """As `push`, for a reply in wire form."""
        if data:
            self.output.append(data)
            self.flag()

    def flag(self) -> None:
        """Let the driver know that there is something to send, or to close."""
        if not self.flagged and self.on_output is not None:
            self.flagged = True
            self.on_output(self)

    def close(self) -> None:
        """End the connection once the output has been sent."""
        self.closing = True
        self.requests.clear()
        self.flag()

    def drop(self) -> None:
        """End the connection at once: what the client has not read by now is lost."""
        self.dropped = True
        self.output.clear()
        self.close()

    def _fail(self, parser: RequestParser) -> None:
        assert parser.error is not None
        self.output.append(encode_error(ReplyError(parser.error.text)))
        self.close()


def session_gate(session: Session) -> int:
    """The flags of commands that need a second look for this client."""
    special = (
        not session.authenticated
        or (session.kind == PUBSUB and session.protocol == 2)
        or session.asking
        or session.no_touch
        or session.import_source
        or session.imports is not None
        or session.reply_mode != REPLY_ON
        or REDIRECT in session.capabilities
        or session.user not in session.node.acl.unrestricted
    )
    if special or (session.transaction is not None and session.tracked is not None):
        return ANY
    if session.transaction is not None:
        return QUEUES
    return session.tracked.gate if session.tracked is not None else 0
