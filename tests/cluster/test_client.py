"""The cluster client against scripted nodes: each answers from a table and remembers the calls."""

from collections.abc import Callable

import attrs
import hiredis
import pytest
import trio

from cluster.client import ClusterClient, Connection, ReplyError, Unavailable, error_class
from cluster.slots import SLOTS, key_slot
from tests.conftest import free_ports

Answer = Callable[[list[bytes]], bytes]


@attrs.define(eq=False)
class ScriptedNode:
    """Answers commands with `answer`; raw replies, and no reply when it gives none."""

    port: int
    answer: Answer = lambda args: b"+OK\r\n"
    calls: list[list[bytes]] = attrs.field(factory=list)
    slots: bytes = b"*0\r\n"

    async def serve(self, task_status=trio.TASK_STATUS_IGNORED):
        await trio.serve_tcp(self.talk, self.port, host="127.0.0.1", task_status=task_status)

    async def talk(self, stream):
        reader = hiredis.Reader()
        async for data in stream:
            reader.feed(data)
            while (args := reader.gets()) is not False:
                self.calls.append(args)
                reply = self.slots if args[0] == b"CLUSTER" else self.answer(args)
                if reply == b"":
                    return
                await stream.send_all(reply)


def slots_reply(*ranges: tuple[int, int, int], host: bytes = b"127.0.0.1") -> bytes:
    """CLUSTER SLOTS of (first, last, port) ranges without replicas."""
    reply = b"*%d\r\n" % len(ranges)
    for first, last, port in ranges:
        node = b"*4\r\n$%d\r\n%b\r\n:%d\r\n$1\r\nx\r\n*0\r\n" % (len(host), host, port)
        reply += b"*3\r\n:%d\r\n:%d\r\n" % (first, last) + node
    return reply


@pytest.fixture
async def two_nodes(nursery):
    """Two nodes; both say that the first has every slot."""
    nodes = [ScriptedNode(port) for port in free_ports(2)]
    for node in nodes:
        node.slots = slots_reply((0, SLOTS - 1, nodes[0].port))
        await nursery.start(node.serve)
    return nodes


def client_of(*nodes: ScriptedNode, **options) -> ClusterClient:
    return ClusterClient([("127.0.0.1", node.port) for node in nodes], **options)


def commands(node: ScriptedNode) -> list[bytes]:
    return [args[0] for args in node.calls]


async def test_a_command_goes_to_the_owner_of_its_slot(two_nodes):
    one, two = two_nodes
    one.slots = slots_reply((0, 8000, one.port), (8001, SLOTS - 1, two.port))
    async with client_of(one) as client:
        assert key_slot(b"foo") > 8000 > key_slot(b"bar")
        assert await client.execute("foo", "SET", "foo", 1) == b"OK"
        assert await client.execute("bar", "SET", "bar", 1) == b"OK"
    assert one.calls == [[b"CLUSTER", b"SLOTS"], [b"SET", b"bar", b"1"]]
    assert two.calls == [[b"SET", b"foo", b"1"]]
    assert not client.setbacks


async def test_moved_is_followed_even_when_the_map_still_says_otherwise(two_nodes):
    one, two = two_nodes
    one.answer = lambda args: b"-MOVED 1 127.0.0.1:%d\r\n" % two.port
    two.slots = one.slots
    async with client_of(one) as client:
        await client.execute("k", "SET", "k", 1)
        await client.execute("k", "SET", "k", 2)
    assert commands(two).count(b"SET") == 2
    assert client.setbacks == {"MOVED": 1}


async def test_an_empty_host_means_the_node_that_was_asked(two_nodes):
    one, two = two_nodes
    one.slots = slots_reply((0, SLOTS - 1, one.port), host=b"")
    one.answer = lambda args: b"-MOVED 1 :%d\r\n" % two.port
    async with client_of(one) as client:
        assert await client.execute("k", "SET", "k", 1) == b"OK"
    assert client.owner(key_slot(b"k")) == ("127.0.0.1", two.port)


async def test_ask_is_followed_once_and_not_remembered(two_nodes):
    one, two = two_nodes
    one.answer = lambda args: b"-ASK 1 127.0.0.1:%d\r\n" % two.port
    async with client_of(one) as client:
        await client.pipeline("k", [("SET", "k", 1), ("GET", "k")])
        await client.execute("k", "GET", "k")
    assert commands(two) == [b"ASKING", b"SET", b"ASKING", b"GET", b"ASKING", b"GET"]
    assert client.setbacks == {"ASK": 2}


@pytest.mark.parametrize("name", ["TRYAGAIN", "CLUSTERDOWN", "LOADING", "READONLY"])
async def test_not_now_is_tried_again_with_backoff(two_nodes, name):
    one, _ = two_nodes
    turns = iter([f"-{name} wait\r\n".encode()] * 3)
    one.answer = lambda args: next(turns, b"+OK\r\n")
    async with client_of(one) as client:
        assert await client.execute("k", "SET", "k", 1) == b"OK"
    assert client.setbacks == {name: 3}


async def test_an_error_of_the_command_itself_is_raised_at_once(two_nodes):
    one, _ = two_nodes
    one.answer = lambda args: b"-WRONGTYPE no\r\n"
    async with client_of(one) as client:
        with pytest.raises(ReplyError, match="WRONGTYPE"):
            await client.execute("k", "INCR", "k")
    assert commands(one).count(b"INCR") == 1


async def test_a_lost_owner_is_replaced_by_what_another_node_says(two_nodes):
    one, two = two_nodes
    async with client_of(one, two) as client:
        await client.execute("k", "SET", "k", 1)
        one.answer = lambda args: b""
        one.slots = b""
        two.slots = slots_reply((0, SLOTS - 1, two.port))
        await client.execute("k", "SET", "k", 2)
    assert client.setbacks == {"lost": 1}
    assert two.calls[-1] == [b"SET", b"k", b"2"]


async def test_a_node_that_hangs_costs_a_timeout_and_no_more(two_nodes):
    one, two = two_nodes
    one.answer = lambda args: b"+"
    two.slots = slots_reply((0, SLOTS - 1, two.port))
    async with client_of(one, two, timeout=0.05) as client:
        await client.refresh()
        one.slots = b"*"
        with trio.fail_after(2):
            assert await client.execute("k", "GET", "k") == b"OK"
    assert client.setbacks == {"timeout": 1}


async def test_the_deadline_ends_the_attempts(two_nodes):
    one, _ = two_nodes
    one.answer = lambda args: b"-CLUSTERDOWN wait\r\n"
    async with client_of(one, deadline=0.1) as client:
        with pytest.raises(Unavailable) as caught:
            await client.execute("k", "SET", "k", 1)
    assert error_class(caught.value.__cause__) == "CLUSTERDOWN"
    assert client.setbacks["CLUSTERDOWN"] < 15


async def test_a_closed_port_is_counted_as_refused():
    [port] = free_ports(1)
    async with ClusterClient([("127.0.0.1", port)], deadline=0.05) as client:
        with pytest.raises(Unavailable):
            await client.execute("k", "GET", "k")
    with pytest.raises(ConnectionRefusedError) as caught:
        await Connection.open(("127.0.0.1", port))
    assert error_class(caught.value) == "refused"


async def test_a_cancelled_call_leaves_no_reply_for_the_next(two_nodes):
    one, _ = two_nodes
    connection = await Connection.open(("127.0.0.1", one.port))
    one.answer = lambda args: b"+"
    with trio.move_on_after(0.02):
        await connection.call("SLOW")
    assert not connection.is_open
