"""The hash commands against a real server: replies, errors, events, effects; fields that expire."""

import random
import re
from typing import Any

import pytest
from differential import Ours, Pair, decoded, script
from local import Local, local_node
from witness import Witness

FAR = 33177117420000  # a deadline, in Unix milliseconds


def test_fields(pair: Pair) -> None:
    pair.lines(
        *script("""
        HSET h a 1 b 2; HSET h a 3; HSET h a; HSET h a 1 b; HMSET h c 4; HMSET h c; HMSET h a 1 b;
        HSETNX h a 9; HSETNX h d 9; HSETNX new x 1; HGET h a; HGET h x; HGET none x; HMGET h a x b;
        HMGET none a b; HGETALL none; HKEYS none; HVALS none; HLEN h; HLEN none; HEXISTS h a;
        HEXISTS h x; HEXISTS none x; HSTRLEN h a; HSTRLEN h x; HSTRLEN none x; HDEL h a x;
        HDEL h x; HDEL none x; HGETALL h; HKEYS h; HVALS h; SET s v; HSET s a 1; HSETNX s a 1;
        HMSET s a 1; HGET s a; HMGET s a; HGETALL s; HKEYS s; HVALS s; HLEN s; HEXISTS s a;
        HSTRLEN s a; HDEL s a; HDEL h b c d; EXISTS h; OBJECT ENCODING new
        """)
    )


def test_numbers(pair: Pair) -> None:
    top = 2**63 - 1
    pair.lines(
        *script("""
        HINCRBY h n 5; HINCRBY h n -7; HINCRBY h n 0; HINCRBY h n x; HINCRBY h n 1.5; HSET h t abc;
        HINCRBY h t 1; HINCRBYFLOAT h t 1; HINCRBY none n x; EXISTS none; HINCRBYFLOAT h f 1.5;
        HINCRBYFLOAT h f -3; HINCRBYFLOAT h f x; HINCRBYFLOAT h f nan; HINCRBYFLOAT h f inf;
        HINCRBYFLOAT h f 1e-17; HINCRBY h f 1; HINCRBYFLOAT h n 0.1; HINCRBYFLOAT h f 1e4932;
        HINCRBYFLOAT h f 1e4932; SET s v; HINCRBY s n 1; HINCRBYFLOAT s n 1; HINCRBY s n x
        """)
    )
    for start in ("", " 1", "1 ", "01", "+1", "1e3", "1.0", "inf", top, -top - 1, top + 1, "0x10"):
        pair.same("HSET", "h", "n", start)
        for amount in (1, -1, top, -top - 1, top + 1):
            pair.same("HINCRBY", "h", "n", amount)
        pair.same("HSET", "h", "n", start)
        pair.same("HINCRBYFLOAT", "h", "n", "0.25")


def test_random_fields(pair: Pair) -> None:
    pair.lines(
        *script("""
        HRANDFIELD none; HRANDFIELD none 1; HRANDFIELD none 1 WITHVALUES; HSET h a 1; HRANDFIELD h;
        HRANDFIELD h 1; HRANDFIELD h 5 WITHVALUES; HRANDFIELD h -3; HRANDFIELD h -2 WITHVALUES;
        HRANDFIELD h 0; HRANDFIELD h x; HRANDFIELD h 1 FOO; HRANDFIELD h 1 WITHVALUES x; SET s v;
        HRANDFIELD s; HRANDFIELD h -9223372036854775808;
        HRANDFIELD h 4611686018427387904 WITHVALUES
        """)
    )
    fields = {b"f%d" % number for number in range(600)}
    for server in (pair.ours.raw, pair.theirs_raw):
        server("HSET", "big", *[word for field in fields for word in (field, "v")])
        found = decoded(server("HRANDFIELD", "big", 100))
        assert len(set(found)) == 100 and fields >= set(found)
        assert len(decoded(server("HRANDFIELD", "big", -1000))) == 1000


def test_scanning(pair: Pair) -> None:
    pair.lines(
        *script("""
        HSCAN none 0; HSCAN none x; HSCAN none 0 FOO; HSET h a 1 b 2; HSCAN h 0;
        HSCAN h 0 NOVALUES; HSCAN h 0 MATCH a; HSCAN h 0 MATCH x*; HSCAN h 0 MATCH * COUNT 1;
        HSCAN h 0 COUNT 0; HSCAN h 0 COUNT x; HSCAN h 0 NOSCORES; HSCAN h 0 FOO; HSCAN h -1;
        HSCAN h 0 TYPE hash; SET s v; HSCAN s 0; HSCAN s x; HSCAN h 0 novalues MATCH b
        """)
    )


