"""A replica that comes by a stream: TLS, or memory."""

import pytest
import trio
import trio.testing
from local import Local, local_node
from test_streams import read_until

from node.replication.links import Links
from node.streams import serve_stream
from node.turns import Turns

ASKS = b"REPLCONF capa eof capa psync2\r\nPSYNC ? -1\r\n"


@pytest.fixture
async def primary(nursery):
    local = local_node(repl_diskless_sync_delay=0)
    links = Links(local.node, Turns(local.node))
    nursery.start_soon(links.serve)
    return local


async def follow(local: Local, nursery: trio.Nursery) -> trio.abc.Stream:
    """A replica's end of a stream, after the data set."""
    ours, theirs = trio.testing.memory_stream_pair()
    nursery.start_soon(serve_stream, local.node, theirs, b"10.0.0.1:5")
    local.client().call("SET", "k", "before")
    await ours.send_all(ASKS)
    answer = b""
    while not _payload(answer).startswith(b"REDIS") or b"before" not in answer:
        answer += bytes(await ours.receive_some())
    assert answer.startswith(b"+OK\r\n+FULLRESYNC ")
    return ours


def _payload(answer: bytes) -> bytes:
    return answer.partition(b"\r\n$")[2].partition(b"\r\n")[2]


async def test_it_gets_the_data_and_the_stream_and_is_heard(primary, nursery):
    replica = await follow(primary, nursery)
    primary.client().call("SET", "k", "after")
    expected = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nafter\r\n"
    assert (await read_until(replica, expected)).endswith(expected)
    offset = primary.node.log.offset
    await replica.send_all(b"REPLCONF ACK %d\r\n" % offset)
    await trio.testing.wait_all_tasks_blocked()
    assert primary.node.role.primary.count_acknowledged(offset) == 1


async def test_either_side_may_end_it(primary, nursery):
    replica = await follow(primary, nursery)
    await replica.aclose()
    await trio.testing.wait_all_tasks_blocked()
    assert not primary.node.role.primary.replicas
    replica = await follow(primary, nursery)
    assert primary.client().call("CLIENT", "KILL", "TYPE", "replica") == 1
    assert await replica.receive_some() == b""
    assert not primary.node.role.primary.replicas
