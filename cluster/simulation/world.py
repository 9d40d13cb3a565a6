"""The world: machines, their network, and the story that is told of them.

    world = World(seed=7)
    world.form()                                    p1 p2 p3 and their replicas r1 r2 r3
    world.kill("p1")
    world.run(until=world.promoted("r1"))           or world.run(5000)
    world.restart("p1")
    world.cut("p2", "r2"), world.part(["p1", "r2"]), world.mend()
    world.pause("p3"), world.resume("p3"), world.lose_power("p2")
    world.ask("p1", "CLUSTER", "NODES")

Whatever happens is checked as it does; a broken rule raises `checks.Violation`.
"""

from collections.abc import Callable, Iterable
from random import Random
from typing import Any

import attrs
import hiredis

from cluster import effects as fx
from cluster.checks import Checks, demand
from cluster.effects import Effect
from cluster.message import AuthAck
from cluster.simulation.bus import Roughness
from cluster.simulation.network import End, Network
from cluster.simulation.operators import Mender, Owner, Resharder, Trouble
from cluster.simulation.process import BUS_PORT, PORT, Process, Watcher
from cluster.simulation.settings import ALWAYS, EVERYSEC, RDB, Settings
from cluster.simulation.timeline import LocalClock, Timeline
from cluster.simulation.trace import Trace
from cluster.simulation.writers import Ledger, Writer
from cluster.slots import SLOTS
from cluster.view import View
from node.config import Config
from node.disk import SimulatedDisk

FORM_LIMIT_MS = 30_000
UNTIL_LIMIT_MS = 60_000
LOOK_MS = 50
WRITE_BACK_MS = 5000  # after which an operating system has written what nobody asked it to sync

Condition = Callable[[], object]


@attrs.define(eq=False)
class Machine:
    """A place with a disk and a clock; process: what runs there, or ran last."""

    name: str
    ip: str
    disk: SimulatedDisk
    clock: LocalClock
    process: Process = attrs.field(init=False)

    @property
    def up(self) -> bool:
        return self.process.alive


