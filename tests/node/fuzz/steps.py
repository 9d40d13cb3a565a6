"""From a seed to what is sent: commands, transactions, scripts, in one of both protocols."""

from collections.abc import Iterator
from random import Random

import attrs

import node.commands  # noqa: F401  fills the table
from fuzz import words
from fuzz.grammar import Command, one_command
from node.command import Row, every_row

GROUPS = (
    *("string", "bitmap", "list", "hash", "set", "sorted-set", "stream", "hyperloglog", "geo"),
    *("generic", "pubsub", "scripting", "transactions"),
)
ALSO = frozenset((b"flushall", b"flushdb", b"swapdb", b"dbsize", b"select"))
# Random by nature beyond what a following DEL can mend, waiting for messages, or of other matters.
NEVER = frozenset(
    (
        *(b"subscribe", b"psubscribe", b"ssubscribe", b"unsubscribe", b"punsubscribe"),
        *(b"sunsubscribe", b"migrate", b"waitaof", b"multi", b"exec", b"discard", b"restore"),
        *(b"pfselftest", b"pfdebug", b"script|debug", b"function|restore", b"function|dump"),
        *(b"script|kill", b"function|kill"),
    )
)
WEIGHTS = {
    **dict.fromkeys((b"set", b"rpush", b"lpush", b"geoadd", b"xreadgroup"), 4.0),
    **dict.fromkeys((b"hset", b"sadd", b"zadd", b"xgroup|create", b"pfadd", b"eval"), 5.0),
    **dict.fromkeys((b"setbit", b"bitfield", b"setrange", b"function|load"), 3.0),
    b"xadd": 9.0,
    **dict.fromkeys((b"flushall", b"flushdb", b"swapdb", b"function|flush"), 0.1),
    **dict.fromkeys((b"del", b"unlink", b"xgroup|destroy", b"select", b"move"), 0.4),
    **dict.fromkeys((b"spop", b"wait", b"script|flush", b"lcs"), 0.5),
}
BLOCKING = frozenset((b"blpop", b"brpop", b"blmove", b"brpoplpush", b"blmpop"))
CALL = "return redis.call(unpack(ARGV))"
CALLS = (
    *(CALL, CALL, "return redis.pcall(unpack(ARGV))"),
    "redis.setresp(3); return redis.call(unpack(ARGV))",
)


@attrs.frozen
class Step:
    """Commands that belong together: a transaction, or what follows a random one to undo it."""

    commands: tuple[Command, ...]

    def parts(self) -> Iterator["Step"]:
        """The same with one of a transaction's commands less."""
        if self.commands[0] == ("MULTI",):
            for i in range(1, len(self.commands) - 1):
                yield Step(self.commands[:i] + self.commands[i + 1 :])
            if len(self.commands) == 3:
                yield Step(self.commands[1:2])


@attrs.frozen
class Seed:
    """All that one seed stands for."""

    number: int
    protocol: int
    steps: tuple[Step, ...]


def rows_by_group() -> dict[str, tuple[list[Row], list[float]]]:
    """The commands to choose from, and how often each."""
    found: dict[str, tuple[list[Row], list[float]]] = {group: ([], []) for group in GROUPS}
    for row in every_row():
        if row.name in NEVER or (row.subcommands and row.name != b"object"):
            continue
        group = "generic" if row.name in ALSO else row.group
        if group in found:
            found[group][0].append(row)
            weight = 0.1 if row.name.endswith(b"|help") else WEIGHTS.get(row.name, 1.0)
            found[group][1].append(weight)
    return {group: rows for group, rows in found.items() if rows[0]}


class Generator:
    """Makes a seed's steps; a few groups are in focus, so that their commands meet."""

    def __init__(self, seed: int, groups: tuple[str, ...] = ()) -> None:
        self.random = Random(seed)
        self.rows = rows_by_group()
        names = [name for name in self.rows if not groups or name in groups]
        self.focus = self.random.sample(names, min(len(names), self.random.choice((1, 2, 3))))
        self.others = names
        self.scripts = "scripting" in names

    def command(self) -> tuple[Command, ...]:
        focused = self.random.random() < 0.8
        group = self.random.choice(self.focus if focused else self.others)
        rows, weights = self.rows[group]
        command = one_command(self.random, self.random.choices(rows, weights)[0])
        if command[0] == "SPOP" and len(command) > 1:
            return command, ("DEL", command[1])
        return (command,)

    def step(self) -> Step:
        chance = self.random.random()
        if chance < 0.75:
            return Step(self.command())
        if chance < 0.9 or not self.scripts:
            inner = [part for _ in range(self.random.randint(1, 5)) for part in self.command()]
            end = "DISCARD" if self.random.random() < 0.05 else "EXEC"
            return Step((("MULTI",), *inner, (end,)))
        script = self.random.choice(CALLS)
        return Step(tuple(("EVAL", script, "0", *part) for part in self.command()))

    def large_values(self) -> Iterator[Step]:
        """What it takes to leave each type's small encoding."""
        many = self.random.choice((130, 600))
        numbers = [str(i) for i in range(many)]
        pairs = [word for i in numbers for word in (f"f{i}", i)]
        scored = [word for i in numbers for word in (str(int(i) % 50), f"m{i}")]
        large: dict[str, list[Command]] = {
            "list": [("RPUSH", "l1", *(f"{i}:{'e' * 40}" for i in numbers))],
            "hash": [("HSET", "h1", *pairs)],
            "set": [("SADD", "t1", *numbers), ("SADD", "t2", *(f"m{i}" for i in numbers))],
            "sorted-set": [("ZADD", "z1", *scored)],
            "string": [("SETRANGE", "s1", "100000", "end"), ("SET", "s2", "v" * 70_000)],
            "bitmap": [("SETBIT", "b1", "1000000", "1"), ("SET", "b2", "\x7f" * 3000)],
            "stream": [("XADD", "x1", f"{i}-1", "f1", i, "f2", "v") for i in numbers[1:120]],
            "hyperloglog": [("PFADD", "p1", *numbers), ("PFADD", "p2", *pairs)],
            "geo": [("GEOADD", "g1", *self._places(numbers))],
        }
        for group in self.focus:
            yield from (Step((command,)) for command in large.get(group, []))

    def _places(self, names: list[str]) -> list[str]:
        uniform = self.random.uniform
        places = ((f"{uniform(-5, 20):.4f}", f"{uniform(30, 50):.4f}", name) for name in names)
        return [word for place in places for word in place]


def seed_of(number: int, length: int, groups: tuple[str, ...] = ()) -> Seed:
    """What this seed sends: about `length` commands."""
    generator = Generator(number, groups)
    steps = list(generator.large_values()) if generator.random.random() < 0.3 else []
    steps.append(Step((("SET", f"w_{generator.random.choice(words.MEMBERS)}", "5"),)))
    size = 0
    while size < length:
        step = generator.step()
        steps.append(step)
        size += len(step.commands)
    return Seed(number, 2 + number % 2, tuple(steps))
