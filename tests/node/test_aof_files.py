"""Append-only files both ways: ours in real servers, theirs in ours, key by key the same."""

import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_set import ask, contents, making
from differential import connect_when_ready
from local import local_node
from servers import Server, Start, info, wait_until

from node.disk import SimulatedDisk
from node.persistence.loading import LoadError
from node.resp import encode_request
from tests.node.conftest import Oracle

NAME = "appendonly.aof"
FORMS = {"rdb": "yes", "commands": "no"}


@pytest.fixture
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Server]:
    """A function (kind, *directives, source=directory) that starts a server of that kind with an
    append-only file: the one in that directory, or a new one."""
    count = iter(range(100))

    def start(kind: str, *directives: str, source: Path | None = None) -> Server:
        place = tmp_path / f"{kind}-{next(count)}"
        if source is not None:
            shutil.copytree(source, place)
        starter: Start = request.getfixturevalue(f"{kind}_server")
        server = starter("--appendonly", "yes", *directives, name=place.name)
        wait_until(lambda: type(server.call("DBSIZE")) is int, "it is loaded")
        return server

    return start


def rewrite(server: Server) -> None:
    """Rewrite the file, and wait for the end of it."""
    before = info(server, "persistence")["aof_rewrites"]
    assert str(server.call("BGREWRITEAOF")).startswith("b'Background append only file rewriting")

    def is_over() -> bool:
        facts = info(server, "persistence")
        busy = {facts["aof_rewrite_in_progress"], facts["aof_rewrite_scheduled"]} != {"0"}
        return facts["aof_rewrites"] != before and not busy

    wait_until(is_over, "the rewrite is over")
    assert info(server, "persistence")["aof_last_bgrewrite_status"] == "ok"


def make(server: Server, seed: int, field_deadlines: bool) -> None:
    """Make a data set, or change one: what is in its streams already is refused."""
    for reply in ask(server.port, making(random.Random(seed), field_deadlines)):
        assert not isinstance(reply, Exception) or "XADD" in str(reply) or "BUSYGROUP" in str(reply)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("maker", "reader"),
    [("our", "redis"), ("our", "valkey"), ("redis", "our"), ("valkey", "our")],
)
def test_a_directory_is_the_same_everywhere(start, maker, reader, form):
    fields = "redis" not in (maker, reader)
    directives = ["--appendfsync", "always", "--aof-use-rdb-preamble", FORMS[form]]
    first = start(maker, *directives, "--aof-timestamp-enabled", "yes")
    library = "#!lua name=kept\nredis.register_function('f', function() return 7 end)"
    assert first.call("FUNCTION", "LOAD", library) == b"kept"
    make(first, 1, fields)
    rewrite(first)
    make(first, 2, fields)
    before = contents(first.port, field_deadlines=fields)
    first.kill()
    names = sorted(path.name for path in (first.directory / "appendonlydir").iterdir())
    suffix = "rdb" if form == "rdb" else "aof"
    assert names == [f"{NAME}.2.base.{suffix}", f"{NAME}.2.incr.aof", f"{NAME}.manifest"]
    second = start(reader, *directives, source=first.directory)
    assert contents(second.port, field_deadlines=fields) == before and len(before) > 70
    assert second.call("FCALL", "f", 0) == 7
    second.call("SET", "more", "1")
    second.kill()
    assert start(maker, *directives, source=second.directory).call("GET", "more") == b"1"


