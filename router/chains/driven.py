"""One chain, driven by `engine.core.chains.driver`: what is not plain, or has met another plan or body (DESIGN §7)."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from engine.core.chains.driver import Answer, answer, next_steps
from engine.core.chains.plan import (
    NO_ORIGINALS,
    Chain,
    ChainFault,
    Original,
    Plan,
    Side,
    chain_of,
    decode_chain,
    followed_by,
    is_followed,
    lay_out,
    lay_out_alone,
    original_in,
)
from engine.core.chains.step_answers import ON_RECORD as ANSWERED_BEFORE
from engine.core.chains.step_answers import OTHER_CHAIN, SHORT, word_of
from engine.core.chains.step_record import steps_of
from engine.core.chains.word import REFUSALS, Order, State, Step, Word
from engine.core.outcomes import Outcome
from engine.core.records import RECORD_BYTES, Kind
from engine.rpc.faults import CallFailed, Fault, Logged, fate_unknown, invalid
from engine.rpc.steps import ON_RECORD
from router.chains.sending import Lane, SentAs

STUCK_PAUSE_S_MIN: Final = 0.01
STUCK_PAUSE_S_MAX: Final = 0.2

LaneOf = Callable[[int], Lane]
"""Returns the lane to a group; raises `CallFailed` for one that this router does not know."""


class OriginalElsewhere(Exception):
    """Raised where a group knows what a leg follows, laid out otherwise: nothing of this chain is logged there."""

    def __init__(self, chain: Chain) -> None:
        super().__init__("the original is laid out otherwise")
        self.chain = chain


class ShortAt(Exception):
    """Raised where a group's bucket of a split account does not suffice: nothing of that step is logged there."""

    def __init__(self, group: int, leg: int, reason: int) -> None:
        super().__init__(f"the bucket in group {group} is short")
        self.group, self.leg, self.reason = group, leg, reason


class Reply(NamedTuple):
    """What one group answered to one order."""

    word: Word | None
    on_record: bool
    log_index: int


