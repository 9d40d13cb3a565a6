"""What the core is asked and what it asks for, besides messages of the bus.

**Effects** are values. The driver carries a call's effects out in order. `Save` must be durable
before the next effect starts (with `sync` False it may be lost in a crash); it is always a
call's first effect and holds the view as the call left it, so this node never says or does what
a restart wouldn't remember. Of several calls only the last one's need be carried out, if all that
follow the first wait for it. `Send` may be lost. Everything else happens.

**Requests** are what a CLUSTER command, or the node itself, wants of the core. `Core.ask` gives
a result or raises `ClusterError`, whose text is Redis's error reply without its dash.
"""

from attrs import field, frozen

from cluster.message import Message
from cluster.slots import to_text


class ClusterError(Exception):
    """A request was refused, and nothing was changed."""


# ---- effects


@frozen
class Connect:
    """Open a TCP connection to a node's bus port, and then call `link_up`, or `refused` when the
    connection is refused, or `link_down` when it fails in another way."""

    link: int
    ip: str
    port: int


@frozen
class Send:
    """Send a message on a link that is up."""

    link: int
    message: Message


@frozen
class Close:
    """Close a link, whose number means nothing to the core any more."""

    link: int


@frozen
class Save:
    """Replace nodes.conf by this text; if `sync`, so that it outlives a crash of the machine."""

    text: str
    sync: bool


@frozen
class Follow:
    """Replicate this primary, from now on: the role is replica."""

    node_id: str
    ip: str
    port: int


@frozen
class Promote:
    """Stop replicating and be a primary with the data there is."""


@frozen
class Flush:
    """Drop all data, of all databases."""


@frozen
class DropSlots:
    """Drop the keys in this set of slots: they are served elsewhere. Many may have none."""

    slots: int = field(repr=to_text)


@frozen
class Pause:
    """Hold back clients' writes till `until` (ms), or till `Resume`."""

    until: int


@frozen
class Resume:
    """Let clients write again."""


@frozen
class Deliver:
    """Give a message that came by the bus to this node's own subscribers of the channel."""

    channel: bytes
    payload: bytes
    sharded: bool


@frozen
class Log:
    """A line for the log, in Redis's words. Levels are debug, verbose, notice and warning."""

    level: str
    text: str


@frozen
class Event:
    """A step of the cluster's history for machines to read.

    `kind` is one of suspected, cleared, failed, recovered, election, vote, denied, promoted,
    demoted, joined, forgotten, state; `node_id` is whom it is about; `detail` is the epoch of an
    election or vote, the reporter of a failure, or ok/fail.
    """

    kind: str
    node_id: str
    detail: str = ""


Effect = (
    Connect
    | Send
    | Close
    | Save
    | Follow
    | Promote
    | Flush
    | DropSlots
    | Pause
    | Resume
    | Deliver
    | Log
    | Event
)


# ---- requests


@frozen
class Meet:
    """CLUSTER MEET. Result: None."""

    ip: str
    port: int
    bus_port: int


@frozen
class AddSlots:
    """CLUSTER ADDSLOTS and ADDSLOTSRANGE: (first, last) pairs as given. Result: None."""

    ranges: tuple[tuple[int, int], ...]


@frozen
class DelSlots:
    """CLUSTER DELSLOTS and DELSLOTSRANGE, likewise. Result: None."""

    ranges: tuple[tuple[int, int], ...]


@frozen
class FlushSlots:
    """CLUSTER FLUSHSLOTS, refused while there are keys. Result: None."""


@frozen
class SetSlot:
    """CLUSTER SETSLOT slot STABLE, or MIGRATING, IMPORTING, NODE with a node id.

    `keys` is how many keys the slot holds here. With `rehearsed` it is only looked whether this
    may be done. A replica may be asked this by its primary alone. Result: None.
    """

    slot: int
    action: str
    node_id: str = ""
    keys: int = 0
    rehearsed: bool = False


@frozen
class BumpEpoch:
    """CLUSTER BUMPEPOCH. Result: `BUMPED n` or `STILL n`."""


@frozen
class SetConfigEpoch:
    """CLUSTER SET-CONFIG-EPOCH. Result: None."""

    epoch: int


@frozen
class Forget:
    """CLUSTER FORGET. Result: None."""

    node_id: str


@frozen
class Replicate:
    """CLUSTER REPLICATE; an empty id is NO ONE. Result: None."""

    node_id: str


@frozen
class Reset:
    """CLUSTER RESET SOFT or HARD. Result: None."""

    hard: bool


@frozen
class Failover:
    """CLUSTER FAILOVER; `mode` is empty, FORCE or TAKEOVER. Result: None."""

    mode: str = ""


@frozen
class SaveConfig:
    """CLUSTER SAVECONFIG. Result: None; a `Save` follows in any case."""


@frozen
class CountFailureReports:
    """CLUSTER COUNT-FAILURE-REPORTS. Result: how many are valid."""

    node_id: str


@frozen
class PublishAll:
    """Give a PUBLISH of this node, or with `sharded` an SPUBLISH, to the others. Result: None."""

    channel: bytes
    payload: bytes
    sharded: bool = False


@frozen
class TakeSlots:
    """The end of a move of slots as a whole: their owner has let go of them, and this node claims
    them under an epoch greater than any. Result: None."""

    slots: int = field(repr=to_text)


@frozen
class Loaded:
    """The node has loaded its data, with keys in these slots: a primary takes those that nobody
    serves and drops those that others serve. Result: None."""

    slots: int = field(repr=to_text)


Request = (
    Meet
    | AddSlots
    | DelSlots
    | FlushSlots
    | SetSlot
    | BumpEpoch
    | SetConfigEpoch
    | Forget
    | Replicate
    | Reset
    | Failover
    | SaveConfig
    | CountFailureReports
    | PublishAll
    | TakeSlots
    | Loaded
)
