"""Commands on slots, word for word as a real valkey-server answers them in cluster mode."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.commands.scan import tags
from cluster.slots import SLOTS, key_slot
from tests.cluster.company import company
from tests.node.servers import wait_until

CLUSTERED = ("--cluster-enabled", "yes", "--cluster-node-timeout", "3000")
AT_ONCE = ("--repl-diskless-sync-delay", "0")

# Asked of both servers in this order, on one connection each; slot 15495 is that of `a`.
LINES = """
CLUSTER FLUSHSLOT
CLUSTER FLUSHSLOT x
CLUSTER FLUSHSLOT 99999
CLUSTER FLUSHSLOT 1 foo
CLUSTER FLUSHSLOT 1 SYNC x
CLUSTER FLUSHSLOT 1 SYNC
SET a 1
SET {a}2 1
SELECT 1
SET a 2
CLUSTER COUNTKEYSINSLOT 15495
CLUSTER GETKEYSINSLOT 15495 10
CLUSTER FLUSHSLOT 15495 ASYNC
CLUSTER COUNTKEYSINSLOT 15495
SELECT 0
SET a 1
CLUSTER SLOT-STATS
CLUSTER SLOT-STATS foo
CLUSTER SLOT-STATS SLOTSRANGE 1
CLUSTER SLOT-STATS foo bar baz
CLUSTER SLOT-STATS SLOTSRANGE x 1
CLUSTER SLOT-STATS SLOTSRANGE 5 1
CLUSTER SLOT-STATS SLOTSRANGE 0 16384
CLUSTER SLOT-STATS SLOTSRANGE 0 1
CLUSTER SLOT-STATS SLOTSRANGE 0 1 2
CLUSTER SLOT-STATS ORDERBY
CLUSTER SLOT-STATS ORDERBY foo
CLUSTER SLOT-STATS ORDERBY foo LIMIT 1
CLUSTER SLOT-STATS ORDERBY key-count LIMIT 2
CLUSTER SLOT-STATS ORDERBY key-count LIMIT 1 ASC
CLUSTER SLOT-STATS ORDERBY key-count LIMIT 1 DESC ASC
CLUSTER SLOT-STATS ORDERBY key-count LIMIT 0
CLUSTER SLOT-STATS ORDERBY key-count LIMIT 16385
CLUSTER SLOT-STATS ORDERBY key-count LIMIT x
CLUSTER SLOT-STATS ORDERBY key-count LIMIT
CLUSTER SLOT-STATS ORDERBY key-count ASC LIMIT 2
CLUSTER SLOT-STATS ORDERBY key-count foo 2
CLUSTER SLOT-STATS ORDERBY key-count DESC DESC
CLUSTER SLOT-STATS ORDERBY cpu-usec LIMIT 2
CLUSTER SLOT-STATS ORDERBY network-bytes-in LIMIT 2
CLUSTER SLOT-STATS ORDERBY memory-bytes LIMIT 2
CLUSTER SLOT-STATS SLOTSRANGE 15495 15495
GET a
CLUSTER SLOT-STATS SLOTSRANGE 15495 15495
CONFIG SET cluster-slot-stats-enabled no
CLUSTER SLOT-STATS SLOTSRANGE 15495 15495
CLUSTER SLOT-STATS ORDERBY cpu-usec LIMIT 2
CONFIG SET cluster-slot-stats-enabled yes
CLUSTER SLOT-STATS SLOTSRANGE 15495 15495
CONFIG RESETSTAT
CLUSTER SLOT-STATS SLOTSRANGE 15495 15495
CLUSTER SLOT-STATS SLOTSRANGE 15495 15495
CLUSTERSCAN
CLUSTERSCAN x
CLUSTERSCAN 0
CLUSTERSCAN 1
CLUSTERSCAN 0 MATCH
CLUSTERSCAN 0 MATCH x
CLUSTERSCAN 0 COUNT 0
CLUSTERSCAN 0 COUNT x
CLUSTERSCAN 0 SLOT x
CLUSTERSCAN 0 SLOT 16384
CLUSTERSCAN 0 SLOT 15495
CLUSTERSCAN 0 SLOT 15495 TYPE string
CLUSTERSCAN 0 SLOT 15495 TYPE foo
CLUSTERSCAN 0 SLOT 15495 NOVALUES
CLUSTERSCAN 0 foo
FLUSHALL
CLUSTERSCAN 0-{06S}-0
CLUSTERSCAN 0-{a}-0
SET a 1
SET {a}2 1
SET b 1
CLUSTERSCAN 0-{06S}-0
CLUSTERSCAN 0-{a}-0
CLUSTERSCAN 0-{a}-0 COUNT 1
CLUSTERSCAN xyz-{a}-1
CLUSTERSCAN 0-{a}-1
CLUSTERSCAN 0-{zz}-0
CLUSTERSCAN 0-a-0
CLUSTERSCAN -{a}-0
CLUSTERSCAN 0-{a}-
CLUSTERSCAN 0-{a}-x
CLUSTERSCAN 0-{a}0
CLUSTERSCAN 0{a}-0
CLUSTERSCAN 0-{a}-0 SLOT 5
CLUSTERSCAN 0-{a}-0 SLOT 15495
CLUSTERSCAN 0-{a}-0 SLOT 15495 COUNT 100
CLUSTERSCAN 0 SLOT 5 COUNT 100
CLUSTERSCAN 0-{5L5}-0 SLOT 2 COUNT 100
CLUSTERSCAN 0-{a}-0 MATCH b
CLUSTERSCAN 0-{a}-0 MATCH b*
CLUSTERSCAN 0-{a}-0 MATCH {a}*
CLUSTERSCAN 0 MATCH {a}*
CLUSTERSCAN 0 MATCH b*
CLUSTERSCAN 0 MATCH {b}* SLOT 15495
CLUSTERSCAN 0-{a}-0 TYPE hash
CLUSTERSCAN 0-{a}b-0
CLUSTERSCAN 0-{a}-0-0
CLUSTERSCAN 0-0-{a}-0
CLUSTERSCAN 00
CLUSTERSCAN -
CLUSTERSCAN 0-{a}-99999999999999999999999
CLUSTERSCAN 0-{a}--1
CLUSTERSCAN abc-{a}-5 COUNT 100
CLUSTER DELSLOTS 15495
CLUSTERSCAN 0-{a}-0
CLUSTERSCAN 0 SLOT 15495
CLUSTERSCAN 0
CLUSTER ADDSLOTS 15495
SET a 1
SET {a}2 1
SELECT 1
SET a 2
CLUSTER SLOT-STATS SLOTSRANGE 15495 15495
CLUSTER COUNTKEYSINSLOT 15495
CLUSTER FLUSHSLOT 15495
SELECT 0
CLUSTER COUNTKEYSINSLOT 15495
KEYS *
SET a 1
CLUSTER DELSLOTS 15495
CLUSTER COUNTKEYSINSLOT 15495
KEYS *
CLUSTER ADDSLOTS 15495
KEYS *
SWAPDB 0 1
MOVE a 1
COPY a {a}b DB 2
SELECT 4
SELECT 3
CONFIG GET cluster-databases
CONFIG GET databases
CONFIG SET cluster-databases 3
MULTI
SELECT 1
GET a
EXEC
SELECT 9
SELECT -1
SELECT 2
SET {a}x 1
MOVE {a}x 3
MOVE {a}x 7
COPY {a}x {a}y DB 3
SELECT 3
COPY {a}y b
CLUSTER COUNTKEYSINSLOT 15495
CLUSTER GETKEYSINSLOT 15495 10
SWAPDB x 1
DBSIZE
FLUSHDB
DBSIZE
SELECT 0
CLUSTERSCAN 0 COUNT x SLOT x
CLUSTERSCAN x foo
CLUSTERSCAN x SLOT x
CLUSTERSCAN 0 SLOT
CLUSTERSCAN 0 SLOT 1 SLOT 2
CLUSTERSCAN 0-{a}-0 SLOT 15495 MATCH {b}
CLUSTERSCAN 0-{b}-0 SLOT 15495
CLUSTERSCAN 0-{b}-0 SLOT 15495 COUNT 0
CLUSTERSCAN 0-{b}-0 MATCH {a}*
CLUSTERSCAN 0 MATCH {a}* SLOT 5
CLUSTERSCAN 0 MATCH foo MATCH bar
CLUSTER MYID
CLUSTER MYSHARDID
CLUSTER SLOT-STATS SLOTSRANGE 15495 15495 9
CLUSTER SLOT-STATS slotsrange 3 3
CLUSTER SLOT-STATS orderby KEY-COUNT limit 2 asc
CLUSTER SLOT-STATS orderby NETWORK-BYTES-OUT limit 1 asc
CLUSTER SLOT-STATS orderby key-count limit 2 limit 3
MULTI
SET a 1
CLUSTER FLUSHSLOT 15495
GET a
EXEC
CLUSTER SETSLOT 5 MIGRATING zz TIMEOUT
CLUSTER SETSLOT 5 STABLE TIMEOUT x
CLUSTER SETSLOT 5 STABLE TIMEOUT -1
CLUSTER SETSLOT 5 STABLE TIMEOUT
CLUSTER SETSLOT 5 STABLE foo
CLUSTER SETSLOT 5
CLUSTER SETSLOT
CLUSTER SETSLOT x y
CLUSTER SETSLOT 5 NODE zz TIMEOUT x
CLUSTER SETSLOT 99999 NODE zz TIMEOUT x
MIGRATE 127.0.0.1 1 a 0 10
SET a 1
SET b 2
MIGRATE 127.0.0.1 1 a 0 10
RESTORE-ASKING k 0 x
RESTORE-ASKING k x x
RESTORE-ASKING k
CLUSTER REPLICATE
CLUSTER FAILOVER FORCE TAKEOVER
CLUSTER FAILOVER x
CLUSTER COUNTKEYSINSLOT
CLUSTER COUNTKEYSINSLOT -1
CLUSTER GETKEYSINSLOT 5
CLUSTER FLUSHSLOTS
CLUSTER FORGET
CLUSTER MEET
CLUSTER MEET 127.0.0.1
CLUSTER MEET 127.0.0.1 0 0
CLUSTER MEET 127.0.0.1 -1
CLUSTER MEET 300.1.1.1 80
CLUSTER LINKS x
CLUSTER BUMPEPOCH x
CLUSTER SAVECONFIG x
CLUSTER RESET SOFT x y
CLUSTER SLAVES
"""


def shown(reply):
    """What must be equal: not ids, nor what depends on the machine or the protocol's details."""
    text = re.sub(r"[0-9a-f]{40}", "ID", repr(reply))
    text = re.sub(r"b'cpu-usec', \d+", "cpu", text)
    return re.sub(r"b'network-bytes-out', \d+", "out", text)


