"""Manifests: what a real server writes is read, and the other way round."""

import pytest

from node.persistence.aof.manifest import (
    BAD_FORMAT,
    BAD_NAME,
    BAD_TYPE,
    DISORDER,
    EMPTY,
    TOO_LONG,
    TWO_BASES,
    Manifest,
    ManifestError,
    Part,
    manifest_name,
)

REAL = b"""file appendonly.aof.2.base.rdb seq 2 type b
file appendonly.aof.1.incr.aof seq 1 type h
file appendonly.aof.2.incr.aof seq 2 type i
file appendonly.aof.3.incr.aof seq 3 type i
"""


def test_a_manifest_is_read_and_written():
    manifest = Manifest.parse(REAL)
    assert manifest.base == Part("appendonly.aof.2.base.rdb", 2, "b")
    assert [part.seq for part in manifest.increments] == [2, 3]
    assert [part.name for part in manifest.history] == ["appendonly.aof.1.incr.aof"]
    assert (manifest.base_seq, manifest.increment_seq) == (2, 3)
    assert manifest.encode() == REAL
    assert [part.seq for part in manifest.parts()] == [2, 2, 3]


@pytest.mark.parametrize("name", ["a b.aof", 'qu"ote', "tab\tbed", "b\\s", "\x01", "\udcff", "ä"])
def test_odd_names_are_quoted(name):
    manifest = Manifest().with_new_increment(name)
    assert Manifest.parse(manifest.encode()) == manifest


def test_comments_and_unknown_words_are_ignored():
    text = b"# by hand\nseq 1 file a.aof type incr startoffset 0\n"
    assert Manifest.parse(text).increments == (Part("a.aof", 1, "i"),)
    assert Manifest.parse(b"# nothing\n").is_empty()


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("", EMPTY, 0),
        ("\n", BAD_FORMAT, 1),
        ("file a seq 1 type b", TOO_LONG, 1),
        ("file a seq 1 type b\nfile b seq 2 type b\n", TWO_BASES, 2),
        ("file a seq 2 type i\nfile b seq 2 type i\n", DISORDER, 2),
        ("file a/b seq 2 type i\n", BAD_NAME, 1),
        ("file a seq 2 type x\n", BAD_TYPE, 1),
        ("file a seq x type i\n", BAD_FORMAT, 1),
        ("file a seq 0 type i\n", BAD_FORMAT, 1),
        ('file a"b seq 1 type i\n', BAD_FORMAT, 1),
        ("file a seq 1\n", BAD_FORMAT, 1),
        ("file a seq 1 type b\n\n", BAD_FORMAT, 2),
        (f"file {'a' * 1100} seq 1 type b\n", TOO_LONG, 1),
    ],
)
def test_what_is_refused_and_in_which_words(text, reason, line):
    with pytest.raises(ManifestError) as refusal:
        Manifest.parse(text.encode())
    assert (refusal.value.reason, refusal.value.line) == (reason, line)


def test_a_rewrite_makes_history_of_what_was_before():
    name = "appendonly.aof"
    manifest = Manifest().with_new_base(name, is_rdb=True).with_new_increment(name)
    assert [part.name for part in manifest.parts()] == [f"{name}.1.base.rdb", f"{name}.1.incr.aof"]
    manifest = manifest.with_new_increment(name)  # the rewrite begins
    manifest = manifest.with_new_base(name, is_rdb=False).without_increments(keep=1)
    assert [part.name for part in manifest.parts()] == [f"{name}.2.base.aof", f"{name}.2.incr.aof"]
    assert [part.name for part in manifest.history] == [f"{name}.1.incr.aof", f"{name}.1.base.rdb"]
    assert not manifest.base.is_rdb()
    manifest = manifest.without_history()
    assert manifest.history == () and manifest_name(name) == f"{name}.manifest"
