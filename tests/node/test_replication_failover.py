"""FAILOVER: who hands over, when, and what clients see of it."""

import socket

import pytest
from replication_network import Network
from servers import wait_until
from test_replication_servers import (
    QUICK,
    ServerProcess,
    break_links,
    fill,
    follow,
    info,
    ours,
    real,
    wait_in_sync,
    wait_linked,
    write,
)

__all__ = ["ours", "real"]  # fixtures


def three() -> Network:
    """A primary `p` and its replicas `r` and `s`, which are found by their names."""
    network = Network()
    for name in "prs":
        network.add(name, replica_announce_ip=name)
    for name in "rs":
        network.nodes[name].follow("p", 6379)
    network.client("p").call("SET", "k", 1)
    network.run(100)
    return network


def state(network: Network, name: str = "p") -> str:
    return str(network.nodes[name].describe_replication()["master_failover_state"])


def test_the_role_moves_and_everybody_follows_without_a_full_sync():
    network = three()
    assert network.client("p").call("FAILOVER", "TO", "s", 6379) == b"OK"
    network.run(200)
    roles = {name: node.describe_role()[0] for name, node in network.nodes.items()}
    assert roles == {"p": b"slave", "r": b"slave", "s": b"master"}
    assert state(network) == "no-failover"
    assert network.client("s").call("SET", "k", 2) is not None
    network.run(1500)
    assert network.client("r").call("GET", "k") == b"2"  # through p
    assert [node.observe.full_syncs for node in network.nodes.values()] == [2, 0, 0]
    assert network.nodes["p"].config.replicaof == ("s", 6379)


def test_any_replica_will_do_where_none_is_named():
    network = three()
    assert network.client("p").call("FAILOVER") == b"OK"
    network.run(200)
    assert sorted(node.is_replica() for node in network.nodes.values()) == [False, True, True]
    assert network.nodes["p"].is_replica()


def test_writes_wait_and_are_refused_by_the_replica_that_the_node_has_become():
    network = three()
    writer, reader = network.client("p"), network.client("p")
    network.unreachable.add("s")
    network.nodes["p"].role.primary.find(("s", 6379)).acked = 0
    assert network.client("p").call("FAILOVER", "TO", "s", 6379) == b"OK"
    assert writer.call("SET", "k", 2) is False
    assert reader.call("GET", "k") == b"1"
    assert state(network) == "waiting-for-sync"
    network.run(200)
    assert state(network) == "failover-in-progress" and network.nodes["p"].is_replica()
    assert writer.next() is False
    again = network.client("p").call("FAILOVER")
    assert str(again) == "ERR FAILOVER already in progress."
    assert str(network.client("p").call("REPLICAOF", "r", 1)).startswith(
        "ERR REPLICAOF not allowed"
    )
    network.unreachable.clear()
    network.run(2000)
    assert str(writer.next()).startswith("READONLY")


def test_the_offset_stands_still_while_replicas_catch_up():
    network = three()
    primary = network.nodes["p"]
    network.client("p").call("SET", "soon", 1, "PX", 50)
    network.settle()
    primary.role.primary.find(("r", 6379)).acked = -1
    network.unreachable.update("rs")
    for name in "rs":
        network.break_link(name)
        network.nodes[name].role.link.retry_ms = 1 << 60
    network.add("t", replica_announce_ip="t")
    network.nodes["t"].follow("p", 6379)
    network.settle()
    lagging = primary.role.primary.find(("t", 6379))
    lagging.acked = -1
    primary.transport.close(network.nodes["t"].role.link)  # nothing more is heard of it
    primary.role.primary.replicas.append(lagging)
    assert network.client("p").call("FAILOVER", "TIMEOUT", 20000) == b"OK"
    offset = primary.log.flush()
    waiting = network.client("p")
    assert waiting.call("WAIT", 1, 0) is False
    network.clock.advance(15000)
    primary.tick()
    assert network.client("p").call("GET", "soon") is None
    assert primary.log.flush() == offset
    network.clock.advance(5000)
    primary.tick()
    assert state(network) == "no-failover" and not primary.pause.is_on()
    assert primary.log.flush() > offset


def test_abort_makes_a_primary_of_the_node_again():
    network = three()
    network.unreachable.add("s")
    history = network.nodes["p"].role.history.id
    assert network.client("p").call("FAILOVER", "TO", "s", 6379) == b"OK"
    network.run(100)
    assert state(network) == "failover-in-progress"
    assert network.client("p").call("FAILOVER", "ABORT") == b"OK"
    assert state(network) == "no-failover" and not network.nodes["p"].is_replica()
    assert network.nodes["p"].role.history.previous_id == history
    assert network.client("p").call("SET", "k", 3) == b"OK"
    network.unreachable.clear()
    network.run(1500)
    assert network.client("s").call("GET", "k") == b"3"


def test_force_does_not_wait_longer_than_its_time():
    network = three()
    found = network.nodes["p"].role.primary.find(("s", 6379))
    network.unreachable.update("ps")
    network.break_link("s")
    network.nodes["p"].role.primary.replicas.append(found)  # as if nothing had been noticed yet
    call = ("FAILOVER", "TO", "s", 6379, "FORCE", "TIMEOUT", 300)
    found.acked = -1
    assert network.client("p").call(*call) == b"OK"
    network.run(200)
    assert state(network) == "waiting-for-sync"
    network.run(200)
    assert state(network) == "failover-in-progress"
    network.unreachable.clear()
    network.run(1500)
    assert state(network) == "no-failover"
    assert not network.nodes["s"].is_replica() and network.nodes["p"].role.link.is_up()


