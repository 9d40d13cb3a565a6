"""Many nodes: who serves which slots, how a primary's death is noticed and mended, and the tools.

Rows go on where those of `node` end; tests/test_layers.py keeps this true. Rows 9 and 10 know
nothing of `node`: a core is given messages, requests and the time, and gives back effects.

 9  slots         key -> slot, sets of slots
    effects       what a core is asked, and all that it can ask for
    view          what this node believes: nodes, roles, slots, links, health
    message       the binary bus: messages to bytes and back
    desk          what the deciders share: view, options, and where their effects are laid
    plan diagnosis      a cluster as its nodes tell it: what to move where, what is wrong
10  speaker       what this node says: headers, gossip, messages to one or to all
    gossip        meeting, links, pings
    failure       who is failing, whether the cluster is up
    election      how a replica takes its primary's place, and who votes for it
    ownership     who serves which slots, under which epoch
    assignment    slots as the operator gives and takes them
    slotmigration.jobs  a move of slots as a whole, as one side sees it
    nodesfile     nodes.conf: a view as text, and back
    core          hands each input to these, collects the effects
11  directives    redis.conf's words as the core's options
    routing       the node's topology in a cluster: MOVED ASK CROSSSLOT TRYAGAIN CLUSTERDOWN
    member        a node and a core, joined
    commands/     CLUSTER and what goes with it
    leftovers     keys of slots that are not served here, deleted little by little
    slotmigration/      both ends of a move of slots as a whole
12  simulation/   whole nodes under one clock and one seed; checks: the invariants
13  configfile    [trio] nodes.conf on disk, locked
    bus           [trio] links and time; carries out effects in order
    server        [trio] slotfleet-server: node, core and bus; the only place that knows all three
    client        [trio] a small RESP client, and one that follows MOVED and ASK
    processes launcher status      [trio] the nodes of this machine: `slotfleet up`, status, down
    workload observer drill report [trio] what a failover costs: `slotfleet drill`
    request commandline manage manage_members      the commands for any cluster: ask, plan, show
    admin census operations bykey membership       [trio] and what carries them out
    filecheck restore   files of a node: what is in them, and as they were at a time
    __main__      `slotfleet`

The life of a failure: bus sees a refused connection or silence -> failure marks the peer, reports
and, with a majority, FAIL -> election asks for votes -> each voter saves its epoch, then votes ->
ownership takes over the slots, Promote makes the node a primary -> ownership tells the others.
"""
