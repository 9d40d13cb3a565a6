"""Functions, in libraries: named pieces of source that register functions when they are loaded.

They are data: they are logged, saved and sent to replicas, and FUNCTION DUMP gives them as a
payload of the same records that an RDB has for them.

https://valkey.io/topics/functions-intro/
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from node.persistence.rdb import RdbError, decode_functions, encode_functions
from node.replies import ReplyError
from node.scripting.scripts import FLAGS, is_name, parse_library

if TYPE_CHECKING:
    from node.scripting.engine import Scripting

NO_LIBRARY = ReplyError(b"ERR Library not found")
BAD_PAYLOAD = ReplyError(b"ERR DUMP payload version or checksum are wrong")
_NO_FUNCTIONS = ReplyError(b"ERR No functions registered")
_BAD_NAME = ReplyError(
    b"ERR Function names can only contain letters, numbers, or underscores(_) and must be at least "
    b"one character long"
)
_TWICE = ReplyError(b"ERR Function already exists in the library")
_NOT_LOADING = ReplyError(
    b"ERR server.register_function can only be called on FUNCTION LOAD command"
)
_UNKNOWN_FLAG = ReplyError(b"ERR unknown flag given")


@attrs.define(eq=False)
class Function:
    """number: by which the interpreter knows the callback. flags: see scripts.FLAGS."""

    name: bytes
    description: bytes | None
    flags: int
    number: int
    library: Library

    def flag_names(self) -> list[bytes]:
        """As FUNCTION LIST shows them."""
        return [name for name, flag in FLAGS.items() if self.flags & flag]


@attrs.define(eq=False)
class Library:
    """A loaded library. memory: what the interpreter took for it, in bytes."""

    name: bytes
    source: bytes
    functions: dict[bytes, Function] = attrs.field(factory=dict)
    memory: int = 0


@attrs.define(eq=False)
class Libraries:
    """All libraries of a node; `functions` by name in lower case."""

    scripting: Scripting
    by_name: dict[bytes, Library] = attrs.field(factory=dict)
    functions: dict[bytes, Function] = attrs.field(factory=dict)
    _loading: Library | None = None
    _problem: ReplyError | None = None
    _next: int = 1

    # --- loading ---------------------------------------------------------------------------------

    def load(self, source: bytes, replaces: bool = False) -> Library:
        """FUNCTION LOAD; raises ReplyError, and then nothing has changed."""
        library = self.compile(source)
        try:
            self._check(library, replaces)
        except ReplyError:
            self._release(library)
            raise
        self._put(library)
        return library

    def compile(self, source: bytes) -> Library:
        """A library that is in no use yet; raises ReplyError."""
        name, body = parse_library(source)
        interpreter = self.scripting.interpreter()
        before = interpreter.memory_used()
        function, problem = interpreter.compile_library(body)
        if problem is not None:
            raise ReplyError(b"ERR Error compiling function: " + problem)
        library = self._loading = Library(name, source)
        self._problem = None
        try:
            problem = self.scripting.load_library(function)
        finally:
            self._loading = None
        error = self._problem
        if error is None and problem is not None:
            error = ReplyError(b"ERR Error registering functions: " + problem)
        if error is None and not library.functions:
            error = _NO_FUNCTIONS
        if error is not None:
            self._release(library)
            raise error
        # Less than nothing where garbage was collected meanwhile.
        library.memory = max(len(source), interpreter.memory_used() - before)
        return library

    def register(self, name: bytes, description: bytes | bool, flags: bytes) -> int:
        """redis.register_function: the number for the callback; raises ReplyError."""
        library = self._loading
        if library is None:
            raise _NOT_LOADING
        bits = 0
        for flag in flags.split(b",") if flags else ():
            if flag not in FLAGS:
                raise _UNKNOWN_FLAG
            bits |= FLAGS[flag]
        if not is_name(name):
            self._problem = _BAD_NAME
            raise _BAD_NAME
        if name in library.functions:
            self._problem = _TWICE
            raise _TWICE
        number, self._next = self._next, self._next + 1
        text = description if isinstance(description, bytes) else None
        library.functions[name] = Function(name, text, bits, number, library)
        return number

    def _check(self, library: Library, replaces: bool) -> None:
        """Whether a library may be put beside the others, or in place of its namesake."""
        old = self.by_name.get(library.name)
        if old is not None and not replaces:
            raise ReplyError(b"ERR Library '%b' already exists" % library.name)
        for name in library.functions:
            other = self.functions.get(name.lower())
            if other is not None and other.library is not old:
                raise ReplyError(b"ERR Function %b already exists" % name)

    def _put(self, library: Library) -> None:
        old = self.by_name.get(library.name)
        if old is not None:
            self._remove(old)
        self.by_name[library.name] = library
        for name, function in library.functions.items():
            self.functions.setdefault(name.lower(), function)

    def _remove(self, library: Library) -> None:
        del self.by_name[library.name]
        for name, function in library.functions.items():
            if self.functions.get(name.lower()) is function:
                del self.functions[name.lower()]
        self._release(library)

    def _release(self, library: Library) -> None:
        """Let the interpreter forget the callbacks."""
        for function in library.functions.values():
            self.scripting.interpreter().forget_function(function.number)

    # --- all of them -----------------------------------------------------------------------------

    def find(self, name: bytes) -> Function | None:
        """The function of this name, in any case."""
        return self.functions.get(name.lower())

    def delete(self, name: bytes) -> None:
        """FUNCTION DELETE; raises ReplyError."""
        library = self.by_name.get(name)
        if library is None:
            raise NO_LIBRARY
        self._remove(library)

    def clear(self) -> None:
        """FUNCTION FLUSH."""
        for library in list(self.by_name.values()):
            self._remove(library)

    def sources(self) -> list[bytes]:
        """Of all libraries, as they are saved."""
        return [library.source for library in self.by_name.values()]

    def replace_all(self, sources: list[bytes]) -> None:
        """Have these libraries and no others, as a data set that was loaded had them; raises
        ReplyError."""
        libraries = [self.compile(source) for source in sources]
        self.clear()
        for library in libraries:
            self._put(library)

    def dump(self) -> bytes:
        """FUNCTION DUMP's payload."""
        return encode_functions(self.sources())

    def restore(self, payload: bytes, policy: bytes) -> None:
        """FUNCTION RESTORE with policy APPEND, REPLACE or FLUSH; raises ReplyError, and then
        nothing has changed."""
        try:
            sources = decode_functions(payload)
        except RdbError:
            raise BAD_PAYLOAD from None
        libraries: list[Library] = []
        try:
            libraries.extend(map(self.compile, sources))
            if policy != b"FLUSH":
                for library in libraries:
                    if policy == b"APPEND" and library.name in self.by_name:
                        raise ReplyError(b"ERR Library %b already exists" % library.name)
                    self._check(library, True)
        except ReplyError:
            for library in libraries:
                self._release(library)
            raise
        if policy == b"FLUSH":
            self.clear()
        for library in libraries:
            self._put(library)

    def memory_used(self) -> int:
        """Bytes of the interpreter's that are theirs, about."""
        return sum(library.memory for library in self.by_name.values())

    def size(self) -> int:
        """Bytes of sources held, about."""
        return sum(len(library.source) + 300 for library in self.by_name.values())
