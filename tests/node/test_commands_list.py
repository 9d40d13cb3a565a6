"""The list commands against a real server: replies, errors, events, effects; and who waits."""

import random

import pytest
from differential import Pair, script
from local import local_node
from witness import Witness


def test_pushing_and_popping(pair: Pair) -> None:
    pair.lines(
        *script("""
        LPUSH l a b c; RPUSH l d; RPUSH l e f; LPUSHX l x y; RPUSHX l z; LRANGE l 0 -1;
        LPUSHX none a; RPUSHX none a; EXISTS none; LLEN l; LLEN none; LPUSH l; SET s v; LPUSH s a;
        RPUSH s a; LPUSHX s a; LLEN s; LPOP l; RPOP l; LPOP l 2; RPOP l 2; LPOP l 0; LPOP none;
        RPOP none 2; LPOP none 0; LPOP s; RPOP s 1; LPOP l -1; LPOP l x; RPOP l 1 2; LPOP s -1;
        LPOP l 100; EXISTS l
        """)
    )


def test_ranges(pair: Pair) -> None:
    pair.same("RPUSH", "l", *range(10))
    for start in (0, 1, 5, 9, 10, -1, -5, -10, -11, 2**63 - 1, -(2**63)):
        for stop in (0, 4, 9, 20, -1, -10, -20, 2**63 - 1, -(2**63)):
            pair.same("LRANGE", "l", start, stop)
        pair.same("LINDEX", "l", start)
        pair.same("LSET", "l", start, f"at{start}")
    pair.lines(
        *script("""
        LRANGE l a 1; LRANGE l 0 1.5; LRANGE none a b; LRANGE none 0 1; SET s v; LRANGE s 0 1;
        LRANGE s a 1; LINDEX s a; LINDEX l a; LINDEX none a; LSET s 0 x; LSET none 0 x; LSET l a x;
        LTRIM l a b; LTRIM l 1 5; LRANGE l 0 -1; LTRIM s 0 1; LTRIM none 0 1; LTRIM l 1 -2;
        LRANGE l 0 -1; LTRIM l 5 1; EXISTS l
        """)
    )


def test_searching(pair: Pair) -> None:
    pair.lines(
        *script("""
        RPUSH l a b c a b c a; LPOS l a; LPOS l x; LPOS l a RANK 2; LPOS l a RANK -1;
        LPOS l a RANK 0; LPOS l a RANK 9; LPOS l a COUNT 0; LPOS l a COUNT 2 RANK -1;
        LPOS l x COUNT 1; LPOS l a COUNT -1; LPOS l a MAXLEN 2 COUNT 0; LPOS l c MAXLEN 2;
        LPOS l a MAXLEN -1; LPOS l a RANK x; LPOS l a COUNT x; LPOS l a FOO 1; LPOS l a RANK;
        LPOS none a; LPOS none a COUNT 1; LPOS none a FOO; LPOS l a RANK -9223372036854775808;
        LPOS l b MAXLEN 3 RANK -1 COUNT 0; LREM l 1 a; LREM l -1 a; LREM l 0 b; LREM l x a;
        LREM l -9223372036854775808 a; LREM none 1 a; LRANGE l 0 -1; LREM l 0 c; LREM l 0 a;
        EXISTS l; RPUSH l a b; LINSERT l BEFORE b x; LINSERT l after b y; LINSERT l FOO b x;
        LINSERT l BEFORE nope x; LINSERT none BEFORE b x; LRANGE l 0 -1; SET s v; LPOS s a;
        LREM s 0 a; LINSERT s BEFORE a b; LINSERT l BEFORE b
        """)
    )


def test_moving(pair: Pair) -> None:
    pair.lines(
        *script("""
        RPUSH a 1 2 3 4; LMOVE a b LEFT RIGHT; LMOVE a b RIGHT LEFT; LMOVE a b left left;
        LMOVE a b UP LEFT; LMOVE a b LEFT UP; LMOVE none b LEFT LEFT; LMOVE none b UP LEFT;
        LRANGE b 0 -1; LMOVE b b LEFT RIGHT; LRANGE b 0 -1; RPOPLPUSH b b; RPOPLPUSH b c;
        RPOPLPUSH a b; EXISTS a; SET s v; LMOVE s b LEFT LEFT; LMOVE b s LEFT LEFT; RPOPLPUSH b s;
        RPOPLPUSH s b; LMOVE none s LEFT LEFT; LRANGE b 0 -1; LMPOP 2 none b LEFT;
        LMPOP 1 b RIGHT COUNT 2; LMPOP 1 none LEFT; LMPOP 0 b LEFT; LMPOP -1 b LEFT;
        LMPOP x b LEFT; LMPOP 2 b LEFT; LMPOP 1 b UP; LMPOP 1 b LEFT COUNT 0; LMPOP 1 b LEFT COUNT;
        LMPOP 1 b LEFT COUNT 1 COUNT 1; LMPOP 1 b LEFT FOO 1; LMPOP 1 s LEFT; LMPOP 2 s b LEFT;
        LMPOP 2 none s LEFT; LMPOP 1 b LEFT COUNT x; LMPOP 9 b LEFT
        """)
    )


