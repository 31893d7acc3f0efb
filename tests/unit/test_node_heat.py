"""A node measures its group's heat while it leads, and tells it."""

import asyncio
from pathlib import Path

import msgspec
from click.testing import CliRunner

from cli.main import posting_engine
from engine.config import HotAccountsConfig, HotAccountsPolicy
from engine.rpc.faults import fault_of
from postingengine.v1.admin_service_pb2 import ReportHeatRequest
from tests.running_node import Node, cluster, identity, running_node, transfer

ALICE, BOB, BANK = identity(0xA11CE), identity(0xB0B), identity(0xBA27)


async def post_some(node: Node) -> None:
    await node.make_accounts(ALICE, BOB, BANK)
    await node.post(*(transfer(number, BANK, BOB) for number in range(1, 31)))
    await node.post(*(transfer(number, ALICE, BOB) for number in range(31, 41)))
    await node.post(transfer(1, BANK, BOB))  # again: known, so nothing is stored


async def test_the_accounts_of_what_was_applied_are_told_hottest_first(tmp_path: Path) -> None:
    async with running_node(cluster(tmp_path)) as node:
        await post_some(node)
        (heat,) = (await node.admin.ReportHeat(ReportHeatRequest(), timeout=5)).groups
        (hottest,) = (await node.admin.ReportHeat(ReportHeatRequest(accounts_per_group=1), timeout=5)).groups
        elsewhere = await node.admin.ReportHeat(ReportHeatRequest(groups=[7]), timeout=5)
    told = [(one.account, one.debits, one.credits, one.share_percent) for one in heat.accounts]
    assert told == [(BOB, 0, 40, 100), (BANK, 30, 0, 75), (ALICE, 10, 0, 25)]
    assert (heat.group, heat.replica, heat.transfers, heat.crossing) == (0, "a", 40, 0)
    assert heat.window_ns > 0
    assert [one.account for one in hottest.accounts] == [BOB]
    assert not elsewhere.groups
    assert all(one.reason.startswith("leave it: ") and not one.split_advised for one in heat.accounts)


async def test_where_the_policy_is_off_the_answer_says_so(tmp_path: Path) -> None:
    off = HotAccountsConfig(policy=HotAccountsPolicy.OFF)
    config = msgspec.structs.replace(cluster(tmp_path), hot_accounts=off)
    async with running_node(config) as node:
        await post_some(node)
        (heat,) = (await node.admin.ReportHeat(ReportHeatRequest(), timeout=5)).groups
    fault = fault_of(heat.fault)
    assert fault is not None
    assert fault.reason == "HEAT_NOT_MEASURED"
    assert not heat.accounts


async def test_the_command_lists_them_as_a_table_and_as_json(tmp_path: Path) -> None:
    async with running_node(cluster(tmp_path)) as node:
        await post_some(node)
        table = await asyncio.to_thread(run_hot, node)
        document = await asyncio.to_thread(run_hot, node, "--json", "--limit", "1")
    assert "share_percent_min" not in table.partition("\n")[0]
    assert "group 0: 40 transfers" in table
    (group,) = msgspec.json.decode(document)
    assert (group["replica"], len(group["accounts"]), group["accounts"][0]["credits"]) == ("a", 1, 40)


def run_hot(node: Node, *options: str) -> str:
    done = CliRunner().invoke(posting_engine, ["hot", "--server", node.address, *options])
    assert done.exit_code == 0, done.output
    return done.output
