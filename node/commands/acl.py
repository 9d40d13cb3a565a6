"""ACL and its subcommands."""

import logging
from typing import Any

from node.acl.acl import DEFAULT, in_full
from node.acl.denials import REASONS, Entry
from node.acl.selector import CATEGORIES, Selector, commands_of, has_spaces
from node.command import ADMIN, LOADING, NOSCRIPT, STALE, command, find_row
from node.commands.arguments import integer
from node.commands.help import help_text
from node.replies import OK, Members, ReplyError, printed
from node.session import Session

_log = logging.getLogger(__name__)
_COMMON = NOSCRIPT | LOADING | STALE
_ALL_NODES = (b"request_policy:all_nodes", b"response_policy:all_succeeded")

BAD_USER_NAME = ReplyError(b"ERR Usernames can't contain spaces or null characters")
DEFAULT_STAYS = ReplyError(b"ERR The 'default' user cannot be removed")
NOT_SAVED = ReplyError(
    b"ERR There was an error trying to save the ACLs. Please check the server logs for more "
    b"information"
)
BAD_BITS = ReplyError(
    b"ERR ACL GENPASS argument must be the number of bits for the output password, a positive "
    b"number up to 4096"
)
_LOG_SHOWS = 10  # entries, where the client does not say how many


def _wrong(args: list[bytes]) -> ReplyError:
    return ReplyError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try ACL HELP."
        % printed(args[1])[:128]
    )


@command("ACL", flags=0, group="server", since="6.0.0", arity=-2)
def acl(session: Session, args: list[bytes]):
    """Tells and changes who clients may be, and what they may do."""


@command(
    "ACL CAT [category]",
    flags=_COMMON,
    group="server",
    since="6.0.0",
    arity=-2,
    complexity="O(1) since the categories and commands are a fixed set.",
)
def acl_cat(session: Session, args: list[bytes]):
    """The categories of commands, or the commands of one."""
    if len(args) > 3:
        raise _wrong(args)
    if len(args) == 2:
        return list(CATEGORIES)
    category = args[2].lower()
    if category not in CATEGORIES:
        raise ReplyError(b"ERR Unknown category '%b'" % printed(args[2]))
    return list(commands_of(category))


@command(
    "ACL DELUSER username [username ...]",
    flags=_COMMON | ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(1) amortized time considering the typical user.",
    tips=_ALL_NODES,
)
def acl_deluser(session: Session, args: list[bytes]):
    """Takes users away, and ends their connections."""
    if DEFAULT in args[2:]:
        raise DEFAULT_STAYS
    return session.node.acl.delete(args[2:])


@command(
    "ACL DRYRUN username command [arg [arg ...]]",
    flags=_COMMON | ADMIN,
    group="server",
    since="7.0.0",
    complexity="O(1).",
)
def acl_dryrun(session: Session, args: list[bytes]):
    """Tells whether a user may run a command, without running it."""
    node, asked = session.node, args[3:]
    user = node.acl.users.get(args[2])
    if user is None:
        raise ReplyError(b"ERR User '%b' not found" % printed(args[2]))
    try:
        row = find_row(node.rows, asked)
    except ReplyError:
        raise ReplyError(b"ERR Command '%b' not found" % printed(asked[0])) from None
    row.check_arity(asked)
    refusal = user.refusal(row, asked, session.db.index, node.database_count())
    return OK if refusal is None else in_full(user.name, refusal, row, asked)


