"""`slotfleet-server`: a node as a process, alone or in a cluster, in place of redis-server."""

import socket
import sys
from random import Random

from cluster import commands, nodesfile
from cluster.bus import Bus
from cluster.configfile import ConfigFile, FileInUse
from cluster.core import Core
from cluster.directives import BUS_OFFSET, bus_port, options_of
from cluster.member import Member
from cluster.routing import Routing
from cluster.view import View
from node import server as alone
from node.clock import SystemClock
from node.config import Config
from node.host import SystemHost
from node.node import Node
from node.process import Exit
from node.server import Server

assert commands  # importing them fills the table


def build(config: Config) -> Server:
    """The server that a configuration asks for; raises Exit."""
    return member_server(config) if config.cluster_enabled else alone.lone_server(config)


def member_server(config: Config) -> Server:
    """The server of a node that is in a cluster, if only of one."""
    bus = open_bus(config)
    server = Server(bus.member.node)

    async def serve_bus() -> None:
        server.turns.look_after(bus.fileno(), bus.pump)
        await bus.serve()

    server.tasks.append(serve_bus)
    server.pumps.append(bus.pump)
    server.while_loading.append(bus.pump_while_loading)
    server.before_exit.append(bus.close)
    return server


def open_bus(config: Config) -> Bus:
    """A node that is in a cluster; its bus port is open, and nodes.conf locked. Raises Exit."""
    _check_ports(config)
    file = _lock(config)
    listeners = _listen(config)
    rng, clock = Random(), SystemClock()
    view = _load(file, rng, clock.wall_ms())
    routing = Routing(view, config)
    node = Node(config, clock, rng, routing, host=SystemHost())
    member = Member(node, Core(view, options_of(config), rng), routing)
    return Bus(member, file, listeners)


def _check_ports(config: Config) -> None:
    if not config.port:
        raise Exit(1, "A node of a cluster needs a port for clients: port 0 can't be used.")
    if bus_port(config) > 65535:
        raise Exit(
            1,
            "Redis port number too high for cluster mode. The cluster bus port number is usually "
            f"calculated by adding {BUS_OFFSET} to the server port number. Your Redis port number "
            f"must be less than {65536 - BUS_OFFSET}.",
        )


def _lock(config: Config) -> ConfigFile:
    name = config.cluster_config_file
    try:
        return ConfigFile(name)
    except FileInUse:
        raise Exit(
            1,
            f"Sorry, the cluster configuration file {name} is already used by a different Redis "
            "Cluster node. Please make sure that different nodes use different cluster "
            "configuration files.",
        ) from None
    except OSError as error:
        raise Exit(1, f"Can't open {name} in order to acquire a lock: {error.strerror}") from None


def _load(file: ConfigFile, rng: Random, now: int) -> View:
    """The view that nodes.conf holds, or a fresh one where it is empty."""
    try:
        text = file.read()
        return nodesfile.load(text, rng, now) if text else nodesfile.fresh_view(rng)
    except ValueError as error:
        why = f'Unrecoverable error: corrupted cluster config file "{file.path}".\n{error}'
        raise Exit(1, why) from None


def _listen(config: Config) -> list[socket.socket]:
    try:
        return alone.open_tcp(config, bus_port(config))
    except OSError as error:
        why = f"Failed listening on port {bus_port(config)} (cluster), aborting.\n{error}"
        raise Exit(1, why) from None


def run_server(argv: list[str]) -> int:
    """A whole server process: from the command line to the exit code. Call before any trio.run."""
    return alone.run_server(argv, build)


def main() -> None:
    """The program `slotfleet-server [FILE] [--directive value ...]`."""
    sys.exit(run_server(sys.argv[1:]))
