"""The stream commands against a real server: replies, errors, events, effects; and who waits."""

import random
import re
from typing import Any

import pytest
from differential import Pair, decoded, script
from local import Client, Local, local_node
from witness import Witness

MAX = 2**64 - 1
_TIMES = (b"seen-time", b"active-time", b"idle", b"inactive")


def without_times(value: Any) -> Any:
    """A reply with a zero for what two servers cannot have in common."""
    if isinstance(value, dict):
        return {key: 0 if key in _TIMES else without_times(one) for key, one in value.items()}
    if not isinstance(value, list):
        return str(value) if isinstance(value, Exception) else value
    if len(value) in (3, 4) and all(isinstance(one, int) for one in value[-2:]):
        return [*value[:-2], 0, value[-1]]  # a delivery
    before = [None, *value]
    return [
        0 if key in _TIMES else without_times(one) for key, one in zip(before, value, strict=False)
    ]


def timeless(pair: Pair, *command: str | int) -> Any:
    """As `Pair.same`, but for times."""
    ours, theirs = (without_times(decoded(raw)) for raw in pair.both(*command))
    assert ours == theirs, f"{command}: ours {ours!r}, real {theirs!r}; after {pair.history}"
    return ours


# --- replies --------------------------------------------------------------------------------------


def test_adding(pair: Pair) -> None:
    pair.lines(
        *script(f"""
        XADD s 1 a b; XADD s 1 a b; XADD s 0-1 a b; XADD s 1-* a b; XADD s 2-7 a b c d;
        XADD s 2-* e f; XADD s 0-0 a b; XADD none 0 a b; EXISTS none; XADD none 0-* a b;
        XADD s 3 a; XADD s 3 a b c; XADD s 3; XADD s * a; XADD s x a b; XADD s -1 a b;
        XADD s 1-x a b; XADD s - a b; XADD s + a b; XADD s {MAX + 1} a b;
        XADD s 5-{MAX + 1} a b; XADD s 1-1-1 a b; XADD s "" a b; XADD new NOMKSTREAM 1 a b;
        XADD new nomkstream * a b; EXISTS new; XADD s NOMKSTREAM NOMKSTREAM 3 a b; XLEN s;
        XLEN new; SET str v; XADD str * a b; XLEN str; XADD str x a b; TYPE s;
        OBJECT ENCODING s; DEL none; SCAN 0 TYPE stream COUNT 999; XADD s 4-{MAX} a b;
        XADD s 4-* a b; XADD s 4 a b; XADD s 007 a b; XADD s 08-+09 a b; XADD s {MAX}-{MAX - 1} a b;
        XADD s * a b; XADD s * a b; XADD s {MAX}-* a b; XRANGE s - +; COPY s t; XRANGE t - +;
        COPY s t REPLACE
        """)
    )


def test_trimming(pair: Pair) -> None:
    for number in range(1, 351):
        pair.same("XADD", "s", number, "field", f"value{number}")
    pair.lines(
        *script("""
        XTRIM s MAXLEN ~ 300; XTRIM s MAXLEN ~ 200; XLEN s; XTRIM s MAXLEN = 245;
        XTRIM s MINID 110; XTRIM s MINID ~ 250; XTRIM s MINID ~ 260 LIMIT 10;
        XTRIM s MINID ~ 301 LIMIT 100; XLEN s; XADD s MAXLEN ~ 10 1000 a b;
        XADD s MAXLEN 5 1001 a b; XADD s MINID 1000 1002 a b; XLEN s; XTRIM s; XTRIM s MAXLEN;
        XTRIM s MAXLEN x; XTRIM s MAXLEN -1; XTRIM s MINID x; XTRIM s MAXLEN 1 MINID 1;
        XTRIM s MAXLEN 1 LIMIT 1; XTRIM s LIMIT 1 2; XTRIM s LIMIT 0 2; XTRIM s LIMIT 0 LIMIT 0;
        XTRIM s MAXLEN ~ 1 LIMIT -1; XTRIM s MAXLEN ~ 1 LIMIT x; XTRIM s MAXLEN 1 FOO;
        XTRIM s FOO 1; XTRIM s MAXLEN ~; XTRIM s MAXLEN = 1 LIMIT 0; XTRIM s MAXLEN 1 LIMIT;
        XTRIM s MINID -; XTRIM s MINID ~ (1; XTRIM none MAXLEN 1; XADD s LIMIT 1 * a b;
        XADD s LIMIT 0 2000 a b; XADD s MAXLEN 1 MAXLEN ~ 1 * a b; XADD s MAXLEN;
        XADD s MAXLEN 1; XADD s MAXLEN ~ 1; XADD s MAXLEN ~ 1 *; XADD s MINID ~ * a b;
        SET str v; XTRIM str MAXLEN 1; XTRIM str MAXLEN x; XTRIM s MAXLEN 0; XLEN s; EXISTS s;
        XTRIM s MINID ~ 99999; XRANGE s - +
        """)
    )


