"""What a command is: its usage line, its table row, and the table.

A usage line is written as Redis documents it, `SET key value [NX | XX] [GET] [EX seconds | ...]`.
It is the one source of a command's arity, option parsing, keys and COMMAND DOCS arguments:

    name        lower case: an argument            NAME     upper case: a literal token
    [ ... ]     may be left out                    a | b    one of
    x [x ...]   x, once or more                    [x ...]  x, any number of times
    < ... >     one of these must be there         ""       the empty string
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import attrs

from node.data.number import as_integer
from node.replies import SYNTAX, ReplyError, printed, wrong_arity

# Flags, as COMMAND INFO names them. Plain ints: an IntFlag's `&` costs a microsecond.
WRITE = 1 << 0
READONLY = 1 << 1
DENYOOM = 1 << 2
ADMIN = 1 << 3
PUBSUB = 1 << 4
NOSCRIPT = 1 << 5
BLOCKING = 1 << 6
LOADING = 1 << 7
STALE = 1 << 8
SKIP_MONITOR = 1 << 9
SKIP_COMMANDLOG = 1 << 10
ASKING = 1 << 11
FAST = 1 << 12
NO_AUTH = 1 << 13
MAY_REPLICATE = 1 << 14
NO_MANDATORY_KEYS = 1 << 15
NO_MULTI = 1 << 16
ALLOW_BUSY = 1 << 17
NO_ASYNC_LOADING = 1 << 18
TOUCHES_ARBITRARY_KEYS = 1 << 19
MOVABLE_KEYS = 1 << 20
PROTECTED = 1 << 21
ALL_DBS = 1 << 22
SENTINEL = 1 << 23
# Ours: on every row, for gates that must see each command; on rows with subcommands; on rows whose
# handlers may change what the gates let through; and on every row, for clients within MULTI.
ANY = 1 << 24
CONTAINER = 1 << 25
STEERS = 1 << 26
QUEUES = 1 << 27

FLAG_NAMES = (
    (WRITE, b"write"),
    (READONLY, b"readonly"),
    (DENYOOM, b"denyoom"),
    (ADMIN, b"admin"),
    (PUBSUB, b"pubsub"),
    (NOSCRIPT, b"noscript"),
    (BLOCKING, b"blocking"),
    (LOADING, b"loading"),
    (STALE, b"stale"),
    (SKIP_MONITOR, b"skip_monitor"),
    (SKIP_COMMANDLOG, b"skip_commandlog"),
    (ASKING, b"asking"),
    (FAST, b"fast"),
    (NO_AUTH, b"no_auth"),
    (NO_MANDATORY_KEYS, b"no_mandatory_keys"),
    (NO_MULTI, b"no_multi"),
    (ALLOW_BUSY, b"allow_busy"),
    (NO_ASYNC_LOADING, b"no_async_loading"),
    (MOVABLE_KEYS, b"movablekeys"),
)

UNBOUNDED = (1 << 30) - 1  # the largest integer that compares fast

Handler = Callable[[Any, list[bytes]], Any]


# --- usage lines ---------------------------------------------------------------------------------


@attrs.frozen
class Token:
    """A literal word."""

    text: bytes


@attrs.frozen
class Argument:
    """A place for a value."""

    name: str


@attrs.frozen
class Group:
    """Alternatives, each a sequence of parts; optional and repeated as the line says."""

    alternatives: tuple[tuple["Part", ...], ...]
    optional: bool = False
    multiple: bool = False


Part = Token | Argument | Group


@attrs.frozen
class Option:
    """Where a token's value goes: the place in what `Usage.options` returns."""

    place: int
    arguments: int
    alone: bool  # the only one of its group: its value is True or the argument itself


_lexeme = re.compile(r"[\[\]<>|]|\.\.\.|[^\s\[\]<>|]+")
_INDEFINITE = re.compile(" (VARIABLE_FLAGS|INCOMPLETE)")
_KEY_NAMES = re.compile(r"^(key\d?|newkey|sourcekey|destkey|source|destination)$")


