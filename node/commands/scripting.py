"""EVAL EVALSHA EVAL_RO EVALSHA_RO SCRIPT FCALL FCALL_RO FUNCTION."""

from typing import Any

from node.command import (
    ALLOW_BUSY,
    DENYOOM,
    LOADING,
    MAY_REPLICATE,
    NO_MANDATORY_KEYS,
    NOSCRIPT,
    READONLY,
    SKIP_MONITOR,
    STALE,
    WRITE,
    Keys,
    command,
)
from node.commands.arguments import integer
from node.commands.help import help_text
from node.data.pattern import compiled
from node.replies import NOT_INTEGER, OK, Members, ReplyError, Status, printed
from node.scripting.libraries import Library
from node.scripting.scripts import NO_SCRIPT
from node.session import Session

_CALLING = NOSCRIPT | SKIP_MONITOR | NO_MANDATORY_KEYS | STALE
_ALL_NODES = (b"request_policy:all_nodes", b"response_policy:all_succeeded")
_ALL_SHARDS = (b"request_policy:all_shards", b"response_policy:all_succeeded")
_ONE_OF_ALL = (b"request_policy:all_shards", b"response_policy:one_succeeded")
_UNKNOWN_USE = "We cannot tell how the keys will be used so we assume the worst, "

_SHA1_LENGTH = 40
_NEGATIVE_KEYS = ReplyError(b"ERR Number of keys can't be negative")
_TOO_MANY_KEYS = ReplyError(b"ERR Number of keys can't be greater than number of args")
_BAD_KEYS = ReplyError(b"ERR Bad number of keys provided")
_NO_FUNCTION = ReplyError(b"ERR Function not found")
_SHA_SIZE = 40


def _keys(access: str, notes: str = "") -> tuple[Keys]:
    return (Keys(access, 2, count_at=0, skip=1, notes=notes),)


def _key_count(args: list[bytes], no_number: ReplyError = NOT_INTEGER) -> int:
    """How many of the arguments after this number are keys; raises ReplyError."""
    number = integer(args[2], no_number)
    if number < 0:
        raise _NEGATIVE_KEYS
    if number > len(args) - 3:
        raise _TOO_MANY_KEYS
    return number


# --- scripts --------------------------------------------------------------------------------------


def _eval(session: Session, args: list[bytes], ro_command: bool) -> Any:
    count = _key_count(args)
    scripting = session.node.scripting
    return scripting.run_script(session, args, scripting.script(args[1]), count, ro_command)


def _evalsha(session: Session, args: list[bytes], ro_command: bool) -> Any:
    if len(args[1]) != _SHA1_LENGTH:
        raise NO_SCRIPT
    count = _key_count(args)
    scripting = session.node.scripting
    script = scripting.cache.find(args[1]) or scripting.cache.find(args[1].lower())
    if script is None:
        raise NO_SCRIPT
    return scripting.run_script(session, args, script, count, ro_command)


@command(
    "EVAL script numkeys [key ...] [arg ...]",
    flags=_CALLING | MAY_REPLICATE,
    group="scripting",
    since="2.6.0",
    keys=_keys("RW ACCESS UPDATE", _UNKNOWN_USE + "RW and UPDATE"),
    complexity="Depends on the script that is executed.",
)
def eval_(session: Session, args: list[bytes]):
    """Runs a script."""
    return _eval(session, args, False)


@command(
    "EVALSHA sha1 numkeys [key ...] [arg ...]",
    flags=_CALLING | MAY_REPLICATE,
    group="scripting",
    since="2.6.0",
    keys=_keys("RW ACCESS UPDATE"),
    complexity="Depends on the script that is executed.",
)
def evalsha(session: Session, args: list[bytes]):
    """Runs a script that the server knows, by the SHA-1 of its source."""
    return _evalsha(session, args, False)


@command(
    "EVAL_RO script numkeys [key ...] [arg ...]",
    flags=_CALLING | READONLY,
    group="scripting",
    since="7.0.0",
    keys=_keys("RO ACCESS", _UNKNOWN_USE + "RO and ACCESS"),
    complexity="Depends on the script that is executed.",
)
def eval_ro(session: Session, args: list[bytes]):
    """Runs a script that must not write."""
    return _eval(session, args, True)


