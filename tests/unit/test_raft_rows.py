"""One test for each flaw of PySyncObj 0.3.17 that we know, under the number of its row in our list of them."""

import asyncio
import contextlib
import logging
import pickle
import random

import pytest
from blake3 import blake3
from crc32c import crc32c
from pysyncobj.version import VERSION

from engine.core.limits import LOG_RECORD_BYTES_MAX
from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.interface import NotProposed, Role
from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.segment_format import Identity
from engine.replication.raft.boot import LOG_FOLDER
from engine.replication.raft.settings import RaftSettings
from engine.replication.transport.messages import Ack, Append, SnapshotAck, SnapshotPiece, Vote, VoteRequest
from engine.replication.transport.transport import AsyncioTransport
from tests.peer_sides import Side, free_peer
from tests.raft_bench import CLUSTER, FOLDER, GROUP, Bench, hello
from tests.simulation.disk import Crash
from tests.simulation.virtual_loop import VirtualLoop

RECORD = b"record"


@pytest.fixture
def bench(make_bench):
    return make_bench()


def fill(bench: Bench, count: int, term: int = 1) -> None:
    """A leader `b` appends records 1 to `count`, and commits them."""
    bench.append(term, (0, 0), [(term, RECORD + bytes([number])) for number in range(count)], commit=count)
    bench.run()


def test_raft_row_01_a_late_append_does_not_truncate_what_matches(bench):
    fill(bench, 5)
    bench.append(1, (1, 1), [(1, RECORD + bytes([1]))], commit=2)
    bench.run()
    assert bench.stopped == []
    assert bench.log.status().last_index == 5
    assert [index for index, _, _ in bench.applied] == [1, 2, 3, 4, 5]
    assert bench.told(Ack)[-1].next_index == 6


def test_raft_row_01_nor_does_it_where_nothing_is_committed_yet(bench):
    bench.append(1, (0, 0), [(1, RECORD + bytes([number])) for number in range(5)], commit=0)
    bench.append(1, (1, 1), [(1, RECORD + bytes([1]))], commit=0)
    bench.run()
    assert bench.log.status().last_index == 5


def test_raft_row_01_committed_records_are_never_replaced(bench):
    fill(bench, 5)
    bench.append(2, (3, 1), [(2, b"another")], commit=4)
    assert bench.stopped[0].code is ExitCode.DATA_DAMAGED
    assert bench.log._journal.last_index == 5


def test_raft_row_02_pipelined_appends_past_the_end_are_rejected_once_with_a_hint(bench):
    bench.append(1, (0, 0), [(1, b"one"), (1, b"two")], commit=1)
    bench.append(2, (2, 1), [(2, b"three"), (2, b"four"), (2, b"five")], commit=1)
    bench.run()
    bench.transport.sent.clear()
    for previous in (5, 6, 7):
        bench.append(4, (previous, 4), [(4, b"x")], commit=1)
    rejections = [ack for ack in bench.told(Ack) if ack.reset]
    assert [ack.next_index for ack in rejections] == [3]  # the first record of the conflicting term
    assert all(not ack.success for ack in bench.told(Ack))


def test_raft_row_03_what_verifies_nothing_does_not_move_the_commit_index(bench):
    bench.append(1, (0, 0), [(1, b"one"), (1, b"two")], commit=0)
    bench.run()
    bench.append(2, (9, 2), [(2, b"x")], commit=9)
    piece = SnapshotPiece(2, 50, 2, 2000, bytes(32), 1000, 0)
    bench.receive("b", piece)
    bench.run()
    assert bench.log.status().commit_index == 0
    assert bench.applied == []


def test_raft_row_04_an_ack_of_a_former_term_counts_for_nothing(bench):
    term = bench.elect()
    bench.run()
    follower = bench.log._sender.followers["b"]
    bench.log._core.adopt_term(term + 1)
    bench.transport.sent.clear()
    later = bench.elect()
    bench.run()
    bench.acknowledge("c", 2, term=term)
    assert bench.log._sender.followers["c"].match_index == 0
    assert follower is not bench.log._sender.followers["b"]
    bench.acknowledge("c", 1, term=later)
    assert bench.log._sender.followers["c"].match_index == 1