def cover_all(connection):
    connection.one("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 1)
    is_up = lambda: b"cluster_state:ok" in connection.one("CLUSTER", "INFO")  # noqa: E731
    wait_until(is_up, "the cluster is up")


def test_answers_are_a_real_servers(our_server, valkey_server, connect):
    more = ("--cluster-databases", "4", "--cluster-slot-stats-enabled", "yes")
    servers = [start(*CLUSTERED, *more) for start in (our_server, valkey_server)]
    connections = [connect(server.port) for server in servers]
    for connection in connections:
        cover_all(connection)
    for line in filter(None, LINES.split("\n")):
        command = ["" if word == "-" else word for word in line.split()]
        ours, theirs = (shown(connection.one(*command)) for connection in connections)
        assert ours == theirs, line


def test_tags_stand_for_their_slots():
    assert [key_slot(b"0-{%b}-0" % tag) for tag in tags()] == list(range(SLOTS))


def test_clusterscan_finds_every_key_of_two_nodes(our_server, valkey_server, connect):
    """Ours and a real one share the slots; a scan goes from one to the other and back."""
    servers = [our_server(*CLUSTERED), valkey_server(*CLUSTERED)]
    by_port = {server.port: connect(server.port) for server in servers}
    a, b = by_port.values()
    for connection, ranges in ((a, (0, 4999, 12000, SLOTS - 1)), (b, (5000, 11999))):
        connection.one("CLUSTER", "ADDSLOTSRANGE", *ranges)
    a.one("CLUSTER", "MEET", "127.0.0.1", servers[1].port)
    for connection in (a, b):
        is_up = lambda c=connection: b"cluster_state:ok" in c.one("CLUSTER", "INFO")  # noqa: E731
        wait_until(is_up, "the cluster is up")
    written = [b"key:%d" % i for i in range(500)]
    for key in written:
        ask_where_it_belongs(by_port, a, "SET", key, "x")
    cursor, found, hops = b"0", [], 0
    while cursor != b"0" or not hops:
        cursor, keys = ask_where_it_belongs(by_port, a, "CLUSTERSCAN", cursor, "COUNT", 50)
        found += keys
        hops += 1
    assert set(found) == set(written)
    assert hops > 10


def ask_where_it_belongs(by_port, connection, *command):
    reply = connection.one(*command)
    if str(reply).startswith("MOVED"):
        reply = by_port[int(str(reply).rpartition(":")[2])].one(*command)
    return reply


@pytest.fixture
def shard(our_server, valkey_server, connect):
    """A function (who the primary is, who its replica) that gives their connections, and that of a
    third node which serves the last two slots."""

    def build(primary, replica):
        starts = {"ours": our_server, "valkey": valkey_server}
        servers = [starts[kind](*CLUSTERED, *AT_ONCE) for kind in (primary, replica, "valkey")]
        first, second, other = connections = [connect(server.port) for server in servers]
        first.one("CLUSTER", "ADDSLOTSRANGE", 0, SLOTS - 3)
        other.one("CLUSTER", "ADDSLOTS", SLOTS - 2, SLOTS - 1)
        for server in servers[1:]:
            first.one("CLUSTER", "MEET", "127.0.0.1", server.port)
        for connection in connections:
            knows_all = lambda c=connection: (  # noqa: E731
                b"cluster_state:ok" in (text := c.one("CLUSTER", "INFO"))
                and b"cluster_known_nodes:3" in text
            )
            wait_until(knows_all, "all know each other")
        id_ = first.one("CLUSTER", "MYID")
        wait_until(lambda: second.one("CLUSTER", "REPLICATE", id_) == b"OK", "it replicates")
        is_online = lambda: b"state=online" in first.one("INFO", "replication")  # noqa: E731
        wait_until(is_online, "the replica has the data")
        knows = lambda: len(first.one("CLUSTER", "REPLICAS", id_)) == 1  # noqa: E731
        wait_until(knows, "the primary knows its replica")
        return servers, connections

    return build


def moves(connection):
    """The slots on the move, as a node's own line of CLUSTER NODES tells."""
    text = connection.one("CLUSTER", "NODES").decode()
    mine = next(line for line in text.splitlines() if "myself" in line)
    return re.findall(r"\[(\d+-[<>]-)", mine)


@pytest.mark.parametrize(
    ("primary", "replica"), [("ours", "ours"), ("ours", "valkey"), ("valkey", "ours")]
)
def test_replicas_know_of_moves(shard, primary, replica):
    servers, (first, second, other) = shard(primary, replica)
    there = other.one("CLUSTER", "MYID")
    assert first.one("CLUSTER", "SETSLOT", 7, "MIGRATING", there) == b"OK"
    # Our primary does it after its replicas: so they have done it by now.
    assert moves(first) == moves(second) == ["7->-"]
    refused = second.one("CLUSTER", "SETSLOT", 7, "STABLE")
    assert str(refused) == "ERR Please use SETSLOT only with masters."
    assert first.one("CLUSTER", "SETSLOT", 7, "STABLE") == b"OK"
    assert first.one("CLUSTER", "SETSLOT", SLOTS - 1, "IMPORTING", there) == b"OK"
    assert moves(first) == moves(second) == [f"{SLOTS - 1}-<-"]
    mine = first.one("CLUSTER", "MYID")
    assert first.one("CLUSTER", "SETSLOT", SLOTS - 1, "NODE", mine) == b"OK"
    assert moves(first) == moves(second) == []
    servers[1].pause()
    refused = first.one("CLUSTER", "SETSLOT", 8, "MIGRATING", there, "TIMEOUT", 100)
    assert str(refused) == "NOREPLICAS Not enough good replicas to write."
    assert moves(first) == []
    servers[1].resume()


def test_a_primary_that_loses_its_last_slot_meanwhile(our_server, valkey_server):
    """It waits for its replica no longer: redis-cli knows this answer, and goes on."""
    nodes = company([our_server, our_server, valkey_server], (f"1-{SLOTS - 1}", "0-0", ""))
    nodes.replicate(2, of=1)
    nodes.wait_agree()
    there = nodes.id(0)
    nodes.servers[2].pause()
    with ThreadPoolExecutor() as aside:
        command = ("CLUSTER", "SETSLOT", 0, "NODE", there, "TIMEOUT", 10000)
        said = aside.submit(nodes.call, 1, *command)
        waits = lambda: nodes.fields(1, "INFO", "clients")["blocked_clients"] == "1"  # noqa: E731
        wait_until(waits, "it waits for its replica")
        nodes.call(0, "CLUSTER", "SETSLOT", 0, "IMPORTING", nodes.id(1))
        assert nodes.call(0, "CLUSTER", "SETSLOT", 0, "NODE", there) == b"OK"
        assert str(said.result()) == "ERR Please use SETSLOT only with masters."
    nodes.servers[2].resume()
