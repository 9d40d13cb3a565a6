"""The stream: entries in the order of their ids, and the groups that read them.

An id is one integer, milliseconds << 64 | sequence, so ids compare as numbers do. Entries lie in
blocks, which are what a real server keeps in one listpack each: clients see where a block ends,
for approximate trimming drops whole blocks, and an entry that is deleted goes on taking its room
in one. So a block counts the bytes and entries of the listpack it stands for.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from node.data.consumers import MAX_ID, UNKNOWN, Group
from node.data.limits import LISTPACK_OVERHEAD, Limits
from node.data.listpack import entry_size, integer_size

SEQUENCE_MAX = (1 << 64) - 1
_SIGN = 1 << 63
_BLOCK_MAX_BYTES = 1 << 30  # whatever the limit says

Fields = tuple[bytes, ...]  # field, value, field, value ...
Entry = tuple[int, Fields]


class Block:
    """Some entries that follow each other.

    first, last: the ids of its first and last entry, deleted ones included. ids, fields: the
    entries that are left. names: the first entry's fields; where another has the same, a listpack
    holds its values only, and here all share the strings. deleted: how many were deleted.
    """

    __slots__ = ("_bytes", "deleted", "fields", "first", "ids", "last", "names")

    def __init__(self, first: int, names: Fields) -> None:
        self.first = self.last = first
        self.names = names
        self.ids: list[int] = []
        self.fields: list[Fields] = []
        self.deleted = 0
        # Of the listpack without the two counts of entries: the names, their count, and a zero.
        self._bytes = LISTPACK_OVERHEAD + integer_size(len(names)) + 2 + sum(map(entry_size, names))

    def size(self) -> int:
        """The bytes of its listpack. O(1)."""
        return self._bytes + integer_size(len(self.ids)) + integer_size(self.deleted)

    def resize(self, size: int) -> None:
        """Set the bytes of its listpack, where that is known from one. O(1)."""
        self._bytes += size - self.size()

    def append(self, entry_id: int, fields: Sequence[bytes]) -> None:
        """Add an entry after all others. O(fields)."""
        names = fields[::2]
        values = fields[1::2]
        count = len(values)
        ms, sequence = distance(self.first, entry_id)
        size = sum(map(entry_size, values)) + integer_size(ms) + integer_size(sequence)
        if tuple(names) == self.names:
            shared = list(fields)
            shared[::2] = self.names
            fields = shared
            size += 2 + integer_size(count + 3)  # the flags, and the number of parts
        else:
            size += sum(map(entry_size, names))
            size += 2 + integer_size(count) + integer_size(2 * count + 4)
        self._bytes += size
        self.ids.append(entry_id)
        self.fields.append(tuple(fields))
        self.last = entry_id

    def is_full(self, limits: Limits, more: int) -> bool:
        """Whether an entry whose strings have `more` bytes must go to a new block. O(1)."""
        most = limits.stream_node_max_bytes
        if not 0 < most <= _BLOCK_MAX_BYTES:
            most = _BLOCK_MAX_BYTES
        if self.size() + more >= most:
            return True
        return 0 < limits.stream_node_max_entries <= len(self.ids) + self.deleted

    def delete(self, place: int, count: int = 1) -> None:
        """Delete entries from a place on. O(block)."""
        del self.ids[place : place + count]
        del self.fields[place : place + count]
        self.deleted += count

    def copy(self) -> Block:
        twin = Block(self.first, self.names)
        twin.last, twin.deleted, twin._bytes = self.last, self.deleted, self._bytes
        twin.ids, twin.fields = self.ids.copy(), self.fields.copy()
        return twin


def distance(first: int, entry_id: int) -> tuple[int, int]:
    """The milliseconds and the sequence of an id, less those of a block's first, as a listpack
    holds them: signed, modulo 2**64."""
    ms = (entry_id >> 64) - (first >> 64)
    sequence = (entry_id & SEQUENCE_MAX) - (first & SEQUENCE_MAX)
    if -_SIGN <= sequence < _SIGN > ms:
        return ms, sequence
    return _signed(ms), _signed(sequence)


def _signed(number: int) -> int:
    return ((number + _SIGN) & SEQUENCE_MAX) - _SIGN


class Stream:
    """Entries, groups by name, and what is remembered of entries that are gone.

    length: number of entries. last_id: the highest that ever was, or what XSETID says.
    entries_added: how many ever were. max_deleted_id: the highest that was deleted, other than by
    trimming. Costs are for B blocks and M entries returned or removed.
    """

    __slots__ = (
        "blocks",
        "entries_added",
        "groups",
        "last_id",
        "length",
        "limits",
        "max_deleted_id",
        "starts",
    )

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.blocks: list[Block] = []
        self.starts: list[int] = []  # the first id of each block
        self.length = 0
        self.last_id = 0
        self.entries_added = 0
        self.max_deleted_id = 0
        self.groups: dict[bytes, Group] = {}

    def __len__(self) -> int:
        return self.length

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        return self._contents() == other._contents() and self.groups == other.groups

    __hash__ = None  # type: ignore[assignment]

    def _contents(self) -> tuple[object, ...]:
        counters = self.last_id, self.entries_added, self.max_deleted_id
        return *counters, self.range()

    def encoding(self) -> bytes:
        """What OBJECT ENCODING says. O(1)."""
        return b"stream"

    def copy(self) -> Stream:
        """An independent stream with the same blocks. O(N)."""
        twin = Stream(self.limits)
        twin.blocks = [block.copy() for block in self.blocks]
        twin.starts = self.starts.copy()
        twin.length = self.length
        twin.last_id, twin.entries_added = self.last_id, self.entries_added
        twin.max_deleted_id = self.max_deleted_id
        twin.groups = {name: group.copy() for name, group in self.groups.items()}
        return twin

    # --- adding and reading ----------------------------------------------------------------------

    def append(self, entry_id: int, fields: Sequence[bytes]) -> None:
        """Add an entry, whose id is above last_id. O(fields)."""
        blocks = self.blocks
        if not blocks or blocks[-1].is_full(self.limits, sum(map(len, fields))):
            self.add_block(Block(entry_id, tuple(fields[::2])))
        blocks[-1].append(entry_id, fields)
        self.length += 1
        self.entries_added += 1
        self.last_id = entry_id

    def add_block(self, block: Block) -> None:
        """Put a block, and the entries in it, after all others. O(1)."""
        self.blocks.append(block)
        self.starts.append(block.first)
        self.length += len(block.ids)

    def next_id(self, now_ms: int) -> int:
        """The id of an entry that is added now; MAX_ID + 1 where there is none left. O(1)."""
        return max(now_ms << 64, self.last_id + 1)

    def first_id(self) -> int:
        """The id of the first entry, 0 without entries. O(1), but for blocks left empty."""
        if self.blocks and self.blocks[0].ids:
            return self.blocks[0].ids[0]
        return next((block.ids[0] for block in self.blocks if block.ids), 0)

    def top_id(self) -> int:
        """The id of the last entry, 0 without entries. O(1), but for blocks left empty."""
        if self.blocks and self.blocks[-1].ids:
            return self.blocks[-1].ids[-1]
        return next((block.ids[-1] for block in reversed(self.blocks) if block.ids), 0)

    def get(self, entry_id: int) -> Fields | None:
        """The fields of an entry, or None. O(log B)."""
        found = self._find(entry_id)
        return None if found is None else self.blocks[found[0]].fields[found[1]]

    def _find(self, entry_id: int) -> tuple[int, int] | None:
        """The number of an entry's block and its place there."""
        i = bisect_right(self.starts, entry_id) - 1
        if i < 0:
            return None
        ids = self.blocks[i].ids
        place = bisect_left(ids, entry_id)
        return (i, place) if place < len(ids) and ids[place] == entry_id else None

    def range(
        self, start: int = 0, end: int = MAX_ID, count: int = -1, *, reverse: bool = False
    ) -> list[Entry]:
        """The entries from one id to another, both included, `count` at most (-1: all).

        `reverse`: from the highest id down. O(log B + M).
        """
        found: list[Entry] = []
        for block in self._down(start, end) if reverse else self._up(start, end):
            ids = block.ids
            low = 0 if start <= block.first else bisect_left(ids, start)
            high = len(ids) if block.last <= end else bisect_right(ids, end)
            if count >= 0:
                if reverse:
                    low = max(low, high - count + len(found))
                else:
                    high = min(high, low + count - len(found))
            part = zip(ids[low:high], block.fields[low:high], strict=True)
            found += reversed(list(part)) if reverse else part
            if len(found) == count:
                break
        return found

    def _up(self, start: int, end: int) -> Iterator[Block]:
        for i in range(max(bisect_right(self.starts, start) - 1, 0), len(self.blocks)):
            block = self.blocks[i]
            if block.first > end:
                return
            yield block

    def _down(self, start: int, end: int) -> Iterator[Block]:
        for i in range(bisect_right(self.starts, end) - 1, -1, -1):
            block = self.blocks[i]
            yield block
            if block.first <= start:
                return

    # --- removing --------------------------------------------------------------------------------

    def delete(self, entry_id: int) -> bool:
        """Delete an entry; whether there was one. O(B) where a block ends by it, else O(log B)."""
        found = self._find(entry_id)
        if found is None:
            return False
        i, place = found
        block = self.blocks[i]
        if len(block.ids) == 1:
            del self.blocks[i], self.starts[i]
        else:
            block.delete(place)
        self.length -= 1
        self.max_deleted_id = max(self.max_deleted_id, entry_id)
        return True

    def trim_to(self, most: int, *, whole_blocks: bool = False, limit: int = 0) -> int:
        """Remove the first entries until `most` are left; how many were removed. O(M + B).

        `whole_blocks`: only such, and no more than `limit` entries (0: no limit).
        """
        dropped = removed = 0
        for block in self.blocks:
            entries, excess = len(block.ids), self.length - removed - most
            if excess <= 0 or (limit and removed + entries > limit):
                break
            if entries > excess:
                if not whole_blocks:
                    block.delete(0, excess)
                    removed += excess
                break
            removed += entries
            dropped += 1
        return self._drop_first(dropped, removed)

    def trim_before(self, lowest: int, *, whole_blocks: bool = False, limit: int = 0) -> int:
        """Remove the entries below an id; otherwise as `trim_to`."""
        dropped = removed = 0
        for block in self.blocks:
            entries = len(block.ids)
            if limit and removed + entries > limit:
                break
            if block.last >= lowest:
                if not whole_blocks:
                    excess = bisect_left(block.ids, lowest)
                    block.delete(0, excess)
                    removed += excess
                break
            removed += entries
            dropped += 1
        return self._drop_first(dropped, removed)

    def _drop_first(self, blocks: int, removed: int) -> int:
        del self.blocks[:blocks], self.starts[:blocks]
        self.length -= removed
        return removed

    # --- how far a group has come ----------------------------------------------------------------

    def advance(self, group: Group, entry_id: int) -> None:
        """A group gets an entry above all that it was given before. O(1)."""
        if (
            group.entries_read != UNKNOWN
            and group.last_id >= self.first_id()
            and not self._has_gap_after(group.last_id)
        ):
            group.entries_read += 1
        elif self.entries_added:
            group.entries_read = self.count_up_to(entry_id)
        group.last_id = entry_id

    def lag(self, group: Group) -> int | None:
        """How many entries a group was not given yet, None where that is unknown. O(1)."""
        if not self.entries_added:
            return 0
        read = group.entries_read
        if read == UNKNOWN or self._has_gap_after(group.last_id):
            read = self.count_up_to(group.last_id)
        return None if read == UNKNOWN else self.entries_added - read

    def _has_gap_after(self, entry_id: int) -> bool:
        """Whether an entry from this id on was deleted."""
        return self.length > 0 and 0 < self.max_deleted_id >= entry_id

    def count_up_to(self, entry_id: int) -> int:
        """How many entries there ever were up to this id, where that can be told, else UNKNOWN.

        It can of the ends of the stream, while nothing was deleted in between. O(1).
        """
        added = self.entries_added
        if not added or (not self.length and entry_id <= self.last_id):
            return added
        if entry_id and entry_id < self.max_deleted_id:
            return UNKNOWN
        if entry_id >= self.last_id:
            return added if entry_id == self.last_id else UNKNOWN
        first = self.first_id()
        if not self.max_deleted_id or self.max_deleted_id < first:
            if entry_id < first:
                return added - self.length
            if entry_id == first:
                return added - self.length + 1
        return UNKNOWN

    # --- what a real server keeps it in ----------------------------------------------------------

    def tree_nodes(self) -> int:
        """The nodes of a compressed radix tree whose keys are the blocks' first ids. O(B).

        A key has 16 bytes. Whatever a key does not share with others is one node, and the end of
        a key is one; where keys part there is a node, and one before it if they have something in
        common there.
        """
        starts = self.starts
        if not starts:
            return 1
        common = [_common_bytes(a, b) for a, b in pairwise(starts)]
        nodes = 0
        open_at: list[int] = []  # depths at which the keys so far part, and more may
        for left, right in zip([-1, *common], [*common, -1], strict=True):
            # Below the deepest place where this key parts from a neighbour it is alone.
            nodes += 1 if max(left, right) == 15 else 2
            while open_at and open_at[-1] > right:
                depth = open_at.pop()
                above = max(right, open_at[-1] if open_at else -1)
                nodes += 1 if depth == above + 1 else 2
            if right >= 0 and (not open_at or open_at[-1] < right):
                open_at.append(right)
        return nodes

    def check(self) -> None:
        """Everything agrees with everything else. O(N)."""
        assert self.starts == [block.first for block in self.blocks]
        ids = [entry_id for block in self.blocks for entry_id in block.ids]
        assert ids == sorted(set(ids))
        assert self.length == len(ids)
        assert not ids or (ids[-1] <= self.last_id and ids[0] == self.first_id())
        previous = -1
        for block in self.blocks:
            assert previous < block.first <= block.last
            assert all(block.first <= entry_id <= block.last for entry_id in block.ids)
            assert len(block.ids) == len(block.fields)
            assert block.ids or block.deleted
            previous = block.last
        for group in self.groups.values():
            group.check()


def _common_bytes(a: int, b: int) -> int:
    """How many bytes two ids of 16 bytes have in common at the start."""
    return (128 - (a ^ b).bit_length()) // 8
