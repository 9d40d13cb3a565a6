"""Large snapshots from a child: what goes wrong on the way is told, and asked for again."""

import errno
import os
import select
import tempfile
from collections.abc import Iterator

import attrs
import pytest

from node import child
from node.observe import Observe
from node.replication import source as source_module
from node.replication.source import Source


@attrs.define(eq=False)
class Wanted:
    """A snapshot as its source sees it. error: how it ended; None: not yet."""

    node: object
    content: Iterator[bytes]
    mark: bytes = b""
    got: list[bytes] = attrs.field(factory=list)
    error: str | None = None
    room: bool = True

    def pieces(self) -> Iterator[bytes]:
        return self.content

    def begin(self, length: int | None) -> None:
        self.got.append(b"%d:" % (length or 0))

    def receive(self, piece: bytes) -> None:
        self.got.append(piece)

    def has_room(self) -> bool:
        return self.room

    def end(self, error: str = "") -> None:
        self.error = error


class FullDisk:
    """A file for which there is no room; it tells so once more when it is closed."""

    def write(self, data: bytes = b"") -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    close = write


@pytest.fixture
def wanted(tmp_path):
    class Config:
        dir = str(tmp_path)

    class Node:
        config = Config()
        observe = Observe()

    return lambda pieces, mark=b"": Wanted(Node(), pieces, mark)


def carry(snapshot: Wanted) -> None:
    with select.epoll() as epoll:
        source = Source.start(snapshot, epoll)
        while source.pull():
            if not source.has_more:
                epoll.poll(5)


@pytest.mark.parametrize("mark", [b"", b"m" * 40])
def test_the_pieces_come_as_they_were(wanted, mark):
    pieces = [bytes([number]) * 70_000 for number in range(60)]
    snapshot = wanted(iter(pieces), mark)
    carry(snapshot)
    assert snapshot.error == "" and snapshot.node.observe.forks == 1
    assert b"".join(snapshot.got) == b"%d:" % (0 if mark else 60 * 70_000) + b"".join(pieces)


def test_a_child_that_fails_says_why_in_the_log(wanted, tmp_path, monkeypatch):
    def pieces() -> Iterator[bytes]:
        yield b"REDIS"
        raise ValueError("no form for this value")

    with open(tmp_path / "log", "wb") as log:
        monkeypatch.setattr(child, "_log_fd", log.fileno())
        snapshot = wanted(pieces())
        carry(snapshot)
    assert snapshot.error == "the child that wrote it has failed, as it says above"
    assert "ValueError: no form for this value" in (tmp_path / "log").read_text()


def test_a_full_disk_ends_the_snapshot_and_not_the_server(wanted, monkeypatch):
    monkeypatch.setattr(source_module.tempfile, "TemporaryFile", lambda **_: FullDisk())
    snapshot = wanted(iter([b"x" * 100]))
    carry(snapshot)
    assert snapshot.error == "it can't be kept in a file: No space left on device"


def test_without_a_place_for_its_file_no_child_is_started(wanted, monkeypatch):
    monkeypatch.setattr(child, "fork", lambda *_: pytest.fail("there is a child"))
    snapshot = wanted(iter([b"x"]))
    snapshot.node.config.dir = os.path.join(tempfile.gettempdir(), "there", "is", "none")
    with select.epoll() as epoll, pytest.raises(FileNotFoundError):
        Source.start(snapshot, epoll)


def test_a_source_that_waits_for_room_is_not_heard_of(wanted):
    """Not even that its child has ended, which would keep the node busy until there is room."""
    snapshot = wanted(iter([b"x" * 100]), b"m" * 40)
    with select.epoll() as epoll:
        source = Source.start(snapshot, epoll)
        assert epoll.poll(5)
        snapshot.room = False
        assert source.pull() and source.pull()
        assert not epoll.poll(0.3)
        snapshot.room = True
        while source.pull():
            epoll.poll(5)
    assert snapshot.error == "" and b"x" * 100 in snapshot.got
