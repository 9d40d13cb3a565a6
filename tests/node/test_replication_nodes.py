"""Primaries and replicas in one process, in virtual time: syncs, breaks, roles, limits."""

import pytest
from replication_network import Network, contents

from node.replication import snapshot as snapshot_module
from node.replication.follower import ONLINE, SENDING, WAITING
from node.replication.stream import PropagationError


def pair(piece: int = 1 << 20, **directives: object) -> Network:
    """A primary `p` with some data and a replica `r` that has synced."""
    network = Network(piece)
    network.add("p", **directives)
    network.add("r")
    client = network.client("p")
    for command in ("SET a 1", "SET gone x PXAT 9000000000000", "RPUSH l 1 2 3", "SADD s x y"):
        client.call(*command.split())
    client.call("SELECT", 3)
    client.call("HSET", "h", "f", "v")
    network.nodes["r"].follow("p", 6379)
    network.settle()
    return network


def in_sync(network: Network, *names: str) -> bool:
    """Equal data, offset and history."""
    nodes = [network.nodes[name] for name in names]
    for node in nodes:
        node.log.check()
        for db in node.keyspace.databases:
            db.check()
    return all(
        contents(node) == contents(nodes[0])
        and node.log.flush() == nodes[0].log.flush()
        and node.role.history.id == nodes[0].role.history.id
        for node in nodes
    )


@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_a_full_sync_and_the_stream_after_it(piece):
    network = pair(piece)
    primary, replica = network.nodes["p"], network.nodes["r"]
    assert replica.is_replica() and replica.role.link.is_up()
    assert len(contents(replica)) == 5 and in_sync(network, "p", "r")
    client = network.client("p")
    client.call("SET", "late", "x" * 500)
    client.call("SELECT", 5)
    client.call("INCR", "n")
    client.call("MULTI")
    client.call("INCR", "n")
    client.call("INCR", "m")
    client.call("EXEC")
    network.settle()
    assert in_sync(network, "p", "r") and primary.log.offset > 0
    assert network.client("r").call("GET", "late") == b"x" * 500


@pytest.mark.parametrize("behavior", ["ignore", "panic", "panic-on-replicas"])
def test_a_command_that_a_replica_cannot_run(behavior):
    network = pair()
    network.nodes["r"].config.propagation_error_behavior = behavior
    network.nodes["r"].config.replica_read_only = False
    network.client("r").call("SET", "k", "a string")
    network.client("p").call("RPUSH", "k", "an element")
    network.client("p").call("SET", "after", "v")
    if behavior == "ignore":
        network.settle()
        assert network.client("r").call("MGET", "k", "after") == [b"a string", b"v"]
    else:
        with pytest.raises(PropagationError):
            network.settle()


def test_a_transaction_is_applied_as_one():
    network = pair(piece=5)
    client, reader = network.client("p"), network.client("r")
    client.call("MULTI")
    client.call("SET", "x", 1)
    client.call("SET", "y", 1)
    client.call("EXEC")
    seen, held = [], set()
    while network._round():
        seen.append((reader.call("GET", "x"), reader.call("GET", "y")))
        fields = network.nodes["r"].describe_replication()
        held.add(fields["slave_read_repl_offset"] - fields["slave_repl_offset"])
        # What is held back of a transaction is not in the replica's log either.
        if seen[-1] == (None, None):
            assert b"MULTI" not in b"".join(network.nodes["r"].log._blocks)
    assert set(seen) == {(None, None), (b"1", b"1")}
    assert in_sync(network, "p", "r")
    assert {0, 5, 50} < held and max(held) < 120


def test_a_broken_link_goes_on_from_the_backlog():
    network = pair()
    network.break_link("r")
    network.client("p").call("SET", "meanwhile", 1)
    network.run(100)
    assert in_sync(network, "p", "r")
    observe = network.nodes["p"].observe
    assert (observe.full_syncs, observe.partial_syncs) == (1, 1)


def test_a_command_cut_by_the_break_is_sent_again():
    network = pair(piece=10)
    network.client("p").call("SET", "k", "v" * 100)
    for _ in range(5):
        network._round()
    network.break_link("r")
    network.run(100)
    assert in_sync(network, "p", "r")
    assert network.nodes["p"].observe.partial_syncs == 1


