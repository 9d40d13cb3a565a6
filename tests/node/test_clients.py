"""Clients as a node sees them: names and lists, the end of idle and slow ones, AUTH, statistics."""

import random

import pytest
from local import Local, local_node

from node.config.special import OutputLimit, OutputLimits
from node.disk import SimulatedDisk


@pytest.fixture
def local() -> Local:
    return local_node()


def fields(line: bytes) -> dict[str, str]:
    return dict(word.split("=", 1) for word in line.decode().split())


def test_client_list_shows_what_each_does(local):
    one, other = local.client(b"10.0.0.1:5"), local.client(b"10.0.0.2:6")
    one.call("CLIENT", "SETNAME", "one")
    one.call("CLIENT", "SETINFO", "LIB-NAME", "lib")
    one.call("SELECT", 3)
    one.call("WATCH", "a")
    one.call("MULTI")
    one.call("PING")
    local.clock.advance(5000)
    mine = fields(other.call("CLIENT", "INFO"))
    assert (mine["addr"], mine["cmd"], mine["idle"], mine["flags"]) == (
        *("10.0.0.2:6", "client|info", "0", "N"),
    )
    lines = other.call("CLIENT", "LIST").splitlines()
    assert len(lines) == 2
    seen = fields(lines[0])
    expected = {
        "name": "one",
        "lib-name": "lib",
        "db": "3",
        "multi": "1",
        "watch": "1",
        "flags": "x",
        "age": "5",
        "idle": "5",
        "cmd": "multi",
        "resp": "2",
    }
    assert {name: seen[name] for name in expected} == expected
    one.call("EXEC")
    one.call("SUBSCRIBE", "a", "b")
    one.call("SSUBSCRIBE", "s")
    seen = fields(other.call("CLIENT", "LIST", "TYPE", "pubsub"))
    assert (seen["sub"], seen["psub"], seen["ssub"], seen["flags"]) == ("2", "0", "1", "P")


def test_filters(local):
    clients = [local.client(b"10.0.0.%d:1" % n) for n in range(4)]
    clients[1].call("CLIENT", "SETNAME", "x")
    clients[2].call("SELECT", 2)

    def numbers(*filters: str | int) -> list[int]:
        lines = clients[0].call("CLIENT", "LIST", *filters).splitlines()
        return [int(fields(line)["id"]) for line in lines]

    assert numbers() == [1, 2, 3, 4]
    assert numbers("ID", 2, 4) == [2, 4]
    assert numbers("NOT-ID", 2, "4", "SKIPME", "yes") == [3]
    assert numbers("NAME", "x") == [2]
    assert numbers("DB", 2) == numbers("ADDR", "10.0.0.2:1") == numbers("IP", "10.0.0.2") == [3]
    assert numbers("NOT-NAME", "x", "NOT-DB", 2, "TYPE", "normal") == [1, 4]
    assert numbers("USER", "default", "LADDR", "127.0.0.1:6379") == [1, 2, 3, 4]
    local.clock.advance(10_000)
    fifth = local.client()
    fifth.call("PING")
    assert fifth.call("CLIENT", "KILL", "MAXAGE", 5, "NOT-IP", "10.0.0.1") == 3
    assert [one.session.dropped for one in clients] == [True, False, True, True]


def test_of_a_filter_given_twice_the_last_counts_and_of_ids_all(local):
    clients = [local.client() for _ in range(3)]
    for number, client in enumerate(clients):
        client.call("CLIENT", "SETNAME", f"n{number}")

    def names(*options: str) -> list[str]:
        lines = clients[0].call("CLIENT", "LIST", *options).splitlines()
        return [fields(line)["name"] for line in lines]

    assert names("NAME", "n1", "NAME", "n2") == ["n2"]
    assert names("NOT-NAME", "n1", "NOT-NAME", "n2") == ["n0", "n1"]
    ids = [str(client.session.id) for client in clients]
    assert names("ID", ids[0], "ID", ids[2]) == ["n0", "n2"]
    assert names("NOT-ID", ids[0], "NOT-ID", ids[2]) == ["n1"]


def test_commands_of_a_client_are_counted(local):
    client = local.client()
    before = int(fields(client.call("CLIENT", "INFO"))["tot-cmds"])
    client.call("PING")
    assert int(fields(client.call("CLIENT", "INFO"))["tot-cmds"]) == before + 2


def test_calls_of_scripts_count_and_what_is_refused_does_not(local):
    client = local.client()
    before = int(fields(client.call("CLIENT", "INFO"))["tot-cmds"])
    client.call("EVAL", "redis.call('PING') redis.pcall('INCR', 'a', 'b')", 0)
    client.call("GET")
    client.call("FOO")
    assert int(fields(client.call("CLIENT", "INFO"))["tot-cmds"]) == before + 3


