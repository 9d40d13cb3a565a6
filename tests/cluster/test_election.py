"""Elections: who stands, when, who votes, and what happens when nobody does."""

import pytest
from core_network import Host, Network

from cluster import effects as fx
from cluster import message as m
from cluster.effects import ClusterError
from cluster.slots import EVERY_SLOT

TIMEOUT = 1000


def cluster(shards: int = 3, replicas: int = 1, **options) -> Network:
    net = Network(shards * (1 + replicas), node_timeout=TIMEOUT, **options)
    net.form(shards, replicas)
    net.run(TIMEOUT)
    return net


def is_primary(host: Host):
    return lambda: host.core.view.myself.is_primary


def logged(host: Host) -> str:
    return "\n".join(e.text for e in host.effects if isinstance(e, fx.Log))


def test_a_killed_primary_is_replaced_at_once():
    net = cluster()
    for host in net.hosts:
        host.effects.clear()
    net.trace = []
    net.kill(net.hosts[0])
    net.run(20)
    net.check_transcript("election")
    assert net.events("promoted") == [("n4", "n4", "4")]
    assert sorted(net.events("vote")) == [("n2", "n4", "4"), ("n3", "n4", "4")]
    assert all(host.core.view.ok for host in net.hosts[1:])


def test_nothing_is_said_of_a_vote_before_it_is_saved():
    net = cluster()
    for host in net.hosts:
        host.effects.clear()
    net.kill(net.hosts[0])
    net.run(20)
    for host in net.hosts[1:]:
        for at, effect in enumerate(host.effects):
            if isinstance(effect, fx.Send) and effect.message.kind in (m.AUTH_ACK, m.AUTH_REQUEST):
                saved = [e for e in host.effects[:at] if isinstance(e, fx.Save)][-1]
                epoch = effect.message.header.current_epoch
                assert saved.sync and f"currentEpoch {epoch}" in saved.text
                if effect.message.kind == m.AUTH_ACK:
                    assert f"lastVoteEpoch {epoch}" in saved.text


def test_the_failure_goes_before_each_request_on_its_link():
    net = cluster()
    candidate = net.hosts[3]
    candidate.effects.clear()
    net.kill(net.hosts[0])
    net.run(20)
    sent = [e for e in candidate.effects if isinstance(e, fx.Send)]
    requests = [e.link for e in sent if e.message.kind == m.AUTH_REQUEST]
    assert len(requests) == 4
    for link in requests:
        kinds = [e.message.kind for e in sent if e.link == link]
        assert m.FAIL in kinds[: kinds.index(m.AUTH_REQUEST)]


def test_the_replica_with_most_data_goes_first():
    net = cluster(3, 2)
    rivals = [net.hosts[3], net.hosts[6]]
    for host, offset in zip(rivals, (100, 101), strict=True):
        host.core.facts.offset = offset
    net.run(1500)
    net.kill(net.hosts[0])
    took = net.run_until(is_primary(rivals[1]))
    assert took < 20, (
        "its sibling holds the primary for failed too, so there is nothing to wait for"
    )
    net.run(3000)
    assert [who for who, _, _ in net.events("promoted")] == ["n7"]
    assert rivals[0].following == rivals[1].id
    assert "Replica rank" not in logged(rivals[1])


def test_a_replica_waits_while_a_sibling_might_have_more():
    net = cluster(3, 2)
    rivals = [net.hosts[3], net.hosts[6]]
    rivals[1].frozen = True
    net.run(200)
    net.kill(net.hosts[0])
    took = net.run_until(is_primary(rivals[0]))
    assert 500 <= took <= 3100
    assert "Start of election delayed for" in logged(rivals[0])
    assert "best ranked replica" not in logged(rivals[0])


def test_shards_that_fail_together_are_replaced_one_after_the_other():
    net = cluster(5, 1)
    net.kill(net.hosts[0])
    net.kill(net.hosts[1])
    net.run_until(lambda: is_primary(net.hosts[5])() and is_primary(net.hosts[6])(), 8000)
    epochs = [epoch for _, _, epoch in net.events("promoted")]
    assert len(set(epochs)) == 2
    net.run(500)
    assert all(host.core.view.ok for host in net.hosts[2:])


def test_without_a_majority_there_is_no_election_won_and_it_is_tried_again():
    net = cluster()
    candidate = net.hosts[3]
    net.hosts[1].frozen = net.hosts[2].frozen = True
    link = candidate.core.view.nodes[net.hosts[1].id].inbound.id
    sender = net.hosts[1].core.view.myself
    header = m.Header(sender.id, current_epoch=3, config_epoch=2, slots=sender.slots, flags=1)
    net.kill(net.hosts[0])
    net.carry_out(candidate, candidate.core.receive(link, m.Fail(header, net.hosts[0].id), net.now))
    started = net.now
    net.run(9000)
    elections = [epoch for who, _, epoch in net.events("election") if who == "n4"]
    assert elections == ["4", "5", "6"], "asked, and again after four seconds each"
    assert net.now - started == 9000 and not candidate.core.view.myself.is_primary
    assert "Failover attempt expired." in logged(candidate)
    assert "Needed quorum: 2. Number of votes received so far: 0" in logged(candidate)


