"""Three replicas restarted one after another under load: no call fails, and a leader hands over before it stops."""

import asyncio

from postingengine import Account, AsyncClient, Outcome, Result, new_id
from tests.chaos.whole_group import WholeGroup

CALLERS = 16
POSTS_BETWEEN = 200
WAIT_S_MAX = 60


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
            self.results.append(await self.client.post(self.debit, self.credit, 1, ledger=1))

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
    led = []
    async with AsyncClient(cluster.router) as client:
        load = Load(client)
        await load.begin()
        waiting = set(cluster.replicas)
        while waiting:
            await load.go_on()
            leader = await asyncio.to_thread(cluster.leader)
            led.append(leader)
            replica = leader if leader in waiting else waiting.copy().pop()
            waiting.remove(replica)
            assert await asyncio.to_thread(cluster.stop, replica) == [0], cluster.output(replica)
            await load.go_on()
            cluster.start(replica)
        await asyncio.to_thread(cluster.leader)
        await load.end()
        balance = await client.balance(load.credit)
    assert {result.outcome for result in load.results} == {Outcome.POSTED}
    assert balance.posted == len(load.results)
    assert len(set(led)) > 1
    for leader in led[:2]:
        assert_handed_over(cluster.output(leader))
    await asyncio.to_thread(cluster.until_level)
    assert cluster.stop("router", *cluster.replicas) == [0, 0, 0, 0], cluster.outputs()
    assert len(cluster.heads()) == 1


def assert_handed_over(output: str) -> None:
    """Between its last admitted call and its end, the leader became a follower: another had taken over."""
    _, _, ending = output.partition("stopping: no new calls are admitted")
    assert "this replica is now follower" in ending.partition("recovered ")[0], output
