"""Users and their permissions, beside a real valkey-server that is told the same."""

import subprocess
from random import Random
from typing import Any

import attrs
import hiredis
import pytest
from differential import Ours
from servers import wait_until

from cluster.processes import find_program
from node.command import every_row
from node.config import Config
from node.resp import split_words

VARIES = {b"client-info", b"age-seconds", b"timestamp-created", b"timestamp-last-updated"}


@attrs.define(eq=False)
class Two:
    """Our server and a real one, with clients by name on each."""

    servers: tuple[Any, Any]
    connect: Any
    clients: dict[str, tuple[Any, Any]] = attrs.field(factory=dict)

    def of(self, name: str) -> tuple[Any, Any]:
        if name not in self.clients:
            ours, theirs = self.servers
            self.clients[name] = self.connect(ours.port), self.connect(theirs.port)
        return self.clients[name]

    def say(self, name: str, *command: str | bytes) -> Any:
        """A client sends one line of text, or words; the reply, which both servers agree on."""
        words = split_words(command[0].encode()) if len(command) == 1 else command
        ours, theirs = (alike(client.one(*words)) for client in self.of(name))
        assert ours == theirs, f"{command}: ours {ours!r}, real {theirs!r}"
        return ours

    def all(self, name: str, text: str) -> list[Any]:
        return [self.say(name, line.strip()) for line in text.strip().splitlines()]

    def is_gone(self, name: str) -> None:
        """Both have closed the client's connection."""
        for client in self.of(name):
            with pytest.raises(ConnectionError):
                client.next()


def alike(reply: Any) -> Any:
    """A reply without what differs from server to server, errors made comparable."""
    if isinstance(reply, hiredis.ReplyError):
        return str(reply)
    if isinstance(reply, list) and VARIES.intersection(i for i in reply if isinstance(i, bytes)):
        pairs = zip(reply[::2], reply[1::2], strict=True)
        return {name: value for name, value in pairs if name not in VARIES}
    return list(map(alike, reply)) if isinstance(reply, list) else reply


@pytest.fixture
def two(our_server, valkey_server, connect):
    """Both servers, fresh."""
    return Two((our_server("--save", ""), valkey_server()), connect)


# --- rules ----------------------------------------------------------------------------------------

SIMPLE = """
on off nopass resetpass reset clearselectors sanitize-payload skip-sanitize-payload allkeys ~*
resetkeys allchannels &* resetchannels alldbs resetdbs allcommands nocommands +@all -@all ON
Reset AllKeys >pw >other <pw <none ~a* ~b %R~r* %W~w* %RW~x %rw~y %R~* %W~x % %~ %X~a %RR~a %RW
&chan &news:* & db=0 db=0,1,3 db=1,1,0 db=16 db=-1 db=x db= db=0, db=99999999999 +get -get +GET
+set -set +del +mget +nope -nope +config +config|get -config|set +config|nope +config|get|x
+select|0 +select|1 -select|0 +debug|object +get| +|x + - +@ +@read -@read +@WRITE -@write
+@string -@dangerous +@nope +copy +move +swapdb +flushall +sort +object +object|encoding
-client|kill +client -client +@pubsub +publish +eval +xinfo -xinfo|stream foo () (+get) ) ( #abc
!abc
"""
RULES = [
    *SIMPLE.split(),
    "(+get ~a*)",
    "(+@all ~* &* db=2)",
    "(%R~r* +@read resetdbs)",
    "(+set +nope)",
    "(on)",
    "( +get  ~b )",
    "~a b",
    "&a b",
    "#" + "0123456789abcdef" * 4,
    "!" + "0123456789abcdef" * 4,
]
ASKED = """
get a
get b1
set a1 1
set w1 1
set w1 1 get
mget a b r1
copy a r1
copy w1 x DB 1
copy a a2 DB 3 REPLACE DB 1
move a 1
move a 7
swapdb 0 1
swapdb 2 3
select 0
select 2
select 99
flushall
flushdb
dbsize
keys *
publish chan m
publish news:1 m
spublish other m
subscribe chan news:2
psubscribe news:*
psubscribe other*
ssubscribe chan
unsubscribe other
config get x
config set x y
CONFIG GET x
client kill x
client id
debug object a
debug sleep 0
object encoding a
object help
exists b
type w1
strlen r1
sinterstore w1 r1 a
zunionstore w1 2 r1 b
eval x 1 a
eval x 0
eval_ro x 1 r1
fcall f 2 a b
xinfo stream a
xadd w1 * f v
xread streams a r1 0 0
sort a by w*
sort r1 store w1
georadius a 0 0 1 m store w1 store b
bitfield a get u8 0
bitfield a set u8 0 1
migrate h 1 "" 0 1 auth keys keys a b
migrate h 1 a 0 1
hexists w1 f
lmpop 2 a b left
blpop a b 0
object freq
scan 0
randomkey
acl whoami
auth x
hello 3
ping
info
cluster info
multi
watch a w1
script load x
function list
memory usage a
nope
command getkeys get a
get
""".strip().splitlines()


