"""What a node says of its replication: INFO replication, ROLE."""

from typing import TYPE_CHECKING, Any

from node.replication.follower import ONLINE
from node.replication.replica import SYNC, PrimaryLink

if TYPE_CHECKING:
    from node.node import Node

Fields = dict[str, str | int]


def replication_info(node: "Node") -> Fields:
    """The fields of INFO replication, in their order."""
    role = node.role
    fields: Fields = {"role": "master" if role.link is None else "slave"}
    if role.link is not None:
        fields |= _link_fields(node, role.link)
    fields |= _replica_fields(node)
    history, log = role.history, node.log
    second = history.previous_end + 1 if history.previous_end >= 0 else -1
    return fields | {
        "master_failover_state": role.failover.state,
        "master_replid": history.id,
        "master_replid2": history.previous_id,
        "master_repl_offset": log.offset,
        "second_repl_offset": second,
        "repl_backlog_active": int(log.keeps_backlog),
        "repl_backlog_size": node.config.repl_backlog_size,
        "repl_backlog_first_byte_offset": log.first_offset() + 1 if log.keeps_backlog else 0,
        "repl_backlog_histlen": log.backlog_length() if log.keeps_backlog else 0,
    }


def _link_fields(node: "Node", link: PrimaryLink) -> Fields:
    now_ms, config = node.now_ms, node.config
    up = link.is_up()
    fields: Fields = {
        "master_host": link.host,
        "master_port": link.port,
        "master_link_status": "up" if up else "down",
        "master_last_io_seconds_ago": (now_ms - link.heard_ms) // 1000 if up else -1,
        "master_sync_in_progress": int(link.state == SYNC),
        "slave_read_repl_offset": node.log.offset + link.unapplied(),
        "slave_repl_offset": node.log.offset,
    }
    if link.transfer is not None:
        transfer = link.transfer
        total = -1 if transfer.mark else transfer.received + transfer.remaining
        fields |= {
            "master_sync_total_bytes": max(total, 0),
            "master_sync_read_bytes": transfer.received,
            "master_sync_left_bytes": transfer.remaining if not transfer.mark else -1,
            "master_sync_perc": f"{100 * transfer.received / total if total > 0 else 0:.2f}",
            "master_sync_last_io_seconds_ago": (now_ms - link.heard_ms) // 1000,
        }
    if not up:
        down_ms = -1000 if link.down_since_ms is None else now_ms - link.down_since_ms
        fields["master_link_down_since_seconds"] = down_ms // 1000
    return fields | {
        "slave_priority": config.replica_priority,
        "slave_read_only": int(config.replica_read_only),
        "replica_announced": int(config.replica_announced),
    }


def _replica_fields(node: "Node") -> Fields:
    primary = node.role.primary
    fields: Fields = {"connected_slaves": len(primary.replicas)}
    if node.config.min_replicas_to_write and node.config.min_replicas_max_lag:
        fields["min_slaves_good_slaves"] = primary.count_good()
    for number, replica in enumerate(primary.replicas):
        ip, port = replica.address
        lag = replica.lag_ms() // 1000 if replica.state == ONLINE else 0
        fields[f"slave{number}"] = (
            f"ip={ip},port={port},state={replica.state},offset={replica.acked},lag={lag}"
        )
    return fields


def role_reply(node: "Node") -> list[Any]:
    """The answer to ROLE."""
    role = node.role
    link = role.link
    if link is not None:
        offset = node.log.offset if link.is_up() else -1
        return [b"slave", link.host.encode(), link.port, link.state.encode(), offset]
    replicas = [
        [replica.address[0].encode(), b"%d" % replica.address[1], b"%d" % replica.acked]
        for replica in role.primary.replicas
        if replica.state == ONLINE
    ]
    return [b"master", node.log.offset, replicas]
