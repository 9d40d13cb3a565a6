"""Config beside a real valkey-server: the same names, defaults, values and refusals."""

import subprocess
from pathlib import Path

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config import Config, ConfigError, ConfigFileError
from node.config.directives import BY_NAME
from node.config.file import split_words
from node.config.values import decoded, encoded, quoted

# What an oracle is started with, or is of its own.
ITS_OWN = {
    *("bind", "dir", "port", "save", "enable-debug-command", "syslog-ident"),
    "cluster-report-refused",
}
# Setting these moves the server's sockets, ends it, or depends on the machine; or they are ours.
NOT_TRIED = {
    *("bind", "port", "tls-port", "tls-cluster", "tls-replication", "dir"),
    *("syslog-ident", "cluster-report-refused", "aof-load-corrupt-tail-max-size"),
}
# Open files of the machine; a build that refuses its own default.
ALLOWED_DIFFERENCES = {("maxclients", "1000000"), ("rdma-bind", "")}

VALUES = [
    *("", "bogus!", "yes", "NO", "no", "a b c", "1 2", "1 2 3", "x/y"),
    *("0", "1", "-1", "-2", "01", "+1", "-0", "1.5", "64", "1000000", "9999999999"),
    *(str(1 << 63), str((1 << 63) - 1), str(-1 << 63), str(1 << 64), "9" * 30),
    *("1%", "100%", "101%", "-1%", "1kb", "2MB", "3g", "1kb%", "1 kb", "-1kb", "1tb"),
    *("always", "EVERYSEC", "allkeys-lru", "debug", "swapdb", "relative", "hostname", "CN", "json"),
    *("now force", "save nosave", "default", "default now", "nosave now", "now  force"),
    *("KEA", "g$lshzxetd", "Kmn", "An", "KEx ", "Q", "txe"),
    *("50 99.9", "1e1", "0.12345678", "inf", "nan", "100.1", "50  60", "99.999999999", "0x10"),
    *("replica 1mb 1kb 5", "slave 1 2 3 normal 4 5 6", "NORMAL 1 1 1", "master 1 1 1"),
    *("normal x 1 1", "normal 1 1 -1", "normal 1 1 ", "normal 1 1"),
    *("60 1", "60  1", "60 ", "0 1", "60 -1", "+60 1", "60 1 300 10", "60 1 300"),
    *("2000 -2000 0", "1 2 3000", "{title}", "{title} {port}", "{port", "{{x", "{x}"),
    *("10.0.0.1", "::1", "a_b", "a-b.c", "a" * 256, "é", "127.0.0.1,::1", "volatile-ttl"),
]


def ours(config: Config, name: str, value: str) -> str:
    """The reply to CONFIG SET."""
    try:
        config.set([(encoded(name), encoded(value))])
    except ConfigError as error:
        return f"{error.code} {error}"
    return "OK"


def shown(config: Config, name: str) -> str:
    return decoded(config.get(encoded(name)).get(encoded(name), b""))


def real_values(oracle, *patterns: str) -> dict[str, str]:
    reply = oracle.one("CONFIG", "GET", *patterns)
    return {
        decoded(name): decoded(value) for name, value in zip(reply[::2], reply[1::2], strict=True)
    }


def test_names_defaults_and_order_are_the_real_ones(oracle):
    real = real_values(oracle, "*")
    mine = {decoded(name): decoded(value) for name, value in Config().get(b"*").items()}
    assert [name for name in mine if name != "cluster-report-refused"] == list(real)
    differing = {name for name in real if mine[name] != real[name]}
    assert differing <= ITS_OWN


def test_hidden_directives_are_the_real_ones(oracle):
    hidden = [
        directive
        for directive in BY_NAME.values()
        if directive.hidden and directive.name != "aof-load-corrupt-tail-max-size"
    ]
    for directive in hidden:
        assert real_values(oracle, directive.name) == {
            directive.name: directive.show(directive.default)
        }


def same_effect(config: Config, name: str, value: str, real_reply: str, real_value: str) -> str:
    """What differs between us and the real server after CONFIG SET name value, if anything."""
    reply = ours(config, name, value)
    if "this server " in reply:
        if real_reply.startswith("OK"):
            return ""
        return f"{name} {value!r}: not built hides {real_reply}"
    real_reply = real_reply.replace("Invalid primary", "Invalid master")
    if reply != real_reply:
        return f"{name} {value!r}: {reply!r}, real {real_reply!r}"
    if shown(config, name) != real_value:
        return f"{name} {value!r}: {shown(config, name)!r}, real {real_value!r}"
    return ""


