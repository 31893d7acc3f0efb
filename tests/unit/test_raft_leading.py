"""Leading, following, handing over: proposals, barriers, elections, snapshots and state hashes on one real replica."""

import asyncio

import pytest
from blake3 import blake3
from crc32c import crc32c

from engine.exit_codes import ExitCode
from engine.replication.interface import NotProposed, Role
from engine.replication.raft.precedence import FIRST_S_MAX, LONE_BYTES_MAX
from engine.replication.raft.settings import RaftSettings
from engine.replication.transport.messages import (
    Ack,
    Append,
    PreVote,
    PreVoteRequest,
    SnapshotAck,
    SnapshotPiece,
    StaleTerm,
    TimeoutNow,
    Vote,
    VoteRequest,
)

HEARTBEAT_S = 0.2
"""Of `rested`."""


@pytest.fixture
def leader(make_bench):
    """It leads, and its term's first record is committed."""
    bench = make_bench()
    bench.elect()
    bench.run()
    bench.acknowledge("b", 1)
    bench.run()
    assert bench.log.status().commit_index == 1
    return bench


# Proposals and barriers.


def test_an_ack_that_changes_nothing_costs_no_turn_and_one_that_commits_is_told_at_once(leader, monkeypatch):
    answers, turns = [], []
    leader.log.propose(b"record", answers.append)
    leader.run(0.001)
    leader.acknowledge("c", 2)
    leader.run(0.0)
    assert answers == [2]
    monkeypatch.setattr(leader.log, "_advance", lambda: turns.append("turn"))
    leader.acknowledge("b", 2)
    leader.run(0.001)
    assert turns == []
    assert leader.log._sender.followers["b"].match_index == 2


def appended(bench, peer: str) -> list[int]:
    """Indexes of the records that a follower was sent, in the order in which they went."""
    appends = bench.told(Append, peer)
    return [append.previous_index + 1 + place for append in appends for place in range(len(append.terms))]


@pytest.fixture
def rested(make_bench):
    """Both followers hold everything, `b` was quicker, and no heartbeat is near."""
    bench = make_bench(
        settings=RaftSettings(heartbeat_s=HEARTBEAT_S, election_s_min=0.7, election_s_max=0.8, leader_fallback_s=1.0)
    )
    bench.elect()
    bench.run()
    bench.acknowledge("b", 1)
    bench.acknowledge("c", 1)
    bench.run()
    return bench


def test_a_lone_record_goes_to_the_quicker_follower_and_commits_without_the_other_which_has_it_with_a_heartbeat(rested):
    answers = []
    rested.log.propose(b"record", answers.append)
    rested.run(0.001)
    assert (appended(rested, "b"), appended(rested, "c")) == ([1, 2], [1])
    rested.acknowledge("b", 2)
    rested.run(0.0)
    assert (answers, appended(rested, "c")) == ([2], [1])
    rested.log.propose(b"the next", answers.append)
    rested.run(0.001)
    rested.acknowledge("b", 3)
    rested.run(2 * FIRST_S_MAX)
    assert (answers, appended(rested, "b"), appended(rested, "c")) == ([2, 3], [1, 2, 3], [1])
    rested.run(HEARTBEAT_S)
    assert appended(rested, "c") == [1, 2, 3]


def test_where_the_quicker_follower_does_not_answer_the_other_is_told_in_time_and_is_the_quicker_one_from_then_on(
    rested,
):
    answers = []
    rested.log.propose(b"record", answers.append)
    rested.run(FIRST_S_MAX + 0.001)
    assert appended(rested, "c") == [1, 2]
    rested.acknowledge("c", 2)
    rested.run(0.0)
    assert answers == [2]
    rested.acknowledge("b", 2)
    rested.log.propose(b"the next", answers.append)
    rested.run(0.001)
    assert (appended(rested, "b"), appended(rested, "c")) == ([1, 2], [1, 2, 3])


def test_records_that_follow_each_other_closely_go_to_all_at_once(rested):
    for record in (b"one", b"and another"):
        rested.log.propose(record, lambda _: None)
    rested.run(0.001)
    assert appended(rested, "b") == appended(rested, "c") == [1, 2, 3]


