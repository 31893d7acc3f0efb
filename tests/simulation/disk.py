"""The disk of one simulated replica: a `MemoryDisk` that outlives processes and power cuts, and may end the former.

A process that dies leaves all its writes to the kernel. A power cut leaves what was synced, and of the rest whatever
`tests.crash_images` allows: each operation there, not there, or torn at a sector.
"""

import random

from tests.crash_images import Image, Operation
from tests.memory_disk import MemoryDisk


class Crash(BaseException):
    """The replica dies in the midst of a disk operation. Not an Exception: nothing may handle it."""

    def __init__(self, replica: str, *, again: bool = False) -> None:
        """`again`: what is left of a process that died already wanted the disk."""
        super().__init__(replica)
        self.replica, self.again = replica, again


class SimulatedDisk(MemoryDisk):
    """`fuse`: after so many more operations the replica dies (`Crash`), in the midst of whatever it does."""

    def __init__(self, replica: str, dice: random.Random) -> None:
        super().__init__(salt=dice.getrandbits(32))
        self.replica, self.dice = replica, dice
        self.fuse: int | None = None
        self.before = self._burn

    def fall(self, *, power: bool) -> None:
        """The process is gone: all descriptors are; with `power`, what was not synced may be, too."""
        self.fuse = None
        self.close_all()
        if power:
            self.put_back(self.trace.random_image(self.trace.now, self.dice.getrandbits(32)))

    def wipe(self) -> None:
        """A new disk is put in."""
        self.put_back(Image())

    def close(self, descriptor: int) -> None:
        """What is left of a process that died may still close what it had open."""
        if descriptor in self._open:
            super().close(descriptor)

    def random_u32(self) -> int:
        return self.dice.getrandbits(32)

    def _burn(self, _: Operation) -> None:
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse < 0:
                raise Crash(self.replica)
