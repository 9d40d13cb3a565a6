"""The repository's own promises: scripts run, what the README names exists."""

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPTS = [*sorted((ROOT / "scripts").glob("[a-z]*")), ROOT / ".ci/run"]
COMMANDS = [path for path in SCRIPTS if path.is_file() and "." not in path.name]


def is_bash(path: Path) -> bool:
    return "bash" in path.read_text().partition("\n")[0] or path.suffix == ".sh"


@pytest.mark.parametrize("path", COMMANDS, ids=lambda path: path.name)
def test_a_script_is_executable_and_names_its_interpreter(path):
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/usr/bin/env ")


@pytest.mark.parametrize(
    "path",
    [path for path in SCRIPTS if path.is_file() and is_bash(path)],
    ids=lambda path: path.name,
)
def test_a_shell_script_parses(path):
    subprocess.run(["bash", "-n", path], check=True)


def test_every_script_the_readme_names_exists():
    named = set(re.findall(r"scripts/[\w.-]+", (ROOT / "README.md").read_text()))
    assert named
    assert [name for name in sorted(named) if not (ROOT / name).exists()] == []


def test_licence_and_metadata_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["license"]["text"] == "BSD-3-Clause"
    assert (ROOT / "LICENSE").read_text().startswith("BSD 3-Clause License")


def test_no_unfinished_business():
    unfinished = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|HA" + r"CK)\b|NotImplemented" + "Error")
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for top in ("node", "cluster", "tests", "scripts")
        for path in (ROOT / top).rglob("*")
        if path.suffix in (".py", ".sh", "") and path.is_file() and "node_modules" not in path.parts
        for match in unfinished.finditer(path.read_text(errors="replace"))
    ]
    assert found == []
