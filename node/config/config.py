"""Config: the value of every directive, and the ways to change them."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from node.config.directives import BY_ATTRIBUTE, BY_NAME, FORGOTTEN, Directives
from node.config.file import fatal, is_pattern, split_words, unreadable
from node.config.values import ConfigError, Directive, decoded, encoded
from node.data.pattern import compiled

DEEPEST_INCLUDE = 50
_DUPLICATE_USER = "Duplicate user found. A user can only be defined once in config files"
LOADING = "Redis is loading the dataset in memory"

Hook = Callable[["Config"], None]


def _nowhere(path: str) -> Any:
    raise FileNotFoundError(2, "No such file or directory")


class Config(Directives):
    """The values of all directives as attributes: `config.maxclients`, `config.masterauth`.

    Numbers are int, yes and no are bool, choices and paths str, passwords bytes; see the table
    for the rest. The server may assign an attribute itself, as REPLICAOF does; that calls no hook.

    enter_dir: changes the working directory and returns its absolute path, or raises OSError;
    without one `dir` is a value like any other.
    """

    def __init__(self, enter_dir: Callable[[str], str] | None = None) -> None:
        for attribute, directive in BY_ATTRIBUTE.items():
            setattr(self, attribute, directive.default)
        self.users: dict[bytes, list[bytes]] = {}  # what `user` lines say: rules by name
        self.file = ""  # the configuration file's absolute path, where there is one
        self._hooks: dict[str, list[Hook]] = {}
        self._line_handlers: dict[str, Callable[[list[str]], None]] = {}
        self._said: set[Directive] = set()
        self._enter_dir = enter_dir or (lambda path: path)
        self.dir = self._enter_dir(".")

    def on_change(self, name: str, hook: Hook) -> None:
        """Call `hook(config)` after CONFIG SET has changed the directive `name`.

        It reads the new values from the config and puts them in force; if it raises ConfigError
        the whole CONFIG SET is undone, and the hooks that were called are called once more. One
        hook may stand for several directives: it is called once per CONFIG SET.
        """
        self._hooks.setdefault(BY_NAME[name].name, []).append(hook)

    def on_line(self, name: str, handler: Callable[[list[str]], None]) -> None:
        """Give the words after `name` in a file, such as `rename-command`, to `handler`.

        It raises ConfigError for words that are no good. Without a handler the line is refused.
        """
        self._line_handlers[name] = handler

    def value(self, directive: Directive[Any]) -> Any:
        return getattr(self, directive.attribute)

    # --- CONFIG GET and SET -------------------------------------------------------------------

    def get(self, *patterns: bytes) -> dict[bytes, bytes]:
        """The names that match a pattern, sorted, with their values as a real server prints them.

        A name without a pattern's marks is looked up in any case and given back as it was asked.
        """
        found: dict[str, Directive] = {}
        for pattern in map(decoded, patterns):
            if is_pattern(pattern):
                found.update(_matching(pattern))
            elif pattern.lower() in BY_NAME and pattern.lower() not in map(str.lower, found):
                found[pattern] = BY_NAME[pattern.lower()]
        return {
            encoded(name): encoded(directive.show(self.value(directive)))
            for name, directive in sorted(found.items())
        }

    def set(
        self, pairs: Iterable[tuple[bytes, bytes]], local: bool = False, loading: bool = False
    ) -> None:
        """Change several directives, all or none, or raise ConfigError.

        local: the client is on this machine, which some directives ask for. loading: the data
        set is being loaded, which some have to wait for.
        """
        changes = self._changes([(decoded(name), decoded(text)) for name, text in pairs], local)
        if loading and any(BY_NAME[name].not_while_loading for name, _ in changes):
            raise ConfigError(LOADING, "LOADING")
        before = {name: self.value(BY_NAME[name]) for name, _ in changes}
        try:
            for name, text in changes:
                self._assign(name, text)
            self._apply(before)
        except ConfigError:
            self._restore(before)
            raise

    def _changes(self, pairs: list[tuple[str, str]], local: bool) -> list[tuple[str, str]]:
        """The pairs under names that are in the table, once each, and may be set."""
        seen: set[str] = set()
        refusals: list[ConfigError] = []
        for given, _ in pairs:
            name = given.lower()
            if name not in BY_NAME:
                text = f"Unknown option or number of arguments for CONFIG SET - '{given}'"
                raise refusals[0] if refusals else ConfigError(text)
            reason = self._reason_against(BY_NAME[name], local, name in seen)
            if reason:
                refusals.append(_failed(given, reason))
            seen.add(name)
        if refusals:
            raise refusals[0]
        return [(name.lower(), text) for name, text in pairs]

    def _reason_against(self, directive: Directive[Any], local: bool, again: bool) -> str:
        if directive.fixed:
            return "can't set immutable config"
        if directive.protected and not allows(self.enable_protected_configs, local):
            return "can't set protected config"
        return "duplicate parameter" if again else ""

    def _assign(self, name: str, text: str) -> None:
        directive = BY_NAME[name]
        words = [text] if not directive.many else text.split(" ") if text else []
        try:
            self._read(directive, words)
        except ConfigError as error:
            raise _failed(name, str(error)) from None

    def _read(self, directive: Directive[Any], words: list[str], again: bool = False) -> None:
        value = directive.read(words, self.value(directive), again)
        if directive.attribute == "dir":
            try:
                value = self._enter_dir(value)
            except OSError as error:
                raise ConfigError(error.strerror or str(error)) from None
        setattr(self, directive.attribute, value)

    def _apply(self, before: dict[str, Any]) -> None:
        for hook, name in self._hooks_of(before):
            try:
                hook(self)
            except ConfigError as error:
                raise _failed(name, str(error)) from None

    def _hooks_of(self, before: dict[str, Any]) -> list[tuple[Hook, str]]:
        """The hooks of what has changed since, once each, with the name that calls for it."""
        hooks: dict[Hook, str] = {}
        for name, value in before.items():
            directive = BY_NAME[name]
            if self.value(directive) != value:
                for hook in self._hooks.get(directive.name, ()):
                    hooks.setdefault(hook, name)
        return list(hooks.items())

    def _restore(self, before: dict[str, Any]) -> None:
        """Put the old values back in force; a hook that refuses its old value keeps what it has."""
        hooks = self._hooks_of(before)
        for name, value in before.items():
            directive = BY_NAME[name]
            if directive.attribute == "dir" and self.dir != value:
                self._enter_dir(value)
            setattr(self, directive.attribute, value)
        for hook, _ in hooks:
            try:
                hook(self)
            except ConfigError:
                continue

    # --- Configuration files --------------------------------------------------------------------

    def load(
        self,
        text: str,
        read: Callable[[str], str] = _nowhere,
        glob: Callable[[str], Iterable[str]] = _nowhere,
    ) -> None:
        """Take in the lines of a configuration file, or raise ConfigFileError.

        read: the text of an included file, or OSError. glob: the paths that match a pattern.
        Calls no hook: what starts later reads the values.
        """
        self._load(text, lambda path: _included(path, read, glob), DEEPEST_INCLUDE)
        if self.cluster_enabled and self.replicaof is not None:
            raise fatal("replicaof directive not allowed in cluster mode")

    def _load(self, text: str, include: Callable[[str], str], depth: int) -> None:
        for number, line in _lines(text):
            words = split_words(line)
            if words is None:
                raise fatal("Unbalanced quotes in configuration line", number, line)
            if not words:
                continue
            name, arguments = words[0].lower(), words[1:]
            if name == "include" and len(arguments) == 1:
                if not depth:
                    raise fatal("Files include each other without end", number, line)
                self._load(include(arguments[0]), include, depth - 1)
                continue
            try:
                self._take(name, arguments)
            except ConfigError as error:
                raise fatal(str(error), number, line) from None

    def _take(self, name: str, arguments: list[str]) -> None:
        """One line of a file."""
        directive = BY_NAME.get(name)
        if directive is None:
            self._take_other(name, arguments)
            return
        words: list[str] | None = arguments
        if directive.many and len(arguments) == 1 and arguments[0]:
            words = split_words(arguments[0])
        elif not directive.many and len(arguments) != 1:
            raise ConfigError("wrong number of arguments")
        if words is None:
            raise ConfigError("Unbalanced quotes in configuration line")
        self._read(directive, words, directive in self._said)
        self._said.add(directive)

    def _take_user(self, name: bytes, *rules: bytes) -> None:
        """A user and its rules, which are looked at when the node begins."""
        if name in self.users:
            raise ConfigError(f"Error in user declaration '{decoded(name)}': {_DUPLICATE_USER}")
        self.users[name] = list(rules)

    def _take_other(self, name: str, arguments: list[str]) -> None:
        """A line that is no directive of the table."""
        if name in FORGOTTEN and len(arguments) == 1:
            return
        if name == "sentinel":
            raise ConfigError("sentinel directive while not in sentinel mode")
        if "." in name:
            wanted = "without value" if not arguments else "of a module that this server lacks"
            raise ConfigError(f"Module config specified {wanted}")
        if not _well_formed(name, len(arguments)):
            raise ConfigError("Bad directive or wrong number of arguments")
        if name == "user":
            self._take_user(*map(encoded, arguments))
            return
        if name not in self._line_handlers:
            raise ConfigError(f"this server does not implement '{name}'")
        self._line_handlers[name](arguments)


def allows(protection: str, local: bool) -> bool:
    """Whether `enable-...-command` or `enable-protected-configs` lets a client through.

    local: the client is on this machine.
    """
    return protection == "yes" or (protection == "local" and local)


def _well_formed(name: str, count: int) -> bool:
    if name == "rename-command":
        return count == 2
    return name in ("user", "loadmodule") and count >= 1


def _failed(name: str, reason: str) -> ConfigError:
    return ConfigError(f"CONFIG SET failed (possibly related to argument '{name}') - {reason}")


def _matching(pattern: str) -> dict[str, Directive]:
    matches = compiled(encoded(pattern), True)
    return {
        name: directive
        for name, directive in BY_NAME.items()
        if not directive.hidden and matches(encoded(name))
    }


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers from 1."""
    for number, line in enumerate(text.split("\n"), 1):
        line = line.strip(" \t\r\n")
        if line and not line.startswith("#"):
            yield number, line


def _included(path: str, read: Callable[[str], str], glob: Callable[[str], Iterable[str]]) -> str:
    """The text of the files that `path` means: one that has to exist, or all that match."""
    text = ""
    for each in glob(path) if is_pattern(path) else [path]:
        try:
            text += read(each)
        except OSError as error:
            raise unreadable(each, error.strerror or str(error)) from None
    return text
