"""Legs of cross-group chains in plain Python: judging, securing and running what one group runs (DESIGN §7)."""

import heapq
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from engine.core.chains.plan import Side
from engine.core.chains.word import State, Word
from engine.core.model.rules import Rules, Short, share_id
from engine.core.model.state import NS_PER_S, Account, Chain, Event, Held, Place, Stored
from engine.core.outcomes import Outcome, took_effect
from engine.core.records import AMOUNT_ALL, FOLLOWERS, AccountFlag, Flag, Kind

_ENDED_BY: Final = {
    Kind.COMMIT: Outcome.RESERVATION_ALREADY_COMMITTED,
    Kind.RELEASE: Outcome.RESERVATION_ALREADY_RELEASED,
}
Moved = tuple[bytes, bytes]
"""(debited, credited) account as this group books it."""


class Leg(NamedTuple):
    """One leg of a chain, as a step has it."""

    event: Event
    """As its caller sent it."""
    side: Side
    number: int
    amount: int
    given_back: int = 0
    """Of the hold that it follows."""


def transit_id(other: int, ledger: int) -> bytes:
    """Return the id of the account that balances money on its way to or from another group."""
    return b"\xff" * 8 + (1).to_bytes(2, "little") + other.to_bytes(2, "little") + ledger.to_bytes(4, "little")


def _is_move(event: Event, side: Side) -> bool:
    """Whether money goes from share account to share account, each in the group that its id names."""
    named = [int.from_bytes(name[10:12], "little") for name in (event.debit, event.credit)]
    shares = [share_id(group, 0)[:12] for group in named]
    return [event.debit[:12], event.credit[:12]] == shares and named == list(side) and side.debit != side.credit


