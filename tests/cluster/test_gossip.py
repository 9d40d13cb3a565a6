"""Meeting, links, pings and gossip, among cores in a virtual network."""

import pytest
from core_network import START, Host, Network

from cluster import effects as fx
from cluster import message as m
from cluster.effects import ClusterError


def meet(net: Network, host: Host, other: Host) -> None:
    net.ask(host, fx.Meet(f"10.0.0.{other.number}", 7000 + other.number, 17000 + other.number))


def two(**options) -> tuple[Network, Host, Host]:
    net = Network(2, **options)
    one, other = net.hosts
    meet(net, one, other)
    net.run_until(lambda: all(net.knows_all(host, 2) for host in net.hosts))
    return net, one, other


def pings_of(host: Host, kind: int = m.PING) -> list[m.Ping]:
    return [
        effect.message
        for effect in host.effects
        if isinstance(effect, fx.Send) and effect.message.kind == kind
    ]


def test_two_nodes_meet():
    net = Network(2)
    net.trace = []
    meet(net, *net.hosts)
    net.run(50)
    net.check_transcript("meet")
    one, other = net.hosts
    assert one.core.view.nodes.keys() == other.core.view.nodes.keys()
    assert (one.core.view.myself.ip, other.core.view.myself.ip) == ("10.0.0.1", "10.0.0.2")


def test_gossip_introduces_the_rest_at_once():
    net = Network(6)
    for other in net.hosts[1:]:
        meet(net, net.hosts[0], other)
    took = net.run_until(lambda: all(net.knows_all(host, 6) for host in net.hosts))
    assert took < 100


def test_one_can_meet_oneself_without_harm():
    net, one, _ = two()
    meet(net, one, one)
    net.run(50)
    assert net.knows_all(one, 2)


def test_a_handshake_with_nobody_times_out():
    net = Network(1, node_timeout=2000)
    host = net.hosts[0]
    net.ask(host, fx.Meet("10.0.0.9", 7009, 17009))
    net.run(1900)
    assert "handshake" in host.core.view.nodes_text()
    net.run(400)
    assert len(host.core.view.nodes) == 1
    assert fx.Log("warning", "Clusterbus handshake timeout 10.0.0.9:17009") in host.effects


@pytest.mark.parametrize(
    ("ip", "port", "bus_port"),
    [("localhost", 7000, 17000), ("10.0.0.1", 0, 17000), ("10.0.0.1", 7000, 65536), ("", 1, 2)],
)
def test_a_wrong_address_is_refused(ip, port, bus_port):
    net = Network(1)
    with pytest.raises(ClusterError, match=f"ERR Invalid node address specified: {ip}:{port}"):
        net.ask(net.hosts[0], fx.Meet(ip, port, bus_port))


def test_a_node_is_pinged_once_a_second_when_there_is_only_one():
    net, one, _ = two()
    before = len(pings_of(one))
    net.run(10_000)
    assert 8 <= len(pings_of(one)) - before <= 11


def test_the_interval_between_pings_can_be_set():
    net, one, _ = two()
    one.core.options.ping_interval = 100
    before = len(pings_of(one))
    net.run(2000)
    assert 15 <= len(pings_of(one)) - before <= 21


def test_every_node_is_pinged_within_half_the_node_timeout():
    net = Network(12, node_timeout=2000)
    net.form(3, 3)
    net.run(1000)
    for _ in range(20):
        net.run(100)
        for host in net.hosts:
            for node in host.core.view.others():
                assert net.now - max(node.pong_received, node.ping_sent) <= 1200


def test_a_ping_tells_of_three_nodes_or_a_tenth_and_of_all_in_doubt():
    net = Network(50)
    for other in net.hosts[1:]:
        meet(net, net.hosts[0], other)
    host = net.hosts[0]
    net.run_until(lambda: net.knows_all(host, 50))
    host.effects.clear()
    net.run(1000)
    assert {len(ping.gossip) for ping in pings_of(host)} == {5}
    for node in host.core.view.order[10:17]:
        host.core.view.set_flags(node, add=4)
    host.effects.clear()
    net.run(100)
    doubted = set(host.core.view.suspects)
    for ping in pings_of(host):
        assert doubted <= {entry.node_id for entry in ping.gossip}


def test_small_clusters_gossip_about_whom_there_is():
    net, one, _ = two()
    net.run(3000)
    assert {len(ping.gossip) for ping in pings_of(one)} == {0}


def test_a_broken_link_is_opened_again_at_once():
    net, one, other = two()
    net.run(2000)
    link = one.core.view.nodes[other.id].link
    net._hang_up(other, one.links[link.id][1])
    took = net.run_until(
        lambda: (
            one.core.view.nodes[other.id].connected
            and one.core.view.nodes[other.id].link is not link
        )
    )
    assert took == 2 * net.delay


def test_a_link_that_keeps_breaking_is_not_opened_more_than_ten_times_a_second():
    net, one, other = two()
    net.run(2000)
    one.effects.clear()
    for _ in range(100):
        net.run(10)
        node = one.core.view.nodes[other.id]
        if node.connected and node.link.id in one.links:
            net._hang_up(other, one.links[node.link.id][1])
    assert len([e for e in one.effects if isinstance(e, fx.Connect)]) <= 11


