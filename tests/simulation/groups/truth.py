"""What the groups' logs say, as they grow, and everything that must hold at each of their indexes.

The truth is taken from the log records and from what applying them gave, by whichever replica comes first to an index;
the others must then have the same state there. It is kept in plain dictionaries that share nothing with the kernel's
tables: words, who posted what, and every balance as the sum of its entries.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.step_answers import ON_RECORD, StepAnswers
from engine.core.chains.step_record import decode_steps
from engine.core.chains.word import State, Step
from engine.core.known import NO_POSITION
from engine.core.log_record import LogRecord, RecordKind, decode_log_record
from engine.core.outcomes import Outcome, is_conflict
from engine.core.records import RECORD_BYTES, AccountFlag, Flag, Kind, Words
from engine.storage.state_machine import StateMachine
from tests.simulation.groups.workload import names_of
from tests.simulation.history import Violation

EFFECTIVE = (State.POSTED, State.HELD)
MOVING = (Kind.POST, Kind.COMMIT, Kind.REVERSE)
TRANSIT = b"\xff" * 8


class Word(NamedTuple):
    """A group's word for a chain id."""

    digest: bytes
    """Of local chains: their body."""
    state: State
    decides: bool
    outcomes: tuple[int, ...]
    """Per leg, as this group has them."""
    decider: int
    body: bytes


class Stored(NamedTuple):
    """One journal row as far as the truth looks at it."""

    identity: bytes
    debit: bytes
    credit: bytes
    amount: int
    ledger: int
    kind: int
    outcome: int


