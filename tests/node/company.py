"""Several clients at once, of a real server and of ours: what each hears after every step."""

import itertools
import re
import socket
from typing import Any

import attrs
import hiredis
from differential import Ours, connect_when_ready

from node.session import Session

_marks = itertools.count()


@attrs.define(eq=False)
class Person:
    """A client of both servers, under the same name."""

    company: "Company"
    sock: socket.socket
    session: Session
    ids: tuple[int, int] = (0, 0)
    _theirs: hiredis.Reader = attrs.field(factory=hiredis.Reader)
    _ours: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    def send(self, lines: str) -> None:
        """Send commands, separated by semicolons, to both servers in one piece each. `{name}`
        stands for the number of the client of that name."""
        commands = [line.split() for line in lines.split(";") if line.strip()]
        for number, hand_over in enumerate((self._tell_theirs, self._tell_ours)):
            packed = [
                hiredis.pack_command(tuple(self.company.resolved(word, number) for word in words))
                for words in commands
            ]
            hand_over(b"".join(packed))

    def send_one(self, *words: str | bytes) -> None:
        """Send one command of any bytes."""
        data = hiredis.pack_command(words)
        self._tell_theirs(data)
        self._tell_ours(data)

    def hears(self) -> tuple[list[Any], list[Any]]:
        """What has come from the real server and from ours, up to the answer to a mark."""
        mark = b"mark-%d" % next(_marks)
        request = hiredis.pack_command(("PING", mark))
        self._tell_theirs(request)
        self._tell_ours(request)
        return self._until(mark, 0), self._until(mark, 1)

    def _tell_theirs(self, data: bytes) -> None:
        self.sock.sendall(data)

    def _tell_ours(self, data: bytes) -> None:
        node = self.session.node
        node.begin_turn()
        self.session.receive(data)
        node.end_turn()
        self._ours.feed(self.session.take_output())

    def _until(self, mark: bytes, number: int) -> list[Any]:
        values: list[Any] = []
        reader = self._ours if number else self._theirs
        while True:
            value = reader.gets()
            if value is False:
                assert number == 0, f"ours never answered the mark, but said {values}"
                reader.feed(self.sock.recv(1 << 16))
            elif value in (mark, [b"pong", mark]):
                return values
            else:
                values.append(self.company.comparable(value, number))

    def leave(self) -> None:
        """Close the connection; returns once both servers know."""
        self.sock.close()
        self.session.node.close_session(self.session)
        while b"id=%d " % self.ids[0] in self.company.ask("CLIENT", "LIST"):
            pass


@attrs.define(eq=False)
class Company:
    """The people, by name. `together` is a step: somebody speaks, everybody listens.

    waits_for_turns: what leaves at the end of the real server's turn is awaited before listening,
    by asking something on another connection.
    """

    path: str
    waits_for_turns: bool = False
    ours: Ours = attrs.field(factory=Ours)
    people: dict[str, Person] = attrs.field(factory=dict)
    names: tuple[dict[int, str], dict[int, str]] = attrs.field(factory=lambda: ({}, {}))
    _control: socket.socket = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._control = connect_when_ready(self.path)
        self.ask("FLUSHALL")

    def ask(self, *words: str) -> Any:
        """The real server's reply to somebody else."""
        self._control.sendall(hiredis.pack_command(words))
        reader = hiredis.Reader()
        while (reply := reader.gets()) is False:
            reader.feed(self._control.recv(1 << 16))
        return reply

    def join(self, name: str, protocol: int) -> None:
        """A new client."""
        session = self.ours.node.session(b"127.0.0.1:1", on_output=lambda _: None)
        person = Person(self, connect_when_ready(self.path), session)
        self.people[name] = person
        person.send("CLIENT ID")
        (theirs,), (ours,) = person.hears()
        person.ids = theirs, ours
        self.names[0][theirs] = self.names[1][ours] = name
        person.send(f"HELLO {protocol}")
        person.hears()

    def together(self, name: str, lines: str) -> dict[str, list[Any]]:
        """Let somebody send commands; what everybody hears is the same from both servers."""
        self.people[name].send(lines)
        if self.waits_for_turns:
            self.ask("PING")
        heard = {}
        for other in (name, *(one for one in self.people if one != name)):
            theirs, ours = self.people[other].hears()
            assert ours == theirs, f"{name}: {lines}; {other} heard {ours}, of the real {theirs}"
            heard[other] = ours
        return heard

    def tell(self, script: str) -> None:
        """A step for each line `name: commands`."""
        for line in filter(str.strip, script.splitlines()):
            name, _, lines = line.partition(":")
            self.together(name.strip(), lines)

    def leave(self, name: str) -> None:
        self.people.pop(name).leave()

    def close(self) -> None:
        for person in self.people.values():
            person.sock.close()
        self._control.close()

    def resolved(self, word: str, number: int) -> str:
        if word.startswith("{"):
            return str(self.people[word[1:-1]].ids[number])
        return word

    def comparable(self, value: Any, number: int) -> Any:
        """Numbers of clients, times and addresses differ."""
        if isinstance(value, dict):
            return self.comparable([part for pair in value.items() for part in pair], number)
        if isinstance(value, list):
            shown = [self.comparable(one, number) for one in value]
            for i, word in enumerate(value[:-1]):
                if word in (b"redirect", b"tracking-redir-broken"):
                    shown[i + 1] = self.names[number].get(value[i + 1], value[i + 1])
            return shown
        if isinstance(value, bytes):
            return re.sub(rb"^[0-9]{10}\.[0-9]{6} \[(\d+) (lua)?.*?\]", rb"\1 \2", value)
        return str(value) if isinstance(value, hiredis.ReplyError) else value
