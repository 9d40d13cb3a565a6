"""What happened in a run: a digest of everything, and lines for people where they are wanted."""

from hashlib import blake2b
from typing import Any
from zlib import crc32

import attrs


@attrs.define(eq=False)
class Trace:
    """digest: differs as soon as anything has gone otherwise. lines: kept if not None.

    in_full: with what the nodes log.
    """

    lines: list[str] | None = None
    in_full: bool = True
    _digest: Any = attrs.field(factory=lambda: blake2b(digest_size=16))

    def note(self, elapsed: int, who: str, what: str) -> None:
        """A step that is worth a line."""
        line = f"{elapsed:>7} {who:<3} {what}".rstrip()
        self._digest.update(line.encode())
        if self.lines is not None:
            self.lines.append(line)

    def remark(self, elapsed: int, who: str, what: str) -> None:
        """A line for people only."""
        if self.lines is not None and self.in_full:
            self.lines.append(f"{elapsed:>7} {who:<3} {what}".rstrip())

    def count(self, elapsed: int, who: str, data: bytes) -> None:
        """Bytes that have arrived."""
        self._digest.update(b"%d %b %d" % (elapsed, who.encode(), crc32(data)))

    @property
    def digest(self) -> str:
        return self._digest.hexdigest()
