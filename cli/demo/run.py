"""The demonstration, step by step. Every step either holds or ends it with one sentence and an exit code."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Final, NamedTuple

from cli.beancount.decompose import ROUNDING, TRADING
from cli.beancount.importing import Import, Report, read_ledgers
from cli.beancount.plan import needed_scales
from cli.beancount.posting import Pace, Tally, connect
from cli.beancount.source import Source, final_balances, read_source
from cli.cluster_file import Shape
from cli.commands.audit import audited, require_balanced
from cli.commands.reconcile import require_reconciled
from cli.demo.cluster import ASK_S_MAX, DemoCluster
from cli.server import Server
from engine.core.settings import Ledger
from engine.exit_codes import EngineStopped, ExitCode, require

EXAMPLE_PROGRAM: Final = "from beancount.scripts.example import main; main()"
EXAMPLE_ARGUMENTS: Final = (
    "--seed=7",
    "--date-begin=2020-01-01",
    "--date-end=2023-01-01",
    "--date-birth=1985-04-01",
)
"""Fixed, so that every run imports the same ledger."""
EXAMPLE_S_MAX: Final = 120
VERIFY_S_MAX: Final = 300
TRANSACTIONS_MIN: Final = 1000
SEARCH_AT: Final = 0.4
"""The share of transfers after which the leaders are looked up: shortly before they are killed."""
KILL_AT: Final = 0.5
NEXT_KILL: Final = 0.15
"""Shares of the transfers: when the first leader is killed, and how much later each next one."""
IN_FLIGHT_AT_KILL_MIN: Final = 2
PACE: Final = Pace(batch_transfers=8, in_flight_batches=16, transfers_per_s=2000, attempt_s=0.1)
"""Small batches, so that the kill meets some in flight; an attempt shorter than a restart leaves outcomes unknown."""
SECOND_PACE: Final = Pace()

Say = Callable[[str], None]
Balances = Mapping[tuple[str, str], Decimal]


class Kill(NamedTuple):
    """One kill of a leader."""

    group: int
    in_flight: int
    """Batches in flight."""
    acknowledged: int
    """Transfers acknowledged."""


class Killing:
    """Kills the leader of each group, one after the other while batches are in flight. Called with each tally.

    While the leaders are looked up the import stands still: it must not be over before one is killed.
    The first dies once half is acknowledged, each next one a little later, after the one before was made up for.
    """

    def __init__(self, leader_pids: Callable[[], list[int]], transfers: int) -> None:
        self.kills: list[Kill] = []
        self.failovers_ms: list[int] = []
        """From each kill to the first acknowledgement of what was asked after it."""
        self._leader_pids = leader_pids
        self._search: asyncio.Task[list[int]] | None = None
        self._transfers = transfers
        self._killed_at_s: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether every leader was killed, and made up for."""
        found = self._search is not None and self._search.done() and self._search.result()
        return bool(found) and len(self.failovers_ms) == len(found or [])

    def __call__(self, tally: Tally) -> Awaitable[object] | None:
        """Look at the tally after an answer; return what the import is to wait for."""
        if self._search is None and tally.acknowledged >= SEARCH_AT * self._transfers:
            self._search = asyncio.create_task(asyncio.to_thread(self._leader_pids))
        if self._search is not None and not self._search.done():
            return asyncio.shield(self._search)
        self._look(tally)
        return None

    def _look(self, tally: Tally) -> None:
        """Once the leaders are known: kill the next one when its time has come, note when that is made up for."""
        if self._search is None:
            return
        if self._killed_at_s is not None:
            if tally.asked_at_s > self._killed_at_s:
                self.failovers_ms.append(int((time.monotonic() - self._killed_at_s) * 1000))
                self._killed_at_s = None
        elif len(self.kills) < len(self._search.result()):
            share = KILL_AT + NEXT_KILL * len(self.kills)
            if tally.acknowledged >= share * self._transfers and tally.in_flight >= IN_FLIGHT_AT_KILL_MIN:
                os.kill(self._search.result()[len(self.kills)], signal.SIGKILL)
                self._killed_at_s = time.monotonic()
                self.kills.append(Kill(len(self.kills), tally.in_flight, tally.acknowledged))


class Imported(NamedTuple):
    """What both imports did, and what the engine holds afterwards."""

    first: Report
    second: Report
    balances: Balances


def demonstrate(folder: Path, shape: Shape, say: Say) -> str:
    """Run it all in an empty folder and return the last line; raises `EngineStopped` where anything does not hold."""
    ledger = folder / "example.beancount"
    make_example(ledger)
    source = read_source(ledger)
    say(f"Beancount made a ledger of {len(source.transactions)} transactions (fixed seed and dates): {ledger.name}")
    require(len(source.transactions) >= TRANSACTIONS_MIN, ExitCode.CHECK_FAILED, "the example ledger is too small")
    scales = needed_scales(source)
    ledgers = tuple(Ledger(number, code, scale) for number, (code, scale) in enumerate(scales.items(), 1))
    with DemoCluster(folder / "cluster", ledgers, shape) as cluster:
        size = f"{shape.groups} group(s) of {shape.replicas} replica(s), {len(ledgers)} ledgers"
        say(f"a fresh cluster serves at {cluster.router}: {size}")
        imported, killing = asyncio.run(_import_twice(cluster, source, ledger, say))
        differences = compare(imported.balances, final_balances(ledger))
        require(not differences, ExitCode.CHECK_FAILED, f"{len(differences)} balances differ: {differences[:3]}")
        say(f"all {len(imported.balances)} accounts hold what Beancount computes")
        with Server(cluster.router, ASK_S_MAX) as server:
            require_balanced(audited(server))
            on_their_way = require_reconciled(server)
        say(f"audit: debits equal credits in every ledger and group; {on_their_way} chains on their way between groups")
        cluster.until_caught_up()
        require(cluster.stop() == ExitCode.OK, ExitCode.FAILED, "the cluster did not stop clean")
    _verify(cluster, say)
    failover = f", failover {max(killing.failovers_ms)} ms" if shape.replicas > 1 else ""
    counts = f"{imported.first.transfers} transfers, {imported.first.accounts} accounts"
    return f"DEMO OK: {counts}, {len(differences)} differences{failover}"


