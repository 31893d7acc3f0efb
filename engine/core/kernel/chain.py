"""One unit of the batch in the compiled kernel: a chain, or a record that stands alone, which is a chain of one leg."""

from typing import Final

import numpy as np

from engine.core.chains.word import State
from engine.core.compiled import helper, outlined
from engine.core.kernel.accounts import ACCEPTED, move, update_account
from engine.core.kernel.arrays import FIRST_POSITION, GROUP, INCONSISTENT, UNDO_COUNT, Tables, Work
from engine.core.kernel.judge import COMMIT, POST, RELEASE, RESERVE, REVERSE, SHORT, judge
from engine.core.kernel.reservations import (
    COMMITTED,
    POSITION,
    RELEASED,
    commit,
    mark_ended,
    release,
    reserve,
)
from engine.core.kernel.stored import (
    answer_elsewhere,
    answer_replayed,
    answer_short,
    answer_unstored,
    conflict,
    ends_chain,
    find_in_batch,
    flags_of,
    kind_of,
    leg_of,
    outcome_of,
    refuse_stored,
    set_moved,
    store,
    stored_meta,
    stored_position,
    unlist_in_batch,
)
from engine.core.kernel.u128 import I64, ONE, U64, ZERO, add
from engine.core.kernel.undo import (
    note_account,
    note_listed,
    note_remaining,
    note_reversed,
    note_unlisted,
    roll_back,
)
from engine.core.outcomes import Outcome
from engine.core.records import Flag, Kind

POSTED: Final = np.uint64(Outcome.POSTED)
_ACCOUNT_UPDATED: Final = np.uint64(Outcome.ACCOUNT_UPDATED)
_CHAIN_FAILED: Final = np.uint64(Outcome.CHAIN_FAILED)
_DIFFERENT_CHAIN: Final = np.uint64(Outcome.ID_REUSED_WITH_DIFFERENT_CHAIN)
_LINKED: Final = np.uint64(Flag.LINKED)
_KEEP_REST: Final = np.uint64(Flag.KEEP_REST)
_FIRST_ACCOUNT_KIND: Final = np.uint64(Kind.CREATE_ACCOUNT)
_LAST_EFFECTIVE: Final = np.uint64(9)
_NO_WORD: Final = np.uint8(State.NONE)
_RELEASED_WORD: Final = np.uint8(State.RELEASED)


@helper
def links_on(work: Work, i: I64) -> bool:
    """Whether record `i` is a transfer that the next one is linked to."""
    meta = work.batch[i, 15]
    return bool(flags_of(meta) & _LINKED != ZERO and kind_of(meta) < _FIRST_ACCOUNT_KIND)


@helper
def unit_end(work: Work, start: I64) -> I64:
    """Return the end (exclusive) of the unit that begins at `start`; account commands are never linked."""
    end = start + 1
    while end < len(work.batch) and links_on(work, end - 1) and kind_of(work.batch[end, 15]) < _FIRST_ACCOUNT_KIND:
        end += 1
    return end


@helper
def apply_new(tables: Tables, work: Work, start: I64, end: I64, at: I64) -> I64:
    """Judge and store records start..end-1, all ids of which are new, from row `at` on; return the row after them."""
    group, in_chain = tables.counters[GROUP], end > start + 1
    work.counts[UNDO_COUNT] = ZERO
    for i in range(start, end):
        row, leg = at + i - start, np.uint64(i - start)
        refusal, low, high, target = judge(tables, work, i, True)
        if refusal != ACCEPTED:
            if refusal & SHORT != ZERO:
                _give_up(tables, work, start, end, at, i, refusal & ~SHORT)
                return at
            store(tables, work, i, row, refusal, leg, group)
            if in_chain:
                _fail_chain(tables, work, start, end, at, i)
            break
        is_update = kind_of(work.batch[i, 15]) >= _FIRST_ACCOUNT_KIND
        store(tables, work, i, row, _ACCOUNT_UPDATED if is_update else POSTED, leg, group)
        set_moved(work, row, low, high)
        _execute(tables, work, i, row, target, in_chain)
    return at + end - start


