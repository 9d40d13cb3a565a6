"""All users of a node, and what clients may do as one of them."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import attrs

from node.acl.denials import AUTH, MULTI, TOPLEVEL, Denials
from node.acl.file import BadFile, read_users, written
from node.acl.selector import CHANNEL, COMMAND, KEY, OTHER_DATABASE, BadRule, Refusal, has_spaces
from node.acl.user import Unmatched, User, merged
from node.command import Row
from node.data.number import as_integer
from node.disk import replace
from node.pubsub import PATTERN
from node.replies import ReplyError
from node.session import session_gate

if TYPE_CHECKING:
    from node.config import Config
    from node.node import Node
    from node.session import Session

DEFAULT = b"default"

NO_FILE = ReplyError(
    b"ERR This instance is not configured to use an ACL file. You may want to specify users via "
    b"the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a configuration "
    b"file set) in order to store users in the configuration."
)
_BOTH_WAYS = (
    "Configuring the server with users defined in its configuration file and at the same time an "
    "ACL file path is invalid. This setup is very likely to lead to configuration errors and "
    "security holes, please define either an ACL file or declare users directly in the "
    "configuration file, but not both."
)
_CHANGED = (
    b"NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC "
    b"call. This command is no longer allowed for the following reason: "
)
_SINCE_QUEUED = {
    OTHER_DATABASE: b"no permission",
    COMMAND: b"no permission to execute the command or subcommand",
    KEY: b"no permission to touch the specified keys",
    CHANNEL: b"no permission to access one of the channels used as arguments",
}
_IN_SHORT = {
    OTHER_DATABASE: b"No permissions to access database",
    KEY: b"No permissions to access a key",
    CHANNEL: b"No permissions to access a channel",
}
_IN_FULL = {
    OTHER_DATABASE: b"User %b has no permissions to access database %b",
    COMMAND: b"User %b has no permissions to run the '%b' command",
    KEY: b"User %b has no permissions to access the '%b' key",
    CHANNEL: b"User %b has no permissions to access the '%b' channel",
}


class AclError(Exception):
    """Users that a node can't start with; says why."""


def _shown(text: bytes) -> str:
    return text.decode("utf-8", "replace")


def named(refusal: Refusal, row: Row, args: Sequence[bytes]) -> bytes:
    """What a refusal is about: a command by its full name, a key, a channel, a database."""
    return args[refusal[1]] if refusal[1] else row.name


def in_full(user: bytes, refusal: Refusal, row: Row, args: Sequence[bytes]) -> bytes:
    """A refusal as ACL DRYRUN words it."""
    what = named(refusal, row, args)
    if refusal == (OTHER_DATABASE, 0):
        what = what.partition(b"|")[0]
    return _IN_FULL[refusal[0]] % (user, what)


def in_short(user: bytes, refusal: Refusal, row: Row, args: Sequence[bytes]) -> bytes:
    """A refusal in the words that the client itself hears."""
    return _IN_SHORT.get(refusal[0]) or in_full(user, refusal, row, args)


