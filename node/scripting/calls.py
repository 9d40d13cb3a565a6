"""redis.call: commands inside scripts.

Who runs them is a session of the interpreter's own, with the client's database at first and the
client's rights. What they change is logged with the script as a whole.
"""

import hashlib
import logging
from collections.abc import Callable
from functools import wraps
from math import copysign, isnan
from typing import TYPE_CHECKING, Any

from node.acl.denials import SCRIPT
from node.command import (
    ANY,
    CONTAINER,
    DENYOOM,
    MAY_REPLICATE,
    NOSCRIPT,
    STALE,
    WRITE,
    Row,
    find_row,
)
from node.data.number import format_double
from node.execute import answer_now, invoke
from node.gate import NO_REPLICAS, OUT_OF_MEMORY, not_stored
from node.replies import READ_ONLY_REPLICA, ReplyError, Wait, forget_origin
from node.scripting.marks import ERROR, LARGE
from node.scripting.running import AUDIENCES, Loading, Run
from node.scripting.scripts import ALLOW_CROSS_SLOT, ALLOW_OOM, COMPATIBLE
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node
    from node.scripting.values import Converter

_log = logging.getLogger(__name__)

_NO_ARGUMENTS = ReplyError(b"ERR Please specify at least one argument for this call")
_BAD_ARGUMENTS = ReplyError(b"ERR Command arguments must be strings or integers")
_UNKNOWN = ReplyError(b"ERR Unknown command called from script")
_STALE = ReplyError(b"ERR Can not execute the command on a stale replica")
_ARITY = ReplyError(b"ERR Wrong number of args calling command from script")
_NOT_ALLOWED = ReplyError(b"ERR This Valkey command is not allowed from script")
_READ_ONLY = ReplyError(b"ERR Write commands are not allowed from read-only scripts.")
_CROSS_SLOT = ReplyError(b"ERR Script attempted to access keys that do not hash to the same slot")
_NOT_LOCAL = ReplyError(b"ERR Attempted to access a non local key in a cluster node")
_DOWN = ReplyError(b"ERR Script attempted to execute a command while the cluster is down")
_DOWN_FOR_WRITES = ReplyError(
    b"ERR Script attempted to execute a write command while the cluster is down and readonly"
)
_NO_SUCH_COMMAND = ReplyError(b"ERR Invalid command passed to server.acl_check_cmd()")
LOGGED_MAX = 64 * 1024  # bytes of a line in the server's log
_LEVELS = (logging.DEBUG, logging.DEBUG, logging.INFO, logging.WARNING)


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """For what Lua calls: no exception of Python's must reach a script."""

    @wraps(function)
    def call(*args: Any) -> Any:
        try:
            return function(*args)
        except ReplyError as error:
            forget_origin(error)
            return error.text, ERROR
        except BaseException:
            return _failed()

    return call


def holding(
    function: Callable[..., Any], take: Callable[[], object], lend: Callable[[], object]
) -> Callable[..., Any]:
    """For what Lua calls that touches the node; see Scripting."""

    @wraps(function)
    def call(*args: Any) -> Any:
        take()
        try:
            return function(*args)
        finally:
            lend()

    return call


def _failed() -> tuple[bytes, int]:
    _log.exception("A script's call failed")
    return b"ERR internal error, see the server's log", ERROR


