"""A directive, and the kinds of value that most of them have.

A directive is declared as a class attribute, `timeout = Integer(0, 0, INT)`, and named after it:
underscores become hyphens. `parse` turns words into a value or raises ConfigError, `show` turns a
value into what CONFIG GET answers, and `lines` into lines of a configuration file. Which words
each kind takes, and each error text, are a real server's.
"""

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

INT = (1 << 31) - 1
UINT = (1 << 32) - 1
INT64 = (1 << 63) - 1
UINT64 = (1 << 64) - 1
LOWEST_INT = -(1 << 31)
LOWEST_INT64 = -(1 << 63)

T = TypeVar("T")
Line = tuple[str, bool]
"""A line of a configuration file, and whether to add it where the file has none to replace."""


class ConfigError(Exception):
    """A refusal; `str(error)` is the text a client or an operator reads, without an error code.

    `code` is the error code that goes before it in a reply.
    """

    def __init__(self, text: str, code: str = "ERR") -> None:
        super().__init__(text)
        self.code = code


class Directive(Generic[T]):
    """One directive: its default, and what may be done with it.

    aliases: other names. fixed: set only at start. hidden: CONFIG GET shows it by its full name
    only. protected: CONFIG SET needs enable-protected-configs.
    not_while_loading: CONFIG SET must wait for the data set to be loaded.
    built: false for a directive whose feature isn't there: it takes its default and the values
    in `satisfied_by`, which ask for nothing, and refuses all others.
    check: raises ConfigError for a value that is no good. adjust: brings a value into range.
    """

    many = False  # takes several words

    def __init__(
        self,
        default: T,
        *,
        aliases: Sequence[str] = (),
        fixed: bool = False,
        hidden: bool = False,
        protected: bool = False,
        not_while_loading: bool = False,
        built: bool = True,
        satisfied_by: Sequence[T] = (),
        check: Callable[[T], None] | None = None,
        adjust: Callable[[T], T] | None = None,
    ) -> None:
        self.name = ""
        self.attribute = ""
        self.default = default
        self.aliases = tuple(aliases)
        self.fixed = fixed
        self.hidden = hidden
        self.protected = protected
        self.not_while_loading = not_while_loading
        self.accepted = None if built else (default, *satisfied_by)
        self._check = check
        self._adjust = adjust

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.attribute = attribute
        self.name = attribute.replace("_", "-")

    if TYPE_CHECKING:  # at run time an instance's own attribute is found first

        @overload
        def __get__(self, instance: None, owner: type) -> Self: ...
        @overload
        def __get__(self, instance: object, owner: type) -> T: ...
        def __get__(self, instance: object, owner: type) -> Any: ...
        def __set__(self, instance: object, value: T) -> None: ...

    def read(self, words: list[str], current: T, again: bool = False) -> T:
        """The value that `words` ask for, or ConfigError.

        `current` is the value now; `again` is true when a file says the directive once more.
        """
        value = self.parse(words, current, again)
        if self._check is not None:
            self._check(value)
        if self.accepted is not None and value not in self.accepted:
            choices = " or ".join(f"'{self.show(each)}'" for each in self.accepted)
            raise ConfigError(f"this server implements no other value than {choices}")
        return value if self._adjust is None else self._adjust(value)

    def parse(self, words: list[str], current: T, again: bool) -> T:
        raise AssertionError(f"{type(self).__name__} does not say what it takes")

    def show(self, value: T) -> str:
        """What CONFIG GET answers."""
        return str(value)

    def lines(self, value: T) -> list[Line]:
        """What a configuration file says; nothing if it must not mention the directive."""
        return [(f"{self.name} {self.show(value)}", value != self.default)]


class YesNo(Directive[bool]):
    def parse(self, words: list[str], current: bool, again: bool) -> bool:
        word = words[0].lower()
        if word not in ("yes", "no"):
            raise ConfigError("argument must be 'yes' or 'no'")
        return word == "yes"

    def show(self, value: bool) -> str:
        return "yes" if value else "no"


class Integer(Directive[int]):
    """A number in decimal between two bounds."""

    unparsable = "argument couldn't be parsed into an integer"

    def __init__(
        self, default: int, lowest: int = LOWEST_INT64, highest: int = INT64, **options: Any
    ) -> None:
        super().__init__(default, **options)
        self.lowest = lowest
        self.highest = highest

    def parse(self, words: list[str], current: int, again: bool) -> int:
        value = self.number(words[0])
        if value is None:
            raise ConfigError(self.unparsable)
        return self.bounded(value)

    def bounded(self, value: int) -> int:
        if not self.lowest <= value <= self.highest:
            lowest, highest = self.show(self.lowest), self.show(self.highest)
            raise ConfigError(f"argument must be between {lowest} and {highest} inclusive")
        return value

    def number(self, word: str) -> int | None:
        return strict_integer(word)


class Octal(Integer):
    """File permissions."""

    unparsable = "argument couldn't be parsed as an octal number"

    def number(self, word: str) -> int | None:
        if not re.fullmatch(r"[+-]?[0-7]*", word):
            return None
        return int(word or "0", 8)

    def show(self, value: int) -> str:
        return f"{value:o}"


