"""One migration of slots as one side sees it: its state, and what follows on which word.

    source   connecting -> (sending-auth-command -> reading-auth-response ->)
             sending-establish-command -> reading-establish-response -> waiting-to-snapshot ->
             snapshotting -> replicating -> waiting-to-pause -> failover-paused ->
             failover-granted -> success
    target   waiting-for-ack -> receiving-snapshot -> waiting-for-paused -> failover-requested ->
             failover-granted -> success

From each of these it may end as failed, on the source also as cancelled; on the target over
cleaning-up, until nothing of the slots is left. A replica of the target sees but
occurring-on-primary and how it ends.
"""

from collections.abc import Iterable, Iterator

from attrs import define, field

from cluster.slots import slot_range

EXPORT, IMPORT = "EXPORT", "IMPORT"

# States, as CLUSTER GETSLOTMIGRATIONS names them: of the source,
CONNECTING = "connecting"
SENDING_AUTH, READING_AUTH = "sending-auth-command", "reading-auth-response"
SENDING_ESTABLISH = "sending-establish-command"
READING_ESTABLISH = "reading-establish-response"
WAITING_TO_SNAPSHOT, SNAPSHOTTING = "waiting-to-snapshot", "snapshotting"
REPLICATING, WAITING_TO_PAUSE, PAUSED = "replicating", "waiting-to-pause", "failover-paused"
# of the target,
WAITING_FOR_ACK, RECEIVING = "waiting-for-ack", "receiving-snapshot"
WAITING_FOR_PAUSED, FAILOVER_REQUESTED = "waiting-for-paused", "failover-requested"
CLEANING_UP, ON_PRIMARY = "cleaning-up", "occurring-on-primary"
# of both.
GRANTED = "failover-granted"
SUCCESS, CANCELLED, FAILED = "success", "cancelled", "failed"

_ENDS = frozenset((SUCCESS, CANCELLED, FAILED))
# Before the target has said that it takes part, nothing but the handshake is to be sent; nor may
# an ACK get in between the pieces of a snapshot.
_NO_ACK = frozenset(
    (
        *(CONNECTING, SENDING_AUTH, READING_AUTH, SENDING_ESTABLISH, READING_ESTABLISH),
        *(SNAPSHOTTING, WAITING_FOR_ACK, CLEANING_UP, ON_PRIMARY),
    )
)
# Which word brings a side from which states to which.
_STEPS = {
    (IMPORT, "SNAPSHOT-EOF"): ((RECEIVING,), WAITING_FOR_PAUSED),
    (IMPORT, "PAUSED"): ((WAITING_FOR_PAUSED,), FAILOVER_REQUESTED),
    (IMPORT, "FAILOVER-GRANTED"): ((FAILOVER_REQUESTED,), GRANTED),
    (EXPORT, "REQUEST-PAUSE"): ((REPLICATING,), WAITING_TO_PAUSE),
    (EXPORT, "REQUEST-FAILOVER"): ((PAUSED,), GRANTED),
}
WORDS = frozenset(word for _, word in _STEPS)

# Why a migration failed, as Valkey's operators know it.
UNEXPECTED = "Unexpected state machine transition"
UNKNOWN_WORD = "Unknown SYNCSLOTS subcommand used"
TIMED_OUT = "Timed out after too long with no interaction"
FLUSHED = "Data was flushed"
REFUSED = "Failed to process command during slot migration. Check logs for more information"
OUT_OF_MEMORY = "Ran out of memory (OOM) during slot import"
NO_SNAPSHOT = "Failed to perform snapshot"
PAUSE_OVER = "Unpaused before failover completed"
REPLICA_TAKES_OVER = "A manual failover is in progress"
PAUSE_TIMED_OUT = "Timed out before streaming completed"
MAY_HAVE_SUCCEEDED = (
    "Unpaused before migration completed (migration may have succeeded with lost writes)"
)
NOT_FOLLOWED = "A replica that may take the target's place does not have what it has"
GRANTED_TOO_LATE = "The slots were granted too late to be taken safely"
NOT_MINE = "Slots are no longer owned by myself"
NOT_ITS = "Slots are no longer owned by source node"
ASSIGNED_TO_ME = "Slots were unexpectedly assigned to myself during import"
FAILED_OVER = "A failover occurred during slot import"
RESYNCED = "Full resynchronization occurred"
RESTARTED = "Process restarted"

