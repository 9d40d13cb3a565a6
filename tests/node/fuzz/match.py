"""Two servers, one seed: run its steps on both, and find the first difference."""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence

import attrs

from fuzz import judge
from fuzz.grammar import Command
from fuzz.known import COPY, find_known
from fuzz.replies import Peer, Reply
from fuzz.steps import Seed, Step

BATCH = 12  # steps sent at once
DATABASES = (0, 1, 2)
MOST_RUNS = 400  # of a seed, to make it short
READERS: dict[bytes, tuple[Command, ...]] = {
    b"string": (("GET", "?"),),
    b"list": (("LRANGE", "?", "0", "-1"),),
    b"set": (("SMEMBERS", "?"),),
    b"zset": (("ZRANGE", "?", "0", "-1", "WITHSCORES"),),
    b"hash": (("HGETALL", "?"),),
    b"stream": (("XRANGE", "?", "-", "+"), ("XINFO", "STREAM", "?", "FULL", "COUNT", "0")),
}
ALWAYS: tuple[Command, ...] = (("PTTL", "?"), ("OBJECT", "ENCODING", "?"))


class Diverged(Exception):
    """The data differ from here on, for a known reason."""


class NoAnswer(Exception):
    """A server hangs or has gone."""


@attrs.frozen
class Difference:
    """A command that the two answered differently; about: what it was asked for."""

    command: Command
    ours: Reply
    real: Reply
    about: str = "reply"

    def is_like(self, other: "Difference | None") -> bool:
        """Whether it may well be the same mistake."""
        if other is None or (self.about, self.command[:1]) != (other.about, other.command[:1]):
            return False
        return (self.ours.is_error(), self.real.is_error()) == (
            other.ours.is_error(),
            other.real.is_error(),
        )