def test_raft_row_05_an_ack_leaves_only_once_the_record_is_on_the_disk(bench):
    bench.worker.delay_s = 0.2
    bench.append(1, (0, 0), [(1, b"one")], commit=0)
    bench.run(0.001)
    assert all(ack.next_index == 1 for ack in bench.told(Ack) if ack.success)
    bench.run(0.5)
    assert bench.told(Ack)[-1].next_index == 2
    bench.power_cut()
    bench.boot()
    assert bench.log.status().last_index == 1


def test_raft_row_05_nothing_is_acknowledged_before_its_sync_but_heartbeats_are(bench):
    bench.append(1, (0, 0), [(1, b"one")], commit=0)
    bench.run(0.5)
    bench.worker.delay_s = 1e3
    bench.transport.sent.clear()
    bench.append(1, (1, 1), [(1, b"two")], commit=1)
    bench.run(0.01)
    assert bench.told(Ack) == []
    bench.append(1, (2, 1), [], commit=1)
    bench.run(0.01)
    assert [ack.next_index for ack in bench.told(Ack)] == [2]


def test_raft_row_05_a_vote_is_on_the_disk_before_it_leaves(bench):
    bench.worker.delay_s = 1e3  # whatever is not waited for does not happen
    bench.receive("b", VoteRequest(4, 0, 0))
    assert bench.told(Vote, "b")[0].term == 4
    bench.power_cut()
    bench.boot()
    bench.receive("c", VoteRequest(4, 0, 0))
    assert bench.told(Vote) == []


def test_raft_row_06_a_leader_does_not_count_its_own_copy_before_it_is_durable(make_bench):
    bench = make_bench(members=("a", "b", "c"))
    bench.elect()
    bench.run()
    bench.acknowledge("b", 1)
    bench.run()
    bench.worker.delay_s = 1e3
    bench.log.propose(RECORD, lambda _: None)
    bench.run(0.001)
    bench.acknowledge("b", 2)
    bench.run(0.05)
    assert bench.log.status().commit_index == 1
    bench.acknowledge("c", 2)  # two durable copies elsewhere are a quorum
    bench.run(0.05)
    assert bench.log.status().commit_index == 2
    assert bench.applied == []  # not handed over before it is durable here, too


def test_raft_row_07_a_flipped_byte_in_mid_log_is_damage_not_a_torn_tail(bench):
    for number in range(20):
        bench.append(1, (number, min(number, 1)), [(1, RECORD * 20)], commit=number)
        bench.run()
    bench.power_cut()
    content = bench.disk.content(next(path for path in bench.disk.paths if path.name.startswith("segment")))
    content[content.find(RECORD * 20) + 3] ^= 1
    with pytest.raises(EngineStopped) as stopped:
        bench.boot()
    assert stopped.value.code is ExitCode.DATA_DAMAGED


@pytest.mark.parametrize("operations", range(12))  # the last ones after all is over
def test_raft_row_08_trimming_drops_whole_segments_and_never_the_tail(make_bench, operations):
    bench = make_bench(settings=RaftSettings(retained_bytes_min=2000), segment_bytes=16 << 10)
    for number in range(100):
        bench.append(1, (number, min(number, 1)), [(1, bytes(500))], commit=number)
        bench.run()
    bench.disk.fuse = operations
    try:
        bench.log.truncate_below(95)
        bench.worker.wait()
    except Crash:
        pass
    bench.power_cut()
    bench.boot(applied_index=95)
    assert bench.log.status().last_index == 100
    assert bench.log._journal.entry_at(100).record == bytes(500)


