"""SUBSCRIBE UNSUBSCRIBE PSUBSCRIBE PUNSUBSCRIBE SSUBSCRIBE SUNSUBSCRIBE PUBLISH SPUBLISH PUBSUB."""

from collections.abc import Iterable

from node.command import FAST, LOADING, MAY_REPLICATE, NOSCRIPT, PUBSUB, STALE, Keys, command
from node.commands.help import help_text
from node.execute import log_beside
from node.pubsub import CHANNEL, PATTERN, SHARD, Kind
from node.replies import NO_REPLY, Encoded, Push, ReplyError
from node.resp import encode
from node.session import REPLY_ON, Session

_SUBSCRIBING = PUBSUB | NOSCRIPT | LOADING | STALE
_PUBLISHING = PUBSUB | LOADING | STALE | FAST | MAY_REPLICATE
_ASKING = PUBSUB | LOADING | STALE


def _confirm(session: Session, confirmations: Iterable[Push]) -> Encoded | object:
    """One push for each name; they go out even where the client wants no replies."""
    data = b"".join(encode(push, session.protocol) for push in confirmations)
    if session.reply_mode == REPLY_ON:
        return Encoded(data)
    session.push_encoded(data)
    return NO_REPLY


def _subscribe(session: Session, kind: Kind, names: list[bytes]) -> Encoded | object:
    pubsub = session.node.pubsub
    return _confirm(session, [pubsub.subscribe(session, kind, name) for name in names])


def _unsubscribe(session: Session, kind: Kind, given: list[bytes]) -> Encoded | object:
    """Without names: from all of that kind, or one confirmation that there is none."""
    pubsub = session.node.pubsub
    mine = session.subscriptions.names[kind] if session.subscriptions is not None else ()
    names: list[bytes | None] = [*(given or mine)] or [None]
    return _confirm(session, [pubsub.unsubscribe(session, kind, name) for name in names])


@command(
    "SUBSCRIBE channel [channel ...]",
    flags=_SUBSCRIBING,
    group="pubsub",
    since="2.0.0",
    complexity="O(N) where N is the number of channels to subscribe to.",
)
def subscribe(session: Session, args: list[bytes]):
    """Listens to channels."""
    return _subscribe(session, CHANNEL, args[1:])


@command(
    "UNSUBSCRIBE [channel ...]",
    flags=_SUBSCRIBING,
    group="pubsub",
    since="2.0.0",
    complexity="O(N) where N is the number of channels to unsubscribe.",
)
def unsubscribe(session: Session, args: list[bytes]):
    """Listens to channels no longer, or to none at all."""
    return _unsubscribe(session, CHANNEL, args[1:])


@command(
    "PSUBSCRIBE pattern [pattern ...]",
    flags=_SUBSCRIBING,
    group="pubsub",
    since="2.0.0",
    complexity="O(N) where N is the number of patterns to subscribe to.",
)
def psubscribe(session: Session, args: list[bytes]):
    """Listens to all channels whose name matches a pattern."""
    return _subscribe(session, PATTERN, args[1:])


@command(
    "PUNSUBSCRIBE [pattern ...]",
    flags=_SUBSCRIBING,
    group="pubsub",
    since="2.0.0",
    complexity="O(N) where N is the number of patterns to unsubscribe.",
)
def punsubscribe(session: Session, args: list[bytes]):
    """Listens to patterns no longer, or to none at all."""
    return _unsubscribe(session, PATTERN, args[1:])


@command(
    "SSUBSCRIBE shardchannel [shardchannel ...]",
    flags=_SUBSCRIBING,
    group="pubsub",
    since="7.0.0",
    keys=(Keys("NOT_KEY", 1, last=-1),),
    complexity="O(N) where N is the number of shard channels to subscribe to.",
)
def ssubscribe(session: Session, args: list[bytes]):
    """Listens to shard channels."""
    return _subscribe(session, SHARD, args[1:])


@command(
    "SUNSUBSCRIBE [shardchannel ...]",
    flags=_SUBSCRIBING,
    group="pubsub",
    since="7.0.0",
    keys=(Keys("NOT_KEY", 1, last=-1),),
    complexity="O(N) where N is the number of shard channels to unsubscribe.",
)
def sunsubscribe(session: Session, args: list[bytes]):
    """Listens to shard channels no longer, or to none at all."""
    return _unsubscribe(session, SHARD, args[1:])


