"""Random histories of several groups with cross-group chains among them, driven as routers and couriers do.

Every group is a store of its own that is never restarted; its log is kept, so that others can apply it again. Steps are
late, repeated and out of order, drivers know old words, and chains follow what other chains did.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from engine.core.chains.driver import Facts, next_steps
from engine.core.chains.plan import Chain, Original, Plan, Side, chain_of, lay_out, lay_out_alone
from engine.core.chains.step_answers import StepAnswers, words_of
from engine.core.chains.step_record import encode_steps, join_steps, steps_of
from engine.core.chains.word import Order, Step, Word
from engine.core.log_record import Caller, RecordKind, encode_log_record
from engine.core.placement import slot_of
from engine.core.records import AMOUNT_ALL, RECORD, AccountFlag, Flag, Kind
from engine.core.settings import Ledger, Settings, SlotRange
from engine.core.split.buckets import bucket_row
from engine.service.buckets import states_of
from engine.storage.folder import Identity, open_folder
from engine.storage.recovery import StoreLimits, open_state_machine
from engine.storage.state_machine import StateMachine
from tests.storage_histories import GENESIS_NS, ROOMY, kill, number_id, record_of, settings_record

GROUPS: Final = 3
SETTINGS: Final = Settings(
    cluster_id="0" * 32,
    hash_seed=0x1234_5678_9ABC_DEF0,
    ledgers=(Ledger(1, "EUR", 2), Ledger(2, "USD", 2)),
    slots=(SlotRange(0, 0, 1365), SlotRange(1, 1366, 2730), SlotRange(2, 2731, 4095)),
)
ACCOUNTS_PER_GROUP: Final = 5
AMOUNT_MAX: Final = 60
Row: TypeAlias = Any


class Logged(NamedTuple):
    """One record of a group's log, what it answered, and where the running hash then stood."""

    record: bytes
    answer: Any
    state_hash: bytes


def plain_answer(answer: Any) -> Any:
    """Return results or answers as what compares by value."""
    if isinstance(answer, StepAnswers):
        return (answer.answers.tobytes(), answer.amounts.tobytes(), answer.holds.tobytes(), answer.chains)
    return answer.tolist()


def group_of(account: bytes) -> int:
    """The group that has an account."""
    slot = slot_of(account, SETTINGS.hash_seed)
    return next(one.group for one in SETTINGS.slots if one.first <= slot <= one.last)


class Sent(NamedTuple):
    """A leg that others may follow."""

    row: Row
    original: Original


