"""What a call says of its sender beside the request: for whom it asks, and by which placement it came here."""

from typing import Final

from engine.core.limits import IDENTITY_BYTES_MAX
from engine.rpc.faults import CallFailed, stale_placement
from engine.rpc.server import Context
from engine.rpc.steps import EPOCH_KEY, SPLIT_EPOCH_KEY
from engine.service.replica import Replica

IDENTITY_KEY: Final = "postingengine-caller"
"""Metadata in which a router says for whom it asks."""


def identity_of(context: Context) -> str:
    """Return who asks: whom the router names, else the address that the call came from."""
    named = _metadata(context, IDENTITY_KEY)
    return (named or context.peer())[:IDENTITY_BYTES_MAX]


def require_placement(context: Context, replica: Replica) -> None:
    """Raise `CallFailed` if a router says that it placed this request by an older epoch than the group's own."""
    named = _metadata(context, EPOCH_KEY)
    if named.isdecimal():
        require_epoch(int(named), replica)


def is_routed_by_directory(context: Context) -> bool:
    """Whether a router sends transfers here by its directory of split accounts, not by their hash alone."""
    return bool(_metadata(context, SPLIT_EPOCH_KEY))


def require_epoch(epoch: int, replica: Replica) -> None:
    """Raise `CallFailed` (ABORTED, PLACEMENT_STALE) if an epoch is older than the group's own."""
    own = replica.settings().placement_epoch
    if epoch < own:
        message = f"placement epoch {epoch} is old, {own} holds; refresh the placement, then send again"
        raise CallFailed(stale_placement(message))


def _metadata(context: Context, wanted: str) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == wanted and isinstance(value, str):
            return value
    return ""
