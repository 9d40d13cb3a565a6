"""MIGRATE: word for word as a real server's, while the node goes on serving."""

import select
import socket

import hiredis
import pytest

from node.moving import IDLE_MS
from node.replication.transport import Unconnected
from tests.node.local import local_node
from tests.node.servers import wait_until

# Asked of ours and of a real one in turn, each sending to a real one; T stands for its port.
LINES = """
SET a 1
SET b 2 PX 100000
HSET h f v
ZADD z 1.5 m
XADD x 1-1 f v
MIGRATE
MIGRATE 127.0.0.1 T a 0
MIGRATE 127.0.0.1 T nokey 0 100
MIGRATE 127.0.0.1 T a x 100
MIGRATE 127.0.0.1 T a 0 x
MIGRATE 127.0.0.1 T a x y foo
MIGRATE 127.0.0.1 T a 0 100 AUTH
MIGRATE 127.0.0.1 T a 0 100 AUTH2 x
MIGRATE 127.0.0.1 T a 0 100 KEYS a b
MIGRATE 127.0.0.1 1 a 0 100
MIGRATE 127.0.0.1 x a 0 100
MIGRATE nohost.invalid T a 0 100
MIGRATE 127.0.0.1 T a 99 1000
MIGRATE 127.0.0.1 T a -1 1000
MIGRATE 127.0.0.1 T a 0 1000 AUTH foo
MIGRATE 127.0.0.1 T a 0 1000 COPY
GET a
MIGRATE 127.0.0.1 T a 0 1000 COPY
MIGRATE 127.0.0.1 T a 0 0 COPY REPLACE
MIGRATE 127.0.0.1 T a 0 -5 REPLACE
EXISTS a
MIGRATE 127.0.0.1 T - 0 1000 KEYS
MIGRATE 127.0.0.1 T - 0 1000 KEYS none
MIGRATE 127.0.0.1 T - 0 1000 KEYS a b h b z x
DBSIZE
SET a 5
SET n 6
MIGRATE 127.0.0.1 T - 0 1000 KEYS a n
KEYS *
MIGRATE 127.0.0.1 T - 1 1000 AUTH2 default - KEYS a
KEYS *
"""


def answers(source, target):
    """What the source says to LINES, and what the target holds at the end."""
    target.call("FLUSHALL")
    lines = [line.replace(" T ", f" {target.port} ").split() for line in LINES.split("\n")]
    said = [
        (line, shown(source.call(*["" if word == "-" else word for word in line])))
        for line in lines
        if line
    ]
    held = [target.call(*line.split()) for line in ("GET a", "HGETALL h", "ZSCORE z m", "XLEN x")]
    assert 90_000 < target.call("PTTL", "b") <= 100_000
    return said, held


def shown(reply):
    return repr(reply).replace("1-1", "ID")


def test_answers_are_a_real_servers(our_server, valkey_server):
    target = valkey_server()
    assert answers(our_server(), target) == answers(valkey_server(), target)


@pytest.fixture
def target():
    """A listener that accepts whoever comes, and says only what a test has it say."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(5)
        yield listener


def begin(server, connect, target, *keys, timeout=5000):
    """MIGRATE under way: its client, and the target's end of the connection once all has come."""
    client = connect(server.port)
    port = target.getsockname()[1]
    command = ("MIGRATE", "127.0.0.1", port, "", 0, timeout, "KEYS", *keys)
    client.sock.sendall(hiredis.pack_command(command))
    end, _ = target.accept()
    end.settimeout(5)
    reader, came = hiredis.Reader(), []
    while len(came) < 1 + len(keys):
        reader.feed(end.recv(65536))
        came += iter(reader.gets, False)
    assert [words[0] for words in came] == [b"SELECT"] + [b"RESTORE"] * len(keys)
    return client, end


