"""The bus codec: round trips, real packets of two servers, and bytes that are no message."""

import base64
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster import message as m
from cluster import slots

PACKETS = Path(__file__).parent / "packets"

ids = st.text("0123456789abcdef", min_size=40, max_size=40)
ports = st.integers(0, 65535)
epochs = st.integers(0, 2**64 - 1)
addresses = st.sampled_from(
    ["", "127.0.0.1", "10.0.0.255", "::1", "fe80::1%eth0", "host-1.example"]
)
slot_sets = st.sets(st.integers(0, 16383), max_size=5).map(slots.slot_set)

headers = st.builds(
    m.Header,
    sender=ids,
    current_epoch=epochs,
    config_epoch=epochs,
    offset=epochs,
    slots=slot_sets,
    primary=st.just("") | ids,
    ip=addresses,
    port=ports,
    tls_port=ports,
    bus_port=ports,
    flags=ports,
    failing=st.booleans(),
    message_flags=st.integers(0, 3),
)
gossip = st.builds(
    m.Gossip,
    node_id=ids,
    ping_sent=st.integers(0, 2**32 - 1),
    pong_received=st.integers(0, 2**32 - 1),
    ip=addresses,
    port=ports,
    bus_port=ports,
    flags=ports,
    tls_port=ports,
)
extensions = st.builds(
    m.Extensions,
    shard_id=ids,
    hostname=st.sampled_from(["", "a", "node-7.example", "x" * 63]),
    human_name=st.sampled_from(["", "the-first", "n" * 8]),
    forgotten=st.lists(st.tuples(ids, epochs), max_size=2).map(tuple),
    face=st.builds(
        m.Face,
        ipv4=st.sampled_from(["", "10.0.0.255"]),
        ipv6=st.sampled_from(["", "fe80::1"]),
        port=ports,
        tls_port=ports,
        zone=st.sampled_from(["", "zone-1"]),
    ),
    others=st.lists(st.tuples(st.integers(9, 65535), st.just(bytes(16))), max_size=2).map(tuple),
)


@st.composite
def pings(draw):
    extra = draw(st.none() | extensions)
    header = draw(headers)
    if extra is not None:
        header = evolve(header, message_flags=header.message_flags | m.EXTENSION_DATA)
    sections = draw(st.lists(gossip, max_size=4).map(tuple))
    return m.Ping(draw(st.sampled_from([m.PING, m.PONG, m.MEET])), header, sections, extra)


messages = st.one_of(
    pings(),
    st.builds(m.Fail, headers, ids),
    st.builds(m.Publish, st.none() | headers, st.binary(), st.binary(), st.booleans()),
    st.builds(m.AuthRequest, headers),
    st.builds(m.AuthAck, headers),
    st.builds(m.Update, headers, ids, epochs, slot_sets),
    st.builds(m.ManualFailoverStart, headers),
    st.builds(m.Module, headers, epochs, st.integers(0, 255), st.binary()),
)

HEADER = m.Header("a" * 40, 1, 2, 3, slots.slot_set([8]), "b" * 40, "10.0.0.1", 7000, 0, 17000, 1)


@given(messages)
def test_what_is_encoded_decodes(message):
    packet = m.encode(message)
    assert m.decode(packet) == message
    assert int.from_bytes(packet[4:8], "big") == len(packet)


@given(st.lists(messages, max_size=3), st.integers(1, 3000))
def test_a_stream_splits_wherever_it_is_cut(sent, step):
    stream = b"".join(map(m.encode, sent))
    splitter, received = m.Splitter(), []
    for at in range(0, len(stream), step):
        splitter.feed(stream[at : at + step])
        while (message := splitter.next_message()) is not None:
            received.append(message)
    assert received == sent


def test_a_stream_splits_byte_by_byte():
    sent = [m.AuthRequest(m.Header("a" * 40)), m.Publish(None, b"c", b"p")]
    splitter, received = m.Splitter(), []
    for byte in b"".join(map(m.encode, sent)):
        splitter.feed(bytes([byte]))
        if (message := splitter.next_message()) is not None:
            received.append(message)
    assert received == sent


@settings(max_examples=300)
@given(messages, st.data())
def test_a_damaged_message_is_refused_or_read_but_nothing_else(message, data):
    packet = bytearray(m.encode(message))
    for _ in range(data.draw(st.integers(1, 4))):
        # Most of a packet is the slot bitmap, where every byte is fine: aim beside it.
        at = data.draw(st.integers(0, len(packet) - 1).filter(lambda at: not 80 <= at < 2128))
        packet[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(0) | st.integers(1, len(packet)))
    splitter = m.Splitter()
    splitter.feed(bytes(packet[: len(packet) - cut]))
    for read in (splitter.next_message, lambda: m.decode(bytes(packet))):
        with suppress(m.BadMessage):
            read()


