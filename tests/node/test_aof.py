"""The append-only file of a node without sockets, on a disk that loses what wasn't synced."""

import random
from typing import Any

import hiredis
import pytest
from local import Local, local_node

from node.background import AtOnce
from node.disk import PowerLoss, SimulatedDisk
from node.persistence.aof.manifest import Manifest
from node.persistence.aof.reader import Reader
from node.persistence.aof.rewriting import Rewrite
from node.persistence.aof.writer import NotDurable

NAME = "appendonlydir/appendonly.aof"


def started(disk: Any, **directives: Any) -> Local:
    """A node that has loaded what the disk holds."""
    local = local_node(disk, **{"appendonly": True, "save": (), **directives})
    local.node.begin_turn()
    for _ in local.node.load():
        continue
    local.node.end_turn()
    return local


@pytest.fixture
def disk() -> SimulatedDisk:
    return SimulatedDisk(random.Random(1))


def manifest(disk: SimulatedDisk) -> Manifest:
    return Manifest.parse(disk.read(NAME + ".manifest"))


def contents(local: Local) -> dict[bytes, Any]:
    client = local.client()
    return {key: client.call("DUMP", key) for key in sorted(client.call("KEYS", "*"))}


def test_what_is_written_is_there_after_the_next_start(disk):
    local = started(disk, appendfsync="always")
    client = local.client()
    client.call("SET", "a", 1)
    client.call("MULTI")
    client.call("RPUSH", "l", 1, 2)
    client.call("SELECT", 3)
    client.call("SET", "b", 2, "EX", 100)
    client.call("EXEC")
    assert disk.names("appendonlydir") == [
        "appendonly.aof.1.base.rdb",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
    ]
    disk.crash()
    again = started(disk).client()
    assert again.call("GET", "a") == b"1" and again.call("LRANGE", "l", 0, -1) == [b"1", b"2"]
    again.call("SELECT", 3)
    assert again.call("TTL", "b") == 100


def test_a_transaction_is_there_as_a_whole_or_not_at_all(disk):
    local = started(disk, appendfsync="no")
    client = local.client()
    seen = set()
    for number in range(100):
        client.call("MULTI")
        client.call("INCR", "a")
        client.call("INCR", "b")
        client.call("EXEC")
        if number % 10 == 9:
            disk.crash()
            local = started(disk, appendfsync="no", aof_load_corrupt_tail_max_size=1 << 20)
            client = local.client()
            a, b = client.call("MGET", "a", "b")
            assert a == b
            seen.add(a)
    assert len(seen) > 1


@pytest.mark.parametrize("form", [True, False])
def test_a_loss_of_power_at_any_moment_loses_nothing_that_was_acknowledged(form):
    """Through starts, rewrites and turning the file on and off."""
    for seed in range(15):
        rng = random.Random(seed)
        disk = SimulatedDisk(rng)
        acked = 0
        directives = {
            "appendfsync": "always",
            "aof_use_rdb_preamble": form,
            "aof_load_corrupt_tail_max_size": 1 << 20,
        }
        for _ in range(6):
            disk.power = rng.randint(0, 60)
            try:
                local = started(disk, **directives)
                client = local.client()
                found = int(client.call("GET", "count") or 0)
                assert acked <= found <= acked + 1
                while True:
                    if rng.random() < 0.1:
                        client.call("BGREWRITEAOF")
                    acked = client.call("INCR", "count")
            except PowerLoss:
                disk.crash()


@pytest.mark.parametrize("policy", ["everysec", "no"])
def test_a_loss_of_power_amid_a_rewrite_leaves_what_can_be_loaded(policy):
    """All increments but the last are whole, though replies didn't wait for that."""
    for seed in range(30):
        disk = SimulatedDisk(random.Random(seed))
        local = started(disk, appendfsync=policy)
        local.node.background = NeverDone()
        client = local.client()
        for number in range(5):
            client.call("SET", "a", number)
        client.call("BGREWRITEAOF")
        client.call("SET", "a", 5)
        disk.crash()
        again = started(disk, aof_load_corrupt_tail_max_size=1 << 20).client()
        assert again.call("GET", "a") in (b"4", b"5")


class NeverDone(AtOnce):
    """Whose work has always just begun."""

    def run(self, work, done):
        return 1

    def call(self, call, done):
        pass


def test_a_rewrite_by_itself_waits_for_no_large_sync(disk):
    local = started(disk, auto_aof_rewrite_min_size=1000)
    background = local.node.background = Slow()
    client, aof = local.client(), local.node.aof
    client.call("SET", "a", "b" * (2 << 20))
    local.advance(100)
    assert len(background.calls) == 1 and not aof.rewriting.started
    client.call("SET", "a", "b")
    local.advance(100)
    assert not aof.rewriting.started
    background.finish()
    local.advance(100)
    assert aof.rewriting.started == 1


