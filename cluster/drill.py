"""Failover drills: start a cluster, write to it, break something, and report what clients saw.

A scenario is data: the cluster's shape, the load, and steps, each an action by its name. A run does
one scenario on a new cluster of a named server and ends in its part of the report.
"""

import signal
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import attrs
import trio

from cluster.admin import shard_slots
from cluster.client import Address, Unavailable
from cluster.launcher import HOST, Fleet, Plan, start
from cluster.observer import MOMENTS, Observer
from cluster.processes import OperatorError, Program, Spawner, find_program, free_run
from cluster.report import RunReport
from cluster.workload import Load, Workload


class DrillFailed(OperatorError):
    """A step didn't come about in its time; says which."""


@attrs.frozen
class Step:
    """One action: its name in ACTIONS, the shard it concerns, and its time or limit in seconds."""

    do: str
    shard: int = 0
    seconds: float = 30.0


@attrs.frozen
class Scenario:
    """A drill as data."""

    name: str
    steps: tuple[Step, ...]
    shards: int = 3
    replicas: int = 1
    load: Load = attrs.field(factory=Load)


FAULTS = ("kill", "pause")


def kill_primary(fault: str = "kill") -> Scenario:
    """A primary is killed (or stopped) under load, and comes back once its replica took over."""
    return Scenario(
        name="kill-primary",
        steps=(
            Step("write", seconds=1.0),
            Step(fault),
            Step("await-promotion"),
            Step("write", seconds=1.0),
            Step("heal"),
            Step("await-rejoin"),
            Step("write", seconds=0.5),
        ),
    )


@attrs.define(eq=False)
class Run:
    """One run under way: its cluster, its writers, and what was noted so far."""

    scenario: Scenario
    fleet: Fleet
    spawner: Spawner
    workload: Workload
    nursery: trio.Nursery
    observer: Observer | None = None
    shard: int = 0
    broken_at: float = 0.0
    healed_at: float = float("inf")

    async def do(self, step: Step) -> None:
        """Raises DrillFailed."""
        await ACTIONS[step.do](self, step)

    async def write(self, step: Step) -> None:
        """Let the writers go on for a while."""
        await trio.sleep(step.seconds)

    async def kill(self, step: Step) -> None:
        await self._break(step, signal.SIGKILL)

    async def pause(self, step: Step) -> None:
        await self._break(step, signal.SIGSTOP)

    async def _break(self, step: Step, number: signal.Signals) -> None:
        """Send the shard's primary a signal, with the survivors under watch."""
        victim = self.workload.client.owner(self.workload.shards[step.shard][0])
        if victim is None:
            raise DrillFailed(f"nobody has been seen to serve shard {step.shard}")
        survivors = [address for address in self.fleet.plan.addresses if address != victim]
        self.shard, self.observer = step.shard, Observer(victim, survivors)
        await self.observer.prepare()
        self.nursery.start_soon(self.observer.watch)
        await trio.sleep(0.1)
        self.broken_at = trio.current_time()
        self.fleet.processes[victim[1]].send(number)

    async def heal(self, step: Step) -> None:
        """Start what was killed, continue what was stopped."""
        victim = self._observed().victim[1]
        self.healed_at = trio.current_time()
        if self.fleet.processes[victim].is_alive():
            self.fleet.processes[victim].send(signal.SIGCONT)
        else:
            self.fleet.spawn(self.spawner, victim)

    async def await_promotion(self, step: Step) -> None:
        await self._within(step, self._observed().wait_for("promoted"))

    async def await_rejoin(self, step: Step) -> None:
        await self._within(step, self._observed().wait_rejoined())

    async def _within(self, step: Step, waiting: Awaitable[None]) -> None:
        with trio.move_on_after(step.seconds) as scope:
            await waiting
        if scope.cancelled_caught:
            raise DrillFailed(f"{step.do}: not within {step.seconds:g} s")

    def _observed(self) -> Observer:
        if self.observer is None:
            raise DrillFailed("nothing has been broken yet")
        return self.observer

    async def report(self) -> RunReport:
        """What the writers saw, once they have ended; reads every value back."""
        try:
            lost = await self.workload.lost()
        except Unavailable as error:
            raise DrillFailed(f"reading back: {error}") from error
        acks = [ack for shard in self.workload.acks for ack in shard]
        return RunReport(
            downtime_ms=self._downtime_ms(self.shard),
            other_shards_ms=self._others_ms(),
            acknowledged=len(acks),
            confirmed=sum(ack.confirmed for ack in acks),
            lost=len(lost),
            lost_confirmed=sum(ack.confirmed for ack in lost),
            errors=dict(sorted(self.workload.client.setbacks.items())),
            timeline=self._timeline(),
        )

    def _downtime_ms(self, shard: int) -> float | None:
        gap = self.workload.longest_gap(shard, self.broken_at, self.healed_at)
        return _milliseconds(gap)

    def _others_ms(self) -> float | None:
        """The longest gap of the shards that were not hit."""
        others = (i for i in range(self.scenario.shards) if i != self.shard)
        gaps = [self._downtime_ms(shard) for shard in others]
        return None if None in gaps else max((gap for gap in gaps if gap), default=None)

    def _timeline(self) -> dict[str, float | None]:
        moments = self._observed().moments
        since = dict.fromkeys(MOMENTS, self.broken_at) | {"rejoined": self.healed_at}
        return {
            moment: _milliseconds(moments[moment] - since[moment]) if moment in moments else None
            for moment in MOMENTS
        }


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


ACTIONS: dict[str, Callable[[Run, Step], Awaitable[None]]] = {
    "write": Run.write,
    "kill": Run.kill,
    "pause": Run.pause,
    "heal": Run.heal,
    "await-promotion": Run.await_promotion,
    "await-rejoin": Run.await_rejoin,
}


async def run_scenario(scenario: Scenario, server: str, directives: Sequence[str]) -> RunReport:
    """Do a scenario once, on a new cluster in a directory that is gone afterwards.

    Raises DrillFailed, FormationFailed, LauncherError or ProgramNotFound.
    """
    spawner = Program(find_program(server))
    nodes = scenario.shards * (1 + scenario.replicas)
    plan = Plan(scenario.shards, scenario.replicas, free_run(nodes), tuple(directives), server)
    with tempfile.TemporaryDirectory(prefix="slotfleet-drill-") as directory:
        fleet = Fleet(plan, Path(directory))
        try:
            start(fleet, spawner)
            await fleet.become_ready()
            return await _run_on(scenario, fleet, spawner)
        finally:
            fleet.end(grace=0)


async def _run_on(scenario: Scenario, fleet: Fleet, spawner: Spawner) -> RunReport:
    seeds: list[Address] = [(HOST, port) for port in fleet.plan.ports]
    workload = Workload(seeds, shard_slots(scenario.shards), scenario.load)
    failures: list[DrillFailed] = []
    async with trio.open_nursery() as nursery:
        run = Run(scenario, fleet, spawner, workload, nursery)
        nursery.start_soon(workload.write)
        try:
            for step in scenario.steps:
                await run.do(step)
        except DrillFailed as failure:
            failures.append(failure)
        nursery.cancel_scope.cancel()
    if failures:
        raise failures[0]
    return await run.report()
