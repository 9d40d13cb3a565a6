"""The binary cluster bus, version 1: messages to bytes and back.

Every message is a 16-byte start (`RCmb`, total length, version, port, type, count), then the
rest of a 2256-byte header that tells everything about its sender, then a body by type. A PING,
PONG or MEET carries gossip sections of 104 bytes about other nodes and after them extensions,
each padded to eight bytes. A light message (type bit 0x8000, Valkey 8) stops the header after
16 bytes; only PUBLISH and PUBLISHSHARD may be light. All integers are big-endian; the slot
bitmap has slot 0 in the lowest bit of its first byte.

Decoding is strict: whatever doesn't add up to the last byte raises `BadMessage`, and nothing
else is ever raised. Texts that end up in nodes.conf are checked here, where they come in.

Source: the cluster specification's heartbeat section, and packets captured from redis-server
7.0 and valkey-server 9.1.
"""

import re
import struct
from collections.abc import Iterator
from functools import lru_cache

from attrs import field, frozen

from cluster.slots import BITMAP_BYTES, from_bytes, to_bytes, to_text

PING, PONG, MEET, FAIL, PUBLISH, AUTH_REQUEST, AUTH_ACK, UPDATE, MFSTART, MODULE, PUBLISHSHARD = (
    range(11)
)
TYPE_NAMES = (
    *("ping", "pong", "meet", "fail", "publish", "auth-req", "auth-ack"),
    *("update", "mfstart", "module", "publishshard"),
)
LIGHT = 0x8000
VERSION = 1

# The first byte of the header's message flags.
PAUSED, FORCE_ACK, EXTENSION_DATA = 1, 2, 4

START = struct.Struct(">4sIHHHH")
HEADER = struct.Struct(">4sIHHHHQQQ40s2048s40s46sH30xHHHB3s")
GOSSIP = struct.Struct(">40sII46sHHHHxx")
EXTENSION = struct.Struct(">IHH")
PORT = struct.Struct(">H6x")
FORGOTTEN = struct.Struct(">40sQ")
PUBLISH_SIZES = struct.Struct(">II")
MODULE_START = struct.Struct(">QIB")
UPDATE_BODY = struct.Struct(f">Q40s{BITMAP_BYTES}s")
HEADER_BYTES = HEADER.size
NO_NODE = bytes(40)

HOSTNAME, HUMAN_NAME, FORGOTTEN_NODE, SHARD_ID = range(4)
CLIENT_IPV4, CLIENT_IPV6, CLIENT_PORT, CLIENT_TLS_PORT, ZONE = range(4, 9)

# A message that may carry payload of users is bounded by what one RESP string may hold.
MAX_PAYLOAD = 512 * 1024 * 1024
MAX_CONTROL = HEADER_BYTES + 65535 * (GOSSIP.size + 64)

NODE_ID = re.compile(rb"[0-9a-z]{40}")
ADDRESS = re.compile(rb"[0-9A-Za-z._:%-]*")
# Printable, without what separates fields in nodes.conf.
LABEL = re.compile(rb"[!#-+\--<>-~]*")


class BadMessage(ValueError):
    """Bytes that are no message of the bus. The link they came by can't be read any further."""


@frozen
class Header:
    """What every message but a light one tells about its sender.

    `slots` is the set served by the sender, or by its primary; `config_epoch` likewise;
    `primary` is the id of the primary it replicates, empty for a primary; `ip` is empty unless
    announced; `tls_port` is the other client port, 0 if there is none; `offset` is in bytes of
    the replication stream; `message_flags` is the first of three such bytes.
    """

    sender: str
    current_epoch: int = 0
    config_epoch: int = 0
    offset: int = 0
    slots: int = field(default=0, repr=to_text)
    primary: str = ""
    ip: str = ""
    port: int = 0
    tls_port: int = 0
    bus_port: int = 0
    flags: int = 0
    failing: bool = False
    message_flags: int = 0