def test_a_target_that_refuses_ends_it():
    network = three()
    network.unreachable.add("s")
    assert network.client("p").call("FAILOVER", "TO", "s", 6379) == b"OK"
    network.run(100)
    network.nodes["s"].promote()  # somebody else was faster
    network.unreachable.clear()
    network.run(1500)
    assert state(network) == "no-failover"
    assert not network.nodes["p"].is_replica() and not network.nodes["s"].is_replica()


def test_nobody_may_follow_a_node_that_hands_over():
    network = three()
    network.unreachable.add("s")
    assert network.client("p").call("FAILOVER", "TO", "s", 6379) == b"OK"
    network.run(100)
    refusal = network.client("p").call("PSYNC", "?", -1)
    assert str(refusal) == "NOMASTERLINK Can't SYNC while failing over"


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ("ABORT", "No failover in progress."),
        ("TIMEOUT 0", "FAILOVER timeout must be greater than 0"),
        ("TO q 1", "FAILOVER target HOST and PORT is not a replica."),
        ("FORCE TIMEOUT 5", "FAILOVER with force option requires both a timeout and target HOST"),
        ("FORCE TO r 6379", "FAILOVER with force option requires both a timeout and target HOST"),
        ("ABORT TIMEOUT 5", "syntax error"),
        ("TO r", "syntax error"),
        ("TIMEOUT 5 TIMEOUT 5", "syntax error"),
        ("TO r x", "value is not an integer"),
    ],
)
def test_what_makes_no_sense_is_refused(words, refusal):
    network = three()
    assert str(network.client("p").call("FAILOVER", *words.split())).startswith(f"ERR {refusal}")
    assert state(network) == "no-failover"


def test_only_a_primary_with_replicas_fails_over():
    network = three()
    assert str(network.client("r").call("FAILOVER")).startswith("ERR FAILOVER is not valid when")
    network.add("alone")
    refusal = str(network.client("alone").call("FAILOVER"))
    assert refusal == "ERR FAILOVER requires connected replicas."


def test_the_end_of_a_failover_leaves_a_pause_by_clients_alone():
    network = three()
    network.client("p").call("CLIENT", "PAUSE", 5000, "WRITE")
    network.client("p").call("FAILOVER", "TO", "s", 6379)
    network.run(500)
    assert state(network) == "no-failover"
    assert network.nodes["p"].pause.reason() == "client_pause"


def test_a_pause_by_clients_does_not_silence_a_primary():
    network = three()
    network.client("p").call("CLIENT", "PAUSE", 30_000, "WRITE")
    offset = network.nodes["p"].log.flush()
    network.run(11_000)
    assert network.nodes["p"].log.flush() > offset  # a PING, by which replicas know that it lives


# --- with real servers ---------------------------------------------------------------------------


def hand_over(primary: ServerProcess, replica: ServerProcess) -> None:
    wait_until(lambda: "state=online" in info(primary)["slave0"], "online for the primary")
    wait_in_sync(primary, replica)
    assert primary.call("FAILOVER", "TO", "127.0.0.1", replica.port, "TIMEOUT", 8000) == b"OK"
    wait_until(lambda: info(primary)["role"] == "slave", "the primary follows")
    wait_linked(primary)
    assert info(primary)["master_failover_state"] == "no-failover"


@pytest.mark.parametrize("gives_up", ["ours", "theirs"])
def test_roles_go_round_between_ours_and_real_servers(ours, real, gives_up):
    primary, replica = (ours(), real()) if gives_up == "ours" else (real(), ours())
    fill(primary)
    follow(replica, primary)
    for round in range(2):
        write(primary, f"round{round}")
        hand_over(primary, replica)
        primary, replica = replica, primary
    write(primary, "end")
    wait_in_sync(primary, replica)
    assert [info(one, "stats")["sync_full"] for one in (primary, replica)] == ["1", "0"]


def test_a_write_that_waited_is_sent_to_the_new_primary(ours, valkey_server):
    """A client that said CLIENT CAPA redirect learns where to go."""
    primary, replica = ours(), valkey_server(*QUICK)
    follow(replica, primary)
    wait_until(lambda: "state=online" in info(primary)["slave0"], "online for the primary")
    with socket.create_connection(("127.0.0.1", primary.port), 10) as client:
        client.sendall(b"CLIENT CAPA redirect\r\n")
        assert client.recv(100) == b"+OK\r\n"
        assert primary.call("FAILOVER") == b"OK"
        client.sendall(b"SET k 1\r\n")
        assert client.recv(100) == b"-REDIRECT 127.0.0.1:%d\r\n" % replica.port
        break_links(primary, "master")
        client.sendall(b"GET k\r\nPING\r\n")
        expected = b"-REDIRECT 127.0.0.1:%d\r\n+PONG\r\n" % replica.port
        wait_until(lambda: client.recv(200, socket.MSG_PEEK) == expected, "the answers")
