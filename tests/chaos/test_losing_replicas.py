"""What docs/operating/losing-replicas.md says of replicas that are away, done step by step."""

import json
import shutil
import subprocess
import time
from pathlib import Path

from engine.exit_codes import ExitCode
from tests.chaos.processes import START_S_MAX, run
from tests.chaos.whole_group import WholeGroup

ACCOUNTS = ("name:payer", "name:payee")
PATIENCE_S = "120"
IMPATIENCE_S = "2"


def ask(cluster: WholeGroup, *words: str, deadline_s: str = PATIENCE_S) -> "subprocess.CompletedProcess[str]":
    return run(*words, "--server", cluster.router, "--deadline", deadline_s, timeout_s=180)


def post(cluster: WholeGroup, number: int, deadline_s: str = PATIENCE_S) -> "subprocess.CompletedProcess[str]":
    return ask(cluster, "post", *ACCOUNTS, "1.00", "--id", str(number), deadline_s=deadline_s)


def paid(cluster: WholeGroup, *options: str) -> int:
    """Return the payee's balance in minor units."""
    done = ask(cluster, "balance", ACCOUNTS[1], "--json", *options)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)[0]["balance"])


def age_ms(cluster: WholeGroup) -> int:
    """Return how old a stale read says that it is."""
    done = ask(cluster, "balance", ACCOUNTS[1], "--json", "--stale")
    return int(json.loads(done.stdout)[0]["read_at"]["stale_ms"])


def until_deposed(cluster: WholeGroup) -> None:
    """Until the replica that is left leads no more: if it did, its reads have no age before it knows itself alone."""
    deadline = time.monotonic() + START_S_MAX
    while not age_ms(cluster):
        assert time.monotonic() < deadline, cluster.outputs()


def test_one_two_and_all_replicas_away(cluster: WholeGroup, tmp_path: Path) -> None:
    for name in ACCOUNTS:
        assert ask(cluster, "accounts", "create", name, "--ledger", "EUR").returncode == 0
    assert post(cluster, 1).returncode == 0

    first = cluster.leader()
    cluster.kill(first)  # one away: everything works
    assert post(cluster, 2).returncode == 0
    assert paid(cluster) == 200

    others = [name for name in cluster.replicas if name != first]
    cluster.kill(others[0])  # two away: stale reads, nothing else
    refused = post(cluster, 3, IMPATIENCE_S)
    assert refused.returncode in {ExitCode.UNREACHABLE, ExitCode.REFUSED}, refused
    assert paid(cluster, "--stale") == 200
    until_deposed(cluster)
    assert 0 < age_ms(cluster) < age_ms(cluster)  # older each time: nobody tells it what else is committed
    assert ask(cluster, "balance", ACCOUNTS[1], deadline_s=IMPATIENCE_S).returncode != 0

    cluster.start(first)  # one of them is back: the same id is asked again
    assert post(cluster, 3).returncode == 0
    assert paid(cluster) == 300

    cluster.kill(first, others[1])  # all away, then started
    cluster.start(*cluster.replicas)
    assert post(cluster, 3).returncode == 0
    assert paid(cluster) == 300

    cluster.until_level()
    assert cluster.stop("router", *cluster.replicas) == [0, 0, 0, 0], cluster.outputs()
    assert len(cluster.heads()) == 1


def test_a_backup_of_all_three_is_put_back(cluster: WholeGroup, tmp_path: Path) -> None:
    for name in ACCOUNTS:
        assert ask(cluster, "accounts", "create", name, "--ledger", "EUR").returncode == 0
    assert post(cluster, 1).returncode == 0
    cluster.until_level()
    assert cluster.stop(*cluster.replicas) == [0, 0, 0], cluster.outputs()
    for name in cluster.replicas:
        shutil.copytree(cluster.data_folder(name), tmp_path / name)
    assert run("verify", str(tmp_path / "b")).returncode == 0

    cluster.start(*cluster.replicas)
    assert post(cluster, 2).returncode == 0
    cluster.kill(*cluster.replicas)
    for name in cluster.replicas:  # all lost
        shutil.rmtree(cluster.data_folder(name))
        shutil.copytree(tmp_path / name, cluster.data_folder(name))
    cluster.start(*cluster.replicas)
    assert paid(cluster) == 100
    assert post(cluster, 2).returncode == 0
    assert paid(cluster) == 200
