"""A short run of random commands beside a real server; scripts/compare makes long ones."""

import socket

import pytest
from fuzz.match import Match, shown
from fuzz.replies import Peer
from fuzz.steps import Seed, Step, seed_of

SEEDS = range(1, 31)


@pytest.fixture
def match(our_server, valkey_server):
    servers = our_server("--save", ""), valkey_server()
    peers = [
        Peer(name, socket.create_connection(("127.0.0.1", server.port), 10))
        for name, server in zip(("our", "real") * 2, servers * 2, strict=True)
    ]
    yield Match(*peers)
    for peer in peers:
        peer.close()


def test_random_commands_are_answered_alike(match):
    for number in SEEDS:
        seed = seed_of(number, 150)
        difference = match.play(seed, seed.steps)
        if difference is not None:
            pytest.fail("\n".join(shown(*match.shorten(seed, difference))))


def test_the_same_seed_sends_the_same():
    assert seed_of(7, 100) == seed_of(7, 100)
    assert seed_of(7, 100) != seed_of(8, 100)


def test_a_difference_is_found_and_made_short(match):
    """Our server is told to push at the other end; two steps are enough to show it."""
    asked = match.ours.ask
    match.ours.ask = lambda commands: asked(
        [("RPUSH", *words[1:]) if words[0] == "LPUSH" else words for words in commands]
    )
    push, noise = Step((("LPUSH", "l1", "a", "b"),)), Step((("SET", "s1", "1"),))
    seed = Seed(0, 2, (noise, noise, push, noise, Step((("LRANGE", "l1", "0", "-1"),)), noise))
    found = match.play(seed, seed.steps)
    assert found is not None and found.command[0] == "LRANGE"
    short, again = match.shorten(seed, found)
    assert short.steps == (push, seed.steps[4])
    assert again.command == found.command
