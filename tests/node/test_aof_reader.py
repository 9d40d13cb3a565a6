"""What the bytes of an append-only file mean, in whatever pieces they come."""

import random

import pytest

from node.persistence.aof.reader import Reader, cut_at, is_rdb, place_of
from node.resp import encode_request

SET = [b"SET", b"key", b"value"]


def encoded(*commands: list[bytes] | bytes) -> bytes:
    return b"".join(c if isinstance(c, bytes) else encode_request(c) for c in commands)


def read(data: bytes, sizes: list[int] | None = None) -> tuple[Reader, list[list[bytes]]]:
    """Read a file, in pieces of these sizes and a last one with the rest."""
    reader, found, at = Reader(), [], 0
    for size in sizes or []:
        found += reader.feed(data[at : at + size])
        at += size
    found += reader.feed(data[at:])
    return reader, found + reader.finish()


def random_file(rng: random.Random) -> tuple[bytes, list[list[bytes]], list[int]]:
    """A file, what it does, and where it may be cut without losing a part of anything."""
    data, effects, ends = b"", [], [0]
    for _ in range(rng.randint(1, 30)):
        kind = rng.random()
        if kind < 0.1:
            data += b"#TS:%d\r\n" % rng.randint(1, 1 << 40)
        elif kind < 0.3:
            commands = [words(rng) for _ in range(rng.randint(0, 4))]
            data += encoded([b"MULTI"], *commands, [b"EXEC"])
            effects += commands
        else:
            effects.append(words(rng))
            data += encode_request(effects[-1])
        ends.append(len(data))
    return data, effects, ends


def words(rng: random.Random) -> list[bytes]:
    odd = [
        b"",
        b"\r\n*1\r\n$4\r\nPING\r\n",
        b"*\r\n",
        b"\r\n#TS:1\r\n",
        bytes(rng.randbytes(9)),
        b":1",
    ]
    name = rng.choice([b"SET", b"DEL", b"FLUSHALL"])
    return [name, *rng.choices([*odd, b"x" * rng.randint(0, 300)], k=rng.randint(0, 3))]


def test_any_file_in_any_pieces():
    rng = random.Random(7)
    for _ in range(300):
        data, effects, _ = random_file(rng)
        sizes = [rng.randint(1, 200) for _ in range(rng.randint(0, 20))]
        reader, found = read(data, sizes)
        assert found == effects
        assert reader.error is None and not reader.is_truncated()
        assert reader.valid_up_to == reader.end() == len(data)
        assert reader.commands == len(effects)


def test_a_file_cut_anywhere_is_valid_up_to_its_last_whole_unit():
    rng = random.Random(8)
    for _ in range(6):
        data, effects, ends = random_file(rng)
        for size in range(len(data)):
            reader, found = read(data[:size], [rng.randint(1, 99)])
            whole = max(end for end in ends if end <= size)
            assert reader.error is None
            assert reader.valid_up_to == whole and reader.end() == size
            assert found == effects[: len(found)]
            in_annotation = data[whole : whole + 1] == b"#"
            assert reader.is_truncated() == (size > whole and not in_annotation)


def test_flipped_bits_never_make_more_of_it_valid_than_makes_sense():
    rng = random.Random(9)
    for _ in range(1000):
        data, _, ends = random_file(rng)
        at = rng.randrange(len(data))
        flipped = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        reader, found = read(flipped)
        before = max(end for end in ends if end <= at)
        assert reader.valid_up_to >= before
        assert read(flipped[: reader.valid_up_to])[1] == found
        if reader.error is not None:
            assert reader.valid_up_to <= reader.error.offset <= len(data)


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        (b"\0\0\0", r"Expected a command, got b'\\x00'"),
        (b"x", "Expected a command"),
        (b"*x\r\n", "is no number"),
        (b"*0\r\n", "no words"),
        (b"*2\r\n$3\r\nGETx\r\n", "longer than it says"),
        (b"*1\r\n:3\r\n", "Expected a word's length"),
        (b"*1\r\n$-1\r\n", "is no number"),
        (b"*" + b"1" * 200, "too long"),
        (b"*1\r\n$4\r\nEXEC\r\n", "Unexpected EXEC"),
        (encoded([b"MULTI"], [b"multi"]), "Unexpected MULTI"),
    ],
)
def test_what_is_wrong_and_where(tail, reason):
    data = encoded(SET)
    reader, found = read(data + tail)
    assert found == [SET] and reader.valid_up_to == len(data)
    assert reader.error is not None and len(data) <= reader.error.offset < len(data + tail)
    with pytest.raises(Exception, match=reason):
        raise reader.error


def test_timestamps_tell_where_to_cut():
    data = encoded(b"#TS:100\r\n", SET, b"#TS:105\r\n", SET, b"#anything\r\n", b"#TS:107\r\n", SET)
    reader, found = read(data)
    assert found == [SET] * 3
    assert [seconds for seconds, _ in reader.timestamps] == [100, 105, 107]
    assert cut_at(reader.timestamps, 99) == 0
    for seconds in (105, 106):
        cut = cut_at(reader.timestamps, seconds)
        assert cut is not None and read(data[:cut])[1] == [SET] * 2
    assert cut_at(reader.timestamps, 107) is None


def test_a_reader_may_begin_behind_an_rdb():
    assert is_rdb(b"REDIS0011") and is_rdb(b"VALKEY080") and not is_rdb(b"*3\r\n$3\r\n")
    reader = Reader(start=1000)
    assert reader.feed(encoded(SET) + b"*") == [SET]
    assert reader.valid_up_to == 1000 + len(encoded(SET)) and reader.end() == reader.valid_up_to + 1


def test_a_length_that_is_not_there_costs_nothing():
    reader = Reader()
    for _ in range(1000):
        assert reader.feed(b"*3\r\n$9999999999\r\n" if reader.end() == 0 else b"x" * 1000) == []
    assert reader.finish() == [] and reader.is_truncated() and reader.valid_up_to == 0


@pytest.mark.parametrize("piece", [1, 7, 64, 1000])
def test_the_place_of_a_command(piece):
    requests = [encode_request([b"SET", b"k%d" % n, b"v" * n]) for n in range(12)]
    multi, done = encode_request([b"MULTI"]), encode_request([b"EXEC"])
    parts = [*requests[:4], b"#TS:1\r\n", multi, *requests[4:6], done, *requests[6:]]
    data = b"".join(parts)
    starts = [data.index(request) for request in requests]
    starts[4] = starts[5] = data.index(multi)
    for number, start in enumerate(starts):
        pieces = (data[at : at + piece] for at in range(0, len(data), piece))
        assert place_of(pieces, number, 10) == 10 + start
