"""What steps of cross-group chains do to one group, told to model and kernel at once."""

import numpy as np
import pytest

from engine.core.book import Book
from engine.core.chains.plan import Chain, Plan, Side, chain_of
from engine.core.chains.step_record import steps_of
from engine.core.chains.word import Order, State, Step
from engine.core.events import apply_settings
from engine.core.known import NO_POSITION, AppliedSteps, nothing_known
from engine.core.model.legs import transit_id
from engine.core.model.state import Event, pack
from engine.core.model.steps import StepAnswer
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import AccountFlag, Flag, Kind, as_words
from engine.core.steps import apply_steps, replay_steps
from engine.exit_codes import EngineStopped
from tests.core_histories import SECOND, settings
from tests.core_story import ALICE, BEGIN, BOB, Story
from tests.core_story import chain as linked

OURS, FAR = 0, 1
LIMITED = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
STRANGER = b"an account far a"


class FarStory(Story):
    """Group 0, of which others hear by steps."""

    def __init__(self) -> None:
        super().__init__()
        self.create(ALICE, BOB, flags=LIMITED)
        self.give(ALICE, 10)

    def chain(self, *events: Event, sides: tuple[tuple[int, int], ...], decider: int | None = None) -> Chain:
        rows = b"".join(map(pack, linked(*events)))
        return chain_of(rows, Plan(tuple(Side(*side) for side in sides), sides[-1][1] if decider is None else decider))

    def out(self, amount: int, kind: Kind = Kind.POST, **fields: object) -> Chain:
        """Return a plain chain from Alice to another group, which decides it."""
        return self.chain(self.event(kind, ALICE, STRANGER, amount, **fields), sides=((OURS, FAR),))

    def incoming(self, amount: int, kind: Kind = Kind.POST, **fields: object) -> Chain:
        """Return a plain chain from another group to Bob, which this group decides."""
        return self.chain(self.event(kind, STRANGER, BOB, amount, **fields), sides=((FAR, OURS),))

    def hear(self, *orders: Order, time_ns: int = 0) -> StepAnswer:
        return self.twins.apply_steps(steps_of(orders, [time_ns] * len(orders)), self.now)

    def states(self, *orders: Order) -> list[State | None]:
        return [one.word and one.word.state for one in self.hear(*orders).answers]

    def transit(self) -> tuple[int, int, int, int]:
        return self.balances(transit_id(FAR, 1))


def test_money_leaves_by_reserve_and_commit_over_the_transit_account() -> None:
    story = FarStory()
    chain = story.out(7)
    assert story.states(Order(Step.RESERVE, OURS, chain)) == [State.RESERVED]
    assert story.balances(ALICE) == (0, 10, 7, 0)
    assert story.transit() == (0, 0, 0, 7)
    assert story.states(Order(Step.COMMIT, OURS, chain, (7,))) == [State.COMMITTED]
    assert story.balances(ALICE) == (7, 10, 0, 0)
    assert story.transit() == (0, 7, 0, 0)


def test_money_arrives_by_one_decision() -> None:
    story = FarStory()
    chain = story.incoming(7)
    assert story.states(Order(Step.DECIDE, OURS, chain, (7,))) == [State.POSTED]
    assert story.balances(BOB) == (0, 7, 0, 0)
    assert story.transit() == (7, 0, 0, 0)


def test_what_is_not_secured_is_refused_and_cannot_be_committed() -> None:
    story = FarStory()
    chain = story.out(11)
    (answer,) = story.hear(Order(Step.RESERVE, OURS, chain)).answers
    assert answer.word is not None
    assert (answer.word.state, answer.word.reason) == (State.REFUSED, Outcome.INSUFFICIENT_FUNDS)
    assert story.states(Order(Step.COMMIT, OURS, chain, (11,))) == [None]
    assert story.balances(ALICE) == (0, 10, 0, 0)


def test_a_tombstone_stops_the_decision_that_comes_late() -> None:
    story = FarStory()
    chain = story.incoming(7)
    abort = Order(Step.ABORT, OURS, chain, reason=Outcome.CHAIN_ABORTED)
    heard = story.hear(abort, Order(Step.DECIDE, OURS, chain, (7,)))
    assert [one.word and one.word.state for one in heard.answers] == [State.TOMBSTONE, None]
    assert heard.positions[1] == heard.answers[0].word.position if heard.answers[0].word else False
    assert story.balances(BOB) == (0, 0, 0, 0)