def test_rules_and_what_follows_from_them_are_those_of_a_real_server(two):
    rng = Random(7)
    for step in range(400):
        user = f"u{rng.randrange(4)}"
        rules = rng.choices(RULES, k=rng.randrange(1, 5))
        reply = two.say("root", "ACL", "SETUSER", user, *rules)
        two.say("root", "ACL", "GETUSER", user)
        if step % 5 == 0:
            two.say("root", "ACL LIST")
        if reply == b"OK":
            two.say("root", "SELECT", str(rng.choice((0, 0, 1, 2))))
            for line in rng.sample(ASKED, 12):
                words = split_words(line.encode()) or []
                two.say("root", "ACL", "DRYRUN", user, *words)
    assert two.say("root", "ACL USERS") == [b"default", b"u0", b"u1", b"u2", b"u3"]


def test_every_command_may_be_forbidden_alone(two):
    """Keys, channels and databases of each, as a user sees them who may use none."""
    two.say("root", "ACL SETUSER none on nopass +@all resetdbs")
    two.say("root", "ACL SETUSER keys on nopass +@all %R~1 &1")
    real = {row[0] for row in two.of("root")[1].one("COMMAND")}
    for row in every_row():
        words = row.name.split(b"|")
        if words[0] in real:
            command = [*words, *[b"1"] * (row.low - len(words))]
            for user in ("none", "keys"):
                two.say("root", "ACL", "DRYRUN", user, *command)


def test_acl_answers_as_a_real_server_does(two):
    two.all(
        "root",
        """
        ACL SETUSER "a b"
        ACL SETUSER "a\\tb"
        ACL SETUSER alice on >x ~* &* +@all
        ACL SETUSER
        ACL USERS
        ACL WHOAMI
        ACL WHOAMI x
        ACL GETUSER nobody
        ACL DELUSER default
        ACL DELUSER nobody alice
        ACL CAT
        ACL CAT nope
        ACL CAT a b
        ACL LOG x
        ACL LOG -1
        ACL LOG 0
        ACL LOG RESET
        ACL LOG RESET x
        ACL LOG
        ACL SAVE
        ACL LOAD
        ACL DRYRUN
        ACL DRYRUN nobody get a
        ACL DRYRUN default nope
        ACL DRYRUN default config
        ACL DRYRUN default config nope
        ACL DRYRUN default get
        ACL GENPASS x
        ACL GENPASS 0
        ACL GENPASS 4097
        ACL GENPASS 1 2
        ACL nope
        AUTH x
        AUTH nobody x
        CLIENT KILL USER nobody
        CLIENT LIST USER nobody
        """,
    )
    ours, theirs = (client.one("ACL", "CAT", "stream") for client in two.of("root"))
    assert sorted(ours) == sorted(theirs)


def test_passwords_are_random_and_as_long_as_asked_for(our_server):
    server = our_server()
    found = {server.call("ACL", "GENPASS") for _ in range(3)}
    assert len(found) == 3 and all(len(each) == 64 for each in found)
    assert [len(server.call("ACL", "GENPASS", bits)) for bits in (1, 4, 5, 4096)] == [1, 1, 2, 1024]


