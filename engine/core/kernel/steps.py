"""The compiled loop over the steps of a STEPS record: is each heard, what does it change, what is answered (DESIGN §7).

The lifecycles are those of `engine.core.chains.word`; whatever they do not have is ignored, and answered with a stored
row of the chain that is on record. As in `engine.core.kernel.apply`, the batch turns into the journal block in place.
"""

from typing import Final

import numpy as np

from engine.core.chains.word import State, Step
from engine.core.compiled import entry, helper, outlined
from engine.core.kernel.accounts import ACCEPTED, DEBITS_RESERVED, FLAGS_WORD, M32, SHIFT_32
from engine.core.kernel.arrays import (
    ACCOUNT_COUNT,
    FIRST_POSITION,
    GROUP,
    HASH_SEED,
    STEPS_TYPE,
    TABLES_TYPE,
    WORK_TYPE,
    Steps,
    Tables,
    Work,
)
from engine.core.kernel.buckets import drop_accounts
from engine.core.kernel.chain import add_reversed
from engine.core.kernel.judge import COMMIT, RELEASE, RESERVE, REVERSE, SHORT, find_followed, judge
from engine.core.kernel.open_chains import (
    ACCOUNTS,
    BODY,
    POSITION,
    SECURED,
    STEP_DIGEST,
    body_kept,
    body_of,
    close_chain,
    decider_of,
    find_chain,
    first_row_of,
    is_chain,
    is_of_digest,
    legs_of,
    open_chain,
    pack_rows,
    row_count_of,
    step_of,
)
from engine.core.kernel.reservations import REMAINING, mark_ended
from engine.core.kernel.step_effects import (
    count_freed,
    lacks_transit,
    make_transits,
    place_far,
    place_leg,
    place_near,
    run_leg,
    secure_net,
    secure_one,
)
from engine.core.kernel.step_expiry import expire_elsewhere
from engine.core.kernel.step_rows import (
    answer_changed,
    answer_ignored,
    answer_short_step,
    is_on_record,
    set_step_amount,
    store_step,
    stored_of_id,
)
from engine.core.kernel.step_scratch import judge_on_scratch
from engine.core.kernel.stored import find_in_batch, kind_of, outcome_of, stored_meta, stored_word
from engine.core.kernel.tables import find_reservation
from engine.core.kernel.u128 import FULL, I64, U8, U64, ZERO, add, less
from engine.core.outcomes import Outcome
from engine.core.placement import hash_id

_RESERVE_STEP: Final = np.uint64(Step.RESERVE)
_DECIDE_STEP: Final = np.uint64(Step.DECIDE)
_COMMIT_STEP: Final = np.uint64(Step.COMMIT)
_RELEASE_STEP: Final = np.uint64(Step.RELEASE)
_ABORT_STEP: Final = np.uint64(Step.ABORT)
_HOLD_STEP: Final = np.uint64(Step.HOLD)
_EXPIRE_STEP: Final = np.uint64(Step.EXPIRE)

_NO_WORD: Final = np.uint8(State.NONE)
_RESERVED: Final = np.uint8(State.RESERVED)
_HELD: Final = np.uint8(State.HELD)
_POSTED: Final = np.uint8(State.POSTED)
_COMMITTED: Final = np.uint8(State.COMMITTED)
_RELEASED: Final = np.uint8(State.RELEASED)
_REFUSED: Final = np.uint8(State.REFUSED)
_TOMBSTONE: Final = np.uint8(State.TOMBSTONE)

_POSTED_OUTCOME: Final = np.uint64(Outcome.POSTED)
_SECURED_OUTCOME: Final = np.uint64(Outcome.SECURED)
_CHAIN_FAILED: Final = np.uint64(Outcome.CHAIN_FAILED)
_LAST_EFFECTIVE: Final = np.uint64(9)

_AHEAD: Final = np.int64(16)
"""Steps whose accounts and open chains are looked up before the first of them is judged: they stay in the first cache
until their turn, which those of a whole record do not."""


@helper
def _begins(step: U64) -> bool:
    return bool(step == _RESERVE_STEP or step == _DECIDE_STEP)


@helper
def _ends(step: U64) -> bool:
    return bool(step == _COMMIT_STEP or step == _HOLD_STEP or step == _RELEASE_STEP)


# ---- RESERVE, DECIDE, ABORT: the first word ----


