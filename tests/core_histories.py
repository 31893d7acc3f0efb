"""Random histories for tests of core, dense in collisions: few ids and accounts, edge amounts, a jumping clock."""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from engine.core.model.model import Model
from engine.core.model.state import NO_ID, Event
from engine.core.outcomes import took_effect
from engine.core.placement import slot_of
from engine.core.records import AMOUNT_ALL, AccountFlag, Flag, Kind
from engine.core.settings import Ledger, Settings, SlotRange

SECOND: Final = 1_000_000_000
SEED: Final = 0x5EED_5EED_5EED_5EED
ALL_ONES: Final = b"\xff" * 16
RESERVED_ACCOUNT: Final = b"\xff" * 8 + b"reserved"
EDGES: Final = (1 << 64, (1 << 64) - 1, (1 << 126) + 5, (1 << 127) - 1, 1 << 127, AMOUNT_ALL, 0)
TRANSFER_KINDS: Final = (
    (Kind.POST,) * 8 + (Kind.RESERVE,) * 5 + (Kind.COMMIT,) * 5 + (Kind.RELEASE,) * 2 + (Kind.REVERSE,) * 4
)
FOLLOWABLE: Final = {
    Kind.COMMIT: (Kind.RESERVE,),
    Kind.RELEASE: (Kind.RESERVE,),
    Kind.REVERSE: (Kind.POST, Kind.COMMIT),
}
LIMIT_FLAGS: Final = (
    0,
    AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS,
    AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS,
    AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS,
)


def name(number: int) -> bytes:
    """Return a 16-byte id."""
    return number.to_bytes(16, "big")


def settings(ledgers: int = 2, *, slots_of_group_1: int = 600, epoch: int = 1) -> Settings:
    """Two groups; group 0 owns all but the last slots."""
    first = 4096 - slots_of_group_1
    return Settings(
        cluster_id="c" * 32,
        hash_seed=SEED,
        ledgers=tuple(Ledger(ledger=number, code=f"L{number}", scale=2) for number in range(1, ledgers + 1)),
        slots=(SlotRange(group=0, first=0, last=first - 1), SlotRange(group=1, first=first, last=4095)),
        placement_epoch=epoch,
    )


def names_here(count: int, *, elsewhere: bool = False) -> list[bytes]:
    """Return account ids that `settings()` places in group 0, or elsewhere."""
    found: list[bytes] = []
    number = 1
    while len(found) < count:
        if (slot_of(name(number), SEED) >= 4096 - 600) == elsewhere:
            found.append(name(number))
        number += 1
    return found


BALANCING: Final = Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT
HERE: Final = names_here(9)
ELSEWHERE: Final = names_here(2, elsewhere=True)


