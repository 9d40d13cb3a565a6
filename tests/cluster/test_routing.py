"""Where commands belong, asked as clients ask: requests in, replies out, no sockets."""

from random import Random

import attrs
import hiredis
import pytest

from cluster import commands
from cluster import effects as fx
from cluster.core import Core
from cluster.directives import options_of
from cluster.member import Member
from cluster.nodesfile import fresh_view
from cluster.routing import Routing
from cluster.slots import key_slot, slot_range
from cluster.view import PRIMARY, REPLICA, Node
from node.clock import VirtualClock
from node.config import Config
from node.node import Node as Server

assert commands

A = key_slot(b"a")  # 15495
OK = b"OK"


class NoBus:
    """A driver without links: it keeps what the core wanted."""

    def __init__(self):
        self.effects = []

    def connect(self, effect):
        self.effects.append(effect)

    send = close_link = save = connect

    def wake(self):
        pass


@attrs.define(eq=False)
class Client:
    session: object
    reader: hiredis.Reader = attrs.field(factory=hiredis.Reader)

    def __call__(self, *words):
        """The reply; an error as its text."""
        self.session.receive(hiredis.pack_command(words))
        self.session.node.end_turn()
        return self.next()

    def next(self):
        self.reader.feed(self.session.take_output())
        reply = self.reader.gets()
        return str(reply) if isinstance(reply, hiredis.ReplyError) else reply


@attrs.define(eq=False)
class World:
    """One node under test, which knows another primary and a replica of each."""

    server: Server
    member: Member
    bus: NoBus
    other: Node

    def client(self):
        return Client(self.server.session())

    def give(self, slots, node):
        """Slots change hands."""
        self.view.assign(slots, node)
        self.settle()

    def settle(self):
        self.view.version += 1
        self.member.routing.refresh()

    @property
    def view(self):
        return self.member.core.view


def peer(view, digit, port, role):
    flags = {"primary": PRIMARY, "replica": REPLICA}[role]
    return view.add(Node(digit * 40, digit * 40, flags, "10.0.0.9", port, 0, port + 10000))


@pytest.fixture
def world():
    config, rng, clock = Config(), Random(1), VirtualClock()
    config.cluster_enabled = True
    view = fresh_view(rng)
    routing = Routing(view, config)
    server = Server(config, clock, rng, topology=routing)
    bus = NoBus()
    member = Member(server, Core(view, options_of(config), rng), routing)
    member.driver = bus
    member.start()
    other = peer(view, "b", 7001, "primary")
    view.assign(slot_range(0, 8191), other)
    view.assign(slot_range(8192, 16383), view.myself)
    view.ok = True
    world = World(server, member, bus, other)
    world.settle()
    return world


@pytest.fixture
def client(world):
    return world.client()


def test_own_slots_are_served_and_others_moved(world, client):
    assert client("SET", "a", "1") == OK
    assert client("GET", "a") == b"1"
    assert client("SET", "foo{a}bar", "2") == OK
    assert client("GET", "b") == "MOVED 3300 10.0.0.9:7001"
    assert client("SET", "{b}a", "1") == "MOVED 3300 10.0.0.9:7001"
    assert client("PING") == b"PONG"


def test_keys_of_one_slot_may_go_together(client):
    assert client("MSET", "{a}1", "x", "{a}2", "y") == OK
    assert client("MGET", "{a}1", "{a}2") == [b"x", b"y"]
    assert client("MGET", "{b}1", "{b}2") == "MOVED 3300 10.0.0.9:7001"


def test_scripts_keep_to_this_nodes_slots_and_to_one_unless_they_say_otherwise(client):
    two = "redis.call('SET', ARGV[1], 'x') return redis.call('GET', ARGV[2])"
    near = "{a}2"
    far = next(f"{n}" for n in range(1000) if key_slot(b"%d" % n) > A)  # another slot of its own
    cross = "Script attempted to access keys that do not hash to the same slot"
    away = "Attempted to access a non local key in a cluster node"
    for flags in ("", "#!lua\n", "#!lua flags=allow-cross-slot-keys\n"):
        assert client("EVAL", flags + two, "0", near, near) == b"x"
        reply = client("EVAL", flags + two, "0", near, far)
        assert cross in reply if flags == "#!lua\n" else reply is None
        assert away in client("EVAL", flags + two, "0", "b", near)
        assert client("GET", near) == b"x"