@helper
def _begin(tables: Tables, work: Work, steps: Steps, number: I64, step: U64, at: I64) -> I64:
    first, count = first_row_of(steps.steps, number), row_count_of(steps.steps, number)
    met = stored_of_id(work, first)
    if met < 0:
        met = _laid_out_otherwise(tables, work, steps, number, first, count)
    if met >= 0 or not _is_of_this_group(tables, steps, number, step):
        answer_ignored(work, steps, number, met)
        return at
    accounts = np.int64(tables.counters[ACCOUNT_COUNT])
    for i in range(first, first + count):
        if lacks_transit(tables, work, i):
            make_transits(tables, work, i, at)
    decides = step == _DECIDE_STEP
    if count > 1:
        refusal, failed = judge_on_scratch(tables, work, first, count, decides)
    else:
        failed = np.int64(0)
        refusal, low, high, _ = judge(tables, work, first, decides)
        if refusal == ACCEPTED:
            work.batch[first, 6], work.batch[first, 7] = low, high
    if refusal != ACCEPTED:
        if refusal & SHORT != ZERO:
            drop_accounts(tables, accounts)
            answer_short_step(steps, number, refusal & ~SHORT, failed)
            return at
        return _refuse(tables, work, steps, number, at, _REFUSED, refusal, failed)
    return _accept(tables, work, steps, number, step, at)


@helper
def _is_of_this_group(tables: Tables, steps: Steps, number: I64, step: U64) -> bool:
    """Only the decider decides, and it never reserves."""
    return bool((decider_of(steps.steps, number) == tables.counters[GROUP]) == (step != _RESERVE_STEP))


@helper
def _laid_out_otherwise(tables: Tables, work: Work, steps: Steps, number: I64, first: I64, count: I64) -> I64:
    """Return a stored original of the chain's legs that is laid out otherwise than the leg is; -1 if there is none."""
    for i in range(first, first + count):
        if kind_of(work.batch[i, 15]) > RESERVE:
            stored = find_followed(tables, work, i)
            if stored >= 0 and not _is_laid_out_alike(tables, work, steps, number, i, stored):
                return stored
    return np.int64(-1)


@outlined
def _is_laid_out_alike(tables: Tables, work: Work, steps: Steps, number: I64, i: I64, stored: I64) -> bool:
    if outcome_of(stored_meta(work, stored)) > _LAST_EFFECTIVE or stored_word(work, stored) == _RELEASED:
        return True  # there is nothing to follow, and that is what it will be told
    known = len(work.known_rows)
    if stored < known:
        sides, decider = work.known_sides[stored], np.uint64(work.known_decider[stored])
    else:
        sides = work.sides[stored - known]
        decider = decider_of(steps.steps, work.row_step[stored - known])
    alike = sides[0] == work.sides[i, 0] and sides[1] == work.sides[i, 1]
    return bool(alike and decider == decider_of(steps.steps, number))


@helper
def _accept(tables: Tables, work: Work, steps: Steps, number: I64, step: U64, at: I64) -> I64:
    first, count = first_row_of(steps.steps, number), row_count_of(steps.steps, number)
    decides, holds = step == _DECIDE_STEP, False
    for leg in range(count):
        holds |= kind_of(work.batch[first + leg, 15]) == RESERVE
    state = _RESERVED
    if decides:
        state = _HELD if holds else _POSTED
    outcome = _POSTED_OUTCOME if decides else _SECURED_OUTCOME
    for leg in range(count):
        store_step(work, steps, number, first + leg, at + leg, outcome, leg, state)
    answer_changed(work, steps, number, at, state, ZERO, np.int64(0))
    if decides:
        for leg in range(count):
            _run(tables, work, steps, first + leg, at + leg, number, work.batch[at, 13])
    else:
        _secure(tables, work, steps, number, first, at, count)
    return at + count


@helper
def _secure(tables: Tables, work: Work, steps: Steps, number: I64, first: I64, at: I64, count: I64) -> None:
    low = high = accounts = body = ZERO
    if count == 1:
        low, high = work.batch[at, 6], work.batch[at, 7]
        debit, credit = work.debit_rows[first], work.credit_rows[first]
        secure_one(tables, kind_of(work.batch[at, 15]), debit, credit, low, high, True)
        accounts, body = pack_rows(debit, credit), body_kept(tables, work, at)
    else:
        secure_net(tables, work, steps, first, at, count, decider_of(steps.steps, number), True)
    position = work.counts[FIRST_POSITION] + np.uint64(at)
    open_chain(tables, steps.steps, number, low, high, accounts, body, work.batch[at, 13], position)