class History:
    """Draws one record's events after another, with an eye on the model's state to get far."""

    def __init__(self, random: Random, model: Model) -> None:
        self.random = random
        self.model = model
        self.units: list[list[Event]] = []
        self.ids = random.choice((5, 20, 60))
        self.splits = random.random() < 0.35
        """Whether accounts are split."""
        self.fresh = 0
        self.time = 1_000 * SECOND

    def chance(self, one_in: float) -> bool:
        return self.random.random() < 1 / one_in

    def next_time(self) -> int:
        """Mostly forward by little; now and then far, or back."""
        step = self.random.choice((0, 1, 1000, SECOND, SECOND, 3 * SECOND, 20 * SECOND, -5 * SECOND))
        self.time = max(1, self.time + step)
        return self.time

    def batch(self) -> list[Event]:
        """Return the events of one record: valid and invalid ones."""
        events: list[Event] = []
        for _ in range(self.random.randint(0, 9)):
            self.units.append(self.unit())
            events += self.units[-1]
        return events

    def opening(self) -> list[Event]:
        """Return the events that make most accounts."""
        split = [self.bucket() for _ in range(6)] if self.splits else []
        return [self.creation(account) for account in HERE[:8]] + split

    def unit(self) -> list[Event]:
        if self.units and self.chance(5):
            return self.again(self.random.choice(self.units))
        if self.splits and self.chance(10):
            return [self.bucket()]
        if self.chance(9):
            return [self.account_command()]
        legs = self.random.randint(2, 5) if self.chance(5) else 1
        unit = [self.transfer() for _ in range(legs)]
        if legs > 1 and not self.chance(30):
            unit = [event._replace(flags=event.flags & ~BALANCING) for event in unit]
        linked = [event._replace(flags=event.flags | Flag.LINKED) for event in unit[:-1]]
        if self.chance(60):
            return [*linked, unit[-1]._replace(flags=unit[-1].flags | Flag.LINKED)]
        return linked + unit[-1:]

    def again(self, unit: list[Event]) -> list[Event]:
        """Return an earlier unit: the same, with a field changed, or with legs of its chain missing or new."""
        unit = list(unit)
        at = self.random.randrange(len(unit))
        choice = self.random.randrange(8)
        if choice < 3:
            return unit
        if choice < 6:
            unit[at] = self.changed(unit[at])
        elif choice == 6:
            unit = [event for number, event in enumerate(unit) if number != at] or unit
        else:
            unit.insert(at, self.transfer()._replace(flags=Flag.LINKED))
        return unit

    def changed(self, event: Event) -> Event:
        changes: tuple[Callable[[], dict[str, Any]], ...] = (
            lambda: {"amount": self.amount()},
            lambda: {"debit": self.account()},
            lambda: {"credit": self.account()},
            lambda: {"kind": self.random.choice(TRANSFER_KINDS)},
            lambda: {"ledger": self.random.randint(1, 3)},
            lambda: {"followed": self.transfer_id()},
            lambda: {"flags": event.flags ^ self.random.choice((1, 2, 4, 8, 16))},
            lambda: {"timeout_or_version": self.random.randint(0, 3)},
            lambda: {"code": self.random.randint(0, 2)},
            lambda: {"reference": name(self.random.randint(0, 2))},
            lambda: {"effective_at": self.random.randint(0, 2)},
        )
        return event._replace(**self.random.choice(changes)())

    def amount(self) -> int:
        if self.chance(12):
            return self.random.choice(EDGES)
        return self.random.randint(1, 12)

    def account(self) -> bytes:
        if self.splits and self.chance(6):
            return self.random.choice(ELSEWHERE)
        if self.chance(15):
            return self.random.choice((*ELSEWHERE, HERE[8], RESERVED_ACCOUNT, NO_ID, ALL_ONES))
        return self.random.choice(HERE[:8])

    def transfer_id(self) -> bytes:
        if self.chance(150):
            return self.random.choice((NO_ID, ALL_ONES))
        if self.chance(3):
            return name(1_000_000 + self.random.randint(1, self.ids))
        self.fresh += 1
        return name(2_000_000 + self.fresh)

    def transfer(self) -> Event:
        """Return one transfer, mostly sensible; followers mostly follow something that can be followed."""
        kind = self.random.choice(TRANSFER_KINDS)
        event = self.in_one_ledger(
            Event(
                id=self.transfer_id(),
                kind=kind,
                debit=self.account(),
                credit=self.account(),
                amount=0 if kind == Kind.RELEASE else self.amount(),
                timeout_or_version=self.random.choice((0, 1, 2, 9)) if kind == Kind.RESERVE else 0,
                reference=name(self.random.randint(0, 1)),
                effective_at=self.random.randint(0, 1),
                flags=self.flags(kind),
            )
        )
        event = self.following(event) if kind in FOLLOWABLE else event
        return self.spoiled(event) if self.chance(40) else event

    def in_one_ledger(self, event: Event) -> Event:
        """Choose both accounts from one ledger, mostly."""
        ledger = self.random.choice((1, 1, 1, 2))
        event = event._replace(ledger=self.random.randint(0, 4) if self.chance(40) else ledger)
        if self.chance(12):
            return event
        fitting = [known for known, account in self.model.accounts.items() if account.ledger == ledger]
        if len(fitting) < 2:
            return event
        debit, credit = self.random.sample(fitting, 2)
        return event._replace(debit=debit, credit=credit)

    def flags(self, kind: int) -> int:
        if kind == Kind.POST and self.chance(6):
            return self.random.choice((Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT))
        if kind in (Kind.POST, Kind.RESERVE, Kind.REVERSE) and self.chance(6):
            return Flag.FORCE
        if self.chance(80):
            return self.random.choice((6, 2, 16))
        return Flag.KEEP_REST if kind == Kind.COMMIT and self.chance(2) else 0

    def following(self, event: Event) -> Event:
        """Name something to follow, with its accounts and ledger; now and then something else."""
        wanted = FOLLOWABLE[Kind(event.kind)]
        stored = [
            old.event
            for old in self.model.history.values()
            if self.chance(20) or (old.event.kind in wanted and took_effect(old.outcome))
        ]
        live = [old.event for old in self.model.history.values() if old.is_open and old.event.kind in wanted]
        pool = live if live and self.chance(2) else stored
        if not pool or self.chance(12):
            return event._replace(followed=self.transfer_id())
        original = self.random.choice(pool)
        event = event._replace(followed=original.id)
        if self.chance(10):
            return event
        event = event._replace(debit=original.debit, credit=original.credit, ledger=original.ledger)
        if event.kind == Kind.COMMIT and self.chance(4):
            event = event._replace(amount=AMOUNT_ALL)
        return event._replace(debit=event.credit, credit=event.debit) if self.chance(15) else event

    def spoiled(self, event: Event) -> Event:
        """Return the event with something that validation must find, or the rules must judge."""
        return event._replace(
            **self.random.choice(
                (
                    {"amount": 3},
                    {"amount": 0},
                    {"flags": self.random.randint(0, 255)},
                    {"timeout_or_version": 7},
                    {"timestamp": 1},
                    {"outcome": 1},
                    {"leg": 1},
                    {"followed": event.id},
                    {"followed": NO_ID},
                    {"followed": name(3)},
                    {"credit": event.debit},
                    {"kind": self.random.choice((0, 6, 63, 67, 128, 129, 255))},
                )
            )
        )

    def creation(self, account: bytes) -> Event:
        ledger = 2 if account in HERE[6:8] else 1
        return Event(
            id=account,
            kind=Kind.CREATE_ACCOUNT,
            amount=self.random.choice((0, 0, 5, 20, (1 << 127) - 1)),
            ledger=ledger,
            code=self.random.randint(0, 1),
            reference=name(self.random.randint(0, 1)),
            flags=self.random.choice(LIMIT_FLAGS),
        )

    def bucket(self) -> Event:
        """Return a BUCKET, as routers send it: for accounts at home here, and elsewhere."""
        names = (*HERE[:4], *HERE[:4], *ELSEWHERE, *ELSEWHERE, HERE[8], RESERVED_ACCOUNT)
        account_id = self.random.choice((*names, *self.model.accounts))
        account = self.model.accounts.get(account_id)
        limits = LIMIT_FLAGS[1 + 2 * ELSEWHERE.index(account_id)] if account_id in ELSEWHERE else 0
        if account is not None:  # on which side it is limited never changes
            limits = account.flags & (LIMIT_FLAGS[1] | LIMIT_FLAGS[3])
        ledger = self.random.randint(1, 4) if self.chance(20) else account.ledger if account else 1
        return Event(
            id=self.transfer_id(),
            kind=Kind.BUCKET,
            debit=account_id,
            ledger=ledger,
            code=self.random.randint(0, 1),
            flags=limits | self.random.choice((0, 0, 0, 0, AccountFlag.FROZEN, AccountFlag.CLOSED)),
            timeout_or_version=self.random.choice((1, 1, 2, 3, 4)),
        )

    def account_command(self) -> Event:
        """Return a creation or an update; the version is right, mostly."""
        if self.chance(3):
            event = self.creation(self.account())
            return self.spoiled_command(event) if self.chance(6) else event
        account_id = self.account()
        account = self.model.accounts.get(account_id)
        event = Event(
            id=self.transfer_id(),
            kind=Kind.UPDATE_ACCOUNT,
            debit=account_id,
            amount=self.random.choice((0, 0, 3, 20, 1 << 100)),
            ledger=self.random.randint(1, 4) if account is None or self.chance(20) else account.ledger,
            timeout_or_version=self.random.randint(1, 3) if account is None or self.chance(12) else account.version,
            flags=self.random.choice((0, 0, 0, AccountFlag.FROZEN, AccountFlag.CLOSED)),
        )
        return self.spoiled_command(event) if self.chance(6) else event

    def spoiled_command(self, event: Event) -> Event:
        return event._replace(
            **self.random.choice(
                (
                    {"flags": self.random.randint(0, 255)},
                    {"flags": 3},
                    {"flags": AccountFlag.CLOSED},
                    {"flags": AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS},
                    {"amount": 1 << 127},
                    {"debit": HERE[0]},
                    {"debit": self.random.choice((NO_ID, ALL_ONES))},
                    {"credit": HERE[0]},
                    {"effective_at": 5},
                    {"timeout_or_version": 0},
                    {"timeout_or_version": 5},
                    {"ledger": 4},
                    {"followed": HERE[0]},
                )
            )
        )

    def settings(self, epoch: int) -> Settings:
        """Return settings that may follow: more ledgers, other slots."""
        ledgers = self.random.choice((2, 3)) if len(self.model.ledgers) < 3 else 3
        return settings(ledgers, slots_of_group_1=self.random.choice((600, 600, 2500)), epoch=epoch)
