"""The cluster of one seed on paper: its file, an older one, and accounts that live in each group."""

import functools
from typing import Any

import msgspec

from engine.config import ClusterConfig, GroupConfig, LimitsConfig, ReplicaConfig
from engine.core.limits import SLOTS
from engine.core.placement import slot_of
from engine.core.records import AccountFlag
from engine.core.settings import Ledger, Settings, group_of_slots

ACCOUNTS = 3
CLUSTER_ID = "5a" * 16
HASH_SEED = 7
GRACE_MS = 150


def configs(count: int, members: tuple[str, ...]) -> tuple[ClusterConfig, ClusterConfig]:
    """The cluster's file, and an old one that shares the slots otherwise: every router starts with that."""
    limits = LimitsConfig(courier_grace_ms=GRACE_MS, log_record_bytes_target=8 << 10, queue_age_ms_max=2000)
    groups = tuple(
        GroupConfig(
            group=group,
            replicas=tuple(
                ReplicaConfig(id=name, peer=f"peer-{group}{name}:1", grpc=f"node-{group}{name}:1", folder="")
                for name in members
            ),
        )
        for group in range(count)
    )
    config = ClusterConfig(
        cluster_id=CLUSTER_ID, hash_seed=HASH_SEED, ledgers=(Ledger(1, "EUR", 2),), groups=groups, limits=limits
    )
    ranges = [(SLOTS * share // count, SLOTS * (share + 1) // count - 1) for share in range(count)]
    old = tuple(msgspec.structs.replace(one, slots=(ranges[(one.group + 1) % count],)) for one in groups)
    return config, msgspec.structs.replace(config, groups=old)


def names_in(group: int, homes: list[int]) -> list[str]:
    """Return the names of accounts that live in a group; homes: the group of each slot."""
    named = (f"account-{number}" for number in range(10_000))
    found = (name for name in named if homes[slot_of(id_of(name), HASH_SEED)] == group)
    return [next(found) for _ in range(ACCOUNTS)]


def id_of(name: str) -> bytes:
    """Return the id of the account of a name."""
    return name.encode().ljust(16, b"\0")


def flags(flag: AccountFlag) -> list[Any]:
    """Return an account's flags as the contract has them."""
    return [1] if flag is AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS else []


@functools.cache
def owners(settings: Settings) -> list[int]:
    """The same few settings are asked for often."""
    return group_of_slots(settings)
