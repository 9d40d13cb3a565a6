"""COMMAND and its subcommands: the whole table, compared with a real server's."""

import hiredis
from command_info import DATA_MODEL, ON_PURPOSE, by_name, differences, groups
from local import local_node

from node.command import TABLE, every_row


def test_describes_commands_as_a_real_server_does(valkey_server, connect):
    theirs = connect(valkey_server().port).one("COMMAND")
    found = list(differences(local_node().client().call("COMMAND"), theirs))
    assert not found, "\n".join(found)


def test_the_data_model_is_whole(valkey_server, connect):
    theirs = groups(connect(valkey_server().port).one("COMMAND", "DOCS"))
    ours = groups(local_node().client().call("COMMAND", "DOCS"))
    wanted = {name for name, group in theirs.items() if group in DATA_MODEL}
    assert wanted <= ours.keys()


def test_docs_say_when_and_what_for(valkey_server, connect):
    theirs = by_name(connect(valkey_server().port).one("COMMAND", "DOCS"))
    ours = by_name(local_node().client().call("COMMAND", "DOCS"))
    for name, flat in ours.items():
        mine, real = by_name(flat), by_name(theirs[name])
        assert (name, mine[b"since"], mine[b"group"]) == (name, real[b"since"], real[b"group"])
        assert len(mine[b"summary"]) > 5, name
        if (name, "arguments") not in ON_PURPOSE:
            assert (b"arguments" in mine) == (b"arguments" in real), name


def test_docs_of_arguments():
    client = local_node().client()
    client.call("HELLO", 3)
    docs = client.call("COMMAND", "DOCS", "getex")[b"getex"]
    key, expiry = docs[b"arguments"]
    assert key == {
        b"name": b"key",
        b"type": b"key",
        b"display_text": b"key",
        b"key_spec_index": 0,
    }
    assert expiry[b"type"] == b"oneof"
    assert list(expiry[b"flags"]) == [b"optional"]
    seconds = expiry[b"arguments"][0]
    assert (seconds[b"token"], seconds[b"type"]) == (b"EX", b"integer")
    assert expiry[b"arguments"][-1][b"type"] == b"pure-token"
    (pairs,) = client.call("COMMAND", "DOCS", "mset")[b"mset"][b"arguments"]
    assert pairs[b"type"] == b"block"
    assert [one[b"name"] for one in pairs[b"arguments"]] == [b"key", b"value"]


def test_lists_and_counts():
    client = local_node().client()
    names = client.call("COMMAND", "LIST")
    assert sorted(names) == sorted(row.name for row in every_row())
    assert client.call("COMMAND", "COUNT") == len(TABLE)
    watch = client.call("COMMAND", "LIST", "FILTERBY", "ACLCAT", "transaction")
    assert sorted(watch) == [b"discard", b"exec", b"multi", b"unwatch", b"watch"]
    assert b"config|get" in client.call("COMMAND", "LIST", "FILTERBY", "PATTERN", "config*")


def test_every_row_has_a_summary():
    assert [row.name for row in every_row() if not row.summary] == []


def usages(lines):
    """What HELP shows without what it says of it, whose words are ours."""
    return [line for line in lines if not line.startswith(b" ")]


def test_help_shows_the_usages_of_a_real_server(valkey_server, connect):
    server, client = connect(valkey_server().port), local_node().client()
    helped = [row for row in every_row() if b"help" in row.subcommands]
    assert len(helped) >= 10
    for row in helped:
        ours = client.call(row.name, "HELP")
        if row.name == b"cluster":  # these nodes are in none
            continue
        assert usages(ours) == usages(server.one(row.name, "HELP")), row.name
        assert len(ours) >= 2 * len(usages(ours)) - 1  # and something on each


def test_wrong_numbers_of_arguments_are_refused_alike(valkey_server, connect):
    """Every command with too few arguments, and those that take a fixed number with one more."""
    server, client = connect(valkey_server().port), local_node().client()
    for row in every_row():
        words = row.name.split(b"|")
        requests = [words] if row.low > len(words) else []
        if row.low == row.high:
            requests.append(words + [b"x"] * (row.high + 1 - len(words)))
        for request in requests:
            theirs, ours = server.one(*request), client.call(*request)
            assert isinstance(ours, hiredis.ReplyError), request
            assert str(ours) == str(theirs), request
