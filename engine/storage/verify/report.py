"""What a verification found."""

from typing import NamedTuple

from engine.exit_codes import EngineStopped, ExitCode
from engine.storage.audit import TransitBalance, TrialBalance
from engine.storage.head import Head


class Noted(NamedTuple):
    """A head that an auditor wrote down earlier: the journal must still contain it."""

    log_index: int
    hash: bytes


class Report(NamedTuple):
    """All of it was checked and fits; a verification that finds a difference raises instead."""

    head: Head
    blocks: int
    accounts: int
    open_reservations: int
    open_chains: int
    """Cross-group chains that are secured and wait for their decider's word."""
    transits: tuple[TransitBalance, ...]
    """Money on its way, by other group and ledger: to be held against that group's."""
    ledgers: tuple[TrialBalance, ...]
    outcomes_judged: bool
    """Whether every outcome was judged again by the plain model."""
    checkpoint_position: int
    id_runs_position: int
    views_position: int | None
    """None if the folder has no views."""
    elapsed_s: float

    def sentence(self) -> str:
        """Say it in one sentence."""
        judged = "judged again by the rules" if self.outcomes_judged else "replayed (not judged again)"
        return (
            f"verified {self.head.next_position} journal rows in {self.blocks} blocks up to log index "
            f"{self.head.log_index}: {judged}; {self.accounts} accounts in {len(self.ledgers)} ledgers are even, "
            f"{self.open_reservations} open reservations and {self.open_chains} open chains explain "
            f"what is held; head hash {self.head.hash.hex()}"
        )


def damaged(what: str) -> EngineStopped:
    """Bytes are not what they were."""
    return EngineStopped(ExitCode.DATA_DAMAGED, f"{what}: restore or replace this replica")


def differs(what: str) -> EngineStopped:
    """Bytes are whole, but do not say what the rules or the journal say."""
    return EngineStopped(ExitCode.CHECK_FAILED, f"{what}: keep this folder for the inquiry and replace the replica")


def expect(condition: bool, what: str) -> None:
    """Raise `differs(what)` unless the condition holds."""
    if not condition:
        raise differs(what)
