"""COMMAND and its subcommands."""

from collections.abc import Callable

from node.command import LOADING, NO_MANDATORY_KEYS, STALE, TABLE, FastTable, Row, command, find_row
from node.commands.docs import access_flags, all_rows, docs, find, info
from node.commands.help import help_text
from node.data.pattern import compiled
from node.replies import SYNTAX, Members, ReplyError, Status
from node.session import Session

_COMMON = LOADING | STALE
_ANY_ORDER = (b"nondeterministic_output_order",)

BAD_COMMAND = ReplyError(b"ERR Invalid command specified")
BAD_ARGUMENT_COUNT = ReplyError(b"ERR Invalid number of arguments specified for command")
BAD_ARGUMENTS = ReplyError(b"ERR Invalid arguments specified for command")
NO_KEYS = ReplyError(b"ERR The command has no key arguments")


@command(
    "COMMAND",
    flags=_COMMON,
    group="server",
    since="2.8.13",
    arity=-1,
    categories="connection",
    complexity="O(N) where N is the total number of commands",
    tips=_ANY_ORDER,
)
def command_(session: Session, args: list[bytes]):
    """Describes all commands."""
    return [info(row) for row in all_rows()]


@command(
    "COMMAND COUNT",
    flags=_COMMON,
    group="server",
    since="2.8.13",
    categories="connection",
    complexity="O(1)",
)
def command_count(session: Session, args: list[bytes]):
    """How many commands there are."""
    return len(TABLE)


@command(
    "COMMAND INFO [command-name ...]",
    flags=_COMMON,
    group="server",
    since="2.8.13",
    categories="connection",
    complexity="O(N) where N is the number of commands to look up",
    tips=_ANY_ORDER,
)
def command_info(session: Session, args: list[bytes]):
    """Describes some commands, or all."""
    if len(args) == 2:
        return command_(session, args)
    rows = [find(name) for name in args[2:]]
    return [info(row) if row is not None else None for row in rows]


@command(
    "COMMAND DOCS [command-name ...]",
    flags=_COMMON,
    group="server",
    since="7.0.0",
    categories="connection",
    complexity="O(N) where N is the number of commands to look up",
    tips=_ANY_ORDER,
)
def command_docs(session: Session, args: list[bytes]):
    """What commands are for and what arguments they take."""
    rows = all_rows() if len(args) == 2 else [find(name) for name in args[2:]]
    return {row.name: docs(row) for row in rows if row is not None}


@command(
    "COMMAND LIST [FILTERBY <MODULE module-name | ACLCAT category | PATTERN pattern>]",
    flags=_COMMON,
    group="server",
    since="7.0.0",
    categories="connection",
    complexity="O(N) where N is the total number of commands",
    tips=_ANY_ORDER,
)
def command_list(session: Session, args: list[bytes]):
    """The names of commands and of their subcommands, or of those that a filter lets through."""
    rows = [one for row in all_rows() for one in (row, *row.subcommands.values())]
    if len(args) == 2:
        return Members(row.name for row in rows)
    if len(args) != 5 or args[2].upper() != b"FILTERBY":
        raise SYNTAX
    test = _filter(args[3].upper(), args[4])
    return [row.name for row in rows if test(row)]


def _filter(kind: bytes, word: bytes) -> Callable[[Row], bool]:
    if kind == b"MODULE":
        return lambda row: False
    if kind == b"ACLCAT":
        category = b"@" + word.lower()
        return lambda row: category in row.categories
    if kind == b"PATTERN":
        matches = compiled(word, True)
        return lambda row: matches(row.name)
    raise SYNTAX


@command(
    "COMMAND GETKEYS command [arg ...]",
    flags=_COMMON,
    group="server",
    since="2.8.13",
    categories="connection",
    complexity="O(N) where N is the number of arguments to the command",
)
def command_getkeys(session: Session, args: list[bytes]):
    """Which arguments of a command are keys."""
    return [key for key, _ in _keys_and_uses(session, args[2:])]


@command(
    "COMMAND GETKEYSANDFLAGS command [arg ...]",
    flags=_COMMON,
    group="server",
    since="7.0.0",
    categories="connection",
    complexity="O(N) where N is the number of arguments to the command",
)
def command_getkeysandflags(session: Session, args: list[bytes]):
    """Which arguments of a command are keys, and what it does with each."""
    return [
        [key, Members(Status(word) for word in access_flags(use))]
        for key, use in _keys_and_uses(session, args[2:])
    ]


def _keys_and_uses(session: Session, request: list[bytes]) -> list[tuple[bytes, str]]:
    """The keys of a command; raises ReplyError where it has none."""
    row = _row_with_keys(session.node.rows, request)
    uses = row.key_uses(request)
    if not uses and not row.flags & NO_MANDATORY_KEYS:
        raise BAD_ARGUMENTS
    return [(request[i], use) for i, use in uses]


def _row_with_keys(rows: FastTable, request: list[bytes]) -> Row:
    try:
        row = find_row(rows, request)
    except ReplyError:
        raise BAD_COMMAND from None
    if not any(keys.access != "NOT_KEY" for keys in row.keys) and row.find_keys is None:
        raise NO_KEYS
    if not row.low <= len(request) <= row.high:
        raise BAD_ARGUMENT_COUNT
    return row


@command(
    "COMMAND HELP",
    flags=_COMMON,
    group="server",
    since="5.0.0",
    categories="connection",
    complexity="O(1)",
)
def command_help(session: Session, args: list[bytes]):
    """What the subcommands do."""
    return help_text(session, b"COMMAND")
