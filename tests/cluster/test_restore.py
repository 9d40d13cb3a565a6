"""`slotfleet restore`: an append-only file as it was at a time."""

import random
import shutil
import subprocess
from pathlib import Path

import hiredis
import pytest
from click.testing import CliRunner, Result

from cluster import restore
from cluster.__main__ import main
from cluster.filecheck import Reading
from cluster.processes import OperatorError
from node.persistence.rdb import write

START = 1_700_000_000  # s; when the base was written


def slotfleet(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def made(directory: Path, seconds: int = 40, parts: int = 3) -> Path:
    """A log of one key a second, some in transactions, in several increments."""
    place = directory / "appendonlydir"
    place.mkdir(parents=True)
    base = [(0, b"base", b"1", None, None, None)]
    (place / "a.1.base.rdb").write_bytes(b"".join(write(base, aux={b"ctime": START})))
    lines = ["file a.1.base.rdb seq 1 type b"]
    for part in range(parts):
        data = hiredis.pack_command(("SELECT", 0))
        for second in _share(part, parts, seconds):
            data += b"#TS:%d\r\n" % (START + second)
            pair = [("SET", f"k{second}", second), ("SET", "last", second)]
            words = [("MULTI",), *pair, ("EXEC",)] if second % 3 else pair
            data += b"".join(hiredis.pack_command(each) for each in words)
        (place / f"a.{part + 1}.incr.aof").write_bytes(data)
        lines.append(f"file a.{part + 1}.incr.aof seq {part + 1} type i")
    (place / "a.manifest").write_text("\n".join(lines) + "\n")
    return directory


def _share(part: int, parts: int, seconds: int) -> range:
    size = seconds // parts + 1
    return range(part * size, min((part + 1) * size, seconds))


def keys(directory: Path) -> set[bytes]:
    """What a node would have that was started with these files."""
    place = next(directory.glob("*/*.manifest"))
    reading = Reading(16)
    for line in place.read_text().splitlines():
        report = reading.read(place.parent / line.split()[1])
        assert not report.problem
    return set(reading.node.keyspace[0])


def snapshot(directory: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def expected(until: int) -> set[bytes]:
    found = {b"k%d" % second for second in range(until + 1)}
    return found | {b"base", b"last"}


@pytest.mark.parametrize("second", [-1, 0, 1, 13, 14, 20, 38, 39, 500])
def test_what_came_later_is_left_out(tmp_path, second):
    source = made(tmp_path / "source")
    before = snapshot(source)
    done = slotfleet("restore", source, tmp_path / "copy", "--at", START + max(second, 0))
    if second < 0:
        done = slotfleet("restore", source, tmp_path / "early", "--at", START - 1)
        assert done.exit_code == 1 and "what was before can't be had" in done.output
        assert not (tmp_path / "early").exists()
        return
    assert done.exit_code == 0, done.output
    assert keys(tmp_path / "copy") == expected(min(second, 39))
    assert snapshot(source) == before


def test_a_time_is_given_as_a_date_too(tmp_path):
    source = made(tmp_path / "source")
    done = slotfleet("restore", source, tmp_path / "copy", "--at", "2023-11-14T22:13:25+00:00")
    assert done.exit_code == 0 and keys(tmp_path / "copy") == expected(5)
    assert "(later)" in done.output and "left out" in done.output
    assert restore.parse_time("2023-11-14T22:13:25Z") == START + 5
    done = slotfleet("restore", source, tmp_path / "other", "--at", "yesterday")
    assert done.exit_code == 1 and "is no time" in done.output


def test_in_place_only_when_asked(tmp_path):
    source = made(tmp_path / "source")
    assert slotfleet("restore", source, "--at", START + 14).exit_code == 2
    assert slotfleet("restore", source, tmp_path / "x", "--in-place").exit_code == 2
    done = slotfleet("restore", source, "--at", START + 14, "--in-place")
    assert done.exit_code == 0 and keys(source) == expected(14)
    names = sorted(path.name for path in (source / "appendonlydir").iterdir())
    assert names == ["a.1.base.rdb", "a.1.incr.aof", "a.2.incr.aof", "a.manifest"]


def test_a_target_that_is_there_is_not_touched(tmp_path):
    source = made(tmp_path / "source")
    target = tmp_path / "full"
    target.mkdir()
    (target / "mine").write_text("text")
    done = slotfleet("restore", source, target, "--at", START)
    assert done.exit_code == 1 and "is there already" in done.output
    assert snapshot(target) == {str(target / "mine"): b"text"}


def test_without_a_time_a_cut_tail_is_left_out(tmp_path):
    rng = random.Random(2)
    source = made(tmp_path / "source", parts=1)
    log = source / "appendonlydir" / "a.1.incr.aof"
    whole = log.read_bytes()
    for number in range(8):
        log.write_bytes(whole[: rng.randrange(100, len(whole))])
        done = slotfleet("restore", source, tmp_path / f"copy{number}")
        assert done.exit_code == 0, done.output
        kept = (tmp_path / f"copy{number}" / "appendonlydir" / "a.1.incr.aof").read_bytes()
        assert whole.startswith(kept) and len(whole) - len(kept) > 0


def test_no_cut_goes_through_a_transaction(tmp_path):
    source = made(tmp_path / "source", parts=1)
    log = source / "appendonlydir" / "a.1.incr.aof"
    pack = hiredis.pack_command
    transaction = pack(("MULTI",)) + pack(("SET", "x", 1)) + b"#TS:%d\r\n" % (START + 100)
    log.write_bytes(log.read_bytes() + transaction + pack(("SET", "y", 1)) + pack(("EXEC",)))
    assert slotfleet("restore", source, tmp_path / "copy", "--at", START + 50).exit_code == 0
    assert keys(tmp_path / "copy") == expected(39)


def test_a_log_without_times_can_not_be_cut_at_one(tmp_path):
    source = made(tmp_path / "source")
    for path in (source / "appendonlydir").glob("*.incr.aof"):
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join(line for line in lines if not line.startswith(b"#")))
    with pytest.raises(OperatorError, match="aof-timestamp-enabled"):
        restore.plan(source, START + 5)
    assert restore.plan(source, None).dropped == ()
    with pytest.raises(OperatorError, match="no manifest"):
        restore.plan(tmp_path, None)


def test_redis_cuts_at_the_same_place_and_starts_with_it(tmp_path, redis_server):
    source = made(tmp_path / "source", parts=1)
    shutil.copytree(source, tmp_path / "theirs")
    place = tmp_path / "theirs" / "appendonlydir"
    subprocess.run(
        ["redis-check-aof", "--truncate-to-timestamp", str(START + 17), str(place / "a.manifest")],
        capture_output=True,
        check=True,
    )
    target = tmp_path / "server-copy"
    assert slotfleet("restore", source, target, "--at", START + 17).exit_code == 0
    ours = (target / "appendonlydir" / "a.1.incr.aof").read_bytes()
    assert ours == (place / "a.1.incr.aof").read_bytes()
    server = redis_server("--appendonly", "yes", "--appendfilename", "a", name=target.name)
    while isinstance(found := server.call("KEYS", "*"), Exception):
        assert str(found).startswith("LOADING")
    assert set(found) == expected(17)
