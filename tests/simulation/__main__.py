"""`python -m tests.simulation --seeds N --seed FIRST`: the last line counts seeds and violations."""

import argparse
import logging
import multiprocessing
import os
import sys
import time
from contextlib import ExitStack
from typing import NamedTuple

from tests.simulation.faults import FAULTS
from tests.simulation.history import History, Violation
from tests.simulation.scenario import ACTIONS, run_seed

STORY_LINES = 40


class Verdict(NamedTuple):
    """One seed's end."""

    seed: int
    violation: str | None
    story: tuple[str, ...]
    acknowledged: int
    barriers: int
    leaders: int
    snapshots: int


def judge(arguments: tuple[int, float, str | None, str | None]) -> Verdict:
    """Run one seed; a planted fault is active for its time."""
    seed, chaos_s, fault, focus = arguments
    logging.disable(logging.CRITICAL)
    with ExitStack() as planted:
        if fault is not None:
            planted.enter_context(FAULTS[fault]())
        try:
            return verdict(seed, None, run_seed(seed, chaos_s, focus))
        except Violation as violation:
            return verdict(seed, str(violation), violation.history)  # type: ignore[attr-defined]


def verdict(seed: int, violation: str | None, history: History) -> Verdict:
    """What the caller's process needs of a history."""
    story = tuple(history.events[-STORY_LINES:]) if violation else ()
    return Verdict(
        seed, violation, story, len(history.acknowledged), history.barriers, len(history.leaders), history.snapshots
    )


def main() -> int:
    """Run the seeds, tell the violations, count."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many")
    parser.add_argument("--seed", type=int, default=1, help="the first")
    parser.add_argument("--seconds", type=float, default=4.0, help="virtual seconds of chaos in each")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--fault", choices=sorted(FAULTS), help="plant this fault: the simulation must find it")
    parser.add_argument("--focus", choices=sorted(ACTIONS), help="more of this misfortune")
    options = parser.parse_args()
    jobs = min(options.jobs, options.seeds)
    began = time.monotonic()
    work = [
        (seed, options.seconds, options.fault, options.focus)
        for seed in range(options.seed, options.seed + options.seeds)
    ]
    bad, counts = 0, [0, 0, 0, 0]
    with multiprocessing.Pool(jobs) if jobs > 1 else ExitStack() as pool:
        verdicts = pool.imap(judge, work) if hasattr(pool, "imap") else map(judge, work)
        for one in verdicts:
            counts = [count + more for count, more in zip(counts, one[3:], strict=True)]
            if one.violation is not None:
                bad += 1
                print("\n".join(one.story))
                fault = f" --fault {options.fault}" if options.fault else ""
                fault += f" --focus {options.focus}" if options.focus else ""
                print(f"seed {one.seed}: {one.violation}")
                print(
                    f"replay: python -m tests.simulation --seeds 1 --seed {one.seed} --seconds {options.seconds}{fault}"
                )
    elapsed = time.monotonic() - began
    print(
        "{} records acknowledged, {} barrier reads, {} leaders, {} snapshots installed; ".format(*counts)
        + f"{60 * options.seeds / elapsed:.0f} seeds a minute"
    )
    print(f"{options.seeds} seeds, {bad} violations")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