class Calls:
    """What lua/*.lua may ask of a node; `run` is the script under way."""

    def __init__(
        self,
        node: "Node",
        session: Session,
        take: Callable[[], object],
        lend: Callable[[], object],
    ) -> None:
        self.node = node
        self.take = take
        self.lend = lend
        self.session = session
        self.run: Run | Loading | None = None
        self.failure: bytes | None = None  # of the call that failed last
        self.converter: Converter
        self._gate = 0
        self._restricted = False
        self._clustered = node.topology.clustered

    def host(self) -> dict[bytes, Any]:
        """The functions, by their names in Lua."""
        functions: tuple[Callable[..., Any], ...] = (
            *(self.may_run, self.look, self.ended_at, self.is_running),
            *(self.log, self.setresp, self.set_repl, self.sha1hex),
            *(self.double, self.find, self.repeated),
        )
        take, lend = self.take, self.lend
        host = {
            function.__name__.encode(): holding(guarded(function), take, lend)
            for function in functions
        }
        return host | {b"invoke": self.invoke, b"invoke_all": self.invoke_all}

    def begin(self, run: Run) -> None:
        """The script under way from here on, until `run` is None."""
        self.run, self.failure = run, None
        session, client = self.session, run.session
        session.db = client.db
        session.protocol = 2
        session.user = client.user
        session.reads_replica = client.reads_replica
        self._gate = NOSCRIPT | CONTAINER | self.node.gate & (WRITE | ANY)
        self._restricted = self.node.acl.applies_to(client)
        if self._restricted:
            self._gate |= ANY
        if run.read_only:
            self._gate |= WRITE | MAY_REPLICATE
        if self.node.eviction.is_full and (run.flags & COMPATIBLE or not run.flags & ALLOW_OOM):
            self._gate |= DENYOOM

    # --- commands --------------------------------------------------------------------------------

    def invoke(self, *given: Any) -> Any:
        """redis.call and redis.pcall: a value, or (value, mark) as lua/redis.lua knows them."""
        node, session, row = self.node, self.session, None
        self.take()
        try:
            args = _words(given)
            row = node.rows.get(args[0]) or node.rows.find(args[0])
            if row is None:
                raise _UNKNOWN
            flags = row.flags
            if (
                flags & self._gate
                or not row.low <= len(args) <= row.high
                or (self._clustered and not self._is_near(row, args))
            ):
                row = self._admit(row, args)
                flags = row.flags
            if flags & WRITE:
                self.run.wrote = True  # type: ignore[union-attr]
            self.run.session.commands += 1  # type: ignore[union-attr]
            value = invoke(node, session, row, args)
            if type(value) is bytes and len(value) < LARGE:
                return value
            if type(value) is Wait:
                value = answer_now(value)
            if isinstance(value, ReplyError):
                self.failure = value.text
            return self.converter.answer(value, session.protocol)
        except ReplyError as error:
            forget_origin(error)
            self.failure = error.text if row is not None else None
            return error.text, ERROR
        except BaseException:
            return _failed()
        finally:
            self.lend()

    def invoke_all(self, given: Any) -> Any:
        """As `invoke`, for more values than Lua's stack takes: a table of them."""
        return self.invoke(*given.values())

    def _is_near(self, row: Row, args: list[bytes]) -> bool:
        """Whether a command's one key is in a slot of which this node has everything, and with the
        keys before it, if the script has to keep to one slot."""
        run, topology = self.run, self.node.topology
        if not row.single_key or not isinstance(run, Run):
            return False
        slot = topology.slot_of(args[1])
        if topology.mine is None or not topology.mine[slot]:
            return False
        if not run.flags & (COMPATIBLE | ALLOW_CROSS_SLOT):
            if run.slot not in (-1, slot):
                return False
            run.slot = slot
        self.node.keyspace.routed, self.node.keyspace.routed_part = args[1], slot
        return True

    def _admit(self, row: Row, args: list[bytes]) -> Row:
        """The row of a command that needs a second look; raises ReplyError."""
        row = find_row(self.node.rows, args)
        try:
            self._may_run(row, args)
        except ReplyError as error:
            row.rejected += 1
            self.node.observe.errors.count(error)
            raise
        return row

    def _may_run(self, row: Row, args: list[bytes]) -> None:
        node, run = self.node, self.run
        assert isinstance(run, Run)
        if not row.low <= len(args) <= row.high:
            raise _ARITY
        if row.flags & NOSCRIPT and node.scripting.denies:
            raise _NOT_ALLOWED
        if node.is_stale() and not row.flags & STALE:
            raise _STALE
        if self._restricted:
            self._check_user(row, args)
        if run.read_only and row.flags & (WRITE | MAY_REPLICATE):
            raise _READ_ONLY
        if row.flags & WRITE:
            self._may_write()
        if row.flags & DENYOOM & self._gate and not run.wrote:
            raise OUT_OF_MEMORY
        if node.topology.clustered:
            self._is_here(row, args)

    def _check_user(self, row: Row, args: list[bytes]) -> None:
        """Whether the client's user may run this."""
        acl, session, run = self.node.acl, self.session, self.run
        assert isinstance(run, Run)
        refusal = acl.refusal(session, row, args)
        if refusal is not None:
            text = acl.refused(session, refusal, row, args, SCRIPT, run.session)
            raise ReplyError(b"ERR ACL failure in script: " + text)

    def _may_write(self) -> None:
        node = self.node
        assert isinstance(self.run, Run)
        if self.run.session.internal or self.run.session.from_primary:
            return
        if node.is_replica() and node.config.replica_read_only:
            raise READ_ONLY_REPLICA
        refusal = not_stored(node)
        if refusal is not None:
            raise refusal
        if node.lacks_replicas():
            raise NO_REPLICAS

    def _is_here(self, row: Row, args: list[bytes]) -> None:
        """Whether a command's keys are this node's; what the script declared has been seen to."""
        run, topology = self.run, self.node.topology
        assert isinstance(run, Run)
        if run.session.internal or run.session.from_primary:
            return
        keys = [args[i] for i in row.key_indices(args)]
        if not keys:
            return
        slot = topology.slot_of(keys[0])
        if any(topology.slot_of(key) != slot for key in keys):
            raise _CROSS_SLOT
        self.session.asking = True  # a slot on its way here: the script itself has come by ASK
        refusal = topology.route(self.session, row, args)
        self.session.asking = False
        if refusal is not None:
            raise _refused(refusal)
        if run.flags & (COMPATIBLE | ALLOW_CROSS_SLOT):
            return
        if run.slot not in (-1, slot):
            raise _CROSS_SLOT
        run.slot = slot

    def may_run(self, *given: Any) -> Any:
        """redis.acl_check_cmd: whether the client's user may run this."""
        args = _words(given)
        try:
            row = find_row(self.node.rows, args)
        except ReplyError:
            raise _NO_SUCH_COMMAND from None
        return not self._restricted or self.node.acl.refusal(self.session, row, args) is None

    # --- the rest --------------------------------------------------------------------------------

    def look(self) -> Any:
        """See running.Run.look."""
        return self.run.look() if self.run is not None else None

    def is_running(self) -> bool:
        """Whether a script is under way."""
        return self.run is not None

    def ended_at(self, source: bytes | None = None, line: int | None = None, *_: Any) -> None:
        """Where the hook found the script that has to end."""
        if self.run is not None:
            self.run.ended_at(source, line)

    def log(self, level: int, text: bytes) -> None:
        """redis.log."""
        if _log.isEnabledFor(_LEVELS[level]):
            _log.log(_LEVELS[level], "%s", text[:LOGGED_MAX].decode(errors="replace"))

    def setresp(self, version: int) -> None:
        """redis.setresp: the protocol whose types commands answer with."""
        self.session.protocol = version

    def set_repl(self, audience: int) -> None:
        """redis.set_repl: who hears of what is changed from here on."""
        assert self.node.unit is not None
        self.node.unit.audience = AUDIENCES[audience]

    def sha1hex(self, text: bytes) -> bytes:
        """redis.sha1hex."""
        return sha1hex(text)

    def double(self, number: float) -> bytes:
        """The text of a double in a reply."""
        return format_double(number)

    def repeated(self, text: bytes, times: int) -> bytes | bool:
        """string.rep for large results; False where there is no memory for it."""
        return self.converter.interpreter.has_room(len(text) * times) and text * times

    def find(self, text: bytes, part: bytes, start: int) -> int:
        """Plain search, in linear time."""
        return text.find(part, start)


def sha1hex(text: bytes) -> bytes:
    """By which EVALSHA knows a script."""
    return hashlib.sha1(text, usedforsecurity=False).hexdigest().encode()


def _words(given: tuple[Any, ...]) -> list[bytes]:
    """The arguments of a command: numbers become text. Raises ReplyError."""
    if not given:
        raise _NO_ARGUMENTS
    words = list(given)
    for i, word in enumerate(words):
        if type(word) is not bytes:
            words[i] = _text(word)
    return words


def _text(word: Any) -> bytes:
    if type(word) is int:
        return b"%d" % word
    if type(word) is not float:
        raise _BAD_ARGUMENTS
    if isnan(word):
        return b"-nan" if copysign(1, word) < 0 else b"nan"
    return format_double(word)


def _refused(refusal: ReplyError) -> ReplyError:
    """In the words that scripts hear where a client would be sent elsewhere."""
    if refusal.text.startswith(b"CROSSSLOT"):
        return _CROSS_SLOT
    if refusal.text.endswith(b"only accepts read commands"):
        return _DOWN_FOR_WRITES
    if refusal.text.startswith(b"CLUSTERDOWN The cluster"):
        return _DOWN
    return _NOT_LOCAL
