"""SHUTDOWN in a cluster: not while it is needed (SAFE), or with its replica in its place."""

import signal

import pytest

from cluster.slots import key_slot
from tests.cluster.company import PATIENCE, company

THIRDS = ("0-5460", "5461-10922", "10923-16383")


@pytest.mark.parametrize(
    ("primary", "replica"), [("ours", "ours"), ("ours", "valkey"), ("valkey", "ours")]
)
def test_a_replica_takes_over_at_once(our_server, valkey_server, primary, replica):
    start = {"ours": our_server, "valkey": valkey_server}
    kinds = (start[primary], valkey_server, our_server, start[replica])
    # By its silence alone it would be found failed after this time.
    nodes = company(kinds, (*THIRDS, ""), "--cluster-node-timeout", "60000")
    nodes.replicate(3, 0)
    key = next(key for key in map(str, range(99)) if key_slot(key.encode()) < 5461)
    assert nodes.call(0, "SET", key, "x") == b"OK"
    if primary == "ours":
        assert "Errors trying" in str(nodes.call(0, "SHUTDOWN", "SAFE"))
    with pytest.raises(ConnectionError):
        nodes.call(0, "SHUTDOWN", "FAILOVER")
    nodes.wait_primary(3)
    assert nodes.call(3, "GET", key) == b"x"


def test_signals_may_ask_for_it_too(our_server):
    safe = ("--shutdown-on-sigterm", "safe", "--shutdown-on-sigint", "failover nosave")
    nodes = company([our_server] * 4, (*THIRDS, ""), *safe)
    nodes.replicate(3, 0)
    process = nodes.servers[0].process
    process.send_signal(signal.SIGTERM)
    assert nodes.call(0, "PING") == b"PONG"
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    nodes.wait_primary(3)
    replica = nodes.servers[0]
    assert "not safe to shut it down" in replica.log()


def test_words_that_only_a_cluster_knows(our_server, valkey_server):
    for start in (our_server, valkey_server):
        server = start("--save", "")
        said = str(server.call("SHUTDOWN", "FAILOVER"))
        assert said == "ERR SHUTDOWN FAILOVER is only supported in cluster mode."