def test_names_ports_and_shard_travel_with_pings():
    net, one, other = two()
    one.core.options.hostname, one.core.options.human_name = "one.example", "first"
    one.core.options.port = 7777
    net.run(2500)
    seen = other.core.view.nodes[one.id]
    assert (seen.hostname, seen.human_name, seen.port) == ("one.example", "first", 7777)
    assert seen.shard_id == one.core.view.myself.shard_id
    assert "10.0.0.1:7777@17001,one.example master" in other.core.view.nodes_text()


def test_a_forgotten_node_stays_away_for_a_minute_and_everybody_forgets_it():
    net = Network(3)
    net.form(3, 0)
    one, two_, three = net.hosts
    net.kill(three)
    net.ask(one, fx.Forget(three.id))
    net.run(10_000)
    assert three.id not in one.core.view.nodes and three.id not in two_.core.view.nodes
    assert net.ask(one, fx.Forget(three.id)) is None, "forgotten already"
    net.run(51_000)
    with pytest.raises(ClusterError, match="Unknown node"):
        net.ask(one, fx.Forget(three.id))


def test_what_may_not_be_forgotten():
    net = Network(2)
    net.form(1, 1)
    primary, replica = net.hosts
    for host, node_id, error in [
        (primary, "f" * 40, f"ERR Unknown node {'f' * 40}"),
        (primary, primary.id, "ERR I tried hard but I can't forget myself..."),
        (replica, primary.id, "ERR Can't forget my master!"),
    ]:
        with pytest.raises(ClusterError) as refused:
            net.ask(host, fx.Forget(node_id))
        assert str(refused.value) == error


def test_a_forgotten_node_can_be_met_again():
    net, one, other = two()
    net.ask(one, fx.Forget(other.id))
    net.run(10)
    meet(net, one, other)
    net.run(3000)
    assert net.knows_all(one, 2) and net.knows_all(other, 2)


def test_a_node_with_a_new_id_is_no_longer_where_the_old_one_was():
    net, one, other = two(node_timeout=1000)
    old = other.id
    net.ask(other, fx.Reset(hard=True))
    net.run(1500)
    assert other.id != old
    lost = one.core.view.nodes[old]
    assert "noaddr" in lost.flag_words and lost.failed and lost.ip == ""


def test_a_node_that_has_lost_its_view_is_met_again():
    net, _, other = two(node_timeout=1000)
    net.ask(other, fx.Reset(hard=False))
    assert len(other.core.view.nodes) == 1
    took = net.run_until(lambda: net.knows_all(other, 2))
    assert 1000 <= took <= 1500


def test_a_restarted_node_finds_its_cluster_from_its_file():
    net = Network(3, node_timeout=1000)
    net.form(3, 0)
    net.run(500)
    host = net.hosts[1]
    net.kill(host)
    fresh = net.restart(host)
    assert net.run_until(lambda: net.agrees(fresh)) < 500
    assert net.now - START < 2000


def test_gossip_from_strangers_counts_for_nothing():
    net, one, other = two()
    number = one.core.accept("10.9.9.9", "10.0.0.1", net.now)
    stranger = m.Header("e" * 40, current_epoch=99, config_epoch=99, slots=1, port=1, bus_port=2)
    entry = m.Gossip(other.id, 0, 0, "10.6.6.6", 1, 2, 8)
    for message in (
        m.Ping(m.PING, stranger, (entry,)),
        m.Fail(stranger, other.id),
        m.AuthRequest(stranger),
        m.Update(stranger, other.id, 100, 1),
        m.Publish(stranger, b"c", b"p"),
    ):
        one.core.receive(number, message, net.now)
    view = one.core.view
    assert view.current_epoch < 99 and not view.nodes[other.id].failed and view.owner[0] is None
    assert "e" * 40 not in view.nodes and view.nodes[other.id].ip == "10.0.0.2"
    assert not any(isinstance(effect, fx.Deliver) for effect in one.effects)


def test_a_light_message_before_any_other_ends_the_link():
    net, one, _ = two()
    number = one.core.accept("10.9.9.9", "10.0.0.1", net.now)
    effects = one.core.receive(number, m.Publish(None, b"c", b"p"), net.now)
    assert effects == [fx.Close(number)]
    assert one.core.receive(number, m.Publish(None, b"c", b"p"), net.now) == []


def test_a_publish_reaches_every_node_and_a_sharded_one_the_shard():
    net = Network(4)
    net.form(2, 1)
    one = net.hosts[0]
    net.ask(one, fx.PublishAll(b"news", b"all"))
    net.ask(one, fx.PublishAll(b"news", b"mine", sharded=True))
    net.run(10)
    heard = {
        host.name: [e.payload for e in host.effects if isinstance(e, fx.Deliver)]
        for host in net.hosts
    }
    assert heard == {"n1": [], "n2": [b"all"], "n3": [b"all", b"mine"], "n4": [b"all"]}
    sent = [e.message.header for e in one.effects if isinstance(e, fx.Send) and e.message.kind == 4]
    assert sent == [None] * 3, "light, since all of them read it"
