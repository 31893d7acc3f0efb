"""The cluster that most of these tests run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.whole_group import WholeGroup


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[WholeGroup]:
    """Three replicas of one group and a router, started; a test that needs another has a fixture of this name."""
    made = WholeGroup(tmp_path / "cluster")
    made.start(*made.replicas, "router")
    yield made
    made.close()
