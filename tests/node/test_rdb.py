"""RDB files and DUMP payloads: round trips, real servers both ways, old encodings, broken input."""

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from old_encodings import PAIRS, SCORES, WORDS, ziplist, zipmap

from node.data.hash import Hash
from node.data.limits import Limits
from node.data.list import List
from node.data.number import format_double
from node.data.set import Set
from node.data.zset import ZSet
from node.persistence.rdb import (
    VALKEY_VERSION,
    VERSION,
    FieldDeadlines,
    Import,
    PayloadError,
    RdbError,
    Reader,
    Record,
    decode_dump,
    encode_dump,
    needs_valkey_version,
    write,
)
from node.persistence.rdb.codes import crc64
from node.persistence.rdb.encode import length, string

LIMITS = Limits()
LATER = 4102444800000  # ms; the year 2100


def some_bytes(rng: random.Random, size: int) -> bytes:
    kind = rng.randrange(4)
    if kind == 0:
        return b"%d" % rng.randint(-(10 ** (size % 19)), 10 ** (size % 19))
    if kind == 1:
        return bytes(rng.choices(b"ab", k=size))
    return rng.randbytes(size)


def some_value(rng: random.Random) -> Any:
    small = rng.random() < 0.7
    count = rng.randint(1, 10) if small else rng.randint(100, 700)
    longest = rng.choice([6, 30, 63]) if small else rng.choice([10, 200])
    texts = [some_bytes(rng, rng.randint(0, longest)) for _ in range(count)]
    match rng.randrange(8):
        case 0:
            return some_bytes(rng, rng.choice([0, 3, 20, 21, 100, 20000]))
        case 1:
            return rng.choice([0, -1, 127, -129, 2**15, -(2**31), 2**31, 2**63 - 1])
        case 2:
            return List(LIMITS, texts)
        case 3:
            return List(LIMITS, [*texts, some_bytes(rng, rng.choice([5000, 9000, 20000]))])
        case 4:
            return Set(LIMITS, texts)
        case 5:
            bits = rng.choice([10, 30, 63])
            return Set(LIMITS, [b"%d" % rng.randint(-(2**bits), 2**bits) for _ in range(count)])
        case 6:
            return Hash(LIMITS, dict(zip(texts, reversed(texts), strict=True)))
        case _:
            scores = [0.0, 1.0, -2.5, 1e17, 3.14159, 1e300, float("inf"), float("-inf")]
            return ZSet(LIMITS, {text: rng.choice(scores) for text in texts})


def some_records(seed: int, count: int) -> list[Record]:
    rng = random.Random(seed)
    return [
        (
            number * 3 // count,
            b"k%d" % number
            if number % 10
            else some_bytes(rng, rng.randint(10, 90)) + b"%d" % number,
            some_value(rng),
            LATER + rng.randrange(10**9) if rng.random() < 0.3 else None,
            None,
            None,
        )
        for number in range(count)
    ]


def read(data: bytes, piece: int = 1 << 16) -> tuple[list[Record], Reader]:
    reader = Reader(Limits())
    records: list[Record] = []
    for at in range(0, len(data), piece):
        records += reader.feed(data[at : at + piece])
    return records + reader.finish(), reader


def plain(value: Any) -> Any:
    """Our strings have three classes that mean the same."""
    return str(value).encode() if isinstance(value, int) else value


def same(left: list[Record], right: list[Record]) -> bool:
    return [(r[:2], plain(r[2]), r[3:]) for r in left] == [
        (r[:2], plain(r[2]), r[3:]) for r in right
    ]


def commands_of(key: bytes, value: Any) -> Iterator[tuple[Any, ...]]:
    """What makes a real server hold the value."""
    if isinstance(value, List):
        yield "RPUSH", key, *value.items
    elif isinstance(value, Set):
        yield "SADD", key, *value.order
    elif isinstance(value, Hash):
        yield "HSET", key, *(part for pair in value.fields.items() for part in pair)
        for field, deadline in (value.expires or {}).items():
            yield "HPEXPIREAT", key, deadline, "FIELDS", 1, field
    elif isinstance(value, ZSet):
        yield (
            "ZADD",
            key,
            *(part for score, member in value.pairs() for part in (format_double(score), member)),
        )
    else:
        yield "SET", key, bytes(plain(value))


