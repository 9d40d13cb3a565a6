"""What every `slotfleet` command for any cluster needs: to ask, to show, to let be confirmed."""

import re
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

import attrs
import click
import trio

from cluster.bykey import Settings
from cluster.census import Access, settled_census
from cluster.diagnosis import findings
from cluster.operations import Interrupted
from cluster.plan import Address, Census, Member, PlanError, Step, union
from cluster.processes import OperatorError
from cluster.slots import parse_range, to_text
from cluster.status import aligned

COLUMNS = ("node", "id", "role", "slots", "keys", "ranges")
UNDER_WAY_POLL = 0.2
SETTLE = 15.0  # seconds for all to hear of what was done


class Refused(OperatorError):
    """Nothing was done; says why."""


def parse_address(text: str) -> Address:
    """HOST:PORT, or a port of this machine. Raises Refused."""
    host, _, port = text.rpartition(":")
    if not re.fullmatch(r"\d{1,5}", port) or not 0 < int(port) < 65536:
        raise Refused(f"{text!r} is no HOST:PORT")
    return (host.strip("[]") or "127.0.0.1", int(port))


def parse_ranges(text: str) -> int:
    """The set of slots of a text such as "0-100,200". Raises Refused."""
    try:
        return union(map(parse_range, text.replace(",", " ").split()))
    except ValueError as error:
        raise Refused(str(error)) from error


# --- showing --------------------------------------------------------------------------------------


def show_census(census: Census) -> None:
    """A line for each node, primaries with their replicas."""
    lines = [list(COLUMNS)]
    for node in census.nodes:
        if node.is_primary:
            lines += [_cells(one, census) for one in (node, *census.replicas_of(node))]
    known = {node.id for node in census.nodes}
    lines += [
        _cells(node, census) for node in census.nodes if node.primary_id not in {None, *known}
    ]
    click.echo(aligned(lines))


def _cells(node: Member, census: Census) -> list[str]:
    role = "primary"
    if node.primary_id is not None:
        primary = census.by_id.get(node.primary_id)
        role = f"replica of {primary.name if primary else node.primary_id[:8]}"
    if not node.reachable:
        return [node.name, node.id[:8], role, "", "", "unreachable"]
    served = str(node.slots.bit_count()) if node.is_primary else ""
    words = to_text(node.slots).split()
    shown = " ".join(words if len(words) <= 4 else [*words[:3], "..."])
    return [node.name, node.id[:8], role, served, str(node.key_count), shown]


def show_findings(census: Census) -> bool:
    """What is wrong, line by line; True if nothing is."""
    found = findings(census)
    for finding in found:
        click.echo(f"wrong: {finding.text}")
    if census.on_the_way:
        click.echo(f"{census.on_the_way.bit_count()} slots are on the way as a whole")
    if not found:
        click.echo("ok: all slots are served, all nodes agree")
    return not found


def show_steps(steps: Sequence[str]) -> None:
    click.echo("plan:")
    for step in steps:
        click.echo(f"  {step}")


def show_plan(steps: Sequence[Step], again: str) -> None:
    show_steps([str(step) for step in steps])
    if again:
        click.echo(f"to carry on with just this plan later: {again}")


class Teller:
    """Tells how moves go: a bar on a terminal, elsewhere a line for each part."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.done = 0
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> Self:
        if sys.stdout.isatty() and self.total:
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
            from rich.progress import TimeElapsedColumn as Elapsed

            text = TextColumn("{task.description}")
            self.bar = Progress(text, BarColumn(), MofNCompleteColumn(), Elapsed())
            self.bar.start()
            self.task = self.bar.add_task("slots", total=self.total)
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def begin(self, step: Step) -> None:
        self._say(f"{step} ...")

    def moved(self, slots: int, text: str) -> None:
        before, self.done = self.done, self.done + slots
        if self.bar is not None:
            self.bar.advance(self.task, slots)
        elif self.done == self.total or before * 20 // self.total < self.done * 20 // self.total:
            click.echo(f"  {self.done} of {self.total} slots")

    def _say(self, text: str) -> None:
        if self.bar is not None:
            self.bar.console.print(text, highlight=False)
        else:
            click.echo(text)


# --- asking and doing -----------------------------------------------------------------------------


@attrs.frozen
class Request:
    """Where to go, as whom, and how."""

    seed: Address
    user: str | None = None
    password: str | None = None
    settings: Settings = attrs.field(factory=Settings)
    yes: bool = False
    dry_run: bool = False

    def access(self) -> Access:
        return Access(self.user, self.password)


def observe(request: Request, patience: float = 1.0) -> Census:
    """The cluster as it is now, or when all agree after a while. Raises CensusFailed."""

    async def ask() -> Census:
        async with request.access() as access:
            return await settled_census(access, request.seed, patience)

    return trio.run(ask)


async def quiet_census(access: Access, seed: Address) -> Census:
    """A census once no slots are on the way as a whole, by an operator before this one perhaps."""
    told = 0
    while (census := await settled_census(access, seed)).on_the_way:
        if census.on_the_way != told:
            told = census.on_the_way
            click.echo(f"waiting for {told.bit_count()} slots that are on the way already")
        await trio.sleep(UNDER_WAY_POLL)
    return census


def quiet(request: Request) -> Census:
    async def ask() -> Census:
        async with request.access() as access:
            return await quiet_census(access, request.seed)

    return trio.run(ask)


def planned_or_refused(make: Callable[[], Any]) -> Any:
    """A plan's part; what can't be planned is Refused."""
    try:
        return make()
    except PlanError as error:
        raise Refused(str(error)) from error


def confirm(request: Request) -> None:
    """Let the operator say yes. Raises click.Abort if not."""
    if not request.yes:
        click.confirm("Do it?", abort=True)


def run_interruptible(work: Callable[[Callable[[], bool]], Awaitable[Any]]) -> Any:
    """Run `work`, which is told whether to stop: Ctrl-C asks it to; once more ends it at once."""
    asked = 0
    result: Any = None
    failure: Exception | None = None

    async def listen(scope: trio.CancelScope) -> None:
        nonlocal asked
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                asked += 1
                if asked > 1:
                    scope.cancel()
                else:
                    click.echo("stopping once what has begun is done; again to stop at once")

    async def main() -> None:
        nonlocal result, failure
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen, nursery.cancel_scope)
            try:
                result = await work(lambda: asked > 0)
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()

    trio.run(main)
    if failure is not None:
        raise failure
    if asked > 1:
        raise Interrupted("stopped at once; `slotfleet check` tells what is half done")
    return result


def agree_and_do(
    request: Request,
    steps: Sequence[str],
    work: Callable[[Callable[[], bool]], Awaitable[None]],
) -> bool:
    if not steps:
        click.echo("nothing to do")
        return show_findings(observe(request, SETTLE))
    show_steps(steps)
    if request.dry_run:
        return True
    confirm(request)
    run_interruptible(work)
    return show_findings(observe(request, SETTLE))
