"""The pytest fixture `posting_engine`: an engine of one replica for a test's own use, in a temporary folder."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from postingengine.testing import Engine


@pytest.fixture(scope="session")
def posting_engine() -> "Iterator[Engine]":
    """One running engine, shared by the tests of a session: `client = posting_engine.client()`."""
    # Not before: every pytest run loads this module, and few of them need gRPC.
    from postingengine.testing import Engine  # noqa: PLC0415

    with Engine() as engine:
        yield engine
