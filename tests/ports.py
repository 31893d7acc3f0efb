"""Ports for what listens within a test."""

import socket

LOOPBACK = "127.0.0.1"


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that the system gives to nobody else for a minute.

    It is left as if a connection to it had just ended. A server, which binds with SO_REUSEADDR, may have it all the
    same; whoever asks for any port, as other tests do and every outgoing connection, gets another one.
    """
    with socket.socket() as listener, socket.socket() as caller:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, 0))
        listener.listen(1)
        caller.connect(listener.getsockname())
        served, _ = listener.accept()
        served.close()  # the end that closes first is the one that the system remembers
        caller.recv(1)
        return int(listener.getsockname()[1])


def free_address() -> str:
    return f"{LOOPBACK}:{free_port()}"
