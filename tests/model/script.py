"""Golden scripts: the life of a chain as a text that people read and the model plays.

::

    # A comment.
    account alice A 100 limited           what it has; limited: it may spend that and no more
    chain t1: alice -> bob 30; ...        its legs; groups and decider follow from the accounts
    chain h: alice -> bob 30 reserve, timeout
    chain c: alice -> bob 20 commit of h, keep rest
    chain t1/1: carol -> bob 30           another body under the same id
    chain t1/2 on A: alice -> bob 30      the same body by a map that has both accounts in one group
    reserve t1 A                          an order that a driver may send by now, or one that is delivered again
    reserve t1 A ignored                  ... which must log nothing
    router t1, courier A, courier A overdue   a driver, until nothing is left to do
    freeze alice
    expect t1 A RESERVED B nothing        the words on record
    expect hold h A HELD 10               a hold and what is left of it
    expect alice 70 reserved 30           credits less debits posted; debits reserved (0 if left out)
    expect answer t1 POSTED in flight     what a router that knows all words would tell; `not yet`

After every step the invariants of the model are checked.
"""

import re
from pathlib import Path

from engine.core.chains.driver import outcomes
from engine.core.chains.plan import Chain
from engine.core.chains.word import Order, Step, Word, hold_of
from engine.core.records import Flag, Kind
from tests.model.chains import ALL, Layout, Leg, Request, plan
from tests.model.drivers import told
from tests.model.driving import courier, router
from tests.model.group import due
from tests.model.invariants import check
from tests.model.ledger import DEBITS_LIMITED, Account
from tests.model.setup import Scenario
from tests.model.world import Event, World

LETTERS = "ABCDEFGH"
LEG = re.compile(
    r"(?P<debit>\w+) -> (?P<credit>\w+) (?P<amount>\d+|all)( (?P<kind>reserve|commit|release|reverse))?"
    r"( of (?P<follows>[\w.]+))?(?P<flags>.*)"
)
FLAGS = {"keep rest": Flag.KEEP_REST, "balancing": Flag.BALANCING_DEBIT}


class ScriptError(AssertionError):
    """A line of a script cannot be read, or what it expects is not so."""


