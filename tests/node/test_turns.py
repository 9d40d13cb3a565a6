"""Turns of plain sockets, beside those of other drivers."""

import os

from local import local_node

from node.turns import Turns


def test_other_drivers_have_theirs_between_two_turns():
    turns = Turns(local_node().node)
    fd = os.eventfd(0)
    heard = []
    turns.look_after(fd, lambda: heard.append(os.eventfd_read(fd)))
    assert not turns.pump()
    os.eventfd_write(fd, 3)
    assert turns.pump() and heard == [3]
    assert not turns.pump()
    turns.close()
    os.close(fd)
