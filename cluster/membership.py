"""Who belongs to a cluster and as what: take a node in, let one go, change roles: any server's.

All of it may have been begun before, by a tool that was killed: what is done already is left so.
"""

import math
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio

from cluster.admin import parse_info, parse_nodes
from cluster.census import Access, Told, ask, take_census
from cluster.client import SETBACKS, Address, ReplyError
from cluster.plan import Census, Member
from cluster.processes import OperatorError

POLL = 0.05
PATIENCE = 90.0  # seconds for what nodes do by themselves
MEET_AGAIN = 5.0  # seconds
FAILOVER_AGAIN = 6.0  # seconds; a manual failover gives up after 5


class MembershipFailed(OperatorError):
    """A node refused, or nothing came of it in time; says what."""


async def wait_for(condition: Callable[[], Awaitable[Any]], what: str) -> None:
    """Until it holds; setbacks on the way are passed over. Raises MembershipFailed."""
    last = ""
    with trio.move_on_after(PATIENCE):
        while True:
            try:
                if await condition():
                    return
            except SETBACKS as error:
                last = f": {error}"
            await trio.sleep(POLL)
    raise MembershipFailed(f"{what}: not within {PATIENCE:g} s{last}")


async def told_by(access: Access, address: Address) -> Told:
    """What a node says that may be in no cluster yet. Raises MembershipFailed."""
    try:
        return await ask(access, address)
    except SETBACKS as error:
        raise MembershipFailed(f"{address[0]}:{address[1]}: {error or 'no answer'}") from error


def check_newcomer(told: Told, census: Census) -> None:
    """Raises MembershipFailed for a node with data, or from another cluster."""
    others = {line.id for line in told.lines} - {told.myself.id}
    name = f"{told.address[0]}:{told.address[1]}"
    if others and not others & census.by_id.keys() and told.myself.id not in census.by_id:
        raise MembershipFailed(f"{name} belongs to another cluster")
    if told.myself.id not in census.by_id and (told.databases or told.myself.slots):
        raise MembershipFailed(f"{name} is not empty: it has keys or slots")


async def join(access: Access, census: Census, seed: Address, new: Told) -> None:
    """Let a node in, with the cluster's functions; all know it then. Raises MembershipFailed."""
    node_id = new.myself.id
    next_try = -math.inf

    async def is_known_to_all() -> bool:
        nonlocal next_try
        if trio.current_time() >= next_try:  # they refuse whom they forgot a minute ago
            next_try = trio.current_time() + MEET_AGAIN
            await access.call(new.address, "CLUSTER", "MEET", *seed)
        now = await take_census(access, seed)
        everybody = [node.address for node in now.nodes if node.reachable]
        views = [parse_nodes(await access.call(place, "CLUSTER", "NODES")) for place in everybody]
        return len(everybody) > 1 and all(
            any(line.id == node_id and "handshake" not in line.flags for line in view)
            for view in views
        )

    await wait_for(is_known_to_all, "all know the new node")
    with suppress(ReplyError):  # servers older than 7.0 have none; and it may have them already
        functions = await access.call(seed, "FUNCTION", "DUMP")
        if new.myself.is_primary:
            await access.call(new.address, "FUNCTION", "RESTORE", functions)


async def follow(access: Access, address: Address, primary: Member) -> None:
    """Make a node a replica; its data are the primary's then. Raises MembershipFailed."""

    async def obeys() -> bool:
        return await access.call(address, "CLUSTER", "REPLICATE", primary.id) == b"OK"

    async def is_linked() -> bool:
        fields = parse_info(await access.call(address, "INFO", "replication"))
        return fields.get("master_link_status") == "up"

    name = f"{address[0]}:{address[1]}"
    await wait_for(obeys, f"{name} becomes a replica of {primary.name}")
    await wait_for(is_linked, f"{name} has the data of {primary.name}")


async def forget(access: Access, census: Census, node: Member) -> None:
    """All others strike a node off; if it can be reached it is a cluster of its own then.

    Raises MembershipFailed.
    """
    for other in census.nodes:
        if other.reachable and other.id != node.id:
            try:
                await access.call(other, "CLUSTER", "FORGET", node.id)
            except ReplyError as error:
                if "Unknown node" not in str(error):
                    raise MembershipFailed(f"{other.name}: {error}") from error
    if node.reachable:
        await reset(access, node.address)


async def reset(access: Access, address: Address) -> None:
    """Make a node a cluster of its own, once it has deleted what went elsewhere.

    With a new id: under the old one all others would refuse it for a minute.
    """

    async def is_reset() -> bool:
        return await access.call(address, "CLUSTER", "RESET", "HARD") == b"OK"

    await wait_for(is_reset, f"{address[0]}:{address[1]} is a cluster of its own")


async def best_replica(access: Access, census: Census, primary: Member) -> Member:
    """The replica with most of a primary's data. Raises MembershipFailed."""
    replicas = [node for node in census.replicas_of(primary) if node.reachable]
    offsets: dict[str, int] = {}
    for node in replicas:
        fields = parse_info(await access.call(node, "INFO", "replication"))
        offsets[node.id] = int(fields.get("slave_repl_offset", 0))
    if not replicas:
        raise MembershipFailed(f"{primary.name} has no replica that can be reached")
    return max(replicas, key=lambda node: offsets[node.id])


async def fail_over(access: Access, replica: Member, how: str = "") -> None:
    """Make a replica the primary; `how` is "", FORCE or TAKEOVER. Raises MembershipFailed.

    https://valkey.io/commands/cluster-failover/
    """
    words = [how] if how else []
    next_try = -math.inf

    async def is_primary() -> bool:
        nonlocal next_try
        if (await access.call(replica, "ROLE"))[0] == b"master":
            return True
        if trio.current_time() >= next_try:  # voters refuse another vote soon after the last one
            next_try = trio.current_time() + FAILOVER_AGAIN
            await access.call(replica, "CLUSTER", "FAILOVER", *words)
        return False

    await wait_for(is_primary, f"{replica.name} is the primary")
