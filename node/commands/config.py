"""CONFIG and its subcommands."""

import logging

from node.command import ADMIN, LOADING, NOSCRIPT, STALE, command
from node.commands.help import help_text
from node.config import ConfigError
from node.config.rewriting import rewritten
from node.config.values import decoded, encoded
from node.disk import replace
from node.replies import OK, SYNTAX, ReplyError
from node.session import Session

_log = logging.getLogger(__name__)
_COMMON = ADMIN | NOSCRIPT | LOADING | STALE
_ALL_NODES = (b"request_policy:all_nodes", b"response_policy:all_succeeded")

NO_FILE = ReplyError(b"ERR The server is running without a config file")


@command("CONFIG", flags=0, group="server", since="2.0.0", arity=-2)
def config(session: Session, args: list[bytes]):
    """Tells and changes the values of directives."""


@command(
    "CONFIG GET parameter [parameter ...]",
    flags=_COMMON,
    group="server",
    since="2.0.0",
    complexity="O(N) when N is the number of configuration parameters provided",
    history=(("7.0.0", "Takes several patterns."),),
)
def config_get(session: Session, args: list[bytes]):
    """The directives whose names match, and their values."""
    return session.node.config.get(*args[2:])


@command(
    "CONFIG SET parameter value [parameter value ...]",
    flags=_COMMON,
    group="server",
    since="2.0.0",
    complexity="O(N) when N is the number of configuration parameters provided",
    tips=_ALL_NODES,
    history=(("7.0.0", "Sets several directives, all or none."),),
)
def config_set(session: Session, args: list[bytes]):
    """Changes directives at once, all or none."""
    if len(args) % 2:
        raise SYNTAX
    node = session.node
    pairs = list(zip(args[2::2], args[3::2], strict=True))
    try:
        node.config.set(pairs, session.is_local(), node.loading is not None)
    except ConfigError as error:
        raise ReplyError(f"{error.code} {error}".encode("utf-8", "surrogateescape")) from None
    return OK


@command(
    "CONFIG RESETSTAT",
    flags=_COMMON,
    group="server",
    since="2.0.0",
    complexity="O(1)",
    tips=_ALL_NODES,
)
def config_resetstat(session: Session, args: list[bytes]):
    """Sets the counters that INFO shows back to zero."""
    session.node.reset_statistics()
    return OK


@command(
    "CONFIG REWRITE",
    flags=_COMMON,
    group="server",
    since="2.8.0",
    complexity="O(1)",
    tips=_ALL_NODES,
)
def config_rewrite(session: Session, args: list[bytes]):
    """Writes the present values into the configuration file."""
    node = session.node
    path = node.config.file
    if not path:
        raise NO_FILE
    try:
        old = decoded(node.disk.read(path))
        new = rewritten(old, node.config, list(map(decoded, node.acl.config_lines())))
        replace(node.disk, path, encoded(new))
    except OSError as error:
        _log.warning("CONFIG REWRITE failed: %s", error.strerror)
        raise ReplyError(f"ERR Rewriting config file: {error.strerror}".encode()) from None
    _log.info("CONFIG REWRITE executed with success.")
    return OK


@command("CONFIG HELP", flags=LOADING | STALE, group="server", since="5.0.0", complexity="O(1)")
def config_help(session: Session, args: list[bytes]):
    """What the subcommands do."""
    return help_text(session, b"CONFIG")