def test_a_rewrite_replaces_what_was_before(disk):
    local = started(disk, aof_use_rdb_preamble=False)
    client = local.client()
    for number in range(100):
        client.call("SET", "a", number)
    before = client.call("INFO", "persistence")
    assert client.call("BGREWRITEAOF") == b"Background append only file rewriting started"
    assert disk.names("appendonlydir") == [
        "appendonly.aof.2.base.aof",
        "appendonly.aof.2.incr.aof",
        "appendonly.aof.manifest",
    ]
    assert manifest(disk).history == ()
    assert disk.read(f"{NAME}.2.base.aof").endswith(b"SET\r\n$1\r\na\r\n$2\r\n99\r\n")
    assert b"aof_rewrites:1" not in before
    client.call("SET", "b", 1)
    assert disk.read(f"{NAME}.2.incr.aof").startswith(b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n")
    assert contents(started(disk)) == contents(local)


def test_rewriting_by_itself_once_the_file_has_grown(disk):
    directives = {"auto_aof_rewrite_min_size": 1000, "auto_aof_rewrite_percentage": 100}
    local = started(disk, **directives)
    client = local.client()
    for _ in range(50):
        client.call("SET", "a", "b" * 20)
    local.advance(100)
    assert local.node.aof.rewriting.started == 1 and local.node.aof.size() < 200
    for _ in range(50):
        client.call("SET", "a", "b" * 20)
    local.advance(100)
    assert local.node.aof.rewriting.started == 2


class Flaky(SimulatedDisk):
    """A disk of which writes, and syncs, can be made to fail. room: bytes that go into the files
    of that ending, or None for no end."""

    room: int | None = None
    sync_fails = False
    ending = ".incr.aof"

    def append_to(self, name):
        file = super().append_to(name)
        return FlakyFile(self, file) if name.endswith(self.ending) else file


class FlakyFile:
    def __init__(self, disk, file):
        self._disk, self._file = disk, file

    def __getattr__(self, name):
        return getattr(self._file, name)

    def write(self, data):
        room = self._disk.room
        if room is None:
            self._file.write(data)
            return
        self._file.write(data[:room])
        self._disk.room = max(room - len(data), 0)
        if len(data) > room:
            raise OSError(28, "No space left on device")

    def sync(self):
        if self._disk.sync_fails:
            raise OSError(5, "Input/output error")
        self._file.sync()


SET_A = hiredis.pack_command(("SET", "a", 1))
FULL = "MISCONF Errors writing to the AOF file: No space left on device"


def test_when_the_disk_is_full_writes_are_refused_until_it_is_not():
    disk = Flaky(random.Random(1))
    local = started(disk, appendfsync="everysec")
    client = local.client()
    client.call("SET", "a", 1)
    disk.room = 10
    assert client.call("SET", "a", 2) == b"OK"  # as everysec has promised nothing yet
    assert str(client.call("SET", "a", 3)) == FULL and str(client.call("PING")) == FULL
    assert client.call("GET", "a") == b"2"
    assert str(client.call("EVAL", "return redis.call('set', 'a', 3)", 0)).startswith("MISCONF")
    info = client.call("INFO", "persistence")
    assert b"aof_last_write_status:err" in info and b"aof_buffer_length:0" not in info
    assert disk.read(f"{NAME}.1.incr.aof").endswith(b"$1\r\n1\r\n")  # no half command
    local.advance(100)
    assert str(client.call("SET", "a", 3)) == FULL
    disk.room = None
    local.advance(100)
    assert client.call("SET", "a", 4) == b"OK"
    assert b"aof_last_write_status:ok" in client.call("INFO", "persistence")
    assert started(disk).client().call("GET", "a") == b"4"


def test_under_always_nobody_is_told_what_could_not_be_written():
    disk = Flaky(random.Random(1))
    local = started(disk, appendfsync="always")
    client, other, listener = local.client(), local.client(), local.client()
    client.call("SET", "a", 1)
    listener.call("SUBSCRIBE", "news")
    disk.room = 10
    refusal = str(client.call("SET", "a", 2))
    assert refusal.startswith(FULL) and "not durable" in refusal
    for command in (("GET", "a"), ("SET", "a", 3), ("PING",), ("EVAL", "return 1", 0)):
        assert str(other.call(*command)) == FULL
    other.call("MULTI")
    assert str(other.call("GET", "a")) == FULL
    assert str(other.call("EXEC")).startswith("EXECABORT")
    assert b"aof_last_write_status:err" in other.call("INFO", "persistence")
    pending = started(disk, appendfsync="always").client().call("GET", "a")
    assert pending == b"1"
    disk.room = None
    local.advance(100)
    assert other.call("GET", "a") == b"2"
    assert started(disk).client().call("GET", "a") == b"2"


def test_under_always_every_reply_of_a_turn_that_fails_is_replaced():
    disk = Flaky(random.Random(1))
    local = started(disk, appendfsync="always")
    client, tracking = local.client(), local.client()
    tracking.call("HELLO", 3)
    tracking.call("CLIENT", "TRACKING", "ON")
    tracking.call("GET", "a")
    disk.room = 0
    replies = client.raw(b"".join(map(hiredis.pack_command, [("SET", "a", 1), ("GET", "a")])))
    assert replies.count(b"-MISCONF") == 2 and b"$1" not in replies
    assert tracking.session.dropped


def test_under_always_a_sync_that_fails_ends_the_process():
    disk = Flaky(random.Random(1))
    local = started(disk, appendfsync="always")
    client = local.client()
    for command in (("SET", "a", 1), ("CONFIG", "SET", "appendonly", "no"), ("BGREWRITEAOF",)):
        disk.sync_fails = True
        with pytest.raises(NotDurable):
            client.raw(SET_A + hiredis.pack_command(command))
        disk.sync_fails = False


def test_under_everysec_a_sync_that_fails_is_told_and_makes_a_rewrite_due():
    disk = Flaky(random.Random(1))
    local = started(disk, appendfsync="everysec")
    client, rewriting = local.client(), local.node.aof.rewriting
    disk.sync_fails = True
    client.call("SET", "a", 1)
    rewriting.running = Rewrite(0, True)  # so that there can be no other now
    local.advance(1001)
    assert "Input/output error" in str(client.call("SET", "a", 2))
    assert client.call("GET", "a") == b"1"
    disk.sync_fails = False
    local.advance(1001)
    assert client.call("SET", "a", 2) == b"OK"
    assert client.call("WAITAOF", 1, 0, 0) is False
    local.advance(1001)
    assert client.next() is False  # what the failed sync should have covered may be lost
    rewriting.running = None
    local.advance(100)
    assert rewriting.started == 1 and manifest(disk).base_seq == 2
    assert client.next() == [1, 0]


def test_a_rewrite_that_fails_leaves_what_was_before(disk):
    disk = Flaky(random.Random(1))
    disk.ending = ".aof"
    local = started(disk)
    client = local.client()
    client.call("SET", "a", 1)
    original = disk.append_to

    def refuse(name):
        if name.startswith("temp-rewriteaof"):
            raise OSError(28, "No space left on device")
        return original(name)

    disk.append_to = refuse
    for _ in range(3):
        client.call("BGREWRITEAOF")
    info = client.call("INFO", "persistence")
    assert b"aof_last_bgrewrite_status:err" in info
    assert b"aof_rewrites_consecutive_failures:3" in info
    assert contents(started(disk)) == contents(local)
    rewriting = local.node.aof.rewriting
    rewriting.scheduled = True
    local.advance(100)
    assert rewriting.started == 3  # it waits a minute
    disk.append_to = original
    local.advance(60_001)
    assert rewriting.started == 4 and not rewriting.failed and not rewriting.scheduled
    assert contents(started(disk)) == contents(local)


def test_on_and_off_at_run_time(disk):
    local = started(disk, appendonly=False)
    client = local.client()
    client.call("SET", "a", 1)
    assert disk.names("appendonlydir") == []
    client.call("CONFIG", "SET", "appendonly", "yes")
    client.call("SET", "b", 1)
    assert contents(started(disk)) == contents(local)
    client.call("CONFIG", "SET", "appendonly", "no")
    client.call("SET", "c", 1)
    assert client.call("BGREWRITEAOF") == b"Background append only file rewriting started"
    assert contents(started(disk)) == contents(local)
    assert b"aof_enabled:0" in client.call("INFO", "persistence")


def test_turned_on_amid_a_transaction_it_begins_after_that(disk):
    local = started(disk, appendonly=False)
    client = local.client()
    client.call("MULTI")
    client.call("CONFIG", "SET", "appendonly", "yes")
    client.call("SET", "a", 1)
    client.call("EXEC")
    assert local.node.aof.state == "waiting"
    local.advance(100)
    assert local.node.aof.state == "on"
    assert contents(started(disk)) == contents(local)


def test_a_directory_that_cannot_be_made_leaves_it_off(disk):
    class NoDirectory(SimulatedDisk):
        def make_directory(self, name):
            raise OSError(13, "Permission denied")

    local = started(NoDirectory(random.Random(1)), appendonly=False)
    reply = local.client().call("CONFIG", "SET", "appendonly", "yes")
    assert "Unable to turn on AOF" in str(reply)
    assert local.client().call("CONFIG", "GET", "appendonly") == [b"appendonly", b"no"]


def test_what_is_for_replicas_only_is_not_in_the_file(disk):
    local = started(disk)
    client = local.client()
    client.call("SET", "a", 1)
    client.call("PUBLISH", "news", "today")
    script = "redis.set_repl(redis.REPL_REPLICA) redis.call('set', 'b', 1)"
    client.call("EVAL", script + "redis.set_repl(redis.REPL_AOF) redis.call('set', 'c', 1)", 0)
    data = disk.read(f"{NAME}.1.incr.aof")
    assert b"news" not in data and b"$1\r\nb\r\n" not in data and b"$1\r\nc\r\n" in data


def test_times_are_told_once_a_second(disk):
    local = started(disk, aof_timestamp_enabled=True)
    client = local.client()
    for _ in range(4):
        client.call("INCR", "a")
        client.call("INCR", "a")
        local.advance(500)
    reader = Reader()
    assert len(reader.feed(disk.read(f"{NAME}.1.incr.aof"))) == 9
    seconds = [second for second, _ in reader.timestamps]
    assert len(seconds) == 2 and seconds[1] == seconds[0] + 1
    assert contents(started(disk)) == contents(local)


class Slow(AtOnce):
    """Calls that wait go on until `finish`."""

    def __init__(self):
        self.calls = []

    def call(self, call, done):
        self.calls.append((call, done))

    def finish(self):
        calls, self.calls = self.calls, []
        for call, done in calls:
            call()
            done(None)


def test_writing_waits_up_to_two_seconds_for_a_sync_that_takes_long(disk):
    local = started(disk, appendfsync="everysec")
    background = local.node.background = Slow()
    client, writer = local.client(), local.node.aof.writer
    client.call("SET", "a", 1)
    local.advance(1000)
    assert len(background.calls) == 1
    size = writer.size
    client.call("SET", "a", 2)
    local.advance(1900)
    assert writer.size == size and writer.pending() > 0
    local.advance(100)
    assert (
        writer.size > size and writer.delayed == 1 and writer.synced_offset < local.node.log.offset
    )
    assert len(background.calls) == 1
    background.finish()
    local.advance(1000)
    background.finish()
    assert writer.synced_offset == local.node.log.offset


def test_while_others_use_the_disk_it_may_be_spared(disk):
    local = started(disk, appendfsync="always", no_appendfsync_on_rewrite=True)
    client, aof = local.client(), local.node.aof
    client.call("SET", "a", 1)
    aof.rewriting.running = Rewrite(0, True)
    client.call("SET", "a", 2)
    assert aof.synced_offset() < local.node.log.offset
    aof.rewriting.running = None
    local.advance(100)
    assert aof.synced_offset() == local.node.log.offset


def test_waitaof_here(disk):
    local = started(disk, appendfsync="everysec")
    client = local.client()
    assert client.call("WAITAOF", 1, 0, 0) == [1, 0]  # nothing has been written
    client.call("SET", "a", 1)
    assert client.call("WAITAOF", 0, 0, 0) == [0, 0]
    assert client.call("WAITAOF", 1, 0, 0) is False
    local.advance(1000)
    assert client.next() == [1, 0]
    client.call("SET", "a", 1)
    assert client.call("WAITAOF", 1, 1, 100) is False
    local.advance(100)
    assert client.next() == [0, 0]
    client.call("CONFIG", "SET", "appendfsync", "always")
    both = hiredis.pack_command(("SET", "a", 2)) + hiredis.pack_command(("WAITAOF", 1, 0, 0))
    assert client.raw(both) == b"+OK\r\n*2\r\n:1\r\n:0\r\n"
    client.call("CONFIG", "SET", "appendfsync", "no")
    client.call("SET", "a", 3)
    assert client.call("WAITAOF", 1, 0, 0) is False
    local.client().call("CONFIG", "SET", "appendonly", "no")
    assert "appendonly is disabled" in str(client.next())


def test_a_history_that_is_to_be_kept_is(disk):
    local = started(disk, aof_disable_auto_gc=True)
    client = local.client()
    client.call("SET", "a", 1)
    client.call("BGREWRITEAOF")
    assert [part.name for part in manifest(disk).history] == [
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.1.base.rdb",
    ]
    assert disk.exists(f"{NAME}.1.base.rdb")
    client.call("CONFIG", "SET", "aof-disable-auto-gc", "no")
    assert manifest(disk).history == () and not disk.exists(f"{NAME}.1.base.rdb")


def test_who_cannot_write_does_not_end_unless_told_to_lose_it():
    disk = Flaky(random.Random(1))
    local = started(disk, appendfsync="everysec")
    ended = []
    local.node.on_shutdown = lambda: ended.append(True)
    client = local.client()
    disk.room = 10
    client.call("SET", "a", 1)
    assert str(client.call("SHUTDOWN")) == "ERR Errors trying to SHUTDOWN. Check logs."
    assert not ended
    client.call("SHUTDOWN", "NOSAVE")
    assert ended
