"""Run many seeds, on several cores: scripts/simulate.

A line for every seed that breaks a rule, and a summary of all. Exit code 1 if any did.
"""

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing import Pool

from cluster.simulation.trial import Report, run_seed

SEEDS = 300


def main(argv: list[str] | None = None) -> int:
    """The program; returns the exit code."""
    options = _parser().parse_args(argv)
    logging.disable(logging.CRITICAL)
    if options.verbose is not None:
        return _show(options.verbose, options.seconds)
    started, total, failures = time.monotonic(), Counter[str](), []
    for report in _run(options.seeds, options.seconds, options.jobs):
        total.update(report.counts)
        total["virtual ms"] += report.elapsed_ms
        if report.failure:
            failures.append(report.seed)
            print(f"seed {report.seed}: {report.failure}", flush=True)
        if options.digests:
            print(f"seed {report.seed} {report.digest}")
    print(_summary(len(options.seeds), total, len(failures), time.monotonic() - started))
    return 1 if failures else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/simulate", description="Simulate clusters from seeds and check all rules."
    )
    parser.add_argument(
        "--seeds", type=_seeds, default=range(1, SEEDS + 1), metavar="A-B|N",
        help=f"the seeds from A to B, or from 1 to N; default 1-{SEEDS}",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=int, default=60, help="virtual seconds per seed, at least; default 60"
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes; default one per core"
    )
    parser.add_argument("--digests", action="store_true", help="print each run's digest")
    parser.add_argument(
        "--verbose", type=int, metavar="SEED", help="run this seed only and tell its story"
    )
    return parser


def _seeds(text: str) -> range:
    first, dash, last = text.partition("-")
    try:
        return range(int(first), int(last) + 1) if dash else range(1, int(first) + 1)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not A-B or N: {text}") from None


def _run(seeds: range, seconds: int, jobs: int) -> Iterator[Report]:
    work = [(seed, seconds) for seed in seeds]
    if jobs == 1:
        yield from map(_run_one, work)
        return
    with Pool(jobs) as pool:
        yield from pool.imap(_run_one, work)


def _run_one(work: tuple[int, int]) -> Report:
    seed, seconds = work
    return run_seed(seed, shortest_ms=1000 * seconds)


def _show(seed: int, seconds: int) -> int:
    """Tell one seed's story, line by line."""
    lines: list[str] = []
    report = run_seed(seed, shortest_ms=1000 * seconds, lines=lines)
    print(f"{report.settings}")
    _write(lines)
    print(report.failure or f"ok: {dict(report.counts)}")
    return 1 if report.failure else 0


def _write(lines: Iterable[str]) -> None:
    sys.stdout.writelines(f"{line}\n" for line in lines)


def _summary(seeds: int, total: Counter[str], failures: int, took_s: float) -> str:
    virtual_s = total.pop("virtual ms", 0) / 1000
    counts = ", ".join(f"{count} {kind}" for kind, count in total.items())
    return (
        f"{seeds} seeds, {failures} broken, {virtual_s:.0f} virtual seconds in {took_s:.0f} s\n"
        f"{counts}"
    )


if __name__ == "__main__":
    sys.exit(main())
