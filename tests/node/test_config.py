"""Config by itself: values, CONFIG SET's all or nothing, hooks, files and their errors."""

import pytest

from node.config import Config, ConfigError, ConfigFileError
from node.config.directives import BY_NAME
from node.config.special import ALL_EVENTS, KEYEVENT, KEYSPACE, OutputLimit


def refusal(config: Config, *pairs: tuple[bytes, bytes], **options: bool) -> str:
    with pytest.raises(ConfigError) as refused:
        config.set(pairs, **options)
    return str(refused.value)


def file_error(text: str, **options) -> list[str]:
    with pytest.raises(ConfigFileError) as refused:
        Config().load(text, **options)
    return str(refused.value).split("\n")


def test_values_have_the_types_their_readers_want():
    config = Config()
    config.load(
        "Port 7000\n"
        "protected-mode no\n"
        'bind "127.0.0.1 -::1"\n'
        "masterauth '\\xff'\n"
        'requirepass "\\xff\\xc3\\xa9"\n'
        "unixsocketperm 770\n"
        "repl-backlog-size 1mb\n"
        "save ''\n"
        "replicaof localhost 6379\n"
        "client-output-buffer-limit replica 1gb 64mb 30\n"
        "notify-keyspace-events KEA\n"
        "shutdown-on-sigterm now nosave\n"
        "slave-priority 7\n"
    )
    assert config.port == 7000
    assert config.protected_mode is False
    assert config.bind == ("127.0.0.1", "-::1")
    assert config.masterauth == b"\\xff"
    assert config.requirepass == b"\xff\xc3\xa9"
    assert config.unixsocketperm == 0o770
    assert config.repl_backlog_size == 1 << 20
    assert config.save == ()
    assert config.replicaof == ("localhost", 6379)
    assert config.client_output_buffer_limit.replica == OutputLimit(1 << 30, 1 << 26, 30)
    assert config.client_output_buffer_limit.normal == OutputLimit(0, 0, 0)
    assert config.notify_keyspace_events == ALL_EVENTS | KEYSPACE | KEYEVENT
    assert config.shutdown_on_sigterm == ("nosave", "now")
    assert config.replica_priority == 7


def test_configs_share_nothing():
    one, other = Config(), Config()
    one.port = 7001
    one.set([(b"maxclients", b"5")])
    assert (other.port, other.maxclients) == (6379, 10000)


def test_every_default_is_a_value_of_its_directive():
    config = Config()
    for name, directive in BY_NAME.items():
        shown = directive.show(directive.default)
        words = shown.split() if directive.many and shown else [shown]
        if name not in ("replicaof", "slaveof"):
            assert directive.read(words, directive.default) == config.value(directive), name


# --- CONFIG SET ----------------------------------------------------------------------------------


def test_a_set_that_fails_changes_nothing():
    config = Config()
    pairs = [(b"maxclients", b"5"), (b"save", b""), (b"timeout", b"soon")]
    assert refusal(config, *pairs) == (
        "CONFIG SET failed (possibly related to argument 'timeout') - "
        "argument couldn't be parsed into an integer"
    )
    assert (config.maxclients, config.timeout, len(config.save)) == (10000, 0, 3)


def test_an_unknown_name_is_told_first_in_its_own_spelling():
    config = Config()
    told = "Unknown option or number of arguments for CONFIG SET - 'NoSuch'"
    assert refusal(config, (b"hz", b"x"), (b"NoSuch", b"1")) == told


def test_protected_directives_ask_for_permission():
    config = Config()
    pair = (b"dbfilename", b"other.rdb")
    assert refusal(config, pair, local=True).endswith("can't set protected config")
    config.enable_protected_configs = "local"
    assert refusal(config, pair).endswith("can't set protected config")
    config.set([pair], local=True)
    assert config.dbfilename == "other.rdb"


def test_some_directives_wait_for_loading_to_end():
    config = Config()
    with pytest.raises(ConfigError) as refused:
        config.set([(b"appendonly", b"no")], loading=True)
    assert (refused.value.code, str(refused.value)) == (
        "LOADING",
        "Redis is loading the dataset in memory",
    )
    config.set([(b"hz", b"11")], loading=True)


def test_a_feature_that_is_missing_is_refused_in_words():
    config = Config()
    assert refusal(config, (b"io-threads", b"4")).endswith(
        "this server implements no other value than '1'"
    )
    config.set([(b"io-threads", b"1")])


# --- hooks ---------------------------------------------------------------------------------------


def test_a_hook_sees_all_new_values_and_is_called_once():
    config = Config()
    seen: list[tuple[int, int]] = []

    def hook(config: Config) -> None:
        seen.append((config.hz, config.timeout))

    config.on_change("hz", hook)
    config.on_change("timeout", hook)
    config.set([(b"hz", b"20"), (b"timeout", b"30")])
    config.set([(b"hz", b"20"), (b"timeout", b"30")])
    assert seen == [(20, 30)]


