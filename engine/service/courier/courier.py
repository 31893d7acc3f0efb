"""The courier: each leader drives the open chains of its own log to their end, whatever died (DESIGN §7).

It scans the chains that its group still reserves for, oldest first, a page at a time, and lets the pure driver that
routers use say what to send: reserve where that is missing, decide, tell the others. A router that lives is faster;
so chains are left alone for a grace. Nothing is remembered between two scans but which groups did not answer, and what
buckets of split accounts were short for: what is open is in the log, and every step may be repeated.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from engine.core.chains.driver import Facts, next_steps
from engine.core.chains.plan import is_followed
from engine.core.chains.word import Order, Step, Word
from engine.service.courier.outbox import Errand, Outbox, Send

LOG: Final = logging.getLogger(__name__)

SCAN_EVERY_S: Final = 0.1
"""Between two scans of all that is open."""
PAGE_CHAINS_MAX: Final = 512
"""Chains read in one go."""
ACTIVE_CHAINS_MAX: Final = 4096
"""Chains driven at a time."""
DRIVES_A_TURN_MAX: Final = 64
"""Chains begun before the event loop may do something else."""
SHORT_AGAIN_S: Final = 0.5
"""Between two tries of a chain that a bucket of a split account is short for."""
SHORT_ENDS_AFTER_S: Final = 5.0
"""So long a bucket may stay short for a chain, from when the courier first heard of it; then the chain is aborted."""
NONE_BEFORE: Final = -1
_NS_PER_S: Final = 1_000_000_000

_Key = tuple[Step, int, bytes, int]


class OpenChain(NamedTuple):
    """A chain that waits for its decider here, or a hold of it that is past its deadline."""

    position: int
    """Journal position that pages go by: the next one is behind the last of this one."""
    deadline_ns: int
    """RESERVED: after which this group may ask the decider to abort; 0: never. HELD: of the hold."""
    word: Word
    """This group's."""


ReadPage = Callable[[int, int], Awaitable[Sequence[OpenChain]]]
"""Reads up to so many open chains behind a position, in order of position, as this replica has applied them."""


class _Short(NamedTuple):
    """Since when, and when last, a bucket was short for a chain; ns."""

    since_ns: int
    heard_ns: int


class _Drive:
    """One chain on its way: the words that are known, and what was sent. Each order is sent once; the next scan may."""

    __slots__ = ("facts", "opened", "outstanding", "sent", "waits_for", "words")

    def __init__(self, opened: OpenChain, facts: Facts, group: int) -> None:
        self.opened, self.facts = opened, facts
        self.words: dict[int, Word] = {group: opened.word}
        self.sent: set[_Key] = set()
        self.outstanding = 0
        self.waits_for: set[int] = set()

    def new_orders(self) -> list[Order]:
        """Return what the driver says now and was not sent before."""
        fresh = []
        for order in next_steps(self.opened.word.chain, self.words, self.facts):
            key = (order.step, order.group, order.chain.digest, order.leg)
            if key not in self.sent:
                self.sent.add(key)
                fresh.append(order)
        return fresh

    def time_of(self, order: Order) -> int:
        """Return the time that a step carries: RESERVE the chain's deadline here, HOLD when it was decided."""
        if order.step is Step.RESERVE:
            return self.opened.deadline_ns
        if order.step is Step.HOLD and order.chain.decider in self.words:
            return self.words[order.chain.decider].timestamp_ns
        return 0


