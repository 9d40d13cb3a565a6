"""Random writes of all types, many of them logged in other words than they come in.

Keys that expire do so within SHORT_MS or not for years: once that time is over, a data set stands
still.
"""

import random
from collections.abc import Callable, Iterator

import attrs

Word = str | bytes | int | float
Command = tuple[Word, ...]

SHORT_MS = 300
LATER_MS = 4102444800000  # the year 2100
DATABASES = (0, 3)  # those that data_set.contents reads
KEYS = 12  # of each type
LIBRARY = """#!lua name=links
redis.register_function('both', function(keys, args)
  redis.call('INCRBYFLOAT', keys[1], args[1])
  redis.call('RPUSH', keys[2], redis.call('GET', keys[1]))
  return redis.call('LLEN', keys[2])
end)
"""
# The types of the two keys that each takes, and its source.
SCRIPTS = (
    ("sl", "redis.call('SET',KEYS[1],redis.call('TIME')[1]) redis.call('LPUSH',KEYS[2],'x')"),
    (
        "zz",
        "for i=1,5 do redis.call('ZADD',KEYS[1],i,'m'..i) end return redis.call('ZPOPMIN',KEYS[2])",
    ),
    ("nn", "redis.call('SELECT',3) redis.call('INCR',KEYS[1]) redis.call('SELECT',0) return 1"),
    ("tt", "redis.call('SADD',KEYS[1],1,2,3,4) return redis.call('SPOP',KEYS[2],2)"),
    ("nn", "redis.call('INCR',KEYS[1]) return redis.error_reply('after a write')"),
)


@attrs.define(eq=False)
class Load:
    """field_deadlines: hashes get fields that expire, which redis-server 7.0 knows nothing of."""

    random: random.Random
    field_deadlines: bool = False

    def batch(self, size: int) -> list[Command]:
        """So many commands or a few more, for one connection; some of them may be refused."""
        found: list[Command] = []
        while len(found) < size:
            if self.random.random() < 0.08:
                found.append(("SELECT", self.random.choice(DATABASES)))
            if self.random.random() < 0.06:
                found += [("MULTI",), *[self.command() for _ in range(3)], ("EXEC",)]
            else:
                found.append(self.command())
        return found

    def command(self) -> Command:
        """One write."""
        makers = _MAKERS if not self.field_deadlines else _MAKERS + (_timed_fields,) * 3
        maker: Callable[[Load], Command] = self.random.choice(makers)
        return maker(self)

    def key(self, kind: str) -> str:
        return f"{kind}:{self.random.randrange(KEYS)}"

    def member(self) -> Word:
        return self.random.choice((self.random.randrange(20), f"m{self.random.randrange(30)}"))

    def members(self, most: int = 4) -> Iterator[Word]:
        return (self.member() for _ in range(self.random.randint(1, most)))

    def value(self) -> Word:
        rng = self.random
        return rng.choice(
            (rng.randrange(10**6), f"v{rng.random()}", rng.randbytes(rng.randrange(90)))
        )

    def soon_ms(self) -> int:
        return self.random.randint(1, SHORT_MS)

    def pick(self, *commands: Command) -> Command:
        return self.random.choice(commands)


def _strings(load: Load) -> Command:
    key, other, value = load.key("s"), load.key("s"), load.value()
    return load.pick(
        ("SET", key, value),
        ("SET", key, value, "PX", load.soon_ms()),
        ("SET", key, value, "EX", 10**9, "NX"),
        ("SET", key, value, "KEEPTTL", "GET"),
        ("SETEX", key, 10**9, value),
        ("GETEX", key, "PX", load.soon_ms()),
        ("GETEX", key, "PERSIST"),
        ("GETDEL", key),
        ("GETSET", key, value),
        ("APPEND", key, value),
        ("SETRANGE", key, load.random.randrange(30), value),
        ("MSET", key, value, other, value),
        ("MSETNX", key, value, other, value),
        ("SETBIT", key, load.random.randrange(200), 1),
        ("BITFIELD", key, "INCRBY", "u8", 8, 3, "OVERFLOW", "SAT", "SET", "i5", 0, 9),
        ("BITOP", load.random.choice(("AND", "OR", "XOR")), key, other, load.key("s")),
    )


def _numbers(load: Load) -> Command:
    key = load.key("n")
    return load.pick(
        ("INCR", key),
        ("INCRBY", key, load.random.randint(-50, 50)),
        ("INCRBYFLOAT", key, load.random.choice((0.1, 1e10, -2.5, "3.0e-3"))),
        ("DECR", key),
        ("SET", key, 7),
    )


def _lists(load: Load) -> Command:
    key, other = load.key("l"), load.key("l")
    return load.pick(
        ("RPUSH", key, *load.members()),
        ("LPUSH", key, *load.members()),
        ("LPOP", key, 2),
        ("RPOP", key),
        ("LMOVE", key, other, "LEFT", "RIGHT"),
        ("RPOPLPUSH", key, other),
        ("BLPOP", key, other, 0.001),
        ("BLMOVE", key, other, "RIGHT", "LEFT", 0.001),
        ("LMPOP", 2, key, other, "LEFT", "COUNT", 2),
        ("LINSERT", key, "BEFORE", load.member(), load.member()),
        ("LREM", key, 1, load.member()),
        ("LSET", key, 0, load.value()),
        ("LTRIM", key, 0, 60),
    )


def _sets(load: Load) -> Command:
    key, other = load.key("t"), load.key("t")
    return load.pick(
        ("SADD", key, *load.members()),
        ("SREM", key, *load.members()),
        ("SPOP", key),
        ("SPOP", key, 3),
        ("SMOVE", key, other, load.member()),
        ("SINTERSTORE", load.key("t"), key, other),
        ("SUNIONSTORE", load.key("t"), key, other),
        ("SDIFFSTORE", load.key("t"), key, other),
    )