def test_keys_of_several_slots_may_not(client):
    crossing = "CROSSSLOT Keys in request don't hash to the same slot"
    assert client("MGET", "a", "b") == crossing
    assert client("MSET", "a", "1", "{a}", "1", "c", "1") == crossing


def test_a_script_keeps_to_the_slot_of_its_keys(client):
    script = "{}redis.call('SET', 'd', '1') return redis.call('SET', ARGV[1], '1')"
    strict, lax = script.format("#!lua\n"), script.format("#!lua flags=allow-cross-slot-keys\n")
    assert client("EVAL", strict, "1", "d", "d") == OK
    crossing = "ERR Script attempted to access keys that do not hash to the same slot"
    assert client("EVAL", strict, "1", "a", "c").startswith(crossing)
    assert client("EVAL", strict, "0", "a").startswith(crossing)
    assert client("EVAL", lax, "1", "a", "a") == client("EVAL", script.format(""), "1", "a", "a")


def test_a_slot_without_owner(world, client):
    world.give(1 << A, None)
    assert client("GET", "a") == "CLUSTERDOWN Hash slot not served"
    world.give(1 << A, world.view.myself)
    assert client("GET", "a") is None


@pytest.mark.parametrize(
    "allowed, get, put",
    [
        (False, "CLUSTERDOWN The cluster is down", "CLUSTERDOWN The cluster is down"),
        (True, None, "CLUSTERDOWN The cluster is down and only accepts read commands"),
    ],
)
def test_a_cluster_that_is_down(world, client, allowed, get, put):
    world.view.ok = False
    world.server.config.cluster_allow_reads_when_down = allowed
    world.settle()
    assert client("GET", "a") == get
    assert client("SET", "a", "1") == put
    assert client("PING") == b"PONG"


def test_a_shard_channel_counts_as_a_key(world, client):
    assert client("SPUBLISH", "a", "x") == 0
    assert client("SPUBLISH", "b", "x") == "MOVED 3300 10.0.0.9:7001"
    assert client("PUBLISH", "b", "x") == 0
    world.view.ok = False
    world.settle()
    assert client("SPUBLISH", "a", "x") == 0
    world.server.config.cluster_allow_pubsubshard_when_down = False
    assert client("SPUBLISH", "a", "x") == "CLUSTERDOWN The cluster is down"


def test_subscribers_are_told_when_their_shard_channel_goes(world, client):
    assert client("SSUBSCRIBE", "a") == [b"ssubscribe", b"a", 1]
    world.view.assign(1 << A, world.other)
    world.member.tick()
    assert client.next() == [b"sunsubscribe", b"a", 0]


@pytest.mark.parametrize(
    "preferred, hostname, endpoint",
    [
        ("ip", "h.example", "10.0.0.9"),
        ("hostname", "h.example", "h.example"),
        ("hostname", "", "?"),
        ("unknown-endpoint", "h.example", ""),
    ],
)
def test_how_a_node_is_named(world, client, preferred, hostname, endpoint):
    world.server.config.cluster_preferred_endpoint_type = preferred
    world.other.hostname = hostname
    assert client("GET", "b") == f"MOVED 3300 {endpoint}:7001"