def test_raft_row_09_a_log_that_does_not_fit_its_store_is_refused_and_left_as_it_is(make_bench):
    bench = make_bench(settings=RaftSettings(retained_bytes_min=0), segment_bytes=16 << 10)
    fill(bench, 50)
    bench.log.truncate_below(40)
    bench.run()
    bench.power_cut()
    files = {path: bytes(bench.disk.content(path)) for path in bench.disk.paths if path.name.startswith("segment")}
    for applied_index, missing in ((10, "applied only 10"), (60, "ends at 50")):
        with pytest.raises(EngineStopped, match=missing) as stopped:
            bench.boot(applied_index)
        assert stopped.value.code is ExitCode.DATA_MISSING
        bench.disk.fall(power=False)
    for path, content in files.items():
        assert content.rstrip(b"\0") in bytes(bench.disk.content(path))
    bench.boot(applied_index=45)
    assert bench.log.status().last_index == 50


def test_raft_row_10_a_snapshot_that_does_not_fit_its_digest_is_not_installed(bench, caplog):
    data = b"not what was promised"
    piece = SnapshotPiece(1, 50, 1, len(data), bytes(32), 0, crc32c(data))
    with caplog.at_level(logging.WARNING):
        bench.receive("b", piece, data)
        bench.run(0.5)
    assert "does not fit its digest" in caplog.text
    assert bench.store.kept.log_index == 0
    assert bench.log.status().last_index == 0
    assert not [ack for ack in bench.told(SnapshotAck) if ack.installed]


def test_raft_row_10_an_install_that_fails_ends_the_process_with_its_code(bench):
    data = b"no store at all"
    bench.receive("b", SnapshotPiece(1, 50, 1, len(data), blake3(data).digest(), 0, crc32c(data)), data)
    bench.run(0.5)
    assert bench.stopped[0].code is ExitCode.DATA_DAMAGED


def test_raft_row_11_the_library_never_compacts_and_a_restart_goes_on_from_the_store(bench):
    fill(bench, 30)
    dumps = []
    bench.log._core._SyncObj__serializer.serialize = lambda *dump: dumps.append(dump)
    bench.log._core.forceLogCompaction()
    bench.run(1.0)
    assert dumps == []
    assert bench.log.status().first_index == 1
    bench.applied.clear()
    bench.power_cut()
    bench.boot(applied_index=20)
    bench.append(1, (30, 1), [], commit=30)
    bench.run()
    assert [index for index, _, _ in bench.applied] == list(range(21, 31))


def test_raft_row_12_a_record_that_cannot_be_applied_ends_the_process_at_once(bench):
    bench.apply_raises = KeyError("no such account")
    fill(bench, 3)
    bench.apply_raises = None
    bench.run(1.0)
    assert [stopped.code for stopped in bench.stopped] == [ExitCode.APPLY_FAILED]
    assert bench.applied == []
    assert bench.log._core.applied_index == 0


def test_raft_row_13_what_is_on_its_way_to_a_follower_is_bounded(make_bench):
    settings = RaftSettings(window_bytes_max=4000)
    bench = make_bench(settings=settings)
    bench.elect()
    for _ in range(50):
        bench.log.propose(bytes(1000), lambda _: None)
        bench.run(0.001)
    sent = sum(len(part) for to, _, payload in bench.transport.sent if to == "b" for part in payload)
    assert settings.window_bytes_max <= sent <= settings.window_bytes_max + 1001
    bench.acknowledge("b", 3)
    bench.run(0.001)
    more = sum(len(part) for to, _, payload in bench.transport.sent if to == "b" for part in payload)
    assert sent < more <= sent + 3000


def test_raft_row_14_the_largest_record_travels_whole(make_bench):
    bench = make_bench(segment_bytes=2 << 20)
    bench.elect()
    largest = random.Random(1).randbytes(LOG_RECORD_BYTES_MAX)
    bench.log.propose(largest, lambda _: None)
    bench.run(0.01)
    payloads = [payload for to, message, payload in bench.transport.sent if to == "b" and type(message) is Append]
    assert [b"".join(payload) for payload in payloads if sum(map(len, payload)) > 1000] == [largest]


