"""`posting-engine router`: one router process."""

from pathlib import Path

import click

from cli.options import process_config_option
from engine.config import load_config
from engine.exit_codes import EngineStopped, ExitCode
from engine.rpc.logs import set_up_logs


@click.command()
@process_config_option
@click.option("--number", type=click.IntRange(0), default=0, show_default=True, help="Which router of the file.")
def router(config_path: Path, number: int) -> None:
    """Run one router in the foreground. It holds no state: SIGTERM stops it clean, and killing it loses nothing."""
    config = load_config(config_path)
    if number >= len(config.routers):
        raise EngineStopped(ExitCode.CONFIG_INVALID, f"{config_path} lists {len(config.routers)} routers, no {number}")
    # Imported here: `--help` must not wait for the compiled kernels.
    from engine.rpc.process import run_process  # noqa: PLC0415
    from router.server import run_router  # noqa: PLC0415

    set_up_logs({"cluster": config.cluster_id, "router": number})
    run_process(run_router(config, config.routers[number]))
