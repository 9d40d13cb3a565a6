"""Which commands a node has, by group, beside a real server's own list; see scripts/commands."""

import argparse
import shlex
import sys
from collections import defaultdict
from typing import Any

from command_info import DATA_MODEL, differences, groups
from programs import OURS, Server

from cluster.processes import find_program


def command_and_docs(command: list[str]) -> list[Any]:
    with Server(command) as server:
        return server.connect().ask(("COMMAND",), ("COMMAND", "DOCS"))


def show(names: dict[bytes, str], have: dict[bytes, str], with_missing: bool) -> bool:
    """Print the table; whether every group of the data model is whole."""
    listed: dict[str, list[bytes]] = defaultdict(list)
    for name, group in names.items():
        listed[group].append(name)
    whole = True
    for group in sorted(listed, key=lambda group: (group not in DATA_MODEL, group)):
        missing = sorted(name for name in listed[group] if name not in have)
        mark = ("incomplete" if missing else "whole") if group in DATA_MODEL else ""
        whole = whole and mark != "incomplete"
        total = len(listed[group])
        print(f"{group:14}{total - len(missing):4} of {total:3}  {mark}".rstrip())
        if missing and (with_missing or mark):
            print("    without " + ", ".join(name.decode().replace("|", " ") for name in missing))
    print(f"{'all':14}{len(names.keys() & have.keys()):4} of {len(names):3}")
    return whole


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/commands", description=__doc__)
    parser.add_argument("--missing", action="store_true", help="name them in every group")
    parser.add_argument("--server", default=shlex.join(OURS), help="command of ours")
    parser.add_argument("--reference", default="valkey-server")
    options = parser.parse_args()
    ours, our_docs = command_and_docs(shlex.split(options.server))
    theirs, their_docs = command_and_docs([find_program(options.reference)])
    whole = show(groups(their_docs), groups(our_docs), options.missing)
    found = list(differences(ours, theirs))
    for line in found:
        print(line)
    print(f"{len(found)} unexplained differences in what COMMAND says")
    return 0 if whole and not found else 1


if __name__ == "__main__":
    sys.exit(main())