def test_what_the_backlog_lost_is_synced_in_full():
    network = pair(repl_backlog_size=1000)
    network.break_link("r")
    client = network.client("p")
    for number in range(200):
        client.call("SET", "k", number)
    network.run(100)
    assert in_sync(network, "p", "r")
    observe = network.nodes["p"].observe
    assert (observe.full_syncs, observe.partial_syncs_refused) == (2, 1)


def test_a_slow_replica_loses_nothing_that_it_has_not_taken():
    network = pair(piece=50, repl_backlog_size=1000)
    client = network.client("p")
    for number in range(200):
        client.call("SET", f"k{number}", "x" * 50)
    assert network.nodes["p"].log.backlog_length() > 10_000
    network.settle()
    client.call("SET", "k", 1)
    assert network.nodes["p"].log.backlog_length() < 6000
    network.settle()
    assert in_sync(network, "p", "r")


def test_chained_replicas_get_the_same_bytes():
    network = pair()
    network.add("s")
    network.nodes["s"].follow("r", 6379)
    network.client("p").call("SET", "k", 1)
    network.run(100)
    assert in_sync(network, "p", "r", "s")
    network.break_link("r")
    network.client("p").call("INCR", "k")
    network.run(100)
    assert in_sync(network, "p", "r", "s")
    assert network.nodes["r"].observe.full_syncs == 1


def test_a_chained_replica_starts_in_the_database_of_the_stream():
    network = pair()
    client = network.client("p")
    client.call("SELECT", 7)
    client.call("SET", "k", 1)
    network.settle()
    network.add("s")
    network.nodes["s"].follow("r", 6379)
    network.run(100)
    client.call("SET", "k", 2)
    network.settle()
    assert in_sync(network, "p", "r", "s")


def test_a_sub_replica_must_wait_for_the_link_above_it():
    network = pair()
    network.unreachable.add("p")
    network.break_link("r")
    network.add("s")
    network.nodes["s"].follow("r", 6379)
    network.run(500)
    assert not network.nodes["s"].role.link.is_up()
    network.unreachable.clear()
    network.run(2500)
    assert in_sync(network, "p", "r", "s")


def test_siblings_and_the_old_primary_go_on_with_the_promoted():
    network = pair()
    network.add("s")
    network.nodes["s"].follow("p", 6379)
    network.client("p").call("SET", "k", 1)
    network.run(100)
    old = network.nodes["p"].role.history.id
    network.nodes["r"].promote()
    network.client("r").call("SET", "k", 2)
    network.nodes["p"].follow("r", 6379)
    network.nodes["s"].follow("r", 6379)
    network.run(100)
    assert in_sync(network, "p", "r", "s")
    history = network.nodes["r"].role.history
    assert history.previous_id == old != history.id
    assert network.nodes["r"].observe.full_syncs == 0
    assert network.nodes["r"].observe.partial_syncs == 2
    assert network.client("s").call("GET", "k") == b"2"


def test_who_has_written_on_past_the_promotion_is_synced_in_full():
    network = pair()
    network.break_link("r")
    network.nodes["r"].promote()
    network.client("p").call("SET", "only-here", 1)
    network.client("r").call("SET", "only-there", 1)
    network.nodes["p"].follow("r", 6379)
    network.run(100)
    assert in_sync(network, "p", "r")
    assert network.client("p").call("EXISTS", "only-here", "only-there") == 1


def test_a_primary_that_turns_replica_keeps_its_own_replicas_while_it_can():
    network = pair()
    network.add("t")
    network.nodes["t"].follow("p", 6379)
    network.run(100)
    network.nodes["t"].promote()
    network.nodes["p"].follow("t", 6379)
    network.run(200)
    network.client("t").call("SET", "k", 1)
    network.run(100)
    assert in_sync(network, "t", "p", "r")
    assert network.nodes["p"].observe.full_syncs == 2  # the first of each, before the change