def fill(oracle: Any, records: list[Record]) -> None:
    for db, key, value, deadline, *_ in records:
        oracle.one("SELECT", db)
        for command in commands_of(key, value):
            assert not isinstance(oracle.one(*command), Exception)
        if deadline is not None:
            oracle.one("PEXPIREAT", key, deadline)


def by_key(records: list[Record]) -> list[Record]:
    return sorted(records, key=lambda record: record[:2])


# --- ours alone ---


@pytest.mark.parametrize("piece", [1, 1000, 1 << 20])
@pytest.mark.parametrize("compress", [True, False])
def test_round_trip(piece: int, compress: bool) -> None:
    records = some_records(1, 60 if piece == 1 else 300)
    functions = [b"#!lua name=one\nreturn 1", b"x" * 100]
    facts: dict[bytes, bytes | int] = {b"redis-ver": b"7.2.4", b"ctime": 1700000000}
    pieces = write(records, aux=facts, functions=functions, sizes={0: (100, 3)}, compress=compress)
    found, reader = read(b"".join(pieces), piece)
    assert same(found, records)
    assert reader.aux == {b"redis-ver": b"7.2.4", b"ctime": b"1700000000"}
    assert reader.functions == functions and reader.sizes == {0: (100, 3)} and reader.is_done
    for record in found:
        if hasattr(record[2], "check"):
            record[2].check()


def test_access_times_and_what_follows_the_end() -> None:
    records: list[Record] = [(0, b"a", b"x", None, 300, None), (9, b"b", b"y", LATER, None, 255)]
    data = b"".join(write(records))
    found, reader = read(data + b"*1\r\n")
    assert found == records and reader.rest == b"*1\r\n" and reader.offset == len(data)


def test_a_million_bytes_in_many_pieces_are_read_in_linear_time() -> None:
    records: list[Record] = [(0, b"a", rng_bytes(2_000_000), None, None, None)]
    data = b"".join(write(records, compress=False))
    found, _ = read(data, 200)
    assert found == records