@command(
    "PUBLISH channel message",
    flags=_PUBLISHING,
    group="pubsub",
    since="2.0.0",
    complexity="O(N+M) where N is the number of clients subscribed to the receiving channel and "
    "M is the total number of subscribed patterns (by any client).",
)
def publish(session: Session, args: list[bytes]):
    """Sends a message to a channel; answers how many clients of this node got it."""
    node = session.node
    count = node.pubsub.publish(args[1], args[2])
    if node.topology.clustered:
        node.topology.publish(args[1], args[2], sharded=False)
    else:
        log_beside(node, session, args)
    return _with_late(session, count)


@command(
    "SPUBLISH shardchannel message",
    flags=_PUBLISHING,
    group="pubsub",
    since="7.0.0",
    keys=(Keys("NOT_KEY"),),
    complexity="O(N) where N is the number of clients subscribed to the receiving shard channel.",
)
def spublish(session: Session, args: list[bytes]):
    """Sends a message to a shard channel; answers how many clients of this node got it."""
    node = session.node
    count = node.pubsub.publish_to_shard(args[1], args[2])
    if node.topology.clustered:
        node.topology.publish(args[1], args[2], sharded=True)
    else:
        log_beside(node, session, args)
    return _with_late(session, count)


def _with_late(session: Session, count: int) -> int | Encoded:
    """The number, and after it what the client has just sent itself, but not amid a transaction."""
    if not session.late or session.node.unit is not None or session.reply_mode != REPLY_ON:
        return count
    late, session.late = session.late, []
    return Encoded(b"".join([encode(count, session.protocol), *late]))


@command("PUBSUB", flags=0, group="pubsub", since="2.8.0", arity=-2)
def pubsub(session: Session, args: list[bytes]):
    """Tells about subscriptions."""


@command(
    "PUBSUB CHANNELS [pattern]",
    flags=_ASKING,
    group="pubsub",
    since="2.8.0",
    arity=-2,
    complexity="O(N) where N is the number of active channels, and assuming constant time pattern "
    "matching (relatively short channels and patterns)",
)
def pubsub_channels(session: Session, args: list[bytes]):
    """The channels that somebody listens to."""
    return session.node.pubsub.active(CHANNEL, _pattern(args))


@command(
    "PUBSUB NUMPAT",
    flags=_ASKING,
    group="pubsub",
    since="2.8.0",
    complexity="O(1)",
)
def pubsub_numpat(session: Session, args: list[bytes]):
    """How many patterns somebody listens to."""
    return len(session.node.pubsub.by_name[PATTERN])


@command(
    "PUBSUB NUMSUB [channel ...]",
    flags=_ASKING,
    group="pubsub",
    since="2.8.0",
    complexity="O(N) for the NUMSUB subcommand, where N is the number of requested channels",
)
def pubsub_numsub(session: Session, args: list[bytes]):
    """How many clients listen to each of these channels."""
    return _numbers(session, CHANNEL, args[2:])


@command(
    "PUBSUB SHARDCHANNELS [pattern]",
    flags=_ASKING,
    group="pubsub",
    since="7.0.0",
    arity=-2,
    complexity="O(N) where N is the number of active shard channels, and assuming constant time "
    "pattern matching (relatively short shard channels).",
)
def pubsub_shardchannels(session: Session, args: list[bytes]):
    """The shard channels that somebody listens to."""
    return session.node.pubsub.active(SHARD, _pattern(args))


@command(
    "PUBSUB SHARDNUMSUB [shardchannel ...]",
    flags=_ASKING,
    group="pubsub",
    since="7.0.0",
    complexity="O(N) for the SHARDNUMSUB subcommand, where N is the number of requested shard "
    "channels",
)
def pubsub_shardnumsub(session: Session, args: list[bytes]):
    """How many clients listen to each of these shard channels."""
    return _numbers(session, SHARD, args[2:])


@command("PUBSUB HELP", flags=LOADING | STALE, group="pubsub", since="6.2.0", complexity="O(1)")
def pubsub_help(session: Session, args: list[bytes]):
    """What the subcommands do."""
    return help_text(session, b"PUBSUB")


def _pattern(args: list[bytes]) -> bytes | None:
    if len(args) > 3:
        raise ReplyError(
            b"ERR unknown subcommand or wrong number of arguments for '%b'. Try PUBSUB HELP."
            % args[1]
        )
    return args[2] if len(args) > 2 else None


def _numbers(session: Session, kind: Kind, names: list[bytes]) -> list[bytes | int]:
    pubsub = session.node.pubsub
    return [part for name in names for part in (name, pubsub.subscribers(kind, name))]