def test_repeated_and_late_steps_change_nothing() -> None:
    story = FarStory()
    chain = story.out(7)
    reserve, commit = Order(Step.RESERVE, OURS, chain), Order(Step.COMMIT, OURS, chain, (7,))
    release = Order(Step.RELEASE, OURS, chain)
    heard = [State.RESERVED, State.COMMITTED]
    assert story.states(commit, reserve, reserve, commit, commit, release, reserve) == [
        *(None, heard[0], None, heard[1], None, None, None)
    ]
    assert story.balances(ALICE) == (7, 10, 0, 0)


def test_legs_that_are_secured_and_released_in_one_record_leave_nothing_reserved() -> None:
    story = FarStory()
    legs = [story.event(Kind.POST, ALICE, STRANGER, 7), story.event(Kind.POST, ALICE, STRANGER, 2)]
    chain = story.chain(*legs, sides=((OURS, FAR), (OURS, FAR)), decider=2)
    heard = story.states(Order(Step.RESERVE, OURS, chain), Order(Step.RELEASE, OURS, chain))
    assert heard == [State.RESERVED, State.RELEASED]
    assert story.balances(ALICE) == (0, 10, 0, 0)
    assert story.transit() == (0, 0, 0, 0)


def test_a_word_under_another_plan_is_not_obeyed() -> None:
    story = FarStory()
    chain = story.out(7)
    other = chain_of(chain.rows, Plan(chain.plan.sides, 3))
    story.hear(Order(Step.RESERVE, OURS, chain))
    heard = story.hear(Order(Step.COMMIT, OURS, other, (7,)), Order(Step.RELEASE, OURS, other))
    assert [one.word for one in heard.answers] == [None, None]
    assert story.states(Order(Step.RELEASE, OURS, chain)) == [State.RELEASED]
    assert story.balances(ALICE) == (0, 10, 0, 0)


def test_an_unknown_chain_is_answered_with_nothing() -> None:
    story = FarStory()
    chain = story.out(7)
    heard = story.hear(Order(Step.RELEASE, OURS, chain), Order(Step.ASK, OURS, chain))
    assert heard.positions == [NO_POSITION, NO_POSITION]
    assert heard.rows == []


def test_a_hold_elsewhere_keeps_what_an_earlier_commit_will_take() -> None:
    story = FarStory()
    hold = story.out(8, Kind.RESERVE, timeout_or_version=9)
    story.hear(Order(Step.RESERVE, OURS, hold), Order(Step.HOLD, OURS, hold, (8,)), time_ns=BEGIN)
    part = story.out(3, Kind.COMMIT, followed=hold.chain_id, flags=Flag.KEEP_REST)
    story.hear(Order(Step.RESERVE, OURS, part))
    story.hear(Order(Step.EXPIRE, OURS, hold, given_back=(5,)))
    assert story.balances(ALICE) == (0, 10, 3, 0)
    late = story.out(3, Kind.COMMIT, followed=hold.chain_id)
    (answer,) = story.hear(Order(Step.RESERVE, OURS, late)).answers
    assert answer.word is not None
    assert answer.word.reason == Outcome.RESERVATION_EXPIRED
    assert story.states(Order(Step.COMMIT, OURS, part, (3,))) == [State.COMMITTED]
    assert story.balances(ALICE) == (3, 10, 0, 0)


def test_only_its_decider_lets_a_hold_expire() -> None:
    story = FarStory()
    elsewhere = story.out(8, Kind.RESERVE, timeout_or_version=1)
    here = story.incoming(5, Kind.RESERVE, timeout_or_version=1)
    story.hear(Order(Step.RESERVE, OURS, elsewhere), Order(Step.HOLD, OURS, elsewhere, (8,)), time_ns=BEGIN)
    story.hear(Order(Step.DECIDE, OURS, here, (5,)))
    assert story.balances(BOB) == (0, 0, 0, 5)
    story.wait(2)
    story.tell()
    assert story.balances(BOB) == (0, 0, 0, 0)
    assert story.balances(ALICE) == (0, 10, 8, 0)


