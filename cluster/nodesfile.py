"""nodes.conf: a view as text, and back.

A line per node as in CLUSTER NODES, but for the address, which carries auxiliary fields
(`ip:port@bus,hostname,shard-id=...`, Redis 7.2 and Valkey; 7.0 stops after the hostname), and
last `vars currentEpoch N lastVoteEpoch N`. Nodes in handshake aren't kept. Two variables of ours
follow where there is something to be said, which real servers pass over: what a node knew of
doubtful owners it must know after a restart too, or it would tell others wrong things as true.
"""

from random import Random

from attrs import frozen

from cluster.message import Face
from cluster.slots import SLOTS, parse_range, to_text
from cluster.view import (
    FAIL,
    FLAG_WORDS,
    MYSELF,
    NOADDR,
    PFAIL,
    PRIMARY,
    REPLICA,
    Node,
    View,
    new_id,
)

FLAG_OF = {word: flag for flag, word in FLAG_WORDS} | {"noflags": 0}


class CorruptFile(ValueError):
    """A nodes.conf that can't be read; its text says the line and what is wrong there."""


def fresh_view(rng: Random) -> View:
    """The view of a node that has no nodes.conf: an empty primary, alone."""
    return View(Node(new_id(rng), new_id(rng), flags=MYSELF | PRIMARY))


def dump(view: View) -> str:
    """The text of nodes.conf."""
    lines = [view.line(node, _whereabouts(node)) for node in view.order if not node.in_handshake]
    values: dict[str, int | str] = {
        "currentEpoch": view.current_epoch,
        "lastVoteEpoch": view.last_vote_epoch,
        "disclaimedSlots": _slots_word(view.disclaimed),
        "cededSlots": _slots_word(view.ceded),
    }
    told = [f"{name} {value}" for name, value in values.items() if value != ""]
    lines.append(f"vars {' '.join(told)}")
    return "".join(f"{line}\n" for line in lines)


def _slots_word(slots: int) -> str:
    return to_text(slots).replace(" ", ",")


def _whereabouts(node: Node) -> str:
    """Where a node is, and what else is known of it."""
    face = node.face
    fields = [
        ("nodename", node.human_name),
        ("availability-zone", face.zone),
        ("client-tls-port", face.tls_port),
        ("client-tcp-port", face.port),
        ("client-ipv6", face.ipv6),
        ("client-ipv4", face.ipv4),
        ("tls-port", str(node.tls_port)),
        ("shard-id", node.shard_id),
    ]
    auxiliary = "".join(f",{name}={value}" for name, value in fields if value)
    return f"{node.ip}:{node.port}@{node.bus_port},{node.hostname}{auxiliary}"


def load(text: str, rng: Random, now: int = 0) -> View:
    """The view that a text holds; raises `CorruptFile`.

    `rng` gives shard ids where the text has none; a node that is FAIL counts as failed at `now`.
    """
    if not text.endswith("\n"):
        raise CorruptFile("nodes.conf: the last line is cut off")
    lines = [
        (number, words)
        for number, line in enumerate(text.splitlines(), 1)
        if (words := line.split())
    ]
    entries = [_parse(number, words) for number, words in lines if words[0] != "vars"]
    view = _view_of(entries, rng, now)
    for number, words in lines:
        if words[0] == "vars":
            _read_vars(view, number, words)
    epochs = [node.config_epoch for node in view.order]
    view.current_epoch = max(view.current_epoch, *epochs)
    view.restarted = len(view.order) > 1 or view.myself.slots != 0
    return view


@frozen
class _Entry:
    number: int
    node_id: str
    address: str
    flags: int
    primary: str
    times: tuple[int, int]
    epoch: int
    slots: list[str]


def _parse(number: int, words: list[str]) -> _Entry:
    if len(words) < 8:
        raise CorruptFile(f"nodes.conf:{number}: {len(words)} fields where 8 belong")
    try:
        flags = sum({FLAG_OF[word] for word in words[2].split(",")})
        times = int(words[4]), int(words[5])
        return _Entry(number, words[0], words[1], flags, words[3], times, int(words[6]), words[8:])
    except (KeyError, ValueError) as error:
        raise CorruptFile(f"nodes.conf:{number}: {error}") from None


def _view_of(entries: list[_Entry], rng: Random, now: int) -> View:
    mine = [entry for entry in entries if entry.flags & MYSELF]
    if len(mine) != 1:
        raise CorruptFile(f"nodes.conf: {len(mine)} lines are about this node itself")
    nodes = {entry.node_id: _node(entry, rng, now) for entry in entries}
    if len(nodes) != len(entries):
        raise CorruptFile("nodes.conf: two lines about one node")
    view = View(nodes[mine[0].node_id])
    for node in nodes.values():
        if node is not view.myself:
            view.add(node)
    for entry in entries:
        _place(view, nodes[entry.node_id], entry)
    return view


