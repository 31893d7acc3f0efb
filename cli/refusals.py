"""How commands tell a refusal: its name and its meaning, in one sentence."""

from cli.ids import id_text
from cli.meanings import member_sentences
from engine.core.outcomes import is_conflict
from engine.exit_codes import EngineStopped, ExitCode
from postingengine.v1.outcomes import Outcome


def refused_transfer(transfer_id: bytes, number: int) -> EngineStopped:
    """Return what ends a command whose transfer was refused: its id is spent."""
    spent = "keeps the outcome of its first body" if is_conflict(number) else "stays refused"
    return EngineStopped(
        ExitCode.REFUSED, f"{_words(transfer_id, number)}; this id {spent}: use another for another try"
    )


def refused_command(command_id: bytes, number: int) -> EngineStopped:
    """Return what ends a command about an account that was refused."""
    return EngineStopped(ExitCode.REFUSED, _words(command_id, number))


def _words(request_id: bytes, number: int) -> str:
    outcome = Outcome(number)
    meaning = member_sentences(Outcome).get(outcome.name, "see `posting-engine errors outcomes`").rstrip(".")
    return f"{id_text(request_id)} was refused, {outcome.name}: {meaning[:1].lower()}{meaning[1:]}"
