"""The rules of saving and loading, on a disk that loses power: without processes and time."""

import random
import re

import pytest
from local import Local, local_node

from node.data.hash import Hash
from node.disk import PowerLoss, SimulatedDisk
from node.persistence.checkpoint import Loader
from node.persistence.loading import LoadError, load
from node.persistence.rdb import RdbError, write
from node.shutdown import Wish

LATER = 4102444800000  # ms; the year 2100


def node_on(disk: SimulatedDisk, **directives: object) -> Local:
    local = local_node(disk, **directives)
    local.node.saves.saves_by_itself = True
    return local


def started(disk: SimulatedDisk, **directives: object) -> Local:
    """A node that has loaded what the disk holds."""
    local = node_on(disk, **directives)
    for _ in load(local.node, "dump.rdb"):
        assert local.node.loading is not None
    assert local.node.loading is None
    return local


def test_a_hash_of_which_the_time_of_all_fields_has_come_is_not_loaded():
    disk = SimulatedDisk(random.Random(1))
    local = node_on(disk)
    client = local.client()
    for key, fields in (("gone", ("a",)), ("stays", ("a", "b"))):
        client.call("HSET", key, *(word for field in fields for word in (field, "1")))
        db = local.node.keyspace[0]
        value = db.make(key.encode(), Hash)
        value.set_deadline(b"a", 1)
        db.arm_fields(key.encode(), value)
    client.call("SAVE")
    again = started(disk)
    assert again.node.saves.keys_loaded == 1 and again.node.saves.keys_expired == 1
    assert again.client().call("KEYS", "*") == [b"stays"]


def test_a_save_is_whole_or_not_there():
    for power in range(30):
        disk = SimulatedDisk(random.Random(power))
        local = node_on(disk)
        client = local.client()
        client.call("SET", "a", "old")
        client.call("SAVE")
        client.call("SET", "a", "new")
        disk.power = power
        try:
            finished = local.node.saves.save()
        except PowerLoss:
            finished = False
        disk.crash()
        found = started(disk).client().call("GET", "a")
        assert found == b"new" if finished else found in (b"old", b"new")
    assert finished


def test_save_points_ask_for_enough_changes_and_enough_time():
    local = node_on(SimulatedDisk(random.Random(1)), save=((10, 3), (100, 1)))
    client, saves = local.client(), local.node.saves
    client.call("MSET", "a", 1, "b", 2)
    local.advance(11_000)
    assert saves.started == 0 and saves.changes() == 2
    client.call("SET", "c", 3)
    local.advance(1)
    assert (saves.started, saves.changes()) == (1, 0)
    client.call("SET", "d", 4)
    local.advance(100_000)
    assert saves.started == 1
    local.advance(1001)
    assert saves.started == 2
    local.node.config.set([(b"save", b"")])
    client.call("SET", "e", 5)
    local.advance(1_000_000)
    assert saves.started == 2


class Full(SimulatedDisk):
    """A disk without room."""

    def append_to(self, name):
        raise OSError(28, "No space left on device", name)


def test_after_a_failure_the_next_try_waits():
    local = node_on(Full(random.Random(1)), save=((1, 1),))
    client, saves = local.client(), local.node.saves
    assert client.call("SET", "a", 1) == b"OK"
    local.advance(1001)
    assert saves.failed and saves.started == 1
    assert str(client.call("SET", "a", 2)).startswith("MISCONF")
    assert str(client.call("PING")).startswith("MISCONF")
    assert client.call("GET", "a") == b"1"
    local.advance(5000)
    assert saves.started == 1
    local.advance(1)
    assert saves.started == 2
    local.node.config.set([(b"save", b"")])
    assert client.call("SET", "a", 2) == b"OK"


def test_a_replica_keeps_what_its_primary_has_not_deleted():
    disk = SimulatedDisk(random.Random(1))
    local = node_on(disk)
    client = local.client()
    client.call("SET", "soon", 1, "PX", 100)
    client.call("SET", "later", 1, "PXAT", LATER)
    client.call("SAVE")
    local.clock.advance(200)
    for follows, count in ((None, 1), (("127.0.0.1", 1), 2)):
        again = node_on(disk, replicaof=follows)
        again.clock.advance(200)
        again.node.begin_turn()
        for _ in load(again.node, "dump.rdb"):
            continue
        assert len(again.node.keyspace[0]) == count


def test_a_damaged_file_is_refused_wherever_it_is_damaged():
    disk = SimulatedDisk(random.Random(1))
    client = node_on(disk).client()
    client.call("MSET", *[word for i in range(30) for word in (f"key:{i}", f"value:{i}" * i)])
    client.call("RPUSH", "list", *range(200))
    client.call("HSET", "hash", *range(200))
    client.call("SAVE")
    whole = disk.read("dump.rdb")
    rng = random.Random(2)
    for _ in range(500):
        at = rng.randrange(len(whole))
        flipped = whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :]
        for damaged in (whole[:at], flipped):
            disk.remove("dump.rdb")
            disk.append_to("dump.rdb").write(damaged)
            with pytest.raises(LoadError, match=r"at offset \d+"):
                started(disk, databases=1)


