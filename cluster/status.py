"""How the nodes of a cluster are: asked from each, as rows for a table or for plain lines."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import attrs
import trio

from cluster.admin import View
from cluster.client import SETBACKS, Address, Connection

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("node", "role", "slots", "keys", "offset", "lag", "state")


@attrs.frozen
class Row:
    """One node's line; lag is how many bytes a replica is behind its primary."""

    port: int
    role: str = "?"
    slots: str = ""
    keys: int | None = None
    offset: int | None = None
    lag: int | None = None
    state: str = "down"

    def cells(self) -> list[str]:
        values = (self.port, self.role, self.slots, self.keys, self.offset, self.lag, self.state)
        return ["" if value is None else str(value) for value in values]


@attrs.define(eq=False)
class Survey:
    """Asks every node, again and again, over connections that it keeps."""

    addresses: Sequence[Address]
    password: str | None = None
    timeout: float = 0.5
    _connections: dict[Address, Connection] = attrs.field(factory=dict)

    async def take(self) -> list[Row]:
        """One row for each node, in order of the addresses; who doesn't answer is down."""
        views: dict[Address, View | str] = {}
        async with trio.open_nursery() as nursery:
            for address in self.addresses:
                nursery.start_soon(self._ask, address, views)
        return [row_of(address, views) for address in self.addresses]

    async def _ask(self, address: Address, views: dict[Address, View | str]) -> None:
        connection = self._connections.pop(address, None)
        try:
            with trio.fail_after(self.timeout):
                if connection is None or not connection.is_open:
                    connection = await Connection.open(address, self.password)
                views[address] = await View.of(connection) or "loading"
        except trio.TooSlowError:
            views[address] = "silent"
        except SETBACKS:
            views[address] = "down"
        else:
            self._connections[address] = connection

    def close(self) -> None:
        for connection in self._connections.values():
            connection.close()


def row_of(address: Address, views: Mapping[Address, View | str]) -> Row:
    """The line of one node, given what each said, or a word why it said nothing."""
    view = views[address]
    if isinstance(view, str):
        return Row(address[1], state=view)
    me = view.myself
    if me.is_primary:
        return Row(address[1], "primary", me.slots, view.keys, view.offset, None, _state(view))
    primary_port = next((node.port for node in view.nodes if node.id == me.primary_id), None)
    primary = next((other for place, other in views.items() if place[1] == primary_port), None)
    lag = max(0, primary.offset - view.offset) if isinstance(primary, View) else None
    role = f"replica of {primary_port}"
    return Row(address[1], role, "", view.keys, view.offset, lag, _state(view))


def _state(view: View) -> str:
    if view.cluster["cluster_state"] != "ok":
        return "cluster fail"
    return "ok" if view.is_linked else "link down"


def plain(rows: Sequence[Row]) -> str:
    """The rows as lines of aligned words."""
    return aligned([list(COLUMNS), *(row.cells() for row in rows)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of as many words each, in columns."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def table(rows: Sequence[Row]) -> "Table":
    """The rows as a table for a terminal."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD)
    for name in COLUMNS:
        table.add_column(name, justify="right" if name in ("keys", "offset", "lag") else "left")
    for row in rows:
        *cells, state = row.cells()
        table.add_row(*cells, f"[{'green' if state == 'ok' else 'bold red'}]{state}[/]")
    return table