def test_events_and_effects(witness: Witness) -> None:
    witness.agree(
        *script("""
        LPUSH l a b c; RPUSH l d; LPUSHX none x; LTRIM l 0 -1; LTRIM l 0 2; LSET l 0 x;
        LINSERT l BEFORE x y; LINSERT l BEFORE nope y; LREM l 0 nope; LREM l 0 x; LPOP l 0; LPOP l;
        RPOP l 5; RPUSH l a b c d e f g; LMPOP 1 l LEFT COUNT 2; LMPOP 1 none LEFT; BLPOP none l 0;
        BRPOP l 0; BLMPOP 0 1 l RIGHT COUNT 9; RPUSH l a b c d e; LMOVE l l LEFT LEFT;
        LMOVE l m LEFT RIGHT; RPOPLPUSH l m; BLMOVE l m LEFT RIGHT 0; BRPOPLPUSH l m 0;
        LMOVE l m LEFT RIGHT; EXISTS l; LTRIM m 5 1; LPOP none; LRANGE none 0 1; MULTI;
        BLPOP none 0; BLMOVE none x LEFT LEFT 0; RPUSH l 1; BLPOP l 0; EXEC
        """)
    )


@pytest.mark.parametrize("size", [-5, -2, -1, 3, 200])
def test_encodings(pair: Pair, size: int) -> None:
    chosen = random.Random(size)
    pair.same("CONFIG", "SET", "list-max-listpack-size", size)
    for _ in range(60):
        elements = ["x" * chosen.randrange(900) for _ in range(chosen.randrange(1, 4))]
        pair.same(chosen.choice(("LPUSH", "RPUSH")), "l", *elements)
        pair.same("OBJECT", "ENCODING", "l")
    pair.same("LTRIM", "l", 0, 0)
    pair.lines("OBJECT ENCODING l", "CONFIG SET list-max-listpack-size -2")


def test_timeouts(pair: Pair) -> None:
    for timeout in (
        "-1",
        "x",
        "nan",
        "1e400",
        "inf",
        "-inf",
        "9223372036854775807",
        "",
        " 1",
        "1e17",
    ):
        pair.same("BLPOP", "none", timeout)
        pair.same("BLMOVE", "none", "other", "LEFT", "LEFT", timeout)
        pair.same("BLMPOP", timeout, "1", "none", "LEFT")
    pair.lines(
        *script("""
        BLMPOP x 0 none LEFT; BLMPOP x 1 none UP; BLMOVE a b UP LEFT x; BLPOP; SET s v; BLPOP s 0;
        BLPOP s x; BLMOVE s b LEFT LEFT 0; BRPOPLPUSH s b 0; BLPOP none s 0
        """)
    )
    ours = local_node()
    client = ours.client()
    client.send("HELLO", pair.protocol)
    for waiting in (("BLPOP", "l", "0.0005"), ("BLMOVE", "l", "m", "LEFT", "LEFT", "0.001")):
        client.reader.feed(pair.theirs_raw(*waiting))
        expected = client.reader.gets()
        assert client.send(*waiting) == b""
        ours.advance(1)
        assert client.next() == expected


# --- who waits -----------------------------------------------------------------------------------


def test_first_come_first_served() -> None:
    ours = local_node()
    first, second, third, pusher = (ours.client() for _ in range(4))
    first.send("BLPOP", "l", 0)
    second.send("BRPOP", "other", "l", 0)
    third.send("BLPOP", "l", 0)
    assert pusher.call("RPUSH", "l", 1, 2, 3, 4) == 4
    assert [client.next() for client in (first, second, third)] == [
        *([b"l", b"1"], [b"l", b"4"], [b"l", b"2"])
    ]
    assert pusher.call("LRANGE", "l", 0, -1) == [b"3"]


def test_served_before_the_next_command_of_a_pipeline() -> None:
    ours = local_node()
    waiting, pusher = ours.client(), ours.client()
    waiting.send("BLPOP", "l", 0)
    assert pusher.raw(b"RPUSH l 1\r\nLPOP l\r\nRPUSH l 2\r\n") == b":1\r\n$-1\r\n:1\r\n"
    assert waiting.next() == [b"l", b"1"]
    assert waiting.next() is False


def test_what_was_sent_while_waiting_runs_after_the_answer() -> None:
    ours = local_node()
    waiting, pusher = ours.client(), ours.client()
    assert waiting.raw(b"BLPOP l 0\r\nPING\r\nSET k v\r\n") == b""
    assert waiting.send("GET", "k") == b""
    assert pusher.raw(b"GET k\r\nRPUSH l 1\r\n") == b"$-1\r\n:1\r\n"
    assert [waiting.next() for _ in range(4)] == [[b"l", b"1"], b"PONG", b"OK", b"v"]


