"""The sorted set commands against a real server: replies, errors, events, effects, encodings."""

import random

import pytest
from differential import Ours, Pair, decoded, script
from local import local_node
from witness import Witness

SCORES = [
    *("0", "-0", "1", "+5", "1.5", ".5", "5.", "1e3", "1E5", "0.1", "1e-7", "1e20", "1e17", "inf"),
    *(
        "-inf",
        "+inf",
        "Infinity",
        "iNf",
        "nan",
        "NaN",
        "1e400",
        "-1e400",
        "1e-400",
        "0x10",
        " 5",
        "5 ",
    ),
    *(
        "",
        "abc",
        "1_0",
        "5e",
        "1e+",
        "--1",
        "+",
        "-",
        "4.9e-324",
        "1e308",
        "3.14159265358979",
        "1d",
    ),
    *(
        "123456789012345678",
        "9007199254740993",
        "1" * 400,
        "0" * 300 + "1",
        "nan(1)",
        "1.5.5",
        "0e9",
    ),
]


def test_scores(pair: Pair) -> None:
    for text in SCORES:
        pair.same("ZADD", "z", text, "m")
        pair.same("ZSCORE", "z", "m")
        pair.same("ZINCRBY", "z", text, "other")
        pair.same("ZCOUNT", "z", text, "5")
        pair.same("ZCOUNT", "z", "(" + text, "(1e3")
        pair.same("ZUNION", 1, "z", "WEIGHTS", text, "WITHSCORES")
        pair.same("ZSCAN", "z", 0)
        pair.same("DEL", "z")


def test_adding(pair: Pair) -> None:
    pair.lines(
        *script("""
        ZADD z 1; ZADD z 1 a 2; ZADD z NX XX 1 a; ZADD z NX GT 1 a; ZADD z GT LT 1 a;
        ZADD z LT NX 1 a; ZADD z INCR 1 a 2 b; ZADD z FOO 1 a; ZADD z x a; ZADD z 1 a x b;
        EXISTS z; ZADD z NX; ZADD z NX 1; ZADD z INCR 1; ZADD z CH INCR inf i; ZADD z INCR -inf i;
        ZINCRBY z -inf i; ZADD z XX 1 n; ZADD none XX 1 n; ZADD none XX INCR 1 n; EXISTS none;
        ZADD z CH 5 i 6 j; ZADD z GT CH 4 i 7 j; ZADD z LT CH INCR 4 i; ZADD z GT INCR 4 i;
        ZADD z GT INCR 4 new; ZADD z NX INCR 4 new; ZADD z XX CH 1 new 2 i; ZADD z nx 9 new;
        ZADD z 1 d 2 d; ZINCRBY z 1 q; ZINCRBY z x q; ZINCRBY z nx q; ZINCRBY z 0 q;
        ZRANGE z 0 -1 WITHSCORES; ZREM z d nope; ZREM z nope; ZREM none a; ZCARD z; ZCARD none;
        ZSCORE z nope; ZSCORE none a; ZMSCORE z i nope j; ZMSCORE none a b; SET s v; ZADD s 1 a;
        ZADD s x a; ZADD s XX 1 a; ZINCRBY s 1 a; ZREM s a; ZCARD s; ZSCORE s a; ZMSCORE s a;
        ZREM z i j q new; EXISTS z
        """)
    )


def test_places(pair: Pair) -> None:
    pair.lines(
        *script("""
        ZADD z 1 a 2 b 2 c 3 d; ZRANK z a; ZRANK z c WITHSCORE; ZREVRANK z c;
        ZREVRANK z c withscore; ZRANK z nope; ZRANK z nope WITHSCORE; ZRANK none a;
        ZRANK none a WITHSCORE; ZRANK z a FOO; ZRANK z a WITHSCORE x; SET s v; ZRANK s a;
        ZREVRANK s a WITHSCORE; ZRANDMEMBER none; ZRANDMEMBER none 2;
        ZRANDMEMBER none 2 WITHSCORES; ZRANDMEMBER z 0; ZRANDMEMBER z x; ZRANDMEMBER z 1 FOO;
        ZRANDMEMBER z 1 WITHSCORES x; ZRANDMEMBER z -4611686018427387904 WITHSCORES;
        ZRANDMEMBER z -9223372036854775808; ZRANDMEMBER s; ZADD one 1.5 a; ZRANDMEMBER one;
        ZRANDMEMBER one 5; ZRANDMEMBER one -2; ZRANDMEMBER one -2 WITHSCORES;
        ZRANDMEMBER one 2 WITHSCORES; ZSCAN z 0; ZSCAN z 0 MATCH a; ZSCAN z 0 NOSCORES;
        ZSCAN z 0 NOVALUES; ZSCAN z 0 COUNT 0; ZSCAN none 0; ZSCAN s 0; ZSCAN z x
        """)
    )