class World:
    """Groups, drivers' knowledge and the logs so far."""

    def __init__(self, machines: Sequence[StateMachine], seed: int, *, splits: bool = False) -> None:
        """Open accounts; `splits`: with buckets of some of them in every group."""
        self.rng = np.random.default_rng(seed)
        self.machines = machines
        self.logs: list[list[Logged]] = [[] for _ in machines]
        self.time_ns = GENESIS_NS
        self.next_id = 1
        self.chains: list[Chain] = []
        self.words: dict[bytes, dict[int, Word]] = {}
        self.legs: list[Sent] = []
        self.late: list[Order] = []
        self.accounts: dict[int, list[bytes]] = {group: [] for group in range(len(machines))}
        self.split: list[bytes] = []
        self.shares: list[list[bytes]] = []
        """By split account: its share account in each group."""
        self._open()
        if splits:
            self._split([self.accounts[0][2], self.accounts[1][0]])

    def run(self, records: int) -> None:
        """Log so many records, here and there."""
        for _ in range(records):
            if self.rng.random() < 0.25:
                self._local()
            else:
                self._drive()

    # -- logs

    def log(self, group: int, record: bytes) -> Any:
        machine = self.machines[group]
        answer = machine.apply(machine.applied_index + 1, 1, record)
        self.logs[group].append(Logged(record, plain_answer(answer), machine.state_hash))
        return answer

    def _open(self) -> None:
        number = 0
        while any(len(found) < ACCOUNTS_PER_GROUP for found in self.accounts.values()):
            account = number_id(1_000_000 + number)
            self.accounts[group_of(account)].append(account)
            number += 1
        for group, accounts in self.accounts.items():
            rows = np.zeros(len(accounts), RECORD)
            rows["kind"], rows["ledger"], rows["code"] = Kind.CREATE_ACCOUNT, 1, 7
            for at, (row, account) in enumerate(zip(rows, accounts, strict=True)):
                row["id"] = account
                if at % 3 == 2:
                    row["flags"], row["amount_low"] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS, 50
            self.log(group, settings_record(SETTINGS))
            self.log(group, record_of(rows, self._tick()))

    def _split(self, accounts: list[bytes]) -> None:
        """Make buckets of accounts in every group, at home first, and again somewhere."""
        self.split = accounts
        for account in accounts:
            (state,) = states_of(self.machines[group_of(account)].book, np.frombuffer(account, "<u8").reshape(1, 2))
            row = bucket_row(account, ledger=1, code=7, flags=int(state["flags"]), version=int(state["version"]))
            home = group_of(account)
            for group in (home, *(other for other in range(len(self.machines)) if other != home), home):
                self.log(group, record_of(np.frombuffer(row, RECORD), self._tick()))
        ids = np.frombuffer(b"".join(accounts), "<u8").reshape(-1, 2)
        found = [states_of(machine.book, ids)["share_id"] for machine in self.machines]
        self.shares = [[by_group[number].tobytes() for by_group in found] for number in range(len(accounts))]

    def _move(self) -> Chain:
        """Move money of a split account from a group to another."""
        shares = self._some(self.shares)
        giver, taker = (int(one) for one in self.rng.choice(len(shares), 2, replace=False))
        row = np.zeros(1, RECORD)
        row["id"], row["kind"], row["ledger"] = self._id(), Kind.POST, 1
        row["debit"], row["credit"] = shares[giver], shares[taker]
        row["amount_low"] = int(self.rng.integers(1, AMOUNT_MAX))
        return chain_of(row.tobytes(), Plan((Side(giver, taker),), taker))

    def _tick(self) -> int:
        self.time_ns += int(self.rng.integers(-200_000_000, 1_500_000_000))
        return self.time_ns

    def _id(self) -> bytes:
        self.next_id += 1
        return number_id(self.next_id)

    # -- local records

    def _local(self) -> None:
        group = int(self.rng.integers(len(self.machines)))
        rows = np.zeros(int(self.rng.integers(0, 4)), RECORD)
        for row in rows:
            self._fill(row, self.accounts[group])
            if self.split and self.rng.random() < 0.5:
                row[str(self.rng.choice(["debit", "credit"]))] = self._some(self.split)
                if row["debit"] == row["credit"]:
                    row["debit"] = self.accounts[group][1]
            if self.chains and self.rng.random() < 0.2:
                again = np.frombuffer(self._some(self.chains).rows, RECORD)
                row["id"] = again[int(self.rng.integers(len(again)))]["id"]
                if self.rng.random() < 0.5:
                    for name in RECORD.names or ():
                        row[name] = again[0][name]
                    row["flags"] &= 255 - Flag.LINKED
        for row in rows:
            sides = tuple(group_of(row[name].tobytes()) for name in ("debit", "credit"))
            if sides == (group, group):
                self.legs.append(Sent(row.copy(), Original(Side(group, group), group)))
        self.log(group, record_of(rows, self._tick()))

    def _fill(self, row: Row, accounts: Sequence[bytes]) -> None:
        debit, credit = self.rng.choice(len(accounts), 2, replace=False)
        row["id"], row["debit"], row["credit"] = self._id(), accounts[debit], accounts[credit]
        row["ledger"], row["kind"] = 1, Kind.POST
        row["amount_low"] = int(self.rng.integers(1, AMOUNT_MAX))
        if self.rng.random() < 0.4:
            row["kind"], row["timeout_s"] = Kind.RESERVE, int(self.rng.choice([0, 1, 3, 20]))
        if self.rng.random() < 0.2:
            row["effective_at"] = GENESIS_NS + int(self.rng.integers(0, 40)) * 1_000_000_000

    def _some(self, things: Sequence[Any]) -> Any:
        """Mostly a recent one."""
        recent = things[-6:] if self.rng.random() < 0.7 else things
        return recent[int(self.rng.integers(len(recent)))]

    # -- chains

    def _new_chain(self) -> Chain | None:
        if self.shares and self.rng.random() < 0.3:
            return self._move()
        legs = int(self.rng.choice([1, 1, 1, 1, 2, 3]))
        everywhere = [account for accounts in self.accounts.values() for account in accounts]
        rows, originals = np.zeros(legs, RECORD), dict[int, Original]()
        for leg, row in enumerate(rows):
            self._fill(row, everywhere)
            if self.legs and self.rng.random() < 0.45:
                sent = self._some(self.legs)
                self._follow(row, sent.row)
                if self.rng.random() < 0.85:
                    originals[leg] = sent.original
            elif legs == 1 and row["kind"] == Kind.POST and self.rng.random() < 0.2:
                row["flags"] = int(self.rng.choice([Flag.BALANCING_DEBIT, Flag.BALANCING_CREDIT]))
            if leg + 1 < legs:
                row["flags"] |= Flag.LINKED
        if self.chains and self.rng.random() < 0.1:
            rows[-1]["id"] = np.frombuffer(self._some(self.chains).rows, RECORD)[-1]["id"]
        if len({row["id"].tobytes() for row in rows}) < legs:
            return None
        sides = [Side(*(group_of(row[name].tobytes()) for name in ("debit", "credit"))) for row in rows]
        packed = rows.tobytes()
        chain = lay_out_alone(packed, sides) if self.rng.random() < 0.03 else lay_out(packed, sides, originals)
        if not isinstance(chain, Chain) or not chain.crosses:
            return None
        self.legs += [
            Sent(row.copy(), Original(side, chain.decider)) for row, side in zip(rows, chain.plan.sides, strict=True)
        ]
        return chain

    def _follow(self, row: Row, followed: Row) -> None:
        row["debit"], row["credit"] = followed["debit"], followed["credit"]
        row["followed"], row["timeout_s"] = followed["id"], 0
        if followed["kind"] == Kind.RESERVE:
            row["kind"] = int(self.rng.choice([Kind.COMMIT, Kind.COMMIT, Kind.RELEASE]))
        else:
            row["kind"] = Kind.REVERSE
        if row["kind"] == Kind.RELEASE:
            row["amount_low"] = 0
        elif row["kind"] == Kind.COMMIT and self.rng.random() < 0.5:
            row["flags"] = Flag.KEEP_REST
            row["amount_low"] = int(self.rng.integers(1, max(2, int(followed["amount_low"]))))
        elif row["kind"] == Kind.COMMIT and self.rng.random() < 0.5:
            row["amount_low"], row["amount_high"] = AMOUNT_ALL & (1 << 64) - 1, AMOUNT_ALL >> 64

    def _drive(self) -> None:
        """Move some chains by a step, all that goes to one group in one record."""
        orders: dict[int, list[Order]] = {}
        for _ in range(int(self.rng.integers(1, 5))):
            chain = self._some(self.chains) if self.chains and self.rng.random() < 0.6 else self._new_chain()
            if chain is None:
                continue
            if chain not in self.chains:
                self.chains.append(chain)
            known = self._known(chain)
            for order in next_steps(chain, known, self._facts(chain, known)):
                orders.setdefault(order.group, []).append(order)
        if self.late and self.rng.random() < 0.4:
            order = self._some(self.late)
            orders.setdefault(order.group, []).append(order)
        for group, of_group in orders.items():
            self._send(group, of_group)

    def _known(self, chain: Chain) -> dict[int, Word]:
        """What some driver knows: perhaps not the latest."""
        words = self.words.get(chain.chain_id, {})
        return {group: word for group, word in words.items() if self.rng.random() < 0.9}

    def _facts(self, chain: Chain, known: dict[int, Word]) -> Facts:
        holder = int(self.rng.choice(chain.groups))
        if self.rng.random() < 0.3 and holder in known:
            return Facts(holder, self.rng.random() < 0.5)
        return Facts()

    def courier(self, group: int, word: Word) -> None:
        """Drive a chain as the courier of a group that has it open does, from nothing else than its word."""
        words, short = {group: word}, False
        for _ in range(20):
            for order in next_steps(word.chain, words, Facts(group, overdue=True, short=short)):
                answered = self._send(order.group, [order])[0]
                short |= answered is None  # a bucket is, and nobody brings money
                if answered is not None:
                    words[order.group] = answered

    def _send(self, group: int, orders: list[Order]) -> list[Word | None]:
        self.rng.shuffle(orders)
        told: list[Word | None] = []
        asks = [order for order in orders if order.step is Step.ASK]
        logged = [order for order in orders if order.step is not Step.ASK]
        if asks:
            told = self._learn(group, asks, self.machines[group].asked(steps_of(asks)))
        if not logged:
            return told
        self.late += logged
        time_ns = self._tick()
        times = [self._time_of(order, time_ns) for order in logged]
        steps = join_steps([steps_of(logged, times)])
        record = encode_log_record(
            RecordKind.STEPS,
            steps.rows.tobytes(),
            timestamp_ns=time_ns,
            callers=[Caller(0, len(steps.rows), "router", time_ns)],
            extra=encode_steps(steps._replace(compact=time_ns % 3 > 0)),
        )
        return self._learn(group, logged, self.log(group, record))

    def _time_of(self, order: Order, time_ns: int) -> int:
        decided = self.words.get(order.chain.chain_id, {}).get(order.chain.decider)
        if order.step is Step.HOLD and decided is not None:
            return decided.timestamp_ns
        return time_ns + 5_000_000_000 if order.step is Step.RESERVE else 0

    def _learn(self, group: int, orders: Sequence[Order], answers: StepAnswers) -> list[Word | None]:
        words = words_of(answers, [order.chain for order in orders], group)
        for order, word in zip(orders, words, strict=True):
            if word is not None and (word.chain.chain_id == order.chain.chain_id):
                self.words.setdefault(order.chain.chain_id, {})[group] = word
        return words


def identity_of(group: int) -> Identity:
    """Whose folder a group's is."""
    return Identity("0" * 32, group, f"g{group}r0")


@contextmanager
def opened_group(path: Path, group: int, limits: StoreLimits) -> Iterator[StateMachine]:
    """A group's state machine; at the end it is dropped as by SIGKILL, unless the test closed it."""
    with open_folder(path, identity_of(group)) as folder:
        machine, _ = open_state_machine(folder, group, limits)
        try:
            yield machine
        finally:
            kill(machine)


@contextmanager
def world(path: Path, seed: int, records: int, *, splits: bool = False) -> Iterator[World]:
    """Several groups after so many records; `splits`: with buckets."""
    with ExitStack() as stack:
        machines = [stack.enter_context(opened_group(path / f"w{group}", group, ROOMY)) for group in range(GROUPS)]
        made = World(machines, seed, splits=splits)
        made.run(records)
        yield made