def test_a_follower_under_another_plan_is_told_the_original() -> None:
    story = FarStory()
    hold = story.out(8, Kind.RESERVE)
    story.hear(Order(Step.RESERVE, OURS, hold), Order(Step.HOLD, OURS, hold, (8,)))
    event = story.event(Kind.COMMIT, ALICE, STRANGER, 8, followed=hold.chain_id)
    guessed = story.chain(event, sides=((OURS, FAR),), decider=3)
    heard = story.hear(Order(Step.RESERVE, OURS, guessed))
    assert (heard.rows, heard.answers[0].word) == ([], None)
    assert heard.positions == [story.model.history[hold.chain_id].position]


def test_an_ordinary_record_that_meets_a_chain_is_sent_to_its_decider() -> None:
    story = FarStory()
    hold = story.out(8, Kind.RESERVE)
    story.hear(Order(Step.RESERVE, OURS, hold), Order(Step.HOLD, OURS, hold, (8,)))
    again = story.event(Kind.POST, ALICE, BOB, 1, id=hold.chain_id)
    follower = story.event(Kind.RELEASE, ALICE, STRANGER, followed=hold.chain_id)
    for event in (again, follower):
        (result,) = story.twins.apply([event], story.now).results
        assert (result.outcome, result.flags, result.group) == (0, ResultFlag.DECIDED_ELSEWHERE, FAR)
    assert follower.id not in story.model.history


def test_what_this_group_decided_is_replayed_to_an_ordinary_record() -> None:
    story = FarStory()
    chain = story.incoming(7)
    story.hear(Order(Step.DECIDE, OURS, chain, (7,)))
    event = story.model.history[chain.chain_id].event
    (result,) = story.twins.apply([event], story.now).results
    assert (result.outcome, result.flags) == (Outcome.POSTED, ResultFlag.REPLAYED)


def test_legs_spend_what_earlier_legs_bring() -> None:
    story = FarStory()
    legs = (story.event(Kind.POST, STRANGER, BOB, 5), story.event(Kind.POST, BOB, STRANGER, 5))
    chain = story.chain(*legs, sides=((FAR, OURS), (OURS, 2)))
    assert story.states(Order(Step.RESERVE, OURS, chain)) == [State.RESERVED]
    assert story.balances(BOB) == (0, 0, 0, 0)
    assert story.states(Order(Step.COMMIT, OURS, chain, (5, 5))) == [State.COMMITTED]
    assert story.balances(BOB) == (5, 5, 0, 0)


def test_callers_never_reach_the_engine_s_own_accounts() -> None:
    story = FarStory()
    story.hear(Order(Step.RESERVE, OURS, story.out(7)))
    assert story.post(ALICE, transit_id(FAR, 1), 1) in (Outcome.ACCOUNT_ID_RESERVED, Outcome.ACCOUNT_IN_ANOTHER_GROUP)


def applied_alone() -> tuple[Book, AppliedSteps]:
    book = Book(OURS)
    apply_settings(book, settings(), SECOND)
    story = FarStory()
    steps = steps_of([Order(Step.RESERVE, OURS, story.out(7))])
    applied = apply_steps(book, steps._replace(rows=steps.rows.copy()), nothing_known(1), BEGIN)
    return book, applied


def test_a_damaged_block_is_not_replayed() -> None:
    _, applied = applied_alone()
    fresh = Book(OURS)
    apply_settings(fresh, settings(), SECOND)
    wrong = applied.rows.copy()
    wrong[0, 15] ^= np.uint64(1 << 61)
    for rows, extra in ((wrong, applied.extra), (applied.rows, b""), (applied.rows, applied.extra[:-1])):
        with pytest.raises(EngineStopped):
            replay_steps(fresh, rows, extra, BEGIN)


def test_rows_say_which_step_stored_them() -> None:
    _, applied = applied_alone()
    assert (as_words(applied.rows.tobytes())[:, 15] >> np.uint64(61)).tolist() == [Step.RESERVE]
