"""redis-py keeps what it has read and trusts the server to say when that is stale.

It offers that from Redis 7.4 on, by the version that HELLO tells, though servers have spoken this
protocol since 6.0: here it is told to ask for what this server announces.
"""

from typing import Any

import pytest
import redis
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

from tests.conftest import wait_until


@pytest.fixture
def server(our_server: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.2.4")
    return our_server()


def cached(server: Any) -> redis.Redis:
    return redis.Redis(port=server.port, protocol=3, cache_config=CacheConfig(max_size=100))


def reads(server: Any) -> int:
    """How often GET has come to the server."""
    text = server.call("INFO", "commandstats").decode()
    line = next((line for line in text.splitlines() if line.startswith("cmdstat_get:")), "calls=0,")
    return int(line.partition("calls=")[2].partition(",")[0])


def test_a_copy_is_used_until_the_server_says_that_it_is_stale(server: Any) -> None:
    with cached(server) as reader, redis.Redis(port=server.port) as writer:
        writer.set("a", "1")
        assert [reader.get("a") for _ in range(5)] == [b"1"] * 5
        assert reads(server) == 1
        writer.set("a", "2")
        wait_until(lambda: reader.get("a") == b"2", "the news of SET")
        assert [reader.get("a") for _ in range(5)] == [b"2"] * 5
        assert reads(server) == 2
        reader.set("a", "3")
        assert reader.get("a") == b"3"
        writer.flushall()
        wait_until(lambda: reader.get("a") is None, "the news of FLUSHALL")


def test_expiry_makes_copies_stale(server: Any) -> None:
    with cached(server) as reader, redis.Redis(port=server.port) as writer:
        writer.set("a", "1", px=1000)
        assert reader.get("a") == b"1"
        wait_until(lambda: reader.get("a") is None, "the news of its end")


def test_several_keys_and_commands(server: Any) -> None:
    with cached(server) as reader, redis.Redis(port=server.port) as writer:
        writer.mset({"a": 1, "b": 2})
        writer.hset("h", "f", "v")
        assert reader.mget("a", "b") == [b"1", b"2"]
        assert reader.hgetall("h") == {b"f": b"v"}
        writer.set("b", 3)
        writer.hset("h", "f", "w")
        wait_until(lambda: reader.mget("a", "b") == [b"1", b"3"], "the news of SET")
        wait_until(lambda: reader.hgetall("h") == {b"f": b"w"}, "the news of HSET")
