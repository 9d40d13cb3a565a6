"""`slotfleet`: start, watch, end and drill clusters of this machine.

A cluster is to be ready within a second of this program's start, so whatever a command doesn't need
is imported by those that do, and what is only for showing after the nodes have been started.
"""

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cluster.commandline import OPERATIONS, access_options, check_cluster, reported_errors

if TYPE_CHECKING:
    from cluster.launcher import Fleet, Plan
    from cluster.processes import Spawner
    from cluster.status import Row

REFRESH = 0.5


def directory_option(command: Callable[..., None]) -> Callable[..., None]:
    return click.option(
        "--dir",
        "directory",
        type=click.Path(file_okay=False, path_type=Path),
        default=".slotfleet",
        show_default=True,
        help="The cluster's directory.",
    )(command)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Redis-compatible clusters on this machine: start them, watch them, break them."""


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--shards", default=3, show_default=True, help="Primaries, each with its slots.")
@click.option("--replicas", default=1, show_default=True, help="Replicas of each primary.")
@click.option("--port", default=7000, show_default=True, help="The first node's port.")
@directory_option
@click.option("--detach", is_flag=True, help="Return once the cluster is ready; leave it running.")
@click.option("--server", metavar="NAME", help="Nodes of another server, such as valkey-server.")
@click.argument("directives", nargs=-1, type=click.UNPROCESSED, metavar="[--DIRECTIVE VALUE]...")
@click.pass_context
def up(
    context: click.Context,
    shards: int,
    replicas: int,
    port: int,
    directory: Path,
    detach: bool,
    server: str | None,
    directives: tuple[str, ...],
) -> None:
    """Start a cluster, show how its nodes are, and end it on Ctrl-C.

    A stopped cluster's directory is started again with its data. Directives of redis.conf go to
    every node: --maxmemory 100mb --cluster-node-timeout 2000
    """
    from cluster.launcher import Plan, claimed, prepare

    plan = Plan(shards, replicas, port, directives, server)
    named = ("shards", "replicas", "port", "server")
    given = [
        name
        for name in named
        if context.get_parameter_source(name) == click.core.ParameterSource.COMMANDLINE
    ]
    with reported_errors(), claimed(directory):
        fleet = prepare(plan, directory.absolute(), given)
        bring_up(fleet)
        if detach:
            show(fleet)
        else:
            attend(fleet)


def spawner_of(plan: "Plan") -> "Spawner":
    """How this plan's nodes are started: by forking this process, warm with all they import."""
    from cluster.processes import Fork, Program, find_program

    if plan.server is not None:
        return Program(find_program(plan.server))
    from cluster.server import run_server

    gc.collect()
    gc.freeze()  # what is shared stays shared
    return Fork(run_server)


def bring_up(fleet: "Fleet") -> None:
    """Start all nodes and wait until they are a cluster; on any failure none stays."""
    from cluster.launcher import start

    try:
        start(fleet, spawner_of(fleet.plan))
        import trio

        trio.run(fleet.become_ready)
    except BaseException:
        fleet.abandon()
        raise


def show(fleet: "Fleet") -> None:
    """The nodes as they are, and how to talk to them."""
    import trio

    rows = trio.run(survey_once, fleet)
    click.echo(greeting(fleet.plan))
    show_rows(rows)


def greeting(plan: "Plan") -> str:
    """What to paste to talk to a cluster."""
    password = f", password={plan.password!r}" if plan.password else ""
    auth = f" -a {plan.password}" if plan.password else ""
    return (
        f"redis-cli -c -p {plan.port}{auth}\n"
        f'redis.RedisCluster(host="127.0.0.1", port={plan.port}{password})'
    )


def show_rows(rows: "Sequence[Row]") -> None:
    from cluster.status import plain, table

    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(table(rows))
    else:
        click.echo(plain(rows))


async def survey_once(fleet: "Fleet") -> "list[Row]":
    from cluster.status import Survey

    survey = Survey(fleet.plan.addresses, fleet.plan.password)
    try:
        return await survey.take()
    finally:
        survey.close()


def attend(fleet: "Fleet") -> None:
    """Show the nodes until a signal, or until somebody else has ended them; then end them."""
    import trio

    click.echo(greeting(fleet.plan))
    click.echo("Ctrl-C stops the cluster; its data stays.")
    rows: Sequence[Row] = []
    try:
        rows = trio.run(watch, fleet)
    finally:
        fleet.end([row.port for row in rows if row.role.startswith("replica")])
    click.echo("stopped")


async def watch(fleet: "Fleet") -> "list[Row]":
    """Show the nodes every half second; returns their last rows when it is time to end them."""
    import trio

    from cluster.status import Survey

    survey = Survey(fleet.plan.addresses, fleet.plan.password)
    rows = await survey.take()
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:

            async def end_on_signal() -> None:
                async for _ in signals:
                    nursery.cancel_scope.cancel()

            nursery.start_soon(end_on_signal)
            with display() as update:
                while fleet.alive():
                    update(rows)
                    await trio.sleep(REFRESH)
                    rows = await survey.take()
            nursery.cancel_scope.cancel()
    survey.close()
    return rows


class display:
    """A live table on a terminal; elsewhere a line for every change of a role or a state."""

    def __enter__(self) -> "Callable[[Sequence[Row]], None]":
        self.seen: dict[int, tuple[str, str]] = {}
        self.live: Any = None
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(auto_refresh=False)
            self.live.start()
        return self.update

    def update(self, rows: "Sequence[Row]") -> None:
        from cluster.status import table

        if self.live is not None:
            self.live.update(table(rows), refresh=True)
            return
        for row in rows:
            now = (row.role, row.state)
            if self.seen.get(row.port) != now:
                click.echo(f"{row.port} {row.role} {row.slots or '-'} {row.state}")
            self.seen[row.port] = now

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()


