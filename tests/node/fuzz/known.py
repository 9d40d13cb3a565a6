"""What differs from a real server and is known to, each with the reason."""

from collections.abc import Callable, Iterator

import attrs

from fuzz.grammar import Command
from fuzz.judge import same, shape
from fuzz.replies import Reply

COPY = "copy-of-a-key"  # what a key is restored as, from the other server's dump


@attrs.frozen
class Known:
    """A difference that is not told; `matches` sees the command and both replies."""

    reason: str
    matches: Callable[[Command, Reply, Reply], bool]
    data_differ: bool = False  # from then on: what comes after it is not comparable


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


def _is_list_in_several_nodes(command: Command, ours: Reply, real: Reply) -> bool:
    names = (b"listpack", b"quicklist")
    return _asks(command, "OBJECT", "ENCODING") and (ours.value, real.value) == names


def _is_order_by_name_of_many_scores(command: Command, ours: Reply, real: Reply) -> bool:
    spoken = {str(word).upper() for word in command}
    by_name = "BYLEX" in spoken or any(_asks(command, name) for name in _LEX)
    return by_name and ours.kind == real.kind and not ours.is_error()


_LEX = ("ZRANGEBYLEX", "ZREVRANGEBYLEX", "ZLEXCOUNT", "ZREMRANGEBYLEX")


def _is_too_much_memory(command: Command, ours: Reply, real: Reply) -> bool:
    return _asks(command, "XAUTOCLAIM") and b"COUNT too high" in (real.value or b"")


def _is_reference_of_a_transaction(command: Command, ours: Reply, real: Reply) -> bool:
    return _asks(command, "OBJECT", "REFCOUNT") and (ours.value, real.value) == (1, 2)


def _is_cut_among_equals(command: Command, ours: Reply, real: Reply) -> bool:
    spoken = {str(word).upper() for word in command}
    near = bool(spoken & _NEAR) and "COUNT" in spoken
    sorts = bool(spoken & {"SORT", "SORT_RO"}) and {"BY", "LIMIT"} <= spoken
    return (near or sorts) and shape(ours, real)


_NEAR = {"GEOSEARCH", "GEORADIUS", "GEORADIUS_RO", "GEORADIUSBYMEMBER", "GEORADIUSBYMEMBER_RO"}


def _is_order_of_a_table(command: Command, ours: Reply, real: Reply) -> bool:
    """Whether a script that asks for maps got the same words, in the order of Lua's tables."""
    if command[0] != "EVAL" or "setresp(3)" not in str(command[1]):
        return False
    timeless = "XINFO" in (str(word).upper() for word in command)
    return sorted(_words_of(ours, timeless)) == sorted(_words_of(real, timeless))


def _words_of(reply: Reply, timeless: bool) -> Iterator[str]:
    """All that is in a reply; without numbers where some of them are times."""
    if isinstance(reply.value, tuple):
        for value in reply.value:
            yield from _words_of(value, timeless)
    elif not timeless or reply.kind != ":":
        yield str(reply)


def _is_activity_of_a_carried_consumer(command: Command, ours: Reply, real: Reply) -> bool:
    if not _asks(command, "XINFO", "STREAM", COPY.upper()):
        return False
    return same(command, _without_activity(ours), _without_activity(real))


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
    Known("HELP shows the same usages and explains them in our own words", _is_help),
    Known(
        "OBJECT ENCODING of a string tells what its text would be stored as now: a real server "
        "keeps embstr where INCRBYFLOAT made a whole number, or where the key was there before",
        _is_encoding_of_a_string,
    ),
    Known(
        "a list that has become short is a listpack to us; to a real server only if what is left "
        "of it lies in one node, and we have no nodes",
        _is_list_in_several_nodes,
    ),
    Known(
        "OBJECT REFCOUNT counts a value's holders: in a real server a transaction's or a script's "
        "arguments may be one of them",
        _is_reference_of_a_transaction,
    ),
    Known(
        "places at equal distances, and elements of equal weight, come in no certain order, and "
        "COUNT or LIMIT cuts among them",
        _is_cut_among_equals,
    ),
    Known(
        "a map that a script was given and returns has the order of a table of Lua, which is none",
        _is_order_of_a_table,
    ),
    Known(
        "DUMP is written as RDB version 10, which does not hold when a consumer was active; a real "
        "server then takes the time it was seen",
        _is_activity_of_a_carried_consumer,
    ),
    Known(
        "ranges by name are only defined where all scores are equal, and then found by halving",
        _is_order_by_name_of_many_scores,
        data_differ=True,
    ),
    Known(
        "XAUTOCLAIM with a huge COUNT fails where the machine cannot give the memory for its ids, "
        "of which we take none",
        _is_too_much_memory,
        data_differ=True,
    ),
)


def find_known(command: Command, ours: Reply, real: Reply) -> Known | None:
    """The reason for this difference, if there is one."""
    return next((known for known in KNOWN if known.matches(command, ours, real)), None)
