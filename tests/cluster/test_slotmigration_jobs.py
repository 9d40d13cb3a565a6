"""One migration as either side sees it, what is sent of the log, what a keyspace hides."""

import itertools
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.slotmigration import jobs
from cluster.slotmigration.jobs import EXPORT, IMPORT, Job, JobFailure, Jobs
from cluster.slotmigration.tail import Tail
from cluster.slots import key_slot
from node.clock import VirtualClock
from node.config import Config
from node.data.keyspace import STRING, Keyspace
from node.node import Node
from node.resp import RequestParser, encode_request

NAMES = itertools.count()


def job(operation: str, state: str, *ranges: tuple[int, int]) -> Job:
    return Job(f"{next(NAMES):040x}", operation, ranges or ((0, 9),), "s", "t", state, 100)


@pytest.mark.parametrize(
    ("operation", "state", "word", "after"),
    [
        (IMPORT, jobs.WAITING_FOR_ACK, "ACK", jobs.RECEIVING),
        (IMPORT, jobs.RECEIVING, "ACK", jobs.RECEIVING),
        (IMPORT, jobs.RECEIVING, "SNAPSHOT-EOF", jobs.WAITING_FOR_PAUSED),
        (EXPORT, jobs.REPLICATING, "REQUEST-PAUSE", jobs.WAITING_TO_PAUSE),
        (IMPORT, jobs.WAITING_FOR_PAUSED, "PAUSED", jobs.FAILOVER_REQUESTED),
        (EXPORT, jobs.PAUSED, "REQUEST-FAILOVER", jobs.GRANTED),
        (IMPORT, jobs.FAILOVER_REQUESTED, "FAILOVER-GRANTED", jobs.GRANTED),
        (EXPORT, jobs.PAUSED, "CAPA", jobs.PAUSED),
    ],
)
def test_words_lead_on(operation, state, word, after):
    assert job(operation, state).hear(word) == after


EVERY_STATE = [
    *(jobs.CONNECTING, jobs.READING_ESTABLISH, jobs.WAITING_TO_SNAPSHOT, jobs.SNAPSHOTTING),
    *(jobs.REPLICATING, jobs.WAITING_TO_PAUSE, jobs.PAUSED, jobs.GRANTED, jobs.WAITING_FOR_ACK),
    *(jobs.RECEIVING, jobs.WAITING_FOR_PAUSED, jobs.FAILOVER_REQUESTED),
]


@given(
    st.sampled_from([EXPORT, IMPORT]),
    st.sampled_from(EVERY_STATE),
    st.sampled_from([*sorted(jobs.WORDS), "ACK", "CAPA", "WHATEVER"]),
)
def test_every_other_word_fails_it(operation, state, word):
    one = job(operation, state)
    try:
        after = one.hear(word)
    except JobFailure as failure:
        assert str(failure) == (jobs.UNKNOWN_WORD if word == "WHATEVER" else jobs.UNEXPECTED)
    else:
        assert after == state or word in jobs.WORDS or state == jobs.WAITING_FOR_ACK
    assert one.state == state


def test_jobs_know_what_is_busy_and_forget_the_oldest():
    known = Jobs()
    old = [job(EXPORT, jobs.SUCCESS) for _ in range(3)]
    going = job(EXPORT, jobs.REPLICATING, (5, 6), (9, 9))
    cleaning = job(IMPORT, jobs.CLEANING_UP, (20, 20))
    for one in (*old, going, cleaning):
        known.add(one)
    assert (known.busy(EXPORT), known.busy(IMPORT)) == (0b1001100000, 1 << 20)
    assert known.under_way(IMPORT) == [] and known.unfinished(IMPORT) == [cleaning]
    known.trim(3)
    assert list(known) == [cleaning, going, old[2]]
    known.trim(0)
    assert list(known) == [cleaning, going]
    assert known.find(going.name) is going and known.find(old[0].name) is None


def hiding_keyspace() -> tuple[Keyspace, bytes, bytes]:
    """A keyspace with a key in a hidden part and one elsewhere; both are due at 50."""
    keyspace = Keyspace(2, key_slot, Random(1), now_ms=10)
    for key in (b"come", b"here"):
        keyspace[0].put(key, b"1")
        keyspace[0].expires.arm(key, 50)
    keyspace.hide([key_slot(b"come")])
    return keyspace, b"come", b"here"


def test_a_hidden_part_seems_empty():
    keyspace, _, here = hiding_keyspace()
    db = keyspace[0]
    assert len(db) == 1 and list(db) == [here] and db.random_key() == here
    assert db.scan(0, 10**6) == (0, [here])
    assert not db.keys_of_part(key_slot(b"come"))
    db.check()
    keyspace.hide([])
    assert len(db) == 2 and sorted(db) == [b"come", b"here"]


def test_nothing_expires_in_a_hidden_part_until_it_is_shown():
    keyspace, come, here = hiding_keyspace()
    db = keyspace[0]
    keyspace.now_ms = 60
    for key in db.expires.due(60):
        db.expire_now(key)
    assert db.get(come) == b"1" and db.get(here) is None
    db.touch(come, b"set", STRING)
    keyspace.hide([])
    assert list(db.expires.due(60)) == [come]
    assert db.get(come) is None
    db.check()


class ByHand:
    """A node in this process that is its own client."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.node = Node(Config(), self.clock, Random(1))
        self.session = self.node.session()

    def call(self, line: str) -> None:
        self.node.begin_turn()
        self.session.receive(encode_request(line.encode().split()))
        assert b"-ERR" not in self.session.take_output()
        self.node.end_turn()


def test_of_the_log_only_what_concerns_the_slots_is_sent():
    one = ByHand()
    one.call("SET {a}before 1")
    tail = Tail(one.node, 1 << key_slot(b"a"))
    for line in (
        *("SET {a}k 1 PX 1000", "SET b 1", "MSET {a}x 1 {a}y 2", "PUBLISH a b", "GET {a}k"),
        *(
            "SELECT 3",
            "SET b 2",
            "MULTI",
            "INCR {a}n",
            "INCR b",
            "EXEC",
            "SELECT 0",
            "RPUSH {a}l z",
        ),
        *("EVAL return{redis.call('incr',KEYS[1])} 1 {a}n", "XADD {a}s 1-1 f v"),
        *("XGROUP CREATE {a}s g $", "PFADD {a}h x"),
    ):
        one.call(line)
    one.clock.advance(2000)
    one.node.tick()
    sent = [b" ".join(args).decode() for args in RequestParser().feed(tail.read())]
    assert sent[0] == "SELECT 0" and sent[1].startswith("SET {a}k 1 PXAT ")
    assert sent[2:] == [
        *("MSET {a}x 1 {a}y 2", "SELECT 3", "INCR {a}n", "SELECT 0", "RPUSH {a}l z"),
        *("incr {a}n", "XADD {a}s 1-1 f v", "XGROUP CREATE {a}s g $", "PFADD {a}h x"),
        *("UNLINK {a}k",),
    ]
    one.call("SET {a}k 2")
    assert RequestParser().feed(tail.read()) == [[b"SET", b"{a}k", b"2"]]
    tail.close()
    assert not one.node.log.active
