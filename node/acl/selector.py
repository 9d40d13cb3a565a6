"""A selector: one set of permissions, and the rules that make it.

A user has one of its own and maybe more; a command may run if one selector allows all of it.
"""

import functools
import re
from collections.abc import Callable, Iterable, Sequence

import attrs

from node.command import ALL_DBS, NO_AUTH, PUBSUB, READONLY, TABLE, WRITE, Row, every_row
from node.data.number import as_integer
from node.data.pattern import compiled

# What a refusal is about; of two selectors, the one that got further tells why.
OTHER_DATABASE, COMMAND, KEY, CHANNEL = range(1, 5)
# What a pattern of keys allows.
READ, WRITES = 1, 2
BOTH = READ | WRITES

Refusal = tuple[int, int]
"""What it is about, and the index of the argument that it was found at."""

CATEGORIES = tuple(
    b"keyspace read write set sortedset list hash string bitmap hyperloglog geo stream pubsub "
    b"admin fast slow blocking dangerous connection transaction scripting".split()
)
"""In the order in which ACL CAT names them."""

UNKNOWN = b"Unknown command or category name in ACL"
SYNTAX = b"Syntax error"
KEYS_FULL = (
    b"Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have "
    b"any effect. Try 'resetkeys' to start with an empty list of patterns"
)
CHANNELS_FULL = (
    b"Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not "
    b"have any effect. Try 'resetchannels' to start with an empty list of channels"
)
NO_DEEPER = b"Allowing first-arg of a subcommand is not supported"
NO_SUCH_DATABASE = b"The provided database ID is out of range"

_INT_MAX = (1 << 31) - 1
_SPACE = re.compile(rb"[\0\s]")
_NUMBER = re.compile(rb"\s*([+-]?\d+)")
_KEY_RULE = re.compile(rb"%([rRwW]+)(?:~(.*))?", re.DOTALL)
_LETTERS = {ord("r"): READ, ord("w"): WRITES}


class BadRule(ValueError):
    """A rule that makes no sense; `text` says why, in the words of a real server."""

    def __init__(self, text: bytes = SYNTAX) -> None:
        super().__init__(text)
        self.text = text


@functools.cache
def commands_of(category: bytes) -> tuple[bytes, ...]:
    """The full names of a category's commands and subcommands, in alphabetical order."""
    return tuple(sorted(row.name for row in every_row() if b"@" + category in row.categories))


