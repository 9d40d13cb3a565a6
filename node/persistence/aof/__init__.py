"""The append-only file: every change, written as it happens, in several parts.

A directory (`appenddirname`) holds a manifest, a base with the data of one moment (an RDB, or
commands), and increments with the commands since. Rewriting makes a new base in the background
and a new increment beside it; the parts before are history then, and go.

    manifest   which parts there are, in which order: text <-> object
    reader     what the bytes of a part mean, and up to where they do
    commands   data as the commands that would make them
    writer     the increment under way: written each turn, synced as promised, retried on errors
    directory  the parts on disk, and how a new set takes the place of the old one
    rewriting  when a new base is due, its making, what became of it
    loading    the parts put into a node, at its start
    aof        Aof: on or off; the turn's share of all this

https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/
"""
