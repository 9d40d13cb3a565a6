"""The command log: what happened, encoded once, read by whoever needs it.

Effects are collected through a turn and encoded at its end (or when somebody asks for the offset),
and only while somebody reads: a backlog, replicas, an append-only file. Each record has an
audience. Offsets count the bytes that replicas get.

Readers hold a cursor, an offset; the log keeps what the backlog and the slowest cursor need.
"""

from bisect import bisect_right
from typing import Any, Protocol

import attrs

from node.resp import encode_request, is_canonical

REPLICAS = 1
AOF = 2
BOTH = REPLICAS | AOF

_MULTI = b"*1\r\n$5\r\nMULTI\r\n"
_EXEC = b"*1\r\n$4\r\nEXEC\r\n"


@attrs.frozen(eq=False)
class Limited:
    """A record that only some readers get."""

    record: "list[bytes] | bytes"
    audience: int


Record = list[bytes] | bytes | Limited


class Writer(Protocol):
    """A client, as far as the log knows it."""

    wrote_at: int


@attrs.define(eq=False)
class Cursor:
    """A reader's place in the log: the offset of the next byte it has not taken."""

    offset: int


@attrs.define(eq=False)
class Log:
    """offset: bytes ever logged for replicas, as of the last flush.

    active: False while nobody reads; nothing is encoded or counted then.
    backlog_size: bytes kept for replicas that come back, once `keep_backlog` is on.
    follows: this node is a replica. The stream its own replicas read is its primary's, added by
        `append_raw`; what it does by itself goes to the append-only file alone.
    writers: whoever logged something since the last flush learns the offset after it.
    selected: the database that the last record belongs to; None: the next one begins with SELECT.
    aof: bytes for the append-only file since it last took them; None while there is no such file.
    """

    offset: int = 0
    active: bool = False
    backlog_size: int = 1024 * 1024
    keeps_backlog: bool = False
    follows: bool = False
    aof: list[bytes] | None = None
    selected: int | None = None
    writers: list[Writer] = attrs.field(factory=list)
    _audience: int = BOTH
    _pending: list[Record] = attrs.field(factory=list)
    _starts: list[int] = attrs.field(factory=list)
    _blocks: list[bytes] = attrs.field(factory=list)
    _cursors: list[Cursor] = attrs.field(factory=list)

    # --- writing ---------------------------------------------------------------------------------

    def append(self, db: int, effects: list[list[bytes]], audience: int = BOTH) -> None:
        """Log what a command did; more than one effect is applied by readers as a whole."""
        if db != self.selected:
            self.select(db)
        if len(effects) == 1:
            self._add(effects[0], audience)
            return
        self._add(_MULTI, audience)
        for effect in effects:
            self._add(effect, audience)
        self._add(_EXEC, audience)

    def append_one(self, db: int, args: list[bytes]) -> None:
        """`append` for the common case: one effect, for all readers."""
        if db != self.selected:
            self.select(db)
        self._pending.append(args if self._audience == BOTH else Limited(args, self._audience))

    def append_unit(self, effects: list[tuple[int, list[bytes], int]]) -> None:
        """Log (db, effect, audience) that are applied as a whole, or not at all."""
        if not self.active or not effects:
            return
        if len(effects) == 1:
            db, effect, audience = effects[0]
            self.append(db, [effect], audience)
            return
        whole = 0
        for _, _, audience in effects:
            whole |= audience
        self._add(_MULTI, whole)
        for db, effect, audience in effects:
            if db != self.selected:
                self.select(db)
            self._add(effect, audience)
        self._add(_EXEC, whole)

    def select(self, db: int) -> None:
        """Make what follows belong to that database, for every reader."""
        self.selected = db
        self._add(_select(db), BOTH)

    def append_raw(self, data: bytes, before: int, after: int, audience: int = BOTH) -> None:
        """Log a primary's own bytes; its stream is in database `before`, and after them in that
        one."""
        if audience & AOF and self.aof is not None:
            if self.selected != before:
                self._pending.append(Limited(_select(before), AOF))
            self.selected = after
        self._pending.append(data if audience == BOTH else Limited(data, audience))

    def append_control(self, request: bytes) -> None:
        """Tell the replicas something that is no change of data: PING, REPLCONF GETACK."""
        if not self.follows:
            self._pending.append(Limited(request, REPLICAS))

    def _add(self, record: list[bytes] | bytes, audience: int) -> None:
        audience &= self._audience
        self._pending.append(record if audience == BOTH else Limited(record, audience))

    def mark(self) -> int:
        """The number of records pending; for `shorten`."""
        return len(self._pending)

    def shorten(self, mark: int, requests: list[list[bytes]], chunk: bytes) -> None:
        """Log the very bytes that requests were parsed from, if every one of them has been logged
        since `mark` as it came, for all readers, and nothing else has."""
        pending = self._pending
        if len(requests) == 1 or len(pending) - mark != len(requests):
            return  # one request is encoded sooner than its bytes are looked through
        # They are the very same objects, which makes comparing them fast.
        if pending[mark:] == requests and is_canonical(chunk, requests):
            pending[mark:] = [chunk]

    def flush(self) -> int:
        """Encode what is pending; the offset after it."""
        if self._pending:
            records, self._pending = self._pending, []
            shared = Limited not in set(map(type, records))
            data = _encode(records if shared else _for(REPLICAS, records))
            self._store(data)
            if self.aof is not None:
                self.aof.append(data if shared else _encode(_for(AOF, records)))
        if self.writers:
            for session in self.writers:
                session.wrote_at = self.offset
            self.writers.clear()
        return self.offset

    def _store(self, data: bytes) -> None:
        if data and (self.keeps_backlog or self._cursors):
            self._starts.append(self.offset)
            self._blocks.append(data)
            self.offset += len(data)
            self._trim()
        elif data and self.aof is not None:
            self._starts.clear()  # of a former backlog: nobody could go on from there
            self._blocks.clear()
            self.offset += 1  # nobody counts, but what is on disk has to be told from what isn't

    # --- reading ---------------------------------------------------------------------------------

    def open_cursor(self) -> Cursor:
        """A new reader from here on; the next record begins with SELECT."""
        self.flush()
        cursor = Cursor(self.offset)
        self._cursors.append(cursor)
        if not self.follows:
            self.selected = None
        self._update()
        return cursor

    def open_cursor_at(self, offset: int) -> Cursor:
        """A reader that continues at an offset `holds` said yes to."""
        self.flush()
        cursor = Cursor(offset)
        self._cursors.append(cursor)
        self._update()
        return cursor

    def close_cursor(self, cursor: Cursor) -> None:
        """The reader is gone; its share of the log may go too."""
        if cursor in self._cursors:
            self._cursors.remove(cursor)
            self._update()

    def holds(self, offset: int) -> bool:
        """Whether a reader may continue at that offset."""
        self.flush()
        return self.keeps_backlog and self.first_offset() <= offset <= self.offset

    def first_offset(self) -> int:
        """The oldest offset still held."""
        return self._starts[0] if self._starts else self.offset

    def read(self, cursor: Cursor, most: int) -> bytes:
        """Bytes from the cursor on, at most `most`, b"" at the end; moves the cursor."""
        if cursor.offset >= self.offset:
            return b""
        i = bisect_right(self._starts, cursor.offset) - 1
        skip = cursor.offset - self._starts[i]
        if skip or len(self._blocks[i]) > most:
            data = self._blocks[i][skip : skip + most]
        else:
            data = self._whole_blocks(i, most)
        cursor.offset += len(data)
        return data

    def _whole_blocks(self, first: int, most: int) -> bytes:
        end, size = first, 0
        while end < len(self._blocks) and size + len(self._blocks[end]) <= most:
            size += len(self._blocks[end])
            end += 1
        return self._blocks[first] if end == first + 1 else b"".join(self._blocks[first:end])

    # --- what is kept ----------------------------------------------------------------------------

    def keep_backlog(self, size: int) -> None:
        """From here on keep the last `size` bytes, and at least what a reader still needs."""
        self.flush()
        self.backlog_size = size
        self.keeps_backlog = True
        self._update()

    def drop_backlog(self) -> None:
        """Keep only what readers need."""
        self.keeps_backlog = False
        self._update()
        self._trim()

    def backlog_length(self) -> int:
        """Bytes held."""
        return self.offset - self.first_offset()

    def open_aof(self) -> None:
        """An append-only file reads from here on."""
        self.flush()
        self.aof = []
        self.selected = None
        self._update()

    def close_aof(self) -> None:
        self.aof = None
        self._update()

    def follow(self, follows: bool) -> None:
        """Take another's stream from here on, or make one's own again."""
        self.flush()
        self.follows = follows
        self._audience = AOF if follows else BOTH
        self.selected = None
        self._update()

    def restart(self, offset: int) -> None:
        """Begin anew at that offset: another history. Readers must have been closed."""
        self._pending.clear()
        self._starts.clear()
        self._blocks.clear()
        self.selected = None
        self.offset = offset

    def _update(self) -> None:
        for_replicas = not self.follows and (self.keeps_backlog or bool(self._cursors))
        self.active = for_replicas or self.aof is not None

    def _trim(self) -> None:
        keep = self.offset - (self.backlog_size if self.keeps_backlog else 0)
        for cursor in self._cursors:
            keep = min(keep, cursor.offset)
        drop = bisect_right(self._starts, keep) - 1
        if drop > 0 and (drop > 64 or drop == len(self._starts)):
            del self._starts[:drop], self._blocks[:drop]

    def check(self) -> None:
        """Blocks are contiguous and end at the offset."""
        at = self.first_offset()
        for start, block in zip(self._starts, self._blocks, strict=True):
            assert start == at and block
            at += len(block)
        assert at == self.offset


def _select(db: int) -> list[bytes]:
    return [b"SELECT", b"%d" % db]


def _for(audience: int, records: list[Record]) -> list[list[bytes] | bytes]:
    """The records that these readers get."""
    return [
        record.record if type(record) is Limited else record  # type: ignore[misc]
        for record in records
        if type(record) is not Limited or record.audience & audience
    ]


def _encode(records: list[Any]) -> bytes:
    parts = [record if type(record) is bytes else encode_request(record) for record in records]
    return parts[0] if len(parts) == 1 else b"".join(parts)
