"""What HELP answers: the usages, in the words and the order that clients know them in, each with
our own words for what the subcommand does."""

from collections.abc import Iterator

from node.command import TABLE
from node.replies import Status
from node.session import Session

# As a real server shows them, which is not how COMMAND DOCS does.
USAGES = {
    b"ACL": """\
CAT [<category>]
DELUSER <username> [<username> ...]
DRYRUN <username> <command> [<arg> ...]
GETUSER <username>
GENPASS [<bits>]
LIST
LOAD
LOG [<count> | RESET]
SAVE
SETUSER <username> <rule> [<rule> ...]
USERS
WHOAMI""",
    b"CLIENT": """\
CACHING (YES|NO)
CAPA <option> [options...]
GETREDIR
GETNAME
ID
INFO
KILL <ip:port>
KILL <option> <value> [<option> <value> [...]]
LIST [options ...]
UNPAUSE
PAUSE <timeout> [WRITE|ALL]
REPLY (ON|OFF|SKIP)
SETNAME <name>
SETINFO <option> <value>
UNBLOCK <clientid> [TIMEOUT|ERROR]
TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]]
         [OPTIN] [OPTOUT] [NOLOOP]
TRACKINGINFO
NO-EVICT (ON|OFF)
NO-TOUCH (ON|OFF)
IMPORT-SOURCE (ON|OFF)""",
    b"COMMAND": """\
(no subcommand)
COUNT
LIST
INFO [<command-name> ...]
DOCS [<command-name> ...]
GETKEYS <full-command>
GETKEYSANDFLAGS <full-command>""",
    b"CONFIG": """\
GET <pattern>
SET <directive> <value>
RESETSTAT
REWRITE""",
    b"FUNCTION": """\
LOAD [REPLACE] <FUNCTION CODE>
DELETE <LIBRARY NAME>
LIST [LIBRARYNAME PATTERN] [WITHCODE]
STATS
KILL
FLUSH [ASYNC|SYNC]
DUMP
RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]""",
    b"MEMORY": """\
DOCTOR
MALLOC-STATS
PURGE
STATS
USAGE <key> [SAMPLES <count>]""",
    b"OBJECT": """\
ENCODING <key>
FREQ <key>
IDLETIME <key>
REFCOUNT <key>""",
    b"PUBSUB": """\
CHANNELS [<pattern>]
NUMPAT
NUMSUB [<channel> ...]
SHARDCHANNELS [<pattern>]
SHARDNUMSUB [<shardchannel> ...]""",
    b"SCRIPT": """\
DEBUG (YES|SYNC|NO) [<engine_name>]
EXISTS <sha1> [<sha1> ...]
FLUSH [ASYNC|SYNC]
KILL
LOAD <script>
SHOW <sha1>""",
    b"XGROUP": """\
CREATE <key> <groupname> <id|$> [option]
CREATECONSUMER <key> <groupname> <consumer>
DELCONSUMER <key> <groupname> <consumer>
DESTROY <key> <groupname>
SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]""",
    b"XINFO": """\
CONSUMERS <key> <groupname>
GROUPS <key>
STREAM <key> [FULL [COUNT <count>]""",
}


def help_text(session: Session, container: bytes, usages: str = "") -> list[Status]:
    """Each usage, and what it does. usages: of a container that is not among USAGES."""
    shown = [*(usages or USAGES[container]).splitlines(), "HELP"]
    title = f"{container.decode()} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    return [Status(line.encode()) for line in (title, *_explained(container, shown))]


def _explained(container: bytes, usages: list[str]) -> Iterator[str]:
    """The lines; a usage goes on where the next line is indented."""
    for usage, following in zip(usages, [*usages[1:], ""], strict=True):
        yield usage
        if not following.startswith(" "):
            first = usages[usages.index(usage) - 1] if usage.startswith(" ") else usage
            yield "    " + _summary(container, first.split()[0])


def _summary(container: bytes, word: str) -> str:
    row = TABLE[container.lower()]
    return row.summary if word.startswith("(") else row.subcommands[word.lower().encode()].summary
