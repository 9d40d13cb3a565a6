"""What the bytes of one append-only file mean, and up to where they do.

    command      *<count> then, for each word, $<length> and the word itself; lines end with CRLF
    annotation   a line that begins with #; `#TS:<seconds>` says when what follows was written
    transaction  MULTI, commands, EXEC: applied as a whole, so it is whole or not there

A base may be an RDB, and a file of old servers an RDB with commands after it: `is_rdb` tells by
the first bytes. That part is for node.persistence.rdb; a Reader is for what follows.
"""

import re
from collections.abc import Iterable, Sequence

import attrs

from node.resp import encode_request, whole_requests

Command = list[bytes]

HEAD_SIZE = 9  # bytes that are enough for `is_rdb`
_LINE_MAX = 127  # bytes, with its end
_STAR, _DOLLAR, _HASH = b"*$#"
_digits = re.compile(rb"[1-9]\d*|0").fullmatch
_timestamp = re.compile(rb"#TS:(\d+)").match


@attrs.frozen
class AofError(Exception):
    """Bytes that are no append-only file. offset: where in the file what is wrong begins."""

    reason: str
    offset: int

    def __str__(self) -> str:
        return f"{self.reason}, at offset {self.offset}"


class _Short(Exception):
    """More bytes are needed: at least up to this place in the buffer."""

    def __init__(self, wanted: int) -> None:
        self.wanted = wanted


def is_rdb(head: bytes) -> bool:
    """Whether a file that begins with these bytes begins with an RDB."""
    return head.startswith((b"REDIS", b"VALKEY"))


