"""Kinds of value that one directive or two have."""

import ipaddress
import re
from typing import Any

import attrs

from node.config.values import (
    INT,
    ConfigError,
    Directive,
    Line,
    Text,
    in_units,
    loose_integer,
    memory,
    one_of,
)
from node.data.keyspace import (
    EVICTED,
    EXPIRED,
    GENERIC,
    HASH,
    LIST,
    MISS,
    NEW,
    SET,
    STREAM,
    STRING,
    ZSET,
)

SavePoint = tuple[int, int]
"""Save after this many seconds if at least this many keys have changed."""


class SavePoints(Directive[tuple[SavePoint, ...]]):
    """`save 3600 1 300 100`; a single empty word means never. A file's lines add up."""

    many = True

    def parse(
        self, words: list[str], current: tuple[SavePoint, ...], again: bool
    ) -> tuple[SavePoint, ...]:
        if words == [""]:
            return ()
        numbers = [loose_integer(word) for word in words]
        seconds, changes = numbers[::2], numbers[1::2]
        if len(seconds) != len(changes) or not _valid_points(seconds, changes):
            raise ConfigError("Invalid save parameters")
        points = tuple(
            (after or 0, many or 0) for after, many in zip(seconds, changes, strict=True)
        )
        return current + points if again else points

    def show(self, value: tuple[SavePoint, ...]) -> str:
        return " ".join(f"{seconds} {changes}" for seconds, changes in value)

    def lines(self, value: tuple[SavePoint, ...]) -> list[Line]:
        return [(f"{self.name} {self.show(value) or _NOTHING}", True)]


_NOTHING = '""'


def _valid_points(seconds: list[int | None], changes: list[int | None]) -> bool:
    return all(after is not None and after >= 1 for after in seconds) and all(
        many is not None and many >= 0 for many in changes
    )


@attrs.frozen
class OutputLimit:
    """Close a client that has `hard_bytes` of output pending, or `soft_bytes` for `soft_seconds`.

    0 bytes is no limit.
    """

    hard_bytes: int
    soft_bytes: int
    soft_seconds: int


@attrs.frozen
class OutputLimits:
    """The limits of each class of client."""

    normal: OutputLimit
    replica: OutputLimit
    pubsub: OutputLimit


_CLASSES = {"normal": "normal", "slave": "replica", "replica": "replica", "pubsub": "pubsub"}


class OutputLimitsOf(Directive[OutputLimits]):
    """`client-output-buffer-limit <class> <hard> <soft> <seconds> [<class> ...]`"""

    many = True

    def parse(self, words: list[str], current: OutputLimits, again: bool) -> OutputLimits:
        if len(words) % 4:
            raise ConfigError("Wrong number of arguments in buffer limit configuration.")
        changed = {}
        for name, *numbers in zip(*[iter(words)] * 4, strict=True):
            if name.lower() not in _CLASSES:
                raise ConfigError("Invalid client class specified in buffer limit configuration.")
            changed[_CLASSES[name.lower()]] = _output_limit(*numbers)
        return attrs.evolve(current, **changed)

    def show(self, value: OutputLimits) -> str:
        """A replica's class goes by its old name, which clients know."""
        limits = [("normal", value.normal), ("slave", value.replica), ("pubsub", value.pubsub)]
        return " ".join(
            f"{name} {limit.hard_bytes} {limit.soft_bytes} {limit.soft_seconds}"
            for name, limit in limits
        )

    def lines(self, value: OutputLimits) -> list[Line]:
        return [self._line(name, value) for name in ("normal", "replica", "pubsub")]

    def _line(self, name: str, value: OutputLimits) -> Line:
        limit: OutputLimit = getattr(value, name)
        hard, soft = in_units(limit.hard_bytes), in_units(limit.soft_bytes)
        line = f"{self.name} {name} {hard} {soft} {limit.soft_seconds}"
        return line, limit != getattr(self.default, name)