class DrivenChain:
    """The driving of one chain under one plan."""

    def __init__(self, own: Chain, lane_of: LaneOf, sent_as: SentAs, deadline_ns: int) -> None:
        """deadline_ns: UTC, after which couriers may abort it."""
        self.own, self.words = own, dict[int, Word]()
        self.replayed: bool | None = None
        """Whether the first step that was answered was answered from the record; None before."""
        self.log_indexes: dict[int, int] = {}
        self._chains = {own.digest: own}
        self._lane_of, self._sent_as, self._deadline_ns = lane_of, sent_as, deadline_ns

    async def until_answered(self, deadline_s: float) -> Answer:
        """Drive until the caller can be told; `deadline_s` is on the loop's clock.

        Raises `CallFailed`, `OriginalElsewhere`, and `ShortAt`, after which it may be called again.
        """
        loop, pause_s = asyncio.get_running_loop(), STUCK_PAUSE_S_MIN
        while (told := answer(self.own, self.words)) is None:
            if not await self._round(deadline_s):
                if loop.time() + pause_s >= deadline_s:
                    words = "the groups of this chain gave no outcome within the deadline; ask again with its ids"
                    raise CallFailed(fate_unknown(words))
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, STUCK_PAUSE_S_MAX)
        return told

    async def refuse(self, reason: Outcome, leg: int, deadline_s: float) -> None:
        """Let the decider refuse it unjudged, unless it has a word already; raises `CallFailed`."""
        order = Order(Step.ABORT, self.own.decider, self.own, reason=reason, leg=leg)
        reply = await self._ask(order, deadline_s)
        if not self.words:  # whatever was asked before was short, and left nothing: this is the first that is on record
            self.replayed = None
        self._learn(order.group, reply)

    async def move(self, amount: int, deadline_s: float) -> None:
        """Let the one group of a transfer by itself post it for this amount; raises `CallFailed`, `ShortAt`."""
        order = Order(Step.DECIDE, self.own.decider, self.own, (amount,))
        self._learn(order.group, await self._ask(order, deadline_s))

    async def to_the_end(self, deadline_s: float) -> None:
        """Send what is left to send once the caller was told; what fails is the couriers'."""
        try:
            while await self._round(deadline_s):
                pass
        except ShortAt:
            return  # a step of another body's chain

    async def _round(self, deadline_s: float) -> bool:
        """Send what is to be sent now; return whether anything was learned."""
        orders = next_steps(self.own, self.words)
        before = dict(self.words)
        found = await asyncio.gather(*(self._ask(order, deadline_s) for order in orders), return_exceptions=True)
        for order, reply in zip(orders, found, strict=True):
            if isinstance(reply, Reply):
                self._learn(order.group, reply)
        failed = [reply for reply in found if isinstance(reply, BaseException)]
        if failed:
            raise self._worst(failed)
        return self.words != before

    async def _ask(self, order: Order, deadline_s: float) -> Reply:
        lane, record = self._lane_of(order.group), steps_of([order], [self._time_of(order)])
        if self.replayed is None:
            replies = await lane.ask(record, self._sent_as, deadline_s)
        else:
            replies = await lane.insist(record, self._sent_as._replace(placement_epoch=ON_RECORD), deadline_s)
        answers = replies.answers
        one = answers.answers[0]
        if one["flags"] & SHORT:
            self.replayed = self.replayed or False
            raise ShortAt(order.group, int(one["leg"]), int(one["reason"]))
        if one["flags"] & OTHER_CHAIN:
            other = decode_chain(answers.chains)
            if is_followed(other, self.own):
                raise OriginalElsewhere(other)
        word = word_of(answers, 0, order.chain, order.group)
        return Reply(self._known(word), bool(one["flags"] & ANSWERED_BEFORE), replies.log_index)

    def _known(self, word: Word | None) -> Word | None:
        """Let equal chains be one object, so that equal words are equal."""
        return None if word is None else word._replace(chain=self._chains.setdefault(word.chain.digest, word.chain))

    def _learn(self, group: int, reply: Reply) -> None:
        if self.replayed is None:
            self.replayed = reply.on_record and reply.word is not None
        if reply.word is not None:
            self.words[group] = reply.word
        if reply.log_index:
            self.log_indexes[group] = max(reply.log_index, self.log_indexes.get(group, 0))

    def _time_of(self, order: Order) -> int:
        if order.step is Step.RESERVE:
            return self._deadline_ns
        decided = self.words.get(order.chain.decider)
        return decided.timestamp_ns if order.step is Step.HOLD and decided is not None else 0

    def _worst(self, failed: list[BaseException]) -> BaseException:
        """Once a step may have been logged, no fault of another one can say that nothing was."""
        for error in failed:
            if not isinstance(error, CallFailed):
                return error
        faults = [error.fault for error in failed if isinstance(error, CallFailed)]
        if self.replayed is None and all(fault.logged is Logged.NO for fault in faults):
            return CallFailed(faults[0])
        return CallFailed(fate_unknown(f"{faults[0].message} (the chain is on its way; ask again with its ids)"))