@attrs.define(eq=False)
class Acl:
    """The users, by name, and what was refused to them.

    unrestricted: names of those that may do everything.
    """

    node: "Node"
    users: dict[bytes, User] = attrs.field(factory=dict)
    unrestricted: frozenset[bytes] = frozenset((DEFAULT,))
    log: Denials = attrs.field(factory=Denials)

    def __attrs_post_init__(self) -> None:
        self.users[DEFAULT] = self._pristine_default()
        config = self.node.config
        if config.requirepass:
            self._change_password(config)
        config.on_change("requirepass", self._change_password)

    # --- questions -------------------------------------------------------------------------------

    def lets_in(self) -> bool:
        """Whether a new client is the default user without a word."""
        user = self.users[DEFAULT]
        return user.enabled and user.no_password

    def applies_to(self, session: "Session") -> bool:
        """Whether a client may be refused anything."""
        free = session.user in self.unrestricted or session.internal or session.from_primary
        return not free

    def refusal(
        self, session: "Session", row: Row, args: Sequence[bytes], database: int | None = None
    ) -> Refusal | None:
        """Why a client may not run a command; None if it may.

        database: on which it would run, if not on the one that the client is on.
        """
        user = self.users.get(session.user)
        if user is None:
            return COMMAND, 0
        database = session.db.index if database is None else database
        return user.refusal(row, args, database, self.node.database_count())

    def may_read_all(self, session: "Session", row: Row, args: Sequence[bytes]) -> bool:
        """Whether a client, or the one whose script it is, may run a command and read any key
        besides those that it names."""
        run = self.node.scripting.run
        if not self.applies_to(run.session if run is not None and not session.id else session):
            return True
        user = self.users.get(session.user)
        databases = self.node.database_count()
        return user is not None and user.may_read_all(row, args, session.db.index, databases)

    def check(self, session: "Session", row: Row, args: Sequence[bytes]) -> None:
        """Raises ReplyError if a client may not run what it asks for."""
        transaction = session.transaction
        refusal = self.refusal(session, row, args, transaction and transaction.database)
        if refusal is not None:
            context = TOPLEVEL if transaction is None else MULTI
            raise ReplyError(b"NOPERM " + self.refused(session, refusal, row, args, context))
        if transaction is not None and row.name == b"select":
            number = as_integer(args[1])
            transaction.database = transaction.database if number is None else number

    def since_queued(
        self, session: "Session", row: Row, args: Sequence[bytes]
    ) -> ReplyError | None:
        """Why EXEC does not run a command that its client could queue; None if it does."""
        refusal = self.refusal(session, row, args)
        if refusal is None:
            return None
        self.refused(session, refusal, row, args, MULTI)
        return ReplyError(_CHANGED + _SINCE_QUEUED[refusal[0]])

    def refused(
        self,
        session: "Session",
        refusal: Refusal,
        row: Row,
        args: Sequence[bytes],
        context: bytes,
        client: "Session | None" = None,
    ) -> bytes:
        """Put a refusal into the log; its text.

        client: whose script it was that `session` runs.
        """
        what, most = named(refusal, row, args), self.node.config.acllog_max_len
        self.log.note(client or session, refusal[0], context, what, session.user, most)
        return in_short(session.user, refusal, row, args)

    # --- changes ---------------------------------------------------------------------------------

    def authenticate(self, session: "Session", name: bytes, password: bytes, word: bytes) -> bool:
        """Make a client a user, if the password is right; `word` is the command it used."""
        user = self.users.get(name)
        if user is None or not user.accepts(password):
            context = TOPLEVEL if session.transaction is None else MULTI
            self.log.note(session, AUTH, context, word, name, self.node.config.acllog_max_len)
            return False
        session.user = name
        session.authenticated = session.parser.trusted = True
        session.gate = session_gate(session)
        return True

    def set_user(self, name: bytes, rules: Sequence[bytes]) -> None:
        """Make a user, or change one by rules, all or none; raises ReplyError."""
        old = self.users.get(name)
        user = old.copy() if old is not None else User(name, self._all_channels())
        user.all_channels = self._all_channels()
        try:
            rules = merged(rules)
        except Unmatched as error:
            text = b"ERR Unmatched parenthesis in acl selector starting at '%b'." % error.rule
            raise ReplyError(text) from None
        for rule in rules:
            try:
                user.apply(rule)
            except BadRule as error:
                text = b"ERR Error in ACL SETUSER modifier '%b': %b" % (rule, error.text)
                raise ReplyError(text) from None
        self._replace({**self.users, name: user}, [name])

    def delete(self, names: Sequence[bytes]) -> int:
        """Take users away, and end their connections; how many there were."""
        gone = {name for name in names if name in self.users}
        kept = {name: user for name, user in self.users.items() if name not in gone}
        self._replace(kept, gone)
        return len(gone)

    def _replace(self, users: dict[bytes, User], changed: Iterable[bytes]) -> None:
        """Put other users in place; who may no longer be here, or hear what it hears, goes."""
        self.users = dict(sorted(users.items()))
        self.unrestricted = frozenset(
            name for name, user in users.items() if user.is_unrestricted()
        )
        names = frozenset(changed)
        for session in list(self.node.sessions.values()):
            if session.user not in names:
                continue
            if self.users.get(session.user) is None or self._hears_too_much(session):
                self._end(session)
            else:
                session.gate = session_gate(session)

    def _hears_too_much(self, session: "Session") -> bool:
        """Whether a client subscribes to something that its user may not."""
        if session.subscriptions is None:
            return False
        user = self.users[session.user]
        return not all(
            user.allows_channel(name, kind is PATTERN)
            for kind, names in session.subscriptions.names.items()
            for name in names
        )

    def _end(self, session: "Session") -> None:
        """End a connection; that of the client whose command this is, after the reply."""
        if session is self.node.pubsub.current:
            session.close()
        else:
            session.drop()

    def _change_password(self, config: "Config") -> None:
        """The default user's password is now what `requirepass` says."""
        user = self.users[DEFAULT]
        user.forget_passwords()
        if config.requirepass:
            user.add_password(config.requirepass)
        else:
            user.need_no_password()

    def _all_channels(self) -> bool:
        return self.node.config.acl_pubsub_default == "allchannels"

    def _pristine_default(self) -> User:
        """The default user as it is where nothing is said of it: it may do everything."""
        user = User(DEFAULT, self._all_channels())
        for rule in (b"on", b"nopass", b"allkeys", b"allchannels", b"allcommands"):
            user.apply(rule)
        return user

    # --- files -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take over the users of the configuration or of the ACL file; raises AclError."""
        config = self.node.config
        if config.users and config.aclfile:
            raise AclError(_BOTH_WAYS)
        for name, rules in config.users.items():
            self._configured(name, rules)
        if config.aclfile:
            try:
                self.load()
            except ReplyError as error:
                reason = _shown(error.text.removeprefix(b"ERR "))
                text = f"Aborting server startup because of ACL errors: {reason}"
                raise AclError(text) from None

    def _configured(self, name: bytes, rules: Sequence[bytes]) -> None:
        if has_spaces(name):
            raise AclError("Spaces not allowed in ACL usernames")
        user = User(name, self._all_channels())
        try:
            for rule in merged(rules):
                user.apply(rule)
        except BadRule as error:
            reason = b"Error loading ACL rule '%b' for the user named '%b': %b"
            raise AclError(_shown(reason % (rule, name, error.text))) from None
        except Unmatched:
            reason = b"Unmatched parenthesis in the selectors of the user named '%b'" % name
            raise AclError(_shown(reason)) from None
        self._replace({**self.users, name: user}, [name])

    def load(self) -> None:
        """Take over the users of the ACL file, all or none; raises ReplyError."""
        name = self._file()
        try:
            text = self.node.disk.read(name)
            users = read_users(name.encode(), text, self._all_channels())
        except OSError as error:
            reason = f"ERR Error loading ACLs, opening file '{name}': {error.strerror}"
            raise ReplyError(reason.encode()) from None
        except BadFile as error:
            raise ReplyError(b"ERR " + error.text) from None
        users.setdefault(DEFAULT, self._pristine_default())
        self._replace(users, [*self.users, *users])

    def save(self) -> None:
        """Write the users to the ACL file; raises ReplyError, OSError."""
        replace(self.node.disk, self._file(), written(self.users.values()))

    def config_lines(self) -> list[bytes]:
        """The users as CONFIG REWRITE writes them: where there is an ACL file, none."""
        return [] if self.node.config.aclfile else [user.line() for user in self.users.values()]

    def _file(self) -> str:
        if not self.node.config.aclfile:
            raise NO_FILE
        return self.node.config.aclfile
