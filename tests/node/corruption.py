"""Damaged files given to a node that starts: it has all their data, or none and says why."""

import random
import re
from collections.abc import Iterator

import attrs
import hiredis
from damage import damaged_log, damaged_rdb
from data_set import Command, making
from local import Local, local_node
from old_encodings import PAIRS, SCORES, WORDS, ziplist, zipmap

from node.disk import SimulatedDisk
from node.persistence import checkpoint
from node.persistence.aof.loading import load as load_log
from node.persistence.loading import LoadError
from node.persistence.loading import load as load_rdb
from node.persistence.rdb import VALKEY_VERSION
from node.persistence.rdb.codes import crc64
from node.persistence.rdb.encode import length, string

RDB, LOG = "dump.rdb", "appendonlydir/appendonly.aof.1.incr.aof"
MANIFEST = "appendonlydir/appendonly.aof.manifest"
# With these, what is in few elements has the encodings of large data.
SMALL_LIMITS = {
    "list_max_listpack_size": 8,
    "hash_max_listpack_entries": 8,
    "set_max_listpack_entries": 8,
    "set_max_intset_entries": 8,
    "zset_max_listpack_entries": 8,
    "stream_node_max_entries": 20,
}
LIBRARY = "#!lua name=mine\nredis.register_function('f', function() return 1 end)"


@attrs.frozen
class Whole:
    """A file without damage. name: where it comes from."""

    name: str
    is_rdb: bool
    data: bytes


def files_of_ours(seed: int = 1) -> list[Whole]:
    """What this node writes, and what only old ones did; data of all types."""
    found = [Whole("old encodings", True, _old_encodings())]
    for compress in (True, False):
        disk = SimulatedDisk(random.Random(seed))
        local = local_node(disk, rdbcompression=compress, **SMALL_LIMITS)
        client = local.client()
        client.call("FUNCTION", "LOAD", LIBRARY)
        for command in small_data(seed):
            client.call(*command)
        data = b"".join(checkpoint.take(local.node, VALKEY_VERSION))
        found.append(Whole("ours, compressed" if compress else "ours", True, data))
    found.append(Whole("a log", False, log_of(seed)))
    return found


def small_data(seed: int, field_deadlines: bool = True) -> Iterator[Command]:
    """Commands that make data of all types and encodings, none of them large."""
    for command in making(random.Random(seed), field_deadlines):
        if len(command) < 150 and sum(len(str(word)) for word in command) < 3000:
            yield command


def log_of(seed: int) -> bytes:
    """Commands that make such data, some of them in transactions, with times in between."""
    pack = hiredis.pack_command
    data = b""
    for number, command in enumerate(small_data(seed)):
        if number % 10 == 0:
            data += b"#TS:%d\r\n" % (1_700_000_000 + number)
        one = pack(command)
        data += one if number % 7 else pack(("MULTI",)) + one + pack(("EXEC",))
    return data


def _old_encodings() -> bytes:
    bodies = [
        (1, length(3) + b"".join(map(string, WORDS[:3]))),
        (3, b"\x04" + b"\x01a\x03-.5" + b"\x01b\xfe" + b"\x01c\xff" + b"\x01d\x0217"),
        (9, string(zipmap(PAIRS))),
        (10, string(ziplist(WORDS))),
        (12, string(ziplist(SCORES))),
        (13, string(ziplist(PAIRS), compress=False)),
        (14, b"\x02" + string(ziplist(WORDS)) + string(ziplist(WORDS[::-1]))),
    ]
    keys = (b"%c\x02k%d%b" % (kind, i, body) for i, (kind, body) in enumerate(bodies))
    data = b"REDIS0009\xfe\x00" + b"".join(keys) + b"\xff"
    return data + crc64(data).to_bytes(8, "little")


def damaged(rng: random.Random, whole: Whole) -> bytes:
    return (damaged_rdb if whole.is_rdb else damaged_log)(rng, whole.data)


def start_with(data: bytes, is_rdb: bool) -> tuple[Local, str]:
    """A node that has been given the file; and why it refused, "" if it did not."""
    disk = SimulatedDisk(random.Random(1))
    local = local_node(disk, aof_load_truncated=False)
    disk.append_to(RDB if is_rdb else LOG).write(data)
    if not is_rdb:
        disk.append_to(MANIFEST).write(b"file appendonly.aof.1.incr.aof seq 1 type i\n")
    node = local.node
    node.begin_turn()
    try:
        for _ in load_rdb(node, RDB) if is_rdb else load_log(node):
            continue
    except LoadError as error:
        return local, str(error)
    node.end_turn()
    return local, ""


def judge(data: bytes, is_rdb: bool) -> bool:
    """Start with a file: whether it was loaded. Everything is asserted that must hold."""
    local, refusal = start_with(data, is_rdb)
    keyspace = local.node.keyspace
    assert local.node.loading is None
    if refusal:
        place = re.search(r"at offset (\d+)|up to offset (\d+)", refusal)
        assert place is not None, refusal
        assert int(place[1] or place[2]) <= len(data), refusal
        assert not any(map(len, keyspace.databases)), refusal
        return False
    for db in filter(len, keyspace.databases):
        db.check()
        for part in db.parts:
            for value in part.values():
                if hasattr(value, "check"):
                    value.check()
    saved = b"".join(checkpoint.take(local.node, VALKEY_VERSION))
    again, refusal = start_with(saved, is_rdb=True)
    assert not refusal
    assert list(map(len, again.node.keyspace.databases)) == list(map(len, keyspace.databases))
    return True