def test_of_a_file_that_is_not_read_to_its_end_nothing_is_kept():
    disk = SimulatedDisk(random.Random(1))
    local = node_on(disk, loading_process_events_interval_bytes=1024)
    local.client().call("MSET", *[word for i in range(500) for word in (f"key:{i}", "value")])
    assert local.node.saves.save()
    steps = load(
        (again := node_on(disk, loading_process_events_interval_bytes=1024)).node, "dump.rdb"
    )
    next(steps)
    assert len(again.node.keyspace[0]) > 0
    assert str(again.client().call("GET", "key:1")).startswith("LOADING")
    steps.close()
    assert len(again.node.keyspace[0]) == 0 and again.node.loading is None


def test_the_log_tells_how_far_loading_is(caplog):
    disk = SimulatedDisk(random.Random(1))
    slow = {"loading_process_events_interval_bytes": 1024, "key_load_delay": 10_000}
    local = node_on(disk)
    local.client().call("MSET", *[word for i in range(1000) for word in (f"key:{i}", "value")])
    assert local.node.saves.save()
    again = node_on(disk, **slow)
    with caplog.at_level("INFO"):
        for _ in load(again.node, "dump.rdb"):
            again.node.begin_turn()
    told = [line for line in caplog.messages if line.startswith("Loading the data set: ")]
    assert 3 <= len(told) <= 6  # 10 s in all, a line each 2 s
    assert re.search(r"0 of 0 MB, 4\d%, about \d seconds left", "".join(told))


def test_a_key_that_is_there_twice_is_a_broken_file():
    local = local_node()
    twice = [(0, b"a", b"1", None, None, None), (0, b"a", b"2", None, None, None)]
    with pytest.raises(RdbError, match="twice"):
        Loader(local.node.keyspace).receive(b"".join(write(twice)))


def test_idle_times_are_kept_where_the_policy_is_to_evict_by_them():
    for policy, idle in (("allkeys-lru", 300), ("noeviction", 0)):
        disk = SimulatedDisk(random.Random(1))
        local = node_on(disk, maxmemory_policy=policy)
        client = local.client()
        client.call("TOUCH", "nothing")  # accesses are noted from here on
        client.call("SET", "old", 1)
        client.call("HSET", "old-hash", "a", 1)
        local.advance(300_000)
        client.call("SET", "new", 1)
        client.call("SAVE")
        again = started(disk, maxmemory_policy=policy).client()
        found = [again.call("OBJECT", "IDLETIME", key) for key in ("old", "old-hash", "new")]
        assert found == [idle, idle, 0]


def test_frequencies_are_kept_where_the_policy_is_to_evict_by_them():
    for policy, kept in (("allkeys-lfu", True), ("noeviction", False)):
        disk = SimulatedDisk(random.Random(1))
        client = node_on(disk).client()
        assert client.call("CONFIG", "SET", "maxmemory-policy", policy) == b"OK"
        client.call("SET", "often", 1)
        payload = client.call("DUMP", "often")
        client.call("RESTORE", "often", 0, payload, "REPLACE", "FREQ", 200)
        client.call("HSET", "seldom", "a", 1)
        client.call("SAVE")
        assert (b"\xf9\xc8\x00\x05often" in disk.read("dump.rdb")) == kept
        again = node_on(disk)
        client = again.client()
        client.call("CONFIG", "SET", "maxmemory-policy", "volatile-lfu")
        again.node.begin_turn()
        for _ in load(again.node, "dump.rdb"):
            continue
        assert client.call("OBJECT", "FREQ", "often") == (200 if kept else 5)
        assert client.call("OBJECT", "FREQ", "seldom") <= 6


def test_without_checksums_none_is_written_or_asked_for():
    disk = SimulatedDisk(random.Random(1))
    client = node_on(disk, rdbchecksum=False).client()
    client.call("SET", "a", "value")
    client.call("SAVE")
    data = disk.read("dump.rdb")
    assert data[-8:] == bytes(8)
    disk.remove("dump.rdb")
    disk.append_to("dump.rdb").write(data.replace(b"value", b"other"))
    assert started(disk).client().call("GET", "a") == b"other"


def test_an_end_that_is_forced_needs_no_file():
    local = node_on(Full(random.Random(1)))
    ended = []
    local.node.on_shutdown = lambda: ended.append(True)
    local.node.shutdown.begin(Wish(save=True))
    assert not ended and local.node.shutdown.wish is None
    local.node.shutdown.begin(Wish(save=True, force=True))
    assert ended == [True]


def test_nothing_is_taken_on_after_the_last_save():
    local = node_on(SimulatedDisk(random.Random(1)))
    client, other = local.client(), local.client()
    client.call("SET", "a", 1)
    assert client.call("SHUTDOWN") is False
    assert other.call("SET", "a", 2) is False and other.call("GET", "a") is False


@pytest.mark.parametrize("words", ["SAVE NOSAVE", "ABORT NOW", "LATER"])
def test_shutdown_words_that_do_not_fit(words):
    reply = local_node().client().call("SHUTDOWN", *words.split())
    assert str(reply) == "ERR syntax error"


def test_a_reload_is_not_logged():
    local = node_on(SimulatedDisk(random.Random(1)), enable_debug_command="yes")
    client = local.client()
    client.call("SET", "a", "1")
    local.node.log.keep_backlog(1 << 20)
    cursor = local.node.log.open_cursor()
    assert client.call("DEBUG", "RELOAD") == b"OK"
    client.call("SET", "b", "2")
    local.node.log.flush()
    logged = local.node.log.read(cursor, 1 << 20)
    assert b"DEBUG" not in logged and b"SET" in logged
    assert sorted(client.call("KEYS", "*")) == [b"a", b"b"]
