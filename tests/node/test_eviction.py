"""maxmemory: what is refused, what goes, and who is told."""

import pytest
from local import Client, Local, local_node

from node.host import Nowhere

FULL = "OOM command not allowed when used memory > 'maxmemory'."


class Machine(Nowhere):
    """Where a process takes a megabyte."""

    def memory(self) -> int:
        return 1 << 20


@pytest.fixture
def local() -> Local:
    found = local_node()
    found.node.host = Machine()
    return found


@pytest.fixture
def client(local: Local) -> Client:
    return local.client()


def limit(local: Local, more: int, policy: str = "noeviction") -> None:
    """Let the data take so many bytes more than they do."""
    client = local.client()
    client.call("CONFIG", "SET", "maxmemory-policy", policy)
    client.call("CONFIG", "SET", "maxmemory", 1 << 40)
    client.call("CONFIG", "SET", "maxmemory", max(local.node.eviction.used() + more, 1))


def fill(client: Client, count: int, *options: str) -> list[str]:
    return [str(client.call("SET", f"k{i}", "x" * 1000, *options)) for i in range(count)]


def test_nothing_is_refused_or_followed_without_a_limit(local, client):
    fill(client, 10)
    assert local.node.keyspace.on_change is None


def test_refuses_what_needs_memory(local, client):
    client.call("SET", "a", "1")
    limit(local, 5000)
    answers = fill(client, 10)
    assert answers[0] == "b'OK'" and answers[-1] == FULL
    assert client.call("GET", "a") == b"1"
    assert client.call("DEL", *(f"k{i}" for i in range(10))) > 0
    assert client.call("SET", "k", "v") == b"OK"


def test_sizes_follow_every_change(local, client):
    limit(local, 1 << 30)
    before = local.node.eviction.used()
    lines = """SET a 1; APPEND a 23; RPUSH l 1 2 3; LPOP l; HSET h a 1 b 2; HDEL h a; RENAME l m
        COPY m n; MOVE n 1; SADD s 1 2; SPOP s; XADD x * a b; ZADD z 1 a; EXPIRE a 100; SWAPDB 0 1
        SWAPDB 0 1; SET gone 1 PX 1"""
    for line in lines.replace("\n", ";").split(";"):
        client.call(*line.split())
    local.advance(10)
    followed = local.node.eviction.used()
    assert followed > before
    local.node.eviction._measure()
    assert local.node.eviction.used() == followed
    client.call("FLUSHALL")
    assert local.node.eviction.used() == before


def test_a_transaction_is_spoiled_by_what_is_refused(local, client):
    client.call("MULTI")
    client.call("SET", "a", "1")
    limit(local, -1)
    assert str(client.call("GET", "a")) == FULL
    assert "EXECABORT" in str(client.call("EXEC"))
    client.call("MULTI")
    local.client().call("CONFIG", "SET", "maxmemory", 0)
    assert str(client.call("EXEC")) == "[]"


def test_a_transaction_queued_before_is_refused_if_it_needs_memory(local, client):
    other = local.client()
    for one, line in ((client, "SET a 1"), (other, "GET a")):
        one.call("MULTI")
        one.call(*line.split())
    limit(local, -1)
    assert "EXECABORT" in str(client.call("EXEC")) and FULL in str(client.call("SET", "a", "1"))
    assert other.call("EXEC") == [None]


def test_scripts(local, client):
    limit(local, -1)
    assert FULL in str(client.call("EVAL", "return redis.call('set','a',1)", 0))
    assert client.call("EVAL", "return redis.call('get','a')", 0) is None
    refused = client.call("EVAL", "#!lua\nreturn 1", 0)
    assert "OOM allow-oom flag is not set on the script" in str(refused)
    assert client.call("EVAL", "#!lua flags=no-writes\nreturn 1", 0) == 1
    source = "#!lua flags=allow-oom\nreturn redis.call('set','a',1)"
    assert client.call("EVAL", source, 0) == b"OK"


