"""FUNCTION and FCALL beside a real server: replies, errors, what is logged and what is dumped."""

import pytest
from differential import Pair
from local import local_node
from witness import Witness

HEAD = "#!lua name=lib\n"
LIBRARY = HEAD + (
    "redis.register_function('set', function(keys, args) "
    "return redis.call('set', keys[1], args[1]) end)\n"
    "server.register_function{function_name='get', callback=function(keys, args) "
    "return redis.call('get', keys[1]) end, flags={'no-writes','allow-oom'}, description='reads'}"
)


@pytest.fixture
def same(pair: Pair):
    pair.same("FUNCTION", "FLUSH")
    yield pair.same
    pair.same("FUNCTION", "FLUSH")


def test_calling(same):
    same("FUNCTION", "LOAD", LIBRARY)
    for words in (
        ["set", 1, "k", "v"],
        ["get", 1, "k"],
        ["GET", 1, "k"],
        ["nosuch", 0],
        ["get", "x"],
        ["get", -1],
        ["get", 3, "a"],
        ["get", 0],
    ):
        same("FCALL", *words)
        same("FCALL_RO", *words)


@pytest.mark.parametrize(
    "source",
    [
        "foo",
        "#!lua",
        "#!lua\nx",
        "#!lua 'name=x\nx",
        "#!lua name=a b=c\nx",
        "#!lua name=a name=b\nx",
        "#!lua name=a-b\nx",
        "#!lua name=\nx",
        "#!foo name=lib\nx",
        "#!LUA name=lib\nredis.register_function('f', function() end)",
        HEAD + "x",
        HEAD + "return 1",
        HEAD + "nosuch()",
        HEAD + "x = 1",
        HEAD + "error('x')",
        HEAD + "redis.call('get','x')",
        HEAD + "redis.setresp(3)",
        HEAD + "local x = redis.nosuch",
        HEAD + "redis.foo = 1",
        HEAD + "local s = ('x'):rep(3) redis.register_function(s, function() return s end)",
    ],
)
def test_what_a_library_may_be(same, source: str):
    same("FUNCTION", "LOAD", source)
    same("FUNCTION", "LIST", "WITHCODE")
    same("FCALL", "xxx", 0)


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "'a'",
        "'a', 1",
        "1, function() end",
        "'a', function() end, 1",
        "'g-1', function() end",
        "'', function() end",
        "{}",
        "{function_name='a'}",
        "{function_name='a', callback=1}",
        "{function_name=1, callback=function() end}",
        "{function_name='a', callback=function() end, flags={'nosuch'}}",
        "{function_name='a', callback=function() end, flags='no-writes'}",
        "{function_name='a', callback=function() end, flags={'no-writes','no-writes'}}",
        "{function_name='a', callback=function() end, nosuch='x'}",
        "{function_name='a', callback=function() end, [1]=2}",
        "{function_name='a', callback=function() end, description=1}",
    ],
)
def test_registering(same, arguments: str):
    same("FUNCTION", "LOAD", f"{HEAD}redis.register_function({arguments})")
    same("FUNCTION", "LIST")


def test_names_are_taken_once(same):
    same("FUNCTION", "LOAD", LIBRARY)
    same("FUNCTION", "LOAD", LIBRARY)
    same("FUNCTION", "LOAD", "REPLACE", LIBRARY)
    same("FUNCTION", "LOAD", "REPLACEX", LIBRARY)
    same("FUNCTION", "LOAD", LIBRARY, "x")
    same("FUNCTION", "LOAD", "#!lua name=other\nredis.register_function('get', function() end)")
    twice = "redis.register_function('g', function() end) "
    same("FUNCTION", "LOAD", "REPLACE", HEAD + twice + twice)
    same("FCALL", "get", 1, "k")  # the old library is still there
    same("FUNCTION", "DELETE", "nosuch")
    same("FUNCTION", "DELETE", "lib")
    same("FUNCTION", "LIST")


@pytest.mark.parametrize(
    "body",
    [
        "error('x')",
        "x = 1",
        "return KEYS",
        "return redis.register_function",
        "return redis.register_function('b', function() end)",
        "return {select('#', ...)}",
        "return redis.breakpoint",
        "return redis.call('get','a','b')",
        "return redis.status_reply('FINE')",
        "redis.setresp(3) return redis.call('hgetall','h')",
        "local r={} for k in pairs(_G) do r[#r+1]=k end table.sort(r) return r",
        "local r={} for k in pairs(redis) do r[#r+1]=k end table.sort(r) return r",
    ],
)
def test_bodies(same, body: str):
    same("FUNCTION", "LOAD", f"{HEAD}redis.register_function('f', function(...) {body} end)")
    same("FCALL", "f", 2, "a", "b", "c")