def test_ranges(pair: Pair) -> None:
    for entry_id in ("1-1", "1-2", "2-0", "5-3", f"7-{MAX}", f"{MAX}-{MAX}"):
        pair.same("XADD", "s", entry_id, "a", "b")
    ends = (
        "-",
        "+",
        "0",
        "1",
        "(1",
        "1-2",
        "(1-2",
        "5",
        "(5-3",
        f"(7-{MAX}",
        "(0-0",
        "(-",
        "(",
        "",
    )
    for start in (*ends, f"{MAX}", f"({MAX}-{MAX}", "x", "(x", " 1", "1-"):
        for end in (*ends, f"{MAX}-{MAX}"):
            pair.same("XRANGE", "s", start, end)
            pair.same("XREVRANGE", "s", start, end, "COUNT", 2)
    pair.lines(
        *script("""
        XRANGE s - + COUNT 0; XRANGE s - + COUNT -5; XRANGE s - + COUNT 1 COUNT 2;
        XRANGE s - + COUNT; XRANGE s - + COUNT x; XRANGE s - + FOO 1; XRANGE none - +;
        XRANGE none x +; XRANGE none - + COUNT 0; SET str v; XRANGE str - +; XRANGE str x +;
        XREVRANGE s + -; XREVRANGE str + -; XDEL s 1-1 2 9; XDEL s 1 x; XDEL none 1;
        XDEL none x; XDEL str 1; XDEL s 5-3 5-3; XRANGE s - +; XDEL s; XLEN s
        """)
    )


def test_reading(pair: Pair) -> None:
    pair.lines(
        *script("""
        XADD s 1 a b; XADD s 2 a b; XADD t 1 c d; XREAD STREAMS s 0; XREAD STREAMS s t 0 0;
        XREAD COUNT 1 STREAMS s t 1 0; XREAD STREAMS s $; XREAD STREAMS s +;
        XREAD STREAMS s s 0 1; XREAD STREAMS none 0; XREAD STREAMS none $; XREAD STREAMS none +;
        XREAD STREAMS s >; XREAD STREAMS s -; XREAD STREAMS s x; XREAD STREAMS s;
        XREAD STREAMS s t 0; XREAD COUNT x; XREAD COUNT 0 STREAMS s 0;
        XREAD COUNT -1 STREAMS s 0; XREAD COUNT x STREAMS s 0; XREAD BLOCK x STREAMS s 0;
        XREAD BLOCK -1 STREAMS s 0; XREAD BLOCK 1 STREAMS s 0; XREAD FOO STREAMS s 0;
        XREAD COUNT STREAMS s 0; XREAD COUNT 1 BLOCK 1; XREAD NOACK STREAMS s 0;
        XREAD GROUP g c STREAMS s 0; SET str v; XREAD STREAMS str 0; XREAD STREAMS s str 0 0;
        XDEL s 2; XREAD STREAMS s +; XREAD STREAMS s 0; XDEL s 1; XREAD STREAMS s 0;
        XREADGROUP STREAMS s >; XREADGROUP GROUP g c STREAMS none >;
        XREADGROUP GROUP g c STREAMS s >; XGROUP CREATE s g 0; XREADGROUP GROUP g c STREAMS s $;
        XREADGROUP GROUP g c STREAMS s +; XREADGROUP GROUP g c STREAMS s x;
        XREADGROUP GROUP g STREAMS s >; XREADGROUP COUNT 1 NOACK STREAMS s > >;
        XREADGROUP BLOCK 1 NOACK STREAMS s >; XREADGROUP GROUP g c STREAMS str >; MULTI;
        XREAD BLOCK 0 STREAMS s $; XREADGROUP GROUP g c BLOCK 0 STREAMS s >; EXEC
        """)
    )