@helper
def look_for_ids(work: Work, start: I64, end: I64) -> bool:
    """Find the stored records with the unit's ids; return whether there is any."""
    any_known = False
    for i in range(start, end):
        stored = work.id_row[i]
        if stored < 0:
            stored = find_in_batch(work, work.hashes[i], work.batch[i, 0], work.batch[i, 1])
        work.stored[i] = stored
        any_known |= stored >= 0
    return any_known


@helper
def decider_elsewhere(tables: Tables, work: Work, start: I64, end: I64, any_known: bool) -> I64:
    """Return the group that decides the cross-group chain which a unit is on record in, or follows; -1 if this one."""
    group = tables.counters[GROUP]
    for i in range(start, end):
        stored = work.stored[i] if any_known else work.followed_row[i]
        if 0 <= stored < len(work.known_rows) and work.known_word[stored] != _NO_WORD:
            if any_known and work.known_decider[stored] != group:
                return np.int64(work.known_decider[stored])
            if not any_known and _laid_out_elsewhere(work, stored, group):
                return np.int64(work.known_decider[stored])
    return np.int64(-1)


@helper
def _laid_out_elsewhere(work: Work, stored: I64, group: U64) -> bool:
    """Whether a stored record took effect, and not on this group alone."""
    if outcome_of(work.known_rows[stored, 15]) > _LAST_EFFECTIVE or work.known_word[stored] == _RELEASED_WORD:
        return False
    sides = work.known_sides[stored]
    return bool(sides[0] != group or sides[1] != group or work.known_decider[stored] != group)


@outlined
def answer_unit_elsewhere(work: Work, start: I64, end: I64, decider: I64) -> None:
    """Say which group decides, to all legs of a unit."""
    for i in range(start, end):
        answer_elsewhere(work, i, decider)


@outlined
def _fail_chain(tables: Tables, work: Work, start: I64, end: I64, at: I64, failed: I64) -> None:
    """Take back the legs before the failed one; all ids are burned."""
    group = tables.counters[GROUP]
    roll_back(tables, work)
    for i in range(start, failed):
        refuse_stored(work, i, at + i - start, _CHAIN_FAILED, group)
    for i in range(failed + 1, end):
        store(tables, work, i, at + i - start, _CHAIN_FAILED, np.uint64(i - start), group)


@outlined
def _give_up(tables: Tables, work: Work, start: I64, end: I64, at: I64, failed: I64, reason: U64) -> None:
    """Let a unit leave no trace, as a bucket is short for leg `failed`, and other groups may have the rest."""
    roll_back(tables, work)
    for i in range(failed - 1, start - 1, -1):
        unlist_in_batch(work, work.hashes[i], at + i - start)
    for i in range(start, end):
        answer_short(work, i, failed - start, reason, tables.counters[GROUP])


@helper
def _execute(tables: Tables, work: Work, i: I64, row: I64, target: I64, in_chain: bool) -> None:
    """Let the accepted journal row `row`, made of record `i`, take effect."""
    kind, debit, credit = kind_of(work.batch[row, 15]), work.debit_rows[i], work.credit_rows[i]
    if in_chain:
        note_account(tables, work, debit)
        note_account(tables, work, credit)
    if kind == POST:
        move(tables, debit, credit, work.batch[row, 6], work.batch[row, 7])
    else:
        _execute_rare(tables, work, i, row, target, in_chain)


@outlined
def _execute_rare(tables: Tables, work: Work, i: I64, row: I64, target: I64, in_chain: bool) -> None:
    kind, debit, credit = kind_of(work.batch[row, 15]), work.debit_rows[i], work.credit_rows[i]
    if kind == RESERVE:
        position = work.counts[FIRST_POSITION] + np.uint64(row)
        opened = reserve(tables, work.batch, row, debit, credit, position, work.batch[row, 13], ZERO)
        if in_chain:
            note_listed(work, opened)
    elif kind == COMMIT or kind == RELEASE:
        _end_or_keep(tables, work, i, row, target, in_chain)
    elif kind == REVERSE:
        add_reversed(work, target, work.batch[row, 6], work.batch[row, 7], in_chain)
        move(tables, credit, debit, work.batch[row, 6], work.batch[row, 7])
    else:
        update_account(tables, work.batch, row, debit)


