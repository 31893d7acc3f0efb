"""`python -m cli.fork_server PARENT`: standard input is the socket of the process that started it, PARENT its id."""

import sys

from cli.fork_server.server import serve
from cli.main import main

if __name__ == "__main__":
    if serve(parent=int(sys.argv[1])):
        main()
