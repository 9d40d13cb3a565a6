"""CLUSTER and its companions, word for word as a real valkey-server answers them."""

import re

import hiredis
import pytest
from conftest import free_ports, wait_until

from cluster.slots import key_slot

# Slot 15495 is that of `a`. Each line is asked of both servers, in this order, on one connection.
ALONE_IN_A_CLUSTER = f"""
SELECT 0
SELECT 1
GET a
MGET a b
MGET {{a}}1 {{a}}2
SPUBLISH a b
PUBLISH a b
ASKING
ASKING x
READONLY
READONLY x
READWRITE
CLUSTER
CLUSTER foo
CLUSTER INFO
CLUSTER INFO x
CLUSTER MYID x
CLUSTER NODES x
CLUSTER LINKS
CLUSTER SLOTS
CLUSTER KEYSLOT
CLUSTER KEYSLOT {{a}}b
CLUSTER KEYSLOT {{}}b
CLUSTER KEYSLOT b{{}}{{c}}
CLUSTER ADDSLOTS
CLUSTER ADDSLOTS x
CLUSTER ADDSLOTS 16384
CLUSTER ADDSLOTS -1
CLUSTER ADDSLOTS 5 5
CLUSTER ADDSLOTS 1 2 x
CLUSTER ADDSLOTS {key_slot(b"a")}
CLUSTER ADDSLOTS {key_slot(b"a")}
CLUSTER ADDSLOTSRANGE 1
CLUSTER ADDSLOTSRANGE 1 2 3
CLUSTER ADDSLOTSRANGE 5 2
CLUSTER ADDSLOTSRANGE 5 x
CLUSTER ADDSLOTSRANGE 1 2 2 3
CLUSTER ADDSLOTSRANGE 1 2 15490 15499
CLUSTER ADDSLOTSRANGE 20 29 40 49
CLUSTER DELSLOTS 5
CLUSTER DELSLOTS 16384
CLUSTER DELSLOTS 20 20
CLUSTER DELSLOTS 20 x
CLUSTER DELSLOTS 20 21
CLUSTER DELSLOTSRANGE 5 2
CLUSTER DELSLOTSRANGE 8 9
CLUSTER DELSLOTSRANGE 22 25 45 49
CLUSTER SHARDS x
CLUSTER INFO
GET b
CONFIG SET cluster-allow-reads-when-down yes
GET a
SET a 1
MGET a b
SSUBSCRIBE zz
MULTI
GET a
SET a 1
EXEC
MULTI
GET b
DISCARD
WATCH a
WATCH b
CLUSTER COUNTKEYSINSLOT x
CLUSTER COUNTKEYSINSLOT 16384
CLUSTER COUNTKEYSINSLOT 12
CLUSTER GETKEYSINSLOT x 1
CLUSTER GETKEYSINSLOT 1 x
CLUSTER GETKEYSINSLOT 1 -1
CLUSTER GETKEYSINSLOT 16384 1
CLUSTER GETKEYSINSLOT 1 1
CLUSTER REPLICATE x
CLUSTER REPLICATE x y
CLUSTER REPLICATE NO ONE
CLUSTER REPLICATE NO ONE x
CLUSTER REPLICAS x
CLUSTER SLAVES x
CLUSTER MEET 127.0.0.1 7000 17000 x
SORT a BY x*
CLUSTER FORGET x
CLUSTER COUNT-FAILURE-REPORTS x
CLUSTER RESET foo
CLUSTER RESET HARD SOFT
CLUSTER SET-CONFIG-EPOCH x
CLUSTER SET-CONFIG-EPOCH -1
CLUSTER SET-CONFIG-EPOCH 5
CLUSTER SET-CONFIG-EPOCH 6
CLUSTER BUMPEPOCH
CLUSTER SAVECONFIG
CLUSTER MEET a b
CLUSTER MEET 127.0.0.1 x
CLUSTER MEET 127.0.0.1 99999
CLUSTER MEET 127.0.0.1 7000 x
CLUSTER MEET 127.0.0.1 7000 99999
CLUSTER MEET 127.0.0.1 0
CLUSTER MEET 127.0.0.1 60000
CLUSTER MEET localhost 7000
CLUSTER SETSLOT x STABLE
CLUSTER SETSLOT 16384 STABLE
CLUSTER SETSLOT 1 foo
CLUSTER SETSLOT 1 STABLE
CLUSTER SETSLOT 1 NODE
CLUSTER SETSLOT 1 NODE x
CLUSTER SETSLOT 1 MIGRATING x
CLUSTER SETSLOT 1 IMPORTING
CLUSTER SETSLOT 1 IMPORTING x
CLUSTER SETSLOT {key_slot(b"a")} MIGRATING x
CLUSTER SETSLOT {key_slot(b"a")} IMPORTING x
CLUSTER FAILOVER
CLUSTER FAILOVER foo
CLUSTER FAILOVER FORCE
CLUSTER FAILOVER TAKEOVER
CLUSTER INFO
CLUSTER RESET
CLUSTER FLUSHSLOTS
CLUSTER INFO
"""

