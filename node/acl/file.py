"""Users as lines of text."""

from collections.abc import Iterable

from node.acl.selector import UNKNOWN, BadRule, has_spaces
from node.acl.user import Unmatched, User, merged

_UNCHANGED = (
    b"WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
)


class BadFile(ValueError):
    """An ACL file that can't be taken over; `text` lists all that is wrong with it."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


def read_users(name: bytes, text: bytes, all_channels: bool) -> dict[bytes, User]:
    """The users in an ACL file.

    name: of the file, for the errors. all_channels: of new users, as in User. Raises BadFile.
    """
    users: dict[bytes, User] = {}
    errors: list[bytes] = []
    for number, line in enumerate(text.split(b"\n"), 1):
        line = line.strip(b" \t\r\n")
        if not line:
            continue
        words = line.split(b" ")
        if words[0] != b"user" or len(words) < 2:
            reason = b"%b:%d should start with user keyword followed by the username. "
            errors.append(reason % (name, number))
        elif has_spaces(words[1]):
            errors.append(
                b"%b:%d: username '%b' contains invalid characters. " % (name, number, words[1])
            )
        elif words[1] in users:
            errors.append(b"WARNING: Duplicate user '%b' found on line %d. " % (words[1], number))
        else:
            users[words[1]] = user = User(words[1], all_channels)
            errors += _problems(user, words[2:], b"%b:%d: " % (name, number))
    if errors:
        raise BadFile(b"".join(errors) + _UNCHANGED)
    return users


def _problems(user: User, words: list[bytes], place: bytes) -> Iterable[bytes]:
    """Apply a line's rules; what is wrong with them."""
    try:
        rules = merged([word for word in words if word])
    except Unmatched:
        return [place + b"Unmatched parenthesis in selector definition."]
    errors = []
    said = False
    for rule in rules:
        try:
            user.apply(rule)
        except BadRule as error:
            if error.text == UNKNOWN:
                reason = b"%bError in applying operation '%b': %b. "
                errors.append(reason % (place, rule, error.text))
            elif not said:
                said = True
                errors.append(b"%b%b. " % (place, error.text))
    return errors


def written(users: Iterable[User]) -> bytes:
    """The text of an ACL file."""
    return b"".join(user.line() + b"\n" for user in users)