def rng_bytes(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def test_saving_comes_in_pieces() -> None:
    records: list[Record] = [(0, b"%d" % n, rng_bytes(1000), None, None, None) for n in range(2000)]
    sizes = [len(piece) for piece in write(records)]
    assert len(sizes) > 5 and max(sizes) < 300_000


def test_field_deadlines_take_the_dialect_of_valkey() -> None:
    value = Hash(LIMITS, {b"a": b"1", b"b": b"2"})
    value.set_deadline(b"b", LATER)
    records: list[Record] = [(0, b"h", value, None, None, None)]
    assert needs_valkey_version([b"x", value]) and not needs_valkey_version([b"x"])
    with pytest.raises(FieldDeadlines):
        list(write(records))
    data = b"".join(write(records, version=80))
    assert data.startswith(b"VALKEY080")
    assert same(read(data)[0], records)
    assert decode_dump(encode_dump(value), LIMITS) == value


# --- real servers ---


@pytest.fixture(params=["redis", "valkey"])
def real_server(request: Any, connect: Any) -> Callable[..., Any]:
    start = request.getfixturevalue(f"{request.param}_server")

    def connected(*directives: str, **options: Any) -> tuple[Any, Path]:
        server = start("--enable-debug-command", "yes", *directives, **options)
        return connect(server.port), server.directory

    return connected


def test_files_both_ways(real_server, tmp_path: Path, redis_cli: str) -> None:
    records = some_records(2, 120)
    theirs, directory = real_server()
    fill(theirs, records)
    assert theirs.one("SAVE") == b"OK"
    found, reader = read((directory / "dump.rdb").read_bytes())
    assert same(by_key(found), by_key(records))
    assert reader.sizes[0][0] == 40

    saved = tmp_path / "ours"
    saved.mkdir()
    (saved / "dump.rdb").write_bytes(b"".join(write(records, sizes={0: (40, 9)})))
    checked = subprocess.run(
        ["redis-check-rdb", str(saved / "dump.rdb")], capture_output=True, text=True
    )
    assert checked.returncode == 0 and "RDB looks OK" in checked.stdout
    again, _ = real_server(name="ours")
    assert again.one("DEBUG", "DIGEST") == theirs.one("DEBUG", "DIGEST")
    is_valkey = b"valkey" in again.one("INFO", "server")
    loaded = {record[:2]: record[2] for record in read((saved / "dump.rdb").read_bytes())[0]}
    for db, key, _, deadline, *_ in records:
        again.one("SELECT", db)
        assert again.one("PEXPIRETIME", key) == (deadline or -1)
        if is_valkey and hasattr(loaded[db, key], "encoding"):
            assert loaded[db, key].encoding() == again.one("OBJECT", "ENCODING", key)


def test_dump_both_ways(real_server) -> None:
    theirs, _ = real_server()
    for number, (_, _, value, *_) in enumerate(some_records(3, 150)):
        theirs.one("DEL", "a", "b")
        for command in commands_of(b"a", value):
            theirs.one(*command)
        assert plain(decode_dump(theirs.one("DUMP", "a"), LIMITS)) == plain(value)
        payload = encode_dump(value, compress=number % 2 == 0)
        assert theirs.one("RESTORE", "b", 0, payload) == b"OK"
        digests = theirs.one("DEBUG", "DIGEST-VALUE", "a", "b")
        assert digests[0] == digests[1]


def test_field_deadlines_both_ways(valkey_server, connect, tmp_path: Path) -> None:
    value = Hash(LIMITS, {b"f%d" % n: b"v%d" % n for n in range(20)})
    value.set_deadline(b"f3", LATER)
    records: list[Record] = [(0, b"h", value, None, None, None), (0, b"s", b"x", None, None, None)]
    server = valkey_server()
    theirs = connect(server.port)
    fill(theirs, records)
    assert decode_dump(theirs.one("DUMP", "h"), LIMITS) == value
    theirs.one("RESTORE", "h2", 0, encode_dump(value))
    assert theirs.one("HPEXPIRETIME", "h2", "FIELDS", 2, "f3", "f4") == [LATER, -1]
    theirs.one("DEL", "h2")
    theirs.one("SAVE")
    found, _ = read((server.directory / "dump.rdb").read_bytes())
    assert same(by_key(found), by_key(records))

    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "dump.rdb").write_bytes(b"".join(write(records, version=80)))
    again = connect(valkey_server(name="ours").port)
    assert again.one("HPEXPIRETIME", "h", "FIELDS", 2, "f3", "f4") == [LATER, -1]
    assert again.one("HLEN", "h") == 20


# --- encodings that nobody writes any more ---


def payload(kind: int, body: bytes, version: int = 9) -> bytes:
    data = bytes((kind,)) + body + version.to_bytes(2, "little")
    return data + crc64(data).to_bytes(8, "little")


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (1, length(3) + b"".join(map(string, WORDS[:3]))),
        (3, b"\x04" + b"\x01a\x03-.5" + b"\x01b\xfe" + b"\x01c\xff" + b"\x01d\x0217"),
        (9, string(zipmap(PAIRS))),
        (10, string(ziplist(WORDS))),
        (12, string(ziplist(SCORES))),
        (13, string(ziplist(PAIRS), compress=False)),
        (14, b"\x02" + string(ziplist(WORDS)) + string(ziplist(WORDS[::-1]))),
    ],
)
def test_old_encodings_as_a_real_server_reads_them(redis_server, connect, kind, body) -> None:
    theirs = connect(redis_server().port)
    old = payload(kind, body)
    assert theirs.one("RESTORE", "a", 0, old) == b"OK"
    value = decode_dump(old, LIMITS)
    value.check()
    assert decode_dump(theirs.one("DUMP", "a"), LIMITS) == value
    assert len(value) >= 3