@frozen
class Gossip:
    """What the sender of a ping says of another node. Times are in seconds of Unix time."""

    node_id: str
    ping_sent: int
    pong_received: int
    ip: str
    port: int
    bus_port: int
    flags: int
    tls_port: int = 0


@frozen
class Face:
    """Where clients are to reach a node if not where other nodes do, and in which zone it is."""

    ipv4: str = ""
    ipv6: str = ""
    port: int = 0
    tls_port: int = 0
    zone: str = ""


@frozen
class Extensions:
    """What follows the gossip. `forgotten` pairs ids with the seconds they stay forgotten;
    `others` are types this version gives no meaning to, with their padded bytes."""

    shard_id: str = ""
    hostname: str = ""
    human_name: str = ""
    forgotten: tuple[tuple[str, int], ...] = ()
    face: Face = Face()
    others: tuple[tuple[int, bytes], ...] = ()


@frozen
class Ping:
    """PING, its answer PONG, and MEET, which asks to be let in. `kind` is one of the three."""

    kind: int
    header: Header
    gossip: tuple[Gossip, ...] = ()
    extensions: Extensions | None = None


@frozen
class Fail:
    """A majority holds `node_id` for failed."""

    header: Header
    node_id: str
    kind = FAIL


@frozen
class Publish:
    """A message for the subscribers of a channel. A light one has no header."""

    header: Header | None
    channel: bytes
    payload: bytes
    sharded: bool = False

    @property
    def kind(self) -> int:
        return PUBLISHSHARD if self.sharded else PUBLISH


@frozen
class AuthRequest:
    """A replica asks for a vote in the epoch of its header."""

    header: Header
    kind = AUTH_REQUEST


@frozen
class AuthAck:
    """A vote in the epoch of its header."""

    header: Header
    kind = AUTH_ACK


@frozen
class Update:
    """The slots of `node_id` under an epoch that the receiver seems not to know."""

    header: Header
    node_id: str
    config_epoch: int
    slots: int = field(repr=to_text)
    kind = UPDATE


@frozen
class ManualFailoverStart:
    """A replica asks its primary to pause its clients and tell the offset."""

    header: Header
    kind = MFSTART


@frozen
class Module:
    """A message between modules; read so that it can be passed over."""

    header: Header
    module_id: int
    module_type: int
    payload: bytes
    kind = MODULE


@frozen
class Unknown:
    """A well-formed message of a type that this version doesn't know."""

    header: Header
    kind: int


Message = (
    Ping | Fail | Publish | AuthRequest | AuthAck | Update | ManualFailoverStart | Module | Unknown
)


# What is told by its type alone.
BARE: dict[int, type[AuthRequest] | type[AuthAck] | type[ManualFailoverStart]] = {
    AUTH_REQUEST: AuthRequest,
    AUTH_ACK: AuthAck,
    MFSTART: ManualFailoverStart,
}


def encode(message: Message) -> bytes:
    """The bytes of a message; those of an `Unknown` can't be made (ValueError)."""
    match message:
        case Ping():
            return _encode_ping(message)
        case Fail():
            return _seal(message.header, FAIL, message.node_id.encode())
        case Publish():
            return _encode_publish(message)
        case AuthRequest() | AuthAck() | ManualFailoverStart():
            return _seal(message.header, message.kind, b"")
        case Update():
            owner = message.node_id.encode()
            body = UPDATE_BODY.pack(message.config_epoch, owner, to_bytes(message.slots))
            return _seal(message.header, UPDATE, body)
        case Module():
            start = MODULE_START.pack(message.module_id, len(message.payload), message.module_type)
            return _seal(message.header, MODULE, start + message.payload)
    raise ValueError(f"no message that can be sent: {message!r}")