def test_ranges_by_place(pair: Pair) -> None:
    pair.same("ZADD", "z", *[word for n in range(6) for word in (n / 2, f"m{n}")])
    for start in (0, 2, 5, 9, -1, -3, -9, "x", 2**63 - 1, -(2**63), 2**63):
        for stop in (0, 3, 9, -1, -4, -9, "x"):
            pair.same("ZRANGE", "z", start, stop)
            pair.same("ZRANGE", "z", start, stop, "REV", "WITHSCORES")
            pair.same("ZREVRANGE", "z", start, stop)
            pair.same("ZRANGESTORE", "d", "z", start, stop)
            pair.same("ZREMRANGEBYRANK", "d", start, stop)


BOUNDS = (
    "-inf",
    "+inf",
    "0",
    "1",
    "(1",
    "2",
    "(2",
    "1.5",
    "(-inf",
    "(inf",
    "5",
    "x",
    "",
    "(",
    "1e400",
)


@pytest.mark.parametrize("longest", [1, 70])  # a listpack, a skiplist
def test_ranges_by_score(pair: Pair, longest: int) -> None:
    chosen = random.Random(4)
    pair.lines("ZADD z -inf a 0 b 1 c 1 d 1.5 e 2 f 2 g inf h", f"ZADD z 1 {'m' * longest}")
    for low in BOUNDS:
        for high in BOUNDS:
            limit = ("LIMIT", chosen.randint(-3, 4), chosen.randint(-2, 4))
            pair.same("ZRANGEBYSCORE", "z", low, high, *limit, "WITHSCORES")
            pair.same("ZREVRANGEBYSCORE", "z", high, low, *limit)
            pair.same("ZRANGE", "z", low, high, "BYSCORE", "REV", *limit)
            pair.same("ZCOUNT", "z", low, high)
            pair.same("ZRANGESTORE", "d", "z", low, high, "BYSCORE", *limit)
            pair.same("ZREMRANGEBYSCORE", "d", low, high)


STRINGS = ("-", "+", "[a", "(a", "[c", "(c", "[", "(", "[zz", "a", "", "-x", "+x")


@pytest.mark.parametrize("longest", [1, 70])
def test_ranges_by_string(pair: Pair, longest: int) -> None:
    chosen = random.Random(5)
    pair.lines(f"ZADD z 0 a 0 aa 0 b 0 c 0 ca 0 d 0 {'m' * longest}")
    pair.same("ZADD", "z", 0, "")
    for low in STRINGS:
        for high in STRINGS:
            limit = ("LIMIT", chosen.randint(-3, 4), chosen.randint(-2, 4))
            pair.same("ZRANGEBYLEX", "z", low, high, *limit)
            pair.same("ZREVRANGEBYLEX", "z", high, low)
            pair.same("ZRANGE", "z", low, high, "BYLEX", "REV", *limit)
            pair.same("ZLEXCOUNT", "z", low, high)
            pair.same("ZRANGESTORE", "d", "z", low, high, "BYLEX", *limit)
            pair.same("ZREMRANGEBYLEX", "d", low, high)


def test_range_options(pair: Pair) -> None:
    pair.lines(
        *script("""
        ZADD z 1 a 2 b; SET s v; ZRANGE z a b; ZRANGE z 0 -1 BYSCORE BYLEX;
        ZRANGE z 0 -1 LIMIT 0 1; ZRANGE z 0 -1 LIMIT 0 -1; ZRANGE z 0 -1 BYLEX WITHSCORES;
        ZRANGE z 0 -1 BYSCORE LIMIT x 1; ZRANGE z 0 -1 BYSCORE LIMIT 0; ZRANGE z 0 -1 FOO;
        ZRANGE z a b BYSCORE; ZRANGE z a b BYLEX; ZRANGESTORE y z 0 -1 WITHSCORES; ZRANGE none a b;
        ZRANGE none 0 1; ZRANGE none a b BYSCORE; ZREVRANGE z 0 -1 REV; ZREVRANGE z 0 -1 LIMIT 0 1;
        ZRANGEBYSCORE z 0 9 BYSCORE; ZRANGEBYSCORE z 0 9 REV; ZRANGEBYLEX z - + WITHSCORES;
        ZREVRANGEBYSCORE z 9 0 LIMIT 0 -1; ZRANGE s 0 1; ZRANGE s x 1; ZRANGEBYSCORE s 0 x;
        ZRANGEBYLEX s - x; ZRANGESTORE y s 0 1; ZCOUNT s 0 1; ZLEXCOUNT s - +;
        ZREMRANGEBYRANK s 0 1; ZREMRANGEBYSCORE s 0 1; ZREMRANGEBYLEX s - +;
        ZREMRANGEBYRANK none 0 1; ZREMRANGEBYRANK none x 1; ZRANGESTORE s z 0 -1; TYPE s;
        EXPIRE s 100; ZRANGESTORE s z 0 -1; TTL s; ZRANGESTORE s none 0 -1; EXISTS s;
        ZRANGE z 0 -1 rev withscores
        """)
    )