def test_set_listpack_of_version_11(valkey_server, connect) -> None:
    theirs = connect(valkey_server().port)
    theirs.one("SADD", "a", *WORDS[:11])
    dumped = theirs.one("DUMP", "a")
    assert dumped[0] == 20
    assert decode_dump(dumped, LIMITS) == Set(LIMITS, WORDS[:11])


@pytest.mark.parametrize(
    ("dumped", "value_of_b"),
    [
        (
            "1900d8c32cbb0300002f2f00000009008161020101f400d8c32cbb030000098163020301f43908c42cbb"
            "030000098162028374776f040001ff0c0062cccdf60776ebd7",
            b"two",
        ),
        (
            "1800d8c32cbb03000003703a0163c003000162c3094046017878e03900017878010161c0010c004921822f"
            "6ab92a82",
            b"x" * 70,
        ),
    ],
)
def test_field_deadlines_as_redis_8_2_dumped_them(dumped: str, value_of_b: bytes) -> None:
    value = decode_dump(bytes.fromhex(dumped), LIMITS)
    assert value.fields == {b"a": b"1", b"b": value_of_b, b"c": b"3"}
    assert value.expires == {b"a": LATER, b"c": LATER + 12345}


# --- broken input ---


def test_a_payload_is_checked_as_by_a_real_server(valkey_server, connect) -> None:
    theirs = connect(valkey_server().port)
    good = encode_dump(List(LIMITS, [b"a", b"b"]))
    cases = {
        b"": PayloadError,
        good[:-1]: PayloadError,
        good[:3] + b"x" + good[4:]: PayloadError,
        payload(0, b"\x01a", version=79): PayloadError,
        payload(0, b"\x01a", version=99): PayloadError,
        payload(0, b"\x7f\xffa"): RdbError,
        payload(2, b"\x00"): RdbError,
        payload(99, b"\x01a"): RdbError,
        payload(16, b"\x01a"): RdbError,
        payload(4, b"\x02\x01a\x01b\x01a\x01c"): RdbError,
    }
    words = {PayloadError: "version or checksum", RdbError: "Bad data format"}
    for data, error in cases.items():
        with pytest.raises(error) as caught:
            decode_dump(data, LIMITS)
        assert caught.type is error
        assert words[error] in str(theirs.one("RESTORE", "k", 0, data)), data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"REDIX0010", "wrong signature"),
        (b"REDIS00", "wrong signature"),
        (b"REDIS0099", "version 99"),
        (b"VALKEY081", "version 81"),
        (b"REDIS0010\xff" + b"1" * 8, "wrong checksum"),
        (b"REDIS0010\xfe\x00\x63\x01a\x01b", "unknown type 99"),
        (b"REDIS0010\x00\x01a\xc5", "unknown encoding"),
        (b"REDIS0010\x00\x01a\xc3\x02\x81" + b"\x7f" * 8 + b"zz", "impossible length"),
        (b"REDIS0010\x02\x01a\x81" + b"\x7f" * 8, "unexpected end"),
        (b"REDIS0010\x00\x01a\x7f\xff", "unexpected end"),
        (b"REDIS0010", "unexpected end"),
    ],
)
def test_what_is_wrong_is_named(data: bytes, reason: str) -> None:
    with pytest.raises(RdbError, match=reason) as caught:
        read(data)
    assert 0 <= caught.value.offset <= len(data)


def test_an_old_file_has_no_checksum() -> None:
    found, reader = read(b"REDIS0003\xfe\x00\xfd\x00\x10\x00\x00\x00\x01a\x01b\xff")
    assert found == [(0, b"a", b"b", 4096000, None, None)] and reader.is_done


def test_what_other_servers_add_is_skipped() -> None:
    data = b"REDIS0012\xfa\x01n\x01v" + b"\xf4\x05\x06\x07"
    data += b"\xf7\x05\x02\x00\x01\x09\x03....\x04........\x05\x03abc\x00"
    data += b"\x02\x01e\x00" + b"\x00\x01a\x01b\xff" + bytes(8)
    found, reader = read(data)
    assert [record[1] for record in found] == [b"a"] and reader.empty_skipped == 1


