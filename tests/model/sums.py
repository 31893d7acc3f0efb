"""The sum of a split account, DESIGN §8: when two collections are a true balance, and when they prove a refusal.

Two buckets, A and B. A move takes four from B to A in three steps (reserve, post, commit); meanwhile six are deposited
on A and then withdrawn from B; a reader collects A, B, A, B. What the sum truly was at any time since the reader began
is known to the model alone.
"""

from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

MOVED, PAID, ASKED = 4, 6, 8


class Bucket(NamedTuple):
    """One slice: what came from and went to others, and what moves brought, took and hold."""

    credits: int = 0
    debits: int = 0
    moved_in: int = 0
    moved_out: int = 0
    reserved: int = 0
    moves: int = 0
    """How many steps of moves it has logged."""


class Sum(NamedTuple):
    """A state: both buckets, how far the move and the payments are, and what the reader has."""

    a: Bucket
    b: Bucket
    move: int = 0
    payments: int = 0
    reads: tuple[Bucket, ...] = ()
    true_sums: frozenset[int] = frozenset()
    """What the balance was since the reader began."""


START = Sum(Bucket(), Bucket(credits=10))


def balance(state: Sum) -> int:
    return sum(bucket.credits - bucket.debits for bucket in (state.a, state.b))


def successors(state: Sum) -> Iterator[tuple[str, Sum]]:
    """The next step of the move, of the payments, of the reader."""
    yield from _move(state)
    yield from _pay(state)
    if len(state.reads) < 4:
        bucket = state.b if len(state.reads) % 2 else state.a
        yield f"read {'AB'[len(state.reads) % 2]}", _witness(state._replace(reads=(*state.reads, bucket)))


def _move(state: Sum) -> Iterator[tuple[str, Sum]]:
    a, b = state.a, state.b
    following = state._replace(move=state.move + 1)
    if state.move == 0 and b.credits - b.debits >= MOVED:
        yield "move: reserve at B", following._replace(b=b._replace(reserved=MOVED, moves=b.moves + 1))
    elif state.move == 1:
        yield "move: post at A", following._replace(a=a._replace(moved_in=MOVED, moves=a.moves + 1))
    elif state.move == 2:
        yield "move: commit at B", following._replace(b=b._replace(reserved=0, moved_out=MOVED, moves=b.moves + 1))


def _pay(state: Sum) -> Iterator[tuple[str, Sum]]:
    a, b = state.a, state.b
    if state.payments == 0:
        yield f"deposit {PAID} on A", _witness(state._replace(payments=1, a=a._replace(credits=a.credits + PAID)))
    elif state.payments == 1 and b.credits - b.debits - b.moved_out - b.reserved >= PAID:
        yield f"withdraw {PAID} from B", _witness(state._replace(payments=2, b=b._replace(debits=b.debits + PAID)))


def _witness(state: Sum) -> Sum:
    return state._replace(true_sums=state.true_sums | {balance(state)}) if state.reads else state


# ---- the ways to read ----


def by_external_counters(state: Sum) -> str:
    """DESIGN §8: two collections agree on every bucket's external counters; their sum is the balance."""
    first, second = state.reads[:2], state.reads[2:]
    if any(one[:2] != other[:2] for one, other in zip(first, second, strict=True)):
        return ""
    return _never_true(state, sum(one.credits - one.debits for one in second))


def by_counters_of_moves(state: Sum) -> str:
    """A fault: two collections agree on how many moves there were; all that is posted is summed."""
    first, second = state.reads[:2], state.reads[2:]
    if any(one.moves != other.moves for one, other in zip(first, second, strict=True)):
        return ""
    return _never_true(state, sum(one.credits - one.debits + one.moved_in - one.moved_out for one in second))


def refused_with_proof(state: Sum) -> str:
    """DESIGN §8: credits of the second collection less debits of the first are below the amount."""
    first, second = state.reads[:2], state.reads[2:]
    return _falsely_refused(state, sum(one.credits for one in second) - sum(one.debits for one in first))


def refused_by_one_collection(state: Sum) -> str:
    """A fault: one collection is taken for the truth."""
    return _falsely_refused(state, sum(one.credits - one.debits for one in state.reads[2:]))


def _never_true(state: Sum, found: int) -> str:
    return "" if found in state.true_sums else f"I10 the sum {found} was never true"


def _falsely_refused(state: Sum, bound: int) -> str:
    false = bound < ASKED <= min(state.true_sums)
    return f"I6 {ASKED} was refused, though the balance was never below {min(state.true_sums)}" if false else ""


READINGS = (by_external_counters, refused_with_proof)
FAULTY_READINGS = (by_counters_of_moves, refused_by_one_collection)


class Reading(NamedTuple):
    """What a search found."""

    states: int
    violation: str
    trace: tuple[str, ...]


def explore_sum(reading: Callable[[Sum], str]) -> Reading:
    """Visit every state; judge what each reader that has all four would say."""
    came: dict[Sum, tuple[Sum, str] | None] = {START: None}
    waiting = deque([START])
    while waiting:
        state = waiting.popleft()
        wrong = reading(state) if len(state.reads) == 4 else ""
        if wrong:
            return Reading(len(came), wrong, _trace(came, state))
        for step, following in successors(state):
            if following not in came:
                came[following] = (state, step)
                waiting.append(following)
    return Reading(len(came), "", ())


def _trace(came: dict[Sum, tuple[Sum, str] | None], state: Sum) -> tuple[str, ...]:
    steps, at = [], came[state]
    while at is not None:
        before, step = at
        steps.append(step)
        at = came[before]
    return tuple(reversed(steps))
