"""MEMORY USAGE and STATS tell what is there, and more of more."""

import pytest
from local import Client, local_node

MANY = [str(i) for i in range(1000)]
GROWING = {
    "list": (["RPUSH", "k", "1"], ["RPUSH", "k", *MANY]),
    "set": (["SADD", "k", "x"], ["SADD", "k", *MANY]),
    "hash": (["HSET", "k", "x", "y"], ["HSET", "k", *MANY]),
    "zset": (["ZADD", "k", "1", "x"], ["ZADD", "k", *(word for i in MANY for word in (i, i))]),
    "stream": (["XADD", "k", "*", "x", "y"], ["XADD", "k", "*", *MANY]),
    "string": (["SET", "k", "x"], ["APPEND", "k", "x" * 1000]),
}


@pytest.fixture
def client() -> Client:
    return local_node().client()


@pytest.mark.parametrize("kind", GROWING)
def test_usage_grows(client: Client, kind: str) -> None:
    few, many = GROWING[kind]
    client.call(*few)
    before = client.call("MEMORY", "USAGE", "k")
    client.call(*many)
    after = client.call("MEMORY", "USAGE", "k", "SAMPLES", "0")
    assert before > 50 and before + 1000 <= after < 1_000_000


def test_fields_with_deadlines_take_more(client: Client) -> None:
    client.call("HSET", "k", "a", "1", "b", "2")
    before = client.call("MEMORY", "USAGE", "k")
    client.call("HEXPIRE", "k", "100", "FIELDS", "1", "a")
    assert client.call("MEMORY", "USAGE", "k") > before


def test_order_takes_more(client: Client) -> None:
    client.call("ZADD", "k", "1", "a", "2", "b")
    before = client.call("MEMORY", "USAGE", "k")
    client.call("ZRANGE", "k", "0", "-1")
    assert client.call("MEMORY", "USAGE", "k") >= before


def test_usage_of_nothing_and_its_errors(client: Client) -> None:
    assert client.call("MEMORY", "USAGE", "none") is None
    for words in (["SAMPLES"], ["SAMPLES", "-1"], ["FOO", "1"]):
        assert str(client.call("MEMORY", "USAGE", "none", *words)) == "ERR syntax error"


def test_stats(client: Client) -> None:
    client.call("MSET", "a", "1", "b", "2")
    client.call("EXPIRE", "a", "100")
    flat = client.call("MEMORY", "STATS")
    stats = dict(zip(flat[::2], flat[1::2], strict=True))
    assert stats[b"keys.count"] == 2
    tables = dict(zip(stats[b"db.0"][::2], stats[b"db.0"][1::2], strict=True))
    assert tables[b"overhead.hashtable.main"] > tables[b"overhead.hashtable.expires"] > 0
    assert client.call("MEMORY", "PURGE") == b"OK"
    assert b"Sam" in client.call("MEMORY", "DOCTOR")