def test_config_set_takes_and_refuses_what_a_real_server_does(oracle):
    config = Config()
    config.save = ()
    config.enable_debug_command = "yes"
    differences = []
    for name in sorted(BY_NAME.keys() - NOT_TRIED):
        attribute = BY_NAME[name].attribute
        before, start = getattr(config, attribute), shown(config, name)
        for value, reply, real_value in tried(oracle, name, start):
            if (name, value) not in ALLOWED_DIFFERENCES:
                differences.append(same_effect(config, name, value, reply, real_value))
            setattr(config, attribute, before)
    assert [each for each in differences if each] == []


def tried(oracle, name: str, start: str) -> list[tuple[str, str, str]]:
    """Each value, the real reply to setting it, and the real value then."""
    commands = [
        command
        for value in VALUES
        for command in (
            ("CONFIG", "SET", name, value),
            ("CONFIG", "GET", name),
            ("CONFIG", "SET", name, start),
        )
    ]
    replies = oracle.ask(*commands)
    return [
        (value, str(reply) if isinstance(reply, Exception) else decoded(reply), decoded(got[1]))
        for value, reply, got in zip(VALUES, replies[::3], replies[1::3], strict=True)
    ]


MANY = [
    ("hz", "11", "nosuch", "1", "daemonize", "yes"),
    ("daemonize", "yes", "nosuch", "1"),
    ("hz", "11", "HZ", "12"),
    ("slave-priority", "x"),
    ("SLAVE-priority", "x"),
    ("slave-priority", "7", "replica-priority", "8"),
    ("MAXCLIENTS", "none"),
    ("DaemonIze", "yes"),
    ("hz", "11", "hz", "12", "daemonize", "yes"),
    ("daemonize", "yes", "hz", "1", "hz", "1"),
    ("dbfilename", "x"),
    ("maxclients", "7", "timeout", "x"),
    ("timeout", "x", "maxclients", "x"),
]


@pytest.mark.parametrize("words", MANY, ids=" ".join)
def test_several_at_once(oracle, words):
    config = Config()
    pairs = list(zip(map(encoded, words[::2]), map(encoded, words[1::2]), strict=True))
    try:
        config.set(pairs)
        reply = b"OK"
    except ConfigError as error:
        reply = f"{error.code} {error}"
    real = oracle.one("CONFIG", "SET", *words)
    assert reply == (str(real) if isinstance(real, hiredis.ReplyError) else real)
    kept = ("hz", "replica-priority", "maxclients", "timeout")
    assert {name: shown(config, name) for name in kept} == real_values(oracle, *kept)


@pytest.mark.parametrize(
    "patterns", [["*max*"], ["MAXCLIENTS", "hz", "MaxClients"], ["[m]ax*", "?z"], ["*REPL*", "hz"]]
)
def test_config_get_answers_as_a_real_server(oracle, patterns):
    mine = Config().get(*map(encoded, patterns))
    assert {decoded(name): decoded(value) for name, value in mine.items()} == real_values(
        oracle, *patterns
    )


# --- files ---------------------------------------------------------------------------------------

BAD_LINES = [
    *("foo", "port", "port 1 2", 'maxclients "1', "include", "rename-command", "rename-command a"),
    *("user", "sentinel monitor x", "foo.bar", "save x", "save 60", 'save "" 1', "save '"),
    *("replicaof 1", "slaveof 1 99999", "replicaof a b c", "notify-keyspace-events Q"),
    *("client-output-buffer-limit a b c", "client-output-buffer-limit a b c d"),
    *("oom-score-adj-values 1 2", "loadmodule", "latency-tracking-info-percentiles 5 x"),
    *("shutdown-on-sigint save nosave", "PORT abc", 'loglevel   "foo"   ', 'save "60 1 5"'),
    *("databases 0", "databases 1k", "tcp-backlog -1", "unixsocketperm 8", "unixsocketperm 1000"),
    *("unixsocketperm -1", "io-threads 257", "socket-mark-id 4294967296", "rdma-rx-size 1"),
    *("rdma-completion-vector -2", "supervised maybe", "syslog-facility x", "appendfilename a/b"),
    *("appendfilename ''", "appenddirname a/b", "enable-debug-command maybe", "cluster-port 65536"),
    *(
        "cluster-config-file ''",
        "cluster-databases 0",
        "dir ''",
        "dbfilename a/b",
        "bind " + "x " * 17,
    ),
    *("dynamic-hz", "list-max-ziplist-value 1 2", "--port 1", "maxclients 1 # comment"),
]


