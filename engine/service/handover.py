"""How far the log has handed its committed records over to be applied, and who waits for that."""

import asyncio


class Handover:
    """On the event loop's thread."""

    def __init__(self, log_index: int, loop: asyncio.AbstractEventLoop) -> None:
        """What is up to `log_index` is applied already."""
        self.log_index, self._loop = log_index, loop
        """Of the last record that was handed over, or came by a snapshot."""
        self._waiting: list[tuple[int, asyncio.Future[None]]] = []

    def reached(self, log_index: int) -> None:
        """Note that all records up to here were handed over, or came by a snapshot."""
        self.log_index = max(self.log_index, log_index)
        if self._waiting:
            self._wake()

    async def until(self, log_index: int) -> None:
        """Return once all records up to `log_index` were handed over."""
        if log_index > self.log_index:
            done: asyncio.Future[None] = self._loop.create_future()
            self._waiting.append((log_index, done))
            await done

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for log_index, done in waiting:
            if log_index > self.log_index and not done.done():
                self._waiting.append((log_index, done))
            elif not done.done():
                done.set_result(None)
