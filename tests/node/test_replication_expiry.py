"""Keys whose time has come, on replicas: ours and a real one follow the same primary, and are asked
the same."""

from typing import Any

import pytest
from servers import Server, wait_until
from test_replication_servers import QUICK, info, wait_linked

SOON_MS = 40
FULL_OF_TYPES = (
    "SET s 12|RPUSH l a b c|SADD t a b|HSET h f 1 g 2|ZADD z 1 a 2 b|XADD x 1-1 f v|SET stays 1|"
    "SETBIT bits 5 1|PFADD hll a b|SADD alive a c|SET number 5"
)
EXPIRING = ("s", "l", "t", "h", "z", "x", "bits", "hll", "number")
READS = (
    "GET s|EXISTS s l stays|TTL s|PTTL s|EXPIRETIME s|PEXPIRETIME s|TYPE s|KEYS *|"
    "SCAN 0 COUNT 1000|"
    "STRLEN s|OBJECT ENCODING s|DUMP s|TOUCH s stays|MGET s stays|LRANGE l 0 -1|LLEN l|SMEMBERS t|"
    "SUNION t alive|SINTERCARD 2 t alive|HGETALL h|HGET h f|ZRANGE z 0 -1|ZSCORE z a|XLEN x|"
    "XRANGE x - +|XREAD COUNT 1 STREAMS x 0|BITCOUNT bits|GETRANGE s 0 1|PFCOUNT hll|"
    "SORT_RO l ALPHA|"
    "OBJECT REFCOUNT s|GETBIT bits 5|SISMEMBER t a|EVAL_RO return{redis.call('GET','s')} 0"
)
WRITES = (
    "INCR number|TTL number|GET number|APPEND s x|GET s|RPUSH l z|LRANGE l 0 -1|TTL l|SADD t q|"
    "SMEMBERS t|RENAME h hh|COPY z zz|PERSIST x|EXPIRE bits 100|SUNIONSTORE u t alive|"
    "GETEX z PERSIST|GETDEL x|SET own 1 PX 40|SET other 1|PEXPIRE other 40|HSET oh f v|"
    "PEXPIREAT oh 1|EXPIRE stays -1"
)
OWN = ("own", "other", "oh", "stays")


@pytest.fixture
def replicas(redis_server: Any, our_server: Any) -> tuple[Server, Server, Server]:
    """A real primary that deletes nothing by itself; a real replica of it and ours."""
    primary = redis_server(*QUICK, "--enable-debug-command", "yes")
    primary.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    real = redis_server(*QUICK, "--replicaof", f"127.0.0.1 {primary.port}")
    own = our_server(*QUICK, "--replicaof", f"127.0.0.1 {primary.port}")
    for replica in (real, own):
        wait_linked(replica)
    for line in FULL_OF_TYPES.split("|"):
        primary.call(*line.split())
    for key in EXPIRING:
        primary.call("PEXPIRE", key, SOON_MS)
    for replica in (real, own):
        wait_in_step(primary, replica)
        wait_until(lambda one=replica: one.call("EXISTS", *EXPIRING) == 0, "their time has come")
    return primary, real, own


def wait_in_step(primary: Server, replica: Server) -> None:
    def offset(server: Server) -> str:
        return info(server)["master_repl_offset"]

    wait_until(lambda: offset(replica) == offset(primary), "equal offsets")


def shown(reply: object) -> object:
    if isinstance(reply, list):
        return sorted(map(repr, map(shown, reply)))
    return repr(reply) if isinstance(reply, Exception) else reply


def compare(real: Server, ours: Server, lines: str) -> None:
    for line in lines.split("|"):
        words = line.split()
        found, expected = shown(ours.call(*words)), shown(real.call(*words))
        assert found == expected, line


def test_they_are_hidden_from_readers_and_not_deleted(replicas):
    primary, real, ours = replicas
    compare(real, ours, READS)
    assert str(ours.call("SET", "s", 1)).startswith("READONLY")
    assert ours.call("DBSIZE") == 11
    assert info(ours, "stats")["expired_keys"] == "0"
    primary.call("GET", "s")  # now it says so
    wait_until(lambda: ours.call("DBSIZE") == 10, "the primary's DEL arrives")
    assert info(ours)["slave_repl_offset"] == info(real)["slave_repl_offset"]


def test_a_writable_replica_gets_them_out_of_its_own_way_and_expires_what_it_made(replicas):
    _, real, ours = replicas
    for replica in (real, ours):
        assert replica.call("CONFIG", "SET", "replica-read-only", "no") == b"OK"
    compare(real, ours, WRITES)
    for replica in (real, ours):
        wait_until(lambda one=replica: one.call("EXISTS", *OWN) == 0, "their time has come")
    expired = [int(info(replica, "stats")["expired_keys"]) for replica in (real, ours)]
    assert min(expired) >= 4
    compare(real, ours, READS)


def test_after_its_promotion_it_deletes_them(replicas):
    _, real, ours = replicas
    for replica in (real, ours):
        replica.call("REPLICAOF", "NO", "ONE")
        wait_until(lambda one=replica: one.call("DBSIZE") == 2, "all are deleted")
    compare(real, ours, READS)
