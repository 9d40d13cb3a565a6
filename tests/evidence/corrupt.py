"""Damaged RDB files and append-only files by the thousand; see scripts/corrupt."""

import argparse
import logging
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import attrs
from corruption import (
    LOG,
    MANIFEST,
    RDB,
    SMALL_LIMITS,
    Whole,
    damaged,
    files_of_ours,
    judge,
    small_data,
)
from data_set import ask
from programs import OURS, Server

from cluster.processes import ProgramNotFound, find_program

ROOM_BYTES = 600 << 20  # that a node may take beyond what it has at its start
SLOW_SECONDS = 5.0
START_SECONDS = 120.0  # that a node may take to load or refuse


@attrs.define
class Tally:
    """What became of damaged files of one origin."""

    loaded: int = 0
    refused: int = 0
    failures: list[str] = attrs.field(factory=list)
    slowest: float = 0.0


def files_of_real(name_of_server: str) -> list[Whole]:
    """What a real server writes, if there is one."""
    try:
        command = [find_program(name_of_server)]
    except ProgramNotFound:
        return []
    limits = [
        word
        for name, value in SMALL_LIMITS.items()
        if name != "set_max_listpack_entries" or name_of_server == "valkey-server"
        for word in (f"--{name.replace('_', '-')}", str(value))
    ]
    with (
        tempfile.TemporaryDirectory(prefix="slotfleet-") as place,
        Server(command, "--dir", place, *limits) as server,
    ):
        server.connect().close()
        ask(server.port, small_data(2, field_deadlines=name_of_server == "valkey-server"))
        ask(server.port, [("SAVE",)])
        return [Whole(name_of_server, True, Path(place, RDB).read_bytes())]


def limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, used + ROOM_BYTES))


def try_many(work: tuple[Whole, int, int]) -> Tally:
    whole, seed, number = work
    tally = Tally()
    logging.disable()
    for one in range(seed, seed + number):
        since = time.process_time()  # not that of others
        data = damaged(random.Random(one), whole)
        try:
            if judge(data, whole.is_rdb):
                tally.loaded += 1
            else:
                tally.refused += 1
        except BaseException:
            tally.failures.append(f"{whole.name}, seed {one}:\n{traceback.format_exc()}")
        took = time.process_time() - since
        tally.slowest = max(tally.slowest, took)
        if took > SLOW_SECONDS:
            tally.failures.append(f"{whole.name}, seed {one}: took {took:.1f} s")
    return tally


def in_process(wholes: list[Whole], o: argparse.Namespace) -> int:
    """Print a row per origin; how many files failed the test."""
    print(
        f"{'damaged files of':22}{'tried':>8}{'loaded':>8}{'refused':>8}{'failed':>8}{'slowest':>9}"
    )
    share = 100
    failed = 0
    with get_context("fork").Pool(o.jobs, limit_memory, maxtasksperchild=4) as pool:
        for whole in wholes:
            work = [(whole, o.seed + at, share) for at in range(0, o.files, share)]
            tallies = pool.map(try_many, work, chunksize=1)
            loaded = sum(tally.loaded for tally in tallies)
            refused = sum(tally.refused for tally in tallies)
            failures = [text for tally in tallies for text in tally.failures]
            failed += len(failures)
            slowest = max(tally.slowest for tally in tallies)
            print(
                f"{whole.name:22}{len(work) * share:8}{loaded:8}{refused:8}{len(failures):8}"
                f"{slowest:7.2f} s",
                flush=True,
            )
            print("\n".join(failures[:3]), end="")
    return failed


# --- processes ------------------------------------------------------------------------------------


def start_process(data: bytes, is_rdb: bool, directory: Path) -> str:
    """Start a node with the file: "loaded" or "refused", or what else happened."""
    path = directory / (RDB if is_rdb else LOG)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if not is_rdb:
        (directory / MANIFEST).write_text("file appendonly.aof.1.incr.aof seq 1 type i\n")
    words = ["--port", "0", "--unixsocket", str(directory / "s"), "--dir", str(directory)]
    words += ["--appendonly", "no" if is_rdb else "yes", "--save", ""]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen([*OURS, *words], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            text = (directory / "log").read_text(errors="replace")
            if "ready to accept connections at unix" in text:
                return "loaded"
            if process.poll() is not None:
                told = process.returncode == 1 and re.search(r"offset \d+", text)
                return "refused" if told and "Traceback" not in text else text
            time.sleep(0.02)
        return "nothing within the time"
    finally:
        process.kill()
        process.wait()


def as_processes(wholes: list[Whole], o: argparse.Namespace) -> int:
    """Start real nodes, and ask `slotfleet check` as well; how many failed the test."""
    ends: Counter[str] = Counter()
    failed = 0
    for seed in range(o.seed, o.seed + o.processes):
        rng = random.Random(seed)
        whole = rng.choice(wholes)
        with tempfile.TemporaryDirectory(prefix="slotfleet-") as place:
            end = start_process(damaged(rng, whole), whole.is_rdb, Path(place))
        if end not in ("loaded", "refused"):
            print(f"{whole.name}, seed {seed}: {end}")
            failed += 1
        else:
            ends[end] += 1
    print(f"nodes started with such files: {ends['loaded']} loaded, {ends['refused']} refused")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/corrupt", description=__doc__.partition(";")[0])
    parser.add_argument("--files", type=int, default=2000, help="of each origin")
    parser.add_argument("--processes", type=int, default=40, help="nodes to start")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    o = parser.parse_args()
    wholes = [*files_of_ours(), *files_of_real("redis-server"), *files_of_real("valkey-server")]
    failed = in_process(wholes, o) + as_processes(wholes, o)
    print(f"{failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
