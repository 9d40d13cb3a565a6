"""Digests of data are those of a real server's DEBUG DIGEST."""

from typing import Any

from local import local_node

from node.data.digest import digest_of_all, digest_of_value

DATA = (
    *("SET a 1", "SET b hello EX 1000", "RPUSH l 1 2 abc", "SADD s 1 2 3 x", "SADD i 1 2 3"),
    *("ZADD z 1 a 2.5 b 1e30 c inf d 1234567.891 e 0.1 f", "HSET h f v g 12"),
    *("XADD st 1-1 a b c d", "XADD st 2-0 a b", "SELECT 3", "SET q r", "SELECT 0"),
)


def test_digests(oracle: Any) -> None:
    local = local_node()
    client, keyspace = local.client(), local.node.keyspace
    for line in DATA:
        assert client.call(*line.split()) == oracle.one(*line.split())
    assert oracle.one("DEBUG", "DIGEST") == digest_of_all(keyspace.databases)
    for key in (b"a", b"b", b"l", b"s", b"i", b"z", b"h", b"st", b"none"):
        assert oracle.one("DEBUG", "DIGEST-VALUE", key) == [digest_of_value(keyspace[0], key)]


def test_digest_of_nothing() -> None:
    assert digest_of_all(local_node().node.keyspace.databases) == b"0" * 40
