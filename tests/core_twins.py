"""The plain model and the compiled kernel side by side on one history, compared after every record."""

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from random import Random
from struct import Struct

import numpy as np

from engine.core.book import Book
from engine.core.chains.outline import outline_of
from engine.core.chains.plan import Chain
from engine.core.chains.step_answers import SHORT, answers_of
from engine.core.chains.step_record import StepRecord, encode_steps
from engine.core.chains.word import State, Step
from engine.core.events import apply_events, apply_settings, replay_rows
from engine.core.known import Applied, AppliedSteps, Ended
from engine.core.model.model import Answer, Model
from engine.core.model.rules import BALANCE_BOUND
from engine.core.model.state import Event, Stored, pack, unpack
from engine.core.model.steps import StepAnswer, StepModel
from engine.core.outcomes import Outcome, ResultFlag, took_effect
from engine.core.placement import hash_id
from engine.core.records import RECORD, RECORD_WORDS, AccountFlag, Flag, Kind, Words, as_words
from engine.core.settings import Settings
from engine.core.steps import apply_steps, replay_steps
from engine.core.validation import Fault, faults_of
from tests.core_histories import BALANCING, History, settings
from tests.core_known import KnownIds

LOW = (1 << 64) - 1
ACCOUNT_WORDS = Struct("<14Q")
"""A row of the account table behind its id."""


class Twins:
    """Model and kernel of one group; each record goes to both."""

    def __init__(self, *, expiries_per_record_max: int = 1 << 16) -> None:
        self.model = StepModel(0, expiries_per_record_max=expiries_per_record_max)
        self.book = Book(0, accounts=1, reservations=1, chains=1, expiries_per_record_max=expiries_per_record_max)
        self.replayed = Book(0, accounts=1, reservations=1, chains=1)
        self.known = KnownIds()
        self.outcomes: Counter[int] = Counter()
        self.faults: Counter[int] = Counter()
        self.events: Counter[str] = Counter()
        """What happened, told by the journal rows and the answers."""

    def settings(self, changed: Settings, timestamp_ns: int) -> None:
        answer = self.model.apply_settings(changed, timestamp_ns)
        applied = apply_settings(self.book, changed, timestamp_ns)
        apply_settings(self.replayed, changed, applied.timestamp_ns)
        self._compare(answer, applied)

    def apply(self, events: list[Event], timestamp_ns: int) -> Answer:
        """Apply the valid ones of the events, and compare everything."""
        batch = as_words(b"".join(map(pack, events)))
        faults = faults_of(batch)
        self.faults.update(faults.tolist())
        sent_by_routers = batch.view(RECORD).reshape(-1)["kind"] == Kind.BUCKET
        return self._apply(batch[(faults == Fault.NONE) | sent_by_routers].copy(), timestamp_ns)

    def apply_unchecked(self, events: list[Event], timestamp_ns: int) -> list[int]:
        """Apply the events without validation; return the outcomes."""
        answer = self._apply(as_words(b"".join(map(pack, events))).copy(), timestamp_ns)
        return [result.outcome for result in answer.results]

    def _apply(self, batch: Words, timestamp_ns: int) -> Answer:
        answer = self.model.apply(batch.tobytes(), timestamp_ns)
        applied = apply_events(self.book, batch, self.known.known(batch), timestamp_ns)
        replay_rows(self.replayed, applied.rows, applied.timestamp_ns)
        self.outcomes.update(result.outcome for result in answer.results)
        self.events.update(told(answer))
        self._compare(answer, applied)
        return answer

    def apply_steps(self, record: StepRecord, timestamp_ns: int) -> StepAnswer:
        """Apply one STEPS record to both, and compare everything."""
        answer = self.model.apply_steps(record, timestamp_ns)
        mine, known = record._replace(rows=record.rows.copy()), self.known.known(record.rows)
        outline = outline_of(mine, encode_steps(mine)) if record.compact else None  # as a replica has it, and without
        applied = apply_steps(self.book, mine, known, timestamp_ns, outline)
        replay_steps(self.replayed, applied.rows, applied.extra, applied.timestamp_ns)
        self.known.add(applied)
        self.events.update(told_of_steps(record, answer))
        compare_answers(record, answer, applied)
        assert applied.extra == answer.extra
        self._compare_rows(answer, applied)
        return answer

    def restore(self) -> None:
        """Save the book and build it anew."""
        chunks = [self.book.account_chunk(0)[:3].copy(), self.book.account_chunk(0)[3:].copy()]
        bound = self.book.expiries_per_record_max
        scalars, reservations, open_chains = self.book.scalars(), self.book.open_reservations(), self.book.open_chains()
        self.book = Book.restore(0, self.book.settings, scalars, chunks, reservations, open_chains)
        self.book.expiries_per_record_max = bound

    def _compare(self, answer: Answer, applied: Applied) -> None:
        self.known.add(applied)
        assert [tuple(result) for result in applied.results.tolist()] == [
            (r.position, r.timestamp, int(r.outcome), int(r.flags), r.group) for r in answer.results
        ]
        self._compare_rows(answer, applied)

    def _compare_rows(self, answer: Answer | StepAnswer, applied: Applied | AppliedSteps) -> None:
        assert applied.timestamp_ns == answer.timestamp_ns
        assert applied.rows.tobytes() == b"".join(answer.rows)
        amounts = [int(low) | int(high) << 64 for low, high in applied.requested_amount]
        assert dict(zip(applied.requested_index.tolist(), amounts, strict=True)) == answer.asked
        accounts, chains = account_rows(self.model), sorted(chain_rows(self.model))
        reservations = by_position(reservation_rows(self.model))
        for book in (self.book, self.replayed):
            assert book.account_rows().tobytes() == accounts
            assert by_position(book.open_reservations()) == reservations
            assert sorted(book.open_chains().tolist()) == chains
            assert (book.last_timestamp_ns, book.next_position) == (self.model.last_timestamp, self.model.next_position)


