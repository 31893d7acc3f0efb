"""Processes made by the fork server: whole ones, with an end that is told, and none that outlives it."""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.children import Child
from cli.fork_server.client import ForkServer
from cli.fork_server.forked import Forked, fork
from engine.exit_codes import EngineStopped, ExitCode

WAITS_S_MAX = 60
VERSION = ["--version"]
NO_SUCH_FILE = ["node", "--config", "nowhere.yml", "--replica", "a"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ForkServer]:
    made = ForkServer(tmp_path / "fork-server.log")
    yield made
    made.close()


def of_server(server: ForkServer) -> int:
    assert server._process is not None
    return server._process.pid


async def ended(server: ForkServer, arguments: list[str], output: Path) -> int:
    async with asyncio.timeout(WAITS_S_MAX):
        return await (await fork(server, arguments, output)).wait()


async def test_a_fork_runs_the_command_adds_to_its_output_and_its_exit_status_is_told(
    server: ForkServer, tmp_path: Path
) -> None:
    output = tmp_path / "output.log"
    output.write_text("before\n")
    assert await ended(server, VERSION, output) == ExitCode.OK
    assert await ended(server, NO_SUCH_FILE, output) == ExitCode.CONFIG_INVALID
    first, second, third = output.read_text().splitlines()
    assert (first, "version" in second, "nowhere.yml" in third) == ("before", True, True)


async def test_a_killed_fork_is_told_of_with_its_signal_and_others_go_on(
    server: ForkServer, serving: list[str], tmp_path: Path
) -> None:
    async with asyncio.timeout(WAITS_S_MAX):
        one, other = [
            await fork(server, [*serving, "--number", str(number)], tmp_path / f"{number}.log") for number in range(2)
        ]
        one.send_signal(signal.SIGKILL)
        assert await one.wait() == -signal.SIGKILL
        one.send_signal(signal.SIGKILL)
        os.kill(other.pid, 0)
        while "posting-engine router --config" not in Path(f"/proc/{other.pid}/cmdline").read_text():
            await asyncio.sleep(0.02)
        assert (other.returncode, os.getsid(other.pid)) == (None, other.pid)
        other.send_signal(signal.SIGKILL)
        assert await other.wait() == -signal.SIGKILL


async def test_forks_end_with_the_fork_server_and_another_one_makes_them_anew(
    server: ForkServer, serving: list[str], tmp_path: Path
) -> None:
    statuses: list[int] = []

    async def launch(command: list[str], log: Path) -> Forked:
        return await fork(server, command, log)

    child = Child("router", serving, group=None, address="", log=tmp_path / "router.log", launch=launch)
    child.start(lambda _, status: statuses.append(status))
    async with asyncio.timeout(WAITS_S_MAX):
        first = await another_pid(child, None)
        os.kill(of_server(server), signal.SIGKILL)
        await another_pid(child, first)
        with pytest.raises(ProcessLookupError):
            os.kill(first, 0)
    assert statuses[0] == -signal.SIGTERM
    await child.stop(WAITS_S_MAX)


async def test_a_fork_server_that_cannot_start_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHOME", str(tmp_path))
    broken = ForkServer(tmp_path / "fork-server.log")
    with pytest.raises(ConnectionError, match="see fork-server"):
        await asyncio.wait_for(fork(broken, VERSION, tmp_path / "output.log"), WAITS_S_MAX)
    assert (tmp_path / "fork-server.log").stat().st_size
    broken.close()


async def test_a_fork_server_that_ends_before_it_is_asked_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = ForkServer(tmp_path / "fork-server.log")

    def ended(_: object) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(broken, "ask", ended)
    with pytest.raises(ConnectionError, match="see fork-server"):
        await fork(broken, VERSION, tmp_path / "output.log")


def test_a_request_over_the_limit_is_refused(server: ForkServer) -> None:
    with pytest.raises(EngineStopped, match="too long"):
        asyncio.run(fork(server, ["x" * 70_000], Path("output.log")))


@pytest.fixture
def serving(tmp_path: Path) -> list[str]:
    """Arguments of a process that does not end by itself: a router, the first of two, whose group never answers."""
    from tests.chaos.processes import run  # noqa: PLC0415

    assert run("init", "--folder", str(tmp_path), "--replicas", "1", "--routers", "2").returncode == 0
    return ["router", "--config", str(tmp_path / "cluster.yml")]


async def another_pid(child: Child, than: int | None) -> int:
    while child.pid in (None, than):
        await asyncio.sleep(0.02)
    assert child.pid is not None
    return child.pid
