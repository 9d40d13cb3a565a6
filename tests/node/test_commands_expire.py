"""Deadlines against a real server, and under a virtual clock."""

import itertools
from random import Random

import pytest
from differential import Ours, Pair
from local import local_node

from node.clock import VirtualClock
from node.config import Config
from node.node import Node

MAX, MIN = 2**63 - 1, -(2**63)
NUMBERS = (
    "abc",
    "",
    "0",
    "-1",
    "100",
    MAX,
    MIN,
    MAX + 1,
    9223372036854775,
    9223372036854774,
    "1.5",
)


@pytest.mark.parametrize("name", ["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"])
def test_extremes(pair: Pair, name: str) -> None:
    for number in NUMBERS:
        pair.same("SET", "k", "v")
        pair.same(name, "k", number)
        pair.same("EXISTS", "k")
        pair.same(name, "none", number)


def test_conditions(pair: Pair) -> None:
    words = ("NX", "XX", "GT", "lt")
    for before in ((), ("100",)):
        for number in ("50", "100", "200", "-1"):
            for chosen in (
                *itertools.product(words, repeat=1),
                *itertools.product(words, repeat=2),
            ):
                pair.same("SET", "k", "v")
                if before:
                    pair.same("PEXPIREAT", "k", 33177117420000)
                at = number if number == "-1" else str(33177117420000 - 100 + int(number))
                pair.same("PEXPIREAT", "k", at, *chosen)
                pair.same("PEXPIRETIME", "k")
    pair.lines("EXPIRE k 100 foo", "EXPIRE k abc foo", "EXPIRE k 9 NX foo", "EXPIRE none 5 NX XX")


def test_asking(pair: Pair) -> None:
    pair.lines(
        *("TTL none", "PTTL none", "EXPIRETIME none", "PEXPIRETIME none", "SET k v", "TTL k"),
        *("PTTL k", "EXPIRETIME k", "PEXPIRETIME k", "PEXPIREAT k 33177117420499", "EXPIRETIME k"),
        *("PEXPIRETIME k", "PEXPIREAT k 33177117420500", "EXPIRETIME k", "PERSIST k", "PERSIST k"),
        *("PERSIST none", "TTL k", "EXPIRE k 100", "TTL k", "RENAME k j", "TTL j", "COPY j i"),
        *("TTL i", "MOVE i 3", "SELECT 3", "TTL i", "SELECT 0", "SET j v", "TTL j", "SET j v"),
        *("EXPIRE j 100", "APPEND j x", "TTL j", "INCR n", "EXPIRE n 100", "INCR n", "TTL n"),
        *(
            "SETRANGE j 0 y",
            "SETBIT j 0 1",
            "TTL j",
            "GETSET j v",
            "TTL j",
            "PEXPIRE j 1400",
            "TTL j",
        ),
    )
    for unit in (1, 1000):
        pair.same("EXPIRE", "n", 1000 * unit)
        pair.close(50, "PTTL", "n")


@pytest.fixture
def virtual() -> tuple[VirtualClock, Ours]:
    clock = VirtualClock()
    return clock, Ours(Node(Config(), clock, Random(1)))


def test_rounding(virtual: tuple[VirtualClock, Ours]) -> None:
    _, ours = virtual
    ours.ask("SET", "k", "v")
    for left_ms, seconds in ((1499, 1), (1500, 2), (499, 0), (500, 1), (999_500, 1000)):
        ours.ask("PEXPIRE", "k", left_ms)
        assert ours.ask("TTL", "k") == seconds
        assert ours.ask("PTTL", "k") == left_ms


def test_a_key_is_gone_at_its_deadline(virtual: tuple[VirtualClock, Ours]) -> None:
    clock, ours = virtual
    ours.ask("SET", "k", "v", "PX", 100)
    clock.advance(99)
    assert ours.ask("GET", "k") == b"v"
    clock.advance(1)
    ours.take_log(), ours.take_events()
    assert ours.ask("GET", "k") is None
    assert ours.take_log() == [[b"UNLINK", b"k"]]
    assert [event for _, event, _ in ours.take_events()] == [b"expired", b"keymiss"]
    ours.node.keyspace.databases[0].check()


@pytest.mark.parametrize("command", ["SET k w KEEPTTL", "SET k w XX", "SETRANGE k 1 x", "INCR k"])
def test_an_expired_key_is_as_good_as_none(
    virtual: tuple[VirtualClock, Ours], command: str
) -> None:
    clock, ours = virtual
    ours.ask("SET", "k", "5", "PX", 100)
    clock.advance(100)
    ours.ask(*command.split())
    assert ours.ask("PTTL", "k") in (-1, -2)
    assert ours.ask("GET", "k") in (b"w", None, b"\0x", b"1")
    ours.node.keyspace.databases[0].check()


def test_deadlines_survive_in_the_log_as_times(virtual: tuple[VirtualClock, Ours]) -> None:
    clock, ours = virtual
    now = clock.wall_ms()
    ours.ask("SET", "k", "v", "EX", 10)
    ours.ask("EXPIRE", "k", 20)
    ours.ask("GETEX", "k", "PX", 5)
    ours.ask("SETEX", "j", 3, "v")
    assert ours.take_log() == [
        [b"SET", b"k", b"v", b"PXAT", b"%d" % (now + 10_000)],
        [b"PEXPIREAT", b"k", b"%d" % (now + 20_000)],
        [b"PEXPIREAT", b"k", b"%d" % (now + 5)],
        [b"SET", b"j", b"v", b"PXAT", b"%d" % (now + 3000)],
    ]


def test_in_import_mode_the_source_decides_what_expires() -> None:
    local = local_node()
    source, other = local.client(), local.client()
    assert "not in import mode" in str(source.call("CLIENT", "IMPORT-SOURCE", "ON"))
    other.call("CONFIG", "SET", "import-mode", "yes")
    assert source.call("CLIENT", "IMPORT-SOURCE", "ON") == b"OK"
    assert b"flags=I " in source.call("CLIENT", "INFO")
    source.call("SET", "k", "1", "PX", "1")
    source.call("SET", "l", "1")
    source.call("EXPIREAT", "l", "-1")
    local.advance(10)
    assert (other.call("GET", "k"), other.call("TTL", "k")) == (None, -2)
    assert other.call("DBSIZE") == 2
    assert (source.call("INCR", "k"), source.call("TTL", "k")) == (2, 0)
    assert sorted(source.call("KEYS", "*")) == [b"k", b"l"] and other.call("KEYS", "*") == []
    assert source.call("RESET") == b"RESET" and source.call("GET", "k") is None
    other.call("CONFIG", "SET", "import-mode", "no")
    local.advance(10)
    assert other.call("DBSIZE") == 0
