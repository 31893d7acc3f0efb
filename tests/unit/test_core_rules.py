"""The rules of the ledger as stories, each told to the plain model and to the kernel (DESIGN §4)."""

from engine.core.model.state import Event
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import AMOUNT_ALL, AccountFlag, Flag, Kind
from tests.core_histories import SECOND, settings
from tests.core_story import Story, chain

POSTED = Outcome.POSTED
LIMITED = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
CAPPED = AccountFlag.CREDITS_MUST_NOT_EXCEED_DEBITS


def two_accounts(story: Story, **fields: int) -> tuple[bytes, bytes]:
    alice, bob = story.new_account(), story.new_account()
    story.create(alice, bob, **fields)
    return alice, bob


def reserved(story: Story, amount: int, **fields: int) -> tuple[Event, bytes, bytes]:
    alice, bob = two_accounts(story)
    hold = story.event(Kind.RESERVE, alice, bob, amount, **fields)
    assert story.tell(hold) == [POSTED]
    return hold, alice, bob


def follow(story: Story, kind: Kind, hold: Event, amount: int = 0, flags: int = 0) -> Event:
    return story.event(kind, hold.debit, hold.credit, amount, followed=hold.id, flags=flags)


def test_a_post_moves_the_amount_from_debit_to_credit() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    assert story.post(alice, bob, 30) == POSTED
    assert (story.balances(alice), story.balances(bob)) == ((30, 0, 0, 0), (0, 30, 0, 0))


def test_the_same_request_again_is_replayed_and_moves_nothing() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    event = story.event(Kind.POST, alice, bob, 30)
    first = story.twins.apply([event, event], story.now)
    later = story.twins.apply([event], story.now)
    assert [result.flags for result in (*first.results, *later.results)] == [
        0,
        ResultFlag.REPLAYED,
        ResultFlag.REPLAYED,
    ]
    assert len({(result.position, result.timestamp) for result in (*first.results, *later.results)}) == 1
    assert later.rows == []
    assert story.balances(alice) == (30, 0, 0, 0)


def test_a_refusal_burns_its_id_for_ever() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED)
    event = story.event(Kind.POST, alice, bob, 30)
    assert story.tell(event) == [Outcome.INSUFFICIENT_FUNDS]
    story.give(alice, 100)
    assert story.tell(event) == [Outcome.INSUFFICIENT_FUNDS]
    assert story.post(alice, bob, 30) == POSTED


def test_an_overdraft_limit_is_spent_to_the_last_unit_and_no_further() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED, amount=20)
    assert story.post(alice, bob, 21) == Outcome.INSUFFICIENT_FUNDS
    assert story.post(alice, bob, 20) == POSTED
    assert story.post(alice, bob, 1) == Outcome.INSUFFICIENT_FUNDS


def test_a_capped_account_mirrors_the_limit() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=CAPPED, amount=5)
    assert story.post(alice, bob, 6) == Outcome.CREDIT_LIMIT_EXCEEDED
    assert story.post(alice, bob, 5) == POSTED


def test_reservations_count_against_the_limit_until_they_are_released() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED)
    story.give(alice, 50)
    hold = story.event(Kind.RESERVE, alice, bob, 40)
    assert story.tell(hold) == [POSTED]
    assert story.post(alice, bob, 11) == Outcome.INSUFFICIENT_FUNDS
    assert story.tell(follow(story, Kind.RELEASE, hold)) == [POSTED]
    assert story.post(alice, bob, 50) == POSTED


def test_a_commit_in_part_releases_the_rest() -> None:
    story = Story()
    hold, alice, bob = reserved(story, 40)
    assert story.tell(follow(story, Kind.COMMIT, hold, 25)) == [POSTED]
    assert (story.balances(alice), story.balances(bob)) == ((25, 0, 0, 0), (0, 25, 0, 0))
    assert story.tell(follow(story, Kind.COMMIT, hold, 1)) == [Outcome.RESERVATION_ALREADY_COMMITTED]


