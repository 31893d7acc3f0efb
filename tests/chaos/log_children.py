"""Start `log_process`, read its answers, kill it."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from tests.chaos.log_process import Answer

START_S_MAX: Final = 120.0
END_S_MAX: Final = 120.0


class LogProcess:
    """One run of it."""

    def __init__(self, folder: Path, seed: int, *fault: str, environment: dict[str, str] | None = None) -> None:
        command = [sys.executable, "-m", "tests.chaos.log_process", str(folder), str(seed), *fault]
        self._output = folder.parent / f"answers-{seed}"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, stdout=output, env=os.environ | (environment or {}))
        self.process_id = self._process.pid

    def wait_for_answers(self, count: int) -> None:
        """Return once it has given so many answers."""
        deadline = time.monotonic() + START_S_MAX
        while len(self.answers()) < count:
            assert self._process.poll() is None, f"the process ended with {self._process.returncode}"
            assert time.monotonic() < deadline, f"fewer than {count} answers in {START_S_MAX} s"
            time.sleep(0.01)

    def kill(self) -> list[Answer]:
        """SIGKILL; return every answer that it gave."""
        self._process.kill()
        self._process.wait(END_S_MAX)
        return self.answers()

    def end(self) -> None:
        """SIGTERM, and wait for the end."""
        self._process.terminate()
        assert self._process.wait(END_S_MAX) == 0

    def answers(self) -> list[Answer]:
        """The answers so far; a line that is cut off was not told."""
        lines = self._output.read_text().split("\n")[:-1]
        return [Answer(*map(int, line.split())) for line in lines if not line.startswith("started")]
