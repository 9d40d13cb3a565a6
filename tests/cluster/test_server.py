"""`slotfleet-server` as a process, alone and in a cluster."""

import shutil
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from cluster.configfile import ConfigFile, FileInUse
from cluster.processes import find_program
from cluster.server import open_bus
from node.config import Config
from node.process import Exit
from tests.conftest import free_ports, free_run, wait_until

NODES = 6


def words(text):
    return [line.split() for line in text.decode().splitlines()]


MEMBER = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")


@pytest.fixture
def six(our_server):
    """Six empty nodes."""
    first = free_run(NODES)

    def start(port):
        return our_server(*MEMBER, "--repl-diskless-sync-delay", "0", port=port)

    with ThreadPoolExecutor(NODES) as pool:
        return list(pool.map(start, range(first, first + NODES)))


def is_linked(node):
    info = node.call("INFO", "replication")
    return b"role:slave" in info and b"master_link_status:up" in info


def test_redis_cli_makes_a_cluster_that_survives_a_kill(six, our_server, redis_cli):
    addresses = [f"127.0.0.1:{node.port}" for node in six]
    create = [redis_cli, "--cluster", "create", *addresses, "--cluster-replicas", "1"]
    made = subprocess.run([*create, "--cluster-yes"], capture_output=True, timeout=30, text=True)
    assert "All 16384 slots covered" in made.stdout, made.stdout
    wait_until(lambda: all(map(is_linked, six[3:])), "three replicas are linked")
    wait_until(lambda: checks(redis_cli, addresses[0]), "redis-cli --cluster check is content")

    victim = next(node for node in six if node.call("SET", "a", "1") == b"OK")
    survivors = [node for node in six if node is not victim]
    heir = heir_of(victim, survivors)
    wait_until(lambda: offset(heir) == offset(victim), "the replica has everything")
    victim.kill()
    wait_until(lambda: heir.call("SET", "{a}2", "2") == b"OK", "the replica took over", 1.0)
    assert heir.call("GET", "a") == b"1"

    again = our_server(*MEMBER, port=victim.port, name=victim.directory.name)
    wait_until(lambda: is_linked(again), "the killed node is a replica")
    assert again.call("DBSIZE") == heir.call("DBSIZE") == 2
    assert str(again.call("GET", "a")).startswith("MOVED")
    wait_until(lambda: checks(redis_cli, addresses[0]), "redis-cli --cluster check is content")


def checks(redis_cli, address):
    check = subprocess.run([redis_cli, "--cluster", "check", address], capture_output=True)
    return check.returncode == 0


def offset(node):
    info = node.call("INFO", "replication").decode().splitlines()
    return next(line for line in info if line.startswith("master_repl_offset"))


def heir_of(victim, others):
    """The replica of a primary."""
    my_id = victim.call("CLUSTER", "MYID").decode()
    [line] = [line for line in words(victim.call("CLUSTER", "NODES")) if line[3] == my_id]
    port = int(line[1].partition("@")[0].rpartition(":")[2])
    return next(node for node in others if node.port == port)


def test_a_restarted_node_is_who_it_was(our_program):
    node = our_program("--cluster-enabled", "yes")
    node.call("CLUSTER", "ADDSLOTSRANGE", 0, 99)
    node.call("CLUSTER", "SET-CONFIG-EPOCH", 7)
    shown = node.call("CLUSTER", "NODES")
    node.kill()
    again = our_program("--cluster-enabled", "yes", port=node.port, name=node.directory.name)
    assert again.call("CLUSTER", "NODES") == shown
    assert "No cluster configuration found" in (again.directory / "log").read_text()


@pytest.fixture
def refusal(tmp_path):
    """A function (**directives) that tries to build a server: why it can't, or an empty text."""
    built = []

    def attempt(**directives):
        config = Config()
        config.bind, config.cluster_enabled, config.port = ("127.0.0.1",), True, free_ports(1)[0]
        config.cluster_config_file = str(tmp_path / "nodes.conf")
        for name, value in directives.items():
            setattr(config, name, value)
        try:
            built.append(open_bus(config))
        except Exit as leaving:
            assert leaving.code == 1
            return leaving.text
        return ""

    yield attempt
    for bus in built:
        bus.close()


def test_two_nodes_cannot_share_a_nodes_conf(refusal):
    assert refusal() == ""
    assert "nodes.conf is already used by a different Redis Cluster node" in refusal()


def test_the_lock_holds_when_nodes_conf_is_replaced(tmp_path):
    path = str(tmp_path / "nodes.conf")
    file = ConfigFile(path)
    for sync in (True, False):
        file.save("text\n", sync)
        with pytest.raises(FileInUse):
            ConfigFile(path)
    file.close()
    again = ConfigFile(path)
    assert again.read() == "text\n"
    again.close()
    assert [entry.name for entry in tmp_path.iterdir()] == ["nodes.conf"]


