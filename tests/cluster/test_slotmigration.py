"""Slots that move as a whole: between ours, and between ours and real servers."""

import contextlib
import random
import time
from collections.abc import Callable

import hiredis
import pytest
from moving_company import (
    HALF,
    OVER,
    Company,
    Writer,
    fill,
    form,
    is_linked,
    migrations,
    owned,
    read,
    state_of,
    tags,
)

from cluster.slots import key_slot
from tests.conftest import Connection, ServerProcess, wait_until

Start = Callable[..., Company]
DIRECTIVES = ("--cluster-enabled", "yes", "--cluster-node-timeout", "3000")
PATIENT = ("--slot-migration-max-failover-repl-bytes", "-1")  # a busy machine never gets it all
MANY = 3000  # keys: more than a node sends without a child process


@pytest.fixture
def company(request: pytest.FixtureRequest) -> Start:
    """A function (kinds, *directives, replicas=()) that starts a cluster of two primaries."""

    def start(*kinds: str, replicas: tuple[str, ...] = (), extra: tuple[str, ...] = ()) -> Company:
        def launch(kind: str) -> ServerProcess:
            begin = request.getfixturevalue(f"{kind}_server")
            return begin(*DIRECTIVES, *PATIENT, "--repl-diskless-sync-delay", "0", *extra)

        return form([launch(kind) for kind in kinds], [launch(kind) for kind in replicas])

    return start


