"""MONITOR beside a real server: which commands are shown, when, and how they are written."""

from collections.abc import Iterator
from typing import Any

import pytest
from company import Company
from hiredis import pack_command
from local import local_node

from node.monitor import quoted
from node.replication.stream import Stream, primary_session


@pytest.fixture
def company(reference: str) -> Iterator[Company]:
    found = Company(reference)
    found.join("monitor", 2)
    found.join("client", 2)
    yield found
    found.close()


def test_what_is_shown(company: Company) -> None:
    company.tell("""
        client: SET a 1; INCR a
        monitor: MONITOR
        client: SET a 1; incr a; SELECT 3; GET; NOSUCH x; get a; LPUSH a 1; SELECT 0
        client: MULTI; SET a 1; LPUSH a 1; NOSUCH; EXEC
        client: MULTI; SET a 1; LPUSH a 1; EXEC; MULTI; DISCARD; EXEC
        client: CONFIG GET maxclients; CLIENT GETNAME; CLIENT KILL ID 99999
        client: OBJECT ENCODING a; DEBUG SLEEP 0
        client: AUTH foo; AUTH default foo; AUTH
        client: CLIENT SETNAME x; HELLO 2 AUTH x
        client: SUBSCRIBE a; UNSUBSCRIBE; PUBLISH a b; WAIT 0 0; FLUSHALL
        client: RESET; MULTI; MONITOR; EXEC
        monitor: PING; MONITOR; GET a; SET a 1; MULTI; GET a; EXEC; CLIENT GETNAME
        monitor: RESET
        client: PING
    """)


def test_a_script_is_shown_before_its_calls(company: Company) -> None:
    company.tell(
        """
        monitor: MONITOR
        client: EVAL return|redis.call("SET","a",1) 0; EVAL_RO return|1 x; EVALSHA none 0
        client: MULTI; EVAL return|redis.call("GET","a") 0; EXEC; FCALL none 0
    """.replace("|", "\x20")
    )


def test_who_waits_is_shown_once(company: Company) -> None:
    company.join("waiting", 2)
    monitor, waiting = company.people["monitor"], company.people["waiting"]
    monitor.send("MONITOR")
    monitor.hears()
    waiting.send("BLPOP list 0")
    company.people["client"].hears()  # so that the real server has come to it
    company.people["client"].send("LPUSH list 1")
    for person in (company.people["client"], waiting, monitor):
        theirs, ours = person.hears()
        assert without_marks(ours) == without_marks(theirs)


def without_marks(heard: list[Any]) -> list[Any]:
    return [line for line in heard if not (isinstance(line, bytes) and b'"PING"' in line)]


def test_quotes(company: Company) -> None:
    company.people["monitor"].send("MONITOR")
    company.people["monitor"].hears()
    every = [bytes((byte,)) for byte in range(256)] + [b"", b"a b", b"caf\xc3\xa9"]
    company.people["client"].send_one("MGET", *every)
    company.people["client"].hears()
    theirs, ours = company.people["monitor"].hears()
    assert ours == theirs
    assert any(b" ".join(map(quoted, every)) in line for line in ours)


def test_secrets(company: Company) -> None:
    """HELLO tells different things about the two servers, so only what is shown of it counts."""
    monitor, client = company.people["monitor"], company.people["client"]
    monitor.send("MONITOR")
    monitor.hears()
    client.send("HELLO 2 AUTH default secret SETNAME x; HELLO 2 SETNAME AUTH AUTH default secret")
    client.hears()
    theirs, ours = monitor.hears()
    assert without_marks(ours) == without_marks(theirs)
    assert len(ours) > 2 and b"secret" not in b"".join(ours[1:])


def test_a_line(reference: str) -> None:
    local = local_node(unixsocket="/tmp/some.sock")
    one, other, monitor = local.client(), local.client(b"/tmp/some.sock:0"), local.client()
    monitor.call("MONITOR")
    local.clock.advance(1234)
    one.call("GET", "a")
    other.call("SELECT", 2)
    seconds, milliseconds = divmod(local.node.keyspace.now_ms, 1000)
    time = b"%d.%03d000" % (seconds, milliseconds)
    assert monitor.session.take_output() == (
        b'+%b [0 127.0.0.1:1000] "GET" "a"\r\n+%b [2 unix:/tmp/some.sock] "SELECT" "2"\r\n'
        % (time, time)
    )
    gate = local.node.gate
    local.node.close_session(monitor.session)
    assert local.node.gate < gate and not local.node.observe.monitors


def test_a_replica_shows_what_its_primary_sends_and_tells_of_it() -> None:
    local = local_node()
    monitor, reader, listener = local.client(), local.client(), local.client()
    monitor.call("MONITOR")
    listener.call("CONFIG", "SET", "notify-keyspace-events", "Eg$n")
    listener.call("PSUBSCRIBE", "__keyevent*")
    reader.call("HELLO", 3)
    reader.call("CLIENT", "TRACKING", "ON")
    reader.call("MGET", "a", "b")
    monitor.session.take_output()
    stream = Stream(local.node, primary_session(local.node, b"10.0.0.1:6379", 0))
    sent = ["SELECT 2", "SET a 1", "ping", "REPLCONF GETACK *", "MULTI", "SET b 1", "DEL a", "EXEC"]
    stream.receive(b"".join(pack_command(tuple(line.split())) for line in sent))
    lines = monitor.session.take_output().splitlines()
    assert [line.split(b" ", 1)[1] for line in lines] == [
        b"[2 10.0.0.1:6379] " + b" ".join(b'"%b"' % word.encode() for word in line.split())
        for line in sent
        if not line.startswith("REPLCONF")
    ]
    assert [listener.next()[2:] for _ in range(5)] == [
        [b"__keyevent@2__:new", b"a"],
        [b"__keyevent@2__:set", b"a"],
        [b"__keyevent@2__:new", b"b"],
        [b"__keyevent@2__:set", b"b"],
        [b"__keyevent@2__:del", b"a"],
    ]
    assert [reader.next(), reader.next(), reader.next()] == [
        *([b"invalidate", [b"a"]], [b"invalidate", [b"b"]], False),
    ]
