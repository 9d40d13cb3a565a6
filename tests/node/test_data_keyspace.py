"""Databases: random operations beside a plain dict, with `check` on the way."""

from binascii import crc_hqx
from collections import Counter
from random import Random

import pytest

from node.data.keyspace import EXPIRE, HIDE, KEEP, PARTS, Database, Keyspace, hash_part

KEYS = [b"key:%d" % number for number in range(60)]


class Model:
    """What a database should hold: values with deadlines."""

    def __init__(self) -> None:
        self.held: dict[bytes, tuple[bytes, int | None]] = {}

    def alive(self, key: bytes, now_ms: int) -> bool:
        at_ms = self.held[key][1] if key in self.held else 0
        return at_ms is None or at_ms > now_ms

    def expire(self, now_ms: int) -> None:
        self.held = {key: held for key, held in self.held.items() if self.alive(key, now_ms)}


def _slot_of(key: bytes) -> int:
    return crc_hqx(key, 0) % PARTS


@pytest.mark.parametrize("kind", ["hashed", "routed", "watched"])
@pytest.mark.parametrize("seed", range(4))
def test_random_operations(seed: int, kind: str) -> None:
    chosen = Random(seed)
    part_of = _slot_of if kind == "routed" else hash_part
    keyspace = Keyspace(count=2, random=chosen, now_ms=1000, part_of=part_of)
    models = [Model(), Model()]
    if kind == "watched":
        keyspace.watch_accesses()
    for step in range(3000):
        keyspace.now_ms += chosen.choice((0, 0, 0, 1, 7))
        for model in models:
            model.expire(keyspace.now_ms)
        _operate(chosen, keyspace, models, chosen.randrange(2))
        if step % 500 == 0:
            _compare(keyspace, models)
    _compare(keyspace, models)


def _operate(chosen: Random, keyspace: Keyspace, models: list[Model], index: int) -> None:
    db, held, now_ms = keyspace[index], models[index].held, keyspace.now_ms
    key, value = chosen.choice(KEYS), b"%d" % chosen.randrange(1000)
    if chosen.randrange(2):  # as whoever routes a command does
        keyspace.routed, keyspace.routed_part = key, keyspace.part_of(key)
    action = chosen.randrange(14)
    if action <= 2:
        db.put(key, value)
        held[key] = value, None
    elif action == 12:
        found = held[key][0] if key in held else None
        assert (db.find(key, bytes), db.get(key)) == (found, found)
    elif action == 13 and key in held:
        db.overwrite(key, value)
        held[key] = value, held[key][1]
    elif action == 3 and db.get(key) is not None:
        db.replace(key, value)
        held[key] = value, held[key][1]
    elif action == 4 and db.exists(key):
        db.expires.arm(key, now_ms + 20)
        held[key] = held[key][0], now_ms + 20
    elif action == 5:
        assert (db.remove(key) is not None) == (held.pop(key, None) is not None)
    elif action == 6 and db.exists(key):
        other, name = chosen.randrange(2), chosen.choice(KEYS)
        if (other, name) != (index, key):
            db.move(key, keyspace[other], name)
            models[other].held[name] = held.pop(key)
    elif action == 7 and chosen.random() < 0.05:
        keyspace.swap(0, 1)
        models.reverse()
    elif action == 8 and chosen.random() < 0.02:
        assert db.flush() >= len(held)
        held.clear()
    elif action == 9:
        part_of = keyspace.part_of
        db.drop_part(part_of(key))
        for gone in [k for k in held if part_of(k) == part_of(key)]:
            del held[gone]
    else:
        assert db.read(key) == (held[key][0] if key in held else None)


def _compare(keyspace: Keyspace, models: list[Model]) -> None:
    for db, model in zip(keyspace.databases, models, strict=True):
        db.check()
        for key in list(db):
            db.peek(key)  # deletes what is due
        assert {key: (db.peek(key), db.expires_at(key)) for key in db} == model.held
        assert len(db) == len(model.held)
        assert sorted(_scan(db)) == sorted(model.held)


def _scan(db: Database) -> list[bytes]:
    cursor, found = db.scan(0, 5)
    while cursor:
        cursor, more = db.scan(cursor, 5)
        found += more
    return found


@pytest.mark.parametrize(
    ("expiry", "seen", "left"), [(EXPIRE, False, 0), (HIDE, False, 1), (KEEP, True, 1)]
)
def test_how_a_due_key_is_treated(expiry: int, seen: bool, left: int) -> None:
    keyspace = Keyspace(now_ms=1000, expiry=expiry)
    db = keyspace[0]
    db.put(b"k", b"v")
    db.expires.arm(b"k", 1000)
    assert (db.get(b"k") is not None) == seen
    assert db.exists(b"k") == seen
    assert len(db) == left
    db.check()


def test_hooks() -> None:
    keyspace, told = Keyspace(count=2), []
    keyspace.on_new = lambda db, key: told.append(("new", db.index, key))
    keyspace.on_miss = lambda db, key: told.append(("miss", db.index, key))
    keyspace.on_reset.append(lambda db, other: told.append(("reset", db.index, len(db))))
    db = keyspace[0]
    db.put(b"k", b"v")
    db.put(b"k", b"w")
    assert db.read(b"none") is None and db.read(b"k") == b"w" and not db.ask(b"none")
    keyspace.swap(0, 1)
    keyspace[1].flush()
    assert told == [
        *(("new", 0, b"k"), ("miss", 0, b"none"), ("miss", 0, b"none")),
        *(("reset", 0, 1), ("reset", 1, 0), ("reset", 1, 1)),
    ]
    assert (keyspace.hits, keyspace.misses) == (1, 2)


def test_accesses_are_noted_from_the_first_question_on() -> None:
    keyspace = Keyspace(now_ms=1000)
    db = keyspace[0]
    db.put(b"a", b"v")
    db.put(b"b", b"v")
    assert db.idle_ms(b"a") == 0
    keyspace.now_ms = 2000
    keyspace.watch_accesses()
    keyspace.now_ms = 5000
    db.get(b"a")
    db.peek(b"b")
    keyspace.now_ms = 6000
    assert (db.idle_ms(b"a"), db.idle_ms(b"b")) == (1000, 4000)
    keyspace.noting = False
    db.get(b"a")
    assert db.idle_ms(b"a") == 1000
    db.check()


@pytest.mark.parametrize(("size", "draws"), [(20, 600), (2000, 30000)])
def test_random_keys_are_all_but_equally_likely(size: int, draws: int) -> None:
    keyspace = Keyspace(random=Random(4))
    db = keyspace[0]
    assert db.random_key() is None
    for number in range(size):
        db.put(b"%d" % number, b"v")
    drawn = Counter(db.random_key() for _ in range(draws))
    assert len(drawn) == size
    assert max(drawn.values()) < 3 * draws / size


def test_a_cursor_from_nowhere_is_an_end() -> None:
    db = Keyspace()[0]
    db.put(b"k", b"v")
    assert db.scan(PARTS, 10) == (0, [])
    assert db.scan((1 << 64) - 1, 10) == (0, [])
