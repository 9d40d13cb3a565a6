"""The commands, a file per group; importing this package fills node.command.TABLE."""

from node.commands import (
    bitmap,
    client,
    command,
    connection,
    expire,
    generic,
    keyspace,
    list,
    pubsub,
    sort,
    string,
    transactions,
)

__all__ = [
    "bitmap",
    "client",
    "command",
    "connection",
    "expire",
    "generic",
    "keyspace",
    "list",
    "pubsub",
    "sort",
    "string",
    "transactions",
]