@helper
def _run(tables: Tables, work: Work, steps: Steps, i: I64, row: I64, number: I64, since_ns: U64) -> None:
    """Run a decided leg, and note beside its original what that ended, or reversed."""
    decider = decider_of(steps.steps, number)
    ended, how = run_leg(tables, work, steps, i, row, decider, since_ns)
    set_step_amount(work, steps, row)
    kind = kind_of(work.batch[row, 15])
    if kind > RESERVE:
        _note_followed(tables, work, i, row, ended, how, decider == tables.counters[GROUP])


@outlined
def _note_followed(tables: Tables, work: Work, i: I64, row: I64, ended: bool, how: U8, decides: bool) -> None:
    stored, low, high = work.followed_row[i], work.batch[row, 8], work.batch[row, 9]
    if stored < 0:
        stored = find_in_batch(work, hash_id(low, high, tables.counters[HASH_SEED]), low, high)
    if stored < 0:
        return
    if ended:
        mark_ended(work, stored, how)
    if decides and kind_of(work.batch[row, 15]) == REVERSE:
        add_reversed(work, stored, work.batch[row, 6], work.batch[row, 7], False)


@outlined
def _refuse(tables: Tables, work: Work, steps: Steps, number: I64, at: I64, state: U8, reason: U64, failed: I64) -> I64:
    """Store a chain that is refused: its ids are burned."""
    first, count = first_row_of(steps.steps, number), row_count_of(steps.steps, number)
    for leg in range(count):
        i = first + leg
        work.batch[i, 6], work.batch[i, 7] = work.asked[i, 0], work.asked[i, 1]
        store_step(work, steps, number, i, at + leg, reason if leg == failed else _CHAIN_FAILED, leg, state)
    answer_changed(work, steps, number, at, state, reason, failed)
    return at + count


@outlined
def _abort(tables: Tables, work: Work, steps: Steps, number: I64, at: I64) -> I64:
    met = stored_of_id(work, first_row_of(steps.steps, number))
    failed = np.int64((steps.steps[number, 6] >> np.uint64(16)) & np.uint64(0xFFFF))
    if met >= 0 or not _is_of_this_group(tables, steps, number, _ABORT_STEP):
        answer_ignored(work, steps, number, met)
        return at
    return _refuse(tables, work, steps, number, at, _TOMBSTONE, steps.steps[number, 6] & np.uint64(0xFFFF), failed)


# ---- COMMIT, HOLD, RELEASE: the decider's word ----


@helper
def _end(tables: Tables, work: Work, steps: Steps, number: I64, step: U64, at: I64) -> I64:
    first, count = first_row_of(steps.steps, number), row_count_of(steps.steps, number)
    chain = _chain_found(tables, work, steps, number, first)
    if chain < 0 or not is_of_digest(tables, chain, steps.steps, number):
        answer_ignored(work, steps, number, stored_of_id(work, first))
        if chain >= 0:
            steps.answers[number, 1] = tables.chains[chain, POSITION]
        return at
    if not _fits(tables, work, steps, number, step, chain):
        met = stored_of_id(work, first)
        answer_ignored(work, steps, number, met)
        if met < 0:  # it was not looked for, as its chain is open
            steps.answers[number, 1] = tables.chains[chain, POSITION]
        return at
    outcome, state = _POSTED_OUTCOME, _COMMITTED
    if step != _COMMIT_STEP:
        outcome, state = (_POSTED_OUTCOME, _HELD) if step == _HOLD_STEP else (_CHAIN_FAILED, _RELEASED)
    one_leg = legs_of(steps.steps, number) == 1
    if one_leg:
        _free_one(tables, work, first, chain)
    else:
        _place_again(tables, work, first, count)
    for i in range(first, first + count):
        _set_word(work, i, state)
        leg = np.int64((work.batch[i, 15] >> np.uint64(48)) & np.uint64(0x1FFF))
        store_step(work, steps, number, i, at + i - first, outcome, leg, state)
    if one_leg:
        debit, credit = work.debit_rows[first], work.credit_rows[first]
        count_freed(tables, work, at, debit, credit, tables.chains[chain, SECURED], tables.chains[chain, SECURED + 1])
    if np.int64(legs_of(steps.steps, number)) > count:
        _set_far_words(work, steps, number, at, state)
    if not one_leg:
        secure_net(tables, work, steps, first, at, count, decider_of(steps.steps, number), False)
    if step != _RELEASE_STEP:
        since_ns = steps.steps[number, 4]
        for i in range(first, first + count):
            _run(tables, work, steps, i, at + i - first, number, since_ns)
    close_chain(tables, chain)
    answer_changed(work, steps, number, at, state, ZERO, np.int64(0))
    return at + count