def test_old_data_are_served_until_the_new_ones_are_complete():
    network = pair(piece=300)
    network.add("q")
    other = network.client("q")
    for number in range(100):
        other.call("SET", f"q{number}", "x" * 50)
    replica, reader = network.nodes["r"], network.client("r")
    replica.follow("q", 6379)
    sizes = []
    while network._round():
        assert not replica.loading
        sizes.append(reader.call("DBSIZE"))
    assert sorted(set(sizes)) == [4, 100] and sizes == sorted(sizes)
    assert in_sync(network, "q", "r")
    network.run(100)
    assert not replica.role._discarded


def test_a_sync_that_breaks_leaves_the_old_data():
    network = pair(piece=300)
    network.add("q")
    for number in range(100):
        network.client("q").call("SET", f"q{number}", "x" * 50)
    before = contents(network.nodes["r"])
    network.nodes["r"].follow("q", 6379)
    while network.nodes["r"].role.link.state != "sync":
        network._round()
    network.break_link("r")
    assert contents(network.nodes["r"]) == before
    network.run(100)
    assert in_sync(network, "q", "r")


@pytest.mark.parametrize("directive", ["disabled", "flush-before-load"])
def test_clients_are_told_of_the_loading_where_nothing_can_be_served(directive):
    network = Network(piece=300)
    network.add("p")
    network.add("r", repl_diskless_load=directive)
    if directive == "flush-before-load":
        network.client("r").call("SET", "old", 1)
    for number in range(100):
        network.client("p").call("SET", f"q{number}", "x" * 50)
    reader = network.client("r")
    network.nodes["r"].follow("p", 6379)
    replies = []
    while network._round():
        replies.append(reader.call("GET", "q1"))
    loading = [str(reply) for reply in replies if isinstance(reply, Exception)]
    assert loading and all(text.startswith("LOADING") for text in loading)
    assert replies[-1] == b"x" * 50 and in_sync(network, "p", "r")


def test_some_commands_wait_for_a_data_set_that_is_loaded_aside():
    network = Network(piece=300)
    network.add("p")
    network.add("r", repl_diskless_load="swapdb")
    operator = network.client("r")
    operator.call("SET", "old", 1)
    for number in range(100):
        network.client("p").call("SET", f"q{number}", "x" * 50)
    network.nodes["r"].follow("p", 6379)
    seen = set()
    while network._round():
        refused = str(operator.call("REPLICAOF", "p", 6379)).startswith("LOADING")
        is_aside = b"async_loading:1" in operator.call("INFO", "persistence")
        old = operator.call("GET", "old")
        assert old == b"1" or not refused
        seen.add((refused, is_aside, old))
    assert seen == {(False, False, b"1"), (True, True, b"1"), (False, False, None)}
    assert in_sync(network, "p", "r")


def test_a_payload_that_makes_no_sense_is_tried_again():
    network = pair()
    replica = network.nodes["r"]
    link = replica.role.link
    network.break_link("r")
    replica.begin_turn()
    link.open()
    network.dialled.clear()
    link.connected()
    answers = b"+PONG\r\n" + b"+OK\r\n" * 3 + b"+FULLRESYNC %b 5\r\n$20\r\n" % (b"x" * 40)
    link.receive(answers + b"this is no data set.")
    assert not link.is_up() and link.transfer is None
    network.run(1000)
    assert in_sync(network, "p", "r")


# --- expiry and writes on replicas ---------------------------------------------------------------


def test_a_replica_hides_what_its_primary_has_not_deleted_yet():
    network = pair()
    network.client("p").call("SET", "k", 1, "PX", 1000)
    network.settle()
    network.clock.advance(2000)
    replica = network.client("r")
    assert replica.call("GET", "k") is None and replica.call("EXISTS", "k") == 0
    assert b"k" in network.nodes["r"].keyspace[0].expires
    network.run(100)
    assert b"k" not in network.nodes["r"].keyspace[0].expires
    assert in_sync(network, "p", "r")


def test_the_stream_sees_keys_whose_time_has_come():
    network = pair()
    client = network.client("p")
    client.call("SET", "k", "ab", "PX", 1000)
    client.call("APPEND", "k", "c")
    network.clock.advance(2000)  # the replica is behind
    network.settle()
    assert network.nodes["r"].keyspace[0].parts[hash(b"k") & 16383][b"k"] == b"abc"


