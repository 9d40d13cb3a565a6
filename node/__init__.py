"""One node: a Redis-compatible server's data, log, clients and replication, in layers.

A module imports only from its own row or the rows above it; tests/test_layers.py keeps this true.
Rows 1 to 7 decide and never do: no sockets, no clock, no files, no randomness of their own.

 1  clock         milliseconds, read once per turn; the virtual twin
    disk          append, fsync, rename, read; the simulated twin loses and tears
    background    work on the data of one moment that leaves the node free; calls that wait
    host          memory, processor time: what INFO tells of the process
    replies       what a command may answer; the shared error texts
    resp          requests in, replies out: RESP2 and RESP3
    data/         values: list, hash, set, zset, stream, strings, hyperloglog, geo; glob patterns;
                  limits of encodings
 2  data.keyspace databases split into 16384 parts; data.expiry which keys are due
    config/       every directive: redis.conf, the command line, CONFIG
    persistence/  log: what happened, encoded once, read by cursors; rdb/: snapshots;
                  aof/manifest, aof/reader: what an append-only file's bytes mean
 3  command       usage lines, rows, the command table
    session       one client: bytes in, bytes out
    blocking pubsub transaction        what clients wait for, subscribe to, queue
    acl/          users, and what they may do
    client_line   a client as CLIENT LIST describes it
    tracking      who holds copies of which keys, and is told when they change
    topology      the seam: where a command belongs
 4  gate          why a command may not run now
    execute       run commands; finish: log, wake, notify
    pause observe
    shutdown      the end, in order: replicas catch up, the file is written
    info          INFO's sections; whoever owns what one tells may register it
    housekeeper   idle clients and those that do not read are closed; samples for INFO
    moving        MIGRATE: keys on their way to another node
    slot_stats    what each slot of a cluster costs
    notifications keyspace events, published
    eviction      maxmemory: how much there is, and which keys go
    monitor       MONITOR: every command, shown to those who look on
 5  commands/     a file per group of commands
 6  replication/  primary and replica: the two ends of a link, without its socket
    persistence/  checkpoint: the data as an RDB and back; loading: those a node starts with;
                  saves: its file, when it is due and what became of it;
                  aof/: every change in a file, as durable as promised; rewrites
    expiring      keys whose time has come are deleted, beside all else
 7  node          Node: builds and owns all of the above
 8  turns         [trio] one task serves all plain sockets, a batch per turn
    streams       [trio] its portable twin, one task per stream
    children      [trio] background work in forked children; calls that wait in a thread
    watchdog      a thread that has others served while a script is long inside C
    home          [trio] what another thread may ask of a driver's run
    server        [trio] listeners, signals, time: a Node becomes a process
    process       configuration, log, daemon, pid file

The life of a write: turns reads -> session.receive -> resp splits -> execute.run calls the
handler, which changes the keyspace and says so by `touch` -> finish logs the effect -> the turn
ends: the log is encoded, synced where that is promised -> replicas get their tails -> replies
leave.
"""
