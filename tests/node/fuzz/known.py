"""What differs from a real server and is known to, each with the reason."""

from collections.abc import Callable

import attrs

from fuzz.grammar import Command
from fuzz.replies import Reply

COPY = "copy-of-a-key"  # what a key is restored as, from the other server's dump


@attrs.frozen
class Known:
    """A difference that is not told; `matches` sees the command and both replies."""

    reason: str
    matches: Callable[[Command, Reply, Reply], bool]


def _asks(command: Command, *words: str) -> bool:
    """Whether the command has these words, in any case; a script's call of it does too."""
    spoken = [str(word).upper() for word in command]
    start = 3 if spoken[0] == "EVAL" else 0
    return spoken[start : start + len(words)] == list(words)


def _is_help(command: Command, ours: Reply, real: Reply) -> bool:
    asked = str(command[-1]).upper() == "HELP" and isinstance(ours.value, tuple)
    return asked and ours.value[:1] == real.value[:1]


def _is_encoding_of_a_string(command: Command, ours: Reply, real: Reply) -> bool:
    names = {b"int", b"embstr", b"raw"}
    return _asks(command, "OBJECT", "ENCODING") and {ours.value, real.value} <= names


def _is_activity_of_a_carried_consumer(command: Command, ours: Reply, real: Reply) -> bool:
    return _asks(command, "XINFO", "STREAM", COPY.upper()) and _without_activity(
        ours
    ) == _without_activity(real)


def _without_activity(reply: Reply) -> Reply:
    """Without the times that consumers were seen and active."""
    if not isinstance(reply.value, tuple):
        return reply
    before = (Reply("+", b""), *reply.value)
    kept = (
        _without_activity(value)
        for name, value in zip(before, reply.value, strict=False)
        if name.value not in (b"active-time", b"seen-time")
    )
    return Reply(reply.kind, tuple(kept))


KNOWN: tuple[Known, ...] = (
    Known("HELP explains in our own words, below the same first line", _is_help),
    Known(
        "OBJECT ENCODING of a string tells what its text would be stored as now: a real server "
        "keeps embstr where INCRBYFLOAT made a whole number, or where the key was there before",
        _is_encoding_of_a_string,
    ),
    Known(
        "DUMP is written as RDB version 10, which does not hold when a consumer was active; a real "
        "server then takes the time it was seen",
        _is_activity_of_a_carried_consumer,
    ),
)


def is_known(command: Command, ours: Reply, real: Reply) -> bool:
    """Whether there is a reason for this difference."""
    return any(known.matches(command, ours, real) for known in KNOWN)
