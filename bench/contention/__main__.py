"""`make bench-contention`: one JSON line that says what contention costs on this machine, and a page with plots.

The mixes run in turn on one cluster and are told as ratios to the uniform mix; a payroll runs beside live payments,
open loop; one funded account is spent to zero by many callers. After each of them every balance is compared with what
the answers add up to: figures of a run that lost or doubled a cent are void.

What was measured before accounts were split has the ending `_without_buckets`; then the account of the fees and the one
that pays everybody are split, and the hot mixes run again. The drain runs on a cluster of its own, of many groups.
"""

import argparse
import asyncio
import gc
import json
import sys
import tempfile
from pathlib import Path
from typing import Final

import numpy as np

from bench.bulk import open_stub
from bench.cluster import BenchCluster, running_cluster
from bench.contention.accounts import FEES, PAYER, PURSE, cast_of, create, split
from bench.contention.books import Books
from bench.contention.checks import Moved, Verdict, check
from bench.contention.drain import Drained, drain
from bench.contention.figures import HOT, drain_figures, payroll_figures, ratio_figures
from bench.contention.journals import Journals
from bench.contention.mixes import Mix, Shares
from bench.contention.page import page
from bench.contention.payroll import Payroll, PayrollOptions, PayrollRun
from bench.contention.ratios import UNIFORM, RatioOptions, Ratios, Rounds
from bench.contention.sending import Sender
from bench.machine import MachineRun
from bench.options import at_least, parser_of, share

MIXES: Final = (UNIFORM, "zipf", "hot-credit", "hot-debit-limited")
WORKLOADS: Final = (*MIXES, "payroll", "drain")
DRAIN_ACCOUNTS: Final = 200
LIVE_SAMPLES_MIN: Final = 10_000


def main() -> None:
    """Run the workloads, write the report, and print its one line."""
    options, machine = _options(), MachineRun()
    with (
        tempfile.TemporaryDirectory(prefix="bench-contention-") as name,
        running_cluster(Path(name), replicas=options.replicas, groups=options.groups) as cluster,
    ):
        figures, ratios, payroll = asyncio.run(_run(cluster, options))
    if "drain" in options.workloads and options.buckets > 1:
        figures |= _drain_of_buckets(options)
    figures = machine.figures() | figures
    folder = Path(options.report)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "contention.json").write_text(json.dumps(figures) + "\n")
    (folder / "contention.html").write_text(page(figures, vars(options), ratios, payroll))
    print(f"the plots are in {folder / 'contention.html'}", file=sys.stderr)
    print(json.dumps(figures))
    if figures["differences"] or not figures["books_balanced"]:
        sys.exit("the balances differ from the answers: the figures above are void")


def _drain_of_buckets(options: argparse.Namespace) -> dict[str, object]:
    """Drain a split account on a cluster of its own, of as many groups as it has buckets."""
    with (
        tempfile.TemporaryDirectory(prefix="bench-drain-") as name,
        running_cluster(Path(name), replicas=1, groups=options.buckets) as cluster,
    ):
        drained, verdict = asyncio.run(_drain_split(cluster, options))
    if verdict.differences or not verdict.balanced:
        sys.exit("the balances of the drain differ from the answers: its figures are void")
    return {"drain_buckets": options.buckets, **drain_figures(drained, without=False)}


async def _drain_split(cluster: BenchCluster, options: argparse.Namespace) -> tuple[Drained, Verdict]:
    cast = cast_of(cluster, ordinary=DRAIN_ACCOUNTS, employees=0, seed=options.seed)
    channel, stub = open_stub(cluster.router)
    async with channel:
        await create(stub, cast)
    await split(cluster.router, [cast.ids[PURSE].tobytes()], options.buckets)
    rng, sender, moved = np.random.default_rng(options.seed), Sender(cluster.router), Moved(cast.ids)
    books = Books(cluster.router, options.buckets)
    mix = Mix(cast, Shares(0.0, -1.0, 0.0, options.zipf_exponent), rng)
    drained = await drain(sender, cast, mix, moved, money=options.drain_money)
    verdict = await check(cluster.router, books, moved)
    await sender.close()
    await books.close()
    return drained, verdict


