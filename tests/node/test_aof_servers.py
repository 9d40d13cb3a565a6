"""Append-only files of whole processes: kills, system calls, full disks, replicas."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import hiredis
import pytest
from servers import Server, Start, end, info, wait_until

sys.path.append(str(Path(__file__).parents[1] / "evidence"))
import killdrill

NAME = "appendonly.aof"
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
EVERYSEC = ("--appendonly", "yes", "--save", "")


@pytest.fixture
def again(our_server: Start) -> Start:
    """A function (server, *directives) that starts another one in the place of one that ended."""

    def start(server: Server, *directives: str) -> Server:
        found = our_server(*directives, port=server.port, name=server.directory.name)
        wait_until(lambda: type(found.call("DBSIZE")) is int, "it is loaded")
        return found

    return start


def persistence(server: Server) -> dict[str, str]:
    return info(server, "persistence")


def increment(server: Server, seq: int = 1) -> Path:
    return server.directory / "appendonlydir" / f"{NAME}.{seq}.incr.aof"


@pytest.mark.parametrize(("policy", "runs", "longest"), [("always", 2, 0.5), ("everysec", 1, 3.0)])
def test_a_killed_node_has_what_it_acknowledged(monkeypatch, warm, policy, runs, longest):
    """scripts/kill-drill does this a hundred times."""
    monkeypatch.setattr(killdrill, "spawn", warm.start)
    total = killdrill.drill(policy, runs, seed=5, longest=longest)
    assert total.acked and not total.wrong
    assert (total.lost if policy == "always" else total.lost_old) == 0


# --- system calls ---------------------------------------------------------------------------------

CALL = re.compile(r"^\d+ +(write|fdatasync|fsync|sendto)\(\d+<([^>]*)>(.*)$")


def replies_and_syncs(trace: str) -> tuple[int, int]:
    """How many times replies left and the increment was synced; fails at a reply that left while
    something was written and not synced."""
    dirty, replies, syncs = False, 0, 0
    for line in trace.splitlines():
        match = CALL.match(line)
        if match is None:
            continue
        call, place, rest = match.groups()
        if place.endswith(".incr.aof"):
            assert "unfinished" not in rest and not re.search(r"= -1 ", rest), line
            dirty = call == "write"
            syncs += not dirty
        elif call == "sendto" and "socket" in place and re.search(r'^, "[+:$*_,(]', rest):
            assert not dirty, f"this left before the sync of what it rests on: {line}"
            replies += 1
    return replies, syncs


def test_no_reply_leaves_before_the_sync_of_what_it_rests_on(our_server, connect):
    """Told by the system calls of a node under `always`, with eight clients at once."""
    server = our_server(*ALWAYS)
    file = server.directory / "trace"
    tracer = traced(server, file)
    clients = [connect(server.port) for _ in range(8)]
    rounds = 40
    for number in range(rounds):
        for client in clients:
            client.sock.sendall(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$2\r\n%02d\r\n" % number)
            client.sock.sendall(b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n")
        for client in clients:
            assert client.next() == b"OK" and client.next() is not None
    tracer.send_signal(signal.SIGINT)
    tracer.wait(20)
    replies, syncs = replies_and_syncs(file.read_text())
    assert replies >= rounds * len(clients)
    assert rounds <= syncs < replies  # several clients share a sync


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_sync_that_fails(our_server, policy):
    """Under `always` nobody gets a reply any more; else writes are refused till it is made good."""
    server = our_server("--appendonly", "yes", "--appendfsync", policy, "--save", "")
    tracer = traced(server, server.directory / "trace", "-e", "inject=fdatasync:error=EIO")
    if policy == "always":
        with pytest.raises(ConnectionError):
            server.call("SET", "a", 1)
        assert server.process.wait(10) == 1
        assert "Can't persist AOF for fsync error when the AOF fsync policy" in server.log()
    else:
        server.call("SET", "a", 1)
        wait_until(lambda: str(server.call("PING")).startswith("MISCONF"), "it is noticed")
        assert str(server.call("SET", "a", 2)).endswith("AOF file: Input/output error")
    tracer.send_signal(signal.SIGINT)
    tracer.wait(20)
    if policy == "everysec":
        wait_until(lambda: server.call("SET", "a", 2) == b"OK", "it is made good")
        assert server.call("WAITAOF", 1, 0, 10000) == [1, 0]


def traced(server: Server, file: Path, *options: str) -> subprocess.Popen:
    """strace, attached to a server."""
    words = ["strace", "-f", "-y", "-p", str(server.pid), "-o", str(file), "-s", "32"]
    words += ["-e", "trace=write,fsync,fdatasync,sendto", *options]
    try:
        tracer = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    except FileNotFoundError:
        pytest.skip("needs strace (Debian: strace)")
    assert tracer.stderr is not None
    said = tracer.stderr.readline()
    if "attached" not in said:
        tracer.kill()
        pytest.skip(f"this machine lets nobody trace a process: {said}")
    return tracer


# --- full disks -----------------------------------------------------------------------------------


def limit_files(server: Server, size: int | str) -> None:
    """Let no file grow beyond so many bytes, which the operating system reports as it does a full
    disk: by an error of write, perhaps after a part."""
    subprocess.run(["prlimit", f"--pid={server.pid}", f"--fsize={size}:"], check=True)


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_a_disk_that_is_full_and_has_room_again(our_server, again, policy):
    directives = ("--appendonly", "yes", "--appendfsync", policy, "--save", "")
    server = our_server(*directives)
    limit_files(server, 10_000)
    acked = 0
    while True:
        reply = server.call("SET", f"k{acked}", "x" * 1000)
        if reply != b"OK":
            break
        acked += 1
    assert str(reply).startswith("MISCONF Errors writing to the AOF file: File too large")
    assert str(server.call("PING")).startswith("MISCONF")
    assert persistence(server)["aof_last_write_status"] == "err"
    assert server.log().count("Error writing to the AOF file: File too large") == 1
    if policy == "everysec":
        assert server.call("GET", "k0") == b"x" * 1000
    else:
        assert str(server.call("GET", "k0")).startswith("MISCONF")
    checked = subprocess.run(["redis-check-aof", increment(server)], capture_output=True)
    assert checked.returncode == 0, checked.stdout
    limit_files(server, "unlimited")
    wait_until(lambda: server.call("PING") == b"PONG", "there is room again")
    assert "AOF write error looks solved" in server.log()
    assert server.call("SET", "last", "1") == b"OK"
    server.kill()
    server = again(server, *directives)
    assert server.call("EXISTS", *[f"k{number}" for number in range(acked)]) == acked
    assert server.call("GET", "last") == b"1"


def test_a_device_that_is_always_full(our_server, again):
    server = our_server(*EVERYSEC)
    server.kill()
    increment(server).unlink()
    increment(server).symlink_to("/dev/full")
    server = again(server, *EVERYSEC)
    server.call("SET", "a", 1)
    wait_until(lambda: str(server.call("PING")).startswith("MISCONF"), "it is noticed")
    assert "No space left on device" in server.log()
    assert server.call("GET", "a") == b"1"


# --- rewriting, and turning it on and off ---------------------------------------------------------


def test_a_rewrite_takes_the_changes_meanwhile_along(our_server, again):
    server = our_server(*ALWAYS)
    for number in range(5):
        server.call("SET", f"k{number}", "before")
    server.call("CONFIG", "SET", "rdb-key-save-delay", "100000")
    assert server.call("BGREWRITEAOF") == b"Background append only file rewriting started"
    facts = persistence(server)
    assert facts["aof_rewrite_in_progress"] == "1"
    server.call("SET", "k0", "during")
    again_now = str(server.call("BGREWRITEAOF"))
    assert again_now == "ERR Background append only file rewriting already in progress"
    assert str(server.call("BGSAVE")).startswith("ERR Another child process is active (AOF?)")
    assert server.call("BGSAVE", "SCHEDULE") == b"Background saving scheduled"
    wait_until(lambda: persistence(server)["aof_rewrite_in_progress"] == "0", "it is over")
    facts = persistence(server)
    assert (facts["aof_rewrites"], facts["aof_last_bgrewrite_status"]) == ("1", "ok")
    wait_until(lambda: (server.directory / "dump.rdb").exists(), "the save follows")
    server.kill()
    assert again(server, *ALWAYS).call("MGET", "k0", "k4") == [b"during", b"before"]


def test_a_rewrite_that_is_killed_changes_nothing(our_server, again):
    server = our_server(*ALWAYS, "--rdb-key-save-delay", "100000")
    server.call("MSET", *[word for number in range(50) for word in (f"k{number}", "v")])
    server.call("BGREWRITEAOF")
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    wait_until(lambda: persistence(server)["aof_last_bgrewrite_status"] == "err", "it is noticed")
    assert "Background AOF rewrite terminated by signal 9" in server.log()
    server.call("SET", "late", "1")
    server.kill()
    assert not list(server.directory.glob("temp-*"))
    assert again(server, *ALWAYS).call("DBSIZE") == 51


def test_on_and_off_at_run_time(our_server, again):
    server = our_server("--save", "")
    server.call("SET", "a", 1)
    server.call("CONFIG", "SET", "appendonly", "yes")
    wait_until(lambda: persistence(server)["aof_rewrite_in_progress"] == "0", "there is a base")
    server.call("SET", "b", 1)
    assert server.call("WAITAOF", 1, 0, 5000) == [1, 0]
    server.call("CONFIG", "SET", "appendonly", "no")
    server.call("SET", "c", 1)
    server.kill()
    server = again(server, *EVERYSEC)
    assert server.call("MGET", "a", "b", "c") == [b"1", b"1", None]


def test_the_end_of_the_process_waits_for_the_first_base(our_server, again):
    server = our_server("--save", "", "--rdb-key-save-delay", "50000")
    server.call("MSET", *[word for number in range(20) for word in (f"k{number}", "v")])
    server.call("CONFIG", "SET", "appendonly", "yes")
    assert str(server.call("SHUTDOWN")) == "ERR Errors trying to SHUTDOWN. Check logs."
    assert "Writing initial AOF, can't exit" in server.log()
    wait_until(lambda: persistence(server)["aof_rewrite_in_progress"] == "0", "there is a base")
    server.call("SET", "late", 1)
    assert end(server) == 0
    assert "Calling fsync() on the AOF file." in server.log()
    assert again(server, *EVERYSEC).call("DBSIZE") == 21


def test_flushing_everything_and_loading_again(our_server, again):
    server = our_server(*EVERYSEC, "--enable-debug-command", "yes")
    server.call("SET", "a", 1)
    server.call("FLUSHALL")
    server.call("SET", "b", 1)
    assert server.call("DEBUG", "LOADAOF") == b"OK"
    assert server.call("KEYS", "*") == [b"b"]
    assert server.call("DEBUG", "RELOAD") == b"OK"
    server.call("SET", "c", 1)
    server.kill()
    assert sorted(again(server, *EVERYSEC).call("KEYS", "*")) == [b"b", b"c"]


def test_a_broken_manifest_or_part_ends_the_start(our_server):
    server = our_server(*EVERYSEC)
    server.call("SET", "a", 1)
    server.kill()
    manifest = server.directory / "appendonlydir" / f"{NAME}.manifest"
    whole, data = manifest.read_bytes(), increment(server).read_bytes()
    for path, content, text in (
        (manifest, whole + b"file x seq 1 type y\n", "Unknown AOF file type, at line 3"),
        (manifest, whole + b"file x seq 9 type i\n", "Unable to obtain the AOF file x length"),
        (increment(server), data + b"nonsense", f"at offset {len(data)}"),
    ):
        before = path.read_bytes()
        path.write_bytes(content)
        with pytest.raises(pytest.fail.Exception):
            our_server(*EVERYSEC, port=server.port, name=server.directory.name)
        assert text in server.log()
        path.write_bytes(before)


# --- replicas -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "other"), [("our", "our"), ("our", "valkey"), ("valkey", "our")])
def test_waitaof_asks_replicas(request, our_server, again, kind, other):
    """A replica that has been synced writes the data set it got to its own file, from anew."""
    primary = request.getfixturevalue(f"{kind}_server")(
        *("--appendonly", "yes", "--save", "", "--repl-diskless-sync-delay", "0")
    )
    primary.call("SET", "before", 1)
    replica = request.getfixturevalue(f"{other}_server")("--appendonly", "yes", "--save", "")
    replica.call("SET", "old", 1)
    replica.call("REPLICAOF", "127.0.0.1", primary.port)
    wait_until(lambda: info(replica, "replication")["master_link_status"] == "up", "it follows")
    wait_until(lambda: persistence(replica)["aof_rewrite_in_progress"] == "0", "it has a base")
    assert str(replica.call("WAITAOF", 0, 0, 0)).startswith("ERR WAITAOF cannot be used with rep")
    assert on_one_connection(primary, ("SET", "a", 1), ("WAITAOF", 1, 1, 10000))[1] == [1, 1]
    if other == "our":
        replica.kill()
        replica = again(replica, *EVERYSEC)
        assert sorted(replica.call("KEYS", "*")) == [b"a", b"before"]


def test_a_replica_that_cannot_write_takes_no_more_until_it_can(our_server):
    primary = our_server(*EVERYSEC, "--repl-diskless-sync-delay", "0")
    follows = ("--replicaof", f"127.0.0.1 {primary.port}")
    replica = our_server(*EVERYSEC, *follows)
    wait_until(lambda: info(replica, "replication")["master_link_status"] == "up", "it follows")
    wait_until(lambda: persistence(replica)["aof_rewrite_in_progress"] == "0", "it has a base")
    limit_files(replica, 10_000)
    for number in range(30):
        primary.call("SET", f"k{number}", "x" * 1000)
    wait_until(lambda: info(replica, "replication")["master_link_status"] == "down", "it stops")
    assert persistence(replica)["aof_last_write_status"] == "err"
    primary.call("SET", "late", 1)
    limit_files(replica, "unlimited")
    wait_until(lambda: replica.call("GET", "late") == b"1", "it goes on")
    assert replica.call("DBSIZE") == 31


def on_one_connection(server: Server, *commands: tuple) -> list:
    with socket.create_connection(("127.0.0.1", server.port), 20) as sock:
        sock.sendall(b"".join(map(hiredis.pack_command, commands)))
        reader, replies = hiredis.Reader(), []
        while len(replies) < len(commands):
            while (reply := reader.gets()) is False:
                reader.feed(sock.recv(65536))
            replies.append(reply)
        return replies


def test_waitaof_says_what_a_real_server_does(valkey_server, our_server):
    real, ours = valkey_server(), our_server("--save", "")
    for line in ("0 0", "2 0 0", "-1 0 0", "0 -1 0", "x 0 0", "0 x 0", "0 0 x", "0 0 -1", "1 0 9"):
        words = ("WAITAOF", *line.split())
        assert str(ours.call(*words)) == str(real.call(*words)), line
    assert ours.call("WAITAOF", 0, 1, 10) == real.call("WAITAOF", 0, 1, 10) == [0, 0]
