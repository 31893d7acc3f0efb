"""What a call says of its sender beside the request: for whom it asks, and by which placement it came here."""

from functools import lru_cache
from typing import Final, NamedTuple

from engine.core.limits import IDENTITY_BYTES_MAX
from engine.rpc.faults import CallFailed, stale_placement
from engine.rpc.link_frames import Metadata
from engine.rpc.server import Context
from engine.rpc.steps import EPOCH_KEY, SPLIT_EPOCH_KEY
from engine.service.replica import Replica

IDENTITY_KEY: Final = "postingengine-caller"
"""Metadata in which a router says for whom it asks."""
SENDERS_KEPT: Final = 256
"""A router says the same beside each request of a caller; of so many it is not read again."""


class Sender(NamedTuple):
    """What a router says beside a request; nothing of it for who asks here by itself."""

    identity: str
    """For whom it asks."""
    epoch: int | None
    """By which epoch of the placement it sent the request here."""
    uses_directory: bool
    """Whether its directory of split accounts sent transfers here, not their hash alone."""


def sender_of(context: Context) -> Sender:
    """Return what a call says beside its request."""
    return _read(tuple(context.invocation_metadata() or ()))


def identity_of(context: Context) -> str:
    """Return who asks: whom the router names, else the address that the call came from."""
    return sender_of(context).identity or address_of(context)


def address_of(context: Context) -> str:
    """Return the address that a call came from, as far as a log record has room for it."""
    return context.peer()[:IDENTITY_BYTES_MAX]


def require_placement(sender: Sender, replica: Replica) -> None:
    """Raise `CallFailed` if a router says that it placed this request by an older epoch than the group's own."""
    if sender.epoch is not None:
        require_epoch(sender.epoch, replica)


def require_epoch(epoch: int, replica: Replica) -> None:
    """Raise `CallFailed` (ABORTED, PLACEMENT_STALE) if an epoch is older than the group's own."""
    own = replica.settings().placement_epoch
    if epoch < own:
        message = f"placement epoch {epoch} is old, {own} holds; refresh the placement, then send again"
        raise CallFailed(stale_placement(message))


@lru_cache(SENDERS_KEPT)
def _read(metadata: Metadata) -> Sender:
    told: dict[str, str] = {}
    for key, value in metadata:
        if isinstance(value, str):
            told.setdefault(key, value)
    epoch = told.get(EPOCH_KEY, "")
    return Sender(
        told.get(IDENTITY_KEY, "")[:IDENTITY_BYTES_MAX],
        int(epoch) if epoch.isdecimal() else None,
        bool(told.get(SPLIT_EPOCH_KEY)),
    )
