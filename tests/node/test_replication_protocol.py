"""What a replica and a primary say to each other, byte for byte."""

import logging

import pytest
from local import Client, Local, local_node

from node.node import Node
from node.replication.replica import PrimaryLink
from node.replication.transport import Unconnected
from node.topology import Alone

ID = b"0123456789abcdef0123456789abcdef01234567"
OTHER_ID = b"f" * 40
MARK = b"m" * 40
# One key `k`, a string `v`, in database 2; without a checksum.
RDB = b"REDIS0010\xfe\x02\xfb\x01\x00\x00\x01k\x01v\xff" + bytes(8)

PING = b"*1\r\n$4\r\nPING\r\n"
OPTIONS = (
    b"*3\r\n$8\r\nREPLCONF\r\n$14\r\nlistening-port\r\n$4\r\n6379\r\n"
    b"*5\r\n$8\r\nREPLCONF\r\n$4\r\ncapa\r\n$3\r\neof\r\n$4\r\ncapa\r\n$6\r\npsync2\r\n"
    b"*3\r\n$8\r\nREPLCONF\r\n$7\r\nversion\r\n$5\r\n9.1.2\r\n"
)
FIRST_PSYNC = b"*3\r\n$5\r\nPSYNC\r\n$1\r\n?\r\n$2\r\n-1\r\n"


def ack(offset: int) -> bytes:
    return b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$%d\r\n%d\r\n" % (len(b"%d" % offset), offset)


class Closing(Unconnected):
    """Notes which links are closed."""

    def __init__(self) -> None:
        self.closed: list[object] = []

    def close(self, peer: object) -> None:
        self.closed.append(peer)


class Replica:
    """A node that follows whoever the test plays."""

    def __init__(self, **directives: object) -> None:
        self.local: Local = local_node(**directives)
        self.node: Node = self.local.node
        self.transport = self.node.transport = Closing()
        self.node.follow("primary", 7000)
        self.link.connected()

    @property
    def link(self) -> PrimaryLink:
        assert self.node.role.link is not None
        return self.node.role.link

    def hears(self, data: bytes, piece: int = 0) -> bytes:
        """What it says to these bytes, all that it has to say up to then included."""
        said = self.link.take_output(1 << 20)
        for start in range(0, len(data), piece or len(data) or 1):
            self.node.begin_turn()
            self.link.receive(data[start : start + (piece or len(data))])
            self.node.end_turn()
            said += self.link.take_output(1 << 20)
        return said

    def reconnects(self) -> None:
        while self.link.state != "connecting":
            self.local.advance(50)
        self.link.connected()


WHOLE, BYTES = 0, 1


@pytest.mark.parametrize("piece", [WHOLE, BYTES])
def test_a_first_sync_of_known_length(piece):
    replica = Replica()
    assert replica.hears(b"") == PING
    assert replica.hears(b"+PONG\r\n", piece) == OPTIONS
    assert replica.hears(b"+OK\r\n+OK\r\n+OK\r\n", piece) == FIRST_PSYNC
    answer = b"+FULLRESYNC %b 1000\r\n\n\n$%d\r\n" % (ID, len(RDB))
    stream = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
    assert replica.hears(answer, piece) == b""
    assert replica.node.loading
    said = replica.hears(RDB + stream, piece)
    assert said == (ack(1000) if piece else ack(1000 + len(stream)))
    assert replica.node.keyspace[2].get(b"k") == b"v"
    assert replica.node.keyspace[0].get(b"a") == b"1"
    assert replica.node.log.offset == 1000 + len(stream)
    assert replica.node.role.history.id.encode() == ID


@pytest.mark.parametrize("piece", [WHOLE, BYTES])
def test_a_first_sync_up_to_a_mark(piece):
    replica = Replica()
    replica.hears(b"+PONG\r\n+OK\r\n-ERR Unrecognized REPLCONF option: capa\r\n+OK\r\n")
    replica.hears(b"+FULLRESYNC %b 0\r\n\n$EOF:%b\r\n" % (ID, MARK), piece)
    assert replica.hears(RDB + MARK, piece) == ack(0)
    assert replica.link.is_up() and replica.node.keyspace[2].get(b"k") == b"v"


def test_an_old_version_answers_options_with_errors():
    replica = Replica()
    replica.hears(b"+PONG\r\n")
    assert replica.hears(b"-ERR a\r\n-ERR b\r\n-ERR c\r\n") == FIRST_PSYNC


