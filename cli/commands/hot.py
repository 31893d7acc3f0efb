"""`posting-engine hot`: the accounts that take most of each group's work, and which of them to split."""

from typing import Final

import click

from cli.ids import id_text
from cli.options import with_server
from cli.output import json_option, print_json, print_table
from cli.server import Server, fault_sentence
from cli.times import NS_PER_S
from postingengine.v1.admin_service_pb2 import GroupHeat, HotAccount, ReportHeatRequest

ACCOUNTS_MAX: Final = 100
COLUMNS: Final = ("group", "account", "share %", "transfers/s", "debits", "credits", "crossing", "advice")


@click.command()
@click.option(
    "--limit",
    type=click.IntRange(1, ACCOUNTS_MAX),
    default=10,
    show_default=True,
    help="Accounts of each group at most.",
)
@json_option
@with_server
def hot(server: Server, limit: int, as_json: bool) -> None:
    """List the accounts that take most of each group's work, as its leader counted it, and what to do about them.

    The counts are estimates over the last window. hot_accounts in cluster.yml says which accounts count as hot.
    """
    groups = list(server.ask(server.admin.ReportHeat, ReportHeatRequest(accounts_per_group=limit)).groups)
    if as_json:
        print_json([_json(group) for group in groups])
        return
    print_table(COLUMNS, [_row(group, one) for group in groups for one in group.accounts], numbers=COLUMNS[2:-1])
    for group in groups:
        click.echo(_summary(group))


def _summary(group: GroupHeat) -> str:
    if group.HasField("fault"):
        return f"group {group.group}: {fault_sentence(group.fault)}"
    seconds = group.window_ns / NS_PER_S
    crossing = 100 * group.crossing // group.transfers if group.transfers else 0
    return (
        f"group {group.group}: {group.transfers} transfers in {seconds:.1f} s, {crossing} % of them cross groups, "
        f"counted by replica {group.replica}"
    )


def _row(group: GroupHeat, one: HotAccount) -> list[str]:
    numbers = (one.share_percent, one.transfers_per_s, one.debits, one.credits, one.crossing)
    return [str(group.group), id_text(one.account), *map(str, numbers), one.reason]


def _json(group: GroupHeat) -> dict[str, object]:
    return {
        "group": group.group,
        "replica": group.replica,
        "fault": fault_sentence(group.fault) if group.HasField("fault") else None,
        "window_ns": group.window_ns,
        "transfers": group.transfers,
        "crossing": group.crossing,
        "accounts": [_account_json(one) for one in group.accounts],
    }


def _account_json(one: HotAccount) -> dict[str, object]:
    return {
        "account": id_text(one.account),
        "debits": one.debits,
        "credits": one.credits,
        "crossing": one.crossing,
        "missed_max": one.missed_max,
        "share_percent": one.share_percent,
        "transfers_per_s": one.transfers_per_s,
        "split_advised": one.split_advised,
        "reason": one.reason,
    }