Range = tuple[int, int]


class JobFailure(Exception):
    """Why a migration can't go on."""


@define(eq=False)
class Job:
    """One migration.

    name: 40 hexadecimal digits, the same on both sides. source, target: ids of nodes. Times that
    end in _s are Unix time, those in _ms monotonic. acked_s: when the other side last said ACK.
    heard_ms: when it was last heard. pause_until_ms: while this node holds back writes, until when;
    0 otherwise. tracked: it takes place between other nodes, this one's primary and another.
    """

    name: str
    operation: str
    ranges: tuple[Range, ...]
    source: str
    target: str
    state: str
    created_s: int
    updated_s: int = 0
    acked_s: int = 0
    heard_ms: int = 0
    pause_until_ms: int = 0
    message: str = ""
    tracked: bool = False
    slots: int = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.slots = slots_of(self.ranges)
        self.updated_s = self.acked_s = self.created_s

    @property
    def is_over(self) -> bool:
        return self.state in _ENDS

    @property
    def is_under_way(self) -> bool:
        """Whether anybody still tries; not while there is something left to clean up."""
        return self.state not in _ENDS and self.state != CLEANING_UP

    @property
    def says_ack(self) -> bool:
        """Whether this side is to tell the other from time to time that it is there."""
        return self.is_under_way and self.state not in _NO_ACK and self.state != GRANTED

    @property
    def times_out(self) -> bool:
        """Whether silence of the other side ends it; after the grant the pause's end does."""
        return self.is_under_way and self.state not in (GRANTED, ON_PRIMARY)

    def hear(self, word: str) -> str:
        """The state that a word of the other side leads to; raises JobFailure."""
        if word == "ACK":
            return RECEIVING if self.state == WAITING_FOR_ACK else self.state
        if word == "CAPA":
            return self.state
        if word not in WORDS:
            raise JobFailure(UNKNOWN_WORD)
        before, after = _STEPS.get((self.operation, word), ((), ""))
        if self.state not in before:
            raise JobFailure(UNEXPECTED)
        return after

    def __str__(self) -> str:
        other = f"to {self.target}" if self.operation == EXPORT else f"from {self.source}"
        return f"{self.name} ({self.operation.lower()} of {to_text(self.ranges)} {other})"


@define(eq=False)
class Jobs:
    """All migrations that this node knows of, the latest first."""

    jobs: list[Job] = field(factory=list)

    def __iter__(self) -> Iterator[Job]:
        return iter(tuple(self.jobs))

    def __len__(self) -> int:
        return len(self.jobs)

    def add(self, job: Job) -> None:
        self.jobs.insert(0, job)

    def forget(self, name: str) -> None:
        """It is told anew."""
        self.jobs = [job for job in self.jobs if job.name != name]

    def find(self, name: str) -> Job | None:
        return next((job for job in self.jobs if job.name == name), None)

    def under_way(self, operation: str) -> list[Job]:
        """Those that go on."""
        return [job for job in self if job.operation == operation and job.is_under_way]

    def unfinished(self, operation: str) -> list[Job]:
        """Those that go on, or still clean up."""
        return [job for job in self if job.operation == operation and not job.is_over]

    def busy(self, operation: str) -> int:
        """The slots of those."""
        slots = 0
        for job in self.unfinished(operation):
            slots |= job.slots
        return slots

    def trim(self, most: int) -> None:
        """Forget the oldest of those that are over, until no more than `most` are left."""
        for job in reversed(tuple(self.jobs)):
            if len(self.jobs) <= most:
                return
            if job.is_over:
                self.jobs.remove(job)


def slots_of(ranges: Iterable[Range]) -> int:
    """The set of the slots in these ranges."""
    slots = 0
    for first, last in ranges:
        slots |= slot_range(first, last)
    return slots


def to_text(ranges: Iterable[Range]) -> str:
    """Ranges as CLUSTER GETSLOTMIGRATIONS shows them: `0-0 7-12`."""
    return " ".join(f"{first}-{last}" for first, last in ranges)
