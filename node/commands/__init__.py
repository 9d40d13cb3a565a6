"""The commands, a file per group; importing this package fills node.command.TABLE."""

from node.commands import connection, list, string

__all__ = ["connection", "list", "string"]
