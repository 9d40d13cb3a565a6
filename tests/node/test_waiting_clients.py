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


@pytest.mark.parametrize("ending", ["unpause", "time"])
@pytest.mark.parametrize("who", ["our_server", "valkey_server"])
def test_what_comes_in_a_pause_is_had_after_it(
    request: Any, connect: Any, who: str, ending: str
) -> None:
    """Who waited for it before, is served then, and has called once."""
    server = request.getfixturevalue(who)("--save", "")
    waiting, operator = connect(server.port), connect(server.port)
    waiting.sock.sendall(pack_command(("BLPOP", "list", "0")))
    while b"blocked_clients:1" not in operator.one("INFO", "clients"):
        pass
    pause = ("CLIENT", "PAUSE", "100000" if ending == "unpause" else "300", "WRITE")
    replies = operator.ask(("MULTI",), pause, ("RPUSH", "list", "a"), ("EXEC",))
    assert replies[-1] == [b"OK", 1]
    assert operator.one("LLEN", "list") == 1
    if ending == "unpause":
        assert operator.one("CLIENT", "UNPAUSE") == b"OK"
    assert waiting.next() == [b"list", b"a"]
    assert b"cmdstat_blpop:calls=1," in operator.one("INFO", "commandstats")
