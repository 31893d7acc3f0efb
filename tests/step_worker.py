"""A worker for the log that runs a job when the test says so."""

from collections import deque

from engine.replication.worker import Done, ImmediateWorker, Job


class StepWorker(ImmediateWorker):
    """Keeps what is submitted until `step`."""

    def __init__(self) -> None:
        """Nothing is under way."""
        super().__init__()
        self.jobs: deque[tuple[Job, Done]] = deque()

    def submit(self, job: Job, done: Done, *, brief: bool = False) -> None:
        """See `Worker`."""
        self.jobs.append((job, done))

    def step(self) -> None:
        """Run the oldest job, if there is one, and tell its end."""
        if self.jobs:
            super().submit(*self.jobs.popleft())

    def run_all(self) -> None:
        """Run until nothing is left, neither jobs nor callbacks."""
        while self.jobs or self._soon:
            self.step()
            self.run_soon()

    def wait(self) -> None:
        """See `Worker`."""
        while self.jobs:
            self.step()