def _hashes(load: Load) -> Command:
    key = load.key("h")
    return load.pick(
        ("HSET", key, *[word for name in load.members() for word in (name, load.value())]),
        ("HSETNX", key, load.member(), load.value()),
        ("HINCRBY", key, "count", 3),
        ("HINCRBYFLOAT", key, "sum", 0.25),
        ("HDEL", key, *load.members()),
    )


def _timed_fields(load: Load) -> Command:
    key, name, soon_ms = load.key("timed"), load.member(), load.soon_ms()
    return load.pick(
        ("HSET", key, name, load.value()),
        ("HPEXPIRE", key, soon_ms, "FIELDS", 1, name),
        ("HPEXPIREAT", key, LATER_MS, "FIELDS", 1, name),
        ("HPERSIST", key, "FIELDS", 1, name),
        ("HSETEX", key, "PX", soon_ms, "FIELDS", 2, name, 1, load.member(), 2),
        ("HSETEX", key, "KEEPTTL", "FIELDS", 1, name, load.value()),
        ("HGETEX", key, "PX", soon_ms, "FIELDS", 1, name),
        ("HGETEX", key, "PERSIST", "FIELDS", 1, name),
    )


def _sorted_sets(load: Load) -> Command:
    key, other, score = load.key("z"), load.key("z"), load.random.choice((1, 2.5, -3e50, "inf"))
    return load.pick(
        ("ZADD", key, score, load.member(), 1, load.member()),
        ("ZADD", key, load.random.choice(("GT", "LT", "NX", "XX")), "CH", score, load.member()),
        ("ZADD", key, "INCR", 1.5, load.member()),
        ("ZINCRBY", key, 0.1, load.member()),
        ("ZREM", key, *load.members()),
        ("ZPOPMIN", key),
        ("ZPOPMAX", key, 2),
        ("BZPOPMIN", key, 0.001),
        ("ZMPOP", 1, key, "MAX"),
        ("ZRANGESTORE", other, key, 0, 3),
        ("ZUNIONSTORE", other, 2, key, load.key("z"), "WEIGHTS", 2, 3, "AGGREGATE", "MIN"),
        ("ZINTERSTORE", other, 2, key, load.key("t")),
        ("ZREMRANGEBYRANK", key, 10, 20),
        ("GEOADD", load.key("g"), load.random.uniform(-170, 170), 10, load.member()),
        ("GEOSEARCHSTORE", key, load.key("g"), "FROMLONLAT", 0, 0, "BYRADIUS", 9000, "km"),
    )


def _streams(load: Load) -> Command:
    key, group = load.key("x"), load.random.choice(("a", "b"))
    reader = load.random.choice(("ann", "bob"))
    return load.pick(
        ("XADD", key, "*", "f", load.value()),
        ("XADD", key, "MAXLEN", "~", 100, "*", "f", 1, "g", load.value()),
        ("XADD", key, "MAXLEN", 20, "*", "h", 1),
        ("XGROUP", "CREATE", key, group, "0", "MKSTREAM"),
        ("XGROUP", "CREATECONSUMER", key, group, reader),
        ("XGROUP", "SETID", key, group, "0"),
        ("XGROUP", "DESTROY", key, "b"),
        ("XREADGROUP", "GROUP", group, reader, "COUNT", 3, "STREAMS", key, ">"),
        ("XREADGROUP", "GROUP", group, reader, "COUNT", 2, "NOACK", "STREAMS", key, ">"),
        ("XAUTOCLAIM", key, group, reader, 0, "0", "COUNT", 5),
        ("XCLAIM", key, group, reader, 0, "1-1", "FORCE", "JUSTID"),
        ("XACK", key, group, "1-1"),
        ("XTRIM", key, "MAXLEN", "~", 200),
        ("XDEL", key, "1-1"),
    )


def _keys(load: Load) -> Command:
    key, other = load.key(load.random.choice("slthzx")), load.key(load.random.choice("slthzx"))
    return load.pick(
        ("PEXPIRE", key, load.soon_ms()),
        ("PEXPIREAT", key, LATER_MS, "NX"),
        ("EXPIRE", key, -1),
        ("PERSIST", key),
        ("DEL", key),
        ("UNLINK", key),
        ("COPY", load.key("l"), load.key("l"), "REPLACE"),
        ("COPY", load.key("x"), load.key("x"), "DB", 3, "REPLACE"),
        ("RENAME", key, other) if key[0] == other[0] else ("DEL", other),
        ("MOVE", key, 3),
        ("SORT", load.key("t"), "ALPHA", "STORE", load.key("l")),
        ("PFADD", load.key("p"), *load.members()),
        ("PFMERGE", load.key("p"), load.key("p")),
        ("PUBLISH", "news", load.value()),
    )


def _rarely(load: Load) -> Command:
    if load.random.random() < 0.97:
        return ("SADD", "rare", load.member())
    return load.pick(("SWAPDB", 0, 3), ("FLUSHDB",), ("FUNCTION", "LOAD", "REPLACE", LIBRARY))


def _scripts(load: Load) -> Command:
    types, source = load.random.choice(SCRIPTS)
    return load.pick(
        ("EVAL", source, 2, *map(load.key, types)),
        ("FCALL", "both", 2, load.key("n"), load.key("l"), 0.5),
    )


_MAKERS = (
    *(_strings, _strings, _numbers, _lists, _sets, _hashes, _sorted_sets, _streams, _streams),
    *(_keys, _scripts, _rarely),
)
