"""Slots that move to another node as a whole: CLUSTER MIGRATESLOTS.

The source sends a checkpoint of the slots and then, of its log, what concerns them. Once the
target has nearly all, the source holds back writes for as long as the rest takes; then the target
claims the slots under a greater epoch, and the source, when it hears of that, lets everybody go on,
which sends them to the target. What the target has of the slots is hidden until then. Whatever
goes wrong before, the source keeps the slots, and the target deletes what it has of them.

    source                             target
        ESTABLISH source, name, slots ->
                               <- OK                       its replicas hear of it, too
        ACK ->                                             both say ACK once a second
        RESTORE ... SNAPSHOT-EOF ->
        SET ... (the log) ->
                               <- REQUEST-PAUSE
        PAUSED ->
                               <- REQUEST-FAILOVER         once its replicas have it all
        FAILOVER-GRANTED ->
                                                           claims the slots; its replicas: FINISH

All of these but the data are CLUSTER SYNCSLOTS commands, without an answer but that one OK.

jobs.py        one migration as either side sees it; which step follows on which word
tail.py        the log's share of some slots
snapshot.py    the checkpoint of some slots
source.py      Export: the source's end of the link
target.py      Import: the target's end
migrations.py  Migrations: all of a node's, beginnings and ends

Source: https://valkey.io/topics/atomic-slot-migration/, and what valkey-server 9.1 says on the
wire.
"""