def test_hello_and_info_tell_the_availability_zone(local):
    client = local.client()
    assert b"availability_zone" not in client.call("HELLO")
    assert client.call("CONFIG", "SET", "availability-zone", "here") == b"OK"
    greeting = client.call("HELLO", 3)
    assert greeting[b"availability_zone"] == b"here"
    shown = client.call("INFO", "server")
    assert b"availability_zone:here" in shown
    assert b"redis_version:7.2.4" in shown and b"valkey_version:9.1.2" in shown


def test_kill_oneself_gets_the_answer(local):
    client = local.client(b"10.0.0.1:5")
    assert client.call("CLIENT", "KILL", "10.0.0.1:5") == b"OK"
    assert client.session.closing and not client.session.dropped


def test_idle_clients_are_closed_but_not_those_that_wait_or_listen(local):
    idle, busy, waiting, listening = (local.client() for _ in range(4))
    waiting.call("BLPOP", "nothing", 0)
    listening.call("SUBSCRIBE", "news")
    assert busy.call("CONFIG", "SET", "timeout", 10) == b"OK"
    local.clock.advance(10_001)
    busy.call("PING")
    local.advance(0)
    assert [one.session.closing for one in (idle, busy, waiting, listening)] == [
        *(True, False, False, False),
    ]


def limits(hard: int, soft: int, seconds: int) -> OutputLimits:
    none = OutputLimit(0, 0, 0)
    return OutputLimits(none, none, OutputLimit(hard, soft, seconds))


def test_a_subscriber_that_does_not_read_is_closed_at_the_hard_limit():
    local = local_node(client_output_buffer_limit=limits(1000, 0, 0))
    listener, speaker = local.client(), local.client()
    listener.call("SUBSCRIBE", "news")
    speaker.call("PUBLISH", "news", "x" * 900)
    local.advance(100)
    assert not listener.session.closing
    speaker.call("PUBLISH", "news", "x" * 900)
    local.advance(100)
    assert listener.session.dropped
    info = speaker.call("INFO", "stats").decode()
    assert "client_output_buffer_limit_disconnections:1\r\n" in info


def test_the_soft_limit_gives_time_to_read():
    local = local_node(client_output_buffer_limit=limits(0, 1000, 5))
    listener, slow, speaker = (local.client() for _ in range(3))
    for each in (listener, slow):
        each.call("SUBSCRIBE", "news")
    speaker.call("PUBLISH", "news", "x" * 2000)
    local.advance(100)
    listener.next()
    for _ in range(6):
        local.advance(1000)
    assert slow.session.dropped and not listener.session.closing


def test_authentication():
    local = local_node(requirepass=b"secret")
    client = local.client()
    for command in (["GET", "a"], ["FOO"], ["GET"], ["CLIENT", "FOO"], ["MULTI"]):
        assert str(client.call(*command)) == "NOAUTH Authentication required.", command
    assert str(client.call("HELLO", 3)).startswith("NOAUTH HELLO must be called")
    assert str(client.call("AUTH", "wrong")).startswith("WRONGPASS")
    assert str(client.call("AUTH", "nobody", "secret")).startswith("WRONGPASS")
    assert client.call("AUTH", "secret") == b"OK"
    assert client.call("PING") == b"PONG"
    assert client.call("RESET") == b"RESET"
    assert str(client.call("PING")) == "NOAUTH Authentication required."
    assert client.call("HELLO", 3, "AUTH", "default", "secret")[b"proto"] == 3
    assert client.call("CONFIG", "SET", "requirepass", "") == b"OK"
    assert client.call("CONFIG", "SET", "requirepass", "other") == b"OK"
    assert client.call("PING") == b"PONG"  # it stays in
    assert str(local.client().call("PING")) == "NOAUTH Authentication required."
    assert "acl_access_denied_auth:2\r\n" in client.call("INFO", "stats").decode()


def test_paused_clients_go_on_in_order_and_cannot_be_unblocked(local):
    paused, operator = local.client(), local.client()
    operator.call("CLIENT", "PAUSE", 1000, "WRITE")
    assert paused.raw(b"SET a 1\r\nGET a\r\n") == b""
    assert operator.call("CLIENT", "UNBLOCK", paused.session.id) == 0
    assert operator.call("GET", "a") is None
    assert operator.call("CLIENT", "UNPAUSE") == b"OK"
    assert (paused.next(), paused.next()) == (b"OK", b"1")


