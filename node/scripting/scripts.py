"""Sources: the line that begins with `#!`, flags, and the cache of scripts.

`#!lua name=... flags=a,b`: a library must have a name, a script must not. A script without such a
line runs in compatibility mode: nothing is known of it beforehand, so each of its commands is
judged by itself.

https://valkey.io/topics/eval-intro/#script-flags
"""

from collections import OrderedDict
from typing import Any

import attrs

from node.replies import ReplyError
from node.resp import split_words

NO_WRITES, ALLOW_OOM, ALLOW_STALE, NO_CLUSTER, ALLOW_CROSS_SLOT = (1 << i for i in range(5))
COMPATIBLE = 1 << 5  # no shebang line
FLAGS = {
    b"no-writes": NO_WRITES,
    b"allow-oom": ALLOW_OOM,
    b"allow-stale": ALLOW_STALE,
    b"no-cluster": NO_CLUSTER,
    b"allow-cross-slot-keys": ALLOW_CROSS_SLOT,
}
EVALUATED_MAX = 500  # scripts kept that only EVAL has brought
ENGINE = b"lua"

NO_SCRIPT = ReplyError(b"NOSCRIPT No matching script.")


@attrs.define(eq=False)
class Script:
    """A compiled script. loaded: SCRIPT LOAD has brought it, so it stays."""

    sha: bytes
    source: bytes
    flags: int
    function: Any
    loaded: bool = False


def parse_script(source: bytes) -> tuple[int, bytes]:
    """A script's flags, and its source without the first line's words; raises ReplyError."""
    if not source.startswith(b"#!"):
        return COMPATIBLE, source
    end = source.find(b"\n")
    if end < 0:
        raise ReplyError(b"ERR Invalid script shebang")
    words = split_words(source[:end])
    if not words:
        raise ReplyError(b"ERR Invalid engine in script shebang")
    flags = 0
    for word in words[1:]:
        if not word.lower().startswith(b"flags="):
            raise ReplyError(b"ERR Unknown lua shebang option: %b" % word)
        for name in word[6:].split(b",") if len(word) > 6 else ():
            if name not in FLAGS:
                raise ReplyError(b"ERR Unexpected flag in script shebang: %b" % name)
            flags |= FLAGS[name]
    engine = words[0][2:]
    if engine.lower() != ENGINE:
        raise ReplyError(b"ERR Could not find scripting engine '%b'" % engine)
    return flags, source[end:]


def parse_library(source: bytes) -> tuple[bytes, bytes]:
    """A library's name, and its source without the first line's words; raises ReplyError."""
    if not source.startswith(b"#!"):
        raise ReplyError(b"ERR Missing library metadata")
    end = source.find(b"\n")
    words = split_words(source[:end]) if end >= 0 else None
    if not words:
        raise ReplyError(b"ERR Invalid library metadata")
    name = None
    for word in words[1:]:
        if not word.lower().startswith(b"name="):
            raise ReplyError(b"ERR Invalid metadata value given: %b" % word)
        if name is not None:
            raise ReplyError(b"ERR Invalid metadata value, name argument was given multiple times")
        name = word[5:]
    if name is None:
        raise ReplyError(b"ERR Library name was not given")
    if not is_name(name):
        raise ReplyError(
            b"ERR Library names can only contain letters, numbers, or underscores(_) and must be "
            b"at least one character long"
        )
    engine = words[0][2:]
    if engine.lower() != ENGINE:
        raise ReplyError(b"ERR Engine '%b' not found" % engine)
    return name, source[end:]


def is_name(name: bytes) -> bool:
    """Whether a library or function may be called this."""
    return name.replace(b"_", b"0").isalnum() and name.isascii()


@attrs.define(eq=False)
class Cache:
    """Scripts by the hexadecimal SHA-1 of their source.

    evicted: how many have gone because too many others came by EVAL.
    """

    evicted: int = 0
    _scripts: dict[bytes, Script] = attrs.field(factory=dict)
    _by_source: dict[bytes, Script] = attrs.field(factory=dict)
    _evaluated: OrderedDict[bytes, None] = attrs.field(factory=OrderedDict)

    def __len__(self) -> int:
        return len(self._scripts)

    def __contains__(self, sha: bytes) -> bool:
        return sha in self._scripts

    def find(self, sha: bytes) -> Script | None:
        """The script, which counts as used; O(1)."""
        script = self._scripts.get(sha)
        if script is not None and not script.loaded:
            self._evaluated.move_to_end(sha)
        return script

    def find_source(self, source: bytes) -> Script | None:
        """As `find`, by the source: that takes less than its SHA-1."""
        script = self._by_source.get(source)
        if script is not None and not script.loaded:
            self._evaluated.move_to_end(script.sha)
        return script

    def add(self, script: Script) -> None:
        """Keep a script; the one not used for longest may have to go."""
        self._scripts[script.sha] = self._by_source[script.source] = script
        if script.loaded:
            return
        self._evaluated[script.sha] = None
        if len(self._evaluated) > EVALUATED_MAX:
            oldest, _ = self._evaluated.popitem(last=False)
            del self._by_source[self._scripts.pop(oldest).source]
            self.evicted += 1

    def keep(self, script: Script) -> None:
        """SCRIPT LOAD of what EVAL had brought: from here on it stays."""
        script.loaded = True
        self._evaluated.pop(script.sha, None)

    def clear(self) -> None:
        """Forget all."""
        self._scripts.clear()
        self._by_source.clear()
        self._evaluated.clear()

    def size(self) -> int:
        """Bytes of sources held, about."""
        return sum(len(script.source) + 200 for script in self._scripts.values())