def test_a_scan_meets_whoever_stays() -> None:
    ours = Ours()
    chosen = random.Random(2)
    stay = {b"stay%d" % number for number in range(600)}
    ours.ask("HSET", "h", *[word for field in stay for word in (field, "v")])
    cursor, met = b"0", set[bytes]()
    while True:
        cursor, found = ours.ask("HSCAN", "h", cursor, "COUNT", 9, "NOVALUES")
        met |= set(found)
        if cursor == b"0":
            break
        ours.ask("HSET", "h", f"new{chosen.randrange(50)}", "v")
        ours.ask("HDEL", "h", f"new{chosen.randrange(50)}")
    assert stay <= met


@pytest.mark.parametrize("limits", [(3, 5), (512, 64)])
def test_encodings(pair: Pair, limits: tuple[int, int]) -> None:
    names = ("hash-max-listpack-entries", "hash-max-listpack-value")
    for name, limit in zip(names, limits, strict=True):
        pair.same("CONFIG", "SET", name, limit)
    chosen = random.Random(limits[0])
    for _ in range(60):
        pair.same("DEL", "h")
        for _ in range(chosen.randrange(1, 4)):
            words = chosen.choices(
                ("a", "b", "c", "d", "longer", "m" * 65), k=2 * chosen.randrange(1, 4)
            )
            pair.same("HSET", "h", *words)
            pair.same("OBJECT", "ENCODING", "h")
            pair.same("HSETNX", "h", *words[:2])
            pair.same("HINCRBY", "h", "n", 1)
            pair.same("OBJECT", "ENCODING", "h")
    for name, limit in zip(names, (512, 64), strict=True):
        pair.same("CONFIG", "SET", name, limit)


def test_events_and_effects(witness: Witness) -> None:
    witness.agree(
        *script("""
        HSET h a 1 b 2; HSET h a 1; HSETNX h a 2; HSETNX h d 4; HMSET h a 1; HINCRBY h a 0;
        HINCRBY h a 5; HINCRBYFLOAT h a 0; HINCRBYFLOAT h new 1.5; HDEL h new zz; HDEL h zz;
        HDEL h a b d; HGET none a; HLEN none; HRANDFIELD none; HSET h a 1;
        HPEXPIREAT h 33177117420000 FIELDS 1 a; HPERSIST h FIELDS 1 a; HPERSIST h FIELDS 1 a;
        HTTL none FIELDS 1 a; HGETEX none FIELDS 1 a; HGETEX h PXAT 33177117420000 FIELDS 1 a;
        HGETEX h PERSIST FIELDS 1 a; HEXPIREAT h 1 FIELDS 1 a
        """)
    )


# --- fields that expire --------------------------------------------------------------------------


def test_deadline_arguments(pair: Pair) -> None:
    pair.lines(
        *script("""
        HSET h a 1 b 2 c 3; SET s v; HEXPIRE h 100 FIELDS 0 b; HEXPIRE h 100 FIELDS x b;
        HEXPIRE h 100 FIELDS 2 b; HEXPIRE h 100 FIELDS 1 b c; HEXPIRE h 100 FOO 1 b;
        HEXPIRE h x FOO 1 b; HEXPIRE h 100 NX XX FIELDS 1 b; HEXPIRE h x NX XX FIELDS 1 b;
        HEXPIRE h 100 NX FIELDS b; HEXPIRE h x FIELDS 1 b; HEXPIRE h x FIELDS 2 b;
        HEXPIRE h -1 FIELDS 1 b; HEXPIRE s x FIELDS 1 b; HEXPIRE s -1 FIELDS 1 b;
        HEXPIRE s 1 FIELDS 1 b; HEXPIRE none -5 FIELDS 1 b; HEXPIRE none 5 FIELDS 2 b c;
        HEXPIRE h 100 FOO FIELDS 1 b; HEXPIRE h 100 FIELDS 1 b NX; HEXPIRE h 100 FIELDS -1 b;
        HEXPIRE h 9223372036854775807 FIELDS 1 a; HPEXPIRE h 9223372036854775807 FIELDS 1 a;
        HEXPIREAT h 9223372036854775807 FIELDS 1 a; HPEXPIREAT h 9223372036854775807 FIELDS 1 a;
        HPEXPIRETIME h FIELDS 1 a; HEXPIREAT h 9223372036854775 FIELDS 1 a;
        HEXPIRETIME h FIELDS 1 a; HTTL h FIELDS 0 a; HTTL h FIELDS 2 a; HTTL h FIELDS 1 a b;
        HTTL h FOO 1 a; HTTL h FIELDS x a; HTTL none FIELDS 2 a b; HTTL s FIELDS 1 a;
        HPERSIST h FOO 1 a; HPERSIST h FIELDS 2 a; HPERSIST h FIELDS x a; HPERSIST none FIELDS 1 a;
        HPERSIST s FIELDS 1 a; HGETDEL h FOO 1 a; HGETDEL h FIELDS 0 a; HGETDEL h FIELDS 2 a;
        HGETDEL h FIELDS x a; HGETDEL none FIELDS 2 a b; HGETDEL s FIELDS 1 a;
        HGETDEL h FIELDS 2 c c; HGETDEL h FIELDS 2 a zz; HGETDEL h FIELDS 1 b; EXISTS h
        """)
    )


