"""The log of one replica: records are committed once they are on the disk, in order, and nothing acknowledged is
lost."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.interface import NotProposed, ReplicatedLog, Role
from engine.replication.journal.disk import Disk
from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.segment_format import Identity
from engine.replication.single import SingleLog, SingleLogLimits

OWNER = Identity("ab" * 16, 3, "node-a")
LIMITS = SingleLogLimits(
    in_flight_records_max=8, in_flight_bytes_max=4096, barriers_max=3, segment_bytes=1 << 16, cache_bytes=1 << 12
)
DEADLINE_S = 10


class FailingDisk(Disk):
    """Refuses every sync once told so."""

    def __init__(self) -> None:
        self.refuses = False

    def sync(self, descriptor: int) -> None:
        if self.refuses:
            raise EngineStopped(ExitCode.SYNC_FAILED, "planted")
        super().sync(descriptor)


class GatedDisk(Disk):
    """Holds every sync back while its gate is shut."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()

    def sync(self, descriptor: int) -> None:
        assert self.gate.wait(DEADLINE_S)
        super().sync(descriptor)


class Replica:
    """A log, and a store that only remembers."""

    def __init__(self, folder: Path, disk: Disk | None = None, limits: SingleLogLimits = LIMITS) -> None:
        self.failures: list[EngineStopped] = []
        self.events: list[str] = []
        self.log = SingleLog(folder, OWNER, stopped=self.failures.append, limits=limits, disk=disk)
        self.applied: list[tuple[int, int, bytes]] = []

    def apply(self, index: int, term: int, record: bytes | memoryview) -> None:
        self.applied.append((index, term, bytes(record)))
        self.events.append(f"apply {index}")

    async def start(self, applied_index: int = 0) -> "Replica":
        await self.log.start(self.apply, applied_index)
        return self

    def propose(self, record: bytes) -> "asyncio.Future[int | None]":
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.log.propose(record, self.settle(answer, "proposed"))
        return answer

    def barrier(self) -> "asyncio.Future[int | None]":
        answer: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self.log.barrier(self.settle(answer, "barrier"))
        return answer

    def settle(self, answer: "asyncio.Future[int | None]", name: str) -> Callable[[int | None], None]:
        def told(index: int | None) -> None:
            self.events.append(f"{name} {index}")
            answer.set_result(index)

        return told


async def soon(answer: "asyncio.Future[int | None]") -> int | None:
    return await asyncio.wait_for(answer, DEADLINE_S)


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[Replica]:
    started = await Replica(tmp_path / "log").start()
    yield started
    await started.log.stop()


async def restarted(old: Replica, folder: Path, applied_index: int) -> Replica:
    await old.log.stop()
    return await Replica(folder).start(applied_index)


async def test_it_is_a_replicated_log(replica: Replica) -> None:
    log: ReplicatedLog = replica.log
    assert log.status().role is Role.LEADER


async def test_a_record_is_applied_and_then_told(replica: Replica) -> None:
    assert await soon(replica.propose(b"one")) == 1
    assert await soon(replica.propose(b"two")) == 2
    assert [(index, record) for index, _, record in replica.applied] == [(1, b"one"), (2, b"two")]
    assert replica.events == ["apply 1", "proposed 1", "apply 2", "proposed 2"]


async def test_nothing_is_applied_before_it_is_on_the_disk(replica: Replica) -> None:
    answer = replica.propose(b"one")
    assert replica.applied == []
    await asyncio.sleep(0)
    status = replica.log.status()
    assert status.last_index == 1
    assert status.commit_index == status.durable_index == len(replica.applied)
    await soon(answer)


async def test_a_record_of_the_next_group_is_neither_applied_nor_passed_by_a_barrier_with_this_one(
    tmp_path: Path,
) -> None:
    disk = GatedDisk()
    replica = await Replica(tmp_path / "log", disk).start()
    disk.gate.clear()
    first = replica.propose(b"one")
    before = replica.barrier()
    await asyncio.sleep(0)  # the first group is handed over at the end of this turn
    second = replica.propose(b"two")
    behind = replica.barrier()
    first.add_done_callback(lambda _: disk.gate.clear())
    disk.gate.set()
    assert await soon(first) == 1
    assert await soon(before) == 1
    assert replica.events[:3] == ["apply 1", "proposed 1", "barrier 1"]
    disk.gate.set()
    assert (await soon(second), await soon(behind)) == (2, 2)
    assert replica.events[3:] == ["apply 2", "proposed 2", "barrier 2"]
    await replica.log.stop()


