"""MULTI, EXEC and WATCH where time, other clients and the log come in."""

import hiredis
import pytest
from local import Client, Local, local_node

from node.persistence.log import Cursor


@pytest.fixture
def local() -> Local:
    return local_node()


def logged(local: Local, cursor: Cursor) -> list[list[bytes]]:
    """The requests in the log since the cursor was there."""
    local.node.log.flush()
    reader = hiredis.Reader()
    reader.feed(local.node.log.read(cursor, 1 << 20))
    requests = []
    while (request := reader.gets()) is not False:
        requests.append(request)
    return requests


def run(client: Client, *commands: str) -> object:
    """MULTI, these commands, EXEC; its reply."""
    assert client.call("MULTI") == b"OK"
    for command in commands:
        assert client.call(*command.split()) == b"QUEUED"
    return client.call("EXEC")


def test_effects_are_logged_as_a_whole(local):
    cursor = local.node.log.open_cursor()
    client = local.client()
    run(client, "SET a 1", "GET a", "SELECT 3", "SET b 2", "PUBLISH news x")
    assert logged(local, cursor) == [
        [b"MULTI"],
        [b"SELECT", b"0"],
        [b"SET", b"a", b"1"],
        [b"SELECT", b"3"],
        [b"SET", b"b", b"2"],
        [b"PUBLISH", b"news", b"x"],
        [b"EXEC"],
    ]


def test_one_effect_needs_no_transaction_and_none_leaves_no_trace(local):
    cursor = local.node.log.open_cursor()
    client = local.client()
    run(client, "GET a", "SET a 1")
    run(client, "GET a", "DEL nothing")
    assert logged(local, cursor) == [[b"SELECT", b"0"], [b"SET", b"a", b"1"]]


def test_publish_alone_is_for_replicas_only(local):
    local.node.log.open_aof()
    cursor = local.node.log.open_cursor()
    local.client().session.receive(b"PUBLISH news x\r\n")
    local.node.log.flush()
    assert logged(local, cursor)[-1] == [b"PUBLISH", b"news", b"x"]
    assert b"PUBLISH" not in b"".join(local.node.log.aof or [])


@pytest.mark.parametrize("odd", [b"+b\r\n", b"=5\r\ntxt:b\r\n", b"$1\r\nbxx", b"$2\r\n\r\nxx"])
def test_odd_requests_are_logged_in_their_canonical_form(local, odd):
    """What a client may get away with, if it sends several at a time, must not reach replicas and
    files."""
    cursor = local.node.log.open_cursor()
    request = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n" + odd
    replies = local.client().raw(request) + local.client().raw(request * 2)
    value = local.client().call("GET", "a")
    local.node.log.flush()
    select, write = map(hiredis.pack_command, (("SELECT", 0), ("SET", "a", value or "")))
    logged_writes = write * replies.count(b"+OK\r\n")
    assert bool(logged_writes) == (value is not None)
    assert local.node.log.read(cursor, 1 << 20) == (logged_writes and select + logged_writes)


def test_a_pipelined_transaction_is_logged_once(local):
    cursor = local.node.log.open_cursor()
    client = local.client()
    client.raw(b"MULTI\r\nSET a 1\r\nSET b 2\r\nEXEC\r\n")
    client.raw(b"".join(map(hiredis.pack_command, [("MULTI",), ("INCR", "a"), ("EXEC",)])))
    assert [request[0] for request in logged(local, cursor)] == [
        *(b"MULTI", b"SELECT", b"SET", b"SET", b"EXEC"),
        b"INCR",
    ]


def test_another_client_breaks_it(local):
    client, other = local.client(), local.client()
    client.call("WATCH", "a", "b")
    other.call("SET", "b", 1)
    assert run(client, "SET a 1") is None
    assert other.call("EXISTS", "a") == 0


def test_a_change_of_another_database_does_not(local):
    client, other = local.client(), local.client()
    client.call("WATCH", "a")
    other.call("SELECT", 1)
    other.call("SET", "a", 1)
    assert run(client, "GET a") == [None]


@pytest.mark.parametrize("notice", ["lazily", "actively"])
def test_the_end_of_a_keys_time_breaks_it(local, notice):
    client = local.client()
    client.call("SET", "a", 1, "PX", 100)
    client.call("WATCH", "a")
    if notice == "lazily":
        local.clock.advance(200)
    else:
        local.advance(200)
    assert run(client, "GET a") is None


