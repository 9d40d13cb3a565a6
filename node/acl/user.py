"""A user: a name, passwords, and what it may do."""

import hashlib
import hmac
import re
from collections.abc import Sequence

import attrs

from node.acl.selector import BadRule, Refusal, Selector
from node.command import Row

NO_SUCH_PASSWORD = b"The password you are trying to remove from the user does not exist"
BAD_HASH = (
    b"The password hash must be exactly 64 characters and contain only lowercase hexadecimal "
    b"characters"
)
_HASH = re.compile(rb"[0-9a-f]{64}")


class Unmatched(ValueError):
    """A selector's parenthesis is never closed; `rule` is where it opened."""

    def __init__(self, rule: bytes) -> None:
        super().__init__(rule)
        self.rule = rule


def digest(password: bytes) -> bytes:
    """The form in which passwords are kept: SHA-256, in hexadecimal digits."""
    return hashlib.sha256(password).hexdigest().encode()


@attrs.define(eq=False)
class User:
    """Who a client may be.

    all_channels: whether a new one may use every channel, by acl-pubsub-default. passwords: their
    digests. no_password: any will do. selectors: the first is the user's own.
    """

    name: bytes
    all_channels: bool = False
    enabled: bool = False
    no_password: bool = False
    passwords: list[bytes] = attrs.field(factory=list)
    selectors: list[Selector] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        if not self.selectors:
            self.selectors = [self._empty_selector()]

    def copy(self) -> "User":
        """Another one like it."""
        return attrs.evolve(
            self,
            passwords=list(self.passwords),
            selectors=[selector.copy() for selector in self.selectors],
        )

    def accepts(self, password: bytes) -> bool:
        """Whether a client with this password is this user."""
        given = digest(password)
        known = [hmac.compare_digest(given, each) for each in self.passwords]
        return self.enabled and (self.no_password or any(known))

    def is_unrestricted(self) -> bool:
        """Whether it may do everything."""
        return self.selectors[0].is_unrestricted()

    def refusal(
        self, row: Row, args: Sequence[bytes], database: int, databases: int
    ) -> Refusal | None:
        """Why it may not run a command, as the selector that gets furthest says; None if it may."""
        worst = None
        for selector in self.selectors:
            refusal = selector.refusal(row, args, database, databases)
            if refusal is None:
                return None
            worst = max(worst or refusal, refusal)
        return worst

    def may_read_all(self, row: Row, args: Sequence[bytes], database: int, databases: int) -> bool:
        """Whether it may run a command, and read any key besides."""
        return any(
            selector.refusal(row, args, database, databases) is None and selector.reads_all_keys()
            for selector in self.selectors
        )

    def allows_channel(self, channel: bytes, is_pattern: bool) -> bool:
        """Whether any selector allows a channel, or a pattern of them."""
        return any(selector.allows_channel(channel, is_pattern) for selector in self.selectors)

    # --- rules -----------------------------------------------------------------------------------

    def apply(self, rule: bytes) -> None:
        """Change it by one rule; raises BadRule, Unmatched."""
        word = rule.lower()
        if word in _WORDS:
            _WORDS[word](self)
        elif rule[:1] in _OF_PASSWORDS:
            _OF_PASSWORDS[rule[:1]](self, rule[1:])
        elif rule[:1] == b"(":
            self.selectors.append(self._selector(rule))
        else:
            self.selectors[0].apply(rule)

    def _selector(self, rule: bytes) -> Selector:
        """The selector that `(rule rule ...)` describes."""
        if not rule.endswith(b")") or len(rule) < 2:
            raise Unmatched(rule)
        selector = self._empty_selector()
        for word in rule[1:-1].split(b" "):
            if word:
                selector.apply(word)
        return selector

    def _empty_selector(self) -> Selector:
        return Selector(all_channels=self.all_channels)

    def enable(self) -> None:
        self.enabled = True

    def disable(self) -> None:
        self.enabled = False

    def need_no_password(self) -> None:
        self.no_password = True
        self.passwords.clear()

    def forget_passwords(self) -> None:
        self.no_password = False
        self.passwords.clear()

    def forget_selectors(self) -> None:
        del self.selectors[1:]

    def reset(self) -> None:
        """Make it what it was when it was new."""
        self.forget_passwords()
        self.enabled = False
        self.selectors = [self._empty_selector()]

    def change_nothing(self) -> None:
        """A rule of older servers, of no effect."""

    def add_password(self, password: bytes) -> None:
        self.add_digest(digest(password))

    def add_digest(self, given: bytes) -> None:
        _check_digest(given)
        if given not in self.passwords:
            self.passwords.append(given)
        self.no_password = False

    def remove_password(self, password: bytes) -> None:
        self.remove_digest(digest(password))

    def remove_digest(self, given: bytes) -> None:
        _check_digest(given)
        if given not in self.passwords:
            raise BadRule(NO_SUCH_PASSWORD)
        self.passwords.remove(given)

    # --- how it is shown -------------------------------------------------------------------------

    def flags(self) -> list[bytes]:
        """As ACL GETUSER names them."""
        return [b"on" if self.enabled else b"off", *[b"nopass"] * self.no_password]

    def line(self) -> bytes:
        """As it stands in an ACL file."""
        own, *others = self.selectors
        passwords = [b"#" + each for each in self.passwords]
        selectors = [b"(%b)" % selector.line() for selector in others]
        parts = (b"user", self.name, *self.flags(), *passwords, own.line(), *selectors)
        return b" ".join(parts)


def _check_digest(given: bytes) -> None:
    if not _HASH.fullmatch(given):
        raise BadRule(BAD_HASH)


def merged(rules: Sequence[bytes]) -> list[bytes]:
    """Rules, with the words of each selector in one; raises Unmatched."""
    result: list[bytes] = []
    opened: list[bytes] = []
    for rule in rules:
        if opened or rule[:1] == b"(":
            opened.append(rule)
            if rule.endswith(b")"):
                result.append(b" ".join(opened))
                opened = []
        else:
            result.append(rule)
    if opened:
        raise Unmatched(opened[0])
    return result


_WORDS = {
    b"on": User.enable,
    b"off": User.disable,
    b"nopass": User.need_no_password,
    b"resetpass": User.forget_passwords,
    b"clearselectors": User.forget_selectors,
    b"reset": User.reset,
    b"sanitize-payload": User.change_nothing,
    b"skip-sanitize-payload": User.change_nothing,
}
_OF_PASSWORDS = {
    b">": User.add_password,
    b"#": User.add_digest,
    b"<": User.remove_password,
    b"!": User.remove_digest,
}