async def test_records_of_one_turn_are_applied_in_the_order_of_proposal(replica: Replica) -> None:
    answers = [replica.propose(bytes([number, 0])) for number in range(8)]
    assert await asyncio.gather(*answers) == list(range(1, 9))
    assert [record[0] for _, _, record in replica.applied] == list(range(8))


async def test_more_records_than_the_bound_are_refused_as_full(replica: Replica) -> None:
    answers = [replica.propose(b"rec") for _ in range(LIMITS.in_flight_records_max)]
    with pytest.raises(NotProposed, match="8 records wait") as refused:
        replica.propose(b"rec")
    assert refused.value.full
    await asyncio.gather(*answers)
    await soon(replica.propose(b"rec"))


async def test_more_bytes_than_the_bound_are_refused_as_full(replica: Replica) -> None:
    answers = [replica.propose(bytes(2000)), replica.propose(bytes(2000))]
    with pytest.raises(NotProposed, match="4000 bytes wait") as refused:
        replica.propose(bytes(2000))
    assert refused.value.full
    await asyncio.gather(*answers)
    assert await soon(replica.propose(bytes(9000))) == 3  # alone, one record may exceed it


async def test_a_record_that_fits_nowhere_is_a_value_error(replica: Replica) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        replica.propose(bytes(1 << 16))
    assert await soon(replica.propose(b"next")) == 1


async def test_a_barrier_waits_for_what_was_proposed_before_it(replica: Replica) -> None:
    replica.propose(b"one")
    first, second = replica.barrier(), replica.barrier()
    replica.propose(b"two")
    index = await soon(first)
    assert index == await soon(second) in {1, 2}
    assert replica.events.index("apply 1") < replica.events.index(f"barrier {index}")


async def test_a_barrier_on_an_idle_log_is_told_at_once_but_not_from_inside(replica: Replica) -> None:
    await soon(replica.propose(b"one"))
    barrier = replica.barrier()
    assert not barrier.done()
    assert await soon(barrier) == 1


async def test_more_barriers_than_the_bound_are_refused_as_full(replica: Replica) -> None:
    replica.propose(b"one")
    barriers = [replica.barrier() for _ in range(LIMITS.barriers_max)]
    with pytest.raises(NotProposed) as refused:
        replica.barrier()
    assert refused.value.full
    await asyncio.gather(*barriers)


async def test_after_a_restart_everything_above_the_applied_index_comes_again(replica: Replica, tmp_path: Path) -> None:
    for number in range(5):
        await soon(replica.propose(bytes([number, 1])))
    again = await restarted(replica, tmp_path / "log", applied_index=3)
    assert [(index, record) for index, _, record in again.applied] == [(4, b"\3\1"), (5, b"\4\1")]
    assert await soon(again.propose(b"next")) == 6
    await again.log.stop()


async def test_every_start_has_a_term_of_its_own(replica: Replica, tmp_path: Path) -> None:
    await soon(replica.propose(b"one"))
    again = await restarted(replica, tmp_path / "log", applied_index=0)
    await soon(again.propose(b"two"))
    assert [term for _, term, _ in again.applied] == [1, 2]
    assert again.log.status().term == 2
    await again.log.stop()


async def test_whole_segments_are_forgotten_below_what_the_store_has(replica: Replica, tmp_path: Path) -> None:
    for _ in range(60):
        await soon(replica.propose(bytes(4000)))
    replica.log.truncate_below(3)
    assert replica.log.status().first_index == 1  # nothing would go
    replica.log.truncate_below(40)
    assert replica.log.status().first_index == 41
    await soon(replica.propose(bytes(4000)))
    await soon(replica.propose(bytes(4000)))
    await replica.log.stop()
    names = sorted(path.name for path in (tmp_path / "log").glob("segment-*"))
    assert "segment-0000000001" not in names


async def test_what_is_not_committed_is_not_forgotten(replica: Replica) -> None:
    for _ in range(60):
        await soon(replica.propose(bytes(4000)))
    replica.log.truncate_below(10_000)
    assert replica.log.status().first_index == 61
    await soon(replica.propose(b"next"))


async def test_a_log_that_begins_above_the_store_is_refused(replica: Replica, tmp_path: Path) -> None:
    for _ in range(60):
        await soon(replica.propose(bytes(4000)))
    replica.log.truncate_below(40)
    with pytest.raises(EngineStopped, match="has applied only 39") as stopped:
        await restarted(replica, tmp_path / "log", applied_index=39)
    assert stopped.value.code is ExitCode.DATA_MISSING
    again = await Replica(tmp_path / "log").start(applied_index=40)
    assert again.applied[0][0] == 41
    await again.log.stop()