def make_example(path: Path) -> None:
    """Let Beancount's own `bean-example`, a process of its own, write a ledger."""
    command = [sys.executable, "-I", "-c", EXAMPLE_PROGRAM, *EXAMPLE_ARGUMENTS, "--output", str(path)]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=EXAMPLE_S_MAX, check=False, text=True
    )
    if done.returncode != 0 or not path.exists():
        words = "is Beancount installed? pip install posting-engine[beancount]"
        last = (done.stderr.strip().splitlines() or [""])[-1]
        raise EngineStopped(ExitCode.USAGE, f"bean-example wrote no ledger ({last}): {words}")


def compare(engine: Balances, beancount: Balances) -> list[str]:
    """Return one sentence for each account and commodity that differs; what one of them leaves out holds zero."""
    # Beancount has no trading and rounding accounts: they hold what its own books leave unbalanced.
    own = {key: value for key, value in engine.items() if key[0] not in (TRADING, ROUNDING)}
    return [
        f"{account} {commodity}: the engine has {own.get(key, 0)}, Beancount {beancount.get(key, 0)}"
        for key in sorted(own.keys() | beancount.keys())
        for account, commodity in [key]
        if own.get(key, 0) != beancount.get(key, 0)
    ]


async def _import_twice(cluster: DemoCluster, source: Source, ledger: Path, say: Say) -> tuple[Imported, Killing]:
    async with connect(cluster.router) as channel:
        work = Import(source, ledger, channel, await read_ledgers(channel))
        killing = Killing(cluster.leader_pids, sum(map(len, work.plan.chains)))
        first = await work.run(PACE, killing)
        _check_first(first, killing, say)
        second = await work.run(SECOND_PACE, lambda _: None)
        _check_second(second, say)
        return Imported(first, second, await work.reader.balances()), killing


def _check_first(report: Report, killing: Killing, say: Say) -> None:
    report.require_clean()
    require(killing.is_over, ExitCode.CHECK_FAILED, "the import was over before every group's leader was killed")
    require(report.unknown_then_asked_again > 0, ExitCode.CHECK_FAILED, "the kill left no outcome unknown")
    for kill, failover_ms in zip(killing.kills, killing.failovers_ms, strict=True):
        say(
            f"killed the leader of group {kill.group} with {kill.in_flight} batches in flight, after "
            f"{kill.acknowledged} of {report.transfers} transfers; acknowledged again {failover_ms} ms later"
        )
    say(
        f"first import: {report.posted} posted; {report.unknown_then_asked_again} times an outcome was unknown and "
        f"asked again with the same id, {report.replayed} of them had been posted already"
    )
    say(
        f"{report.zero_postings_skipped} zero postings skipped; all {report.assertions} balance assertions hold at "
        "their dates"
    )


def _check_second(report: Report, say: Say) -> None:
    report.require_clean()
    unchanged = report.posted == 0 and report.accounts_created == 0 and report.replayed == report.transfers
    require(unchanged, ExitCode.CHECK_FAILED, f"the second import posted {report.posted} transfers; it must post none")
    say(f"second import: all {report.replayed} transfers REPLAYED, nothing posted")


def _verify(cluster: DemoCluster, say: Say) -> None:
    """Verify each stopped replica's folder; replicas at the same log index must have the same hash."""
    replicas = [(group.group, replica) for group in cluster.config.groups for replica in group.replicas]
    hashes: dict[int, dict[int, str]] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # its threads wait, each for a process of its own
        verified = pool.map(_verified, [replica.folder for _, replica in replicas])
        for (group, replica), found in zip(replicas, verified, strict=True):
            name = f"{group}-{replica.id}"
            require(not found.fault, ExitCode.CHECK_FAILED, f"verify of replica {name}: {found.fault}")
            of_group = hashes.setdefault(group, {})
            same = of_group.setdefault(found.log_index, found.hash) == found.hash
            require(same, ExitCode.HASH_DIVERGED, f"replica {name} differs at log index {found.log_index}")
            say(
                f"verify of replica {name}: {found.rows} journal rows up to log index "
                f"{found.log_index}, every outcome judged again, hash {found.hash[:16]}"
            )
    level = all(len(of_group) == 1 for of_group in hashes.values())
    require(level, ExitCode.CHECK_FAILED, "the replicas did not stop at the same log index")


class Verified(NamedTuple):
    """What `verify` found in a replica's folder."""

    fault: str
    """Its last words if something does not hold; the rest then means nothing."""
    log_index: int = 0
    rows: int = 0
    hash: str = ""


def _verified(folder: str) -> Verified:
    command = [sys.executable, "-m", "cli", "verify", folder, "--json"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, text=True, timeout=VERIFY_S_MAX
        )
    except subprocess.TimeoutExpired:
        return Verified(f"it was not through after {VERIFY_S_MAX} s: run it by itself on {folder}")
    if done.returncode != 0:
        return Verified((done.stderr.strip().splitlines() or ["it said nothing"])[-1])
    found = json.loads(done.stdout)
    return Verified("", found["log_index"], found["next_position"], found["hash"])
