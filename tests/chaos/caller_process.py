"""A caller in a process of its own, for one that must be on another machine: `Caller`, driven line by line.

It reads commands from its standard input, and answers each with a line of JSON.
"""

import asyncio
import json
import sys
import time

from tests.chaos.caller import Caller

BATCH_TRANSFERS = 2


class Driven:
    """What each command does."""

    def __init__(self, address: str, seed: int) -> None:
        self._caller = Caller(address, seed=seed)
        self._resting = asyncio.Event()
        self._load: asyncio.Task[None] | None = None

    async def create(self) -> object:
        """Create the accounts."""
        await self._caller.create_accounts()
        return None

    async def load(self) -> object:
        """Post without end, from several tasks."""
        self._resting.clear()
        self._load = asyncio.create_task(self._caller.post_until(self._resting, batch=BATCH_TRANSFERS))
        return None

    async def again(self) -> object:
        """Wait until something is acknowledged that is asked for from now on: how long that took, seconds."""
        assert self._load is not None
        begun_s = time.monotonic()
        await self._caller.until_acknowledged(self._load, begun_s=begun_s)
        return time.monotonic() - begun_s

    async def rest(self) -> object:
        """Post no more; return how many transfers were acknowledged."""
        self._resting.set()
        if self._load is not None:
            await self._load
        return len(self._caller.books.acknowledged)

    async def differences(self) -> object:
        """Learn every outcome; compare the cluster with the books."""
        await self._caller.settle()
        return await self._caller.differences()


async def main(address: str, seed: int) -> None:
    driven, loop = Driven(address, seed), asyncio.get_running_loop()
    while command := await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(await getattr(driven, command.strip())()), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
