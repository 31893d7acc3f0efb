"""A caller's own batch, answered item by item: single items, too, are asked again until the deadline."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, Protocol

from postingengine.endpoints import Endpoints
from postingengine.faults import Fault, Told, fault_of
from postingengine.results import PACKED_RESULT, BatchResults
from postingengine.retry import ATTEMPT_S_MIN, Attempts, pause_s

RESULT_BYTES: Final = PACKED_RESULT.size


class Answers(NamedTuple):
    """The answers to some items, in their order."""

    packed: bytes
    """24 bytes each, as `PostTransfersResponse.packed_results`."""
    told: dict[int, Told]
    """The items without an outcome, by their place among those asked."""
    log_indexes: tuple[tuple[int, int], ...]
    """(group, log index) at which the outcomes are applied."""


class Items(Protocol):
    """What is asked item by item, under ids that make it repeatable."""

    path: str
    """The method."""
    ids: Sequence[bytes]
    """The id of each item."""

    def request(self, items: Sequence[int], attempt: int) -> bytes:
        """Return the serialised request of these items."""

    def read(self, answer: bytes) -> Answers:
        """Read the serialised answer."""

    def chain_of(self, item: int) -> range:
        """Return the items that share the fate of this one."""


class Settling:
    """The items of one batch on their way to an answer each; `deadline_s` is on the loop's clock."""

    def __init__(self, endpoints: Endpoints, items: Items, deadline_s: float) -> None:
        self._items, self._attempts = items, Attempts(endpoints, deadline_s, changes=True)
        self._packed = bytearray(len(items.ids) * RESULT_BYTES)
        self._told: dict[int, Told] = {}
        self._maybe_logged: set[int] = set()
        self.log_indexes: dict[int, int] = {}

    async def answers(self) -> BatchResults:
        """Ask until each item has an outcome or a fault that no retry helps, or the deadline.

        Raises `Fault` if the batch as a whole was never answered.
        """
        asked: Sequence[int] = range(len(self._items.ids))
        rounds = 0
        while asked:
            try:
                await self._ask(asked)
            except Fault as fault:
                if not rounds:
                    raise
                self._told.update((item, fault.told) for item in asked)
                break
            rounds += 1
            asked = self._worth_retrying()
            told = next((self._told[item] for item in asked if item in self._told), None)
            if told is None or not await self._paused(told, rounds):
                break
        return BatchResults(self._items.ids, bytes(self._packed), self._faults())

    async def _ask(self, asked: Sequence[int]) -> None:
        data = await self._attempts.call(self._items.path, lambda attempt: self._items.request(asked, attempt))
        answers = self._items.read(data)
        if len(answers.packed) != len(asked) * RESULT_BYTES:
            raise ValueError(f"{len(asked)} items were answered with {len(answers.packed)} bytes of results")
        self._place(asked, answers.packed)
        for item in asked if self._told else ():
            self._told.pop(item, None)
        for place, told in answers.told.items():
            self._told[asked[place]] = told
            if told.may_be_logged:
                self._maybe_logged.add(asked[place])
        for group, log_index in answers.log_indexes:
            self.log_indexes[group] = max(log_index, self.log_indexes.get(group, 0))

    def _place(self, asked: Sequence[int], packed: bytes) -> None:
        if len(packed) == len(self._packed):
            self._packed[:] = packed
            return
        for place, item in enumerate(asked):
            result = packed[place * RESULT_BYTES : (place + 1) * RESULT_BYTES]
            self._packed[item * RESULT_BYTES : (item + 1) * RESULT_BYTES] = result

    def _worth_retrying(self) -> list[int]:
        """Return the items, in whole chains, that another attempt may help; ascending."""
        chains = {self._items.chain_of(item) for item, told in self._told.items() if told.is_transient}
        hopeful = (chain for chain in chains if self._all_transient(chain))
        return sorted(item for chain in hopeful for item in chain)

    def _all_transient(self, chain: Iterable[int]) -> bool:
        return all(self._told[item].is_transient for item in chain if item in self._told)

    async def _paused(self, told: Told, rounds: int) -> bool:
        """Wait for the next attempt; False if there is no time for it."""
        pause = pause_s(told, rounds, 1)
        if pause + ATTEMPT_S_MIN >= self._attempts.left_s():
            return False
        await asyncio.sleep(pause)
        return True

    def _faults(self) -> dict[int, Fault]:
        """Return the items without an outcome, by ascending index."""
        return {
            item: fault_of(
                self._told[item]._replace(item=item),
                outcome_unknown=item in self._maybe_logged or self._attempts.may_be_logged,
                attempts=self._attempts.count,
            )
            for item in sorted(self._told)
        }