def test_a_large_record_goes_to_all_at_once(rested):
    rested.log.propose(bytes(LONE_BYTES_MAX + 1), lambda _: None)
    rested.run(0.001)
    assert appended(rested, "b") == appended(rested, "c") == [1, 2]


def test_no_follower_goes_first_that_is_behind_or_may_not_vote(rested):
    rested.acknowledge("b", 1, learner=True)
    rested.log.propose(b"record", lambda _: None)
    rested.run(0.001)
    assert appended(rested, "b") == appended(rested, "c") == [1, 2]


def test_an_ack_that_frees_the_window_is_followed_by_what_waited(make_bench):
    bench = make_bench(settings=RaftSettings(window_bytes_max=100))
    bench.elect()
    bench.run()
    for peer in ("b", "c"):
        bench.acknowledge(peer, 1)
    bench.run()
    for _ in range(3):
        bench.log.propose(bytes(80), lambda _: None)
    bench.run(0.001)
    bench.acknowledge("c", 3)
    bench.run(0.001)
    bench.transport.sent.clear()
    bench.acknowledge("b", 3)  # long committed: but a record waits for room
    bench.run(0.001)
    assert [append.previous_index for append in bench.told(Append, "b") if append.lengths] == [3]


def test_a_proposal_is_answered_with_its_index_once_a_quorum_has_it(leader):
    answers = []
    leader.log.propose(b"record", answers.append)
    leader.run()
    assert answers == []
    leader.acknowledge("c", 2)
    leader.run()
    assert answers == [2]
    assert leader.applied == [(2, leader.log.status().term, b"record")]


def test_a_follower_refuses_proposals_and_barriers_and_names_its_leader(make_bench):
    bench = make_bench()
    bench.append(1, (0, 0), [(1, b"one")], commit=1)
    for ask in (lambda: bench.log.propose(b"record", print), lambda: bench.log.barrier(print)):
        with pytest.raises(NotProposed) as refused:
            ask()
        assert refused.value.leader == "b"
        assert not refused.value.full


def test_a_deposed_leader_answers_every_proposal_and_barrier_with_unknown(leader):
    answers = []
    leader.log.propose(b"one", answers.append)
    leader.log.barrier(answers.append)
    leader.run()
    leader.append(9, (1, 1), [(9, b"another")], commit=1)
    leader.run()
    assert answers == [None, None]
    assert leader.log.status().role is Role.FOLLOWER


def test_a_leader_without_a_quorum_steps_down_and_answers_unknown(leader):
    answers = []
    leader.log.propose(b"one", answers.append)
    leader.run(1.0)
    assert answers == [None]
    assert leader.log.status().role is not Role.LEADER


def test_barriers_that_wait_together_share_one_record(leader):
    answers = []
    for _ in range(5):
        leader.log.barrier(answers.append)
    leader.run()
    assert leader.log.status().last_index == 2
    leader.acknowledge("b", 2)
    leader.run()
    assert answers == [2] * 5
    assert leader.applied == []  # a barrier is nothing to apply
    assert leader.log.status().handed_index == leader.log.status().commit_index == 2


def test_a_barrier_rides_on_a_record_proposed_after_it_and_never_on_one_before(leader):
    answers = []
    leader.log.propose(b"before", lambda _: None)
    leader.log.barrier(answers.append)
    leader.run()
    assert leader.log.status().last_index == 3
    leader.log.barrier(answers.append)
    leader.log.propose(b"after", lambda _: None)
    leader.run()
    assert leader.log.status().last_index == 4
    leader.acknowledge("b", 4)
    leader.run()
    assert answers == [3, 4]


def test_a_barrier_right_after_an_election_waits_for_a_record_of_the_new_term(make_bench):
    bench = make_bench()
    bench.append(1, (0, 0), [(1, b"one")], commit=0)
    bench.run()
    bench.elect()
    answers = []
    bench.log.barrier(answers.append)
    bench.run()
    bench.acknowledge("b", 1)
    bench.run()
    assert answers == []
    assert bench.applied == []
    bench.acknowledge("b", bench.log.status().last_index)
    bench.run()
    assert answers == [bench.log.status().last_index]
    assert [index for index, _, _ in bench.applied] == [1]


