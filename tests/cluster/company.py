"""Clusters of a few nodes, ours and real ones, as processes."""

import re
from collections.abc import Callable, Sequence
from typing import Any

import attrs

from tests.conftest import wait_until

Word = str | bytes | int
NODE_TIMEOUT = 3  # seconds
FLAGS = (
    *("--cluster-enabled", "yes", "--cluster-node-timeout", str(1000 * NODE_TIMEOUT)),
    *("--repl-diskless-sync-delay", "0", "--save", ""),
)
PATIENCE = 40  # seconds; the machine may be busy


@attrs.define(eq=False)
class Views:
    """What is said of nodes that don't come to agree."""

    company: "Company"
    indices: Sequence[int]

    def __str__(self) -> str:
        seen = (
            f"{i}: {self.company.fields(i)['cluster_state']} {self.company.nodes(i)}"
            for i in self.indices
        )
        return "all agree\n" + "\n".join(seen)


@attrs.define(eq=False)
class Company:
    """The nodes of one cluster: all know each other, and all slots are served."""

    servers: list[Any]

    def call(self, index: int, *command: Word) -> Any:
        """A command to one node; an error reply is returned."""
        return self.servers[index].call(*command)

    def id(self, index: int) -> str:
        return self.call(index, "CLUSTER", "MYID").decode()

    def fields(self, index: int, *command: Word) -> dict[str, str]:
        """INFO's or CLUSTER INFO's fields."""
        text = self.call(index, *(command or ("CLUSTER", "INFO"))).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    def nodes(self, index: int) -> dict[str, tuple[str, str, str]]:
        """What a node thinks of each: id -> flags, primary, slots."""
        lines = self.call(index, "CLUSTER", "NODES").decode().splitlines()
        rows = (line.split(" ") for line in lines)
        return {
            row[0]: (
                row[2].replace("myself,", ""),
                row[3],
                " ".join(sorted(word for word in row[8:] if word[0] != "[")),
            )
            for row in rows
        }

    def agree(self, indices: Sequence[int]) -> bool:
        """Whether these nodes are up and see the same."""
        if any(self.fields(i)["cluster_state"] != "ok" for i in indices):
            return False
        first, *others = (self.nodes(i) for i in indices)
        return "fail?" not in repr(first) and all(other == first for other in others)

    def wait_agree(self, *indices: int) -> None:
        chosen = indices or range(len(self.servers))
        wait_until(lambda: self.agree(chosen), Views(self, chosen), PATIENCE)

    def running(self) -> list[int]:
        """Those whose process has not ended."""
        alive = (server.process.poll() is None for server in self.servers)
        return [i for i, is_alive in enumerate(alive) if is_alive]

    def is_primary(self, index: int) -> bool:
        return self.call(index, "ROLE")[0] == b"master"

    def wait_primary(self, index: int) -> None:
        wait_until(lambda: self.is_primary(index), f"node {index} is a primary", PATIENCE)

    def wait_replica(self, index: int, of: int) -> None:
        """Until one is the other's replica, and has its data; all know it."""
        linked = ("INFO", "replication")

        def is_up() -> bool:
            fields = self.fields(index, *linked)
            follows = fields.get("master_port") == str(self.servers[of].port)
            return follows and fields.get("master_link_status") == "up"

        wait_until(is_up, f"node {index} follows {of}", PATIENCE)
        online = lambda: "state=online" in repr(self.fields(of, *linked))  # noqa: E731
        wait_until(online, f"node {of} has a replica", PATIENCE)

    def join(self, start: Callable[..., Any], *flags: str) -> int:
        """Let another node in; its index."""
        self.servers.append(start(*FLAGS, *flags))
        self.call(0, "CLUSTER", "MEET", "127.0.0.1", self.servers[-1].port)
        self.wait_agree()
        return len(self.servers) - 1

    def replicate(self, index: int, of: int) -> None:
        asks = lambda: self.call(index, "CLUSTER", "REPLICATE", self.id(of)) == b"OK"  # noqa: E731
        wait_until(asks, f"node {index} becomes a replica of {of}", PATIENCE)
        self.wait_replica(index, of)

    def moves(self, index: int) -> list[str]:
        """The slots on the move, as a node's own line of CLUSTER NODES tells."""
        text = self.call(index, "CLUSTER", "NODES").decode()
        mine = next(line for line in text.splitlines() if "myself" in line)
        return re.findall(r"\[(\d+-[<>]-)", mine)


def company(starts: Sequence[Callable[..., Any]], slots: Sequence[str], *flags: str) -> Company:
    """A cluster: one node by each of `starts`, with slots such as "0-100 200-300" or none."""
    nodes = Company([start(*FLAGS, *flags) for start in starts])
    for i, text in enumerate(slots):
        edges = re.findall(r"\d+", text)
        if edges:
            assert nodes.call(i, "CLUSTER", "ADDSLOTSRANGE", *edges) == b"OK"
        if i:
            nodes.call(0, "CLUSTER", "MEET", "127.0.0.1", nodes.servers[i].port)
    nodes.wait_agree()
    return nodes
