"""What steps do to accounts, in the compiled kernel: securing and freeing a chain, and running its decided legs.

The accounts of a leg are this group's rows, the far side being the transit account; a leg that this group does not run
has none (`NOT_RUN`). Applying and rolling forward both come here, so that they cannot differ.
"""

from typing import Final

import numpy as np

from engine.core.chains.word import Step
from engine.core.compiled import helper, outlined
from engine.core.kernel.accounts import (
    CREDITS_RESERVED,
    DEBITS_RESERVED,
    LEDGER_WORD,
    M32,
    count_given_back,
    lower_counter,
    move,
    raise_counter,
    touch_account,
)
from engine.core.kernel.arrays import FIRST_POSITION, FIRST_TIMESTAMP, GROUP, NOT_RUN, UNKNOWN, Steps, Tables, Work
from engine.core.kernel.judge import COMMIT, POST, RELEASE, RESERVE, REVERSE
from engine.core.kernel.reservations import COMMITTED, RELEASED, REMAINING, commit, obey, release, reserve, rest_after
from engine.core.kernel.stored import flags_of, kind_of
from engine.core.kernel.tables import find_account, find_account_anywhere, find_reservation
from engine.core.kernel.transit import find_transit, make_transit
from engine.core.kernel.u128 import FULL, I64, ONE, TOP_BIT, U64, ZERO, add, subtract
from engine.core.records import Flag

_KEEP_REST: Final = np.uint64(Flag.KEEP_REST)
_MIX: Final = np.uint64(0x9E3779B97F4A7C15)
_SHIFT_16: Final = np.uint64(16)
_SHIFT_40: Final = np.uint64(40)
_SHIFT_61: Final = np.uint64(61)
_SHARE_KIND: Final = np.uint64(2)
_RELEASE_STEP: Final = np.uint64(Step.RELEASE)
_TAKES: Final = 1
_BRINGS: Final = 3
_SLOT: Final = 5
NET_WORDS: Final = 6

# ---- accounts of legs ----


@helper
def lacks_transit(tables: Tables, work: Work, i: I64) -> bool:
    """Whether a far side of record `i` has no transit account yet."""
    group = tables.counters[GROUP]
    lacks_debit = work.debit_rows[i] == UNKNOWN and work.sides[i, 0] != group
    return bool(lacks_debit or (work.credit_rows[i] == UNKNOWN and work.sides[i, 1] != group))


@helper
def place_leg(tables: Tables, work: Work, i: I64, judged: bool) -> bool:
    """Find the accounts of record `i`; return whether a transit account is missing.

    judged: by today's map; what is decided runs where it was secured, whatever the map says now.
    """
    lacks = place_far(tables, work, i)
    place_near(tables, work, i, judged)
    return lacks


@helper
def place_far(tables: Tables, work: Work, i: I64) -> bool:
    """Find the transit accounts of record `i`, which stand for its far sides; return whether one is missing."""
    group = tables.counters[GROUP]
    debit_here, credit_here = work.sides[i, 0] == group, work.sides[i, 1] == group
    if not debit_here and not credit_here:
        work.debit_rows[i] = work.credit_rows[i] = NOT_RUN
        return False
    if not debit_here:
        work.debit_rows[i] = _find_far(tables, work, i, 0)
    if not credit_here:
        work.credit_rows[i] = _find_far(tables, work, i, 1)
    return lacks_transit(tables, work, i)


@helper
def place_near(tables: Tables, work: Work, i: I64, judged: bool) -> None:
    """Find the accounts of record `i` that are this group's own."""
    group = tables.counters[GROUP]
    if work.sides[i, 0] == group:
        work.debit_rows[i] = _place_side(tables, work, i, 2, judged)
    if work.sides[i, 1] == group:
        work.credit_rows[i] = _place_side(tables, work, i, 4, judged)


@helper
def _place_side(tables: Tables, work: Work, i: I64, word: I64, judged: bool) -> I64:
    low, high = work.batch[i, word], work.batch[i, word + 1]
    if not judged or (low == FULL and is_move(work, i)):
        return find_account_anywhere(tables, low, high)
    return find_account(tables, low, high)