@pytest.fixture
def writers() -> "Callable[..., list[Writer]]":
    """A function (company, count, ...) that starts writers to slots of the first node."""
    started: list[Writer] = []

    def start(company: Company, count: int, db: int = 0) -> list[Writer]:
        new = [Writer(company.nodes, tag, db).start() for tag in tags(count, 0, HALF // 2)]
        started.extend(new)
        return new

    yield start
    for writer in started:
        writer.stop()
        writer.close()


@pytest.mark.parametrize("kinds", [("our", "our"), ("our", "valkey"), ("valkey", "our")])
def test_nothing_is_lost_or_doubled_under_load(kinds, company, writers):
    moving = company(*kinds, extra=("--cluster-databases", "2"))
    data = fill(moving.nodes[0], MANY)
    busy = writers(moving, 3) + writers(moving, 1, db=1)
    wait_until(lambda: all(writer.done > 30 for writer in busy), "writers write")
    moving.move(0, 0, HALF // 4, HALF // 4 + 1, HALF // 2)
    seen = [writer.done for writer in busy]
    wait_until(lambda: all(w.done > n + 30 for w, n in zip(busy, seen, strict=True)), "they go on")
    moving.move(1, 0, HALF // 2)
    moving.move(0, 0, HALF // 2)
    seen = [writer.done for writer in busy]
    wait_until(lambda: all(w.done > n + 30 for w, n in zip(busy, seen, strict=True)), "still")
    for writer in busy:
        writer.stop()
        writer.check()
        assert writer.moved
    there = [key for key, value in read(moving.nodes[1], list(data)).items() if value == data[key]]
    here = [key for key, value in read(moving.nodes[0], list(data)).items() if value == data[key]]
    assert len(there) + len(here) == MANY and not set(there) & set(here)
    assert moving.nodes[1].call("DBSIZE") == len(there) + 8 * 3
    wait_until(lambda: moving.nodes[0].call("DBSIZE") == len(here), "the source deletes its own")


def test_replicas_of_both_sides_follow(company, writers):
    moving = company("valkey", "our", replicas=("our", "valkey"))
    data = fill(moving.nodes[0], MANY, HALF // 2)
    busy = writers(moving, 2)
    wait_until(lambda: all(writer.done > 30 for writer in busy), "writers write")
    moving.move(0, 0, HALF // 2)
    for writer in busy:
        writer.stop()
    size = MANY + 2 * 8
    of_source, of_target = moving.replicas
    wait_until(lambda: of_target.call("DBSIZE") == size, "the target's replica has the keys")
    wait_until(lambda: of_source.call("DBSIZE") == 0, "the source's replica has lost them")
    assert [job["state"] for job in migrations(of_target)] == ["success"]
    assert "source_node" not in migrations(of_target)[0]

    moving.nodes[1].kill()
    assert of_target.call("CLUSTER", "FAILOVER", "TAKEOVER") == b"OK"
    heir = of_target.call("CLUSTER", "MYID").decode()
    wait_until(lambda: owned(moving.nodes[0], heir, 0, HALF // 2, 16383), "the heir is known", 15)
    assert read(of_target, list(data)) == data
    for writer in busy:
        writer.nodes = [of_target]
        writer._port = of_target.port
        writer.check()


def test_cancelled_at_any_time(company, writers):
    moving = company("our", "our")
    data = fill(moving.nodes[0], MANY, HALF // 2)
    busy = writers(moving, 1)
    rng, outcomes, at = random.Random(3), set(), 0
    for wait_s in (0.0, 0.01, 0.03, 0.08, rng.random() * 0.2):
        assert moving.migrate(at, 0, HALF // 2) == b"OK"
        time.sleep(wait_s)
        moving.nodes[at].call("CLUSTER", "CANCELSLOTMIGRATIONS")
        outcome = moving.outcome(at)
        outcomes.add(outcome)
        if outcome == "success":
            at = 1 - at
        settled(moving, at, len(data))
    busy[0].stop()
    busy[0].check()
    assert read(moving.nodes[at], list(data)) == data
    assert "cancelled" in outcomes


def settled(moving: Company, at: int, keys: int) -> None:
    """The keys are on one side, and both sides say which that is."""
    both, owner = moving.nodes, moving.ids[at]
    wait_until(lambda: all(owned(one, owner, 0, HALF // 2) for one in both), "they agree", 15)
    wait_until(lambda: both[1 - at].call("DBSIZE") == 0, "the other side has none", 15)
    assert both[at].call("DBSIZE") >= keys


@pytest.mark.parametrize(("victim", "wait_s"), [(0, 0.03), (1, 0.05)])
def test_a_killed_side_leaves_the_slots_on_one_side(victim, wait_s, company):
    moving = company("our", "our")
    fill(moving.nodes[0], MANY, HALF // 2)
    assert moving.migrate(0, 0, HALF // 2) == b"OK"
    time.sleep(wait_s)
    moving.nodes[victim].kill()
    survivor = moving.nodes[1 - victim]
    wait_until(lambda: state_of(survivor) in ("", *OVER), "the survivor is done with it", 15)
    it_has_them = (state_of(survivor) == "success") == (victim == 0)
    owner = moving.ids[1 - victim if it_has_them else victim]
    assert owned(survivor, owner, 0, HALF // 2)
    wait_until(lambda: survivor.call("DBSIZE") == MANY * it_has_them, "all or nothing")


def test_a_target_that_wants_a_password(company):
    moving = company("our", "our")
    source, target = moving.nodes
    fill(source, 10, 9)
    target.call("CONFIG", "SET", "requirepass", "secret")
    for password, outcome in (("wrong", "failed"), ("", "failed"), ("secret", "success")):
        assert source.call("CONFIG", "SET", "masterauth", password) == b"OK"
        assert moving.migrate(0, 0, 9) == b"OK"
        assert moving.outcome(0) == outcome
    said = [job["message"] for job in migrations(source)]
    assert said[2].startswith("Failed to AUTH to target node: -WRONGPASS")
    assert said[1].startswith("Received error during handshake to target: -NOAUTH")
    assert owned(source, moving.ids[1], *range(10))


REFUSED = """
CLUSTER MIGRATESLOTS
CLUSTER MIGRATESLOTS SLOTSRANGE 1 2
CLUSTER MIGRATESLOTS SLOTSRANGE 1 NODE x
CLUSTER MIGRATESLOTS SLOTSRANGE 1 2 NODE
CLUSTER MIGRATESLOTS SLOTSRANGE NODE x
CLUSTER MIGRATESLOTS SLOTSRANGE 1 2 NODE x
CLUSTER MIGRATESLOTS SLOTSRANGE 1 2 NODE 0123456789012345678901234567890123456789
CLUSTER MIGRATESLOTS SLOTSRANGE 1 99999 NODE x
CLUSTER MIGRATESLOTS SLOTSRANGE 1 2 3
CLUSTER MIGRATESLOTS SLOTSRANGE 5 2 NODE x
CLUSTER MIGRATESLOTS SLOTSRANGE 1 2 2 3 NODE x
CLUSTER MIGRATESLOTS SLOTSRANGE 8000 9000 NODE x
CLUSTER MIGRATESLOTS SLOTSRANGE 9000 9001 NODE x
CLUSTER MIGRATESLOTS SLOTSRANGE 1 2 NODE TARGET SLOTSRANGE 2 3 NODE TARGET
CLUSTER MIGRATESLOTS SLOTSRANGE 1 2 NODE MYSELF
CLUSTER MIGRATESLOTS FOO 1
CLUSTER CANCELSLOTMIGRATIONS
CLUSTER CANCELSLOTMIGRATIONS ALL
CLUSTER GETSLOTMIGRATIONS
CLUSTER SYNCSLOTS
CLUSTER SYNCSLOTS FOO
CLUSTER SYNCSLOTS ACK
CLUSTER SYNCSLOTS PAUSED
CLUSTER SYNCSLOTS SNAPSHOT-EOF
CLUSTER SYNCSLOTS REQUEST-PAUSE
CLUSTER SYNCSLOTS REQUEST-FAILOVER
CLUSTER SYNCSLOTS FAILOVER-GRANTED
CLUSTER SYNCSLOTS ESTABLISH
CLUSTER SYNCSLOTS ESTABLISH SOURCE x
CLUSTER SYNCSLOTS ESTABLISH SOURCE MYSELF NAME TARGET SLOTSRANGE 1 2
CLUSTER SYNCSLOTS ESTABLISH SOURCE TARGET NAME TARGET SLOTSRANGE 1 2
CLUSTER SYNCSLOTS ESTABLISH SOURCE 0123456789012345678901234567890123456789
CLUSTER SYNCSLOTS ESTABLISH SOURCE TARGET SLOTSRANGE 9000 9001
CLUSTER SYNCSLOTS ESTABLISH NAME TARGET SLOTSRANGE 9000 9001
CLUSTER SYNCSLOTS FINISH
CLUSTER SYNCSLOTS FINISH STATE SUCCESS NAME 0123456789012345678901234567890123456789
CLUSTER SYNCSLOTS FINISH STATE WHATEVER NAME TARGET
"""


def test_refusals_have_a_real_servers_words(company):
    """A company of each kind: its first node is asked, its second the target."""
    answers = []
    for kind in ("our", "valkey"):
        moving = company(kind, kind)
        words = {"MYSELF": moving.ids[0], "TARGET": moving.ids[1]}
        lines = [[words.get(word, word) for word in line.split()] for line in REFUSED.split("\n")]
        replies = [str(moving.nodes[0].call(*line)) for line in lines if line]
        for number, node_id in enumerate(moving.ids):
            replies = [reply.replace(node_id, f"<{number}>") for reply in replies]
        answers.append(replies)
    ours, theirs = answers
    assert ours == theirs


def test_what_comes_is_hidden_until_it_is_all_there(company, connect):
    """A source that is played by hand: what it says, what it is told, and what clients see."""
    moving = company("our", "our")
    target, (source, tag) = moving.nodes[1], receiving(moving, connect)
    slot, client = key_slot(tag.encode()), connect(target.port)
    source.sock.sendall(pack("SET", f"{{{tag}}}", "1"))
    source.sock.sendall(pack("SET", f"{{{tag}}}old", "1", "PXAT", 1000))
    wait_until(lambda: state_of(target) == "receiving-snapshot", "it receives")
    assert client.one("SET", f"{{{next(tags(1, HALF, 16383))}}}", "1") == b"OK"
    wait_until(lambda: b"cmd=set" in clients_of(target, "i"), "it has received")
    assert client.one("DBSIZE") == 1 and len(client.one("KEYS", "*")) == 1
    assert len(client.one("SCAN", 0, "COUNT", 1000)[1]) == 1
    assert client.one("RANDOMKEY") == client.one("KEYS", "*")[0]
    assert client.one("CLUSTER", "COUNTKEYSINSLOT", slot) == 0
    assert client.one("CLUSTER", "GETKEYSINSLOT", slot, 10) == []
    assert b"keys=1," in client.one("INFO", "keyspace")
    assert str(client.one("GET", f"{{{tag}}}")).startswith(f"MOVED {slot} ")
    assert str(client.one(*establish(moving, slot))).startswith("ERR Slot is already being")
    refused = client.one("CLUSTER", "SETSLOT", slot, "IMPORTING", moving.ids[0])
    assert str(refused) == "ERR Slot import in progress."

    source.sock.sendall(pack("CLUSTER", "SYNCSLOTS", "SNAPSHOT-EOF"))
    assert next_word(source) == b"REQUEST-PAUSE"
    source.sock.sendall(pack("CLUSTER", "SYNCSLOTS", "PAUSED"))
    assert next_word(source) == b"REQUEST-FAILOVER"
    before = migrations(target)[0]["last_ack_time"]
    source.sock.sendall(pack("CLUSTER", "SYNCSLOTS", "ACK") * 2)
    wait_until(lambda: b"cmd=cluster|syncslots" in clients_of(target, "i"), "it has heard that")
    assert state_of(target) == "failover-requested"
    assert migrations(target)[0]["last_ack_time"] >= before
    source.sock.sendall(pack("LPUSH", f"{{{tag}}}", "no list"))
    wait_until(lambda: state_of(target) == "failed", "an error ends it")
    assert migrations(target)[0]["message"].startswith("Failed to process command")
    assert client.one("DBSIZE") == 1


def receiving(moving: Company, connect: Callable[[int], Connection]) -> tuple[Connection, str]:
    """A source played by hand, whose target waits for what it sends; the tag of the slot."""
    tag = next(tags(1))
    source = connect(moving.nodes[1].port)
    assert source.one(*establish(moving, key_slot(tag.encode()))) == b"OK"
    source.sock.sendall(pack("CLUSTER", "SYNCSLOTS", "ACK"))
    return source, tag


@pytest.mark.parametrize(("kind", "of"), [("our", "our"), ("our", "valkey"), ("valkey", "our")])
def test_a_replica_that_is_synced_amid_a_move_hides_what_comes(company, connect, request, kind, of):
    moving = company("our", of, replicas=("our", kind))
    target, replica = moving.nodes[1], moving.replicas[1]
    source, tag = receiving(moving, connect)
    source.sock.sendall(pack("SET", f"{{{tag}}}", "1"))
    wait_until(lambda: b"cmd=set" in clients_of(target, "i"), "it has received")
    replica.kill()
    (replica.directory / "dump.rdb").unlink(missing_ok=True)  # from which it could go on
    start, name = request.getfixturevalue(f"{kind}_server"), replica.directory.name
    again = start(*DIRECTIVES, port=replica.port, name=name)
    wait_until(lambda: is_linked(again), "it has all the data", 15)
    assert [job["state"] for job in migrations(again)] == ["occurring-on-primary"]
    assert migrations(again)[0]["slot_ranges"] == migrations(target)[0]["slot_ranges"]
    assert again.call("DBSIZE") == 0 and again.call("KEYS", "*") == []

    source.sock.sendall(pack("CLUSTER", "SYNCSLOTS", "SNAPSHOT-EOF"))
    assert next_word(source) == b"REQUEST-PAUSE"
    source.sock.sendall(pack("CLUSTER", "SYNCSLOTS", "PAUSED"))
    assert next_word(source) == b"REQUEST-FAILOVER"
    source.sock.sendall(pack("CLUSTER", "SYNCSLOTS", "FAILOVER-GRANTED"))
    wait_until(lambda: again.call("KEYS", "*") == [b"{%b}" % tag.encode()], "it is to be seen")
    assert state_of(again) == "success"


def test_a_target_that_restarts_from_a_snapshot_forgets_what_it_had(company, connect, our_server):
    moving = company("our", "our")
    target = moving.nodes[1]
    source, tag = receiving(moving, connect)
    source.sock.sendall(pack("SET", f"{{{tag}}}", "1"))
    wait_until(lambda: b"cmd=set" in clients_of(target, "i"), "it has received")
    assert target.call("SAVE") == b"OK"
    target.kill()
    again = our_server(*DIRECTIVES, port=target.port, name=target.directory.name)
    wait_until(lambda: state_of(again) == "failed", "it is no more", 15)
    assert migrations(again)[0]["message"] == "Process restarted"
    assert again.call("DBSIZE") == 0
    assert again.call("SAVE") == b"OK"
    assert (target.directory / "dump.rdb").read_bytes().startswith(b"REDIS0010"), "nothing special"


def test_a_target_that_restarts_forgets_what_it_had(company, connect, our_server):
    always = ("--appendonly", "yes", "--appendfsync", "always")
    moving = company("our", "our", extra=always)
    target = moving.nodes[1]
    source, tag = receiving(moving, connect)
    source.sock.sendall(pack("SET", f"{{{tag}}}", "1"))
    own = f"{{{next(tags(1, HALF, 16383))}}}"
    assert connect(target.port).one("SET", own, "1") == b"OK"
    written = target.directory / "appendonlydir" / "appendonly.aof.1.incr.aof"
    wait_until(lambda: f"{{{tag}}}".encode() in written.read_bytes(), "it is in the file")
    target.kill()
    again = our_server(*DIRECTIVES, *always, port=target.port, name=target.directory.name)
    wait_until(lambda: state_of(again) == "failed", "it is no more", 15)
    assert migrations(again)[0]["message"] == "Process restarted"
    wait_until(lambda: b"cluster_state:ok" in again.call("CLUSTER", "INFO"), "it serves", 15)
    assert again.call("KEYS", "*") == [own.encode()]


def test_a_target_without_memory_gives_up(company, connect):
    moving = company("our", "our")
    target = moving.nodes[1]
    source, tag = receiving(moving, connect)
    used = int(info(target, "memory")["used_memory"])
    assert target.call("CONFIG", "SET", "maxmemory", used + 2_000_000) == b"OK"
    with contextlib.suppress(OSError):
        for number in range(100):
            source.sock.sendall(pack("SET", f"{{{tag}}}{number}", "x" * 100_000))
    wait_until(lambda: state_of(target) == "failed", "it gives up", 15)
    assert migrations(target)[0]["message"] == "Ran out of memory (OOM) during slot import"
    assert int(info(target, "memory")["used_memory"]) < used + 2_000_000


def test_a_source_may_not_do_anything_else(company, connect):
    moving = company("our", "our")
    target, other = moving.nodes[1], next(tags(1, HALF, 16383))
    for command in ("SET {other} 1", "GET {own}", "FLUSHALL", "SET {own} 1 XX Y"):
        source, tag = receiving(moving, connect)
        words = command.format(own=f"{{{tag}}}", other=f"{{{other}}}").split()
        source.sock.sendall(pack("SET", f"{{{tag}}}", "1") + pack(*words))
        wait_until(lambda: state_of(target) == "failed", f"{command} ends it")
        assert target.call("DBSIZE") == 0


def info(server: ServerProcess, section: str) -> dict[str, str]:
    lines = server.call("INFO", section).decode().splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def establish(moving: Company, slot: int) -> tuple[str | int, ...]:
    return (
        *("CLUSTER", "SYNCSLOTS", "ESTABLISH", "SOURCE", moving.ids[0]),
        *("NAME", f"{random.getrandbits(160):040x}", "SLOTSRANGE", slot, slot),
    )


def next_word(source: Connection) -> bytes:
    while (word := source.next()[2]) == b"ACK":
        pass
    return word


def clients_of(server: ServerProcess, flag: str) -> bytes:
    lines = server.call("CLIENT", "LIST").splitlines()
    return b"".join(line for line in lines if f" flags={flag} ".encode() in line)


def pack(*words: str | int) -> bytes:
    return hiredis.pack_command(words)


def test_setslot_and_a_flush_during_a_migration(company):
    moving = company("our", "our")
    source, target = moving.nodes
    fill(source, MANY, HALF // 2)
    target.pause()  # so that it lasts
    assert moving.migrate(0, 0, HALF // 2) == b"OK"
    again = source.call("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 7, 7, "NODE", moving.ids[1])
    assert str(again) == "ERR I am already migrating slot 7."
    stable = source.call("CLUSTER", "SETSLOT", 7, "MIGRATING", moving.ids[1])
    assert str(stable) == "ERR Slot export in progress."
    assert source.call("FLUSHALL") == b"OK"
    assert [(job["state"], job["message"]) for job in migrations(source)] == [
        ("failed", "Data was flushed")
    ]
    target.resume()
    wait_until(lambda: state_of(target) in OVER, "the target has given it up, too")
    moving.move(0, 0, HALF // 2)