@command(
    "ACL GENPASS [bits]",
    flags=_COMMON,
    group="server",
    since="6.0.0",
    arity=-2,
    complexity="O(1)",
)
def acl_genpass(session: Session, args: list[bytes]):
    """A password of random hexadecimal digits, four bits in each."""
    if len(args) > 3:
        raise _wrong(args)
    bits = integer(args[2]) if len(args) == 3 else 256
    if not 0 < bits <= 4096:
        raise BAD_BITS
    digits = (bits + 3) // 4
    return session.node.host.secret((digits + 1) // 2).hex()[:digits].encode()


@command(
    "ACL GETUSER username",
    flags=_COMMON | ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(N). Where N is the number of password, command and pattern rules that the user "
    "has.",
    history=(
        ("6.2.0", "Added Pub/Sub channel patterns."),
        ("7.0.0", "Added selectors and changed the format of key and channel patterns."),
    ),
)
def acl_getuser(session: Session, args: list[bytes]):
    """All that makes a user: flags, digests of passwords, permissions."""
    user = session.node.acl.users.get(args[2])
    if user is None:
        return None
    own, *others = user.selectors
    return {
        b"flags": Members(user.flags()),
        b"passwords": list(user.passwords),
        **_permissions(own),
        b"selectors": [_permissions(selector) for selector in others],
    }


def _permissions(selector: Selector) -> dict[bytes, Any]:
    return {
        b"commands": selector.command_rules(),
        b"keys": selector.key_rules(),
        b"channels": selector.channel_rules(),
        b"databases": selector.database_rules(),
    }


@command(
    "ACL LIST",
    flags=_COMMON | ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(N). Where N is the number of configured users.",
)
def acl_list(session: Session, args: list[bytes]):
    """The users, as an ACL file describes them."""
    return [user.line() for user in session.node.acl.users.values()]


@command(
    "ACL LOAD",
    flags=_COMMON | ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(N). Where N is the number of configured users.",
)
def acl_load(session: Session, args: list[bytes]):
    """Replaces the users by those of the ACL file, if nothing is wrong with it."""
    session.node.acl.load()
    return OK


@command(
    "ACL LOG [count | RESET]",
    flags=_COMMON | ADMIN,
    group="server",
    since="6.0.0",
    arity=-2,
    complexity="O(N) with N being the number of entries shown.",
)
def acl_log(session: Session, args: list[bytes]):
    """What was refused to clients of late, the youngest first."""
    if len(args) > 3:
        raise _wrong(args)
    log = session.node.acl.log
    if len(args) == 3 and args[2].lower() == b"reset":
        log.entries.clear()
        return OK
    count = max(integer(args[2]), 0) if len(args) == 3 else _LOG_SHOWS
    now_ms = session.node.keyspace.now_ms
    return [_described(entry, now_ms) for entry in log.entries[:count]]


def _described(entry: Entry, now_ms: int) -> dict[bytes, Any]:
    return {
        b"count": entry.count,
        b"reason": REASONS[entry.reason],
        b"context": entry.context,
        b"object": entry.object,
        b"username": entry.user,
        b"age-seconds": (now_ms - entry.updated_ms) / 1000,
        b"client-info": entry.client,
        b"entry-id": entry.number,
        b"timestamp-created": entry.created_ms,
        b"timestamp-last-updated": entry.updated_ms,
    }


@command(
    "ACL SAVE",
    flags=_COMMON | ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(N). Where N is the number of configured users.",
    tips=_ALL_NODES,
)
def acl_save(session: Session, args: list[bytes]):
    """Writes the users to the ACL file."""
    try:
        session.node.acl.save()
    except OSError as error:
        _log.warning("The ACL file was not saved: %s", error.strerror)
        raise NOT_SAVED from None
    return OK


@command(
    "ACL SETUSER username [rule [rule ...]]",
    flags=_COMMON | ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(N). Where N is the number of rules provided.",
    history=(
        ("6.2.0", "Added Pub/Sub channel patterns."),
        ("7.0.0", "Added selectors and key based permissions."),
    ),
    tips=_ALL_NODES,
)
def acl_setuser(session: Session, args: list[bytes]):
    """Makes a user, or changes one, by rules of which all or none take effect."""
    if has_spaces(args[2]):
        raise BAD_USER_NAME
    session.node.acl.set_user(args[2], args[3:])
    return OK


@command(
    "ACL USERS",
    flags=_COMMON | ADMIN,
    group="server",
    since="6.0.0",
    complexity="O(N). Where N is the number of configured users.",
)
def acl_users(session: Session, args: list[bytes]):
    """The users' names."""
    return list(session.node.acl.users)


@command("ACL WHOAMI", flags=_COMMON, group="server", since="6.0.0", complexity="O(1)")
def acl_whoami(session: Session, args: list[bytes]):
    """The name of the user that the client is."""
    return session.user


@command("ACL HELP", flags=LOADING | STALE, group="server", since="6.0.0", complexity="O(1)")
def acl_help(session: Session, args: list[bytes]):
    """What the subcommands do."""
    return help_text(session, b"ACL")