def test_keep_rest_allows_commits_until_nothing_is_left() -> None:
    story = Story()
    hold, alice, _ = reserved(story, 40)
    keep = [follow(story, Kind.COMMIT, hold, amount, Flag.KEEP_REST) for amount in (10, 31, 30, 1)]
    assert story.tell(*keep) == [
        POSTED,
        Outcome.AMOUNT_EXCEEDS_RESERVATION,
        POSTED,
        Outcome.RESERVATION_ALREADY_COMMITTED,
    ]
    assert story.balances(alice) == (40, 0, 0, 0)


def test_a_commit_of_all_takes_what_is_left_and_replays_by_what_was_asked() -> None:
    story = Story()
    hold, alice, _ = reserved(story, 40)
    story.tell(follow(story, Kind.COMMIT, hold, 15, Flag.KEEP_REST))
    everything = follow(story, Kind.COMMIT, hold, AMOUNT_ALL)
    answer = story.twins.apply([everything], story.now)
    assert answer.asked == {0: AMOUNT_ALL}
    assert story.balances(alice) == (40, 0, 0, 0)
    assert story.tell(everything, everything._replace(amount=25)) == [
        POSTED,
        Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT,
    ]


def test_release_passes_a_frozen_account_and_commit_does_not() -> None:
    story = Story()
    hold, alice, _ = reserved(story, 40)
    story.update(alice, flags=AccountFlag.FROZEN)
    assert story.tell(follow(story, Kind.COMMIT, hold, 40)) == [Outcome.DEBIT_ACCOUNT_FROZEN]
    assert story.tell(follow(story, Kind.RELEASE, hold)) == [POSTED]


def test_a_reservation_is_expired_at_its_deadline_and_before_the_records_own_transfers() -> None:
    story = Story()
    hold, alice, _ = reserved(story, 40, timeout_or_version=2)
    deadline = story.model.history[hold.id].timestamp + 2 * SECOND
    story.now = deadline - 1
    story.tell()
    assert story.balances(alice)[2] == 40
    story.now = deadline
    answer = story.twins.apply([follow(story, Kind.COMMIT, hold, 1)], story.now)
    assert [result.outcome for result in answer.results] == [Outcome.RESERVATION_EXPIRED]
    assert len(answer.rows) == 2
    assert story.balances(alice)[2] == 0


def test_what_is_due_beyond_the_bound_of_one_record_cannot_be_committed_and_goes_with_the_next() -> None:
    story = Story(expiries_per_record_max=1)
    alice, bob = two_accounts(story)
    holds = [story.event(Kind.RESERVE, alice, bob, 5, timeout_or_version=1) for _ in range(3)]
    story.tell(*holds)
    story.now = story.model.history[holds[2].id].timestamp + SECOND
    assert story.tell(follow(story, Kind.COMMIT, holds[2], 5)) == [Outcome.RESERVATION_EXPIRED]
    assert story.balances(alice)[2] == 10
    story.tell()
    story.tell()
    assert story.balances(alice)[2] == 0


def test_of_equal_deadlines_the_older_reservation_expires_first() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    story.wait(10)
    holds = [story.event(Kind.RESERVE, alice, bob, 1, timeout_or_version=timeout) for timeout in (4, 3, 2, 1)]
    for hold in holds:
        story.tell(hold)
        story.wait(1)
    assert len({story.model.history[hold.id].deadline for hold in holds}) == 1
    story.wait(10)
    rows = story.twins.apply([], story.now).rows
    assert [row[:16] for row in rows] == [hold.id for hold in holds]


def test_timeout_zero_never_expires() -> None:
    story = Story()
    _, alice, _ = reserved(story, 40)
    story.wait(1e9)
    story.tell()
    assert story.balances(alice)[2] == 40


