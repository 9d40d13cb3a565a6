"""One lone node for all applications: what they leave behind must not trouble the next."""

import subprocess
import time
from collections.abc import Iterator

import pytest
import redis

from cluster.processes import find_program, free_run


@pytest.fixture(scope="session")
def node_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a `slotfleet-server` process."""
    directory, port = tmp_path_factory.mktemp("node"), free_run(1)
    place = ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(directory), "--save", ""]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(
            [find_program("slotfleet-server"), *place], stdout=log, stderr=log
        )
    deadline = time.monotonic() + 10
    with redis.Redis(port=port) as client:
        while True:
            try:
                client.ping()
                break
            except redis.ConnectionError:
                assert time.monotonic() < deadline, (directory / "log").read_text()
                time.sleep(0.02)
    yield port
    process.kill()
    process.wait()


@pytest.fixture
def client(node_port: int) -> Iterator[redis.Redis]:
    """redis-py, on an empty node."""
    with redis.Redis(port=node_port, decode_responses=True, socket_timeout=10) as found:
        found.flushall()
        found.script_flush()
        found.function_flush()
        yield found
