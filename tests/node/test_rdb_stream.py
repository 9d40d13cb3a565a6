"""Streams as RDB: what is kept, the older types, real servers both ways, broken input."""

import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from node.data.consumers import Group
from node.data.limits import Limits
from node.data.stream import Stream
from node.persistence.rdb import RdbError, decode_dump, encode_dump, write
from node.persistence.rdb.codes import STREAM, STREAM_2, STREAM_3, crc64

LIMITS = Limits()
NOW = 1_700_000_000_000  # ms


def some_stream(rng: random.Random, count: int) -> Stream:
    """With gaps, entries of several shapes, groups and deliveries."""
    value = Stream(LIMITS)
    for number in range(count):
        entry_id = max(value.last_id + 1, (NOW + number // 3) << 64)
        names = rng.choice([[b"name", b"age"], [b"name", b"age"], [b"7"], [b"a", b"a", b""]])
        texts = (rng.randbytes(rng.choice([0, 5, 70])), b"%d" % rng.randint(-(2**63), 2**63 - 1))
        value.append(entry_id, [part for name in names for part in (name, rng.choice(texts))])
    ids = [entry_id for entry_id, _ in value.range()]
    for entry_id in rng.sample(ids, count // 5):
        value.delete(entry_id)
    for name in (b"g", b"workers", b"\xff"):
        value.groups[name] = some_group(rng, ids)
    return value


def some_group(rng: random.Random, ids: list[int]) -> Group:
    group = Group(rng.choice(ids), rng.choice([-1, 0, len(ids)]))
    for number in range(4):
        consumer = group.join(b"c%d" % number, NOW + number)
        consumer.active_ms = consumer.seen_ms  # which is what type 19 makes of it
        for entry_id in rng.sample(ids, len(ids) // 5):
            if group.pending.get(entry_id) is None:
                group.enter(entry_id, consumer, NOW + rng.randrange(1000), rng.randint(1, 300))
    return group


def described(server: Any, key: str) -> Any:
    """All there is to know of a stream at a real server, but for its nodes."""
    reply = server.one("XINFO", "STREAM", key, "FULL", "COUNT", 0)
    return [word for word in reply if not isinstance(word, int)], reply[1], reply[11]


def payload(kind: int, body: bytes) -> bytes:
    data = bytes((kind,)) + body + (10).to_bytes(2, "little")
    return data + crc64(data).to_bytes(8, "little")


@pytest.mark.parametrize("seed", range(8))
def test_round_trip(seed: int) -> None:
    value = some_stream(random.Random(seed), 30 * seed + 5)
    data = encode_dump(value, compress=seed % 2 == 0)
    assert data[0] == STREAM_2
    loaded = decode_dump(data, Limits())
    loaded.check()
    assert loaded == value
    assert loaded.groups[b"g"].consumers[b"c1"].active_ms == NOW + 1
    assert encode_dump(loaded, compress=seed % 2 == 0) == data


def test_an_empty_stream_keeps_what_it_remembers() -> None:
    value = Stream(LIMITS)
    value.append(5 << 64 | 7, [b"a", b"b"])
    value.delete(5 << 64 | 7)
    value.groups[b"g"] = Group(3)
    loaded = decode_dump(encode_dump(value), Limits())
    assert loaded == value
    assert (loaded.length, loaded.last_id, loaded.entries_added) == (0, 5 << 64 | 7, 1)


def test_the_oldest_type() -> None:
    value = Stream(LIMITS)
    value.append(1 << 64, [b"a", b"b"])
    value.append(2 << 64, [b"a", b"c"])
    body = encode_dump(value, compress=False)[1:-10]
    counters = bytes((2, 0, 1, 0, 0, 0, 2, 0))  # last, first and deleted id, entries, groups
    assert body.endswith(bytes((2,)) + counters)
    groups = bytes((1, 1)) + b"g" + bytes((2, 0, 0, 0))
    loaded = decode_dump(
        payload(STREAM, body.removesuffix(counters) + b"\x02\x00" + groups), LIMITS
    )
    assert loaded.range() == value.range()
    assert (loaded.last_id, loaded.entries_added, loaded.max_deleted_id) == (2 << 64, 2, 0)
    assert (loaded.groups[b"g"].last_id, loaded.groups[b"g"].entries_read) == (2 << 64, 2)


@pytest.mark.parametrize("server", ["redis", "valkey"])
def test_real_servers_both_ways(server: str, request: Any, connect: Any) -> None:
    theirs = connect(request.getfixturevalue(f"{server}_server")().port)
    rng = random.Random(3)
    for number in range(6):
        value = some_stream(rng, rng.choice([5, 40, 300]))
        theirs.one("RESTORE", "ours", 0, encode_dump(value, compress=number % 2 == 0), "REPLACE")
        dumped = theirs.one("DUMP", "ours")
        assert dumped[0] == (STREAM_2 if server == "redis" else STREAM_3)
        assert decode_dump(dumped, LIMITS) == value
        assert theirs.one("RESTORE", "again", 0, encode_dump(decode_dump(dumped, LIMITS)))
        assert described(theirs, "again") == described(theirs, "ours")
        theirs.one("DEL", "again")


def test_what_a_real_server_deleted_still_takes_its_room(valkey_server: Any, connect: Any) -> None:
    theirs = connect(valkey_server("--stream-node-max-entries", "10").port)
    theirs.ask(*[("XADD", "s", number, "a", number) for number in range(1, 26)])
    theirs.one("XDEL", "s", 3, 11, 12, 20, 25)
    theirs.one("XTRIM", "s", "MINID", 2)
    loaded = decode_dump(theirs.one("DUMP", "s"), LIMITS)
    loaded.check()
    assert [(len(block.ids), block.deleted) for block in loaded.blocks] == [(8, 2), (7, 3), (4, 1)]
    assert loaded.blocks[-1].last == 25 << 64
    assert loaded.tree_nodes() == theirs.one("XINFO", "STREAM", "s")[5]
    for trimming in (("MAXLEN", "~", 12), ("MINID", "~", 21), ("MINID", "~", 26)):
        expected = theirs.one("XTRIM", "s", *trimming)
        trim = loaded.trim_to if trimming[0] == "MAXLEN" else loaded.trim_before
        threshold = trimming[2] if trimming[0] == "MAXLEN" else trimming[2] << 64
        assert trim(threshold, whole_blocks=True) == expected


def test_a_file_of_ours(redis_server: Any, connect: Any, tmp_path: Path, redis_cli: str) -> None:
    rng = random.Random(9)
    values = [some_stream(rng, size) for size in (5, 50, 1000)]
    directory = tmp_path / "ours"
    directory.mkdir()
    records = [(0, b"s%d" % i, value, None, None, None) for i, value in enumerate(values)]
    (directory / "dump.rdb").write_bytes(b"".join(write(records)))
    checked = subprocess.run(
        ["redis-check-rdb", str(directory / "dump.rdb")], capture_output=True, text=True
    )
    assert checked.returncode == 0 and "RDB looks OK" in checked.stdout
    theirs = connect(redis_server("--sanitize-dump-payload", "yes", name="ours").port)
    for number, value in enumerate(values):
        assert decode_dump(theirs.one("DUMP", f"s{number}"), LIMITS) == value


def test_broken_payloads_end_in_one_kind_of_error() -> None:
    rng = random.Random(41)
    bodies = [encode_dump(some_stream(rng, 20), compress=False)[1:-10] for _ in range(4)]
    refused = 0
    for number in range(3000):
        body = bytearray(rng.choice(bodies))
        for _ in range(rng.randint(1, 3)):
            body[rng.randrange(len(body))] = rng.randrange(256)
        if rng.random() < 0.2:
            del body[rng.randrange(len(body)) :]
        try:
            value = decode_dump(payload(rng.choice([STREAM, STREAM_2, STREAM_3]), body), LIMITS)
        except RdbError:
            refused += 1
            continue
        if number % 10 == 0:
            value.check()
            encode_dump(value)
    assert refused > 1500
