"""Windows of heat, and what is advised about the accounts in them."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from engine.config import HotAccountsConfig, HotAccountsPolicy, parse_config
from engine.core.book import Book
from engine.core.limits import SLOTS
from engine.core.records import Kind, Words
from engine.exit_codes import EngineStopped
from engine.service.heat.advice import Advice, advise, hot_accounts
from engine.service.heat.heat import Heat
from engine.service.heat.sketch import Counted
from engine.service.heat.window import NS_PER_S, Window

POLICY = HotAccountsConfig(share_percent_min=10, transfers_per_s_min=100, windows_min=2, accounts_max=2)
TEXT = (Path(__file__).parents[2] / "cluster.yml").read_text()


def account(number: int) -> bytes:
    return number.to_bytes(16, "little")


def counted(number: int, debits: int, credits: int = 0, crossing: int = 0) -> Counted:
    return Counted(account(number), debits, credits, crossing, 0)


def window(*accounts: Counted, transfers: int = 10_000, seconds: int = 10) -> Window:
    return Window(seconds * NS_PER_S, transfers, 0, accounts)


def said(seen: Window, windows: int = 2, *, groups: int = 2, limited: frozenset[bytes] = frozenset()) -> list[Advice]:
    return list(advise(seen, {one.account: windows for one in seen.accounts}, limited, groups, POLICY))


def test_an_account_with_the_share_and_the_rate_for_long_enough_is_to_be_split_and_told_why() -> None:
    (advice,) = said(window(counted(1, 500, 3500, 2000)))
    assert advice.split
    assert advice.reason == (
        "split it: it takes part in 40 % of this group's transfers, 400 a second, and 50 % of them cross groups; "
        "with a bucket in every group each would run in one"
    )


def test_a_limited_account_is_told_what_its_split_costs() -> None:
    (advice,) = said(window(counted(1, 4000)), limited=frozenset({account(1)}))
    assert advice.reason.endswith("each bucket will hold a part of its money, and a short one pulls from the others")


@pytest.mark.parametrize(
    ("seen", "windows", "groups", "reason"),
    [
        (
            window(counted(1, 999)),
            2,
            2,
            "it takes part in 9 % of this group's transfers, less than share_percent_min 10",
        ),
        (
            window(counted(1, 500), transfers=500),
            2,
            2,
            "it has 50 transfers a second, less than transfers_per_s_min 100",
        ),
        (window(counted(1, 4000)), 1, 2, "it has been hot for 1 of the 2 windows on end that windows_min asks for"),
        (window(counted(1, 4000)), 9, 1, "the cluster has one group, in which a hot account costs nothing extra"),
    ],
)
def test_every_account_that_is_left_is_told_why(seen: Window, windows: int, groups: int, reason: str) -> None:
    (advice,) = said(seen, windows, groups=groups)
    assert not advice.split
    assert advice.reason == f"leave it: {reason}"


def test_no_more_accounts_are_to_be_split_than_the_policy_allows_the_hottest_first() -> None:
    found = said(window(counted(1, 4000), counted(2, 3000), counted(3, 2000)))
    assert [one.split for one in found] == [True, True, False]
    assert found[2].reason == "leave it: 2 hotter accounts of this group are as many as accounts_max 2 allows"


def test_a_window_in_which_nothing_happened_has_no_hot_accounts() -> None:
    empty = Window(0, 0, 0, ())
    assert hot_accounts(empty, POLICY) == []
    assert said(empty) == []


class Clock:
    """Nanoseconds as the test sets them."""

    def __init__(self) -> None:
        self.now_ns = 5

    def __call__(self) -> int:
        return self.now_ns


class Leader:
    """A book of one group, whose replica may lead or not."""

    def __init__(self, policy: HotAccountsConfig) -> None:
        book = Book(0)
        book.tables.slot_is_ours[:] = np.ones(SLOTS, np.bool_)
        self.leads, self.clock = True, Clock()
        self.heat = Heat(policy, lambda: book, lambda: self.leads, groups=2, clock_ns=self.clock)

    def apply(self, *pairs: tuple[int, int]) -> None:
        rows: Words = np.zeros((len(pairs), 16), np.uint64)
        rows[:, 2], rows[:, 4] = np.array(pairs, np.uint64).T
        rows[:, 15] = np.uint64(1 | Kind.POST << 16)
        self.heat.note(rows)

    def later(self, seconds: int) -> None:
        self.clock.now_ns += seconds * NS_PER_S

    def debits(self) -> list[int]:
        return [one.debits for one in self.heat.report(10).window.accounts if one.debits]


def test_a_report_is_of_the_last_full_window_and_before_there_is_one_of_what_was_counted() -> None:
    leader = Leader(HotAccountsConfig(window_s=10))
    leader.apply((1, 2))
    leader.later(5)
    leader.apply((1, 2))
    assert (leader.debits(), leader.heat.report(10).window.length_ns) == ([2], 5 * NS_PER_S)
    leader.later(5)
    leader.apply((3, 4))
    assert (leader.debits(), leader.heat.report(10).window.length_ns) == ([2], 10 * NS_PER_S)
    leader.later(20)
    assert (leader.debits(), leader.heat.report(10).window.length_ns) == ([1], 20 * NS_PER_S)


def test_an_account_is_to_be_split_once_it_was_hot_for_so_many_windows_on_end() -> None:
    leader = Leader(HotAccountsConfig(window_s=1, windows_min=2, transfers_per_s_min=1))
    splits = []
    for pairs in ([(1, 2)], [(1, 3)], [(4, 5)], [(1, 3)], [(1, 3)], [(1, 3)]):
        leader.apply(*pairs)
        leader.later(1)
        splits.append(any(one.split and one.counted.account == account(1) for one in leader.heat.report(10).advice))
    assert splits == [False, True, False, False, True, True]


def test_a_replica_that_stops_leading_forgets_what_it_counted() -> None:
    leader = Leader(HotAccountsConfig(window_s=10))
    leader.apply((1, 2))
    leader.leads = False
    leader.apply((1, 2))
    leader.leads = True
    leader.apply((3, 4))
    assert leader.debits() == [1]


def test_nothing_is_counted_where_the_policy_is_off() -> None:
    leader = Leader(HotAccountsConfig(policy=HotAccountsPolicy.OFF))
    leader.apply((1, 2))
    assert leader.debits() == []


def policy_of(line: str) -> HotAccountsConfig:
    text = TEXT.replace("policy: advise", line)
    return parse_config(text.encode(), folder=Path("/base")).hot_accounts


def test_the_policy_is_read_from_the_file_and_a_bare_off_means_off() -> None:
    assert policy_of("policy: advise") == HotAccountsConfig()
    assert policy_of("policy: off").policy is HotAccountsPolicy.OFF
    assert policy_of('policy: "off"').policy is HotAccountsPolicy.OFF


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("policy: on", "policy is off, advise or automatic"),
        ("policy: always", "policy"),
        ("share_percent_min: 101", "share_percent_min must be at most 100"),
        ("accounts_max: 0", "accounts_max must be at least 1"),
        ("window_s: 100000", "window_s must be at most 3600"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_one_sentence(line: str, told: str) -> None:
    key = line.partition(":")[0]
    tree = msgspec.yaml.decode(TEXT)
    tree["hot_accounts"] = msgspec.yaml.decode(line)
    with pytest.raises(EngineStopped, match=told) as stopped:
        parse_config(msgspec.yaml.encode(tree), folder=Path("/base"))
    assert key in str(stopped.value)
    assert "\n" not in str(stopped.value)
