"""The command line, beside a real server given the same words."""

import subprocess

import pytest

from node.config import Config, ConfigFileError
from node.config.arguments import Arguments, UsageError, parse_arguments, version_line
from node.config.values import decoded


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], Arguments()),
        (["a.conf"], Arguments(file="a.conf")),
        (["-"], Arguments(stdin=True)),
        (["-", "--port", "1"], Arguments(stdin=True, lines='port "1" ')),
        (["a.conf", "--port", "1", "-"], Arguments("a.conf", True, 'port "1" ')),
        (["a.conf", "-"], Arguments("a.conf", True)),
        (["-", "--port", "1", "-"], Arguments(stdin=True, lines='port "1" ')),
        (["--port", "7000", "--save", ""], Arguments(lines='port "7000" \nsave "" ')),
        (["--save", "--port", "7000"], Arguments(lines='save ""\nport "7000" ')),
        (["--requirepass", "--secret"], Arguments(lines='requirepass "--secret" ')),
        (["--port 7000", "--hz 5"], Arguments(lines="port 7000 \nhz 5 ")),
        (["-v", "more"], Arguments(asks="version")),
        (["--version"], Arguments(asks="version")),
        (["-h"], Arguments(asks="help")),
        (["--help"], Arguments(asks="help")),
    ],
)
def test_what_the_words_ask_for(words, expected):
    assert parse_arguments(words) == expected


@pytest.mark.parametrize(
    "words", [["--test-memory", "100"], ["--check-system"], ["a.conf", "--sentinel"]]
)
def test_what_this_server_is_not(words):
    with pytest.raises(UsageError, match=r"this server (has|does not)"):
        parse_arguments(words)


def test_options_win_over_standard_input_and_that_over_the_file():
    arguments = parse_arguments(["a.conf", "--hz", "3", "-"])
    config = Config()
    config.load(arguments.text("hz 1\ntimeout 1\nmaxclients 1\n", "hz 2\ntimeout 2\n"))
    assert (config.hz, config.timeout, config.maxclients) == (3, 2, 1)


def test_the_version_has_the_form_launchers_look_for(redis_server_path):
    real = subprocess.run([redis_server_path, "--version"], capture_output=True, text=True)
    mine = [word.partition("=")[0] for word in version_line().split()]
    assert mine == [word.partition("=")[0] for word in real.stdout.split()]


FILE = "maxclients 66\nhz 7\nsave 900 1\n"
GOOD = [
    [],
    ["--save"],
    ["--save", ""],
    ["--save", "--hz", "5"],
    ["--SAVE", "--HZ", "5"],
    ["--save 60 1", "--maxclients 55"],
    ["--save", "60 1 300 10"],
    ["--save", "60", "1", "300", "10", "--maxclients", "55"],
    ["--save", "60", "1", "--save", "70", "1"],
    ["--hz", "5", "--hz", "6"],
    ["hz", "5"],
    ["--proc-title-template", "--{title}"],
    ["--proc-title-template", 'a "b"\\ \n\x01é'],
    ["--proc-title-template", "--a", "--hz", "9"],
    ["--client-output-buffer-limit", "normal", "1", "2", "3"],
    ["--client-output-buffer-limit", "normal 1 2 3", "--hz", "8"],
    ["--shutdown-on-sigterm", "nosave", "now"],
    ["--notify-keyspace-events", "", "--hz", "4"],
    ["--slave-priority", "9"],
]
CHECKED = (
    *("maxclients", "hz", "save", "proc-title-template", "client-output-buffer-limit"),
    *("shutdown-on-sigterm", "notify-keyspace-events", "replica-priority"),
)


@pytest.mark.parametrize("words", GOOD, ids=" ".join)
def test_words_mean_what_they_mean_to_a_real_server(
    words, start_server, redis_server_path, connect, tmp_path, monkeypatch
):
    path = tmp_path / "server.conf"
    path.write_text(FILE)
    if words and not words[0].startswith("--"):
        command = [redis_server_path, str(path), *words]
    else:
        command = [redis_server_path, str(path)]
    server = start_server(command, *(words if len(command) == 2 else []))
    reply = connect(server.port).one("CONFIG", "GET", *CHECKED)
    real = dict(zip(map(decoded, reply[::2]), map(decoded, reply[1::2]), strict=True))
    config = Config()
    monkeypatch.setattr(type(config).save, "accepted", None)
    config.load(parse_arguments([str(path), *words]).text(FILE))
    mine = {
        decoded(name): decoded(value)
        for name, value in config.get(*map(str.encode, CHECKED)).items()
    }
    assert mine == real


BAD = [
    *(["--port"], ["--port", "1x"], ["--port", "1", "2"], ["-p", "1"], ["--nosuch", "1"]),
    *(["--hz", "5", "--port"], ["--requirepass", "--a", "b"], ["--hz", "--port", "1"]),
    *(["port", "-1"], ["--save", "a"], ["--save 60", "1x"], ["--hz", "5", "--version"]),
    *(["--", "1"], ["---port", "1"], ["--port", "'1'"], ["--include", "a", "b"]),
]


@pytest.mark.parametrize("words", BAD, ids=" ".join)
def test_bad_words_are_refused_in_the_same_words(words, redis_server_path, tmp_path):
    path = tmp_path / "server.conf"
    path.write_text(FILE)
    real = subprocess.run(
        [redis_server_path, path, *words], capture_output=True, text=True, timeout=10, check=False
    )
    with pytest.raises(ConfigFileError) as refused:
        Config().load(parse_arguments([str(path), *words]).text("\n\n\n"))
    assert str(refused.value) == real.stderr.replace("7.0.15", "7.2.4").rstrip("\n")