def test_groups(pair: Pair) -> None:
    pair.lines(
        *script(f"""
        XGROUP CREATE s g 0; XGROUP CREATE s g 0 MKSTREAM; XGROUP CREATE s g $ MKSTREAM; XLEN s;
        XGROUP CREATE new g x MKSTREAM; EXISTS new; XGROUP CREATE s h +; XGROUP CREATE s h -;
        XGROUP CREATE s h 0 ENTRIESREAD; XGROUP CREATE s h 0 ENTRIESREAD -2;
        XGROUP CREATE s h 0 FOO; XGROUP CREATE s h 0 ENTRIESREAD x;
        XGROUP CREATE s h 0 ENTRIESREAD 3 MKSTREAM; XGROUP CREATE s i 0 ENTRIESREAD -1;
        XGROUP CREATE s j 0 MKSTREAM MKSTREAM MKSTREAM MKSTREAM; XGROUP SETID s g 5;
        XGROUP SETID s g +; XGROUP SETID s g -; XGROUP SETID s g $;
        XGROUP SETID s g 1 ENTRIESREAD 1; XGROUP SETID s g 1 MKSTREAM; XGROUP SETID s g x;
        XGROUP SETID s nope 1; XGROUP SETID none g 1; XGROUP CREATECONSUMER s g c;
        XGROUP CREATECONSUMER s g c; XGROUP CREATECONSUMER s nope c;
        XGROUP CREATECONSUMER none g c; XGROUP DELCONSUMER s g c; XGROUP DELCONSUMER s g c;
        XGROUP DELCONSUMER s nope c; XGROUP DESTROY s g; XGROUP DESTROY s g;
        XGROUP DESTROY none g; XGROUP FOO; XGROUP; XGROUP DESTROY s; SET str v;
        XGROUP CREATE str g 0; XGROUP DESTROY str g; XINFO GROUPS s; XINFO GROUPS none;
        XINFO GROUPS str; XINFO CONSUMERS s nope; XINFO CONSUMERS none g; XINFO STREAM none;
        XINFO STREAM str; XINFO STREAM s FOO; XINFO STREAM s FULL COUNT;
        XINFO STREAM s FULL COUNT x; XINFO STREAM s FULL FOO 1; XINFO STREAM s FULL COUNT -1;
        XINFO STREAM s; XINFO STREAM s FULL; XINFO FOO s; XINFO STREAM; XINFO; XADD s 9 a b;
        XSETID s 5; XSETID s 10; XSETID s 11 ENTRIESADDED 0; XSETID s 11 ENTRIESADDED -1;
        XSETID s 11 ENTRIESADDED 7 MAXDELETEDID 8; XSETID s 11 MAXDELETEDID 12; XSETID s x;
        XSETID s 10 MAXDELETEDID; XSETID s 10 FOO 1; XSETID none 1; XSETID str 1;
        XINFO STREAM s; XSETID s 7; XSETID s {MAX}-{MAX}; XADD s * a b; XINFO STREAM s FULL
        """)
    )


