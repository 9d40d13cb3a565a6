"""The command log: what readers get, from where, and how long it is kept."""

from hypothesis import given
from hypothesis import strategies as st

from node.persistence.log import AOF, BOTH, REPLICAS, Cursor, Log
from node.resp import RequestParser, encode_request, is_canonical


def text(data: bytes) -> str:
    """Commands as words, a line each."""
    return "; ".join(b" ".join(words).decode() for words in RequestParser().feed(data or b"\n"))


def read(log: Log, cursor: Cursor) -> str:
    log.flush()
    return text(log.read(cursor, 1 << 30))


def write(log: Log, *lines: str, db: int = 0) -> None:
    log.append(db, [line.encode().split() for line in lines])


def test_nothing_is_kept_while_nobody_reads():
    log = Log()
    assert not log.active
    write(log, "SET a 1")
    assert log.flush() == 0 and log.backlog_length() == 0


def test_a_reader_gets_what_comes_after_it():
    log = Log()
    log.keep_backlog(1 << 20)
    write(log, "SET a 1")
    cursor = log.open_cursor()
    write(log, "SET b 2", "SET c 3")
    log.append_one(0, [b"DEL", b"a"])
    write(log, "SET d 4", db=3)
    assert read(log, cursor) == (
        "SELECT 0; MULTI; SET b 2; SET c 3; EXEC; DEL a; SELECT 3; SET d 4"
    )
    assert read(log, cursor) == ""
    assert log.open_cursor_at(0).offset == 0


def test_audiences():
    log = Log()
    log.open_aof()
    cursor = log.open_cursor()
    write(log, "SET a 1")
    log.append(0, [[b"PUBLISH", b"c", b"m"]], REPLICAS)
    log.append(0, [[b"SET", b"b", b"2"]], AOF)
    log.append_control(b"*1\r\n$4\r\nPING\r\n")
    assert read(log, cursor) == "SELECT 0; SET a 1; PUBLISH c m; PING"
    assert log.aof is not None
    assert text(b"".join(log.aof)) == "SELECT 0; SET a 1; SET b 2"
    assert log.offset == cursor.offset


def test_a_follower_passes_on_its_primarys_bytes_and_files_its_own_writes():
    log = Log()
    log.keep_backlog(1 << 20)
    log.open_aof()
    log.follow(True)
    log.restart(1000)
    cursor = log.open_cursor()
    raw = b"*2\r\n$6\r\nSELECT\r\n$1\r\n2\r\n" + encode_request([b"SET", b"a", b"1"])
    log.append_raw(raw, 0, 2)
    write(log, "SET mine 1", db=5)
    log.append_control(b"*1\r\n$4\r\nPING\r\n")
    more = encode_request([b"SET", b"b", b"2"])
    log.append_raw(more, 2, 2)
    assert log.flush() == 1000 + len(raw + more)
    assert log.read(cursor, 1 << 20) == raw + more
    assert log.aof is not None
    assert text(b"".join(log.aof)) == (
        "SELECT 0; SELECT 2; SET a 1; SELECT 5; SET mine 1; SELECT 2; SET b 2"
    )
    log.follow(False)
    write(log, "SET c 3", db=2)
    assert read(log, cursor) == "SELECT 2; SET c 3"


def test_the_bytes_that_came_are_logged_for_those_whom_they_concern():
    log = Log()
    log.open_aof()
    cursor = log.open_cursor()
    log.select(0)
    # As it came; told from what is encoded here by its small letters.
    chunk = encode_request([b"set", b"a", b"1"]) + encode_request([b"publish", b"c", b"m"])
    for audience in (BOTH, REPLICAS, AOF):
        for second in (BOTH, REPLICAS):
            requests = [[b"SET", b"a", b"1"], [b"PUBLISH", b"c", b"m"]]
            mark = log.mark()
            log.append(0, requests[:1], audience)
            log.append(0, requests[1:], second)
            log.shorten(mark, requests, chunk)
            log.flush()
            replicas, file = log.read(cursor, 1 << 20), b"".join(log.aof or ())
            log.aof = []
            whole = audience == second == BOTH
            assert (chunk in replicas, chunk in file) == (whole, whole)
            assert (b"SET" in replicas.upper()) == (audience != AOF)
            assert (b"SET" in file.upper()) == (audience != REPLICAS)
            assert (b"PUBLISH" in file.upper()) == (second == BOTH)


def test_of_bytes_that_are_no_canonical_requests_what_they_say_is_logged():
    canonical = encode_request([b"SET", b"a", b"1"]) * 2
    requests = [[b"SET", b"a", b"1"]] * 2
    assert is_canonical(canonical, requests)
    odd = canonical.replace(b"a\r\n", b"axx", 1)
    parser = RequestParser()
    assert parser.feed(odd) == requests
    assert parser.verbatim == odd
    assert not is_canonical(odd, requests)


def test_a_follower_without_a_file_encodes_nothing_of_its_own():
    log = Log()
    log.keep_backlog(1 << 20)
    log.follow(True)
    log.open_cursor()
    assert not log.active
    log.follow(False)
    assert log.active


@given(
    blocks=st.lists(st.binary(min_size=1, max_size=60), max_size=300),
    size=st.integers(1, 2000),
    lag=st.integers(0, 4000),
    most=st.integers(1, 300),
)
def test_what_readers_need_and_the_backlog_promises_is_held(blocks, size, lag, most):
    log = Log()
    log.keep_backlog(size)
    log.follow(True)
    whole = b""
    cursor = log.open_cursor_at(0)
    taken = b""
    for block in blocks:
        log.append_raw(block, 0, 0, BOTH)
        log.flush()
        whole += block
        log.check()
        while len(whole) - cursor.offset > lag:
            taken += log.read(cursor, most)
        assert log.holds(max(0, len(whole) - size)) and log.holds(len(whole))
        assert not log.holds(len(whole) + 1)
    while data := log.read(cursor, most):
        assert len(data) <= most
        taken += data
    assert taken == whole
    log.close_cursor(cursor)
    first = log.first_offset()
    again = log.open_cursor_at(first)
    assert log.read(again, 1 << 30) == whole[first:]
