"""Which hot accounts to split, and why, in words: `hot_accounts` of cluster.yml applied to a window (DESIGN §8). Pure.

A split pays where many transfers of an account cross groups, or where one group bears what several could. It costs:
each bucket of a limited account holds only a part of its money, and a balance is a sum. Within one group it gains
nothing, since a serial log has no locks to wait for.
"""

from collections.abc import Mapping
from typing import NamedTuple

from engine.config import HotAccountsConfig
from engine.service.heat.sketch import Counted
from engine.service.heat.window import Window


class Advice(NamedTuple):
    """About one account."""

    counted: Counted
    split: bool
    """Whether the policy would have it split."""
    reason: str
    """One sentence."""


def hot_accounts(window: Window, policy: HotAccountsConfig) -> list[bytes]:
    """Return the accounts with the share and the rate that the policy names, hottest first: at most
    2 × 100 / `share_percent_min`, since a transfer has two accounts."""
    return [one.account for one in window.accounts if _why_cool(one, window, policy) is None]


def advise(
    window: Window, windows_hot: Mapping[bytes, int], limited: frozenset[bytes], groups: int, policy: HotAccountsConfig
) -> tuple[Advice, ...]:
    """Say of each account of the window whether to split it.

    `windows_hot` says for how many windows on end, this one included, an account was hot; `limited` are accounts that
    may not spend more than they have; `groups` is how many groups the cluster has.
    """
    said: list[Advice] = []
    for one in window.accounts:
        why_not = (
            _why_cool(one, window, policy)
            or _why_useless(groups)
            or _why_not_yet(windows_hot.get(one.account, 0), policy)
            or _why_too_many(sum(advice.split for advice in said), policy)
        )
        told = f"leave it: {why_not}" if why_not else _why_split(one, window, one.account in limited)
        said.append(Advice(one, why_not is None, told))
    return tuple(said)


def _why_cool(one: Counted, window: Window, policy: HotAccountsConfig) -> str | None:
    share, rate = window.share_percent(one), window.per_s(one.entries)
    if share < policy.share_percent_min:
        least = policy.share_percent_min
        return f"it takes part in {share} % of this group's transfers, less than share_percent_min {least}"
    if rate < policy.transfers_per_s_min:
        return f"it has {rate} transfers a second, less than transfers_per_s_min {policy.transfers_per_s_min}"
    return None


def _why_useless(groups: int) -> str | None:
    return "the cluster has one group, in which a hot account costs nothing extra" if groups < 2 else None


def _why_not_yet(windows: int, policy: HotAccountsConfig) -> str | None:
    if windows >= policy.windows_min:
        return None
    return f"it has been hot for {windows} of the {policy.windows_min} windows on end that windows_min asks for"


def _why_too_many(split: int, policy: HotAccountsConfig) -> str | None:
    if split < policy.accounts_max:
        return None
    return f"{split} hotter accounts of this group are as many as accounts_max {policy.accounts_max} allows"


def _why_split(one: Counted, window: Window, limited: bool) -> str:
    share, rate = window.share_percent(one), window.per_s(one.entries)
    crossing = 100 * one.crossing // one.entries
    money = "; each bucket will hold a part of its money, and a short one pulls from the others" if limited else ""
    return (
        f"split it: it takes part in {share} % of this group's transfers, {rate} a second, and {crossing} % of them "
        f"cross groups; with a bucket in every group each would run in one{money}"
    )
