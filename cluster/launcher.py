"""A cluster of this machine in a directory: start its nodes, find them again, end them.

The directory holds `cluster.json` (the plan and the processes), `lock`, and a directory for each
node, named by its port, with its nodes.conf, its data and its log. The lock is held by the launcher
and by the nodes that it forked; a directory is in use while it is held, or any of the processes
runs.
"""

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from cluster.admin import Formation
from cluster.client import Address
from cluster.processes import BUS_OFFSET, OperatorError, Process, Spawner, end, taken_ports

HOST = "127.0.0.1"
STATE_FILE = "cluster.json"
LOCK_FILE = "lock"
# What makes the nodes a cluster is the launcher's business.
RESERVED = ("port", "dir", "cluster-enabled", "cluster-config-file", "cluster-port", "daemonize")


class LauncherError(OperatorError):
    """Why a cluster can't be started or found."""


@attrs.frozen
class Plan:
    """The shape of a cluster and what every node is told; kept in its directory."""

    shards: int = 3
    replicas: int = 1
    port: int = 7000
    directives: tuple[str, ...] = ()
    server: str | None = None

    @property
    def ports(self) -> range:
        return range(self.port, self.port + self.shards * (1 + self.replicas))

    @property
    def addresses(self) -> list[Address]:
        return [(HOST, port) for port in self.ports]

    @property
    def password(self) -> str | None:
        return self._directive("requirepass")

    def _directive(self, name: str) -> str | None:
        words = [word.lower() for word in self.directives]
        flag = f"--{name}"
        return self.directives[words.index(flag) + 1] if flag in words[:-1] else None

    def check(self) -> None:
        """Raises LauncherError for a plan that can't work."""
        if self.shards < 1 or self.replicas < 0:
            raise LauncherError("a cluster needs at least one shard, and no fewer than 0 replicas")
        if self.ports[0] < 1 or self.ports[-1] + BUS_OFFSET > 65535:
            last = 65535 - BUS_OFFSET - len(self.ports) + 1
            raise LauncherError(
                f"{len(self.ports)} nodes need a first port from 1 to {last}: each takes its port "
                f"and the one {BUS_OFFSET} above for the cluster bus"
            )
        if self.directives and not self.directives[0].startswith("--"):
            raise LauncherError(f"unexpected argument {self.directives[0]!r}")
        for name in RESERVED:
            if f"--{name}" in self.directives:
                raise LauncherError(f"the launcher itself gives --{name} to each node")

    def arguments(self, port: int, directory: Path) -> list[str]:
        """The command line of one node."""
        own = {"port": str(port), "dir": str(directory), "cluster-enabled": "yes"}
        if self.password is not None and self._directive("masterauth") is None:
            own["masterauth"] = self.password
        if self._directive("bind") is None:
            own["bind"] = HOST
        if self._directive("repl-diskless-sync-delay") is None:
            own["repl-diskless-sync-delay"] = "0"
        ours = [word for name, value in own.items() for word in (f"--{name}", value)]
        return [*ours, *self.directives]