class Legs(Rules):
    """What one group does with legs."""

    words: dict[bytes, Word]
    """By chain id."""

    def accounts_of(self, event: Event, side: Side) -> tuple[bytes, bytes] | None:
        """Return a leg's debit and credit account as this group books them, the far side being the transit account."""
        if self.group not in side:
            return None
        debit = event.debit if side.debit == self.group else transit_id(side.debit, event.ledger)
        return debit, event.credit if side.credit == self.group else transit_id(side.credit, event.ledger)

    def place_of(self, leg: Leg, chain_id: bytes, decider: int) -> Place:
        """Return where a leg runs."""
        return Place(chain_id, leg.side, decider, self.accounts_of(leg.event, leg.side))

    def make_transit(self, other: int, ledger: int, position: int) -> bytes:
        """Make the transit account, if there is none yet and the ledger is known."""
        name = transit_id(other, ledger)
        if name not in self.accounts and ledger in self.ledgers:
            row = position - self.next_position
            made = Stored(Event(id=name), Outcome.ACCOUNT_CREATED, position, self.time + row, Chain(), 0)
            self.accounts[name] = Account(ledger, 0, AccountFlag.TRANSIT, 0, made)
        return name

    next_position: int

    # Judging ----------------------------------------------------------------------------------------------------------

    def can_follow(self, event: Event, original: Stored) -> bool:
        """A leg of a cross-group chain can be followed unless that is released; a hold, once its decider's word is
        known."""
        if original.place is None or not took_effect(original.outcome):
            return took_effect(original.outcome)
        state = self.words[original.place.chain_id].state
        return state is not State.RELEASED and (state is not State.RESERVED or event.kind == Kind.REVERSE)

    def judge_leg(self, leg: Leg, decides: bool) -> tuple[Outcome | Short | None, int]:
        """Return (the first reason to refuse, or that a bucket is short, or None; the amount to move).

        The decider judges what a leg follows, wherever that runs; every group judges the accounts that it has.
        """
        event, accounts = leg.event._replace(amount=leg.amount), self.accounts_of(leg.event, leg.side)
        local = event._replace(debit=accounts[0], credit=accounts[1]) if accounts else event
        refusal: Outcome | Short | None = self._refuse_leg_places(event, leg.side) if accounts else None
        if refusal is None and event.kind in FOLLOWERS and (accounts or decides):
            refusal = self._refuse_original(event, decides)
        if refusal is None and accounts and event.kind != Kind.RELEASE:
            refusal = self._refuse_state(local)
        if refusal is None and accounts and event.kind not in (Kind.COMMIT, Kind.RELEASE):
            refusal = self._refuse_amount(local)
        return refusal, leg.amount if refusal else self._amount_of(local, accounts is not None, decides)

    def _amount_of(self, local: Event, runs: bool, decides: bool) -> int:
        """Only the decider knows what is left of a hold."""
        if local.kind == Kind.COMMIT:
            return self.amount_to_move(local) if decides else local.amount
        return self.amount_to_move(local) if runs else local.amount

    def _refuse_leg_places(self, event: Event, side: Side) -> Outcome | None:
        if event.ledger not in self.ledgers:
            return Outcome.LEDGER_UNKNOWN
        if event.kind in FOLLOWERS and self._is_missing(event):
            return Outcome.FOLLOWED_MISSING
        own = [group == self.group for group in side]
        return self._refuse_accounts(event, own, moves=_is_move(event, side))

    def _refuse_original(self, event: Event, decides: bool) -> Outcome | None:
        """What another group decides has at most as much left there: what is refused here would be refused there."""
        if self._is_missing(event):
            return Outcome.FOLLOWED_MISSING
        if event.kind == Kind.REVERSE and not decides:
            return self._refuse_unlike(event, self.history[event.followed])
        return self._refuse_followed(event)

    @contextmanager
    def scratch(self, legs: Iterable[Leg]) -> Iterator[None]:
        """Take back, in the end, whatever happens to the legs' accounts and to what they follow."""
        names = {name for leg in legs for name in self.accounts_of(leg.event, leg.side) or () if name in self.accounts}
        originals = [self.history[leg.event.followed] for leg in legs if leg.event.followed in self.history]
        accounts, copies = self.copies(names), [old.copy() for old in originals]
        yield
        self.accounts.update(accounts)
        for original, copy in zip(originals, copies, strict=True):
            vars(original).update(vars(copy))

    def try_leg(self, leg: Leg, decides: bool) -> None:
        """Let a leg take effect as far as later legs can see it. (A hold of this chain, none of them can follow.)"""
        accounts, kind = self.accounts_of(leg.event, leg.side), leg.event.kind
        if accounts is None and not decides:
            return
        if kind == Kind.RESERVE and accounts:
            self.accounts[accounts[0]].debits.reserved += leg.amount
            self.accounts[accounts[1]].credits.reserved += leg.amount
        elif kind == Kind.COMMIT and leg.amount == AMOUNT_ALL:
            self._follow(leg._replace(amount=0), accounts, True)
        elif kind != Kind.RESERVE:
            self._run(leg, accounts, True)

    # Taking effect ----------------------------------------------------------------------------------------------------

    def run_leg(self, leg: Leg, stored: Stored | None, place: Place, held: Held) -> int:
        """Let a decided leg take effect; return what it gave back of its hold. stored: of a RESERVE, its first row."""
        decides = place.decider == self.group
        if place.accounts is None and not decides:
            return 0
        if stored is None or leg.event.kind != Kind.RESERVE:
            return self._run(leg, place.accounts, decides)
        stored.held = held
        self._hold(stored, leg.amount)
        if decides and held.deadline is not None:
            heapq.heappush(self.deadlines, (held.deadline, held.position, stored))
        return 0

    def _run(self, leg: Leg, accounts: Moved | None, decides: bool) -> int:
        if leg.event.kind in (Kind.COMMIT, Kind.RELEASE):
            return self._follow(leg, accounts, decides) if accounts or decides else 0
        if accounts:
            debited, credited = reversed(accounts) if leg.event.kind == Kind.REVERSE else accounts
            self._post(debited, credited, leg.amount)
        if leg.event.kind == Kind.REVERSE and decides and leg.event.followed in self.history:
            self.history[leg.event.followed].reversed += leg.amount
        return 0

    def _follow(self, leg: Leg, accounts: Moved | None, decides: bool) -> int:
        """Post a part of a hold. Where another group decides, its words may come in any order."""
        original, kind = self.history.get(leg.event.followed), leg.event.kind
        if original is None:
            return leg.given_back
        keeps, back = bool(leg.event.flags & Flag.KEEP_REST and kind == Kind.COMMIT), leg.given_back
        if decides:
            back = 0 if keeps else original.remaining - leg.amount
        self._hold(original, -(leg.amount + back))
        self.give_back(original.accounts, back)
        if accounts:
            self._post(*accounts, leg.amount)
        if original.ended is None and not (keeps and original.remaining):
            original.ended = _ENDED_BY[Kind(kind)]
        return back

    def held_since(self, leg: Leg, position: int, timestamp: int, since_ns: int) -> Held:
        """Return since when, and until when, a RESERVE leg is a hold here."""
        timeout_s = leg.event.timeout_s
        return Held(position, timestamp, since_ns + timeout_s * NS_PER_S if timeout_s else None, leg.amount)

    # Securing ---------------------------------------------------------------------------------------------------------

    def secure(self, legs: Iterable[Leg], decider: int, sign: int, position: int) -> None:
        """Reserve (+1) or free (-1) what a chain takes from each account of this group, net of what it brings."""
        unbalanced: dict[int, int] = {}
        for name, (debits, credits) in self.net_of(legs).items():
            account = self.accounts[name]
            account.debits.reserved += sign * debits
            account.credits.reserved += sign * credits
            unbalanced[account.ledger] = unbalanced.get(account.ledger, 0) + debits - credits
        for ledger, amount in unbalanced.items():
            if amount:  # a hold that spends what an earlier leg brings
                transit = self.accounts[self.make_transit(decider, ledger, position)]
                transit.debits.reserved += sign * max(-amount, 0)
                transit.credits.reserved += sign * max(amount, 0)

    def net_of(self, legs: Iterable[Leg]) -> dict[bytes, tuple[int, int]]:
        """Return, by account, the debits and the credits to reserve; what a COMMIT moves is reserved by its hold."""
        takes: dict[bytes, int] = {}
        brings: dict[bytes, int] = {}
        for leg in legs:
            accounts, kind, amount = self.accounts_of(leg.event, leg.side), leg.event.kind, leg.amount
            if accounts is None or kind == Kind.RELEASE or amount == AMOUNT_ALL:
                continue
            debited, credited = reversed(accounts) if kind == Kind.REVERSE else accounts
            for name in (debited, credited):
                takes.setdefault(name, 0)
                brings.setdefault(name, 0)
            if kind != Kind.COMMIT:
                takes[debited] += amount
                brings[credited] += amount
            if kind != Kind.RESERVE:
                takes[credited] -= amount
                brings[debited] -= amount
        return {name: (max(takes[name], 0), max(brings[name], 0)) for name in takes}