@helper
def _chain_found(tables: Tables, work: Work, steps: Steps, number: I64, first: I64) -> I64:
    """Return the row of a step's open chain: the one that `_look_ahead` saw, unless a step in between ended it."""
    row = work.stored[first]
    if row >= 0 and is_chain(tables, row, steps.steps, number):
        return row
    return find_chain(tables, steps.steps[number, 0], steps.steps[number, 1])


@helper
def _place_again(tables: Tables, work: Work, first: I64, count: I64) -> None:
    """Find the transit accounts that an earlier step of this very record has made."""
    for i in range(first, first + count):
        if lacks_transit(tables, work, i):
            place_leg(tables, work, i, False)


@helper
def _free_one(tables: Tables, work: Work, first: I64, chain: I64) -> None:
    """Free what a chain of one leg secured; its accounts stand beside it."""
    accounts, kind = tables.chains[chain, ACCOUNTS], kind_of(work.batch[first, 15])
    debit, credit = np.int64(accounts & M32), np.int64(accounts >> SHIFT_32)
    work.debit_rows[first], work.credit_rows[first] = debit, credit
    secure_one(tables, kind, debit, credit, tables.chains[chain, SECURED], tables.chains[chain, SECURED + 1], False)


@helper
def _set_word(work: Work, i: I64, state: U8) -> None:
    """Note the chain's new state beside the row that registered this leg's id."""
    stored, known = stored_of_id(work, i), len(work.known_rows)
    if stored >= known:
        work.row_word[stored - known] = state
    elif stored >= 0:
        work.known_word[stored] = state


@outlined
def _set_far_words(work: Work, steps: Steps, number: I64, stored: I64, state: U8) -> None:
    """Note it beside the rows of the other groups' legs too: a later leg may follow one of them."""
    low, high = steps.steps[number, STEP_DIGEST], steps.steps[number, STEP_DIGEST + 1]
    for known in range(len(work.known_rows)):
        if work.known_digest[known, 0] == low and work.known_digest[known, 1] == high:
            work.known_word[known] = state
    for row in range(stored):
        of_step = steps.steps[work.row_step[row]]
        if work.row_word[row] != _NO_WORD and of_step[STEP_DIGEST] == low and of_step[STEP_DIGEST + 1] == high:
            work.row_word[row] = state


@helper
def _fits(tables: Tables, work: Work, steps: Steps, number: I64, step: U64, chain: I64) -> bool:
    """Whether a decider that keeps to the protocol can have said this: of the legs on record, no more than what is
    secured, or held."""
    first, count = first_row_of(steps.steps, number), row_count_of(steps.steps, number)
    if np.int64(legs_of(steps.steps, number)) < count:
        return False
    for i in range(first, first + count):
        if not _is_known(tables, work, steps, number, i, chain):
            return False
        kind = kind_of(work.batch[i, 15])
        if step == _RELEASE_STEP:
            continue
        if kind == COMMIT or kind == RELEASE:
            releases_more = kind == RELEASE and work.batch[i, 6] | work.batch[i, 7] != ZERO
            if releases_more or not _fits_hold(tables, work, steps, i):
                return False
        elif kind == RESERVE and step != _HOLD_STEP:
            return False
        elif kind == RESERVE or legs_of(steps.steps, number) > 1:
            if work.batch[i, 6] != work.asked[i, 0] or work.batch[i, 7] != work.asked[i, 1]:
                return False
        elif less(tables.chains[chain, SECURED], tables.chains[chain, SECURED + 1], work.batch[i, 6], work.batch[i, 7]):
            return False
    return True


@helper
def _is_known(tables: Tables, work: Work, steps: Steps, number: I64, i: I64, chain: I64) -> bool:
    """Whether record `i` is a leg on record: a chain of one leg mostly says so by itself."""
    if tables.chains[chain, BODY] == ZERO:
        return is_on_record(work, steps, number, i)
    return bool(legs_of(steps.steps, number) == 1 and body_of(tables, work, i) == tables.chains[chain, BODY])


@outlined
def _fits_hold(tables: Tables, work: Work, steps: Steps, i: I64) -> bool:
    row = find_reservation(tables, work.batch[i, 8], work.batch[i, 9])
    if row < 0:
        return False
    back_low, back_high = steps.given_back[i, 0], steps.given_back[i, 1]
    low, high = add(work.batch[i, 6], work.batch[i, 7], back_low, back_high)
    wraps = less(low, high, back_low, back_high)
    rest = tables.reservations[row]
    return not wraps and not less(rest[REMAINING], rest[REMAINING + 1], low, high)


