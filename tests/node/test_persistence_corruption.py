"""A share of scripts/corrupt: damaged files are loaded whole or refused with their place."""

import random

import pytest
from corruption import Whole, damaged, files_of_ours, judge, start_with
from damage import HUGE

from node.persistence.rdb.codes import crc64

NAMES = ["old encodings", "ours, compressed", "ours", "a log"]


@pytest.fixture(scope="module")
def wholes() -> dict[str, Whole]:
    return {whole.name: whole for whole in files_of_ours()}


@pytest.mark.parametrize("name", NAMES)
def test_a_whole_file_is_loaded(wholes, name):
    assert judge(wholes[name].data, wholes[name].is_rdb)


@pytest.mark.parametrize("name", NAMES)
def test_a_damaged_file_is_loaded_whole_or_refused(wholes, name):
    refused = 0
    for seed in range(100_000, 100_040):
        data = damaged(random.Random(seed), wholes[name])
        refused += not judge(data, wholes[name].is_rdb)
    assert refused > 20


@pytest.mark.parametrize("size", HUGE)
@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 10, 14, 15, 16, 17, 18, 19, 21, 22])
def test_a_length_that_lies_takes_no_memory(kind, size):
    head = b"VALKEY080\xfe\x00" + bytes((kind,)) + b"\x01k"
    data = head + b"\x81" + size.to_bytes(8, "big") + b"\x01a" * 20 + b"\xff"
    local, refusal = start_with(data + crc64(data).to_bytes(8, "little"), is_rdb=True)
    assert "at offset " in refusal and not len(local.node.keyspace[0])


@pytest.mark.parametrize("number", [*HUGE, 1 << 80, -1])
@pytest.mark.parametrize("form", [b"*%d\r\n$3\r\nSET\r\n", b"*3\r\n$%d\r\nSET\r\n"])
def test_a_number_that_lies_in_a_log(form, number):
    whole = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
    _, refusal = start_with(whole + form % number + b"$1\r\na\r\n" * 3, is_rdb=False)
    assert f"offset {len(whole)}" in refusal or f"offset {len(whole) + 4}" in refusal
