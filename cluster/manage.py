"""`slotfleet check`, `fix`, `reshard`, `rebalance` and the like: plan, ask, do, for any cluster.

What decides is in `cluster.plan` and `cluster.diagnosis`, what does in `cluster.operations` and
`cluster.membership`; here it is asked for, shown and reported.
"""

import re
import signal
import sys
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Self

import attrs
import click
import trio

from cluster.admin import Formation, shard_slots
from cluster.census import Access, Told, settled_census
from cluster.diagnosis import CARRIED_ON, UNREACHABLE, findings, mends
from cluster.membership import (
    best_replica,
    check_newcomer,
    fail_over,
    follow,
    forget,
    join,
    reset,
    told_by,
)
from cluster.operations import Interrupted, Operations, Settings
from cluster.plan import (
    Address,
    Census,
    Member,
    Move,
    PlanError,
    Step,
    after_all,
    arrange,
    empty,
    fewest_replicas,
    union,
)
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


# --- doing ----------------------------------------------------------------------------------------


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


def check(request: Request) -> bool:
    """Show the cluster and what is wrong with it; True if nothing is."""
    census = observe(request)
    show_census(census)
    return show_findings(census)


def move(
    request: Request,
    planned: Callable[[Census], Sequence[Move]],
    again: Callable[[Sequence[Move]], str] = lambda moves: "",
) -> bool:
    """Plan moves of slots, ask, and do them; first end what was begun before.

    Returns whether all is well then. Raises OperatorError.
    """
    census = _quiet(request)
    refuse_unless_well(census)
    first = mends(census)
    moves = _planned(lambda: planned(after_all(census, first)))
    return _confirmed_and_done(request, census, [*first, *moves], again(moves) if moves else "")


def _quiet(request: Request) -> Census:
    async def ask() -> Census:
        async with request.access() as access:
            return await quiet_census(access, request.seed)

    return trio.run(ask)


def refuse_unless_well(census: Census) -> None:
    """Raises Refused unless all that is wrong mends itself on the way."""
    wrong = [finding.text for finding in findings(census) if finding.kind not in CARRIED_ON]
    if wrong:
        raise Refused("\n  ".join(["the cluster needs `slotfleet fix` first:", *wrong]))


def fix(request: Request, with_unreachable: bool) -> bool:
    """Show what is wrong, how it is to be mended, and mend it; True if nothing is wrong then."""
    census = _quiet(request)
    if show_findings(census):
        return True
    return _confirmed_and_done(request, census, mends(census, with_unreachable), "")


def _confirmed_and_done(
    request: Request, census: Census, steps: Sequence[Step], again: str
) -> bool:
    if not steps:
        click.echo("nothing to do")
        return is_well(census)
    show_plan(steps, again)
    if request.dry_run:
        return True
    confirm(request)
    conflicts = _carry_out(request, census, steps)
    for conflict in conflicts:
        click.echo(f"left: {conflict}; --replace overwrites the latter")
    return show_findings(observe(request, SETTLE)) and not conflicts


# --- who belongs to it ----------------------------------------------------------------------------


def add_node(request: Request, new: Address, primary: str | None) -> bool:
    """Take a node in; as a replica of `primary`, or of who needs one most if that is "".

    Returns whether all is well then. Raises OperatorError.
    """

    async def look() -> tuple[Census, Told]:
        async with request.access() as access:
            return await quiet_census(access, request.seed), await told_by(access, new)

    census, told = trio.run(look)
    check_newcomer(told, census)
    leader = None
    if primary is not None:
        named = primary and _planned(lambda: census.find_primary(primary))
        leader = named or _planned(lambda: fewest_replicas(census, but=told.myself.id))
    name = f"{new[0]}:{new[1]}"
    is_known = told.myself.id in census.by_id
    steps = [] if is_known else [f"let {name} join the cluster"]
    if leader is not None and told.myself.primary_id != leader.id:
        steps.append(f"make {name} a replica of {leader.name}")

    async def work(stopping: Callable[[], bool]) -> None:
        async with request.access() as access:
            if not is_known:
                await join(access, census, request.seed, told)
            if leader is not None and told.myself.primary_id != leader.id:
                await follow(access, new, leader)

    return _agreed_and_done(request, steps, work)


def del_node(request: Request, word: str) -> bool:
    """Let a node go, after its slots and its replicas have gone to others.

    Returns whether all is well then. Raises OperatorError.
    """
    census = _quiet(request)
    if (left := _half_gone(request, census, word)) is not None:
        steps = [f"make {left[0]}:{left[1]}, which all have forgotten, a cluster of its own"]
        return _agreed_and_done(request, steps, partial(_reset, request, left))
    node = _planned(lambda: census.find(word))
    moves: Sequence[Step] = []
    if node.is_primary and node.reachable and node.slots:
        refuse_unless_well(census)
        moves = mends(census)
        expected = after_all(census, moves)
        moves = [*moves, *_planned(lambda: empty(expected.by_id[node.id], expected))]
    if node.id in {one.id for one in census.nodes if not one.reachable} and node.slots:
        raise Refused(f"{node.name} can't be reached and has slots: `slotfleet fix` first")
    replicas = [one for one in census.replicas_of(node) if one.reachable]
    leader = _planned(lambda: fewest_replicas(census, but=node.id)) if replicas else None
    steps = [str(step) for step in moves]
    steps += [f"make {one.name} a replica of {leader.name}" for one in replicas if leader]
    steps.append(f"let all others forget {node.name}; it is a cluster of its own then")
    if request.seed == node.address:
        raise Refused("name another node of the cluster than the one that is to go")

    async def work(stopping: Callable[[], bool]) -> None:
        async with request.access() as access:
            for replica in replicas:
                if leader:
                    await follow(access, replica.address, leader)
            await forget(access, census, node)

    show_steps(steps)
    if request.dry_run:
        return True
    confirm(request)
    if moves and _carry_out(request, census, moves):
        raise Refused(f"keys stayed at {node.name}: `slotfleet fix` tells more")
    run_interruptible(work)
    return show_findings(observe(request, SETTLE))


