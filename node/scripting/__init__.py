"""Scripts and functions: Lua 5.1 by lupa, fenced in.

engine.py       Scripting: what a node runs and has cached; EVAL and FCALL come here
scripts.py      sources: shebang lines, flags, the cache of scripts
libraries.py    functions: libraries, FUNCTION DUMP's payload
running.py      one script under way: its time limit, why it may not run, how it is killed
calls.py        redis.call: commands inside scripts
values.py       replies as Lua values
interpreter.py  the Lua runtime, its files, its memory; nothing of Python is within its reach
bytecode.py     the one look that is taken at compiled functions
binary.py       the libraries struct and bit, doubles for cmsgpack
lua/            what scripts see, in Lua, and what guards them

lupa bundles stock Lua 5.1.5, where a script can write outside Lua's memory, run for ever inside C,
or catch the error that should end it. lua/limits.lua, lua/strings.lua and bytecode.py say how each
of these is prevented.
"""
