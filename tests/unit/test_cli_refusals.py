"""What a refused command says: what happened, why, and what to do."""

import pytest
from click.testing import CliRunner

from cli.main import posting_engine
from cli.refusals import refused_command, refused_transfer
from engine.exit_codes import ExitCode
from postingengine.v1.outcomes import Outcome

ID = bytes(15) + b"\7"


def test_a_refusal_says_why_and_that_its_id_is_spent() -> None:
    told = refused_transfer(ID, Outcome.INSUFFICIENT_FUNDS)
    assert told.code == ExitCode.REFUSED
    assert str(told) == (
        "00000000-0000-0000-0000-000000000007 was refused, INSUFFICIENT_FUNDS: the debit account's limit: what is "
        "available there is below the amount; this id stays refused: use another for another try"
    )


def test_a_conflict_does_not_say_that_the_first_body_was_refused() -> None:
    told = str(refused_transfer(ID, Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT))
    assert "another amount" in told and told.endswith(
        "keeps the outcome of its first body: use another for another try"
    )


@pytest.mark.parametrize("outcome", [one for one in Outcome if one >= 10])
def test_every_refusal_has_a_meaning(outcome: Outcome) -> None:
    assert "posting-engine errors" not in str(refused_command(ID, outcome))


def test_a_negative_amount_is_told_how_to_move_money_back() -> None:
    told = CliRunner().invoke(posting_engine, ["post", "name:a", "name:b", "-3.50"])
    assert told.exit_code == ExitCode.USAGE
    assert "-3.50 is negative: to move money back" in told.output