def test_bad_lines_are_refused_in_the_same_words(valkey_server_path, tmp_path):
    differences = []
    for line in BAD_LINES:
        with pytest.raises(ConfigFileError) as refused:
            Config().load(f"hz 10\n{line}\n")
        path = tmp_path / "bad.conf"
        path.write_text(f"hz 10\n{line}\n")
        real = subprocess.run(
            [valkey_server_path, path], capture_output=True, text=True, timeout=10, check=False
        )
        said = real.stderr.rstrip("\n").replace("Invalid primary port", "Invalid master port")
        if str(refused.value) != said.replace("(Version 9.1.2)", "(Redis 7.2.4)"):
            differences.append((str(refused.value), said))
    assert differences == []


GOOD_FILE = """\
# a comment
   MAXCLIENTS    66
proc-title-template "\\x41\\n\\t\\"\\q {title}"\t
syslog-ident 'it\\'s \\n'
client-output-buffer-limit replica 1gb 64m 30 pubsub 1 1 1
client-output-buffer-limit "normal 4 5 6"

latency-tracking-info-percentiles 50 99.95
shutdown-on-sigterm now nosave
slave-priority 12
unixsocketperm 0770
databases 20
save ""
appendfsync always
oom-score-adj-values 1 2 3
notify-keyspace-events ""
hz 100000
cluster-announce-hostname node-1.example.com
maxclients 77
tcp-keepalive 0
list-max-ziplist-value 5
io-threads-do-reads yes
commandlog-execution-slower-than 5
repl-backlog-size 20000
"""


def test_a_file_means_what_it_means_to_a_real_server(
    start_server, valkey_server_path, connect, tmp_path
):
    path = tmp_path / "good.conf"
    path.write_text(GOOD_FILE)
    server = start_server([valkey_server_path, str(path)])
    config = Config()
    config.load(GOOD_FILE)
    real = real_values(connect(server.port), "*")
    mine = {decoded(name): decoded(value) for name, value in config.get(b"*").items()}
    assert {name for name in real if mine[name] != real[name]} <= {"port", "bind", "dir"}


# --- quoting -------------------------------------------------------------------------------------


@given(st.lists(st.binary()))
def test_quoted_words_come_back(words):
    texts = [decoded(word) for word in words]
    assert split_words(" ".join(map(quoted, texts))) == texts


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("", []),
        (r'"\x41\n\r\t\b\a\q\\\""', ['A\n\r\t\b\aq\\"']),
        (r"'it\'s' '\n'", ["it's", r"\n"]),
        ('a"b c" d', ["ab c", "d"]),
        (r'"\xzz\x4"', ["xzzx4"]),
        ('"\\xc3\\xa9é"', ["éé"]),
        ('"a"b', ["ab"]),
        ("'a'b", ["ab"]),
        ('"a', None),
        ('"a\\"', None),
        ("'", None),
    ],
)
def test_words_of_a_line(line, words):
    assert split_words(line) == words


@pytest.mark.parametrize("name", ["node.conf", "cluster.conf"])
def test_a_sample_file_loads_here_and_in_a_real_server(
    name, start_server, valkey_server_path, tmp_path
):
    text = (Path(__file__).parents[2] / "configs" / name).read_text()
    config = Config()
    config.load(text)
    assert config.cluster_enabled == (name == "cluster.conf")
    path = tmp_path / name
    path.write_text(text.replace("cluster-report-refused", "# ours:"))
    start_server([valkey_server_path, str(path)])


def test_the_log_tells_port_and_process_where_a_logo_is_asked_for(our_server):
    server = our_server("--always-show-logo", "yes")
    assert f"Port: {server.port} PID: {server.process.pid}" in server.log()
    assert "PID: " not in our_server().log()
