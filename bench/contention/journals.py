"""What the groups' journals took in: rows decided within one group, and rows decided by steps over groups.

Told by the replicas themselves, by what they applied (`/metrics`): nothing is inferred from routes.
"""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from urllib.request import urlopen

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

READ_S_MAX: Final = 10.0
ROWS: Final = "posting_engine_journal_rows"
LEADS: Final = "posting_engine_is_leader"
TRANSFERS: Final = frozenset({"post", "reserve", "commit", "release", "reverse"})
_STEP_OF_DECIDERS: Final = "decide"
_NO_STEP: Final = "local"


class JournalRows(NamedTuple):
    """Rows of transfers by which groups decided them, whatever their outcomes."""

    local: int = 0
    crossing: int = 0

    def __add__(self, other: object) -> "JournalRows":
        """Add up, field by field."""
        if not isinstance(other, JournalRows):
            return NotImplemented
        return JournalRows(self.local + other.local, self.crossing + other.crossing)

    def __sub__(self, before: "JournalRows") -> "JournalRows":
        """What came since."""
        return JournalRows(self.local - before.local, self.crossing - before.crossing)

    @property
    def crossing_share(self) -> float:
        """The part that was decided by steps; 0 of nothing."""
        return self.crossing / max(1, self.local + self.crossing)


class Journals:
    """Asks replicas; `addresses`: host:port of their metrics."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def rows(self) -> JournalRows:
        """Add up what the leaders of all groups have applied since they started; raises OSError."""
        texts = await asyncio.gather(*(asyncio.to_thread(_read, address) for address in self._addresses))
        return sum((rows_of(text) for text in texts), JournalRows())


def rows_of(text: str) -> JournalRows:
    """Read one replica's metrics; a follower applies what its leader has counted."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    if not any(sample.value for sample in families[LEADS].samples):
        return JournalRows()
    return JournalRows(*(_rows(families.get(ROWS), step) for step in (_NO_STEP, _STEP_OF_DECIDERS)))


def _rows(family: Metric | None, step: str) -> int:
    samples: Iterable[tuple[dict[str, str], float]] = (
        (sample.labels, sample.value) for sample in (family.samples if family is not None else ())
    )
    return sum(
        int(value) for labels, value in samples if labels.get("step") == step and labels.get("kind") in TRANSFERS
    )


def _read(address: str) -> str:
    with urlopen("http:" + f"//{address}/metrics", timeout=READ_S_MAX) as answer:
        text: bytes = answer.read()
    return text.decode()
