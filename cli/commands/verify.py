"""`posting-engine verify`: check a stopped replica's data folder, offline, from its first record."""

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from cli.output import json_option, print_json

if TYPE_CHECKING:
    from engine.storage.verify.report import Noted, Report

HASH_DIGITS: Final = 64


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option(
    "--head",
    metavar="LOG_INDEX:HASH",
    help="A state hash noted earlier, as `audit` shows it: the journal must still contain it.",
)
@click.option(
    "--outcomes/--no-outcomes",
    default=True,
    help="Judge every outcome again by the plain rules: about 50 µs and 2 KB of memory a transfer.",
)
@json_option
def verify(folder: Path, head: str | None, outcomes: bool, as_json: bool) -> None:
    """Check a replica's data folder: hashes, every outcome, every balance, every index, every record of its log.

    FOLDER is the one that cluster.yml names for the replica; no process may have it open. Nothing is changed. Ends with
    DATA_DAMAGED for bytes that are not what they were, with CHECK_FAILED for anything that does not follow from the
    journal.
    """
    noted = _noted(head) if head else None
    # Imported here: `--help` must not wait for the compiled kernels.
    from engine.replication.inspection import inspect_log  # noqa: PLC0415
    from engine.service.group_log import LOG_FOLDER  # noqa: PLC0415
    from engine.storage.verify.verify import verify as verify_folder  # noqa: PLC0415

    report = verify_folder(folder, noted=noted, outcomes=outcomes)
    log = inspect_log(folder / LOG_FOLDER, report.head.log_index)
    if as_json:
        print_json(_json(report) | {"log": log._asdict()})
    else:
        click.echo(report.sentence())
        click.echo(f"the log's records {log.first_index} to {log.last_index} are sound, up to term {log.term}")


def _noted(text: str) -> "Noted":
    from engine.storage.verify.report import Noted  # noqa: PLC0415

    index, _, digest = text.partition(":")
    try:
        value = bytes.fromhex(digest)
    except ValueError:
        value = b""
    if not index.isdecimal() or len(value) * 2 != HASH_DIGITS:
        raise click.BadParameter(f"{text!r} is not a log index, a colon and {HASH_DIGITS} hexadecimal digits")
    return Noted(int(index), value)


def _json(report: "Report") -> dict[str, object]:
    return {
        "log_index": report.head.log_index,
        "next_position": report.head.next_position,
        "hash": report.head.hash.hex(),
        "blocks": report.blocks,
        "accounts": report.accounts,
        "open_reservations": report.open_reservations,
        "outcomes_judged": report.outcomes_judged,
        "checkpoint_position": report.checkpoint_position,
        "id_runs_position": report.id_runs_position,
        "views_position": report.views_position,
        "elapsed_s": round(report.elapsed_s, 3),
        "ledgers": [one._asdict() for one in report.ledgers],
    }
