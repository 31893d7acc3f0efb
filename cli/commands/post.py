"""`posting-engine post`: one transfer."""

import re
import secrets
import time
from typing import Final

import click

from cli.accounts import ledger_of
from cli.amounts import parse_amount
from cli.ids import id_text
from cli.options import ID, TIME, with_server
from cli.output import json_option, print_json
from cli.refusals import refused_transfer
from cli.server import LedgerInfo, Server, fault_sentence, to_uint128
from cli.times import time_text
from engine.core.records import AMOUNT_ALL
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.outcome_pb2 import Outcome
from postingengine.v1.posting_service_pb2 import PostTransfersRequest
from postingengine.v1.transfer_pb2 import Transfer, TransferFlag, TransferKind, TransferResult

FOLLOWER_KINDS: Final = {
    "commit": TransferKind.TRANSFER_KIND_COMMIT,
    "release": TransferKind.TRANSFER_KIND_RELEASE,
    "reverse": TransferKind.TRANSFER_KIND_REVERSE,
}
CODE_MAX: Final = (1 << 16) - 1
TIMEOUT_S_MAX: Final = (1 << 32) - 1
ALL: Final = "all"
NEGATIVE: Final = re.compile(r"-[0-9.]+")


class _WithAmount(click.Command):
    """Takes a negative amount for what it is, not for an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse a negative number with a sentence of its own."""
        for text in args:
            if NEGATIVE.fullmatch(text):
                words = f"{text} is negative: to move money back, swap DEBIT and CREDIT, or use --reverse"
                raise click.BadParameter(words, ctx=ctx, param_hint="AMOUNT")
        return super().parse_args(ctx, args)


@click.command(cls=_WithAmount)
@click.argument("debit", type=ID)
@click.argument("credit", type=ID)
@click.argument("amount")
@click.option("--id", "transfer_id", type=ID, help="The idempotency key. Default: a new one, printed.")
@click.option("--reserve", is_flag=True, help="Hold the amount instead of posting it.")
@click.option("--timeout", type=click.IntRange(0, TIMEOUT_S_MAX), default=0, help="With --reserve: seconds; 0 never.")
@click.option("--commit", type=ID, help="Commit this reservation, AMOUNT of it or `all`.")
@click.option("--release", type=ID, help="Release this reservation; AMOUNT is 0.")
@click.option("--reverse", type=ID, help="Move AMOUNT of this transfer back; the accounts are in its own order.")
@click.option("--keep-rest", is_flag=True, help="With --commit: what is left stays reserved.")
@click.option("--force", is_flag=True, help="Skip limits; for those who may.")
@click.option("--effective", "effective_at_ns", type=TIME, default=0, help="The business date or time, UTC.")
@click.option("--code", type=click.IntRange(0, CODE_MAX), default=0, help="The reason, as you define it.")
@click.option("--reference", type=ID, help="Your business key.")
@json_option
@with_server
def post(
    server: Server,
    debit: bytes,
    credit: bytes,
    amount: str,
    transfer_id: bytes | None,
    reserve: bool,
    timeout: int,
    keep_rest: bool,
    force: bool,
    effective_at_ns: int,
    code: int,
    reference: bytes | None,
    as_json: bool,
    **followed: bytes | None,
) -> None:
    """Move AMOUNT, in units of their ledger, from the account DEBIT to the account CREDIT.

    After a failure, post again with the --id that was printed: the money moves once, whatever happened before.
    """
    ledger = server.ledgers[ledger_of(server, debit)]
    kind, follows = _kind(reserve, followed)
    asked = Transfer(
        id=transfer_id or new_id(),
        debit_account=debit,
        credit_account=credit,
        amount=to_uint128(_amount(amount, kind, ledger)),
        ledger=ledger.number,
        kind=kind,
        flags=_flags(keep_rest, force),
        followed=follows,
        reference=reference or b"",
        code=code,
        timeout_s=timeout,
        effective_at=effective_at_ns,
    )
    if transfer_id is None and not as_json:
        click.echo(f"id {id_text(asked.id)}", err=True)
    answer = server.ask(server.posting.PostTransfers, PostTransfersRequest(transfers=[asked]))
    _tell(answer.results[0], asked.id, as_json=as_json)


def new_id() -> bytes:
    """Return a fresh time-ordered id: 48 bits of milliseconds, then random bits (UUID version 7, RFC 9562)."""
    value = bytearray((time.time_ns() // 1_000_000).to_bytes(6, "big") + secrets.token_bytes(10))
    value[6] = (value[6] & 0x0F) | 0x70
    value[8] = (value[8] & 0x3F) | 0x80
    return bytes(value)


def _kind(reserve: bool, followed: dict[str, bytes | None]) -> tuple[TransferKind, bytes]:
    """Return the kind and the followed id of at most one of the options that say so."""
    named = [(FOLLOWER_KINDS[name], value) for name, value in followed.items() if value is not None]
    if len(named) + reserve > 1:
        raise click.UsageError("Name one of --reserve, --commit, --release and --reverse.")
    if named:
        return named[0]
    return (TransferKind.TRANSFER_KIND_RESERVE if reserve else TransferKind.TRANSFER_KIND_POST), b""


def _amount(text: str, kind: TransferKind, ledger: LedgerInfo) -> int:
    if kind == TransferKind.TRANSFER_KIND_RELEASE:
        if text.strip("0.") != "":
            raise click.BadParameter("a release gives back all that is left: write 0", param_hint="AMOUNT")
        return 0
    if kind == TransferKind.TRANSFER_KIND_COMMIT and text == ALL:
        return AMOUNT_ALL
    try:
        return parse_amount(text, ledger.scale)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="AMOUNT") from error


def _flags(keep_rest: bool, force: bool) -> list[TransferFlag]:
    flags = {TransferFlag.TRANSFER_FLAG_KEEP_REST: keep_rest, TransferFlag.TRANSFER_FLAG_FORCE: force}
    return [flag for flag, wanted in flags.items() if wanted]


def _tell(result: TransferResult, transfer_id: bytes, *, as_json: bool) -> None:
    """Print the outcome; raise `EngineStopped` for anything but POSTED."""
    if result.HasField("fault"):
        raise EngineStopped(ExitCode.REFUSED, fault_sentence(result.fault))
    name = Outcome.Name(result.outcome).removeprefix("OUTCOME_")
    if as_json:
        print_json(
            {
                "id": id_text(transfer_id),
                "outcome": name,
                "replayed": result.replayed,
                "in_flight": result.in_flight,
                "timestamp": time_text(result.timestamp),
                "group": result.group,
                "position": result.position if result.HasField("position") else None,
            }
        )
    else:
        click.echo(f"{id_text(transfer_id)}: {name}{' (replayed)' if result.replayed else ''}")
    if result.outcome != Outcome.OUTCOME_POSTED:
        raise refused_transfer(transfer_id, result.outcome)
