"""Scripts that attack a real process: it lives, and goes on serving its other clients."""

import contextlib
import time

import pytest
from attacks import ENDLESS, OTHERS, comparing
from hiredis import ReplyError

BUSY = "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."


@pytest.fixture
def server(our_server):
    return our_server("--save", "", "--busy-reply-threshold", "100")


def wait_busy(client) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        reply = client.one("PING")
        if isinstance(reply, ReplyError):
            assert str(reply) == BUSY
            return
        time.sleep(0.01)
    pytest.fail("the server never said that it is busy")


def test_endless_scripts_are_ended_while_others_are_told(server, connect):
    attacker, other = connect(server.port), connect(server.port)
    for name, script in ENDLESS.items():
        attacker.sock.sendall(request("EVAL", script, "0"))
        wait_busy(other)
        newcomer = connect(server.port)
        assert str(newcomer.one("GET", "k")) == BUSY, name
        assert other.one("SCRIPT", "KILL") == b"OK", name
        assert "Script killed by user with SCRIPT KILL." in str(attacker.next()), name
        assert newcomer.one("PING") == b"PONG", name


def test_the_same_script_can_be_ended_again_and_again(server, connect):
    attacker, other = connect(server.port), connect(server.port)
    for _ in range(3):
        attacker.sock.sendall(request("EVAL", ENDLESS["loop"], "0"))
        wait_busy(other)
        assert other.one("SCRIPT", "KILL") == b"OK"
        assert "Script killed by user" in str(attacker.next())


def test_others_are_told_while_a_script_is_inside_c(server, connect):
    attacker, other = connect(server.port), connect(server.port)
    attacker.sock.setblocking(False)
    attacker.sock.sendall(request("EVAL", comparing(2), "0") + request("ECHO", "after"))
    wait_busy(other)
    newcomer = connect(server.port)
    assert str(newcomer.one("GET", "k")) == BUSY
    with pytest.raises(BlockingIOError):  # what was to show is that it is under way still
        attacker.sock.recv(1)
    attacker.sock.settimeout(60)
    assert (attacker.next(), attacker.next()) == (None, b"after")
    assert newcomer.one("SET", "k", "v") == b"OK"


def test_a_script_inside_c_is_ended_by_a_shutdown(server, connect):
    attacker, other = connect(server.port), connect(server.port)
    attacker.sock.sendall(request("EVAL", comparing(1), "0"))
    wait_busy(other)
    other.sock.sendall(request("SHUTDOWN", "NOSAVE"))
    assert server.process.wait(60) == 0


def test_other_attacks_end_by_themselves(server, connect):
    attacker, other = connect(server.port), connect(server.port)
    attacker.sock.settimeout(30)
    for name, script in OTHERS.items():
        attacker.one("EVAL", script, "0")
        assert other.one("PING") == b"PONG", name
    assert attacker.one("EVAL", OTHERS["Python"], "0") == b"out of reach"
    assert attacker.one("EVAL", "return ('x'):rep(3) .. #cjson.encode({1})", "0") == b"xxx3"
    assert server.process.poll() is None


def test_memory_is_given_back(server, connect):
    client = connect(server.port)
    for _ in range(3):
        reply = client.one("EVAL", OTHERS["memory, in a table"], "0")
        assert "not enough memory" in str(reply)
    assert client.one("EVAL", "return #string.rep('x', 1e8)", "0") == 10**8


def test_a_script_that_has_written_can_only_be_ended_with_the_server(server, connect):
    attacker, other = connect(server.port), connect(server.port)
    attacker.sock.sendall(request("EVAL", "redis.call('set','k','v') while true do end", "0"))
    wait_busy(other)
    for command in ("SCRIPT", "FUNCTION"):
        assert str(other.one(command, "KILL")).startswith("UNKILLABLE ")
    other.sock.sendall(request("SHUTDOWN", "NOSAVE"))
    assert server.process.wait(10) == 0


def test_functions_are_ended_as_functions(server, connect):
    attacker, other = connect(server.port), connect(server.port)
    library = "#!lua name=l\nredis.register_function('f', function() while true do end end)"
    assert attacker.one("FUNCTION", "LOAD", library) == b"l"
    attacker.sock.sendall(request("FCALL", "f", "1", "k", "a"))
    deadline = time.monotonic() + 10
    while not isinstance(reply := other.one("PING"), ReplyError):
        assert time.monotonic() < deadline
    assert "FUNCTION KILL" in str(reply)
    _, (_, name, _, command, _, duration), *_ = other.one("FUNCTION", "STATS")
    assert (name, command) == (b"f", [b"FCALL", b"f", b"1", b"k", b"a"]) and duration >= 100
    assert str(other.one("SCRIPT", "KILL")).startswith("BUSY ")
    assert other.one("FUNCTION", "KILL") == b"OK"
    assert "Script killed by user with FUNCTION KILL." in str(attacker.next())


def test_what_may_be_said_meanwhile(server, connect):
    attacker, other = connect(server.port), connect(server.port)
    attacker.sock.sendall(request("EVAL", "while true do end", "0") + request("ECHO", "after"))
    wait_busy(other)
    assert other.one("MULTI") == b"OK"
    assert str(other.one("GET", "k")) == BUSY
    assert str(other.one("EXEC")).startswith("EXECABORT ")
    assert other.one("WATCH", "k") == b"OK"
    assert other.one("SELECT", "1") == b"OK"
    assert str(other.one("NOSUCH")).startswith("ERR unknown command")
    assert str(other.one("GET")).startswith("ERR wrong number of arguments")
    attacker.sock.sendall(request("ECHO", "at last"))
    assert other.ask(("PING",), ("SCRIPT", "KILL"))[1] == b"OK"
    assert "SCRIPT KILL" in str(attacker.next())
    assert [attacker.next(), attacker.next()] == [b"after", b"at last"]


def test_those_who_came_together_with_the_script(server, connect):
    """Their requests are read in the same turn; they need not wait for its end."""
    clients = [connect(server.port) for _ in range(8)]
    for number, client in enumerate(clients):
        client.sock.sendall(request("SET", f"k{number}", "v") + request("GET", f"k{number}"))
        if number == 3:
            client.sock.sendall(request("EVAL", "while true do end", "0"))
    other = connect(server.port)
    wait_busy(other)
    for client in clients:
        client.sock.settimeout(5)
        with contextlib.suppress(ReplyError):
            client.next(), client.next()
    assert other.one("SCRIPT", "KILL") == b"OK"
    assert all(client.one("PING") is not None for client in clients)


def request(*words: str) -> bytes:
    return b"".join(
        [b"*%d\r\n" % len(words), *(b"$%d\r\n%b\r\n" % (len(w), w.encode()) for w in words)]
    )