# --- enforcement ----------------------------------------------------------------------------------


def test_clients_are_refused_what_their_user_may_not_do(two):
    two.say("root", "ACL SETUSER bob on >pw ~a* &c* db=0,1 +@all -config -acl +acl|whoami -incr")
    two.all(
        "bob",
        """
        AUTH bob wrong
        AUTH bob pw
        ACL WHOAMI
        GET b
        SET a 1
        CONFIG GET x
        PUBLISH d m
        PUBLISH c m
        SELECT 2
        SELECT 1
        FLUSHALL
        NOPE
        GET
        INCR a
        SORT a BY w* GET x*
        SORT a BY w
        EVAL "return redis.call('get', 'b')" 0
        EVAL "return redis.pcall('incr', 'a')" 0
        EVAL "return redis.call('select', 5)" 0
        EVAL "return redis.pcall('publish', 'd', 'm')" 0
        EVAL "return redis.pcall('sort', 'a', 'get', 'x*')" 0
        EVAL "return redis.acl_check_cmd('incr', 'a')" 0
        EVAL "return redis.acl_check_cmd('get', 'a')" 0
        EVAL "return redis.acl_check_cmd('nope')" 0
        MULTI
        GET b
        EXEC
        MULTI
        SELECT 0
        GET a
        EXEC
        HELLO 2 AUTH bob wrong
        SUBSCRIBE c d
        SUBSCRIBE c1
        """,
    )
    two.say("root", "ACL LOG 20")
    for name in ("auth", "cmd", "key", "channel", "db"):
        ours, theirs = (
            client.one("INFO", "stats").partition(f"acl_access_denied_{name}:".encode())[2]
            for client in two.of("root")
        )
        assert ours.partition(b"\r\n")[0] == theirs.partition(b"\r\n")[0] != b"0", name


def test_exec_asks_again(two):
    """What was queued is run by the rules of the moment."""
    two.say("root", "ACL SETUSER eve on nopass ~* &* +@all")
    two.say("eve", "AUTH eve x")
    lines = "MULTI\nGET a\nPUBLISH c m\nSELECT 1\nSET b 1\nPING\nSELECT 2"
    two.all("eve", lines)
    two.say("root", "ACL SETUSER eve resetkeys ~q resetchannels db=0 -@all +exec +set +publish")
    replies = two.say("eve", "EXEC")
    assert len(replies) == 6 and all("NOPERM" in str(reply) for reply in replies)
    two.say("root", "ACL SETUSER eve +@all -exec")
    two.all("eve", "MULTI\nGET q\nEXEC\nGET q")
    two.say("root", "ACL SETUSER ada on nopass +get ~a")
    two.all("switch", "MULTI\nSET q 1\nAUTH ada x\nSET q 2\nGET q\nGET a\nEXEC\nGET q")
    two.say("root", "ACL SETUSER eve +@all -multi")
    two.all("eve", "MULTI\nGET q\nEXEC")
    two.say("root", "ACL LOG 20")


def test_who_waits_is_refused_when_it_is_served(two):
    two.say("root", "ACL SETUSER joe on nopass ~* +@all")
    two.say("joe", "AUTH joe x")
    for client in two.of("joe"):
        client.sock.sendall(b"BLPOP list 0\r\n")
    for server in two.servers:
        wait_until(lambda: b"blocked_clients:1" in server.call("INFO", "clients"), "it waits")  # noqa: B023
    two.say("root", "ACL SETUSER joe resetkeys")
    two.say("root", "RPUSH list x")
    ours, theirs = (alike(client.next()) for client in two.of("joe"))
    assert ours == theirs == "NOPERM No permissions to access a key"
    assert two.say("root", "LRANGE list 0 -1") == [b"x"]