class TestMovingAway:
    @pytest.fixture(autouse=True)
    def moving(self, world, client):
        assert client("SET", "{a}1", "1") == OK
        world.member.ask(fx.SetSlot(A, "MIGRATING", world.other.id))

    ASK = f"ASK {A} 10.0.0.9:7001"
    AGAIN = "TRYAGAIN Multiple keys request during rehashing of slot"

    def test_keys_that_are_here_are_served(self, client):
        assert client("GET", "{a}1") == b"1"
        assert client("MGET", "{a}1", "{a}1") == [b"1", b"1"]
        assert client("SPUBLISH", "{a}9", "x") == 0

    def test_others_are_asked_for_elsewhere(self, client):
        assert client("GET", "{a}2") == self.ASK
        assert client("SET", "{a}2", "1") == self.ASK
        assert client("MGET", "{a}2", "{a}3") == self.ASK

    def test_some_of_each_must_wait(self, client):
        assert client("MGET", "{a}1", "{a}2") == self.AGAIN

    def test_an_expired_key_is_missing_and_stays(self, world, client):
        world.server.keyspace[0].expires.arm(b"{a}1", world.server.keyspace.now_ms)
        assert client("MGET", "{a}1", "{a}2") == self.ASK
        assert world.server.keyspace[0].size == 1

    def test_a_transaction_is_looked_at_as_a_whole(self, client):
        assert client("MULTI") == OK
        assert client("GET", "{a}2") == b"QUEUED"
        assert client("EXEC") == self.ASK
        assert client("MULTI") == OK
        assert [client("GET", "{a}1"), client("GET", "{a}2")] == [b"QUEUED", b"QUEUED"]
        assert client("EXEC") == self.AGAIN
        assert client("MULTI") == OK
        assert client("GET", "{a}1") == b"QUEUED"
        assert client("EXEC") == [b"1"]

    def test_the_slot_is_served_whole_again(self, world, client):
        world.member.ask(fx.SetSlot(A, "STABLE"))
        assert client("GET", "{a}2") is None


class TestMovingHere:
    @pytest.fixture(autouse=True)
    def moving(self, world):
        world.give(1 << A, world.other)
        world.member.ask(fx.SetSlot(A, "IMPORTING", world.other.id))

    MOVED = f"MOVED {A} 10.0.0.9:7001"
    AGAIN = TestMovingAway.AGAIN

    def test_only_for_who_asks(self, client):
        assert client("GET", "a") == self.MOVED
        assert client("ASKING") == OK
        assert client("SET", "a", "1") == OK
        assert client("GET", "a") == self.MOVED

    def test_asking_counts_for_one_command(self, client):
        assert client("ASKING") == OK
        assert client("PING") == b"PONG"
        assert client("GET", "a") == self.MOVED

    def test_several_keys_must_all_be_here(self, client):
        client("ASKING")
        assert client("MGET", "{a}1", "{a}2") == self.AGAIN
        client("ASKING")
        assert client("MGET", "{a}1", "{a}1") == [None, None]
        client("ASKING")
        assert client("MSET", "{a}1", "x", "{a}2", "y") == self.AGAIN
        for key in ("{a}1", "{a}2"):
            client("ASKING")
            assert client("SET", key, "x") == OK
        client("ASKING")
        assert client("MGET", "{a}1", "{a}2") == [b"x", b"x"]

    def test_a_transaction_is_asked_for_once(self, client):
        assert client("ASKING") == OK
        assert client("MULTI") == OK
        assert client("SET", "a", "1") == b"QUEUED"
        assert client("INCR", "a") == b"QUEUED"
        assert client("EXEC") == [OK, 2]
        assert client("GET", "a") == self.MOVED

    def test_a_discarded_one_too(self, client):
        client("ASKING")
        client("MULTI")
        assert client("DISCARD") == OK
        assert client("GET", "a") == self.MOVED


