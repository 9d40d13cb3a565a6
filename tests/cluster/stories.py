"""Small simulated clusters for stories: what is told of them, and how transcripts are kept."""

import os
from pathlib import Path

from cluster.simulation.settings import Settings
from cluster.simulation.world import World

TRANSCRIPTS = Path(__file__).parent / "transcripts"


def made_world(**settings: object) -> World:
    """Three primaries p1 p2 p3 with a replica each, r1 r2 r3, and two clients that write."""
    world = World(7, Settings(**settings), lines=[])  # type: ignore[arg-type]
    world.trace.in_full = False
    world.form()
    world.add_writers()
    world.run(2000)
    return world


def finish(world: World) -> None:
    """Let all be well again, and check everything."""
    for writer in world.writers:
        writer.stop()
    world.run(until=world.settled)
    world.checks.at_the_end([machine.process for machine in world.machines.values()])


def acknowledged_since(world: World, moment: int, place: str) -> list[bytes]:
    """Keys of writes that a node has acknowledged after a moment."""
    writes = world.ledger.writes.values()
    return [w.key for w in writes if w.acknowledged > moment and w.by == place]


def check_transcript(world: World, name: str, since: int) -> None:
    """Compare what has happened with what is kept; with WRITE_TRANSCRIPTS=1 set, keep it."""
    lines = [line for line in world.trace.lines or [] if int(line.split()[0]) >= since]
    text = "".join(f"{line}\n" for line in lines)
    path = TRANSCRIPTS / f"{name}.txt"
    if os.environ.get("WRITE_TRANSCRIPTS"):
        path.write_text(text)
    assert text == path.read_text()
