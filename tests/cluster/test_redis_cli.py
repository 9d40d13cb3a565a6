"""redis-cli --cluster: each of its subcommands ends on our nodes as it does on real ones."""

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import attrs
import pytest

from cluster.slots import SLOTS, key_slot
from tests.cluster.company import FLAGS, PATIENCE, Company
from tests.conftest import OURS, wait_until

KEYS = [f"key:{i}" for i in range(60)]
STEP_TIMEOUT = 60  # seconds
# What tells how a step of redis-cli went.
TELLING = re.compile(
    r"All 16384 slots covered|All nodes agree about slots configuration|Not all 16384 slots"
    r"|New node added correctly|Sending CLUSTER RESET|in (?:migrating|importing) state"
    r"|New node timeout set. .*|Backup created|\d+ keys in \d+ masters|Moving slot \d+ from"
    r"|Rebalancing across \d+ nodes|Total weight = [\d.]+|No rebalancing needed.*|Fixing open slot"
    r"|Fixing slots coverage|Covering slot \d+ with|Migrating key:\d+|ERR[^(]*"
)


@attrs.define
class Operator:
    """redis-cli at work on a cluster. outcome: what to compare, step by step."""

    program: str
    nodes: Company
    outcome: list[tuple] = attrs.field(factory=list)

    def address(self, index: int) -> str:
        return f"127.0.0.1:{self.nodes.servers[index].port}"

    def cluster(self, name: str, subcommand: str, *words: str) -> str:
        """One step; its exit status and what its output tells are noted."""
        command = [self.program, "--cluster", subcommand, *words]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=STEP_TIMEOUT, input="yes\n"
        )
        told = sorted(set(TELLING.findall(done.stdout + done.stderr)))
        self.outcome.append((name, done.returncode, told))
        return done.stdout

    def settle(self, *indices: int) -> None:
        """Wait for all to agree; note how many slots and keys there are, and where."""
        self.nodes.wait_agree(*indices)
        seen = self.nodes.nodes(indices[0])
        slots = [size(seen[self.nodes.id(i)][2]) for i in indices]
        keys = sum(self.nodes.call(i, "DBSIZE") for i in indices if self.nodes.is_primary(i))
        self.outcome.append(("state", slots, keys))
        self.cluster("check", "check", self.address(0))


def size(slots: str) -> int:
    edges = (list(map(int, word.split("-"))) for word in slots.split())
    return sum(pair[-1] - pair[0] + 1 for pair in edges)


@pytest.fixture
def operator(redis_cli, start_server, tmp_path):
    """A function (program of a node, name) that starts four nodes, with redis-cli at hand."""

    def begin(program, name):
        file = tmp_path / f"{name}.conf"
        servers = []
        for i in range(4):  # each needs a file: set-timeout has them rewritten
            config = file.with_suffix(f".{i}")
            config.touch()
            servers.append(start_server([program, str(config)], *FLAGS))
        return Operator(redis_cli, Company(servers))

    return begin


