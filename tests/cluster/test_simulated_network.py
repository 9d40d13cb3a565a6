"""The simulated network: bytes in order, and each way in which they don't get there."""

from functools import partial
from random import Random

import attrs
import pytest

from cluster.simulation.network import RETRIES, Attempt, End, Network
from cluster.simulation.timeline import START_MS, LocalClock, Timeline

ADDRESS = ("10.0.0.2", 1)


@attrs.define(eq=False)
class Person:
    """An owner that notes what comes to its ends."""

    place: str
    network: Network
    alive: bool = True
    end: End | None = None
    heard: list[object] = attrs.field(factory=list)

    def handle(self, action):
        if self.alive:
            action()

    def take(self, end: End) -> None:
        self.end = end
        end.on_data = self.heard.append
        end.on_end = lambda reason: self.heard.append(f"end: {reason}")

    def call(self) -> Attempt:
        return self.network.connect(
            self,
            ADDRESS,
            self.take,
            partial(self.heard.append, "refused"),
            partial(self.heard.append, "failed"),
        )


@pytest.fixture
def network() -> Network:
    network = Network(Timeline(), Random(1), min_delay=1, max_delay=50)
    network.places.update({"10.0.0.1": "a", ADDRESS[0]: "b"})
    return network


@pytest.fixture
def pair(network) -> tuple[Person, Person]:
    """Two that are connected."""
    a, b = Person("a", network), Person("b", network)
    network.listen(ADDRESS, b, b.take)
    a.call()
    run(network, 200)
    return a, b


def run(network: Network, ms: int) -> None:
    end = network.timeline.now + ms
    while network.timeline.step(end):
        pass


def numbers(count: int) -> list[bytes]:
    return [b"%d" % i for i in range(count)]


def test_pieces_arrive_in_order(network, pair):
    a, b = pair
    for piece in numbers(100):
        a.end.send(piece)
    b.end.send(b"back")
    run(network, 200)
    assert b.heard == numbers(100) and a.heard == [b"back"]


def test_pieces_may_arrive_in_parts(network, pair):
    a, b = pair
    network.chop = 1.0
    a.end.send(b"hello")
    run(network, 200)
    assert len(b.heard) == 2 and b"".join(b.heard) == b"hello"


def test_the_end_comes_after_what_was_sent(network, pair):
    a, b = pair
    a.end.send(b"last words")
    network.close_all(a)
    run(network, 200)
    assert b.heard == [b"last words", "end: closed by the other side"]
    assert network.ends == []


def test_nobody_is_told_of_an_end_that_it_made(network, pair):
    a, b = pair
    a.end.close()
    b.end.close()
    run(network, 200)
    assert a.heard == b.heard == []


def test_what_is_cut_off_arrives_once_it_is_mended(network, pair):
    a, b = pair
    network.cut("a", "b")
    for piece in numbers(5):
        a.end.send(piece)
    b.end.send(b"the other way")
    run(network, 10_000)
    assert b.heard == [] and a.heard == [b"the other way"]
    network.mend("a", "b")
    a.end.send(b"5")
    run(network, 1000)
    assert b.heard == numbers(6)


def test_a_broken_connection_loses_what_is_under_way(network, pair):
    a, b = pair
    a.end.send(b"lost")
    network.break_connection(a.end)
    run(network, 1000)
    assert a.heard == b.heard == ["end: connection reset by peer"]
    assert network.ends == []


def test_nobody_at_the_port_refuses(network):
    a = Person("a", network)
    a.call()
    run(network, 200)
    assert a.heard == ["refused"]


@pytest.mark.parametrize("fault", ["cut there", "cut back", "no power"])
def test_nobody_answers_and_it_is_tried_again(network, fault):
    a, b = Person("a", network), Person("b", network)
    network.listen(ADDRESS, b, b.take)
    if fault == "no power":
        network.lose_power(b)
        network.listen(ADDRESS, b, b.take)
    else:
        network.cut(*(("a", "b") if fault == "cut there" else ("b", "a")))
    a.call()
    run(network, 5000)
    assert a.heard == [] and a.end is None
    network.mend_all()
    network.regain_power("b")
    run(network, 5000)
    assert a.end is not None and b.end is not None


def test_nobody_ever_answers(network):
    a = Person("a", network)
    network.cut("a", "b")
    a.call()
    run(network, 5000 * RETRIES)
    assert a.heard == ["failed"]


def test_a_cancelled_attempt_says_nothing(network):
    a, b = Person("a", network), Person("b", network)
    network.listen(ADDRESS, b, b.take)
    for delay in range(100):
        attempt = a.call()
        run(network, delay)
        if a.end is not None:
            break
        attempt.cancel()
        run(network, 1000)
        assert a.heard == [] and network.ends == []
    assert delay > 1


def test_a_machine_without_power_is_silent_and_denies_when_it_is_back(network, pair):
    a, b = pair
    network.lose_power(b)
    a.end.send(b"hello?")
    run(network, 60_000)
    assert a.heard == []
    network.regain_power("b")
    run(network, 1000)
    assert a.heard == ["end: reset by a machine that was restarted"]
    assert network.ends == []


def test_keepalive_probes_notice_a_machine_without_power(network, pair):
    a, b = pair
    a.end.keepalive_ms = 2000
    network.lose_power(b)
    run(network, 1900)
    assert a.heard == []
    run(network, 1000)
    assert a.heard == ["end: no answer to keepalive probes"]


def test_events_of_one_moment_happen_as_planned_and_time_does_not_go_back():
    timeline, seen = Timeline(), []
    for i in range(3):
        timeline.after(5, partial(seen.append, i))
    timeline.at(0, partial(seen.append, "overdue"))
    while timeline.step(START_MS + 10):
        pass
    assert seen == ["overdue", 0, 1, 2] and timeline.elapsed == 10


@pytest.mark.parametrize("drift_ppm", [-1000, -7, 0, 1, 1000])
def test_a_clock_that_drifts_tells_when_its_time_will_have_come(drift_ppm):
    timeline = Timeline()
    clock = LocalClock(timeline, skew_ms=400, drift_ppm=drift_ppm)
    for target in range(START_MS, START_MS + 100_000, 997):
        moment = clock.when(target)
        timeline.now = moment
        assert clock.monotonic_ms() >= target
        timeline.now = moment - 2
        assert clock.monotonic_ms() < target
    assert clock.wall_ms() - clock.monotonic_ms() == 400
