"""What a router learns of the placement from replicas of which some are gone, behind, or without settings yet."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from engine.config import ClusterConfig, GroupConfig, ReplicaConfig
from engine.core.settings import Ledger
from postingengine.v1.admin_service_pb2 import DescribeClusterResponse, GroupDescription, SlotRange
from router.directory import Directory
from tests.simulation.virtual_loop import virtually

CONFIG = ClusterConfig(
    cluster_id="0" * 32,
    hash_seed=7,
    ledgers=(Ledger(1, "EUR", 2),),
    groups=tuple(
        GroupConfig(
            group=group,
            replicas=tuple(
                ReplicaConfig(id=name, peer=f"h:{group}1", grpc=f"{name}{group}:1", folder=f"{name}{group}")
                for name in "abc"
            ),
        )
        for group in range(2)
    ),
)
Answers = dict[str, tuple[float, int | None]]
"""By address: after how long it answers, and the placement's epoch that it tells; None: it has no settings yet."""
GONE = (1e9, None)


class Replicas:
    """Stands in for a group's client: replicas that answer when, and what, they are told to."""

    def __init__(self, group: int, answers: Answers) -> None:
        self.addresses = tuple(one for one in answers if one[1] == str(group))
        self._answers = answers

    async def describe(self, address: str, timeout_s: float) -> DescribeClusterResponse:
        after_s, epoch = self._answers[address]
        await asyncio.sleep(min(after_s, timeout_s))
        if after_s > timeout_s:
            none = grpc.aio.Metadata()
            raise grpc.aio.AioRpcError(grpc.StatusCode.DEADLINE_EXCEEDED, none, none, "deadline")
        slots = [] if epoch is None else [SlotRange(first=0, last=2047), SlotRange(first=2048, last=4095)]
        groups = [GroupDescription(group=group, slots=slots[group : group + 1]) for group in range(2)]
        return DescribeClusterResponse(cluster_id="0" * 32, placement_epoch=epoch or 0, hash_seed=7, groups=groups)


@pytest.fixture
def in_virtual_time(monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[Directory, float]]:
    def run(answers: Answers, *more: Answers) -> tuple[Directory, float]:
        async def work() -> tuple[Directory, float]:
            directory, loop = Directory(CONFIG), asyncio.get_running_loop()
            for each in (answers, *more):
                directory.clients = {group: Replicas(group, each) for group in range(2)}  # type: ignore[misc]
                began_s = loop.time()
                await directory.refresh()
            return directory, loop.time() - began_s

        made: Callable[[Any, Any], Any] = lambda config, section: None  # noqa: E731
        monkeypatch.setattr("router.directory.client_of", made)
        return virtually(work())

    return run


def both(a: tuple[float, int | None], b: tuple[float, int | None], c: tuple[float, int | None]) -> Answers:
    return {f"{name}{group}": one for group in range(2) for name, one in zip("abc", (a, b, c), strict=True)}


def test_replicas_that_are_gone_keep_nobody_waiting(in_virtual_time: Callable[..., tuple[Directory, float]]) -> None:
    directory, took_s = in_virtual_time(both(GONE, GONE, (0.01, 3)))
    assert (directory.placement.epoch, took_s) == (3, 0.01)
    assert directory.answered.is_set()


def test_the_newest_placement_counts_not_the_first_answer(
    in_virtual_time: Callable[..., tuple[Directory, float]],
) -> None:
    directory, took_s = in_virtual_time(both((0, 3), (0, 3), (0, 3)), both((0.01, 3), (0.02, 2), (0.03, 4)))
    assert (directory.placement.epoch, round(took_s, 3)) == (4, 0.03)


def test_who_has_no_settings_yet_has_nothing_to_say(in_virtual_time: Callable[..., tuple[Directory, float]]) -> None:
    directory, _ = in_virtual_time(both((0.01, None), (0.02, 5), (0.01, None)))
    assert directory.placement.epoch == 5
    directory, _ = in_virtual_time(both((0.01, None), (0.02, None), (0.01, None)))
    assert not directory.answered.is_set()


def test_old_news_change_nothing(in_virtual_time: Callable[..., tuple[Directory, float]]) -> None:
    directory, _ = in_virtual_time(both((0, 7), (0, 7), (0, 7)), both((0, 6), (0, 5), (0, 7)))
    assert directory.placement.epoch == 7
