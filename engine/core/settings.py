"""Settings that apply depends on: logged state, changed only by a logged record (DESIGN §3)."""

from typing import Final, cast

import msgspec

from engine.core.limits import LEDGERS_MAX, SLOTS

SETTINGS_VERSION: Final = 1
SCALE_MAX: Final = 38
"""10^38 is the largest power of ten below 2^127."""


class Ledger(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A currency or asset."""

    ledger: int
    """u32, from 1."""
    code: str
    """ISO 4217 code, ticker, or any name of up to 32 characters."""
    scale: int
    """Decimal places of one whole unit: 2 for EUR. 0 to 38."""


class SlotRange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Slots first..last, both included, belong to `group`."""

    group: int
    first: int
    last: int


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The replicated settings of a cluster, the same in every group's log."""

    cluster_id: str
    """32 hexadecimal digits."""
    hash_seed: int
    """u64."""
    ledgers: tuple[Ledger, ...]
    slots: tuple[SlotRange, ...]
    version: int = SETTINGS_VERSION
    placement_epoch: int = 1


def encode_settings(settings: Settings) -> bytes:
    """Msgpack, keys in declaration order: the `extra` of a SETTINGS record."""
    return msgspec.msgpack.encode(settings)


def decode_settings(data: bytes) -> Settings:
    """Inverse of `encode_settings`; raises `msgspec.ValidationError` on anything else."""
    return msgspec.msgpack.decode(data, type=Settings)


def group_of_slots(settings: Settings) -> list[int]:
    """Return the group of each of the 4096 slots; raise ValueError unless every slot has exactly one."""
    owners: list[int | None] = [None] * SLOTS
    for part in settings.slots:
        slots = range(part.first, part.last + 1)
        if not slots:
            continue
        inside = part.first >= 0 and part.last < SLOTS
        if not inside or owners[part.first : part.last + 1].count(None) != len(slots):
            slot = next(slot for slot in slots if not 0 <= slot < SLOTS or owners[slot] is not None)
            raise ValueError(f"slot {slot} of group {part.group} is out of range or owned twice")
        owners[part.first : part.last + 1] = [part.group] * len(slots)
    missing = owners.count(None)
    if missing:
        raise ValueError(f"slot {owners.index(None)} and {missing - 1} others belong to no group")
    return cast(list[int], owners)


def check_change(before: Settings | None, after: Settings) -> str | None:
    """Return why `after` cannot follow `before` (None: genesis) in a group's log, or None if it can.

    Whoever proposes settings calls this first: apply cannot refuse them.
    """
    try:
        group_of_slots(after)
    except ValueError as error:
        return str(error)
    if len({ledger.ledger for ledger in after.ledgers}) != len(after.ledgers):
        return "a ledger is listed twice"
    if not all(1 <= ledger.ledger < 1 << 32 and 0 <= ledger.scale <= SCALE_MAX for ledger in after.ledgers):
        return f"a ledger's number is not within 1..2^32-1, or its scale not within 0..{SCALE_MAX}"
    if len(after.ledgers) > LEDGERS_MAX:
        return f"more than {LEDGERS_MAX} ledgers"
    return None if before is None else _check_kept(before, after)


def _check_kept(before: Settings, after: Settings) -> str | None:
    """Accounts are placed by the seed and counted in their ledger's units: neither may change under them."""
    if (before.cluster_id, before.hash_seed) != (after.cluster_id, after.hash_seed):
        return "the cluster id and the hash seed are for ever"
    scales = {ledger.ledger: ledger.scale for ledger in after.ledgers}
    changed = [ledger.ledger for ledger in before.ledgers if scales.get(ledger.ledger) != ledger.scale]
    return f"ledger {changed[0]} is missing, or has another scale" if changed else None