def compare_answers(record: StepRecord, answer: StepAnswer, applied: AppliedSteps) -> None:
    """Compare what is answered; storage completes the answers of ignored steps."""
    assert applied.changed.tolist() == [one.word is not None for one in answer.answers]
    steps = record.steps["step"].tolist()
    words = [  # what an EXPIRE leaves of a word is for storage to tell
        one._replace(word=one.word._replace(amounts=(), given_back=())) if one.word and step == Step.EXPIRE else one
        for one, step in zip(answer.answers, steps, strict=True)
    ]
    expected = answers_of(words)
    expected.answers["position"][~applied.changed] = np.array(answer.positions, np.uint64)[~applied.changed]
    found = applied.answers
    assert found.answers.tolist() == expected.answers.tolist()
    assert found.amounts.tolist() == expected.amounts.tolist()
    assert (found.holds.tolist(), found.chains) == ([], b"")


def told_of_steps(record: StepRecord, answer: StepAnswer) -> Iterator[str]:
    """Say what one STEPS record did: which state each step led to, and which was ignored."""
    for entry, one in zip(record.steps, answer.answers, strict=True):
        step = Step(int(entry["step"])).name
        if one.word is None:
            yield f"{step} {'short' if one.flags & SHORT else 'ignored'}"
        else:
            size = "plain" if one.word.chain.legs == 1 else "chain"
            yield f"{step} {size} {one.word.state.name}"
            yield from (f"{step} said {Outcome(one.word.reason).name}" for _ in range(bool(one.word.reason)))
    for row in map(next, map(unpack, answer.rows)):
        if row.leg >> 13 and took_effect(row.outcome):
            yield f"{Kind(row.kind).name} by {Step(row.leg >> 13).name}"


