"""What a server sent, with its types: a client library would merge what must be told apart."""

import socket
from typing import Any

import attrs
import hiredis


@attrs.frozen(slots=True)
class Reply:
    """`kind` is the first byte on the wire; value: bytes, an int, None, or a tuple of replies."""

    kind: str
    value: Any

    def is_error(self) -> bool:
        return self.kind in "-!"

    def __str__(self) -> str:
        if isinstance(self.value, tuple):
            return f"{self.kind}[{', '.join(map(str, self.value))}]"
        return f"{self.kind}{self.value!r}"


class Peer:
    """One client's connection to a server, by the name that a person is told."""

    def __init__(self, name: str, sock: socket.socket) -> None:
        self.name = name
        self._sock = sock
        self._file = sock.makefile("rb", 1 << 16)

    def send(self, commands: list[tuple[Any, ...]]) -> None:
        self._sock.sendall(b"".join(map(hiredis.pack_command, commands)))

    def ask(self, commands: list[tuple[Any, ...]]) -> list[Reply]:
        """Send commands at once; their replies."""
        self.send(commands)
        return [self.next() for _ in commands]

    def one(self, *command: Any) -> Reply:
        return self.ask([command])[0]

    def next(self) -> Reply:
        line = self._file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server closed the connection")
        kind, rest = chr(line[0]), line[1:-2]
        if kind == ":":
            return Reply(kind, int(rest))
        if kind in "$=!":
            return Reply(kind, self._bulk(int(rest)))
        if kind in "*~>":
            return Reply(kind, self._several(int(rest)))
        if kind == "%":
            return Reply(kind, self._several(2 * int(rest)))
        return Reply(kind, rest)

    def _bulk(self, length: int) -> bytes | None:
        if length < 0:
            return None
        data = self._file.read(length + 2)
        if len(data) != length + 2:
            raise ConnectionError("the server closed the connection")
        return data[:-2]

    def _several(self, count: int) -> tuple[Reply, ...] | None:
        return None if count < 0 else tuple(self.next() for _ in range(count))

    def close(self) -> None:
        self._file.close()
        self._sock.close()
