"""GET SET INCR LPUSH ..."""

from node.command import DENYOOM, FAST, READONLY, WRITE, command
from node.data.keyspace import STRING
from node.replies import OK
from node.session import Session


@command("GET key", flags=READONLY | FAST, group="string", since="1.0.0")
def get(session: Session, args: list[bytes]):
    """The string at a key."""
    value = session.db.get(args[1])
    if type(value) is bytes or value is None:
        return value
    return b"%d" % value


@command("SET key value [NX | XX]", flags=WRITE | DENYOOM, group="string", since="1.0.0")
def set_(session: Session, args: list[bytes]):
    """Set."""
    db = session.db
    if len(args) == 3:
        db.put(args[1], args[2])
        db.touch(args[1], b"set", STRING)
        return OK


@command("INCR key", flags=WRITE | DENYOOM, group="string", since="1.0.0")
def incr(session: Session, args: list[bytes]):
    """Set."""
    db = session.db
    key = args[1]
    value = db.find_string(key)
    if type(value) is not int:
        value = int(value or 0)
    value += 1
    db.replace(key, value)
    db.touch(key, b"incrby", STRING)
    return value
