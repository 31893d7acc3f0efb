"""One seed: a group under a random client, random faults, and in the end peace, in which all must converge."""

import asyncio
import random
from dataclasses import dataclass
from typing import Any

from engine.exit_codes import EngineStopped, ExitCode
from engine.replication.raft.log import RaftLog
from tests.simulation.dice import obsessions
from tests.simulation.disk import Crash
from tests.simulation.history import History, Violation
from tests.simulation.network import Network, Weather
from tests.simulation.replica import SETTINGS, Replica
from tests.simulation.virtual_loop import VirtualLoop

ACTIONS = {
    "crash": 12,
    "arm": 6,
    "restart": 30,
    "cut": 10,
    "mend": 16,
    "slow": 5,
    "pause": 4,
    "hand_over": 4,
    "stop": 2,
    "wipe": 1,
    "isolate_leader": 8,
    "ambush": 8,
    "betray": 8,
    "split": 12,
}
"""What may happen, and how likely it is beside the others."""
CALM_S_MAX = 20.0
"""After healing, all must agree within this much virtual time."""


@dataclass(frozen=True)
class Plan:
    """How hard one seed is treated, drawn from the seed."""

    chaos_s: float
    weather: Weather
    act_every_s: float
    client_every_s: float
    large_records: bool
    members: tuple[str, ...]
    weights: tuple[float, ...]
    """How likely each of `ACTIONS` is: every seed has its own obsessions."""

    @staticmethod
    def drawn(dice: random.Random, chaos_s: float, focus: str | None) -> "Plan":
        rough = dice.random()
        weather = Weather(
            drop=rough * dice.choice((0.0, 0.02, 0.1)),
            duplicate=rough * dice.choice((0.0, 0.05, 0.2)),
            reorder=rough * dice.choice((0.0, 0.1, 0.5)),
            long_delay=rough * dice.choice((0.0, 0.005, 0.03)),
            delay_s=dice.choice((0.001, 0.004, 0.015)),
        )
        return Plan(
            chaos_s,
            weather,
            act_every_s=dice.choice((0.05, 0.15, 0.4)),
            client_every_s=dice.choice((0.006, 0.015, 0.04)),
            large_records=dice.random() < 0.2,
            members=("a", "b", "c", "d", "e")
            if dice.random() < (0.7 if focus == "split" else 0.25)
            else ("a", "b", "c"),
            weights=obsessions(dice, ACTIONS, focus),
        )


