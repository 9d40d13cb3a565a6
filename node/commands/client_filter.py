"""Which clients CLIENT LIST shows and CLIENT KILL ends."""

from collections.abc import Callable, Iterable

from node.client_line import CAPABILITIES, capabilities, flags
from node.commands.arguments import integer
from node.replies import SYNTAX, ReplyError, printed
from node.session import NORMAL, PRIMARY, PUBSUB, REPLICA, Session

Test = Callable[[Session], bool]

_KINDS = {
    b"normal": NORMAL,
    b"master": PRIMARY,
    b"primary": PRIMARY,
    b"slave": REPLICA,
    b"replica": REPLICA,
    b"pubsub": PUBSUB,
}
_FLAG_LETTERS = b"ABIMNOPRSTUbcdeirtux"
BAD_CLIENT_ID = ReplyError(b"ERR client-id should be greater than 0")


# --- filters --------------------------------------------------------------------------------------


def selected(session: Session, options: list[bytes], skip_me: bool) -> Iterable[Session]:
    """The clients that pass all the filters in `options`; raises ReplyError.

    skip_me: whether the asking client is left out where SKIPME does not say.
    """
    tests: dict[bytes, Test] = {}  # of a filter given twice the last counts
    ids: dict[bool, set[int]] = {False: set(), True: set()}  # of those given twice, all
    i = 0
    while i < len(options):
        if i + 1 == len(options):
            raise SYNTAX
        option = options[i].upper()
        i += 1
        if option == b"SKIPME":
            skip_me = _yes_or_no(options[i])
            i += 1
            continue
        negated, name = option.startswith(b"NOT-"), option.removeprefix(b"NOT-")
        if name == b"ID":
            found, i = _ids(options, i)
            ids[negated] |= found
            test = _id_test(ids[negated])
        elif name in _TESTS and not (negated and name in _NEVER_NEGATED):
            test = _TESTS[name](session, options[i])
            i += 1
        else:
            raise SYNTAX
        tests[option] = _not(test) if negated else test
    return [
        one
        for one in list(session.node.sessions.values())
        if not (skip_me and one is session) and all(test(one) for test in tests.values())
    ]


def _not(test: Test) -> Test:
    return lambda session: not test(session)


def _yes_or_no(word: bytes) -> bool:
    if word.lower() not in (b"yes", b"no"):
        raise SYNTAX
    return word.lower() == b"yes"


def _id_test(ids: set[int]) -> Test:
    return lambda session: session.id in ids


def _ids(options: list[bytes], i: int) -> tuple[set[int], int]:
    """As many ids as follow; where they end is where a word is no number."""
    ids: set[int] = set()
    while i < len(options) and options[i].lstrip(b"-").isdigit():
        number = integer(options[i], SYNTAX)
        if number <= 0:
            raise BAD_CLIENT_ID
        ids.add(number)
        i += 1
    if not ids:
        raise SYNTAX
    return ids, i


def _type_test(session: Session, word: bytes) -> Test:
    kind = _KINDS.get(word.lower())
    if kind is None:
        raise ReplyError(b"ERR Unknown client type '%b'" % printed(word))
    return lambda one: one.kind == kind


def _user_test(session: Session, word: bytes) -> Test:
    if word not in session.node.acl.users:
        raise ReplyError(b"ERR No such user '%b'" % word)
    return lambda one: one.user == word


def _flags_test(session: Session, word: bytes) -> Test:
    strange = bytes(letter for letter in word if letter not in _FLAG_LETTERS)
    if strange:
        raise ReplyError(b"ERR Unknown flags found in the provided filter: %b" % word)
    return lambda one: set(word) <= set(flags(one))


def _capa_test(session: Session, word: bytes) -> Test:
    if set(word) - set(b"".join(CAPABILITIES.values())):
        raise ReplyError(b"ERR Unknown capa found in the provided filter: %b" % word)
    return lambda one: set(word) <= set(capabilities(one))


def _db_test(session: Session, word: bytes) -> Test:
    number = integer(word, ReplyError(b"ERR DB is not an integer or out of range"))
    last = session.node.config.databases - 1
    if not 0 <= number <= last:
        raise ReplyError(b"ERR DB number should be between 0 and %d" % last)
    return lambda one: one.db.index == number


def _seconds(name: bytes, word: bytes) -> int:
    number = integer(word, ReplyError(b"ERR %b is not an integer or out of range" % name))
    if number <= 0:
        raise ReplyError(b"ERR %b should be greater than 0" % name)
    return number


def _maxage_test(session: Session, word: bytes) -> Test:
    since_ms = session.node.now_ms - _seconds(b"maxage", word) * 1000
    return lambda one: one.created_ms <= since_ms


def _idle_test(session: Session, word: bytes) -> Test:
    since_ms = session.node.now_ms - _seconds(b"idle", word) * 1000
    return lambda one: one.active_ms <= since_ms


def _same(what: Callable[[Session], bytes]) -> Callable[[Session, bytes], Test]:
    return lambda session, word: lambda one: what(one) == word


def _ip(session: Session) -> bytes:
    return session.address.rpartition(b":")[0].strip(b"[]")


_TESTS: dict[bytes, Callable[[Session, bytes], Test]] = {
    b"TYPE": _type_test,
    b"USER": _user_test,
    b"ADDR": _same(lambda one: one.address),
    b"LADDR": _same(lambda one: one.local_address),
    b"NAME": _same(lambda one: one.name),
    b"LIB-NAME": _same(lambda one: one.library),
    b"LIB-VER": _same(lambda one: one.library_version),
    b"IP": _same(_ip),
    b"FLAGS": _flags_test,
    b"CAPA": _capa_test,
    b"DB": _db_test,
    b"MAXAGE": _maxage_test,
    b"IDLE": _idle_test,
}
_NEVER_NEGATED = frozenset((b"MAXAGE", b"IDLE"))