@pytest.mark.parametrize("text", [b"nonsense\n", b"vars currentEpoch 0", b"\0\xff\n"])
def test_a_corrupt_nodes_conf_is_refused(refusal, tmp_path, text):
    (tmp_path / "nodes.conf").write_bytes(text)
    assert "Unrecoverable error: corrupted cluster config file" in refusal()
    assert (tmp_path / "nodes.conf").read_bytes() == text


def test_a_bus_port_in_use(refusal):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        told = refusal(cluster_port=port)
    assert told.startswith(f"Failed listening on port {port} (cluster), aborting.")


@pytest.mark.parametrize(
    "port, words",
    [(60000, "Redis port number too high for cluster mode"), (0, "needs a port for clients")],
)
def test_a_port_that_leaves_no_room_for_the_bus(refusal, tmp_path, port, words):
    assert words in refusal(port=port)
    assert not (tmp_path / "nodes.conf").exists()


def test_a_refusal_ends_the_process_before_anything_is_announced(tmp_path):
    config = ("--cluster-enabled", "yes", "--port", "60000", "--dir", str(tmp_path))
    program = find_program("slotfleet-server")
    done = subprocess.run([program, *config], capture_output=True, text=True, timeout=10)
    assert done.returncode == 1
    assert "Redis port number too high" in done.stderr
    assert "Ready to accept" not in done.stdout


def test_without_cluster_enabled_it_is_a_server_like_any_other(our_program):
    node = our_program()
    assert node.call("SET", "a", "1") == b"OK"
    assert node.call("SELECT", "9") == b"OK"
    assert b"cluster_enabled:0" in node.call("INFO", "cluster")
    assert str(node.call("CLUSTER", "INFO")) == "ERR This instance has cluster support disabled"
    assert not (node.directory / "nodes.conf").exists()


def test_a_node_without_the_cluster_package(start_server):
    node = start_server([sys.executable, "-m", "node"])
    assert node.call("SET", "a", "1") == b"OK"
    assert str(node.call("CLUSTER", "INFO")).startswith("ERR unknown command 'CLUSTER'")


def test_a_member_keeps_one_database_and_follows_its_directives(our_server):
    node = our_server("--cluster-enabled", "yes")
    assert str(node.call("SELECT", "1")) == "ERR DB index is out of range"
    assert b"cluster_enabled:1" in node.call("INFO", "cluster")
    assert b"redis_mode:cluster" in node.call("INFO", "server")
    node.call("CONFIG", "SET", "cluster-announce-hostname", "node.example")
    wait_until(lambda: b",node.example" in node.call("CLUSTER", "NODES"), "the name is shown")


def test_it_imports_in_time():
    """A launcher has a second for everything; heavy packages aren't for a server."""
    loaded = subprocess.check_output(
        [sys.executable, "-c", "import cluster.server, sys; print(*sys.modules)"], text=True
    ).split()
    assert "trio" in loaded
    assert not {"rich", "click", "asyncio", "hypothesis", "redis"} & set(loaded)


def test_a_node_that_loads_its_file_is_not_taken_for_dead(our_server):
    """It answers the others all the while."""
    timeout = ("--cluster-node-timeout", "700", "--repl-diskless-sync-delay", "0")
    primary, replica = (our_server("--cluster-enabled", "yes", *timeout) for _ in range(2))
    primary.call("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    replica.call("CLUSTER", "MEET", "127.0.0.1", primary.port)
    identity = primary.call("CLUSTER", "MYID").decode()
    wait_until(lambda: replica.call("CLUSTER", "REPLICATE", identity) == b"OK", "it knows it")
    for number in range(0, 3000, 100):
        keys = [word for i in range(number, number + 100) for word in (f"{{k}}{i}", i)]
        primary.call("MSET", *keys)
    wait_until(lambda: is_linked(replica), "linked")
    assert primary.call("SAVE") == b"OK"
    slow = ("--key-load-delay", "700", "--loading-process-events-interval-bytes", "1024")
    name = primary.directory.name
    primary.kill()
    again = our_server("--cluster-enabled", "yes", *timeout, *slow, port=primary.port, name=name)
    fails = None
    while str(again.call("GET", "{k}1")).startswith("LOADING"):
        lines = replica.call("CLUSTER", "NODES").decode().splitlines()
        fails = next("fail" in line for line in lines if line.startswith(identity))
        time.sleep(0.02)
    assert fails is False and again.call("GET", "{k}1") == b"1"


@pytest.mark.parametrize(("behavior", "lives"), [("sync", False), ("best-effort", True)])
def test_a_node_that_cannot_save_its_view(our_server, tmp_path, behavior, lives):
    """Its directory has gone: it ends, as it can't keep promises, unless it was told to go on."""
    place = tmp_path / "gone"
    place.mkdir()
    flags = ("--cluster-enabled", "yes", "--cluster-config-save-behavior", behavior, "--save", "")
    server = our_server(*flags, "--dir", str(place))
    shutil.rmtree(place)
    if lives:
        assert server.call("CLUSTER", "SAVECONFIG") == b"OK"
        assert "going on" in server.log()
    else:
        with pytest.raises(ConnectionError):
            server.call("CLUSTER", "SAVECONFIG")
        assert server.process.wait(10) == 1
