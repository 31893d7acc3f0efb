"""Whose folder it is, who may be a peer, and why a wiped replica does not vote."""

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.raft.boot import Placement, prepare_replacement
from engine.replication.raft.identity import IDENTITY_FILE, decode_identity, encode_identity, make_identity
from engine.replication.transport.messages import Ack, Promote, Refusal, Vote, VoteRequest
from tests.raft_bench import CLUSTER, FOLDER, GROUP, hello


@pytest.mark.parametrize(
    ("greeting", "reason", "advice"),
    [
        (hello("b", cluster="cd" * 16), "belongs to cluster", "correct the peer addresses"),
        (hello("b", group=4), "belongs to group 4", "correct the peer addresses"),
        (hello("d"), "is not a peer", "check cluster.yml"),
        (hello("a"), "is not a peer", "check cluster.yml"),
        (hello("d" * 256), "is not a peer", "check cluster.yml"),
        (hello("b", protocol=2), "speaks protocol 2", "run the same release"),
        (hello("b", incarnation=b"w" * 16), "another data folder", "run the replace command"),
    ],
)
def test_a_stranger_is_refused_in_one_sentence_that_says_what_to_do(make_bench, greeting, reason, advice):
    bench = make_bench()
    refusal = bench.transport.handshake.judge(greeting)
    assert reason in refusal.reason
    assert advice in refusal.reason


def test_a_peers_folder_is_remembered_over_a_restart(make_bench):
    bench = make_bench()
    bench.power_cut()
    bench.boot()
    assert bench.transport.handshake.judge(hello("b")) is None
    assert bench.transport.handshake.judge(hello("b", incarnation=b"w" * 16)).wiped


def test_an_operators_replacement_is_accepted_and_the_old_folder_refused(make_bench):
    bench = make_bench()
    judge = bench.transport.handshake.judge
    assert judge(hello("b", incarnation=b"n" * 16, replaces=True, made_at_ns=2)) is None
    assert judge(hello("b")).wiped
    assert judge(hello("b", incarnation=b"o" * 16, replaces=True, made_at_ns=1)).wiped


def test_a_wiped_replica_stops_when_its_peers_know_another_folder(make_bench):
    bench = make_bench()
    own = bench.transport.handshake.hello().incarnation
    bench.transport.handshake.refused("b", Refusal("another data folder", own, True))
    assert bench.stopped[0].code is ExitCode.DATA_MISSING
    assert "replace" in str(bench.stopped[0])


def test_a_new_folder_in_a_living_group_neither_votes_nor_campaigns(make_bench):
    bench = make_bench(voter=False)
    for peer in ("b", "c"):
        bench.transport.handshake.judge(hello(peer, blank=False))
    bench.receive("b", VoteRequest(5, 10, 4))
    bench.run(3.0)
    assert bench.told(Vote) == []
    assert bench.log.status().term == 0
    bench.append(5, (0, 0), [(5, b"one")], commit=0)
    bench.run()
    assert all(ack.learner for ack in bench.told(Ack))


def test_a_learner_votes_once_its_leader_promotes_it_and_not_before_it_holds_enough(make_bench):
    bench = make_bench(voter=False)
    bench.append(5, (0, 0), [(5, b"one"), (5, b"two")], commit=0)
    bench.run()
    bench.receive("b", Promote(5, 3))
    assert not bench.log._inbox._parts.membership.voter
    bench.receive("b", Promote(5, 2))
    assert bench.log._inbox._parts.membership.voter
    bench.power_cut()
    bench.boot()
    assert bench.log._inbox._parts.membership.voter


def test_a_learners_acks_count_towards_no_quorum_and_it_is_promoted_once_it_has_all(make_bench):
    bench = make_bench()
    term = bench.elect()
    bench.run()
    bench.acknowledge("b", 1, learner=True)
    bench.run()
    assert bench.log.status().commit_index == 0
    assert bench.told(Promote) == []
    bench.acknowledge("c", 1)
    bench.run()
    assert bench.log.status().commit_index == 1
    bench.acknowledge("b", 1, learner=True)
    assert bench.told(Promote, "b") == [Promote(term, 1)]


def test_what_a_peer_held_is_forgotten_with_its_connection(make_bench):
    bench = make_bench()
    bench.elect()
    bench.run()
    bench.acknowledge("b", 1)
    bench.transport.connected.remove("b")
    bench.log._reception.disconnected("b")
    assert bench.log.status().peers[1].match_index == 0


def test_a_folder_of_another_replica_or_cluster_is_refused(make_bench):
    bench = make_bench()
    bench.power_cut()
    other = make_identity("cd" * 16, GROUP, "a", now_ns=1)
    bench.disk.content(FOLDER / IDENTITY_FILE)[:] = encode_identity(other)
    with pytest.raises(EngineStopped) as stopped:
        bench.boot()
    assert stopped.value.code is ExitCode.CLUSTER_MISMATCH


def test_a_damaged_identity_is_refused(make_bench):
    bench = make_bench()
    bench.power_cut()
    bench.disk.content(FOLDER / IDENTITY_FILE)[9] ^= 1
    with pytest.raises(EngineStopped) as stopped:
        bench.boot()
    assert stopped.value.code is ExitCode.DATA_DAMAGED


def test_a_folder_that_lost_its_identity_or_its_segments_is_refused(make_bench):
    for lost in (IDENTITY_FILE, "segment"):
        bench = make_bench()
        bench.append(1, (0, 0), [(1, b"one")], commit=1)
        bench.run()
        bench.power_cut()
        for path in [path for path in bench.disk.paths if path.name.startswith(lost)]:
            bench.disk.lose(path)
        with pytest.raises(EngineStopped) as stopped:
            bench.boot()
        assert stopped.value.code is ExitCode.DATA_MISSING


def test_a_store_without_its_log_is_refused(make_bench):
    bench = make_bench()
    bench.power_cut()
    bench.disk.wipe()
    with pytest.raises(EngineStopped) as stopped:
        bench.boot(applied_index=12)
    assert stopped.value.code is ExitCode.DATA_MISSING


def test_the_replacement_step_refuses_a_folder_in_use(tmp_path):

    placement = Placement(CLUSTER, GROUP, "b", ("a", "b", "c"))
    prepare_replacement(placement, tmp_path / "new")
    identity = decode_identity((tmp_path / "new" / IDENTITY_FILE).read_bytes())
    assert identity.replaces
    assert not identity.voter
    with pytest.raises(EngineStopped) as stopped:
        prepare_replacement(placement, tmp_path / "new")
    assert stopped.value.code is ExitCode.REFUSED
