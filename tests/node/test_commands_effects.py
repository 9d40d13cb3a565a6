"""What commands tell listeners, and what they put into the log."""

import re
import socket
from collections.abc import Iterator

import pytest
from differential import Event, Ours, Pair, connect_when_ready

COMMANDS = """
SET k v; SET k v EX 100; SET k v PX 100000 NX; SET k v EXAT 1; SET none v EXAT 1; SET k v
SET k v KEEPTTL; SET k w IFEQ v; SET k w IFEQ w EX 100 GET; SET k v EXAT 1 GET; GET none
SET k w GET; SETEX k 100 v; PSETEX k 10000 v; SETNX k v; SETNX k2 v; GETSET k v; GETSET new v
GETDEL k; GETDEL k; MSET a 1 b 2 a 3; MSETNX a 1 c 2; MSETNX d 1 c 2; MSETEX 2 a 1 b 2 EX 100
MSETEX 2 a 1 b 2 NX; MSETEX 2 a 1 b 2; MSETEX 2 a 1 b 2 KEEPTTL; MSETEX 1 a 1 XX PX 100000; INCR n
INCRBY n 5; DECR n; DECRBY n 2; INCRBYFLOAT n 1.5; APPEND n x; APPEND n2 x; SETRANGE n 0 zz
SETRANGE n 0 ; DELIFEQ n zzz; DELIFEQ n2 x; DELIFEQ none x; GETEX b; GETEX b EX 100
GETEX b PERSIST; GETEX b PERSIST; GETEX b EXAT 1; GETEX b; SETBIT bit 1 1; SETBIT bit 1 1
SETBIT bit 1 0; SETBIT bit 100 0; BITOP AND d2 bit bit; BITOP AND d2 none none; BITOP AND d2 none
BITFIELD bf GET u8 0; BITFIELD bf SET u8 0 5; BITFIELD bf SET u8 0 5
BITFIELD bf2 OVERFLOW FAIL SET u8 0 300; BITFIELD bf GET u8 100; BITFIELD_RO none GET u8 0
EXPIRE k2 100; PEXPIRE k2 100000; EXPIREAT k2 33177117420; PEXPIREAT k2 33177117420000
EXPIRE k2 100 GT; PERSIST k2; PERSIST k2; EXPIRE k2 -1; EXPIRE k2 100; SET k v EX 100; RENAME k j
RENAME j j; RENAMENX j k; RENAMENX k k; RENAMENX none k; SET j v; RENAME k j; MOVE j 1
MOVE none 1; COPY a j; COPY a j; COPY a j REPLACE; COPY a j DB 3; COPY none x; DEL a j; DEL a j
UNLINK d c; TOUCH a b; EXISTS none none; TYPE none; TTL none; PTTL none; EXPIRETIME none
OBJECT ENCODING none; OBJECT FREQ none; OBJECT IDLETIME none; STRLEN none; GETRANGE none 0 1
SUBSTR none 0 1; MGET none x; BITCOUNT none; BITPOS none 1; GETBIT none 1; LCS none x; DUMP none
SWAPDB 0 1; SWAPDB 0 0; SWAPDB 0 1; KEYS none; SCAN 0 MATCH none; RPUSH l 3 1 2; SORT l STORE dst
SORT none STORE dst; SORT none STORE dst; SORT none; SORT_RO none; SETNX l v; MSETEX 1 l v
SET none v XX; SET none v IFEQ x; FLUSHDB ASYNC; FLUSHDB; FLUSHALL; FLUSHALL SYNC; DBSIZE
SET k v pxat 33177117420000; SET k v xx pxat 33177117420000
"""
# Redis 7.0's words for commands that came later, and for what is relative; the rest as it came.
REWRITTEN = {
    "SET k v EX 100": ["SET k v PXAT AT"],
    "SET k v EXAT 1": ["UNLINK k"],
    "SET k w IFEQ v": ["SET k w"],
    "SET k w IFEQ w EX 100 GET": ["SET k w PXAT AT"],
    "SET k v EXAT 1 GET": ["UNLINK k"],
    "SET k w GET": ["SET k w"],
    "SETEX k 100 v": ["SET k v PXAT AT"],
    "PSETEX k 10000 v": ["SET k v PXAT AT"],
    "GETSET k v": ["SET k v"],
    "GETSET new v": ["SET new v"],
    "GETDEL k": ["DEL k"],
    "MSETEX 2 a 1 b 2 EX 100": ["MULTI", "SET a 1 PXAT AT", "SET b 2 PXAT AT", "EXEC"],
    "MSETEX 2 a 1 b 2": ["MSET a 1 b 2"],
    "MSETEX 2 a 1 b 2 KEEPTTL": ["MULTI", "SET a 1 KEEPTTL", "SET b 2 KEEPTTL", "EXEC"],
    "MSETEX 1 a 1 XX PX 100000": ["SET a 1 PXAT AT"],
    "MSETEX 1 l v": ["MSET l v"],
    "INCRBYFLOAT n 1.5": ["SET n 4.5 KEEPTTL"],
    "DELIFEQ n2 x": ["DEL n2"],
    "GETEX b EX 100": ["PEXPIREAT b AT"],
    "GETEX b PERSIST": ["PERSIST b"],
    "GETEX b EXAT 1": ["UNLINK b"],
    "EXPIRE k2 100": ["PEXPIREAT k2 AT"],
    "PEXPIRE k2 100000": ["PEXPIREAT k2 AT"],
    "EXPIREAT k2 33177117420": ["PEXPIREAT k2 AT"],
    "PEXPIREAT k2 33177117420000": ["PEXPIREAT k2 AT"],
    "EXPIRE k2 -1": ["UNLINK k2"],
}
SILENT_BUT_LOGGED = ("BITFIELD bf2", "SWAPDB", "FLUSH")


