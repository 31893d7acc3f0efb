"""Short words for stories about one group, told to model and kernel at once."""

from typing import Any, Final

from engine.core.model.state import Event
from engine.core.outcomes import Outcome
from engine.core.placement import slot_of
from engine.core.records import Flag, Kind
from tests.core_histories import SECOND, SEED, name, names_here, settings
from tests.core_twins import Twins

ALICE, BOB, CAROL, DAVE = names_here(4)
BEGIN: Final = 1_000 * SECOND


class Story:
    """One group with two ledgers; time stands still unless `wait` moves it."""

    def __init__(self, **bounds: int) -> None:
        self.twins = Twins(**bounds)
        self.now = BEGIN
        self.used = 0
        self.twins.settings(settings(), self.now)

    @property
    def model(self) -> Any:
        return self.twins.model

    def new_id(self) -> bytes:
        self.used += 1
        return name(5_000_000 + self.used)

    def new_account(self, *, elsewhere: bool = False, prefix: bytes = b"") -> bytes:
        """Return an unused account id of this group, or of the other."""
        while True:
            account_id = prefix + self.new_id()[len(prefix) :]
            if (slot_of(account_id, SEED) >= 4096 - 600) == elsewhere:
                return account_id

    def wait(self, seconds: float) -> None:
        self.now += int(seconds * SECOND)

    def tell(self, *events: Event) -> list[Outcome]:
        """Apply one log record; return its outcomes. Invalid events have none."""
        return [Outcome(result.outcome) for result in self.twins.apply(list(events), self.now).results]

    def create(self, *accounts: bytes, **fields: Any) -> list[Outcome]:
        events = [Event(id=account, kind=Kind.CREATE_ACCOUNT, **{"ledger": 1, **fields}) for account in accounts]
        return self.tell(*events)

    def update(self, account: bytes, **fields: Any) -> Outcome:
        known = self.model.accounts.get(account)
        defaults = {
            "id": self.new_id(),
            "ledger": known.ledger if known else 1,
            "timeout_or_version": known.version if known else 1,
            "amount": known.overdraft if known else 0,
        }
        return self.tell(Event(kind=Kind.UPDATE_ACCOUNT, debit=account, **{**defaults, **fields}))[0]

    def event(self, kind: Kind, debit: bytes, credit: bytes, amount: int = 0, **fields: Any) -> Event:
        return Event(
            **{"id": self.new_id(), "ledger": 1, **fields}, kind=kind, debit=debit, credit=credit, amount=amount
        )

    def post(self, debit: bytes, credit: bytes, amount: int, **fields: Any) -> Outcome:
        return self.tell(self.event(Kind.POST, debit, credit, amount, **fields))[0]

    def give(self, account: bytes, amount: int) -> None:
        """Credit an account from one without limits."""
        source = self.new_account()
        self.create(source, ledger=self.model.accounts[account].ledger)
        ledger = self.model.accounts[account].ledger
        assert self.post(source, account, amount, flags=Flag.FORCE, ledger=ledger) == Outcome.POSTED

    def take(self, account: bytes, amount: int) -> None:
        """Debit an account, limits or not."""
        sink, ledger = self.new_account(), self.model.accounts[account].ledger
        self.create(sink, ledger=ledger)
        assert self.post(account, sink, amount, flags=Flag.FORCE, ledger=ledger) == Outcome.POSTED

    def balances(self, account: bytes) -> tuple[int, int, int, int]:
        """Return (debits posted, credits posted, debits reserved, credits reserved)."""
        found = self.model.accounts[account]
        return found.debits.posted, found.credits.posted, found.debits.reserved, found.credits.reserved


def chain(*events: Event) -> list[Event]:
    """Link events into one chain."""
    return [*(event._replace(flags=event.flags | Flag.LINKED) for event in events[:-1]), events[-1]]
