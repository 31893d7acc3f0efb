"""The client is light: what upstream services install pulls in none of the engine's libraries."""

import subprocess
import sys

HEAVY = ("numpy", "numba", "lmdb", "pysyncobj", "msgspec", "uvloop", "click", "engine", "router", "cli", "pytest")


def test_importing_the_client_pulls_in_nothing_heavy() -> None:
    script = f"import postingengine, postingengine.testing, sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_pytest_plugin_leaves_grpc_alone_until_the_fixture_is_used() -> None:
    script = "import postingengine_pytest, sys; print('grpc' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "False"
