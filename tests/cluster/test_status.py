"""What the table of a cluster shows, from what each node says, or that it says nothing."""

from io import StringIO

import pytest
import trio

from cluster.admin import View, parse_info, parse_nodes
from cluster.status import Row, Survey, plain, row_of, table
from tests.conftest import free_ports

NODES = (
    "a 127.0.0.1:7000@17000 {a}master - 0 0 1 connected 0-16383\n"
    "b 127.0.0.1:7001@17001 {b}slave a 0 0 1 connected\n"
)


def view(me: str, replication: str, state: str = "ok") -> View:
    nodes = NODES.format(**{"a": "", "b": "", me: "myself,"})
    return View(
        parse_nodes(nodes.encode()),
        {"cluster_state": state},
        parse_info(replication.encode()),
        keys=5,
    )


PRIMARY = view("a", "role:master\nmaster_repl_offset:150")
REPLICA = view(
    "b", "role:slave\nmaster_link_status:up\nslave_repl_offset:120\nmaster_repl_offset:120"
)
ONE, TWO = ("127.0.0.1", 7000), ("127.0.0.1", 7001)


def test_a_primary_shows_its_slots_and_a_replica_its_lag():
    views = {ONE: PRIMARY, TWO: REPLICA}
    assert row_of(ONE, views) == Row(7000, "primary", "0-16383", 5, 150, None, "ok")
    assert row_of(TWO, views) == Row(7001, "replica of 7000", "", 5, 120, 30, "ok")


def test_who_cannot_answer_shows_why():
    views = {ONE: "silent", TWO: REPLICA}
    assert row_of(ONE, views).cells() == ["7000", "?", "", "", "", "", "silent"]
    assert row_of(TWO, views).lag is None


@pytest.mark.parametrize(
    ("me", "replication", "cluster", "state"),
    [
        ("a", "master_repl_offset:1", "fail", "cluster fail"),
        ("b", "master_link_status:down\nmaster_repl_offset:1", "ok", "link down"),
    ],
)
def test_states_worth_a_look(me, replication, cluster, state):
    assert row_of(ONE, {ONE: view(me, replication, cluster)}).state == state


def test_rows_as_lines_are_aligned_and_as_a_table_coloured():
    from rich.console import Console

    rows = [row_of(ONE, {ONE: PRIMARY, TWO: REPLICA}), Row(7001)]
    assert plain(rows).splitlines() == [
        "node  role     slots    keys  offset  lag  state",
        "7000  primary  0-16383  5     150          ok",
        "7001  ?                                    down",
    ]
    out = StringIO()
    Console(file=out, width=100, force_terminal=True, color_system="standard").print(table(rows))
    assert "\x1b[32mok\x1b[0m" in out.getvalue()
    assert "\x1b[1;31mdown\x1b[0m" in out.getvalue()


async def test_a_survey_waits_for_nobody():
    """One node hangs, one is gone: both are told within the timeout."""
    hung, gone = free_ports(2)
    listener = trio.socket.socket()
    await listener.bind(("127.0.0.1", hung))
    listener.listen()
    survey = Survey([("127.0.0.1", hung), ("127.0.0.1", gone)], timeout=0.1)
    with trio.fail_after(2):
        rows = await survey.take()
    assert [row.state for row in rows] == ["silent", "down"]
    listener.close()


async def test_a_survey_goes_on_after_a_node_came_back(valkey_server):
    """A connection that was lost is replaced at the next look."""
    options = ("--cluster-enabled", "yes")
    node = await trio.to_thread.run_sync(valkey_server, *options)
    survey = Survey([("127.0.0.1", node.port)])
    assert [row.state for row in await survey.take()] == ["cluster fail"]
    node.kill()
    assert [row.state for row in await survey.take()] == ["down"]
    await trio.to_thread.run_sync(lambda: valkey_server(*options, port=node.port))
    [row] = await survey.take()
    assert (row.role, row.state) == ("primary", "cluster fail")
    survey.close()
