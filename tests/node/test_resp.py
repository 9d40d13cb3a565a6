"""Requests in: the fast and the strict way to split them agree, bad input is refused as a real
server refuses it, and no input at all crashes the parser or makes it keep much."""

import itertools
import random
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.resp import INLINE_MAX, RequestParser, encode_request, whole_requests

arguments = st.one_of(
    st.binary(max_size=20),
    st.sampled_from([b"", b"*1\r\n$4\r\nPING\r\n", b"\r\n", b"$", b"*", b":1\r\n", b"x" * 2000]),
)
requests = st.lists(st.lists(arguments, min_size=1, max_size=5), min_size=1, max_size=8)


def feed_all(parser: RequestParser, pieces: list[bytes]) -> list[list[bytes]]:
    return [request for piece in pieces for request in parser.feed(piece)]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % len(data) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if start < end]


@given(requests, st.lists(st.integers(min_value=0), max_size=10))
def test_every_way_to_cut_gives_the_same_requests(sent, places):
    data = b"".join(map(encode_request, sent))
    for pieces in ([data], cut(data, places), [data[i : i + 1] for i in range(len(data))]):
        parser = RequestParser()
        assert feed_all(parser, pieces) == sent
        assert parser.error is None and parser.buffered() == 0


# What hiredis, a parser of replies, knows and Redis does not take for a request.
FRAGMENTS = [
    *(b"*1\r\n", b"*2\r\n", b"$4\r\nPING\r\n", b"*1\r\n$4\r\nPING\r\n", b"$0\r\n\r\n", b"*0\r\n"),
    *(b"$-1\r\n", b"*-1\r\n", b":0\r\n", b":1\r\n", b"+\r\n", b"+a\r\n", b"-\r\n", b"-a b\r\n"),
    *(b"%1\r\n", b"%0\r\n", b"~1\r\n", b"~0\r\n", b">1\r\n", b">0\r\n", b"|1\r\n", b"|0\r\n"),
    *(b"=4\r\ntxt:\r\n", b"=8\r\ntxt:PING\r\n", b"(0\r\n", b"(12\r\n", b",1.5\r\n", b",inf\r\n"),
    *(b"#t\r\n", b"#f\r\n", b"_\r\n", b"!3\r\nabc\r\n", b"*123456\r\n", b"*01\r\n", b"*\r\n"),
    *(b"~4000000000\r\n", b">4000000000\r\n", b"|4000000000\r\n", b"%4000000000\r\n", b"\r\n"),
]


@given(st.lists(st.sampled_from(FRAGMENTS), min_size=1, max_size=8), st.booleans())
def test_what_hiredis_takes_for_more_than_a_request_is_left_to_the_strict_parser(parts, begin):
    data = b"*1\r\n$4\r\nPING\r\n" * begin + b"".join(parts)
    fast, strict = RequestParser(), RequestParser()
    requests = fast.feed(data)
    assert requests == feed_all(strict, [data[i : i + 1] for i in range(len(data))])
    assert all(type(args) is list and args and set(map(type, args)) == {bytes} for args in requests)
    assert str(fast.error) == str(strict.error)
    assert fast.verbatim in (None, b"".join(map(encode_request, requests)))
    assert whole_requests(data) in (None, requests)


@given(requests)
def test_trusted_or_not_small_requests_are_the_same(sent):
    data = b"".join(map(encode_request, sent))
    parser = RequestParser(trusted=False)
    assert feed_all(parser, [data]) == sent


def test_a_star_as_an_argument_takes_the_fast_way():
    parser = RequestParser()
    chunk = encode_request([b"XADD", b"s", b"*", b"field", b"value"])
    assert parser.feed(chunk) == [[b"XADD", b"s", b"*", b"field", b"value"]]
    assert parser.verbatim == chunk
    assert parser.feed(chunk + b"*\r\n") == [[b"XADD", b"s", b"*", b"field", b"value"]]
    assert parser.error is not None


def test_verbatim_is_the_chunk_only_where_it_holds_nothing_else():
    parser = RequestParser()
    chunk = encode_request([b"SET", b"a", b"1"]) * 3
    parser.feed(chunk)
    assert parser.verbatim == chunk
    parser.feed(chunk + b"*1\r\n$4")
    assert parser.verbatim is None
    parser.feed(b"\r\nPING\r\n" + chunk)
    assert parser.verbatim is None
    parser.feed(b"PING\r\n")
    assert parser.verbatim is None
    parser.feed(chunk)
    assert parser.verbatim == chunk