def test_the_checker_of_redis_finds_nothing_wrong(start):
    server = start("our", "--aof-timestamp-enabled", "yes")
    make(server, 3, False)
    rewrite(server)
    make(server, 4, False)
    server.kill()
    manifest = server.directory / "appendonlydir" / f"{NAME}.manifest"
    done = subprocess.run(["redis-check-aof", str(manifest)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    assert "All AOF files and manifest are valid" in done.stdout


@pytest.mark.parametrize("form", FORMS)
def test_the_one_file_of_an_old_server_is_taken_over(start, tmp_path, form):
    """As it is by a real server: the same names and content."""
    maker = start("redis", "--aof-use-rdb-preamble", FORMS[form])
    make(maker, 5, False)
    rewrite(maker)
    maker.call("SET", "tail", "1")
    maker.call("CONFIG", "SET", "appendonly", "no")  # writes all there is
    before = contents(maker.port, field_deadlines=False)
    parts = maker.directory / "appendonlydir"
    suffix = "rdb" if form == "rdb" else "aof"
    old = tmp_path / "old"
    old.mkdir()
    data = (parts / f"{NAME}.2.base.{suffix}").read_bytes()
    (old / NAME).write_bytes(data + (parts / f"{NAME}.2.incr.aof").read_bytes())
    found = {}
    for kind in ("our", "redis"):
        server = start(kind, source=old)
        assert contents(server.port, field_deadlines=False) == before
        assert not (server.directory / NAME).exists()
        there = server.directory / "appendonlydir"
        manifest = (there / f"{NAME}.manifest").read_text()
        found[kind] = manifest, sorted(path.name for path in there.iterdir())
    assert found["our"] == found["redis"]


# --- damage ---------------------------------------------------------------------------------------


def damaged_file(rng: random.Random, whole: bytes, starts: list[int]) -> bytes:
    """Cut, or with a bit flipped where that tells something of both servers.

    A real one believes the count of a command's words whatever the command takes, loads what
    follows the wrong number of a database into another, and looks at no line's end.
    """
    if rng.random() < 0.5:
        return whole[: rng.randrange(len(whole))]
    while True:
        at = rng.randrange(len(whole))
        start = max(place for place in starts if place <= at)
        in_select = whole.startswith(b"SELECT", start + 8)
        if at >= start + 4 and not in_select and whole[at] not in b"\r\n":
            break
    return whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]


def some_file(rng: random.Random) -> tuple[bytes, list[int]]:
    """An increment, and where its commands start."""
    data, starts = b"", []
    commands: list[list[bytes]] = [[b"SELECT", b"0"]]
    for number in range(12):
        key = b"k%d" % rng.randrange(6)
        plain = [[b"SET", key, b"v%d" % number], [b"SADD", b"s" + key, b"a", b"b"]]
        if rng.random() < 0.3:
            commands += [[b"MULTI"], *plain, [b"EXEC"]]
        else:
            commands += plain
    for command in commands:
        starts.append(len(data))
        data += encode_request(command)
    return data, starts


def values(ask_one: Callable[..., Any]) -> dict[bytes, Any]:
    return {
        key: sorted(ask_one("SMEMBERS", key)) if key.startswith(b"s") else ask_one("GET", key)
        for key in ask_one("KEYS", "*")
    }


Outcome = tuple[dict[bytes, Any], int] | None
"""What is loaded of an increment, and the bytes that are left of it; None if it is refused."""


def loaded_by_us(data: bytes, **directives: Any) -> Outcome:
    disk = SimulatedDisk(random.Random(1))
    disk.append_to(f"appendonlydir/{NAME}.1.incr.aof").write(data)
    manifest = f"file {NAME}.1.incr.aof seq 1 type i\n".encode()
    disk.append_to(f"appendonlydir/{NAME}.manifest").write(manifest)
    local = local_node(disk, appendonly=True, **directives)
    try:
        local.node.begin_turn()
        for _ in local.node.load():
            continue
    except LoadError:
        assert len(local.node.keyspace[0]) == 0
        return None
    return values(local.client().call), len(disk.read(f"appendonlydir/{NAME}.1.incr.aof"))


def loaded_by_redis(path: str, directory: Path, data: bytes, truncated: str) -> Outcome:
    parts, link = directory / "appendonlydir", directory / "socket"
    parts.mkdir(parents=True)
    (parts / f"{NAME}.1.incr.aof").write_bytes(data)
    (parts / f"{NAME}.manifest").write_text(f"file {NAME}.1.incr.aof seq 1 type i\n")
    words = ["--port", "0", "--unixsocket", str(link), "--dir", str(directory), "--save", ""]
    words += ["--appendonly", "yes", "--aof-load-truncated", truncated]
    process = subprocess.Popen([path, *words], stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or link.exists(), "it has begun")
        if process.poll() is not None:
            return None
        with connect_when_ready(str(link)) as sock:
            client = Oracle(sock)
            wait_until(lambda: type(client.one("DBSIZE")) is int, "it is loaded")
            return values(client.one), (parts / f"{NAME}.1.incr.aof").stat().st_size
    except OSError:
        return None
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("truncated", ["yes", "no"])
def test_of_a_damaged_file_as_much_is_loaded_as_by_a_real_server(
    redis_server_path, tmp_path, truncated
):
    rng = random.Random(11)
    outcomes = []
    for number in range(20):
        data = damaged_file(rng, *some_file(rng))
        real = loaded_by_redis(redis_server_path, tmp_path / str(number), data, truncated)
        ours = loaded_by_us(data, aof_load_truncated=truncated == "yes")
        assert (ours and ours[0]) == (real and real[0]), data
        # A real server may leave the beginning of a transaction, and spoil what comes after it.
        assert ours is None or (ours[1] <= real[1] and len(data) - ours[1] < 100)
        outcomes.append(real)
    assert 0 < outcomes.count(None) < 20


def test_a_corrupt_tail_is_dropped_up_to_the_size_that_is_allowed():
    whole, _ = some_file(random.Random(13))
    torn = whole + bytes(100)
    assert loaded_by_us(torn) is None
    assert loaded_by_us(torn, aof_load_corrupt_tail_max_size=99) is None
    outcome = loaded_by_us(torn, aof_load_corrupt_tail_max_size=100)
    assert outcome == loaded_by_us(whole) and outcome[1] == len(whole)
