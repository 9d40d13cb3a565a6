"""What stands where a usage line names an argument: mostly sensible, sometimes far from it."""

from random import Random

KEYS = {
    "string": ("s1", "s2", "s3", "n1", "n2"),
    "bitmap": ("b1", "b2", "b3", "s1"),
    "list": ("l1", "l2", "l3"),
    "hash": ("h1", "h2", "h3"),
    "set": ("t1", "t2", "t3"),
    "sorted-set": ("z1", "z2", "z3", "g1"),
    "stream": ("x1", "x2"),
    "hyperloglog": ("p1", "p2", "p3"),
    "geo": ("g1", "g2", "z1"),
}
EVERY_KEY = tuple(dict.fromkeys(key for keys in KEYS.values() for key in keys))

JUNK = (
    *("", "abc", "1.5", "-1", "0", " 1", "1 ", "+1", "01", "-0", "1e3", "nan", "inf", "-inf"),
    *(str(2**63 - 1), str(-(2**63)), str(2**63), str(-(2**63) - 1), str(2**64), "9" * 30),
    *("0x10", "(1", "[a", "-", "+", "*", "$", ">", "a\r\nb", b"\xff\xfe", b"a\0b", "nx", "COUNT"),
    *("withscores", "1e400", "-1e400", "1_000", "٣", "0.1.2", "NaN", "infinity", "4294967296"),
)
VALUES = (
    *("", "a", "b", "foo", "hello world", "10", "-5", "3.25", "0", "1e3", "x" * 44, "x" * 45),
    *(
        "x" * 70,
        b"\0\1\xff\r\n",
        "héllo",
        str(2**63 - 1),
        str(-(2**63)),
        "007",
        "3.0e3",
        "y" * 5000,
    ),
)
MEMBERS = (*"abcdef", "foo", "bar", "1", "2", "3", "10", "007", "3.5", "m" * 65, "", "é", "-1")
FIELDS = ("f1", "f2", "f3", "f4", "1", "2", "", "n", "f" * 65)
INDICES = (0, 1, -1, 2, -2, 3, 5, -5, 10, -10, 100, -100)
EXTREMES = (2**31 - 1, 2**31, -(2**31), 2**32, 2**62, 2**63 - 1, -(2**63), -(2**63) + 1)
SCORES = (
    *("0", "1", "2", "3", "-1", "1.5", "2.25", "1e3", "-0", "0.1", "inf", "-inf", "1e-7", "+5"),
    *("123456789012", "1e20", "3.14159265358979", "1e308", "-1e308", "5e-324", "0x1p3"),
)
SCORE_BOUNDS = ("-inf", "+inf", "0", "1", "2", "3", "(1", "(2", "-5", "5", "(inf", "1.5", "(")
LEX_BOUNDS = ("-", "+", "[a", "(a", "[c", "(c", "[foo", "(foo", "[", "(", "[zz")
INCREMENTS = ("1", "-1", "0.1", "-0.5", "3.0e3", "1e-5", "5.0e10", "1e17", "100", "1e308", "2")
PATTERNS = ("*", "s*", "?1", "*1", "[lhs]1", "[^s]*", "nomatch", "h[1-2]", "\\*", "a*", "f?", "*[")
WHOLE_KEYS = ("*", "w_*", "h1->f*", "#", "nokey*", "h*->f1", "*->", "s*")
# The near future would come while a seed runs: far away, or over already.
SECONDS = (100, 1000, 5000, 99999, 0, -1, -100)
MILLISECONDS = (100_000, 1_000_000, 5_000_000, 0, -1)
AT_SECONDS = (4102444800, 4102444801, 33177117420, 1, 0)
AT_MILLISECONDS = (4102444800000, 4102444800123, 33177117420000, 1, 0)
OFFSETS = (0, 1, 2, 3, 7, 8, 9, 15, 31, 64, 100, 1000)
IDS = ("1-1", "2-0", "2-1", "3", "4-2", "5-5", "0-0", "0", "7-1", "9-9", "12-0")
NEW_IDS = ("1-1", "2-0", "3-1", "4-2", "5-5", "6-*", "8-*", "9-9", "12-0", "20-*", "30-1", "40")
PLACES = (("13.361389", "38.115556"), ("15.087269", "37.502669"), ("2.349", "48.864"))