@outlined
def is_move(work: Work, i: I64) -> bool:
    """Whether money goes from share account to share account, each in the group that its id names."""
    debit, credit = work.batch[i, 3] & M32, work.batch[i, 5] & M32
    debit_named = debit == _SHARE_KIND | (np.uint64(work.sides[i, 0]) << _SHIFT_16)
    credit_named = credit == _SHARE_KIND | (np.uint64(work.sides[i, 1]) << _SHIFT_16)
    return bool(work.batch[i, 2] & work.batch[i, 4] == FULL and debit_named and credit_named and debit != credit)


@helper
def _find_far(tables: Tables, work: Work, i: I64, side: I64) -> I64:
    """Find the transit account of a leg's far side; mostly it is that of the record before."""
    other, ledger = np.uint64(work.sides[i, side]), work.batch[i, 14]
    if i > 0 and work.sides[i - 1, side] == work.sides[i, side] and (work.batch[i - 1, 14] ^ ledger) & M32 == ZERO:
        row = work.debit_rows[i - 1] if side == 0 else work.credit_rows[i - 1]
        if row >= 0:
            return row
    return find_transit(tables, other, ledger)


@outlined
def make_transits(tables: Tables, work: Work, i: I64, row: I64) -> None:
    """Make the transit account that record `i`, which becomes journal row `row`, names as the first."""
    group, ledger = tables.counters[GROUP], work.batch[i, 14]
    timestamp_ns = work.counts[FIRST_TIMESTAMP] + np.uint64(row)
    position = work.counts[FIRST_POSITION] + np.uint64(row)
    if work.sides[i, 0] != group:
        work.debit_rows[i] = make_transit(tables, np.uint64(work.sides[i, 0]), ledger, timestamp_ns, position)
    else:
        work.credit_rows[i] = make_transit(tables, np.uint64(work.sides[i, 1]), ledger, timestamp_ns, position)


# ---- securing ----


@helper
def _reserve_both(tables: Tables, debit: I64, credit: I64, low: U64, high: U64, secures: bool) -> None:
    if secures:
        raise_counter(tables.accounts, debit, DEBITS_RESERVED, low, high)
        raise_counter(tables.accounts, credit, CREDITS_RESERVED, low, high)
    else:
        lower_counter(tables.accounts, debit, DEBITS_RESERVED, low, high)
        lower_counter(tables.accounts, credit, CREDITS_RESERVED, low, high)
    touch_account(tables, debit)
    touch_account(tables, credit)


@helper
def secure_one(tables: Tables, kind: U64, debit: I64, credit: I64, low: U64, high: U64, secures: bool) -> None:
    """Reserve, or free, what a chain of one leg takes. (What a COMMIT moves is reserved by its hold already.)"""
    if kind == POST or kind == RESERVE:
        _reserve_both(tables, debit, credit, low, high, secures)
    elif kind == REVERSE:
        _reserve_both(tables, credit, debit, low, high, secures)


@helper
def count_freed(
    tables: Tables, work: Work, row: I64, debit: I64, credit: I64, secured_low: U64, secured_high: U64
) -> None:
    """Count what a chain of one leg had secured and did not come to, by its journal row."""
    meta, low, high = work.batch[row, 15], secured_low, secured_high
    if meta >> _SHIFT_61 != _RELEASE_STEP:
        low, high = subtract(low, high, work.batch[row, 6], work.batch[row, 7])
    kind = kind_of(meta)
    if low | high != ZERO and kind != COMMIT and kind != RELEASE:
        count_given_back(tables, debit, low, high)
        count_given_back(tables, credit, low, high)


@outlined
def secure_net(
    tables: Tables, work: Work, steps: Steps, first: I64, row: I64, legs: I64, decider: U64, secures: bool
) -> None:
    """Reserve, or free, what a chain of several legs takes from each account, net of what it brings.

    Its rows are from `row` on, made of the records from `first` on; legs: how many. Bounds hold, as every leg was
    judged upon what the earlier ones leave.
    """
    accounts = np.int64(0)
    for leg in range(legs):
        if work.debit_rows[first + leg] >= 0:
            accounts = _add_leg(work, steps, first + leg, row + leg, accounts)
    ledgers, released = np.int64(0), work.batch[row, 15] >> _SHIFT_61 == _RELEASE_STEP
    for at in range(accounts):
        ledgers = _secure_account(tables, steps, at, accounts, ledgers, secures, released)
        steps.net_slots[steps.nets[at, _SLOT]] = np.uint32(0)
    for at in range(accounts, accounts + ledgers):
        _balance(tables, work, steps, at, row, decider, secures)