class Layout:
    """How one caller's chain is laid out, as more and more becomes known of what its legs follow."""

    def __init__(self, rows: bytes, sides: Iterable[Side]) -> None:
        """sides: of each leg, by today's map."""
        self.rows, self._sides = rows, tuple(sides)
        self.followed: Mapping[int, bytes] = followed_by(rows)
        self._originals: dict[int, Original] = {}

    @property
    def legs(self) -> int:
        """How many legs the chain has."""
        return len(self._sides)

    def learn(self, chain: Chain) -> bool:
        """Take over how a chain laid out what some leg follows; return whether that is news."""
        before = dict(self._originals)
        for leg, followed in self.followed.items():
            original = original_in(chain, followed)
            if original is not None:
                self._originals[leg] = original
        return self._originals != before

    def own(self) -> Chain | ChainFault:
        """Lay it out. A single follower of which nothing is known goes as if its original had been plain; a chain with
        a `missing_leg` lies where every attempt that misses one is refused."""
        if self.missing_leg is not None:
            return lay_out_alone(self.rows, self._sides)
        return lay_out(self.rows, self._sides, self._originals or NO_ORIGINALS)

    @property
    def missing_leg(self) -> int | None:
        """The first leg, of several, that follows what nobody knows.

        Such a chain must not be reserved anywhere: a decider that knows the missing one after all, from another plan,
        would never decide it.
        """
        unknown = [leg for leg in self.followed if leg not in self._originals]
        return unknown[0] if unknown and self.legs > 1 else None

    def earlier(self) -> list[tuple[int, Chain]]:
        """Return (group, chain) to ask for an earlier attempt: however it was laid out, one of these groups has it on
        record."""
        known = self._originals.values()
        groups = {group for side in (*self._sides, *(one.side for one in known)) for group in side}
        groups.update(one.decider for one in known)
        return [
            (group, chain_of(self.rows, Plan((Side(group, group),) * self.legs, group))) for group in sorted(groups)
        ]

    def probes(self) -> list[tuple[int, Chain]]:
        """Return (group, chain) to ask for the id that each leg follows, in the homes of its accounts."""
        return [
            (group, self._probe(leg, group))
            for leg in self.followed
            if leg not in self._originals
            for group in dict.fromkeys(self._sides[leg])
        ]

    def _probe(self, leg: int, group: int) -> Chain:
        """A chain that has the followed id, and a body that nobody can have logged: a group that knows the id answers
        with the chain that it is of."""
        row = bytearray(self.rows[leg * RECORD_BYTES : (leg + 1) * RECORD_BYTES])
        row[:16], row[64:80] = row[64:80], bytes(16)
        row[48:64], row[122:124] = (1).to_bytes(16, "little"), bytes((Kind.POST, 0))
        return chain_of(bytes(row), Plan((Side(group, group),), group))


def chain_fault(fault: ChainFault) -> Fault:
    """Return why a chain cannot be laid out, for its caller."""
    return invalid(fault, CHAIN_FAULTS[fault])


async def ask_earlier(
    layout: Layout, lane_of: LaneOf, sent_as: SentAs, deadline_s: float, deadline_ns: int
) -> DrivenChain | None:
    """Return the earlier attempt of a chain that is not to be laid out anew, because of what it follows, if any.

    Raises `CallFailed`.
    """
    for group, chain in layout.earlier():
        order = Order(Step.ASK, group, chain)
        replies = await lane_of(group).insist(steps_of([order]), sent_as, deadline_s)
        word = word_of(replies.answers, 0, chain, group)
        if word is not None and word.chain.rows == layout.rows:
            driven = DrivenChain(word.chain, lane_of, sent_as, deadline_ns)
            driven.replayed, driven.words[group] = True, word
            return driven
    return None


CHAIN_FAULTS: Final[Mapping[ChainFault, str]] = {
    ChainFault.CHAIN_TOO_LONG: "the chain has more legs than one may have; split it",
    ChainFault.CHAIN_OVER_TOO_MANY_GROUPS: "the accounts of the chain lie in more groups than one chain may touch",
    ChainFault.CHAIN_OF_SEVERAL_DECIDERS: "the chain follows what different groups decided; follow them one by one",
    ChainFault.BALANCING_IN_CHAIN: "a balancing leg, or a COMMIT of all, cannot be in a chain over several groups",
    ChainFault.GROUP_UNKNOWN: "an account of the chain lies in a group that is not one of this cluster",
}


_NOTHING_TO_FOLLOW: Final = REFUSALS | {State.NONE, State.RELEASED}


async def ask_originals(layout: Layout, lane_of: LaneOf, sent_as: SentAs, deadline_s: float) -> None:
    """Ask the homes of each follower's accounts what they know of its original; raises `CallFailed`."""
    probes = layout.probes()
    if not probes:
        return
    asked = [
        lane_of(group).insist(steps_of([Order(Step.ASK, group, chain)]), sent_as, deadline_s) for group, chain in probes
    ]
    for replies in await asyncio.gather(*asked):
        one = replies.answers.answers[0]
        if one["flags"] & OTHER_CHAIN and State(one["state"]) not in _NOTHING_TO_FOLLOW:
            layout.learn(decode_chain(replies.answers.chains))
