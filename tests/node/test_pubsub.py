"""Published messages and keyspace notifications, where several clients and nodes come in."""

import pytest
from local import Client, Local, local_node

from node.pubsub import SHARD


@pytest.fixture
def local() -> Local:
    return local_node()


def heard(client: Client) -> list[object]:
    messages = []
    while (message := client.next()) is not False:
        messages.append(message)
    return messages


def test_each_subscription_gets_its_own_copy_in_its_own_protocol(local):
    two, three, speaker = local.client(), local.client(), local.client()
    three.call("HELLO", 3)
    two.call("SUBSCRIBE", "news")
    two.call("PSUBSCRIBE", "n*")
    three.call("PSUBSCRIBE", "*s")
    assert speaker.call("PUBLISH", "news", "hi") == 3
    assert heard(two) == [[b"message", b"news", b"hi"], [b"pmessage", b"n*", b"news", b"hi"]]
    assert three.session.take_output().startswith(b">4\r\n$8\r\npmessage\r\n$2\r\n*s\r\n")
    assert speaker.call("PUBLISH", "other", "hi") == 0


def test_messages_of_shards_are_a_world_of_their_own(local):
    client, speaker = local.client(), local.client()
    client.call("SSUBSCRIBE", "news")
    assert speaker.call("PUBLISH", "news", "x") == 0
    assert speaker.call("SPUBLISH", "news", "y") == 1
    assert heard(client) == [[b"smessage", b"news", b"y"]]
    local.node.pubsub.drop_shards(lambda name: name == b"news")
    assert heard(client) == [[b"sunsubscribe", b"news", 0]]
    assert not local.node.pubsub.by_name[SHARD]
    assert client.call("GET", "a") is None  # no subscriber any more


def test_who_has_gone_hears_nothing(local):
    client, speaker = local.client(), local.client()
    client.call("SUBSCRIBE", "a", "b")
    client.call("PSUBSCRIBE", "c*")
    local.node.close_session(client.session)
    assert speaker.call("PUBLISH", "a", "x") == 0
    assert speaker.call("PUBSUB", "CHANNELS") == []
    assert speaker.call("PUBSUB", "NUMPAT") == 0


def test_a_message_to_oneself_follows_the_reply_even_in_a_pipeline(local):
    client = local.client()
    client.call("HELLO", 3)
    client.call("SUBSCRIBE", "me")
    answer = client.raw(
        b"PUBLISH me 1\r\nPING\r\nMULTI\r\nPUBLISH me 2\r\nPING\r\nEXEC\r\nPING\r\n"
    )
    message = b">3\r\n$7\r\nmessage\r\n$2\r\nme\r\n$1\r\n%d\r\n"
    assert answer == b"".join(
        [
            *(b":1\r\n", message % 1, b"+PONG\r\n", b"+OK\r\n", b"+QUEUED\r\n", b"+QUEUED\r\n"),
            *(b"*2\r\n", b":1\r\n", b"+PONG\r\n", message % 2, b"+PONG\r\n"),
        ]
    )


def test_other_nodes_of_a_cluster_are_told(local):
    told = []

    class Elsewhere(type(local.node.topology)):
        clustered = True

        def publish(self, channel: bytes, message: bytes, sharded: bool) -> None:
            told.append((channel, message, sharded))

    local.node.topology = Elsewhere()
    client = local.client()
    client.call("PUBLISH", "a", "x")
    client.call("SPUBLISH", "b", "y")
    assert told == [(b"a", b"x", False), (b"b", b"y", True)]


# --- keyspace notifications -----------------------------------------------------------------------


def notified(local: Local, classes: str, *commands: str) -> list[tuple[bytes, bytes]]:
    listener, client = local.client(), local.client()
    assert client.call("CONFIG", "SET", "notify-keyspace-events", classes) == b"OK"
    listener.call("PSUBSCRIBE", "__key*__:*")
    for command in commands:
        client.call(*command.split())
    local.advance(1000)
    return [(channel, what) for _, _, channel, what in heard(listener)]


def test_events_go_to_the_channel_of_the_key_and_of_the_event(local):
    assert notified(local, "KEA", "SET a 1", "SELECT 2", "LPUSH list x") == [
        (b"__keyspace@0__:a", b"set"),
        (b"__keyevent@0__:set", b"a"),
        (b"__keyspace@2__:list", b"lpush"),
        (b"__keyevent@2__:lpush", b"list"),
    ]


def test_only_the_classes_that_were_asked_for(local):
    assert notified(local, "E$x", "SET a 1 PX 10", "LPUSH list x", "DEL list") == [
        (b"__keyevent@0__:set", b"a"),
        (b"__keyevent@0__:expired", b"a"),
    ]
    assert notified(local, "A", "SET a 1") == []
    assert notified(local, "", "SET a 1") == []
    assert local.node.keyspace.on_change is None


def test_misses(local):
    assert notified(local, "Em", "GET nothing", "SET a 1", "GET a") == [
        (b"__keyevent@0__:keymiss", b"nothing"),
    ]


def test_new_keys_come_before_what_made_them(local):
    commands = ("SET a 1", "SET a 2", "RPUSH list x", "RENAME list other", "COPY a b")
    assert notified(local, "KEn$gl", *commands) == [
        pair
        for event, key in [
            *((b"new", b"a"), (b"set", b"a"), (b"set", b"a"), (b"new", b"list")),
            *((b"rpush", b"list"), (b"new", b"other"), (b"rename_from", b"list")),
            *((b"rename_to", b"other"), (b"new", b"b"), (b"copy_to", b"b")),
        ]
        for pair in ((b"__keyspace@0__:" + key, event), (b"__keyevent@0__:" + event, key))
    ]


def test_a_change_of_the_directive_takes_effect_at_once(local):
    listener, client = local.client(), local.client()
    listener.call("PSUBSCRIBE", "__key*__:*")
    for classes in ("KEA", "", "Kmn", "E$", ""):
        client.call("CONFIG", "SET", "notify-keyspace-events", classes)
        client.call("SET", "a", "1")
    assert [channel for _, _, channel, _ in heard(listener)] == [
        *(b"__keyspace@0__:a", b"__keyevent@0__:set", b"__keyevent@0__:set"),
    ]
    assert local.node.keyspace.on_change is None
    assert local.node.keyspace.on_miss is None and local.node.keyspace.on_new is None


def test_a_write_of_ones_own_is_heard_after_its_reply(local):
    client = local.client()
    client.call("HELLO", 3)
    client.call("CONFIG", "SET", "notify-keyspace-events", "E$")
    client.call("SUBSCRIBE", "__keyevent@0__:set")
    answer = client.raw(b"SET a 1\r\nPING\r\n")
    assert answer.startswith(b"+OK\r\n>3\r\n$7\r\nmessage\r\n")
    assert answer.endswith(b"$1\r\na\r\n+PONG\r\n")