def test_libraries_keep_state_and_what_they_saw_at_loading(same):
    body = "local n, r = 0, redis redis.register_function('f', function() n = n + 1 return n end)"
    same("FUNCTION", "LOAD", HEAD + body)
    same("FCALL", "f", 0)
    same("FCALL", "f", 0)
    body = "local r = redis redis.register_function('f', function() return r.call('ping') end)"
    same("FUNCTION", "LOAD", "REPLACE", HEAD + body)
    same("FCALL", "f", 0)


def test_listing(same):
    same("FUNCTION", "LOAD", "#!lua name=one\nredis.register_function('f', function() end)")
    for words in (
        [],
        ["WITHCODE"],
        ["LIBRARYNAME", "on*"],
        ["libraryname", "x", "withcode"],
        ["LIBRARYNAME"],
        ["x"],
        ["WITHCODE", "WITHCODE"],
        ["LIBRARYNAME", "a", "LIBRARYNAME", "a"],
    ):
        same("FUNCTION", "LIST", *words)
    same("FUNCTION", "STATS")


def test_other_subcommands(same):
    for words in (
        ["KILL"],
        ["STATS"],
        ["FLUSH", "x"],
        ["FLUSH", "ASYNC", "x"],
        ["FLUSH", "ASYNC"],
        ["RESTORE", "x"],
        ["RESTORE", "x", "foo"],
        ["RESTORE", "x", "foo", "y"],
        ["DELETE"],
        ["NOSUCH"],
    ):
        same("FUNCTION", *words)


def test_dumps_go_both_ways(resp2_pair: Pair):
    ours, same = resp2_pair.ours, resp2_pair.same
    same("FUNCTION", "FLUSH")
    same("FUNCTION", "LOAD", LIBRARY)
    dump = ours.ask("FUNCTION", "DUMP")
    same("FUNCTION", "RESTORE", dump)
    same("FUNCTION", "RESTORE", dump, "REPLACE")
    same("FUNCTION", "FLUSH")
    same("FUNCTION", "RESTORE", dump, "FLUSH")
    same("FCALL", "get", 1, "k")
    theirs = resp2_pair.theirs_raw("FUNCTION", "DUMP")
    size, _, payload = theirs[1:].partition(b"\r\n")
    same("FUNCTION", "RESTORE", payload[: int(size)], "REPLACE")
    same("FUNCTION", "RESTORE", dump[:-1] + b"x")
    assert len(ours.ask("FUNCTION", "LIST")) == 1
    same("FUNCTION", "FLUSH")


def test_what_is_logged(witness: Witness):
    pair = witness.pair
    pair.same("FUNCTION", "FLUSH")
    witness.take(), pair.ours.take_log()
    for words in (
        ["FUNCTION", "LOAD", LIBRARY],
        ["FUNCTION", "LOAD", "REPLACE", LIBRARY],
        ["FCALL", "set", 1, "k", "v"],
        ["FCALL", "get", 1, "k"],
        ["FUNCTION", "DELETE", "lib"],
        ["FUNCTION", "FLUSH"],
    ):
        pair.same(*words)
        assert pair.ours.take_log() == witness.take()[1], words


def test_loading_must_end():
    client = local_node().client()
    client.session.node.clock.monotonic_ms = iter(range(0, 10**9, 100)).__next__  # time flies
    reply = client.call("FUNCTION", "LOAD", HEAD + "while true do end")
    assert b"FUNCTION LOAD timeout" in reply.args[0].encode()
    assert client.call("FUNCTION", "LIST") == []


def test_what_libraries_take_of_the_interpreter_is_told_apart():
    client = local_node().client()

    def memory() -> dict[str, int]:
        lines = client.call("INFO", "memory").decode().splitlines()
        fields = dict(line.split(":") for line in lines if line.startswith("used_memory_vm"))
        return {name: int(value) for name, value in fields.items() if not name.endswith("human")}

    client.call("EVAL", "return 1", 0)
    assert memory()["used_memory_vm_functions"] == 0
    client.call("FUNCTION", "LOAD", LIBRARY)
    found = memory()
    assert found["used_memory_vm_functions"] >= len(LIBRARY)
    parts = found["used_memory_vm_functions"] + found["used_memory_vm_eval"]
    assert parts == found["used_memory_vm_total"]
    client.call("FUNCTION", "FLUSH")
    assert memory()["used_memory_vm_functions"] == 0
