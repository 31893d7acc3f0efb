"""`python -m tests.simulation --seeds N --seed FIRST [--groups 3]`: the last line counts seeds and violations.

Without `--groups` the replicated log alone is simulated; with it that many shard groups, their routers and couriers.
`--both` runs the seeds of the one, then those of the other.
"""

import argparse
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from tests.simulation import scenario
from tests.simulation.faults import FAULTS
from tests.simulation.groups import scenario as groups_scenario
from tests.simulation.groups.faults import GROUP_FAULTS
from tests.simulation.history import Violation

STORY_LINES = 40
LOG_COUNTS = ("records acknowledged", "barrier reads", "leaders", "snapshots installed")
GROUP_COUNTS = ("chains told", "left unknown at first", "log records", "steps of chains", "crashes", "on real logs")


class Seed(NamedTuple):
    """What to run."""

    seed: int
    groups: int
    """0: the replicated log alone."""
    chaos_s: float | None
    fault: str | None
    focus: str | None

    @property
    def replay(self) -> str:
        """The command that runs just this again."""
        words = ["python -m tests.simulation --seeds 1", f"--seed {self.seed}"]
        named = {"groups": self.groups, "seconds": self.chaos_s, "fault": self.fault, "focus": self.focus}
        return " ".join([*words, *(f"--{name} {value}" for name, value in named.items() if value)])


class Verdict(NamedTuple):
    """One seed's end."""

    of: Seed
    violation: str | None
    story: tuple[str, ...]
    counts: tuple[int, ...]


def judge(one: Seed) -> Verdict:
    """Run one seed; a planted fault is active for its time."""
    logging.disable(logging.CRITICAL)
    with ExitStack() as planted:
        if one.fault is not None:
            planted.enter_context((GROUP_FAULTS if one.groups else FAULTS)[one.fault]())
        try:
            return _run_groups(one) if one.groups else _run_log(one)
        except Violation as violation:
            events = violation.history.events  # type: ignore[attr-defined]
            return Verdict(one, str(violation), tuple(events[-STORY_LINES:]), ())


def _run_log(one: Seed) -> Verdict:
    history = scenario.run_seed(one.seed, one.chaos_s or 4.0, one.focus)
    counts = (len(history.acknowledged), history.barriers, len(history.leaders), history.snapshots)
    return Verdict(one, None, (), counts)


def _run_groups(one: Seed) -> Verdict:
    shape = groups_scenario.shape_of(one.seed, one.groups, one.focus)
    story = groups_scenario.run_seed(one.seed, one.chaos_s or groups_scenario.CHAOS_S, shape)
    counts = (story.told, story.unknown, story.indexes, story.steps, story.crashes, int(story.raft))
    return Verdict(one, None, (), counts)


def tell(verdicts: Iterable[Verdict], names: tuple[str, ...]) -> int:
    """Tell each violation and how to see it again, and the sums; return how many there were."""
    began, seeds, bad, sums = time.monotonic(), 0, 0, [0] * len(names)
    for one in verdicts:
        seeds += 1
        sums = [count + more for count, more in zip(sums, one.counts or [0] * len(sums), strict=True)]
        if one.violation is not None:
            bad += 1
            print("\n".join(one.story))
            print(f"seed {one.of.seed}: {one.violation}")
            print(f"replay: {one.of.replay}", flush=True)
    rate = 60 * seeds / max(time.monotonic() - began, 1e-3)
    told = ", ".join(f"{count} {name}" for count, name in zip(sums, names, strict=True))
    print(f"{told}; {rate:.0f} seeds a minute", flush=True)
    return bad


def verdicts_of(work: list[Seed], jobs: int) -> Iterator[Verdict]:
    """Run seeds in so many processes; one by one in this process if that is one."""
    if jobs == 1:
        yield from map(judge, work)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap(judge, work)


def main() -> int:
    """Run the seeds, tell the violations, count."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seconds", type=float, help="virtual seconds of chaos in each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--groups", type=int, default=0, help="shard groups; without: the replicated log alone")
    parser.add_argument("--both", action="store_true", help="the replicated log alone first, then the groups")
    parser.add_argument("--fault", choices=sorted({**FAULTS, **GROUP_FAULTS}), help="plant it: it must be found")
    parser.add_argument(
        "--focus", choices=[*sorted(scenario.ACTIONS), "bodies", "refusals"], help="more of this misfortune"
    )
    options = parser.parse_args()
    jobs, bad = max(1, min(options.jobs, options.seeds)), 0
    kinds = [0] if not options.groups else [0, options.groups] if options.both else [options.groups]
    for groups in kinds:
        numbers = range(options.seed, options.seed + options.seeds)
        work = [Seed(number, groups, options.seconds, options.fault, options.focus) for number in numbers]
        bad += tell(verdicts_of(work, jobs), GROUP_COUNTS if groups else LOG_COUNTS)
    print(f"{options.seeds * len(kinds)} seeds, {bad} violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
