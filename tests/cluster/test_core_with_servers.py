"""A core on plain sockets among real servers: they take it for one of theirs, and elect it."""

from collections.abc import Iterator
from random import Random

import pytest
from socket_driver import SocketDriver

from cluster import effects as fx
from cluster.core import Core
from cluster.desk import Options
from cluster.nodesfile import fresh_view
from cluster.view import FAIL, PFAIL
from tests.conftest import ServerProcess, free_ports

DIRECTIVES = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000")
SLOTS = [(0, 5460), (5461, 10922), (10923, 16383)]


@pytest.fixture
def driver() -> Iterator[SocketDriver]:
    port = free_ports(1)[0]
    options = Options(port=port, bus_port=port + 10000, node_timeout=1000, human_name="ours")
    rng = Random(port)
    driver = SocketDriver(Core(fresh_view(rng), options, rng))
    yield driver
    driver.close()


def fields_of(server: ServerProcess, node_id: str) -> list[str]:
    """What a server's CLUSTER NODES says of a node."""
    text = server.call("CLUSTER", "NODES")
    lines = [line.split() for line in text.decode().splitlines()]
    return next((words for words in lines if words[0] == node_id), [])


def meet(driver: SocketDriver, server: ServerProcess) -> None:
    driver.ask(fx.Meet("127.0.0.1", server.port, server.port + 10000))


@pytest.mark.parametrize("kind", ["valkey_server", "redis_server"])
def test_a_real_server_takes_it_for_one_of_theirs(kind, request, driver):
    server = request.getfixturevalue(kind)(*DIRECTIVES)
    server_id = server.call("CLUSTER", "MYID").decode()
    meet(driver, server)
    driver.ask(fx.AddSlots(((0, 99), (200, 200))))
    me = driver.core.view.myself

    def seen() -> bool:
        words = fields_of(server, me.id)
        return words[2:3] == ["master"] and words[7:] == ["connected", "0-99", "200"]

    driver.run_until(seen, f"{kind} lists our node as connected")
    assert fields_of(server, me.id)[1].startswith(f"127.0.0.1:{me.port}@{me.bus_port}")
    other = driver.core.view.nodes[server_id]
    driver.run_until(lambda: other.connected and other.inbound, "links both ways")
    assert len(driver.core.view.nodes) == 2 and me.ip == "127.0.0.1"

    # Both stay content with each other for longer than the node timeout.
    settled = driver.now()
    driver.run_until(lambda: driver.now() - settled > 1500, "time passes")
    assert fields_of(server, me.id)[2] == "master"
    assert not other.flags & (PFAIL | FAIL) and other.connected
    server.call("CLUSTER", "ADDSLOTS", 300)
    driver.run_until(lambda: driver.core.view.owner[300] is other, "its slot is known here")

    driver.ask(fx.Forget(server_id))
    driver.run_until(lambda: driver.core.view.nodes.keys() == {me.id}, "it is forgotten")


def test_real_primaries_of_two_kinds_elect_it(valkey_server, redis_server, driver):
    fast = ("--cluster-replica-validity-factor", "0")
    servers = [
        valkey_server(*DIRECTIVES, *fast),
        valkey_server(*DIRECTIVES),
        redis_server(*DIRECTIVES),
    ]
    doomed, *voters = servers
    me = driver.core.view.myself
    for server, (first, last) in zip(servers, SLOTS, strict=True):
        server.call("CLUSTER", "ADDSLOTS", *range(first, last + 1))
        server.call("CLUSTER", "SET-CONFIG-EPOCH", servers.index(server) + 1)
        meet(driver, server)
    nodes = driver.core.view.nodes
    driver.run_until(lambda: driver.core.view.voters == 3, "all slots are known")
    doomed_id = doomed.call("CLUSTER", "MYID").decode()
    driver.ask(fx.Replicate(doomed_id))
    driver.core.facts.data_age = 0
    driver.run_until(
        lambda: all(fields_of(server, me.id)[3:4] == [doomed_id] for server in servers),
        "everybody takes it for a replica",
    )
    driver.run_until(
        lambda: all(b"cluster_state:ok" in server.call("CLUSTER", "INFO") for server in servers),
        "the cluster is up",
    )
    doomed.kill()
    driver.run_until(lambda: me.is_primary, "it is elected")
    assert len([e for e in driver.effects if isinstance(e, fx.Promote)]) == 1
    driver.run_until(
        lambda: all(fields_of(server, me.id)[8:] == ["0-5460"] for server in voters),
        "the others know whom to ask",
    )
    assert nodes[doomed_id].failed and me.config_epoch > 3


def test_it_votes_for_a_real_replica_and_reports_a_refusal_at_once(valkey_server, driver):
    servers = [valkey_server(*DIRECTIVES, "--repl-diskless-sync-delay", "0") for _ in range(3)]
    doomed, voter, replica = servers
    me = driver.core.view.myself
    doomed.call("CLUSTER", "ADDSLOTS", *range(5461))
    voter.call("CLUSTER", "ADDSLOTS", *range(5461, 10923))
    driver.ask(fx.AddSlots((SLOTS[2],)))
    for server in servers:
        meet(driver, server)
    doomed_id, replica_id = (s.call("CLUSTER", "MYID").decode() for s in (doomed, replica))
    driver.run_until(
        lambda: b"cluster_known_nodes:4" in replica.call("CLUSTER", "INFO"), "all have met"
    )
    assert replica.call("CLUSTER", "REPLICATE", doomed_id) == b"OK"
    driver.run_until(
        lambda: (
            b"master_link_status:up" in replica.call("INFO", "replication")
            and driver.core.view.nodes[replica_id].primary
            and all(b"cluster_state:ok" in server.call("CLUSTER", "INFO") for server in servers)
        ),
        "the replica is linked",
    )
    doomed.kill()
    driver.run_until(
        lambda: driver.core.view.nodes[doomed_id].flags & (PFAIL | FAIL), "suspected", 0.3
    )
    driver.run_until(lambda: driver.core.view.owner[0].id == replica_id, "the replica takes over")
    assert f"Failover auth granted to {replica_id}" in driver.log
    assert me.is_primary and driver.core.view.last_vote_epoch > 0
