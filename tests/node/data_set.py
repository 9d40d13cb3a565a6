"""A data set of all types, made by commands, and what any server says that it holds."""

import random
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import hiredis

Command = tuple[str | bytes | int | float, ...]

LATER = 4102444800000  # ms; the year 2100


def ask(port: int, commands: Iterable[Command]) -> list[Any]:
    """The replies to commands sent at once; errors are returned."""
    requests = [hiredis.pack_command(command) for command in commands]
    reader, replies = hiredis.Reader(), []
    with socket.create_connection(("127.0.0.1", port), 20) as sock:
        sock.sendall(b"".join(requests))
        while len(replies) < len(requests):
            while (reply := reader.gets()) is False:
                data = sock.recv(1 << 20)
                if not data:
                    raise ConnectionError("the server closed the connection")
                reader.feed(data)
            replies.append(reply)
    return replies


def making(rng: random.Random, field_deadlines: bool = False) -> Iterator[Command]:
    """Commands that make a data set: small and large encodings of every type, in two databases,
    some keys with deadlines."""
    for db in (0, 3):
        yield "SELECT", db
        yield from _strings(rng)
        for size, longest in ((1, 4), (10, 20), (100, 200), (700, 30), (4, 9000)):
            yield from _collections(rng, f"{size}-{longest}", size, longest)
        yield "SADD", "integers", *[rng.randint(-(2**40), 2**40) for _ in range(300)]
        yield "SADD", "few-integers", 1, -2, 30000
        yield from _streams(rng)
        if field_deadlines:
            yield from _field_deadlines(rng)


def _strings(rng: random.Random) -> Iterator[Command]:
    for number, value in enumerate(
        [b"", b"text", b"x" * 5000, rng.randbytes(5000), 0, -1, 2**31, -(2**63), 2**63 - 1, "007"]
    ):
        yield "SET", f"string:{number}", value
    yield "APPEND", "string:1", "more"
    yield "INCRBY", "string:4", 77
    yield "PEXPIREAT", "string:5", LATER + rng.randrange(1000)
    yield "SETBIT", "bits", 20000, 1
    yield "PFADD", "counted", *range(50)
    yield "PFADD", "counted-many", *range(3000)
    yield "ZADD", "places", 3479099956230698, "Palermo", 3479447370796909, "Catania"


def _collections(rng: random.Random, name: str, size: int, longest: int) -> Iterator[Command]:
    words = [
        rng.randint(-(10**9), 10**9)
        if rng.random() < 0.3
        else rng.randbytes(rng.randint(0, longest))
        for _ in range(size)
    ]
    yield "RPUSH", f"list:{name}", *words
    yield "SADD", f"set:{name}", *words
    yield "HSET", f"hash:{name}", *[each for word in words for each in (word, rng.randbytes(5))]
    scores = [rng.choice([0, 1, -1.5, 3.25e100, "inf", "-inf", 1 / 3]) for _ in words]
    yield (
        "ZADD",
        f"zset:{name}",
        *[each for pair in zip(scores, words, strict=True) for each in pair],
    )
    if rng.random() < 0.5:
        yield "PEXPIREAT", f"list:{name}", LATER + size


def _streams(rng: random.Random) -> Iterator[Command]:
    for number in range(1, 251):
        fields = ("a", "b") if number % 3 else ("a", f"other{number}")
        yield (
            "XADD",
            "stream",
            f"{number * 10}-{number % 2}",
            *[each for field in fields for each in (field, number)],
        )
    yield "XDEL", "stream", "30-1", "40-0"
    yield "XGROUP", "CREATE", "stream", "first", "0"
    yield "XGROUP", "CREATE", "stream", "second", "$"
    yield "XGROUP", "CREATE", "no-entries", "lonely", "$", "MKSTREAM"
    yield "XREADGROUP", "GROUP", "first", "ann", "COUNT", 20, "STREAMS", "stream", ">"
    yield "XREADGROUP", "GROUP", "first", "bob", "COUNT", 5, "STREAMS", "stream", ">"
    yield "XACK", "stream", "first", "10-1", "20-0"


def _field_deadlines(rng: random.Random) -> Iterator[Command]:
    for size in (3, 600):
        name = f"timed:{size}"
        yield "HSET", name, *[each for number in range(size) for each in (f"f{number}", number)]
        for number in range(0, size, 3):
            yield "HPEXPIREAT", name, LATER + rng.randrange(1000), "FIELDS", 1, f"f{number}"


_READERS: dict[bytes, tuple[str | int, ...]] = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"set": ("SMEMBERS",),
    b"hash": ("HGETALL",),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"stream": ("XINFO", "FULL", "COUNT", 0),
}
_VOLATILE = {  # of XINFO STREAM FULL: how it is stored, and when it was looked at
    *(b"radix-tree-keys", b"radix-tree-nodes", b"seen-time", b"active-time"),
}


def contents(port: int, field_deadlines: bool = False) -> dict[tuple[int, bytes], Any]:
    """What is at every key: its type, deadline, and value in an order of its own."""
    found: dict[tuple[int, bytes], Any] = {}
    for db in (0, 3):
        _, keys = ask(port, [("SELECT", db), ("KEYS", "*")])
        types = ask(port, [("SELECT", db), *[("TYPE", key) for key in keys]])[1:]
        requests: list[Command] = [("SELECT", db)]
        for key, kind in zip(keys, types, strict=True):
            requests += [("PEXPIRETIME", key), _reading(key, kind)]
        replies = ask(port, requests)[1:]
        for i, (key, kind) in enumerate(zip(keys, types, strict=True)):
            found[db, key] = kind, replies[2 * i], _ordered(kind, replies[2 * i + 1])
        if field_deadlines:
            hashes = [key for key, kind in zip(keys, types, strict=True) if kind == b"hash"]
            for key in hashes:
                fields = sorted(found[db, key][2])
                asked = ("HPEXPIRETIME", key, "FIELDS", len(fields), *fields)
                found[db, key] += (ask(port, [("SELECT", db), asked])[1],)
    return found


def _reading(key: bytes, kind: bytes) -> Command:
    word, *rest = _READERS[kind]
    return (word, "STREAM", key, *rest) if kind == b"stream" else (word, key, *rest)


def _ordered(kind: bytes, reply: Any) -> Any:
    match kind:
        case b"set":
            return sorted(reply)
        case b"hash":
            return dict(zip(reply[::2], reply[1::2], strict=True))
        case b"zset":  # versions print scores in different ways
            return list(zip(reply[::2], map(float, reply[1::2]), strict=True))
        case b"stream":
            return _stable(reply)
    return reply


def _stable(reply: Any) -> Any:
    """A nested reply without what depends on the moment or the implementation."""
    if not isinstance(reply, list):
        return reply
    found, skips = [], False
    for each in reply:
        if skips or (isinstance(each, bytes) and each in _VOLATILE):
            skips = not skips
            continue
        found.append(_stable(each))
    return found