def test_a_password_comes_after_the_ping():
    replica = Replica(
        masterauth=b"secret", replica_announce_ip="10.9.8.7", replica_announce_port=7777
    )
    said = replica.hears(b"-NOAUTH Authentication required.\r\n")
    assert said.startswith(PING + b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n")
    assert b"listening-port\r\n$4\r\n7777\r\n" in said
    assert b"*3\r\n$8\r\nREPLCONF\r\n$10\r\nip-address\r\n$8\r\n10.9.8.7\r\n" in said
    assert replica.hears(b"+OK\r\n" * 5).endswith(FIRST_PSYNC)


def test_a_user_goes_with_the_password():
    replica = Replica(masterauth=b"secret", masteruser=b"repl")
    assert b"*3\r\n$4\r\nAUTH\r\n$4\r\nrepl\r\n$6\r\nsecret\r\n" in replica.hears(b"+PONG\r\n")


@pytest.mark.parametrize(
    "answers",
    [
        b"-ERR no\r\n",
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"+PONG\r\n-WRONGPASS invalid\r\n",
        b"+PONG\r\n" + b"+OK\r\n" * 4 + b"-NOMASTERLINK Can't SYNC\r\n",
        b"+PONG\r\n" + b"+OK\r\n" * 4 + b"+FULLRESYNC %b\r\n" % ID,
        b"+PONG\r\n" + b"+OK\r\n" * 4 + b"+FULLRESYNC %b 1\r\n-ERR saving\r\n" % ID,
        b"+PONG\r\n" + b"+OK\r\n" * 4 + b"+FULLRESYNC %b 1\r\n$x\r\n" % ID,
        b"+PONG\r\n" + b"+OK\r\n" * 4 + b"+FULLRESYNC %b 1\r\n$3\r\nabc" % ID,
        b"x" * 100_000,
    ],
)
def test_whatever_is_no_good_ends_the_attempt(answers):
    replica = Replica(masterauth=b"secret")
    replica.hears(answers)
    assert replica.transport.closed == [replica.link] and replica.link.state == "connect"
    replica.reconnects()
    assert replica.hears(b"") == PING  # and nothing of before


def synced(piece: int = 0) -> Replica:
    replica = Replica()
    replica.hears(b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n", piece)
    replica.hears(b"+FULLRESYNC %b 100\r\n$%d\r\n%b" % (ID, len(RDB), RDB), piece)
    return replica


def test_after_a_break_it_asks_for_the_next_byte():
    replica = synced()
    command = b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\n1\r\n"
    replica.hears(command + command[:15])
    replica.link.lost("broken")
    replica.reconnects()
    said = replica.hears(b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n")
    offset = 100 + len(command)
    assert said.endswith(b"*3\r\n$5\r\nPSYNC\r\n$40\r\n%b\r\n$3\r\n%d\r\n" % (ID, offset + 1))
    replica.hears(b"+CONTINUE\r\n" + command)
    assert replica.node.log.offset == offset + len(command)
    assert replica.node.role.history.id.encode() == ID


def test_a_partial_sync_may_rename_the_history():
    replica = synced()
    replica.link.lost("broken")
    replica.reconnects()
    replica.hears(b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+CONTINUE %b\r\n" % OTHER_ID)
    history = replica.node.role.history
    assert (history.id.encode(), history.previous_id.encode()) == (OTHER_ID, ID)
    assert history.previous_end == 100


@pytest.mark.parametrize("piece", [WHOLE, BYTES])
def test_the_stream_is_logged_as_it_came(piece):
    replica = synced(piece)
    stream = (
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n"
        b"*3\r\n$3\r\nsEt\r\n$1\r\na\r\n$1\r\n1\r\n"
        + PING
        + b"*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n"
        b"*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n*2\r\n$4\r\nINCR\r\n$1\r\nb\r\n*1\r\n$4\r\nEXEC\r\n"
        b"*2\r\n$3\r\nDEL\r\n$4\r\nnone\r\n*2\r\n$7\r\nUNKNOWN\r\n$1\r\nx\r\n"
    )
    cursor = replica.node.log.open_cursor()
    replica.hears(stream, piece)
    assert replica.node.log.read(cursor, 1 << 20) == stream
    assert replica.node.log.offset == 100 + len(stream)
    keyspace = replica.node.keyspace
    assert (keyspace[3].get(b"a"), keyspace[4].get(b"b")) == (2, 1)


def test_the_database_of_the_stream_outlives_a_break():
    replica = synced()
    replica.hears(b"*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n")
    replica.link.lost("broken")
    replica.reconnects()
    replica.hears(b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+CONTINUE\r\n")
    replica.hears(b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n")
    assert replica.node.keyspace[3].get(b"a") == 1


def test_the_data_set_may_say_in_which_database_the_stream_is():
    replica = Replica()
    replica.hears(b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n")
    rdb = RDB[:9] + b"\xfa\x0erepl-stream-db\x015" + RDB[9:]
    replica.hears(b"+FULLRESYNC %b 100\r\n$%d\r\n%b" % (ID, len(rdb), rdb))
    replica.hears(b"*2\r\n$4\r\nINCR\r\n$1\r\na\r\n")
    assert replica.node.keyspace[5].get(b"a") == 1


def test_an_acknowledgement_is_sent_when_asked_for_and_every_second():
    replica = synced()
    getack = b"*3\r\n$8\r\nREPLCONF\r\n$6\r\nGETACK\r\n$1\r\n*\r\n"
    assert replica.hears(PING) == b""
    assert replica.hears(PING + getack) == ack(100 + 2 * len(PING) + len(getack))
    for _ in range(10):
        replica.local.advance(100)
    assert replica.hears(b"") == ack(100 + 2 * len(PING) + len(getack))


def test_newlines_keep_the_link_alive_while_a_data_set_comes_in():
    replica = Replica()
    replica.hears(b"+PONG\r\n+OK\r\n+OK\r\n+OK\r\n+FULLRESYNC %b 100\r\n$1000\r\n" % ID)
    replica.local.advance(1500)
    assert replica.hears(b"") == b"\n"


def test_garbage_in_the_stream_ends_the_link():
    replica = synced()
    replica.hears(b"*1\r\n:5\r\n")
    assert replica.transport.closed == [replica.link]
    assert replica.node.log.offset == 100


def test_a_killed_stream_ends_the_link():
    replica = synced()
    client = replica.local.client()
    assert client.call("CLIENT", "KILL", "TYPE", "master") == 1
    assert replica.transport.closed == [replica.link]
    assert replica.link.state == "connect"


def test_a_refused_command_of_the_primary_is_told(caplog):
    replica = synced()
    with caplog.at_level(logging.WARNING):
        replica.hears(b"*3\r\n$3\r\nSET\r\n$1\r\na\r\n$1\r\nx\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n")
    assert "ERR value is not an integer or out of range" in caplog.text
    assert replica.link.is_up()


class Clustered(Alone):
    clustered = True


# --- the primary's side --------------------------------------------------------------------------


def take(client: Client) -> bytes:
    """What a replica is sent."""
    data, replica = b"", client.session.replica
    while piece := replica.take_output(1 << 20):
        data += piece
    return client.session.take_output() + data


def follower(local: Local, *options: str) -> Client:
    client = local.client()
    for option in options:
        assert client.call("REPLCONF", *option.split()) == b"OK"
    return client


def test_a_full_sync_is_answered_with_the_data_set():
    local = local_node()
    local.client().call("SET", "k", "v")
    client = follower(local, "listening-port 7001", "capa eof capa psync2")
    assert client.raw(b"PSYNC ? -1\r\n") == b""
    line, size, rest = take(client).split(b"\r\n", 2)
    history = local.node.role.history.id.encode()
    assert line == b"+FULLRESYNC %b 0" % history
    assert size == b"$%d" % len(rest) and rest.startswith(b"REDIS0010")
    local.client().call("SET", "k", "w")
    sent = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n"
    assert take(client) == sent
    assert client.raw(b"PING\r\nREPLCONF ACK %d\r\n" % len(sent)) == b""
    assert client.session.replica.acked == len(sent)


def test_sync_without_p_gets_no_line_before_the_data_set():
    local = local_node()
    client = follower(local)
    client.raw(b"SYNC\r\n")
    assert take(client).startswith(b"$")


def test_a_newer_replica_gets_the_newer_format():
    local = local_node()
    client = follower(local, "version 9.1.2", "capa eof")
    client.raw(b"PSYNC ? -1\r\n")
    assert take(client).split(b"\r\n", 2)[2].startswith(b"VALKEY080")


def test_replicas_of_two_formats_share_no_snapshot():
    local = local_node()
    old, other, new = (
        follower(local, *options, "capa eof").session.replica
        for options in ((), ("version 8.0.0",), ("version 9.1.2",))
    )
    assert old.wants_same(other) and not old.wants_same(new)


def partial_sync(local: Local, id: bytes, offset: int, *options: str) -> bytes:
    client = follower(local, *options)
    client.raw(b"PSYNC %b %d\r\n" % (id, offset))
    return take(client)


def test_a_partial_sync_is_answered_from_the_backlog():
    local = local_node()
    follower(local).raw(b"PSYNC ? -1\r\n")
    local.client().call("SET", "k", "v")
    history = local.node.role.history.id.encode()
    command = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n"
    select = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n"
    continued = b"+CONTINUE %b\r\n" % history
    assert partial_sync(local, history, 1, "capa psync2") == continued + select + command
    assert partial_sync(local, history, len(select) + 1) == b"+CONTINUE\r\n" + command
    assert partial_sync(local, history, len(select + command) + 1) == b"+CONTINUE\r\n"
    for id, offset in ((history, 1000), (ID, 1), (history, 0)):
        assert partial_sync(local, id, offset).startswith(b"+FULLRESYNC " + history)


def test_the_former_history_is_good_up_to_the_promotion():
    local = local_node()
    node = local.node
    follower(local).raw(b"PSYNC ? -1\r\n")
    local.client().call("SET", "k", "v")
    end, old = node.log.offset, node.role.history.id.encode()
    node.follow("elsewhere", 1)
    node.promote()
    local.client().call("SET", "k", "w")
    new = node.role.history.id.encode()
    assert partial_sync(local, old, end + 1, "capa psync2").startswith(b"+CONTINUE " + new)
    assert partial_sync(local, old, end + 2, "capa psync2").startswith(b"+FULLRESYNC " + new)


def test_a_client_that_wants_a_file_only_gets_no_stream():
    local = local_node()
    local.client().call("SET", "k", "v")
    client = follower(local, "rdb-only 1", "capa eof")
    client.raw(b"SYNC\r\n")
    assert take(client).startswith(b"$")
    local.client().call("SET", "k", "w")
    assert take(client) == b"" and local.node.log.backlog_length() > 0


def test_a_filter_leaves_the_keys_out():
    local = local_node()
    local.client().call("SET", "key-of-some-length", "v")
    client = follower(local, "rdb-filter-only functions", "rdb-only 1")
    client.raw(b"SYNC\r\n")
    assert b"key-of-some-length" not in take(client)


def test_a_replica_without_link_sends_others_away():
    local = local_node()
    local.node.follow("elsewhere", 1)
    client = follower(local)
    assert client.raw(b"PSYNC ? -1\r\n").startswith(b"-NOMASTERLINK ")


def test_a_primary_may_hand_over_its_role():
    replica = synced()
    client = replica.local.client()
    refused = client.call("PSYNC", OTHER_ID, 101, "FAILOVER")
    assert str(refused) == "ERR PSYNC FAILOVER replid must match my replid."
    client.raw(b"REPLCONF capa psync2\r\nPSYNC %b 101 FAILOVER\r\n" % ID)
    node = replica.node
    assert not node.is_replica()
    assert take(client) == b"+CONTINUE %b\r\n" % node.role.history.id.encode()
    refused = replica.local.client().call("PSYNC", ID, 101, "FAILOVER")
    assert str(refused) == "ERR PSYNC FAILOVER can't be sent to a master."


def test_a_killed_replica_is_gone():
    local = local_node()
    follower(local).raw(b"PSYNC ? -1\r\n")
    assert len(local.node.role.primary.replicas) == 1
    assert local.client().call("CLIENT", "KILL", "TYPE", "replica") == 1
    assert not local.node.role.primary.replicas


def test_replicaof_is_refused_in_a_cluster():
    local = local_node()
    local.node.topology = Clustered()
    reply = local.client().call("REPLICAOF", "127.0.0.1", 1)
    assert str(reply) == "ERR REPLICAOF not allowed in cluster mode."


def test_answers_to_nonsense_are_those_of_a_real_server(resp2_pair):
    resp2_pair.lines(
        "WAIT a 0",
        "WAIT 0 a",
        "WAIT 0 -1",
        "WAIT 0 99999999999999999999",
        "WAIT 0 9223372036854775807",
        "WAIT -1 0",
        "WAIT 0 0",
        "WAIT 1",
        "REPLCONF",
        "REPLCONF a",
        "REPLCONF a b",
        "REPLCONF listening-port x",
        "REPLCONF capa eof capa something",
        "REPLCONF rdb-only x",
        "REPLCONF rdb-only 0",
        "REPLCONF rdb-filter-only keys",
        "REPLCONF version 1",
        "REPLCONF version a.b.c",
        "REPLCONF version 9.1.2",
        "REPLCONF ip-address 1.2.3.4",
        f"REPLCONF ip-address {'1' * 300}",
        "REPLICAOF a b",
        "REPLICAOF a 70000",
        "REPLICAOF a -1",
        "REPLICAOF no one",
        "REPLICAOF NO two",
        "REPLICAOF no",
        "PSYNC a",
        "ROLE x",
    )
