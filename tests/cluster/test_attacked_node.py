"""A node that scripts keep busy: it answers the bus, says BUSY to clients, and keeps its role."""

import sys
import time
from pathlib import Path

import pytest
from hiredis import ReplyError, pack_command

from tests.cluster.company import PATIENCE, Company, company
from tests.conftest import wait_until

sys.path.append(str(Path(__file__).parent.parent / "node"))
from attacks import ENDLESS, OTHERS, comparing

THIRDS = ("0-5460", "5461-10922", "10923-16383")
NODE_TIMEOUT_MS = 4000
LONG = ("loop", "pattern, exponential")


@pytest.fixture
def nodes(our_server) -> Company:
    """Three primaries, and a replica of the first, which is to be attacked."""
    directives = ("--cluster-node-timeout", str(NODE_TIMEOUT_MS), "--busy-reply-threshold", "50")
    found = company([our_server] * 4, (*THIRDS, ""), *directives)
    found.replicate(3, 0)
    return found


def is_busy(nodes: Company) -> bool:
    reply = nodes.call(0, "PING")
    assert reply == b"PONG" or isinstance(reply, ReplyError)
    return str(reply).startswith("BUSY ")


def stands(nodes: Company) -> None:
    """What the others think of the one that is attacked."""
    mine = nodes.id(1), nodes.id(3)
    for index in (1, 2, 3):
        flags = [value[0] for id, value in nodes.nodes(index).items() if id not in mine]
        assert sorted(flags) == ["master", "master"], flags
    assert not nodes.is_primary(3)


def test_keeps_its_role_under_attack(nodes, connect):
    attacker = connect(nodes.servers[0].port)
    attacker.sock.settimeout(PATIENCE)
    for name, script in ENDLESS.items():
        attacker.sock.sendall(pack_command(("EVAL", script, "0")))
        wait_until(lambda: is_busy(nodes), f"busy with {name}", PATIENCE)
        if name in LONG:
            until = time.monotonic() + 1.5 * NODE_TIMEOUT_MS / 1000
            while time.monotonic() < until:
                stands(nodes)
                assert is_busy(nodes)
                time.sleep(0.1)
        assert nodes.call(0, "SCRIPT", "KILL") == b"OK"
        assert "Script killed by user" in str(attacker.next()), name
        assert nodes.call(0, "PING") == b"PONG"
    attacker.sock.sendall(pack_command(("EVAL", comparing(1.5 * NODE_TIMEOUT_MS / 1000), "0")))
    wait_until(lambda: is_busy(nodes), "busy inside C", PATIENCE)
    while is_busy(nodes):
        stands(nodes)
        time.sleep(0.1)
    assert attacker.next() is None
    for script in OTHERS.values():
        attacker.one("EVAL", script, "0")
    stands(nodes)
    nodes.wait_agree()
    assert nodes.is_primary(0)
