"""`posting-engine audit`: each group's trial balance and state hash."""

from typing import Final

import click

from cli.amounts import amount_text
from cli.options import with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server, fault_sentence, from_int128, from_uint128
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.admin_service_pb2 import AuditRequest, GroupAudit, LedgerTrialBalance

COLUMNS: Final = (
    "group",
    "ledger",
    "accounts",
    "debits",
    "credits",
    "reserved debits",
    "reserved credits",
    "difference",
)


@click.command()
@json_option
@with_server
def audit(server: Server, as_json: bool) -> None:
    """Check that the books add up: per group and ledger, debits equal credits, at one log index.

    Ends with CHECK_FAILED where they do not.
    """
    groups = audited(server)
    if as_json:
        print_json([_json(group) for group in groups])
    else:
        rows = [_row(server, group.read_at.group, one) for group in groups for one in group.trial_balances]
        print_table(COLUMNS, rows, numbers=COLUMNS[2:])
        for group in groups:
            words = "balanced" if group.balanced else "NOT BALANCED"
            place = f"group {group.read_at.group} at log index {group.read_at.log_index} of {group.replica}"
            click.echo(f"{place}: {words}, state hash {group.state_hash.hex()}")
    require_balanced(groups)


def audited(server: Server) -> list[GroupAudit]:
    """Return every group's audit; raises `EngineStopped` where a group gave none."""
    groups = list(server.ask(server.admin.Audit, AuditRequest()).groups)
    for group in groups:
        if group.HasField("fault"):
            raise EngineStopped(ExitCode.REFUSED, f"a group gave no audit: {fault_sentence(group.fault)}")
    return groups


def require_balanced(groups: list[GroupAudit]) -> None:
    """Raise `EngineStopped` unless every group says, and its sums show, that debits equal credits.

    A group without accounts has no sums, and balances: of few accounts all may have been hashed to others.
    """
    for group in groups:
        sums_equal = all(_difference(one) == 0 for one in group.trial_balances)
        if not group.balanced or not sums_equal:
            where = f"group {group.read_at.group} at log index {group.read_at.log_index}"
            raise EngineStopped(ExitCode.CHECK_FAILED, f"{where} is not balanced: stop posting, keep its data folders")


def _difference(one: LedgerTrialBalance) -> int:
    return from_uint128(one.debits_posted) - from_uint128(one.credits_posted)


def _row(server: Server, group: int, one: LedgerTrialBalance) -> list[str]:
    scale = server.scale(one.ledger)
    sums = (one.debits_posted, one.credits_posted, one.debits_reserved, one.credits_reserved)
    return [
        str(group),
        server.code(one.ledger),
        str(one.accounts),
        *(amount_text(from_uint128(each), scale) for each in sums),
        amount_text(_difference(one), scale),
    ]


def _json(group: GroupAudit) -> dict[str, object]:
    return {
        "group": group.read_at.group,
        "replica": group.replica,
        "log_index": group.read_at.log_index,
        "next_position": group.next_position,
        "balanced": group.balanced,
        "state_hash": group.state_hash.hex(),
        "ledgers": [
            {
                "ledger": one.ledger,
                "accounts": one.accounts,
                "debits_posted": from_uint128(one.debits_posted),
                "credits_posted": from_uint128(one.credits_posted),
                "debits_reserved": from_uint128(one.debits_reserved),
                "credits_reserved": from_uint128(one.credits_reserved),
                "reservations_remaining": from_uint128(one.reservations_remaining),
            }
            for one in group.trial_balances
        ],
        "transit": [
            {"peer_group": one.peer_group, "ledger": one.ledger, "balance": from_int128(one.balance)}
            for one in group.transit_balances
        ],
    }