def test_deliveries(pair: Pair) -> None:
    for number in range(1, 13):
        pair.same("XADD", "s", number, "a", number)
    lines = script("""
        XGROUP CREATE s g 0; XREADGROUP GROUP g c COUNT 3 STREAMS s >;
        XREADGROUP GROUP g c STREAMS s 0; XREADGROUP GROUP g c COUNT 1 STREAMS s 1;
        XREADGROUP GROUP g d NOACK COUNT 2 STREAMS s >; XREADGROUP GROUP g d STREAMS s 0;
        XREADGROUP GROUP g d COUNT 3 STREAMS s >; XPENDING s g; XPENDING s g - + 10;
        XPENDING s g - + 2; XPENDING s g (1 8 10 d; XPENDING s g - + 10 nope;
        XPENDING s g IDLE 0 - + 10; XPENDING s g IDLE 99999 - + 10;
        XPENDING s g IDLE 0 - + 10 c; XPENDING s g - + 0; XPENDING s g - + -1;
        XPENDING s g - + x; XPENDING s g x + 1; XPENDING s g -; XPENDING s g IDLE x - + 1;
        XPENDING s g IDLE 1 - +; XPENDING s g - + 1 c d e; XPENDING none g; XPENDING s nope;
        XPENDING s g - + 1 c d; XACK s g 1 2 99; XACK s g 1; XACK s nope 1; XACK none g 1;
        XACK s g x; XACK s g 3 x; XDEL s 3 7; XREADGROUP GROUP g c STREAMS s 0;
        XCLAIM s g e 0 3 6; XCLAIM s g e 99999 8; XCLAIM s g e 0 8 9 JUSTID; XCLAIM s g e 0 9;
        XCLAIM s g e 0 9 FORCE; XCLAIM s g e 0 10 FORCE JUSTID; XCLAIM s g e 0 99 FORCE;
        XCLAIM s g e 0 8 RETRYCOUNT 7 IDLE 50; XCLAIM s g e 0 8 RETRYCOUNT -7 TIME -5 JUSTID;
        XCLAIM s g e 0 8 LASTID 11; XCLAIM s g e 0 LASTID 12 8; XCLAIM s g e 0 8 LASTID x;
        XCLAIM s g e 0 8 FOO; XCLAIM s g e 0 8 IDLE; XCLAIM s g e 0 8 IDLE x;
        XCLAIM s g e 0 8 TIME x; XCLAIM s g e 0 8 RETRYCOUNT x; XCLAIM s g e x 8;
        XCLAIM s g e -5 8; XCLAIM s nope e 0 8; XCLAIM none g e 0 8; XPENDING s g - + 10;
        XAUTOCLAIM s g f 0 0 COUNT 1; XAUTOCLAIM s g f 0 (6 COUNT 2 JUSTID;
        XAUTOCLAIM s g f 0 7; XAUTOCLAIM s g f 99999 0; XAUTOCLAIM s g f 0 -;
        XAUTOCLAIM s g f 0 +; XAUTOCLAIM s g f 0 x; XAUTOCLAIM s g f x 0;
        XAUTOCLAIM s g f 0 0 COUNT 0; XAUTOCLAIM s g f 0 0 COUNT x; XAUTOCLAIM s g f 0 0 FOO;
        XAUTOCLAIM s g f 0 0 COUNT 576460752303423488;
        XAUTOCLAIM s g f 0 0 COUNT 576460752303423487; XAUTOCLAIM s nope f 0 0;
        XAUTOCLAIM none g f 0 0; XPENDING s g; XGROUP DELCONSUMER s g e; XPENDING s g;
        XINFO CONSUMERS s g; XINFO GROUPS s; XINFO STREAM s FULL; XINFO STREAM s FULL COUNT 1;
        SET str v; XPENDING str g; XACK str g 1; XCLAIM str g c 0 1; XAUTOCLAIM str g c 0 0;
        XINFO CONSUMERS str g; COPY s t; XINFO STREAM t FULL; XPENDING t g; DEL s
        """)
    for line in lines:
        timeless(pair, *line.split(" "))