def test_inline_and_arrays_mix():
    data = b'PING\r\nSET a "x\\x41\\n y"\n\r\n*1\r\n$4\r\nPING\r\n  GET   b  \r\n'
    expected = [[b"PING"], [b"SET", b"a", b"xA\n y"], [b"PING"], [b"GET", b"b"]]
    assert feed_all(RequestParser(), [data]) == expected
    assert feed_all(RequestParser(), [data[i : i + 1] for i in range(len(data))]) == expected


# What a real server is asked too. Left out is what Redis 7.0 and Valkey 9.1 do not agree about:
# quotes that end within a word, and what follows an argument instead of a line's end.
ODD_INPUTS = [
    *(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\nx\r\n", b"*1\r\n:1\r\n", b"*1\r\n$-1\r\n", b"*1\r\n$abc\r\n"),
    *(b"*1\r\n$600000000\r\n", b"*-1\r\nPING\r\n", b"*0\r\nPING\r\n", b"*abc\r\n", b"*\r\n"),
    *(b"*1048577\r\n", b"*2000000000\r\n", b"*3000000000\r\n", b"*99999999999999999999\r\n"),
    *(b"*+1\r\n$4\r\nPING\r\n", b"* 1\r\n$4\r\nPING\r\n", b"*01\r\n$4\r\nPING\r\n"),
    *(b"*1\r\n$04\r\nPING\r\n", b"*1\r\n$+4\r\nPING\r\n", b"*1\r\n$ 4\r\nPING\r\n"),
    *(b"*1\r\n*1\r\n$4\r\nPING\r\n", b"*1\n$4\nPING\n", b"*1\r\n\r\n", b"$4\r\nPING\r\n"),
    *(b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", b"*1\r\n$0\r\n\r\n", b"*1\r\n$-0\r\n\r\n", b"*-0\r\n"),
    *(b"PING\r\nPING\r\n*1\r\n$4\r\nPING\r\nPING\r\n", b"*1\r\n$4\r\nPING\r\n*1\r\nxx", b"PING\n"),
    *(
        b'SET a "b\r\n',
        b'PING "a\\x41\\n"\r\n',
        b'PING a"b"\r\n',
        b"\r\n\r\nPING\r\n",
        b"+PING\r\n",
    ),
    *(b"  PING  hello  \r\n", b'PING ""\r\n', b"PING ''\r\n", b"PING 'a\\'b'\r\n", b"''\r\n"),
    *(b'PING "a\\xzz"\r\n', b"GET / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n", b"POST /\r\nPING\r\n"),
    # What hiredis, a parser of replies, would let through in a request that comes alone.
    *(b"*2\r\n$4\r\nECHO\r\n+abc\r\n", b"*2\r\n+ECHO\r\n$3\r\nabc\r\n"),
    b"*2\r\n$4\r\nECHO\r\n$5\r\na\r\nbc\r\n",
    *FRAGMENTS,
]
ODD_INPUTS += [b"*1\r\n$4\r\nPING\r\n" + odd for odd in ODD_INPUTS]
ODD_INPUTS += [
    # What ends an argument is looked at only in requests that come alone.
    *(b"*1\r\n$4\r\nPINGxx", b"*2\r\n$4\r\nECHOx\n$3\r\nabc\r\n"),
    *(b"*2\r\n$4\r\nECHO\rx$3\r\nabc\r\n", b"*2\r\n$4\r\nECHO\r\n$3\r\nabc\rx"),
    *(b"x" * 70000, b"*" + b"1" * 70000, b"*1\r\n$" + b"1" * 70000),
]


def conversations(server: Any, inputs: list[bytes]) -> list[bytes]:
    """For each input, on a connection of its own: all that comes back, and how it ended."""
    socks = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in inputs]
    for sock, data in zip(socks, inputs, strict=True):
        sock.sendall(data)
    server.call("PING")  # whoever came before has been read by now
    return [drain(sock) for sock in socks]


def drain(sock: socket.socket) -> bytes:
    answer = b""
    with sock:
        sock.settimeout(0.03)
        try:
            while more := sock.recv(65536):
                answer += more
        except TimeoutError:
            return answer + b"<open>"
        except ConnectionError:
            pass
        return answer + b"<closed>"


def compare(real: Any, ours: Any, inputs: list[bytes]) -> None:
    answers = zip(inputs, conversations(ours, inputs), conversations(real, inputs), strict=True)
    for data, mine, theirs in answers:
        assert mine == theirs, data[:60]


def test_odd_input_is_answered_as_by_a_real_server(valkey_server, our_server):
    compare(valkey_server(), our_server("--save", ""), ODD_INPUTS)


def test_before_auth_only_small_requests(redis_server, our_server):
    password = ("--requirepass", "x")
    inputs = [b"*11\r\n", b"*1\r\n$16385\r\n", b"*10\r\n$3\r\nabc\r\n", b"*1\r\n$16384\r\n"]
    compare(redis_server(*password), our_server("--save", "", *password), inputs)


# --- anything at all ------------------------------------------------------------------------------

_FRAGMENTS = [
    *(b"*", b"$", b"\r\n", b"\r", b"\n", b":1\r\n", b"*1\r\n", b"$4\r\nPING\r\n", b"$-1\r\n"),
    *(
        b"*3\r\n",
        b"$999999999\r\n",
        b"*99999\r\n",
        b"*1000000\r\n",
        b"%1\r\n",
        b"~2\r\n",
        b"+OK\r\n",
    ),
    *(
        b"_\r\n",
        b"#t\r\n",
        b",1\r\n",
        b"(1\r\n",
        b"=4\r\ntxt:\r\n",
        b"|1\r\n",
        b">1\r\n",
        b"-E\r\n",
    ),
    *(b'"', b"'", b"\\", b"\0", b"PING\r\n", b"SET a b\r\n", b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n"),
]


def mangle(rng: random.Random) -> bytes:
    """A valid request or fragments, then some bytes put in, taken out or changed."""
    data = bytearray(b"".join(rng.choices(_FRAGMENTS, k=rng.randint(1, 6))))
    for _ in range(rng.randint(0, 3)):
        place = rng.randint(0, len(data))
        choice = rng.randrange(3)
        if choice == 0:
            data[place:place] = bytes((rng.randrange(256),))
        elif choice == 1:
            del data[place : place + rng.randint(1, 3)]
        else:
            data[place : place + 1] = rng.choice(_FRAGMENTS)
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_no_input_crashes_the_parser_or_grows_it(seed):
    """25,000 inputs for each seed: to one parser until it refuses, as one client's would be."""
    rng = random.Random(seed)
    parser = RequestParser(trusted=seed % 2 == 0)
    fed = 0
    for _ in range(25_000):
        data = mangle(rng)
        if not data:
            continue
        for request in parser.feed(data):
            assert request and all(type(argument) is bytes for argument in request)
        fed += len(data)
        assert parser.buffered() <= 2 * fed
        if parser.error is not None or fed > 1_000_000:
            assert parser.error is None or parser.error.text.startswith(b"ERR Protocol error: ")
            parser, fed = RequestParser(trusted=seed % 2 == 0), 0


@pytest.mark.parametrize("start", [b"*", b"*1\r\n$", b"x", b'"'])
def test_a_line_without_an_end_is_not_kept_for_ever(start):
    parser = RequestParser()
    parser.feed(start)
    for _ in range(INLINE_MAX // 1000 + 2):
        parser.feed(b"1" * 1000)
        assert parser.buffered() <= INLINE_MAX + 2000
    assert parser.error is not None


def test_claims_reserve_nothing():
    """Neither a huge array nor a huge argument takes memory before its bytes have come."""
    parser = RequestParser()
    parser.feed(b"*2000000000\r\n")
    assert parser.buffered() < 100
    parser = RequestParser()
    parser.feed(b"*1\r\n$500000000\r\n")
    assert parser.buffered() < 100


def best_of(times: int, what: Callable[[], object]) -> float:
    found = []
    for _ in range(times):
        start = time.process_time()
        what()
        found.append(time.process_time() - start)
    return min(found)


def test_a_request_in_many_pieces_takes_linear_time():
    def feed_in_pieces(count: int) -> None:
        parser = RequestParser()
        parser.feed(b"*1\r\n$%d\r\n" % (count * 1000))
        for _ in range(count):
            parser.feed(b"x" * 1000)

    assert best_of(3, lambda: feed_in_pieces(2000)) < 40 * best_of(3, lambda: feed_in_pieces(200))