@attrs.define(eq=False)
class Match:
    """Our server and a real one, a client's connection to each, and one that hears of events."""

    ours: Peer
    real: Peer
    our_events: Peer
    real_events: Peer
    commands: int = 0

    def __attrs_post_init__(self) -> None:
        for peer in (self.our_events, self.real_events):
            peer.one("CONFIG", "SET", "notify-keyspace-events", "EAn")
            peer.one("PSUBSCRIBE", "__keyevent@*")

    def play(self, seed: Seed, steps: Sequence[Step]) -> Difference | None:
        """From nothing: the first difference in replies, events, data or dumps."""
        self._start_over(seed)
        self._take_events()
        try:
            return self._play(steps)
        except Diverged:
            return None

    def _play(self, steps: Sequence[Step]) -> Difference | None:
        remaining = iter(steps)
        while batch := tuple(itertools.islice(remaining, BATCH)):
            difference = self._send([command for step in batch for command in step.commands])
            if difference is not None:
                return difference
        return self._different_events() or self._different_data()

    def _start_over(self, seed: Seed) -> None:
        for peer in (self.ours, self.real):
            peer.ask([("RESET",), ("FLUSHALL",), ("SCRIPT", "FLUSH"), ("FUNCTION", "FLUSH")])
            peer.ask([("HELLO", seed.protocol)])

    def _send(self, commands: list[Command]) -> Difference | None:
        self.commands += len(commands)
        queued: deque[Command] | None = None
        replies = [_insist(peer, commands) for peer in (self.ours, self.real)]
        for command, ours, real in zip(commands, *replies, strict=True):
            if command == ("MULTI",):
                queued = deque()
            elif command[0] == "EXEC" and queued is not None and ours.kind == real.kind == "*":
                difference = _of_transaction(queued, ours, real)
                queued = None
                if difference is not None:
                    return difference
                continue
            elif queued is not None and ours.value == b"QUEUED":
                queued.append(command)
            if _differ(command, ours, real):
                return Difference(command, ours, real)
        return None

    # --- beside replies --------------------------------------------------------------------------

    def _take_events(self) -> tuple[list[Reply], list[Reply]]:
        return _events(self.our_events), _events(self.real_events)

    def _different_events(self) -> Difference | None:
        ours, real = self._take_events()
        for mine, other in itertools.zip_longest(ours, real, fillvalue=Reply("_", None)):
            if mine != other:
                return Difference((_event_name(other), _event_name(mine)), mine, other, "event")
        return None

    def _different_data(self) -> Difference | None:
        for database in DATABASES:
            difference = self._send([("RESET",), ("SELECT", str(database)), ("KEYS", "*")])
            difference = difference or self._different_keys()
            if difference is not None:
                return attrs.evolve(difference, about="data" + difference.about[5:])
        return None

    def _different_keys(self) -> Difference | None:
        """Each key's value, as it is and carried over by DUMP and RESTORE."""
        keys = [key.value for key in self.ours.one("KEYS", "*").value]
        types = [reply.value for reply in self.ours.ask([("TYPE", key) for key in keys])]
        commands = [
            _on(reader, key)
            for key, kind in zip(keys, types, strict=True)
            for reader in (("TYPE", "?"), *READERS.get(kind, ()), *ALWAYS)
        ]
        found = self._send(commands)
        for key, kind in zip(keys, types, strict=True):
            found = found or self._carried_over(key, kind)
        return found

    def _carried_over(self, key: bytes, kind: bytes) -> Difference | None:
        ours, real = self.ours.one("DUMP", key), self.real.one("DUMP", key)
        if ours.value is None or real.value is None:
            return None  # it expired meanwhile
        accepted = [
            peer.one("RESTORE", COPY, "0", payload, "REPLACE")
            for peer, payload in ((self.ours, real.value), (self.real, ours.value))
        ]
        if accepted[0] != accepted[1]:
            return Difference(("RESTORE", key), *accepted)
        return self._send([_on(reader, COPY) for reader in READERS.get(kind, ())])

    # --- making it short -------------------------------------------------------------------------

    def shorten(self, seed: Seed, found: Difference) -> tuple[Seed, Difference]:
        """The same difference with as few steps as some patience finds."""
        steps, runs = list(seed.steps), itertools.count()

        def still(fewer: list[Step]) -> Difference | None:
            again = self.play(seed, fewer) if next(runs) < MOST_RUNS else None
            return again if found.is_like(again) else None

        size = max(1, len(steps) // 2)
        while size:
            at = 0
            while at < len(steps):
                fewer = steps[:at] + steps[at + size :]
                again = still(fewer)
                if again is None:
                    at += size
                else:
                    steps, found = fewer, again
            size //= 2
        for at in range(len(steps)):
            for part in steps[at].parts():
                if again := still([*steps[:at], part, *steps[at + 1 :]]):
                    steps[at], found = part, again
                    break
        return attrs.evolve(seed, steps=tuple(steps)), found


def _insist(peer: Peer, commands: list[Command]) -> list[Reply]:
    """The replies; raises NoAnswer."""
    try:
        return peer.ask(commands)
    except OSError as error:
        lines = "\n".join(map(_line, commands))
        raise NoAnswer(f"{peer.name} server: {error}, asked\n{lines}") from error


def _of_transaction(queued: deque[Command], ours: Reply, real: Reply) -> Difference | None:
    if not ours.value or not real.value or len(ours.value) != len(real.value):
        return None if ours == real else Difference(("EXEC",), ours, real)
    for mine, other in zip(ours.value, real.value, strict=True):
        command = queued.popleft() if queued else ("EXEC",)
        if _differ(command, mine, other):
            return Difference(command, mine, other)
    return None


def _differ(command: Command, ours: Reply, real: Reply) -> bool:
    """Whether there is a difference and no reason for it; raises Diverged."""
    if judge.same(command, ours, real):
        return False
    known = find_known(command, ours, real)
    if known is not None and known.data_differ:
        raise Diverged(known.reason)
    return known is None


def _on(reader: Command, key: str | bytes) -> Command:
    return tuple(key if word == "?" else word for word in reader)


def _events(peer: Peer) -> list[Reply]:
    """The messages that have come so far; PING has a message for its answer."""
    peer.send([("PING",)])
    messages = iter(peer.next, None)
    return list(itertools.takewhile(lambda message: message.value[0].value != b"pong", messages))


def _event_name(message: Reply) -> str:
    return (
        "nothing"
        if message.value is None
        else " ".join(str(part.value) for part in message.value[2:])
    )


def shown(seed: Seed, difference: Difference) -> Iterator[str]:
    """What a person needs to see it again."""
    place = f"seed {seed.number}, RESP{seed.protocol}, {difference.about}"
    yield f"{place}: {_line(difference.command)}"
    yield f"    ours {_short(difference.ours)}"
    yield f"    real {_short(difference.real)}"
    for step in seed.steps:
        for command in step.commands:
            yield f"        {_line(command)}"


def _line(command: Command) -> str:
    quoted = (
        word
        if isinstance(word, str) and word.isprintable() and word and " " not in word
        else repr(word)
        for word in command
    )
    return _cut(" ".join(quoted))


def _short(reply: Reply) -> str:
    return _cut(str(reply))


def _cut(text: str, length: int = 600) -> str:
    return text if len(text) <= length else f"{text[:length]}... ({len(text)})"
