"""What the forming of a cluster reads and shares out; a real cluster is formed in test_launcher."""

import pytest
import trio

from cluster.admin import Formation, FormationFailed, parse_info, parse_nodes, shard_slots
from cluster.slots import SLOTS
from tests.conftest import free_ports

NODES = b"""\
07c37dfeb235213a872192d90877d0cd55635b91 127.0.0.1:30004@31004,host \
slave e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca 0 1426238317239 4 connected
67ed2db8d677e59ec4a4cefb06858cf2a1a89fa1 :30002@31002 \
myself,master - 0 0 2 connected 5461-10922 11000 [93->-292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f]
292f8b365bb7edb5e285caf0b7e6ddc7265d2f4f ::1:30003@31003 \
master,fail? - 0 1426238318243 3 disconnected
"""


def test_nodes_are_read_with_role_place_and_slots():
    replica, me, other = parse_nodes(NODES)
    assert (replica.port, replica.is_primary, replica.slots) == (30004, False, "")
    assert replica.primary_id == "e7d1eecce10fd6bb5eb35b9f99a514335d9ba9ca"
    assert (me.port, me.is_primary, me.primary_id) == (30002, True, None)
    assert me.slots == "5461-10922 11000"
    assert (other.port, other.linked, other.flags) == (30003, False, {"master", "fail?"})


def test_info_fields_keep_colons_in_their_values():
    fields = parse_info(b"# Replication\r\nrole:slave\r\nmaster_host:::1\r\n\r\n")
    assert fields == {"role": "slave", "master_host": "::1"}


@pytest.mark.parametrize("shards", [1, 2, 3, 7, 100])
def test_shards_cover_every_slot_once_and_evenly(shards):
    ranges = shard_slots(shards)
    assert [slot for first, last in ranges for slot in range(first, last + 1)] == [*range(SLOTS)]
    sizes = [last - first + 1 for first, last in ranges]
    assert max(sizes) - min(sizes) <= 1


def test_three_shards_are_as_everywhere():
    assert shard_slots(3) == [(0, 5460), (5461, 10922), (10923, 16383)]


async def test_nodes_that_never_listen_end_in_a_failure():
    addresses = [("127.0.0.1", port) for port in free_ports(3)]
    with pytest.raises(FormationFailed, match=r"not ready after 0\.1 s"):
        await Formation(addresses, 3).form(timeout=0.1)


async def test_a_refused_step_names_the_node_and_its_words(valkey_server):
    lone = await trio.to_thread.run_sync(valkey_server)
    with pytest.raises(FormationFailed, match=rf"{lone.port}.*cluster support disabled"):
        await Formation([("127.0.0.1", lone.port)], 1).form()
