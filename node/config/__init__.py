"""Every directive of a node: redis.conf, the command line, CONFIG GET, SET and REWRITE.

values.py       a directive and its simple kinds: yes or no, number, memory, choice, text
special.py      the kinds with a form of their own: save, bind, buffer limits, event classes ...
directives.py   the table: each directive in a line, with its bounds, default and aliases
config.py       Config: the values as attributes; get, set with roll-back, load, hooks
file.py         the lines of a configuration file: quoting, includes, the fatal error's form
rewriting.py    CONFIG REWRITE: the old file's text and the values in, the new text out
arguments.py    the command line of a server

Nothing here reads a file or changes a directory: callers hand in the functions that do.
"""

from node.config.config import Config, allows
from node.config.file import ConfigFileError
from node.config.values import ConfigError

__all__ = ["Config", "ConfigError", "ConfigFileError", "allows"]