async def _run(
    cluster: BenchCluster, options: argparse.Namespace
) -> tuple[dict[str, object], Ratios | None, Payroll | None]:
    employees = options.employees if "payroll" in options.workloads else 0
    cast = cast_of(cluster, ordinary=options.accounts, employees=employees, seed=options.seed)
    channel, stub = open_stub(cluster.router)
    async with channel:
        await create(stub, cast)
    shares = Shares(options.cross_share, options.hot_cross_share, options.holds_share, options.zipf_exponent)
    mix, moved, sender = Mix(cast, shares, np.random.default_rng(options.seed)), Moved(cast.ids), Sender(cluster.router)
    gc.freeze()
    books, journals = Books(cluster.router, options.groups), Journals(cluster.metrics)
    wanted, ratios, payroll, verdicts = options.workloads, None, None, list[Verdict]()
    figures: dict[str, object] = {name: getattr(options, name) for name in ("groups", "replicas", "seed")}
    if set(wanted) & set(MIXES):
        ratios = await Rounds(sender, books, journals, mix, moved, _ratio_options(options)).run()
        figures |= ratio_figures(ratios)
        verdicts.append(await check(cluster.router, books, moved))
    hot = tuple(name for name in HOT if name in wanted)
    if hot and options.groups > 1:
        await split(cluster.router, [cast.ids[number].tobytes() for number in (FEES, PAYER)], options.groups)
        measured = _ratio_options(options)._replace(mixes=hot)
        again = await Rounds(sender, books, journals, mix, moved, measured).run()
        figures |= ratio_figures(again, without=False)
        verdicts.append(await check(cluster.router, books, moved))
    if "payroll" in wanted:
        payroll = await PayrollRun(sender, cast, mix, moved, _payroll_options(options), options.seed).run()
        figures |= payroll_figures(payroll)
        verdicts.append(await check(cluster.router, books, moved))
    if "drain" in wanted:
        figures |= drain_figures(await drain(sender, cast, mix, moved, money=options.drain_money))
        verdicts.append(await check(cluster.router, books, moved))
    await sender.close()
    await books.close()
    figures["differences"] = sum(one.differences for one in verdicts)
    figures["books_balanced"] = all(one.balanced for one in verdicts)
    return figures, ratios, payroll


def _ratio_options(options: argparse.Namespace) -> RatioOptions:
    mixes = tuple(name for name in MIXES if name in options.workloads and name != UNIFORM)
    return RatioOptions(mixes, options.rounds, options.slice_s, options.batch, options.in_flight, options.rate)


def _payroll_options(options: argparse.Namespace) -> PayrollOptions:
    needed_s = LIVE_SAMPLES_MIN / options.live_rate
    if min(options.phase_s, options.payroll_s) < needed_s:
        print(f"note: below {needed_s:.0f} s a phase has fewer than {LIVE_SAMPLES_MIN} live samples", file=sys.stderr)
    return PayrollOptions(
        options.live_rate,
        options.payroll_rate,
        options.phase_s,
        options.payroll_s,
        options.cards_share,
        max(0.0, options.cross_share),
        options.capture_s,
        options.in_flight,
    )


def _options() -> argparse.Namespace:
    parser = parser_of("bench.contention", __doc__)
    parser.add_argument(
        "--workloads", type=_workloads, default=",".join(WORKLOADS), help="some of these, with commas between"
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="of accounts, amounts and pairs: equal seeds post equal transfers"
    )
    parser.add_argument("--groups", type=at_least(1), default=2, help="shard groups")
    parser.add_argument("--replicas", type=at_least(1), default=1, help="of each group")
    parser.add_argument("--accounts", type=at_least(2), default=10_000, help="ordinary accounts of the mixes")
    parser.add_argument("--report", default=".build/bench", help="folder for the JSON line and the page")
    mixes = parser.add_argument_group("mixes")
    mixes.add_argument("--rounds", type=at_least(1), default=6, help="each mix runs once in each")
    mixes.add_argument("--slice-s", type=float, default=1.2, help="seconds that a mix runs in each round, about")
    mixes.add_argument("--batch", type=at_least(1), default=8190, help="rows of a call")
    mixes.add_argument("--in-flight", type=at_least(1), default=4, help="calls at a time")
    mixes.add_argument("--rate", type=float, default=0.0, help="rows a second; 0: as fast as they go")
    mixes.add_argument(
        "--cross-share", type=share, default=0.0, help="share of ordinary transfers and live payments that cross groups"
    )
    mixes.add_argument(
        "--hot-cross-share", type=share, default=-1.0, help="the same of hot ones; below 0: as it happens"
    )
    mixes.add_argument(
        "--holds-share", type=share, default=0.0, help="share of local transfers: reserved, then committed"
    )
    mixes.add_argument("--zipf-exponent", type=float, default=1.1, help="of the mix zipf: the larger, the hotter")
    payroll = parser.add_argument_group("payroll")
    payroll.add_argument("--employees", type=at_least(1), default=60_000, help="wages of one payroll")
    payroll.add_argument("--live-rate", type=float, default=450.0, help="live payments a second")
    payroll.add_argument("--payroll-rate", type=float, default=20_000.0, help="wages a second")
    payroll.add_argument("--phase-s", type=float, default=24.0, help="seconds before and after")
    payroll.add_argument("--payroll-s", type=float, default=32.0, help="seconds of payrolls on end")
    payroll.add_argument(
        "--cards-share", type=share, default=0.5, help="share of payers with a reservation and its capture"
    )
    payroll.add_argument("--capture-s", type=float, default=1.0, help="seconds from a reservation to its capture")
    parser.add_argument(
        "--buckets", type=at_least(1), default=16, help="groups of the drain of a split account; 1: none"
    )
    parser.add_argument("--drain-money", type=at_least(1), default=2000, help="what 64 callers spend, one by one")
    return parser.parse_args()


def _workloads(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = sorted(set(names) - set(WORKLOADS))
    if unknown:
        raise argparse.ArgumentTypeError(f"no workload {unknown[0]}; choose of {','.join(WORKLOADS)}")
    return names


if __name__ == "__main__":
    main()
