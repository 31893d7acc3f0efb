"""Faults that can be seen from a request alone: each has a name and a field, and spares its neighbours (DESIGN §4)."""

from typing import Any

import pytest

from engine.core.model.state import NO_ID, Event, pack
from engine.core.records import AMOUNT_ALL, AccountFlag, Flag, Kind, as_words
from engine.core.validation import Fault, fault_text, faults_of
from tests.core_histories import ALL_ONES, name

POST = Event(id=name(1), kind=Kind.POST, debit=name(11), credit=name(12), amount=5, ledger=1)
RESERVE = POST._replace(kind=Kind.RESERVE, timeout_or_version=60)
COMMIT = POST._replace(kind=Kind.COMMIT, followed=name(9))
RELEASE = COMMIT._replace(kind=Kind.RELEASE, amount=0)
REVERSE = COMMIT._replace(kind=Kind.REVERSE)
CREATE = Event(id=name(11), kind=Kind.CREATE_ACCOUNT, ledger=1)
UPDATE = Event(id=name(1), kind=Kind.UPDATE_ACCOUNT, debit=name(11), ledger=1, timeout_or_version=1)

VALID = (
    POST,
    POST._replace(amount=AMOUNT_ALL, effective_at=5, code=7, reference=name(3)),
    POST._replace(flags=Flag.BALANCING_DEBIT),
    POST._replace(flags=Flag.BALANCING_CREDIT | Flag.FORCE),
    POST._replace(ledger=0),
    RESERVE,
    RESERVE._replace(timeout_or_version=0, flags=Flag.FORCE),
    COMMIT,
    COMMIT._replace(amount=AMOUNT_ALL, flags=Flag.KEEP_REST),
    RELEASE,
    REVERSE._replace(flags=Flag.FORCE),
    CREATE._replace(amount=(1 << 127) - 1, flags=AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS, code=3, reference=name(1)),
    CREATE._replace(flags=AccountFlag.FROZEN),
    UPDATE._replace(flags=AccountFlag.FROZEN | AccountFlag.CLOSED, amount=9, code=3, reference=name(1)),
)

INVALID: tuple[tuple[Fault, Event], ...] = (
    *(
        (Fault.KIND_UNKNOWN, POST._replace(kind=kind))
        for kind in (0, 6, 63, Kind.BUCKET, 67, Kind.EXPIRE, Kind.SETTINGS, 255)
    ),
    *((Fault.TIMESTAMP_NOT_ZERO, event._replace(timestamp=1)) for event in (POST, CREATE)),
    *((Fault.OUTCOME_NOT_ZERO, event._replace(outcome=1)) for event in (POST, UPDATE)),
    *((Fault.LEG_NOT_ZERO, event._replace(leg=1)) for event in (POST, UPDATE)),
    *((Fault.ID_ZERO, event._replace(id=NO_ID)) for event in (POST, CREATE)),
    *((Fault.ID_ALL_ONES, event._replace(id=ALL_ONES)) for event in (POST, CREATE)),
    *((Fault.DEBIT_ACCOUNT_ZERO, event._replace(debit=NO_ID)) for event in (POST, RELEASE, UPDATE)),
    *((Fault.DEBIT_ACCOUNT_ALL_ONES, event._replace(debit=ALL_ONES)) for event in (POST, UPDATE)),
    (Fault.CREDIT_ACCOUNT_ZERO, POST._replace(credit=NO_ID)),
    (Fault.CREDIT_ACCOUNT_ALL_ONES, POST._replace(credit=ALL_ONES)),
    (Fault.ACCOUNTS_SAME, POST._replace(credit=POST.debit)),
    *((Fault.AMOUNT_ZERO, event._replace(amount=0)) for event in (POST, RESERVE, COMMIT, REVERSE)),
    (Fault.AMOUNT_UNEXPECTED, RELEASE._replace(amount=1 << 64)),
    *((Fault.FOLLOWED_MISSING, event._replace(followed=NO_ID)) for event in (COMMIT, RELEASE, REVERSE)),
    *((Fault.FOLLOWED_UNEXPECTED, event._replace(followed=name(9))) for event in (POST, RESERVE, CREATE, UPDATE)),
    (Fault.FOLLOWED_ITSELF, COMMIT._replace(followed=COMMIT.id)),
    *((Fault.FLAG_UNKNOWN, event._replace(flags=32)) for event in (POST, RESERVE, COMMIT, RELEASE, REVERSE)),
    *((Fault.FLAG_UNKNOWN, event._replace(flags=Flag.KEEP_REST)) for event in (POST, RESERVE, RELEASE, REVERSE)),
    *((Fault.FLAG_UNKNOWN, event._replace(flags=Flag.FORCE)) for event in (COMMIT, RELEASE)),
    (Fault.BALANCING_BOTH, POST._replace(flags=Flag.BALANCING_DEBIT | Flag.BALANCING_CREDIT)),
    *(
        (Fault.BALANCING_OF_WRONG_KIND, event._replace(flags=Flag.BALANCING_DEBIT))
        for event in (RESERVE, COMMIT, RELEASE, REVERSE)
    ),
    *((Fault.TIMEOUT_UNEXPECTED, event._replace(timeout_or_version=1)) for event in (POST, COMMIT, RELEASE, CREATE)),
    (Fault.ACCOUNT_LIMITED_BOTH_WAYS, CREATE._replace(flags=3)),
    *((Fault.ACCOUNT_FLAG_RESERVED, CREATE._replace(flags=flag)) for flag in (16, 32, 64, 128)),
    (Fault.ACCOUNT_CLOSED_AT_CREATION, CREATE._replace(flags=AccountFlag.CLOSED)),
    *((Fault.ACCOUNT_LIMIT_IN_UPDATE, UPDATE._replace(flags=flag)) for flag in (1, 2)),
    *((Fault.OVERDRAFT_TOO_LARGE, event._replace(amount=1 << 127)) for event in (CREATE, UPDATE)),
    (Fault.DEBIT_ACCOUNT_UNEXPECTED, CREATE._replace(debit=name(12))),
    *((Fault.CREDIT_ACCOUNT_UNEXPECTED, event._replace(credit=name(12))) for event in (CREATE, UPDATE)),
    *((Fault.EFFECTIVE_AT_UNEXPECTED, event._replace(effective_at=1)) for event in (CREATE, UPDATE)),
    (Fault.EXPECTED_VERSION_ZERO, UPDATE._replace(timeout_or_version=0)),
)


