"""`slotfleet check`: what files hold, and up to where they are whole."""

import random
import subprocess
from pathlib import Path

import hiredis
import pytest
from click.testing import CliRunner, Result

from cluster.__main__ import main
from cluster.filecheck import check
from cluster.processes import OperatorError
from node.data.hash import Hash
from node.data.limits import Limits
from node.data.list import List
from node.persistence.rdb import write

LATER = 4102444800000  # ms; the year 2100
SELECT = hiredis.pack_command(("SELECT", "0"))


def slotfleet(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def log_of(*commands: tuple[object, ...]) -> bytes:
    return SELECT + b"".join(hiredis.pack_command(command) for command in commands)


@pytest.fixture
def rdb(tmp_path: Path) -> Path:
    """A file of 200 keys in two databases, with a library of functions."""
    timed = Hash(Limits(), {b"a": b"1"})
    timed.set_deadline(b"a", LATER)
    records = [(0, b"key:%d" % n, b"value" * n, LATER + n, None, None) for n in range(100)]
    records += [(5, b"l:%d" % n, List(Limits(), [b"x"] * 9), None, None, None) for n in range(99)]
    records.append((5, b"timed", timed, 1000, None, None))
    library = b"#!lua name=mine\nredis.register_function('f', function() return 1 end)"
    path = tmp_path / "dump.rdb"
    aux = {b"redis-ver": b"7.2.4", b"ctime": 1700000000}
    path.write_bytes(b"".join(write(records, version=80, aux=aux, functions=[library])))
    return path


def test_what_an_rdb_holds_is_told(rdb):
    done = slotfleet("check", rdb)
    assert done.exit_code == 0
    size = rdb.stat().st_size
    assert f"{rdb}: RDB of Valkey's version 80, {size:,} bytes, valid" in done.output
    assert "ctime          1700000000 (2023-11-1" in done.output
    assert "database 0     100 keys: 100 strings; 100 with a deadline\n" in done.output
    assert (
        "database 5     100 keys: 99 lists, 1 hash; 1 with a deadline, 1 of them past; "
        "1 hash with deadlines of fields" in done.output
    )
    assert "functions      1 library: mine" in done.output


def test_a_broken_rdb_is_whole_up_to_a_place(rdb):
    whole = rdb.read_bytes()
    rng = random.Random(1)
    for _ in range(12):
        at = rng.randrange(9, len(whole))
        rdb.write_bytes(whole[:at])
        (file,) = check(rdb)[0].files
        assert file.problem and 0 < file.valid_up_to <= at
        rdb.write_bytes(whole[: file.valid_up_to] + b"\xff" + bytes(8))  # the end, no checksum
        assert check(rdb)[0].is_valid()
    rdb.write_bytes(whole[:500])
    done = slotfleet("check", rdb)
    assert done.exit_code == 1
    assert "problem        unexpected end of the file" in done.output
    assert "data up to there" in done.output and " keys: " in done.output


def test_a_flipped_bit_is_noticed_by_the_checksum(rdb):
    whole = bytearray(rdb.read_bytes())
    place = whole.index(b"valuevalue")
    whole[place] ^= 1
    rdb.write_bytes(whole)
    done = slotfleet("check", rdb)
    assert done.exit_code == 1 and "wrong checksum, at byte" in done.output


def test_a_database_that_is_not_there_is_a_problem(rdb):
    assert "database 5 is beyond the 4" in slotfleet("check", rdb, "--databases", 4).output


def test_an_append_only_file_is_replayed(tmp_path):
    path = tmp_path / "appendonly.aof"
    body = log_of(("SET", "a", 1), ("MULTI",), ("LPUSH", "l", 1), ("LPUSH", "l", 2), ("EXEC",))
    path.write_bytes(b"#TS:1700000000\r\n" + body + b"#TS:1700000100\r\n")
    done = slotfleet("check", path)
    assert done.exit_code == 0
    assert "commands       4: LPUSH 2, SELECT 1, SET 1" in done.output
    assert "transactions   1" in done.output and "timestamps     from 2023-11-1" in done.output
    assert "2 keys: 1 string, 1 list" in done.output


def test_a_cut_append_only_file_is_whole_up_to_a_command(tmp_path):
    path = tmp_path / "appendonly.aof"
    whole = log_of(*[("SET", f"k{n}", "v" * n) for n in range(30)], ("MULTI",), ("SET", "a", 1))
    complete = log_of(*[("SET", f"k{n}", "v" * n) for n in range(30)])
    for cut in range(len(SELECT), len(whole) + 1, 53):
        path.write_bytes(whole[:cut])
        (file,) = check(path)[0].files
        assert file.valid_up_to <= cut and whole[: file.valid_up_to].endswith(b"\r\n")
        assert bool(file.problem) == (file.valid_up_to < cut)
        assert file.valid_up_to <= len(complete)
    path.write_bytes(whole)
    (file,) = check(path)[0].files
    assert file.problem == "cut amid a transaction; aof-load-truncated leaves that out"


@pytest.mark.parametrize(
    ("tail", "problem"),
    [
        (hiredis.pack_command(("NOTHING", "a")), "unknown command 'NOTHING'"),
        (b"*1\r\n$x\r\n", "is no number"),
        (hiredis.pack_command(("EXEC",)), "Unexpected EXEC"),
    ],
)
def test_what_is_wrong_in_a_log_is_named_with_its_place(tmp_path, tail, problem):
    path = tmp_path / "appendonly.aof"
    body = log_of(*[("SET", f"k{n}", "v") for n in range(5)])
    path.write_bytes(body + tail + log_of(("SET", "after", "it")))
    (file,) = check(path)[0].files
    assert problem in file.problem and " at byte " in file.problem
    assert file.valid_up_to == len(body)


def test_a_log_may_begin_with_an_rdb(tmp_path):
    path = tmp_path / "old.aof"
    records = [(0, b"a%d" % n, b"x" * 100, None, None, None) for n in range(2000)]
    path.write_bytes(b"".join(write(records)) + log_of(("SET", "b", 1)))
    done = slotfleet("check", path)
    assert done.exit_code == 0 and "append-only file that begins with an RDB" in done.output
    assert "2,001 keys" in done.output


def test_the_directory_of_a_real_server(redis_server, redis_cli):
    server = redis_server("--appendonly", "yes", "--aof-timestamp-enabled", "yes")
    server.call("SET", "before", 1)
    server.call("BGREWRITEAOF")
    while b"aof_rewrite_in_progress:1" in server.call("INFO", "persistence"):
        continue
    server.call("RPUSH", "list", 1, 2)
    server.call("HSET", "hash", "a", 1)
    server.call("SAVE")
    server.kill()
    found = check(server.directory)
    assert all(data_set.is_valid() for data_set in found)
    assert [len(data_set.files) for data_set in found] == [1, 3]
    assert found[0].contents == found[1].contents != []
    done = slotfleet("check", server.directory / "appendonlydir")
    assert done.exit_code == 0 and "3 keys: " in done.output
    (server.directory / "appendonlydir" / "appendonly.aof.2.base.rdb").unlink()
    done = slotfleet("check", server.directory)
    assert done.exit_code == 1 and "the file is missing" in done.output


def test_a_broken_manifest_is_told(tmp_path):
    manifest = tmp_path / "appendonly.aof.manifest"
    manifest.write_text("file a seq 0 type b\n")
    assert "Invalid AOF manifest file format, at line 1" in slotfleet("check", tmp_path).output


def test_the_view_of_a_cluster(our_server, tmp_path):
    server = our_server("--cluster-enabled", "yes")
    path = server.directory / "nodes.conf"
    done = slotfleet("check", path)
    assert done.exit_code == 0 and "nodes          1, 1 of them primaries" in done.output
    broken = tmp_path / "nodes.conf"
    broken.write_text(path.read_text()[:-10])
    assert slotfleet("check", broken).exit_code == 1


def test_what_is_no_file_of_a_node(tmp_path):
    with pytest.raises(OperatorError, match="no data of a node"):
        check(tmp_path)
    (tmp_path / "text").write_text("hello")
    assert slotfleet("check", tmp_path / "text").exit_code == 1
    done = slotfleet("check", tmp_path / "nothing")
    assert done.exit_code == 1 and "there is no" in done.output
    (tmp_path / "dump.rdb").write_text("hello")
    assert "wrong signature, at byte 0" in slotfleet("check", tmp_path).output


def test_nothing_that_a_log_says_happens_outside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.aof"
    path.write_bytes(log_of(("SET", "a", 1), ("SAVE",), ("CONFIG", "SET", "dir", "/"), ("QUIT",)))
    check(path)
    assert Path.cwd() == tmp_path and sorted(tmp_path.iterdir()) == [path]


def test_redis_agrees_on_the_place(tmp_path, redis_server_path):
    path = tmp_path / "appendonly.aof"
    whole = log_of(*[("SET", f"k{n}", "v" * n) for n in range(9)], ("MULTI",), ("SET", "a", 1))
    for cut in range(30, len(whole), 40):
        path.write_bytes(whole[:cut])
        theirs = subprocess.run(["redis-check-aof", str(path)], capture_output=True, text=True)
        (file,) = check(path)[0].files
        assert f"ok_up_to={file.valid_up_to}," in theirs.stdout