@given(st.binary(min_size=16, max_size=64))
def test_garbage_is_refused_from_its_first_bytes(garbage):
    splitter = m.Splitter()
    splitter.feed(garbage)
    if not garbage.startswith(b"RCmb"):
        with pytest.raises(m.BadMessage):
            splitter.next_message()


def start(total, kind=m.PING, version=1):
    return m.START.pack(b"RCmb", total, version, 6379, kind, 0)


@pytest.mark.parametrize(
    "packet",
    [
        start(2255) + bytes(3000),
        start(0xFFFFFFFF),
        start(64 * 1024 * 1024),
        start(0xFFFFFFFF, m.PUBLISH),
        start(16, m.PING | m.LIGHT),
        start(15, m.PUBLISH | m.LIGHT),
        start(2256, version=2) + bytes(2240),
        start(2256) + bytes(2240),
    ],
)
def test_a_length_that_cannot_be_is_refused_before_it_is_awaited(packet):
    splitter = m.Splitter()
    splitter.feed(packet)
    with pytest.raises(m.BadMessage):
        splitter.next_message()


@pytest.mark.parametrize("ip", ["a b", "1.2.3.4\n", "x,y", "\u00e9"])
def test_an_address_that_would_break_nodes_conf_is_refused(ip):
    packet = bytearray(m.encode(m.AuthRequest(m.Header("a" * 40))))
    packet[2168 : 2168 + len(ip.encode())] = ip.encode()
    with pytest.raises(m.BadMessage):
        m.decode(bytes(packet))


def test_an_unknown_type_is_read_as_such():
    packet = bytearray(m.encode(m.AuthRequest(m.Header("a" * 40))))
    packet[12:14] = b"\0\x63"
    assert m.decode(bytes(packet)) == m.Unknown(m.Header("a" * 40), 99)
    with pytest.raises(ValueError):
        m.encode(m.decode(bytes(packet)))


def test_layout_of_a_ping_is_the_documented_one():
    packet = m.encode(m.Ping(m.PING, HEADER, extensions=m.Extensions(shard_id="c" * 40)))
    assert packet[:16] == b"RCmb" + (2256 + 48).to_bytes(4, "big") + b"\0\1\x1b\x58\0\0\0\0"
    assert packet[80:84] == b"\0\1\0\0"
    assert packet[2128:2168] == b"b" * 40
    assert packet[2168:2177] == b"10.0.0.1\0"
    assert packet[2214:2216] == b"\0\1"
    assert packet[2248:2256] == b"\x42\x68\0\1\0\4\0\0"
    assert packet[2256:] == b"\0\0\0\x30\0\3\0\0" + b"c" * 40


def test_addresses_for_clients_are_laid_out_as_valkeys():
    """As valkey-server 9.1 sends them."""
    face = m.Face("10.0.0.1", "::1", 7001, 8001, "az1")
    packet = m.encode(m.Ping(m.PING, HEADER, extensions=m.Extensions(face=face)))
    fields = [
        (4, b"10.0.0.1\0\0\0\0\0\0\0\0"),
        (5, b"::1\0\0\0\0\0"),
        (6, b"\x1b\x59\0\0\0\0\0\0"),
        (7, b"\x1f\x41\0\0\0\0\0\0"),
        (8, b"az1\0\0\0\0\0"),
    ]
    assert packet[2256:] == b"".join(
        (8 + len(data)).to_bytes(4, "big") + kind.to_bytes(2, "big") + b"\0\0" + data
        for kind, data in fields
    )
    splitter = m.Splitter()
    splitter.feed(packet)
    assert splitter.next_message().extensions.face == face


def captured(name: str) -> list[bytes]:
    """Packets of a real server's bus, one a line."""
    lines = (PACKETS / name).read_text().split()
    return [zlib.decompress(base64.b85decode(line)) for line in lines]


@pytest.mark.parametrize("name", ["valkey-9.1", "redis-7.0"])
def test_real_packets_are_read_and_written_alike(name):
    packets = captured(name)
    kinds = {m.TYPE_NAMES[m.decode(packet).kind] for packet in packets}
    assert kinds >= {"meet", "ping", "pong", "fail", "auth-req", "auth-ack", "publish"}
    for packet in packets:
        assert m.encode(m.decode(packet)) == packet
