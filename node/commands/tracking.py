"""CLIENT TRACKING, CLIENT CACHING, CLIENT TRACKINGINFO and CLIENT GETREDIR: client-side caching."""

from collections.abc import Iterable
from typing import Any

import attrs

from node.command import ALLOW_BUSY, LOADING, NOSCRIPT, STALE, command
from node.commands import client
from node.commands.arguments import integer
from node.replies import OK, SYNTAX, Members, ReplyError
from node.session import Session
from node.tracking import UNLESS_ASKED, WHEN_ASKED, Tracked

assert client  # the container

_COMMON = NOSCRIPT | LOADING | STALE

_ONE_REDIRECT = ReplyError(b"ERR A client can only redirect to a single other client")
_NO_SUCH_CLIENT = ReplyError(b"ERR The client ID you want redirect to does not exist")
_PREFIX_NEEDS_BCAST = ReplyError(b"ERR PREFIX option requires BCAST mode to be enabled")
_OTHER_BCAST = ReplyError(
    b"ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then "
    b"re-enabling it with a different mode."
)
_OPT_WITH_BCAST = ReplyError(b"ERR OPTIN and OPTOUT are not compatible with BCAST")
_BOTH_OPTS = ReplyError(b"ERR You can't specify both OPTIN mode and OPTOUT mode")
_OTHER_OPT = ReplyError(
    b"ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then "
    b"re-enabling it with a different mode."
)
_NO_CACHING = ReplyError(
    b"ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or "
    b"OPTOUT mode enabled"
)
_YES_NEEDS_OPTIN = ReplyError(
    b"ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode."
)
_NO_NEEDS_OPTOUT = ReplyError(
    b"ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode."
)


@attrs.define
class _Options:
    """What CLIENT TRACKING was given after ON or OFF."""

    redirect: int = 0
    words: set[bytes] = attrs.field(factory=set)
    prefixes: list[bytes] = attrs.field(factory=list)


@command(
    "CLIENT TRACKING <ON | OFF> [REDIRECT client-id] [PREFIX prefix ...] [BCAST] [OPTIN] [OPTOUT] "
    "[NOLOOP]",
    flags=_COMMON,
    group="connection",
    since="6.0.0",
    complexity="O(1), O(N) for N prefixes",
)
def client_tracking(session: Session, args: list[bytes]):
    """Tells the connection when keys that it has read change, or no longer does."""
    options = _options(session, args)
    switch = args[2].upper()
    tracking = session.node.tracking
    if switch == b"ON":
        _check(session, options)
        tracking.start(session, _tracked(options))
    elif switch == b"OFF":
        tracking.stop(session)
    else:
        raise SYNTAX
    return OK