@pytest.mark.parametrize("policy", ["allkeys-random", "allkeys-lru", "allkeys-lfu"])
def test_lets_keys_go(local, client, policy):
    limit(local, 20_000, policy)
    assert set(fill(client, 100)) == {"b'OK'"}
    assert 5 < client.call("DBSIZE") < 20
    assert local.node.eviction.evicted == 100 - client.call("DBSIZE")
    local.node.keyspace[0].check()


@pytest.mark.parametrize("policy", ["volatile-random", "volatile-lru", "volatile-lfu"])
def test_lets_only_keys_with_deadlines_go(local, client, policy):
    client.call("SET", "stays", "x" * 1000)
    limit(local, 20_000, policy)
    assert set(fill(client, 50, "EX", "1000")) == {"b'OK'"}
    assert client.call("EXISTS", "stays") == 1
    client.call("CONFIG", "SET", "maxmemory", 1)
    assert str(client.call("SET", "a", "1")) == FULL
    assert client.call("DBSIZE") == 1


def test_lets_the_earliest_deadline_go_first(local, client):
    client.call("CONFIG", "SET", "maxmemory-samples", 64)
    for i in range(10):
        client.call("SET", f"k{i}", "x" * 1000, "EX", 1000 - i)
    limit(local, -3000, "volatile-ttl")
    client.call("SET", "one", "more")
    assert client.call("EXISTS", "k0", "k1", "k2", "k3") == 4
    assert client.call("EXISTS", "k7", "k8", "k9") == 0


def test_lets_what_was_used_least_recently_go_first(local, client):
    client.call("CONFIG", "SET", "maxmemory-samples", 64)
    client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    fill(client, 10)
    local.advance(5000)
    for i in range(5):
        client.call("GET", f"k{i}")
    limit(local, -2000, "allkeys-lru")
    client.call("SET", "one", "more")
    assert client.call("EXISTS", *(f"k{i}" for i in range(5))) == 5
    assert client.call("DBSIZE") < 10


def test_counts_how_often_keys_are_used(local, client):
    client.call("CONFIG", "SET", "maxmemory-policy", "allkeys-lfu")
    client.call("MSET", "often", "1", "seldom", "1")
    for _ in range(1000):
        client.call("GET", "often")
    often = client.call("OBJECT", "FREQ", "often")
    assert client.call("OBJECT", "FREQ", "seldom") <= 6 < often < 100
    local.advance(2 * 60_000)
    assert client.call("OBJECT", "FREQ", "often") == often - 2
    payload = client.call("DUMP", "often")
    client.call("RESTORE", "again", 0, payload, "FREQ", 100)
    assert client.call("OBJECT", "FREQ", "again") in (100, 101)
    assert "LFU" in str(client.call("OBJECT", "IDLETIME", "often"))


def test_tells_log_and_listeners(local, client):
    client.call("CONFIG", "SET", "notify-keyspace-events", "Ee")
    listener = local.client()
    listener.call("SUBSCRIBE", "__keyevent@0__:evicted")
    fill(client, 1)
    local.node.log.keep_backlog(1 << 20)
    cursor = local.node.log.open_cursor()
    limit(local, -1, "allkeys-random")
    client.call("SET", "new", "1")
    assert listener.next() == [b"message", b"__keyevent@0__:evicted", b"k0"]
    local.node.log.flush()
    assert b"UNLINK\r\n$2\r\nk0" in local.node.log.read(cursor, 1 << 20)


def test_keys_go_before_whatever_comes_next(local, client):
    client.call("SETEX", "volatile", "10000", "x")
    limit(local, 10_000, "volatile-random")
    client.call("HELLO", 3)
    client.call("CLIENT", "TRACKING", "ON")
    client.call("GET", "volatile")
    client.call("SETBIT", "large", 1_600_000, 0)
    said = client.raw(b"DBSIZE\r\n")
    assert said.startswith(b">2\r\n$10\r\ninvalidate") and said.endswith(b"volatile\r\n:1\r\n")
    client.call("DEL", "large")
    assert client.call("SET", "a", "1") == b"OK"
