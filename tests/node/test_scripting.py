"""EVAL and its kin beside a real server: replies, errors, and what is logged."""

import re
from pathlib import Path

import pytest
from differential import Pair
from local import local_node
from witness import Witness

from node.scripting.scripts import EVALUATED_MAX

SCRIPTS = Path(__file__).with_name("scripts.txt")
_POINTER = re.compile(rb"0x[0-9a-f]+")


def scripts() -> list[str]:
    lines = SCRIPTS.read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_scripts_answer_as_on_a_real_server(pair: Pair):
    for script in scripts():
        ours, theirs = pair.both("EVAL", script, 0)
        assert _POINTER.sub(b"", ours) == _POINTER.sub(b"", theirs), script


def test_a_big_number_stays_on_its_line(resp2_pair: Pair):
    resp2_pair.same("EVAL", "return {big_number='123\\r\\n123'}", 0)


def test_keys_and_arguments(resp2_pair: Pair):
    same = resp2_pair.same
    both = "return {#KEYS,#ARGV,KEYS[1],KEYS[2],KEYS[#KEYS],ARGV[1],ARGV[#ARGV]}"
    for words in ([0], [0, "x"], [1, "k"], [2, "a", "b", "c", "d"], [3, "a", "b", "c"]):
        same("EVAL", both, *words)
    same("EVAL", both, 150, *range(300))
    same("EVAL", both, 300, *range(300))
    same("EVAL", "return redis.call('mset',unpack(ARGV))", 0, *range(400))
    for number in ("x", -1, 2, "1.5", ""):
        same("EVAL", "return 1", number, "a")


def test_shebang_lines(resp2_pair: Pair):
    for line in (
        "#!lua",
        "#!lua ",
        "#! lua",
        "#!",
        "#!LUA",
        "#!luax",
        "#!lua x=y",
        "#!lua name=x",
        "#!lua flags=",
        "#!lua flags=,",
        "#!lua flags=nosuch",
        "#!lua flags=no-writes,allow-oom",
        "#!lua flags=no-writes flags=allow-oom,allow-stale,no-cluster,allow-cross-slot-keys",
        "#!lua 'flags=no-writes'",
        "#!lua 'flags",
    ):
        for command in ("EVAL", "EVAL_RO"):
            resp2_pair.same(command, f"{line}\nreturn redis.call('set','a','b')", 0)
            resp2_pair.same(command, f"{line}\nreturn redis.call('get','a')", 0)
        resp2_pair.same("EVAL", line, 0)


def test_the_cache(resp2_pair: Pair):
    same = resp2_pair.same
    same("SCRIPT", "FLUSH")
    same("EVALSHA", "a" * 40, 0)
    same("EVALSHA", "abc", "x")
    sha = same("SCRIPT", "LOAD", "return 5")
    same("EVALSHA", sha, 0)
    same("EVALSHA", sha.upper(), 0)
    same("EVALSHA_RO", sha, 0)
    same("SCRIPT", "LOAD", "foo(")
    same("SCRIPT", "EXISTS", sha, sha.upper(), "x")
    same("SCRIPT", "SHOW", sha)
    same("SCRIPT", "SHOW", "x" * 40)
    for words in (["x"], ["ASYNC", "x"], ["SYNC"], ["ASYNC"]):
        same("SCRIPT", "FLUSH", *words)
    same("SCRIPT", "EXISTS", sha)
    for words in (["KILL"], ["NOSUCH"], ["DEBUG", "x"], ["DEBUG", "NO"], ["DEBUG", "NO", "x"]):
        same("SCRIPT", *words)


def test_scripts_that_only_eval_brought_make_room():
    client = local_node().client()
    loaded = client.call("SCRIPT", "LOAD", "return 'kept'")
    first = client.call("EVAL", "return redis.sha1hex('return 1')", 0)
    client.call("EVAL", "return 1", 0)
    for number in range(EVALUATED_MAX):
        client.call("EVAL", f"return {number + 10}", 0)
    assert client.call("SCRIPT", "EXISTS", loaded, first) == [1, 0]
    assert b"evicted_scripts:2\r\n" in client.call("INFO", "stats")
    assert b"number_of_cached_scripts:501\r\n" in client.call("INFO", "memory")


