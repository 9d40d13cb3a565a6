"""What applications do with redis-py: pipelines, messages, streams, scripts, caches, queues."""

import asyncio
import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
import redis.asyncio
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection

LIBRARY = """#!lua name=shop
local function sell(keys, args)
    local left = tonumber(redis.call('HGET', keys[1], args[1]) or '0')
    if left <= 0 then return redis.error_reply('SOLDOUT nothing left') end
    return redis.call('HINCRBY', keys[1], args[1], -1)
end
redis.register_function('sell', sell)
redis.register_function{
    function_name = 'left',
    callback = function(keys, args) return redis.call('HGET', keys[1], args[1]) end,
    flags = {'no-writes'},
}
"""


def wait_until(condition, timeout=5.0):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_pipelines(client):
    with client.pipeline(transaction=False) as pipeline:
        for i in range(1000):
            pipeline.set(f"key:{i}", i).incr(f"key:{i}").get(f"key:{i}")
        replies = pipeline.execute()
    assert replies[::3] == [True] * 1000
    assert replies[1::3] == list(range(1, 1001))
    assert replies[2::3] == [str(i) for i in range(1, 1001)]


def test_an_error_in_a_pipeline_leaves_the_others_alone(client):
    pipeline = client.pipeline(transaction=False)
    pipeline.set("a", 1).lpush("a", 2).incr("a")
    done, error, number = pipeline.execute(raise_on_error=False)
    assert (done, number) == (True, 2)
    assert isinstance(error, redis.ResponseError) and str(error).startswith("WRONGTYPE")


def test_a_transaction_is_all_or_nothing(client):
    with pytest.raises(redis.ResponseError):
        client.pipeline().set("a", 1).execute_command("NOSUCH").execute()
    assert client.get("a") is None


def test_watch_loops_lose_no_increment(client):
    """Readers that write what they read plus one; who was overtaken tries again."""

    def add_one(pipeline):
        value = int(pipeline.get("counter") or 0)
        pipeline.multi()
        pipeline.set("counter", value + 1)

    def work():
        for _ in range(25):
            client.transaction(add_one, "counter")

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work) for _ in range(4)]:
            done.result()
    assert client.get("counter") == "100"


def test_an_expired_key_breaks_a_watch(client):
    with client.pipeline() as pipeline:
        for px in itertools.accumulate(itertools.repeat(20)):  # it must live to be watched
            client.set("a", 1, px=px)
            pipeline.watch("a")
            if pipeline.get("a") is not None:
                break
            pipeline.unwatch()
        wait_until(lambda: client.get("a") is None)
        pipeline.multi()
        pipeline.set("b", 1)
        with pytest.raises(redis.WatchError):
            pipeline.execute()


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages(node_port, client, protocol):
    with redis.Redis(port=node_port, protocol=protocol, decode_responses=True) as listener:
        messages = listener.pubsub()
        messages.subscribe("news")
        messages.psubscribe("n*s")
        messages.ssubscribe("shard")
        for _ in range(3):
            assert messages.get_message(timeout=5)["type"].endswith("subscribe")
        assert client.publish("news", "hello") == 2
        assert client.spublish("shard", "there") == 1
        first, second = (messages.get_message(timeout=5) for _ in range(2))
        assert (first["type"], first["data"]) == ("message", "hello")
        assert (second["type"], second["pattern"], second["data"]) == ("pmessage", "n*s", "hello")
        third = messages.get_sharded_message(timeout=5)
        assert (third["channel"], third["data"]) == ("shard", "there")
        messages.unsubscribe()
        assert messages.get_message(timeout=5)["type"] == "unsubscribe"
        assert client.publish("other", "x") == 0
        messages.close()


def test_keyspace_notifications(node_port, client):
    client.config_set("notify-keyspace-events", "KEA")
    with redis.Redis(port=node_port, decode_responses=True) as listener:
        messages = listener.pubsub(ignore_subscribe_messages=True)
        messages.psubscribe("__keyevent@0__:expired")
        messages.get_message(timeout=5)
        client.set("soon", 1, px=10)
        found = messages.get_message(timeout=5)
        messages.close()
    client.config_set("notify-keyspace-events", "")
    assert found["data"] == "soon"


def test_streams_with_groups(client):
    """Two consumers share the work; what one leaves undone the other claims."""
    ids = [client.xadd("jobs", {"number": i}) for i in range(10)]
    client.xgroup_create("jobs", "workers", id="0")
    ((_, mine),) = client.xreadgroup("workers", "anna", {"jobs": ">"}, count=6)
    ((_, others),) = client.xreadgroup("workers", "bert", {"jobs": ">"})
    assert [entry for entry, _ in mine + others] == ids
    assert client.xack("jobs", "workers", *[entry for entry, _ in mine]) == 6
    pending = client.xpending("jobs", "workers")
    assert (pending["pending"], pending["consumers"]) == (4, [{"name": "bert", "pending": 4}])
    cursor, claimed, deleted = client.xautoclaim("jobs", "workers", "anna", 0, count=10)
    assert (cursor, [entry for entry, _ in claimed], deleted) == ("0-0", ids[6:], [])
    assert client.xack("jobs", "workers", *ids[6:]) == 4
    group = client.xinfo_groups("jobs")[0]
    assert (group["pending"], group["lag"], group["last-delivered-id"]) == (0, 0, ids[-1])
    assert client.xtrim("jobs", maxlen=0, approximate=False) == 10