def _seal(header: Header, kind: int, body: bytes, count: int = 0, extensions: int = 0) -> bytes:
    flags = header.message_flags | (EXTENSION_DATA if extensions else 0)
    return (
        HEADER.pack(
            b"RCmb",
            HEADER_BYTES + len(body),
            VERSION,
            header.port,
            kind,
            count,
            header.current_epoch,
            header.config_epoch,
            header.offset,
            header.sender.encode(),
            to_bytes(header.slots),
            header.primary.encode(),
            header.ip.encode(),
            extensions,
            header.tls_port,
            header.bus_port,
            header.flags,
            header.failing,
            bytes((flags, 0, 0)),
        )
        + body
    )


def _encode_ping(message: Ping) -> bytes:
    parts = [
        GOSSIP.pack(
            entry.node_id.encode(),
            entry.ping_sent,
            entry.pong_received,
            entry.ip.encode(),
            entry.port,
            entry.bus_port,
            entry.flags,
            entry.tls_port,
        )
        for entry in message.gossip
    ]
    extensions = list(_extension_fields(message.extensions)) if message.extensions else []
    parts += [EXTENSION.pack(8 + len(data), kind, 0) + data for kind, data in extensions]
    return _seal(
        message.header, message.kind, b"".join(parts), len(message.gossip), len(extensions)
    )


def _extension_fields(extensions: Extensions) -> Iterator[tuple[int, bytes]]:
    """(type, padded data) of each, in the order of Valkey."""
    if extensions.hostname:
        yield HOSTNAME, _padded(extensions.hostname)
    if extensions.human_name:
        yield HUMAN_NAME, _padded(extensions.human_name)
    yield from _face_fields(extensions.face)
    yield from extensions.others
    for node_id, ttl_s in extensions.forgotten:
        yield FORGOTTEN_NODE, FORGOTTEN.pack(node_id.encode(), ttl_s)
    if extensions.shard_id:
        yield SHARD_ID, extensions.shard_id.encode()


def _face_fields(face: Face) -> Iterator[tuple[int, bytes]]:
    for kind, text in ((CLIENT_IPV4, face.ipv4), (CLIENT_IPV6, face.ipv6)):
        if text:
            yield kind, _padded(text)
    for kind, port in ((CLIENT_PORT, face.port), (CLIENT_TLS_PORT, face.tls_port)):
        if port:
            yield kind, PORT.pack(port)
    if face.zone:
        yield ZONE, _padded(face.zone)


def _padded(text: str) -> bytes:
    """A text with its final NUL, filled up to a multiple of eight bytes."""
    data = text.encode() + b"\0"
    return data + bytes(-len(data) % 8)


def _encode_publish(message: Publish) -> bytes:
    body = (
        PUBLISH_SIZES.pack(len(message.channel), len(message.payload))
        + message.channel
        + message.payload
    )
    if message.header is not None:
        return _seal(message.header, message.kind, body)
    total = START.size + len(body)
    return START.pack(b"RCmb", total, VERSION, 0, message.kind | LIGHT, 0) + body


def decode(packet: bytes) -> Message:
    """The message that a whole packet holds; raises `BadMessage`."""
    if len(packet) < START.size:
        raise BadMessage("shorter than any message")
    total, kind = check_start(packet)
    if total != len(packet):
        raise BadMessage(f"{len(packet)} bytes where {total} were announced")
    if kind & LIGHT:
        return _decode_publish(None, kind & ~LIGHT, packet, START.size)
    header, count, extensions = _decode_header(packet)
    match kind:
        case 0 | 1 | 2:
            return _decode_ping(header, kind, packet, count, extensions)
        case 3:
            _expect(packet, HEADER_BYTES + 40)
            return Fail(header, _node_id(packet[HEADER_BYTES:]))
        case 4 | 10:
            return _decode_publish(header, kind, packet, HEADER_BYTES)
        case 5 | 6 | 8:
            _expect(packet, HEADER_BYTES)
            return BARE[kind](header)
        case 7:
            _expect(packet, HEADER_BYTES + UPDATE_BODY.size)
            epoch, owner, claimed = UPDATE_BODY.unpack_from(packet, HEADER_BYTES)
            return Update(header, _node_id(owner), epoch, from_bytes(claimed))
        case 9:
            return _decode_module(header, packet)
    return Unknown(header, kind)


