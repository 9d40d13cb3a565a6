"""CLIENT and its subcommands."""

from node.client_line import CAPABILITIES, describe
from node.command import ADMIN, ALLOW_BUSY, LOADING, NO_MULTI, NOSCRIPT, STALE, command
from node.commands.arguments import integer
from node.commands.client_filter import selected
from node.commands.connection import client_name
from node.commands.help import help_text
from node.pause import BY_CLIENT
from node.replies import NO_REPLY, OK, SYNTAX, ReplyError, Verbatim
from node.session import REPLY_OFF, REPLY_ON, REPLY_SKIP_NEXT, Session, session_gate

_COMMON = NOSCRIPT | LOADING | STALE
_ALL_NODES = (b"request_policy:all_nodes", b"response_policy:all_succeeded")
_FILTERS = (
    "[ID client-id [client-id ...]] [NOT-ID client-id [client-id ...]] "
    "[TYPE <NORMAL | MASTER | PRIMARY | SLAVE | REPLICA | PUBSUB>] "
    "[NOT-TYPE <NORMAL | MASTER | PRIMARY | SLAVE | REPLICA | PUBSUB>] "
    "[USER username] [NOT-USER username] [ADDR ip:port] [NOT-ADDR ip:port] [LADDR ip:port] "
    "[NOT-LADDR ip:port] [SKIPME <YES | NO>] [MAXAGE maxage] [NAME name] [NOT-NAME name] "
    "[IDLE idle] [FLAGS flags] [NOT-FLAGS flags] [LIB-NAME lib-name] [NOT-LIB-NAME lib-name] "
    "[LIB-VER lib-ver] [NOT-LIB-VER lib-ver] [DB db] [NOT-DB db] [CAPA capa] [NOT-CAPA capa] "
    "[IP ip] [NOT-IP ip]"
)

NO_SUCH_CLIENT = ReplyError(b"ERR No such client")
NOT_IMPORTING = ReplyError(b"ERR Server is not in import mode")
UNBLOCKED = ReplyError(b"UNBLOCKED client unblocked via CLIENT UNBLOCK")


@command("CLIENT", flags=0, group="connection", since="2.4.0", arity=-2)
def client(session: Session, args: list[bytes]):
    """Tells about connections, and changes them."""


@command(
    "CLIENT ID",
    flags=_COMMON | ALLOW_BUSY,
    group="connection",
    since="5.0.0",
    complexity="O(1)",
)
def client_id(session: Session, args: list[bytes]):
    """The number of this connection; no other ever had it."""
    return session.id


@command(
    "CLIENT INFO",
    flags=_COMMON,
    group="connection",
    since="6.2.0",
    complexity="O(1)",
    tips=(b"nondeterministic_output",),
)
def client_info(session: Session, args: list[bytes]):
    """This connection, described in a line."""
    session.last_row = session.node.rows[b"client"].subcommands[b"info"]
    return Verbatim(describe(session) + b"\n")


@command(
    f"CLIENT LIST {_FILTERS}",
    flags=_COMMON | ADMIN,
    group="connection",
    since="2.4.0",
    complexity="O(N) where N is the number of client connections",
    tips=(b"nondeterministic_output",),
)
def client_list(session: Session, args: list[bytes]):
    """All connections, or those that pass the filters, each described in a line."""
    session.last_row = session.node.rows[b"client"].subcommands[b"list"]
    lines = [describe(one) + b"\n" for one in selected(session, args[2:], skip_me=False)]
    return Verbatim(b"".join(lines))


@command(
    f"CLIENT KILL <ip:port | <{_FILTERS}>>",
    flags=_COMMON | ADMIN,
    group="connection",
    since="2.4.0",
    arity=-3,
    complexity="O(N) where N is the number of client connections",
)
def client_kill(session: Session, args: list[bytes]):
    """Ends the connection from an address, or those that pass the filters."""
    if len(args) == 3:
        victims = [one for one in session.node.sessions.values() if one.address == args[2]]
        if not victims:
            raise NO_SUCH_CLIENT
        _kill(session, victims[0])
        return OK
    chosen = list(selected(session, args[2:], skip_me=True))
    for victim in chosen:
        _kill(session, victim)
    return len(chosen)


def _kill(session: Session, victim: Session) -> None:
    """One that ends itself gets the answer first."""
    if victim is session:
        victim.close()
    else:
        victim.drop()


@command(
    "CLIENT SETNAME connection-name",
    flags=_COMMON | ALLOW_BUSY,
    group="connection",
    since="2.6.9",
    complexity="O(1)",
    tips=_ALL_NODES,
)
def client_setname(session: Session, args: list[bytes]):
    """Gives the connection a name that CLIENT LIST shows."""
    session.name = client_name(args[2])
    return OK


@command(
    "CLIENT GETNAME",
    flags=_COMMON | ALLOW_BUSY,
    group="connection",
    since="2.6.9",
    complexity="O(1)",
)
def client_getname(session: Session, args: list[bytes]):
    """The name of the connection, if it has one."""
    return session.name or None


@command(
    "CLIENT SETINFO <LIB-NAME libname | LIB-VER libver>",
    flags=_COMMON | ALLOW_BUSY,
    group="connection",
    since="7.2.0",
    complexity="O(1)",
    tips=_ALL_NODES,
)
def client_setinfo(session: Session, args: list[bytes]):
    """Notes which library the client uses, and its version."""
    option = args[2].lower()
    if option == b"lib-name":
        session.library = client_name(args[3], option)
    elif option == b"lib-ver":
        session.library_version = client_name(args[3], option)
    else:
        raise ReplyError(b"ERR Unrecognized option '%b'" % args[2])
    return OK


