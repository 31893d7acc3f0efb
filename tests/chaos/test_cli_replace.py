"""A replica that lost its disk: refused under its old name, replaced by one command, whole again."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.exit_codes import ExitCode
from tests.chaos.processes import Cluster, run

WAIT_S_MAX = 120


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path / "cluster", replicas=3)
    made.start("a", "b", "c", "router")
    made.describe()
    yield made
    made.close()


def post(cluster: Cluster, number: int) -> None:
    asked = ("post", "name:a", "name:b", "1.00", "--id", str(number), "--server", cluster.router, "--deadline", "60")
    done = run(*asked, timeout_s=WAIT_S_MAX)
    assert done.returncode == 0, f"{done.stderr}\n{cluster.outputs()}"


def applied(cluster: Cluster) -> dict[str, int]:
    done = run("describe", "--server", cluster.router, "--json")
    groups = json.loads(done.stdout)["groups"] if done.returncode == 0 else []
    return {one["replica"]: one["applied_index"] for group in groups for one in group["replicas"] if not one["fault"]}


def test_a_lost_replica_is_replaced_by_one_command(cluster: Cluster) -> None:
    for name in ("a", "b"):
        made = run(
            "accounts", "create", f"name:{name}", "--ledger", "EUR", "--server", cluster.router, "--deadline", "60"
        )
        assert made.returncode == 0, made.stderr
    post(cluster, 1)
    cluster.kill("b")
    shutil.rmtree(cluster.data_folder("b"))
    cluster.start("b")
    assert cluster.running.pop("b").wait(WAIT_S_MAX) == ExitCode.DATA_MISSING, cluster.outputs()
    post(cluster, 2)

    shutil.rmtree(cluster.data_folder("b"))
    command = ("replace", "--config", str(cluster.path), "--replica", "b")
    replaced = run(*command)
    assert replaced.returncode == 0, replaced.stderr
    assert run(*command).returncode == ExitCode.REFUSED  # the folder is no longer empty
    cluster.start("b")
    post(cluster, 3)
    deadline = time.monotonic() + WAIT_S_MAX
    while len(found := applied(cluster)) < 3 or len(set(found.values())) > 1:
        assert time.monotonic() < deadline, f"{found}\n{cluster.outputs()}"
        time.sleep(0.2)
    assert cluster.stop("router", "a", "b", "c") == [0, 0, 0, 0], cluster.outputs()
    assert cluster.verify(["a", "b", "c"]) == []
