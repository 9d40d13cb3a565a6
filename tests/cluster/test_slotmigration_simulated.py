"""Slots that move as a whole in a simulated cluster, with whatever may go wrong meanwhile."""

import logging
from collections.abc import Iterator
from random import Random

import attrs
import pytest

from cluster.simulation.settings import Settings
from cluster.simulation.world import World
from cluster.slotmigration.jobs import EXPORT, IMPORT
from cluster.slots import members, ranges
from tests.cluster.stories import finish

MOVES = 6
GENTLE = Settings(node_timeout=5000, busy_ms=20, writers=3, lost=0.01, repeated=0.02)
HASTY = attrs.evolve(GENTLE, node_timeout=1000)
DONE_LIMIT_MS = 30_000


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@attrs.define(eq=False)
class Mover:
    """Moves slots from one primary of a world to another, again and again."""

    world: World
    rng: Random
    source: str = ""
    target: str = ""
    outcomes: dict[str, int] = attrs.field(factory=dict)

    def serving(self) -> list[str]:
        world = self.world
        return [
            name
            for name, machine in world.machines.items()
            if machine.up and world.view(name).myself.is_voter and world.view(name).ok
        ]

    def begin(self) -> None:
        """Let some primary give a part of its slots to another."""
        self.world.run(until=self.world.settled)
        self.source, self.target = self.rng.sample(self.serving(), 2)
        first, last = self.rng.choice(ranges(self.world.view(self.source).myself.slots))
        size = self.rng.choice((1, 200, 2000))
        first = self.rng.randint(first, last)
        self.world.ask(
            self.source, "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", first, min(last, first + size),
            "NODE", self.world[self.target].id,
        )  # fmt: skip

    def is_over(self) -> bool:
        return not any(
            machine.process.member.migrations.jobs.unfinished(operation)
            for machine in self.world.machines.values()
            if machine.up and self.world.view(machine.name).myself.is_primary
            for operation in (EXPORT, IMPORT)
        )

    def end(self) -> None:
        self.world.mend()
        self.world.run(DONE_LIMIT_MS, until=self.is_over)
        if self.world.machines[self.source].up:
            jobs = list(self.world[self.source].member.migrations.jobs)
            state = jobs[0].state if jobs else "refused"
            self.outcomes[state] = self.outcomes.get(state, 0) + 1


def made(seed: int, settings: Settings) -> Mover:
    world = World(seed, settings, lines=[])
    world.trace.in_full = False
    world.form()
    world.add_writers()
    world.run(1000)
    return Mover(world, Random(seed))


def bring_to_rest(world: World) -> None:
    """Let all be well again; what is foreign is deleted, once that is sure."""
    for writer in world.writers:
        writer.stop()
    world.run(until=world.settled)
    world.run(4000)
    finish(world)


def check_places(world: World) -> None:
    """Nobody keeps keys of slots that others serve, and nothing is hidden any more."""
    for process in (machine.process for machine in world.machines.values()):
        view, keyspace = process.core.view, process.node.keyspace
        foreign = members(~view.serving.slots & (1 << 16384) - 1)
        held = [slot for slot in foreign if keyspace[0].parts[slot]]
        assert not held, f"{process.place} has keys of {held}"
        assert not keyspace.hidden, f"{process.place} hides {keyspace.hidden}"
        keyspace[0].check()


def check_all_there(world: World) -> None:
    """Every acknowledged write is where its slot is."""
    owners = {}
    for process in (machine.process for machine in world.machines.values()):
        if process.core.view.myself.is_primary:
            owners.update(dict.fromkeys(members(process.core.view.myself.slots), process))
    for write in world.ledger.writes.values():
        if write.acknowledged:
            found = owners[write.slot].node.keyspace[0].keys_of_part(write.slot).get(write.key)
            assert found is not None, f"{write.key!r} of {write.by} is lost"


@pytest.mark.parametrize("seed", range(1, 5))
def test_nothing_is_lost_whatever_happens_to_links(seed):
    mover = made(seed, GENTLE)
    world, rng = mover.world, mover.rng
    for _ in range(MOVES):
        mover.begin()
        world.run(rng.randint(0, 60))
        one, other = mover.source, mover.target
        match rng.randrange(6):
            case 0:
                world.ask(one, "CLUSTER", "CANCELSLOTMIGRATIONS")
            case 1:
                ends = [end for end in world.network.ends if end.open]
                for end in rng.sample(ends, len(ends) // 3):
                    if end.open:
                        world.break_connection(end)
            case 2:
                world.cut(*rng.choice(((one, other), (other, one))))
                world.run(rng.randint(10, 2500))
                world.mend()
            case 3:
                name = rng.choice((one, other))
                world.pause(name)
                world.run(rng.randint(10, 1500))
                world.resume(name)
            case _:
                pass
        mover.end()
    bring_to_rest(world)
    assert not world.counts.get("promoted"), "no failover was to happen"
    check_places(world)
    check_all_there(world)
    assert mover.outcomes.get("success", 0) >= 2, mover.outcomes


@pytest.mark.parametrize("seed", range(3, 9))
def test_deaths_leave_slots_on_one_side(seed):
    mover = made(seed, HASTY)
    world, rng = mover.world, mover.rng
    for _ in range(3):
        mover.begin()
        world.run(rng.randint(0, 40))
        victim = rng.choice((mover.source, mover.target))
        world.kill(victim)
        world.run(rng.choice((50, 6000)))
        world.restart(victim)
        mover.end()
    bring_to_rest(world)
    check_places(world)


def test_a_silent_target_is_given_up():
    mover = made(1, attrs.evolve(GENTLE, node_timeout=60_000))
    world = mover.world
    source = world["p1"]
    source.node.config.repl_timeout = 3
    world.cut("p2", "p1")
    before = source.core.view.myself.slots
    world.ask("p1", "CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", 0, 9, "NODE", world["p2"].id)
    world.run(8000)
    (job,) = source.member.migrations.jobs
    assert (job.state, job.message) in (
        ("failed", "Timed out after too long with no interaction"),
        ("failed", "Unable to connect to target node: connection timed out"),
    )
    assert source.core.view.myself.slots == before and not source.node.pause.is_on()
    world.mend()
    bring_to_rest(world)
    check_places(world)