def test_applying_can_be_paused_and_goes_on_where_it_stopped(leader):
    answers = []
    leader.log.pause_applying()
    leader.log.propose(b"one", answers.append)
    leader.run()
    leader.acknowledge("b", 2)
    leader.run()
    assert (answers, leader.applied) == ([], [])
    leader.log.resume_applying()
    leader.run()
    assert (answers, len(leader.applied)) == ([2], 1)


# Elections.


def test_a_replica_that_is_cut_off_does_not_raise_its_term(make_bench):
    bench = make_bench()
    bench.append(3, (0, 0), [(3, b"one")], commit=1)
    bench.run(5.0)
    assert bench.log.status().term == 3
    assert len(bench.told(PreVoteRequest)) > 10


def test_who_hears_a_leader_grants_no_pre_vote(make_bench):
    bench = make_bench()
    bench.append(3, (0, 0), [(3, b"one")], commit=1)
    bench.run(0.05)
    bench.receive("c", PreVoteRequest(4, 1, 9, 3))
    assert not bench.told(PreVote, "c")[0].granted
    bench.run(0.2)
    bench.receive("c", PreVoteRequest(4, 2, 9, 3))
    assert bench.told(PreVote, "c")[1].granted


def test_a_shorter_log_gets_no_pre_vote_and_no_vote(make_bench):
    bench = make_bench()
    bench.append(3, (0, 0), [(3, b"one"), (3, b"two")], commit=0)
    bench.run(0.5)
    bench.receive("c", PreVoteRequest(4, 1, 1, 3))
    bench.receive("c", VoteRequest(4, 1, 3))
    assert not bench.told(PreVote, "c")[0].granted
    assert bench.told(Vote, "c") == []


def test_a_duplicate_vote_counts_once(make_bench):
    bench = make_bench(members=("a", "b", "c", "d", "e"))
    while not bench.told(PreVoteRequest):
        bench.run(0.05)
    request = bench.told(PreVoteRequest)[-1]
    for peer in ("b", "c"):
        bench.receive(peer, PreVote(0, request.round, True))
    bench.run(0.001)
    for _ in range(3):
        bench.receive("b", Vote(1))
    assert bench.log.status().role is Role.CANDIDATE
    bench.receive("c", Vote(1))
    assert bench.log.status().role is Role.LEADER


def test_a_leader_of_a_former_term_is_told_and_steps_down(make_bench, leader):
    bench = make_bench()
    bench.append(5, (0, 0), [], commit=0)
    bench.append(4, (0, 0), [], commit=0, peer="c")
    assert bench.told(StaleTerm, "c") == [StaleTerm(5)]
    leader.receive("b", StaleTerm(7))
    assert leader.log.status().role is Role.FOLLOWER
    assert leader.log.status().term == 7


def test_a_follower_whose_leader_hangs_up_asks_at_once(make_bench):
    bench = make_bench()
    bench.append(3, (0, 0), [(3, b"one")], commit=1)
    bench.run(0.01)
    bench.transport.connected.remove("b")
    bench.log._reception.disconnected("b")
    bench.run(0.12)
    assert len(bench.told(PreVoteRequest)) >= 1


def test_leadership_is_handed_to_a_follower_that_has_everything(leader):
    leader.log.propose(b"one", lambda _: None)
    leader.log.transfer_leadership()
    with pytest.raises(NotProposed):
        leader.log.propose(b"two", lambda _: None)
    leader.run()
    assert leader.told(TimeoutNow) == []
    leader.acknowledge("c", 2)
    leader.run()
    assert leader.told(TimeoutNow, "c") == [TimeoutNow(leader.log.status().term)]
    leader.receive("c", VoteRequest(leader.log.status().term + 1, 2, leader.log.status().term))
    assert len(leader.told(Vote, "c")) == 1


