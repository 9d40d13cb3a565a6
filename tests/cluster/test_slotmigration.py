"""Slots that move as a whole: between ours, and between ours and real servers."""

import random
import time
from collections.abc import Callable

import pytest
from conftest import ServerProcess, wait_until
from moving_company import (
    HALF,
    Company,
    Writer,
    fill,
    form,
    migrations,
    owned,
    read,
    state_of,
    tags,
)

Start = Callable[..., Company]
DIRECTIVES = ("--cluster-enabled", "yes", "--cluster-node-timeout", "3000")
PATIENT = ("--slot-migration-max-failover-repl-bytes", "1mb")  # a loaded machine never gets it all
MANY = 3000  # keys: more than a node sends without a child process


@pytest.fixture
def company(request: pytest.FixtureRequest) -> Start:
    """A function (kinds, *directives, replicas=()) that starts a cluster of two primaries."""

    def start(*kinds: str, replicas: tuple[str, ...] = (), extra: tuple[str, ...] = ()) -> Company:
        def launch(kind: str) -> ServerProcess:
            begin = request.getfixturevalue(f"{kind}_server")
            return begin(*DIRECTIVES, *PATIENT, "--repl-diskless-sync-delay", "0", *extra)

        return form([launch(kind) for kind in kinds], [launch(kind) for kind in replicas])

    return start


@pytest.fixture
def writers() -> "Callable[..., list[Writer]]":
    """A function (company, count, ...) that starts writers to slots of the first node."""
    started: list[Writer] = []

    def start(company: Company, count: int, db: int = 0) -> list[Writer]:
        new = [Writer(company.nodes, tag, db).start() for tag in tags(count, 0, HALF // 2)]
        started.extend(new)
        return new

    yield start
    for writer in started:
        writer.stop()
        writer.close()


@pytest.mark.parametrize("kinds", [("our", "our"), ("our", "valkey"), ("valkey", "our")])
def test_nothing_is_lost_or_doubled_under_load(kinds, company, writers):
    moving = company(*kinds, extra=("--cluster-databases", "2"))
    data = fill(moving.nodes[0], MANY)
    busy = writers(moving, 3) + writers(moving, 1, db=1)
    wait_until(lambda: all(writer.done > 30 for writer in busy), "writers write")
    moving.move(0, 0, HALF // 4, HALF // 4 + 1, HALF // 2)
    seen = [writer.done for writer in busy]
    wait_until(lambda: all(w.done > n + 30 for w, n in zip(busy, seen, strict=True)), "they go on")
    moving.move(1, 0, HALF // 2)
    seen = [writer.done for writer in busy]
    wait_until(lambda: all(w.done > n + 30 for w, n in zip(busy, seen, strict=True)), "still")
    moving.move(0, 0, HALF // 2)
    for writer in busy:
        writer.stop()
        writer.check()
        assert writer.moved >= 3
    there = [key for key, value in read(moving.nodes[1], list(data)).items() if value == data[key]]
    here = [key for key, value in read(moving.nodes[0], list(data)).items() if value == data[key]]
    assert len(there) + len(here) == MANY and not set(there) & set(here)
    assert moving.nodes[1].call("DBSIZE") == len(there) + 8 * 3
    wait_until(lambda: moving.nodes[0].call("DBSIZE") == len(here), "the source deletes its own")


@pytest.mark.parametrize("kinds", [("our", "valkey"), ("valkey", "our")])
def test_replicas_of_both_sides_follow(kinds, company, writers):
    other = {"our": "valkey", "valkey": "our"}
    moving = company(*kinds, replicas=(other[kinds[0]], other[kinds[1]]))
    data = fill(moving.nodes[0], MANY, HALF // 2)
    busy = writers(moving, 2)
    wait_until(lambda: all(writer.done > 30 for writer in busy), "writers write")
    moving.move(0, 0, HALF // 2)
    for writer in busy:
        writer.stop()
    size = MANY + 2 * 8
    of_source, of_target = moving.replicas
    wait_until(lambda: of_target.call("DBSIZE") == size, "the target's replica has the keys")
    wait_until(lambda: of_source.call("DBSIZE") == 0, "the source's replica has lost them")
    assert [job["state"] for job in migrations(of_target)] == ["success"]
    assert "source_node" not in migrations(of_target)[0]

    moving.nodes[1].kill()
    assert of_target.call("CLUSTER", "FAILOVER", "TAKEOVER") == b"OK"
    heir = of_target.call("CLUSTER", "MYID").decode()
    wait_until(lambda: owned(moving.nodes[0], heir, 0, HALF // 2, 16383), "the heir is known", 15)
    assert read(of_target, list(data)) == data
    for writer in busy:
        writer.nodes = [of_target]
        writer._port = of_target.port
        writer.check()


@pytest.mark.parametrize("kinds", [("our", "our"), ("our", "valkey"), ("valkey", "our")])
def test_cancelled_at_any_time(kinds, company, writers):
    moving = company(*kinds)
    data = fill(moving.nodes[0], MANY, HALF // 2)
    busy = writers(moving, 1)
    rng, outcomes, at = random.Random(3), set(), 0
    for wait_s in (0.0, 0.01, 0.03, 0.08, rng.random() * 0.2):
        assert moving.migrate(at, 0, HALF // 2) == b"OK"
        time.sleep(wait_s)
        moving.nodes[at].call("CLUSTER", "CANCELSLOTMIGRATIONS")
        outcome = moving.outcome(at)
        outcomes.add(outcome)
        if outcome == "success":
            at = 1 - at
        settled(moving, at, len(data))
    busy[0].stop()
    busy[0].check()
    assert read(moving.nodes[at], list(data)) == data
    assert "cancelled" in outcomes


def settled(moving: Company, at: int, keys: int) -> None:
    """The keys are on one side, and both sides say which that is."""
    both, owner = moving.nodes, moving.ids[at]
    wait_until(lambda: all(owned(one, owner, 0, HALF // 2) for one in both), "they agree", 15)
    wait_until(lambda: both[1 - at].call("DBSIZE") == 0, "the other side has none", 15)
    assert both[at].call("DBSIZE") >= keys


@pytest.mark.parametrize("wait_s", [0.0, 0.02, 0.05, 0.1])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_side_leaves_the_slots_on_one_side(victim, wait_s, company):
    moving = company("our", "our")
    data = fill(moving.nodes[0], MANY, HALF // 2)
    assert moving.migrate(0, 0, HALF // 2) == b"OK"
    time.sleep(wait_s)
    moving.nodes[victim].kill()
    survivor = moving.nodes[1 - victim]
    wait_until(
        lambda: state_of(survivor) in ("success", "failed"), "the survivor knows where it is", 15
    )
    has_them = owned(survivor, moving.ids[1 - victim], 0, HALF // 2)
    assert has_them == (state_of(survivor) == ("success" if victim == 0 else "failed"))
    found = read(survivor, list(data))
    if has_them:
        wait_until(lambda: survivor.call("PING") == b"PONG", "it answers")
        assert {key: found[key] for key in data} == data or down(survivor)
        assert survivor.call("DBSIZE") == MANY
    else:
        assert not any(found[key] == data[key] for key in data)
        assert survivor.call("DBSIZE") == 0


def down(server: ServerProcess) -> bool:
    return b"cluster_state:fail" in server.call("CLUSTER", "INFO")