def test_a_hook_that_refuses_undoes_everything():
    config = Config()
    in_force = {}

    def listen(config: Config) -> None:
        if config.port == 1:
            raise ConfigError("Unable to listen on this port. Check server logs.")
        in_force["port"] = config.port

    config.on_change("hz", lambda config: in_force.update(hz=config.hz))
    config.on_change("port", listen)
    assert refusal(config, (b"hz", b"50"), (b"port", b"1")) == (
        "CONFIG SET failed (possibly related to argument 'port') - "
        "Unable to listen on this port. Check server logs."
    )
    assert (config.hz, config.port) == (10, 6379)
    assert in_force == {"hz": 10, "port": 6379}


def test_a_hook_hears_of_an_alias():
    config = Config()
    heard: list[int] = []
    config.on_change("slave-priority", lambda config: heard.append(config.replica_priority))
    config.set([(b"replica-priority", b"1")])
    config.set([(b"slave-priority", b"2")])
    assert heard == [1, 2]


def test_dir_is_entered_and_left_again():
    entered: list[str] = []

    def enter(path: str) -> str:
        if path == "missing":
            raise FileNotFoundError(2, "No such file or directory")
        entered.append(path)
        return f"/data/{path}"

    config = Config(enter)
    config.enable_protected_configs = "yes"
    assert config.dir == "/data/."
    refused = refusal(config, (b"dir", b"sub"), (b"hz", b"x"))
    assert "'hz'" in refused
    assert (config.dir, entered) == ("/data/.", [".", "sub", "/data/."])
    assert refusal(config, (b"dir", b"missing")).endswith("- No such file or directory")


# --- CONFIG GET ----------------------------------------------------------------------------------


def test_get_finds_patterns_and_names():
    config = Config()
    assert config.get(b"*-PRIORITY", b"hz") == {
        b"hz": b"10",
        b"replica-priority": b"100",
        b"slave-priority": b"100",
    }
    assert config.get(b"MaxClients", b"maxclients") == {b"MaxClients": b"10000"}
    assert config.get(b"nosuch", b"key-load*") == {}
    assert config.get(b"key-load-delay") == {b"key-load-delay": b"0"}


# --- files ---------------------------------------------------------------------------------------


def test_an_error_names_its_line():
    assert file_error("# a comment\n\n  port   70000 \t\r\n") == [
        "",
        "*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***",
        "Reading the configuration file, at line 3",
        ">>> 'port   70000'",
        "argument must be between 0 and 65535 inclusive",
    ]


def test_an_error_about_the_whole_names_none():
    assert file_error("cluster-enabled yes\nreplicaof localhost 1\n") == [
        "",
        "*** FATAL CONFIG FILE ERROR (Redis 7.2.4) ***",
        "replicaof directive not allowed in cluster mode",
    ]


def test_includes_are_read_where_they_stand():
    files = {"a.conf": "timeout 1\ninclude conf.d/*\n", "conf.d/x": "hz 20\n", "conf.d/y": "hz 30"}
    config = Config()
    config.load(
        "timeout 9\nhz 9\ninclude a.conf\nmaxclients 5\n",
        read=files.__getitem__,
        glob=lambda pattern: [path for path in files if path.startswith(pattern[:-1])],
    )
    assert (config.timeout, config.hz, config.maxclients) == (1, 30, 5)


def test_a_missing_include_is_fatal_and_a_pattern_without_files_is_not():
    def missing(path: str) -> str:
        raise FileNotFoundError(2, "No such file or directory")

    assert file_error("include gone.conf", read=missing) == [
        "Fatal error, can't open config file 'gone.conf': No such file or directory"
    ]
    Config().load("include conf.d/*.conf\n", read=missing, glob=lambda pattern: [])


def test_files_that_include_each_other_are_refused():
    error = file_error("include me", read=lambda path: "include me")
    assert error[-1] == "Files include each other without end"


def test_an_error_in_an_included_file_is_reported_once():
    error = file_error("hz 10\ninclude other", read=lambda path: "\n\nhz ten")
    assert error[2:] == [
        "Reading the configuration file, at line 3",
        ">>> 'hz ten'",
        "argument couldn't be parsed into an integer",
    ]


def test_lines_of_other_parts_go_to_their_handlers():
    config = Config()
    renamed: list[list[str]] = []
    config.on_line("rename-command", renamed.append)
    config.load('rename-command FLUSHALL ""\n')
    assert renamed == [["FLUSHALL", ""]]
    assert file_error("rename-command a b")[-1] == "this server does not implement 'rename-command'"
    assert file_error("loadmodule x.so")[-1] == "this server does not implement 'loadmodule'"


def test_a_directive_of_an_older_server_is_passed_over():
    Config().load("dynamic-hz yes\nio-threads-do-reads no\nlua-replicate-commands yes\n")
    assert file_error("dynamic-hz yes no")[-1] == "Bad directive or wrong number of arguments"