def test_leadership_goes_to_the_follower_that_is_named_even_if_another_is_further(leader):
    leader.log.propose(b"one", lambda _: None)
    leader.run()
    leader.log.transfer_leadership("b")
    leader.acknowledge("c", 2)
    leader.run()
    assert leader.told(TimeoutNow) == []
    leader.acknowledge("b", 2)
    leader.run()
    assert (leader.told(TimeoutNow, "b"), leader.told(TimeoutNow, "c")) == ([TimeoutNow(leader.log.status().term)], [])


def test_a_transfer_that_nobody_takes_ends_and_the_leader_goes_on(make_bench):
    bench = make_bench(settings=RaftSettings(transfer_s_max=0.2, leader_fallback_s=5.0))
    bench.elect()
    bench.log.transfer_leadership()
    bench.run(0.5)
    bench.log.propose(b"one", lambda _: None)


def test_a_leader_whose_own_disk_hangs_hands_over(leader):
    leader.worker.delay_s = 1e6
    leader.log.propose(b"one", lambda _: None)
    for _ in range(30):
        leader.run(0.05)
        leader.acknowledge("b", 2)
        leader.acknowledge("c", 2)
    assert leader.applied == []
    assert len(leader.told(TimeoutNow)) == 1


def test_who_is_told_to_campaign_needs_no_pre_vote(make_bench):
    bench = make_bench()
    bench.append(3, (0, 0), [(3, b"one")], commit=1)
    bench.run(0.01)
    bench.receive("c", TimeoutNow(3))  # not its leader
    bench.run(0.01)
    assert bench.told(VoteRequest) == []
    bench.receive("b", TimeoutNow(3))
    bench.run(0.01)
    assert {request.term for request in bench.told(VoteRequest)} == {4}


# Snapshots.


def test_a_follower_behind_the_log_gets_a_snapshot_in_pieces_and_then_records(make_bench):
    settings = RaftSettings(retained_bytes_min=0, retained_bytes_max=0, snapshot_piece_bytes=64, leader_fallback_s=60.0)
    bench = make_bench(settings=settings)
    bench.elect()
    for number in range(30):
        bench.log.propose(number.to_bytes(8, "little") + bytes(100), lambda _: None)
        bench.run(0.001)
        bench.acknowledge("b", number + 2)
        bench.run(0.01)
    for index, term, record in bench.applied:
        bench.store.apply(index, term, record)
    bench.log.truncate_below(bench.store.save())
    bench.run()
    assert bench.log.status().first_index == 32
    bench.receive("c", Ack(bench.log.status().term, 1, True, False, False))
    bench.run(0.2)
    pieces = {
        message.offset: payload for to, message, payload in bench.transport.sent if isinstance(message, SnapshotPiece)
    }
    first = bench.told(SnapshotPiece, "c")[0]
    while sum(len(payload[0]) for payload in pieces.values()) < first.size:
        bench.receive("c", SnapshotAck(first.term, first.index, 64 * len(pieces), False))
        bench.run(0.01)
        pieces = {m.offset: p for _, m, p in bench.transport.sent if isinstance(m, SnapshotPiece)}
    whole = b"".join(pieces[offset][0] for offset in sorted(pieces))
    assert blake3(whole).digest() == first.digest
    assert (first.index, first.index_term) == (31, bench.log.status().term)
    bench.receive("c", SnapshotAck(first.term, first.index, first.size, True))
    bench.log.propose(b"afterwards", lambda _: None)
    bench.run()
    last = [message for message in bench.told(Append, "c") if message.lengths][-1]
    assert last.previous_index == 31


