"""The contract of the core: what calls return, in which order, and that a seed decides all."""

from random import Random

import pytest
from core_network import Network
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import effects as fx
from cluster import message as m
from cluster.core import Core
from cluster.desk import Options
from cluster.nodesfile import fresh_view, load

NOW = 1_700_000_000_000


def lone_core(seed: int = 1) -> Core:
    rng = Random(seed)
    return Core(fresh_view(rng), Options(port=7000, bus_port=17000), rng)


def test_a_fresh_node_saves_itself_first():
    core = lone_core()
    save, log = core.start(NOW)
    assert isinstance(save, fx.Save) and save.sync
    assert load(save.text, Random(2)).myself.id == core.view.myself.id
    assert log == fx.Log("notice", f"No cluster configuration found, I'm {core.view.myself.id}")
    assert core.tick(NOW + 100) == [] and core.next_wake() is None


def test_a_save_comes_before_everything_else():
    net = Network(6, node_timeout=1000)
    net.form(3, 1)
    net.run(200)
    primary = net.hosts[0]
    request = fx.AddSlots(((0, 0),))
    with pytest.raises(fx.ClusterError):
        primary.core.ask(request, net.now)
    _, effects = primary.core.ask(fx.DelSlots(((0, 0),)), net.now)
    assert isinstance(effects[0], fx.Save) and "1-5460" in effects[0].text
    assert not any(isinstance(effect, fx.Save) for effect in effects[1:])
    assert any(isinstance(effect, fx.Send) for effect in effects)


def test_news_of_others_is_saved_by_the_next_tick():
    net = Network(2)
    net.ask(net.hosts[0], fx.Meet("10.0.0.2", 7002, 17002))
    net.run(50)
    assert "10.0.0.2" not in net.hosts[1].disk or "10.0.0.1" not in net.hosts[1].disk
    net.run(100)
    assert all("10.0.0.1" in host.disk and "10.0.0.2" in host.disk for host in net.hosts)


def test_what_comes_for_a_link_that_is_gone_is_ignored():
    core = lone_core()
    core.start(NOW)
    message = m.Ping(m.MEET, m.Header("a" * 40, port=1, bus_port=2))
    assert core.receive(99, message, NOW) == []
    assert core.link_up(99, NOW) == core.link_down(99, NOW) == core.refused(99, NOW) == []


def test_a_node_that_follows_points_replication_there_and_again_when_it_moves():
    net = Network(2)
    net.form(1, 1)
    primary, replica = net.hosts
    assert [e for e in replica.effects if isinstance(e, fx.Follow)] == [
        fx.Follow(primary.id, "10.0.0.1", 7001)
    ]
    primary.core.options.port = 7999
    net.run(2000)
    assert replica.effects.count(fx.Follow(primary.id, "10.0.0.1", 7999)) == 1
    net.kill(replica)
    fresh = net.restart(replica)
    assert fx.Follow(primary.id, "10.0.0.1", 7001) in fresh.effects or fresh.following


def test_the_same_seed_gives_the_same_trace():
    def trace(seed: int) -> list[str]:
        net = Network(6, seed=seed, node_timeout=1000)
        net.trace = []
        net.form(3, 1)
        net.run(1000)
        net.kill(net.hosts[1])
        net.run(3000)
        return net.trace

    assert trace(5) == trace(5) != trace(6)


def test_views_for_commands():
    net = Network(6)
    net.form(3, 1)
    net.run(1500)
    view = net.hosts[0].core.view
    ranges = [
        (first, last, node.id, [r.id for r in replicas])
        for first, last, node, replicas in view.slot_map()
    ]
    ids = [host.id for host in net.hosts]
    assert ranges == [
        (0, 5460, ids[0], [ids[3]]),
        (5461, 10921, ids[1], [ids[4]]),
        (10922, 16383, ids[2], [ids[5]]),
    ]
    assert [[node.is_primary for node in nodes] for _, nodes in view.shards()] == [
        [True, False]
    ] * 3
    assert dict(view.info())["cluster_known_nodes"] == 6
    assert len(view.links) == 10 and sum(link.inbound for link in view.links.values()) == 5
    lines = view.nodes_text().splitlines()
    assert (
        len(lines) == 6
        and lines[0] == f"{ids[0]} 10.0.0.1:7001@17001 myself,master - 0 0 1 connected 0-5460"
    )


def test_the_version_rises_with_what_answers_depend_on():
    net = Network(6, node_timeout=1000)
    net.form(3, 1)
    net.run(1500)
    view = net.hosts[1].core.view
    version = view.version
    net.run(3000)
    assert view.version == version, "pings alone change nothing"
    net.kill(net.hosts[0])
    net.run(20)
    assert view.version > version


ids = st.sampled_from(["a" * 40, "b" * 40, "c" * 40, "d" * 40])
headers = st.builds(
    m.Header,
    sender=ids,
    current_epoch=st.integers(0, 9),
    config_epoch=st.integers(0, 9),
    slots=st.integers(0, 15),
    primary=st.just("") | ids,
    ip=st.sampled_from(["", "10.0.0.9"]),
    port=st.integers(0, 3),
    bus_port=st.integers(0, 3),
    flags=st.integers(0, 65535),
    message_flags=st.integers(0, 7),
)
gossip = st.builds(
    m.Gossip,
    ids,
    st.just(0),
    st.integers(0, 2**32 - 1),
    st.just("10.0.0.8"),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 65535),
)
extensions = st.none() | st.builds(
    m.Extensions,
    shard_id=st.just("") | ids,
    forgotten=st.lists(st.tuples(ids, st.integers(0, 2**64 - 1)), max_size=1).map(tuple),
)
messages = st.one_of(
    st.builds(
        m.Ping, st.integers(0, 2), headers, st.lists(gossip, max_size=2).map(tuple), extensions
    ),
    st.builds(
        m.Ping, st.integers(0, 2), headers, st.lists(gossip, max_size=2).map(tuple), extensions
    ),
    st.builds(m.Fail, headers, ids),
    st.builds(m.AuthRequest, headers),
    st.builds(m.AuthAck, headers),
    st.builds(m.Update, headers, ids, st.integers(0, 9), st.integers(0, 15)),
    st.builds(m.ManualFailoverStart, headers),
    st.builds(m.Publish, st.none() | headers, st.just(b"c"), st.just(b"p")),
)
steps = st.lists(
    st.tuples(st.integers(0, 6), messages | st.integers(0, 20_000)), min_size=1, max_size=40
)


@settings(max_examples=150)
@given(steps)
def test_whatever_is_said_on_whatever_link_the_view_stays_sound(story):
    core = lone_core()
    now = NOW
    core.start(now)
    myself = core.view.myself
    core.ask(fx.AddSlots(((0, 3),)), now)
    core.ask(fx.Meet("10.0.0.9", 1, 2), now)
    for _ in range(2):
        core.accept("10.0.0.9", "10.0.0.1", now)
    for link, said in story:
        if isinstance(said, int):
            now += said
            effects = core.tick(now)
        else:
            effects = core.receive(link, said, now)
        for effect in effects:
            if isinstance(effect, fx.Connect):
                core.link_up(effect.link, now)
            elif isinstance(effect, fx.Send):
                m.decode(m.encode(effect.message))
            elif isinstance(effect, fx.Save):
                load(effect.text, Random(1)).check()
        core.view.check()
        assert core.view.nodes[myself.id] is myself and not myself.flags & 12
