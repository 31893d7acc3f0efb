"""Ports for what listens within a test."""

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port of the loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def free_address() -> str:
    return f"{LOOPBACK}:{free_port()}"
