"""`posting-engine accounts`: create, show and update accounts."""

import secrets
from typing import Final

import click

from cli.accounts import print_accounts, read_accounts
from cli.amounts import parse_amount
from cli.ids import id_text
from cli.options import ID, with_server
from cli.output import json_option, print_json
from cli.refusals import refused_command
from cli.server import Server, fault_sentence, to_uint128
from cli.times import time_text
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.account_pb2 import Account, AccountFlag, AccountResult, AccountUpdate
from postingengine.v1.outcome_pb2 import Outcome
from postingengine.v1.posting_service_pb2 import CreateAccountsRequest, UpdateAccountsRequest

LIMITS: Final = {
    "debits": AccountFlag.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS,
    "credits": AccountFlag.ACCOUNT_FLAG_CREDITS_MUST_NOT_EXCEED_DEBITS,
}
CODE_MAX: Final = (1 << 16) - 1
OUTCOME_PREFIX: Final = "OUTCOME_"


@click.group()
def accounts() -> None:
    """Create, show and update accounts."""


@accounts.command()
@click.argument("account", type=ID)
@click.option("--ledger", required=True, help="The ledger's code or number.")
@click.option("--limit", type=click.Choice(list(LIMITS)), help="The side that must not exceed the other.")
@click.option("--overdraft", help="How far below zero a limited account may go, in units of the ledger.")
@click.option("--code", type=click.IntRange(0, CODE_MAX), default=0, help="Chart of accounts, as you define it.")
@click.option("--reference", type=ID, help="Your business key.")
@click.option("--frozen", is_flag=True, help="Create it frozen.")
@json_option
@with_server
def create(
    server: Server,
    account: bytes,
    ledger: str,
    limit: str | None,
    overdraft: str | None,
    code: int,
    reference: bytes | None,
    frozen: bool,
    as_json: bool,
) -> None:
    """Create an account.

    ACCOUNT is its id: a UUID, 32 hexadecimal digits, a decimal number, or name:TEXT. Creating the same account again
    changes nothing and gives the same answer.
    """
    known = server.ledger(ledger)
    flags = [LIMITS[limit]] if limit else []
    asked = Account(
        id=account,
        ledger=known.number,
        code=code,
        flags=[*flags, AccountFlag.ACCOUNT_FLAG_FROZEN] if frozen else flags,
        overdraft_limit=to_uint128(_amount(overdraft, known.scale)),
        reference=reference or b"",
    )
    answer = server.ask(server.posting.CreateAccounts, CreateAccountsRequest(accounts=[asked]))
    _tell(answer.results[0], account, Outcome.OUTCOME_ACCOUNT_CREATED, as_json=as_json)


@accounts.command()
@click.argument("ids", type=ID, nargs=-1, required=True)
@click.option("--stale", is_flag=True, help="Take whatever the replica asked has applied.")
@json_option
@with_server
def show(server: Server, ids: tuple[bytes, ...], stale: bool, as_json: bool) -> None:
    """Show accounts by id, with what they hold."""
    print_accounts(server, read_accounts(server, ids, stale=stale), as_json=as_json)


@accounts.command()
@click.argument("account", type=ID)
@click.option("--overdraft", help="The overdraft limit from now on, in units of the ledger.")
@click.option("--freeze/--thaw", "frozen", default=None, help="Freeze or thaw it.")
@click.option("--close", "closed", is_flag=True, help="Close it, for ever; only at zero and with nothing reserved.")
@click.option("--id", "update_id", type=ID, help="The update's own id, for a retry. Default: a new one, printed.")
@json_option
@with_server
def update(
    server: Server,
    account: bytes,
    overdraft: str | None,
    frozen: bool | None,
    closed: bool,
    update_id: bytes | None,
    as_json: bool,
) -> None:
    """Change an account's overdraft limit, freeze, thaw or close it; what is not named stays as it is.

    The account is read first, and the change is refused if another change comes in between.
    """
    (found,) = read_accounts(server, [account])
    state = found.state
    was_frozen = AccountFlag.ACCOUNT_FLAG_FROZEN in state.account.flags
    limit = state.account.overdraft_limit
    asked = AccountUpdate(
        id=update_id or secrets.token_bytes(16),
        account=account,
        ledger=state.account.ledger,
        expected_version=state.version,
        overdraft_limit=to_uint128(_amount(overdraft, server.scale(state.account.ledger))) if overdraft else limit,
        frozen=was_frozen if frozen is None else frozen,
        closed=closed,
    )
    answer = server.ask(server.posting.UpdateAccounts, UpdateAccountsRequest(updates=[asked]))
    _tell(answer.results[0], asked.id, Outcome.OUTCOME_ACCOUNT_UPDATED, as_json=as_json)


def _amount(text: str | None, scale: int) -> int:
    """Read an overdraft limit, which may be zero."""
    if text is None or text.strip("0.") == "":
        return 0
    try:
        return parse_amount(text, scale)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--overdraft") from error


def _tell(result: AccountResult, asked_id: bytes, wanted: Outcome, *, as_json: bool) -> None:
    """Print the outcome; raise `EngineStopped` for anything but the one wanted."""
    if result.HasField("fault"):
        raise EngineStopped(ExitCode.REFUSED, fault_sentence(result.fault))
    name = Outcome.Name(result.outcome).removeprefix(OUTCOME_PREFIX)
    if as_json:
        print_json(
            {
                "id": id_text(asked_id),
                "outcome": name,
                "replayed": result.replayed,
                "timestamp": time_text(result.timestamp),
                "group": result.group,
            }
        )
    else:
        click.echo(f"{id_text(asked_id)}: {name}{' (replayed)' if result.replayed else ''}")
    if result.outcome != wanted:
        raise refused_command(asked_id, result.outcome)