@attrs.define(eq=False)
class Selector:
    """Permissions.

    commands: full names of those that may run. first_args: of commands that may run with these
    first arguments only. future: whether commands that nobody knows yet may run, that is, which of
    +@all and -@all came last. rules: what has been said of commands since then, in order.
    all_commands: nothing is forbidden.
    keys: patterns, with what they allow. databases: None for all of them.
    """

    commands: set[bytes] = attrs.field(factory=set)
    first_args: dict[bytes, list[bytes]] = attrs.field(factory=dict)
    future: bool = False
    all_commands: bool = False
    rules: list[bytes] = attrs.field(factory=list)
    all_keys: bool = False
    keys: dict[bytes, int] = attrs.field(factory=dict)
    all_channels: bool = False
    channels: list[bytes] = attrs.field(factory=list)
    databases: frozenset[int] | None = None

    def copy(self) -> "Selector":
        """Another one that allows the same."""
        return attrs.evolve(
            self,
            commands=set(self.commands),
            first_args={name: list(words) for name, words in self.first_args.items()},
            rules=list(self.rules),
            keys=dict(self.keys),
            channels=list(self.channels),
        )

    def is_unrestricted(self) -> bool:
        """Whether it allows everything."""
        return self.all_commands and self.all_keys and self.all_channels and self.databases is None

    # --- rules -----------------------------------------------------------------------------------

    def apply(self, rule: bytes) -> None:
        """Change the permissions by one rule; raises BadRule."""
        simple = _SIMPLE.get(rule.lower())
        if simple is not None:
            simple(self)
        elif rule[:1] in (b"~", b"%"):
            self._allow_keys(rule)
        elif rule[:1] == b"&":
            self._allow_channels(rule[1:])
        elif rule[:3].lower() == b"db=":
            self.databases = _databases(rule[3:])
        elif rule[:2] in (b"+@", b"-@"):
            self._change_category(rule.lower())
        elif rule[:1] in (b"+", b"-"):
            self._change_command(rule[:1], rule[1:])
        else:
            raise BadRule

    def _allow_keys(self, rule: bytes) -> None:
        if self.all_keys:
            raise BadRule(KEYS_FULL)
        permission, pattern = _key_rule(rule)
        if has_spaces(pattern):
            raise BadRule
        self.keys[pattern] = self.keys.get(pattern, 0) | permission

    def _allow_channels(self, pattern: bytes) -> None:
        if self.all_channels:
            raise BadRule(CHANNELS_FULL)
        if has_spaces(pattern):
            raise BadRule
        if pattern not in self.channels:
            self.channels.append(pattern)

    def allow_all_keys(self) -> None:
        self.all_keys = True
        self.keys.clear()

    def forget_keys(self) -> None:
        self.all_keys = False
        self.keys.clear()

    def allow_all_channels(self) -> None:
        self.all_channels = True
        self.channels.clear()

    def forget_channels(self) -> None:
        self.all_channels = False
        self.channels.clear()

    def allow_all_databases(self) -> None:
        self.databases = None

    def forget_databases(self) -> None:
        self.databases = frozenset()

    def allow_all_commands(self) -> None:
        self.commands = {row.name for row in every_row()}
        self.future = self.all_commands = True
        self.first_args.clear()
        self.rules.clear()

    def forget_commands(self) -> None:
        self.commands = set()
        self.future = self.all_commands = False
        self.first_args.clear()
        self.rules.clear()

    def _change_category(self, rule: bytes) -> None:
        category = rule[2:]
        if category not in CATEGORIES:
            raise BadRule(UNKNOWN)
        self._change(rule[:1], commands_of(category))
        self._note(rule)

    def _change_command(self, sign: bytes, name: bytes) -> None:
        row = _row(name)
        if row is None:
            if sign == b"-":
                raise BadRule(UNKNOWN)
            self._allow_first_arg(name.lower())
            return
        self._change(sign, [row.name, *(sub.name for sub in row.subcommands.values())])
        self._note(sign + row.name)

    def _change(self, sign: bytes, names: Iterable[bytes]) -> None:
        for name in names:
            self.first_args.pop(name, None)
        if sign == b"+":
            self.commands.update(names)
        else:
            self.commands.difference_update(names)
            self.all_commands = False

    def _allow_first_arg(self, name: bytes) -> None:
        """`+command|word`, where the word is no subcommand."""
        command, bar, word = name.rpartition(b"|")
        row = _row(command)
        if not bar or row is None:
            raise BadRule(UNKNOWN)
        if row.parent is not None:
            raise BadRule(NO_DEEPER)
        if not word:
            raise BadRule
        if row.subcommands:
            raise BadRule(UNKNOWN)
        words = self.first_args.setdefault(row.name, [])
        if word not in words:
            words.append(word)
        self._note(b"+" + name)

    def _note(self, rule: bytes) -> None:
        """Keep a rule, in place of those that it makes void."""
        name = rule[1:]
        within = name + b"|"
        kept = (old for old in self.rules if old[1:] != name and not old.startswith(within, 1))
        self.rules = [*kept, rule]

    # --- how it is shown -------------------------------------------------------------------------

    def command_rules(self) -> bytes:
        """As `-@all +get`."""
        return b" ".join([b"+@all" if self.future else b"-@all", *self.rules])

    def key_rules(self) -> bytes:
        """As `~a* %R~b*`."""
        if self.all_keys:
            return b"~*"
        return b" ".join(_KEY_PREFIX[allows] + pattern for pattern, allows in self.keys.items())

    def channel_rules(self) -> bytes:
        """As `&a &b*`."""
        return b"&*" if self.all_channels else b" ".join(b"&" + name for name in self.channels)

    def database_rules(self) -> bytes:
        """As `db=0,1`; nothing where none are allowed."""
        if self.databases is None:
            return b"alldbs"
        numbers = b",".join(b"%d" % i for i in sorted(self.databases))
        return numbers and b"db=" + numbers

    def line(self) -> bytes:
        """All rules; applied to an empty selector they make one like this."""
        channels = self.channel_rules()
        if not self.all_channels:
            channels = b" ".join([b"resetchannels", channels]).rstrip(b" ")
        databases = b"" if self.databases is None else self.database_rules() or b"resetdbs"
        parts = (self.key_rules(), channels, databases, self.command_rules())
        return b" ".join(part for part in parts if part)

    # --- questions -------------------------------------------------------------------------------

    def refusal(
        self, row: Row, args: Sequence[bytes], database: int, databases: int
    ) -> Refusal | None:
        """Why a command may not run; None if it may.

        database: the one that the client is on, of so many that there are.
        """
        if self.databases is not None:
            at = self._other_database(row, args, database, databases)
            if at is not None:
                return OTHER_DATABASE, at
        if not self._allows_command(row, args):
            return COMMAND, 0
        if not self.all_keys:
            for i, access in row.key_uses(args):
                if not self._allows_key(args[i], access):
                    return KEY, i
        if not self.all_channels and row.name in CHANNELS_OF:
            is_pattern = row.name == b"psubscribe"
            for i in range(len(args))[CHANNELS_OF[row.name]]:
                if not self.allows_channel(args[i], is_pattern):
                    return CHANNEL, i
        return None

    def _allows_command(self, row: Row, args: Sequence[bytes]) -> bool:
        if self.all_commands or row.name in self.commands or row.flags & NO_AUTH:
            return True
        words = self.first_args.get(row.name)
        return words is not None and len(args) > 1 and args[1].lower() in words

    def _allows_key(self, key: bytes, access: str) -> bool:
        needs = _needs(access)
        if needs < 0:
            return True
        return any(
            allows & needs == needs and compiled(pattern)(key)
            for pattern, allows in self.keys.items()
        )

    def allows_channel(self, channel: bytes, is_pattern: bool) -> bool:
        """Whether a channel may be used; a pattern may, if it is allowed to the letter."""
        if self.all_channels:
            return True
        if is_pattern:
            return channel in self.channels
        return any(compiled(pattern)(channel) for pattern in self.channels)

    def reads_all_keys(self) -> bool:
        """Whether every key may be read, whatever its name."""
        return self.all_keys or bool(self.keys.get(b"*", 0) & READ)

    def _other_database(
        self, row: Row, args: Sequence[bytes], database: int, databases: int
    ) -> int | None:
        """Where a command names a database that is not allowed, 0 if it is the client's own."""
        allowed = self.databases
        assert allowed is not None
        if row.flags & ALL_DBS:
            return None if allowed.issuperset(range(databases)) else 0
        find = _DATABASE_ARGS.get(row.name)
        for i in find(args) if find is not None else ():
            number = as_integer(args[i])
            if number is not None and 0 <= number < databases and number not in allowed:
                return i
        if row.name in _ONLY_NAMED or not _touches_data(row):
            return None
        return None if database in allowed else 0


