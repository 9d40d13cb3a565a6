"""Run commands: the one place where data changes.

`run` is the path of every request. A command that needs no second look (the flags of its row meet
neither gate, its arity fits, its slot is here) is called at once; everything else goes through
gate.admit first. Whatever changed data goes through `finish`.
"""

import contextlib
import logging
from binascii import crc_hqx
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from node import gate, monitor
from node.command import DENYOOM, NO_AUTH, NO_MULTI, QUEUES, SKIP_MONITOR, WRITE, Row, find_row
from node.data.keyspace import EXPIRE, HIDE, KEEP
from node.persistence.log import BOTH, REPLICAS
from node.replies import (
    NO_REPLY,
    NOT_AUTHENTICATED,
    PENDING,
    QUEUED,
    Encoded,
    ReplyError,
    Status,
    Wait,
    forget_origin,
)
from node.resp import BULK_HEADS, INTEGERS, SMALL, encode
from node.session import REPLY_ON, REPLY_SKIP, REPLY_SKIP_NEXT, Session, session_gate

if TYPE_CHECKING:
    from node.node import Node

_log = logging.getLogger(__name__)

LARGE_REPLY = 1024  # bytes; what is smaller is bounded by the number of requests in a turn
MAX_OUTPUT = 4 * 1024 * 1024

# A web page may make a browser send requests here: the rest of one must not run as commands.
_SPOKEN_BY_BROWSERS = frozenset((b"post", b"host:"))
_ATTACK = (
    "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands "
    "to Redis. This is likely due to an attacker attempting to use Cross Protocol Scripting to "
    "compromise your Redis instance. Connection from %s aborted."
)

# What `session.effects` is where the command's effects have been logged already.
LOGGED: list[list[bytes]] = []


@attrs.define(eq=False)
class Unit:
    """Effects that belong together: of a transaction or a script.

    audience: who hears of what is added now; see redis.set_repl.
    """

    effects: list[tuple[int, list[bytes], int]] = attrs.field(factory=list)
    audience: int = BOTH

    def add(self, db: int, effects: list[list[bytes]], audience: int = BOTH) -> None:
        audience &= self.audience
        if audience:
            self.effects += [(db, effect, audience) for effect in effects]


Batch = list[tuple[Session, list[list[bytes]], bytes | None]]


def run(node: "Node", batch: Batch) -> None:
    """Run requests in order and queue their replies.

    batch: sessions, each with what it asks and the very bytes that was parsed from, where known;
    they are logged as they are when every request turns out to belong in the log as it came.

    What comes after MAX_OUTPUT bytes of large replies is kept in `session.requests`, until the
    client has read them: its driver calls node.resume then.
    """
    rows = node.rows
    keyspace = node.keyspace
    log = node.log
    blocking = node.blocking
    pubsub = node.pubsub
    mine: Any = node.topology.mine
    slot_of = node.topology.slot_of
    dirty = keyspace.dirty
    # Requests mostly ask for the same command as the one before: what is known of it is kept.
    name: bytes | None = None
    row: Any = None
    here = False  # whether it may run here, without a second look
    routes = single_key = False  # whether it has to be asked where its keys, or its key, belong
    gates = low = high = 0
    handler: Any = None
    value: Any
    for session, requests, chunk in batch:
        if session.closing:
            continue
        start = dirty
        mark = log.mark() if log.active else 0
        if session.gate | node.gate != gates:
            gates = session.gate | node.gate
            name = None
        pubsub.current = session
        reply = session.output.append
        output_left = MAX_OUTPUT
        rest = iter(requests)
        for args in rest:
            if args[0] != name:
                name = args[0]
                row = rows.get(name)
                here = row is not None and not row.flags & gates
                routes = here and mine is not None and not row.keyless
                if here:
                    low, high, handler = row.low, row.high, row.handler
                    single_key = row.single_key
            if routes and low <= len(args) <= high:
                if single_key:  # most commands: the slot is worked out once, and right here
                    keyspace.routed = key = args[1]
                    # 123 is "{", found six times as fast as b"{" is.
                    slot = slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383
                    keyspace.routed_part = slot
                    here = mine[slot] == 1
                else:
                    here = _are_here(node, mine, row, args)
            try:
                if here and low <= len(args) <= high:
                    row.calls += 1
                    value = handler(session, args)
                elif gates & QUEUES and _is_queued(node, session, args, gates ^ QUEUES):
                    row = name = None
                    value = QUEUED
                else:
                    row, value = _run_slowly(node, session, args)
                    gates = session.gate | node.gate
                    name = None
                    if session.closing:
                        deque(rest, 0)  # what came after it does not run
            except ReplyError as error:
                value = fail(node, session, row, error)
            except Exception:
                value = crash(session, args)
            if keyspace.dirty != dirty:
                if session.effects is not None:
                    finish(node, session, args)
                elif log.active:  # here there is no unit, and no primary's stream
                    log.append_one(session.db.index, args)
                if blocking.ready:
                    blocking.serve()
                if session.late:
                    value = _with_late(session, value)
                dirty = keyspace.dirty
            kind = type(value)
            if kind is Status:
                reply(value.line)
                continue
            if kind is bytes:
                size = len(value)
                if size < SMALL:
                    reply(BULK_HEADS[size] + value + b"\r\n")
                    continue
                data = b"$%d\r\n%b\r\n" % (size, value)
            elif kind is int:
                reply(INTEGERS[value] if 0 <= value < SMALL else b":%d\r\n" % value)
                continue
            elif kind is Wait:
                blocking.wait(session, value, args)
                session.requests += rest
                continue
            else:
                data = encode(value, session.protocol)
            reply(data)
            if len(data) > LARGE_REPLY:
                output_left -= len(data)
                if output_left < 0:
                    session.requests += rest
        if row is not None:
            session.last_row = row
        if session.late:
            session.output += session.late
            session.late.clear()
        if dirty != start and log.active:
            log.writers.append(session)
            if chunk is not None:
                log.shorten(mark, requests, chunk)
    pubsub.current = None