def check_start(packet: bytes | bytearray) -> tuple[int, int]:
    """(total length, type) from the first 16 bytes of a packet; raises `BadMessage`."""
    signature, total, version, _, kind, _ = START.unpack_from(packet)
    if signature != b"RCmb":
        raise BadMessage("no signature of the cluster bus")
    if version != VERSION:
        raise BadMessage(f"version {version} of the cluster bus")
    if kind & LIGHT and kind & ~LIGHT not in (PUBLISH, PUBLISHSHARD):
        raise BadMessage(f"a message of type {kind & ~LIGHT} can't be light")
    shortest = START.size if kind & LIGHT else HEADER_BYTES
    carries_payload = kind & ~LIGHT in (PUBLISH, PUBLISHSHARD, MODULE)
    longest = HEADER_BYTES + MAX_PAYLOAD if carries_payload else MAX_CONTROL
    if not shortest <= total <= longest:
        raise BadMessage(f"a length of {total} bytes")
    return total, kind


def _expect(packet: bytes, length: int) -> None:
    if len(packet) != length:
        raise BadMessage(f"{len(packet)} bytes where {length} were expected")


def _decode_header(packet: bytes) -> tuple[Header, int, int]:
    """(header, gossip sections, extensions)"""
    fields = HEADER.unpack_from(packet)
    _, _, _, port, _, count, current_epoch, config_epoch, offset, sender, claimed = fields[:11]
    primary, ip, extensions, tls_port, bus_port, flags, state, message_flags = fields[11:]
    header = Header(
        sender=_node_id(sender),
        current_epoch=current_epoch,
        config_epoch=config_epoch,
        offset=offset,
        slots=from_bytes(claimed),
        primary="" if primary == NO_NODE else _node_id(primary),
        ip=_text(ip, ADDRESS),
        port=port,
        tls_port=tls_port,
        bus_port=bus_port,
        flags=flags,
        failing=state != 0,
        message_flags=message_flags[0],
    )
    return header, count, extensions if message_flags[0] & EXTENSION_DATA else 0


# Ids and addresses come again and again: a ping of a small cluster has no others.
@lru_cache(4096)
def _node_id(raw: bytes) -> str:
    if not NODE_ID.fullmatch(raw):
        raise BadMessage(f"not a node id: {raw[:40]!r}")
    return raw.decode()


@lru_cache(4096)
def _text(raw: bytes, allowed: re.Pattern[bytes]) -> str:
    """The text up to the first NUL."""
    text = raw.partition(b"\0")[0]
    if not allowed.fullmatch(text):
        raise BadMessage(f"not a name or address: {text[:64]!r}")
    return text.decode("ascii")


def _decode_ping(header: Header, kind: int, packet: bytes, count: int, extensions: int) -> Ping:
    end = HEADER_BYTES + count * GOSSIP.size
    if end > len(packet):
        raise BadMessage(f"{count} gossip sections in {len(packet)} bytes")
    gossip = tuple(
        Gossip(_node_id(node_id), ping, pong, _text(ip, ADDRESS), port, bus_port, flags, tls_port)
        for node_id, ping, pong, ip, port, bus_port, flags, tls_port in GOSSIP.iter_unpack(
            packet[HEADER_BYTES:end]
        )
    )
    extras = _decode_extensions(packet, end, extensions) if extensions else None
    if not extensions:
        _expect(packet, end)
    return Ping(kind, header, gossip, extras)


_TEXTS = {
    HOSTNAME: ADDRESS,
    HUMAN_NAME: LABEL,
    CLIENT_IPV4: ADDRESS,
    CLIENT_IPV6: ADDRESS,
    ZONE: LABEL,
}


