"""MIGRATE RESTORE-ASKING."""

from collections.abc import Sequence

from node.command import ASKING, DENYOOM, WRITE, Keys, command
from node.commands.arguments import integer
from node.commands.generic import restore
from node.data.number import as_integer
from node.moving import Order
from node.replies import SYNTAX, ReplyError, Status
from node.session import Session

DEFAULT_TIMEOUT_MS = 1000
NO_KEY = Status(b"NOKEY")
KEYS_AND_KEY = ReplyError(
    b"ERR When using MIGRATE KEYS option, the key argument must be set to the empty string"
)


_VALUES = {b"COPY": 0, b"REPLACE": 0, b"AUTH": 1, b"AUTH2": 2}


def _keys(args: Sequence[bytes]) -> list[int]:
    """The key in its place, or those after KEYS."""
    if not args[3]:
        i = 6
        while i < len(args):
            word = args[i].upper()
            if word == b"KEYS":
                return list(range(i + 1, len(args)))
            i += 1 + _VALUES.get(word, 0)  # a password may be "KEYS" too
    return [3]


@command(
    'MIGRATE host port <key | ""> destination-db timeout [COPY] [REPLACE] '
    "[AUTH password | AUTH2 username password] [KEYS key [key ...]]",
    flags=WRITE,
    group="generic",
    since="2.6.0",
    arity=-6,
    keys=(
        Keys("RW ACCESS DELETE", 3),
        Keys("RW ACCESS DELETE INCOMPLETE", -2, last=-1, keyword=b"KEYS"),
    ),
    find_keys=_keys,
    categories="dangerous",
    complexity="That of DUMP and DEL here and of RESTORE there, and O(N) for what is sent",
    tips=(b"nondeterministic_output",),
    history=(
        ("3.0.0", "Added the `COPY` and `REPLACE` options."),
        ("3.0.6", "Added the `KEYS` option."),
        ("4.0.7", "Added the `AUTH` option."),
        ("6.0.0", "Added the `AUTH2` option."),
    ),
)
def migrate(session: Session, args: list[bytes]):
    """Moves keys to another server."""
    order, keys = _order(args)
    here = [key for key in keys if session.db.exists(key)]
    if not here:
        return NO_KEY
    moving = session.node.moving
    in_the_middle = session.node.unit is not None or session.internal
    return (moving.carry if in_the_middle else moving.begin)(session, here, order)


def _order(args: list[bytes]) -> tuple[Order, list[bytes]]:
    """What is to be done, and with which keys."""
    words, keys = _options(args)
    timeout_ms, db = integer(args[5]), integer(args[4])
    order = Order(
        args[1].decode("latin-1"),
        _port(args[2]),
        db,
        timeout_ms if timeout_ms > 0 else DEFAULT_TIMEOUT_MS,
        copy=b"COPY" in words,
        replace=b"REPLACE" in words,
        auth=words.get(b"AUTH2") or words.get(b"AUTH", ()),
    )
    return order, keys


def _options(args: list[bytes]) -> tuple[dict[bytes, tuple[bytes, ...]], list[bytes]]:
    """The options, each with its values, and the keys; raises ReplyError."""
    words: dict[bytes, tuple[bytes, ...]] = {}
    i = 6
    while i < len(args):
        word = args[i].upper()
        if word == b"KEYS":
            if args[3]:
                raise KEYS_AND_KEY
            return words, args[i + 1 :]
        count = _VALUES.get(word)
        if count is None or i + count >= len(args):
            raise SYNTAX
        words[word] = tuple(args[i + 1 : i + 1 + count])
        i += 1 + count
    return words, [args[3]]


def _port(arg: bytes) -> int:
    """The port as C's atoi reads it: what is no port can't be connected to."""
    number = as_integer(arg)
    return number if number is not None and 0 <= number < 65536 else 0


@command(
    "RESTORE-ASKING key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] "
    "[FREQ frequency]",
    flags=WRITE | DENYOOM | ASKING,
    group="server",
    since="3.0.0",
    access="OW UPDATE",
    categories="keyspace dangerous",
    complexity="O(N) for a collection of N elements",
    history=(
        ("3.0.0", "Added the `REPLACE` modifier."),
        ("5.0.0", "Added the `ABSTTL` modifier."),
        ("5.0.0", "Added the `IDLETIME` and `FREQ` options."),
    ),
)
def restore_asking(session: Session, args: list[bytes]):
    """RESTORE, also in a slot that is being moved here: what MIGRATE sends."""
    return restore(session, args)
