"""A real process under bad clients: others are served, and its memory stays within bounds."""

import contextlib
import itertools
import os
import random
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hiredis import pack_command

MB = 1024 * 1024


def resident(pid: int) -> int:
    """Bytes of main memory that a process takes up."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def server(our_server):
    return our_server("--save", "")


@contextlib.contextmanager
def many(port: int, count: int) -> Iterator[list[socket.socket]]:
    socks = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(count)]
    try:
        yield socks
    finally:
        for sock in socks:
            sock.close()


def wait_alone(sock: socket.socket) -> None:
    """Wait until the server has seen all other clients go."""
    for _ in range(1000):
        sock.sendall(b"INFO clients\r\n")
        if b"connected_clients:1\r\n" in sock.recv(1 << 16):
            return
    pytest.fail("others are still connected")


def send_until_full(sock: socket.socket, data: bytes, at_most: int) -> int:
    """Send again and again without reading, until nobody takes it; the bytes sent."""
    sock.settimeout(0.3)
    sent = 0
    try:
        while sent < at_most:
            sent += sock.send(data)
    except (TimeoutError, ConnectionError):
        pass
    return sent


def is_served(server) -> bool:
    assert server.call("SET", "key", "value") == b"OK"
    return server.call("GET", "key") == b"value"


def test_garbage(server):
    rng = random.Random(1)
    with many(server.port, 50) as socks:
        for sock in socks:
            with contextlib.suppress(ConnectionError):
                sock.sendall(rng.randbytes(rng.randrange(1, 20_000)))
        assert is_served(server)
    assert server.process.poll() is None


def test_claims_of_size_reserve_no_memory(server):
    assert is_served(server)
    before = resident(server.pid)
    claims = [b"*2000000000\r\n", b"*99999\r\n$5\r\n", b"*1\r\n$536870912\r\n"]
    for head in (b"*1\r\n$4\r\nPING\r\n", b"*2\r\n$4\r\nECHO\r\n"):
        claims += [head + kind + b"90000000\r\n" for kind in (b"*", b"~", b">", b"|", b"%")]
    with many(server.port, 100) as socks:
        for sock, claim in zip(socks, itertools.cycle(claims), strict=False):
            sock.sendall(claim)
        assert is_served(server)
        assert resident(server.pid) - before < 20 * MB


def test_nested_arrays(server):
    with many(server.port, 10) as socks:
        for sock in socks:
            sock.sendall(b"*1\r\n" * 10_000)
            assert sock.recv(100).startswith(b"-ERR Protocol error: expected '$', got '*'")
            assert sock.recv(100) == b""
    assert is_served(server)


def test_half_requests_and_clients_that_vanish(server):
    whole = pack_command(("SET", "half", "x" * 1000))
    with many(server.port, 200) as socks:
        for i, sock in enumerate(socks):
            sock.sendall(whole[: 1 + i * (len(whole) - 2) // 200])
        assert is_served(server)
        assert server.call("EXISTS", "half") == 0
        socks[0].sendall(whole[1:])
        assert socks[0].recv(100) == b"+OK\r\n"
    assert is_served(server)


def test_a_client_that_never_reads(server):
    """It asks for more and more: at some point it is not listened to any more."""
    server.call("SET", "large", "x" * MB)
    before = resident(server.pid)
    with many(server.port, 1) as (sock,):
        asked = send_until_full(sock, b"GET large\r\n" * 20, 100 * MB)
        assert asked < 10 * MB
        assert is_served(server)
        # One turn's requests are all answered, whatever they amount to; no more are read after it.
        assert resident(server.pid) - before < 64 * 1024 // 11 * MB
        sock.settimeout(5)
        assert sock.recv(100).startswith(b"$1048576\r\nxxx")


def test_a_subscriber_that_never_reads_is_closed(server):
    server.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 4mb 1mb 60")
    with many(server.port, 2) as (slow, speaker):
        slow.sendall(b"SUBSCRIBE news\r\n")
        slow.recv(100)
        message = pack_command(("PUBLISH", "news", "x" * MB))
        heard = True
        for _ in range(40):
            speaker.sendall(message)
            heard = speaker.recv(100) == b":1\r\n"
            if not heard:
                break
        assert not heard, "the subscriber is still there after 40 MB"
    assert resident(server.pid) < 200 * MB
    assert is_served(server)


def test_too_many_clients(our_server):
    server = our_server("--save", "", "--maxclients", "3")
    with many(server.port, 1) as (first,):
        wait_alone(first)
        with many(server.port, 2) as others:
            for sock in (first, *others):
                sock.sendall(b"PING\r\n")
                assert sock.recv(100) == b"+PONG\r\n"
            assert str(server.call("PING")) == "ERR max number of clients reached"
            first.sendall(b"CONFIG SET maxclients 4\r\n")
            assert first.recv(100) == b"+OK\r\n"
            assert server.call("PING") == b"PONG"


def disconnections(server) -> int:
    text = server.call("INFO", "stats").decode()
    return int(text.partition("client_query_buffer_limit_disconnections:")[2].split()[0])


def is_taken(server, chunks: list[bytes]) -> bool:
    """Whether a client may send all this, and is answered a PING after it."""
    with many(server.port, 1) as (sock,):
        received = b""
        try:
            for chunk in [*chunks, b"PING\r\n"]:
                sock.sendall(chunk)
            while b"+PONG\r\n" not in received and (data := sock.recv(1 << 16)):
                received = received[-10:] + data
        except ConnectionError:
            return False
        return b"+PONG\r\n" in received


@pytest.mark.parametrize("who", ["our_server", "valkey_server"])
def test_input_that_is_not_run_is_limited(request, who):
    """client-query-buffer-limit counts what waits for its end or for EXEC, not complete arguments
    of one request and not what has run."""
    server = request.getfixturevalue(who)("--save", "")
    long_key = pack_command(("SET", "key", "x" * (2 * MB)))
    queued = [b"MULTI\r\n", *[pack_command(("SET", "key", "x" * 300_000))] * 6]
    many_keys = pack_command(("DEL", *["k" * 400] * 5001))
    pipeline = pack_command(("SET", "key", "x" * 1000)) * 3000
    assert is_taken(server, [long_key])
    assert is_taken(server, [*queued, b"EXEC\r\n"])
    assert server.call("CONFIG", "SET", "client-query-buffer-limit", "1mb") == b"OK"
    assert is_taken(server, [many_keys])
    assert is_taken(server, [pipeline])
    assert disconnections(server) == 0
    assert not is_taken(server, [long_key])
    assert not is_taken(server, [*queued, b"EXEC\r\n"])
    assert disconnections(server) == 2
    assert is_served(server)


def test_a_limit_of_input_holds_for_clients_that_are_there_already(server):
    with many(server.port, 1) as (sock,):
        sock.sendall(b"*2\r\n$4\r\nECHO\r\n$3000000\r\n" + b"x" * (2 * MB))
        assert server.call("CONFIG", "SET", "client-query-buffer-limit", "1mb") == b"OK"
        # The system says so in one of several ways when the other end is closed already.
        with contextlib.suppress(ConnectionError):
            sock.sendall(b"x")
            assert sock.recv(100) == b""
    assert disconnections(server) == 1
