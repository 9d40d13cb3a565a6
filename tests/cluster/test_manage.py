"""slotfleet's commands for any cluster: on our nodes and on real ones they come to the same."""

import re
import signal
import subprocess
import sys

import attrs
import pytest
from click.testing import CliRunner

from cluster.__main__ import main
from cluster.request import Refused, parse_address, parse_ranges
from cluster.slots import key_slot, slot_range, to_text
from tests.cluster.company import FLAGS, Company
from tests.conftest import OURS

KEYS = [f"key:{i}" for i in range(60)]
PROGRESS = re.compile(r"\d+ of \d+ slots")


@attrs.define
class Operator:
    """slotfleet at work on the nodes of one server. outcome: what it said, step by step."""

    nodes: Company
    outcome: list[tuple] = attrs.field(factory=list)

    def address(self, index: int) -> str:
        return f"127.0.0.1:{self.nodes.servers[index].port}"

    def run(self, *words: str, expected: int = 0) -> list[str]:
        """One command; what it said, with numbers of nodes in place of their addresses."""
        done = CliRunner().invoke(main, words, catch_exceptions=False)
        text = done.output
        assert done.exit_code == expected, text
        for i in range(len(self.nodes.servers)):
            text = text.replace(self.address(i), f"<{i}>").replace(self.nodes.id(i)[:8], f"#{i}")
        lines = [" ".join(line.split()) for line in text.splitlines()]
        lines = [line for line in lines if not PROGRESS.search(line)]
        self.outcome.append((words[0], lines))
        return lines

    def write(self, *keys: str) -> None:
        for key in keys:
            replies = [self.nodes.call(i, "SET", key, f"value of {key}") for i in range(3)]
            assert b"OK" in replies, replies

    def assert_whole(self) -> None:
        """Each key is found, at just one node."""
        for key in KEYS:
            replies = [self.nodes.call(i, "GET", key) for i in range(3)]
            found = [reply for reply in replies if isinstance(reply, bytes)]
            assert found == [f"value of {key}".encode()], (key, replies)


@pytest.fixture
def operator(start_server):
    """A function (program, count, *directives) that starts empty nodes, in order of their ports."""

    def start(program: str, count: int, *directives: str) -> Operator:
        servers = [start_server([program], *FLAGS, *directives) for _ in range(count)]
        return Operator(Company(sorted(servers, key=lambda server: server.port)))

    return start


def break_it(nodes: Company) -> None:
    """A move half done, one only begun, slots of nobody and of two, a key nobody looks for."""
    a, b, c = (nodes.id(i) for i in range(3))
    half, stray = key_slot(b"key:1"), key_slot(b"key:4")  # of nodes 1 and 2, as the story is told
    assert nodes.call(2, "CLUSTER", "SETSLOT", half, "IMPORTING", b) == b"OK"
    assert nodes.call(1, "CLUSTER", "SETSLOT", half, "MIGRATING", c) == b"OK"
    assert nodes.call(0, "CLUSTER", "SETSLOT", 300, "MIGRATING", b) == b"OK"
    owner = next(i for i in range(3) if isinstance(nodes.call(i, "GET", "key:4"), bytes))
    other = (owner + 1) % 3
    assert nodes.call(other, "CLUSTER", "SETSLOT", stray, "IMPORTING", (a, b, c)[owner]) == b"OK"
    port = nodes.servers[other].port
    assert nodes.call(owner, "MIGRATE", "127.0.0.1", port, "key:4", 0, 5000) == b"OK"
    for i in range(3):
        assert nodes.call(i, "CLUSTER", "DELSLOTS", 100, 101) == b"OK"


