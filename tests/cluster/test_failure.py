"""Suspicion, failure by majority, and whether the cluster is up."""

import re

import pytest
from core_network import Network

from cluster import effects as fx
from cluster import message as m
from cluster.view import LIGHT_PUBLISH

TIMEOUT = 2000


def cluster(shards: int = 3, replicas: int = 0, **options) -> Network:
    net = Network(shards * (1 + replicas), node_timeout=TIMEOUT, **options)
    net.form(shards, replicas)
    net.run(TIMEOUT)
    return net


def is_failed(net: Network, number: int):
    dead = net.hosts[number - 1]
    return lambda: all(
        host.core.view.nodes[dead.id].failed for host in net.hosts if host is not dead
    )


def test_a_killed_node_is_failed_in_a_few_milliseconds():
    net = cluster()
    net.kill(net.hosts[0])
    assert net.run_until(is_failed(net, 1)) <= 6
    assert sorted(who for who, _, _ in net.events("suspected")) == ["n2", "n3"]


def test_a_silent_node_is_failed_after_the_node_timeout():
    net = cluster()
    net.hosts[0].frozen = True
    took = net.run_until(is_failed(net, 1))
    assert TIMEOUT < took <= TIMEOUT * 2 + 200


def test_without_fast_reports_a_killed_node_takes_the_node_timeout_too():
    net = cluster(report_refused=False)
    net.kill(net.hosts[0])
    took = net.run_until(is_failed(net, 1))
    assert TIMEOUT < took <= TIMEOUT * 2 + 200


def test_a_quick_restart_goes_unpunished_without_fast_reports():
    net = cluster(report_refused=False)
    net.kill(net.hosts[0])
    net.run(500)
    net.restart(net.hosts[0])
    net.run(TIMEOUT * 2)
    assert net.events("suspected") == [] and net.hosts[0].core.view.ok


def test_a_node_that_never_answered_is_not_yet_dead():
    net = cluster()
    disks = [host.disk for host in net.hosts]
    for host in net.hosts:
        net.kill(host)
    net.run(1000)
    assert all(disks)
    for host in list(net.hosts[1:]):
        net.restart(host)
    net.run(1000)
    assert net.events("suspected") == [], "refused, but never heard of since the start"
    net.run_until(is_failed(net, 1))
    assert net.events("failed")


def test_a_minority_fails_nobody_and_is_down():
    net = cluster()
    for host in net.hosts[1:]:
        net.kill(host)
    net.run(TIMEOUT * 3)
    alone = net.hosts[0]
    assert net.events("failed") == [] and not alone.core.view.ok
    assert alone.core.view.suspects.keys() == {host.id for host in net.hosts[1:]}
    assert fx.Log("warning", "Cluster is currently down: I am part of a minority partition.") in (
        alone.effects
    )


def test_reports_of_replicas_do_not_count():
    net = cluster(2, 2)
    primary, other = net.hosts[:2]
    view = other.core.view
    net.kill(primary)
    net.run(3)
    assert len(view.suspects) == 1 and not view.nodes[primary.id].failed
    assert net.ask(other, fx.CountFailureReports(primary.id)) == 0


def test_reports_expire_after_two_node_timeouts():
    net = cluster()
    one, two, three = net.hosts
    link = one.core.view.nodes[two.id].inbound.id
    header = m.Header(two.id, slots=two.core.view.myself.slots, flags=1, config_epoch=2)
    report = m.Gossip(three.id, 0, 0, "10.0.0.3", 7003, 17003, 4)
    one.core.receive(link, m.Ping(m.PONG, header, (report,)), net.now)
    assert net.ask(one, fx.CountFailureReports(three.id)) == 1
    for host in (two, three):
        host.frozen = True
    net.run(TIMEOUT * 2)
    assert net.ask(one, fx.CountFailureReports(three.id)) == 1
    net.run(1)
    assert net.ask(one, fx.CountFailureReports(three.id)) == 0


def test_a_report_is_taken_back_when_the_node_is_seen_again():
    net = cluster(4)
    net.hosts[0].frozen = True
    view = net.hosts[1].core.view
    node = view.nodes[net.hosts[0].id]
    net.run_until(lambda: view.suspects)
    net.hosts[0].frozen = False
    net.run_until(lambda: not node.flags & 12 and not node.fail_reports, TIMEOUT * 6)


def test_failure_ends_when_a_replica_answers_again():
    net = cluster(3, 1)
    net.kill(net.hosts[5])
    net.run_until(is_failed(net, 6))
    net.restart(net.hosts[5])
    net.run_until(lambda: len(net.events("recovered")) >= 5)
    assert all("fail" not in host.core.view.nodes_text() for host in net.hosts)