class Fuzz:
    """Draws commands whose ids tend to meet."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.top = 1

    def some_id(self) -> str:
        number = self.rng.randint(max(0, self.top - 30), self.top + 2)
        sequence = self.rng.choice(["", "", "-0", "-1", f"-{self.rng.randint(0, 200)}"])
        odd = self.rng.choice(["0", "-", "+", "$", ">", f"({number}", f"{MAX}", "x"])
        return odd if self.rng.random() < 0.1 else f"{number}{sequence}"

    def value(self) -> str:
        return self.rng.choice(
            ["a", "", "x" * self.rng.randint(0, 70), f"{self.rng.randint(-(10**6), 10**6)}"]
        )

    def command(self) -> list[str]:
        rng = self.rng
        key, group = rng.choice(["s", "s", "t"]), rng.choice(["g", "h"])
        consumer, idle = rng.choice(["c1", "c2", "Z"]), rng.choice(["0", "0", "99999"])
        ids = [self.some_id() for _ in range(rng.randint(1, 4))]
        count = rng.choice([[], ["COUNT", str(rng.randint(-1, 9))]])
        trim = rng.choice(["MAXLEN", "MINID"])
        trim_to = str(rng.randint(0, 60)) if trim == "MAXLEN" else ids[0]
        limit = rng.choice([[], ["LIMIT", str(rng.randint(0, 30))]])
        trims = [trim, *rng.choice([[], ["~"], ["~"], ["="]]), trim_to, *limit]
        choices = {
            34: lambda: self.addition(key, trims),
            6: lambda: ["XDEL", key, *ids],
            4: lambda: ["XTRIM", key, *trims],
            5: lambda: ["XRANGE", key, self.some_id(), ids[0], *count],
            3: lambda: ["XREVRANGE", key, ids[0], self.some_id(), *count],
            9: lambda: self.about_group(key, group, consumer, ids[0]),
            12: lambda: [
                *("XREADGROUP", "GROUP", group, consumer, *count),
                *(rng.choice([[], [], ["NOACK"]])),
                *("STREAMS", key, rng.choice([">", ">", ">", ids[0]])),
            ],
            2: lambda: ["XREAD", *count, "STREAMS", key, "t", ids[0], "+"],
            7: lambda: ["XACK", key, group, *ids],
            1: lambda: ["XPENDING", key, group, *rng.choice([[], ["-", "+", "20", consumer]])],
            8: lambda: [
                *("XCLAIM", key, group, consumer, idle, *ids),
                *rng.choice([[], ["JUSTID"], ["FORCE"], ["RETRYCOUNT", "5"], ["LASTID", ids[0]]]),
            ],
            10: lambda: ["XAUTOCLAIM", key, group, consumer, idle, ids[0], *count],
            11: lambda: ["XINFO", "STREAM", key, *rng.choice([[], ["FULL"], ["FULL", *count]])],
        }
        return rng.choices(list(choices.values()), list(choices))[0]()

    def addition(self, key: str, trims: list[str]) -> list[str]:
        rng = self.rng
        self.top += rng.choice([0, 0, 1, 1, 5])
        names = rng.choice([["a"], ["a", "b"], ["f1", "2"], [self.value()]])
        fields = [word for name in names for word in (name, self.value())]
        entry_id = rng.choice([f"{self.top}", f"{self.top}-*", f"{self.top}-{rng.randint(0, 9)}"])
        return ["XADD", key, *(trims if rng.random() < 0.2 else []), entry_id, *fields]

    def about_group(self, key: str, group: str, consumer: str, entry_id: str) -> list[str]:
        rng = self.rng
        read = rng.choice([[], ["ENTRIESREAD", str(rng.randint(-2, 50))]])
        return rng.choice(
            [
                ["XGROUP", "CREATE", key, group, rng.choice(["0", "$", entry_id]), *read],
                ["XGROUP", "SETID", key, group, entry_id, *read],
                ["XGROUP", "DELCONSUMER", key, group, consumer],
                ["XGROUP", "DESTROY", key, group],
                ["XSETID", key, entry_id, *rng.choice([[], ["ENTRIESADDED", "70"]])],
                ["XINFO", "CONSUMERS", key, group],
                ["XINFO", "GROUPS", key],
            ]
        )


@pytest.mark.parametrize("seed", range(4))
def test_random_commands(pair: Pair, seed: int) -> None:
    rng = random.Random(seed)
    limits = (rng.choice([0, 4096, 200]), rng.choice([0, 1, 5, 100]))
    pair.same("CONFIG", "SET", "stream-node-max-bytes", limits[0])
    pair.same("CONFIG", "SET", "stream-node-max-entries", limits[1])
    fuzz = Fuzz(rng)
    for _ in range(500):
        timeless(pair, *fuzz.command())
    pair.same("CONFIG", "SET", "stream-node-max-bytes", 4096, "stream-node-max-entries", 100)


# --- events and effects ---------------------------------------------------------------------------


def test_events_and_effects(witness: Witness) -> None:
    witness.agree(
        *script("""
        XADD s 1 a b; XADD s 1-* a b; XADD s MAXLEN 1 5 a b; XADD s MAXLEN ~ 1 6 a b;
        XADD s MINID ~ 6 7 a b; XADD s MAXLEN ~ 10 LIMIT 5 8-* a b; XADD s NOMKSTREAM 9 a b;
        XADD s 9 a b; XADD none NOMKSTREAM 1 a b; XADD s MAXLEN = 2 10 a b; XTRIM s MAXLEN ~ 1;
        XTRIM s MAXLEN 1; XTRIM s MAXLEN 1; XGROUP CREATE s g 0 MKSTREAM; XGROUP CREATE s g 0;
        XGROUP CREATE new g $ MKSTREAM; XGROUP CREATE s h 0 ENTRIESREAD 3; XGROUP SETID s g 5;
        XGROUP CREATECONSUMER s g c; XGROUP CREATECONSUMER s g c; XGROUP DELCONSUMER s g c;
        XGROUP DELCONSUMER s g c; XREADGROUP GROUP h c NOACK STREAMS s >;
        XREADGROUP GROUP h c STREAMS s >; XREADGROUP GROUP h d NOACK STREAMS s >; XACK s g 5;
        XSETID s 20; XSETID s 30 ENTRIESADDED 100 MAXDELETEDID 25;
        XGROUP SETID s g $ ENTRIESREAD 8; XGROUP DESTROY s g; XGROUP DESTROY s g; XDEL s 10 11;
        XDEL s 10; XADD m 1 a b; XTRIM m MINID ~ 99; XADD m 2 a b; XADD m MINID ~ 99 3 a b;
        XRANGE none - +; XLEN none; XREAD STREAMS none 0; XINFO STREAM none; XPENDING none g;
        XACK none g 1; XDEL none 1; XTRIM none MAXLEN 1; XCLAIM none g c 0 1;
        XREADGROUP GROUP g c STREAMS none >; COPY m n
        """)
    )


def test_effects_with_times(witness: Witness) -> None:
    ours = witness.pair.ours
    for number in range(1, 6):
        witness.pair.same("XADD", "s", number, "a", "b")
    witness.pair.same("XGROUP", "CREATE", "s", "g", 0)
    for line in script("""
        XADD s * a b; XADD s MAXLEN ~ 9 * a b; XREADGROUP GROUP g c COUNT 2 STREAMS s >;
        XREADGROUP GROUP g c COUNT 2 STREAMS s > NOPE; XREADGROUP GROUP g c STREAMS s 0;
        XREADGROUP GROUP g d COUNT 3 STREAMS s s > >; XCLAIM s g e 0 1-0;
        XCLAIM s g e 0 1-0 JUSTID; XCLAIM s g e 99999 1-0; XCLAIM s g e 0 99-0 LASTID 5-9;
        XDEL s 1 2; XCLAIM s g e 0 1-0; XAUTOCLAIM s g c 0 0;
        XAUTOCLAIM s g c 0 0 COUNT 1 JUSTID; XACK s g 3-0; XACK s g 3-0
        """):
        witness.take(), ours.take_events(), ours.take_log()
        witness.pair.both(*line.split(" "))
        events, effects = witness.take()
        assert ours.take_events() == events, line
        assert _timeless_words(ours.take_log()) == _timeless_words(effects), line


def _timeless_words(commands: list[list[bytes]]) -> list[str]:
    """Words with T for times and for ids of now, whose sequence counts what shares the ms."""
    return [re.sub(r"\b1\d{12}(-\d+)?\b", "T", b" ".join(words).decode()) for words in commands]


def test_a_consumer_that_gets_nothing_is_logged() -> None:
    """A real primary keeps such consumers to itself; they would be lost with it."""
    ours = local_node()
    ours.node.log.keep_backlog(1 << 16)
    cursor = ours.node.log.open_cursor()
    client = ours.client()
    client.raw(
        b"XADD s 1 a b\r\nXGROUP CREATE s g $\r\nXREADGROUP GROUP g c STREAMS s >\r\n"
        b"XCLAIM s g d 0 1\r\nXAUTOCLAIM s g e 0 0\r\nXREADGROUP GROUP g c STREAMS s >\r\n"
    )
    logged = ours.node.log.read(cursor, 1 << 16).decode()
    created = re.findall(r"CREATECONSUMER\r\n\$1\r\ns\r\n\$1\r\ng\r\n\$1\r\n(.)", logged)
    assert created == ["c", "d", "e"]


@pytest.mark.parametrize(
    ("change", "breaks"),
    [
        *(("XACK s g 1", False), ("XGROUP CREATE s h 0", False), ("XGROUP SETID s g 0", False)),
        *(("XGROUP DESTROY s g", False), ("XGROUP DELCONSUMER s g c", False)),
        *(("XREADGROUP GROUP g c STREAMS s >", False), ("XCLAIM s g d 0 1", False)),
        *(("XAUTOCLAIM s g d 0 0", False), ("XSETID s 9", False), ("XTRIM s MAXLEN ~ 1", False)),
        *(("XDEL s 1", True), ("XTRIM s MAXLEN 1", True), ("XADD s 10 a b", True)),
        ("XGROUP CREATE none g 0 MKSTREAM", True),
    ],
)
def test_what_breaks_a_watch(change: str, breaks: bool) -> None:
    ours = local_node()
    watching, other = ours.client(), ours.client()
    other.raw(
        b"XADD s 1 a b\r\nXADD s 2 a b\r\nXGROUP CREATE s g 0\r\n"
        b"XREADGROUP GROUP g c COUNT 1 STREAMS s >\r\n"
    )
    watching.send("WATCH", "s", "none")
    other.send(*change.split())
    assert watching.raw(b"MULTI\r\nPING\r\nEXEC\r\n").endswith(b"*-1\r\n") == breaks


# --- waiting --------------------------------------------------------------------------------------


def waiting_consumer(command: str, *before: str) -> tuple[Local, Client, Client]:
    """A node, a client that waits by `command`, and another that said `before`."""
    ours = local_node()
    waiting, other = ours.client(), ours.client()
    for line in before:
        other.send(*line.split())
    assert waiting.send(*command.split()) == b""
    return ours, waiting, other


READ_NEW = "XREADGROUP GROUP g c BLOCK 0 STREAMS s >"
GROUP = "XGROUP CREATE s g $ MKSTREAM"
GONE = "NOGROUP No such key 's' or consumer group 'g' in XREADGROUP with GROUP option"


@pytest.mark.parametrize(
    "changes",
    [
        *(["DEL s"], ["XGROUP DESTROY s g"], ["RENAME s t"], ["FLUSHALL"], ["FLUSHDB"]),
        *(["EXPIRE s 0"], ["XGROUP DESTROY s g", "XGROUP CREATE s g 0"], ["SWAPDB 0 1"]),
        ["XADD t 1 a b", "RENAME t s"],
    ],
    ids=str,
)
def test_a_group_that_goes_answers_its_consumers(changes: list[str]) -> None:
    _, waiting, other = waiting_consumer(READ_NEW, GROUP)
    for change in changes:
        other.send(*change.split())
    assert str(waiting.next()) == GONE
    assert waiting.next() is False


def test_another_value_answers_consumers_but_not_readers() -> None:
    ours, waiting, other = waiting_consumer(READ_NEW, GROUP)
    reader = ours.client()
    reader.send("XREAD", "BLOCK", 0, "STREAMS", "s", "$")
    other.send("SET", "s", "v")
    assert str(waiting.next()).startswith("WRONGTYPE")
    assert reader.next() is False
    other.raw(b"DEL s\r\nXADD s 1 a b\r\n")
    assert reader.next() == [[b"s", [[b"1-0", [b"a", b"b"]]]]]


@pytest.mark.parametrize("change", ["XGROUP SETID s g 0", "XGROUP CREATE s h 0", "XSETID s 9"])
def test_what_wakes_nobody(change: str) -> None:
    _, waiting, other = waiting_consumer(READ_NEW, "XADD s 1 a b", GROUP)
    other.send(*change.split())
    assert waiting.next() is False


def test_an_entry_goes_to_the_first_consumer_and_to_every_reader() -> None:
    ours, first, other = waiting_consumer(READ_NEW, GROUP)
    second, readers = ours.client(), [ours.client(), ours.client()]
    second.send(*READ_NEW.replace(" c ", " d ").split())
    for reader in readers:
        reader.send("XREAD", "BLOCK", 0, "STREAMS", "s", "none", "$", "$")
    entries = [[b"s", [[b"1-0", [b"a", b"b"]]]]]
    assert other.call("XADD", "s", "1", "a", "b") == b"1-0"
    assert (first.next(), second.next()) == (entries, False)
    assert [reader.next() for reader in readers] == [entries, entries]
    other.send("XADD", "s", "2", "a", "b")
    assert second.next() == [[b"s", [[b"2-0", [b"a", b"b"]]]]]
    assert other.call("XPENDING", "s", "g") == [
        *(2, b"1-0", b"2-0", [[b"c", b"1"], [b"d", b"1"]]),
    ]


def test_dollar_is_the_end_at_the_time_of_asking() -> None:
    _, waiting, other = waiting_consumer("XREAD BLOCK 0 STREAMS s $", "XADD s 5 a b")
    other.raw(b"DEL s\r\nXADD s 4 a b\r\n")
    assert waiting.next() is False
    other.send("XADD", "s", "6", "c", "d")
    assert waiting.next() == [[b"s", [[b"6-0", [b"c", b"d"]]]]]


def test_a_transaction_is_seen_as_a_whole() -> None:
    _, waiting, other = waiting_consumer("XREAD BLOCK 0 STREAMS a b 0 0")
    other.raw(b"MULTI\r\nXADD b 1 x y\r\nXADD a 1 x y\r\nXADD a 2 x y\r\nXDEL a 1\r\nEXEC\r\n")
    assert waiting.next() == [[b"a", [[b"2-0", [b"x", b"y"]]]], [b"b", [[b"1-0", [b"x", b"y"]]]]]


def test_effects_follow_the_entry_that_woke() -> None:
    ours, waiting, other = waiting_consumer(READ_NEW.replace("BLOCK", "NOACK BLOCK"), GROUP)
    ours.node.log.keep_backlog(1 << 16)
    cursor = ours.node.log.open_cursor()
    other.send("XADD", "s", "1", "a", "b")
    assert waiting.next()
    logged = ours.node.log.read(cursor, 1 << 16).decode()
    words = " ".join(line for line in logged.split("\r\n") if line and line[0] not in "*$")
    assert words == "SELECT 0 XADD s 1 a b XGROUP SETID s g 1-0 ENTRIESREAD 1"


def test_the_deadline() -> None:
    ours, waiting, other = waiting_consumer(READ_NEW.replace("BLOCK 0", "BLOCK 50"), GROUP)
    other.send("XGROUP", "DELCONSUMER", "s", "g", "c")
    ours.advance(49)
    assert waiting.next() is False
    ours.advance(1)
    assert waiting.session.take_output() == b"*-1\r\n"
    other.send("XADD", "s", "1", "a", "b")
    assert waiting.next() is False


def test_history_never_waits() -> None:
    ours = local_node()
    client = ours.client()
    client.send(*GROUP.split())
    assert client.call("XREADGROUP", "GROUP", "g", "c", "BLOCK", 0, "STREAMS", "s", 0) == [
        [b"s", []]
    ]


@pytest.mark.parametrize(("from_primary", "later_ms"), [(True, 6), (False, 0)])
def test_a_replica_takes_its_primarys_word_for_the_time_of_a_delivery(from_primary, later_ms):
    """Its own turn may have begun before the primary's, whose clock may be ahead as well."""
    local = local_node()
    client = local.client()
    client.call("XADD", "s", "1-1", "f", "v")
    client.call("XGROUP", "CREATE", "s", "g", "0")
    client.session.from_primary = from_primary
    now_ms = local.node.keyspace.now_ms
    client.call("XCLAIM", "s", "g", "c", 0, "1-1", "TIME", now_ms + 6, "FORCE", "JUSTID")
    (pending,) = client.call("XINFO", "STREAM", "s", "FULL")[-1][0][-3]
    assert pending[2] == now_ms + later_ms
