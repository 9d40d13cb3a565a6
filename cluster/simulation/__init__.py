"""Whole nodes under one clock and one seed, in one thread.

    timeline    virtual time: what happens next
    network     connections that carry bytes, and what goes wrong with them
    bus         links between nodes, nodes.conf: the core's driver
    connections clients and replication: the node's driver
    process     a node, its core and these drivers: one run of a server program
    clients     what every client of a cluster does: it finds the owners of slots, and asks them
    writers     clients that write unique values, and the ledger of what they were told
    past        what a machine's data have been, and which of that its files must bring back
    trace       what happened: a digest of everything, lines for people
    settings    what a run is like; a seed draws it
    world       machines and the story that is told of them
    faults      what is done to them at random
    trial       one seed's run: formed, mistreated, healed, checked
    __main__    many seeds, on all cores: scripts/simulate

What must hold is in cluster.checks. Everything random comes from the seed, and nothing depends on
the order of a set, so a run is the same in every process.
"""