def _output_limit(hard: str, soft: str, seconds: str) -> OutputLimit:
    hard_bytes, soft_bytes = memory(hard), memory(soft)
    soft_seconds = loose_integer(seconds, INT)
    if hard_bytes is None or soft_bytes is None or soft_seconds is None or soft_seconds < 0:
        raise ConfigError(
            "Error in hard, soft or soft_seconds setting in buffer limit configuration."
        )
    return OutputLimit(hard_bytes, soft_bytes, soft_seconds)


class Flags(Directive[tuple[str, ...]]):
    """Some of a number of names, in the order of declaration; the first stands for none of them."""

    many = True

    def __init__(self, names: str, **options: Any) -> None:
        super().__init__((), **options)
        self.names = names.split()

    def parse(self, words: list[str], current: tuple[str, ...], again: bool) -> tuple[str, ...]:
        given = [one_of(self.names, word) for word in words or [""]]
        return tuple(name for name in self.names[1:] if name in given)

    def show(self, value: tuple[str, ...]) -> str:
        return " ".join(value) or self.names[0]


class Addresses(Directive[tuple[str, ...]]):
    """`bind`: where to listen; `*` is any address, and one after a hyphen may be missing here."""

    many = True

    def parse(self, words: list[str], current: tuple[str, ...], again: bool) -> tuple[str, ...]:
        if len(words) > 16:
            raise ConfigError("Too many bind addresses specified.")
        return () if words == [""] else tuple(words)

    def show(self, value: tuple[str, ...]) -> str:
        return " ".join(value)

    def lines(self, value: tuple[str, ...]) -> list[Line]:
        if value == self.default:
            return []
        return [(f"{self.name} {self.show(value) or _NOTHING}", True)]


Address = tuple[str, int]


class PrimaryAddress(Directive[Address | None]):
    """`replicaof <host> <port>`, or `no one`."""

    many = True

    def parse(self, words: list[str], current: Address | None, again: bool) -> Address | None:
        if len(words) != 2:
            raise ConfigError("wrong number of arguments")
        if [word.lower() for word in words] == ["no", "one"]:
            return None
        port = loose_integer(words[1])
        if port is None or not 0 <= port <= 65535:
            raise ConfigError("Invalid master port")
        return words[0], port

    def show(self, value: Address | None) -> str:
        return "" if value is None else f"{value[0]} {value[1]}"

    def lines(self, value: Address | None) -> list[Line]:
        return [] if value is None else [(f"{self.name} {self.show(value)}", True)]


class Percentiles(Directive[tuple[float, ...]]):
    many = True

    def parse(self, words: list[str], current: tuple[float, ...], again: bool) -> tuple[float, ...]:
        return () if words == [""] else tuple(_percentile(word) for word in words)

    def show(self, value: tuple[float, ...]) -> str:
        return " ".join(f"{each:f}".rstrip("0").rstrip(".") for each in value)

    def lines(self, value: tuple[float, ...]) -> list[Line]:
        return [(f"{self.name} {self.show(value) or _NOTHING}", True)]


_DECIMAL = re.compile(
    r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]+)?|[+-]?inf(?:inity)?", re.I
)


def _percentile(word: str) -> float:
    if not _DECIMAL.fullmatch(word):
        raise ConfigError("Invalid latency-tracking-info-percentiles parameters")
    value = float(word)
    if not 0 <= value <= 100:
        raise ConfigError(
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]"
        )
    return value


class OomScores(Directive[tuple[int, ...]]):
    """`oom-score-adj-values <primary> <replica> <child>`"""

    many = True

    def parse(self, words: list[str], current: tuple[int, ...], again: bool) -> tuple[int, ...]:
        if len(words) != 3:
            raise ConfigError("wrong number of arguments")
        values = [loose_integer(word) for word in words]
        if not all(value is not None and -2000 <= value <= 2000 for value in values):
            raise ConfigError(
                "Invalid oom-score-adj-values, elements must be between -2000 and 2000."
            )
        return tuple(value or 0 for value in values)

    def show(self, value: tuple[int, ...]) -> str:
        return " ".join(map(str, value))