def test_conditions(pair: Pair) -> None:
    conditions = (
        (),
        *(("NX",), ("XX",), ("GT",), ("LT",), ("XX", "GT"), ("XX", "LT"), ("NX", "NX")),
    )
    for wrong in (("NX", "GT"), ("GT", "LT"), ("LT", "XX", "GT")):
        pair.same("HPEXPIREAT", "h", FAR, *wrong, "FIELDS", 1, "a")
    for before in (None, FAR - 1, FAR, FAR + 1):
        for condition in conditions:
            for at_ms in (FAR, 1):
                pair.same("HSET", "h", "a", "1", "b", "2")
                if before is not None:
                    pair.same("HPEXPIREAT", "h", before, "FIELDS", 1, "a")
                pair.same("HPEXPIREAT", "h", at_ms, *condition, "FIELDS", 4, "a", "a", "none", "b")
                pair.same("HPEXPIRETIME", "h", "FIELDS", 3, "a", "none", "b")
                pair.same("EXISTS", "h")


def test_rounding(pair: Pair) -> None:
    pair.same("HSET", "h", "a", "1")
    for fraction in (0, 1, 499, 500, 501, 999):
        pair.same("HPEXPIREAT", "h", FAR + fraction, "FIELDS", 1, "a")
        pair.same("HEXPIRETIME", "h", "FIELDS", 1, "a")


def test_deadlines_of_fields_that_change(pair: Pair) -> None:
    changes = """
        HSET h a 5; HMSET h a 5; HSETNX h a 5; HINCRBY h a 5; HINCRBYFLOAT h a 0.5; HDEL h a;
        HGET h a; HSETEX h FIELDS 1 a 5; HSETEX h KEEPTTL FIELDS 2 a 5 b 6;
        HSETEX h PXAT 33177117420001 FIELDS 1 a 5; HSETEX h PXAT 33177117420001 FIELDS 2 a 5 a 6;
        HGETEX h FIELDS 2 a b; HGETEX h PERSIST FIELDS 2 a b;
        HGETEX h PXAT 33177117420001 FIELDS 3 b a none; HGETEX h EXAT 1 FIELDS 2 a none; RENAME h i;
        COPY h i; HPERSIST h FIELDS 4 a a b none; HGETDEL h FIELDS 1 a; HEXPIREAT h 1 FIELDS 2 a b
        """
    for change in script(changes):
        pair.lines("DEL h i", "HSET h a 1 b 2", f"HPEXPIREAT h {FAR} FIELDS 1 a", change)
        for key in "hi":
            pair.same("HPEXPIRETIME", key, "FIELDS", 3, "a", "b", "none")
            pair.unordered("HVALS", key)
            pair.same("OBJECT", "ENCODING", key)


