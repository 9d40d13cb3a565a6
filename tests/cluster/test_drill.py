"""Drills: what writers and survivors saw becomes a report; one whole drill on a real server."""

import json
import subprocess
from collections.abc import Callable

import attrs
import pytest

from cluster.admin import parse_nodes, shard_slots
from cluster.drill import ACTIONS, FAULTS, kill_primary
from cluster.observer import MOMENTS, Observer
from cluster.report import DrillReport, RunReport, median, plain, table
from cluster.slots import key_slot
from cluster.workload import Ack, Load, Workload, tags

RUN = RunReport(
    downtime_ms=310.04,
    other_shards_ms=12.0,
    acknowledged=5000,
    confirmed=1500,
    lost=2,
    lost_confirmed=0,
    errors={"refused": 9, "CLUSTERDOWN": 1},
    timeline={
        "suspected": None,
        "failed": 20.0,
        "election": 21.0,
        "promoted": 45.0,
        "rejoined": 80.0,
    },
)


def workload_with(*times: float) -> Workload:
    workload = Workload([("127.0.0.1", 1)], [(0, 16383)], Load())
    workload.acks[0] = [Ack(time, f"k{time}", False) for time in times]
    return workload


@pytest.mark.parametrize(
    ("times", "gap"),
    [
        ((1, 2, 3, 7, 8), 4),
        ((1, 2, 2.9, 9, 9.5, 30), 6.1),
        ((1, 2, 3.1, 3.2, 8, 9), 4.8),
        ((1, 1.5, 2.5), None),
        ((), None),
    ],
    ids=["over the fault", "later gaps are not counted", "a late reply", "never again", "no write"],
)
def test_downtime_is_the_longest_gap_that_touches_the_fault(times, gap):
    assert workload_with(*times).longest_gap(0, start=3, end=9) == pytest.approx(gap)


def test_each_writer_stays_within_its_shard():
    for first, last in shard_slots(5):
        names = tags((first, last), 2)
        assert len(set(names)) == 2
        assert all(first <= key_slot(f"{{{name}}}:7".encode()) <= last for name in names)


def test_the_median_of_runs_counts_a_missing_time_as_endless():
    assert median([1.0, None, 3.0]) == 3.0
    assert median([1.0, None]) is None
    assert median([4.0, 2.0, 9.0]) == 4.0


def test_a_scenario_is_made_of_known_actions():
    for fault in FAULTS:
        scenario = kill_primary(fault)
        assert fault in [step.do for step in scenario.steps]
        assert {step.do for step in scenario.steps} <= set(ACTIONS)


def nodes(victim_flags: str, heir_flags: str, heir_slots: str):
    text = (
        f"v 127.0.0.1:1@2 {victim_flags} - 0 0 1 connected 0-100\n"
        f"h 127.0.0.1:3@4 {heir_flags} v 0 0 2 connected {heir_slots}\n"
    )
    return parse_nodes(text.encode())


async def test_moments_are_noted_when_first_seen(autojump_clock):
    observer = Observer(("127.0.0.1", 1), [], victim_id="v", slots="0-100", epoch=3)
    story = [
        ("master", "slave", "", 3, set()),
        ("master,fail?", "slave", "", 3, {"suspected"}),
        ("master,fail", "slave", "", 3, {"suspected", "failed"}),
        ("master,fail", "slave", "", 4, {"suspected", "failed", "election"}),
        ("master,fail", "master", "0-100", 4, set(MOMENTS) - {"rejoined"}),
    ]
    for victim, heir, slots, epoch, seen in story:
        observer.read(nodes(victim, heir, slots), {"cluster_current_epoch": str(epoch)})
        assert set(observer.moments) == seen


def test_a_report_reads_as_lines_as_a_table_and_as_json():
    slower = attrs.evolve(RUN, downtime_ms=390.0)
    report = DrillReport("kill-primary", "slotfleet-server", "kill", 2000, [RUN, slower])
    lines = plain(report).splitlines()
    assert lines[0].startswith("kill-primary (kill) on slotfleet-server, node timeout 2000 ms")
    assert lines[2].split()[:4] == ["1", "310", "-", "20"]
    assert lines[-1].split()[:2] == ["median", "350"]
    assert table(report).row_count == 3
    data = json.loads(report.to_json())
    assert data["median"]["downtime_ms"] == pytest.approx(350.02)
    assert data["runs"][0]["errors"] == {"refused": 9, "CLUSTERDOWN": 1}


@pytest.fixture
def drill(warm) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *args: warm.slotfleet("drill", "kill-primary", *args)


def test_a_real_server_is_drilled(drill, tmp_path):
    file = tmp_path / "report.json"
    done = drill("--server", "valkey-server", "--node-timeout", "500", "--json", str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    [run] = report["runs"]
    timeline = run["timeline"]
    assert 500 < run["downtime_ms"] < 5000
    assert run["lost_confirmed"] == 0
    assert run["confirmed"] > 100
    assert run["errors"]["refused"] > 0
    assert 0 < timeline["failed"] <= timeline["promoted"] <= run["downtime_ms"] + 20
    assert timeline["rejoined"] > 0
    assert "median" in done.stdout


@pytest.mark.parametrize("fault", FAULTS)
def test_ours_is_drilled_and_loses_nothing(drill, tmp_path, fault):
    file = tmp_path / "report.json"
    done = drill("--fault", fault, "--node-timeout", "1000", "--json", str(file))
    assert done.returncode == 0, done.stderr
    [run] = json.loads(file.read_text())["runs"]
    assert run["downtime_ms"] < (1000 if fault == "kill" else 3000)
    assert run["lost_confirmed"] == 0
    assert run["confirmed"] > 100
    assert run["timeline"]["promoted"] is not None


def test_an_unknown_server_or_fault_is_a_clear_error(drill):
    assert drill("--server", "no-such-server").stderr == (
        "slotfleet: no program 'no-such-server' on PATH\n"
    )
    assert drill("--fault", "meteor").returncode == 2
