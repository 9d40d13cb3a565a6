"""Random commands beside a real server; see scripts/compare."""

import argparse
import shlex
import sys
import time
from collections import Counter

from programs import OURS, Server

from cluster.processes import find_program
from fuzz.match import Match, shown
from fuzz.replies import Peer
from fuzz.steps import GROUPS, seed_of


def match_of(ours: Server, real: Server) -> Match:
    named = (("our", ours), ("real", real)) * 2
    return Match(*(Peer(name, server.connect().sock) for name, server in named))


def run(match: Match, options: argparse.Namespace) -> Counter[str]:
    """Seed after seed; the differences counted by what they were seen in."""
    found: Counter[str] = Counter()
    groups = tuple(options.groups.split(",")) if options.groups else ()
    number = options.seed
    played = 0
    while played < options.commands and found.total() < options.most:
        seed = seed_of(number, options.length, groups)
        before = match.commands
        difference = match.play(seed, seed.steps)
        played += match.commands - before
        if difference is not None:
            if not options.long:
                seed, difference = match.shorten(seed, difference)
            found[f"{difference.about} of {difference.command[0]!s}"] += 1
            print("\n".join(shown(seed, difference)), flush=True)
        number += 1
    print(f"{played} commands in {number - options.seed} seeds", end=", ")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/compare", description=__doc__)
    parser.add_argument("--commands", type=int, default=20_000, help="how many, in all")
    parser.add_argument("--seed", type=int, default=1, help="the first; RESP3 where it is odd")
    parser.add_argument("--length", type=int, default=200, help="commands of one seed")
    parser.add_argument("--groups", default="", help=f"of {','.join(GROUPS)}")
    parser.add_argument("--most", type=int, default=20, help="differences, then it ends")
    parser.add_argument("--long", action="store_true", help="show seeds without shortening them")
    parser.add_argument("--server", default=shlex.join(OURS), help="command of ours")
    parser.add_argument("--reference", default="valkey-server")
    options = parser.parse_args()
    since = time.monotonic()
    with (
        Server(shlex.split(options.server)) as ours,
        Server([find_program(options.reference)]) as real,
    ):
        found = run(match_of(ours, real), options)
    print(f"{found.total()} unexplained differences, {time.monotonic() - since:.0f} s")
    for what, count in found.most_common():
        print(f"{count:4} {what}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
