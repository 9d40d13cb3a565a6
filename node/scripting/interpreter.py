"""The Lua runtime of a node.

Scripts get nothing of Python to hold: host functions are upvalues of our own Lua code, take and
give only strings, numbers and tables made here, and never raise. Where memory runs out while a
host function hands over its result, lupa's frames would be jumped over; so host functions are
entered only with memory to spare (lua/limits.lua), and `has_room` is asked before anything large
is handed over.
"""

import pkgutil
from collections.abc import Callable, Mapping
from typing import Any

import lupa.lua51 as lupa

from node.scripting.bytecode import adapt
from node.scripting.marks import ENDED, LARGE

MEMORY_MAX = 256 * 1024 * 1024  # bytes that scripts may use
_SPARE = 32 * 1024 * 1024  # more that Lua gets, for what the host hands over
_OVERHEAD = 64  # bytes of a value in a table, about

_FILES = (
    "protect",
    "limits",
    "patterns",
    "strings",
    "math",
    "binary",
    "cjson",
    "cmsgpack",
    "redis",
    "main",
)
_STACK = 200  # arguments; more are handed over in tables

Outcome = tuple[int, Any]
_ENDED: Outcome = (ENDED, None)


def _no_attributes(thing: object, name: object, is_setting: bool) -> str:
    raise AttributeError("Python is out of reach")


class Interpreter:
    """Compiles and runs; `host` are the functions and constants that lua/*.lua call."""

    def __init__(self, host: Mapping[bytes, Any]) -> None:
        self.lua = lua = lupa.LuaRuntime(
            encoding=None,
            attribute_filter=_no_attributes,
            register_eval=False,
            register_builtins=False,
            unpack_returned_tuples=True,
            max_memory=MEMORY_MAX + _SPARE,
        )
        self.base_memory = lua.get_memory_used(total=True)
        own = {b"memory_max": MEMORY_MAX, b"adapt": adapt}
        given, part = lua.table_from({**own, **host}), lua.table()
        for name in _FILES:
            source = pkgutil.get_data("node.scripting", f"lua/{name}.lua")
            assert source is not None
            lua.execute(source, given, part, name=b"=[sandbox]")
        self._compile_script: Callable[..., Any] = part[b"compile_script"]
        self._compile_library: Callable[..., Any] = part[b"compile_library"]
        self._load_library: Callable[..., Any] = part[b"load_library"]
        self.end_load: Callable[..., Any] = part[b"end_load"]
        self.forget_function: Callable[[int], None] = part[b"forget_function"]
        self._run_script: Callable[..., Outcome] = part[b"run_script"]
        self._run_function: Callable[..., Outcome] = part[b"run_function"]
        self._run_script_with: Callable[..., Outcome] = part[b"run_script_with"]
        self._run_function_with: Callable[..., Outcome] = part[b"run_function_with"]

    # --- memory ----------------------------------------------------------------------------------

    def memory_used(self) -> int:
        """Bytes."""
        return self.lua.get_memory_used(total=True)

    def has_room(self, size: int) -> bool:
        """Whether `size` bytes can be handed over."""
        return size < LARGE or self.lua.get_memory_used() + size < MEMORY_MAX

    def _make_room(self, size: int) -> bool:
        """Before a call: what an earlier script has left behind may have to go."""
        if self.lua.get_memory_used() + size < MEMORY_MAX // 2:
            return True
        self.lua.gccollect()
        return self.lua.get_memory_used() + size < MEMORY_MAX

    # --- compiling -------------------------------------------------------------------------------

    def compile_script(self, source: bytes) -> tuple[Any, bytes | None]:
        """(function, None), or (None, what is wrong)."""
        return self._compile(self._compile_script, source)

    def compile_library(self, source: bytes) -> tuple[Any, bytes | None]:
        """As compile_script; the function registers the library's functions when it is loaded."""
        return self._compile(self._compile_library, source)

    def _compile(self, compile_: Callable[..., Any], source: bytes) -> tuple[Any, bytes | None]:
        if not self._make_room(4 * len(source)):
            return None, b"not enough memory"
        try:
            made = compile_(source)
        except lupa.LuaError as error:
            return None, str(error).encode()
        return made if type(made) is tuple else (made, None)

    # --- running ---------------------------------------------------------------------------------

    def load_library(self, function: Any) -> bytes | None:
        """Let a library register its functions; what went wrong, or None.

        `end_load` must follow, once the hook may no longer end it.
        """
        try:
            return self._load_library(function)
        except lupa.LuaError as error:
            return str(error).encode()

    def run_script(
        self, function: Any, protocol: int, key_count: int, arguments: list[bytes]
    ) -> Outcome:
        """Run it with the first `key_count` arguments as KEYS, the others as ARGV.

        Returns (RESULT, value), (STATUS, text), (ERROR, text), (ENCODED, reply in wire form), or
        (ENDED, None) where the hook or the lack of memory ended it.
        """
        if not self._make_room(sum(map(len, arguments))):
            return _ENDED
        try:
            if len(arguments) < _STACK:
                return self._run_script(function, protocol, key_count, *arguments)
            keys, others = self._tables(arguments, key_count)
            return self._run_script_with(function, protocol, keys, others)
        except lupa.LuaError:
            return _ENDED

    def run_function(
        self, number: int, protocol: int, key_count: int, arguments: list[bytes]
    ) -> Outcome:
        """As run_script, for a registered function."""
        if not self._make_room(sum(map(len, arguments))):
            return _ENDED
        try:
            if len(arguments) < _STACK:
                return self._run_function(number, protocol, key_count, *arguments)
            keys, others = self._tables(arguments, key_count)
            return self._run_function_with(number, protocol, keys, others)
        except lupa.LuaError:
            return _ENDED

    def _tables(self, arguments: list[bytes], key_count: int) -> tuple[Any, Any]:
        if not self._make_room(sum(map(len, arguments)) + _OVERHEAD * len(arguments)):
            raise lupa.LuaMemoryError
        table = self.lua.table_from
        return table(arguments[:key_count]), table(arguments[key_count:])
