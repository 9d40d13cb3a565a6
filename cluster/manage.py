"""`slotfleet check`, `fix`, `reshard` and `rebalance`: plan, ask, do, for any cluster.

What decides is in `cluster.plan` and `cluster.diagnosis`, what does in `cluster.operations`.
"""

from collections.abc import Callable, Sequence

import click

from cluster.diagnosis import CARRIED_ON, UNREACHABLE, findings, mends
from cluster.operations import Operations
from cluster.plan import Census, Move, Step, after_all
from cluster.request import (
    SETTLE,
    Refused,
    Request,
    Teller,
    confirm,
    observe,
    planned_or_refused,
    quiet,
    run_interruptible,
    show_census,
    show_findings,
    show_plan,
)


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
    census = quiet(request)
    refuse_unless_well(census)
    first = mends(census)
    moves = planned_or_refused(lambda: planned(after_all(census, first)))
    return _confirmed_and_done(request, census, [*first, *moves], again(moves) if moves else "")


def fix(request: Request, with_unreachable: bool) -> bool:
    """Show what is wrong, how it is to be mended, and mend it; True if nothing is wrong then."""
    census = quiet(request)
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
    conflicts = carry_out(request, census, steps)
    for conflict in conflicts:
        click.echo(f"left: {conflict}; --replace overwrites the latter")
    return show_findings(observe(request, SETTLE)) and not conflicts


def refuse_unless_well(census: Census) -> None:
    """Raises Refused unless all that is wrong mends itself on the way."""
    wrong = [finding.text for finding in findings(census) if finding.kind not in CARRIED_ON]
    if wrong:
        raise Refused("\n  ".join(["the cluster needs `slotfleet fix` first:", *wrong]))


def is_well(census: Census) -> bool:
    """Whether nothing is wrong but that a node can't be reached that nothing hangs on."""
    return all(finding.kind == UNREACHABLE for finding in findings(census))


def carry_out(request: Request, census: Census, steps: Sequence[Step]) -> list[str]:
    total = sum(step.slots.bit_count() for step in steps if isinstance(step, Move))

    with Teller(total) as teller:

        async def work(stopping: Callable[[], bool]) -> list[str]:
            async with request.access() as access:
                operations = Operations(access, census, teller, request.settings, stopping)
                await operations.carry_out(steps)
                return operations.conflicts

        return run_interruptible(work)
