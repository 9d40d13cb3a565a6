"""The lines of a configuration file: how they are quoted, and how an error in one is reported.

Source: redis.conf, its first comments; the error's form is redis-server's.
"""

import re

from node.config.values import ConfigError, decoded

REDIS_VERSION = "7.2.4"
"""The Redis that we pass for, wherever a client or a launcher asks."""

_BLANK = " \t\r\n\v\f\0"
_HEX = re.compile(r"[0-9a-fA-F]{2}")
_SINGLE_LETTERS = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "a": "\a"}


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
    """The words of a line, or None if a quote isn't closed or goes on without a blank.

    Double quotes know \\n \\r \\t \\b \\a \\xHH and take any other character after a backslash
    for itself; single quotes know \\' alone.
    """
    words: list[str] = []
    at = 0
    while True:
        while at < len(line) and line[at] in _BLANK:
            at += 1
        if at == len(line):
            return words
        word, at = _word(line, at)
        if at < 0:
            return None
        words.append(word)


def _word(line: str, at: int) -> tuple[str, int]:
    """The word that starts at `at`, and where it ends: below zero if it doesn't."""
    found = ""
    while at < len(line) and line[at] not in _BLANK:
        if line[at] in "\"'":
            quoted = _double_quoted if line[at] == '"' else _single_quoted
            inside, at = quoted(line, at + 1)
            if at < 0 or (at < len(line) and line[at] not in _BLANK):
                return "", -1
            return found + inside, at
        found += line[at]
        at += 1
    return found, at


def _double_quoted(line: str, at: int) -> tuple[str, int]:
    """What follows a double quote, and where it ends, the closing quote included."""
    found: list[str] = []
    raw = bytearray()  # of escapes in a row: together they may be UTF-8
    while at < len(line):
        if line.startswith("\\x", at) and _HEX.match(line, at + 2):
            raw.append(int(line[at + 2 : at + 4], 16))
            at += 4
            continue
        found.append(decoded(bytes(raw)))
        raw.clear()
        if line[at] == '"':
            return "".join(found), at + 1
        if line[at] == "\\" and at + 1 < len(line):
            at += 1
            found.append(_SINGLE_LETTERS.get(line[at], line[at]))
        else:
            found.append(line[at])
        at += 1
    return "", -1


def _single_quoted(line: str, at: int) -> tuple[str, int]:
    found = ""
    while at < len(line):
        if line.startswith("\\'", at):
            found += "'"
            at += 2
        elif line[at] == "'":
            return found, at + 1
        else:
            found += line[at]
            at += 1
    return "", -1
