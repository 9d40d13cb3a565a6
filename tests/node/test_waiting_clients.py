"""A real process and clients that wait twice: for the end of a pause, and then for a key."""

from typing import Any

import pytest
from hiredis import pack_command


@pytest.fixture
def server(our_server: Any) -> Any:
    return our_server("--save", "")


@pytest.mark.parametrize("ending", ["push", "timeout", "error"])
def test_who_waits_again_after_a_pause_is_answered(server: Any, connect: Any, ending: str) -> None:
    waiting, operator = connect(server.port), connect(server.port)
    number = waiting.one("CLIENT", "ID")
    assert operator.one("CLIENT", "PAUSE", "100000", "WRITE") == b"OK"
    waiting.sock.sendall(pack_command(("BLPOP", "list", "0")))
    while b"blocked_clients:0" in operator.one("INFO", "clients"):
        pass
    assert operator.one("CLIENT", "UNBLOCK", number) == 0
    assert operator.one("CLIENT", "UNPAUSE") == b"OK"
    if ending == "push":
        assert operator.one("RPUSH", "list", "a") == 1
        assert waiting.next() == [b"list", b"a"]
    else:
        assert operator.one("CLIENT", "UNBLOCK", number, ending) == 1
        expected = "None" if ending == "timeout" else "UNBLOCKED"
        assert str(waiting.next()).startswith(expected)