def test_hsetex_and_hgetex_options(pair: Pair) -> None:
    pair.lines(
        *script("""
        HSETEX h EX 100 FIELDS 2 a 1 b 2; HTTL h FIELDS 2 a b; HSETEX h FNX FIELDS 2 a 1 z 2;
        HSETEX h FXX FIELDS 2 a 1 z 2; HSETEX h FXX PX 100000 FIELDS 2 a 1 b 2;
        HSETEX h FNX FIELDS 1 n 9; HSETEX h NX FIELDS 1 n 9; HSETEX h XX FIELDS 1 n 9;
        HSETEX none XX FIELDS 1 n 9; HSETEX new NX FIELDS 1 n 9; HSETEX none FXX FIELDS 1 n 9;
        HSETEX h NX XX FIELDS 1 n 9; HSETEX h FNX FXX FIELDS 1 n 9; HSETEX h NX FXX FIELDS 1 n 9;
        HSETEX h EX 0 FIELDS 1 n 9; HGET h n; HSETEX h EX -1 FIELDS 1 n 9;
        HSETEX h EXAT 1 FIELDS 1 n 9; HSETEX gone EXAT 1 FIELDS 1 n 9; EXISTS gone;
        HSETEX h EX 10 KEEPTTL FIELDS 1 n 9; HSETEX h KEEPTTL EX 10 FIELDS 1 n 9;
        HSETEX h EX x FIELDS 1 n 9; HSETEX h EX 10 FIELDS 2 n 9; HSETEX h EX 10 FIELDS 1 n 9 m 8;
        HSETEX h EX 10 FIELDS 0 n 9; HSETEX h EX 10 FIELDS x n 9; HSETEX h EX 10 FOO 1 n 9;
        HSETEX h EX 9223372036854775807 FIELDS 1 n 9; HSETEX h EX 10 FIELDS 1 n;
        HSETEX h EX 10 PX 10 FIELDS 1 n 9; HSETEX h EX 10 EX 100 FIELDS 1 n 9; HTTL h FIELDS 1 n;
        HSETEX h PERSIST FIELDS 1 n 9; HSETEX h FIELDS 1 a 1 b; HSETEX h EX; SET s v;
        HSETEX s FOO FIELDS 1 n 9; HSETEX s EX x FIELDS 1 n 9; HSETEX s NX FIELDS 1 n 9;
        HGETEX s EX x FIELDS 1 n; HGETEX h EX x FIELDS 1 n; HGETEX h XX FIELDS 1 a;
        HGETEX h EX -1 FIELDS 1 a; HGETEX h EX 10 PERSIST FIELDS 1 b;
        HGETEX h PERSIST EX 10 FIELDS 1 b; HGETEX h EX FIELDS 1 b; HGETEX h FIELDS 2 b;
        HGETEX h FIELDS 0 b; HGETEX h FIELDS x b; HGETEX h KEEPTTL FIELDS 1 b;
        HGETEX h FOO FIELDS 1 b; HGETEX none EX x FIELDS 1 a; HGETEX none EX 10 FIELDS 2 a b;
        HGETEX h EX 0 FIELDS 1 b; HGET h b; HGETEX h FIELDS FIELDS 1 a
        """)
    )


def expiring() -> tuple[Local, Any, Any]:
    """A hash of a=1 b=2 c=3, a and b due; what the log says from here on."""
    ours = local_node()
    ours.node.log.keep_backlog(1 << 16)
    client = ours.client()
    client.call("HSET", "h", "a", 1, "b", 2, "c", 3)
    client.call("HPEXPIRE", "h", 50, "FIELDS", 2, "a", "b")
    cursor = ours.node.log.open_cursor()
    ours.clock.advance(50)

    def logged() -> str:
        data = ours.node.log.read(cursor, 1 << 16).decode()
        words = [line for line in data.split("\r\n") if line and line[0] not in "*$"]
        return " ".join(words).replace("SELECT 0", "").strip()

    return ours, client, logged


def test_due_fields_are_missing_before_they_are_deleted() -> None:
    ours, client, logged = expiring()
    assert client.call("HGETALL", "h") == [b"c", b"3"]
    assert client.call("HKEYS", "h") == [b"c"] and client.call("HVALS", "h") == [b"3"]
    assert client.call("HMGET", "h", "a", "c") == [None, b"3"]
    assert client.call("HEXISTS", "h", "a") == client.call("HSTRLEN", "h", "a") == 0
    assert client.call("HRANDFIELD", "h", 10) == [b"c"]
    assert client.call("HSCAN", "h", 0) == [b"0", [b"c", b"3"]]
    assert client.call("HTTL", "h", "FIELDS", 2, "a", "c") == [-2, -1]
    assert client.call("HDEL", "h", "a") == 0
    assert client.call("HGETDEL", "h", "FIELDS", 1, "b") == [None]
    assert client.call("HEXPIRE", "h", 10, "FIELDS", 1, "a") == [-2]
    assert client.call("HPERSIST", "h", "FIELDS", 1, "a") == [-2]
    assert client.call("HLEN", "h") == 3
    assert logged() == ""
    ours.advance(0)
    assert client.call("HLEN", "h") == 1
    assert logged() == "HDEL h a b"
    ours.node.keyspace[0].check()