def test_a_replica_takes_writes_only_when_it_may():
    network = pair()
    replica = network.client("r")
    assert str(replica.call("SET", "k", 1)).startswith("READONLY")
    assert replica.call("CONFIG", "SET", "replica-read-only", "no") == b"OK"
    assert replica.call("SET", "mine", 1) == b"OK"
    network.client("p").call("SET", "k", 2)
    network.settle()
    assert network.nodes["r"].log.offset == network.nodes["p"].log.offset
    assert replica.call("MGET", "k", "mine") == [b"2", b"1"]


def test_stale_data_are_refused_where_that_is_wanted():
    network = pair()
    replica = network.client("r")
    replica.call("CONFIG", "SET", "replica-serve-stale-data", "no")
    assert replica.call("GET", "a") == b"1"
    network.unreachable.add("p")
    network.break_link("r")
    assert str(replica.call("GET", "a")).startswith("MASTERDOWN")
    assert replica.call("PING") != b"PONG"
    network.unreachable.clear()
    network.run(1500)
    assert replica.call("GET", "a") == b"1"


# --- WAIT and what rests on acknowledgements -----------------------------------------------------


def test_wait_is_answered_by_acknowledgements():
    network = pair()
    client = network.client("p")
    assert client.raw(b"SET k 1\r\nWAIT 1 0\r\n") == b"+OK\r\n"
    network.settle()
    assert client.next() == 1
    assert client.call("WAIT", 1, 0) == 1
    assert client.call("WAIT", 0, 0) == 1


def test_wait_gives_up_at_its_deadline_and_asks_only_once():
    network = pair()
    client = network.client("p")
    client.call("SET", "k", 1)
    assert client.call("WAIT", 2, 500) is False
    network.run(400)
    assert client.next() is False
    network.run(200)
    assert client.next() == 1
    assert bytes(network.wires[0].carried[1]).count(b"GETACK") == 1


def test_wait_ends_when_the_node_turns_replica():
    network = pair()
    client = network.client("p")
    client.call("SET", "k", 1)
    assert client.call("WAIT", 2, 0) is False
    network.nodes["p"].begin_turn()
    network.nodes["p"].follow("r", 6379)
    network.nodes["p"].end_turn()
    assert str(client.next()).startswith("UNBLOCKED") and client.session.closing
    refusal = str(network.client("p").call("WAIT", 0, 0))
    assert refusal.startswith("ERR WAIT cannot be used with replica")


def test_a_client_that_waits_for_a_key_is_let_go_when_the_node_turns_replica():
    network = pair()
    client = network.client("p")
    assert client.call("BLPOP", "none", 0) is False
    network.nodes["p"].follow("r", 6379)
    assert str(client.next()).startswith("UNBLOCKED")
    assert client.session.closing


def test_too_few_replicas_forbid_writes():
    network = pair(min_replicas_to_write=1, min_replicas_max_lag=2)
    client = network.client("p")
    assert client.call("SET", "k", 1) == b"OK"
    network.unreachable.add("p")
    network.break_link("r")
    assert str(client.call("SET", "k", 1)).startswith("NOREPLICAS")
    network.unreachable.clear()
    network.run(1500)
    assert client.call("SET", "k", 1) == b"OK"


def test_a_replica_that_lags_does_not_count():
    network = pair(min_replicas_to_write=1, min_replicas_max_lag=2)
    network.clock.advance(5000)
    network.nodes["p"].tick()
    assert str(network.client("p").call("SET", "k", 1)).startswith("NOREPLICAS")


# --- time ----------------------------------------------------------------------------------------


def test_replicas_are_pinged_and_acknowledge_every_second():
    network = pair(repl_ping_replica_period=10)
    wire = network.wires[0]
    start = network.nodes["p"].log.offset
    network.run(30_000, step=100)
    assert bytes(wire.carried[1]).count(b"PING") == 3
    assert network.nodes["p"].log.offset == start + 3 * 14
    assert 28 <= bytes(wire.carried[0]).count(b"$3\r\nACK") <= 32
    assert in_sync(network, "p", "r")