class World(Watcher):
    """Everything, under one clock and one seed."""

    def __init__(
        self, seed: int = 1, settings: Settings | None = None, lines: list[str] | None = None
    ) -> None:
        self.rng = Random(seed)
        self.settings = settings or Settings()
        self.timeline = Timeline()
        self.trace = Trace(lines)
        self.network = Network(
            self.timeline,
            self._own_rng(),
            self.settings.min_delay,
            self.settings.max_delay,
            self.settings.chop,
            on_delivery=self._delivered,
        )
        self.roughness = Roughness()
        self.counts: dict[str, int] = {}
        self.restarts = 0
        self.ledger = Ledger()
        self.checks = Checks(self.ledger, lambda: self.timeline.now)
        self.writers: list[Writer] = []
        self.resharder: Resharder | None = None
        self.machines: dict[str, Machine] = {}
        self._names: dict[str, str] = {}  # of machines, by node id
        self._primaries = [f"p{i + 1}" for i in range(self.settings.shards)]
        count = self.settings.shards * self.settings.replicas
        self._replicas = [f"r{i + 1}" for i in range(count)]
        for number, name in enumerate([*self._primaries, *self._replicas], 1):
            self._build(name, f"10.0.0.{number}")
        self.every(WRITE_BACK_MS, self._write_back)

    def _own_rng(self) -> Random:
        return Random(self.rng.getrandbits(64))

    # --- machines and processes ------------------------------------------------------------------

    def _build(self, name: str, ip: str) -> None:
        settings, rng = self.settings, self.rng
        self.network.places[ip] = name
        clock = LocalClock(
            self.timeline,
            rng.randint(-settings.skew_ms, settings.skew_ms),
            rng.randint(-settings.drift_ppm, settings.drift_ppm),
        )
        self._launch(Machine(name, ip, SimulatedDisk(self._own_rng()), clock))

    def _launch(self, machine: Machine) -> None:
        """Start the program on a machine, with what its disk holds."""
        process = Process(
            machine.name,
            machine.ip,
            self.network,
            machine.disk,
            machine.clock,
            self._config(),
            self._own_rng(),
            self,
            self.roughness,
        )
        machine.process = process
        self.machines[machine.name] = machine
        self._names[process.id] = machine.name
        self.checks.on_start(process)
        process.start()

    def _write_back(self) -> None:
        for machine in self.machines.values():
            if machine.disk.power is None:
                machine.disk.sync_directory(".")

    def _config(self) -> Config:
        settings, config = self.settings, Config()
        directives = {
            "port": PORT,
            "cluster-port": BUS_PORT,
            "cluster-enabled": "yes",
            "cluster-node-timeout": settings.node_timeout,
            "cluster-replica-validity-factor": settings.validity_factor,
            "cluster-report-refused": "yes" if settings.report_refused else "no",
            "cluster-allow-replica-migration": "yes" if settings.replica_migration else "no",
            "databases": 1,
            "save": "2 1" if settings.persistence == RDB else '""',
            "appendonly": "yes" if settings.persistence in (ALWAYS, EVERYSEC) else "no",
            "appendfsync": ALWAYS if settings.persistence == ALWAYS else EVERYSEC,
            "aof-load-corrupt-tail-max-size": 1 << 16,
            "auto-aof-rewrite-min-size": 2048,
            "repl-diskless-sync-delay": 0,
        }
        text = "".join(f"{name} {value}\n" for name, value in directives.items())
        config.load(text, _no_file, _no_files)
        return config

    def __getitem__(self, name: str) -> Process:
        """The process of a machine, alive or the last one that was."""
        return self.machines[name].process

    @property
    def processes(self) -> list[Process]:
        """Those that are alive, the paused ones too."""
        return [machine.process for machine in self.machines.values() if machine.up]

    def view(self, name: str) -> View:
        return self[name].core.view

    def name_of(self, node_id: str) -> str:
        """The machine of a node id, or the id."""
        return self._names.get(node_id, node_id)

    # --- what is done to it ----------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """End a process as SIGKILL does: its memory is gone, what it wrote to files is not."""
        self._note(name, "killed")
        process = self[name]
        process.die()
        self.network.close_all(process)

    def shut_down(self, name: str) -> None:
        """Tell a node to end in order, which may take it a while."""
        self._note(name, "is told to shut down")
        self.ask(name, "SHUTDOWN")

    def lose_power(self, name: str) -> None:
        """End a machine: what its disk was not asked to sync may be gone, and its peers hear
        nothing."""
        self._note(name, "loses power")
        machine = self.machines[name]
        machine.process.die()
        self.network.lose_power(machine.process)
        machine.disk.crash()

    def restart(self, name: str) -> None:
        """Start the program again, with what its disk holds."""
        machine = self.machines[name]
        assert not machine.up
        self._note(name, "restarts")
        self.restarts += 1
        self.network.regain_power(name)
        self._launch(machine)

    def pause(self, name: str) -> None:
        self._note(name, "paused")
        self[name].pause()

    def resume(self, name: str) -> None:
        self._note(name, "resumes")
        self[name].resume()

    def slow_down(self, name: str, slow_ms: int) -> None:
        """Let a process take so long for each thing; 0 makes it fast again."""
        self._note(name, f"takes {slow_ms} ms" if slow_ms else "is fast again")
        self[name].slow_ms = slow_ms

    def cut(self, source: str, target: str) -> None:
        """Let nothing get from one machine to another; the other way it does."""
        self._note(source, f"cut off on the way to {target}")
        self.network.cut(source, target)

    def part(self, group: Iterable[str]) -> None:
        """Cut a group off from everybody else, both ways."""
        inside = list(group)
        self._note("net", f"parts {' '.join(inside)} from the rest")
        for place in [*self.machines, *(writer.place for writer in self.writers)]:
            if place not in inside:
                for member in inside:
                    self.network.cut(member, place)
                    self.network.cut(place, member)

    def mend_cut(self, source: str, target: str) -> None:
        if self.network.is_cut(source, target):
            self._note(source, f"reaches {target} again")
            self.network.mend(source, target)

    def mend(self) -> None:
        """End all cuts."""
        if self.network.cuts:
            self._note("net", "mended")
            self.network.mend_all()

    def break_connection(self, end: End) -> None:
        self._note(end.owner.place, f"loses a connection to {end.other.owner.place}")
        self.network.break_connection(end)

    def ask(self, name: str, *args: str | bytes | int) -> Any:
        """The reply of a node to one command, given on its own machine."""
        reader = hiredis.Reader()
        reader.feed(self[name].ask(*args))
        reply = reader.gets()
        demand("internal error" not in str(reply), "no failure", f"{name} on {args}: {reply}")
        return reply

    # --- time ------------------------------------------------------------------------------------

    def run(self, ms: int | None = None, until: Condition | None = None) -> int:
        """Let time pass: so many ms, or until a condition holds (AssertionError if that takes
        longer than `ms` or a minute). Returns how long it took."""
        start = self.timeline.now
        end = start + (ms if ms is not None else UNTIL_LIMIT_MS)
        if until is None:
            while self.timeline.step(end):
                pass
            return self.timeline.now - start
        while not until():
            moment = min(self.timeline.now + LOOK_MS, end) if ms is None else end
            assert self.timeline.now < end, "it has not happened"
            self.timeline.step(moment)
        return self.timeline.now - start

    def every(self, period_ms: int, action: Callable[[], None]) -> None:
        """Do something again and again."""

        def once() -> None:
            action()
            self.timeline.after(period_ms, once)

        self.timeline.after(period_ms, once)

    # --- a cluster -------------------------------------------------------------------------------

    def form(self) -> None:
        """Let the machines become a cluster, as redis-cli --cluster create does it."""
        everybody, shards = list(self.machines), len(self._primaries)
        edges = [i * SLOTS // shards for i in range(shards + 1)]
        for i, name in enumerate(self._primaries):
            self._order(name, "CLUSTER", "SET-CONFIG-EPOCH", i + 1)
            self._order(name, "CLUSTER", "ADDSLOTSRANGE", edges[i], edges[i + 1] - 1)
        for name in everybody[1:]:
            self._order(everybody[0], "CLUSTER", "MEET", self.machines[name].ip, PORT)
        self.run(FORM_LIMIT_MS, until=self.all_acquainted)
        for i, name in enumerate(self._replicas):
            self._order(name, "CLUSTER", "REPLICATE", self[self._primaries[i % shards]].id)
        self.run(FORM_LIMIT_MS, until=self.settled)

    def _order(self, name: str, *args: str | int) -> None:
        answer = self.ask(name, *args)
        assert answer == b"OK", answer

    def add_writers(self) -> None:
        """Let clients begin to write."""
        nodes = [(machine.ip, PORT) for machine in self.machines.values()]
        for number in range(1, self.settings.writers + 1):
            place = f"c{number}"
            self.network.places[f"10.0.1.{number}"] = place
            writer = Writer(
                place,
                self.network,
                self._own_rng(),
                nodes,
                ledger=self.ledger,
                copies=self.settings.replicas,
                busy_ms=self.settings.busy_ms,
            )
            self.writers.append(writer)
            writer.start()

    def add_resharder(self) -> None:
        """Let slots be moved about from here on."""
        self.network.places["10.0.2.1"] = "op"
        self.resharder = Resharder(
            "op",
            self.network,
            self._own_rng(),
            [(machine.ip, PORT) for machine in self.machines.values()],
            ledger=self.ledger,
            whole=self.settings.whole,
            busy_ms=self.settings.reshard_every,
        )
        self.resharder.start()

    def mend_slots(self) -> None:
        """Put right what moves were left half-done; time passes."""
        self.network.places["10.0.2.2"] = "mend"
        mender = Mender("mend", self.network, self._own_rng(), [], find=self._trouble)
        mender.start()
        self.run(until=lambda: not mender.alive)

    def _trouble(self) -> Trouble | None:
        """A slot that is not wholly where it belongs."""
        serving = [process for process in self.processes if process.core.view.myself.is_primary]
        for process in serving:
            view, db = process.core.view, process.node.keyspace[0]
            foreign = [slot for slot, part in enumerate(db.parts) if part]
            foreign = [slot for slot in foreign if not view.myself.slots >> slot & 1]
            for slot in [*view.migrating, *view.importing, *foreign]:
                owners = [one for one in serving if one.core.view.myself.slots >> slot & 1]
                owner = max(owners, key=lambda one: one.core.view.myself.config_epoch)
                return Trouble(slot, _owner(owner), _owner(process))
        return None

    # --- conditions ------------------------------------------------------------------------------

    def all_acquainted(self) -> bool:
        size = len(self.machines)
        return all(
            len(process.core.view.order) == size
            and not any(node.in_handshake for node in process.core.view.order)
            for process in self.processes
        )

    def settled(self) -> bool:
        """Whether all is well, everywhere, and everybody agrees."""
        return not self.checks.unsettled([machine.process for machine in self.machines.values()])

    def promoted(self, name: str) -> Condition:
        """A condition: this node is a primary that serves."""
        return lambda: self.view(name).myself.is_voter and self.view(name).ok

    def follows(self, name: str, primary: str) -> Condition:
        """A condition: this node replicates that one, and has all of its data."""

        def holds() -> bool:
            seen, link = self.view(name).myself.primary, self[name].node.role.link
            return (
                seen is not None
                and self.name_of(seen.id) == primary
                and link is not None
                and link.is_up()
                and self[name].node.log.offset == self[primary].node.log.offset
            )

        return holds

    # --- what is seen ----------------------------------------------------------------------------

    def on_effect(self, process: Process, effect: Effect) -> None:
        self.checks.on_effect(process, effect)
        match effect:
            case fx.Event():
                self.counts[effect.kind] = self.counts.get(effect.kind, 0) + 1
                whom = self.name_of(effect.node_id)
                detail = self.name_of(effect.detail)
                about = "" if whom == process.place else f" {whom}"
                self._note(process.place, f"{effect.kind}{about} {detail}")
            case fx.Follow():
                self._note(process.place, f"follows {self.name_of(effect.node_id)}")
            case fx.Log():
                self.trace.remark(self.timeline.elapsed, process.place, f"  {effect.text}")
            case fx.Send(message=AuthAck()) if self.settings.deaths_after_vote:
                self._may_die_after_vote(process)

    def _may_die_after_vote(self, process: Process) -> None:
        """A voter that forgot would be able to vote again."""
        if self.rng.random() < self.settings.deaths_after_vote:
            self.timeline.after(self.rng.randint(0, 5), lambda: self._end_voter(process))

    def _end_voter(self, process: Process) -> None:
        if process.alive:
            (self.kill if self.rng.random() < 0.5 else self.lose_power)(process.place)
            self.timeline.after(self.rng.randint(20, 1000), lambda: self.restart_if_down(process))

    def restart_if_down(self, process: Process) -> None:
        """Start what ended with this process, unless somebody was faster."""
        if self[process.place] is process and not process.alive:
            self.restart(process.place)

    def on_turn(self, process: Process) -> None:
        self.checks.on_turn(process)

    def on_load(self, process: Process, error: str = "") -> None:
        self.checks.on_load(process, error)

    def on_end(self, process: Process) -> None:
        self._note(process.place, "has shut down")
        process.die()
        self.network.close_all(process)

    def on_power_loss(self, process: Process) -> None:
        self.lose_power(process.place)

    def _delivered(self, end: End, data: bytes) -> None:
        self.trace.count(self.timeline.elapsed, end.owner.place, data)

    def _note(self, who: str, what: str) -> None:
        self.trace.note(self.timeline.elapsed, who, what)


def _owner(process: Process) -> Owner:
    return Owner(process.id.encode(), (process.ip, PORT))


def _no_file(path: str) -> str:
    raise FileNotFoundError(2, "No such file or directory", path)


def _no_files(pattern: str) -> list[str]:
    return []
