"""The rules of the protocol as switches: all on is DESIGN §7; each one off is a fault that the model must find."""

from typing import NamedTuple


class Rules(NamedTuple):
    """What drivers and groups hold to. The comment names the fault that switching it off plants."""

    # The drivers, router and courier.
    refusal_told_by_decider: bool = True  # off: a group's own refusal is told at once
    posted_told_after_credits: bool = True  # off: POSTED is told as soon as it is decided
    holds_marked: bool = True  # off: a hold is told before every group has marked it
    decided_after_all: bool = True  # off: DECIDE goes out with the first reservation
    secured_amount_decided: bool = True  # off: the decider posts what was asked, not what was secured
    plans_compared: bool = True  # off: a word is taken to be of the plan that one drives
    refusals_carried: bool = True  # off: nobody tells the decider that a group refused
    conflicts_carried: bool = True  # off: nobody tells the decider that another body has taken the id
    aborts_by_holders_only: bool = True  # off: a router aborts by deadline too, with any number of groups
    deadline_aborts: bool = True  # off: nobody ever aborts by deadline
    standoffs_refused: bool = True  # off: plans that wait for each other's deciders are asked about for ever
    followers_start_at_home: bool = True  # off: a follower is reserved anywhere first
    couriers_ask: bool = True  # off: a courier commits what its own log has reserved
    expiry_by_decider: bool = True  # off: a group ends its hold by its own deadline
    reservations_end_by_decider: bool = True  # off: a group gives back its reservation by its own deadline

    # A group's log.
    decision_logged: bool = True  # off: the decider answers POSTED from memory, and loses it
    tombstone_logged: bool = True  # off: an abort is answered, and forgotten
    first_word_final: bool = True  # off: a repeated DECIDE posts again
    committed_once: bool = True  # off: a repeated COMMIT posts again
    late_reserve_ignored: bool = True  # off: a RESERVE after the RELEASE reserves again
    plan_checked: bool = True  # off: COMMIT and RELEASE are obeyed whatever plan they name
    legs_in_order: bool = True  # off: every leg is secured by itself, not the net of all
    reservations_counted: bool = True  # off: limits look at what is posted only
    reversals_summed: bool = True  # off: each REVERSE is compared with the whole by itself
    ids_of_legs_registered: bool = True  # off: only the chain's own id is
    rest_by_decider: bool = True  # off: a group gives back all that it still holds when a COMMIT ends a hold
    originals_plan_asked: bool = True  # off: a follower laid out by today's map is judged by whoever gets it
    home_splits_first: bool = True  # off: a bucket may open before the account's home has logged the split
    bucket_must_exist: bool = True  # off: a group runs what is laid out on a bucket that it has not opened
    old_maps_finish: bool = True  # off: later steps of a logged chain are refused for the age of its map
    short_bucket_waits: bool = True  # off: a bucket that has not enough refuses for the whole account
    frozen_checked: bool = True  # off: a COMMIT of a hold is judged by the decider's accounts only


RULES = Rules()
