"""Ports for what listens within a test.

Each process that runs tests has a block of ports of its own, below the range that kernels draw outgoing ports from. So
nobody takes one between the moment in which it is given out here and that in which something listens there, or while
what listened there has been killed: no connection's own end, no test beside this one.
"""

import atexit
import itertools
import random
import socket
from collections.abc import Iterator
from functools import cache
from typing import Final

from cli.cluster_file import LOOPBACK, is_free

PORT_FIRST: Final = 10_000
PORT_LAST: Final = 20_000
"""Above it `posting-engine init` draws its own."""
BLOCK_PORTS: Final = 250


def free_port() -> int:
    """A port of this process's own that nobody listens on; it comes again after all others of the block."""
    for port in itertools.islice(_ports(), BLOCK_PORTS):
        if is_free(port):
            return port
    raise RuntimeError("every port of this process's block is listened on")


def free_address() -> str:
    return f"{LOOPBACK}:{free_port()}"


@cache
def _ports() -> Iterator[int]:
    """The ports of a block that no other process has: its first one is listened on as long as this process runs."""
    blocks = list(range(PORT_FIRST, PORT_LAST, BLOCK_PORTS))
    random.SystemRandom().shuffle(blocks)
    for first in blocks:
        owner = socket.socket()
        try:
            owner.bind((LOOPBACK, first))
            owner.listen()
        except OSError:
            owner.close()
            continue
        atexit.register(owner.close)
        return itertools.cycle(range(first + 1, first + BLOCK_PORTS))
    raise RuntimeError(f"all blocks of ports from {PORT_FIRST} to {PORT_LAST} are taken by other tests")
