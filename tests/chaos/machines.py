"""Machines for a test: network namespaces, joined by a switch in one more, whose cables can be cut.

What is cut here is silent: nothing resets a connection, as nothing does when a machine loses its power. Needs root and
iproute2; all is gone once the namespaces are.
"""

import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import Final

NETWORK: Final = "10.77.0."
IP_S_MAX: Final = 60.0
NOBODY: Final = "02:00:00:00:00:01"
"""A hardware address that no machine has."""


class Machines:
    """Machines by name, each with an address on the same network."""

    def __init__(self, names: Iterable[str]) -> None:
        """Make the namespaces; raises RuntimeError, saying why, where that cannot be."""
        self.names = tuple(names)
        self._switch = f"pe{os.getpid()}-switch"
        try:
            self._make()
        except RuntimeError:
            self.close()
            raise

    def address(self, name: str) -> str:
        """Return a machine's address, without a port."""
        return f"{NETWORK}{self.names.index(name) + 1}"

    def on(self, name: str) -> list[str]:
        """Return the words before a command that make it run on a machine."""
        return ["ip", "netns", "exec", self._namespace(name)]

    def cut(self, name: str) -> None:
        """Nothing gets to a machine or from it any more."""
        _ip("-n", self._switch, "link", "set", f"to-{name}", "down")

    def mute(self, name: str) -> None:
        """Nothing gets from a machine to the others any more; it still hears them."""
        for other in self.names:
            self._aim(name, other, NOBODY)

    def deafen(self, name: str) -> None:
        """Nothing gets to a machine any more; the others still hear it."""
        for other in self.names:
            self._aim(other, name, NOBODY)

    def mend(self, name: str) -> None:
        """Undo whatever was done to a machine."""
        _ip("-n", self._switch, "link", "set", f"to-{name}", "up")
        for other in self.names:
            self._aim(name, other, self._hardware[other])
            self._aim(other, name, self._hardware[name])

    def close(self) -> None:
        """End the namespaces; what still runs in them has no network then."""
        for namespace in (self._switch, *map(self._namespace, self.names)):
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, check=False, timeout=IP_S_MAX)

    def _make(self) -> None:
        if os.geteuid() != 0:
            raise RuntimeError("network namespaces need root")
        if shutil.which("ip") is None:
            raise RuntimeError("network namespaces need the program ip, of iproute2")
        self._hardware = {name: f"02:00:00:00:01:{number:02x}" for number, name in enumerate(self.names, 1)}
        _ip("netns", "add", self._switch)
        _ip("-n", self._switch, "link", "add", "switch", "type", "bridge")
        _ip("-n", self._switch, "link", "set", "switch", "up")
        for name, hardware in self._hardware.items():
            namespace, port = self._namespace(name), f"to-{name}"
            _ip("netns", "add", namespace)
            cable = ("type", "veth", "peer", "name", "eth0", "address", hardware, "netns", namespace)
            _ip("-n", self._switch, "link", "add", port, *cable)
            _ip("-n", self._switch, "link", "set", port, "master", "switch")
            _ip("-n", self._switch, "link", "set", port, "up")
            _ip("-n", namespace, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            for device in ("lo", "eth0"):
                _ip("-n", namespace, "link", "set", device, "up")

    def _namespace(self, name: str) -> str:
        return f"pe{os.getpid()}-{name}"

    def _aim(self, sender: str, receiver: str, hardware: str) -> None:
        """Have a machine send what is for another one to a hardware address."""
        if sender != receiver:
            neighbour = (self.address(receiver), "lladdr", hardware, "dev", "eth0", "nud", "permanent")
            _ip("-n", self._namespace(sender), "neighbour", "replace", *neighbour)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False, timeout=IP_S_MAX)
    if done.returncode:
        raise RuntimeError(f"no network namespaces here: 'ip {' '.join(words)}' says {done.stderr.strip()!r}")