@command(
    "EVALSHA_RO sha1 numkeys [key ...] [arg ...]",
    flags=_CALLING | READONLY,
    group="scripting",
    since="7.0.0",
    keys=_keys("RO ACCESS"),
    complexity="Depends on the script that is executed.",
)
def evalsha_ro(session: Session, args: list[bytes]):
    """Runs a script that must not write, by the SHA-1 of its source."""
    return _evalsha(session, args, True)


@command(
    "SCRIPT",
    flags=0,
    group="scripting",
    since="2.6.0",
    arity=-2,
    complexity="Depends on subcommand.",
)
def script(session: Session, args: list[bytes]):
    """What belongs to the cache of scripts and to the script under way."""
    raise AssertionError("never called: it has subcommands")


@command(
    "SCRIPT LOAD script",
    flags=NOSCRIPT | STALE,
    group="scripting",
    since="2.6.0",
    complexity="O(N) with N being the length in bytes of the script body.",
    tips=_ALL_NODES,
)
def script_load(session: Session, args: list[bytes]):
    """Compiles a script and keeps it; answers the SHA-1 of its source."""
    return session.node.scripting.script(args[2], loads=True).sha


@command(
    "SCRIPT EXISTS sha1 [sha1 ...]",
    flags=NOSCRIPT | STALE,
    group="scripting",
    since="2.6.0",
    complexity="O(N) with N being the number of scripts to check (so checking a single script is "
    "an O(1) operation).",
    tips=(b"request_policy:all_shards", b"response_policy:agg_logical_and"),
)
def script_exists(session: Session, args: list[bytes]):
    """Says of each script, 1 or 0, whether it is kept."""
    cache = session.node.scripting.cache
    return [int(sha in cache or sha.lower() in cache) for sha in args[2:]]


@command(
    "SCRIPT SHOW sha1",
    flags=NOSCRIPT | STALE,
    group="scripting",
    since="8.0.0",
    complexity="O(1).",
)
def script_show(session: Session, args: list[bytes]):
    """The source of a script that is kept."""
    found = session.node.scripting.cache.find(args[2].lower())
    if found is None:
        raise NO_SCRIPT
    return found.source


@command(
    "SCRIPT FLUSH [ASYNC | SYNC]",
    flags=NOSCRIPT | STALE,
    group="scripting",
    since="2.6.0",
    complexity="O(N) with N being the number of scripts in cache",
    tips=_ALL_NODES,
    history=(("6.2.0", "ASYNC and SYNC."),),
)
def script_flush(session: Session, args: list[bytes]):
    """Forgets all scripts."""
    if len(args) > 3 or (len(args) == 3 and args[2].upper() not in (b"ASYNC", b"SYNC")):
        raise ReplyError(b"ERR SCRIPT FLUSH only support SYNC|ASYNC option")
    session.node.scripting.cache.clear()
    return OK


@command(
    "SCRIPT KILL",
    flags=NOSCRIPT | ALLOW_BUSY,
    group="scripting",
    since="2.6.0",
    complexity="O(1)",
    tips=_ONE_OF_ALL,
)
def script_kill(session: Session, args: list[bytes]):
    """Ends the script under way, if it has not written."""
    session.node.scripting.kill(is_function=False)
    return OK


@command(
    "SCRIPT DEBUG <YES | SYNC | NO> [engine]",
    flags=NOSCRIPT,
    group="scripting",
    since="3.2.0",
    complexity="O(1)",
)
def script_debug(session: Session, args: list[bytes]):
    """Turns the debugger of scripts off; this server has none to turn on."""
    if len(args) > 4:
        raise ReplyError(
            b"ERR unknown subcommand or wrong number of arguments for 'DEBUG'. Try SCRIPT HELP."
        )
    if len(args) == 4 and args[3].lower() != b"lua":
        raise ReplyError(b"ERR No scripting engine found with name '%b' to enable debug" % args[3])
    word = args[2].upper()
    if word in (b"YES", b"SYNC"):
        raise ReplyError(b"ERR This server has no debugger for scripts")
    if word != b"NO":
        raise ReplyError(b"ERR Use SCRIPT DEBUG YES/SYNC/NO")
    return OK