class Usage:
    """A usage line, parsed.

    name: lower case, `config|get` for a subcommand.
    low, high: bounds of the number of arguments, the name's words included.
    """

    def __init__(self, line: str) -> None:
        self.line = line
        lexemes = _lexeme.findall(line)
        words = list(itertools.takewhile(str.isupper, lexemes))
        words = words[:2] if words[0] in CONTAINERS else words[:1]
        self.name = "|".join(words).lower().encode()
        self.parts = _fold_repeats(_Reader(lexemes[len(words) :]).sequence())
        self.words = len(words)
        self.low = self.words + sum(map(_required, self.parts))
        variable = any(isinstance(part, Group) and _is_variable(part) for part in self.parts)
        self.high = UNBOUNDED if variable else self.low
        self._options = _options(self.parts)
        self._places = 1 + max((option.place for option in self._options.values()), default=-1)

    def options(self, args: list[bytes], start: int, then: bool = False) -> tuple[list[Any], int]:
        """Parse the optional tokens from args[start] on.

        Returns one value per bracketed group (None where left out, True for a lone token, the
        argument of a lone token with one, else (token, *arguments)), and the index of the first
        argument that is no option. Raises SYNTAX on what does not fit: two alternatives of one
        group, a missing argument, or, without `then`, any other word.
        """
        values: list[Any] = [None] * self._places
        i, end = start, len(args)
        while i < end:
            token = args[i].upper()
            option = self._options.get(token)
            if option is None:
                if then:
                    break
                raise SYNTAX
            stop = i + 1 + option.arguments
            if stop > end:
                raise SYNTAX
            previous = values[option.place]
            if previous is not None and not option.alone and previous[0] != token:
                raise SYNTAX
            values[option.place] = _option_value(option, token, args[i + 1 : stop])
            i = stop
        return values, i


# Commands whose second word names a subcommand.
CONTAINERS = frozenset(
    [
        "ACL",
        "CLIENT",
        "CLUSTER",
        "COMMAND",
        "COMMANDLOG",
        "CONFIG",
        "FUNCTION",
        "LATENCY",
        "MEMORY",
        "MODULE",
        "OBJECT",
        "PUBSUB",
        "SCRIPT",
        "SLOWLOG",
        "XGROUP",
        "XINFO",
    ]
)


def _option_value(option: Option, token: bytes, arguments: list[bytes]) -> Any:
    if not option.alone:
        return (token, *arguments)
    if not arguments:
        return True
    return arguments[0] if option.arguments == 1 else tuple(arguments)


class _Reader:
    """Recursive descent over a usage line's lexemes."""

    def __init__(self, lexemes: list[str]) -> None:
        self.lexemes = lexemes
        self.position = 0

    def sequence(self) -> tuple[Part, ...]:
        parts: list[Part] = []
        while self.position < len(self.lexemes) and self.lexemes[self.position] not in "]>|":
            lexeme = self.lexemes[self.position]
            if lexeme == "...":
                break
            self.position += 1
            if lexeme in "[<":
                parts.append(self.group("]" if lexeme == "[" else ">"))
            elif lexeme.isupper() or not lexeme[0].isalpha():
                parts.append(Token(lexeme.strip('"').encode()))
            else:
                parts.append(Argument(lexeme))
        return tuple(parts)

    def group(self, end: str) -> Group:
        alternatives = [self.sequence()]
        multiple = False
        while (lexeme := self.lexemes[self.position]) != end:
            self.position += 1
            if lexeme == "...":
                multiple = True
            else:
                alternatives.append(self.sequence())
        self.position += 1
        if len(alternatives) == 1:
            folded = _fold_repeats(alternatives[0])
            if len(folded) == 1 and isinstance(folded[0], Group) and folded[0].multiple:
                alternatives, multiple = list(folded[0].alternatives), True  # [x y [x y ...]]
            else:
                alternatives = [folded]
        return Group(tuple(alternatives), optional=end == "]", multiple=multiple)


def _fold_repeats(parts: tuple[Part, ...]) -> tuple[Part, ...]:
    """Turn `x [x ...]` into one x that must be there once and may repeat."""
    folded: list[Part] = []
    for part in parts:
        if isinstance(part, Group) and part.multiple and len(part.alternatives) == 1:
            body = part.alternatives[0]
            if tuple(folded[-len(body) :]) == body:
                del folded[-len(body) :]
                part = Group(part.alternatives, optional=False, multiple=True)
        folded.append(part)
    return tuple(folded)


def _is_variable(group: Group) -> bool:
    """Whether a group may take up more or fewer arguments than `_required` says."""
    sizes = {sum(map(_required, body)) for body in group.alternatives}
    return group.optional or group.multiple or len(sizes) > 1


def _required(part: Part) -> int:
    if not isinstance(part, Group):
        return 1
    if part.optional:
        return 0
    return min(sum(map(_required, body)) for body in part.alternatives)