@command(
    "CLIENT REPLY <ON | OFF | SKIP>",
    flags=_COMMON | NO_MULTI | ALLOW_BUSY,
    group="connection",
    since="3.2.0",
    complexity="O(1)",
)
def client_reply(session: Session, args: list[bytes]):
    """Turns replies on or off, or leaves out the next one."""
    mode = args[2].upper()
    if mode == b"ON":
        session.reply_mode = REPLY_ON
    elif mode == b"OFF":
        session.reply_mode = REPLY_OFF
    elif mode != b"SKIP":
        raise SYNTAX
    elif session.reply_mode != REPLY_OFF:
        session.reply_mode = REPLY_SKIP_NEXT
    session.gate = session_gate(session)
    return OK if mode == b"ON" else NO_REPLY


@command(
    "CLIENT NO-EVICT <ON | OFF>",
    flags=_COMMON | ADMIN | ALLOW_BUSY,
    group="connection",
    since="7.0.0",
    complexity="O(1)",
)
def client_no_evict(session: Session, args: list[bytes]):
    """Keeps the connection open where others are closed for the memory they take."""
    session.no_evict = _on_or_off(args[2])
    return OK


@command(
    "CLIENT NO-TOUCH <ON | OFF>",
    flags=_COMMON | ALLOW_BUSY,
    group="connection",
    since="7.2.0",
    complexity="O(1)",
)
def client_no_touch(session: Session, args: list[bytes]):
    """Makes the connection's reads leave no trace in when a key was last used."""
    session.no_touch = _on_or_off(args[2])
    session.gate = session_gate(session)
    return OK


def _on_or_off(word: bytes) -> bool:
    if word.lower() not in (b"on", b"off"):
        raise SYNTAX
    return word.lower() == b"on"


@command(
    "CLIENT CAPA capability [capability ...]",
    flags=_COMMON | ALLOW_BUSY,
    group="connection",
    since="8.0.0",
    complexity="O(1)",
)
def client_capa(session: Session, args: list[bytes]):
    """Notes what the client is capable of; unknown words are ignored."""
    known = {word.lower() for word in args[2:]} & CAPABILITIES.keys()
    session.capabilities = session.capabilities | known
    session.gate = session_gate(session)
    return OK


@command(
    "CLIENT IMPORT-SOURCE <ON | OFF>",
    flags=_COMMON,
    group="connection",
    since="8.1.0",
    complexity="O(1)",
)
def client_import_source(session: Session, args: list[bytes]):
    """Marks the connection as one that data is imported by, where `import-mode` is on."""
    is_source = _on_or_off(args[2])
    if is_source and not session.node.config.import_mode:
        raise NOT_IMPORTING
    session.import_source = is_source
    session.gate = session_gate(session)
    return OK


@command(
    "CLIENT PAUSE timeout [WRITE | ALL]",
    flags=_COMMON | ADMIN,
    group="connection",
    since="3.0.0",
    complexity="O(1)",
    history=(("6.2.0", "Can hold back writes only."),),
)
def client_pause(session: Session, args: list[bytes]):
    """Holds back all clients' commands, or just those that write, for some milliseconds."""
    mode = args[3].upper() if len(args) == 4 else b"ALL"
    if len(args) > 4 or mode not in (b"WRITE", b"ALL"):
        raise ReplyError(b"ERR CLIENT PAUSE mode must be WRITE or ALL")
    timeout_ms = integer(args[2], ReplyError(b"ERR timeout is not an integer or out of range"))
    if timeout_ms < 0:
        raise ReplyError(b"ERR timeout is negative")
    node = session.node
    node.pause.start(BY_CLIENT, node.now_ms + timeout_ms, mode == b"ALL")
    return OK


@command(
    "CLIENT UNPAUSE",
    flags=_COMMON | ADMIN,
    group="connection",
    since="6.2.0",
    complexity="O(N) Where N is the number of paused clients",
)
def client_unpause(session: Session, args: list[bytes]):
    """Ends a pause before its time."""
    session.node.pause.stop(BY_CLIENT)
    return OK


@command(
    "CLIENT UNBLOCK client-id [TIMEOUT | ERROR]",
    flags=_COMMON | ADMIN,
    group="connection",
    since="5.0.0",
    complexity="O(log N) where N is the number of client connections",
)
def client_unblock(session: Session, args: list[bytes]):
    """Ends another client's waiting, as if its time had run out or with an error."""
    reason = args[3].upper() if len(args) > 3 else b"TIMEOUT"
    if len(args) > 4 or reason not in (b"TIMEOUT", b"ERROR"):
        raise ReplyError(b"ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    node = session.node
    other = node.sessions.get(integer(args[2]))
    if other is None or other.waiting is None or other.waiting.held_command:
        return 0
    value = UNBLOCKED if reason == b"ERROR" else other.waiting.expire()
    node.blocking.answer(other, value)
    return 1


@command(
    "CLIENT HELP",
    flags=LOADING | STALE,
    group="connection",
    since="5.0.0",
    complexity="O(1)",
)
def client_help(session: Session, args: list[bytes]):
    """What the subcommands do."""
    return help_text(session, b"CLIENT")
