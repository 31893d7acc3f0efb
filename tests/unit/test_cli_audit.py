"""`posting-engine audit`: when it calls the books unbalanced, and when not."""

import pytest

from cli.commands.audit import require_balanced
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.admin_service_pb2 import GroupAudit, LedgerTrialBalance
from postingengine.v1.types_pb2 import Uint128


def sums(debits: int, credits: int) -> LedgerTrialBalance:
    return LedgerTrialBalance(ledger=1, debits_posted=Uint128(low=debits), credits_posted=Uint128(low=credits))


def test_a_group_without_accounts_balances() -> None:
    require_balanced([GroupAudit(balanced=True), GroupAudit(balanced=True, trial_balances=[sums(5, 5)])])


@pytest.mark.parametrize(
    "group",
    [
        GroupAudit(balanced=False, trial_balances=[sums(5, 5)]),
        GroupAudit(balanced=False),
        GroupAudit(balanced=True, trial_balances=[sums(5, 5), sums(5, 6)]),
    ],
)
def test_a_group_whose_word_or_sums_differ_fails_the_check(group: GroupAudit) -> None:
    with pytest.raises(EngineStopped, match="is not balanced") as stopped:
        require_balanced([group])
    assert stopped.value.code == ExitCode.CHECK_FAILED