def _is_queued(node: "Node", session: Session, args: list[bytes], gates: int) -> bool:
    """Keep a request for EXEC, if nothing but MULTI keeps it from running here and now."""
    if gates & DENYOOM:  # what is kept needs memory itself
        return False
    row = node.rows.get(args[0])
    if row is None or row.flags & (gates | NO_MULTI) or row.name in gate.SCRIPTS:
        return False
    if not row.low <= len(args) <= row.high:
        return False
    mine = node.topology.mine
    if mine is not None and not row.keyless and not _are_here(node, mine, row, args):
        return False
    session.transaction.queue(row, args, row.flags)
    return True


def _run_slowly(node: "Node", session: Session, args: list[bytes]) -> tuple[Row | None, Any]:
    """One request that needs a second look: its row, if it ran, and the reply."""
    keyspace = node.keyspace
    row, value = admit(node, session, args)
    if row is not None:
        row.calls += 1
        keyspace.noting = not session.no_touch
        started_ns = node.clock.monotonic_ns()
        try:
            value = _perform(node, session, row, args)
        except ReplyError as error:
            value = fail(node, session, row, error)
        finally:
            keyspace.noting = True
        if type(value) is not Wait:
            spent_ns = node.clock.monotonic_ns() - started_ns
            row.times.add(spent_ns)
            if node.slot_stats.is_on():
                node.slot_stats.note(session, row, args, value, spent_ns)
    if session.tracked is not None:
        node.tracking.command_over(session, args[0])
    if session.reply_mode != REPLY_ON:
        value = _muted(session, value)
    if session.late:
        value = _with_late(session, value)
    return row, value


def _perform(node: "Node", session: Session, row: Row, args: list[bytes]) -> Any:
    """Call a handler; let those who look on or keep copies of keys know what it was asked."""
    keyspace = node.keyspace
    if keyspace.expiry == HIDE and row.flags & WRITE and node.log.follows:
        # A replica's own write: what it hides from readers must not get in its way.
        keyspace.expiry = EXPIRE
        try:
            return _perform(node, session, row, args)
        finally:
            keyspace.expiry = HIDE
    if session.import_source and keyspace.expiry == HIDE:
        keyspace.expiry = KEEP
        try:
            return _perform(node, session, row, args)
        finally:
            keyspace.expiry = HIDE
    monitors, tracking = node.observe.monitors, node.tracking
    if not (monitors or tracking.sessions):
        return row.handler(session, args)
    if row.flags & SKIP_MONITOR:  # a script, of which the calls are seen, and after it
        monitor.show_control(node, session, args)
    try:
        return row.handler(session, args)
    finally:
        if monitors and session.waiting is None:  # who waits was seen when it began to
            monitor.show(node, session, row, args)
        reader = session if session.id else node.pubsub.current
        if reader is not None and reader.tracked is not None:
            tracking.note(reader, row, args)