@command("SCRIPT HELP", flags=LOADING | STALE, group="scripting", since="5.0.0", complexity="O(1)")
def script_help(session: Session, args: list[bytes]):
    """Lists the subcommands."""
    return help_text(session, b"SCRIPT")


# --- functions ------------------------------------------------------------------------------------


def _fcall(session: Session, args: list[bytes], ro_command: bool) -> Any:
    scripting = session.node.scripting
    found = scripting.libraries.find(args[1])
    if found is None:
        raise _NO_FUNCTION
    count = _key_count(args, _BAD_KEYS)
    return scripting.run_function(session, args, found, count, ro_command)


@command(
    "FCALL function numkeys [key ...] [arg ...]",
    flags=_CALLING | MAY_REPLICATE,
    group="scripting",
    since="7.0.0",
    keys=_keys("RW ACCESS UPDATE", _UNKNOWN_USE + "RW and UPDATE"),
    complexity="Depends on the function that is executed.",
)
def fcall(session: Session, args: list[bytes]):
    """Runs a function of a library."""
    return _fcall(session, args, False)


@command(
    "FCALL_RO function numkeys [key ...] [arg ...]",
    flags=_CALLING | READONLY,
    group="scripting",
    since="7.0.0",
    keys=_keys("RO ACCESS", _UNKNOWN_USE + "RO and ACCESS"),
    complexity="Depends on the function that is executed.",
)
def fcall_ro(session: Session, args: list[bytes]):
    """Runs a function of a library that does not write."""
    return _fcall(session, args, True)


@command(
    "FUNCTION",
    flags=0,
    group="scripting",
    since="7.0.0",
    arity=-2,
    complexity="Depends on subcommand.",
)
def function(session: Session, args: list[bytes]):
    """What belongs to libraries of functions."""
    raise AssertionError("never called: it has subcommands")


@command(
    "FUNCTION LOAD [REPLACE] function-code",
    flags=NOSCRIPT | WRITE | DENYOOM,
    group="scripting",
    since="7.0.0",
    keys=(),
    arity=-3,
    complexity="O(1) (considering compilation time is redundant)",
    tips=_ALL_SHARDS,
)
def function_load(session: Session, args: list[bytes]):
    """Loads a library of functions; answers its name."""
    replaces = False
    for option in args[2:-1]:
        if option.upper() != b"REPLACE":
            raise ReplyError(b"ERR Unknown option given: %b" % printed(option).strip(b"\r\n"))
        replaces = True
    library = session.node.scripting.libraries.load(args[-1], replaces)
    session.node.keyspace.dirty += 1
    return library.name


@command(
    "FUNCTION DELETE library-name",
    flags=NOSCRIPT | WRITE,
    group="scripting",
    since="7.0.0",
    complexity="O(1)",
    tips=_ALL_SHARDS,
)
def function_delete(session: Session, args: list[bytes]):
    """Deletes a library with its functions."""
    session.node.scripting.libraries.delete(args[2])
    session.node.keyspace.dirty += 1
    return OK


@command(
    "FUNCTION FLUSH [ASYNC | SYNC]",
    flags=NOSCRIPT | WRITE,
    group="scripting",
    since="7.0.0",
    complexity="O(N) where N is the number of functions deleted",
    tips=_ALL_SHARDS,
)
def function_flush(session: Session, args: list[bytes]):
    """Deletes all libraries."""
    if len(args) > 3:
        raise _wrong_count(args[1])
    if len(args) == 3 and args[2].upper() not in (b"ASYNC", b"SYNC"):
        raise ReplyError(b"ERR FUNCTION FLUSH only supports SYNC|ASYNC option")
    session.node.scripting.libraries.clear()
    session.node.keyspace.dirty += 1
    return OK


@command(
    "FUNCTION LIST [LIBRARYNAME library-name-pattern] [WITHCODE]",
    flags=NOSCRIPT,
    group="scripting",
    since="7.0.0",
    complexity="O(N) where N is the number of functions",
    tips=(b"nondeterministic_output_order",),
)
def function_list(session: Session, args: list[bytes]):
    """Describes libraries and their functions."""
    pattern, with_code = _list_options(args)
    matches = None if pattern is None else compiled(pattern)
    libraries = session.node.scripting.libraries.by_name.values()
    return [
        _describe(library, with_code)
        for library in libraries
        if matches is None or matches(library.name)
    ]


