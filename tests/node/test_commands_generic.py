"""Commands for keys of any type and for whole databases, against a real server."""

import struct
from random import Random

import anycrc
import pytest
from differential import Ours, Pair
from local import local_node

from node.clock import VirtualClock
from node.config import Config
from node.node import Node

MAX = 2**63 - 1


def one_of_each(pair: Pair) -> None:
    pair.lines(
        *("SET s v EX 1000", "RPUSH l a b c", "SADD t 1 2 3", "HSET h f v g w", "ZADD z 1 a 2 b"),
        *("SET n 5", "INCR n", "SETBIT b 3 1"),
    )


def test_being_there(pair: Pair) -> None:
    one_of_each(pair)
    for key in ("s", "l", "t", "h", "z", "n", "b", "none"):
        pair.same("TYPE", key)
        pair.same("EXISTS", key, key, "none")
        pair.same("TOUCH", key, "none")
        pair.same("OBJECT", "ENCODING", key)
    pair.lines(
        *("DEL s s none", "UNLINK l t none", "EXISTS s l t", "DBSIZE", "DBSIZE x", "DEL", "OBJECT"),
        *("OBJECT FOO x", "OBJECT ENCODING", "RANDOMKEY x", "TYPE", "EXISTS"),
    )


def test_other_names_and_places(pair: Pair) -> None:
    one_of_each(pair)
    pair.lines(
        *("RENAME none x", "RENAME none none", "RENAME s s", "RENAME s l", "GET l", "TTL l"),
        *("RENAMENX none x", "RENAMENX l l", "RENAMENX l t", "RENAMENX l s", "TTL s", "EXISTS l"),
        *(
            "MOVE s 0",
            "MOVE s 16",
            "MOVE s x",
            "MOVE s -1",
            "MOVE none 1",
            "MOVE none 0",
            "MOVE s 1",
        ),
        f"MOVE s {MAX}",
        *("SET s v", "MOVE s 1", "COPY h h", "COPY h h DB 0", "COPY h i", "COPY h i", "HGET i f"),
        *(
            "COPY none i REPLACE",
            "COPY none none",
            "COPY h i DB 99",
            "COPY h i DB x",
            "COPY h i FOO",
        ),
        *(
            "COPY h i DB",
            "COPY t i REPLACE",
            "TYPE i",
            "COPY t i DB 2",
            "COPY t i REPLACE DB 1 DB 2",
        ),
        *("SADD i 9", "SCARD t", "SELECT 2", "SCARD i", "SELECT 1", "TTL s", "COPY s q", "TTL q"),
    )


def test_databases(pair: Pair) -> None:
    one_of_each(pair)
    pair.lines(
        *("SWAPDB 0 1", "DBSIZE", "SELECT 1", "DBSIZE", "TTL s", "SWAPDB 1 1", "SWAPDB x 0"),
        *(
            "SWAPDB 0 x",
            "SWAPDB 0 16",
            "SWAPDB -1 0",
            "SWAPDB 99999999999999999999 0",
            "FLUSHDB FOO",
        ),
        *("FLUSHALL SYNC ASYNC", "FLUSHDB", "DBSIZE", "SET k v", "SELECT 0", "FLUSHDB async"),
        *("SELECT 1", "DBSIZE", "FLUSHALL SYNC", "DBSIZE", "RANDOMKEY"),
    )


def test_finding_keys(pair: Pair) -> None:
    one_of_each(pair)
    pair.same("SET", "", "empty")
    for pattern in ("*", "?", "[s-z]", "none", "", "\\*", "**", "[^lhs]", "?*"):
        pair.unordered("KEYS", pattern)
    for words in ([], ["MATCH", "?"], ["TYPE", "string"], ["TYPE", "HASH", "MATCH", "*"]):
        ours, theirs = pair.both("SCAN", 0, "COUNT", 1000, *words)
        assert sorted(ours.split()) == sorted(theirs.split())
    pair.lines(
        *("SCAN x", "SCAN -1", "SCAN 18446744073709551616", "SCAN 0 COUNT 0", "SCAN 0 COUNT x"),
        *("SCAN 0 COUNT", "SCAN 0 FOO 1", "SCAN 0 TYPE Nosuch", "SCAN 0 TYPE nosuch COUNT x"),
        *("SCAN 0 COUNT x TYPE nosuch", "SCAN 0x0", "SCAN ", "SCAN 0 MATCH", "SCAN 0 NOVALUES"),
        *("SCAN 0 COUNT 99 MATCH none", "SCAN +00 COUNT 99 MATCH none", "SCAN 0 TYPE"),
    )