def test_others_are_served_and_who_wants_the_key_waits(our_server, connect, target):
    server = our_server()
    other, asks = connect(server.port), connect(server.port)
    other.ask(("SET", "a", "1"), ("SET", "b", "2"))
    client, end = begin(server, connect, target, "a")
    assert other.ask(("GET", "b"), ("INCR", "b")) == [b"2", 3]
    asks.sock.sendall(hiredis.pack_command(("APPEND", "a", "x")))
    assert other.one("PING") == b"PONG"
    assert not select.select([asks.sock], [], [], 0.2)[0]
    end.sendall(b"+OK\r\n+OK\r\n")
    assert client.next() == b"OK"
    assert asks.next() == 1  # the key was gone by then
    assert other.one("GET", "a") == b"x"


def test_what_a_script_changes_meanwhile_is_sent_again(our_server, connect, target):
    server = our_server()
    other = connect(server.port)
    other.one("SET", "a", "1")
    client, end = begin(server, connect, target, "a")
    other.one("EVAL", "return redis.call('set', 'a', '2')", 0)
    end.sendall(b"+OK\r\n+OK\r\n")
    again = end.recv(65536)
    assert b"RESTORE" in again and b"REPLACE" in again
    end.sendall(b"+OK\r\n")
    assert client.next() == b"OK"
    assert other.one("EXISTS", "a") == 0


def test_a_target_that_goes_away_or_is_silent_leaves_the_keys(our_server, connect, target):
    server = our_server()
    other = connect(server.port)
    other.ask(("SET", "a", "1"), ("SET", "b", "2"))
    client, end = begin(server, connect, target, "a", "b")
    end.sendall(b"+OK\r\n+OK\r\n")  # of SELECT and a; b's doesn't come
    end.close()
    assert str(client.next()) == "IOERR error or timeout reading to target instance"
    assert other.one("KEYS", "*") == [b"b"]
    client, end = begin(server, connect, target, "b", timeout=50)
    assert str(client.next()) == "IOERR error or timeout reading to target instance"
    assert other.one("GET", "b") == b"2"


SCRIPT = "local r = {redis.pcall('MIGRATE', unpack(ARGV))} return {r[1], redis.call('DBSIZE')}"


def in_the_middle(source, connect, target_port, closed_port):
    """What a source answers to MIGRATEs inside transactions and scripts."""
    client = connect(source.port)
    to = ("127.0.0.1", target_port)
    said = client.ask(
        ("MSET", "a", 1, "b", 2, "c", 3, "d", 4, "e", 5),
        ("MULTI",),
        ("MIGRATE", *to, "a", 0, 5000),
        ("EXISTS", "a"),
        ("MIGRATE", *to, "", 0, 5000, "KEYS", "b", "none"),
        ("MIGRATE", *to, "none", 0, 5000),
        ("MIGRATE", "127.0.0.1", closed_port, "c", 0, 5000),
        ("MIGRATE", "nohost.invalid", 1, "c", 0, 5000),
        ("MIGRATE", *to, "c", 99, 5000),
        ("SET", "after", "x"),
        ("EXEC",),
        ("EVAL", SCRIPT, 0, *to, "d", 0, 5000, "COPY"),
        ("EVAL", SCRIPT, 0, *to, "d", 0, 5000),
        ("EVAL", SCRIPT, 0, *to, "e", 0, 5000),
    )
    return list(map(shown, said))


def test_transactions_and_scripts_wait_for_the_end(our_server, valkey_server, connect):
    target, both = valkey_server(), []
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and listens not
        for source in (our_server(), valkey_server()):
            target.call("FLUSHALL")
            said = in_the_middle(source, connect, target.port, closed.getsockname()[1])
            both.append((said, sorted(target.call("KEYS", "*"))))
    assert both[0] == both[1]
    assert both[0][1] == [b"a", b"b", b"c", b"d", b"e"]  # c in spite of the refused SELECT


