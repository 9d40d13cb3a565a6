"""Keys whose time has come go by themselves, many of them in spells that leave others time."""

import pytest
from local import Local

from node.clock import VirtualClock
from node.config import Config
from node.expiring import SPELL_MS
from node.node import Node

KEYS = 1000


class PassingClock(VirtualClock):
    """Once told so, a millisecond passes each time somebody measures."""

    passes = False

    def monotonic_ns(self) -> int:
        if self.passes:
            self.advance(1)
        return super().monotonic_ns()


def node_with_due_keys(clock: VirtualClock, effort: int = 1) -> Local:
    config = Config()
    config.active_expire_effort = effort
    local = Local(Node(config, clock), clock)
    client = local.client()
    for i in range(KEYS):
        client.call("SET", f"key:{i}", "x", "PX", 10)
    client.call("SET", "stays", "x")
    for i in range(KEYS):
        client.call("HSET", "hash", i, "x")
    client.call("HPEXPIRE", "hash", 10, "FIELDS", KEYS // 2, *range(KEYS // 2))
    clock.advance(20)
    return local


def sizes(local: Local) -> tuple[int, int]:
    """Keys, and fields of the hash."""
    client = local.client()
    return client.call("DBSIZE"), client.call("HLEN", "hash")


def test_everything_due_goes_in_one_tick_that_has_the_time() -> None:
    local = node_with_due_keys(VirtualClock())
    local.node.tick()
    assert sizes(local) == (2, KEYS // 2)
    assert local.node.next_deadline_ms() is None


@pytest.mark.parametrize(("effort", "pause_ms"), [(1, 15), (10, 6)])
def test_a_spell_ends_and_the_next_follows_after_a_pause(effort: int, pause_ms: int) -> None:
    clock = PassingClock()
    local = node_with_due_keys(clock, effort)
    clock.passes = True
    node = local.node
    before = clock.monotonic_ms()
    node.tick()
    assert clock.monotonic_ms() - before == SPELL_MS + 1  # the first look is at its beginning
    left, _ = sizes(local)
    assert 2 < left < KEYS
    assert node.next_deadline_ms() == clock.monotonic_ms() + pause_ms

    node.tick()
    assert sizes(local)[0] == left, "it is not its time yet"
    while (due := node.next_deadline_ms()) is not None:
        clock.advance(due - clock.monotonic_ms())
        node.tick()
    assert sizes(local) == (2, KEYS // 2)