def test_a_clock_that_jumps_back_is_clamped_after_the_last_row() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    story.wait(10)
    story.post(alice, bob, 1)
    late = story.model.last_timestamp
    story.wait(-60)
    answer = story.twins.apply([story.event(Kind.POST, alice, bob, 1)], story.now)
    assert answer.results[0].timestamp == late + 1


def test_a_record_that_stores_nothing_leaves_time_where_it_was() -> None:
    story = Story()
    two_accounts(story)
    before = story.model.last_timestamp
    story.wait(100)
    story.tell()
    assert story.model.last_timestamp == before


def test_reversals_add_up_to_the_original_and_no_further() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    original = story.event(Kind.POST, alice, bob, 30)
    story.tell(original)
    backwards = [follow(story, Kind.REVERSE, original, amount) for amount in (20, 11, 10, 1)]
    assert story.tell(*backwards) == [
        POSTED,
        Outcome.AMOUNT_EXCEEDS_ORIGINAL,
        POSTED,
        Outcome.AMOUNT_EXCEEDS_ORIGINAL,
    ]
    assert (story.balances(alice), story.balances(bob)) == ((30, 30, 0, 0), (30, 30, 0, 0))


def test_a_commit_can_be_reversed_and_a_reversal_cannot() -> None:
    story = Story()
    hold, _, _ = reserved(story, 30)
    commit = follow(story, Kind.COMMIT, hold, 30)
    reversal = follow(story, Kind.REVERSE, commit, 5)
    assert story.tell(commit, reversal) == [POSTED, POSTED]
    assert story.tell(follow(story, Kind.REVERSE, reversal, 5), follow(story, Kind.REVERSE, hold, 5)) == [
        Outcome.FOLLOWED_OF_WRONG_KIND,
        Outcome.FOLLOWED_OF_WRONG_KIND,
    ]


def test_a_reversal_obeys_the_limit_of_the_account_that_it_debits_unless_forced() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED)
    story.give(alice, 30)
    original = story.event(Kind.POST, alice, bob, 30)
    story.tell(original)
    story.take(bob, 10)
    assert story.tell(
        follow(story, Kind.REVERSE, original, 30),
        follow(story, Kind.REVERSE, original, 30, Flag.FORCE),
    ) == [Outcome.INSUFFICIENT_FUNDS, POSTED]


def test_force_skips_limits_and_nothing_else() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED)
    assert story.post(alice, bob, 30, flags=Flag.FORCE) == POSTED
    story.update(alice, flags=AccountFlag.FROZEN)
    assert story.post(alice, bob, 30, flags=Flag.FORCE) == Outcome.DEBIT_ACCOUNT_FROZEN


def test_balancing_moves_what_is_available_overdraft_included_and_posts_zero_if_there_is_nothing() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED, amount=5)
    story.give(alice, 10)
    sweeps = [story.event(Kind.POST, alice, bob, 100, flags=Flag.BALANCING_DEBIT) for _ in range(2)]
    answer = story.twins.apply(sweeps, story.now)
    assert [result.outcome for result in answer.results] == [POSTED, POSTED]
    assert answer.asked == {0: 100, 1: 100}
    assert story.balances(alice) == (15, 10, 0, 0)
    assert story.tell(sweeps[0], sweeps[0]._replace(amount=15)) == [POSTED, Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT]


def test_balancing_credit_fills_a_capped_account() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=CAPPED)
    story.take(bob, 12)
    assert story.post(alice, bob, 100, flags=Flag.BALANCING_CREDIT) == POSTED
    assert story.balances(bob) == (12, 12, 0, 0)


def test_a_side_stays_below_2_to_the_127() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    assert story.post(alice, bob, (1 << 127) - 1) == POSTED
    assert story.post(alice, bob, 1) == Outcome.DEBIT_ACCOUNT_OVERFLOW
    assert story.post(bob, alice, AMOUNT_ALL) == Outcome.DEBIT_ACCOUNT_OVERFLOW
    carol = story.new_account()
    story.create(carol)
    assert story.post(carol, bob, 1) == Outcome.CREDIT_ACCOUNT_OVERFLOW