@outlined
def _end_or_keep(tables: Tables, work: Work, i: I64, row: I64, target: I64, in_chain: bool) -> None:
    """Commit or release the open reservation at `target`."""
    original = _stored_reserve(tables, work, i, target)
    if in_chain:
        note_remaining(tables, work, target)
    meta = work.batch[row, 15]
    if kind_of(meta) == RELEASE:
        release(tables, target)
        mark_ended(work, original, RELEASED)
    elif commit(tables, target, work.batch[row, 6], work.batch[row, 7], flags_of(meta) & _KEEP_REST != ZERO):
        mark_ended(work, original, COMMITTED)
    else:
        return
    if in_chain:
        note_unlisted(tables, work, target, original)


@helper
def _stored_reserve(tables: Tables, work: Work, i: I64, target: I64) -> I64:
    """Return the stored RESERVE of an open reservation."""
    position = tables.reservations[target, POSITION]
    if position >= work.counts[FIRST_POSITION]:
        return np.int64(position - work.counts[FIRST_POSITION]) + len(work.known_rows)
    if work.followed_row[i] < 0:
        work.counts[INCONSISTENT] = ONE
        return np.int64(len(work.known_rows))
    return work.followed_row[i]


@outlined
def add_reversed(work: Work, stored: I64, low: U64, high: U64, in_chain: bool) -> None:
    """Note, beside a stored transfer, that so much of it is reversed."""
    if in_chain:
        note_reversed(work, stored)
    known = len(work.known_rows)
    if stored < known:
        sums, at = work.known_reversed, stored
    else:
        sums, at = work.reversed, stored - known
    sums[at, 0], sums[at, 1] = add(sums[at, 0], sums[at, 1], low, high)


@outlined
def answer_known(tables: Tables, work: Work, start: I64, end: I64, at: I64) -> I64:
    """Answer a unit some of whose ids are known: a replay of what is on record, or conflicts that burn the new ids.

    Marks in `stored` are rewritten: a leg that is on record keeps its number, a conflict gets ~number.
    """
    group, row = tables.counters[GROUP], at
    on_record = _is_on_record(work, start, end, at)
    for i in range(start, end):
        stored = work.stored[i]
        if stored == -1:
            store(tables, work, i, row, _CHAIN_FAILED, np.uint64(row - at), group)
            row += 1
        elif on_record and stored >= 0:
            answer_replayed(work, i, stored, group)
        else:
            if stored < 0:
                stored = -2 - stored
            different = conflict(work, i, stored)
            answer_unstored(work, i, different if different != ZERO else _DIFFERENT_CHAIN, group)
    return row


@outlined
def _is_on_record(work: Work, start: I64, end: I64, at: I64) -> bool:
    """Whether just this unit is on record; legs that are not part of the recorded one are marked: -2 - number.

    Whatever a unit stored is younger than what it met: the recorded legs stand at the end of the positions, in order,
    from leg 0 to the chain's last. All legs of the unit are on record if it was judged; if it met a known id, only the
    rest is, each CHAIN_FAILED. (A chain that was judged and refused has one leg that says why.)
    """
    newest = ZERO
    for i in range(start, end):
        if work.stored[i] < 0:
            return False
        newest = max(newest, stored_position(work, work.stored[i]))
    expected, matched, judged, whole = newest, 0, False, False
    for i in range(end - 1, start - 1, -1):
        stored = work.stored[i]
        fits = not whole and stored_position(work, stored) == expected and conflict(work, i, stored) == ZERO
        if not fits or (matched == 0 and not ends_chain(work, stored, at)):
            work.stored[i] = -2 - stored
            continue
        meta = stored_meta(work, stored)
        matched += 1
        expected -= ONE
        judged |= outcome_of(meta) != _CHAIN_FAILED
        whole = leg_of(meta) == ZERO
    return whole and (matched == end - start) == judged
