"""The way out that the README shows: from our nodes to Valkey's, with the application running."""

import re
import shlex
import subprocess
from pathlib import Path

import attrs

from tests.cluster.company import FLAGS, PATIENCE, Company, company
from tests.cluster.writer import writing
from tests.conftest import wait_until

THIRDS = ("0-5460", "5461-10922", "10923-16383")
README = Path(__file__).parents[2] / "README.md"


@attrs.define
class Recipe:
    """The README's commands for one shard, with this one's ports and id."""

    nodes: Company
    program: str
    old: int
    new: int

    def lines(self) -> list[str]:
        text = README.read_text()
        section = text[text.index("## Moving on to Valkey") :]
        block = section.split("```")[1]
        return re.findall(r"^redis-cli .*?(?=  +#|$)", block, re.MULTILINE)

    def follow(self) -> None:
        """All steps, each after what the README has one wait for."""
        ports = {"8000": self.new, "7000": self.old}
        old_id = self.nodes.id(self.old)
        for line in self.lines():
            words = shlex.split(line.replace("$old", old_id))[1:]
            place = lambda number: str(self.nodes.servers[ports[number[0]]].port)  # noqa: E731
            words = [re.sub(r"\b[78]000\b", place, word) for word in words]
            self._run(words)

    def _run(self, words: list[str]) -> None:
        done = subprocess.run([self.program, *words], capture_output=True, text=True, timeout=60)
        if "shutdown" not in words:  # which gets no answer
            assert done.returncode == 0, done.stdout + done.stderr
        if "info" in words:
            self.nodes.wait_replica(self.new, of=self.old)
        if "role" in words:
            self.nodes.wait_primary(self.new)
            self.nodes.wait_replica(self.old, of=self.new)


def test_valkey_takes_over_and_our_nodes_retire(our_server, valkey_server, redis_cli):
    nodes = company([our_server] * 3, THIRDS)
    with writing(nodes) as writer:
        writer.wait_more(200)
        for old in range(3):
            nodes.servers.append(valkey_server(*FLAGS))
            Recipe(nodes, redis_cli, old, old + 3).follow()
            writer.wait_more()
        for old in range(3):
            assert nodes.servers[old].process.wait(PATIENCE) == 0
        for stays in nodes.running():
            few = lambda i=stays: nodes.fields(i)["cluster_known_nodes"] == "3"  # noqa: E731
            wait_until(few, "only those that stay are known", PATIENCE)
        nodes.wait_agree(*nodes.running())
        writer.wait_more(200)
        writer.stop()
        assert writer.lost() == {}
        assert writer.errors == []