def test_raft_row_15_membership_is_static(bench):
    with pytest.raises(Exception, match="dynamicMembershipChange is disabled"):
        bench.log._core.addNodeToCluster("d")
    refusal = bench.transport.handshake.judge(hello("d"))
    assert "not a peer" in refusal.reason
    assert set(bench.log._core.nodes) == {"b", "c"}


def test_raft_row_16_a_full_queue_refuses_before_anything_is_in_the_log(make_bench):
    bench = make_bench(settings=RaftSettings(proposals_max=10))
    bench.elect()
    answers = []
    for _ in range(10):
        bench.log.propose(RECORD, answers.append)
    with pytest.raises(NotProposed) as refused:
        bench.log.propose(RECORD, answers.append)
    assert refused.value.full
    assert bench.log.status().last_index == 11  # the term's own record, and ten
    bench.log._core.adopt_term(9)
    bench.run()
    assert answers == [None] * 10


async def transports(*names: str) -> dict[str, AsyncioTransport]:
    """Real ones, on free ports of the loopback; only the first is started."""
    addresses = {name: free_peer() for name in names}
    return {name: AsyncioTransport(name, addresses) for name in names}


async def test_raft_row_17_a_pickle_on_the_peer_port_is_refused_in_one_sentence(caplog):
    made = await transports("a", "b")
    nobody = Side("a")
    await made["a"].start(nobody, nobody)
    address = made["a"]._bind
    assert address.host == "127.0.0.1"
    for attack in (pickle.dumps({"type": "apply_command", "command": b"x"}), b"\0" * 64, b"\xff" * 5000):
        caplog.clear()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(attack)
        async with asyncio.timeout(30):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
        writer.close()
        assert len(caplog.records) == 1
        assert nobody.peers == []
    await made["a"].stop()
    assert nobody.messages == []


async def test_raft_row_18_bad_connections_do_not_keep_good_ones_out():
    made = await transports("a", "b")
    nobody, other = Side("a"), Side("b")
    await made["a"].start(nobody, nobody)
    for _ in range(80):
        _, writer = await asyncio.open_connection(*made["a"]._bind)
        writer.write(b"\xff" * 20)
        writer.close()
    await made["b"].start(other, other)
    async with asyncio.timeout(30):
        while not nobody.peers or not other.peers:
            await asyncio.sleep(0.01)
    assert nobody.peers == ["b"]
    await made["b"].stop()
    await made["a"].stop()
    assert [*nobody.messages, *nobody.refusals, *other.messages, *other.refusals] == []


def test_raft_row_19_records_leave_memory_and_the_log_is_trimmed_by_bytes(make_bench):
    settings = RaftSettings(cached_bytes_max=8000, retained_bytes_min=20_000)
    bench = make_bench(settings=settings, segment_bytes=16 << 10)
    for number in range(200):
        bench.append(1, (number, min(number, 1)), [(1, bytes(1000))], commit=number)
        bench.run(0.005)
    assert bench.log._journal._log.cached_bytes <= settings.cached_bytes_max + 1000
    assert bench.log._journal.entry_at(1).record == bytes(1000)
    bench.log.truncate_below(150)
    bench.run(0.1)
    assert bench.log.status().log_bytes == 50_000
    bench.log.truncate_below(199)
    assert bench.log.status().log_bytes == settings.retained_bytes_min


def test_raft_rows_are_tested_on_the_library_version_whose_flaws_they_are():
    assert VERSION == "0.3.17"


def test_the_bench_is_the_real_thing(bench):
    bench.elect()
    assert bench.log.status().role is Role.LEADER
    assert isinstance(bench.log._journal._log, SegmentedLog)
    assert isinstance(bench.loop, VirtualLoop)
    assert bench.log._journal._log._files.identity == Identity(CLUSTER, GROUP, "a")
    assert bench.disk.names(FOLDER / LOG_FOLDER)
