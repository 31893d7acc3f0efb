"""The way from routers to shard groups in memory: bytes that are late, lost, or there twice, by a seeded generator."""

import asyncio
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.core.chains.driver import Answer, Facts, next_steps, outcomes
from engine.core.chains.plan import Plan, Side, is_followed
from engine.core.chains.step_answers import (
    ON_RECORD,
    AnsweredWord,
    answers_of,
    decode_answers,
    encode_answers,
)
from engine.core.chains.step_record import StepRecord, decode_steps, dense_amounts, encode_steps
from engine.core.chains.word import WHOLE, Order, Step, Word
from engine.core.known import RESULT
from engine.core.limits import SLOTS
from engine.core.outcomes import ResultFlag
from engine.core.placement import slot_of
from engine.core.records import RECORD_BYTES, Flag, Words
from engine.rpc.answers import no_results
from engine.rpc.faults import CallFailed, Reason, fate_unknown, unavailable
from router.chains.behind import Behind
from router.chains.network import LocalAnswers, Network, Splits
from router.chains.sending import Lane, Replies, SentAs
from router.split.funds import Funds
from router.split.map import Split, SplitMap
from tests.fake_groups import FakeGroups, id_of

RETRY_S = 0.1
HASH_SEED = 7


def group_of_slot(groups: int) -> np.ndarray:  # type: ignore[type-arg]
    """Equal shares of the slots."""
    return (np.arange(SLOTS) * groups // SLOTS).astype(np.uint16)


def names_in(group: int, groups: int, count: int, prefix: str) -> list[str]:
    """Names of accounts whose home is that group."""
    homes = group_of_slot(groups)
    named = (f"{prefix}{number}" for number in range(10_000))
    found = (name for name in named if homes[slot_of(id_of(name), HASH_SEED)] == group)
    return [next(found) for _ in range(count)]


@dataclass
class Weather:
    """How bad the network is: probabilities of one message, and how late it may be."""

    lost: float = 0.0
    answer_lost: float = 0.0
    twice: float = 0.0
    late_s_max: float = 0.01


class FakeNetwork:
    """Groups, and the lanes of one router to them."""

    def __init__(self, groups: FakeGroups, seed: int, weather: Weather) -> None:
        """The same seed gives the same weather."""
        self.groups, self.weather = groups, weather
        self.down: set[int] = set()
        self.split: list[str] = []
        """The directory: the accounts that were split, in this order."""
        self.requests: list[tuple[int, int]] = []
        """(group, steps) of every request that was sent."""
        self._random = random.Random(seed)
        self._late: set[asyncio.Task[None]] = set()

    def router(self, split: Sequence[str] = ()) -> Network:
        """What one router posts by: lanes of its own, and a map of the accounts that were split, in this order."""
        count = len(self.groups.groups)
        lanes = {at: Lane(at, self._sender(at)) for at in range(count)}
        splits = self._splits(split)
        return Network(lanes.__getitem__, self.post_local, group_of_slot(count), HASH_SEED, Behind(), splits)

    def _splits(self, split: Sequence[str]) -> Splits:
        async def never(*_: object) -> Any:
            raise AssertionError("every bucket is there, and none is ever short")

        async def refresh() -> SplitMap:
            return known if list(split) == self.split else _map(self.split)

        known = _map(split)
        return Splits(known, Funds(never, never), never, refresh)

    async def settle(self) -> None:
        """Wait for what is late."""
        while self._late:
            await asyncio.wait(self._late)

    def heal(self) -> None:
        """Let every group's courier drive what is open, until nothing changes."""
        for overdue in (False, True):
            for _ in range(64):
                before = list(self.groups.groups)
                for at, word in self.groups.open_words():
                    self._courier(at, word, overdue)
                if self.groups.groups == before:
                    break

    # ---- the wire ----

    def _sender(self, at: int):  # type: ignore[no-untyped-def]
        async def send(record: StepRecord, sent_as: SentAs, deadline_s: float) -> Replies:
            self.requests.append((at, len(record.steps)))
            rows, payload = record.rows.tobytes(), encode_steps(record)
            answers = await self._deliver(at, lambda: self._stepped(at, rows, payload), deadline_s)
            return Replies(decode_answers(answers), 1)

        return send

    async def post_local(self, at: int, words: Words, deadline_s: float, _: int = 0) -> LocalAnswers:
        """Rows that lie in one group whole."""
        results = await self._deliver(at, lambda: self._posted(at, words), deadline_s)
        return LocalAnswers(results, [], 1)

    async def _deliver(self, at: int, act, deadline_s: float):  # type: ignore[no-untyped-def]
        loop, weather, is_sent = asyncio.get_running_loop(), self.weather, False
        while True:
            await asyncio.sleep(self._random.uniform(0, weather.late_s_max))
            if at not in self.down and self._random.random() >= weather.lost:
                answer, is_sent = act(), True
                if self._random.random() < weather.twice:
                    self._again_later(act)
                if self._random.random() >= weather.answer_lost:
                    await asyncio.sleep(self._random.uniform(0, weather.late_s_max))
                    return answer
            if loop.time() + RETRY_S >= deadline_s:
                raise CallFailed(
                    fate_unknown("no answer") if is_sent else unavailable(Reason.GROUP_UNREACHABLE, "out of reach")
                )
            await asyncio.sleep(RETRY_S)

    def _again_later(self, act) -> None:  # type: ignore[no-untyped-def]
        async def again() -> None:
            await asyncio.sleep(self._random.uniform(0, 20 * self.weather.late_s_max))
            act()

        task = asyncio.create_task(again())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    # ---- the groups' side ----

    def _stepped(self, at: int, rows: bytes, payload: bytes) -> bytes:
        record, said = decode_steps(rows, payload), []
        for order in self._orders(at, record):
            word, on_record = self.groups.run(at, order)
            said.append(AnsweredWord(word, ON_RECORD if on_record else 0, order.chain.digest))
        return encode_answers(answers_of(said))

    def _orders(self, at: int, record: StepRecord) -> Iterator[Order]:
        moved, back = dense_amounts(record.rows[:, 6:8], record.amounts)
        for step in record.steps:
            rows = slice(int(step["first_row"]), int(step["first_row"]) + int(step["rows"]))
            kind, data = Step(step["step"]), record.rows[rows].tobytes()
            if kind in WHOLE:
                sides = tuple(Side(*pair) for pair in record.sides[rows].tolist())
                chain = self.groups.chain(data, Plan(sides, int(step["decider"])))
                legs = list(range(chain.legs))
            else:
                chain = self.groups.chains[bytes(step["digest"])]
                legs = (record.rows[rows, 15] >> np.uint64(48)).tolist()
            assert bytes(step["digest"]) == chain.digest
            amounts, given_back = [0] * chain.legs, [0] * chain.legs
            for leg, amount, returned in zip(legs, moved[rows].tolist(), back[rows].tolist(), strict=True):
                amounts[leg], given_back[leg] = amount[0] | amount[1] << 64, returned[0] | returned[1] << 64
            carries = kind in (Step.DECIDE, Step.COMMIT, Step.HOLD)
            returned = (given_back[int(step["leg"])],) if kind is Step.EXPIRE else tuple(given_back)
            yield Order(
                kind,
                at,
                chain,
                tuple(amounts) if carries and chain.others else (),
                returned if any(returned) else (),
                int(step["reason"]),
                int(step["leg"]),
            )

    def _posted(self, at: int, words: Words) -> np.ndarray:  # type: ignore[type-arg]
        results, row = no_results(len(words)), 0
        while row < len(words):
            last = row
            while int(words[last, 15]) >> 24 & Flag.LINKED:
                last += 1
            results[row : last + 1] = self._posted_chain(at, words[row : last + 1].tobytes())
            row = last + 1
        return results

    def _posted_chain(self, at: int, rows: bytes) -> np.ndarray:  # type: ignore[type-arg]
        own = self.groups.local(rows, at)
        word, on_record = self.groups.run(at, Order(Step.DECIDE, at, own))
        results = np.zeros(len(rows) // RECORD_BYTES, RESULT)
        assert word is not None
        if word.chain.decider != at or not _has_an_id_of(word, rows):
            results["flags"], results["group"] = ResultFlag.DECIDED_ELSEWHERE, word.chain.decider
            return results
        results["outcome"], results["group"] = outcomes(own, Answer(word, in_flight=False)), at
        if word.chain.rows == rows and on_record:
            results["flags"] = ResultFlag.REPLAYED
        return results

    def _courier(self, at: int, word: Word, overdue: bool) -> None:
        words = {at: word}
        for _ in range(16):
            before = dict(words)
            for order in next_steps(word.chain, words, Facts(at, overdue)):
                said, _ = self.groups.run(order.group, order._replace(chain=self._known(order)))
                if said is not None and not is_followed(said.chain, word.chain):
                    words[order.group] = said
            if words == before:
                return

    def _known(self, order: Order):  # type: ignore[no-untyped-def]
        return self.groups.chain(order.chain.rows, order.chain.plan)


def _map(split: Sequence[str]) -> SplitMap:
    return SplitMap(Split(id_of(name), number + 1) for number, name in enumerate(split))


def _has_an_id_of(word: Word, rows: bytes) -> bool:
    theirs = {word.chain.rows[at : at + 16] for at in range(0, len(word.chain.rows), RECORD_BYTES)}
    return any(rows[at : at + 16] in theirs for at in range(0, len(rows), RECORD_BYTES))
