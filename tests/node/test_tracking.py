"""Client-side caching beside a real server: who is told of what, when, and in which words."""

from collections.abc import Iterator

import pytest
from company import Company
from local import Client, Local, local_node


@pytest.fixture
def company(reference: str) -> Iterator[Company]:
    found = Company(reference, waits_for_turns=True)
    found.join("reader", 3)
    found.join("writer", 2)
    yield found
    found.close()


def test_options_and_their_errors(company: Company) -> None:
    on = "CLIENT TRACKING ON"
    for line in (
        *("CLIENT GETREDIR", "CLIENT TRACKINGINFO", "CLIENT CACHING YES", "CLIENT TRACKING"),
        *(f"{on} REDIRECT 99999999", f"{on} REDIRECT", f"{on} REDIRECT x", f"{on} FOO"),
        *(f"{on} REDIRECT {{writer}} REDIRECT {{writer}}", "CLIENT TRACKING x", f"{on} PREFIX a"),
        *("CLIENT TRACKING x REDIRECT 99999999", f"{on} OPTIN OPTOUT", f"{on} BCAST OPTIN"),
        *(f"{on} BCAST PREFIX a PREFIX ab", f"{on} BCAST PREFIX ab PREFIX a", on, f"{on} BCAST"),
        *("CLIENT CACHING YES", "CLIENT CACHING NO", "CLIENT CACHING x", "CLIENT CACHING"),
        *(
            f"{on} NOLOOP",
            "CLIENT TRACKING OFF",
            f"{on} OPTIN",
            f"{on} OPTOUT",
            f"{on} OPTIN NOLOOP",
        ),
        *("CLIENT CACHING YES; CLIENT TRACKINGINFO", "CLIENT CACHING NO", on, "CLIENT CACHING YES"),
        *("CLIENT TRACKING OFF", f"{on} OPTOUT", "CLIENT CACHING NO; CLIENT TRACKINGINFO", "RESET"),
        *("HELLO 3", f"{on} BCAST PREFIX b PREFIX a", f"{on} BCAST PREFIX bc", f"{on} BCAST", on),
        *(f"{on} BCAST PREFIX c", "CLIENT TRACKING OFF", f"{on} REDIRECT {{writer}}"),
        *("CLIENT TRACKING OFF", "CLIENT GETREDIR", "CLIENT TRACKING OFF x"),
    ):
        for step in (line, "CLIENT TRACKINGINFO"):
            if "HELLO" not in step:
                company.together("reader", step)
            else:
                company.people["reader"].send(step)
                company.people["reader"].hears()


def test_what_was_read_is_told_once(company: Company) -> None:
    company.tell("""
        reader: CLIENT TRACKING ON
        reader: GET a; MGET b c; HGETALL h; LRANGE l 0 -1; EXISTS e f
        reader: TTL t; TYPE y; OBJECT ENCODING o
        writer: SET a 1
        writer: SET a 2
        writer: MSET b 1 c 2 d 3
        writer: HSET h f v; RPUSH l 1; SET e 1; SET f 1; SET t 1; SET y 1; SET o 1
        reader: GET a; SMEMBERS a; GETEX a; SORT a; WATCH a; SSUBSCRIBE a
        writer: SADD a x
        writer: DEL a
        reader: GET a; GET b; GET c
        writer: RENAME b c
        writer: SET a 1; EXPIRE a 100
        reader: GET a
        writer: EXPIRE a 50
        reader: GET a
        writer: PERSIST a
        reader: GET a
        writer: SELECT 2; SET a other; SELECT 0
        reader: LRANGE l 0 -1; XREAD STREAMS x 0; PFCOUNT p; ZSCORE z m
        writer: LTRIM l 0 -1; XADD x 1-1 f v; PFADD p a; ZADD z 1 m; ZADD z 1 m
        reader: PFCOUNT p; BLPOP l 1; SET a 1 GET
        writer: PFCOUNT p; SET l 1; SET a 2
        reader: CLIENT TRACKING OFF; GET a
        writer: SET a 3
    """)


