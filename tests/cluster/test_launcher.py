"""`slotfleet up`, `status` and `down` as an operator runs them."""

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cluster.launcher import LauncherError, Plan
from cluster.processes import Process
from tests.conftest import call, free_run, wait_until

SLOTFLEET = [sys.executable, "-m", "cluster"]
Slotfleet = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def slotfleet(warm) -> Slotfleet:
    """A function that runs a command to its end; forked, where starting Python isn't the matter."""
    return warm.slotfleet


@pytest.fixture
def program() -> Slotfleet:
    """As `slotfleet`, by running the program."""
    return lambda *args: subprocess.run(
        [*SLOTFLEET, *args], capture_output=True, text=True, timeout=40
    )


def processes_of(directory: Path) -> list[Process]:
    nodes = json.loads((directory / "cluster.json").read_text())["nodes"]
    return [Process(node["pid"], node["started"]) for node in nodes]


@pytest.fixture
def directory(tmp_path):
    """A cluster's directory; what still runs there at the end is killed."""
    path = tmp_path / "fleet"
    yield path
    if (path / "cluster.json").exists():
        for process in processes_of(path):
            process.send(signal.SIGKILL)


@pytest.fixture
def up(slotfleet, directory):
    """A function that runs `slotfleet up --detach` there, detached."""

    def run(*args: str, port: int | None = None) -> subprocess.CompletedProcess[str]:
        place = ["--dir", str(directory), "--port", str(port or free_run(6))]
        return slotfleet("up", "--detach", *place, *args)

    return run


def test_a_cluster_lives_through_up_status_down_and_up(program, directory, redis_cli):
    port = free_run(6)
    up = ("up", "--detach", "--dir", str(directory), "--port", str(port))
    started = program(*up)
    assert started.returncode == 0, started.stderr
    assert f"redis-cli -c -p {port}" in started.stdout
    status = program("status", "--dir", str(directory))
    assert status.returncode == 0
    assert len(re.findall(r"replica of \d+ .* ok$", status.stdout, re.M)) == 3
    check = subprocess.run([redis_cli, "--cluster", "check", f"127.0.0.1:{port}"], timeout=20)
    assert check.returncode == 0

    ids = [call(port + i, "CLUSTER", "MYID") for i in range(6)]
    processes = processes_of(directory)
    assert program("down", "--dir", str(directory)).returncode == 0
    assert not any(process.is_alive() for process in processes)
    stopped = program("status", "--dir", str(directory))
    assert stopped.returncode == 1
    assert stopped.stdout.count("down") == 6

    again = program(*up)
    assert again.returncode == 0, again.stderr
    assert [call(port + i, "CLUSTER", "MYID") for i in range(6)] == ids
    assert program("down", "--dir", str(directory)).returncode == 0


def test_a_stopped_cluster_keeps_its_data(slotfleet, up, directory):
    port = free_run(2)
    small = ["--shards", "1", "--replicas", "1"]
    assert up(*small, port=port).returncode == 0
    assert call(port, "SET", "b", "kept") == b"OK"
    assert slotfleet("down", "--dir", str(directory)).returncode == 0
    assert up(*small, port=port).returncode == 0
    assert call(port, "GET", "b") == b"kept"


def test_a_running_cluster_keeps_its_directory(up, directory):
    assert up("--shards", "1", "--replicas", "0").returncode == 0
    second = up("--shards", "1", "--replicas", "0")
    assert second.returncode == 1
    assert "a cluster is running in" in second.stderr
    assert all(process.is_alive() for process in processes_of(directory))


def test_a_stopped_cluster_keeps_its_shape(slotfleet, up, directory):
    assert up("--shards", "1", "--replicas", "0").returncode == 0
    assert slotfleet("down", "--dir", str(directory)).returncode == 0
    other = up("--shards", "2", "--replicas", "0")
    assert other.returncode == 1
    assert "holds a cluster with shards 1, not 2" in other.stderr


@pytest.mark.parametrize("offset", [1, 10002], ids=["port", "bus"])
def test_a_port_in_use_is_named_and_nothing_is_left(up, directory, offset):
    port = free_run(6)
    with socket.create_server(("127.0.0.1", port + offset)):
        refused = up(port=port)
    assert refused.returncode == 1
    assert refused.stderr == f"slotfleet: already in use: port {port + offset}\n"
    assert not directory.exists()


def test_a_wrong_directive_ends_in_the_nodes_own_words(up, directory):
    refused = up("--no-such-directive", "5")
    assert refused.returncode == 1
    assert "no-such-directive" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert not directory.exists()