def _options(parts: tuple[Part, ...]) -> dict[bytes, Option]:
    table: dict[bytes, Option] = {}
    place = 0
    for part in parts:
        if not isinstance(part, Group) or not part.optional or part.multiple:
            continue
        tokens = [body for body in part.alternatives if body and isinstance(body[0], Token)]
        for body in tokens:
            token = body[0]
            assert isinstance(token, Token)
            table[token.text] = Option(place, sum(map(_required, body[1:])), len(tokens) == 1)
        place += bool(tokens)
    return table


# --- where a command's keys are ------------------------------------------------------------------


@attrs.frozen
class Keys:
    """One key specification, as COMMAND INFO describes it.

    first: index of the first argument to look at, or, with `keyword`, where the search for that
    word starts. last, step, limit: as in a range specification. count_at: for a `numkeys`
    specification, the offset of the number from `first`, the keys following `skip` further on.
    access: RW/RO/OW/RM and what happens to the key, e.g. "RW UPDATE".
    """

    access: str
    first: int = 1
    last: int = 0
    step: int = 1
    limit: int = 0
    keyword: bytes | None = None
    count_at: int | None = None
    skip: int = 0
    notes: str = ""

    def moves(self) -> bool:
        """Whether other arguments say where these keys are."""
        return self.keyword is not None or self.count_at is not None or self.is_unknown()

    def is_unknown(self) -> bool:
        """Whether only the command itself can tell (`first` is 0)."""
        return not self.first

    def find(self, args: Sequence[bytes]) -> Sequence[int] | None:
        """Indices of the keys among these arguments; None where the arguments make no sense."""
        first = self.first
        if not first:
            return ()
        if self.keyword is not None:
            first = self._search(args)
            if first < 0:
                return ()
        if self.count_at is not None:
            return self._counted(args, first)
        end = len(args)
        last = first + self.last if self.last >= 0 else end + self.last
        if self.limit > 1 and self.last < 0:
            last = first + (end - first) // self.limit - 1
        return range(first, last + 1, self.step) if first <= last < end else None

    def _search(self, args: Sequence[bytes]) -> int:
        order = range(self.first, len(args))
        if self.first < 0:
            order = range(len(args) + self.first, 0, -1)
        for i in order:
            if args[i].upper() == self.keyword:
                return i + 1
        return -1

    def _counted(self, args: Sequence[bytes], first: int) -> Sequence[int] | None:
        assert self.count_at is not None
        at = first + self.count_at
        number = as_integer(args[at]) if at < len(args) else None
        start = first + self.skip
        if number is None or not 0 < number <= len(args) - start:
            return None
        end = start + (number - 1) * self.step + 1
        return range(start, end, self.step) if end <= len(args) else None


def _keys_of_usage(usage: Usage, access: str) -> tuple[Keys, ...]:
    """The keys that a usage line names, where they are a plain range at its start."""
    for i, part in enumerate(usage.parts):
        first = usage.words + i
        if isinstance(part, Argument) and part.name == "numkeys":
            return (Keys(access, first, count_at=0, skip=1),)
        if isinstance(part, Argument) and _KEY_NAMES.match(part.name):
            return (Keys(access, first, last=0),)
        if isinstance(part, Group) and part.multiple:
            body = part.alternatives[0]
            if isinstance(body[0], Argument) and _KEY_NAMES.match(body[0].name):
                after = sum(map(_required, usage.parts[i + 1 :]))
                return (Keys(access, first, last=-1 - after, step=len(body)),)
    return ()


# --- statistics ----------------------------------------------------------------------------------


class Times:
    """How long calls took: their sum, and how many took how long.

    count: calls measured; nanoseconds: all of them together.
    """

    __slots__ = ("_buckets", "count", "nanoseconds")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.count = self.nanoseconds = 0
        self._buckets: dict[int, int] = {}

    def add(self, nanoseconds: int) -> None:
        """One more call. O(1)."""
        self.count += 1
        self.nanoseconds += nanoseconds
        # Four buckets for each power of two.
        shift = max(nanoseconds.bit_length() - 3, 0)
        bucket = nanoseconds >> shift | shift << 3
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1

    def of_all(self, calls: int) -> int:
        """The nanoseconds of so many calls, if they were like those that were measured."""
        return self.nanoseconds * calls // self.count if self.count else 0

    def percentile(self, percent: float) -> int:
        """The nanoseconds that so many per cent of the calls did not exceed, to a quarter. O(1)."""
        left = percent * self.count / 100
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                break
        return (bucket & 7) + 1 << (bucket >> 3) if self._buckets else 0


# --- the table -----------------------------------------------------------------------------------