async def _reset(request: Request, address: Address, stopping: Callable[[], bool]) -> None:
    async with request.access() as access:
        await reset(access, address)


def _half_gone(request: Request, census: Census, word: str) -> Address | None:
    """Where a node is that all have forgotten, but that has not forgotten them."""
    if word.rpartition(":")[1] == "" or any(node.name == word for node in census.nodes):
        return None
    address = parse_address(word)

    async def look() -> Told:
        async with request.access() as access:
            return await told_by(access, address)

    told = trio.run(look)
    if any(line.id in census.by_id for line in told.lines if "myself" not in line.flags):
        return address
    raise Refused(f"{word} is no member of this cluster")


def failover(request: Request, word: str, how: str) -> bool:
    """Make a replica the primary: the one named, or the best of the primary named.

    Returns whether all is well then. Raises OperatorError.
    """
    census = _quiet(request)
    node = _planned(lambda: census.find(word))

    async def choose() -> Member:
        async with request.access() as access:
            return await best_replica(access, census, node)

    replica = trio.run(choose) if node.is_primary else node
    primary = census.by_id.get(replica.primary_id or "")
    instead = f" instead of {primary.name}" if primary else ""

    async def work(stopping: Callable[[], bool]) -> None:
        async with request.access() as access:
            await fail_over(access, replica, how)

    return _agreed_and_done(request, [f"make {replica.name} the primary{instead}"], work)


def create(request: Request, addresses: Sequence[Address], replicas: int) -> bool:
    """Form a cluster of empty nodes; returns whether all is well then. Raises OperatorError."""
    arranged = _planned(lambda: arrange(addresses, replicas))
    count = len(arranged) // (1 + replicas)
    shares = shard_slots(count)
    _refuse_unless_new(request, arranged, shares)
    names = [f"{host}:{port}" for host, port in arranged]
    steps = [
        f"{name} serves slots {first}-{last}"
        for name, (first, last) in zip(names, shares, strict=False)
    ]
    steps += [f"{names[i]} is a replica of {names[i % count]}" for i in range(count, len(names))]

    async def work(stopping: Callable[[], bool]) -> None:
        await Formation(arranged, count, request.password, request.user).form(timeout=60)

    return _agreed_and_done(request, steps, work)


def _refuse_unless_new(
    request: Request, arranged: Sequence[Address], shares: Sequence[tuple[int, int]]
) -> None:
    """Raises Refused for nodes with data, or that belong to another cluster than this one."""

    async def look() -> list[Told]:
        async with request.access() as access:
            return [await told_by(access, address) for address in arranged]

    answers = trio.run(look)
    ids = {told.myself.id for told in answers}
    for i, told in enumerate(answers):
        name = f"{told.address[0]}:{told.address[1]}"
        if any(line.id not in ids for line in told.lines if "handshake" not in line.flags):
            raise Refused(f"{name} belongs to a cluster with others")
        share = "{}-{}".format(*shares[i]) if i < len(shares) else ""
        if told.myself.slots not in ("", share):
            raise Refused(f"{name} serves other slots already: {told.myself.slots}")
        if told.databases and not told.myself.slots and told.myself.is_primary:
            raise Refused(f"{name} has keys")


def _planned(make: Callable[[], Any]) -> Any:
    """A plan's part; what can't be planned is Refused."""
    try:
        return make()
    except PlanError as error:
        raise Refused(str(error)) from error


def show_steps(steps: Sequence[str]) -> None:
    click.echo("plan:")
    for step in steps:
        click.echo(f"  {step}")


def _agreed_and_done(
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


# --- asking and doing -----------------------------------------------------------------------------


def is_well(census: Census) -> bool:
    """Whether nothing is wrong but that a node can't be reached that nothing hangs on."""
    return all(finding.kind == UNREACHABLE for finding in findings(census))


def confirm(request: Request) -> None:
    """Let the operator say yes. Raises click.Abort if not."""
    if not request.yes:
        click.confirm("Do it?", abort=True)


def _carry_out(request: Request, census: Census, steps: Sequence[Step]) -> list[str]:
    total = sum(step.slots.bit_count() for step in steps if isinstance(step, Move))

    with Teller(total) as teller:

        async def work(stopping: Callable[[], bool]) -> list[str]:
            async with request.access() as access:
                operations = Operations(access, census, teller, request.settings, stopping)
                await operations.carry_out(steps)
                return operations.conflicts

        return run_interruptible(work)


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
