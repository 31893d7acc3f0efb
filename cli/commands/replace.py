"""`posting-engine replace`: make an empty data folder the successor of a lost replica's."""

from pathlib import Path

import click

from cli.options import process_config_option
from engine.config import group_config, load_config, replica_config
from engine.exit_codes import EngineStopped, ExitCode


@click.command()
@process_config_option
@click.option("--group", type=click.IntRange(0), default=0, show_default=True, help="The group.")
@click.option("--replica", required=True, help="The replica whose data folder is lost.")
def replace(config_path: Path, group: int, replica: str) -> None:
    """Make the empty data folder of a replica the successor of the one that was lost.

    Only where the old folder is gone for good, and the group's other replicas are there. The replica then joins as a
    learner and gets everything from the leader; until it has it all, it neither votes nor counts. A folder that holds
    anything is refused.
    """
    config = load_config(config_path)
    section = replica_config(config, group, replica)
    replicas = tuple(one.id for one in group_config(config, group).replicas)
    if len(replicas) == 1:
        message = f"group {group} has one replica: nothing can stand in for its data, restore the folder from a backup"
        raise EngineStopped(ExitCode.REFUSED, message)
    folder = Path(section.folder)
    if folder.exists() and any(folder.iterdir()):
        raise EngineStopped(ExitCode.REFUSED, f"{folder} is not empty: replace needs an empty folder, name another one")
    # Imported here: `--help` must not wait for the compiled kernels.
    from engine.replication.raft.boot import Placement, prepare_replacement  # noqa: PLC0415
    from engine.service.group_log import LOG_FOLDER  # noqa: PLC0415

    (folder / LOG_FOLDER).mkdir(parents=True)
    prepare_replacement(Placement(config.cluster_id, group, replica, replicas), folder / LOG_FOLDER)
    click.echo(f"{folder} stands in for the lost folder of replica {replica}: start the node now.")
