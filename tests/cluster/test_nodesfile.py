"""nodes.conf as real servers write it, and texts that aren't one."""

from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import nodesfile, slots
from cluster.message import Face
from cluster.nodesfile import CorruptFile, dump, load

ONE, TWO, THREE = "1" * 40, "2" * 40, "3" * 40
SHARD_A, SHARD_B = "a" * 40, "b" * 40

VALKEY = f"""\
{ONE} 127.0.0.1:7001@17001,,tls-port=0,shard-id={SHARD_A} myself,master - 0 0 1 connected 0-8000 \
[5-<-{TWO}]
{TWO} 127.0.0.1:7002@17002,host,nodename=two,tls-port=0,shard-id={SHARD_B} master - 0 179536024373 \
2 connected 8001-16383
{THREE} 127.0.0.1:7003@17003,,tls-port=0,shard-id={SHARD_A} slave {ONE} 0 1795360243632 1 connected
vars currentEpoch 2 lastVoteEpoch 1
"""
REDIS_7_0 = f"""\
{THREE} 127.0.0.1:7003@17003 slave,fail {ONE} 0 1795360243632 1 connected
{ONE} 127.0.0.1:7001@17001,host myself,master - 0 0 4 connected 0-100 102
vars currentEpoch 3 lastVoteEpoch 1
"""


def test_a_file_of_valkey_reads():
    view = load(VALKEY, Random(1))
    view.check()
    one, two, three = (view.nodes[i] for i in (ONE, TWO, THREE))
    assert view.myself is one and one.replicas == [three] and three.primary is one
    assert (one.shard_id, two.human_name, two.hostname) == (SHARD_A, "two", "host")
    assert one.slots == slots.slot_range(0, 8000) and view.owner[8001] is two
    assert (view.current_epoch, view.last_vote_epoch, two.config_epoch) == (2, 1, 2)
    assert view.importing == {5: two} and view.voters == 2 and view.restarted


def test_a_file_of_redis_7_0_reads():
    view = load(REDIS_7_0, Random(1), now=7)
    view.check()
    assert view.myself.hostname == "host"
    assert view.nodes[THREE].failed and view.nodes[THREE].fail_time == 7
    assert view.current_epoch == 4, "never below a config epoch"
    assert len(view.nodes[THREE].shard_id) == 40


def test_what_is_written_reads_back_the_same():
    text = dump(load(VALKEY, Random(1)))
    assert dump(load(text, Random(2))) == text


def test_what_is_in_doubt_reads_back():
    view = load(VALKEY, Random(1))
    assert "Slots" not in dump(view)
    view.disclaimed, view.ceded = slots.slot_set([8001, 8003, 8004]), slots.slot_set([9000])
    text = dump(view)
    assert text.splitlines()[-1] == (
        "vars currentEpoch 2 lastVoteEpoch 1 disclaimedSlots 8001,8003-8004 cededSlots 9000"
    )
    again = load(text, Random(2))
    assert (again.disclaimed, again.ceded) == (view.disclaimed, view.ceded)
    mine = load(text.replace("8001,8003-8004", "5").replace("9000", "6"), Random(2))
    assert not mine.disclaimed and not mine.ceded, "they are this node's own"


def test_the_first_file_of_a_fresh_node():
    view = nodesfile.fresh_view(Random(1))
    again = load(dump(view), Random(2))
    assert (again.myself.id, again.myself.shard_id) == (view.myself.id, view.myself.shard_id)
    assert not again.restarted and again.myself.is_primary


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("myself,", ""),
        ("slave", "myself,slave"),
        ("slave", "sleeve"),
        (f"slave {ONE}", f"slave {'4' * 40}"),
        ("8001-16383", "8000-16383"),
        ("8001-16383", "8001-16384"),
        ("179536024373 ", "yesterday "),
        (TWO, ONE),
        ("2 connected 8001-16383", ""),
        ("127.0.0.1:7002@17002", "localhost"),
        ("currentEpoch 2", "currentEpoch two"),
        ("lastVoteEpoch 1\n", "lastVoteE"),
        ("lastVoteEpoch 1\n", "disclaimedSlots 5-x\n"),
        ("lastVoteEpoch 1\n", "cededSlots 16384\n"),
        (f"[5-<-{TWO}]", f"[5-<-{'4' * 40}]"),
    ],
)
def test_a_corrupt_file_says_so(old, new):
    with pytest.raises(CorruptFile, match=r"nodes\.conf"):
        load(VALKEY.replace(old, new), Random(1))


@pytest.mark.parametrize("text", ["", "\n", "vars currentEpoch 1 lastVoteEpoch 1\n", "\0\1\2\n"])
def test_a_file_without_this_node_is_corrupt(text):
    with pytest.raises(CorruptFile):
        load(text, Random(1))


@given(st.data())
def test_a_damaged_file_reads_or_is_corrupt_and_nothing_else(data):
    text = list(VALKEY)
    for _ in range(data.draw(st.integers(1, 3))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.sampled_from("0 a-@,:[\n=m"))
    with suppress(CorruptFile):
        load("".join(text), Random(1)).check()


def test_a_real_server_reads_what_is_written(valkey_server, tmp_path):
    view = load(VALKEY, Random(1))
    view.nodes[TWO].face = Face("10.0.0.2", "::2", 7002, 8002, "zone-1")
    view.disclaimed, view.ceded = slots.slot_set([8001, 8003]), slots.slot_set([9000])
    directory = tmp_path / "reader"
    directory.mkdir()
    (directory / "nodes.conf").write_text(dump(view))
    server = valkey_server("--cluster-enabled", "yes", name="reader")
    shown = server.call("CLUSTER", "NODES").decode()
    for words in (line.split() for line in shown.splitlines()):
        node = view.nodes[words[0]]
        assert words[6] == str(node.serving_epoch)
        assert words[8:9] == ([slots.to_text(node.slots)] if node.slots else [])
        assert words[2].removeprefix("myself,").split(",")[0] == node.flag_words.split(",")[-1]
    assert server.call("CLUSTER", "MYSHARDID").decode() == SHARD_A
    written = (directory / "nodes.conf").read_text()
    again = load(written, Random(2))
    assert again.nodes.keys() == view.nodes.keys() and again.importing.keys() == {5}
    assert again.nodes[TWO].face == view.nodes[TWO].face
    assert (again.current_epoch, again.last_vote_epoch) == (2, 1)
