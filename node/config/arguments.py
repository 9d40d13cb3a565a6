"""The command line of a server: `[FILE] [--directive value ...] [-]`, as redis-server takes it.

The words after the file become lines of a configuration that is read after the file's, so the
last word on a directive wins, except that `save` adds up.
Source: https://redis.io/docs/latest/operate/oss_and_stack/management/config/
"""

from itertools import zip_longest

import attrs

from node.config.file import REDIS_VERSION, split_words
from node.config.values import quoted


class UsageError(Exception):
    """A command line that no server starts from; the text says why."""


@attrs.frozen
class Arguments:
    """What to read, in this order: `file` if any, standard input if `stdin`, then `lines`.

    `asks` is "version" or "help" when that is all that is wanted.
    """

    file: str | None = None
    stdin: bool = False
    lines: str = ""
    asks: str | None = None

    def text(self, file: str = "", stdin: str = "") -> str:
        """The whole configuration, given what was read from the file and standard input."""
        return f"{file}{stdin}\n{self.lines}" if self.lines else file + stdin


_REFUSED = {
    "--test-memory": "this server has no memory test",
    "--check-system": "this server has no system check",
}


def parse_arguments(words: list[str]) -> Arguments:
    """The command line without the program's name, or UsageError."""
    if not words:
        return Arguments()
    if words[0] in ("-v", "--version"):
        return Arguments(asks="version")
    if words[0] in ("-h", "--help"):
        return Arguments(asks="help")
    if words[0] in _REFUSED:
        raise UsageError(_REFUSED[words[0]])
    if any(word.lower() == "--sentinel" for word in words):
        raise UsageError("this server does not implement sentinel mode")
    file = None if words[0].startswith("-") else words[0]
    rest = words if file is None else words[1:]
    stdin = False
    if file is None and rest[:1] == ["-"]:
        stdin, rest = True, rest[1:]
    if rest[-1:] == ["-"]:
        stdin, rest = True, rest[:-1]
    return Arguments(file, stdin, _lines(rest))


def _lines(words: list[str]) -> str:
    """The directives as lines of a file.

    A word with two hyphens names a directive unless it is the first value after a name; then it
    is the value, except that of `--save`, which may be empty.
    """
    lines: list[str] = []
    name_expected = True
    for word, following in zip_longest(words, words[1:]):
        if name_expected and word.startswith("--"):
            lines.append(f"{word[2:]} ")
            name_expected = len(split_words(word) or []) != 1
            if word.lower() == "--save" and (following is None or following.startswith("--")):
                lines[-1] += '""'
                name_expected = True
            continue
        if not lines:
            lines.append("")
        lines[-1] += f"{quoted(word)} "
        name_expected = True
    return "\n".join(lines)


def version_line(build: str = "0") -> str:
    """What `--version` prints, in the form that launchers look for."""
    return f"Redis server v={REDIS_VERSION} sha=00000000:0 malloc=libc bits=64 build={build}"


USAGE = """\
Usage: slotfleet-server [FILE] [--DIRECTIVE VALUE ...] [-]
       slotfleet-server - (read the configuration from standard input)
       slotfleet-server -v or --version
       slotfleet-server -h or --help

Examples:
       slotfleet-server
       slotfleet-server configs/node.conf
       slotfleet-server --port 7777 --replicaof "127.0.0.1 8888"
       slotfleet-server configs/cluster.conf --port 7001 --dir /var/lib/slotfleet/7001
       echo 'maxclients 100' | slotfleet-server - --port 7777
"""