@attrs.define(eq=False)
class Fleet:
    """The nodes of one cluster as processes, by port."""

    plan: Plan
    directory: Path
    processes: dict[int, Process] = attrs.field(factory=dict)
    formed: bool = False

    @classmethod
    def load(cls, directory: Path) -> "Fleet | None":
        """The cluster that a directory holds, running or not. Raises LauncherError."""
        try:
            state = json.loads((directory / STATE_FILE).read_text())
            processes = {
                node["port"]: Process(node["pid"], node["started"]) for node in state["nodes"]
            }
            return cls(_plan(state["plan"]), directory, processes, state["formed"])
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, KeyError) as error:
            raise LauncherError(f"{directory / STATE_FILE} can't be read: {error}") from error

    def save(self) -> None:
        """Write cluster.json, whole or not at all."""
        nodes = [{"port": port, **attrs.asdict(node)} for port, node in self.processes.items()]
        state = {"plan": attrs.asdict(self.plan), "formed": self.formed, "nodes": nodes}
        draft = self.directory / f"{STATE_FILE}.new"
        draft.write_text(json.dumps(state, indent=1) + "\n")
        draft.replace(self.directory / STATE_FILE)

    def node_directory(self, port: int) -> Path:
        return self.directory / str(port)

    def alive(self) -> list[int]:
        """The ports whose process runs."""
        return [port for port, process in self.processes.items() if process.is_alive()]

    def spawn(self, spawner: Spawner, port: int) -> None:
        """Start one node; its log goes on where it ended."""
        directory = self.node_directory(port)
        directory.mkdir(exist_ok=True)
        self.processes[port] = spawner(self.plan.arguments(port, directory), directory)

    def raise_for_dead(self) -> None:
        """Raises LauncherError with the last words of a node that has ended."""
        for port, process in self.processes.items():
            if not process.is_alive():
                raise LauncherError(f"node {port} ended:\n{self.last_words(port)}")

    def last_words(self, port: int, lines: int = 6) -> str:
        log = (self.node_directory(port) / "log").read_text(errors="replace")
        return "\n".join(f"  {line}" for line in log.splitlines()[-lines:])

    def formation(self) -> Formation:
        """The forming of this cluster, which gives up when a node ends."""
        plan = self.plan
        return Formation(plan.addresses, plan.shards, plan.password, alive=self.raise_for_dead)

    async def become_ready(self) -> None:
        """Form the cluster, or wait until the one that formed before is whole again.

        Raises LauncherError or FormationFailed.
        """
        if self.formed:
            await self.formation().wait_ready()
            return
        await self.formation().form()
        self.formed = True
        self.save()

    def end(self, first: Sequence[int] = (), grace: float = 15.0) -> None:
        """End the nodes of the ports in `first`, then all others; returns when none runs.

        Who hasn't ended by itself after `grace` seconds is killed.

        Replicas first: then none is promoted on the way, and no primary waits for one.
        """
        end([self.processes[port] for port in first], grace)
        end(list(self.processes.values()), grace)

    def abandon(self) -> None:
        """End all nodes of a start that failed; one that never formed leaves nothing behind."""
        self.end()
        if self.formed:
            return
        for port in self.plan.ports:
            shutil.rmtree(self.node_directory(port), ignore_errors=True)
        (self.directory / STATE_FILE).unlink(missing_ok=True)


def _plan(fields: dict[str, Any]) -> Plan:
    return Plan(**{**fields, "directives": tuple(fields["directives"])})


@contextmanager
def claimed(directory: Path) -> Iterator[None]:
    """Hold the lock of a directory, which is made if needed, and removed if it stays empty.

    Raises LauncherError when another cluster runs there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(directory / LOCK_FILE, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise LauncherError(f"can't use directory {directory}: {error.strerror}") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise in_use(directory) from None
    finally:
        os.close(lock)
        _tidy(directory)


def in_use(directory: Path) -> LauncherError:
    return LauncherError(f"a cluster is running in {directory}; `slotfleet down` ends it")


def _tidy(directory: Path) -> None:
    if not (directory / STATE_FILE).exists():
        (directory / LOCK_FILE).unlink(missing_ok=True)
        if not any(directory.iterdir()):
            directory.rmdir()


def prepare(plan: Plan, directory: Path, given: Sequence[str] = ()) -> Fleet:
    """The cluster of a claimed directory: the one it holds, or a new one of this plan.

    `given` names what the operator asked for; it must agree with a cluster that is there. Raises
    LauncherError, also for ports that are taken.
    """
    fleet = Fleet.load(directory)
    if fleet is None:
        if strangers := [path.name for path in directory.iterdir() if path.name != LOCK_FILE]:
            raise LauncherError(
                f"{directory} holds no cluster, but {strangers[0]}; it must be empty"
            )
        fleet = Fleet(plan, directory)
    else:
        if fleet.alive():
            raise in_use(directory)
        _check_agreement(fleet.plan, plan, given)
        if plan.directives:
            fleet.plan = attrs.evolve(fleet.plan, directives=plan.directives)
    fleet.plan.check()
    if taken := taken_ports(fleet.plan.ports):
        raise LauncherError(f"already in use: port {', '.join(map(str, taken))}")
    return fleet


def _check_agreement(held: Plan, asked: Plan, given: Sequence[str]) -> None:
    for name in given:
        if getattr(held, name) != getattr(asked, name):
            raise LauncherError(
                f"the directory holds a cluster with {name} {getattr(held, name)}, not "
                f"{getattr(asked, name)}; use another --dir"
            )


def start(fleet: Fleet, spawner: Spawner) -> None:
    """Start every node, and note them down at once so that `down` finds them whatever happens."""
    for port in fleet.plan.ports:
        fleet.spawn(spawner, port)
    fleet.save()