def told(answer: Answer) -> Iterator[str]:
    """Say what one record's rows and answers show: which kinds took effect, and which were taken back in a chain."""
    rows = [next(unpack(row)) for row in answer.rows]
    for row in rows:
        if took_effect(row.outcome):
            yield f"{Kind(row.kind).name} took effect"
            if row.flags & BALANCING and row.kind == Kind.POST:
                yield "balancing moved nothing" if row.amount == 0 else "balancing moved something"
    for chain in chains(rows):
        reasons = [leg for leg, row in enumerate(chain) if row.outcome != Outcome.CHAIN_FAILED]
        if not took_effect(chain[0].outcome):
            yield from (f"{Kind(row.kind).name} taken back" for row in chain[: reasons[0] if reasons else 0])
        elif len(chain) > 1:
            yield "chain took effect"
        if not reasons:
            yield "chain burned"
    for result in answer.results:
        if result.flags & ResultFlag.DECIDED_ELSEWHERE:
            yield "decided elsewhere"
        if result.flags & ResultFlag.SHORT:
            yield f"short of {Outcome(result.timestamp).name}"
        if result.flags & ResultFlag.REPLAYED:
            yield f"{Outcome(result.outcome).name} replayed"


def chains(rows: list[Event]) -> Iterator[list[Event]]:
    """Cut stored rows into chains: each begins at leg 0."""
    starts = [at for at, row in enumerate(rows) if row.leg == 0] + [len(rows)]
    for start, end in pairwise(starts):
        yield rows[start:end]


def account_rows(model: Model) -> bytes:
    """Return the account table that the model's accounts make up."""
    numbers, rows = row_numbers(model), []
    for account_id, account in model.accounts.items():
        sides = (account.debits.posted, account.credits.posted, account.debits.reserved, account.credits.reserved)
        amounts = (*sides, account.given_back if account.flags & AccountFlag.SHARE else account.overdraft)
        created = account.created
        partner = numbers[account.partner] + 1 if account.partner else 0
        words = [part for amount in amounts for part in (amount & LOW, amount >> 64)]
        words += [created.timestamp, account.ledger | account.version << 32]
        words += [account.code | account.flags << 16 | partner << 32, created.position]
        rows.append(account_id + ACCOUNT_WORDS.pack(*words))
    return b"".join(rows)


def row_numbers(model: Model) -> dict[bytes, int]:
    """Return the row of each account in the table."""
    return {account_id: row for row, account_id in enumerate(model.accounts)}


def reservation_rows(model: Model) -> Words:
    """Return the open reservations of the model in the book's layout."""
    return np.array([reservation_row(model, old) for old in stored_by(model) if old.is_open], np.uint64).reshape(
        -1, RECORD_WORDS
    )


def reservation_row(model: Model, old: Stored) -> list[int]:
    """Return one open reservation, local or the hold of a cross-group chain."""
    event, numbers = old.event, row_numbers(model)
    words = [int(word) for word in np.frombuffer(event.id + event.debit + event.credit, "<u8")]
    amount = old.held.amount if old.held else event.amount
    words += [old.remaining & LOW, old.remaining >> 64, amount & LOW, amount >> 64]
    if old.held is None or old.place is None:
        words += [old.deadline or 0, old.timestamp, old.position]
        return [*words, numbers[event.debit] | numbers[event.credit] << 32, event.ledger, 1]
    words += [old.held.deadline or 0, old.held.timestamp, old.held.position]
    rows = LOW if old.accounts is None else numbers[old.accounts[0]] | numbers[old.accounts[1]] << 32
    other = old.place.side.credit if old.place.side.debit == model.group else old.place.side.debit
    groups = old.place.decider + 1 << 32 | other + 1 << 48
    return [*words, rows, event.ledger | groups, 1 if old.ended is None else 1 + ENDED[old.ended]]


ENDED = {
    Outcome.RESERVATION_ALREADY_COMMITTED: Ended.COMMITTED,
    Outcome.RESERVATION_ALREADY_RELEASED: Ended.RELEASED,
    Outcome.RESERVATION_EXPIRED: Ended.EXPIRED,
}


def stored_by(model: Model) -> list[Stored]:
    return list(model.history.values())


