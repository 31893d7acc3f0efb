"""Three replicas restarted one after another under load: no call fails, and a leader hands over before it stops."""

import asyncio
import re
import time

from engine.service.replica import HAND_OVER_S_MAX
from postingengine import Account, AsyncClient, Outcome, Result, new_id
from tests.chaos.whole_group import WholeGroup

CALLERS = 16
POSTS_BETWEEN = 200
WAIT_S_MAX = 120
HAND_OVERS = 2
ROUNDS_MAX = 12


class Load:
    """Callers that post one unit each, over and over; whatever a call raises ends the test."""

    def __init__(self, client: AsyncClient) -> None:
        self.client, self.results = client, list[Result]()
        self.debit, self.credit = new_id().bytes, new_id().bytes
        self._stopped = False

    async def begin(self) -> None:
        await self.client.create_accounts([Account(self.debit, 1), Account(self.credit, 1)], timeout_s=WAIT_S_MAX)
        self._callers = [asyncio.create_task(self._post()) for _ in range(CALLERS)]

    async def _post(self) -> None:
        while not self._stopped:
            self.results.append(await self.client.post(self.debit, self.credit, 1, ledger=1, timeout_s=WAIT_S_MAX))

    async def go_on(self) -> None:
        """Return after some more posts."""
        wanted = len(self.results) + POSTS_BETWEEN
        async with asyncio.timeout(WAIT_S_MAX):
            while len(self.results) < wanted:
                for caller in self._callers:
                    if caller.done():
                        caller.result()
                await asyncio.sleep(0.01)

    async def end(self) -> None:
        self._stopped = True
        await asyncio.gather(*self._callers)


async def test_three_replicas_are_restarted_one_by_one_and_no_call_fails(cluster: WholeGroup) -> None:
    handed_over, rounds = list[str](), 0
    async with AsyncClient(cluster.router) as client:
        load = Load(client)
        await load.begin()
        waiting = set(cluster.replicas)
        while waiting or (len(handed_over) < HAND_OVERS and rounds < ROUNDS_MAX):
            rounds += 1
            await load.go_on()
            leader = await asyncio.to_thread(cluster.leader)
            replica = leader if leader in waiting or not waiting else waiting.copy().pop()
            waiting.discard(replica)
            if await hands_over(cluster, replica):
                handed_over.append(replica)
            await load.go_on()
            cluster.start(replica)
        await asyncio.to_thread(cluster.leader)
        await load.end()
        balance = await client.balance(load.credit)
    assert {result.outcome for result in load.results} == {Outcome.POSTED}
    assert balance.posted == len(load.results)
    assert len(handed_over) >= HAND_OVERS, f"{handed_over} of {rounds}\n{cluster.outputs()}"
    await asyncio.to_thread(cluster.until_level)
    assert cluster.stop("router", *cluster.replicas) == [0, 0, 0, 0], cluster.outputs()
    assert len(cluster.heads()) == 1


async def hands_over(cluster: WholeGroup, replica: str) -> bool:
    """Stop a replica; return whether it led, and became a follower before its end: another had taken over.

    One that leads to its end must have tried for as long as it may.
    """
    begun_s = time.monotonic()
    assert await asyncio.to_thread(cluster.stop, replica) == [0], cluster.output(replica)
    took_s = time.monotonic() - begun_s
    _, _, life = cluster.output(replica).rpartition('"message":"recovered ')
    before, stopping, ending = life.partition("stopping: no new calls are admitted")
    assert stopping, life
    if roles_in(before)[-1:] != ["leader"]:
        return False
    followed = "follower" in roles_in(ending)
    assert followed or took_s >= HAND_OVER_S_MAX, life
    return followed


def roles_in(output: str) -> list[str]:
    return re.findall(r"this replica is now (\w+)", output)