class Reader:
    """Turns bytes into commands: feed them in pieces, then say `finish`.

    start: the offset in the file of the first byte that is fed: 0, or where an RDB ends.

    valid_up_to: the file up to here is whole commands and no part of a transaction; at least this
        much can be kept. What `feed` has returned so far is just what lies before it.
    timestamps: (seconds since the epoch, offset of the line) of each annotation that tells a time,
        in the file's order. What is before the line had happened by then.
    commands: how many have been returned. transactions: how many were among them.
    error: what ended the reading; nothing is parsed after it.
    """

    def __init__(self, start: int = 0) -> None:
        self.valid_up_to = start
        self.timestamps: list[tuple[int, int]] = []
        self.commands = 0
        self.transactions = 0
        self.error: AofError | None = None
        self._start = start  # of the buffer
        self._buffer = b""
        self._pieces: list[bytes] = []  # come after the buffer, not looked at yet
        self._held = 0  # bytes in both
        self._wanted = 1
        self._transaction: list[Command] | None = None  # MULTI, and what has come after it

    def feed(self, data: bytes) -> list[Command]:
        """Take the file's next bytes; the commands to apply that they complete.

        MULTI and EXEC are not among them: what a transaction did is returned once all of it is
        here. An error goes to `error`; what was whole before it is returned all the same.
        """
        if self.error is not None:
            return []
        self._pieces.append(data)
        self._held += len(data)
        return self._read() if self._held >= self._wanted else []

    def finish(self) -> list[Command]:
        """The file is over: what was held back. Afterwards `is_truncated` says if it is cut."""
        return self._read() if self.error is None else []

    def end(self) -> int:
        """The offset of the end of what has been fed."""
        return self._start + self._held

    def is_truncated(self) -> bool:
        """Whether the file ends amid a command or a transaction."""
        inside = self._buffer[:1] not in (b"", b"#")
        return self.error is None and (inside or self._transaction is not None)

    def is_in_transaction(self) -> bool:
        """Whether MULTI has come and EXEC hasn't."""
        return self._transaction is not None

    # --- a piece ---------------------------------------------------------------------------------

    def _read(self) -> list[Command]:
        self._buffer = b"".join((self._buffer, *self._pieces))
        self._pieces.clear()
        found: list[Command] = []
        at = self._read_canonical(found)
        if self._transaction is None:
            self.valid_up_to = self._start + at
        try:
            while at < len(self._buffer):
                at = self._read_one(at, found)
            self._wanted = 1
        except _Short as short:
            # What is left is read from its start again: let it grow first, to stay linear.
            left = len(self._buffer) - at
            self._wanted = max(short.wanted - at, left + left // 2)
        except AofError as error:
            self.error = error
        self._buffer = self._buffer[at:]
        self._start += at
        self._held = len(self._buffer)
        self.commands += len(found)
        return found

    def _read_canonical(self, found: list[Command]) -> int:
        """Read the usual form fast, up to the last place where a command may begin; returns where
        it has stopped, which may be at once."""
        end = self._buffer.rfind(b"\r\n*") + 2
        commands = whole_requests(self._buffer[:end]) if end > 2 else None
        if commands is None:
            return 0
        if self._transaction is None and all(len(command) > 1 for command in commands):
            found += commands
            return end
        return end if self._fold(commands, found, end) else 0

    def _fold(self, commands: list[Command], found: list[Command], end: int) -> bool:
        """Take commands, transactions among them, that end at that place in the buffer. False,
        and nothing has been taken, if that is not for this way to judge."""
        transaction, done, begun, ended = self._transaction, [], -1, 0
        for i, command in enumerate(commands):
            name = command[0].upper() if len(command) == 1 else b""
            if name in (b"MULTI", b"EXEC"):
                if (transaction is None) == (name == b"EXEC"):
                    return False
                if transaction is None:
                    transaction, begun = [], i
                else:
                    done += transaction
                    transaction, ended = None, ended + 1
            else:
                (done if transaction is None else transaction).append(command)
        if transaction is not None and begun >= 0:
            at = end - sum(len(encode_request(command)) for command in commands[begun:])
            if at < 0 or not self._buffer.startswith(encode_request(commands[begun]), at):
                return False
            self.valid_up_to = self._start + at
        found += done
        self._transaction = transaction
        self.transactions += ended
        return True

    def _read_one(self, at: int, found: list[Command]) -> int:
        """Read an annotation or a command; returns where it ends. Raises _Short, AofError."""
        buffer = self._buffer
        if buffer[at] == _HASH:
            line, end = self._line(at)
            match = _timestamp(line)
            if match is not None:
                self.timestamps.append((int(match[1]), self._start + at))
        else:
            command, end = self._command(at)
            self._take(command, found, self._start + at)
        if self._transaction is None:
            self.valid_up_to = self._start + end
        return end

    def _take(self, command: Command, found: list[Command], offset: int) -> None:
        name = command[0].upper() if len(command) == 1 else b""
        if name == b"MULTI":
            if self._transaction is not None:
                raise AofError("Unexpected MULTI", offset)
            self._transaction = []
        elif name == b"EXEC":
            if self._transaction is None:
                raise AofError("Unexpected EXEC", offset)
            found += self._transaction
            self._transaction = None
            self.transactions += 1
        elif self._transaction is not None:
            self._transaction.append(command)
        else:
            found.append(command)

    # --- a command -------------------------------------------------------------------------------

    def _command(self, at: int) -> tuple[Command, int]:
        buffer = self._buffer
        count, place = self._number(at, _STAR, "a command")
        if not count:
            raise AofError("A command of no words", self._start + at)
        words: Command = []
        for _ in range(count):
            size, start = self._number(place, _DOLLAR, "a word's length")
            place = start + size + 2
            if place > len(buffer):
                raise _Short(place)
            words.append(buffer[start : place - 2])
            if buffer[place - 2 : place] != b"\r\n":
                raise AofError("A word that is longer than it says", self._start + start)
        return words, place

    def _number(self, at: int, mark: int, what: str) -> tuple[int, int]:
        if at < len(self._buffer) and self._buffer[at] != mark:
            raise AofError(f"Expected {what}, got {self._buffer[at : at + 1]!r}", self._start + at)
        line, end = self._line(at)
        if not _digits(line, 1):
            raise AofError(f"{line[:32]!r} is no number", self._start + at)
        return int(line[1:]), end

    def _line(self, at: int) -> tuple[bytes, int]:
        """A line without its end, and where the next one starts."""
        newline = self._buffer.find(b"\n", at, at + _LINE_MAX)
        if newline < 0:
            if len(self._buffer) - at >= _LINE_MAX:
                raise AofError("A line that is too long", self._start + at)
            raise _Short(len(self._buffer) + 1)
        return self._buffer[at:newline].removesuffix(b"\r"), newline + 1


def place_of(pieces: Iterable[bytes], number: int, start: int = 0) -> int:
    """The offset of the command after the first `number` that a Reader returns, or of the
    transaction that it is in. pieces: of the file, from offset `start` on."""
    reader, before, done, held = Reader(start), start, 0, b""
    for piece in pieces:
        held += piece
        reader.feed(piece)
        if reader.commands > number:
            break
        held = held[reader.valid_up_to - before :]
        before, done = reader.valid_up_to, reader.commands
    slow = Reader(before)
    place = before
    for line in held.splitlines(keepends=True):
        slow.feed(line)
        slow.finish()
        if slow.commands > number - done:
            break
        place = slow.valid_up_to
    return place


def cut_at(timestamps: Sequence[tuple[int, int]], seconds: int) -> int | None:
    """Where to cut a file so that it holds what had happened by a time and nothing later; None if
    all of it had. timestamps: as a Reader's."""
    return next((offset for told, offset in timestamps if told > seconds), None)
