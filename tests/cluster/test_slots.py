"""Slots of keys, and sets of slots against plain Python sets."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster import slots

some_slots = st.sets(st.integers(0, slots.SLOTS - 1), max_size=40)


@pytest.mark.parametrize(
    ("key", "slot"),
    [
        (b"123456789", 0x31C3),
        (b"foo", 12182),
        (b"", 0),
        (b"{foo}bar", 12182),
        (b"a{foo}", 12182),
        (b"foo{}{bar}", 8363),
        (b"foo{{bar}}zap", 4015),
        (b"foo{bar}{zap}", 5061),
        (b"{foo", slots.crc_hqx(b"{foo", 0) & 16383),
    ],
)
def test_slot_of_a_key_is_that_of_its_hash_tag(key, slot):
    assert slots.key_slot(key) == slot


@given(some_slots)
def test_a_set_keeps_its_members(chosen):
    bitmap = slots.slot_set(chosen)
    assert list(slots.members(bitmap)) == sorted(chosen)
    assert bitmap.bit_count() == len(chosen)
    assert slots.from_bytes(slots.to_bytes(bitmap)) == bitmap


@given(some_slots)
def test_text_form_reads_back(chosen):
    bitmap = slots.slot_set(chosen)
    words = slots.to_text(bitmap).split()
    assert sum(slots.parse_range(word) for word in words) == bitmap


def test_wire_form_is_least_significant_bit_first():
    assert slots.to_bytes(slots.slot_set([0, 9, 16383])) == b"\x01\x02" + bytes(2045) + b"\x80"


def test_text_form_joins_neighbours():
    whole = (
        slots.slot_range(0, 5460) | slots.slot_range(9000, 9000) | slots.slot_set([16382, 16383])
    )
    assert slots.to_text(whole) == "0-5460 9000 16382-16383"
    assert slots.ranges(slots.EVERY_SLOT) == [(0, 16383)]
    assert slots.to_text(0) == ""


@pytest.mark.parametrize("text", ["", "-1", "5-", "7-3", "16384", "0-16384", "x", "1-2-3", "٣"])
def test_what_is_no_range_is_refused(text):
    with pytest.raises(ValueError):
        slots.parse_range(text)