def work_with_slots(operator: Operator) -> list[tuple]:
    """Three of the nodes form a cluster, move slots, and are mended; returns the outcome."""
    nodes, run, address = operator.nodes, operator.run, operator.address
    first = address(0)
    run("create", *map(address, range(3)), "--yes")
    nodes.wait_agree(0, 1, 2)
    run("create", *map(address, range(3)), "--yes")
    operator.write(*KEYS)
    run("check", first)
    run("reshard", first, "--slots", "20", "--to", address(1), "--yes")
    run("reshard", address(1), "--range", "0-99", "--to", address(2), "--yes")
    assert "nothing to do" in run("reshard", first, "--range", "0-99", "--to", address(2), "--yes")
    break_it(nodes)
    run("check", first, expected=1)
    run("fix", first, "--yes")
    operator.assert_whole()
    return list(operator.outcome)


def work_with_members(operator: Operator) -> list[tuple]:
    """The fourth node comes and goes; returns the whole outcome."""
    nodes, run, address = operator.nodes, operator.run, operator.address
    first = address(0)
    run("add-node", address(3), first, "--yes")
    small = f"{address(3)}=0.01"
    run("rebalance", first, "--weight", small, "--threshold", "0", "--yes")
    run("del-node", first, address(3), "--yes")
    assert nodes.fields(3)["cluster_known_nodes"] == "1"
    run("add-node", address(3), first, "--replica-of", address(2), "--yes")
    run("failover", first, address(2), "--yes")
    assert nodes.is_primary(3)
    nodes.wait_replica(2, of=3)
    run("failover", first, address(2), "--yes")
    nodes.wait_replica(3, of=2)
    run("del-node", first, address(3), "--yes")
    run("check", first)
    operator.assert_whole()
    return operator.outcome


def test_the_same_comes_of_each_command_on_ours_and_on_real_nodes(operator, valkey_server_path):
    ours = operator(OURS, 4)
    valkeys = operator(valkey_server_path, 4)
    with_slots = work_with_slots(ours)
    assert with_slots == work_with_slots(valkeys)
    assert work_with_members(ours) == work_with_members(valkeys)


SLOTFLEET = [sys.executable, "-m", "cluster"]