@helper
def _add_leg(work: Work, steps: Steps, i: I64, row: I64, accounts: I64) -> I64:
    kind, low, high = kind_of(work.batch[row, 15]), work.batch[row, 6], work.batch[row, 7]
    debit, credit = work.debit_rows[i], work.credit_rows[i]
    if kind == REVERSE:
        debit, credit = credit, debit
    if kind == RELEASE or low & high == FULL:
        return accounts
    at, accounts = _entry_of(steps, debit, accounts)
    other, accounts = _entry_of(steps, credit, accounts)
    if kind != COMMIT:
        _raise(steps, at, _TAKES, low, high)
        _raise(steps, other, _BRINGS, low, high)
    if kind != RESERVE:
        _lower(steps, at, _BRINGS, low, high)
        _lower(steps, other, _TAKES, low, high)
    return accounts


@helper
def _raise(steps: Steps, at: I64, word: I64, low: U64, high: U64) -> None:
    steps.nets[at, word], steps.nets[at, word + 1] = add(steps.nets[at, word], steps.nets[at, word + 1], low, high)


@helper
def _lower(steps: Steps, at: I64, word: I64, low: U64, high: U64) -> None:
    steps.nets[at, word], steps.nets[at, word + 1] = subtract(steps.nets[at, word], steps.nets[at, word + 1], low, high)


@helper
def _entry_of(steps: Steps, account: I64, accounts: I64) -> tuple[I64, I64]:
    """Return (the account's entry, how many there are now)."""
    mask = np.uint64(len(steps.net_slots) - 1)
    slot = ((np.uint64(account) * _MIX) >> _SHIFT_40) & mask
    while steps.net_slots[slot] != 0:
        at = np.int64(steps.net_slots[slot]) - 1
        if steps.nets[at, 0] == np.uint64(account):
            return at, accounts
        slot = (slot + ONE) & mask
    steps.net_slots[slot] = np.uint32(accounts + 1)
    steps.nets[accounts, 0], steps.nets[accounts, _SLOT] = np.uint64(account), slot
    for word in range(_TAKES, _SLOT):
        steps.nets[accounts, word] = ZERO
    return accounts, accounts + 1


@helper
def _secure_account(
    tables: Tables, steps: Steps, at: I64, accounts: I64, ledgers: I64, secures: bool, released: bool
) -> I64:
    """Change one account's reserved counters; note what that leaves unbalanced, per ledger, behind the accounts."""
    net, row = steps.nets, np.int64(steps.nets[at, 0])
    for word in (_TAKES, _BRINGS):
        if net[at, word + 1] >= TOP_BIT:  # below zero: another leg of the chain covers it
            net[at, word], net[at, word + 1] = ZERO, ZERO
    if secures:
        raise_counter(tables.accounts, row, DEBITS_RESERVED, net[at, _TAKES], net[at, _TAKES + 1])
        raise_counter(tables.accounts, row, CREDITS_RESERVED, net[at, _BRINGS], net[at, _BRINGS + 1])
    else:
        lower_counter(tables.accounts, row, DEBITS_RESERVED, net[at, _TAKES], net[at, _TAKES + 1])
        lower_counter(tables.accounts, row, CREDITS_RESERVED, net[at, _BRINGS], net[at, _BRINGS + 1])
        if released:
            count_given_back(tables, row, net[at, _TAKES], net[at, _TAKES + 1])
            count_given_back(tables, row, net[at, _BRINGS], net[at, _BRINGS + 1])
    touch_account(tables, row)
    ledger, entry = tables.accounts[row, LEDGER_WORD] & M32, accounts
    while entry < accounts + ledgers and net[entry, 0] != ledger:
        entry += 1
    if entry == accounts + ledgers:
        net[entry, 0], net[entry, _TAKES], net[entry, _TAKES + 1] = ledger, ZERO, ZERO
        ledgers += 1
    _raise(steps, entry, _TAKES, net[at, _TAKES], net[at, _TAKES + 1])
    _lower(steps, entry, _TAKES, net[at, _BRINGS], net[at, _BRINGS + 1])
    return ledgers


