"""Router and courier as processes: each drives one chain from what it knows, and learns from the answers."""

from collections.abc import Callable

from engine.core.chains.driver import ROUTER, Facts
from engine.core.chains.plan import Chain
from engine.core.chains.word import Word, is_open
from tests.model.drivers import told
from tests.model.world import Event, State, World

SCANS_MAX = 16
"""More than any chain needs: each scan learns a word that nobody unlearns."""

Watch = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Watch nothing."""


def courier(world: World, state: State, at: int, *, overdue: bool, watch: Watch = ignore) -> State:
    """Scan the open chains of one group's log, and drive each until there is nothing new."""
    for request in range(len(world.setup.requests)):
        word = state.groups[at].words[request]
        if word and is_open(word):
            state, _ = drive(world, state, request, word.chain, {at: word}, Facts(at, overdue), watch)
    return state


def router(world: World, state: State, request: int, own: Chain, watch: Watch = ignore) -> tuple[State, bool]:
    """Drive a caller's chain knowing nothing; the second value says whether the caller has an answer now."""
    state, words = drive(world, state, request, own, {}, ROUTER, watch)
    return state, told(world.rules, own, words) is not None


def drive(
    world: World, state: State, request: int, own: Chain, words: dict[int, Word], facts: Facts, watch: Watch
) -> tuple[State, dict[int, Word]]:
    """Send, learn, and send again, until nothing is learned any more."""
    for _ in range(SCANS_MAX):
        before = dict(words)
        for order in world.orders(own, words, facts):
            event = Event(order.group, request, order)
            following = world.after(state, event)
            if following is not state:
                watch(event)
            state = following
            answered = world.says(state.groups[order.group])[request]
            if answered:
                words[order.group] = answered
        if words == before:
            break
    return state, words
