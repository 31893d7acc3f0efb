"""What the protocol costs: log records of each group for one request, driven by one router that nothing disturbs."""

from typing import NamedTuple

from engine.core.chains.driver import ROUTER
from tests.model import scenarios
from tests.model.chains import Leg, request
from tests.model.driving import drive
from tests.model.scenarios import FREE, A, B, funded
from tests.model.setup import Scenario
from tests.model.world import Event, World


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
    world = World(scenario)
    state, logged = world.start, list[Event]()
    for number, chains in enumerate(world.setup.chains):
        logged.clear()
        state, _ = drive(world, state, number, chains[0], {}, ROUTER, logged.append)
    return Cost(title, tuple(sum(event.at == at for event in logged) for at in range(scenario.groups)))