def test_scripts_that_write_nothing_are_not_paused_with_writes(local):
    client, operator = local.client(), local.client()
    pure, other = "#!lua flags=no-writes\nreturn 1", "#!lua\nreturn 2"
    library = "#!lua name=l\nredis.register_function{function_name='f',"
    library += "callback=function() return 3 end,flags={'no-writes'}}"
    sha = client.call("SCRIPT", "LOAD", pure)
    client.call("FUNCTION", "LOAD", library)
    operator.call("CLIENT", "PAUSE", 100_000, "WRITE")
    assert client.call("EVAL", pure, 0) == 1
    assert client.call("EVALSHA", sha, 0) == 1
    assert client.call("EVAL_RO", "return 4", 0) == 4
    assert client.call("FCALL", "f", 0) == client.call("FCALL_RO", "f", 0) == 3
    client.call("MULTI")
    client.call("EVAL", pure, 0)
    assert client.call("EXEC") == [1]
    assert client.call("EVAL", other, 0) is False
    assert "blocked_clients:1\r\n" in operator.call("INFO", "clients").decode()
    operator.call("CLIENT", "UNPAUSE")
    assert client.next() == 2


def test_unblock(local):
    waiting, operator = local.client(), local.client()
    assert waiting.call("BLPOP", "a", 0) is False
    assert operator.call("CLIENT", "UNBLOCK", waiting.session.id) == 1
    assert waiting.next() is None
    waiting.call("BLPOP", "a", 0)
    assert operator.call("CLIENT", "UNBLOCK", waiting.session.id, "ERROR") == 1
    assert str(waiting.next()) == "UNBLOCKED client unblocked via CLIENT UNBLOCK"


def test_config_takes_effect_at_once(local):
    client = local.client()
    client.call("CONFIG", "SET", "proto-max-bulk-len", 1 << 20)
    assert client.raw(b"*1\r\n$2000000\r\n") == b"-ERR Protocol error: invalid bulk length\r\n"
    other = local.client()
    other.call("CONFIG", "SET", "zset-max-listpack-entries", 1)
    other.call("ZADD", "z", 1, "a", 2, "b")
    assert other.call("OBJECT", "ENCODING", "z") == b"skiplist"


def test_resetstat(local):
    client = local.client()
    client.call("GET", "nothing")
    client.call("FOO")
    assert client.call("CONFIG", "RESETSTAT") == b"OK"
    shown = client.call("INFO", "everything").decode()
    for line in ("keyspace_misses:0", "total_error_replies:0", "total_connections_received:0"):
        assert line + "\r\n" in shown
    assert "errorstat_" not in shown


def test_config_rewrite_replaces_the_file_as_a_whole(caplog):
    disk = SimulatedDisk(random.Random(1))
    local = local_node(disk)
    client = local.client()
    assert "without a config file" in str(client.call("CONFIG", "REWRITE"))
    local.node.config.file = "/etc/node.conf"
    assert "No such file" in str(client.call("CONFIG", "REWRITE"))
    file = disk.append_to("/etc/node.conf")
    file.write(b"# mine\ntimeout 5\n")
    file.sync()
    client.call("CONFIG", "SET", "timeout", 7)
    with caplog.at_level("INFO"):
        assert client.call("CONFIG", "REWRITE") == b"OK"
    assert "CONFIG REWRITE executed with success." in caplog.text
    assert disk.read("/etc/node.conf").startswith(b"# mine\ntimeout 7\n")
    disk.crash()
    assert disk.read("/etc/node.conf").startswith(b"# mine\ntimeout 7\n")


def test_info_sections(local):
    client = local.client()
    client.call("SET", "a", 1, "EX", 100)

    def titles(*names: str) -> list[str]:
        lines = client.call("INFO", *names).decode().split("\r\n")
        return [line[2:].lower() for line in lines if line.startswith("#")]

    default = titles()
    assert default[:3] == ["server", "clients", "memory"] and default[-1] == "keyspace"
    assert "commandstats" not in default and "modules" in default
    assert "commandstats" in titles("all") and "modules" not in titles("all")
    assert set(titles("everything")) == set(titles("all")) | {"modules"}
    assert titles("KEYSPACE", "cpu") == ["cpu", "keyspace"]
    assert "db0:keys=1,expires=1,avg_ttl=100000," in client.call("INFO", "keyspace").decode()


def test_shutdown_ends_the_node_without_an_answer(local):
    ended = []
    local.node.on_shutdown = lambda: ended.append(True)
    client = local.client()
    assert client.send("SHUTDOWN", "NOSAVE") == b""
    assert ended