@attrs.define(eq=False)
class Row:
    """All there is to know of one command or subcommand.

    keyless: the command has no keys at all. single_key: its only key is args[1], which the fast
        path routes by itself.
    key_slice: where all its keys are among its arguments, if that is so simple.
    find_keys, find_access: where only the arguments tell what its keys are, what becomes of them.
    calls, failed, rejected: its statistics since start or CONFIG RESETSTAT. times: how long those
    of its calls took that were measured.
    """

    name: bytes
    handler: Handler
    usage: Usage
    flags: int
    group: str
    since: str
    low: int
    high: int
    keys: tuple[Keys, ...] = ()
    keyless: bool = False
    single_key: bool = False
    key_slice: slice | None = None
    categories: tuple[bytes, ...] = ()
    complexity: str = ""
    tips: tuple[bytes, ...] = ()
    history: tuple[tuple[str, str], ...] = ()
    deprecated: tuple[str, str] | None = None
    find_keys: Callable[[Sequence[bytes]], list[int]] | None = None
    find_access: Callable[[Sequence[bytes]], str] | None = None
    parent: "Row | None" = None
    subcommands: dict[bytes, "Row"] = attrs.field(factory=dict)
    calls: int = 0
    failed: int = 0
    rejected: int = 0
    times: Times = attrs.field(factory=Times)

    @property
    def arity(self) -> int:
        """As COMMAND INFO gives it: negative for 'at least'."""
        return self.low if self.high == self.low else -self.low

    @property
    def summary(self) -> str:
        return (self.handler.__doc__ or "").strip().split("\n")[0]

    def key_indices(self, args: Sequence[bytes]) -> list[int]:
        """Which of these arguments are keys; none where the arguments make no sense."""
        if self.find_keys is not None:
            return self.find_keys(args)
        indices: list[int] = []
        for keys in self.keys:
            found = keys.find(args)
            if found is None:
                return []
            indices += found
        return indices

    def key_uses(self, args: Sequence[bytes]) -> list[tuple[int, str]]:
        """As key_indices, each with what the command does to the key, as in `Keys.access`.

        Where that depends on the arguments, it is what these ask for.
        """
        if self.find_access is not None:
            return [(i, self.find_access(args)) for i in self.key_indices(args)]
        if self.find_keys is not None:
            first, other = self.keys[0].access, self.keys[-1].access
            uses = [(i, first if i == 1 else other) for i in self.find_keys(args)]
            return [(i, _INDEFINITE.sub("", access)) for i, access in uses]
        if not self.key_indices(args):
            return []
        return [(i, keys.access) for keys in self.keys for i in keys.find(args) or ()]

    def check_arity(self, args: Sequence[bytes]) -> None:
        """Raises the arity ReplyError."""
        if not self.low <= len(args) <= self.high:
            raise wrong_arity(self.name)


TABLE: dict[bytes, Row] = {}


def every_row() -> Iterator[Row]:
    """Every command and subcommand."""
    for row in TABLE.values():
        yield row
        yield from row.subcommands.values()


def command(
    usage: str | Usage,
    *,
    flags: int,
    group: str,
    since: str,
    access: str | None = None,
    keys: Sequence[Keys] | None = None,
    categories: str = "",
    arity: int | None = None,
    **more: Any,
) -> Callable[[Handler], Handler]:
    """Enter the decorated handler into the table.

    access: of the keys that the usage line names, e.g. "RW UPDATE"; by default "RO ACCESS" for
    commands that only read and "RW UPDATE" for those that write. keys: says it all instead.
    categories: ACL categories besides those that follow from flags and group, or, as `-name`,
    without one of them. arity: where
    Redis's differs from what the usage line says. more: fields of Row.
    """
    line = usage if isinstance(usage, Usage) else Usage(usage)
    if access is None:
        access = "RW UPDATE" if flags & WRITE else "RO ACCESS"
    specs = tuple(keys) if keys is not None else _keys_of_usage(line, access)
    if "find_keys" in more or any(spec.moves() for spec in specs):
        flags |= MOVABLE_KEYS

    def enter(handler: Handler) -> Handler:
        row = Row(
            name=line.name,
            handler=handler,
            usage=line,
            flags=flags | ANY | QUEUES | (0 if _is_plain(line, group) else STEERS),
            group=group,
            since=since,
            low=line.low if arity is None else abs(arity),
            high=line.high if arity is None else (UNBOUNDED if arity < 0 else arity),
            keys=specs,
            keyless=not specs and "find_keys" not in more,
            single_key=_is_single_key(specs) and "find_keys" not in more,
            key_slice=_key_slice(specs) if "find_keys" not in more else None,
            categories=_categories(
                flags,
                group,
                categories,
                line.words == 1 and line.name.decode().upper() in CONTAINERS,
            ),
            **more,
        )
        _enter(row)
        return handler

    return enter