@pytest.mark.parametrize(
    "script",
    [
        "redis.call('set','a',1) redis.call('incr','a') return 1",
        "redis.call('set','a',1)",
        "return redis.call('get','a')",
        "redis.call('sadd','s','x') redis.call('spop','s') redis.call('SET','e','v','EX',100)",
        "redis.call('select',3) redis.call('set','a',1) redis.call('select',4) "
        "redis.call('set','a',2)",
        "redis.call('set','a',1) error('later')",
        "redis.call('set','a',1) redis.set_repl(redis.REPL_NONE) redis.call('set','b',1) "
        "redis.set_repl(redis.REPL_REPLICA) redis.call('set','c',1)",
        "redis.set_repl(redis.REPL_AOF) redis.call('set','b',1)",
        "redis.call('publish','c','m') redis.call('set','a',1)",
        "redis.call('incrbyfloat','f','0.5') redis.call('del','f','nokey')",
    ],
)
def test_effects_are_those_of_a_real_server(witness: Witness, script: str):
    pair = witness.pair
    ours = pair.ours
    witness.take(), ours.take_events(), ours.take_log()
    pair.same("EVAL", script, 0)
    events, log = witness.take()
    timeless = [[word for word in words if not word.isdigit() or len(word) < 10] for words in log]
    mine = [
        [word for word in words if not word.isdigit() or len(word) < 10]
        for words in ours.take_log()
    ]
    assert (ours.take_events(), mine) == (events, timeless)


def test_a_script_in_a_transaction_is_part_of_it(witness: Witness):
    witness.agree("MULTI", "SET a 1")
    witness.pair.same("EVAL", "redis.call('incr','a') return redis.call('incr','b')", 0)
    witness.agree("EXEC", "GET a")


def test_what_follows_a_script_that_changed_nothing_is_logged(witness: Witness):
    witness.pair.same("EVAL", "return redis.call('get','a')", 0)
    witness.agree("SET a 1", "MULTI", "GET a", "EXEC", "SET a 2")


def test_blocked_clients_are_served_when_the_script_has_ended():
    local = local_node()
    waiting, other = local.client(), local.client()
    waiting.send("BLPOP", "l", 0)
    script = "redis.call('rpush','l','a','b') return redis.call('llen','l')"
    assert other.call("EVAL", script, 0) == 2
    assert waiting.next() == [b"l", b"a"]


@pytest.mark.parametrize(
    ("script", "kind", "refused"),
    [
        ("return redis.call('incr', 'l')", "WRONGTYPE", 0),
        ("return redis.pcall('incr', 'l')", "WRONGTYPE", 0),
        ("return redis.call('incr')", "ERR", 1),
        ("return redis.call('nosuch')", "ERR", 0),
        ("return redis.error_reply('MINE x')", "MINE", 0),
        ("error('x')", "ERR", 0),
    ],
)
def test_an_error_that_a_script_passes_on_is_counted_once(script: str, kind: str, refused: int):
    local = local_node()
    client = local.client()
    client.call("RPUSH", "l", "1")
    client.call("CONFIG", "RESETSTAT")
    client.call("EVAL", script, 0)
    assert local.node.observe.errors.by_kind == {kind.encode(): 1}
    stats = client.call("INFO", "commandstats").decode()
    assert ("cmdstat_incr:calls=0" in stats and "rejected_calls=1" in stats) == bool(refused)


def test_bytes_pass_unchanged():
    client = local_node().client()
    everything = bytes(range(256)) * 3
    assert client.call("EVAL", "return ARGV[1]", 0, everything) == everything
    client.call("EVAL", "redis.call('set',KEYS[1],ARGV[1])", 1, "k", everything)
    assert client.call("EVAL", "return redis.call('get',KEYS[1])..''", 1, "k") == everything