def test_a_key_that_was_over_before_is_no_change_when_deleted(local):
    client = local.client()
    client.call("SET", "a", 1, "PX", 100)
    local.clock.advance(200)
    client.call("WATCH", "a")
    local.advance(200)  # it is deleted now
    assert run(client, "GET a") == [None]


def test_a_key_that_was_over_and_comes_back_is_one(local):
    client, other = local.client(), local.client()
    client.call("SET", "a", 1, "PX", 100)
    local.clock.advance(200)
    client.call("WATCH", "a")
    other.call("SET", "a", 2)
    assert run(client, "GET a") is None


def test_flushing_breaks_it_only_where_there_was_something(local):
    client, other = local.client(), local.client()
    client.call("WATCH", "nothing")
    other.call("FLUSHALL")
    assert run(client, "GET nothing") == [None]
    other.call("SET", "a", 1)
    client.call("WATCH", "a")
    other.call("FLUSHDB")
    assert run(client, "GET a") is None


def test_watching_costs_nothing_once_it_is_over(local):
    client = local.client()
    client.call("WATCH", "a", "b", "a")
    assert (local.node.watches.keys(), local.node.watches.clients()) == (2, 1)
    assert local.node.keyspace.on_change is not None
    local.node.close_session(client.session)
    assert (local.node.watches.keys(), local.node.watches.clients()) == (0, 0)
    assert local.node.keyspace.on_change is None


def test_protocol_may_change_on_the_way(local):
    client = local.client()
    client.call("MULTI")
    for command in ("CONFIG GET maxclients", "HELLO 3", "CONFIG GET maxclients"):
        client.call(*command.split())
    answer = client.send("EXEC")
    assert answer.startswith(b"*3\r\n*2\r\n$10\r\nmaxclients")
    assert answer.endswith(b"%1\r\n$10\r\nmaxclients\r\n$5\r\n10000\r\n")


def test_a_refused_exec_ends_the_transaction(local):
    client = local.client()
    client.call("MULTI")
    client.call("SET", "a", 1)
    local.node.config.min_replicas_to_write = 1
    local.node.refresh_gate()
    assert str(client.call("EXEC")) == (
        "EXECABORT Transaction discarded because of: NOREPLICAS Not enough good replicas to write."
    )
    assert str(client.call("EXEC")) == "ERR EXEC without MULTI"
    client.call("MULTI")
    client.call("GET", "a")
    assert client.call("EXEC") == [None]


def test_exec_waits_for_the_end_of_a_pause_if_it_writes(local):
    client, other = local.client(), local.client()
    for each in (client, other):
        each.call("MULTI")
    client.call("SET", "a", 1)
    other.call("GET", "a")
    local.client().call("CLIENT", "PAUSE", 1000, "WRITE")
    assert client.call("EXEC") is False
    assert other.call("EXEC") == [None]
    local.advance(1001)
    assert client.next() == [b"OK"]


def test_statistics_count_what_ran(local):
    client = local.client()
    client.call("CONFIG", "RESETSTAT")
    run(client, "SET a 1", "INCR a")
    client.call("INCR")
    client.call("SET", "s", "text")
    client.call("INCR", "s")
    shown = client.call("INFO", "commandstats").decode()
    assert "cmdstat_incr:calls=2," in shown
    assert "rejected_calls=1,failed_calls=1" in shown.split("cmdstat_incr:")[1].split("\r\n")[0]
    assert "cmdstat_set:calls=2," in shown


@pytest.mark.parametrize(
    ("before", "after", "broken"),
    [
        ("SET x 1 PX 1", "", False),
        ("", "SET x 1 PX 1", False),
        ("SET x 1 PX 1", "SET x 2 PX 1", False),
        ("SET x 1 PX 1", "SET x 2", True),
        ("SET x 1", "SET x 2 PX 1", True),
        ("", "SET x 1", True),
        ("SET x 1", "", True),
    ],
)
def test_watched_keys_are_judged_by_what_swapdb_shows(local, before, after, broken):
    local.node.expiring.is_on = False
    client = local.client()
    for db, line in ((1, after), (0, before)):
        client.call("SELECT", db)
        if line:
            client.call(*line.split())
    local.clock.advance(2)
    client.call("WATCH", "x")
    client.call("SWAPDB", 0, 1)
    assert run(client, "PING") == (None if broken else [b"PONG"])