WHERE_CLIENTS_ARE_SENT = """
CLUSTER ADDSLOTSRANGE 0 16383
CONFIG SET cluster-announce-client-ipv4 10.0.0.1
CONFIG SET cluster-announce-client-ipv4 x
CONFIG SET cluster-announce-client-port 7005
CLUSTER SLOTS
CLUSTER SHARDS
CONFIG SET cluster-announce-client-ipv6 ::9
CLUSTER SLOTS
CONFIG SET cluster-preferred-endpoint-type hostname
CLUSTER SLOTS
CONFIG SET cluster-announce-hostname a.b
CLUSTER SLOTS
CLUSTER SHARDS
CONFIG SET cluster-announce-client-tls-port 7006
CLUSTER SHARDS
"""

IN_NO_CLUSTER = """
CLUSTER
CLUSTER HELP
CLUSTER INFO
CLUSTER MYID
CLUSTER MYID x
CLUSTER SLOTS
CLUSTER KEYSLOT a
CLUSTER RESET
CLUSTER foo
ASKING
READONLY
READWRITE
SPUBLISH a b
MGET a b
"""


def lines(text):
    return [tuple(line.split()) for line in text.splitlines() if line]


def shown(reply):
    """What must be equal: not ids and times, nor the size that a real server counts later."""
    text = re.sub(r"cluster_size:\d+", "cluster_size", repr(reply))
    text = re.sub(r"[0-9a-f]{40}", "ID", text)
    return re.sub(r"create-time', \d+", "create-time", text)


@pytest.fixture
def both(our_server, valkey_server, connect):
    """A function (*directives) that starts both: connections to ours and to the real one."""

    def start(*directives):
        servers = our_server(*directives), valkey_server(*directives)
        return [connect(server.port) for server in servers]

    return start


def ask(connections, commands):
    """Ours and theirs, where they differ."""
    replies = [connection.ask(*commands) for connection in connections]
    return [
        (" ".join(command), shown(our), shown(their))
        for command, our, their in zip(commands, *replies, strict=True)
        if shown(our) != shown(their)
    ]


def test_answers_in_a_cluster_of_one(both):
    assert ask(both("--cluster-enabled", "yes"), lines(ALONE_IN_A_CLUSTER)) == []


def test_where_clients_are_sent(both):
    assert ask(both("--cluster-enabled", "yes"), lines(WHERE_CLIENTS_ARE_SENT)) == []


def test_answers_in_no_cluster(both):
    assert ask(both(), lines(IN_NO_CLUSTER)) == []


def test_help_shows_the_usages_of_a_real_server(both):
    ours, theirs = (
        [line for line in connection.one("CLUSTER", "HELP") if not line.startswith(b" ")]
        for connection in both("--cluster-enabled", "yes")
    )
    assert ours == theirs and len(ours) > 30


def info_of(row):
    """A row of COMMAND INFO, in which only some things have an order."""
    name, arity, flags, first, last, step, categories, tips, keys, _ = row
    return name, arity, sorted(flags), first, last, step, sorted(categories), tips, keys


def test_rows_of_the_command_table(both):
    connections = both()
    rows = [
        {
            info[0]: info_of(info)
            for row in connection.one("COMMAND", "INFO", *names)
            for info in (row, *row[9])
        }
        for connection in connections
        for names in [("cluster", "clusterscan", "asking", "readonly", "readwrite")]
    ]
    ours, theirs = rows
    assert {name: theirs[name] for name in ours} == ours
    assert set(theirs) == set(ours)


def wait_for_replies(connections, command, wanted):
    for connection in connections:
        while wanted not in connection.one(*command):
            pass