def test_ones_own_writes(company: Company) -> None:
    company.tell("""
        reader: CLIENT TRACKING ON
        reader: GET a; SET a 1; PING; GET a; INCR a; PING
        reader: MULTI; SET a 1; GET a; GET b; SET a 2; SET b 1; EXEC; PING
        writer: SET a 1; SET b 1
        reader: GET a
        writer: MULTI; SET a 1; SET a 2; EXEC
        reader: CLIENT TRACKING OFF; CLIENT TRACKING ON NOLOOP; GET a; SET a 1
        writer: SET a 1
        reader: GET a
        writer: SET a 1
        reader: FLUSHALL; PING; GET a; MULTI; FLUSHALL; FLUSHDB; EXEC; PING
        writer: SET a 1; FLUSHDB; SWAPDB 0 1; SWAPDB 0 1; FLUSHALL
    """)


def test_asking_for_it_and_against_it(company: Company) -> None:
    company.tell("""
        reader: CLIENT TRACKING ON OPTIN; GET a; CLIENT CACHING YES; GET b; GET c
        writer: SET a 1; SET b 1; SET c 1
        reader: CLIENT CACHING YES; CLIENT GETNAME; GET a; CLIENT CACHING YES; SET x 1; GET b
        writer: SET a 1; SET b 1
        reader: CLIENT CACHING YES; NOSUCH; GET a; CLIENT CACHING YES; GET; GET b
        writer: SET a 1; SET b 1
        reader: CLIENT CACHING YES; MULTI; GET a; GET b; EXEC; GET c
        writer: SET a 1; SET b 1; SET c 1
        reader: MULTI; CLIENT CACHING YES; GET a; EXEC; GET b
        writer: SET a 1; SET b 1
        reader: CLIENT TRACKING OFF; CLIENT TRACKING ON OPTOUT
        reader: GET a; CLIENT CACHING NO; GET b; GET c
        writer: SET a 1; SET b 1; SET c 1
    """)


def test_what_scripts_read_and_write(company: Company) -> None:
    company.tell("""
        reader: CLIENT TRACKING ON
        reader: EVAL return(redis.call("MGET",KEYS[1],KEYS[2])) 2 a b
        writer: EVAL return(redis.call("SET",KEYS[1],1)) 1 a
        writer: SET b 2
        reader: EVAL_RO return(redis.call("GET",KEYS[1])) 1 a; PING
        reader: EVAL return(redis.call("SET",KEYS[1],2)) 1 a; PING
        writer: EVAL return(redis.call("SET",KEYS[1],3)) 1 a
        reader: MULTI; EVAL return(redis.call("GET",KEYS[1])) 1 c; EXEC
        writer: SET c 1
        reader: CLIENT TRACKING OFF; CLIENT TRACKING ON BCAST PREFIX x
        writer: EVAL return(redis.call("MSET",KEYS[1],1,KEYS[2],2)) 2 x1 x2
        reader: EVAL return(redis.call("SET",KEYS[1],2)) 1 x3; PING
    """)


def test_broadcasting(company: Company) -> None:
    company.join("other", 3)
    company.tell("""
        reader: CLIENT TRACKING ON BCAST PREFIX a PREFIX b
        other: CLIENT TRACKING ON BCAST NOLOOP
        writer: SET a 1
        writer: MSET a2 1 b1 1 c 1 a10 1 a 1; SET a2 2; DEL b1
        reader: SET a 1; PING; SET b 1; PING; GET a
        other: SET a 1; PING; SET c 1
        writer: SELECT 3; SET a 1; SELECT 0; FLUSHDB; SET abc 1
        other: CLIENT TRACKING ON BCAST PREFIX x
        other: CLIENT TRACKING OFF; CLIENT TRACKING ON BCAST PREFIX a
        writer: SET a 1; SET x 1; MULTI; SET a 1; SET b 1; SET a 2; EXEC
        reader: CLIENT TRACKING OFF
        writer: SET a 1
    """)


def test_redirection(company: Company) -> None:
    company.join("ear", 2)
    company.tell(
        """
        reader: CLIENT TRACKING ON REDIRECT {ear}; GET a
        writer: SET a 1
        ear: SUBSCRIBE something
        reader: GET a; CLIENT TRACKINGINFO
        writer: SET a 1
        reader: GET a; SET a 1; PING
        writer: FLUSHALL
        writer: SET b 1
    """
    )
    company.leave("ear")
    company.tell("""
        reader: GET a
        writer: SET a 1
        reader: CLIENT TRACKINGINFO; GET a
        writer: SET a 1; FLUSHALL
        reader: CLIENT TRACKING ON; CLIENT TRACKINGINFO; GET a
        writer: SET a 1
        writer: CLIENT TRACKING ON REDIRECT {reader}; GET a
        writer: SET a 1; FLUSHALL
        reader: SET a 1; GET a
    """)