@main.command()
@directory_option
def status(directory: Path) -> None:
    """Show how each node is; exit status 0 when all are ok."""
    import trio

    with reported_errors():
        fleet = existing(directory)
        rows = trio.run(survey_once, fleet)
    show_rows(rows)
    sys.exit(any(row.state != "ok" for row in rows))


@main.command()
@directory_option
def down(directory: Path) -> None:
    """End every node and return when none runs; the data stays."""
    import trio

    with reported_errors():
        fleet = existing(directory)
        rows = trio.run(survey_once, fleet) if fleet.alive() else []
        fleet.end([row.port for row in rows if row.role.startswith("replica")])


@main.group()
def drill() -> None:
    """Break something under load, and report what the clients saw."""


@drill.command("kill-primary", context_settings={"ignore_unknown_options": True})
@click.option("--server", default="slotfleet-server", show_default=True, help="Whose nodes.")
@click.option("--node-timeout", default=2000, show_default=True, help="In milliseconds.")
@click.option("--repeat", default=1, show_default=True, help="Runs, each on a new cluster.")
@click.option("--fault", type=click.Choice(["kill", "pause"]), default="kill", show_default=True)
@click.option("--json", "json_file", type=click.File("w"), help="Write the report there, too.")
@click.argument("directives", nargs=-1, type=click.UNPROCESSED, metavar="[--DIRECTIVE VALUE]...")
def kill_primary(
    server: str,
    node_timeout: int,
    repeat: int,
    fault: str,
    json_file: Any,
    directives: tuple[str, ...],
) -> None:
    """Kill a primary by SIGKILL, or stop it by SIGSTOP, while every shard is written to.

    Reports the downtime of its shard as a writer saw it, errors by class, acknowledged writes lost
    (of all, and of those a replica had confirmed), and when the survivors suspected it, called it
    failed, voted and promoted its replica, in milliseconds after the fault; and how long after
    its return it was a replica.
    """
    import trio

    from cluster import drill, report

    scenario = drill.kill_primary(fault)
    every = ("--cluster-node-timeout", str(node_timeout), "--save", "", *directives)
    runs = []
    with reported_errors():
        for i in range(repeat):
            runs.append(trio.run(drill.run_scenario, scenario, server, every))
            click.echo(f"run {i + 1}: downtime {report.shown(runs[-1].downtime_ms)} ms", err=True)
    done = report.DrillReport(scenario.name, server, fault, node_timeout, runs)
    if json_file is not None:
        json_file.write(done.to_json())
    if sys.stdout.isatty():
        from rich.console import Console

        Console().print(report.table(done))
    else:
        click.echo(report.plain(done))


@main.command()
@click.argument("target", metavar="FILE|DIR|HOST:PORT")
@click.option("--databases", default=16, show_default=True, help="As many as the node would have.")
@access_options
def check(target: str, databases: int, user: str | None, password: str | None) -> None:
    """Tell what a node's files hold, and up to where they are whole; or how a cluster is.

    FILE is an RDB, an append-only file, its manifest, or a nodes.conf; DIR an append-only file's
    directory or a node's. Exit status 0 if all is valid, 1 if not. The files are read whole into
    memory, as a node does, and are not changed.

    HOST:PORT is any node of a cluster of any server. All its nodes are asked; exit status 1 if a
    slot is served by nobody or by several, or open, if keys are where they are not looked for, if
    nodes disagree or can't be reached. `slotfleet fix` mends what can be mended.
    """
    path = Path(target)
    if not path.exists() and target.rpartition(":")[2].isdigit():
        with reported_errors():
            sys.exit(not check_cluster(target, user, password))
    from cluster import filecheck

    with reported_errors():
        if not path.exists():
            raise filecheck.OperatorError(f"there is no {target}")
        found = filecheck.check(path, databases)
    for line in filecheck.plain(found):
        click.echo(line)
    sys.exit(not all(data_set.is_valid() for data_set in found))


@main.command()
@click.argument("source", type=click.Path(exists=True, path_type=Path))
@click.argument("target", type=click.Path(path_type=Path), required=False)
@click.option("--at", "time", metavar="TIME", help="2026-01-31T18:30:00, or seconds since 1970.")
@click.option("--in-place", is_flag=True, help="Cut SOURCE itself; no node may be using it.")
def restore(source: Path, target: Path | None, time: str | None, in_place: bool) -> None:
    """Copy an append-only file as it was at a time into TARGET, a new directory.

    SOURCE is the directory of a node or of its append-only file. Without --at only what a crash
    has cut at the end is left out. A node started in TARGET has the data:
    slotfleet-server --dir TARGET --appendonly yes
    """
    from cluster import filecheck
    from cluster import restore as restoring

    if (target is None) != in_place:
        raise click.UsageError("give a TARGET, or --in-place to cut SOURCE itself")
    with reported_errors():
        made = restoring.plan(source, None if time is None else restoring.parse_time(time))
        place = restoring.cut_in_place(made) if target is None else restoring.copy(made, target)
        for line in restoring.plain(made):
            click.echo(line)
        found = filecheck.check(place)
    for line in filecheck.plain(found):
        click.echo(line)
    sys.exit(not all(data_set.is_valid() for data_set in found))


def existing(directory: Path) -> "Fleet":
    from cluster.launcher import Fleet, LauncherError

    fleet = Fleet.load(directory.absolute())
    if fleet is None:
        raise LauncherError(f"no cluster in {directory}")
    return fleet


for operation in OPERATIONS:
    main.add_command(operation)


if __name__ == "__main__":
    main()