def test_the_log_keeps_what_will_follow_a_snapshot_that_is_being_made_whatever_load_goes_on(make_bench):
    bench = make_bench(settings=RaftSettings(retained_bytes_min=0, retained_bytes_max=0, leader_fallback_s=60.0))
    bench.elect()
    asked, made = asyncio.Event(), bench.store.make

    async def slowly():
        snapshot = await made()
        await asked.wait()
        return snapshot

    bench.store.make = slowly

    def go_on(first: int) -> None:
        for number in range(first, first + 10):
            bench.log.propose((number - 2).to_bytes(8, "little") + bytes(100), lambda _: None)
            bench.run(0.001)
            bench.acknowledge("b", number)
            bench.run(0.01)
        for index, term, record in bench.applied:
            if index > bench.store.log_index:
                bench.store.apply(index, term, record)
        bench.log.truncate_below(bench.store.save())
        bench.run()

    go_on(2)
    bench.receive("c", Ack(bench.log.status().term, 1, True, False, False))
    bench.run(0.05)
    go_on(12)
    assert bench.log.status().first_index == 12
    asked.set()
    bench.run(0.2)
    assert {piece.index for piece in bench.told(SnapshotPiece, "c")} == {11}


def test_pieces_out_of_order_or_damaged_do_not_become_a_snapshot(make_bench):
    bench = make_bench()
    pieces = [b"first piece", b"second one!"]
    digest = blake3(b"".join(pieces)).digest()

    def piece(number: int) -> SnapshotPiece:
        return SnapshotPiece(2, 9, 1, 22, digest, 11 * number, crc32c(pieces[number]))

    bench.receive("b", piece(1), pieces[1])
    assert bench.told(SnapshotAck)[-1].offset == 0
    bench.receive("b", piece(0), pieces[0])
    bench.receive("b", piece(0), pieces[0])
    assert bench.told(SnapshotAck)[-1].offset == 11


def test_a_crash_within_an_installation_is_finished_at_the_next_start(make_bench):
    bench = make_bench()
    bench.append(1, (0, 0), [(1, b"one"), (1, b"two")], commit=1)
    bench.run()
    assert bench.log._installer.begin(50, 1)
    bench.power_cut()  # the store was replaced, the log was not
    bench.boot(applied_index=50)
    status = bench.log.status()
    assert (status.first_index, status.last_index, status.term) == (51, 50, 1)
    bench.power_cut()
    bench.boot(applied_index=50)


def test_a_crash_before_the_store_was_replaced_leaves_the_log_as_it_was(make_bench):
    bench = make_bench()
    bench.append(1, (0, 0), [(1, b"one"), (1, b"two")], commit=1)
    bench.run()
    bench.log._installer.begin(50, 1)
    bench.power_cut()
    bench.boot(applied_index=1)
    assert bench.log.status().last_index == 2


# State hashes.


def test_a_follower_that_differs_from_its_leader_stops(make_bench):
    for leader_first in (True, False):
        bench = make_bench()
        bench.append(1, (0, 0), [(1, b"one")], commit=1)
        told = Append(1, 1, 1, 1, [], [], [], 1, b"h" * 16)
        if leader_first:
            bench.receive("b", told)
        bench.log.note_state_hash(1, b"x" * 16)
        if not leader_first:
            bench.receive("b", told)
        assert bench.stopped[0].code is ExitCode.HASH_DIVERGED


def test_equal_hashes_and_unknown_indexes_are_no_difference(make_bench):
    bench = make_bench()
    bench.append(1, (0, 0), [(1, b"one")], commit=1)
    bench.log.note_state_hash(1, b"h" * 16)
    bench.receive("b", Append(1, 1, 1, 1, [], [], [], 1, b"h" * 16))
    bench.receive("b", Append(1, 1, 1, 1, [], [], [], 2, b"h" * 16))
    assert bench.stopped == []


def test_a_leader_tells_its_newest_hash_with_its_heartbeats(leader):
    leader.log.note_state_hash(1, b"h" * 16)
    leader.transport.sent.clear()
    leader.run(0.1)
    told = leader.told(Append, "c")
    assert (told[-1].hashed_index, told[-1].state_hash) == (1, b"h" * 16)


def test_a_follower_knows_how_old_its_state_is_at_most(make_bench):
    bench = make_bench()
    assert bench.log.staleness_s() is None
    bench.append(1, (0, 0), [(1, b"one")], commit=1)
    bench.run(0.01)
    assert bench.log.staleness_s() == pytest.approx(0.01, abs=0.01)
    bench.run(0.5)
    assert bench.log.staleness_s() == pytest.approx(0.51, abs=0.02)
