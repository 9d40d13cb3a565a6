"""The lines of a configuration file: how they are quoted, and how an error in one is reported.

Source: redis.conf, its first comments; the error's form is redis-server's.
"""

from node import resp
from node.config.values import ConfigError, decoded, encoded

REDIS_VERSION = "7.2.4"
"""The Redis that we pass for, wherever a client or a launcher asks."""

VALKEY_VERSION = "9.1.2"
"""The Valkey whose commands and formats we know."""


class ConfigFileError(ConfigError):
    """A configuration no server can start with; the text is what its launcher reads on stderr."""


def fatal(reason: str, line_number: int = 0, line: str = "") -> ConfigFileError:
    """The error as redis-server reports it; without a line number it is about the whole."""
    report = ["", f"*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***"]
    if line_number:
        report += [f"Reading the configuration file, at line {line_number}", f">>> '{line}'"]
    return ConfigFileError("\n".join([*report, reason]))


def unreadable(path: str, reason: str) -> ConfigFileError:
    return ConfigFileError(f"Fatal error, can't open config file '{path}': {reason}")


def is_pattern(path: str) -> bool:
    """Whether an include means every file that matches, be it none."""
    return any(mark in path for mark in "*?[")


def split_words(line: str) -> list[str] | None:
    """The words of a line, or None if a quote isn't closed.

    They are quoted as those of an inline request are.
    """
    words = resp.split_words(encoded(line))
    return None if words is None else list(map(decoded, words))
