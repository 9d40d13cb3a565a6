"""What HELP answers: made from the command table, so that it cannot be wrong."""

from node.command import TABLE
from node.replies import Status
from node.session import Session


def help_text(session: Session, container: bytes) -> list[Status]:
    """A line for each subcommand's usage, and one for what it does."""
    row = TABLE[container.lower()]
    lines = [
        b"%b <subcommand> [<arg> [value] [opt] ...]. Subcommands are:" % container,
    ]
    for _, sub in sorted(row.subcommands.items()):
        usage = " ".join(sub.usage.line.split()[1:])
        lines += [usage.encode(), b"    " + sub.summary.encode()]
    return [Status(line) for line in lines]
