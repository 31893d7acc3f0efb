"""`posting-engine reconcile`: do the groups' books explain each other?"""

import time
from typing import Final, NamedTuple

import click

from cli.amounts import amount_text
from cli.commands.audit import audited, require_balanced
from cli.commands.open import listed
from cli.options import with_server
from cli.output import json_option, print_json, print_table
from cli.reconciling import PairState, pair_states
from cli.server import Server
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.admin_service_pb2 import GroupAudit, OpenChain
from postingengine.v1.posting_service_pb2 import GetTransfersRequest, TransferAnswer

COLUMNS: Final = (
    "groups",
    "ledger",
    "lower's",
    "higher's",
    "difference",
    "on its way",
    "undecided",
    "moves",
    "unexplained",
)
TRIES_MAX: Final = 50
PAUSE_S: Final = 0.1
CHAINS_MAX: Final = 100_000
IDS_A_CALL: Final = 1000


class Cut(NamedTuple):
    """What the groups said, all at one moment if `at_rest`."""

    audits: list[GroupAudit]
    chains: list[OpenChain]
    decided: frozenset[bytes]
    at_rest: bool
    """No group logged anything while the others were read."""


@click.command()
@json_option
@with_server
def reconcile(server: Server, as_json: bool) -> None:
    """Compare the transit balances of all pairs of groups with the chains that are open between them.

    Ends with CHECK_FAILED where a difference is not explained. While transfers go on, the groups are read until they
    fit together or stand still; ends with REFUSED if neither happens.
    """
    cut = _fitting_cut(server)
    states = pair_states(cut.audits, cut.chains, cut.decided)
    if as_json:
        found = {"pairs": [_json(state) for state in states], "open_chains": len(cut.chains), "at_rest": cut.at_rest}
        print_json(found)
    else:
        if states:
            print_table(COLUMNS, [_row(server, state) for state in states], numbers=COLUMNS[2:])
        wrong = sum(1 for state in states if state.unexplained)
        click.echo(f"{len(cut.chains)} open chains; {wrong} differences not explained")
    _require_explained(server, cut, states)


def require_reconciled(server: Server) -> int:
    """Raise `EngineStopped` unless every difference between groups is explained; return how many chains are open."""
    cut = _fitting_cut(server)
    _require_explained(server, cut, pair_states(cut.audits, cut.chains, cut.decided))
    return len(cut.chains)


def _require_explained(server: Server, cut: Cut, states: list[PairState]) -> None:
    require_balanced(cut.audits)
    wrong = [state for state in states if state.unexplained]
    if wrong and not cut.at_rest:
        words = (
            "transfers went on while the groups were read, and nothing fitted together; ask again when it is quieter"
        )
        raise EngineStopped(ExitCode.REFUSED, words)
    if wrong:
        first = wrong[0]
        where = f"groups {first.groups[0]} and {first.groups[1]}, ledger {server.code(first.ledger)}"
        words = f"{where} differ by {first.unexplained}: stop posting, keep their data"
        raise EngineStopped(ExitCode.CHECK_FAILED, words)


def _fitting_cut(server: Server) -> Cut:
    """Read until all differences are explained or the groups stand still."""
    for _ in range(TRIES_MAX):
        cut = _read(server)
        wrong = any(state.unexplained for state in pair_states(cut.audits, cut.chains, cut.decided))
        if cut.at_rest or not wrong:
            break
        time.sleep(PAUSE_S)
    return cut


def _read(server: Server) -> Cut:
    audits = audited(server)
    chains = listed(server, CHAINS_MAX).chains
    decided = _decided(server, chains)
    positions = [(one.read_at.group, one.next_position) for one in audits]
    at_rest = positions == [(one.read_at.group, one.next_position) for one in audited(server)]
    return Cut(audits, chains, decided, at_rest)


def _decided(server: Server, chains: list[OpenChain]) -> frozenset[bytes]:
    """Return the ids of the chains that their decider has posted."""
    deciders = {bytes(chain.id): chain.decider for chain in chains}
    ids, found = list(deciders), set()
    for first in range(0, len(ids), IDS_A_CALL):
        asked = ids[first : first + IDS_A_CALL]
        answer = server.ask(server.posting.GetTransfers, GetTransfersRequest(ids=asked))
        found |= {one for one, told in zip(asked, answer.transfers, strict=True) if _is_posted(told, deciders[one])}
    return frozenset(found)


def _is_posted(told: TransferAnswer, decider: int) -> bool:
    return told.WhichOneof("answer") == "stored" and told.stored.group == decider and int(told.stored.outcome) == 1


def _row(server: Server, state: PairState) -> list[str]:
    scale = server.scale(state.ledger)
    amounts = (state.lower, state.higher, state.difference, state.on_its_way)
    return [
        f"{state.groups[0]} - {state.groups[1]}",
        server.code(state.ledger),
        *(amount_text(amount, scale) for amount in amounts),
        str(state.undecided),
        str(state.moves),
        amount_text(state.unexplained, scale),
    ]


def _json(state: PairState) -> dict[str, object]:
    return {**state._asdict(), "difference": state.difference, "unexplained": state.unexplained}
