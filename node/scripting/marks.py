"""How Lua and Python tell each other what a value is that comes with a number."""

# What a script ended with, as lua/main.lua says it; ENDED: the hook or the lack of memory did.
RESULT, STATUS, ERROR, ENCODED, ENDED = range(5)
# A command's answer, as lua/redis.lua takes it, may be STATUS or ERROR too, or this.
OUT_OF_MEMORY = 3

# Bytes; what is smaller always fits in the memory kept for the host.
LARGE = 256 * 1024