NUMBERS: dict[str, tuple[object, ...]] = {
    "index": INDICES,
    "start": INDICES,
    "stop": INDICES,
    "end": INDICES,
    "rank": INDICES,
    "count": (1, 2, 3, 10, 0, -1, -5, 100),
    "limit": (0, 1, 2, 10),
    "num-matches": (0, 1, 2),
    "len": (0, 1, 3, 100),
    "min-match-len": (0, 1, 2, 4),
    "cursor": (0, 0, 0, 0, 1),
    "seconds": SECONDS,
    "milliseconds": MILLISECONDS,
    "unix-time-seconds": AT_SECONDS,
    "unix-time-milliseconds": AT_MILLISECONDS,
    "ttl": (0, 100_000, 4102444800000),
    "db": (0, 1, 2),
    "destination-db": (0, 1, 2),
    "index1": (0, 1, 2),
    "index2": (0, 1, 2),
    "numreplicas": (0,),
    "timeout": (0.01,),
    "increment": (1, -1, 5, -20, 100),
    "decrement": (1, -1, 5, -20, 100),
    "weight": ("1", "2", "0.5", "-1", "inf", "-inf", "0"),
    "entries-added": (0, 5, 100),
    "entries-read": (0, 1, 3, -1),
    "min-idle-time": (0, 0, 0, 10**9),
    "ms": (0, 1000),
    "threshold": (0, 1, 3, 10),
    "frequency": (0, 5),
    "bit": (0, 1),
    "radius": ("100", "0", "200000", "500.5", "1e9"),
    "width": ("100", "400000", "0"),
    "height": ("100", "400000", "0"),
}
TEXTS: dict[str, tuple[str | bytes, ...]] = {
    "value": VALUES,
    "comparison-value": VALUES,
    "element": MEMBERS,
    "pivot": MEMBERS,
    "member": MEMBERS,
    "member1": MEMBERS,
    "member2": MEMBERS,
    "field": FIELDS,
    "score": SCORES,
    "pattern": PATTERNS,
    "by-pattern": WHOLE_KEYS,
    "get-pattern": WHOLE_KEYS,
    "channel": ("ch1", "ch2"),
    "shardchannel": ("ch1", "ch2"),
    "message": VALUES,
    "encoding": (
        "u8",
        "i8",
        "u4",
        "i5",
        "u1",
        "u16",
        "i32",
        "i64",
        "u63",
        "u64",
        "i65",
        "i0",
        "x8",
    ),
    "group": ("g1", "g2"),
    "consumer": ("c1", "c2", "c3"),
    "id": IDS,
    "last-id": IDS,
    "lastid": IDS,
    "max-deleted-id": IDS,
    "type": ("string", "list", "hash", "set", "zset", "stream", "nothing"),
    "subcommand": ("encoding", "getreg", "decode", "todense", "nothing"),
    "script": (
        "return 1",
        "return {1, 2, {3, 'x'}, false}",
        "return redis.call('get', KEYS[1])",
        "return KEYS",
        "return ARGV[1]",
        "return redis.error_reply('MY error')",
        "return redis.status_reply('fine')",
        "error('broken')",
        "return {ok = 'fine'}",
        "return 3.99",
        "return",
        "syntax error",
        "return redis.pcall('incr', KEYS[1])",
        "return cjson.encode({1, 'a', {b = 2}})",
        "return redis.sha1hex(ARGV[1] or '')",
        "return tostring(redis.call('set', KEYS[1], ARGV[1])['ok'])",
        "redis.setresp(3); return redis.call('hgetall', KEYS[1])",
        "#!lua flags=no-writes\nreturn redis.call('set', KEYS[1], 1)",
    ),
    "sha1": ("e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "ffff", "0" * 40),
    "function-code": (
        "#!lua name=lib1\nredis.register_function('fn1', function(k, a) return {k, a} end)",
        "#!lua name=lib2\nredis.register_function{function_name='fn2', "
        "callback=function(k, a) return redis.call('get', k[1]) end, flags={'no-writes'}}",
        "#!lua name=lib1\nredis.register_function('fn3', function(k, a) return #a end)",
        "#!lua name=broken\nnothing here",
        "no shebang",
    ),
    "function": ("fn1", "fn2", "fn3", "nothing"),
    "library-name": ("lib1", "lib2", "nothing"),
    "library-name-pattern": ("lib*", "lib1", "x*"),
}
# Where one command means something else by a name than others do.
SPECIAL: dict[tuple[str, str], tuple[object, ...]] = {
    ("incrbyfloat", "increment"): INCREMENTS,
    ("hincrbyfloat", "increment"): INCREMENTS,
    ("zincrby", "increment"): SCORES,
    ("hincrby", "value"): INDICES,
    ("hset", "field"): FIELDS,
    ("setbit", "value"): (0, 1, 1, 2),
    ("setbit", "offset"): OFFSETS,
    ("getbit", "offset"): OFFSETS,
    ("setrange", "offset"): OFFSETS,
    ("bitfield", "offset"): (*OFFSETS, "#0", "#1", "#5", "#x"),
    ("bitfield_ro", "offset"): (*OFFSETS, "#0", "#1", "#5", "#x"),
    ("bitfield", "value"): (0, 1, -1, 100, 255, 256, -129),
    ("xadd", "id"): NEW_IDS,
    ("xreadgroup", "id"): (">", ">", ">", "0", "1-1"),
    ("xautoclaim", "start"): ("0", "-", "1-1", "3"),
    ("select", "index"): (0, 0, 0, 1, 2),
    ("bitcount", "start"): (*INDICES, 2**62),
    ("xrange", "start"): ("-", "0", "2", "(2-0", "3-1", "-"),
    ("xrange", "end"): ("+", "5", "9-9", "(5-5", "+"),
    ("xrevrange", "end"): ("+", "5", "9-9", "(5-5", "+"),
    ("xrevrange", "start"): ("-", "0", "2", "(2-0", "3-1", "-"),
    ("xpending", "start"): ("-", "0", "2", "(2-0", "-"),
    ("xpending", "end"): ("+", "5", "9-9", "(5-5", "+"),
    ("wait", "timeout"): (1, 10),
    # The only one that stores what is over already: when that is noticed depends on the time.
    ("msetex", "unix-time-seconds"): (4102444800, 33177117420, 0),
    ("msetex", "unix-time-milliseconds"): (4102444800123, 33177117420000, 0),
    ("xpending", "count"): (1, 10, 0, -1),
    ("scan", "count"): (100_000,),
    **{(f"{command}scan", "count"): (100_000, 1, 0) for command in "hsz"},
}
# Below zero that many are promised, however few there are: a huge one is a huge reply.
_RANDOM = ("srandmember", "hrandfield", "zrandmember")
SPECIAL |= {(command, "count"): (1, 2, -3, 10, 0, -20, 2**62, -(2**63)) for command in _RANDOM}
_BY_SCORE = ("zcount", "zrangebyscore", "zrevrangebyscore", "zremrangebyscore")
_BY_LEX = ("zlexcount", "zrangebylex", "zrevrangebylex", "zremrangebylex")
SPECIAL |= {(command, end): SCORE_BOUNDS for command in _BY_SCORE for end in ("min", "max")}
SPECIAL |= {(command, end): LEX_BOUNDS for command in _BY_LEX for end in ("min", "max")}

OFTEN_OUT_OF_PLACE = 0.03
NEVER_WRONG = frozenset(("timeout", "numreplicas"))  # lest a command waits for ever
OTHER_TYPE = 0.06


def key(random: Random, group: str) -> str:
    """A key that mostly holds the group's own type."""
    if group not in KEYS or random.random() < OTHER_TYPE:
        return random.choice((*EVERY_KEY, "nokey"))
    return random.choice(KEYS[group])


def word(random: Random, command: str, name: str) -> str | bytes:
    """What stands for the argument `name` in this command."""
    if command in ("xread", "xreadgroup") and name == "milliseconds":
        return random.choice(("1", "5"))  # another would block for long
    if random.random() < OFTEN_OUT_OF_PLACE and name not in NEVER_WRONG:
        junk = random.choice(JUNK)
        return junk if (name, junk) != ("id", "*") else "-"  # lest a clock makes the id
    special = SPECIAL.get((command, name))
    if special is not None:
        return _spelled(random.choice(special))
    if name in NUMBERS:
        if random.random() < 0.04 and name not in NEVER_WRONG:
            return str(random.choice(EXTREMES))
        return _spelled(random.choice(NUMBERS[name]))
    if name in TEXTS:
        return _some_text(random, name)
    if name == "offset":
        return str(random.choice((0, 1, 2, -1)))
    if name == "longitude":
        return random.choice((*(place[0] for place in PLACES), f"{random.uniform(-181, 181):.5f}"))
    if name == "latitude":
        return random.choice((*(place[1] for place in PLACES), f"{random.uniform(-86, 86):.5f}"))
    if name in ("min", "max"):
        return random.choice((*SCORE_BOUNDS, *LEX_BOUNDS, *map(str, INDICES)))
    return random.choice(("x", "1", *JUNK[:5]))


def _spelled(value: object) -> str | bytes:
    return value if isinstance(value, bytes) else str(value)


def _some_text(random: Random, name: str) -> str | bytes:
    if name in ("member", "element", "value") and random.random() < 0.2:
        return str(random.randint(-30, 30))
    return random.choice(TEXTS[name])
