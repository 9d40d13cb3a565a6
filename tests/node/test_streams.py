"""The driver with one task per stream, on in-memory streams."""

import trio
import trio.testing
from local import local_node

from node import streams
from node.streams import serve_stream


async def read_until(stream: trio.abc.ReceiveStream, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        more = await stream.receive_some()
        assert more, f"the stream ended after {data!r}"
        data += bytes(more)
    return data


async def test_serves_pipelined_and_split_requests(nursery):
    node = local_node().node
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_stream, node, theirs, b"10.0.0.1:5")
    await ours.send_all(b"PING\r\n*2\r\n$4\r\nECHO\r\n$5\r\nhel")
    assert await read_until(ours, b"\r\n") == b"+PONG\r\n"
    await ours.send_all(b"lo\r\n*2\r\n$6\r\nCLIENT\r\n$4\r\nINFO\r\n")
    answer = await read_until(ours, b"\n\r\n")
    assert answer.startswith(b"$5\r\nhello\r\n$")
    assert b"addr=10.0.0.1:5" in answer


async def test_the_end_of_the_stream_is_the_end_of_the_session(nursery):
    node = local_node().node
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_stream, node, theirs)
    await ours.send_all(b"PING\r\n")
    await read_until(ours, b"\r\n")
    assert len(node.sessions) == 1
    await ours.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert not node.sessions


async def test_quit_answers_and_closes(nursery):
    node = local_node().node
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_stream, node, theirs)
    await ours.send_all(b"QUIT\r\nPING\r\n")
    assert await read_until(ours, b"+OK\r\n") == b"+OK\r\n"
    assert await ours.receive_some() == b""
    assert not node.sessions


async def test_messages_reach_a_client_that_says_nothing(nursery):
    local = local_node()
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_stream, local.node, theirs)
    await ours.send_all(b"SUBSCRIBE news\r\n")
    await read_until(ours, b":1\r\n")
    assert local.client().call("PUBLISH", "news", "hi") == 1
    assert (await read_until(ours, b"hi\r\n")).startswith(b"*3\r\n$7\r\nmessage\r\n")


async def test_killed_while_it_does_not_read(nursery):
    local = local_node()
    ours, theirs = trio.testing.lockstep_stream_pair()
    nursery.start_soon(serve_stream, local.node, theirs, b"10.0.0.1:5")
    await ours.send_all(b"PING\r\n")
    await trio.testing.wait_all_tasks_blocked()
    assert local.client().call("CLIENT", "KILL", "10.0.0.1:5") == b"OK"
    await trio.testing.wait_all_tasks_blocked()
    assert len(local.node.sessions) == 1


async def test_a_client_that_does_not_read_is_not_read(nursery, monkeypatch):
    monkeypatch.setattr(streams, "UNSENT_MAX", 1000)
    local = local_node()
    ours, theirs = trio.testing.lockstep_stream_pair()
    nursery.start_soon(serve_stream, local.node, theirs)
    await ours.send_all(b"ECHO %b\r\n" % (b"x" * 2000))
    await trio.testing.wait_all_tasks_blocked()
    sent = trio.Event()

    async def send_more() -> None:
        await ours.send_all(b"PING\r\n")
        sent.set()

    nursery.start_soon(send_more)
    await trio.testing.wait_all_tasks_blocked()
    assert not sent.is_set()
    assert (await read_until(ours, b"+PONG\r\n")).startswith(b"$2000\r\n")
    assert sent.is_set()
