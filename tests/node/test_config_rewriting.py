"""CONFIG REWRITE, beside a real valkey-server that rewrites the same file."""

import pytest

from cluster.processes import find_program
from node.config import Config
from node.config.rewriting import SIGNATURE, rewritten
from node.config.values import encoded, in_units

FILES = {
    "empty": "",
    "comments": "# one\n\n\n\n#two\n   # three   \n",
    "no newline at the end": "hz 7",
    "doubled": "hz 7\ntimeout 1\nhz 8\n# between\nhz 9\n",
    "old names": "slave-priority 5\nSLAVE-READ-ONLY no\nlua-time-limit 70\n",
    "limits": "client-output-buffer-limit pubsub 1 2 3\n"
    "\nclient-output-buffer-limit normal 4 5 6\n",
    "limits in one": "client-output-buffer-limit pubsub 1 2 3 normal 4 5 6\n",
    "defaults": "hz 10\ntimeout 0\nlogfile ''\n"
    "replica-announce-ip ''\nnotify-keyspace-events \"\"\n",
    "saves": "save ''\n# x\n",
    "quotes": 'proc-title-template \'a "b"\'\ncluster-announce-hostname   "host"\n',
    "signed": f"hz 7\n{SIGNATURE}\ntimeout 5\n",
    "memory": "repl-backlog-size 1073741824\nhll-sparse-max-bytes 3000\nproto-max-bulk-len 3mb\n",
    "others": "rename-command FLUSHALL X\ninclude extra*.conf\nhz 7\n",
    "list": "latency-tracking-info-percentiles 50\nshutdown-on-sigterm now nosave\n",
}
CHANGES = {
    "nothing": [],
    "some": [("maxclients", "50"), ("hz", "10"), ("repl-backlog-size", "1048577")],
    "kinds": [
        *[("timeout", "3"), ("repl-backlog-size", "3145728"), ("appendfsync", "always")],
        *[("client-output-buffer-limit", "replica 1gb 0 0"), ("notify-keyspace-events", "KEA")],
        *[("proc-title-template", 'x "\t\\'), ("shutdown-on-sigint", "now"), ("save", "")],
        *[("protected-mode", "no"), ("latency-tracking-info-percentiles", "")],
        *[("oom-score-adj-values", "1 2 3"), ("replica-announce-ip", "10.0.0.1")],
    ],
}


def ordered(text: str, server_only: set[str]) -> tuple[str, list[str]]:
    """What comes before the signature as it is, what follows sorted, without `server_only`.

    A real server appends in an order of its own.
    """
    before, _, after = text.partition(SIGNATURE)
    return before, sorted(
        line for line in after.split("\n") if line and line.split(" ")[0] not in server_only
    )


@pytest.mark.parametrize("changes", CHANGES)
@pytest.mark.parametrize("file", FILES)
def test_a_file_is_rewritten_as_by_a_real_server(
    file, changes, start_server, valkey_server_path, connect, tmp_path
):
    path = tmp_path / "server.conf"
    path.write_text(FILES[file])
    server = start_server([valkey_server_path, str(path)])
    oracle = connect(server.port)
    config = Config()
    config.on_line("rename-command", lambda words: None)
    config.load(FILES[file], glob=lambda pattern: [])
    config.port, config.bind, config.dir = server.port, ("127.0.0.1",), str(server.directory)
    for name, value in CHANGES[changes]:
        assert oracle.one("CONFIG", "SET", name, value) == b"OK"
        config.set([(encoded(name), encoded(value))])
    assert oracle.one("CONFIG", "REWRITE") == b"OK"
    real = ordered(path.read_text(), {"user"})
    assert ordered(rewritten(FILES[file], config, []), {"user"}) == real


def test_what_was_written_is_read_back():
    config = Config()
    config.load('requirepass \'a "\\xff\'\nmasterauth "\\xff\\n"\nbind 127.0.0.1 -::1\n')
    config.set([(b"maxmemory-samples", b"7"), (b"repl-backlog-size", b"1234567")])
    again = Config()
    again.load(rewritten("", config, []))
    assert again.get(b"*") == config.get(b"*")


def test_rewriting_again_changes_no_line():
    config = Config()
    config.load(FILES["doubled"])
    once = rewritten(FILES["doubled"], config, [])
    twice = rewritten(once, config, [])
    assert twice.rstrip("\n") == once.rstrip("\n")
    assert rewritten(twice, config, []) == twice


def test_a_replica_in_a_cluster_has_no_replicaof():
    config = Config()
    config.replicaof = ("127.0.0.1", 7000)
    assert "replicaof 127.0.0.1 7000\n" in rewritten("", config, [])
    config.cluster_enabled = True
    assert "replicaof" not in rewritten("replicaof old 1\n", config, [])


def test_a_line_nobody_reads_is_kept_as_a_comment():
    assert rewritten("nosuch 1\nport '1\n", Config(), []).startswith(
        "# ??? nosuch 1\n# ??? port '1\n"
    )


def test_the_names_both_redis_and_valkey_know_are_written():
    config = Config()
    config.load("primaryauth x\ncommandlog-execution-slower-than 5\n")
    text = rewritten("primaryauth x\n", config, [])
    assert 'masterauth "x"\n' in text
    assert "slowlog-log-slower-than 5\n" in text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0"), (1023, "1023"), (1024, "1kb"), (3 << 20, "3mb"), (1 << 30, "1gb")]
)
def test_sizes_are_written_in_units(count, text):
    assert in_units(count) == text


def test_the_file_is_found_where_the_server_was_started(start_server, tmp_path):
    """Its name on the command line is relative to there, not to `dir`."""
    file = tmp_path / "here" / "node.conf"
    file.parent.mkdir()
    file.write_text("hz 7\n")
    program = find_program("slotfleet-server")
    server = start_server([program, "node.conf"], "--dir", str(tmp_path), name="here")
    assert server.call("CONFIG", "SET", "hz", "9") == b"OK"
    assert server.call("CONFIG", "REWRITE") == b"OK"
    assert "hz 9\n" in file.read_text()
