"""The architecture, kept by machine: a module imports only from its own row or the rows above.

And rows that decide stay pure: no trio, sockets, clock, files or random source of their own.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# A name stands for a module, `name.*` for whatever a package holds; the longest match counts.
ROWS = {
    1: "node node.background node.clock node.disk node.host node.replies node.resp "
    "node.data node.data.* node.data.pattern",
    2: "node.data.keyspace node.data.digest node.data.expiry node.data.eviction "
    "node.config node.config.* "
    "node.persistence node.persistence.rdb node.persistence.rdb.* node.persistence.log "
    "node.persistence.aof node.persistence.aof.manifest node.persistence.aof.reader",
    3: "node.command node.session node.acl node.acl.* node.client_line node.pubsub "
    "node.blocking node.tracking node.transaction node.topology",
    4: "node.pause node.gate node.execute node.observe node.info node.housekeeper "
    "node.notifications node.monitor node.shutdown node.moving node.eviction "
    "node.slot_stats",
    5: "node.commands node.commands.* node.scripting node.scripting.*",
    6: "node.replication node.replication.* node.persistence.checkpoint "
    "node.persistence.loading node.persistence.saves node.persistence.aof.* node.expiring",
    7: "node.node",
    8: "node.process node.turns node.streams node.replication.links node.replication.source "
    "node.child node.children node.home node.watchdog node.server node.__main__",
    9: "cluster cluster.slots cluster.effects cluster.view cluster.message cluster.desk "
    "cluster.plan cluster.diagnosis",
    10: "cluster.speaker cluster.gossip cluster.failure cluster.election cluster.ownership "
    "cluster.assignment cluster.ceded cluster.moves "
    "cluster.slotmigration cluster.slotmigration.jobs cluster.nodesfile cluster.core",
    11: "cluster.directives cluster.routing cluster.member cluster.commands cluster.commands.* "
    "cluster.leftovers cluster.slotmigration.tail cluster.slotmigration.snapshot "
    "cluster.slotmigration.source cluster.slotmigration.target cluster.slotmigration.migrations",
    12: "cluster.simulation cluster.simulation.* cluster.checks",
    13: "cluster.configfile cluster.bus cluster.server cluster.client cluster.processes "
    "cluster.admin cluster.status cluster.launcher cluster.workload cluster.observer "
    "cluster.report cluster.drill cluster.filecheck cluster.restore cluster.census "
    "cluster.bykey cluster.operations cluster.membership cluster.request cluster.manage "
    "cluster.manage_members cluster.commandline cluster.__main__",
}
ROW_OF = {name: row for row, names in ROWS.items() for name in names.split()}

PURE = {1, 2, 3, 4, 5, 6, 7, 9, 10}
KNOWS_NO_NODE = {9, 10}
IMPURE_MODULES = {
    *("trio", "asyncio", "threading", "multiprocessing", "subprocess", "signal"),
    *("socket", "socketserver", "select", "selectors", "ssl"),
    *("time", "datetime", "random", "secrets", "uuid", "tempfile", "shutil"),
}
IMPURE_CALLS = {
    *("open", "io.open", "os.open", "os.fdopen", "os.fsync"),
    *("os.rename", "os.replace", "os.unlink", "os.urandom"),
}
# The two that wrap the world: everything else is handed one of these, or its virtual twin.
ALLOWED = {
    "node.clock": {"time"},
    "node.host": {"open", "secrets"},
    "node.disk": {"tempfile", "shutil", *IMPURE_CALLS},
}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path for top in ("node", "cluster") for path in ROOT.glob(f"{top}/**/*.py")
}


def row_of(module: str) -> int | None:
    if module in ROW_OF:
        return ROW_OF[module]
    return ROW_OF.get(f"{module.rpartition('.')[0]}.*")


def is_for_types_only(statement: ast.stmt) -> bool:
    return isinstance(statement, ast.If) and ast.unparse(statement.test).endswith("TYPE_CHECKING")


def running_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of a tree but those under `if TYPE_CHECKING`, which never run."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if not (isinstance(child, ast.stmt) and is_for_types_only(child)):
            yield from running_nodes(child)


@functools.cache
def imports(module: str, path: Path) -> list[tuple[int, str]]:
    """(line, dotted name) of everything a module imports; a name in a module may follow its dot."""
    return list(_imports(module, path))


def _imports(module: str, path: Path) -> Iterator[tuple[int, str]]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in running_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"


def imported_modules(module: str, path: Path) -> Iterator[tuple[int, str]]:
    """(line, module) of what a module imports from this project."""
    for line, name in imports(module, path):
        if name.partition(".")[0] in ("node", "cluster"):
            while name not in MODULES:
                name = name.rpartition(".")[0]
                assert name, f"{path}:{line} imports what isn't there"
            yield line, name


def dotted(node: ast.AST) -> str:
    """`a.b.c`, or nothing where it isn't names all through."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return before and f"{before}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def impurities(module: str, path: Path) -> Iterator[str]:
    allowed = ALLOWED.get(module, set())
    for line, name in imports(module, path):
        top = name.partition(".")[0]
        if top in IMPURE_MODULES - allowed and name not in ("random", "random.Random"):
            yield f"{path.name}:{line} imports {name}"
    uses_random = any(name == "random" for _, name in imports(module, path))
    for node in running_nodes(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = dotted(node.func)
            if called in IMPURE_CALLS - allowed:
                yield f"{path.name}:{node.lineno} calls {called}"
            if called in ("Random", "random.Random") and not node.args:
                yield f"{path.name}:{node.lineno} seeds its own randomness"
        if uses_random and isinstance(node, ast.Attribute):
            used = dotted(node)
            if used.startswith("random.") and used != "random.Random":
                yield f"{path.name}:{node.lineno} uses {used}"


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_only_from_its_row_or_above(module):
    row = row_of(module)
    assert row is not None, f"give {module} its row in ROWS"
    for line, imported in imported_modules(module, MODULES[module]):
        other = row_of(imported)
        assert other is not None and other <= row, (
            f"{module}:{line} (row {row}) imports {imported} (row {other})"
        )
        if row in KNOWS_NO_NODE:
            assert not imported.startswith("node"), f"{module}:{line} knows a node: {imported}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if row_of(name) in PURE))
def test_what_decides_does_nothing(module):
    assert list(impurities(module, MODULES[module])) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from trio import sleep",
        "import random\nrandom.random()",
        "from random import choice",
        "from random import Random\nRandom()",
        "def f():\n    import socket",
        "with open('x') as f: pass",
        "import os\nos.urandom(3)",
    ],
)
def test_an_impure_module_is_noticed(tmp_path, source):
    path = tmp_path / "bad.py"
    path.write_text(source)
    assert list(impurities("node.bad", path))


def test_types_and_given_randomness_are_pure(tmp_path):
    path = tmp_path / "good.py"
    path.write_text(
        "from random import Random\nfrom typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import trio\n"
        "def pick(source: Random):\n    return source.random() + Random(7).random()\n"
    )
    assert list(impurities("node.good", path)) == []
