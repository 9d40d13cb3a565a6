"""A slot on its way from one node to another: every kind of command, word for word as on two real
servers, and clients that wait."""

import re

import hiredis
import pytest

from cluster.slots import SLOTS, key_slot
from tests.cluster.company import company
from tests.conftest import wait_until

SLOT = key_slot(b"a")

# Slot 15495 goes from S to T: {a}1 and {a}2 are there still, {a}3 and {a}4 have gone already.
STORY = """
S GET {a}1
S GET {a}3
S GET {a}none
S SET {a}1 x
S SET {a}new x
S MGET {a}1 {a}2
S MGET {a}1 {a}3
S MGET {a}3 {a}4
S MSET {a}1 x {a}none y
S DEL {a}1x {a}none
S DEL {a}3
S EXISTS {a}1 {a}3
S EVAL return(redis.call('get',KEYS[1])) 1 {a}1
S EVAL return(redis.call('get',KEYS[1])) 1 {a}3
S EVAL return(redis.call('mget',KEYS[1],KEYS[2])) 2 {a}1 {a}3
S EVAL return(redis.call('get','{a}3')) 0
S EVAL return(redis.call('get','{a}1')) 0
S EVAL return(redis.call('get',ARGV[1])) 1 {a}1 {a}3
S EVAL return({pcall(redis.call,'mget','{a}1','{a}3')}) 1 {a}1
S MULTI
S GET {a}1
S GET {a}2
S EXEC
S MULTI
S GET {a}1
S GET {a}3
S EXEC
S MULTI
S GET {a}3
S EXEC
S MULTI
S SET {a}none x
S EXEC
S WATCH {a}1
S WATCH {a}3
S UNWATCH
S BLPOP {a}none 1
S RENAME {a}1 {a}3
S COPY {a}1 {a}none
S SSUBSCRIBE {a}none
S SUNSUBSCRIBE {a}none
S SPUBLISH {a}none x
S TOUCH {a}2
S CLUSTERSCAN 0-{a}-0
S ASKING
S GET {a}3
T GET {a}1
T GET {a}3
T MGET {a}3 {a}4
T ASKING
T GET {a}3
T GET {a}3
T ASKING
T GET {a}1
T ASKING
T SET {a}fresh y
T ASKING
T MGET {a}3 {a}4
T ASKING
T MGET {a}3 {a}1
T ASKING
T MGET {a}none {a}none2
T ASKING
T MGET {a}none {a}none
T ASKING
T EVAL return(redis.call('get',KEYS[1])) 1 {a}3
T ASKING
T EVAL return(redis.call('get',KEYS[1])) 1 {a}none
T ASKING
T EVAL return(redis.call('mget',KEYS[1],KEYS[2])) 2 {a}3 {a}1
T ASKING
T MULTI
T GET {a}3
T GET {a}4
T EXEC
T GET {a}3
T MULTI
T ASKING
T GET {a}3
T DISCARD
T ASKING
T MULTI
T GET {a}3
T GET {a}none
T EXEC
T ASKING
T PING
T GET {a}3
T ASKING
T WATCH {a}3
T ASKING
T LPUSH {a}list 1
T ASKING
T BLPOP {a}list 1
T SPUBLISH {a}none x
T CLUSTERSCAN 0-{a}-0
T RESTORE-ASKING {a}5 0 x
T RESTORE {a}5 0 x
T MIGRATE 127.0.0.1 1 {a}none 0 10
S MIGRATE 127.0.0.1 1 {a}none 0 10
S CLUSTER COUNTKEYSINSLOT 15495
T CLUSTER COUNTKEYSINSLOT 15495
S READONLY
S GET {a}3
S CLUSTER SETSLOT 15495 NODE idT
T CLUSTER COUNTKEYSINSLOT 15495
"""


def half_moved(start):
    """Two nodes of one kind, the first of which serves the slot; half of its keys have moved."""
    nodes = company([start, start], (f"8000-{SLOTS - 1}", "0-7999"))
    source, target = nodes.id(0), nodes.id(1)
    for i in (1, 2, 3, 4):
        assert nodes.call(0, "SET", f"{{a}}{i}", f"value{i}") == b"OK"
    assert nodes.call(1, "CLUSTER", "SETSLOT", SLOT, "IMPORTING", source) == b"OK"
    assert nodes.call(0, "CLUSTER", "SETSLOT", SLOT, "MIGRATING", target) == b"OK"
    move = ("MIGRATE", "127.0.0.1", nodes.servers[1].port, "", 0, 5000, "KEYS", "{a}3", "{a}4")
    assert nodes.call(0, *move) == b"OK"
    return nodes


def told(nodes, connect):
    """What the nodes say to STORY."""
    clients = {name: connect(server.port) for name, server in zip("ST", nodes.servers, strict=True)}
    ports = {str(server.port): name for name, server in zip("ST", nodes.servers, strict=True)}
    for line in filter(None, STORY.split("\n")):
        name, *words = line.replace("idT", nodes.id(1)).split()
        reply = repr(clients[name].one(*words))
        reply = re.sub(r":(\d+)\b", lambda port: ":" + ports.get(port[1], port[1]), reply)
        yield line, re.sub(r"script: \w+|[0-9a-f]{40}", "ID", reply)


def test_answers_are_two_real_servers(our_server, valkey_server, connect):
    ours, theirs = (told(half_moved(start), connect) for start in (our_server, valkey_server))
    differences = [(our, their[1]) for our, their in zip(ours, theirs, strict=True) if our != their]
    assert not differences, "\n".join(map(str, differences))


def answer_of(client):
    client.sock.settimeout(10)
    return str(client.next())


@pytest.mark.parametrize("command", ["BLPOP {a}list 0", "XREAD BLOCK 0 STREAMS {a}stream $"])
def test_who_waits_is_sent_on_when_the_slot_has_gone(our_server, connect, command):
    nodes = company([our_server, our_server], (f"8000-{SLOTS - 1}", "0-7999"))
    source, target = nodes.id(0), nodes.id(1)
    waiting = connect(nodes.servers[0].port)
    waiting.sock.sendall(hiredis.pack_command(tuple(command.split())))
    blocked = lambda: nodes.fields(0, "INFO", "clients")["blocked_clients"] == "1"  # noqa: E731
    wait_until(blocked, "it waits")
    nodes.call(1, "CLUSTER", "SETSLOT", SLOT, "IMPORTING", source)
    nodes.call(0, "CLUSTER", "SETSLOT", SLOT, "MIGRATING", target)
    for index in (1, 0):
        assert nodes.call(index, "CLUSTER", "SETSLOT", SLOT, "NODE", target) == b"OK"
    assert answer_of(waiting) == f"MOVED {SLOT} 127.0.0.1:{nodes.servers[1].port}"
