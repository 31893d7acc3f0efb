"""Fixtures that several files of unit tests share."""

from collections.abc import Callable, Iterator

import pytest

from tests.batcher_bench import no_batcher_fails
from tests.raft_bench import Bench

ATTEMPT_S_MAX = 300.0


@pytest.fixture
def make_bench() -> Iterator[Callable[..., Bench]]:
    """Make benches of one real `RaftLog`, which are put away after the test."""
    made: list[Bench] = []

    def make(**options: object) -> Bench:
        made.append(Bench(**options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def patient_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gives up no attempt and leaves no stream while this machine stands still."""
    for module in ("coalescer", "retry"):
        monkeypatch.setattr(f"postingengine.{module}.ATTEMPT_S_MAX", ATTEMPT_S_MAX)
    monkeypatch.setattr("postingengine.stream.SILENT_S_MAX", ATTEMPT_S_MAX)


@pytest.fixture
def no_failures() -> Iterator[None]:
    """For tests of batchers: one that breaks ends its process, and so fails the test."""
    with no_batcher_fails():
        yield