def execute(node: "Node", session: Session, args: list[bytes]) -> Any:
    """Run one command that is part of something larger: a transaction, a script, a primary's
    stream, a key's expiry. Its effects join the unit under way, if there is one.

    Returns the reply as a value, a refusal as a ReplyError. Never waits: what would block answers
    as it does at its deadline.
    """
    value = _call(node, session, args)
    return answer_now(value) if type(value) is Wait else value


def run_again(node: "Node", session: Session, args: list[bytes]) -> Any:
    """Run the command of a client that waits for keys, as if it had just come.

    Returns the reply, or a Wait where there is none yet.
    """
    dirty, pubsub = node.keyspace.dirty, node.pubsub
    current, pubsub.current = pubsub.current, session  # what it tells itself follows its reply
    try:
        row, value = admit(node, session, args)
        if row is not None:
            value = invoke(node, session, row, args)
        elif type(value) is ReplyError:
            row = node.rows.find(args[0])
        if row is not None:
            row.calls -= 1  # it was counted when it began to wait
    finally:
        pubsub.current = current
    if node.keyspace.dirty != dirty and node.log.active:
        node.log.writers.append(session)
    return value


def execute_all(
    node: "Node",
    session: Session,
    commands: Iterable[tuple[Row, list[bytes]]],
    collect: Callable[[Any], None],
) -> None:
    """Run admitted commands as one: who reads the log gets their effects as a whole.

    collect: takes each reply; a refusal is a ReplyError.
    """
    dirty = node.keyspace.dirty
    outer = begin_unit(node)
    try:
        for row, args in commands:
            if node.acl.applies_to(session):
                refusal = node.acl.since_queued(session, row, args)
                if refusal is not None:
                    collect(reject(node, session, row, refusal))
                    continue
            value = invoke(node, session, row, args)
            collect(answer_now(value) if type(value) is Wait else value)
    finally:
        end_unit(node, session, outer, dirty)


@contextlib.contextmanager
def unit(node: "Node", session: Session) -> Iterator[None]:
    """Log what happens inside as one, and not the command that brings it about."""
    dirty = node.keyspace.dirty
    outer = begin_unit(node)
    try:
        yield
    finally:
        end_unit(node, session, outer, dirty)


def begin_unit(node: "Node") -> Unit | None:
    """`unit` in two steps: what this returns is for `end_unit`."""
    outer = node.unit
    if outer is None:
        node.unit = Unit()
    return outer


def end_unit(node: "Node", session: Session, outer: Unit | None, dirty: int) -> None:
    """Log what has happened since begin_unit; `dirty` is the keyspace's count of changes then."""
    inner = node.unit
    if outer is None:
        node.unit = None
        assert inner is not None
        node.log.append_unit(inner.effects)
    if node.keyspace.dirty != dirty:
        session.effects = LOGGED


def log_beside(node: "Node", session: Session, args: list[bytes]) -> None:
    """Log for replicas only a command that changes no data: PUBLISH."""
    if not node.log.active or session.from_primary:
        return
    if node.unit is not None:
        node.unit.add(session.db.index, [args], REPLICAS)
    else:
        node.log.append(session.db.index, [args], REPLICAS)


def admit(node: "Node", session: Session, args: list[bytes]) -> tuple[Row | None, Any]:
    """The long way to a row: (row, None) for a command that may run, (None, reply) otherwise."""
    row = None
    try:
        row = find_row(node.rows, args)
        value = gate.admit(node, session, row, args)
    except ReplyError as error:
        if row is None and args[0].lower() in _SPOKEN_BY_BROWSERS:
            _log.warning(_ATTACK, session.address.decode())
            session.drop()
            return None, NO_REPLY
        return None, reject(node, session, row, error)
    return (row, None) if value is None else (None, value)