def test_a_scan_meets_every_key_that_stays() -> None:
    ours, chosen = Ours(), Random(8)
    for number in range(3000):
        ours.ask("SET", f"key:{number}", number)
    found, cursor = set(), b"0"
    while True:
        cursor, keys = ours.ask("SCAN", cursor, "COUNT", 100)
        found.update(keys)
        for _ in range(20):
            ours.ask("SET", f"new:{chosen.random()}", 1)
            ours.ask("DEL", f"key:{chosen.randrange(2000, 3000)}")
        if cursor == b"0":
            break
    assert {b"key:%d" % number for number in range(2000)} <= found
    ours.node.keyspace.databases[0].check()


@pytest.mark.parametrize("kind", ["s", "l", "t", "h", "z", "n", "b"])
def test_dump_and_restore_both_ways(pair: Pair, kind: str) -> None:
    one_of_each(pair)
    ours, theirs = pair.both("DUMP", kind)
    for payload in (ours, theirs):
        body = payload.split(b"\r\n", 1)[1][:-2]
        pair.same("RESTORE", "copy", 0, body, "REPLACE")
        pair.same("TYPE", "copy")
        pair.same("OBJECT", "ENCODING", "copy")
        pair.same("TTL", "copy")
    pair.same("DUMP", "none")


def test_restore_refuses(pair: Pair) -> None:
    pair.same("SET", "k", "v")
    payload = pair.both("DUMP", "k")[0].split(b"\r\n", 1)[1][:-2]
    for words in (
        *(["k", 0, "x"], ["k", "x", "x"], ["n", 0, "x"], ["n", -1, "x"], ["n", "x", payload]),
        *(["n", 0, "x", "IDLETIME", -1], ["n", 0, "x", "IDLETIME", "a"], ["n", 0, "x", "FOO"]),
        *(["n", 0, "x", "FREQ", 256], ["n", 0, "x", "FREQ", -1], ["n", 0, "x", "FREQ", "a"]),
        *(["n", 0, "x", "IDLETIME", 1, "FREQ", 1], ["k", -5, "x", "ABSTTL", "REPLACE"]),
        *(["n", 0, payload[:-1] + b"z"], ["n", 0, b"w" + payload[1:]], ["n", 0, "x", "IDLETIME"]),
        *(
            ["n", 0, _signed(b"\x01\x02")],
            ["n", 0, payload],
            ["n", 1, payload, "ABSTTL", "REPLACE"],
        ),
        *(["n", 100000, payload, "FREQ", 5], ["m", 33177117420000, payload, "ABSTTL"]),
    ):
        pair.same("RESTORE", *words)
        pair.same("EXISTS", "n")
    pair.same("PEXPIRETIME", "m")
    pair.close(50, "PTTL", "n")


def _signed(body: bytes) -> bytes:
    body += struct.pack("<H", 10)
    return body + struct.pack("<Q", anycrc.Model("CRC64-REDIS").calc(body))


def test_restored_for_older_replicas() -> None:
    ours = Ours()
    body = b"\0\1v" + struct.pack("<H", 80)
    payload = body + struct.pack("<Q", anycrc.Model("CRC64-REDIS").calc(body))
    assert ours.ask("RESTORE", "k", 0, payload) == b"OK"
    [[name, key, ttl, logged, replace]] = ours.take_log()
    assert (name, key, ttl, replace) == (b"RESTORE", b"k", b"0", b"REPLACE")
    assert logged == ours.ask("DUMP", "k") and logged[-10:-8] == struct.pack("<H", 10)


