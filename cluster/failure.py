"""Who is failing, and whether the cluster is up.

A node that can't be reached for the node timeout is suspected (PFAIL); so is at once one whose
bus port refuses connections, if it ever answered here. Suspicions travel in the gossip of pings.
When a majority of the voters, this one included, holds the same suspicion, the node is FAIL, and
everybody is told. FAIL ends when the node answers again and is a replica or serves no slots, or
when nobody replaced it for two node timeouts.

The cluster is up here when every slot is served by a node that isn't FAIL (unless
`cluster-require-full-coverage no`) and this node reaches a majority of the voters.
"""

from cluster import message as m
from cluster.desk import Desk
from cluster.speaker import Speaker
from cluster.view import FAIL, LIGHT_PUBLISH, PFAIL, Node

REPORT_VALIDITY = 2  # node timeouts
UNDO_TIME = 2  # node timeouts
SHORTEST_ELECTION = 2000

# Why the cluster is down.
MINORITY = "I am part of a minority partition."
NOT_COVERED = (
    "At least one hash slot is not served by any available node. "
    "Please check the 'cluster-require-full-coverage' configuration."
)


class Failure:
    """Suspicion, reports, judgement, and the state of the cluster."""

    def __init__(self, desk: Desk, speaker: Speaker) -> None:
        self.desk = desk
        self.speaker = speaker
        # When this primary first looked, and last saw itself in a minority; 0 for never.
        self._first_look = 0
        self._minority_at = 0
        self._reason = ""
        # The last tick.
        self.awake_at = 0

    # ---- suspicion

    def refused(self, node: Node) -> None:
        """Nothing listens at a node's bus port any more: its process is gone."""
        if not self.desk.options.report_refused or not node.proven:
            return
        if not any(self._wins_unasked(replica) for replica in node.replicas):
            self.suspect(node)

    def _wins_unasked(self, replica: Node) -> bool:
        """Redis 7.0 counts the votes of an election again if the next failure comes within two
        node timeouts, and then claims slots under the old epoch, which nobody heeds."""
        lasts = max(self.desk.options.node_timeout * 2, SHORTEST_ELECTION)
        lately = replica.voted_at and self.desk.now - replica.voted_at < lasts
        return bool(lately and not replica.flags & LIGHT_PUBLISH)

    def suspect(self, node: Node) -> None:
        """This node can't reach that one."""
        if node.flags & (PFAIL | FAIL):
            return
        desk = self.desk
        desk.view.set_flags(node, add=PFAIL)
        desk.event("suspected", node)
        desk.changed()
        if not desk.myself.is_voter:
            desk.log("notice", f"NODE {node.label} possibly failing.")
        desk.report = True
        self.judge(node)

    def check_silence(self, node: Node) -> None:
        """Suspect a node that has owed an answer, and been silent, for the node timeout."""
        if node.ping_sent:
            silent = self.desk.now - max(node.ping_sent, node.data_received)
            if silent > self.desk.options.node_timeout:
                self.suspect(node)

    def answered(self, node: Node) -> None:
        """A node has answered a ping on the link that this node opened."""
        node.ping_sent = 0
        node.pong_received = self.desk.now
        if not node.proven:
            node.proven = True
            self.desk.check_state |= not self.desk.view.ok
        if self.desk.view.set_flags(node, remove=PFAIL):
            self.desk.event("cleared", node)
            self.desk.changed()
        elif node.failed:
            self._recover_if_due(node)

    # ---- reports and judgement

    def reported(self, node: Node, reporter: Node, failing: bool) -> None:
        """A known node's gossip says how it finds another."""
        reports = node.fail_reports
        if not failing:
            if reports.pop(reporter.id, None) is not None:
                self.desk.log(
                    "notice", f"Node {reporter.label} reported node {node.label} is back online."
                )
            return
        if reporter.is_voter:
            if reporter.id not in reports:
                self.desk.log(
                    "notice",
                    f"Node {reporter.label} reported node {node.label} as not reachable.",
                )
            reports[reporter.id] = self.desk.now
        self.judge(node)

    def report_count(self, node: Node) -> int:
        """How many valid reports there are of a node's failure."""
        validity = self.desk.options.node_timeout * REPORT_VALIDITY
        return self.desk.view.report_count(node, self.desk.now, validity)

    def judge(self, node: Node) -> None:
        """Make a suspicion FAIL once a majority shares it."""
        if not node.suspected:
            return
        view = self.desk.view
        needed = view.quorum - view.myself.is_voter
        # Most news of a suspicion are not yet enough, whether old reports among them count or not.
        if len(node.fail_reports) < needed or self.report_count(node) < needed:
            return
        self.desk.log("notice", f"Marking node {node.label} as failing (quorum reached).")
        self.fail(node, "quorum")
        self.speaker.to_all(m.Fail(self.speaker.header(), node.id))

    def on_fail(self, sender: Node, message: m.Fail) -> None:
        """Somebody says that a majority holds a node for failed."""
        node = self.desk.view.nodes.get(message.node_id)
        if node is None or node.failed or node is self.desk.myself:
            return
        self.desk.log("notice", f"FAIL message received from {sender.label} about {node.label}")
        self.fail(node, sender.id)

    def fail(self, node: Node, reporter: str) -> None:
        """Hold a node for failed from now on."""
        self.desk.view.set_flags(node, add=FAIL, remove=PFAIL)
        node.fail_time, node.failed_before = self.desk.now, False
        self.desk.event("failed", node, reporter)
        self.desk.changed()
        if self.desk.myself.primary is node:
            self.desk.check_failover = True

    def _recover_if_due(self, node: Node) -> None:
        """A failed node answers again: see whether it may count as well."""
        if not node.is_voter:
            what = "replica" if node.is_replica else "primary without slots"
            self._recover(node, f"{what} is reachable again.")
        elif self._had_time_to_be_replaced(node):
            self._recover(
                node, "is reachable again and nobody is serving its slots after some time."
            )

    def _had_time_to_be_replaced(self, node: Node) -> bool:
        """Whether a replica would be serving a failed primary's slots by now, if one could."""
        if node.failed_before or not node.replicas:
            return True
        return self.desk.now - node.fail_time > self.desk.options.node_timeout * UNDO_TIME

    def _recover(self, node: Node, why: str) -> None:
        self.desk.log("notice", f"Clear FAIL state for node {node.label}: {why}")
        self.desk.view.set_flags(node, remove=FAIL)
        self.desk.event("recovered", node)
        self.desk.changed()

    # ---- the state of the cluster

    def update_state(self) -> None:
        """Decide anew whether the cluster is up for this node."""
        desk, view, myself = self.desk, self.desk.view, self.desk.myself
        if not self._first_look:
            self._first_look = desk.now
        if myself.is_primary and not view.ok and desk.now < self._may_serve_at():
            return
        reason = self._why_down()
        if reason == MINORITY and view.voters:
            self._minority_at = desk.now
        up = not reason
        if up != view.ok:
            if up and myself.is_primary and desk.now < self._may_rejoin_at():
                return
            self._set_state(up)
        if reason and reason != self._reason and view.voters:
            desk.log("warning", f"Cluster is currently down: {reason}")
        self._reason = reason

    def _set_state(self, up: bool) -> None:
        desk, state = self.desk, "ok" if up else "fail"
        desk.view.ok = up
        desk.view.version += 1
        desk.log("notice" if up else "warning", f"Cluster state changed: {state}")
        desk.event("state", desk.myself, state)

    def notice_sleep(self) -> None:
        """A primary that was stopped for the node timeout may have been replaced since: it is
        down, as if it came from a minority, until there was time to be told."""
        desk, view = self.desk, self.desk.view
        slept = desk.now - self.awake_at
        if not self.awake_at or slept <= desk.options.node_timeout:
            return
        self.awake_at = desk.now
        if desk.myself.is_voter and view.voters > 1 and view.ok:
            desk.log("warning", f"Not running for {slept} milliseconds, waiting for news.")
            self._minority_at = desk.now
            self._set_state(False)

    def wake_at(self) -> int | None:
        """When the state may change by the mere passing of time."""
        if self.desk.view.ok or not self.desk.myself.is_primary:
            return None
        times = [t for t in (self._may_serve_at(), self._may_rejoin_at()) if t > self.desk.now]
        return min(times, default=None)

    def _may_serve_at(self) -> int:
        """A restarted primary first gives the others time to tell that it was replaced; once
        each of them has answered it knows."""
        view = self.desk.view
        if not view.restarted or not self._first_look:
            return 0
        if all(node.proven for node in view.others()):
            return 0
        return self._first_look + self.desk.options.writable_delay

    def _may_rejoin_at(self) -> int:
        """A primary that comes back from a minority does so too."""
        if not self._minority_at:
            return 0
        options = self.desk.options
        delay = max(options.rejoin_delay_min, min(options.node_timeout, options.rejoin_delay_max))
        return self._minority_at + delay

    def _why_down(self) -> str:
        """Why the cluster is down, in Redis's words, or an empty text."""
        view = self.desk.view
        reachable = sum(
            1 for node in view.order if node.is_voter and not node.flags & (FAIL | PFAIL)
        )
        if reachable < view.quorum:
            return MINORITY
        if self.desk.options.require_full_coverage and (
            view.unassigned or any(node.slots and node.failed for node in view.order)
        ):
            return NOT_COVERED
        return ""
