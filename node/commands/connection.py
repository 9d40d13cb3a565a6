"""PING ECHO HELLO AUTH QUIT RESET SELECT."""

from node import gate, monitor
from node.acl.acl import DEFAULT
from node.command import ALLOW_BUSY, FAST, LOADING, NO_AUTH, NOSCRIPT, STALE, command
from node.commands.arguments import integer, integer32
from node.commands.transactions import end_transaction
from node.config.file import REDIS_VERSION
from node.replies import OK, PONG, SYNTAX, ReplyError, Status, printed, wrong_arity
from node.session import NORMAL, PUBSUB, REPLY_ON, Session

SERVER_NAME = b"redis"
ALL_SHARDS = (b"request_policy:all_shards", b"response_policy:all_succeeded")

WRONG_PASSWORD = ReplyError(b"WRONGPASS invalid username-password pair or user is disabled.")
NO_PASSWORD_SET = ReplyError(
    b"ERR AUTH <password> called without any password configured for the default user. "
    b"Are you sure your configuration is correct?"
)
HELLO_FIRST = ReplyError(
    b"NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO "
    b"<proto> AUTH <user> <pass> option can be used to authenticate the client and select the "
    b"RESP protocol version at the same time"
)
NO_SUCH_PROTOCOL = ReplyError(b"NOPROTO unsupported protocol version")
NO_NUMBER_OF_PROTOCOL = ReplyError(b"ERR Protocol version is not an integer or out of range")
NO_SUCH_DATABASE = ReplyError(b"ERR DB index is out of range")


@command(
    "PING [message]",
    flags=FAST,
    group="connection",
    since="1.0.0",
    complexity="O(1)",
    tips=ALL_SHARDS,
)
def ping(session: Session, args: list[bytes]):
    """Tells whether the server is there, or gives the message back."""
    if len(args) > 2:
        raise wrong_arity(b"ping")
    if len(args) == 1:
        if session.kind == PUBSUB and session.protocol == 2:
            return [b"pong", b""]
        return PONG
    if session.kind == PUBSUB and session.protocol == 2:
        return [b"pong", args[1]]
    return args[1]


@command(
    "ECHO message",
    flags=LOADING | STALE | FAST,
    group="connection",
    since="1.0.0",
    complexity="O(1)",
)
def echo(session: Session, args: list[bytes]):
    """Gives the message back."""
    return args[1]


@command(
    "HELLO [protover [AUTH username password] [SETNAME clientname]]",
    flags=NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
    group="connection",
    since="6.0.0",
    complexity="O(1)",
)
def hello(session: Session, args: list[bytes]):
    """Agrees on a protocol version with the server, and tells who it is."""
    protocol = session.protocol
    if len(args) > 1:
        protocol = integer(args[1], NO_NUMBER_OF_PROTOCOL)
        if protocol not in (2, 3):
            raise NO_SUCH_PROTOCOL
    credentials, name = _hello_options(args)
    if credentials is not None:
        authenticate(session, *credentials, args[0])
    if not session.authenticated:
        raise HELLO_FIRST
    if name is not None:
        session.name = name
    session.protocol = protocol
    session.gate = gate.session_gate(session)
    return _greeting(session)


def _hello_options(args: list[bytes]) -> tuple[tuple[bytes, bytes] | None, bytes | None]:
    credentials = name = None
    i = 2
    while i < len(args):
        option, left = args[i].upper(), len(args) - i - 1
        if option == b"AUTH" and left >= 2:
            credentials = args[i + 1], args[i + 2]
            i += 3
        elif option == b"SETNAME" and left >= 1:
            name = client_name(args[i + 1])
            i += 2
        else:
            raise ReplyError(b"ERR Syntax error in HELLO option '%b'" % printed(args[i]))
    return credentials, name


def _greeting(session: Session) -> dict[bytes, object]:
    node = session.node
    zone = node.config.availability_zone
    return {
        b"server": SERVER_NAME,
        b"version": REDIS_VERSION.encode(),
        b"proto": session.protocol,
        b"id": session.id,
        b"mode": b"cluster" if node.topology.clustered else b"standalone",
        b"role": b"replica" if node.is_replica() else b"master",
        b"modules": [],
        **({b"availability_zone": zone.encode()} if zone else {}),
    }


def client_name(name: bytes, what: bytes = b"Client names") -> bytes:
    """`name` if it may stand in CLIENT LIST; raises ReplyError."""
    if name.translate(None, _VISIBLE):
        raise ReplyError(b"ERR %b cannot contain spaces, newlines or special characters." % what)
    return name


_VISIBLE = bytes(range(ord("!"), ord("~") + 1))


@command(
    "AUTH [username] password",
    flags=NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
    group="connection",
    since="1.0.0",
    complexity="O(N) where N is the number of passwords defined for the user",
    history=(("6.0.0", "Takes a user's name too."),),
)
def auth(session: Session, args: list[bytes]):
    """Proves to the server who the client is."""
    if len(args) > 3:
        raise SYNTAX
    if len(args) == 2:
        if session.node.acl.users[DEFAULT].no_password:
            raise NO_PASSWORD_SET
        authenticate(session, DEFAULT, args[1], args[0])
    else:
        authenticate(session, args[1], args[2], args[0])
    return OK


def authenticate(session: Session, user: bytes, password: bytes, word: bytes) -> None:
    """Let the client in as a user, who said so by the command `word`; raises WRONG_PASSWORD."""
    if not session.node.acl.authenticate(session, user, password, word):
        raise WRONG_PASSWORD


@command(
    "QUIT",
    flags=NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
    group="connection",
    since="1.0.0",
    complexity="O(1)",
    arity=-1,
)
def quit_(session: Session, args: list[bytes]):
    """Closes the connection."""
    session.close()
    return OK


@command(
    "RESET",
    flags=NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | ALLOW_BUSY,
    group="connection",
    since="6.2.0",
    complexity="O(1)",
)
def reset(session: Session, args: list[bytes]):
    """Makes the connection what it was when it was new."""
    node = session.node
    end_transaction(session)
    node.pubsub.forget(session)
    node.tracking.stop(session)
    monitor.stop(node, session)
    session.db = node.keyspace[0]
    session.protocol = 2
    session.kind = NORMAL
    session.name = b""
    session.user = DEFAULT
    session.reply_mode = REPLY_ON
    session.asking = session.reads_replica = session.no_evict = session.no_touch = False
    session.import_source = False
    session.authenticated = session.parser.trusted = node.acl.lets_in()
    session.gate = gate.session_gate(session)
    return Status(b"RESET")


@command(
    "SELECT index",
    flags=LOADING | STALE | FAST | ALLOW_BUSY,
    group="connection",
    since="1.0.0",
    complexity="O(1)",
)
def select(session: Session, args: list[bytes]):
    """Changes the database that the connection works on."""
    node = session.node
    index = integer32(args[1])
    if not 0 <= index < node.database_count():
        raise NO_SUCH_DATABASE
    session.db = node.keyspace[index]
    return OK