def test_failure_of_a_primary_ends_when_nobody_took_its_place():
    net = cluster(3, 1, replica_no_failover=True)
    net.kill(net.hosts[0])
    net.run_until(is_failed(net, 1))
    failed_at = net.now
    net.restart(net.hosts[0])
    net.run_until(lambda: all(host.core.view.ok for host in net.hosts))
    assert TIMEOUT * 2 < net.now - failed_at < TIMEOUT * 3 + 200


def test_failure_of_a_primary_that_nobody_could_replace_ends_when_it_answers():
    net = cluster()
    net.kill(net.hosts[0])
    net.run_until(is_failed(net, 1))
    net.restart(net.hosts[0])
    assert net.run_until(lambda: all(host.core.view.ok for host in net.hosts)) < TIMEOUT


def test_a_failure_seen_while_all_were_stopped_ends_with_the_restart():
    net = cluster(3, 1)
    first, *_, last = net.hosts
    for host in list(net.hosts):
        net.kill(host)
    last.disk = re.sub(rf"^({first.id} .*) master ", r"\1 master,fail ", last.disk, flags=re.M)
    for host in list(net.hosts):
        net.restart(host)
    assert net.run_until(lambda: all(host.core.view.ok for host in net.hosts)) < TIMEOUT
    assert [(who, whom) for who, whom, _ in net.events("recovered")] == [("n6", "n1")]
    assert not net.events("promoted")


def test_an_uncovered_slot_stops_the_cluster_unless_it_may_be():
    for full, ok in ((True, False), (False, True)):
        net = cluster(require_full_coverage=full)
        net.kill(net.hosts[0])
        net.run_until(is_failed(net, 1))
        assert [host.core.view.ok for host in net.hosts[1:]] == [ok, ok]


def test_a_fresh_cluster_is_up_without_waiting():
    net = Network(6, node_timeout=15000)
    net.form(3, 1)
    assert net.now - 1_700_000_000_000 < 100


def test_a_restarted_primary_waits_for_news_two_seconds_or_till_all_have_answered():
    net = cluster(3, 1, report_refused=False)
    primary = net.hosts[0]
    net.kill(primary)
    primary = net.restart(primary)
    assert net.run_until(lambda: primary.core.view.ok) < 100, "all the others are there"
    net.kill(net.hosts[5])
    net.run(1000)
    net.kill(primary)
    primary = net.restart(primary)
    assert 1900 <= net.run_until(lambda: primary.core.view.ok) <= 2100, "one can't answer"


def test_a_primary_back_from_a_minority_waits_for_news():
    net = cluster(report_refused=False)
    alone, *others = net.hosts
    for host in others:
        host.frozen = True
    net.run_until(lambda: not alone.core.view.ok)
    for host in others:
        host.frozen = False
    reached = net.run_until(lambda: not alone.core.view.suspects)
    assert reached < 1000
    assert TIMEOUT - 200 <= net.run_until(lambda: alone.core.view.ok) <= TIMEOUT + 200


@pytest.mark.parametrize("kind", ["cluster_slots_fail", "cluster_nodes_fail"])
def test_cluster_info_counts_what_failed(kind):
    net = cluster()
    net.kill(net.hosts[0])
    net.run_until(is_failed(net, 1))
    info = dict(net.hosts[1].core.view.info())
    assert info["cluster_state"] == "fail"
    assert info[kind] == {"cluster_slots_fail": 5461, "cluster_nodes_fail": 1}[kind]
    assert info["cluster_slots_ok"] == 16384 - 5461 and info["cluster_size"] == 3


def test_a_primary_that_was_stopped_is_down_until_it_could_be_told_news():
    net = cluster()
    stopped = net.hosts[0]
    stopped.frozen = True
    net.run(TIMEOUT + 200)
    stopped.frozen = False
    net.run_until(lambda: not stopped.core.view.ok, 100)
    assert net.run_until(lambda: stopped.core.view.ok) >= TIMEOUT - 100


def test_a_second_failover_of_redis_7_0_is_not_hurried():
    """Its replica would count the votes of the last election again; see Failure.refused."""
    net = cluster(3, 1)
    primary, replica = net.hosts[0], net.hosts[3]
    voters = net.hosts[1:3]
    for voter in voters:
        node = voter.core.view.nodes[replica.id]
        assert node.primary is voter.core.view.nodes[primary.id]
        node.voted_at = net.now
        node.flags &= ~LIGHT_PUBLISH  # as a node of Redis 7.0 says of itself
    for voter in voters:
        failure = voter.core._failure
        failure.desk.now = net.now
        failure.refused(voter.core.view.nodes[primary.id])
        assert not voter.core.view.nodes[primary.id].suspected
        failure.desk.now += 2 * TIMEOUT
        failure.refused(voter.core.view.nodes[primary.id])
        assert voter.core.view.nodes[primary.id].suspected