def test_a_failed_chain_changes_nothing_and_burns_every_id() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED)
    story.give(alice, 50)
    hold = story.event(Kind.RESERVE, alice, bob, 10)
    story.tell(hold)
    before = story.balances(alice), story.balances(bob)
    legs = chain(
        story.event(Kind.POST, alice, bob, 5),
        follow(story, Kind.COMMIT, hold, 4, Flag.KEEP_REST),
        follow(story, Kind.RELEASE, hold),
        story.event(Kind.RESERVE, alice, bob, 7, timeout_or_version=1),
        story.event(Kind.POST, alice, bob, 1000),
        story.event(Kind.POST, alice, bob, 1),
    )
    expected = [Outcome.CHAIN_FAILED] * 4 + [Outcome.INSUFFICIENT_FUNDS, Outcome.CHAIN_FAILED]
    assert story.tell(*legs) == expected
    assert (story.balances(alice), story.balances(bob)) == before
    assert story.tell(*legs) == expected
    assert story.tell(legs[5]) == [Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN]
    assert story.tell(follow(story, Kind.COMMIT, hold, 10)) == [POSTED]


def test_legs_of_a_chain_see_the_legs_before_them() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    hold = story.event(Kind.RESERVE, alice, bob, 10)
    legs = chain(hold, follow(story, Kind.COMMIT, hold, 4, Flag.KEEP_REST), follow(story, Kind.RELEASE, hold))
    assert story.tell(*legs) == [POSTED, POSTED, POSTED]
    assert story.balances(alice) == (4, 0, 0, 0)


def test_a_leg_tried_again_alone_or_in_another_chain_is_a_conflict() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    first, second, third = (story.event(Kind.POST, alice, bob, 1) for _ in range(3))
    assert story.tell(*chain(first, second)) == [POSTED, POSTED]
    different = Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN
    assert story.tell(second) == [different]
    assert story.tell(first) == [different]
    assert story.tell(*chain(second, first)) == [different, different]
    assert story.tell(*chain(first, second, third)) == [different, different, Outcome.CHAIN_FAILED]
    assert story.tell(*chain(first, second)) == [POSTED, POSTED]
    assert story.tell(third) == [different]


def test_a_known_id_in_a_new_chain_burns_the_new_ids_and_every_retry_gives_the_same() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    known, second, third = (story.event(Kind.POST, alice, bob, 1) for _ in range(3))
    story.tell(known)
    legs = chain(second, known._replace(amount=2), third)
    expected = [Outcome.CHAIN_FAILED, Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT, Outcome.CHAIN_FAILED]
    assert story.tell(*legs) == expected
    again = story.twins.apply(legs, story.now)
    assert [result.outcome for result in again.results] == expected
    assert [result.flags for result in again.results] == [ResultFlag.REPLAYED, 0, ResultFlag.REPLAYED]
    assert story.tell(third) == [Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN]


def test_a_chain_on_record_beside_an_older_transfer_is_another_chain() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    older, first, second = (story.event(Kind.POST, alice, bob, 1) for _ in range(3))
    story.tell(older)
    story.tell(*chain(first, second))
    different = Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN
    assert story.tell(*chain(older, first, second)) == [different, different, different]


def test_following_a_refused_transfer_is_missing() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED)
    hold = story.event(Kind.RESERVE, alice, bob, 10)
    assert story.tell(hold, follow(story, Kind.COMMIT, hold, 10)) == [
        Outcome.INSUFFICIENT_FUNDS,
        Outcome.FOLLOWED_MISSING,
    ]