def test_a_transaction_waits_no_longer_than_it_says(our_server, connect, target):
    server = our_server()
    client = connect(server.port)
    move = ("MIGRATE", "127.0.0.1", target.getsockname()[1], "a", 0, 100)
    replies = client.ask(("SET", "a", "1"), ("MULTI",), move, ("GET", "a"), ("EXEC",))
    assert str(replies[-1][0]) == "IOERR error or timeout reading to target instance"
    assert replies[-1][1] == b"1"


def test_what_a_transaction_moved_goes_to_the_log_with_it(our_server, valkey_server, connect):
    source, target, replica = our_server(), valkey_server(), our_server()
    replica.call("REPLICAOF", "127.0.0.1", source.port)
    wait_until(lambda: b"master_link_status:up" in replica.call("INFO", "replication"), "the link")
    client = connect(source.port)
    client.ask(
        ("MSET", "a", 1, "b", 2),
        ("MULTI",),
        ("MIGRATE", "127.0.0.1", target.port, "a", 0, 5000),
        ("SET", "c", 3),
        ("EXEC",),
    )
    wait_until(lambda: sorted(replica.call("KEYS", "*")) == [b"b", b"c"], "the replica follows")


def test_what_was_moved_is_deleted_in_the_log_by_one_del(our_server, valkey_server, connect):
    source, target, replica = our_server(), valkey_server(), our_server()
    replica.call("REPLICAOF", "127.0.0.1", source.port)
    source.call("MSET", "a", 1, "b", 2, "c", 3)
    wait_until(lambda: replica.call("DBSIZE") == 3, "the replica has them")
    source.call("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", "a", "b", "nokey")
    wait_until(lambda: replica.call("KEYS", "*") == [b"c"], "the replica lacks them")
    assert target.call("DBSIZE") == 2


class Line(Unconnected):
    """A transport that notes what it is to carry."""

    def __init__(self):
        self.calls = []
        self.closed = []

    def connect(self, link):
        self.calls.append(link)

    def close(self, peer):
        self.closed.append(peer)


def test_a_connection_serves_again_until_it_is_idle_for_too_long():
    local = local_node()
    line = local.node.transport = Line()
    client = local.client()
    for _ in range(2):
        client.call("SET", "a", "1")
        assert client.call("MIGRATE", "other", 7000, "a", 0, 100) is False
        (courier,) = line.calls
        if not courier.up:
            courier.connected()
            assert b"SELECT" in courier.take_output(1 << 20)
            courier.receive(b"+OK\r\n")
        courier.receive(b"+OK\r\n")
        assert client.next() == b"OK"
    local.advance(IDLE_MS)
    assert line.closed == []
    local.advance(1)
    assert line.closed == [courier]
    client.call("SET", "a", "1")
    client.call("MIGRATE", "other", 7000, "a", 0, 100)
    assert len(line.calls) == 2


def test_no_connection_in_time():
    local = local_node()
    line = local.node.transport = Line()
    client = local.client()
    client.call("SET", "a", "1")
    client.send("MIGRATE", "other", 7000, "a", 0, 100)
    local.advance(101)
    assert str(client.next()) == "IOERR error or timeout connecting to the client"
    assert line.closed and client.call("GET", "a") == b"1"


def test_nothing_is_deleted_while_writes_are_held():
    """A replica that takes over during the pause must not keep what its primary has deleted."""
    local = local_node()
    line = local.node.transport = Line()
    client = local.client()
    client.call("SET", "a", "1")
    client.send("MIGRATE", "other", 7000, "a", 0, 100)
    (courier,) = line.calls
    courier.connected()
    local.client().call("CLIENT", "PAUSE", 1000, "WRITE")
    courier.take_output(1 << 20)
    courier.receive(b"+OK\r\n+OK\r\n")
    local.advance(900)
    assert client.next() is False
    assert local.node.keyspace[0].peek(b"a") is not None
    local.advance(200)
    assert client.next() == b"OK"
    assert local.node.keyspace[0].peek(b"a") is None