def walk(operator, lone, directory):
    """All of redis-cli's subcommands, on three nodes and one that comes and goes."""
    nodes, cluster, address = operator.nodes, operator.cluster, operator.address
    three = (0, 1, 2)
    cluster("create", "create", *map(address, three), "--cluster-yes")
    nodes.wait_agree(*three)
    write(operator, KEYS)
    operator.settle(*three)
    cluster("info", "info", address(1))
    cluster("call", "call", address(0), "ping")
    cluster("set-timeout", "set-timeout", address(0), "4000")
    assert nodes.call(2, "CONFIG", "GET", "cluster-node-timeout")[1] == b"4000"
    directory.mkdir()
    cluster("backup", "backup", address(0), str(directory))
    assert len(list(directory.glob("*.rdb"))) == 3

    ends = ("--cluster-from", nodes.id(0), "--cluster-to", nodes.id(1))
    cluster("reshard", "reshard", address(0), *ends, "--cluster-slots", "20", "--cluster-yes")
    operator.settle(*three)

    half_move(nodes, "key:1")
    cluster("check of an open slot", "check", address(0))
    cluster("fix of an open slot", "fix", address(0))
    operator.settle(*three)
    orphan(nodes, three, key_slot(b"key:2"))
    cluster("fix of an orphaned slot", "fix", address(0), "--cluster-yes")
    nodes.wait_agree(*three)

    cluster("import", "import", address(0), *source_of_import(lone), "--cluster-copy")
    operator.settle(*three)
    cluster("add-node", "add-node", address(3), address(0))
    operator.settle(0, 1, 2, 3)
    new = nodes.id(3)
    small = ("--cluster-use-empty-masters", "--cluster-threshold", "1")
    cluster("rebalance", "rebalance", address(0), *small, "--cluster-weight", f"{new}=0.01")
    operator.settle(0, 1, 2, 3)
    cluster("rebalance to nothing", "rebalance", address(0), "--cluster-weight", f"{new}=0")
    operator.settle(0, 1, 2)
    cluster("del-node", "del-node", address(0), nodes.id(3))
    alone = lambda: nodes.fields(3)["cluster_known_nodes"] == "1"  # noqa: E731
    wait_until(alone, "the node is alone", PATIENCE)
    nodes.call(3, "CLUSTER", "RESET", "HARD")  # under its old id it couldn't come back for a minute
    role = ("--cluster-slave", "--cluster-master-id", nodes.id(0))
    cluster("add-node as a replica", "add-node", address(3), address(0), *role)
    nodes.wait_replica(3, of=0)
    operator.settle(0, 1, 2, 3)
    cluster("del-node of a replica", "del-node", address(0), nodes.id(3))
    operator.settle(*three)
    return operator.outcome


def orphan(nodes, indices, slot):
    """Take a slot from whoever serves it: a ping under way may bring it back, so for good."""
    looks = 0

    def is_gone():
        nonlocal looks
        still = [i for i in indices if size_at(nodes, i) != SLOTS - 1]
        for i in still:
            nodes.call(i, "CLUSTER", "DELSLOTS", slot)
        looks = 0 if still else looks + 1
        return looks == 20

    wait_until(is_gone, "nobody serves a slot", PATIENCE)


def size_at(nodes, index):
    return int(nodes.fields(index)["cluster_slots_assigned"])


def write(operator, keys):
    port = str(operator.nodes.servers[0].port)
    lines = "".join(f"SET {key} x\n" for key in keys)
    done = subprocess.run(
        [operator.program, "-c", "-p", port], input=lines, capture_output=True, text=True
    )
    assert done.stdout.count("OK") == len(keys), done.stdout


def half_move(nodes, key):
    """Begin to move the slot of a key, and stop."""
    slot = key_slot(key.encode())
    owner = next(i for i in range(3) if nodes.call(i, "GET", key) == b"x")
    other = (owner + 1) % 3
    nodes.call(other, "CLUSTER", "SETSLOT", slot, "IMPORTING", nodes.id(owner))
    nodes.call(owner, "CLUSTER", "SETSLOT", slot, "MIGRATING", nodes.id(other))


def source_of_import(lone):
    lone.call("MSET", *[word for i in range(10) for word in (f"imported:{i}", i)])
    return "--cluster-from", f"127.0.0.1:{lone.port}"


def test_each_subcommand_ends_as_with_real_nodes(
    operator, valkey_server_path, redis_server, tmp_path
):
    operators = [
        operator(OURS, "ours"),
        operator(valkey_server_path, "theirs"),
    ]
    lone = [redis_server(), redis_server()]
    backups = [tmp_path / "our-backup", tmp_path / "their-backup"]
    with ThreadPoolExecutor() as both:
        ours, theirs = both.map(walk, operators, lone, backups)
    assert ours == theirs
    codes = {name: code for name, code, *_ in theirs if name != "state"}
    assert codes.pop("check of an open slot") == 1
    assert set(codes.values()) == {0}
