"""ListLedgers: the replicated ledgers, from the settings."""

from collections.abc import Iterable, Sequence

from engine.core.limits import LEDGERS_MAX
from engine.core.settings import Ledger as LedgerSetting
from engine.core.settings import Settings
from engine.rpc.page_tokens import make_token, page_size_of, read_token
from postingengine.v1.posting_service_pb2 import ListLedgersRequest, ListLedgersResponse
from postingengine.v1.types_pb2 import Ledger


def list_ledgers(settings: Settings, request: ListLedgersRequest) -> ListLedgersResponse:
    """Return a page of ledgers by ascending number; raises `CallFailed` on a token that is not ours."""
    size = page_size_of(request.page_size) if request.page_size else LEDGERS_MAX
    after = read_token(request.page_token, ()) if request.page_token else [0]
    known = sorted(settings.ledgers, key=lambda ledger: ledger.ledger)
    rest = [ledger for ledger in known if ledger.ledger > _number(after)]
    page = rest[:size]
    return ListLedgersResponse(
        ledgers=ledger_messages(page),
        next_page_token=make_token((), (page[-1].ledger,)) if len(rest) > size else "",
    )


def ledger_messages(ledgers: Iterable[LedgerSetting]) -> list[Ledger]:
    """Return ledgers for the wire."""
    return [Ledger(ledger=ledger.ledger, code=ledger.code, scale=ledger.scale) for ledger in ledgers]


def _number(state: Sequence[object]) -> int:
    return state[0] if state and isinstance(state[0], int) else 0
