"""Digests of data are those of a real server's DEBUG DIGEST."""

from differential import Pair

from node.data.digest import digest_of_all, digest_of_value

DATA = (
    *("SET a 1", "SET b hello EX 1000", "RPUSH l 1 2 abc", "SADD s 1 2 3 x", "SADD i 1 2 3"),
    *("ZADD z 1 a 2.5 b 1e30 c inf d 1234567.891 e 0.1 f", "HSET h f v g 12"),
    *("XADD st 1-1 a b c d", "XADD st 2-0 a b", "SELECT 3", "SET q r", "SELECT 0"),
)


def test_digests(pair: Pair) -> None:
    for line in DATA:
        pair.same(*line.split())
    keyspace = pair.ours.node.keyspace
    assert pair.theirs_raw("DEBUG", "DIGEST") == b"+%b\r\n" % digest_of_all(keyspace.databases)
    for key in (b"a", b"b", b"l", b"s", b"i", b"z", b"h", b"st", b"none"):
        expected = b"*1\r\n+%b\r\n" % digest_of_value(keyspace[0], key)
        assert pair.theirs_raw("DEBUG", "DIGEST-VALUE", key) == expected, key


def test_digest_of_nothing(pair: Pair) -> None:
    assert digest_of_all(pair.ours.node.keyspace.databases) == b"0" * 40
