"""Random writes of all types over links that break, between ours and real servers; scripts/links
does this for longer and in more ways."""

import itertools
import random
import time

import pytest
from alike import difference, exact
from data_set import ask, contents
from servers import Server, wait_until
from test_replication_servers import break_links, info, ours, real, wait_linked
from write_load import LIBRARY, SHORT_MS, Load

__all__ = ["ours", "real"]  # fixtures
BATCHES = 24
QUIET = ("--repl-ping-replica-period", "3600")


def check_alike(first: Server, others: list[Server], field_deadlines: bool) -> None:
    def offset(server: Server) -> str:
        return info(server)["master_repl_offset"]

    expected = exact(contents(first.port, field_deadlines))
    for other in others:
        wait_until(lambda one=other: offset(one) == offset(first), "equal offsets")  # type: ignore[misc]
        found = exact(contents(other.port, field_deadlines))
        wrong = {key for key in expected | found if expected.get(key) != found.get(key)}
        assert not wrong, [difference(expected.get(key), found.get(key)) for key in wrong]
        assert other.call("FUNCTION", "LIST") == first.call("FUNCTION", "LIST")
    wait_until(lambda: {offset(one) for one in others} == {offset(first)}, "equal offsets")


@pytest.mark.parametrize("first", ["real", "ours"])
def test_a_chain_is_alike_after_writes_and_breaks(ours, real, request, first):
    makers = (real, ours, real) if first == "real" else (ours, real, ours)
    chain = [maker(*QUIET) for maker in makers]
    field_deadlines = "redis" not in request.node.callspec.params["real"]
    load = Load(random.Random(first), field_deadlines)
    chain[0].call("FUNCTION", "LOAD", LIBRARY)
    for number in range(BATCHES):
        ask(chain[0].port, load.batch(40))
        if number == 3:
            for upper, lower in itertools.pairwise(chain):
                lower.call("REPLICAOF", "127.0.0.1", upper.port)
                wait_linked(lower)
        if number > 3 and number % 8 == 0:
            for lower in chain[1:]:
                wait_linked(lower)
            break_links(chain[0], "replica")
            break_links(chain[2], "master")
    time.sleep(SHORT_MS / 1000)  # what was to expire has to: nothing else tells
    for lower in chain[1:]:
        wait_linked(lower)
    wait_until(lambda: not soon(chain[0]), "nothing is left that expires soon")
    check_alike(chain[0], chain[1:], field_deadlines)
    assert [info(server, "stats")["sync_full"] for server in chain] == ["1", "1", "0"]
    assert all(int(info(server, "stats")["sync_partial_ok"]) for server in chain[:2])


def soon(server: Server) -> int:
    """How many keys still expire before long."""
    keys = [key for db in (0, 3) for key in ask(server.port, [("SELECT", db), ("KEYS", "*")])[1]]
    left = ask(server.port, [("SELECT", 0), *[("PTTL", key) for key in keys]])[1:]
    return sum(0 <= each <= SHORT_MS for each in left)