class Script:
    """A script, read; `play` it."""

    def __init__(self, path: Path) -> None:
        lines = ((number, line.split("#")[0].strip()) for number, line in enumerate(path.read_text().splitlines(), 1))
        self.lines = [(number, line) for number, line in lines if line]
        self.homes: dict[str, int] = {}
        self.sent: list[tuple[int, Order]] = []
        self.world = World(self._scenario(path.stem))
        self.state = self.world.start

    # ---- the world ----

    def _scenario(self, title: str) -> Scenario:
        accounts: dict[tuple[int, str], Account] = {}
        layouts: dict[str, list[Layout]] = {}
        for _, line in self.lines:
            if line.startswith("account "):
                name, place, *more = line.split()[1:]
                flags = DEBITS_LIMITED if "limited" in more else DEBITS_LIMITED & 0
                credits = int(more[0]) if more and more[0].isdigit() else 0
                self.homes.setdefault(name, LETTERS.index(place))
                accounts[LETTERS.index(place), name] = Account(credits=credits, flags=flags)
            elif line.startswith("chain "):
                head, legs = line.removeprefix("chain ").split(": ")
                name = head.split()[0].split("/")[0]
                layouts.setdefault(name, []).append(self._layout(head, legs, layouts))
        requests = tuple(Request(name, tuple(each)) for name, each in layouts.items())
        freezes = tuple((at, name) for at, name in accounts)
        return Scenario(title, accounts, requests, max(at for at, _ in accounts) + 1, freezes=freezes)

    def _layout(self, head: str, text: str, known: dict[str, list[Layout]]) -> Layout:
        legs = tuple(_leg(each.strip()) for each in text.split(";"))
        if " on " in head:
            at = LETTERS.index(head.split(" on ")[1])
            return Layout(legs, plan(((at, at),) * len(legs)))
        sides = tuple((self.homes[leg.debit], self.homes[leg.credit]) for leg in legs)
        deciders = [_decider(leg.follows, known) for leg in legs if leg.follows]
        if deciders:
            return Layout(legs, plan(sides, deciders[0]), first=sides[-1][1])
        return Layout(legs, plan(sides))

    # ---- playing ----

    def play(self) -> None:
        """Play the script to its end; raise `ScriptError` or `Violation` at the first line that does not hold."""
        for number, line in self.lines:
            if not line.startswith(("account ", "chain ")):
                try:
                    self._line(line.split())
                    check(self.world, self.state)
                except (AssertionError, KeyError, ValueError) as wrong:
                    raise ScriptError(f"{self.world.scenario.title} line {number}: {line}: {wrong}") from wrong

    def _line(self, words: list[str]) -> None:
        if words[0] == "expect":
            self._expect(words[1:])
        elif words[0] == "router":
            number, own = self._chain(words[1])
            self.state, _ = router(self.world, self.state, number, own)
        elif words[0] == "courier":
            self.state = courier(self.world, self.state, LETTERS.index(words[1]), overdue="overdue" in words)
        elif words[0] == "freeze":
            self.state = self.world.after(self.state, Event(self.homes[words[1]], 0, None, words[1]))
        else:
            self._deliver(Step[words[0].upper()], words[1], LETTERS.index(words[2]), ignored="ignored" in words)

    def _chain(self, name: str) -> tuple[int, Chain]:
        number = self.world.setup.index[name.split("/", maxsplit=1)[0]]
        return number, self.world.setup.chains[number][int(name.split("/")[1]) if "/" in name else 0]

    def _deliver(self, step: Step, name: str, at: int, *, ignored: bool) -> None:
        number, chain = self._chain(name)
        due_now = tuple(order for _, order in due(self.world.setup, at, self.state.groups[at]))
        sendable = (*self.world.sendable(self.state, number), *due_now, *(order for _, order in self.sent))
        found = [each for each in sendable if (each.step, each.group, each.chain) == (step, at, chain)]
        if not found:
            raise ScriptError("no driver would send this")
        self.sent.append((number, found[0]))
        following = self.world.after(self.state, Event(at, number, found[0]))
        if (following is self.state) != ignored:
            raise ScriptError("it logged nothing" if not ignored else "it was logged")
        self.state = following

    # ---- expecting ----

    def _expect(self, words: list[str]) -> None:
        if words[0] == "answer":
            expected, found = " ".join(words[2:]), self._answer(words[1])
        elif words[0] == "hold":
            expected, found = " ".join(words[3:]), self._hold(words[1], LETTERS.index(words[2]))
        elif words[0] in self.homes:
            expected, found = " ".join(words[1:]), self._balance(words[0])
        else:
            expected, found = " ".join(words[1:]), self._words(words[0], words[1::2])
        if expected != found:
            raise ScriptError(f"found {found}")

    def _answer(self, name: str) -> str:
        number, own = self._chain(name)
        said = (self.world.says(group)[number] for group in self.state.groups)
        known = {at: word for at, word in enumerate(said) if word}
        answer = told(self.world.rules, own, known)
        if answer is None:
            return "not yet"
        names = ", ".join(outcome.name for outcome in outcomes(own, answer))
        return f"{names} in flight" if answer.in_flight else names

    def _hold(self, name: str, at: int) -> str:
        number, leg = next((each.request, each.leg) for each in self.world.setup.by_id[name])
        word = self.state.groups[at].words[number]
        hold = hold_of(word, leg) if word else None
        return f"{hold.state.name} {hold.rest}" if hold else "nothing"

    def _balance(self, name: str) -> str:
        at = self.homes[name]
        account = self.state.groups[at].accounts[self.world.setup.slots[at][name]]
        reserved = f" reserved {account.debits_reserved}" if account.debits_reserved else ""
        return f"{account.credits - account.debits}{reserved}"

    def _words(self, name: str, places: list[str]) -> str:
        number, _ = self._chain(name)
        words: list[tuple[str, Word | None]] = [
            (place, self.state.groups[LETTERS.index(place)].words[number]) for place in places
        ]
        return " ".join(f"{place} {word.state.name if word else 'nothing'}" for place, word in words)


def _leg(text: str) -> Leg:
    found = LEG.fullmatch(text)
    if not found:
        raise ScriptError(f"no leg: {text}")
    amount = ALL if found["amount"] == "all" else int(found["amount"])
    kind = Kind[(found["kind"] or "post").upper()]
    flags = Flag.NONE
    for name, flag in FLAGS.items():
        flags |= flag if name in found["flags"] else Flag.NONE
    timeout_s = 1 if "timeout" in found["flags"] else 0
    return Leg(found["debit"], found["credit"], amount, kind, flags, found["follows"] or "", timeout_s)


def _decider(name: str, known: dict[str, list[Layout]]) -> int:
    return known[name.split(".", maxsplit=1)[0]][0].plan.decider
