"""Files of ours in real servers, and theirs in ours: key by key the same."""

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_set import ask, contents, making
from servers import Server, Start, end

Transfer = Callable[[Server, str], Path]


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Server]:
    """A function (kind, file) that starts a server of that kind, with that file's data."""

    def start(kind: str, file: Path | None = None) -> Server:
        name = f"{kind}-{'empty' if file is None else 'loaded'}"
        if file is not None:
            (tmp_path / name).mkdir()
            shutil.copy(file, tmp_path / name / "dump.rdb")
        starter: Start = request.getfixturevalue(f"{kind}_server")
        return starter(name=name)

    return start


def made_by(server: Server, seed: int, **options: bool) -> Path:
    """The file of a data set that this server has made."""
    for reply in ask(server.port, making(random.Random(seed), **options)):
        assert not isinstance(reply, Exception), reply
    assert server.call("SAVE") == b"OK"
    return server.directory / "dump.rdb"


@pytest.mark.parametrize(
    ("maker", "reader"),
    [("our", "redis"), ("our", "valkey"), ("redis", "our"), ("valkey", "our"), ("our", "our")],
)
def test_a_file_is_the_same_everywhere(start, maker, reader):
    options: dict[str, Any] = {"field_deadlines": "redis" not in (maker, reader)}
    first = start(maker)
    file = made_by(first, 1, **options)
    second = start(reader, file)
    before, after = (contents(server.port, **options) for server in (first, second))
    assert len(before) > 70
    assert before == after


def test_the_checker_of_redis_finds_nothing_wrong(our_server):
    file = made_by(our_server(), 2)
    done = subprocess.run(["redis-check-rdb", str(file)], capture_output=True, text=True)
    assert done.returncode == 0 and "RDB looks OK" in done.stdout
    assert "repl-id" not in done.stdout  # nobody has been told a history


def test_libraries_of_functions_go_with_the_data(start):
    library = "#!lua name=kept\nredis.register_function('f', function() return 7 end)"
    real = start("redis")
    assert real.call("FUNCTION", "LOAD", library) == b"kept"
    real.call("SAVE")
    ours = start("our", real.directory / "dump.rdb")
    assert ours.call("FCALL", "f", 0) == 7
    ours.call("SET", "a", "b")
    assert end(ours) == 0
    back = start("valkey", ours.directory / "dump.rdb")
    assert back.call("FCALL", "f", 0) == 7 and back.call("GET", "a") == b"b"
