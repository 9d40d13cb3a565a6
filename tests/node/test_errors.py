"""Errors that commands share: raised for many clients, and remembering none of them."""

import gc

import pytest

from node.replies import ReplyError
from tests.node.local import Client, local_node

REFUSED = [
    ("GET", "list"),
    ("DISCARD",),
    ("WAIT", "x", 1),
    ("EXPIRE", "list", "x"),
    ("ZADD", "z", "x", "m"),
    ("BLPOP", "list", "x"),
    ("XADD", "s", "x", "f", "v"),
    ("XSETID", "s", "0-0"),
    ("EVAL", "return redis.call('GET', 'list')", 0),
    ("EVAL", "return redis.pcall('NOSUCH')", 0),
    ("COMMAND", "GETKEYS", "NOSUCH"),
    ("FUNCTION", "LOAD", "return"),
]


@pytest.fixture
def client() -> Client:
    client = local_node().client()
    client.call("RPUSH", "list", "a")
    return client


def test_an_error_holds_nothing_of_the_calls_that_it_came_through(client):
    for command in REFUSED:
        assert "ERR" in str(client.call(*command)) or "WRONGTYPE" in str(client.call(*command))
    client.call("MULTI")
    client.call("INCR", "list")
    client.call("EXEC")
    client.call("XPENDING", "s", "g", "IDLE", "x", "-", "+", 1)
    errors = [held for held in gc.get_objects() if isinstance(held, ReplyError)]
    assert len(errors) > 50, "those shared by commands"
    assert [error for error in errors if error.__traceback__ or error.__context__] == []
