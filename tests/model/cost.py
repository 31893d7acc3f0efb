"""What the protocol costs: log records of each group for one request, driven by one router that nothing disturbs."""

from typing import NamedTuple

from engine.core.chain_driver import ROUTER
from engine.core.word import Word
from tests.model import scenarios
from tests.model.chains import Leg, request
from tests.model.drivers import orders
from tests.model.scenarios import FREE, A, B, funded
from tests.model.setup import Scenario
from tests.model.world import Event, State, World

SCANS_MAX = 16


class Cost(NamedTuple):
    """Log records, by group, of the last request of a scenario."""

    title: str
    records: tuple[int, ...]

    def __str__(self) -> str:
        records = ", ".join(f"{'ABCDEFGH'[at]} {count}" for at, count in enumerate(self.records))
        return f"log records  {self.title:40} {records}"


def costs() -> tuple[Cost, ...]:
    """The usual cases."""
    hold = request("hold", Leg("a", "b", 5, scenarios.RESERVE), sides=((A, B),))
    commit = request("commit", Leg("a", "b", 5, scenarios.COMMIT, follows="hold"), sides=((A, B),))
    plain = scenarios.plain("t", "a", "b", 5)
    reverse = request("back", Leg("a", "b", 5, scenarios.REVERSE, follows="t"), sides=((A, B),))
    world = Scenario("", {(A, "a"): funded(5), (B, "b"): FREE}, ())
    return (
        cost("plain transfer, posted", world._replace(requests=(plain,))),
        cost("plain transfer, refused by its debtor", world._replace(requests=(scenarios.plain("t", "a", "b", 6),))),
        cost("hold", world._replace(requests=(hold,))),
        cost("COMMIT of a hold", world._replace(requests=(hold, commit))),
        cost("REVERSE of a plain transfer", world._replace(requests=(plain, reverse))),
        cost("three legs over three groups, posted", scenarios.three_legs(10)),
        cost("three legs over three groups, refused", scenarios.three_legs(7)),
    )


def cost(title: str, scenario: Scenario) -> Cost:
    """Drive the requests one after the other; count the records of the last."""
    world, state = World(scenario), World(scenario).start
    records = [0] * scenario.groups
    for number in range(len(scenario.requests)):
        records = [0] * scenario.groups
        state = _drive(world, state, number, records)
    return Cost(title, tuple(records))


def _drive(world: World, state: State, number: int, records: list[int]) -> State:
    own, words = world.setup.chains[number][0], dict[int, Word]()
    for _ in range(SCANS_MAX):
        sent = orders(world.rules, own, words, ROUTER)
        for order in sent:
            following = world.after(state, Event(order.group, number, order))
            records[order.group] += following is not state
            state = following
            word = world.setup.says(state.groups[order.group], number)
            if word:
                words[order.group] = word
    return state