# Classes of keyspace events, each with its letter, and where they are told.
MODULE = 1 << 9
KEYSPACE, KEYEVENT = 1 << 12, 1 << 13
_EVENT_LETTERS = {
    "g": GENERIC,
    "$": STRING,
    "l": LIST,
    "s": SET,
    "h": HASH,
    "z": ZSET,
    "x": EXPIRED,
    "e": EVICTED,
    "t": STREAM,
    "d": MODULE,
}
ALL_EVENTS = sum(_EVENT_LETTERS.values())
_TARGET_LETTERS = {"K": KEYSPACE, "E": KEYEVENT, "m": MISS}


class EventClasses(Directive[int]):
    """`notify-keyspace-events`: a bit of the above for each letter.

    Source: https://redis.io/docs/latest/develop/use/keyspace-notifications/
    """

    def parse(self, words: list[str], current: int, again: bool) -> int:
        letters = {**_EVENT_LETTERS, **_TARGET_LETTERS, "n": NEW, "A": ALL_EVENTS}
        value = 0
        for letter in words[0]:
            if letter not in letters:
                raise ConfigError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
            value |= letters[letter]
        return value

    def show(self, value: int) -> str:
        """As a real server does: `A` leaves out that new keys are reported as well."""
        if value & ALL_EVENTS == ALL_EVENTS:
            classes = "A"
        else:
            letters = {**_EVENT_LETTERS, "n": NEW}
            classes = "".join(letter for letter, bit in letters.items() if value & bit)
        return classes + "".join(letter for letter, bit in _TARGET_LETTERS.items() if value & bit)

    def lines(self, value: int) -> list[Line]:
        return [(f'{self.name} "{self.show(value)}"', value != 0)]


class Directory(Text):
    """`dir`: the working directory. Config enters it, so that relative paths mean what they say."""

    def lines(self, value: str) -> list[Line]:
        return [(line, True) for line, _ in super().lines(value)]


def not_empty(name: str) -> Any:
    """A check that refuses an empty value."""

    def check(value: str) -> None:
        if not value:
            raise ConfigError(f"{name} can't be empty")

    return check


def base_name(name: str, what: str = "filename") -> Any:
    """A check that refuses an empty value and a path."""

    def check(value: str) -> None:
        not_empty(name)(value)
        if "/" in value or "\\" in value:
            raise ConfigError(f"{name} can't be a path, just a {what}")

    return check


def host_name(value: str) -> None:
    if len(value) >= 256:
        raise ConfigError("Hostnames must be less than 256 characters")
    if not re.fullmatch(r"[A-Za-z0-9.-]*", value):
        raise ConfigError("Hostnames may only contain alphanumeric characters, hyphens or dots")


def announced_ip(value: str) -> None:
    """Not an address in every case: a name that stands for one will do."""
    if len(value) >= 46:
        raise ConfigError("cluster-announce-ip is too long")
    if not _fits_in_nodes_conf(value):
        raise ConfigError("cluster-announce-ip contains invalid character")


def node_name(value: str) -> None:
    if not _fits_in_nodes_conf(value):
        raise ConfigError("Announced human node name contained invalid character")


def _fits_in_nodes_conf(value: str) -> bool:
    """Whether a field of nodes.conf with this value can be read back."""
    return re.fullmatch(r"[A-Za-z0-9./:_`\x80-\U0010ffff-]*", value) is not None


def ip_address(version: int) -> Any:
    """A check that refuses all but an address of that version of IP, and nothing."""

    def check(value: str) -> None:
        try:
            if value:
                {4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}[version](value)
        except ValueError:
            raise ConfigError(f"Invalid IPv{version} address") from None

    return check


def title_template(value: str) -> None:
    """Only known variables, and more to it than the title, which may be empty."""
    filled = value.replace("{{", "-").replace("{title}", "")
    filled = re.sub(
        r"\{(listen-addr|server-mode|port|tls-port|unixsocket|config-file)\}", "-", filled
    )
    if "{" in filled or not filled.strip():
        raise ConfigError("template format is invalid or contains unknown variables")
