"""Clients of a seed: they ask through whatever router, insist for a while, and note what they were told."""

import asyncio

import grpc
import numpy as np

from engine.core.known import RESULT
from engine.core.records import RECORD_BYTES
from engine.rpc.batch import encode_varint
from engine.rpc.faults import INVALID_ARGUMENT, fault_of, fault_of_error
from postingengine.v1.posting_service_pb2 import PostTransfersResponse
from tests.simulation.groups.plan import (
    OTHER_BODIES,
    OTHER_BODIES_FOCUS,
    RACES,
    RACES_FOCUS,
    TOO_MUCH_FOCUS,
)
from tests.simulation.groups.wire import CLIENTS
from tests.simulation.groups.workload import Writer, names_of
from tests.simulation.groups.world import ROUTERS, World
from tests.simulation.history import Violation

POST = "PostTransfers"
TWICE = 0.12
"""How often the same is asked through two routers at once."""


class Clients:
    """All of them."""

    def __init__(self, world: World, focus: str | None) -> None:
        """Nothing is asked yet."""
        self.world, self.dice = world, world.dice
        other_bodies = OTHER_BODIES_FOCUS if focus == "bodies" else OTHER_BODIES
        too_much = TOO_MUCH_FOCUS if focus == "refusals" else 0.0
        self._writer = Writer(self.dice, world.accounts, other_bodies, too_much)
        self._races = RACES_FOCUS if focus == "bodies" else RACES
        self.asked: dict[bytes, None] = {}
        """All chains, in the order in which they were first asked for."""

    async def ask_for_ever(self) -> None:
        """Be one client."""
        world = self.world
        try:
            while True:
                await asyncio.sleep(self.dice.expovariate(1 / world.plan.client_every_s))
                batches, spread_s = [self._writer.batch()], 0.0
                choice = self.dice.random()
                if choice < self._races:
                    batches, spread_s = self._writer.race(), 6 * world.plan.weather.delay_s
                elif choice < self._races + TWICE:
                    batches *= 2
                for chains in batches:
                    self.asked.update(dict.fromkeys(chains))
                await asyncio.gather(*(self._insist(chains, spread_s) for chains in batches))
        except Violation as violation:
            world.failed(violation)

    async def _insist(self, chains: list[bytes], spread_s: float) -> None:
        """Retry blindly through whatever router, a few times; then leave it for peace."""
        await asyncio.sleep(self.dice.uniform(0.0, spread_s))
        for _ in range(self.dice.choice((1, 2, 4))):
            chains = await self.post(self.dice.choice(ROUTERS), chains, self.dice.choice((0.3, 1.0, 3.0)))
            if not chains:
                return
            await asyncio.sleep(self.dice.uniform(0.0, 0.3))

    async def post(self, router: str, chains: list[bytes], timeout_s: float) -> list[bytes]:
        """Ask for chains; return those of which the outcome is still unknown."""
        world = self.world
        packed = b"".join(chains)
        request = b"".join((b"\x12", encode_varint(len(packed)), packed))
        try:
            data = await world.wire.call(CLIENTS, router, POST, request, timeout_s, ())
        except grpc.aio.AioRpcError as error:
            world.story.unknown += len(chains)
            fault = fault_of_error(error)
            return [] if fault is not None and fault.code == INVALID_ARGUMENT else chains
        response = PostTransfersResponse.FromString(data)
        outcomes = np.frombuffer(response.packed_results, RESULT)["outcome"].tolist()
        invalid = {
            one.index for one in response.faults if (fault_of(one.status) or one.status).code == INVALID_ARGUMENT
        }
        unknown, at = [], 0
        for chain in chains:
            legs = len(chain) // RECORD_BYTES
            told = tuple(outcomes[at : at + legs])
            if all(told):
                world.story.told += 1
                world.note(f"{names_of(chain)} is told {told} by {router}")
                world.truth.answered(chain, told)
            elif at not in invalid:
                unknown.append(chain)
            at += legs
        world.story.unknown += len(unknown)
        return unknown
