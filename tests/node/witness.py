"""What a real server tells besides its replies: keyspace events, and what its replicas get."""

import itertools
import socket
from collections.abc import Callable, Iterator
from typing import Any

import attrs
import hiredis
from differential import Event, Pair, connect_when_ready

_NOT_EFFECTS = (b"SELECT", b"PING", b"REPLCONF")
_marks = itertools.count()


@attrs.define(eq=False)
class _Stream:
    """Values from one socket, read up to a mark."""

    sock: socket.socket
    reader: hiredis.Reader = attrs.field(factory=lambda: hiredis.Reader(notEnoughData=...))

    def until(self, mark: Callable[[Any], bool]) -> Iterator[Any]:
        while True:
            while (value := self.reader.gets()) is ...:
                self.reader.feed(self.sock.recv(1 << 20))
            if mark(value):
                return
            yield value


@attrs.define(eq=False)
class Witness:
    """Listens to the real server of a pair; `agree` compares a command's every effect."""

    pair: Pair
    _control: socket.socket
    _events: _Stream
    _effects: _Stream

    @classmethod
    def of(cls, pair: Pair, path: str) -> "Witness":
        pair.theirs_raw("CONFIG", "SET", "notify-keyspace-events", "KEAmn")
        pair.theirs_raw("CONFIG", "SET", "repl-diskless-sync", "no")
        subscriber = connect_when_ready(path)
        subscriber.sendall(hiredis.pack_command(("PSUBSCRIBE", "*")))
        subscriber.recv(1 << 10)  # its confirmation: from here on it hears everything
        control = connect_when_ready(path)
        return cls(pair, control, _Stream(subscriber), _Stream(_replicate(path)))

    def close(self) -> None:
        self._control.close()
        self._events.sock.close()
        self._effects.sock.close()

    def take(self) -> tuple[list[Event], list[list[bytes]]]:
        """The events and effects since the last call."""
        mark = b"mark-%d" % next(_marks)
        self._control.sendall(hiredis.pack_command(("PUBLISH", "marks", mark)))
        self._control.recv(1 << 10)
        events = [
            _event(channel, key)
            for kind, *_, channel, key in self._events.until(lambda value: value[-1] == mark)
            if kind == b"pmessage" and channel.startswith(b"__keyevent")
        ]
        effects = list(self._effects.until(lambda words: words[-1] == mark))
        return events, [words for words in effects if words[0].upper() not in _NOT_EFFECTS]

    def agree(self, *lines: str) -> None:
        """Replies, events and effects of these commands are the same."""
        ours = self.pair.ours
        self.take(), ours.take_events(), ours.take_log()
        for line in lines:
            self.pair.same(*line.split(" "))
            assert (ours.take_events(), ours.take_log()) == self.take(), line


def _event(channel: bytes, key: bytes) -> Event:
    place, _, event = channel.partition(b":")
    return int(place.removeprefix(b"__keyevent@").removesuffix(b"__")), event, key


def _replicate(path: str) -> socket.socket:
    """A replica's connection, the snapshot read."""
    sock = connect_when_ready(path)
    sock.sendall(b"SYNC\r\n")
    stream = sock.makefile("rb", buffering=0)
    while not (header := stream.readline().strip()):
        pass
    left = int(header[1:])
    while left:
        left -= len(stream.read(left))
    return sock