def _options(session: Session, args: list[bytes]) -> _Options:
    options = _Options()
    i = 3
    while i < len(args):
        word, more = args[i].upper(), i + 1 < len(args)
        i += 1
        if word == b"REDIRECT" and more:
            options.redirect = _redirect(session, options, args[i])
            i += 1
        elif word == b"PREFIX" and more:
            options.prefixes.append(args[i])
            i += 1
        elif word in (b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"):
            options.words.add(word)
        else:
            raise SYNTAX
    return options


def _redirect(session: Session, options: _Options, arg: bytes) -> int:
    if options.redirect:
        raise _ONE_REDIRECT
    number = integer(arg)
    if number not in session.node.sessions:
        raise _NO_SUCH_CLIENT
    return number


def _check(session: Session, options: _Options) -> None:
    """Whether the options fit together, and what the client is tracked by already."""
    words, old = options.words, session.tracked
    if options.prefixes and b"BCAST" not in words:
        raise _PREFIX_NEEDS_BCAST
    if old is not None and old.broadcast != (b"BCAST" in words):
        raise _OTHER_BCAST
    if b"BCAST" in words and words & {b"OPTIN", b"OPTOUT"}:
        raise _OPT_WITH_BCAST
    if words >= {b"OPTIN", b"OPTOUT"}:
        raise _BOTH_OPTS
    if old is not None and (
        (b"OPTIN" in words and old.reads == UNLESS_ASKED)
        or (b"OPTOUT" in words and old.reads == WHEN_ASKED)
    ):
        raise _OTHER_OPT
    _check_prefixes(options.prefixes, sorted(old.prefixes) if old is not None else ())


def _check_prefixes(prefixes: list[bytes], old: Iterable[bytes]) -> None:
    """None may begin with another one: a key would be announced twice."""
    every = sorted((*prefixes, *old))
    if not any(map(bytes.startswith, every[1:], every)):  # who has a prefix here follows it
        return
    for i, prefix in enumerate(prefixes):
        for other in old:
            if prefix.startswith(other) or other.startswith(prefix):
                raise _overlap(prefix, b"an existing", other)
        for other in prefixes[i + 1 :]:
            if prefix.startswith(other) or other.startswith(prefix):
                raise _overlap(prefix, b"another provided", other)


def _overlap(prefix: bytes, which: bytes, other: bytes) -> ReplyError:
    return ReplyError(
        b"ERR Prefix '%b' overlaps with %b prefix '%b'. Prefixes for a single client must not "
        b"overlap." % (prefix, which, other)
    )


def _tracked(options: _Options) -> Tracked:
    reads = WHEN_ASKED * (b"OPTIN" in options.words) + UNLESS_ASKED * (b"OPTOUT" in options.words)
    return Tracked(
        broadcast=b"BCAST" in options.words,
        reads=reads,
        noloop=b"NOLOOP" in options.words,
        redirect=options.redirect,
        prefixes=set(options.prefixes),
    )


@command(
    "CLIENT CACHING <YES | NO>",
    flags=_COMMON | ALLOW_BUSY,
    group="connection",
    since="6.0.0",
    complexity="O(1)",
)
def client_caching(session: Session, args: list[bytes]):
    """Says whether the keys of the connection's next command are tracked."""
    tracked, word = session.tracked, args[2].upper()
    if tracked is None:
        raise _NO_CACHING
    if word not in (b"YES", b"NO"):
        raise SYNTAX
    if word == b"YES" and tracked.reads != WHEN_ASKED:
        raise _YES_NEEDS_OPTIN
    if word == b"NO" and tracked.reads != UNLESS_ASKED:
        raise _NO_NEEDS_OPTOUT
    tracked.asked = True
    return OK


@command(
    "CLIENT GETREDIR",
    flags=_COMMON | ALLOW_BUSY,
    group="connection",
    since="6.0.0",
    complexity="O(1)",
)
def client_getredir(session: Session, args: list[bytes]):
    """The client that gets this one's invalidation messages: 0 for itself, -1 if none are sent."""
    return -1 if session.tracked is None else session.tracked.redirect


@command(
    "CLIENT TRACKINGINFO",
    flags=_COMMON,
    group="connection",
    since="6.2.0",
    complexity="O(1)",
)
def client_trackinginfo(session: Session, args: list[bytes]) -> dict[bytes, Any]:
    """Whether the server tracks what this connection reads, and how."""
    tracked: Tracked | None = session.tracked
    if tracked is None:
        return {b"flags": Members([b"off"]), b"redirect": -1, b"prefixes": []}
    asks_for, asks_against = tracked.reads == WHEN_ASKED, tracked.reads == UNLESS_ASKED
    words = (
        (b"on", True),
        (b"bcast", tracked.broadcast),
        (b"optin", asks_for),
        (b"caching-yes", asks_for and tracked.asked),
        (b"optout", asks_against),
        (b"caching-no", asks_against and tracked.asked),
        (b"noloop", tracked.noloop),
        (b"broken_redirect", tracked.broken),
    )
    return {
        b"flags": Members([word for word, is_so in words if is_so]),
        b"redirect": tracked.redirect,
        b"prefixes": sorted(tracked.prefixes),
    }
