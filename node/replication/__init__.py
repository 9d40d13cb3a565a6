"""Primary and replicas: one stream of commands, and its two ends.

Everything but links.py and source.py is pure: bytes in, bytes out, the node's clock.

history.py    replication ids: whose changes, up to which offset, this node's data hold
transport.py  what the pure half asks of a driver
follower.py   Replica: one that follows this node
primary.py    Primary: what a node does for all of those
snapshot.py   one data set on its way to one or more replicas
replica.py    PrimaryLink: from connecting to the live stream, and back after a break
transfer.py   a full sync's payload coming in
stream.py     the primary's commands, applied and logged as they came
failover.py   FAILOVER: a primary hands its role over
role.py       Role: follow(), promote(), and what is due with time
own_keys.py   keys written at a writable replica that expire
report.py     INFO replication, ROLE
links.py      [trio] sockets
source.py     the child that writes a large snapshot
"""
