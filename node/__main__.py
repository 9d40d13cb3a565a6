"""python -m node: one node, standalone or a replica."""

import sys

from node.server import run_server

if __name__ == "__main__":
    sys.exit(run_server(sys.argv[1:]))
