"""A command's usage line, and random commands that fit it, nearly fit it, or do not."""

from collections.abc import Sequence
from random import Random

import attrs

from fuzz import words
from node.command import BLOCKING, Argument, Group, Part, Row, Token

KEY_NAMES = frozenset(
    (
        *("key", "key1", "key2", "newkey", "source", "sourcekey", "src"),
        *("destination", "destkey", "dst"),
    )
)
COUNTS = frozenset(("numkeys", "numfields", "num-vertices"))  # of what follows
AS_MANY = frozenset(("id", "weight"))  # as there were keys, in XREAD and ZUNION
OPTION = 0.3  # that something optional is there
WRONG_ARITY = 0.02
WRONG_COUNT = 0.04
OTHER_ORDER = 0.25
LOWER_CASE = 0.1

_CLOCK = Token(b"*")  # an id that the server's clock makes is never the same

Command = tuple[str | bytes, ...]


@attrs.define
class Writer:
    """Writes one command; `count_at` is where the number of what follows next has to go."""

    random: Random
    name: str
    group: str
    words: list[str | bytes] = attrs.field(factory=list)
    count_at: int | None = None
    repeats: int = 1

    def write(self, parts: Sequence[Part]) -> None:
        for part in self._in_some_order(parts):
            if isinstance(part, Token):
                text = part.text.decode()
                self.words.append(text.lower() if self._chance(LOWER_CASE) else text)
            elif isinstance(part, Argument):
                self._write_argument(part.name)
            else:
                self._write_group(part)

    def _chance(self, probability: float) -> bool:
        return self.random.random() < probability

    def _in_some_order(self, parts: Sequence[Part]) -> list[Part]:
        """Options at the end may be given in any order."""
        first = len(parts)
        while first and isinstance(parts[first - 1], Group) and _is_option(parts[first - 1]):
            first -= 1
        options = list(parts[first:])
        if len(options) > 1 and self._chance(OTHER_ORDER):
            self.random.shuffle(options)
        return [*parts[:first], *options]

    def _write_argument(self, name: str) -> None:
        if name in COUNTS:
            self.count_at = len(self.words)
            self.words.append("1")
        elif name in KEY_NAMES:
            self.words.append(words.key(self.random, self.group))
        else:
            self.words.append(words.word(self.random, self.name, name))

    def _write_group(self, group: Group) -> None:
        if group.optional and not self._chance(OPTION):
            self._settle_count(0)
            return
        if not group.multiple:
            clockless = [body for body in group.alternatives if body != (_CLOCK,)]
            self.write(self.random.choice(clockless))
            return
        repeats = self._repeats_of(group)
        self._settle_count(repeats)
        for _ in range(repeats):
            self.write(self.random.choice(group.alternatives))

    def _repeats_of(self, group: Group) -> int:
        body = group.alternatives[0]
        follows = body and isinstance(body[0], Argument) and body[0].name in AS_MANY
        if follows and self.name not in ("xdel", "xack", "xclaim") and not self._chance(0.05):
            return self.repeats
        self.repeats = self.random.choice((1, 1, 2, 2, 3, 5))
        return self.repeats

    def _settle_count(self, count: int) -> None:
        if self.count_at is None:
            return
        wrong = self._chance(WRONG_COUNT)
        self.words[self.count_at] = self.random.choice(words.JUNK) if wrong else str(count)
        self.count_at = None


def _is_option(part: Part) -> bool:
    return (
        isinstance(part, Group)
        and part.optional
        and not part.multiple
        and all(body and isinstance(body[0], Token | Group) for body in part.alternatives)
    )


def one_command(random: Random, row: Row) -> Command:
    """A random command for this row."""
    names = row.name.decode().split("|")
    writer = Writer(random, names[0], row.group)
    writer.write(row.usage.parts)
    command = [*(name.upper() for name in names), *writer.words]
    if random.random() < WRONG_ARITY:
        if random.random() < 0.5 and len(command) > len(names):
            command.pop()
        elif not row.flags & BLOCKING:  # of which the last word may be how long to wait
            command.append(random.choice(words.JUNK))
    return tuple(command)