def test_popping(pair: Pair) -> None:
    pair.lines(
        *script("""
        ZADD z 1 a 2 b 3 c 4 d 5 e 6 f 7 g 8 h; ZPOPMIN z; ZPOPMAX z; ZPOPMIN z 2; ZPOPMAX z 2;
        ZPOPMIN z 0; ZPOPMIN z -1; ZPOPMIN z x; ZPOPMIN z 1 2; ZPOPMIN none; ZPOPMIN none 1;
        ZMPOP 1 z MIN; ZADD z 1 a 2 b; ZMPOP 2 none z MAX COUNT 2; ZMPOP 1 none MIN; ZMPOP 0 z MIN;
        ZMPOP x z MIN; ZMPOP 3 z MIN; ZMPOP 1 z FOO; ZMPOP 1 z MIN COUNT 0; ZMPOP 1 z MIN COUNT;
        ZMPOP 1 z MIN FOO 1; ZMPOP 1 z MIN COUNT 1 COUNT 1; SET s v; ZPOPMIN s; ZPOPMAX s 1;
        ZMPOP 1 s MIN; ZMPOP 2 s z MIN; BZPOPMIN z x; BZPOPMIN z -1; BZPOPMIN s 0;
        BZMPOP x 1 z MIN; BZMPOP x 0 z MIN; BZMPOP 0 1 z FOO; BZPOPMAX none z 0;
        ZADD z 1 a 2 b 3 c; BZPOPMIN none z 0; BZMPOP 0 2 none z MAX COUNT 2; EXISTS z; MULTI;
        BZPOPMIN z 0; BZMPOP 0 1 z MIN; ZADD z 1 a; BZPOPMAX z 0; EXEC
        """)
    )


def test_several_sorted_sets(pair: Pair) -> None:
    pair.lines(*script("ZADD a 1 x 2 y 3 z -1 w; ZADD b 10 y 20 z 30 v; SADD t x y q; SET s v"))
    how = (
        *((), ("WEIGHTS", 2, 3), ("AGGREGATE", "MIN"), ("AGGREGATE", "MAX", "WEIGHTS", -1, 0.5)),
        *(
            ("WEIGHTS", "inf", 0),
            ("WEIGHTS", 2),
            ("WEIGHTS", 1, "x"),
            ("AGGREGATE", "AVG"),
            ("FOO",),
        ),
    )
    for keys in (("a", "b"), ("b", "t"), ("t", "none"), ("a", "a"), ("a", "s"), ("none", "none")):
        for options in how:
            for name in ("ZUNION", "ZINTER"):
                pair.same(name, 2, *keys, *options)
                pair.same(name, 2, *keys, *options, "WITHSCORES")
                pair.same(f"{name}STORE", "d", 2, *keys, *options)
                pair.same("ZRANGE", "d", 0, -1, "WITHSCORES")
        pair.same("ZDIFF", 2, *keys, "WITHSCORES")
        pair.same("ZDIFFSTORE", "d", 2, *keys)
        pair.same("ZINTERCARD", 2, *keys)
        pair.same("ZINTERCARD", 2, *keys, "LIMIT", 1)
    pair.lines(
        *script("""
        ZUNION 0 a; ZUNION x a; ZUNION 3 a; ZINTER 0 a; ZDIFF 0 a; ZINTERCARD 0 a;
        ZUNIONSTORE d 0 a; ZINTERSTORE d x a; ZDIFFSTORE d 9 a; ZDIFF 1 a WEIGHTS 1;
        ZDIFF 1 a AGGREGATE MIN; ZINTERCARD 2 a; ZINTERCARD 1 a LIMIT -1; ZINTERCARD 1 a LIMIT x;
        ZINTERCARD 1 a WITHSCORES; ZUNIONSTORE d 1 a WITHSCORES; ZUNION 1 a WEIGHTS;
        ZUNION 1 a AGGREGATE; ZUNION 1 s FOO; ZDIFF 1 a WITHSCORES WITHSCORES; EXPIRE a 100;
        ZUNIONSTORE a 1 a; TTL a; ZINTERSTORE s 1 none; EXISTS s
        """)
    )


