"""Simulated processes: whatever a process starts is known to be its own, and ends with it."""

import asyncio
import contextvars
from collections.abc import Coroutine
from typing import Any

CURRENT: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("process", default=None)


class Died(BaseException):
    """The current process was killed at this very place. Not an Exception: nothing may handle it."""


class Process:
    """One life of a node or router: tasks and callbacks that it starts inherit `context`."""

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        """Alive from now on."""
        self.name, self.loop, self.alive = name, loop, True
        self.context = contextvars.copy_context()
        self.context.run(CURRENT.set, self)
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.rows: Any = None
        """A node's: the journal rows of the record that was applied last."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Start a task of this process."""
        return self.loop.create_task(work, context=self.context)

    def end(self) -> None:
        """Nothing of it runs any more."""
        self.alive = False
        for task in list(self.tasks):
            task.cancel()


def own_tasks(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], **options: Any) -> "asyncio.Task[Any]":
    """A task factory that notes each task with its process."""
    task = asyncio.Task(work, loop=loop, **options)
    context = options.get("context")
    process = CURRENT.get() if context is None else context.get(CURRENT)
    if process is not None:
        process.tasks[task] = None
        task.add_done_callback(lambda done: process.tasks.pop(done, None))
        if not process.alive:
            task.cancel()
    return task