# ---- the loops ----


@entry((TABLES_TYPE, WORK_TYPE, STEPS_TYPE))
def scan_steps(tables: Tables, work: Work, steps: Steps) -> tuple[I64, I64, I64]:
    """Look up the transit accounts of all records; return upper bounds of what will be made: (transit accounts, holds,
    open chains)."""
    transits = holds = chains = np.int64(0)
    for number in range(len(steps.steps)):
        step, first = step_of(steps.steps, number), first_row_of(steps.steps, number)
        count = row_count_of(steps.steps, number)
        chains += np.int64(step == _RESERVE_STEP)
        if step == _RESERVE_STEP and count > 1:
            transits += count
        for i in range(first, first + count):
            if step != _DECIDE_STEP and step != _COMMIT_STEP and step != _HOLD_STEP:
                work.batch[i, 6], work.batch[i, 7] = work.asked[i, 0], work.asked[i, 1]
            if _begins(step):
                transits += np.int64(place_far(tables, work, i))
            elif _ends(step) and legs_of(steps.steps, number) > 1:
                place_leg(tables, work, i, False)
            holds += np.int64(kind_of(work.batch[i, 15]) == RESERVE)
    return transits, holds, chains


@helper
def _touch_accounts(tables: Tables, debit: I64, credit: I64) -> U64:
    """Both halves of two account rows are wanted soon."""
    if debit < 0 or credit < 0:
        return ZERO
    accounts = tables.accounts
    debited = accounts[debit, DEBITS_RESERVED] | accounts[debit, FLAGS_WORD]
    return debited | accounts[credit, DEBITS_RESERVED] | accounts[credit, FLAGS_WORD]


@helper
def _look_ahead(tables: Tables, work: Work, steps: Steps, number: I64, end: I64) -> U64:
    """Hash the ids and find the accounts and open chains of the steps from `number` on: what the cache lacks of them is
    on its way for all of them at once, where the loop that judges would wait for each. Returns of what was touched
    something that must be kept, or the compiler drops the loads."""
    touched, seed = ZERO, tables.counters[HASH_SEED]
    for ahead in range(number, end):
        step, first = step_of(steps.steps, ahead), first_row_of(steps.steps, ahead)
        for i in range(first, first + row_count_of(steps.steps, ahead)):
            work.hashes[i] = hash_id(work.batch[i, 0], work.batch[i, 1], seed)
            if _begins(step):
                place_near(tables, work, i, True)
                touched |= _touch_accounts(tables, work.debit_rows[i], work.credit_rows[i])
        if step == _RESERVE_STEP:
            touched |= tables.chain_slots[work.hashes[first] & np.uint64(len(tables.chain_slots) - 1)]
        elif _ends(step):
            work.stored[first] = find_chain(tables, steps.steps[ahead, 0], steps.steps[ahead, 1])
            if work.stored[first] >= 0:
                accounts = tables.chains[work.stored[first], ACCOUNTS]
                if accounts != FULL:
                    debit, credit = np.int64(accounts & M32), np.int64(accounts >> SHIFT_32)
                    touched |= _touch_accounts(tables, debit, credit)
    return touched


@helper
def _apply_step(tables: Tables, work: Work, steps: Steps, number: I64, at: I64) -> I64:
    step = step_of(steps.steps, number)
    if _begins(step):
        return _begin(tables, work, steps, number, step, at)
    if _ends(step):
        return _end(tables, work, steps, number, step, at)
    if step == _ABORT_STEP:
        return _abort(tables, work, steps, number, at)
    if step == _EXPIRE_STEP:
        return expire_elsewhere(tables, work, steps, number, at)
    answer_ignored(work, steps, number, stored_of_id(work, first_row_of(steps.steps, number)))
    return at


@entry((TABLES_TYPE, WORK_TYPE, STEPS_TYPE))
def apply_step_batch(tables: Tables, work: Work, steps: Steps) -> I64:
    """Apply the steps in place; return how many rows of the batch are journal rows now, the first ones."""
    at, count = np.int64(0), np.int64(len(steps.steps))
    for start in range(np.int64(0), count, _AHEAD):
        end = min(start + _AHEAD, count)
        work.results[0, 0] = _look_ahead(tables, work, steps, start, end)
        for number in range(start, end):
            at = _apply_step(tables, work, steps, number, at)
    return at
