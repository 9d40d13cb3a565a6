"""COMMAND GETKEYS and GETKEYSANDFLAGS beside a real server: which are keys, what for."""

import pytest
from differential import Pair

REQUESTS = """
SET k v
SET k v GET
SET k v NX
BITFIELD k GET u8 0
BITFIELD k GET u8 0 SET u8 0 1
BITFIELD k OVERFLOW SAT GET u8 0
BITFIELD k SET u8
EVAL script 2147483647 k
EVAL script 3 k
EVAL script -1 k
EVAL script 0 k
EVAL script 1 k a
FCALL f 1 k
ZUNIONSTORE d 5 a b
ZUNIONSTORE d 0 a b
ZUNIONSTORE d x a b
ZUNIONSTORE d 2 a b WEIGHTS
SINTERCARD 3 a
LMPOP 2 a b LEFT
BLMPOP 0 2 a b LEFT
ZMPOP 1 a MIN
GEORADIUS src 0 0 1 km STORE a STORE b
GEORADIUS src 0 0 1 km STOREDIST STORE b
GEORADIUS src 0 0 1 km
GEORADIUSBYMEMBER src m 1 km STORE a STOREDIST b
SORT a STORE b STORE c
SORT a BY x STORE
SORT a GET STORE STORE b
XREAD STREAMS a b
XREAD STREAMS a b c
XREAD STREAMS a
XREAD COUNT 1 a
MIGRATE h 1 k 0 10
MIGRATE h 1  0 10 KEYS a b
MSET a 1 b 2
MSETEX 2 a 1 b 2
PFCOUNT a b
PFMERGE a b
LCS a b
XGROUP CREATE a b c
OBJECT ENCODING a
MEMORY USAGE a
PUBLISH a b
SPUBLISH a b
PING
GET
"""


@pytest.mark.parametrize("request_", REQUESTS.strip().splitlines())
def test_keys_and_what_for(resp2_pair: Pair, request_: str) -> None:
    resp2_pair.same("COMMAND", "GETKEYS", *request_.split(" "))
    resp2_pair.same("COMMAND", "GETKEYSANDFLAGS", *request_.split(" "))