# Groups whose commands touch nothing but data.
_DATA_GROUPS = frozenset(
    (
        *("string", "generic", "list", "hash", "set", "sorted-set"),
        *("stream", "bitmap", "hyperloglog", "geo"),
    )
)


_PLAIN = frozenset(b"ping echo time dbsize eval evalsha eval_ro evalsha_ro fcall fcall_ro".split())


def _is_plain(usage: Usage, group: str) -> bool:
    return group in _DATA_GROUPS or usage.name in _PLAIN


def _is_single_key(specs: tuple[Keys, ...]) -> bool:
    return len(specs) == 1 and specs[0] == Keys(specs[0].access, notes=specs[0].notes)


def _key_slice(specs: tuple[Keys, ...]) -> slice | None:
    """The arguments that are keys, where one plain range describes them all."""
    if len(specs) != 1:
        return None
    keys = specs[0]
    if keys.keyword is not None or keys.count_at is not None or keys.limit > 1:
        return None
    end = keys.first + keys.last + 1 if keys.last >= 0 else keys.last + 1 or None
    return slice(keys.first, end, keys.step)


def _enter(row: Row) -> None:
    head, _, sub = row.name.partition(b"|")
    if not sub:
        previous = TABLE.get(head)
        if previous is not None:
            raise ValueError(f"{head!r} is in the table already")
        TABLE[head] = row
        return
    row.parent = TABLE[head]
    row.parent.flags |= CONTAINER
    row.parent.subcommands[sub] = row


_GROUP_CATEGORIES = {
    "string": "string",
    "generic": "keyspace",
    "list": "list",
    "hash": "hash",
    "set": "set",
    "sorted-set": "sortedset",
    "stream": "stream",
    "bitmap": "bitmap",
    "hyperloglog": "hyperloglog",
    "geo": "geo",
    "transactions": "transaction",
    "scripting": "scripting",
    "connection": "connection",
}


def _categories(flags: int, group: str, extra: str, container: bool) -> tuple[bytes, ...]:
    names = [_GROUP_CATEGORIES[group]] if group in _GROUP_CATEGORIES and not container else []
    names += extra.split()
    names += ["write"] if flags & WRITE else []
    names += ["read"] if flags & READONLY and group != "scripting" else []
    names += ["admin", "dangerous"] if flags & ADMIN else []
    names += ["pubsub"] if flags & PUBSUB else []
    names += ["blocking"] if flags & BLOCKING else []
    names += ["fast"] if flags & FAST else ["slow"]
    kept = (name for name in names if name[0] != "-" and f"-{name}" not in names)
    return tuple(dict.fromkeys(b"@" + name.encode() for name in kept))


class FastTable(dict[bytes, Row]):
    """Rows by name as clients write it, upper or lower case; other spellings are added when met.

    Bounded, since clients choose the spellings.
    """

    LIMIT = 4096

    def __init__(self, table: dict[bytes, Row]) -> None:
        super().__init__()
        for name, row in table.items():
            self[name] = self[name.upper()] = row

    def find(self, name: bytes) -> Row | None:
        """The row of this name in any case."""
        row = self.get(name)
        if row is None and len(name) <= 64:
            row = self.get(name.lower())
            if row is not None and len(self) < self.LIMIT:
                self[name] = row
        return row


def find_row(rows: FastTable, args: Sequence[bytes]) -> Row:
    """The row of a request, of the subcommand where there are such; raises ReplyError."""
    row = rows.find(args[0])
    if row is None:
        raise unknown_command(args)
    if not row.subcommands or len(args) < 2:
        return row
    sub = row.subcommands.get(args[1].lower())
    if sub is None:
        raise unknown_subcommand(row, args[1])
    return sub


def unknown_command(args: Sequence[bytes]) -> ReplyError:
    """Redis quotes the name, and arguments up to 128 bytes in all, each up to its first NUL."""
    shown = b""
    for arg in args[1:]:
        if len(shown) >= 128:
            break
        shown += b"'%b' " % printed(arg)[: 128 - len(shown)]
    name = printed(args[0])[:128]
    text = b"ERR unknown command '%b', with args beginning with: %b" % (name, shown)
    return ReplyError(text)


def unknown_subcommand(row: Row, word: bytes) -> ReplyError:
    """The answer where a container does not know the second word."""
    shown = printed(word[:128])
    return ReplyError(b"ERR unknown subcommand '%b'. Try %b HELP." % (shown, row.name.upper()))