def test_a_blocked_consumer_gets_what_comes(node_port, client):
    client.xgroup_create("jobs", "workers", mkstream=True)
    with ThreadPoolExecutor(1) as pool, redis.Redis(port=node_port) as blocked:
        waiting = pool.submit(blocked.xreadgroup, "workers", "anna", {"jobs": ">"}, block=5000)
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
        entry = client.xadd("jobs", {"number": 1})
        assert waiting.result() == [[b"jobs", [(entry.encode(), {b"number": b"1"})]]]


def test_scripts(client):
    script = client.register_script(
        "local sum = 0 for _, key in ipairs(KEYS) do sum = sum + redis.call('INCRBY', key, ARGV[1])"
        " end return {sum, cjson.encode({sum = sum})}"
    )
    assert script(keys=["a", "b"], args=[5]) == [10, '{"sum":10}']
    client.script_flush()
    assert script(keys=["a", "b"], args=[1]) == [12, '{"sum":12}']  # NOSCRIPT, then loaded again
    assert client.script_exists(script.sha) == [True]
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        client.eval("return redis.call('LPUSH', KEYS[1], 1)", 1, "a")


def test_functions(client):
    assert client.function_load(LIBRARY) == "shop"
    client.hset("stock", "apple", 1)
    assert client.fcall("sell", 1, "stock", "apple") == 0
    with pytest.raises(redis.ResponseError, match="SOLDOUT"):
        client.fcall("sell", 1, "stock", "apple")
    assert client.fcall_ro("left", 1, "stock", "apple") == "0"
    dump = client.execute_command("FUNCTION DUMP", NEVER_DECODE=True)
    client.function_delete("shop")
    assert client.function_list() == []
    client.function_restore(dump)
    assert client.fcall_ro("left", 1, "stock", "apple") == "0"


def test_locks(client):
    """redis-py's lock lives on scripts and on SET NX PX."""
    lock = client.lock("door", timeout=5)
    assert lock.acquire() and lock.locked()
    assert not client.lock("door", timeout=5).acquire(blocking=False)
    assert lock.extend(5) and lock.reacquire()
    lock.release()
    assert not lock.locked()


def test_client_side_cache(node_port, client, monkeypatch):
    """What is read is kept until somebody else writes it.

    redis-py caches only from servers that call themselves Redis 7.4 or newer.
    """
    monkeypatch.setattr(CacheProxyConnection, "MIN_ALLOWED_VERSION", "7.2.0")
    with redis.Redis(
        port=node_port, protocol=3, decode_responses=True, cache_config=CacheConfig()
    ) as cached:
        client.set("a", "old")
        client.hset("h", mapping={"f": 1})
        before = calls_of(client, "get")
        assert [cached.get("a") for _ in range(5)] == ["old"] * 5
        assert calls_of(client, "get") == before + 1
        client.set("a", "new")
        wait_until(lambda: cached.get("a") == "new")
        assert cached.hget("h", "f") == "1"
        client.delete("h")
        wait_until(lambda: cached.hget("h", "f") is None)
        client.flushall()
        wait_until(lambda: cached.get("a") is None)


def calls_of(client, command):
    return client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]


def test_a_queue_that_loses_nothing(node_port, client):
    """BLMOVE to a list of one's own, then remove: each job is done once, in order."""
    done = []

    def work():
        with redis.Redis(port=node_port, decode_responses=True) as worker:
            while (job := worker.blmove("todo", "doing", 5, "LEFT", "RIGHT")) != "end":
                done.append(int(job))
                worker.lrem("doing", 1, job)

    thread = threading.Thread(target=work)
    thread.start()
    for i in range(200):
        client.rpush("todo", i)
    client.rpush("todo", "end")
    thread.join(10)
    assert done == list(range(200))
    assert client.lrange("doing", 0, -1) == ["end"]


def test_those_who_wait_longest_are_served_first(node_port, client):
    clients = [redis.Redis(port=node_port, decode_responses=True) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        waiting = []
        for i, one in enumerate(clients):
            waiting.append(pool.submit(one.blpop, ["queue", "other"], 5))
            wait_until(lambda i=i: client.info("clients")["blocked_clients"] == i + 1)
        client.rpush("queue", "a", "b", "c")
        client.rpush("other", "d")
        replies = [one.result() for one in waiting]
    assert [value for _, value in replies] == ["a", "b", "c", "d"]
    for one in clients:
        one.close()


def test_a_priority_queue(node_port, client):
    with ThreadPoolExecutor(1) as pool, redis.Redis(port=node_port) as blocked:
        waiting = pool.submit(blocked.bzpopmin, "work", 5)
        wait_until(lambda: client.info("clients")["blocked_clients"] == 1)
        client.zadd("work", {"late": 9, "soon": 1})
        assert waiting.result() == (b"work", b"soon", 1.0)


def test_scanning_meets_every_key(client):
    client.mset({f"key:{i}": i for i in range(2000)})
    met = set()
    for i, key in enumerate(client.scan_iter(match="key:*", count=50)):
        met.add(key)
        client.set(f"more:{i}", i)
    assert met == {f"key:{i}" for i in range(2000)}


def test_asyncio(node_port, client):
    async def talk():
        one = redis.asyncio.Redis(port=node_port, decode_responses=True)
        async with one, one.pubsub() as messages:
            await messages.subscribe("news")
            await messages.get_message(timeout=5)
            await asyncio.gather(*(one.incr("n") for _ in range(50)))
            await one.publish("news", await one.get("n"))
            return await messages.get_message(timeout=5)

    assert asyncio.run(talk())["data"] == "50"