def test_events_and_effects(witness: Witness) -> None:
    witness.agree(
        *script("""
        ZADD z 1 a 2 b; ZADD z 1 a; ZADD z XX 3 c; ZADD z 5 a 1 d; ZADD z INCR 1 a;
        ZADD z NX INCR 1 a; ZINCRBY z 0 a; ZINCRBY z 1 a; ZREM z a q; ZREM z q; ZPOPMIN z;
        ZPOPMIN z 0; ZPOPMAX z 5; ZADD z 1 a 2 b 3 c; ZMPOP 1 z MIN; ZMPOP 1 z MAX COUNT 10;
        ZADD z 1 a 2 b 3 c; BZPOPMIN z 0; BZPOPMAX z 0; BZMPOP 0 1 z MIN COUNT 3;
        ZADD z 1 a 2 b 3 c; ZREMRANGEBYRANK z 0 0; ZREMRANGEBYRANK z 9 9; ZREMRANGEBYSCORE z 2 2;
        ZREMRANGEBYLEX z - +; ZADD z 1 a 2 b 3 c; ZRANGESTORE y z 0 1; ZRANGESTORE y z 5 6;
        ZUNIONSTORE y 1 z; ZINTERSTORE y 2 z none; ZINTERSTORE y 2 z z; ZDIFFSTORE y 2 z none;
        ZDIFFSTORE y 2 z z; ZDIFFSTORE y 2 z z; ZRANGE none 0 1; ZSCORE none a; ZRANK none a;
        ZPOPMIN none; ZUNION 2 z none; ZCARD none
        """)
    )


@pytest.mark.parametrize("limits", [(3, 5), (128, 64)])
def test_encodings(pair: Pair, limits: tuple[int, int]) -> None:
    names = ("zset-max-listpack-entries", "zset-max-listpack-value")
    for name, limit in zip(names, limits, strict=True):
        pair.same("CONFIG", "SET", name, limit)
    chosen = random.Random(limits[0])
    for _ in range(60):
        pair.same("DEL", "z")
        for _ in range(chosen.randrange(1, 4)):
            members = chosen.choices(
                ("a", "b", "c", "d", "long-member", "m" * 65), k=chosen.randrange(1, 5)
            )
            pair.same(
                "ZADD", "z", *[word for m in members for word in (chosen.choice(("-0", 1)), m)]
            )
            pair.same("OBJECT", "ENCODING", "z")
            pair.same("ZRANGE", "z", 0, -1, "WITHSCORES")
            pair.same("ZRANGESTORE", "d", "z", 0, 2)
            pair.same("OBJECT", "ENCODING", "d")
            pair.same("ZUNIONSTORE", "d", 1, "z")
            pair.same("OBJECT", "ENCODING", "d")
    for name, limit in zip(names, (128, 64), strict=True):
        pair.same("CONFIG", "SET", name, limit)


def test_random_members_of_a_large_one(pair: Pair) -> None:
    scores = {b"m%d" % number: float(number) for number in range(300)}
    for server in (pair.ours.raw, pair.theirs_raw):
        server("ZADD", "z", *[word for member, score in scores.items() for word in (score, member)])
        found = decoded(server("ZRANDMEMBER", "z", 100))
        assert len(set(found)) == 100 and scores.keys() >= set(found)
        assert len(decoded(server("ZRANDMEMBER", "z", -1000))) == 1000
    pair.unordered("ZRANDMEMBER", "z", 1000)


def test_a_scan_meets_whoever_stays() -> None:
    ours = Ours()
    chosen = random.Random(2)
    stay = {b"stay%d" % number for number in range(300)}
    for member in stay:
        ours.ask("ZADD", "z", 1, member)
    cursor, met = b"0", set[bytes]()
    while True:
        cursor, found = ours.ask("ZSCAN", "z", cursor, "COUNT", 7, "NOSCORES")
        met |= set(found)
        if cursor == b"0":
            break
        ours.ask("ZADD", "z", chosen.random(), f"new{chosen.randrange(50)}")
        ours.ask("ZREM", "z", f"new{chosen.randrange(50)}")
    assert stay <= met


def test_waiting() -> None:
    ours = local_node()
    lowest, highest, several, pusher = (ours.client() for _ in range(4))
    lowest.send("BZPOPMIN", "z", 0)
    highest.send("BZPOPMAX", "none", "z", 0)
    several.send("BZMPOP", 0, 1, "z", "MIN", "COUNT", 5)
    pusher.raw(b"RPUSH z x\r\nDEL z\r\nZADD z 1 a 2 b 3 c 4 d\r\n")
    assert lowest.next() == [b"z", b"a", b"1"]
    assert highest.next() == [b"z", b"d", b"4"]
    assert several.next() == [b"z", [[b"b", b"2"], [b"c", b"3"]]]
    lowest.send("BZPOPMIN", "z", 0.05)
    pusher.raw(b"ZADD y 1 a\r\nZUNIONSTORE z 1 y\r\n")
    assert lowest.next() == [b"z", b"a", b"1"]
    lowest.send("BZPOPMIN", "z", 0.05)
    ours.advance(50)
    assert lowest.session.take_output() == b"*-1\r\n"