def test_a_silent_primary_is_given_up():
    network = pair(repl_ping_replica_period=10_000)
    network.nodes["r"].config.repl_timeout = 5
    network.run(5500, step=100)
    assert network.nodes["p"].observe.partial_syncs == 1


def test_a_silent_replica_is_dropped():
    network = pair(repl_timeout=5)
    network.clock.advance(6000)
    network.nodes["p"].tick()
    assert not network.nodes["p"].role.primary.replicas


def test_a_replica_that_owes_too_much_reading_is_dropped():
    network = pair(repl_backlog_size=20_000)
    limits = b"replica 30000 0 0"
    primary = network.nodes["p"]
    assert network.client("p").call("CONFIG", "SET", "client-output-buffer-limit", limits) == b"OK"
    network.client("p").call("SET", "k", "x" * 25_000)
    primary.tick()
    assert primary.role.primary.replicas
    network.client("p").call("SET", "k", "x" * 25_000)
    primary.tick()
    assert not primary.role.primary.replicas and primary.observe.output_overflows == 1
    assert primary.log.backlog_length() <= 51_000


def test_a_soft_limit_counts_after_its_time():
    network = pair(repl_backlog_size=20_000)
    limits = b"replica 0 30000 3"
    primary = network.nodes["p"]
    network.client("p").call("CONFIG", "SET", "client-output-buffer-limit", limits)
    primary.tick()
    network.client("p").call("SET", "k", "x" * 40_000)
    for milliseconds, kept in ((2500, 1), (1000, 0)):
        network.clock.advance(milliseconds)
        primary.tick()
        assert len(primary.role.primary.replicas) == kept


def test_without_replicas_the_backlog_goes_and_the_history_ends():
    network = pair(repl_backlog_ttl=60)
    primary = network.nodes["p"]
    network.nodes["r"].promote()
    old = primary.role.history.id
    network.settle()
    network.run(59_000, step=500)
    assert primary.log.keeps_backlog
    network.run(2000, step=500)
    assert not primary.log.keeps_backlog and not primary.log.active
    assert primary.role.history.id != old


def test_retries_are_quick_and_slow_down():
    network = Network()
    node = network.add("r")
    node.follow("nowhere", 6379)
    attempts = []
    for _ in range(40):
        network.run(100)
        attempts.append(node.role.link.attempts)
    assert attempts[3] >= 4 and 7 <= attempts[-1] <= 9
    assert node.next_deadline_ms() is not None


# --- snapshots -----------------------------------------------------------------------------------


def large_pair(monkeypatch, names: str = "r", **directives: object) -> Network:
    """A primary whose data set counts as large, and replicas that have just asked for it."""
    monkeypatch.setattr(snapshot_module, "FEW_KEYS", 10)
    network = Network(piece=100)
    node = network.add("p", **directives)
    node.transport.can_fork = True
    for number in range(50):
        network.client("p").call("SET", f"k{number}", "x" * 20)
    for name in names:
        network.add(name)
        network.nodes[name].follow("p", 6379)
    network.settle()
    return network


def write_snapshot(network: Network, number: int = 0) -> None:
    """What a forked child would have written."""
    node = network.nodes["p"]
    snapshot = node.transport.forked[number]
    pieces = list(snapshot.pieces())
    # The primary goes on meanwhile; the child has the data as they were.
    network.client("p").call("SET", "during", "sync")
    node.begin_turn()
    snapshot.begin(None if snapshot.mark else sum(map(len, pieces)))
    for piece in pieces:
        snapshot.receive(piece)
    snapshot.end()
    node.end_turn()
    network.settle()


@pytest.mark.parametrize("diskless", [True, False])
def test_several_replicas_share_a_snapshot_that_is_written_aside(monkeypatch, diskless):
    network = large_pair(monkeypatch, "rst", repl_diskless_sync=diskless)
    node = network.nodes["p"]
    states = [replica.state for replica in node.role.primary.replicas]
    assert sorted(set(states)) == [SENDING, WAITING]  # the first to ask has not waited for others
    write_snapshot(network)
    write_snapshot(network, 1)
    assert len(node.transport.forked) == 2
    assert len(node.transport.forked[1].replicas) == 2
    assert bool(node.transport.forked[0].mark) == diskless
    assert in_sync(network, "p", "r", "s", "t")