def test_moves_of_slots_are_told_where_the_version_has_a_form_for_them() -> None:
    moves = [Import(b"a" * 40, ((0, 0), (100, 16383))), Import(b"b" * 40, ((5, 6),))]
    for version, found in ((VALKEY_VERSION, moves), (VERSION, [])):
        data = b"".join(write([], version=version, imports=moves))
        assert read(data)[1].imports == found


@pytest.mark.parametrize(
    "move",
    [
        b"\x03job\x01\x01\x02",
        b"\x28" + b"a" * 40 + b"\x00",
        b"\x28" + b"a" * 40 + b"\x01\x02\x01",
        b"\x28" + b"a" * 40 + b"\x01\x00\x80\x00\x00\x40\x00",
    ],
)
def test_a_move_of_slots_that_makes_no_sense_is_refused(move: bytes) -> None:
    with pytest.raises(RdbError, match="a move of slots"):
        read(b"VALKEY080\xf3" + move + b"\xff" + bytes(8))


def damage(rng: random.Random, data: bytes) -> bytes:
    broken = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(broken))
        match rng.randrange(4):
            case 0:
                broken[place] ^= 1 << rng.randrange(8)
            case 1:
                broken[place] = rng.choice([0, 1, 0x3F, 0x40, 0x7F, 0x80, 0x81, 0xC3, 0xF0, 0xFF])
            case 2:
                del broken[place : place + rng.randint(1, 9)]
            case 3:
                broken[place:place] = rng.randbytes(rng.randint(1, 9))
        if not broken:
            break
    return bytes(broken)


def test_broken_files_end_in_one_kind_of_error() -> None:
    rng = random.Random(40)
    records = [r for r in some_records(4, 80) if not hasattr(r[2], "__len__") or len(r[2]) < 50]
    data = b"".join(write(records, aux={b"a": b"b"}, functions=[b"f"]))
    refused = 0
    for _ in range(1500):
        broken = damage(rng, data)
        reader = Reader(LIMITS, checksum=rng.random() < 0.2)
        try:
            for at in range(0, len(broken), 700):
                for record in reader.feed(broken[at : at + 700]):
                    assert len(record) == 6
            reader.finish()
        except RdbError as error:
            assert 0 <= error.offset <= len(broken)
            refused += 1
    assert refused > 1000


def test_lengths_in_a_zipmap_have_their_shortest_form() -> None:
    overlong = b"\x01" + b"\xfe\x01\0\0\0" + b"a" + b"\x01\0" + b"b" + b"\xff"
    with pytest.raises(RdbError, match="zipmap"):
        decode_dump(payload(9, string(overlong)), LIMITS)


def test_a_payload_of_a_version_to_come_is_read_where_that_is_asked_for() -> None:
    for version in (13, 79, 81, 65535):
        data = payload(0, string(b"bar"), version=version)
        with pytest.raises(PayloadError):
            decode_dump(data, LIMITS)
        assert decode_dump(data, LIMITS, relaxed=True) == b"bar"
    with pytest.raises(PayloadError):
        decode_dump(payload(0, string(b"bar"), version=0), LIMITS, relaxed=True)


def test_broken_payloads_end_in_one_kind_of_error() -> None:
    rng = random.Random(41)
    ttl = Hash(LIMITS, {b"a": b"1", b"b": b"2"})
    ttl.set_deadline(b"a", LATER)
    values = [r[2] for r in some_records(5, 60)] + [ttl]
    bodies = [encode_dump(value, compress=rng.random() < 0.5)[:-10] for value in values]
    bodies += [bytes((9,)) + string(zipmap(PAIRS[:12])), bytes((10,)) + string(ziplist(WORDS[:12]))]
    bodies += [bytes((13,)) + string(ziplist(PAIRS[:12])), bytes((12,)) + string(ziplist(SCORES))]
    for number in range(20000):
        body = damage(rng, rng.choice(bodies))[:3000]
        if not body:
            continue
        data = payload(body[0], body[1:], version=rng.choice([10, 12, 80]))
        try:
            value = decode_dump(data, LIMITS)
        except RdbError:
            continue
        if number % 20 == 0 and hasattr(value, "check"):
            value.check()