def _node(entry: _Entry, rng: Random, now: int) -> Node:
    """The node of a line, but for its role and slots."""
    if not _is_id(entry.node_id):
        raise CorruptFile(f"nodes.conf:{entry.number}: not a node id: {entry.node_id}")
    flags = entry.flags & ~(REPLICA | PRIMARY)
    node = Node(entry.node_id, "", flags=flags, created=now)
    where, *auxiliary = entry.address.split(",")
    node.hostname = auxiliary[0] if auxiliary else ""
    fields = dict(field.partition("=")[::2] for field in auxiliary[1:])
    try:
        node.ip, node.port, node.bus_port = _address(where)
        node.tls_port = _port(fields.get("tls-port", ""))
        node.port = _port(fields.get("tcp-port", "")) or node.port
        node.face = Face(
            fields.get("client-ipv4", ""),
            fields.get("client-ipv6", ""),
            _port(fields.get("client-tcp-port", "")),
            _port(fields.get("client-tls-port", "")),
            fields.get("availability-zone", ""),
        )
    except ValueError:
        raise CorruptFile(f"nodes.conf:{entry.number}: not an address: {entry.address}") from None
    node.human_name = fields.get("nodename", "")
    node.shard_id = fields.get("shard-id", "") or new_id(rng)
    if not _is_id(node.shard_id):
        raise CorruptFile(f"nodes.conf:{entry.number}: not a shard id: {node.shard_id}")
    if not (node.ip or node.flags & MYSELF):
        node.flags |= NOADDR
    # Times of the clock before the restart say nothing about pings of this run.
    node.pong_received = entry.times[1]
    if node.flags & (FAIL | PFAIL):
        node.fail_time, node.failed_before = now, True
    return node


def _is_id(text: str) -> bool:
    return len(text) == 40 and text.isascii() and text.isalnum()


def _address(text: str) -> tuple[str, int, int]:
    """ip, port and bus port of `ip:port@bus`, or of `ip:port` in files older than Redis 4."""
    where, _, bus_port = text.partition("@")
    ip, colon, port = where.rpartition(":")
    if not colon:
        raise ValueError(text)
    return ip, _port(port), _port(bus_port) or _port(port) + 10000


def _port(text: str) -> int:
    """A port number, 0 for none; ValueError if it is neither."""
    port = int(text or "0")
    if not 0 <= port < 65536:
        raise ValueError(text)
    return port


def _place(view: View, node: Node, entry: _Entry) -> None:
    """Set the role, epoch and slots of a line, all nodes being known."""
    if entry.flags & REPLICA:
        primary = None if entry.primary == "-" else view.nodes.get(entry.primary)
        if primary is None and entry.primary != "-":
            raise CorruptFile(f"nodes.conf:{entry.number}: an unknown primary {entry.primary}")
        view.make_replica(node, primary)
    elif entry.flags & PRIMARY:
        view.make_primary(node)
    # A replica's line shows its primary's epoch: its own starts from that too.
    node.config_epoch = entry.epoch
    for word in entry.slots:
        try:
            _read_slot_word(view, node, word)
        except (KeyError, ValueError) as error:
            raise CorruptFile(f"nodes.conf:{entry.number}: {error}") from None


def _read_slot_word(view: View, node: Node, word: str) -> None:
    if not word.startswith("["):
        slots = parse_range(word)
        if slots & ~view.unassigned:
            raise ValueError(f"slots {word} belong to another node too")
        view.assign(slots, node)
        return
    slot_text, _, rest = word.strip("[]").partition("-")
    slot = int(slot_text)
    if not 0 <= slot < SLOTS or rest[:2] not in (">-", "<-"):
        raise ValueError(f"not a slot on the move: {word}")
    moves = view.migrating if rest[0] == ">" else view.importing
    moves[slot] = view.nodes[rest[2:]]


def _read_vars(view: View, number: int, words: list[str]) -> None:
    """Variables come in pairs of name and value; unknown ones are passed over."""
    values = dict(zip(words[1::2], words[2::2], strict=False))
    try:
        view.current_epoch = int(values.get("currentEpoch", "0"))
        view.last_vote_epoch = int(values.get("lastVoteEpoch", "0"))
        foreign = ~(view.unassigned | view.myself.slots)
        view.disclaimed = _parse_slots(values.get("disclaimedSlots", "")) & foreign
        view.ceded = _parse_slots(values.get("cededSlots", "")) & ~view.myself.slots
    except ValueError as error:
        raise CorruptFile(f"nodes.conf:{number}: {error}") from None


def _parse_slots(word: str) -> int:
    slots = 0
    for part in filter(None, word.split(",")):
        slots |= parse_range(part)
    return slots
