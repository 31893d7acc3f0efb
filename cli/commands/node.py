"""`posting-engine node`: one replica's process."""

from pathlib import Path

import click

from cli.options import process_config_option
from engine.config import load_config
from engine.rpc.logs import set_up_logs


@click.command()
@process_config_option
@click.option("--group", type=click.IntRange(0), default=0, show_default=True, help="The group.")
@click.option("--replica", required=True, help="The replica's name in that group.")
def node(config_path: Path, group: int, replica: str) -> None:
    """Run one replica in the foreground. SIGTERM lets it finish what it admitted, and stops it clean."""
    config = load_config(config_path)
    # Imported here: `--help` must not wait for the compiled kernels.
    from engine.rpc.process import run_process  # noqa: PLC0415
    from engine.service.node import run_node  # noqa: PLC0415

    set_up_logs({"cluster": config.cluster_id, "group": group, "replica": replica})
    run_process(run_node(config, group, replica))