async def test_an_empty_log_beside_a_store_that_is_not_is_refused(tmp_path: Path) -> None:
    for _ in range(2):  # the refused start leaves nothing that a second one would take for a log
        with pytest.raises(EngineStopped, match="the store has applied record 5") as stopped:
            await Replica(tmp_path / "log").start(applied_index=5)
        assert stopped.value.code is ExitCode.DATA_MISSING


async def test_a_failed_sync_ends_the_process_and_leaves_the_fate_unknown(tmp_path: Path) -> None:
    disk = FailingDisk()
    replica = await Replica(tmp_path / "log", disk).start()
    await soon(replica.propose(b"one"))
    disk.refuses = True
    answer = replica.propose(b"two")
    barrier = replica.barrier()
    assert await soon(answer) is None
    assert await soon(barrier) is None
    assert [failure.code for failure in replica.failures] == [ExitCode.SYNC_FAILED]
    assert [index for index, _, _ in replica.applied] == [1]
    with pytest.raises(NotProposed, match="not running"):
        replica.propose(b"three")
    await replica.log.stop()


async def test_a_record_that_cannot_be_applied_ends_the_process(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "log")

    def apply(index: int, term: int, record: bytes | memoryview) -> None:
        raise ZeroDivisionError

    await replica.log.start(apply, 0)
    assert await soon(replica.propose(b"one")) is None
    assert [failure.code for failure in replica.failures] == [ExitCode.APPLY_FAILED]
    await replica.log.stop()


async def test_a_full_disk_refuses_before_anything_is_logged(tmp_path: Path) -> None:
    class FullDisk(Disk):
        full = False

        def allocate(self, descriptor: int, length: int) -> None:
            if self.full:
                raise EngineStopped(ExitCode.DISK_FULL, "planted")
            super().allocate(descriptor, length)

    disk = FullDisk()
    replica = await Replica(tmp_path / "log", disk).start()
    disk.full = True
    refused = None
    for _ in range(100):
        try:
            await soon(replica.propose(bytes(4000)))
        except NotProposed as error:
            refused = error
            break
    assert refused is not None
    assert refused.full
    assert "free space" in str(refused)
    assert replica.failures == []
    assert await soon(replica.barrier()) == len(replica.applied)
    await replica.log.stop()


async def test_stopping_waits_for_what_is_in_flight(tmp_path: Path) -> None:
    replica = await Replica(tmp_path / "log").start()
    answers = [replica.propose(b"rec") for _ in range(8)]
    await asyncio.gather(replica.log.stop(), replica.log.stop())
    assert [answer.result() for answer in answers] == list(range(1, 9))
    with pytest.raises(NotProposed):
        replica.propose(b"late")


async def test_it_is_not_proposed_before_the_start(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "log")
    calls: list[Callable[[], object]] = [lambda: replica.propose(b"early"), replica.barrier]
    for call in calls:
        with pytest.raises(NotProposed):
            call()
    assert replica.log.status().role is Role.FOLLOWER
    replica.log.truncate_below(1)
    await replica.log.stop()


async def test_roles_are_told(tmp_path: Path) -> None:
    replica = Replica(tmp_path / "log")
    roles: list[tuple[Role, int]] = []
    replica.log.on_role_change(lambda role, term: roles.append((role, term)))
    await replica.start()
    replica.log.transfer_leadership()
    await replica.log.stop()
    assert roles == [(Role.LEADER, 1), (Role.FOLLOWER, 1)]


async def test_a_log_at_rest_is_marked_so_that_damage_to_its_end_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.replication.single.REST_EVERY_S", 0.01)
    replica = await Replica(tmp_path / "log").start()
    await soon(replica.propose(b"the very last record"))
    segment = tmp_path / "log" / "segment-0000000001"
    deadline = asyncio.get_running_loop().time() + DEADLINE_S
    while segment.read_bytes().count(b"\xf1REC") < 4 and asyncio.get_running_loop().time() < deadline:
        await asyncio.sleep(0.01)
    content = bytearray(segment.read_bytes())
    content[content.index(b"the very last record")] ^= 1
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / segment.name).write_bytes(content)
    with pytest.raises(EngineStopped) as stopped:
        SegmentedLog.open(copy, OWNER)
    assert stopped.value.code is ExitCode.DATA_DAMAGED
    await replica.log.stop()


async def test_a_log_in_use_is_refused(replica: Replica, tmp_path: Path) -> None:
    with pytest.raises(EngineStopped) as stopped:
        await Replica(tmp_path / "log").start()
    assert stopped.value.code is ExitCode.FOLDER_IN_USE
