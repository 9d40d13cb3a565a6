"""What is done to a cluster while it runs, drawn at random, and how all of it ends."""

from collections.abc import Callable
from random import Random

import attrs

from cluster.simulation.process import Process
from cluster.simulation.world import World

LONGEST_TIMEOUTS = 6  # node timeouts that a pause or a cut may last
RESTART_POLL_MS = 200


@attrs.define(eq=False)
class Faults:
    """Does one thing after another to a world, until `stop`. counts: how often, by kind."""

    world: World
    rng: Random
    counts: dict[str, int] = attrs.field(factory=dict)
    running: bool = False

    def start(self) -> None:
        self.running = True
        settings, roughness = self.world.settings, self.world.roughness
        roughness.lost, roughness.repeated = settings.lost, settings.repeated
        self._plan()

    def stop(self) -> None:
        """Do no more, and let all that was done end."""
        self.running = False
        world = self.world
        world.roughness.lost = world.roughness.repeated = 0.0
        world.mend()
        for name, machine in world.machines.items():
            machine.disk.power = None
            if machine.process.slow_ms:
                world.slow_down(name, 0)
            if machine.up and machine.process.paused:
                world.resume(name)
        for machine in world.machines.values():
            if not machine.up:
                self._restart_later(machine.process)

    # --- one after another -----------------------------------------------------------------------

    def _plan(self) -> None:
        delay = int(self.rng.expovariate(1 / self.world.settings.fault_every)) + 1
        self.world.timeline.after(delay, self._do_one)

    def _do_one(self) -> None:
        if not self.running:
            return
        kinds: list[tuple[str, Callable[[], object], int]] = [
            ("kill", self._kill, 6),
            ("power loss", self._lose_power, 2),
            ("power loss in a write", self._lose_power_soon, 2),
            ("shutdown", self._shut_down, 3),
            ("pause", self._pause, 3),
            ("slow", self._slow, 2),
            ("one-way cut", self._cut, 2),
            ("partition", self._part, 3),
            ("broken connection", self._break, 6),
            ("shard down", self._kill_shard, 1),
            ("all down", self._kill_all, 1),
            ("two primaries down", self._kill_primaries, 1),
            ("failover by hand", self._fail_over, 2),
        ]
        weights = [weight for _, _, weight in kinds]
        kind, action, _ = self.rng.choices(kinds, weights)[0]
        if action() is not False:
            self.counts[kind] = self.counts.get(kind, 0) + 1
        self._plan()

    def _running(self) -> list[str]:
        return [name for name, machine in self.world.machines.items() if machine.up]

    def _serving(self) -> list[str]:
        return [name for name in self._running() if self.world.view(name).myself.is_voter]

    def _one_of(self, names: list[str]) -> str | None:
        return self.rng.choice(names) if names else None

    def _for_a_while(self, action: Callable[[], object]) -> None:
        """End something after a time that is often just about the node timeout."""
        timeout = self.world.settings.node_timeout
        lasts = int(timeout * self.rng.choice((0.1, 0.5, 1, 1.5, 2.5, LONGEST_TIMEOUTS)))
        self.world.timeline.after(self.rng.randint(lasts // 2, lasts) + 1, action)

    # --- deaths ----------------------------------------------------------------------------------

    def _kill(self, name: str | None = None) -> bool:
        name = name or self._one_of(self._running())
        if name is None:
            return False
        self._end(name, self.world.kill)
        return True

    def _lose_power(self) -> bool:
        name = self._one_of(self._running())
        if name is None:
            return False
        self._end(name, self.world.lose_power)
        return True

    def _lose_power_soon(self) -> bool:
        """Let the power go while the disk is being written to."""
        name = self._one_of(self._running())
        if name is None:
            return False
        machine = self.world.machines[name]
        machine.disk.power = self.rng.randint(0, 12)

        def see() -> None:
            machine.disk.power = None
            if not machine.up:
                self._restart_later(machine.process)

        self._for_a_while(see)
        return True

    def _shut_down(self) -> bool:
        """End a process in order, if it gets that far in time."""
        name = self._one_of([name for name in self._running() if not self.world[name].paused])
        if name is None:
            return False
        process = self.world[name]
        self.world.shut_down(name)

        def see() -> None:
            if self.world[name] is process and process.alive:
                self.world.kill(name)
            self._restart_later(process)

        self._for_a_while(see)
        return True

    def _end(self, name: str, how: Callable[[str], None]) -> None:
        process = self.world[name]
        how(name)
        self._for_a_while(lambda: self._restart_later(process))

    def _restart_later(self, process: Process) -> None:
        """Restart a process; where care is taken, not before it has been replaced, or patience
        has ended."""
        patience = self.world.settings.patience_ms if self.world.settings.careful else 0
        self._restart_when_safe(process, self.world.timeline.now + patience)

    def _restart_when_safe(self, process: Process, at_last: int) -> None:
        world = self.world
        if world[process.place] is process and not process.alive:
            if world.timeline.now < at_last and world.checks.promises.is_missed(process):
                world.timeline.after(
                    RESTART_POLL_MS, lambda: self._restart_when_safe(process, at_last)
                )
            else:
                world.restart(process.place)

    def _kill_shard(self) -> bool:
        """Kill all nodes of a shard at once."""
        name = self._one_of(self._running())
        if name is None:
            return False
        shard = self.world.view(name).myself.shard_id
        for other in self._running():
            if self.world.view(other).myself.shard_id == shard:
                self._kill(other)
        return True

    def _kill_all(self) -> None:
        for name in self._running():
            self._kill(name)

    def _kill_primaries(self) -> bool:
        """Kill two primaries at once, or nearly."""
        serving = self._serving()
        if len(serving) < 2:
            return False
        one, other = self.rng.sample(serving, 2)
        self._kill(one)
        delay = self.rng.choice((0, 1, 10, 100))
        self.world.timeline.after(delay, lambda: self.world[other].alive and self._kill(other))
        return True

    # --- stops -----------------------------------------------------------------------------------

    def _pause(self) -> bool:
        world = self.world
        name = self._one_of([name for name in self._running() if not world[name].paused])
        if name is None:
            return False
        process = world[name]
        world.pause(name)

        def resume() -> None:
            if process.alive and process.paused:
                world.resume(name)

        self._for_a_while(resume)
        return True

    def _slow(self) -> bool:
        world = self.world
        name = self._one_of([name for name in self._running() if not world[name].slow_ms])
        if name is None:
            return False
        process = world[name]
        world.slow_down(name, self.rng.choice((1, 5, 20)))

        def speed_up() -> None:
            if process.alive and process.slow_ms:
                world.slow_down(name, 0)

        self._for_a_while(speed_up)
        return True

    # --- the network -----------------------------------------------------------------------------

    def _cut(self) -> None:
        one, other = self.rng.sample(list(self.world.machines), 2)
        self.world.cut(one, other)
        self._for_a_while(lambda: self.world.mend_cut(one, other))

    def _part(self) -> None:
        """Part some machines, and maybe clients with them, from the rest."""
        places = [*self.world.machines, *(writer.place for writer in self.world.writers)]
        size = self.rng.randint(1, len(places) // 2)
        self.world.part(self.rng.sample(places, size))
        self._for_a_while(self.world.mend)

    def _break(self) -> bool:
        ends = [end for end in self.world.network.ends if end.open]
        if not ends:
            return False
        self.world.break_connection(self.rng.choice(ends))
        return True

    # --- the operator ----------------------------------------------------------------------------

    def _fail_over(self) -> bool:
        """CLUSTER FAILOVER, for no reason. Only a replica that is in step with its primary is
        told not to ask: another might bring old data back."""
        name = self._one_of([name for name in self._running() if self._may_be_told(name)])
        if name is not None:
            link = self.world[name].node.role.link
            in_step = link is not None and link.is_up()
            how = self.rng.choice(("", "", "FORCE", "TAKEOVER")) if in_step else ""
            self.world.ask(name, "CLUSTER", "FAILOVER", *how.split())
        return name is not None

    def _may_be_told(self, name: str) -> bool:
        return self.world.view(name).myself.is_replica and not self.world[name].paused