def test_who_hears_too_much_or_is_nobody_any_more_is_cut_off(two):
    two.say("root", "ACL SETUSER ann on nopass &a* &b +@all")
    for name, line in {
        "literal": "SUBSCRIBE a1",
        "shard": "SSUBSCRIBE a1",
        "pattern": "PSUBSCRIBE a*",
        "kept": "SUBSCRIBE b",
    }.items():
        two.say(name, "AUTH ann x")
        two.say(name, line)
    two.say("root", "ACL SETUSER ann resetchannels &b &c")
    for name in ("literal", "shard", "pattern"):
        two.is_gone(name)
    two.say("root", "PUBLISH b still-there")
    assert [client.next() for client in two.of("kept")] == [[b"message", b"b", b"still-there"]] * 2
    two.say("other", "AUTH ann x")
    assert two.say("self", "AUTH ann x") == b"OK"
    assert two.say("self", "ACL DELUSER ann") == 1
    for name in ("self", "other", "kept"):
        two.is_gone(name)
    assert two.say("root", "PING") == b"PONG"


def test_the_default_user_may_be_anybody(two):
    two.all(
        "root",
        """
        ACL SETUSER admin on >secret ~* &* +@all
        AUTH admin secret
        CONFIG SET requirepass pw
        ACL GETUSER default
        """,
    )
    two.all("new", "PING\nAUTH no\nAUTH pw\nPING\nRESET\nPING\nAUTH default pw\nPING")
    two.say("root", "ACL SETUSER default >second")
    two.all("newer", "AUTH second\nCONFIG GET requirepass")
    two.say("root", "ACL SETUSER default off")
    two.all("newest", "PING\nAUTH pw\nAUTH admin secret\nPING\nRESET\nPING")
    two.say("root", "ACL SETUSER default reset on nopass ~only +get +ping")
    two.all("last", "GET only\nGET other\nSET only 1\nMULTI\nACL WHOAMI")
    two.say("root", "CONFIG SET requirepass ''")
    two.say("root", "ACL GETUSER default")


def test_new_users_may_use_channels_as_configured(two):
    two.all(
        "root",
        """
        CONFIG SET acl-pubsub-default allchannels
        ACL SETUSER a
        ACL SETUSER b &x
        ACL SETUSER b resetchannels &x
        ACL SETUSER b (+get)
        CONFIG SET acl-pubsub-default resetchannels
        ACL SETUSER a reset
        ACL SETUSER c (+get)
        ACL LIST
        """,
    )


def test_the_log_joins_what_is_alike_and_is_bounded(two):
    two.say("root", "ACL SETUSER zoe on nopass ~k +get")
    two.all("zoe", "AUTH zoe x\nGET a\nGET a\nGET b\nSET k 1\nGET a\nPING")
    assert [entry[b"count"] for entry in two.say("root", "ACL LOG")] == [1, 3, 1, 1]
    two.say("root", "CONFIG SET acllog-max-len 2")
    assert len(two.say("root", "ACL LOG")) == 4
    two.say("zoe", "GET c")
    assert len(two.say("root", "ACL LOG")) == 2
    two.say("root", "CONFIG SET acllog-max-len 0")
    two.say("zoe", "GET d")
    assert two.say("root", "ACL LOG") == []


def test_replicas_and_files_take_what_a_restricted_default_user_could_not_write(
    our_server, connect
):
    primary = our_server("--appendonly", "yes")
    replica = our_server(
        "--replicaof", f"127.0.0.1 {primary.port}", "--masteruser", "repl", "--masterauth", "pw"
    )
    assert (
        primary.call("ACL", "SETUSER", "repl", "on", ">pw", "+psync", "+replconf", "+ping") == b"OK"
    )
    assert replica.call("ACL", "SETUSER", "default", "resetkeys", "-set", "-eval") == b"OK"
    client = connect(primary.port)
    assert client.one("EVAL", "return redis.call('set', 'a', 1)", 0) == b"OK"
    assert client.ask(("MULTI",), ("SET", "b", "2"), ("EXEC",))[2] == [b"OK"]
    assert client.one("WAIT", 1, 10_000) == 1
    assert replica.call("DBSIZE") == 2
    assert "no permissions" in str(replica.call("SET", "c", "3"))


# --- files ----------------------------------------------------------------------------------------

