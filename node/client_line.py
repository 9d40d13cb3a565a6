"""A client in a line, as CLIENT LIST and ACL LOG describe it."""

from node.pubsub import CHANNEL, PATTERN, SHARD
from node.session import PRIMARY, PUBSUB, REDIRECT, REPLICA, Session

CAPABILITIES = {REDIRECT: b"r"}


def describe(session: Session) -> bytes:
    """A client's line in CLIENT LIST, without its end."""
    node = session.node
    row = session.last_row
    transaction, watch, kinds = session.transaction, session.watch, session.subscriptions
    names = kinds.names if kinds is not None else {CHANNEL: (), PATTERN: (), SHARD: ()}
    queued = transaction.size() if transaction is not None else 0
    unsent = session.unsent()
    held = session.held()
    fields: dict[str, object] = {
        "id": session.id,
        "addr": session.address.decode(),
        "laddr": session.local_address.decode(),
        "fd": session.fd,
        "name": session.name.decode(),
        "age": (node.now_ms - session.created_ms) // 1000,
        "idle": (node.now_ms - session.active_ms) // 1000,
        "flags": flags(session).decode(),
        "capa": capabilities(session).decode(),
        "db": session.db.index,
        "sub": len(names[CHANNEL]),
        "psub": len(names[PATTERN]),
        "ssub": len(names[SHARD]),
        "multi": len(transaction.commands) if transaction is not None else -1,
        "watch": len(watch.keys) if watch is not None else 0,
        "qbuf": held,
        "qbuf-free": 0,
        "argv-mem": 0,
        "multi-mem": queued,
        "rbs": 0,
        "rbp": 0,
        "obl": 0,
        "oll": len(session.output),
        "omem": unsent,
        "tot-mem": held + queued + unsent,
        "events": "rw" if session.output_size else "r",
        "cmd": row.name.decode() if row is not None else "NULL",
        "user": session.user.decode(),
        "redir": session.tracked.redirect if session.tracked is not None else -1,
        "resp": session.protocol,
        "lib-name": session.library.decode(),
        "lib-ver": session.library_version.decode(),
        "tot-net-in": session.bytes_in,
        "tot-net-out": session.bytes_out,
        "tot-cmds": session.commands_run(),
    }
    return " ".join(f"{name}={value}" for name, value in fields.items()).encode()


def flags(session: Session) -> bytes:
    """The letters of what a client is and does."""
    is_watch_broken = session.watch is not None and session.watch.broken
    tracked = session.tracked
    letters = (
        (b"O", session.id in session.node.observe.monitors),
        (b"S", session.kind == REPLICA),
        (b"M", session.kind == PRIMARY),
        (b"i", session.imports is not None),
        (b"P", session.kind == PUBSUB),
        (b"x", session.transaction is not None),
        (b"b", session.waiting is not None),
        (b"t", tracked is not None),
        (b"R", tracked is not None and tracked.broken),
        (b"B", tracked is not None and tracked.broadcast),
        (b"d", is_watch_broken),
        (b"c", session.closing),
        (b"U", session.address.startswith(b"/")),
        (b"r", session.reads_replica),
        (b"e", session.no_evict),
        (b"T", session.no_touch),
        (b"I", session.import_source),
    )
    return b"".join(letter for letter, is_so in letters if is_so) or b"N"


def capabilities(session: Session) -> bytes:
    """The letters of what a client said that it is capable of."""
    return b"".join(CAPABILITIES[name] for name in sorted(session.capabilities))
