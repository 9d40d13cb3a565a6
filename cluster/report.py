"""What drills report: a run, a drill of many runs, and how they read on a terminal or in a file."""

import json
import statistics
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from cluster.observer import MOMENTS

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("downtime", *MOMENTS, "acked", "lost", "confirmed", "lost of these", "errors")


@attrs.frozen
class RunReport:
    """What one run showed. Times in milliseconds; the timeline's are after the fault, `rejoined`
    after the healing, and None for what didn't come about or wasn't seen."""

    downtime_ms: float | None
    other_shards_ms: float | None
    acknowledged: int
    confirmed: int
    lost: int
    lost_confirmed: int
    errors: Mapping[str, int]
    timeline: Mapping[str, float | None]


@attrs.frozen
class DrillReport:
    """All runs of a drill."""

    scenario: str
    server: str
    fault: str
    node_timeout_ms: int
    runs: Sequence[RunReport]

    @property
    def median(self) -> dict[str, float | None]:
        """The median of each time."""
        columns = {
            "downtime_ms": [run.downtime_ms for run in self.runs],
            "other_shards_ms": [run.other_shards_ms for run in self.runs],
        }
        for moment in MOMENTS:
            columns[moment] = [run.timeline[moment] for run in self.runs]
        return {name: median(values) for name, values in columns.items()}

    def to_json(self) -> str:
        return json.dumps({**attrs.asdict(self), "median": self.median}, indent=2) + "\n"


def median(values: Sequence[float | None]) -> float | None:
    """Their median; a run without a value counts as endless, so None if it were in the middle."""
    known = sorted(float("inf") if value is None else value for value in values)
    middle = statistics.median(known)
    return None if middle == float("inf") else middle


def cells(run: RunReport) -> list[str]:
    """A run's column values, in the order of COLUMNS."""
    errors = " ".join(f"{name}:{count}" for name, count in run.errors.items())
    times = [run.downtime_ms, *(run.timeline[moment] for moment in MOMENTS)]
    counts = [run.acknowledged, run.lost, run.confirmed, run.lost_confirmed]
    return [*map(shown, times), *map(str, counts), errors]


def median_cells(report: DrillReport) -> list[str]:
    times = [report.median["downtime_ms"], *(report.median[moment] for moment in MOMENTS)]
    return [*map(shown, times), *[""] * (len(COLUMNS) - len(times))]


def shown(milliseconds: float | None) -> str:
    """A time for people: whole milliseconds, or a dash."""
    return "-" if milliseconds is None else f"{milliseconds:.0f}"


def title(report: DrillReport) -> str:
    return (
        f"{report.scenario} ({report.fault}) on {report.server}, node timeout "
        f"{report.node_timeout_ms} ms, {len(report.runs)} runs; times in ms"
    )


def plain(report: DrillReport) -> str:
    """The report as lines of aligned words."""
    lines = [["run", *COLUMNS]]
    lines += [[str(i), *cells(run)] for i, run in enumerate(report.runs, start=1)]
    lines += [["median", *median_cells(report)]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rows = (
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
    return "\n".join([title(report), *(row.rstrip() for row in rows)])


def table(report: DrillReport) -> "Table":
    """The report as a table for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title(report), box=SIMPLE_HEAD)
    for name in ("run", *COLUMNS):
        table.add_column(name, justify="left" if name == "errors" else "right")
    for i, run in enumerate(report.runs, start=1):
        table.add_row(str(i), *cells(run))
    table.add_section()
    table.add_row("median", *median_cells(report), style="bold")
    return table
