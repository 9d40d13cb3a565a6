"""The manifest of an append-only file: text to object and back.

A line per part: `file appendonly.aof.2.base.rdb seq 2 type b`; types are b for the base, h for
history, which is about to be removed, and i for increments, in ascending order of `seq`. Names
with odd characters are quoted as in redis.conf. Lines that begin with # are comments.
"""

import os

import attrs

from node.resp import split_words

BASE, HISTORY, INCREMENT = "b", "h", "i"
SUFFIX = ".manifest"
_LINE_MAX = 1024
_ESCAPES = {"\\": r"\\", '"': r"\"", "\n": r"\n", "\r": r"\r", "\t": r"\t", "\a": r"\a"}
_ESCAPES["\b"] = r"\b"

BAD_FORMAT = "Invalid AOF manifest file format"
BAD_NAME = "File can't be a path, just a filename"
EMPTY = "Found an empty AOF manifest"
TOO_LONG = "The AOF manifest file contains too long line"
TWO_BASES = "Found duplicate base file information"
DISORDER = "Found a non-monotonic sequence number"
BAD_TYPE = "Unknown AOF file type"


class ManifestError(Exception):
    """Why a text is no manifest. reason: a real server's words. line: its number, from 1."""

    def __init__(self, reason: str, line: int) -> None:
        super().__init__(f"{reason}, at line {line}")
        self.reason = reason
        self.line = line


@attrs.frozen
class Part:
    """One file. name: without directory. type: BASE, HISTORY or INCREMENT."""

    name: str
    seq: int
    type: str

    def line(self) -> str:
        return f"file {_quoted(self.name)} seq {self.seq} type {self.type}\n"

    def is_rdb(self) -> bool:
        """Whether its name says that it is an RDB; its bytes have the last word."""
        return self.name.endswith(".rdb")


@attrs.frozen
class Manifest:
    """The parts of an append-only file. To be changed it is replaced.

    base_seq, increment_seq: the highest given so far.
    """

    base: Part | None = None
    increments: tuple[Part, ...] = ()
    history: tuple[Part, ...] = ()
    base_seq: int = 0
    increment_seq: int = 0

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """Read a manifest file; raises ManifestError."""
        lines = data.decode("utf-8", "surrogateescape").split("\n")
        if lines == [""]:
            raise ManifestError(EMPTY, 0)
        if lines.pop():
            raise ManifestError(TOO_LONG, len(lines) + 1)  # the last one has no end
        manifest = cls()
        for number, line in enumerate(lines, 1):
            if len(line) >= _LINE_MAX:
                raise ManifestError(TOO_LONG, number)
            if not line.startswith("#"):
                manifest = manifest._with(_part(line, number), number)
        return manifest

    def _with(self, part: Part, line: int) -> "Manifest":
        if part.type == BASE:
            if self.base is not None:
                raise ManifestError(TWO_BASES, line)
            return attrs.evolve(self, base=part, base_seq=part.seq)
        if part.type == HISTORY:
            return attrs.evolve(self, history=(*self.history, part))
        if part.seq <= self.increment_seq:
            raise ManifestError(DISORDER, line)
        increments = (*self.increments, part)
        return attrs.evolve(self, increments=increments, increment_seq=part.seq)

    def encode(self) -> bytes:
        """The file's content."""
        base = () if self.base is None else (self.base,)
        text = "".join(part.line() for part in (*base, *self.history, *self.increments))
        return text.encode("utf-8", "surrogateescape")

    def parts(self) -> tuple[Part, ...]:
        """What holds the data, in the order in which it is to be loaded."""
        return self.increments if self.base is None else (self.base, *self.increments)

    def is_empty(self) -> bool:
        """Whether no part holds data."""
        return self.base is None and not self.increments

    # --- what comes after ------------------------------------------------------------------------

    def with_base(self, name: str) -> "Manifest":
        """One whose base is this file, as it was before there were several parts."""
        return attrs.evolve(self, base=Part(name, 1, BASE), base_seq=1)

    def with_new_base(self, prefix: str, is_rdb: bool) -> "Manifest":
        """One with a further base; the old one is history."""
        seq = self.base_seq + 1
        name = f"{prefix}.{seq}.base.{'rdb' if is_rdb else 'aof'}"
        history = self.history if self.base is None else (_past(self.base), *self.history)
        return attrs.evolve(self, base=Part(name, seq, BASE), base_seq=seq, history=history)

    def with_new_increment(self, prefix: str) -> "Manifest":
        """One with a further increment, the last."""
        seq = self.increment_seq + 1
        part = Part(f"{prefix}.{seq}.incr.aof", seq, INCREMENT)
        return attrs.evolve(self, increments=(*self.increments, part), increment_seq=seq)

    def without_increments(self, *, keep: int) -> "Manifest":
        """One in which all increments but the last `keep` are history."""
        count = len(self.increments) - keep
        gone = tuple(map(_past, reversed(self.increments[:count])))
        return attrs.evolve(
            self, increments=self.increments[count:], history=(*gone, *self.history)
        )

    def without_history(self) -> "Manifest":
        return attrs.evolve(self, history=())


def manifest_name(prefix: str) -> str:
    """The manifest's file name; prefix: `appendfilename`."""
    return prefix + SUFFIX


def _past(part: Part) -> Part:
    return attrs.evolve(part, type=HISTORY)


def _part(line: str, number: int) -> Part:
    """A line's part. Unknown pairs of words are ignored: a later version may have its own."""
    found = split_words(line.strip().encode("utf-8", "surrogateescape"))
    if found is None or len(found) < 6 or len(found) % 2:
        raise ManifestError(BAD_FORMAT, number)
    words = [word.decode("utf-8", "surrogateescape") for word in found]
    facts = {key.lower(): value for key, value in zip(words[::2], words[1::2], strict=True)}
    name, seq, kind = facts.get("file", ""), facts.get("seq", ""), facts.get("type", "")
    if name and os.path.basename(name) != name:
        raise ManifestError(BAD_NAME, number)
    if not name or not seq.isascii() or not seq.isdigit() or not int(seq) or not kind:
        raise ManifestError(BAD_FORMAT, number)
    if kind[0] not in (BASE, HISTORY, INCREMENT):
        raise ManifestError(BAD_TYPE, number)
    return Part(name, int(seq), kind[0])


def _quoted(name: str) -> str:
    if name and not any(char in "\\\"'" or char.isspace() or ord(char) < 32 for char in name):
        return name
    return '"' + "".join(map(_escaped, name)) + '"'


def _escaped(char: str) -> str:
    if ord(char) < 32 and char not in _ESCAPES:
        return f"\\x{ord(char):02x}"
    return _ESCAPES.get(char, char)