def test_without_pushes_there_is_nothing_to_hear(company: Company) -> None:
    company.tell("""
        writer: CLIENT TRACKING ON; GET a; SET a 1; FLUSHALL
        reader: SET a 1; SUBSCRIBE x; CLIENT TRACKING ON; GET a
        writer: SET a 1
    """)


# --- what only time and INFO show -----------------------------------------------------------------


@pytest.fixture
def local() -> Local:
    return local_node()


def reader_of(local: Local, *options: str) -> Client:
    client = local.client()
    client.call("HELLO", 3)
    assert client.call("CLIENT", "TRACKING", "ON", *options) == b"OK"
    return client


def stats(local: Local) -> list[int]:
    text = local.client().call("INFO", "stats").decode()
    names = ("tracking_total_keys", "tracking_total_items", "tracking_total_prefixes")
    fields = dict(line.split(":") for line in text.splitlines() if ":" in line)
    return [int(fields[name]) for name in names]


def test_expiry_is_a_change(local: Local) -> None:
    reader, writer = reader_of(local), local.client()
    writer.call("SET", "a", 1, "PX", 10)
    writer.call("SET", "b", 1, "PX", 10)
    writer.call("DEBUG", "SET-ACTIVE-EXPIRE", 0)
    assert reader.call("MGET", "a", "b") == [b"1", b"1"]
    local.clock.advance(20)
    assert reader.raw(b"GET a\r\nPING\r\n") == (
        b"_\r\n>2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r\n+PONG\r\n"
    )
    local.advance(100)
    assert reader.next() == [b"invalidate", [b"b"]]


def test_the_table_is_bounded(local: Local) -> None:
    reader, writer = reader_of(local), local.client()
    writer.call("CONFIG", "SET", "tracking-table-max-keys", 2)
    assert [reader.call("GET", key) for key in "ab"] == [None, None]
    assert stats(local) == [2, 2, 0]
    assert reader.call("GET", "c") is None
    assert reader.next() == [b"invalidate", [b"a"]]
    assert stats(local) == [2, 2, 0]
    writer.call("SET", "a", 1)
    assert reader.next() is False
    writer.call("SET", "b", 1)
    assert reader.next() == [b"invalidate", [b"b"]]


def test_nothing_is_listened_to_when_nobody_is_tracked(local: Local) -> None:
    readers = [reader_of(local), reader_of(local, "BCAST", "PREFIX", "x")]
    readers[0].call("GET", "a")
    assert stats(local) == [1, 1, 1]
    assert local.node.keyspace.on_change is not None
    for reader in readers:
        local.node.close_session(reader.session)
    assert stats(local) == [0, 0, 0]
    assert local.node.keyspace.on_change is None
    assert not local.node.keyspace.on_reset


def test_client_list_tells_who_is_tracked(local: Local) -> None:
    ear = local.client()
    reader = reader_of(local, "BCAST", "REDIRECT", str(ear.session.id))
    line = reader.call("CLIENT", "INFO")
    assert reader.call("CLIENT", "GETREDIR") == ear.session.id
    assert b" flags=tB " in line and b" redir=%d " % ear.session.id in line
    assert b"tracking_clients:1\r\n" in ear.call("INFO", "clients")
    local.node.close_session(ear.session)
    ear = local.client()
    ear.call("SET", "a", 1)
    assert reader.next() == [b"tracking-redir-broken", 2 - 1]
    assert b" flags=tRB " in reader.call("CLIENT", "INFO")
    reader.call("RESET")
    assert b" flags=N " in reader.call("CLIENT", "INFO")
    assert b" redir=-1 " in reader.call("CLIENT", "INFO")


def test_a_smaller_table_forgets_at_once() -> None:
    local = local_node()
    reader = local.client()
    reader.call("HELLO", 3)
    reader.call("CLIENT", "TRACKING", "ON")
    reader.call("MGET", "a", "b", "c")
    assert local.client().call("CONFIG", "SET", "tracking-table-max-keys", 1) == b"OK"
    told = [reader.next(), reader.next(), reader.next()]
    assert [b"invalidate" in message if message else False for message in told] == [True] * 2 + [
        False
    ]
