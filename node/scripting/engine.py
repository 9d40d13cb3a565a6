"""What a node runs of scripts and functions, and what it has cached of them.

The interpreter is made at the first script. One thing runs at a time: scripts can't run scripts.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import attrs

from node.command import DENYOOM, MAY_REPLICATE, STALE, WRITE
from node.config.file import REDIS_VERSION, VALKEY_VERSION
from node.execute import Unit, begin_unit, end_unit
from node.replies import Encoded, ReplyError, Status
from node.resp import RequestParser
from node.scripting.calls import Calls, guarded, holding, sha1hex
from node.scripting.libraries import Function, Libraries
from node.scripting.marks import ENCODED, ENDED, ERROR, RESULT, STATUS
from node.scripting.running import NOT_BUSY, Loading, Run, check
from node.scripting.scripts import (
    ALLOW_OOM,
    ALLOW_STALE,
    COMPATIBLE,
    NO_WRITES,
    Cache,
    Script,
    parse_script,
)
from node.session import Session

if TYPE_CHECKING:
    from node.node import Node
    from node.scripting.interpreter import Interpreter, Outcome

REDIS_VERSION_NUM = 0x070204
VALKEY_VERSION_NUM = 0x090102
SERVER_NAME = b"slotfleet"
LOAD_MS = 500  # a library that takes longer to load is ended


@attrs.define(eq=False)
class Scripting:
    """run: the script or function under way. cache: scripts; libraries: functions. denies: scripts
    may not call what is not for them; tests of servers change that.

    lend, take: called around whatever runs in Lua, and the other way round around what Lua calls:
    another thread may have the node meanwhile. on_first: called before anything runs in Lua.
    """

    node: "Node"
    denies: bool = True
    run: Run | None = None
    cache: Cache = attrs.field(factory=Cache)
    libraries: Libraries = attrs.field(init=False)
    take: Callable[[], object] = lambda: None
    lend: Callable[[], object] = lambda: None
    on_first: Callable[[], None] = lambda: None
    _interpreter: "Interpreter | None" = None
    _calls: Calls = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.libraries = Libraries(self)

    def interpreter(self) -> "Interpreter":
        """The Lua runtime; the first call makes it, which takes some milliseconds."""
        if self._interpreter is None:
            self._interpreter = self._make()
        return self._interpreter

    def _make(self) -> "Interpreter":
        from node.scripting.binary import functions  # lupa takes time to load: not at the start
        from node.scripting.interpreter import Interpreter
        from node.scripting.values import Converter

        node = self.node
        session = Session(node, 0, node.keyspace[0], RequestParser())
        self.on_first()
        self._calls = Calls(node, session, self.take, self.lend)
        host = self._calls.host() | functions()
        host[b"register"] = holding(guarded(self.libraries.register), self.take, self.lend)
        host[b"seed"] = node.random.getrandbits(31)
        host[b"redis_version"] = REDIS_VERSION.encode()
        host[b"redis_version_num"] = REDIS_VERSION_NUM
        host[b"valkey_version"] = VALKEY_VERSION.encode()
        host[b"valkey_version_num"] = VALKEY_VERSION_NUM
        host[b"server_name"] = SERVER_NAME
        interpreter = Interpreter(host)
        self._calls.converter = Converter(interpreter)
        return interpreter

    # --- scripts ---------------------------------------------------------------------------------

    def script(self, source: bytes, loads: bool = False) -> Script:
        """The script of this source, compiled if it is new; raises ReplyError."""
        script = self.cache.find_source(source)
        if script is None:
            flags, body = parse_script(source)
            function, problem = self.interpreter().compile_script(body)
            if problem is not None:
                raise ReplyError(b"ERR Error compiling script (new function): " + problem)
            script = Script(sha1hex(source), source, flags, function, loads)
            self.cache.add(script)
        elif loads and not script.loaded:
            self.cache.keep(script)
        return script

    def run_script(
        self,
        session: Session,
        command: list[bytes],
        script: Script,
        key_count: int,
        ro_command: bool,
    ) -> Any:
        """EVAL and its kin: the script's reply; raises ReplyError.

        key_count: of the arguments from command[3] on.
        """
        flags = script.flags
        run = self._begin(session, command, script.sha, flags, ro_command, False, key_count)
        return self._run(run, self.interpreter().run_script, script.function, key_count)

    def command_flags(self, args: Sequence[bytes], flags: int) -> int:
        """What EVAL, EVALSHA, FCALL or their _RO kin, which by itself has `flags`, counts as by
        the flags that its script or function declares."""
        declared = self._declared(args)
        if declared is None or declared & COMPATIBLE:
            return flags
        flags &= ~(STALE | DENYOOM | WRITE | MAY_REPLICATE)
        if not declared & NO_WRITES:
            flags |= WRITE if declared & ALLOW_OOM else WRITE | DENYOOM
        return flags | STALE if declared & ALLOW_STALE else flags

    def _declared(self, args: Sequence[bytes]) -> int | None:
        """The flags of what is to be run; None where there is no such thing."""
        word, what = args[0].upper(), args[1]
        found: Script | Function | None
        if word in (b"EVAL", b"EVAL_RO"):
            try:
                return parse_script(what)[0]
            except ReplyError:
                return None
        calls = word in (b"FCALL", b"FCALL_RO")
        found = self.libraries.find(what) if calls else self.cache.find(what.lower())
        return None if found is None else found.flags

    # --- functions -------------------------------------------------------------------------------

    def run_function(
        self,
        session: Session,
        command: list[bytes],
        function: Function,
        key_count: int,
        ro_command: bool,
    ) -> Any:
        """FCALL and FCALL_RO: the function's reply; raises ReplyError. See run_script."""
        flags = function.flags
        run = self._begin(session, command, function.name, flags, ro_command, True, key_count)
        return self._run(run, self.interpreter().run_function, function.number, key_count)

    def load_library(self, function: Any) -> bytes | None:
        """Let a library register its functions; what went wrong, or None."""
        now_ms = self.node.clock.monotonic_ms()
        loading = Loading(self.node.clock, now_ms + LOAD_MS)
        self._calls.run = loading
        interpreter = self.interpreter()
        self.lend()
        try:
            problem = interpreter.load_library(function)
        finally:
            self.take()
            self._calls.run = None
            interpreter.end_load()
        return loading.reason or problem

    # --- running ---------------------------------------------------------------------------------

    def kill(self, is_function: bool) -> None:
        """SCRIPT KILL and FUNCTION KILL; raises ReplyError."""
        if self.run is None:
            raise NOT_BUSY
        self.run.kill(is_function)

    def is_busy(self) -> bool:
        """Whether what is under way has passed busy-reply-threshold."""
        return self.run is not None and self.run.busy

    def busy_error(self) -> ReplyError:
        """What others are told meanwhile."""
        assert self.run is not None
        return self.run.refusal()

    def memory_used(self) -> int:
        """Bytes of the Lua runtime."""
        return 0 if self._interpreter is None else self._interpreter.memory_used()

    def _begin(
        self,
        session: Session,
        command: list[bytes],
        name: bytes,
        flags: int,
        ro_command: bool,
        is_function: bool,
        key_count: int,
    ) -> Run:
        if self.node.eviction.is_on():
            self.node.eviction.make_room()
        if not (session.internal or session.from_primary):
            check(self.node, flags, ro_command)
        read_only = ro_command or flags & NO_WRITES != 0
        run = Run(self.node, session, command, name, flags, is_function, read_only)
        if self.node.topology.clustered and key_count:
            run.slot = self.node.topology.slot_of(command[3])
        return run

    def _run(self, run: Run, call: "Callable[..., Outcome]", what: Any, key_count: int) -> Any:
        """Run it as one unit; the reply as a value."""
        node, session = self.node, run.session
        dirty = node.keyspace.dirty
        outer = begin_unit(node)
        self.run = run
        self._calls.begin(run)
        self.lend()
        try:
            kind, value = call(what, session.protocol, key_count, run.command[3:])
        finally:
            self.take()
            self.run = self._calls.run = None
            if run.discards:
                node.unit = Unit()
            end_unit(node, session, outer, dirty)
            if run.busy:
                node.refresh_gate()
        if kind == ENDED:
            self.interpreter().end_load()  # the hook is not to end the next one, too
        if kind == RESULT:
            return value if type(value) is not float else _whole(value)
        if kind == ENCODED:
            return Encoded(value)
        if kind == STATUS:
            return Status(value)
        error = ReplyError(value if kind == ERROR else run.killed_text())
        failure = self._calls.failure
        error.counted = failure is not None and error.text.startswith(failure)
        raise error


def _whole(number: float) -> int:
    """A number as a reply: what an integer can't hold is the least one."""
    if not -(2.0**63) < number < 2.0**63:
        return -(1 << 63)
    return int(number)