def _list_options(args: list[bytes]) -> tuple[bytes | None, bool]:
    pattern, with_code = None, False
    i = 2
    while i < len(args):
        word = args[i].upper()
        if word == b"WITHCODE" and not with_code:
            with_code = True
        elif word == b"LIBRARYNAME" and pattern is None:
            i += 1
            if i == len(args):
                raise ReplyError(b"ERR library name argument was not given")
            pattern = args[i]
        else:
            raise ReplyError(b"ERR Unknown argument %b" % printed(args[i]))
        i += 1
    return pattern, with_code


def _describe(library: Library, with_code: bool) -> dict[bytes, Any]:
    functions = [
        {
            b"name": one.name,
            b"description": one.description,
            b"flags": _set_of(one.flag_names()),
        }
        for one in library.functions.values()
    ]
    described = {b"library_name": library.name, b"engine": b"LUA", b"functions": functions}
    if with_code:
        described[b"library_code"] = library.source
    return described


@command(
    "FUNCTION STATS",
    flags=NOSCRIPT | ALLOW_BUSY,
    group="scripting",
    since="7.0.0",
    complexity="O(1)",
    tips=(
        b"nondeterministic_output",
        b"request_policy:all_shards",
        b"response_policy:special",
    ),
)
def function_stats(session: Session, args: list[bytes]):
    """Tells which function runs, and how many there are."""
    scripting = session.node.scripting
    run = scripting.run
    running = None
    if run is not None:
        if not run.is_function:
            raise run.refusal()
        running = {
            b"name": run.name,
            b"command": run.command,
            b"duration_ms": session.node.clock.monotonic_ms() - run.started_ms,
        }
    libraries = scripting.libraries.by_name
    counts = {
        b"libraries_count": len(libraries),
        b"functions_count": sum(len(library.functions) for library in libraries.values()),
    }
    return {b"running_script": running, b"engines": {b"LUA": counts}}


@command(
    "FUNCTION KILL",
    flags=NOSCRIPT | ALLOW_BUSY,
    group="scripting",
    since="7.0.0",
    complexity="O(1)",
    tips=_ONE_OF_ALL,
)
def function_kill(session: Session, args: list[bytes]):
    """Ends the function under way, if it has not written."""
    session.node.scripting.kill(is_function=True)
    return OK


@command(
    "FUNCTION DUMP",
    flags=NOSCRIPT,
    group="scripting",
    since="7.0.0",
    complexity="O(N) where N is the number of functions",
)
def function_dump(session: Session, args: list[bytes]):
    """All libraries as bytes that FUNCTION RESTORE takes."""
    return session.node.scripting.libraries.dump()


@command(
    "FUNCTION RESTORE serialized-value [FLUSH | APPEND | REPLACE]",
    flags=NOSCRIPT | WRITE | DENYOOM,
    group="scripting",
    since="7.0.0",
    complexity="O(N) where N is the number of functions on the payload",
    tips=_ALL_SHARDS,
)
def function_restore(session: Session, args: list[bytes]):
    """Loads the libraries of a dump."""
    if len(args) > 4:
        raise _wrong_count(args[1])
    policy = args[3].upper() if len(args) > 3 else b"APPEND"
    if policy not in (b"FLUSH", b"APPEND", b"REPLACE"):
        raise ReplyError(
            b"ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE."
        )
    session.node.scripting.libraries.restore(args[2], policy)
    session.node.keyspace.dirty += 1
    return OK


@command(
    "FUNCTION HELP", flags=LOADING | STALE, group="scripting", since="7.0.0", complexity="O(1)"
)
def function_help(session: Session, args: list[bytes]):
    """Lists the subcommands."""
    return help_text(session, b"FUNCTION")


def _set_of(names: list[bytes]) -> Any:
    return Members(Status(name) for name in names)


def _wrong_count(subcommand: bytes) -> ReplyError:
    return ReplyError(
        b"ERR unknown subcommand or wrong number of arguments for '%b'. Try FUNCTION HELP."
        % subcommand
    )