def test_a_directory_of_something_else_is_left_alone(up, directory):
    directory.mkdir()
    (directory / "thesis.txt").write_text("precious")
    refused = up()
    assert refused.returncode == 1
    assert "thesis.txt" in refused.stderr
    assert [path.name for path in directory.iterdir()] == ["thesis.txt"]


def test_directives_reach_every_node(slotfleet, up, directory):
    port = free_run(2)
    options = ["--shards", "2", "--replicas", "0", "--requirepass", "sesame", "--maxclients", "77"]
    started = up(*options, port=port)
    assert started.returncode == 0, started.stderr
    assert "redis-cli -c -p" in started.stdout and "-a sesame" in started.stdout
    for node in range(port, port + 2):
        assert "NOAUTH" in str(call(node, "PING"))
    assert slotfleet("status", "--dir", str(directory)).returncode == 0


def test_without_a_terminal_lines_are_plain_and_sigint_ends_all(directory):
    small = ["--shards", "1", "--replicas", "1", "--port", str(free_run(2))]
    launcher = subprocess.Popen(
        [*SLOTFLEET, "up", "--dir", str(directory), *small],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert launcher.stdout is not None
    seen = ""
    while "replica of" not in seen:
        line = launcher.stdout.readline()
        assert line, seen
        seen += line
    assert "\x1b" not in seen
    processes = processes_of(directory)
    launcher.send_signal(signal.SIGINT)
    rest = launcher.stdout.read()
    assert launcher.wait(20) == 0
    assert rest.endswith("stopped\n")
    assert len(processes) == 2
    assert not any(process.is_alive() for process in processes)


def read_until(master: int, word: str, timeout: float = 20) -> str:
    deadline = time.monotonic() + timeout
    seen = b""
    while word not in seen.decode(errors="replace"):
        assert time.monotonic() < deadline, seen
        try:
            seen += os.read(master, 65536)
        except OSError:
            break
    return seen.decode(errors="replace")


def test_on_a_terminal_there_is_a_table_and_ctrl_c_reaches_the_launcher_only(directory):
    small = ["--shards", "1", "--replicas", "0", "--port", str(free_run(1))]
    pid, master = pty.fork()
    if pid == 0:
        os.environ.update(TERM="xterm", COLUMNS="100")
        os.execv(sys.executable, [*SLOTFLEET, "up", "--dir", str(directory), *small])
    assert "0-16383" in read_until(master, "0-16383")
    [node] = processes_of(directory)
    os.write(master, b"\x03")
    assert "stopped" in read_until(master, "stopped")
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    os.close(master)
    assert not node.is_alive()
    assert "SIGTERM" in next(directory.glob("*/log")).read_text()


def test_down_ends_a_stopped_process_too_and_tells_an_attached_launcher(slotfleet, directory):
    small = ["--shards", "1", "--replicas", "0", "--port", str(free_run(1))]
    launcher = subprocess.Popen(
        [*SLOTFLEET, "up", "--dir", str(directory), *small], stdout=subprocess.DEVNULL
    )
    wait_until((directory / "cluster.json").exists, "the launcher notes its processes")
    wait_until(lambda: json.loads((directory / "cluster.json").read_text())["formed"], "formed")
    [node] = processes_of(directory)
    node.send(signal.SIGSTOP)
    assert slotfleet("down", "--dir", str(directory)).returncode == 0
    assert not node.is_alive()
    assert launcher.wait(10) == 0


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (Plan(shards=0), "at least one shard"),
        (Plan(replicas=-1), "at least one shard"),
        (Plan(port=0), "first port from 1"),
        (Plan(port=55531), "first port from 1 to 55530"),
        (Plan(directives=("stray",)), "unexpected argument 'stray'"),
        (Plan(directives=("--cluster-enabled", "no")), "the launcher itself"),
    ],
)
def test_a_plan_that_cannot_work_is_refused(plan, words):
    with pytest.raises(LauncherError, match=words):
        plan.check()


def test_directives_of_the_operator_come_before_the_launchers_choice():
    plan = Plan(directives=("--bind", "0.0.0.0", "--requirepass", "x"))
    arguments = plan.arguments(7000, Path("/d"))
    assert arguments.count("--bind") == 1
    assert arguments[arguments.index("--masterauth") + 1] == "x"


def test_down_and_status_need_a_cluster(slotfleet, tmp_path):
    for command in ("down", "status"):
        refused = slotfleet(command, "--dir", str(tmp_path))
        assert refused.returncode == 1
        assert refused.stderr.startswith("slotfleet: no cluster in")
