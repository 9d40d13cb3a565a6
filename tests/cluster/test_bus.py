"""Members on real sockets, several in this process."""

import contextlib
import itertools
import socket

import attrs
import hiredis
import pytest
import trio

from cluster import effects as fx
from cluster import message as m
from cluster.bus import Bus
from cluster.processes import is_free
from cluster.server import open_bus
from cluster.slots import slot_range
from node.config import Config
from tests.conftest import free_ports

THIRDS = [slot_range(0, 5460), slot_range(5461, 10922), slot_range(10923, 16383)]


async def eventually(condition, seconds=5.0):
    """Wait until a condition holds; the test fails after so many seconds."""
    with trio.fail_after(seconds):
        while not condition():
            await trio.sleep(0.002)


@attrs.define(eq=False)
class Place:
    """One member, its port and its task."""

    bus: Bus
    port: int
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def view(self):
        return self.bus.member.core.view

    @property
    def id(self):
        return self.view.myself.id

    def ask(self, request):
        """As a command does: in a turn of the node."""
        node = self.bus.member.node
        node.begin_turn()
        try:
            return self.bus.member.ask(request)
        finally:
            node.end_turn()

    def sees(self, other):
        """What this member believes of another."""
        return self.view.nodes.get(other.id)

    async def serve(self):
        with self.scope:
            await self.bus.serve()
        self.ended.set()

    async def end(self):
        """As a process ends: all at once."""
        self.scope.cancel()
        await self.ended.wait()
        self.bus.close()

    def subscribe(self, channel):
        """A client that listens."""
        session = self.bus.member.node.session()
        session.receive(hiredis.pack_command(("SUBSCRIBE", channel)))
        session.take_output()
        return session


def configuration(directory, port, **directives):
    config = Config()
    config.cluster_enabled, config.port, config.bind = True, port, ("127.0.0.1",)
    config.cluster_config_file = str(directory / f"nodes-{port}.conf")
    for name, value in directives.items():
        setattr(config, name, value)
    return config


@pytest.fixture
async def place(tmp_path, nursery):
    """A function (**directives) that starts a member on a free port, or on `port`."""
    places = []

    def start(port=None, **directives):
        port = port or free_ports(1)[0]
        bus = open_bus(configuration(tmp_path, port, **directives))
        places.append(Place(bus, port))
        nursery.start_soon(places[-1].serve)
        return places[-1]

    yield start
    for each in places:
        if not each.scope.cancel_called:
            await each.end()


def has_met(places):
    return all(
        len(one.view.nodes) == len(places)
        and one.view.ok
        and all(node.connected and node.inbound and node.proven for node in one.view.others())
        for one in places
    )


@pytest.fixture
async def three(place):
    """Three primaries that share the slots and know each other."""
    places = [place() for _ in THIRDS]
    await trio.testing.wait_all_tasks_blocked()
    for number, (one, slots) in enumerate(zip(places, THIRDS, strict=True), 1):
        low = (slots & -slots).bit_length() - 1
        one.ask(fx.AddSlots(((low, slots.bit_length() - 1),)))
        one.ask(fx.SetConfigEpoch(number))
    for one, other in itertools.combinations(places, 2):
        one.ask(fx.Meet("127.0.0.1", other.port, other.port + 10000))
    await eventually(lambda: has_met(places))
    return places


async def test_a_cluster_forms_at_once(three):
    a, b, c = three
    assert [one.view.myself.slots for one in three] == THIRDS
    assert a.sees(b).slots == c.sees(b).slots == THIRDS[1]
    assert all(one.bus.member.routing.traffic.received for one in three)
    for one in three:
        one.view.check()


async def test_routing_follows_the_view(three):
    a, b, _ = three
    assert a.bus.member.routing.mine.count(1) == 5461
    a.ask(fx.SetSlot(5000, "MIGRATING", b.id))
    assert a.bus.member.routing.mine.count(1) == 5460
    a.ask(fx.DelSlots(((0, 99),)))
    assert not any(a.bus.member.routing.mine)


async def test_nodes_conf_holds_what_was_promised(three):
    a = three[0]
    before = a.view.myself.config_epoch
    a.ask(fx.BumpEpoch())
    assert a.view.myself.config_epoch > before
    line = next(line for line in a.bus.file.read().splitlines() if a.id in line)
    assert line.split()[6] == str(a.view.myself.config_epoch)


@attrs.define(eq=False)
class Record:
    """What a member has its driver do, in order."""

    bus: Bus
    done: list[fx.Effect] = attrs.field(factory=list)

    def save(self, effect):
        self.done.append(effect)
        self.bus.save(effect)

    def send(self, effect):
        self.done.append(effect)
        self.bus.send(effect)

    def __getattr__(self, name):
        return getattr(self.bus, name)


async def test_what_a_turn_promises_is_saved_once_and_before_anybody_hears_of_it(three):
    a, b, _ = three
    member = a.bus.member
    record = member.driver = Record(a.bus)
    member.node.begin_turn()
    for slot in range(10):
        member.ask(fx.SetSlot(slot, "MIGRATING", b.id))
    member.ask(fx.PublishAll(b"news", b"x"))
    member.ask(fx.BumpEpoch())
    assert record.done == []
    member.node.end_turn()
    save, *sends = record.done
    assert isinstance(save, fx.Save) and save.sync and save.text.count("->-") == 10
    assert len(sends) == 2 and all(isinstance(effect, fx.Send) for effect in sends)
    assert a.bus.file.read() == save.text


