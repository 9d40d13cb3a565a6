"""A primary's commands: applied, and logged as they came, so that offsets stay the same."""

import logging
from typing import TYPE_CHECKING, Any

import attrs

from node.command import CONTAINER, STEERS, Row
from node.data.keyspace import HIDE, KEEP
from node.execute import answer_now, crash, execute, fail
from node.monitor import show_control
from node.persistence.log import AOF, BOTH, REPLICAS
from node.replies import ReplyError, Wait
from node.resp import RequestParser, encode_request
from node.session import PRIMARY, Session

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

# Commands of the stream itself; all others are executed.
_MULTI, _EXEC, _SELECT, _PING, _REPLCONF = b"MULTI", b"EXEC", b"SELECT", b"PING", b"REPLCONF"
_SPECIAL = frozenset((_MULTI, _EXEC, _SELECT, _PING, _REPLCONF))
_SECOND_LOOK = CONTAINER | STEERS


class StreamError(Exception):
    """What the primary sends is no stream of commands."""


class PropagationError(Exception):
    """A command that its origin has run can't be run here, and the process is to end for it."""


@attrs.define(eq=False)
class Stream:
    """session: executes the commands; its database is the stream's.

    asked_ack: the primary wants to know our offset.
    """

    node: "Node"
    session: Session
    asked_ack: bool = False
    _parser: RequestParser = attrs.field(factory=RequestParser)
    _raw: list[bytes] = attrs.field(factory=list)  # not applied yet
    _raw_size: int = 0
    _transaction: list[list[bytes]] | None = None  # MULTI and what has come after it
    _control: bool = False  # PING or REPLCONF are among what was applied of late

    def receive(self, data: bytes) -> None:
        """Apply the commands that these bytes complete; a transaction once EXEC is here. Raises
        StreamError."""
        self._raw.append(data)
        self._raw_size += len(data)
        keyspace = self.node.keyspace
        before = self.session.db.index
        keyspace.expiry = KEEP
        try:
            applied = self._take_all(self._parser.feed(data))
        finally:
            keyspace.expiry = HIDE
        if applied:
            self.session.commands += len(applied)
            self.session.last_row = self.node.rows.get(applied[-1][0])
        self._record(before, applied)
        if self._parser.error is not None:
            raise StreamError(self._parser.error.text.decode("latin-1"))

    def unapplied(self) -> int:
        """Bytes that wait for the end of their command or transaction."""
        return self._raw_size

    def _take_all(self, requests: list[list[bytes]]) -> list[list[bytes]]:
        """Apply requests, and those held; what was applied of them."""
        applied: list[list[bytes]] = []
        for args in requests:
            name = args[0].upper()
            if self._transaction is not None:
                self._transaction.append(args)
                if name == _EXEC:
                    whole, self._transaction = self._transaction, None
                    show_control(self.node, self.session, whole[0])
                    for inner in whole[1:-1]:
                        self._apply(inner[0].upper(), inner)
                    show_control(self.node, self.session, args)
                    applied += whole
            elif name == _MULTI:
                self._transaction = [args]
            else:
                self._apply(name, args)
                applied.append(args)
        return applied

    def _apply(self, name: bytes, args: list[bytes]) -> None:
        if name in _SPECIAL:
            self._apply_special(name, args)
            return
        row = self.node.rows.get(args[0])
        if row is None or row.flags & _SECOND_LOOK or self._is_watched():
            value = execute(self.node, self.session, args)
        else:
            value = self._run(row, args)
        if type(value) is ReplyError:
            _log.warning(
                "This replica cannot apply a command of its primary: %s after processing %r",
                *(value.text.decode("latin-1"), args[0][:64]),
            )
            if self.node.config.propagation_error_behavior != "ignore":
                raise PropagationError

    def _is_watched(self) -> bool:
        """Whether somebody sees every command, or every key that one touches."""
        return bool(self.node.observe.monitors or self.node.tracking.sessions)

    def _run(self, row: Row, args: list[bytes]) -> Any:
        """What `execute` comes to for a command that a primary has run and nobody looks at."""
        session = self.session
        row.calls += 1
        try:
            if not row.low <= len(args) <= row.high:
                row.check_arity(args)
            value = row.handler(session, args)
        except ReplyError as error:
            value = fail(self.node, session, row, error)
        except Exception:
            value = crash(session, args)
        session.effects = None  # what is logged is the primary's own words
        return answer_now(value) if type(value) is Wait else value

    def _apply_special(self, name: bytes, args: list[bytes]) -> None:
        if name == _PING:
            show_control(self.node, self.session, args)
        if name == _SELECT:
            databases = self.node.keyspace.databases
            number = int(args[1]) if args[1:] and args[1].isdigit() else -1
            if not 0 <= number < len(databases):
                raise StreamError(f"it selects database {args[1:]!r}")
            self.session.db = databases[number]
            show_control(self.node, self.session, args)
            return
        self._control = True
        if name == _REPLCONF and len(args) > 1 and args[1].upper() == b"GETACK":
            self.asked_ack = True

    def _record(self, before: int, applied: list[list[bytes]]) -> None:
        """Log the bytes of what was applied; the rest waits for its end."""
        held = self._transaction or ()
        size = self._raw_size - self._parser.unfinished() - sum(map(_size, held))
        if not size:
            return
        raw = self._raw[0] if len(self._raw) == 1 else b"".join(self._raw)
        rest = raw[size:]
        self._raw = [rest] if rest else []
        self._raw_size = len(rest)
        data = raw[:size] if rest else raw
        log = self.node.log
        after = self.session.db.index
        if not self._control or log.aof is None:
            log.append_raw(data, before, after, BOTH)
            return
        self._control = False
        log.append_raw(data, before, after, REPLICAS)
        kept = [args for args in applied if args[0].upper() not in (_PING, _REPLCONF)]
        log.append_raw(b"".join(map(encode_request, kept)), before, after, AOF)


def _size(args: list[bytes]) -> int:
    return len(encode_request(args))


def primary_session(node: "Node", address: bytes, db: int) -> Session:
    """The client that a primary's stream is, in CLIENT LIST too."""
    session = node.session(address)
    session.db = node.keyspace[db]
    session.kind = PRIMARY
    session.from_primary = True
    session.authenticated = True
    session.gate = 0
    return session