@pytest.mark.parametrize(
    ("age", "factor", "stands"),
    [(0, 10, True), (None, 10, False), (None, 0, True), (21_000, 10, True), (22_000, 10, False)],
)
def test_data_must_be_young_enough(age, factor, stands):
    net = cluster()
    candidate = net.hosts[3]
    candidate.core.facts.data_age = age
    candidate.core.options.replica_validity_factor = factor
    net.kill(net.hosts[0])
    net.run(50)
    assert candidate.core.view.myself.is_primary is stands
    if not stands:
        assert "Disconnected from primary for longer than allowed" in logged(candidate)


def test_a_replica_that_is_not_to_fail_over_does_not():
    net = cluster(3, 2)
    net.hosts[3].core.options.replica_no_failover = True
    net.hosts[3].core.facts.offset = 1000
    net.run(1500)
    assert "slave,nofailover" in net.hosts[0].core.view.nodes_text()
    net.kill(net.hosts[0])
    assert net.run_until(is_primary(net.hosts[6])) < 20


def voter_and_request(**changes) -> tuple[Network, Host, int, m.AuthRequest]:
    """A voter, and the request of the replica of a primary that has failed for it."""
    net = cluster()
    voter, candidate = net.hosts[1], net.hosts[3]
    view = voter.core.view
    view.set_flags(view.nodes[net.hosts[0].id], add=8)
    fields = {
        "current_epoch": 4,
        "config_epoch": 1,
        "slots": net.hosts[0].core.view.myself.slots,
        "primary": net.hosts[0].id,
        "flags": 2,
    } | changes
    request = m.AuthRequest(m.Header(candidate.id, **fields))
    return net, voter, view.nodes[candidate.id].inbound.id, request


def answers(effects: list[fx.Effect]) -> list[int]:
    return [e.message.kind for e in effects if isinstance(e, fx.Send)]


def test_a_voter_votes_once_in_an_epoch():
    net, voter, link, request = voter_and_request()
    assert answers(voter.core.receive(link, request, net.now)) == [m.AUTH_ACK]
    again = voter.core.receive(link, request, net.now)
    assert answers(again) == []
    assert "already voted for epoch 4" in again[0].text


def test_a_vote_outlives_a_restart():
    net, voter, link, request = voter_and_request()
    net.carry_out(voter, voter.core.receive(link, request, net.now))
    net.kill(voter)
    voter = net.restart(voter)
    assert voter.core.view.last_vote_epoch == 4
    net.run(300)
    link = voter.core.view.nodes[request.header.sender].inbound.id
    effects = voter.core.receive(link, request, net.now)
    assert answers(effects) == [] and "already voted" in effects[0].text


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"current_epoch": 2}, "reqEpoch (2) < curEpoch(3)"),
        ({"slots": EVERY_SLOT}, "slot 5461 epoch (2) > reqConfigEpoch (1)"),
    ],
)
def test_why_a_vote_is_refused(changes, why):
    net, voter, link, request = voter_and_request(**changes)
    effects = voter.core.receive(link, request, net.now)
    assert answers(effects) == [] and why in effects[0].text
    assert voter.core.view.last_vote_epoch == 0


def test_no_vote_against_a_primary_that_is_up_unless_it_agreed():
    net, voter, link, request = voter_and_request()
    voter.core.view.set_flags(voter.core.view.nodes[net.hosts[0].id], remove=8)
    effects = voter.core.receive(link, request, net.now)
    assert "its primary is up" in effects[0].text and answers(effects) == []
    net, voter, link, request = voter_and_request(message_flags=m.FORCE_ACK)
    voter.core.view.set_flags(voter.core.view.nodes[net.hosts[0].id], remove=8)
    assert answers(voter.core.receive(link, request, net.now)) == [m.AUTH_ACK]


def test_no_vote_for_a_primary_nor_for_a_stranger_s_replica():
    net, voter, _, request = voter_and_request()
    view = voter.core.view
    other = view.nodes[net.hosts[2].id]
    header = m.Header(other.id, current_epoch=5, config_epoch=9, slots=1)
    effects = voter.core.receive(other.inbound.id, m.AuthRequest(header), net.now)
    assert any("it is a primary node" in e.text for e in effects if isinstance(e, fx.Log))
    candidate = view.nodes[request.header.sender]
    view.set_primary_of(candidate, None)
    effects = voter.core.receive(candidate.inbound.id, request, net.now)
    assert answers(effects) == []


