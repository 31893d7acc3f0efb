"""Healing: no router, no message in flight; only couriers, each from its own group's record, until nothing happens."""

from engine.core.chains.plan import Chain
from tests.model.driving import courier, router
from tests.model.group import due
from tests.model.invariants import check_rest, require
from tests.model.world import Event, Groups, State, World

ROUNDS_MAX = 64
"""More than any chain of the scenarios needs: reached only by couriers that chase each other for ever."""


class Healing:
    """Heals the states of one world; a state met before heals as it did then."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.events: list[Event] = []
        self._healed: set[tuple[Groups, bool]] = set()

    def check(self, state: State) -> None:
        """Heal from here, patiently and impatiently; raise `Violation` unless all is well then.

        What the couriers did until then is left in `events`.
        """
        for overdue in (False, True):
            self.events.clear()
            self._heal(state, overdue)
        self.events.clear()

    def _heal(self, state: State, overdue: bool) -> None:
        for _ in range(ROUNDS_MAX):
            if (state.groups, overdue) in self._healed:
                return
            self._healed.add((state.groups, overdue))
            following = self._round(state, overdue)
            if following.groups == state.groups and overdue:
                break
            overdue |= following.groups == state.groups  # in the end every deadline is past
            state = following  # a state that the search visits too, and checks
        check_rest(self.world.setup, state.groups)
        self._check_retries(state)

    def _round(self, state: State, overdue: bool) -> State:
        """Each courier scans its open chains once; deciders expire what is due; a split that was begun is finished."""
        for event in self.world.splits(state):
            if event.epoch <= max(group.epoch for group in state.groups):
                state = self._log(state, event)
        for at in range(len(state.groups)):
            if overdue:
                for request, order in due(self.world.setup, at, state.groups[at]):
                    state = self._log(state, Event(at, request, order))
            state = courier(self.world, state, at, overdue=overdue, watch=self.events.append)
        return state

    def _log(self, state: State, event: Event) -> State:
        following = self.world.after(state, event)
        if following is not state:
            self.events.append(event)
        return following

    def _check_retries(self, state: State) -> None:
        """I3: now a caller who tries again is answered, whatever was left of the first attempt."""
        for request, one in enumerate(self.world.setup.requests):
            owns = self.world.startable(state, request)
            for body in {own.rows for own in owns}:
                answered = any(self._retry(state, request, own) for own in owns if own.rows == body)
                answered |= one.name in self.world.scenario.may_wait
                require(answered, f"I3 a retry of {one.name} is never answered")

    def _retry(self, state: State, request: int, own: Chain) -> bool:
        _, answered = router(self.world, state, request, own, self.events.append)
        return answered