def interrupted(sign: signal.Signals, *words: str) -> str:
    """Run a command until slots have moved, and interrupt it; what it said."""
    with subprocess.Popen(
        [*SLOTFLEET, *words], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        said = []
        for line in process.stdout:
            said.append(line)
            if PROGRESS.search(line):
                process.send_signal(sign)
                break
        said.append(process.stdout.read())
    text = "".join(said)
    assert process.returncode != 0, text
    return text


@pytest.mark.parametrize(("server", "way"), [(OURS, "as a whole"), ("valkey-server", "by key")])
def test_what_was_interrupted_is_carried_on_by_the_same_command(
    operator, valkey_server_path, server, way
):
    three = operator(server if server == OURS else valkey_server_path, 3)
    first, target = three.address(0), three.address(1)
    three.run("create", *map(three.address, range(3)), "--yes")
    three.nodes.wait_agree()
    three.write(*KEYS)
    last, options = (79, ("--by-key",)) if way == "by key" else (5460, ())
    slots = f"0-{last}"
    command = ("reshard", first, "--range", slots, "--to", target, *options, "--yes")

    interrupted(signal.SIGKILL, *command)
    said = interrupted(signal.SIGINT, *command)
    assert "stopping once what has begun is done" in said
    three.run("check", first)  # nothing is half done
    three.run(*command)
    owned = three.nodes.nodes(1)[three.nodes.id(1)][2].split()
    assert owned == [to_text(slot_range(0, last)), "5461-10922"] or owned == ["0-10922"]
    three.assert_whole()


@pytest.mark.parametrize("server", [OURS, "valkey-server"])
def test_key_by_key_the_keys_of_every_database_move(operator, connect, valkey_server_path, server):
    program = server if server == OURS else valkey_server_path
    two = operator(program, 2, "--cluster-databases", "3")
    first, second = two.address(0), two.address(1)
    two.run("create", first, second, "--yes")
    two.nodes.wait_agree()
    source, target = (connect(node.port) for node in two.nodes.servers)
    tags = [tag for i in range(5000) if key_slot(tag := b"%d" % i) < 32]
    for db in (0, 2):
        source.one("SELECT", db)
        sets = [("SET", b"{%b}%d" % (tag, i), b"%d" % db) for tag in tags for i in range(3)]
        assert set(source.ask(*sets)) == {b"OK"}
    two.run("reshard", first, "--range", "0-31", "--to", second, "--by-key", "--yes")
    for db in (0, 2):
        for client, size in ((source, 0), (target, 3 * len(tags))):
            client.one("SELECT", db)
            assert client.one("DBSIZE") == size
        found = target.ask(*(("GET", b"{%b}1" % tag) for tag in tags))
        assert set(found) == {b"%d" % db}


def test_of_two_values_of_a_key_none_is_dropped_unless_told_to(operator, valkey_server_path):
    two = operator(valkey_server_path, 2)
    nodes, first = two.nodes, two.address(0)
    two.run("create", first, two.address(1), "--yes")
    nodes.wait_agree()
    slot, port = key_slot(b"key:1"), nodes.servers[1].port
    assert nodes.call(0, "MSET", "{key:1}", "old", "{key:1}same", "as it is") == b"OK"
    assert nodes.call(1, "CLUSTER", "SETSLOT", slot, "IMPORTING", nodes.id(0)) == b"OK"
    copy = ("MIGRATE", "127.0.0.1", port, "", 0, 5000, "COPY", "KEYS", "{key:1}", "{key:1}same")
    assert nodes.call(0, *copy) == b"OK"
    nodes.call(0, "SET", "{key:1}", "new")

    said = two.run("fix", first, "--yes", expected=1)
    assert "left: {key:1} is at <1> and, other, at <0>; --replace overwrites the latter" in said
    assert nodes.call(0, "MGET", "{key:1}", "{key:1}same") == [b"new", b"as it is"]
    assert nodes.call(1, "CLUSTER", "COUNTKEYSINSLOT", slot) == 1
    two.run("fix", first, "--replace", "--yes")
    assert nodes.call(0, "MGET", "{key:1}", "{key:1}same") == [b"old", b"as it is"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("check", "127.0.0.1:1"), "127.0.0.1:1: "),
        (("reshard", "nowhere", "--slots", "1", "--to", "x"), "'nowhere' is no HOST:PORT"),
        (("reshard", "h:99999", "--slots", "1", "--to", "x"), "'h:99999' is no HOST:PORT"),
        (("create", "h:1", "h:1", "--yes"), "a node was named twice"),
        (("create", "h:1", "h:2", "--replicas", "2", "--yes"), "2 nodes are no number of"),
    ],
)
def test_what_cannot_be_done_is_told_in_a_line(words, reason):
    done = CliRunner().invoke(main, words, catch_exceptions=False)
    assert done.exit_code == 1
    assert done.output.startswith("slotfleet: ")
    assert reason in done.output
    assert done.output.count("\n") == 1


@pytest.mark.parametrize(
    "words", [(), ("--slots", "1", "--range", "7"), ("--range", "7", "--from", "x")]
)
def test_a_reshard_needs_a_number_of_slots_or_their_names(words):
    done = CliRunner().invoke(main, ("reshard", "h:1", "--to", "x", *words))
    assert done.exit_code == 2


def test_ranges_are_read_with_commas_or_spaces():
    assert parse_ranges("0-2,7") == parse_ranges("0-2 7") == 0b10000111
    with pytest.raises(Refused, match="not a slot range: '7-5'"):
        parse_ranges("7-5")


def test_an_address_may_be_of_this_machine_or_of_the_sixth_version():
    assert parse_address("7000") == parse_address(":7000") == ("127.0.0.1", 7000)
    assert parse_address("[::1]:7000") == parse_address("::1:7000") == ("::1", 7000)