def test_replicas_and_empty_primaries_do_not_vote():
    net, _, _, request = voter_and_request()
    replica = net.hosts[4]
    link = replica.core.view.nodes[request.header.sender].inbound.id
    assert replica.core.receive(link, request, net.now) == []


def test_a_vote_that_comes_twice_counts_once():
    net = cluster(5, 1)
    candidate = net.hosts[5]
    for host in net.hosts[1:5]:
        host.frozen = True
    view = candidate.core.view
    net.kill(net.hosts[0])
    failed = net.hosts[0].id
    voters = [view.nodes[host.id] for host in net.hosts[1:4]]

    def say(voter, message):
        net.carry_out(candidate, candidate.core.receive(voter.inbound.id, message, net.now))

    def header(voter, epoch):
        return m.Header(voter.id, epoch, voter.config_epoch, 0, voter.slots, flags=1)

    epoch = view.current_epoch + 1
    say(voters[0], m.Fail(header(voters[0], epoch - 1), failed))
    assert net.events("election") == [("n6", "n6", str(epoch))]
    for _ in range(3):
        say(voters[0], m.AuthAck(header(voters[0], epoch)))
    say(voters[1], m.AuthAck(header(voters[1], epoch - 1)))
    assert not view.myself.is_primary, "one vote three times, and one of an older epoch"
    say(voters[1], m.AuthAck(header(voters[1], epoch)))
    assert not view.myself.is_primary
    say(voters[2], m.AuthAck(header(voters[2], epoch)))
    assert view.myself.is_primary and view.myself.config_epoch == epoch


def test_a_claim_with_a_greater_epoch_ends_an_election():
    net = cluster()
    candidate = net.hosts[3]
    net.hosts[1].frozen = net.hosts[2].frozen = True
    other = candidate.core.view.nodes[net.hosts[1].id]
    header = m.Header(other.id, 3, other.config_epoch, 0, other.slots, flags=1)
    net.kill(net.hosts[0])
    fail = m.Fail(header, net.hosts[0].id)
    net.carry_out(candidate, candidate.core.receive(other.inbound.id, fail, net.now))
    claim = m.Header(other.id, 7, 7, 0, other.slots, flags=1)
    net.carry_out(
        candidate, candidate.core.receive(other.inbound.id, m.Ping(m.PONG, claim), net.now)
    )
    assert [epoch for _, _, epoch in net.events("election")] == ["4", "8"]
    assert "cannot win an election in the past" in logged(candidate)


# ---- by hand


def test_a_failover_by_hand_loses_nothing():
    net = cluster()
    primary, replica = net.hosts[0], net.hosts[3]
    primary.core.facts.offset, replica.core.facts.offset = 500, 400
    net.ask(replica, fx.Failover())
    net.run(100)
    assert any(isinstance(e, fx.Pause) for e in primary.effects)
    assert not replica.core.view.myself.is_primary, "it hasn't got everything yet"
    replica.core.facts.offset = 500
    assert net.run_until(is_primary(replica)) <= 20
    net.run(50)
    assert primary.following == replica.id
    assert any(isinstance(e, fx.Resume) for e in primary.effects)
    assert all(net.agrees(host) for host in net.hosts)


def test_a_failover_by_hand_times_out():
    net = cluster()
    primary, replica = net.hosts[0], net.hosts[3]
    primary.core.facts.offset = 500
    net.ask(replica, fx.Failover())
    net.run(5200)
    assert "Manual failover timed out." in logged(replica)
    assert "Manual failover timed out." in logged(primary)
    assert any(isinstance(e, fx.Resume) for e in primary.effects)
    assert primary.core.view.myself.is_primary


def test_a_forced_failover_needs_no_primary_but_votes():
    net = cluster()
    replica = net.hosts[3]
    net.hosts[0].frozen = True
    replica.core.facts.data_age = None
    net.ask(replica, fx.Failover("FORCE"))
    assert net.run_until(is_primary(replica)) <= 10


def test_a_takeover_needs_nobody():
    net = cluster()
    for host in net.hosts[:3]:
        host.frozen = True
    net.ask(net.hosts[3], fx.Failover("TAKEOVER"))
    myself = net.hosts[3].core.view.myself
    assert myself.is_primary and myself.config_epoch == 4
    for host in net.hosts[:3]:
        host.frozen = False
    net.run_until(lambda: net.hosts[0].following == net.hosts[3].id)


def test_when_a_failover_by_hand_is_refused():
    net = cluster()
    with pytest.raises(ClusterError, match="You should send CLUSTER FAILOVER to a replica"):
        net.ask(net.hosts[0], fx.Failover())
    net.hosts[3].core.options.replica_no_failover = True
    net.kill(net.hosts[0])
    net.run(10)
    with pytest.raises(ClusterError, match="Master is down or failed, please use CLUSTER FAILOVER"):
        net.ask(net.hosts[3], fx.Failover())