def test_idle_time_is_known_once_it_is_asked_for() -> None:
    clock = VirtualClock()
    ours = Ours(Node(Config(), clock, Random(1)))
    ours.ask("MSET", "a", 1, "b", 2)
    clock.advance(5000)
    assert ours.ask("OBJECT", "IDLETIME", "a") == 0
    clock.advance(5000)
    ours.ask("GET", "a")
    clock.advance(2500)
    assert [ours.ask("OBJECT", "IDLETIME", key) for key in ("a", "b", "c")] == [2, 7, None]
    for command in (("EXISTS", "b"), ("TTL", "b"), ("TYPE", "b"), ("OBJECT", "ENCODING", "b")):
        ours.ask(*command)
    assert ours.ask("OBJECT", "IDLETIME", "b") == 7
    ours.ask("CLIENT", "NO-TOUCH", "ON")
    ours.ask("GET", "b")
    assert ours.ask("OBJECT", "IDLETIME", "b") == 7
    ours.ask("TOUCH", "b")
    assert ours.ask("OBJECT", "IDLETIME", "b") == 0
    payload = ours.ask("DUMP", "a")
    ours.ask("RESTORE", "d", 0, payload, "IDLETIME", 100)
    assert ours.ask("OBJECT", "IDLETIME", "d") == 100
    ours.ask("SWAPDB", 0, 1)
    ours.ask("FLUSHDB")
    ours.node.keyspace.databases[1].check()


def test_sort(pair: Pair) -> None:
    pair.lines("RPUSH l 3 1 2 10", "SADD t 3 1 2 10", "ZADD z 5 a 1 b 3 c", "RPUSH a b a c B")
    for number in (1, 2, 3, 10):
        pair.same("SET", f"w_{number}", 100 - number)
        pair.same("HSET", f"h_{number}", "f", number * 11)
    pair.lines(*(f"SORT {words}" for words in SORTS))
    pair.lines("SORT_RO l DESC", "SORT_RO l STORE d", "SORT l STORE d", "LRANGE d 0 -1")
    for score in ("", " 5", "0x10", "inf", "nan", "1e400", "-inf", "abc", "1_0", "+5", "1e-400"):
        pair.lines("DEL v", "RPUSH v 1")
        pair.same("RPUSH", "v", score)
        pair.same("SORT", "v")
    pair.lines("DEL v", "RPUSH v b a b ", "SORT v ALPHA BY zz_*", "SORT v ALPHA BY zz_* DESC")


SORTS = (
    *("l", "l DESC", "l ALPHA", "a", "a ALPHA", "a ALPHA DESC LIMIT 1 2", "l BY w_*", "none"),
    *("l BY w_* GET #", "l BY w_* GET # GET w_* GET none_* GET h_*->f GET h_*->", "l BY nosort"),
    *(
        "l BY nosort DESC",
        "z BY nosort",
        "z BY nosort DESC LIMIT 1 1",
        "z",
        "z ALPHA",
        "z ALPHA DESC",
    ),
    *("t", "t BY nosort STORE d", "l LIMIT -1 2", "l LIMIT 0 -1", "l LIMIT 10 1", "l LIMIT 1 0"),
    *("l LIMIT -5 -5", "l LIMIT a 1", "l LIMIT 1", "l FOO", "l GET", "l BY", "l STORE", "w_1"),
    *("l BY h_*->f", "l BY h_*->none", "l BY h_*->none ALPHA", "l GET w_1", "l GET none_* STORE d"),
    *(
        "l BY w_* ALPHA DESC",
        "l ASC DESC",
        "l LIMIT 0 2 LIMIT 1 1",
        "l BY w_* BY nosort",
        "w_1 FOO",
    ),
    *(
        "l STORE d STORE e",
        "none STORE d",
        "none STORE d",
        "none LIMIT a b",
        "l STORE l",
        "l BY l*",
    ),
)


def test_scan_of_a_type_deletes_only_expired_keys_of_it() -> None:
    local = local_node()
    local.node.expiring.is_on = False
    client = local.client()
    client.call("SET", "s", "1", "PX", "1")
    client.call("HSET", "h", "a", "1")
    client.call("PEXPIRE", "h", "1")
    local.clock.advance(2)
    assert client.call("SCAN", "0", "TYPE", "string", "COUNT", "10") == [b"0", []]
    assert client.call("DBSIZE") == 1
