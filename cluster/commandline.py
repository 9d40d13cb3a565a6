"""The commands of `slotfleet` for any cluster: their words and options.

What they do is in `cluster.manage` and `cluster.manage_members`, which are imported by those that
need them: the start of a cluster is not to wait for it.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cluster.plan import Census, Move
    from cluster.request import Request

Command = Callable[..., None]


class Failure(click.ClickException):
    """A clear word on stderr, and exit status 1."""

    def show(self, file: Any = None) -> None:
        click.echo(f"slotfleet: {self.message}", err=True)


class reported_errors:
    """What an operator can mend is said in a line; anything else is a traceback."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from cluster.processes import OperatorError

        if isinstance(error, OperatorError):
            raise Failure(str(error)) from error
        if isinstance(error, BaseExceptionGroup) and error.subgroup(KeyboardInterrupt):
            raise click.Abort from error


def options(*decorators: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in their order."""

    def decorate(command: Command) -> Command:
        for decorator in reversed(decorators):
            command = decorator(command)
        return command

    return decorate


access_options = options(
    click.option("--user", help="The ACL user to be."),
    click.option(
        "--pass",
        "password",
        envvar=["SLOTFLEET_PASSWORD", "REDISCLI_AUTH"],
        show_envvar=True,
        help="The password of all nodes.",
    ),
)
plan_options = options(
    click.option("--yes", is_flag=True, help="Don't ask before it is done."),
    click.option("--dry-run", is_flag=True, help="Show the plan and end."),
)
move_options = options(
    click.option("--timeout", default=60000, show_default=True, help="Of one MIGRATE, in ms."),
    click.option("--pipeline", default=100, show_default=True, help="Keys of one MIGRATE."),
    click.option("--replace", is_flag=True, help="Overwrite keys that the target has already."),
    click.option(
        "--by-key", is_flag=True, help="Move keys one by one, also where slots can move as a whole."
    ),
)
ADDRESS = "HOST:PORT"


def request_of(address: str, options: Mapping[str, Any]) -> "Request":
    """What the options common to all say. Raises OperatorError."""
    from cluster.bykey import Settings
    from cluster.request import Request, parse_address

    settings = Settings()
    if "timeout" in options:
        settings = Settings(
            options["timeout"], options["pipeline"], options["replace"], not options["by_key"]
        )
    return Request(
        parse_address(address),
        options["user"],
        options["password"],
        settings,
        options.get("yes", False),
        options.get("dry_run", False),
    )


def check_cluster(address: str, user: str | None, password: str | None) -> bool:
    """`slotfleet check HOST:PORT`; True if all is well."""
    from cluster.manage import check

    return check(request_of(address, {"user": user, "password": password}))


@click.command()
@click.argument("address", metavar=ADDRESS)
@click.option("--slots", "count", type=click.IntRange(0, 16384), help="How many slots.")
@click.option("--range", "ranges", metavar="SLOTS", help="Just these, such as 0-99,200.")
@click.option("--from", "sources", metavar="NODE,...", default="all", show_default=True)
@click.option("--to", "target", metavar="NODE", required=True)
@move_options
@plan_options
@access_options
def reshard(
    address: str, count: int | None, ranges: str | None, sources: str, target: str, **options: Any
) -> None:
    """Move slots with their keys to one node, with clients at work.

    Either so many --slots, of each source in proportion to what it has, or just those of --range,
    from wherever they are: what is there already stays, so it can be repeated at will. A NODE is
    an id, as much of its beginning as tells it from others, or HOST:PORT.
    """
    if (count is None) == (ranges is None):
        raise click.UsageError("give either --slots or --range")
    if ranges is not None and sources != "all":
        raise click.UsageError("--range takes the slots from wherever they are, without --from")
    from cluster import plan
    from cluster.manage import move
    from cluster.request import parse_ranges
    from cluster.slots import to_text

    def planned(census: "Census") -> "Sequence[Move]":
        node = census.find_primary(target)
        if count is None:
            return plan.gather_slots(parse_ranges(ranges or ""), census, node)
        words = sources.split(",")
        named = census.primaries if words == ["all"] else [*map(census.find_primary, words)]
        return plan.reshard(count, named, node)

    def again(moves: "Sequence[Move]") -> str:
        if count is None:
            return ""
        text = to_text(plan.union(step.slots for step in moves)).replace(" ", ",")
        return f"slotfleet reshard {address} --to {moves[0].target.name} --range {text}"

    with reported_errors():
        sys.exit(not move(request_of(address, options), planned, again))


@click.command()
@click.argument("address", metavar=ADDRESS)
@click.option("--weight", "weights", metavar="NODE=WEIGHT", multiple=True, help="1 unless told.")
@click.option("--use-empty-primaries", is_flag=True, help="Also give to those without slots.")
@click.option(
    "--threshold",
    default=2.0,
    show_default=True,
    help="Move nothing while all are as near to their share, in percent.",
)
@move_options
@plan_options
@access_options
def rebalance(
    address: str,
    weights: tuple[str, ...],
    use_empty_primaries: bool,
    threshold: float,
    **options: Any,
) -> None:
    """Move slots until each primary has its share by weight, with clients at work.

    A primary without slots takes part if it is given a weight; weight 0 empties a node. What was
    interrupted is carried on by the same command.
    """
    from cluster import plan
    from cluster.manage import move
    from cluster.request import Refused

    def planned(census: "Census") -> "Sequence[Move]":
        by_id: dict[str, float] = {}
        for text in weights:
            name, _, value = text.rpartition("=")
            try:
                by_id[census.find_primary(name).id] = float(value)
            except ValueError as error:
                reason = error if isinstance(error, plan.PlanError) else "no NODE=WEIGHT"
                raise Refused(f"--weight {text}: {reason}") from error
        return plan.rebalance(census, by_id, use_empty_primaries, threshold)

    with reported_errors():
        sys.exit(not move(request_of(address, options), planned))


@click.command()
@click.argument("address", metavar=ADDRESS)
@click.option(
    "--with-unreachable-primaries",
    is_flag=True,
    help="Let others serve the slots of primaries that can't be reached; their keys are lost.",
)
@move_options
@plan_options
@access_options
def fix(address: str, with_unreachable_primaries: bool, **options: Any) -> None:
    """Mend what `slotfleet check` finds: half-done moves, slots of nobody or of several, keys
    where no client looks for them, nodes that disagree.

    A key that two nodes have with different values stays where it is unless --replace is given;
    then the value wins of the node that doesn't serve the slot.
    """
    from cluster.manage import fix

    with reported_errors():
        sys.exit(not fix(request_of(address, options), with_unreachable_primaries))


@click.command("add-node")
@click.argument("new", metavar="NEW_HOST:PORT")
@click.argument("address", metavar=ADDRESS)
@click.option("--replica", is_flag=True, help="As a replica of who has fewest.")
@click.option("--replica-of", metavar="NODE", help="As a replica of this primary.")
@plan_options
@access_options
def add_node(new: str, address: str, replica: bool, replica_of: str | None, **options: Any) -> None:
    """Take an empty node into the cluster of the node at HOST:PORT.

    Without --replica it is a primary without slots, which `slotfleet rebalance
    --use-empty-primaries` gives its share.
    """
    from cluster.manage_members import add_node
    from cluster.request import parse_address

    with reported_errors():
        primary = replica_of or ("" if replica else None)
        sys.exit(not add_node(request_of(address, options), parse_address(new), primary))


@click.command("del-node")
@click.argument("address", metavar=ADDRESS)
@click.argument("node", metavar="NODE")
@move_options
@plan_options
@access_options
def del_node(address: str, node: str, **options: Any) -> None:
    """Let a node go: its slots and its replicas go to others first, then all forget it."""
    from cluster.manage_members import del_node

    with reported_errors():
        sys.exit(not del_node(request_of(address, options), node))


@click.command()
@click.argument("address", metavar=ADDRESS)
@click.argument("node", metavar="NODE")
@click.option("--force", "how", flag_value="FORCE", help="Without its primary.")
@click.option("--takeover", "how", flag_value="TAKEOVER", help="Without anybody's vote, too.")
@plan_options
@access_options
def failover(address: str, node: str, how: str | None, **options: Any) -> None:
    """Make a replica the primary, without losing a write.

    NODE is the replica, or a primary whose best replica is to take its place.
    """
    from cluster.manage_members import failover

    with reported_errors():
        sys.exit(not failover(request_of(address, options), node, how or ""))


@click.command()
@click.argument("addresses", metavar="HOST:PORT...", nargs=-1, required=True)
@click.option("--replicas", default=0, show_default=True, help="Of each primary.")
@plan_options
@access_options
def create(addresses: tuple[str, ...], replicas: int, **options: Any) -> None:
    """Form a cluster of empty nodes that run already, on hosts of any number.

    Primaries are spread over the hosts, and replicas are elsewhere than their primary.
    """
    from cluster.manage_members import create
    from cluster.request import parse_address

    with reported_errors():
        places = [parse_address(address) for address in addresses]
        sys.exit(not create(request_of(addresses[0], options), places, replicas))


OPERATIONS: Sequence[click.Command] = (
    *(create, add_node, del_node),
    *(reshard, rebalance, failover, fix),
)