ACL_FILE = """

user alice on >x ~* +@all
  user bob on   ~a +get \r
user carl (+get ~a)  ( +set ~b )

user dora resetchannels &a
"""
BAD_FILES = {
    "words": "user alice on >x ~* +@all extra\n",
    "several": "user a on\nfoo\nuser\nuser b +nope\nuser c bad worse\nuser a off\nuser d (+get\n",
    "tab": "user a on\t+get\n",
    "comment": "# users\nuser a on\n",
    "none": None,
}


@pytest.fixture
def with_file(our_server, valkey_server, connect):
    """Both servers, with an ACL file each, and what writes both."""
    servers = []
    for start in (our_server, valkey_server):
        bare = start()
        (bare.directory / "users.acl").write_text(ACL_FILE, newline="")
        bare.kill()
        servers.append(start("--aclfile", "users.acl", port=bare.port, name=bare.directory.name))
    return Two(tuple(servers), connect)


def write(two: Two, text: str | None) -> None:
    for server in two.servers:
        path = server.directory / "users.acl"
        path.unlink() if text is None else path.write_text(text, newline="")


def test_an_acl_file_is_read_and_written_as_by_a_real_server(with_file):
    two = with_file
    two.say("root", "ACL LIST")
    two.say("root", "ACL SETUSER eve on (+@read ~r*) db=0,2")
    two.say("root", "ACL SAVE")
    ours, theirs = ((server.directory / "users.acl").read_bytes() for server in two.servers)
    assert ours == theirs and b"user eve on" in ours
    for text in BAD_FILES.values():
        write(two, text)
        two.say("root", "ACL LOAD")
        two.say("root", "ACL USERS")
    two.say("alice", "AUTH alice x")
    two.say("bob", "ACL SETUSER bob on nopass +@all &*")
    two.all("bob", "AUTH bob x\nSUBSCRIBE news")
    write(two, "user alice on >x ~* +@all\nuser bob on nopass +@all resetchannels\n")
    two.say("root", "ACL LOAD")
    two.is_gone("bob")
    two.say("alice", "ACL LIST")
    write(two, "user default on nopass ~* &* +@all\n")
    two.say("root", "ACL LOAD")
    two.is_gone("alice")
    two.say("root", "CONFIG SET aclfile other")


@pytest.mark.parametrize("arguments", [
    ("--aclfile", "none.acl"),
    ("--user", "a", "+nope"),
    ("--user", "a", "(+get"),
    ("--user", "a", "on", "--user", "a"),
    ("--user", "a b", "on"),
    ("--user", "a", "on", "--aclfile", "none.acl"),
])  # fmt: skip
def test_a_server_does_not_start_with_users_that_make_no_sense(arguments, tmp_path):
    done = subprocess.run(
        [find_program("slotfleet-server"), "--port", "0", "--dir", str(tmp_path), *arguments],
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 1
    assert any(word in done.stderr for word in ("none.acl", "'a'", "usernames", "ACL file path"))


def test_users_of_a_configuration_file_are_written_back(
    start_server, our_program, valkey_server_path, tmp_path
):
    texts = []
    for program in ("slotfleet-server", valkey_server_path):
        path = tmp_path / f"{len(texts)}.conf"
        path.write_text("user bob on >pw ~a* +get\nhz 7\n")
        server = start_server([program, str(path)])
        assert server.call("ACL", "SETUSER", "ann", "on", "nopass", "(+get ~x)") == b"OK"
        assert server.call("CONFIG", "REWRITE") == b"OK"
        texts.append(sorted(line for line in path.read_text().splitlines() if line[:4] == "user"))
        users = server.call("ACL", "LIST")
        server.kill()
        again = start_server([program, str(path)], port=server.port)
        assert again.call("ACL", "LIST") == users
    assert texts[0] == texts[1] and len(texts[0]) == 3


def test_resetting_statistics_forgets_the_counts():
    ours = Ours()
    ours.ask("AUTH", "nobody", "x")
    assert b"acl_access_denied_auth:1" in ours.ask("INFO", "stats")
    ours.ask("CONFIG", "RESETSTAT")
    assert b"acl_access_denied_auth:0" in ours.ask("INFO", "stats")


def test_a_user_line_may_come_once():
    config = Config()
    config.load("user a on\n")
    assert config.users == {b"a": [b"on"]}