def _call(node: "Node", session: Session, args: list[bytes]) -> Any:
    row, value = admit(node, session, args)
    return value if row is None else invoke(node, session, row, args)


def invoke(node: "Node", session: Session, row: Row, args: list[bytes]) -> Any:
    """Run an admitted command outside the turn of its client; the reply, or a Wait."""
    keyspace = node.keyspace
    dirty = keyspace.dirty
    value: Any
    try:
        value = _perform(node, session, row, args)
    except ReplyError as error:
        value = fail(node, session, row, error)
    except Exception:
        value = crash(session, args)
    if keyspace.dirty != dirty and (node.log.active or session.effects is not None):
        finish(node, session, args)
    row.calls += 1
    return value


def answer_now(wait: Wait) -> Any:
    """The reply of a command that may not wait."""
    value = wait.at_once if wait.poll is None else wait.poll()
    return wait.expire() if value is PENDING else value


def finish(node: "Node", session: Session, args: list[bytes]) -> None:
    """Log what a command did: its own words, or the effects its handler named instead."""
    effects, session.effects = session.effects, None
    log = node.log
    if not log.active or session.from_primary or effects is LOGGED:
        return
    if node.unit is not None:
        node.unit.add(session.db.index, effects or [args])
    elif effects is None:
        log.append_one(session.db.index, args)
    else:
        log.append(session.db.index, effects)


def reject(node: "Node", session: Session, row: Row | None, error: ReplyError) -> ReplyError:
    """Count a command that may not run; inside MULTI that spoils the transaction."""
    forget_origin(error)
    session.commands -= 1
    if not session.authenticated and not (row is not None and row.flags & NO_AUTH):
        error = NOT_AUTHENTICATED
    if row is not None:
        row.rejected += 1
        if row.name == b"exec":
            error = gate.abort(session, error)
    if session.transaction is not None:
        session.transaction.spoiled = True
    node.observe.errors.count(error)
    return error


def fail(node: "Node", session: Session, row: Row | None, error: ReplyError) -> ReplyError:
    """Count a command that ran and ended in an error."""
    forget_origin(error)
    if session.effects is not LOGGED:
        session.effects = None
    node.observe.errors.count(error)
    if row is not None:
        row.failed += 1
    return error


def crash(session: Session, args: list[bytes]) -> ReplyError:
    """A handler failed in a way it should not: say so, keep serving."""
    session.effects = None
    _log.exception("Command %r failed", args[0][:64])
    return ReplyError(b"ERR internal error, see the server's log")


def _are_here(node: "Node", mine: bytearray, row: Row, args: list[bytes]) -> bool:
    """Whether the fast path may run this in a cluster: its keys, several maybe, are all in one
    slot, which is this node's."""
    if row.key_slice is not None:
        keys = args[row.key_slice]
    else:
        keys = [args[i] for i in row.key_indices(args)]
    if not keys:
        return row.key_slice is not None
    slot_of = node.topology.slot_of
    slot = slot_of(keys[0])
    for key in keys:
        if (slot_of(key) if 123 in key else crc_hqx(key, 0) & 16383) != slot:
            return False
    node.keyspace.routed, node.keyspace.routed_part = keys[0], slot
    return mine[slot] == 1


def _with_late(session: Session, value: Any) -> Any:
    """A reply, and after it the messages that its command has sent to the client itself."""
    if type(value) is Wait or session.reply_mode != REPLY_ON:
        return value
    late, session.late = session.late, []
    return Encoded(b"".join([encode(value, session.protocol), *late]))


def _muted(session: Session, value: Any) -> Any:
    """What is left of a reply under CLIENT REPLY OFF or SKIP."""
    if type(value) is Wait:
        return value
    if type(value) is ReplyError and session.on_error is not None:
        session.on_error(value)
    if session.reply_mode == REPLY_SKIP_NEXT:  # set by this very command
        session.reply_mode = REPLY_SKIP
    elif session.reply_mode == REPLY_SKIP:
        session.reply_mode = REPLY_ON
    session.gate = session_gate(session)
    return NO_REPLY