class Truth:
    """Of all groups."""

    def __init__(self, groups: int, homes: dict[bytes, int]) -> None:
        """Nothing was logged; `homes` are the groups of the accounts."""
        self.homes = homes
        self.last_index: dict[int, int] = {}
        """By group, the highest index that was ever applied."""
        self.hashes: dict[tuple[int, int], bytes] = {}
        self.positions: dict[int, int] = dict.fromkeys(range(groups), 0)
        self.words: dict[tuple[int, bytes], Word] = {}
        """By group and chain id: the word of the chain that has this id."""
        self.registered: dict[tuple[int, bytes], bytes] = {}
        """By group and id of a leg: the digest of the chain that took it there first; of local ones the row."""
        self._reserved: dict[tuple[int, bytes], bytes] = {}
        """By group and chain id: the body that it has reserved, or refused to."""
        self.posted: dict[bytes, tuple[int, bytes]] = {}
        """By id of a leg that took effect: the deciding group and the chain's body."""
        self.bodies: dict[bytes, dict[tuple[int, bytes], tuple[int, ...]]] = {}
        """By body: the outcomes of each decider's word, by group and digest."""
        self.balances: dict[tuple[int, bytes], list[int]] = {}
        """By group and account: debits and credits, posted."""
        self.told: dict[bytes, tuple[int, ...]] = {}
        self.indexes = 0
        self.steps: dict[Step, int] = dict.fromkeys(Step, 0)

    # -- what is applied

    def applied(self, group: int, machine: StateMachine, rows: Words, log_index: int, record: bytes, gave: Any) -> None:
        """Some replica of a group applied a record for the first time in its life."""
        before = self.hashes.setdefault((group, log_index), machine.state_hash)
        require(before == machine.state_hash, f"I12: two replicas of group {group} differ at log index {log_index}")
        if log_index <= self.last_index.get(group, 0):
            return
        self.last_index[group] = log_index
        self.indexes += 1
        self._follow(group, rows, decode_log_record(record), gave)
        self._check_book(group, machine)

    def _follow(self, group: int, rows: Words, record: LogRecord, gave: Any) -> None:
        stored = stored_rows(rows)
        if record.kind == RecordKind.STEPS:
            self._steps(group, record, gave, stored)
        elif record.kind == RecordKind.EVENTS:
            self._events(group, np.array(record.rows), gave, stored)

    def _events(self, group: int, rows: Words, results: npt.NDArray[np.void], stored: list[Stored]) -> None:
        by_id = {one.identity: one for one in stored if one.kind < Kind.CREATE_ACCOUNT}
        for identity in by_id:
            self.registered.setdefault((group, identity), identity)
        for chain in chains_of(rows):
            body = rows[chain].tobytes()
            kept = [by_id.get(identity) for identity in ids_of(body)]
            fresh = all(int(one["position"]) != NO_POSITION and not one["flags"] for one in results[chain])
            if not fresh or any(one is None for one in kept):
                continue
            legs = [one for one in kept if one is not None]
            word = Word(body, State.NONE, True, tuple(one.outcome for one in legs), group, body)
            self.words[group, body[:16]] = word
            self._decided(group, body, word)
            for leg in legs:
                self._book(group, leg, (group, group))

    def _steps(self, group: int, record: LogRecord, answers: StepAnswers, stored: list[Stored]) -> None:
        steps = decode_steps(np.array(record.rows), record.extra)
        at = len(stored)
        changed = [at for at in range(len(steps.steps)) if not answers.answers["flags"][at] & ON_RECORD]
        at -= sum(int(steps.steps["rows"][number]) for number in changed)
        require(at >= 0, f"I14: group {group} answered a change that its journal does not have")
        for number in changed:
            one = steps.steps[number]
            first, count = int(one["first_row"]), int(one["rows"])
            body = np.ascontiguousarray(steps.rows[first : first + count]).tobytes()
            sides = [(int(debit), int(credit)) for debit, credit in steps.sides[first : first + count]]
            self._step(group, one, body, sides, stored[at : at + count], State(answers.answers["state"][number]))
            at += count

    def _step(
        self, group: int, one: Any, body: bytes, sides: list[tuple[int, int]], rows: list[Stored], state: State
    ) -> None:
        step, chain_id, digest = Step(one["step"]), one["chain_id"].tobytes(), one["digest"].tobytes()
        decider, outcomes = int(one["decider"]), tuple(row.outcome for row in rows)
        before, name = self.words.get((group, chain_id)), f"{step.name} of {names_of(body)} in group {group}"
        self.steps[step] += 1
        if step in (Step.RESERVE, Step.DECIDE, Step.ABORT):
            require(before is None, f"PLAN: {name}, which has a word for that id: {before and before.state.name}")
            self._reserved[group, chain_id] = body
            for identity in ids_of(body):
                self.registered.setdefault((group, identity), digest)
        else:
            require(before is not None and before.digest == digest, f"PLAN: {name}, of another plan than it reserved")
        word = Word(digest, state, group == decider, outcomes, decider, body)
        if step in (Step.DECIDE, Step.ABORT):
            if state in EFFECTIVE:
                self._require_reserved(name, chain_id, digest, sides, decider)
            self._decided(group, body, word)
        elif step is not Step.RESERVE:
            taken = self._is_taken(decider, self._reserved[group, chain_id], digest)
            if step is not Step.RELEASE or not taken:
                self._require_decided(name, step, self.words.get((decider, chain_id)), digest)
        if step is not Step.EXPIRE:
            self.words[group, chain_id] = word
        if state in (*EFFECTIVE, State.COMMITTED) and step is not Step.EXPIRE:
            for row, side in zip(rows, sides, strict=True):
                self._book(group, row, side)

    def _require_reserved(
        self, name: str, chain_id: bytes, digest: bytes, sides: list[tuple[int, int]], decider: int
    ) -> None:
        for other in sorted({group for side in sides for group in side} - {decider}):
            word = self.words.get((other, chain_id))
            secured = word is not None and word.digest == digest and word.state is State.RESERVED
            require(secured, f"I9: {name} posts what group {other} has not secured: {word and word.state.name}")

    def _is_taken(self, decider: int, body: bytes, digest: bytes) -> bool:
        """Whether a decider can never decide a chain, because one of its ids is another chain's there."""
        return any(self.registered.get((decider, identity), digest) != digest for identity in ids_of(body))

    def _require_decided(self, name: str, step: Step, decided: Word | None, digest: bytes) -> None:
        require(decided is not None, f"I9: {name}, though its decider has no word")
        if decided is None:
            return
        posted = decided.digest == digest and decided.state in EFFECTIVE
        require(posted == (step is not Step.RELEASE), f"I9: {name}, though its decider's word is {decided.state.name}")

    def _decided(self, group: int, body: bytes, word: Word) -> None:
        """A decider's word: it is the first for this body with this outcome, and nobody posts an id twice."""
        outcomes = self.bodies.setdefault(body, {})
        outcomes[group, word.digest] = word.outcomes
        require(len(set(outcomes.values())) == 1, f"I3: {names_of(body)} has several outcomes: {outcomes.values()}")
        if Outcome.POSTED not in word.outcomes:
            return
        require(set(word.outcomes) == {Outcome.POSTED}, f"I9: {names_of(body)} took effect in part: {word.outcomes}")
        for identity in ids_of(body):
            before = self.posted.setdefault(identity, (group, body))
            require(before == (group, body), f"I2: {names_of(identity)} was posted by group {before[0]} and by {group}")

    def _book(self, group: int, row: Stored, side: tuple[int, int]) -> None:
        if row.outcome != Outcome.POSTED or row.kind not in MOVING or group not in side:
            return
        accounts = [
            account if at == group else TRANSIT + (1 | at << 16 | row.ledger << 32).to_bytes(8, "little")
            for account, at in zip((row.debit, row.credit), side, strict=True)
        ]
        if row.kind == Kind.REVERSE:
            accounts.reverse()
        for place, account in enumerate(accounts):
            self.balances.setdefault((group, account), [0, 0])[place] += row.amount

    def _check_book(self, group: int, machine: StateMachine) -> None:
        book = machine.book
        require(book.next_position >= self.positions[group], f"I14: the journal of group {group} became shorter")
        self.positions[group] = book.next_position
        rows = book.account_rows()
        sums = rows[:, 2:10:2].astype(np.int64).sum(axis=0).tolist()
        where = f"of group {group} at log index {self.last_index[group]}"
        require(not rows[:, 3:10:2].any(), f"I5: a balance {where} is beyond all that there is")
        require(sums[0] == sums[1], f"I1: debits are {sums[0]}, credits {sums[1]} {where}")
        require(sums[2] == sums[3], f"I1: {sums[2]} is reserved on the debit side, {sums[3]} on the other {where}")
        for row in rows.tolist():
            identity = row[0].to_bytes(8, "little") + row[1].to_bytes(8, "little")
            posted = self.balances.get((group, identity), [0, 0])
            require([row[2], row[4]] == posted, f"I7: {account_name(identity)} {where} has {row[2:6:2]}, not {posted}")
            if row[14] >> 16 & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS:
                left = row[4] - row[2] - row[6]
                require(left >= 0, f"I5: {account_name(identity)} {where} has {left} left")

    # -- what clients are told

    def answered(self, body: bytes, outcomes: tuple[int, ...]) -> None:
        """A client was told the outcomes of a chain: they are in the logs, and are the same as ever."""
        name = names_of(body)
        before = self.told.setdefault(body, outcomes)
        require(before == outcomes, f"I3: {name} was told {before}, and then {outcomes}")
        logged = set(self.bodies.get(body, {}).values())
        if Outcome.POSTED in outcomes:
            require(logged == {outcomes}, f"I2: {name} was told to be posted; the logs say {logged or 'nothing'}")
            self._require_credited(body)
        elif not any(is_conflict(one) for one in outcomes):
            logged = logged or self._standoff(body)
            require(logged == {outcomes}, f"I3: {name} was told {outcomes}; the logs say {logged or 'nothing'}")
        else:
            took = any(Outcome.POSTED in one for one in logged)
            require(not took, f"I3: {name} was told {outcomes}; the logs say {logged}")

    def _standoff(self, body: bytes) -> set[tuple[int, ...]]:
        """Where the decider of each plan of a body has another of them on record, none can be decided any more: the
        outcomes that the lowest group refused it with, or an abort."""
        words = {group: word for (group, _), word in sorted(self.words.items()) if word.body == body}
        plans = {word.digest: word.decider for word in words.values()}
        if not all(at in words and words[at].digest != digest for digest, at in plans.items()):
            return set()
        refused = [word.outcomes for group, word in words.items() if word.state is State.REFUSED]
        legs = len(ids_of(body))
        aborted = (int(Outcome.CHAIN_ABORTED), *(int(Outcome.CHAIN_FAILED),) * (legs - 1))
        return {refused[0] if refused else aborted}

    def _require_credited(self, body: bytes) -> None:
        """Money that is announced can be spent: nothing of the chain is merely reserved on a credit's side."""
        group, _ = self.posted[body[:16]]
        for (at, chain_id), word in self.words.items():
            if chain_id == body[:16] and at != group and at in self.credited(body):
                done = word.state in (State.COMMITTED, State.HELD)
                require(done, f"I10: {names_of(body)} was announced while group {at} is {word.state.name}")

    def credited(self, body: bytes) -> set[int]:
        """The groups that have a credit of a chain, by the home of its accounts."""
        found = set()
        for at in range(0, len(body), RECORD_BYTES):
            reverses, reserves = body[at + 122] == Kind.REVERSE, body[at + 122] in (Kind.RESERVE, Kind.RELEASE)
            account = body[at + 16 : at + 32] if reverses else body[at + 32 : at + 48]
            if not reserves:
                found.add(self.homes[account])
        return found

    # -- at rest

    def check_transits(self, groups: int) -> None:
        """I9 at rest: what one group has in transit to another, that one has from it."""
        for one in range(groups):
            for other in range(one):
                ours, theirs = self._transit(one, other), self._transit(other, one)
                require(ours == -theirs, f"I9: transit of groups {one} and {other} differs: {ours} and {theirs}")

    def _transit(self, group: int, other: int) -> int:
        debits, credits = self.balances.get(
            (group, TRANSIT + (1 | other << 16 | 1 << 32).to_bytes(8, "little")), (0, 0)
        )
        return credits - debits