def test_two_nodes_show_each_other_alike(our_server, valkey_server, connect):
    """Ours and a real one in one cluster describe it in the same words, in either protocol."""
    flags = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
    mine = our_server(*flags, "--cluster-announce-hostname", "ours.example")
    real = valkey_server(*flags)
    a, b = connections = [connect(server.port) for server in (mine, real)]
    a.one("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    b.one("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    a.one("CLUSTER", "MEET", "127.0.0.1", real.port)
    wait_for_replies(connections, ("CLUSTER", "INFO"), b"cluster_state:ok")
    wait_for_replies([b], ("CLUSTER", "NODES"), b"ours.example")
    for protocol in (2, 3):
        for connection in connections:
            connection.one("HELLO", protocol)
        links = [connection.one("CLUSTER", "LINKS") for connection in connections]
        assert [names(link) for link in links[0]] == [names(link) for link in links[1]]
        for preferred, name in [("ip", "127.0.0.1"), ("hostname", "?"), ("unknown-endpoint", "")]:
            for connection in connections:
                connection.one("CONFIG", "SET", "cluster-preferred-endpoint-type", preferred)
            slots = [connection.one("CLUSTER", "SLOTS") for connection in connections]
            assert slots[0] == slots[1]
            shards = [connection.one("CLUSTER", "SHARDS") for connection in connections]
            assert by_id(shards[0]) == by_id(shards[1])
            hostname = name.replace("?", "ours.example")
            assert str(a.one("GET", "a")) == f"MOVED {key_slot(b'a')} {name}:{real.port}"
            assert str(b.one("GET", "b")) == f"MOVED {key_slot(b'b')} {hostname}:{mine.port}"


def test_nodes_are_found_where_they_announce_to_be(our_server, valkey_server):
    """Behind a port that is forwarded, or an address that is translated."""
    flags = ("--cluster-enabled", "yes", "--bind", "127.0.0.1 127.0.0.2")
    servers, wanted = [], set()
    for start, name, port in ((our_server, "one", 7777), (valkey_server, "two", 8888)):
        bus = free_ports(1)[0]
        where = ("--cluster-announce-ip", "127.0.0.2", "--cluster-announce-port", str(port))
        buses = ("--cluster-port", str(bus), "--cluster-announce-bus-port", str(bus))
        servers.append(start(*flags, *where, *buses, "--cluster-announce-human-nodename", name))
        wanted.add(f"127.0.0.2:{port}@{bus}")
    ours, theirs = servers
    ours.call("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
    theirs.call("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
    bus = theirs.call("CONFIG", "GET", "cluster-port")[1]
    assert ours.call("CLUSTER", "MEET", "127.0.0.1", theirs.port, bus) == b"OK"

    def told(server):
        lines = [line.split() for line in server.call("CLUSTER", "NODES").decode().splitlines()]
        return {line[1].partition(",")[0] for line in lines if "connected" in line}

    def nicknames(server):
        """Those that it will remember after a restart."""
        text = (server.directory / "nodes.conf").read_text()
        return set(re.findall(r"nodename=(\w+)", text))

    for server in servers:
        wait_until(lambda server=server: told(server) == wanted, "both are known", 15)
        wait_until(lambda server=server: nicknames(server) == {"one", "two"}, "with their names")
        is_up = lambda server=server: b"state:ok" in server.call("CLUSTER", "INFO")  # noqa: E731
        wait_until(is_up, "it serves", 15)
    assert str(ours.call("SET", "a", "1")) == f"MOVED {key_slot(b'a')} 127.0.0.2:8888"
    assert str(theirs.call("SET", "b", "1")) == f"MOVED {key_slot(b'b')} 127.0.0.2:7777"


def by_id(shards):
    """The shards, which have no order."""
    return sorted(map(repr, shards))


def names(link):
    """The names of a link's fields, and its direction."""
    fields = link if isinstance(link, dict) else dict(zip(link[::2], link[1::2], strict=True))
    return list(fields), fields[b"direction"]


def test_keys_of_a_slot(our_server, connect):
    connection = connect(our_server("--cluster-enabled", "yes").port)
    connection.one("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    while b"cluster_state:ok" not in connection.one("CLUSTER", "INFO"):
        pass
    keys = [b"{a}%d" % i for i in range(5)]
    connection.ask(*[("SET", key, "x") for key in keys], ("SET", "b", "x"))
    slot = key_slot(b"a")
    assert connection.one("CLUSTER", "COUNTKEYSINSLOT", slot) == 5
    assert set(connection.one("CLUSTER", "GETKEYSINSLOT", slot, 10)) == set(keys)
    assert len(connection.one("CLUSTER", "GETKEYSINSLOT", slot, 2)) == 2
    refused = connection.one("CLUSTER", "RESET")
    assert isinstance(refused, hiredis.ReplyError)
    assert str(connection.one("CLUSTER", "FLUSHSLOTS")).startswith("ERR DB must be empty")