class Scenario:
    """Runs on a virtual loop; raises `Violation`."""

    def __init__(self, seed: int, loop: VirtualLoop, chaos_s: float, focus: str | None) -> None:
        self.dice = random.Random(seed)
        self.loop = loop
        self.history = History(loop.time)
        self.plan = Plan.drawn(self.dice, chaos_s, focus)
        members = self.plan.members
        self.network = Network(loop, members, self.dice)
        self.replicas = {name: Replica(name, members, self.network, self.dice, self.history) for name in members}
        self.failure: BaseException | None = None
        self.identity = 0
        self.peace = False
        self.lost_disk: str | None = None
        self._stopping: dict[str, asyncio.Task[None]] = {}
        self._betrayals = 0
        self.network.failed = self.failed
        self.network.voted = self._voted
        for replica in self.replicas.values():
            replica.failed = self.failed
        loop.set_exception_handler(self._callback_raised)

    async def run(self) -> None:
        """Birth, chaos, peace, judgement."""
        await asyncio.gather(*(self._start(replica) for replica in self.replicas.values()))
        await self._until(lambda: any(replica.leads for replica in self.replicas.values()), 5.0, "no first leader")
        self.network.weather = self.plan.weather
        client = self.loop.create_task(self._client())
        end_s = self.loop.time() + self.plan.chaos_s
        while self.loop.time() < end_s:
            await asyncio.sleep(self.dice.expovariate(1 / self.plan.act_every_s))
            await self._act()
            self._check()
        await self._make_peace()
        client.cancel()
        await self._judge()

    # What may go wrong.

    def failed(self, name: str, error: BaseException) -> None:
        """Something raised on behalf of a replica: a planned crash, a planned refusal, or a violation."""
        replica = self.replicas[error.replica if isinstance(error, Crash) else name]
        if isinstance(error, Crash) and error.again:
            return
        if isinstance(error, Crash):
            self.history.note(f"{replica.name} dies within a disk operation")
            replica.crash(power=self.dice.random() < 0.5)
        elif isinstance(error, EngineStopped) and replica.expects_refusal and error.code is ExitCode.DATA_MISSING:
            self.history.note(f"{replica.name} is refused: it was wiped")
            self.loop.call_soon(self._replace, replica)
        elif self.failure is None:
            self.failure = error

    def _callback_raised(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if error is not None:
            self.failed(self.plan.members[0], error)

    def _check(self) -> None:
        if self.failure is not None:
            failure = self.failure
            if isinstance(failure, Violation):
                raise failure
            raise Violation(f"STOPPED: {type(failure).__name__}: {failure}") from failure

    async def _start(self, replica: Replica) -> None:
        try:
            await replica.start()
        except Crash:
            replica.crash(power=False)
        except EngineStopped as stopped:
            replica.crash(power=False)
            self.failed(replica.name, stopped)

    async def _act(self) -> None:
        """One random misfortune or repair."""
        replica = self.replicas[self.dice.choice(self.plan.members)]
        await getattr(self, f"_{self._action()}")(replica)

    def _action(self) -> str:
        weights = self.plan.weights
        return self.dice.choices(list(ACTIONS), weights)[0] if any(weights) else "mend"

    async def _crash(self, replica: Replica) -> None:
        if replica.up:
            power = self.dice.random() < 0.6
            everyone = self.dice.random() < 0.1
            for one in self.replicas.values() if everyone else (replica,):
                if one.up:
                    self.history.note(f"{one.name} {'loses power' if power else 'is killed'}")
                    one.crash(power=power)

    async def _arm(self, replica: Replica) -> None:
        if replica.up:
            replica.disk.fuse = self.dice.randrange(12)

    async def _restart(self, _: Replica) -> None:
        for replica in self.replicas.values():
            if not replica.alive and self.dice.random() < 0.7 and not self._is_stopping(replica):
                self.history.note(f"{replica.name} starts")
                await self._start(replica)

    async def _cut(self, replica: Replica) -> None:
        others = [name for name in self.plan.members if name != replica.name]
        noticed = self.dice.random() < 0.5
        shape = self.dice.random()
        chosen = others if shape < 0.4 else [self.dice.choice(others)]
        for other in chosen:
            if shape < 0.7:
                self.network.cut_link(replica.name, other, noticed=noticed)
            if shape < 0.4 or shape >= 0.55:
                self.network.cut_link(other, replica.name, noticed=noticed)
        self.history.note(f"{replica.name} is cut from {chosen} ({shape:.2f}, noticed {noticed})")

    async def _mend(self, _: Replica) -> None:
        self.network.cut.clear()
        self.network.slow.clear()
        self.network.slow.clear()
        for replica in self.replicas.values():
            if replica.worker is not None:
                replica.worker.delay_s = 0.002
            if replica.log is not None:
                replica.log.resume_applying()

    async def _slow(self, replica: Replica) -> None:
        self.network.slow.add(replica.name)
        if replica.worker is not None and self.dice.random() < 0.5:
            replica.worker.delay_s = self.dice.choice((0.03, 0.3))

    async def _pause(self, replica: Replica) -> None:
        if replica.log is not None:
            replica.log.pause_applying()

    async def _isolate_leader(self, _: Replica) -> None:
        """The others can go on without it, and it does not know at once."""
        leader = self._leader()
        if leader is not None:
            self.network.cut.clear()
            self._isolate(leader)

    def _isolate(self, replica: Replica) -> None:
        if self.peace:
            return
        for other in self.replicas:
            if other != replica.name:
                self.network.cut_link(replica.name, other, noticed=False)
                self.network.cut_link(other, replica.name, noticed=False)
        self.history.note(f"{replica.name} is isolated")

    async def _ambush(self, _: Replica) -> None:
        """The leader's disk is slow; soon its power goes, and so may a follower's link."""
        leader = self._leader()
        if leader is not None and leader.worker is not None:
            leader.worker.delay_s = 0.5
            life = leader.log
            if self.dice.random() < 0.5:
                other = self.dice.choice([name for name in self.replicas if name != leader.name])
                self.network.cut_link(leader.name, other, noticed=False)
            self.history.note(f"{leader.name} is ambushed")
            await asyncio.sleep(self.dice.uniform(0.02, 0.15))
            if leader.log is life and leader.up:
                self.history.note(f"{leader.name} loses power")
                leader.crash(power=True)

    async def _split(self, _: Replica) -> None:
        """The leader goes on with too few; the others elect another; then it leads again, and hears old acks."""
        leader = self._leader()
        if leader is None:
            return
        others = [name for name in self.replicas if name != leader.name]
        company = self.dice.sample(others, (len(others) - 1) // 2)
        self.network.cut.clear()
        for inside in (leader.name, *company):
            for outside in (name for name in others if name not in company):
                self.network.cut_link(inside, outside, noticed=False)
                self.network.cut_link(outside, inside, noticed=False)
        self.history.note(f"{leader.name} is alone with {company}")
        for _ in range(self.dice.choice((0, 300))):
            self._propose(leader)
        await asyncio.sleep(self.dice.uniform(0.4, 0.9))
        self.network.cut.clear()
        await asyncio.sleep(self.dice.uniform(0.1, 0.3))
        self._favour(leader)

    def _favour(self, favoured: Replica) -> None:
        """Whoever leads now dies, and the dice let this replica campaign before the others."""
        successor = self._leader()
        if successor is None or successor is favoured:
            return
        self.history.note(f"{successor.name} is killed in favour of {favoured.name}")
        successor.crash(power=False)
        for replica in self.replicas.values():
            if replica.log is not None and replica is not favoured:
                replica.log._core.postpone_campaign(0.5)

    async def _betray(self, replica: Replica) -> None:
        """At the next election its voters lose power as soon as they have voted, and whoever won is cut off."""
        self._betrayals = len(self.replicas) - 1
        leader = self._leader()
        if leader is not None:
            leader.crash(power=False)

    def _voted(self, voter: str, candidate: str) -> None:
        if self._betrayals > 0 and not self.peace:
            self._betrayals -= 1
            self.loop.call_soon(self._forget_at_once, self.replicas[voter])
            self.loop.call_later(self.dice.uniform(0.002, 0.03), self._isolate, self.replicas[candidate])

    def _forget_at_once(self, voter: Replica) -> None:
        if voter.up:
            self.history.note(f"{voter.name} loses power, having voted")
            voter.crash(power=True)
            self.loop.call_later(0.002, lambda: self.loop.create_task(self._start_again(voter)))

    async def _start_again(self, replica: Replica) -> None:
        if not replica.alive and not self._is_stopping(replica):
            await self._start(replica)

    def _leader(self) -> Replica | None:
        return next((replica for replica in self.replicas.values() if replica.leads), None)

    async def _hand_over(self, _: Replica) -> None:
        for replica in self.replicas.values():
            if replica.log is not None and replica.leads:
                replica.log.transfer_leadership()

    async def _stop(self, replica: Replica) -> None:
        if replica.up:
            self.history.note(f"{replica.name} stops cleanly")
            self._stopping[replica.name] = self.loop.create_task(self._stop_cleanly(replica))

    async def _stop_cleanly(self, replica: Replica) -> None:
        try:
            await replica.stop()
        except Crash as crash:
            self.failed(replica.name, crash)

    def _is_stopping(self, replica: Replica) -> bool:
        task = self._stopping.get(replica.name)
        return task is not None and not task.done()

    async def _wipe(self, replica: Replica) -> None:
        """One disk of the three is lost, at most once a seed, while the other two live."""
        others_up = all(one.up for one in self.replicas.values() if one is not replica)
        if self.lost_disk is None and others_up and self.loop.time() > 1.0:
            self.history.note(f"{replica.name} loses its disk")
            self.lost_disk = replica.name
            if replica.up:
                replica.crash(power=True)
            elif self._is_stopping(replica):
                return
            replica.wipe()
            replica.expects_refusal = True
            await self._start(replica)

    def _replace(self, replica: Replica) -> None:
        replica.crash(power=False)
        replica.wipe()
        replica.replace()
        replica.expects_refusal = False
        self.history.note(f"{replica.name} is replaced")

    # The client.

    async def _client(self) -> None:
        try:
            await self._ask_for_ever()
        except Violation as violation:
            self.failure = self.failure or violation

    async def _ask_for_ever(self) -> None:
        dice = self.dice
        while True:
            await asyncio.sleep(dice.expovariate(1 / self.plan.client_every_s))
            leaders = [replica for replica in self.replicas.values() if replica.leads]
            if not leaders:
                continue
            replica = dice.choice(leaders)
            for _ in range(dice.choice((1, 1, 1, 3, 12))):
                self._propose(replica)
            if dice.random() < 0.3:
                dice.choice(leaders).read()
            self._compare_matches(leaders)

    def _propose(self, replica: Replica) -> None:
        self.identity += 1
        replica.propose(self.identity, self.dice.choice((20, 60, 200)) * (20 if self.plan.large_records else 1))

    def _compare_matches(self, leaders: list[Replica]) -> None:
        """What a leader believes of a follower in its own term must be on that follower's disk."""
        for leader in leaders:
            status = leader.log.status()
            for peer in status.peers:
                follower = self.replicas[peer.replica].log
                if follower is None or peer.replica == leader.name:
                    continue
                if follower.status().term == status.term and not _holds(leader.log, follower, peer.match_index):
                    raise Violation(
                        f"MATCH: {leader.name} believes that {peer.replica} holds its log up to {peer.match_index}"
                    )

    # Peace.

    async def _make_peace(self) -> None:
        self.history.note("peace")
        self.peace = True
        self.network.heal()
        for replica in self.replicas.values():
            replica.disk.fuse = None
        await asyncio.gather(*self._stopping.values())
        await self._mend(next(iter(self.replicas.values())))
        deadline = self.loop.time() + CALM_S_MAX
        while not self._converged():
            await self._revive()
            await asyncio.sleep(0.05)
            self._check()
            if self.loop.time() > deadline:
                raise Violation(f"LIVENESS: no agreement within {CALM_S_MAX} s of peace: {self._picture()}")

    async def _revive(self) -> None:
        for replica in self.replicas.values():
            if not replica.alive and not self._is_stopping(replica):
                await self._start(replica)

    def _converged(self) -> bool:
        """All up, one leader, everyone's log and store at the same place, and no learner left."""
        logs = [replica.log for replica in self.replicas.values() if replica.log is not None]
        if len(logs) < len(self.replicas) or any(replica.expects_refusal for replica in self.replicas.values()):
            return False
        leaders = [log for log in logs if log.status().role.value == "leader"]
        applied = {log._core.applied_index for log in logs}
        voters = all(log._inbox._parts.membership.voter for log in logs)
        return len(leaders) == 1 and voters and len(applied) == 1 and max(applied) == leaders[0].status().last_index

    async def _judge(self) -> None:
        """One more record and one more read must succeed; then everyone holds the same, and all that was promised."""
        await asyncio.sleep(SETTINGS.transfer_s_max)  # a leader may have been handing over
        await self._until(self._converged, 2.0, "agreement does not last")
        leader = next(replica for replica in self.replicas.values() if replica.leads)
        answered, acknowledged = self.history.answered, len(self.history.acknowledged)
        self.identity += 1
        leader.propose(self.identity, 10)
        leader.read()
        await self._until(lambda: self.history.answered >= answered + 2, 2.0, "the last record has no answer")
        self.history.require(len(self.history.acknowledged) == acknowledged + 1, "LIVENESS: the last record failed")
        await self._until(self._converged, 2.0, "the last record does not reach everyone")
        self._check()
        held = {name: [record.identity for record in replica.store.records] for name, replica in self.replicas.items()}
        for name, identities in held.items():
            self.history.final(name, identities)
        self.history.require(
            len({tuple(one) for one in held.values()}) == 1, "ORDER: the replicas hold different histories"
        )
        pending = self.history.proposed - self.history.answered - self.history.died_waiting
        self.history.require(pending <= 0, f"FORGOTTEN: {pending} proposals never got an answer")

    async def _until(self, condition: Any, seconds: float, sentence: str) -> None:
        deadline = self.loop.time() + seconds
        while not condition():
            await asyncio.sleep(0.01)
            self._check()
            if self.loop.time() > deadline:
                raise Violation(f"LIVENESS: {sentence}: {self._picture()}")

    def _picture(self) -> str:
        return "; ".join(
            f"{replica.name} {replica.log.status()[1:8]} applied {replica.store.log_index}"
            if replica.log
            else f"{replica.name} down"
            for replica in self.replicas.values()
        )


def _holds(leader: RaftLog | None, follower: RaftLog, log_index: int) -> bool:
    """Whether a follower has, durably, what its leader's log has at an index; what either has dropped is committed."""
    if leader is None:
        return True
    ours, theirs = leader._journal, follower._journal
    if log_index <= max(ours.base_index, theirs.base_index):
        return True
    return theirs.durable_index >= log_index and theirs.term_at(log_index) == ours.term_at(log_index)


def run_seed(seed: int, chaos_s: float = 4.0, focus: str | None = None) -> History:
    """Run one seed to its end, with more of the action `focus`; raise `Violation`, with the story in its `history`."""
    loop = VirtualLoop()
    asyncio.set_event_loop(loop)
    scenario = Scenario(seed, loop, chaos_s, focus)
    try:
        loop.run_until_complete(scenario.run())
    except Violation as violation:
        violation.history = scenario.history  # type: ignore[attr-defined]
        raise
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()
    return scenario.history