def stored_rows(rows: Words) -> list[Stored]:
    """Every row of a journal block, but the expiries that a group decides itself."""
    found = []
    for row in rows:
        kind, meta = int(row[15]) >> 16 & 0xFF, int(row[15])
        if kind in (Kind.SETTINGS, Kind.CREATE_ACCOUNT) or (kind == Kind.EXPIRE and not meta >> 61):
            continue
        data = row.tobytes()
        amount = int(row[6]) | int(row[7]) << 64
        found.append(
            Stored(data[:16], data[16:32], data[32:48], amount, int(row[14]) & 0xFFFFFFFF, kind, meta >> 32 & 0xFFFF)
        )
    return found


def chains_of(rows: Words) -> Iterator[slice]:
    """Where each chain of a batch stands."""
    first = 0
    for at in range(len(rows)):
        if not int(rows[at, 15]) >> 24 & Flag.LINKED:
            yield slice(first, at + 1)
            first = at + 1


def ids_of(body: bytes) -> list[bytes]:
    """The ids of a chain's legs."""
    return [body[at : at + 16] for at in range(0, len(body), RECORD_BYTES)]


def account_name(identity: bytes) -> str:
    """An account, for people."""
    if identity[:8] == TRANSIT:
        return f"transit to group {int.from_bytes(identity[10:12], 'little')}"
    return identity.rstrip(b"\0").decode()


def require(condition: bool, sentence: str) -> None:
    """Raise `Violation` unless it holds."""
    if not condition:
        raise Violation(sentence)