class TestReplica:
    @pytest.fixture(autouse=True)
    def replica(self, world):
        view = world.view
        third = peer(view, "c", 7002, "primary")
        view.assign(slot_range(8192, 16383), third)
        view.make_replica(view.myself, world.other)
        world.settle()

    def test_sends_everybody_to_its_primary(self, client):
        assert client("GET", "b") == "MOVED 3300 10.0.0.9:7001"
        assert client("SET", "b", "1") == "MOVED 3300 10.0.0.9:7001"

    def test_lets_those_read_who_want_to(self, client):
        assert client("READONLY") == OK
        assert client("GET", "b") is None
        assert client("MGET", "{b}1", "{b}2") == [None, None]
        assert client("SET", "b", "1") == "MOVED 3300 10.0.0.9:7001"
        assert client("GET", "a") == f"MOVED {A} 10.0.0.9:7002"
        assert client("READWRITE") == OK
        assert client("GET", "b") == "MOVED 3300 10.0.0.9:7001"

    def test_a_transaction_that_writes_belongs_to_the_primary(self, client):
        client("READONLY")
        client("MULTI")
        assert client("GET", "b") == b"QUEUED"
        assert client("EXEC") == [None]
        client("MULTI")
        assert client("SET", "b", "1") == "MOVED 3300 10.0.0.9:7001"
        assert client("EXEC").startswith("EXECABORT")

    def test_a_script_that_may_write_belongs_to_the_primary(self, client):
        client("READONLY")
        assert client("EVAL", "#!lua\nreturn 1", "1", "b") == "MOVED 3300 10.0.0.9:7001"
        assert client("EVAL", "#!lua flags=no-writes\nreturn 1", "1", "b") == 1
        assert client("EVAL", "return 1", "1", "b") == 1

    def test_serves_the_shard_channels_of_its_shard(self, client):
        assert client("SPUBLISH", "b", "x") == 0
        assert client("SPUBLISH", "a", "x") == f"MOVED {A} 10.0.0.9:7002"

    def test_serves_them_in_transactions_too(self, client):
        client("MULTI")
        assert client("SPUBLISH", "b", "x") == b"QUEUED"
        assert client("EXEC") == [0]
        client("MULTI")
        assert client("SPUBLISH", "b", "x") == b"QUEUED"
        assert client("GET", "b") == "MOVED 3300 10.0.0.9:7001"
        assert client("EXEC").startswith("EXECABORT")


def test_who_waits_for_a_key_is_sent_after_it(world, client):
    client.session.receive(hiredis.pack_command(("BLPOP", "a", "0")))
    world.server.end_turn()
    assert client.session.waiting is not None
    world.view.assign(1 << A, world.other)
    world.member.tick()
    assert client.next() == f"MOVED {A} 10.0.0.9:7001"
    assert client("PING") == b"PONG"


def test_a_slot_that_went_elsewhere_is_emptied_a_slice_at_a_time(world, client):
    for i in range(300):
        assert client("SET", f"{{a}}{i}", "x") == OK
    assert client("SET", "{d}1", "x") == OK
    world.view.assign(1 << A, world.other)
    world.member._carry_out(fx.DropSlots(slot_range(A, A)))
    assert world.server.keyspace[0].size == 301
    while world.member.drop_some(0):
        pass
    assert world.server.keyspace[0].size == 1
    world.server.keyspace[0].check()


def test_a_dropped_slot_that_comes_back_keeps_what_is_left(world, client):
    client("SET", "a", "x")
    world.member._carry_out(fx.DropSlots(1 << A))
    while world.member.drop_some():
        pass
    assert client("GET", "a") == b"x"


def test_published_messages_go_to_the_bus_and_come_from_it(world, client):
    listener = world.client()
    listener("SUBSCRIBE", "news")
    assert client("PUBLISH", "news", "hello") == 1
    assert listener.next() == [b"message", b"news", b"hello"]
    world.member._carry_out(fx.Deliver(b"news", b"from afar", False))
    assert listener.next() == [b"message", b"news", b"from afar"]


def test_a_pause_holds_writes_until_it_ends(world, client):
    now = world.member.now()
    world.member._carry_out(fx.Pause(now + 500))
    client.session.receive(hiredis.pack_command(("SET", "a", "1")))
    world.server.end_turn()
    assert client.next() is False
    assert world.client()("GET", "a") is None
    world.member._carry_out(fx.Resume())
    world.server.end_turn()
    assert client.next() == OK