@pytest.mark.parametrize(
    ("command", "reply", "effects"),
    [
        ("HSET h a 9", 1, "HSET h a 9"),
        ("HSETNX h a 9", 1, "HSET h a 9"),
        ("HINCRBY h a 9", 9, "HSET h a 9"),
        ("HINCRBYFLOAT h a 9", b"9", "HSET h a 9"),
        ("HSETEX h FNX FIELDS 1 a 9", 1, "HSET h a 9"),
        ("HSETEX h KEEPTTL FIELDS 1 a 9", 1, "HSET h a 9"),
    ],
)
def test_a_due_field_is_written_anew(command: str, reply: Any, effects: str) -> None:
    ours, client, logged = expiring()
    assert client.call(*command.split()) == reply
    assert client.call("HGET", "h", "a") == b"9"
    assert client.call("HTTL", "h", "FIELDS", 1, "a") == [-1]
    assert logged() == effects
    ours.node.keyspace[0].check()


def test_the_last_field_takes_its_key_along() -> None:
    ours = local_node()
    client = ours.client()
    client.call("HSETEX", "h", "PX", 100, "FIELDS", 2, "a", 1, "b", 2)
    client.call("HPEXPIRE", "h", 200, "FIELDS", 1, "b")
    ours.advance(100)
    assert client.call("HKEYS", "h") == [b"b"]
    events: list[bytes] = []
    ours.node.keyspace.listen(lambda db, key, event, kind: events.append(event))
    ours.advance(100)
    assert client.call("EXISTS", "h") == 0
    assert events == [b"hexpired", b"del"]
    assert ours.node.keyspace.expired_fields == 2
    ours.node.keyspace[0].check()


@pytest.mark.parametrize("move", ["RENAME h i", "COPY h i", "SWAPDB 0 1", "MOVE h 1"])
def test_fields_expire_wherever_their_hash_goes(move: str) -> None:
    ours = local_node()
    client = ours.client()
    client.call("HSETEX", "h", "PX", 100, "FIELDS", 1, "a", 1)
    client.call(*move.split())
    if move.endswith("1"):
        client.call("SELECT", 1)
    ours.advance(100)
    assert client.call("DBSIZE") == 0


EFFECTS = """
    HEXPIRE h 100 FIELDS 2 a none -> HPEXPIREAT h <100s> FIELDS 1 a
    HPEXPIRE h 100000 NX FIELDS 2 a t -> HPEXPIREAT h <100s> FIELDS 1 a
    HEXPIRE h 100 LT FIELDS 1 t -> HPEXPIREAT h <100s> FIELDS 1 t
    HEXPIRE h 0 FIELDS 2 a b -> HDEL h a b
    HGETEX h EX 100 FIELDS 2 a none -> HPEXPIREAT h <100s> FIELDS 1 a
    HGETEX h EXAT 1 FIELDS 1 a -> HDEL h a
    HGETEX h FIELDS 1 a ->
    HGETEX h PERSIST FIELDS 2 a t -> HPERSIST h FIELDS 1 t
    HPERSIST h FIELDS 2 a t -> HPERSIST h FIELDS 1 t
    HSETEX h EX 100 FIELDS 2 a 5 x 6 -> MULTI HSET h a 5 x 6 HPEXPIREAT h <100s> FIELDS 2 a x EXEC
    HSETEX h KEEPTTL FIELDS 2 a 5 t 6 -> MULTI HSET h a 5 t 6 HPEXPIREAT h <T> FIELDS 1 t EXEC
    HSETEX h FIELDS 1 a 5 -> HSET h a 5
    HSETEX h EX 0 FIELDS 2 a 5 x 6 -> HDEL h a
    HSETEX h FNX FIELDS 1 a 5 ->
    HGETDEL h FIELDS 2 a none -> HDEL h a
    HINCRBY h t 5 -> HINCRBY h t 5
    HINCRBYFLOAT h t 1 -> MULTI HSET h t 4 HPEXPIREAT h <T> FIELDS 1 t EXEC
    """


@pytest.mark.parametrize("line", [line.strip() for line in EFFECTS.strip().splitlines()])
def test_effects_in_words_that_replicas_know(line: str) -> None:
    """A hash of a=1 b=2 and t=3, which has a deadline."""
    ours = local_node()
    ours.node.log.keep_backlog(1 << 16)
    client = ours.client()
    client.call("HSET", "h", "a", 1, "b", 2, "t", 3)
    client.call("HPEXPIREAT", "h", FAR, "FIELDS", 1, "t")
    cursor = ours.node.log.open_cursor()
    command, _, effects = line.partition("->")
    client.call(*command.split())
    data = ours.node.log.read(cursor, 1 << 16).decode()
    words = [word for word in data.split("\r\n") if word and word[0] not in "*$"]
    logged = re.sub(r"SELECT 0 ?", "", " ".join(words))
    in_100_s = ours.clock.wall_ms() + 100_000
    assert logged == effects.strip().replace("<100s>", str(in_100_s)).replace("<T>", str(FAR))