class Memory(Integer):
    """Bytes, with a unit: k is 1000 and kb 1024. Below zero it takes plain numbers."""

    unparsable = "argument must be a memory value"

    def __init__(self, default: int, lowest: int = 0, highest: int = INT64, **options: Any) -> None:
        super().__init__(default, lowest, highest, **options)

    def number(self, word: str) -> int | None:
        if self.lowest < 0 and word.startswith("-"):
            return strict_integer(word)
        return memory(word)

    def lines(self, value: int) -> list[Line]:
        return [(f"{self.name} {in_units(value)}", value != self.default)]


class MemoryOrPercent(Memory):
    """Bytes, or a share of something in percent, which is held below zero."""

    unparsable = "argument must be a memory or percent value"

    def number(self, word: str) -> int | None:
        if word.endswith("%"):
            percent = strict_integer(word[:-1])
            return None if percent is None or percent < 0 else -percent
        return memory(word)

    def bounded(self, value: int) -> int:
        if not self.lowest <= value <= self.highest:
            raise ConfigError(f"percentage argument must be less or equal to {-self.lowest}")
        return value

    def show(self, value: int) -> str:
        return f"{-value}%" if value < 0 else str(value)

    def lines(self, value: int) -> list[Line]:
        shown = self.show(value) if value < 0 else in_units(value)
        return [(f"{self.name} {shown}", value != self.default)]


class Choice(Directive[str]):
    """One of some names. `same` maps a name to the one that it stands for."""

    def __init__(
        self, default: str, names: str, same: dict[str, str] | None = None, **options: Any
    ) -> None:
        super().__init__(default, **options)
        self.names = names.split()
        self._same = same or {}

    def parse(self, words: list[str], current: str, again: bool) -> str:
        name = one_of(self.names, words[0])
        return self._same.get(name, name)


class Text(Directive[str]):
    """Any text. With `unset` an empty one stands for none, and no file mentions it."""

    def __init__(self, default: str = "", *, unset: bool = True, **options: Any) -> None:
        super().__init__(default, **options)
        self._unset = unset and not default

    def parse(self, words: list[str], current: str, again: bool) -> str:
        return words[0]

    def lines(self, value: str) -> list[Line]:
        if self._unset and not value:
            return []
        return [(f"{self.name} {quoted(value)}", value != self.default)]


class Secret(Directive[bytes]):
    """A name or password as it goes over the wire, none if empty; no log may show it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(b"", **options)

    def parse(self, words: list[str], current: bytes, again: bool) -> bytes:
        return encoded(words[0])

    def show(self, value: bytes) -> str:
        return decoded(value)

    def lines(self, value: bytes) -> list[Line]:
        return [(f"{self.name} {quoted(decoded(value))}", True)] if value else []


def decoded(data: bytes) -> str:
    """Bytes as text; what isn't UTF-8 survives the way back."""
    return data.decode("utf-8", "surrogateescape")


def encoded(text: str) -> bytes:
    """The bytes that `decoded` was given."""
    return text.encode("utf-8", "surrogateescape")


def one_of(names: Sequence[str], word: str) -> str:
    """The name that `word` spells in any case, or ConfigError."""
    for name in names:
        if name.lower() == word.lower():
            return name
    raise ConfigError(f"argument(s) must be one of the following: {', '.join(names)}")


def strict_integer(word: str) -> int | None:
    """A 64-bit number as Redis prints it: no plus sign, no zeros in front, no blanks."""
    if not re.fullmatch(r"0|-?[1-9][0-9]{0,18}", word):
        return None
    value = int(word)
    return value if LOWEST_INT64 <= value <= INT64 else None


def loose_integer(word: str, highest: int = INT64) -> int | None:
    """A number as C's strtoll takes it: a plus sign, zeros in front, and nothing at all is 0."""
    if not re.fullmatch(r"(\s*[+-]?[0-9]+)?", word):
        return None
    return min(int(word or "0"), highest)


_UNITS = {
    "": 1,
    "b": 1,
    "k": 1000,
    "m": 1000**2,
    "g": 1000**3,
    "kb": 1024,
    "mb": 1024**2,
    "gb": 1024**3,
}


def memory(word: str) -> int | None:
    """The bytes that `64mb` means, or None if it means nothing."""
    match = re.fullmatch(r"([0-9]*)([a-z]*)", word.lower())
    if match is None or match[2] not in _UNITS:
        return None
    count = int(match[1] or "0")
    return count * _UNITS[match[2]] if count <= UINT64 else None


def in_units(count: int) -> str:
    """Bytes in the largest unit that divides them."""
    for unit in ("gb", "mb", "kb"):
        if count and count % _UNITS[unit] == 0:
            return f"{count // _UNITS[unit]}{unit}"
    return str(count)


_ESCAPES = {
    ord("\\"): "\\\\",
    ord('"'): '\\"',
    ord("\n"): "\\n",
    ord("\r"): "\\r",
    ord("\t"): "\\t",
    ord("\a"): "\\a",
    ord("\b"): "\\b",
}


def quoted(text: str) -> str:
    """The text in double quotes, as a configuration file and a log write it."""
    parts = [
        _ESCAPES.get(byte) or (chr(byte) if 32 <= byte < 127 else f"\\x{byte:02x}")
        for byte in encoded(text)
    ]
    return f'"{"".join(parts)}"'
