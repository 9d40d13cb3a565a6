"""MONITOR: every command that runs, shown to those who look on.

A line is `+1700000000.123456 [0 127.0.0.1:5000] "SET" "key" "value"`: the time, the database (the
command's own for SELECT), who asked, and what was asked, not what it came to. Commands that
administer the server are left out, and passwords are hidden.

https://redis.io/docs/latest/commands/monitor/
"""

import re
from typing import TYPE_CHECKING

from node.command import ADMIN, SKIP_MONITOR, Row
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node

_HIDDEN = b"(redacted)"


def start(node: "Node", session: Session) -> bool:
    """Show the client every command from here on; False if that is so already."""
    if session.id in node.observe.monitors:
        return False
    node.observe.monitors[session.id] = session
    node.refresh_gate()
    return True


def stop(node: "Node", session: Session) -> None:
    """The client has gone, or has seen enough."""
    if node.observe.monitors.pop(session.id, None) is not None:
        node.refresh_gate()


def show(node: "Node", session: Session, row: Row, args: list[bytes]) -> None:
    """A command of this client has run: let those who look on see it."""
    if not row.flags & (ADMIN | SKIP_MONITOR) and node.loading is None:
        _send(node, _line(node, session, _without_secrets(row, args)))


def show_control(node: "Node", session: Session, args: list[bytes]) -> None:
    """As `show`, for what a primary's stream holds beside commands: MULTI, EXEC, SELECT, PING."""
    if node.observe.monitors:
        _send(node, _line(node, session, args))


def _send(node: "Node", line: bytes) -> None:
    current = node.pubsub.current
    for monitor in node.observe.monitors.values():
        if current is not None and monitor is current:
            current.late.append(line)
        elif not monitor.closing:
            monitor.push_encoded(line)


def _line(node: "Node", session: Session, args: list[bytes]) -> bytes:
    seconds, milliseconds = divmod(node.keyspace.now_ms, 1000)
    words = b" ".join(map(quoted, args))
    place = b"[%d %b]" % (session.db.index, _origin(node, session))
    return b"+%d.%06d %b %b\r\n" % (seconds, milliseconds * 1000, place, words)


def _origin(node: "Node", session: Session) -> bytes:
    if not session.id:
        return b"lua"  # who is no client asks on behalf of a script
    if session.address.startswith(b"/"):
        return b"unix:" + node.config.unixsocket.encode()
    return session.address


def _without_secrets(row: Row, args: list[bytes]) -> list[bytes]:
    """The arguments, passwords and their users' names replaced."""
    if row.name == b"auth":
        return [args[0], *[_HIDDEN] * (len(args) - 1)]
    secret = _SECRETS.get(row.name)
    if secret is None:
        return args
    shown = list(args)
    i, options = secret
    while i < len(args):
        following, is_secret = options.get(args[i].upper(), (0, False))
        i += 1
        if following <= len(args) - i:
            if is_secret:
                shown[i : i + following] = [_HIDDEN] * following
            i += following
    return shown


# Where options begin, how many arguments follow each, and whether those are secret.
_SECRETS = {
    b"hello": (2, {b"AUTH": (2, True), b"SETNAME": (1, False)}),
    b"migrate": (6, {b"AUTH": (1, True), b"AUTH2": (2, True)}),
}


# --- quoting --------------------------------------------------------------------------------------

_ESCAPED = {0x22: b'\\"', 0x5C: b"\\\\", 7: b"\\a", 8: b"\\b", 9: b"\\t", 10: b"\\n", 13: b"\\r"}
_ODD = re.compile(rb"[^ !#-\[\]-~]")


def quoted(arg: bytes) -> bytes:
    """An argument between quotes, what cannot be printed escaped."""
    return b'"%b"' % _ODD.sub(_escape, arg)


def _escape(match: re.Match[bytes]) -> bytes:
    byte = match[0][0]
    return _ESCAPED.get(byte) or b"\\x%02x" % byte