def test_a_transaction_wakes_only_when_it_is_done() -> None:
    ours = local_node()
    waiting, pusher = ours.client(), ours.client()
    waiting.send("BLPOP", "a", "b", 0)
    for command in (("MULTI",), ("RPUSH", "b", 1), ("RPUSH", "a", 2), ("LPOP", "b"), ("EXEC",)):
        pusher.send(*command)
    assert waiting.next() == [b"a", b"2"]


def test_a_transaction_that_takes_back_its_push_wakes_nobody() -> None:
    ours = local_node()
    waiting, pusher = ours.client(), ours.client()
    waiting.send("BLPOP", "l", 0)
    pusher.raw(b"MULTI\r\nRPUSH l 1\r\nDEL l\r\nEXEC\r\n")
    assert waiting.next() is False
    pusher.raw(b"SET l v\r\nDEL l\r\nRPUSH l 2\r\n")
    assert waiting.next() == [b"l", b"2"]


def test_a_key_of_another_type_wakes_nobody_but_is_met_on_the_way() -> None:
    ours = local_node()
    waiting, pusher = ours.client(), ours.client()
    waiting.send("BLPOP", "a", "b", 0)
    pusher.send("SET", "a", "v")
    assert waiting.next() is False
    pusher.send("RPUSH", "b", 1)
    assert str(waiting.next()).startswith("WRONGTYPE")
    assert pusher.call("LLEN", "b") == 1


def test_moves_serve_one_another() -> None:
    ours = local_node()
    mover, popper, pusher = (ours.client() for _ in range(3))
    mover.send("BLMOVE", "a", "b", "LEFT", "RIGHT", 0)
    popper.send("BLPOP", "b", 0)
    pusher.send("RPUSH", "a", 1)
    assert (mover.next(), popper.next()) == (b"1", [b"b", b"1"])
    assert pusher.call("EXISTS", "a", "b") == 0


@pytest.mark.parametrize(
    "arrival",
    [
        *("RENAME from l", "COPY from l", "SORT from ALPHA STORE l", "MOVE l 0", "SWAPDB 0 1"),
        "RPOPLPUSH from l",
    ],
)
def test_a_list_that_arrives_from_elsewhere_wakes(arrival: str) -> None:
    ours = local_node()
    waiting, mover = ours.client(), ours.client()
    elsewhere = arrival.startswith(("MOVE", "SWAPDB"))
    mover.send("SELECT", int(elsewhere))
    mover.send("RPUSH", "l" if elsewhere else "from", 1)
    waiting.send("BLPOP", "l", 0)
    mover.send(*arrival.split())
    assert waiting.next() == [b"l", b"1"]


def test_databases_are_apart() -> None:
    ours = local_node()
    waiting, pusher = ours.client(), ours.client()
    waiting.raw(b"SELECT 3\r\nBLPOP l 0\r\n")
    pusher.send("RPUSH", "l", 1)
    assert waiting.next() is False
    pusher.raw(b"SELECT 3\r\nRPUSH l 2\r\n")
    assert waiting.next() == [b"l", b"2"]


def test_effects_follow_the_write_that_woke() -> None:
    ours = local_node()
    ours.node.log.keep_backlog(1 << 16)
    cursor = ours.node.log.open_cursor()
    waiting, pusher = ours.client(), ours.client()
    waiting.raw(b"SELECT 0\r\nBLMPOP 0 2 a l RIGHT COUNT 9\r\n")
    pusher.raw(b"MULTI\r\nRPUSH l 1 2\r\nSET k v\r\nEXEC\r\nSET k w\r\n")
    logged = ours.node.log.read(cursor, 1 << 16).decode()
    words = " ".join(line for line in logged.split("\r\n") if line and line[0] not in "*$")
    assert words.replace("SELECT 0 ", "") == ("MULTI RPUSH l 1 2 SET k v EXEC RPOP l 2 SET k w")
    assert waiting.session.wrote_at == ours.node.log.offset


def test_nobody_listens_once_nobody_waits() -> None:
    ours = local_node()
    waiting, gone, pusher = (ours.client() for _ in range(3))
    keyspace = ours.node.keyspace
    assert keyspace.on_change is None
    waiting.send("BLPOP", "a", "b", "a", 0)
    gone.send("BLPOP", "a", 5)
    assert keyspace.on_change is not None and len(keyspace.on_reset) > 0
    ours.node.close_session(gone.session)
    pusher.send("RPUSH", "a", 1)
    assert keyspace.on_change is None
    assert ours.node.next_deadline_ms() is None
    assert not ours.node.blocking.sessions