def test_a_delay_gathers_replicas(monkeypatch):
    network = large_pair(monkeypatch, "rst", repl_diskless_sync_delay=5)
    node = network.nodes["p"]
    network.run(4500, step=100)
    assert not node.transport.forked
    newlines = [bytes(wire.carried[1]).count(b"\n\n") for wire in network.wires]
    assert all(count >= 2 for count in newlines), "those who wait hear that they are not forgotten"
    network.run(600, step=100)
    assert len(node.transport.forked[0].replicas) == 3
    write_snapshot(network)
    assert in_sync(network, "p", "r", "s", "t")


def test_enough_replicas_end_the_delay(monkeypatch):
    network = large_pair(
        monkeypatch, "rs", repl_diskless_sync_delay=5, repl_diskless_sync_max_replicas=2
    )
    assert len(network.nodes["p"].transport.forked[0].replicas) == 2


def test_a_snapshot_that_nobody_waits_for_is_cancelled(monkeypatch):
    network = large_pair(monkeypatch)
    node = network.nodes["p"]
    network.break_link("r")
    assert node.transport.cancelled == node.transport.forked
    assert node.role.primary.snapshot is None
    network.run(100)
    write_snapshot(network, 1)
    assert in_sync(network, "p", "r")


def test_a_snapshot_that_fails_is_asked_for_again(monkeypatch):
    network = large_pair(monkeypatch)
    node = network.nodes["p"]
    node.begin_turn()
    node.transport.forked[0].end("the child ended with 1")
    node.end_turn()
    network.run(100)
    write_snapshot(network, 1)
    assert in_sync(network, "p", "r")


def test_a_source_waits_for_the_slowest_replica(monkeypatch):
    monkeypatch.setattr(snapshot_module, "AHEAD_MAX", 1000)
    network = large_pair(monkeypatch)
    snapshot = network.nodes["p"].transport.forked[0]
    snapshot.begin(None)
    assert snapshot.has_room()
    snapshot.receive(b"x" * 2000)
    assert not snapshot.has_room()


def test_the_stream_waits_until_the_mark_has_been_seen(monkeypatch):
    network = large_pair(monkeypatch)
    node = network.nodes["p"]
    replica = node.role.primary.replicas[0]
    snapshot = node.transport.forked[0]
    node.begin_turn()
    snapshot.begin(None)
    snapshot.end()
    while replica.take_output(1 << 20):
        pass
    assert replica.state == ONLINE and not replica.streams()
    network.client("p").call("SET", "k", 1)
    assert replica.take_output(1 << 20) == b""
    node.role.primary.acknowledge(replica, 0)
    assert b"SET" in replica.take_output(1 << 20)


WRITES_BY_FLAGS = "#!lua\nreturn 1"
READS_BY_FLAGS = "#!lua flags=no-writes\nreturn redis.call('GET', 'a')"
READS_STALE_DATA = "#!lua flags=no-writes,allow-stale\nreturn redis.call('GET', 'a')"
NEEDS_NO_DATA = "#!lua flags=no-writes,allow-stale\nreturn 1"
STALE = "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."


def test_a_replica_takes_scripts_at_their_word():
    network = pair()
    client = network.client("r")
    refusal = str(client.call("EVAL", WRITES_BY_FLAGS, 0))
    assert refusal == "READONLY You can't write against a read only replica."
    assert client.call("EVAL", READS_BY_FLAGS, 0) == b"1"
    network.unreachable.add("p")
    network.break_link("r")
    client.call("CONFIG", "SET", "replica-serve-stale-data", "no")
    assert str(client.call("EVAL", WRITES_BY_FLAGS, 0)) == refusal
    assert str(client.call("EVAL", READS_BY_FLAGS, 0)) == STALE
    assert str(client.call("EVAL", "return 1", 0)) == STALE
    assert "command on a stale replica" in str(client.call("EVAL", READS_STALE_DATA, 0))
    assert client.call("EVAL", NEEDS_NO_DATA, 0) == 1