@helper
def _balance(tables: Tables, work: Work, steps: Steps, at: I64, row: I64, decider: U64, secures: bool) -> None:
    """Let the transit account with the decider keep the book balanced: a hold may spend what an earlier leg brings."""
    low, high = steps.nets[at, _TAKES], steps.nets[at, _TAKES + 1]
    if low | high == ZERO:
        return
    timestamp_ns, position = work.counts[FIRST_TIMESTAMP] + np.uint64(row), work.counts[FIRST_POSITION] + np.uint64(row)
    account = make_transit(tables, decider, steps.nets[at, 0], timestamp_ns, position)
    word = CREDITS_RESERVED
    if high >= TOP_BIT:
        word = DEBITS_RESERVED
        low, high = subtract(ZERO, ZERO, low, high)
    if secures:
        raise_counter(tables.accounts, account, word, low, high)
    else:
        lower_counter(tables.accounts, account, word, low, high)
    touch_account(tables, account)


# ---- running decided legs ----


@helper
def groups_of(tables: Tables, work: Work, i: I64, row: I64, decider: U64) -> U64:
    """Return what a hold keeps above its ledger: its decider and its other group, plus one each."""
    other = work.sides[row, 1] if work.sides[row, 0] == tables.counters[GROUP] else work.sides[row, 0]
    return (decider + ONE) | ((np.uint64(other) + ONE) << _SHIFT_16)


@helper
def run_leg(
    tables: Tables, work: Work, steps: Steps, i: I64, row: I64, decider: U64, since_ns: U64
) -> tuple[bool, np.uint8]:
    """Let the decided leg in journal row `row`, made of record `i`, take effect.

    Returns whether that ended the hold that it follows, and how. Where this group decides, `given_back` is filled in.
    """
    kind, debit, credit = kind_of(work.batch[row, 15]), work.debit_rows[i], work.credit_rows[i]
    low, high = work.batch[row, 6], work.batch[row, 7]
    decides = decider == tables.counters[GROUP]
    if kind == POST:
        if debit >= 0:
            move(tables, debit, credit, low, high)
    elif kind == REVERSE:
        if debit >= 0:
            move(tables, credit, debit, low, high)
    elif kind == RESERVE:
        if debit >= 0 or decides:
            position, groups = work.counts[FIRST_POSITION] + np.uint64(row), groups_of(tables, work, i, row, decider)
            reserve(tables, work.batch, row, debit, credit, position, since_ns, groups)
    elif debit >= 0 or decides:
        return _end_followed(tables, work, steps, row, decides)
    return False, COMMITTED


@outlined
def _end_followed(tables: Tables, work: Work, steps: Steps, row: I64, decides: bool) -> tuple[bool, np.uint8]:
    target = find_reservation(tables, work.batch[row, 8], work.batch[row, 9])
    if target < 0:
        return False, COMMITTED
    meta, low, high = work.batch[row, 15], work.batch[row, 6], work.batch[row, 7]
    commits, keeps = kind_of(meta) == COMMIT, flags_of(meta) & _KEEP_REST != ZERO
    how = COMMITTED if commits else RELEASED
    if not decides:
        back_low, back_high = steps.given_back[row, 0], steps.given_back[row, 1]
        return obey(tables, target, low, high, back_low, back_high, np.uint64(how), keeps and commits), how
    if commits:
        steps.given_back[row, 0], steps.given_back[row, 1] = rest_after(tables, target, low, high, keeps)
        return commit(tables, target, low, high, keeps), how
    rest = tables.reservations[target]
    steps.given_back[row, 0], steps.given_back[row, 1] = rest[REMAINING], rest[REMAINING + 1]
    release(tables, target)
    return True, how
