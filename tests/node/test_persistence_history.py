"""A file's place in a history: who is started again goes on with what it lacks."""

from collections.abc import Callable

import pytest
from servers import Server, Start, end, info, is_unanswered, wait_until

QUICK = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
PARTIAL = "Successful partial resynchronization with master"


@pytest.fixture(params=["our", "redis"])
def primary(request: pytest.FixtureRequest) -> Server:
    start: Start = request.getfixturevalue(f"{request.param}_server")
    return start(*QUICK, name="primary")


@pytest.fixture
def replica_of(our_server: Start) -> Callable[..., Server]:
    """A function (primary, server) that starts a replica, in the place of one that ended."""

    def start(primary: Server, ended: Server | None = None) -> Server:
        directives = ("--replicaof", f"127.0.0.1 {primary.port}", *QUICK)
        port = None if ended is None else ended.port
        replica = our_server(*directives, name="replica", port=port)
        wait_until(lambda: info(replica, "replication")["master_link_status"] == "up", "linked")
        return replica

    return start


def caught_up(primary: Server, replica: Server) -> bool:
    return (
        info(primary, "replication")["master_repl_offset"]
        == info(replica, "replication")["master_repl_offset"]
    )


def test_a_replica_goes_on_after_a_restart(primary, replica_of):
    primary.call("SET", "a", 1)
    replica = replica_of(primary)
    primary.call("SELECT", 5)
    assert primary.call("COPY", "a", "b", "DB", 5) == 1
    wait_until(lambda: caught_up(primary, replica), "in step")
    assert end(replica) == 0
    for number in range(10):
        primary.call("INCR", "a")
        primary.call("SET", f"late:{number}", "x", "PX", 100000)
    replica = replica_of(primary, replica)
    wait_until(lambda: caught_up(primary, replica), "in step again")
    assert PARTIAL in replica.log().rpartition("Ready to accept")[2]
    assert replica.call("GET", "a") == b"11" and replica.call("EXISTS", "late:9") == 1
    stats = info(primary, "stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == ("1", "1")


def test_a_primary_goes_on_after_a_restart_and_so_do_its_replicas(our_server, replica_of):
    primary = our_server(*QUICK, name="primary")
    replica = replica_of(primary)
    primary.call("SET", "soon", "x", "PX", 150)
    primary.call("SET", "a", 1)
    assert end(primary) == 0
    assert "1 of 1 replicas are in sync" in primary.log()
    wait_until(lambda: replica.call("PTTL", "soon") == -2, "its time has come")
    primary = our_server(*QUICK, name="primary", port=primary.port)
    wait_until(lambda: info(replica, "replication")["master_link_status"] == "up", "linked again")
    wait_until(lambda: caught_up(primary, replica), "in step")
    primary.call("INCR", "a")
    wait_until(lambda: replica.call("GET", "a") == b"2", "the stream goes on")
    assert PARTIAL in replica.log()
    assert replica.call("DBSIZE") == 1  # it was told that the other one has gone
    stats = info(primary, "stats")
    assert (stats["sync_full"], stats["sync_partial_ok"]) == ("0", "1")


def test_an_old_file_is_no_place_to_go_on_from(our_server, replica_of):
    """A primary that lost what it did since its last snapshot has another history since then."""
    primary = our_server(*QUICK, name="primary")
    replica = replica_of(primary)
    primary.call("SET", "a", 1)
    primary.call("SAVE")
    primary.call("SET", "lost", 1)
    wait_until(lambda: replica.call("GET", "lost") == b"1", "the replica has more")
    primary.kill()
    primary = our_server(*QUICK, name="primary", port=primary.port)
    wait_until(lambda: replica.call("GET", "lost") is None, "the replica has the primary's data")
    assert replica.call("GET", "a") == b"1"
    assert info(primary, "stats")["sync_full"] == "1"


def test_the_end_waits_for_replicas(our_server, replica_of):
    primary = our_server(*QUICK, name="primary")
    replica = replica_of(primary)
    replica.pause()
    primary.call("SET", "a", 1)
    assert is_unanswered(primary, "SHUTDOWN")
    assert "Waiting for replicas before shutting down" in primary.log()
    assert is_unanswered(primary, "SET", "b", 1)
    assert primary.call("SHUTDOWN", "ABORT") == b"OK"
    assert primary.call("SET", "b", 1) == b"OK"
    assert str(primary.call("SHUTDOWN", "ABORT")) == "ERR No shutdown in progress."
    assert is_unanswered(primary, "SHUTDOWN")
    replica.resume()
    assert primary.process.wait(10) == 0
    assert replica.call("GET", "b") == b"1"