def told(*events: Event) -> list[Fault]:
    return [Fault(fault) for fault in faults_of(as_words(b"".join(map(pack, events))))]


def linked(number: int, **fields: Any) -> Event:
    return POST._replace(id=name(100 + number), flags=Flag.LINKED)._replace(**fields)


@pytest.mark.parametrize("event", VALID)
def test_a_sensible_request_has_no_fault(event: Event) -> None:
    assert told(event) == [Fault.NONE]


@pytest.mark.parametrize(("fault", "event"), INVALID, ids=lambda part: part.name if isinstance(part, Fault) else "")
def test_an_invalid_item_has_its_own_fault_and_spares_its_neighbours(fault: Fault, event: Event) -> None:
    assert told(POST, event, POST) == [Fault.NONE, fault, Fault.NONE]


def test_every_fault_of_an_item_is_among_the_examples_and_has_a_field_and_a_sentence() -> None:
    of_chains = {Fault.CHAIN_OPEN, Fault.ID_TWICE_IN_CHAIN, Fault.BALANCING_IN_CHAIN, Fault.CHAIN_INVALID}
    assert {fault for fault, _ in INVALID} == set(Fault) - of_chains - {Fault.NONE}
    for fault in set(Fault) - {Fault.NONE}:
        text = fault_text(fault)
        assert text.reason == fault.name
        assert text.message.endswith(".")
        assert text.field or fault == Fault.CHAIN_INVALID


def test_a_faulty_leg_spoils_its_whole_chain_and_nothing_else() -> None:
    chain = (linked(1), linked(2, amount=0), linked(3, flags=0))
    assert told(POST, *chain, POST) == [
        Fault.NONE,
        Fault.CHAIN_INVALID,
        Fault.AMOUNT_ZERO,
        Fault.CHAIN_INVALID,
        Fault.NONE,
    ]


def test_a_chain_left_open_at_the_end_of_the_batch_is_invalid() -> None:
    assert told(POST, linked(1), linked(2)) == [Fault.NONE, Fault.CHAIN_INVALID, Fault.CHAIN_OPEN]
    assert told(linked(1)) == [Fault.CHAIN_OPEN]


def test_an_account_command_ends_a_chain_before_it_and_is_no_part_of_it() -> None:
    command = CREATE._replace(flags=AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
    assert told(linked(1), linked(2), command, POST) == [
        Fault.CHAIN_INVALID,
        Fault.CHAIN_OPEN,
        Fault.NONE,
        Fault.NONE,
    ]


def test_one_id_twice_in_a_chain_is_invalid_and_twice_in_a_batch_is_not() -> None:
    assert told(linked(1), linked(2), linked(1, flags=0)) == [
        Fault.CHAIN_INVALID,
        Fault.CHAIN_INVALID,
        Fault.ID_TWICE_IN_CHAIN,
    ]
    assert told(linked(1), linked(2, flags=0), linked(1), linked(2, flags=0)) == [Fault.NONE] * 4


def test_balancing_in_a_chain_is_refused_by_name() -> None:
    balancing = linked(2, flags=Flag.LINKED | Flag.BALANCING_DEBIT)
    assert told(linked(1), balancing, linked(3, flags=0)) == [
        Fault.CHAIN_INVALID,
        Fault.BALANCING_IN_CHAIN,
        Fault.CHAIN_INVALID,
    ]


def test_a_read_only_and_an_empty_batch_are_fine() -> None:
    assert told() == []
    assert told(*[POST] * 3) == [Fault.NONE] * 3


def test_the_numbers_of_faults_are_for_ever() -> None:
    assert [fault.value for fault in Fault] == list(range(34))
    assert (Fault.KIND_UNKNOWN, Fault.AMOUNT_ZERO, Fault.CHAIN_INVALID) == (1, 12, 33)