def _decode_extensions(packet: bytes, at: int, count: int) -> Extensions:
    texts = dict.fromkeys((SHARD_ID, *_TEXTS), "")
    ports = {CLIENT_PORT: 0, CLIENT_TLS_PORT: 0}
    forgotten: list[tuple[str, int]] = []
    others: list[tuple[int, bytes]] = []
    for _ in range(count):
        kind, data = _extension_at(packet, at)
        at += EXTENSION.size + len(data)
        if kind in _TEXTS:
            texts[kind] = _text(data, _TEXTS[kind])
        elif kind in ports:
            if len(data) != PORT.size:
                raise BadMessage("a port of the wrong length")
            (ports[kind],) = PORT.unpack(data)
        elif kind == SHARD_ID:
            texts[kind] = _node_id(data)
        elif kind == FORGOTTEN_NODE:
            if len(data) != FORGOTTEN.size:
                raise BadMessage("a forgotten node of the wrong length")
            node_id, ttl_s = FORGOTTEN.unpack(data)
            forgotten.append((_node_id(node_id), ttl_s))
        else:
            others.append((kind, data))
    _expect(packet, at)
    face = Face(
        texts[CLIENT_IPV4],
        texts[CLIENT_IPV6],
        ports[CLIENT_PORT],
        ports[CLIENT_TLS_PORT],
        texts[ZONE],
    )
    names = (texts[SHARD_ID], texts[HOSTNAME], texts[HUMAN_NAME])
    return Extensions(*names, tuple(forgotten), face, tuple(others))


def _extension_at(packet: bytes, at: int) -> tuple[int, bytes]:
    """(type, padded data) of the extension that starts at `at`."""
    if at + EXTENSION.size > len(packet):
        raise BadMessage("extensions that end too early")
    length, kind, _ = EXTENSION.unpack_from(packet, at)
    if length < EXTENSION.size or length % 8 or at + length > len(packet):
        raise BadMessage(f"an extension of {length} bytes")
    return kind, packet[at + EXTENSION.size : at + length]


def _decode_publish(header: Header | None, kind: int, packet: bytes, at: int) -> Publish:
    if len(packet) < at + PUBLISH_SIZES.size:
        raise BadMessage("a publish without its sizes")
    channel_size, payload_size = PUBLISH_SIZES.unpack_from(packet, at)
    at += PUBLISH_SIZES.size
    _expect(packet, at + channel_size + payload_size)
    channel = bytes(packet[at : at + channel_size])
    return Publish(header, channel, bytes(packet[at + channel_size :]), kind == PUBLISHSHARD)


def _decode_module(header: Header, packet: bytes) -> Module:
    if len(packet) < HEADER_BYTES + MODULE_START.size:
        raise BadMessage("a module message without its start")
    module_id, size, module_type = MODULE_START.unpack_from(packet, HEADER_BYTES)
    _expect(packet, HEADER_BYTES + MODULE_START.size + size)
    return Module(header, module_id, module_type, packet[HEADER_BYTES + MODULE_START.size :])


class Splitter:
    """Cuts a link's bytes into messages: `feed` what came, then `next_message` until None.

    Keeps at most one unfinished message, whose announced length is checked when its first 16
    bytes are there. After a `BadMessage` the stream has no start any more: close the link.

    size: bytes of the message that was given last.
    """

    __slots__ = ("_buffer", "size")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self.size = 0

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the link."""
        self._buffer += data

    def next_message(self) -> Message | None:
        """The next whole message, or None till more bytes come; raises `BadMessage`."""
        if len(self._buffer) < START.size:
            return None
        total, _ = check_start(self._buffer)
        if len(self._buffer) < total:
            return None
        packet = bytes(self._buffer[:total])
        del self._buffer[:total]
        self.size = total
        return decode(packet)