@pytest.fixture
def listening(resp2_pair: Pair, reference: str) -> Iterator[socket.socket]:
    """A connection that has subscribed to all key events of the real server."""
    resp2_pair.theirs_raw("CONFIG", "SET", "notify-keyspace-events", "EAnm")
    with connect_when_ready(reference) as sock:
        sock.sendall(b"PSUBSCRIBE __keyevent@*\r\n")
        sock.recv(4096)
        yield sock
    resp2_pair.theirs_raw("CONFIG", "SET", "notify-keyspace-events", "")


def received(sock: socket.socket, mark: str) -> list[Event]:
    """Events up to the one of the key `mark`, which has been set last."""
    data = b""
    while not data.endswith(b"\r\n%b\r\n" % mark.encode()):
        data += sock.recv(1 << 16)
    found = re.findall(rb"__keyevent@(\d+)__:(\w+)\r\n\$\d+\r\n([^\r]*)\r\n", data)
    return [(int(db), event, key) for db, event, key in found if key != mark.encode()]


def test_events_and_log(resp2_pair: Pair, listening: socket.socket) -> None:
    """Every command tells exactly what it tells in a real server, and logs what it changed."""
    for number, line in enumerate(re.split(r"; ?|\n", COMMANDS.strip())):
        words = line.split(" ")
        resp2_pair.ours.take_events(), resp2_pair.ours.take_log()
        resp2_pair.ours.ask(*words)
        resp2_pair.theirs_raw(*words)
        mark = f"mark:{number}"
        resp2_pair.theirs_raw("PUBLISH", "__keyevent@0__:mark", mark)
        theirs = received(listening, mark)
        ours = resp2_pair.ours.take_events()
        assert ours == theirs, line
        changed = {event for _, event, _ in theirs} - {b"new", b"keymiss"}
        expected = REWRITTEN.get(line, [line]) if changed else []
        if line.startswith(SILENT_BUT_LOGGED):
            expected = [line]
        assert logged(resp2_pair.ours) == expected, line


def logged(ours: Ours) -> list[str]:
    """The log, times replaced."""
    lines = [b" ".join(words).decode() for words in ours.take_log()]
    return [re.sub(r"(PXAT|PEXPIREAT \w+) \d+$", r"\1 AT", line) for line in lines]


# One change each, whatever they imply: a deadline, an empty collection that is none, a new name.
SINGLE_CHANGES = """
SET k v EX 100; RENAME k m; MOVE m 1; MSETEX 1 a 1 EX 100; RPUSH l a; LPOP l; SADD s a; SREM s a
HSET h a 1; HDEL h a; ZADD z 1 a; ZREM z a; RPUSH l a; RPOP l 1; SADD s a; SPOP s; HSET h a 1
HGETDEL h FIELDS 1 a; ZADD z 1 a; ZPOPMIN z; SADD s a; SPOP s 1; RESTORE r 0 x; GETDEL a
RPUSH l a; LMOVE l m LEFT LEFT; RPOPLPUSH m m
"""


def _changes(info: bytes) -> int:
    found = re.search(rb"rdb_changes_since_last_save:(\d+)", info)
    assert found is not None
    return int(found[1])


def test_what_is_implied_is_no_change_of_its_own(resp2_pair: Pair) -> None:
    pair = resp2_pair
    for line in re.split(r"; ?|\n", SINGLE_CHANGES.strip()):
        before = [_changes(pair.ours.raw("INFO")), _changes(pair.theirs_raw("INFO"))]
        pair.same(*line.split(" "))
        after = [_changes(pair.ours.raw("INFO")), _changes(pair.theirs_raw("INFO"))]
        assert after[0] - before[0] == after[1] - before[1], line


def test_a_replay_of_the_log_gives_equal_data(resp2_pair: Pair) -> None:
    """The real server applies what our log says of each command, and holds the same then."""
    for line in re.split(r"; ?|\n", COMMANDS.strip()):
        resp2_pair.ours.take_log()
        resp2_pair.ours.ask(*line.split(" "))
        for words in resp2_pair.ours.take_log():
            reply = resp2_pair.theirs_raw(*words)
            assert not reply.startswith(b"-"), (words, reply)
        resp2_pair.unordered("KEYS", "*")
        for key in resp2_pair.ours.ask("KEYS", "*"):
            resp2_pair.same("PEXPIRETIME", key)
            if resp2_pair.same("TYPE", key) == b"string":
                resp2_pair.same("GET", key)
    resp2_pair.ours.node.keyspace.databases[0].check()