class Courier:
    """Drives open chains while `is_leader` says so. On the event loop's thread."""

    def __init__(
        self,
        group: int,
        pages: Sequence[ReadPage],
        senders: Callable[[int], Send],
        *,
        is_leader: Callable[[], bool],
        clock_ns: Callable[[], int],
        grace_ns: int,
    ) -> None:
        """`pages` read one sort of what is open each; `senders` gives the way to a group, the own one included."""
        self._group, self._pages, self._senders = group, pages, senders
        self._is_leader, self._clock_ns, self._grace_ns = is_leader, clock_ns, grace_ns
        self._outboxes: dict[int, Outbox] = {}
        self._active: dict[bytes, _Drive] = {}
        self._moved = asyncio.Event()
        self._scanning: asyncio.Task[None] | None = None
        self.driven = 0
        """Chains driven as far as they would go, since the start."""
        self.waits_for: dict[bytes, frozenset[int]] = {}
        """By chain id: the groups that did not answer when it was driven last; at most `ACTIVE_CHAINS_MAX`."""
        self._short: dict[bytes, _Short] = {}
        """By chain id; at most `ACTIVE_CHAINS_MAX`."""

    def start(self) -> None:
        """Begin to scan."""
        self._scanning = asyncio.create_task(self._scan_for_ever(), name="courier")

    def stop(self) -> None:
        """Send nothing more; what is open is for the next leader."""
        if self._scanning is not None:
            self._scanning.cancel()
        for outbox in self._outboxes.values():
            outbox.close()

    def waited_for(self, chain_id: bytes) -> frozenset[int]:
        """Return the groups that did not answer when a chain was driven last."""
        return self.waits_for.get(chain_id, frozenset())

    async def scan(self) -> None:
        """Begin to drive everything that is open and has had its grace, page after page."""
        found = set[bytes]()
        for read_page in self._pages:
            await self._scan_pages(read_page, found)
        for chain_id in [one for one in self.waits_for if one not in found]:
            del self.waits_for[chain_id]  # open no more: it waits for nobody
        for chain_id in [one for one in self._short if one not in found]:
            del self._short[chain_id]

    async def _scan_pages(self, read_page: ReadPage, found: set[bytes]) -> None:
        after = NONE_BEFORE
        while self._is_leader():
            page = await read_page(after, PAGE_CHAINS_MAX)
            await self._begin(page)
            found.update(opened.word.chain.chain_id for opened in page)
            if not page or not self._had_grace(page[-1]):
                return
            after = max(opened.position for opened in page)

    async def at_rest(self) -> None:
        """Wait until nothing is being driven."""
        while self._active:
            self._moved.clear()
            await self._moved.wait()

    async def _scan_for_ever(self) -> None:
        while True:
            await asyncio.sleep(SCAN_EVERY_S)
            try:
                await self.scan()
            except asyncio.CancelledError:
                raise
            except Exception:
                LOG.exception("a scan of the open chains failed; the next one follows")

    def _had_grace(self, opened: OpenChain) -> bool:
        return opened.word.timestamp_ns + self._grace_ns <= self._clock_ns()

    async def _begin(self, page: Sequence[OpenChain]) -> None:
        for number, opened in enumerate(page):
            while len(self._active) >= ACTIVE_CHAINS_MAX:
                self._moved.clear()
                await self._moved.wait()
            chain_id = opened.word.chain.chain_id
            if chain_id not in self._active and self._had_grace(opened) and not self._pauses(chain_id):
                self._drive(opened)
            if number % DRIVES_A_TURN_MAX == DRIVES_A_TURN_MAX - 1:
                await asyncio.sleep(0)

    def _pauses(self, chain_id: bytes) -> bool:
        """Whether a bucket was short for it just now: each try is a log record over there."""
        short = self._short.get(chain_id)
        return short is not None and self._clock_ns() < short.heard_ns + int(SHORT_AGAIN_S * _NS_PER_S)

    def _drive(self, opened: OpenChain) -> None:
        now_ns, short = self._clock_ns(), self._short.get(opened.word.chain.chain_id)
        ends = short is not None and now_ns >= short.since_ns + int(SHORT_ENDS_AFTER_S * _NS_PER_S)
        drive = _Drive(opened, Facts(self._group, 0 < opened.deadline_ns <= now_ns, ends), self._group)
        self._active[opened.word.chain.chain_id] = drive
        self._advance(drive)

    def _advance(self, drive: _Drive) -> None:
        orders = drive.new_orders()
        drive.outstanding += len(orders)
        for order in orders:
            self._outbox(order.group).put(
                Errand(
                    order,
                    drive.time_of(order),
                    lambda errand, word, short: self._learned(drive, errand, word, short),
                    lambda errand: self._failed(drive, errand),
                )
            )
        self._end_if_idle(drive)

    def _learned(self, drive: _Drive, errand: Errand, word: Word | None, short: bool) -> None:
        drive.outstanding -= 1
        if short:
            self._note_short(errand.order.chain.chain_id)
        drive.waits_for.discard(errand.order.group)
        if word is not None and not is_followed(word.chain, errand.order.chain):
            drive.words[errand.order.group] = word
        try:
            self._advance(drive)
        except Exception:  # one chain that cannot be driven must not hold up the others of its request
            LOG.exception("chain %s cannot be driven", drive.opened.word.chain.chain_id.hex())
            self._end_if_idle(drive)

    def _note_short(self, chain_id: bytes) -> None:
        now_ns, known = self._clock_ns(), self._short.get(chain_id)
        if known is not None or len(self._short) < ACTIVE_CHAINS_MAX:
            self._short[chain_id] = _Short(known.since_ns if known else now_ns, now_ns)

    def _failed(self, drive: _Drive, errand: Errand) -> None:
        drive.outstanding -= 1
        drive.waits_for.add(errand.order.group)
        self._end_if_idle(drive)

    def _end_if_idle(self, drive: _Drive) -> None:
        """Let go of a chain for which nothing is on its way: it has ended, or waits for a group, or a deadline."""
        chain_id = drive.opened.word.chain.chain_id
        if drive.outstanding or self._active.get(chain_id) is not drive:
            return
        del self._active[chain_id]
        self.waits_for.pop(chain_id, None)
        if drive.waits_for and len(self.waits_for) < ACTIVE_CHAINS_MAX:
            self.waits_for[chain_id] = frozenset(drive.waits_for)
        self.driven += not drive.waits_for
        self._moved.set()

    def _outbox(self, group: int) -> Outbox:
        if group not in self._outboxes:
            self._outboxes[group] = Outbox(group, self._senders(group))
        return self._outboxes[group]
