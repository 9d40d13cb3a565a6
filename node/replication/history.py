"""Whose changes this node's data hold.

A history is one primary's sequence of changes; an id names it, an offset counts its bytes. A
replica that is promoted starts a history of its own, which is the same as its primary's up to
that point: it remembers the former id with that offset, so that its former siblings, and the
former primary, can go on with the bytes they lack.
"""

from random import Random

import attrs

NO_ID = "0" * 40


def new_id(random: Random) -> str:
    """An id as unlikely to be another's as 160 random bits are."""
    return f"{random.getrandbits(160):040x}"


@attrs.define
class History:
    """id: of the present history. previous_id: of the one it branched from, the same up to the
    offset `previous_end`."""

    id: str
    previous_id: str = NO_ID
    previous_end: int = -1

    def includes(self, id: str, offset: int) -> bool:
        """Whether a node that has `offset` bytes of history `id` lacks only later bytes of ours."""
        return id == self.id or (id == self.previous_id and offset <= self.previous_end)

    def begin(self, random: Random) -> None:
        """Nothing from before can be told any more."""
        self.adopt(new_id(random))

    def adopt(self, id: str) -> None:
        """The data are now that history's alone."""
        self.id, self.previous_id, self.previous_end = id, NO_ID, -1

    def branch(self, id: str, offset: int) -> None:
        """From `offset` on this history goes by another name."""
        self.id, self.previous_id, self.previous_end = id, self.id, offset