def has_spaces(word: bytes) -> bool:
    """Whether a word could not stand in a line of rules."""
    return _SPACE.search(word) is not None


# Of commands that use channels, which arguments these are.
CHANNELS_OF = {
    b"publish": slice(1, 2),
    b"spublish": slice(1, 2),
    b"subscribe": slice(1, None),
    b"ssubscribe": slice(1, None),
    b"psubscribe": slice(1, None),
}


def _after_db(args: Sequence[bytes]) -> list[int]:
    """Of COPY: every word after a DB."""
    return [i + 1 for i in range(3, len(args) - 1) if args[i].upper() == b"DB"]


# Of commands that name databases, where; the first two use no other.
_DATABASE_ARGS: dict[bytes, Callable[[Sequence[bytes]], Iterable[int]]] = {
    b"select": lambda args: (1,),
    b"swapdb": lambda args: (1, 2),
    b"move": lambda args: (2,),
    b"copy": _after_db,
}
_ONLY_NAMED = frozenset((b"select", b"swapdb"))


def _touches_data(row: Row) -> bool:
    """Whether a command looks at the client's database."""
    if row.flags & (WRITE | READONLY):
        return True
    # HELP of OBJECT alone of its kind counts as a command on keys.
    return not (row.keyless or row.flags & PUBSUB) or row.name == b"object|help"


@functools.cache
def _needs(access: str) -> int:
    """What a pattern has to allow for a command to use a key so; -1: it is no key."""
    words = access.split()
    if "NOT_KEY" in words:
        return -1
    writes = not {"INSERT", "DELETE", "UPDATE"}.isdisjoint(words)
    return (READ if "ACCESS" in words else 0) | (WRITES if writes else 0)


def _row(name: bytes) -> Row | None:
    """The row of a command or, by its full name, subcommand, in any case."""
    command, _, sub = name.lower().partition(b"|")
    row = TABLE.get(command)
    return row.subcommands.get(sub) if row is not None and b"|" in name else row


def _key_rule(rule: bytes) -> tuple[int, bytes]:
    """What `~pattern` or `%RW~pattern` allows, and the pattern."""
    if rule[:1] == b"~":
        return BOTH, rule[1:]
    found = _KEY_RULE.fullmatch(rule)
    if found is None:
        raise BadRule
    letters = found[1].lower()
    if len(set(letters)) != len(letters):
        raise BadRule
    return sum(_LETTERS[letter] for letter in letters), found[2] or b""


_KEY_PREFIX = {READ: b"%R~", WRITES: b"%W~", BOTH: b"~"}


def _databases(text: bytes) -> frozenset[int]:
    """The numbers in `0,1,2`."""
    numbers = []
    for word in text.split(b","):
        found = _NUMBER.fullmatch(word)
        if found is None:
            raise BadRule
        numbers.append(int(found[1]))
    if any(not 0 <= number <= _INT_MAX for number in numbers):
        raise BadRule(NO_SUCH_DATABASE)
    return frozenset(numbers)


_SIMPLE: dict[bytes, Callable[[Selector], None]] = {
    b"allkeys": Selector.allow_all_keys,
    b"~*": Selector.allow_all_keys,
    b"resetkeys": Selector.forget_keys,
    b"allchannels": Selector.allow_all_channels,
    b"&*": Selector.allow_all_channels,
    b"resetchannels": Selector.forget_channels,
    b"alldbs": Selector.allow_all_databases,
    b"resetdbs": Selector.forget_databases,
    b"allcommands": Selector.allow_all_commands,
    b"+@all": Selector.allow_all_commands,
    b"nocommands": Selector.forget_commands,
    b"-@all": Selector.forget_commands,
}
