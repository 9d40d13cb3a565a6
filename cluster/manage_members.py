"""`slotfleet create`, `add-node`, `del-node` and `failover`: plan, ask, do, for any cluster.

What does is in `cluster.membership`.
"""

from collections.abc import Callable, Sequence
from functools import partial

import trio

from cluster.admin import Formation, shard_slots
from cluster.census import Told
from cluster.diagnosis import mends
from cluster.manage import carry_out, refuse_unless_well
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
from cluster.plan import Address, Census, Member, Step, after_all, arrange, empty, fewest_replicas
from cluster.request import (
    SETTLE,
    Refused,
    Request,
    agree_and_do,
    confirm,
    observe,
    parse_address,
    planned_or_refused,
    quiet,
    quiet_census,
    run_interruptible,
    show_findings,
    show_steps,
)


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
        named = primary and planned_or_refused(lambda: census.find_primary(primary))
        leader = named or planned_or_refused(lambda: fewest_replicas(census, but=told.myself.id))
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

    return agree_and_do(request, steps, work)


def del_node(request: Request, word: str) -> bool:
    """Let a node go, after its slots and its replicas have gone to others.

    Returns whether all is well then. Raises OperatorError.
    """
    census = quiet(request)
    if (left := _half_gone(request, census, word)) is not None:
        steps = [f"make {left[0]}:{left[1]}, which all have forgotten, a cluster of its own"]
        return agree_and_do(request, steps, partial(_reset, request, left))
    node = planned_or_refused(lambda: census.find(word))
    moves: Sequence[Step] = []
    if node.is_primary and node.reachable and node.slots:
        refuse_unless_well(census)
        moves = mends(census)
        expected = after_all(census, moves)
        moves = [*moves, *planned_or_refused(lambda: empty(expected.by_id[node.id], expected))]
    if node.id in {one.id for one in census.nodes if not one.reachable} and node.slots:
        raise Refused(f"{node.name} can't be reached and has slots: `slotfleet fix` first")
    replicas = [one for one in census.replicas_of(node) if one.reachable]
    leader = planned_or_refused(lambda: fewest_replicas(census, but=node.id)) if replicas else None
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
    if moves and carry_out(request, census, moves):
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
    census = quiet(request)
    node = planned_or_refused(lambda: census.find(word))

    async def choose() -> Member:
        async with request.access() as access:
            return await best_replica(access, census, node)

    replica = trio.run(choose) if node.is_primary else node
    primary = census.by_id.get(replica.primary_id or "")
    instead = f" instead of {primary.name}" if primary else ""

    async def work(stopping: Callable[[], bool]) -> None:
        async with request.access() as access:
            await fail_over(access, replica, how)

    return agree_and_do(request, [f"make {replica.name} the primary{instead}"], work)


def create(request: Request, addresses: Sequence[Address], replicas: int) -> bool:
    """Form a cluster of empty nodes; returns whether all is well then. Raises OperatorError."""
    arranged = planned_or_refused(lambda: arrange(addresses, replicas))
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

    return agree_and_do(request, steps, work)


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