def test_creating_an_account_again_is_replayed_even_after_an_update() -> None:
    story = Story()
    alice = story.new_account()
    assert story.create(alice, amount=9, flags=LIMITED) == [Outcome.ACCOUNT_CREATED]
    assert story.update(alice, amount=0, flags=AccountFlag.FROZEN) == Outcome.ACCOUNT_UPDATED
    assert story.create(alice, amount=9, flags=LIMITED) == [Outcome.ACCOUNT_CREATED]
    assert story.create(alice, amount=0, flags=LIMITED) == [Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT]
    assert story.create(alice, amount=9, flags=CAPPED) == [Outcome.ID_REUSED_WITH_DIFFERENT_FLAGS]
    assert story.create(alice, amount=9, flags=LIMITED, reference=alice) == [Outcome.ID_REUSED_WITH_DIFFERENT_REFERENCE]


def test_a_refused_creation_may_be_tried_again() -> None:
    story = Story()
    alice = story.new_account()
    assert story.create(alice, ledger=9) == [Outcome.LEDGER_UNKNOWN]
    assert story.create(alice, ledger=1) == [Outcome.ACCOUNT_CREATED]


def test_an_update_of_another_version_is_refused_and_an_accepted_one_raises_the_version() -> None:
    story = Story()
    alice, _ = two_accounts(story)
    assert story.update(alice, timeout_or_version=2) == Outcome.ACCOUNT_VERSION_DIFFERS
    assert story.update(alice, timeout_or_version=1) == Outcome.ACCOUNT_UPDATED
    assert story.update(alice, timeout_or_version=2, amount=7) == Outcome.ACCOUNT_UPDATED


def test_an_account_closes_only_at_zero_and_stays_closed() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    story.post(alice, bob, 5)
    assert story.update(alice, flags=AccountFlag.CLOSED) == Outcome.ACCOUNT_NOT_EMPTY
    story.post(bob, alice, 5)
    hold = story.event(Kind.RESERVE, alice, bob, 1)
    story.tell(hold)
    assert story.update(alice, flags=AccountFlag.CLOSED) == Outcome.ACCOUNT_NOT_EMPTY
    story.tell(follow(story, Kind.RELEASE, hold))
    assert story.update(alice, flags=AccountFlag.CLOSED) == Outcome.ACCOUNT_UPDATED
    assert story.update(alice) == Outcome.ACCOUNT_CLOSED
    assert story.post(bob, alice, 1) == Outcome.CREDIT_ACCOUNT_CLOSED


def test_a_limit_cannot_go_below_what_is_used_but_an_overdrawn_account_can_be_frozen() -> None:
    story = Story()
    alice, bob = two_accounts(story, flags=LIMITED, amount=20)
    story.post(alice, bob, 15)
    assert story.update(alice, amount=14) == Outcome.LIMIT_BELOW_USE
    assert story.update(alice, amount=15) == Outcome.ACCOUNT_UPDATED
    story.take(alice, 100)
    assert story.update(alice, amount=15, flags=AccountFlag.FROZEN) == Outcome.ACCOUNT_UPDATED
    assert story.update(alice, amount=14) == Outcome.LIMIT_BELOW_USE


def test_accounts_and_transfers_of_one_record_may_be_mixed() -> None:
    story = Story()
    alice, bob = story.new_account(), story.new_account()
    answers = story.tell(
        Event(id=alice, kind=Kind.CREATE_ACCOUNT, ledger=1),
        story.event(Kind.POST, alice, bob, 1),
        Event(id=bob, kind=Kind.CREATE_ACCOUNT, ledger=1),
        Event(id=alice, kind=Kind.CREATE_ACCOUNT, ledger=1),
        story.event(Kind.POST, alice, bob, 1),
    )
    created = Outcome.ACCOUNT_CREATED
    assert answers == [created, Outcome.CREDIT_ACCOUNT_UNKNOWN, created, created, POSTED]


def test_an_account_of_a_slot_that_moved_away_is_in_another_group_even_if_it_is_still_here() -> None:
    story = Story()
    alice, bob = two_accounts(story)
    story.twins.settings(settings(slots_of_group_1=4096 - 1), story.now)
    assert story.post(alice, bob, 1) == Outcome.ACCOUNT_IN_ANOTHER_GROUP