def chain_rows(model: StepModel) -> list[list[int]]:
    """Return the open chains of the model in the book's layout."""
    numbers, rows = row_numbers(model), []
    for word in model.words.values():
        if word.state is State.RESERVED:
            chain, accounts = word.chain, model.history[word.chain.chain_id].accounts
            words = [int(part) for part in np.frombuffer(chain.chain_id + chain.digest, "<u8")]
            amount = word.amounts[0] if chain.legs == 1 else 0
            words += [amount & LOW, amount >> 64, word.position, chain.legs | chain.decider << 16]
            one = accounts is not None and chain.legs == 1
            both = numbers[accounts[0]] | numbers[accounts[1]] << 32 if one and accounts else 0
            body = body_kept(model, chain)
            rows.append([*words, model.courier_may_abort[chain.chain_id], word.timestamp_ns, both, body, 0, 0, 0, 1])
    return rows


def body_kept(model: StepModel, chain: Chain) -> int:
    """Hash the body and the sides of a chain that is one POST of a given amount, as the book keeps it."""
    words = np.frombuffer(chain.rows, "<u8").tolist()
    meta, (debit, credit) = words[15] & 0xFFFF_FFFF, chain.plan.sides[0]
    if chain.legs > 1 or meta >> 16 & 0xFF != Kind.POST or meta >> 24 & BALANCING:
        return 0
    parts = [*zip(words[0:12:2], words[1:12:2], strict=True), (words[12], words[14]), (meta, debit | credit << 16)]
    hashed = model.settings.hash_seed
    for low, high in parts:
        hashed = int(hash_id(np.uint64(low), np.uint64(high), np.uint64(hashed)))
    return hashed or 1


def by_position(rows: Words) -> list[list[int]]:
    """Sort reservations: their place in the table means nothing."""
    ordered: list[list[int]] = rows[np.argsort(rows[:, 12])].tolist()
    return ordered


def check_books(model: Model) -> None:
    """Check that every ledger's book sums to zero (I1), what is reserved too."""
    for ledger in model.ledgers:
        book = [account for account in model.accounts.values() if account.ledger == ledger]
        assert sum(a.debits.posted for a in book) == sum(a.credits.posted for a in book)
        assert sum(a.debits.reserved for a in book) == sum(a.credits.reserved for a in book)


def check_invariants(model: Model) -> None:
    """Check I1, I5 and I7 of DESIGN §13, which no agreement of two programs proves."""
    check_books(model)
    held: Counter[tuple[str, bytes]] = Counter()
    for old in model.history.values():
        if old.is_open:
            held["debit", old.event.debit] += old.remaining
            held["credit", old.event.credit] += old.remaining
    forced = {
        name
        for old in model.history.values()
        if old.event.flags & Flag.FORCE and not old.event.is_account_command
        for name in (old.event.debit, old.event.credit)
    }
    for name, account in model.accounts.items():
        assert account.debits.reserved == held["debit", name]
        assert account.credits.reserved == held["credit", name]
        assert max(account.debits.used, account.credits.used) < BALANCE_BOUND
        headroom = model.headroom(account)
        assert {name, account.partner} & forced or headroom is None or headroom >= 0
        assert not account.partner or model.accounts[account.partner].partner == name


class Given:
    """What a proof that all buckets together do not suffice rests on: it only grows, record by record."""

    def __init__(self) -> None:
        self.before: dict[bytes, tuple[int, ...]] = {}

    def check(self, model: Model) -> None:
        for name, account in model.accounts.items():
            if account.flags & AccountFlag.BUCKET:
                back = model.accounts[account.partner].given_back
                now = back, account.debits.used + back, account.credits.used + back
                grown = [
                    (new - old) % (1 << 128) for new, old in zip(now, self.before.get(name, (0, 0, 0)), strict=True)
                ]
                assert max(grown) < 1 << 127, "what was given, and given back, only grows"
                self.before[name] = now


def run_history(random: Random, records: int) -> Twins:
    """Play one random history on both; raises AssertionError at the first difference."""
    twins = Twins(expiries_per_record_max=random.choice((1, 2, 1 << 16)))
    history = History(random, twins.model)
    twins.settings(settings(), history.next_time())
    twins.apply(history.opening(), history.next_time())
    given = Given()
    for number in range(records):
        twins.apply(history.batch(), history.next_time())
        check_invariants(twins.model)
        given.check(twins.model)
        if history.chance(30):
            twins.settings(history.settings(number), history.next_time())
        if history.chance(8):
            twins.restore()
    return twins
