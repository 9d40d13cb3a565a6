"""Snapshots by command, by themselves and at the end; what a node starts with."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from servers import Server, Start, end, info, wait_until

from cluster.processes import find_program

CORRUPT = "Terminating server after rdb file reading failure"
SLOW = ("--rdb-key-save-delay", "100000")  # microseconds for each key


def persistence(server: Server) -> dict[str, str]:
    return info(server, "persistence")


@pytest.fixture
def again(our_server: Start) -> Start:
    """A function (server, *directives) that starts another one in the place of one that ended."""
    return lambda server, *directives: our_server(
        *directives, port=server.port, name=server.directory.name
    )


def test_a_saved_data_set_is_loaded_at_the_start(our_server, again):
    server = our_server()
    server.call("SET", "a", "b")
    server.call("EXPIRE", "a", 1000)
    assert int(persistence(server)["rdb_changes_since_last_save"]) == 2
    before = server.call("LASTSAVE")
    assert server.call("SAVE") == b"OK"
    assert server.call("LASTSAVE") >= before
    assert int(persistence(server)["rdb_changes_since_last_save"]) == 0
    server.call("SET", "late", "gone")
    server.kill()
    server = again(server)
    assert server.call("GET", "a") == b"b" and server.call("EXISTS", "late") == 0
    assert 990 <= server.call("TTL", "a") <= 1000
    facts = persistence(server)
    assert (facts["loading"], facts["rdb_last_load_keys_loaded"]) == ("0", "1")
    assert "DB saved on disk" in server.log() and "DB loaded from disk" in server.log()
    assert sorted(os.listdir(server.directory)) == ["dump.rdb", "log"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_of_the_process_saves_what_has_changed(our_server, again, number):
    server = our_server()
    server.call("SET", "a", "b")
    assert end(server, number) == 0
    log = server.log()
    assert f"Received {signal.Signals(number).name} scheduling shutdown" in log
    assert log.index("Saving the final RDB snapshot") < log.index("DB saved on disk")
    assert again(server).call("GET", "a") == b"b"


@pytest.mark.parametrize(
    ("directives", "words", "saves"),
    [
        ((), ["SHUTDOWN"], True),
        ((), ["SHUTDOWN", "NOSAVE"], False),
        (("--save", ""), ["SHUTDOWN"], False),
        (("--save", ""), ["SHUTDOWN", "SAVE", "NOW"], True),
        (("--shutdown-on-sigterm", "nosave"), [], False),
        (("--save", "", "--shutdown-on-sigterm", "save"), [], True),
    ],
)
def test_whether_the_end_saves(our_server, directives, words, saves):
    server = our_server(*directives)
    server.call("SET", "a", "b")
    if words:
        with pytest.raises(ConnectionError):
            server.call(*words)
        assert server.process.wait(10) == 0
    else:
        assert end(server) == 0
    assert (server.directory / "dump.rdb").exists() == saves


def test_an_end_that_cannot_save_does_not_end(our_server, tmp_path):
    server = our_server("--enable-protected-configs", "yes")
    server.call("SET", "a", "b")
    lost = tmp_path / "lost"
    lost.mkdir()
    server.call("CONFIG", "SET", "dir", str(lost))
    lost.rmdir()
    assert str(server.call("SAVE")) == "ERR"
    assert str(server.call("SHUTDOWN")) == "ERR Errors trying to SHUTDOWN. Check logs."
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: server.log().count("can't exit") == 2, "the signal is refused as well")
    assert server.call("SET", "a", "c") == b"OK"
    with pytest.raises(ConnectionError):
        server.call("SHUTDOWN", "SAVE", "FORCE")
    assert server.process.wait(10) == 0


def test_a_snapshot_in_the_background_holds_the_moment_of_its_start(our_server, again):
    server = our_server(*SLOW)
    for number in range(5):
        server.call("SET", f"k{number}", "before")
    assert server.call("BGSAVE") == b"Background saving started"
    assert persistence(server)["rdb_bgsave_in_progress"] == "1"
    assert server.call("SET", "k0", "during") == b"OK"
    assert str(server.call("BGSAVE")) == "ERR Background save already in progress"
    assert str(server.call("SAVE")) == "ERR Background save already in progress"
    wait_until(lambda: persistence(server)["rdb_bgsave_in_progress"] == "0", "saved")
    facts = persistence(server)
    assert facts["rdb_changes_since_last_save"] == "1"
    assert (facts["rdb_last_bgsave_status"], facts["rdb_last_bgsave_time_sec"]) == ("ok", "0")
    assert "Background saving terminated with success" in server.log()
    server.kill()
    assert again(server).call("MGET", "k0", "k4") == [b"before"] * 2


def test_a_snapshot_can_be_cancelled_or_killed(our_server, connect):
    server = our_server(*SLOW)
    server.call("MSET", *[word for number in range(50) for word in (f"k{number}", "v")])
    assert str(server.call("BGSAVE", "CANCEL")).startswith("ERR Background saving is currently not")
    server.call("BGSAVE")
    child = saving_child(server)
    assert server.call("BGSAVE", "CANCEL") == b"Background saving cancelled"
    assert not Path(f"/proc/{child}").exists()
    assert persistence(server)["rdb_last_bgsave_status"] == "ok"
    at_once = connect(server.port).ask(*[("BGSAVE",), ("BGSAVE", "CANCEL")] * 3)
    assert at_once == [b"Background saving started", b"Background saving cancelled"] * 3
    server.call("BGSAVE")
    os.kill(saving_child(server), signal.SIGKILL)
    wait_until(lambda: persistence(server)["rdb_last_bgsave_status"] == "err", "it is noticed")
    assert "Background saving terminated by signal 9" in server.log()
    assert sorted(os.listdir(server.directory)) == ["log"]
    assert str(server.call("SET", "a", "b")).startswith("MISCONF Redis is configured to save RDB")
    assert str(server.call("PING")).startswith("MISCONF")
    assert server.call("GET", "k1") == b"v"
    server.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
    assert server.call("SET", "a", "b") == b"OK"
    server.call("CONFIG", "SET", "stop-writes-on-bgsave-error", "yes", "rdb-key-save-delay", "0")
    assert str(server.call("SET", "a", "b")).startswith("MISCONF")
    assert server.call("BGSAVE") == b"Background saving started"
    wait_until(lambda: persistence(server)["rdb_last_bgsave_status"] == "ok", "it is made good")
    assert server.call("SET", "a", "b") == b"OK"


def saving_child(server: Server) -> int:
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    assert len(children) == 1
    return int(children[0])


def test_a_full_disk_is_told_and_leaves_the_old_file(our_server, tmp_path):
    """Limited by the size a file may have, which the operating system reports as it does a full
    disk: by an error of write."""
    server = our_server()
    server.call("SET", "a", "b")
    server.call("SAVE")
    old = (server.directory / "dump.rdb").read_bytes()
    server.call("SET", "big", os.urandom(1 << 20))
    subprocess.run(["prlimit", f"--pid={server.pid}", "--fsize=100000:"], check=True)
    server.call("BGSAVE")
    wait_until(lambda: persistence(server)["rdb_last_bgsave_status"] == "err", "it is noticed")
    assert "Background saving error: File too large" in server.log()
    assert str(server.call("SAVE")) == "ERR"
    assert (server.directory / "dump.rdb").read_bytes() == old
    assert sorted(os.listdir(server.directory)) == ["dump.rdb", "log"]
    assert server.call("GET", "a") == b"b"


def test_save_points(our_server):
    server = our_server("--save", "1 3", "--hz", "100")
    server.call("MSET", "a", 1, "b", 2)
    time.sleep(1.2)
    assert not (server.directory / "dump.rdb").exists()
    server.call("SET", "c", 3)
    wait_until((server.directory / "dump.rdb").exists, "a save point is met")
    assert "3 changes in 1 seconds. Saving..." in server.log()
    server.call("CONFIG", "SET", "save", "3600 1")
    assert server.call("CONFIG", "GET", "save") == [b"save", b"3600 1"]


def test_flushing_everything_leaves_nothing_in_the_file(our_server, again):
    server = our_server()
    server.call("SET", "a", "b")
    server.call("SAVE")
    server.call("FLUSHALL")
    server.kill()
    assert again(server).call("DBSIZE") == 0


def test_in_a_transaction_a_snapshot_is_only_scheduled(our_server, connect):
    server = our_server()
    client = connect(server.port)
    client.ask(("MULTI",), ("SET", "a", "b"), ("BGSAVE",), ("SET", "a", "c"))
    assert client.one("EXEC") == [b"OK", b"Background saving scheduled", b"OK"]
    wait_until((server.directory / "dump.rdb").exists, "it is made")
    assert str(client.ask(("MULTI",), ("SAVE",))[1]).startswith("ERR Command")


# --- loading --------------------------------------------------------------------------------------


def test_clients_are_told_to_wait_while_data_are_loaded(our_server, again):
    server = our_server()
    client = [word for number in range(3000) for word in (f"key:{number}", "value")]
    server.call("MSET", *client)
    end(server)
    slow = ["--key-load-delay", "300", "--loading-process-events-interval-bytes", "1024"]
    server = again(server, *slow)
    assert str(server.call("GET", "key:1")) == "LOADING Redis is loading the dataset in memory"
    facts = persistence(server)
    assert facts["loading"] == "1"
    assert 0 <= float(facts["loading_loaded_perc"]) <= 100
    size = (server.directory / "dump.rdb").stat().st_size
    assert int(facts["loading_total_bytes"]) == size >= int(facts["loading_loaded_bytes"])
    assert str(server.call("CONFIG", "SET", "dir", "/")).startswith("ERR")
    wait_until(lambda: server.call("GET", "key:1") == b"value", "it is loaded")
    assert server.call("DBSIZE") == 3000
    assert "Ready to accept connections" in server.log().rpartition("DB loaded from disk")[2]


def test_a_node_told_to_end_while_it_loads_does_not_save(our_server, again):
    server = our_server()
    server.call("MSET", *[word for number in range(3000) for word in (f"key:{number}", "value")])
    end(server)
    before = (server.directory / "dump.rdb").read_bytes()
    server = again(
        server, "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"
    )
    assert persistence(server)["loading"] == "1"
    assert end(server) == 0
    assert (server.directory / "dump.rdb").read_bytes() == before


def damaged(data: bytes, how: str) -> bytes:
    match how:
        case "cut":
            return data[: len(data) // 2]
        case "flipped":
            return data[:-30] + bytes([data[-30] ^ 1]) + data[-29:]
    return data + b"x"


@pytest.mark.parametrize("how", ["cut", "flipped", "longer"])
def test_a_broken_file_ends_the_start(our_server, how):
    server = our_server()
    server.call("MSET", *[word for number in range(100) for word in (f"key:{number}", "value")])
    end(server)
    file = server.directory / "dump.rdb"
    broken = damaged(file.read_bytes(), how)
    file.write_bytes(broken)
    done = subprocess.run(
        [find_program("slotfleet-server"), "--port", "0", "--dir", str(server.directory)],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert CORRUPT in done.stdout and "at offset " in done.stdout
    assert "Ready to accept" not in done.stdout
    assert file.read_bytes() == broken


def test_keys_whose_time_came_meanwhile_are_left_out(our_server, again):
    server = our_server()
    server.call("SET", "long", "x", "EX", 1000)
    gone_at = time.time() + 1
    server.call("SET", "short", "x", "PXAT", int(1000 * gone_at))
    end(server)
    time.sleep(max(0, gone_at - time.time()))
    server = again(server)
    assert server.call("DBSIZE") == 1
    facts = persistence(server)
    assert facts["rdb_last_load_keys_expired"] == "1" and facts["rdb_last_load_keys_loaded"] == "1"
    assert "keys loaded: 1, keys expired: 1" in server.log()


def test_a_reload_keeps_everything(our_server):
    server = our_server("--enable-debug-command", "yes", "--rdbcompression", "no")
    server.call("RPUSH", "list", *range(1000))
    server.call("HSET", "hash", "a", 1)
    server.call("HPEXPIRE", "hash", 100000, "FIELDS", 1, "a")
    before = server.call("DUMP", "list"), server.call("DUMP", "hash")
    assert server.call("DEBUG", "RELOAD") == b"OK"
    assert (server.call("DUMP", "list"), server.call("DUMP", "hash")) == before
    assert (server.directory / "dump.rdb").read_bytes().startswith(b"VALKEY080")
    assert str(server.call("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH")).startswith("ERR Error trying")


def test_a_reload_can_go_beside_what_there_is(our_server):
    server = our_server("--enable-debug-command", "yes")
    library = "#!lua name={0}\nredis.register_function('{0}', function() return '{0}' end)"
    server.call("SET", "both", "saved")
    server.call("HSET", "saved", "a", 1)
    assert server.call("FUNCTION", "LOAD", library.format("one")) == b"one"
    assert server.call("SAVE") == b"OK"
    server.call("SET", "both", "later", "EX", 100)
    server.call("SET", "kept", "v")
    server.call("DEL", "saved")
    assert server.call("FUNCTION", "LOAD", library.format("two")) == b"two"
    refused = server.call("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH")
    assert str(refused).startswith("ERR Error trying to load the RDB")
    assert server.call("GET", "kept") == b"v"  # what was to stay has not been lost
    assert server.call("DEBUG", "RELOAD", "NOSAVE", "NOFLUSH", "MERGE") == b"OK"
    assert server.call("MGET", "both", "kept") == [b"saved", b"v"]
    assert server.call("TTL", "both") == -1 and server.call("HGET", "saved", "a") == b"1"
    assert [server.call("FCALL", name, 0) for name in ("one", "two")] == [b"one", b"two"]


def test_checksums_need_not_be_right_where_tests_ask_for_it(our_server):
    server = our_server("--enable-debug-command", "yes")
    payload = b"\x00\x03bar\x0b\x00" + b"wrong..."
    assert str(server.call("RESTORE", "k", 0, payload)).startswith("ERR DUMP payload version or")
    assert server.call("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 1) == b"OK"
    assert server.call("RESTORE", "k", 0, payload) == b"OK"
    assert server.call("DEBUG", "SET-SKIP-CHECKSUM-VALIDATION", 0) == b"OK"
    assert str(server.call("RESTORE", "k", 0, payload, "REPLACE")).startswith("ERR DUMP payload")