async def test_what_happens_to_the_data_waits_for_no_end_of_a_turn(three):
    """A primary that is one by its view alone would refuse what the next client writes."""
    a, b, _ = three
    a.ask(fx.FlushSlots())
    member = a.bus.member
    record = member.driver = Record(a.bus)
    member.node.begin_turn()
    member.ask(fx.Replicate(b.id))
    assert member.node.is_replica()
    assert isinstance(record.done[0], fx.Save)
    member.node.end_turn()


@pytest.mark.parametrize("size", [5, 3_000_000])
async def test_a_published_message_reaches_every_node(three, size):
    a, b, c = three
    listeners = [one.subscribe("news") for one in (b, c)]
    a.bus.member.routing.publish(b"news", b"x" * size, sharded=False)
    for listener in listeners:
        await eventually(lambda listener=listener: listener.output)
        assert listener.take_output().endswith(b"$%d\r\n%b\r\n" % (size, b"x" * size))
    assert a.bus.member.routing.traffic.pubsub_sent > 2 * size
    assert a.view.nodes[b.id].link.queued == 0


async def test_a_dead_process_is_noticed_at_once(three):
    a, b, c = three
    await c.end()
    await eventually(lambda: a.sees(c).failed and b.sees(c).failed, 1)
    assert not a.view.ok


async def test_a_dead_process_may_be_given_time(place):
    a, b = (place(cluster_report_refused=False) for _ in range(2))
    await trio.testing.wait_all_tasks_blocked()
    a.ask(fx.Meet("127.0.0.1", b.port, b.port + 10000))
    await eventually(lambda: a.sees(b) and a.sees(b).proven)
    await b.end()
    await eventually(lambda: not a.sees(b).connected)
    tried = a.sees(b).connect_tried
    await eventually(lambda: a.sees(b).connect_tried > tried)
    assert not a.sees(b).suspected


async def test_a_restarted_member_is_the_same_and_is_taken_back(three, place):
    a, b, c = three
    await eventually(lambda: all(one.id in c.bus.file.read() for one in three))
    await c.end()
    await eventually(lambda: a.sees(c).failed and b.sees(c).failed)
    again = place(c.port)
    assert again.id == c.id and again.view.myself.slots == THIRDS[2]
    await eventually(lambda: a.sees(c).connected and again.sees(a) and again.sees(a).connected)


async def test_a_broken_link_is_mended_at_once(three):
    a, b, _ = three
    old = a.sees(b).link
    await trio.sleep(0.11)  # a link that breaks as soon as it is made is given a little time
    b.bus._wires[b.sees(a).inbound.id].socket.shutdown(socket.SHUT_RDWR)
    await eventually(lambda: a.sees(b).connected and a.sees(b).link is not old, 0.09)
    assert not a.sees(b).suspected


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", b"RCmb\xff\xff\xff\xff" + b"\0" * 99]
)
async def test_garbage_costs_its_link_and_nothing_else(three, garbage):
    a = three[0]
    with socket.create_connection(("127.0.0.1", a.port + 10000)) as sock:
        sock.sendall(garbage)
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock.dup()))
        async with stream:
            with contextlib.suppress(trio.BrokenResourceError):
                assert await stream.receive_some(1) == b""
    assert has_met(three)


async def test_a_message_may_come_in_pieces(three):
    a = three[0]
    stranger = m.Ping(m.PING, m.Header("f" * 40, port=1, bus_port=2))
    async with await trio.open_tcp_stream("127.0.0.1", a.port + 10000) as stream:
        data = m.encode(stranger)
        for at in range(0, len(data), 500):
            await stream.send_all(data[at : at + 500])
            await trio.testing.wait_all_tasks_blocked(0.001)
        answer = m.decode(await stream.receive_some(65536))
    assert isinstance(answer, m.Ping) and answer.kind == m.PONG
    assert answer.header.sender == a.id


async def test_a_peer_that_does_not_read_is_given_up(three):
    a, b, _ = three
    a.bus.member.node.config.cluster_link_sendbuf_limit = 1_000_000
    b.scope.cancel()
    old = a.sees(b).link
    for _ in range(20):
        a.bus.member.routing.publish(b"news", b"x" * 1_000_000, sharded=False)
    await eventually(lambda: a.sees(b).link is not old)
    assert a.bus.member.routing.traffic.over_limit


async def test_links_are_probed_for_machines_that_are_gone(three):
    a, _, _ = three
    for wire in a.bus._wires.values():
        assert wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == (
            2 * a.bus.member.core.options.node_timeout // 1000
        )


async def test_a_member_answers_while_its_process_is_busy(place):
    """`pump` is enough to be alive for others."""
    a, b = place(), place()
    await trio.testing.wait_all_tasks_blocked()
    a.ask(fx.Meet("127.0.0.1", b.port, b.port + 10000))
    b.scope.cancel()
    await b.ended.wait()
    with trio.fail_after(5):
        while not (a.sees(b) and a.sees(b).proven):
            b.bus.pump()
            await trio.sleep(0.001)
    b.bus.close()


async def test_the_ports_are_free_again(three):
    for one in three:
        await one.end()
    assert all(is_free(one.port + 10000) for one in three)
