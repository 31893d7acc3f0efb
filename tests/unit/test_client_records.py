"""The client's records are the engine's, field by field; what does not fit is refused by name."""

from datetime import UTC, datetime

import numpy as np
import pytest

from engine.core.known import RESULT
from engine.core.records import CALLER_TRANSFER_KINDS, RECORD, AccountFlag, Flag
from postingengine import Account, Outcome, Result, Transfer
from postingengine import AccountFlag as ClientAccountFlag
from postingengine import Flag as ClientFlag
from postingengine import Kind as ClientKind
from postingengine.messages import account_message
from postingengine.results import PACKED_RESULT
from postingengine.transfers import chain_of, chain_records, pack_transfer

A, B, R = bytes([1]) * 16, bytes([2]) * 16, bytes([3]) * 16


def transfer(**changes: object) -> Transfer:
    return Transfer(**{"debit": A, "credit": B, "amount": 5, "ledger": 1} | changes)  # type: ignore[arg-type]


def test_every_field_lies_where_the_engine_reads_it() -> None:
    one = Transfer(A, B, (7 << 64) + 9, 11, ClientKind.RESERVE, R, ClientFlag.FORCE, A, B, 13, 17, 19)
    record = np.frombuffer(pack_transfer(one, (7 << 64) + 9), RECORD)[0]
    assert {name: record[name].tobytes() for name in ("id", "debit", "credit", "followed", "reference")} == {
        "id": R,
        "debit": A,
        "credit": B,
        "followed": A,
        "reference": B,
    }
    numbers = {name: int(record[name]) for name in RECORD.names or () if record[name].dtype.kind == "u"}
    assert numbers == {
        "amount_low": 9,
        "amount_high": 7,
        "effective_at": 19,
        "timestamp": 0,
        "ledger": 11,
        "timeout_s": 17,
        "code": 13,
        "kind": 2,
        "flags": 8,
        "outcome": 0,
        "leg": 0,
    }


def test_numbers_of_kinds_flags_and_results_are_the_engine_s() -> None:
    assert {kind.name: kind.value for kind in ClientKind} == {kind.name: kind.value for kind in CALLER_TRANSFER_KINDS}
    assert {flag.name: flag.value for flag in ClientFlag} == {flag.name: flag.value for flag in Flag}
    assert {flag.name: flag.value for flag in ClientAccountFlag} == {flag.name: flag.value for flag in AccountFlag}
    assert PACKED_RESULT.size == RESULT.itemsize
    result = np.frombuffer(PACKED_RESULT.pack(1, 2, 3, 4, 5), RESULT)[0]
    assert [int(result[name]) for name in ("position", "timestamp", "outcome", "flags", "group")] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", -1),
        ("amount", 1 << 128),
        ("ledger", 1 << 32),
        ("ledger", -1),
        ("code", 65536),
        ("flags", 256),
        ("expires_after_s", 1 << 32),
        ("effective_at", -1),
        ("effective_at", 1 << 64),
        ("debit", bytes(15)),
        ("reference", bytes(17)),
    ],
)
def test_a_value_that_does_not_fit_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=field):
        one = transfer(**{field: value})
        pack_transfer(one, one.amount)  # type: ignore[arg-type]


def test_a_result_reads_as_people_would_say_it() -> None:
    posted = Result(bytes(15) + b"\7", Outcome.POSTED, 5, 1, 14, 1)
    conflict = Result(bytes(15) + b"\7", Outcome.ID_REUSED_WITH_DIFFERENT_AMOUNT, 0, 1, (1 << 64) - 1, 0)
    name = "00000000-0000-0000-0000-000000000007"
    assert repr(posted) == f"Result(POSTED, id={name}, group=1, position=14, replayed)"
    assert repr(conflict) == f"Result(ID_REUSED_WITH_DIFFERENT_AMOUNT, id={name}, group=1, position=None)"


@pytest.mark.parametrize(("field", "value"), [("ledger", "EUR"), ("ledger", True), ("code", 1.0), ("code", 65536)])
def test_a_field_of_an_account_that_does_not_fit_is_refused_by_name(field: str, value: object) -> None:
    with pytest.raises((TypeError, ValueError), match=f"^{field} is "):
        account_message(Account(1, **{"ledger": 1, field: value}), 0)  # type: ignore[arg-type]


def test_a_business_date_is_exact_to_the_microsecond() -> None:
    one = transfer(effective_at=datetime(2024, 2, 29, 23, 59, 59, 999_999, UTC))
    assert int(np.frombuffer(pack_transfer(one, 5), RECORD)[0]["effective_at"]) == 1_709_251_199_999_999_000


def test_a_business_date_without_a_time_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="effective_at has no time zone"):
        pack_transfer(transfer(effective_at=datetime(2024, 2, 29)), 5)


def test_followers_repeat_accounts_and_ledger_and_name_what_they_follow() -> None:
    hold = transfer(kind=ClientKind.RESERVE)
    for one in (hold.commit(3), hold.release(), hold.reverse(2)):
        assert (one.debit, one.credit, one.ledger, one.followed) == (hold.debit, hold.credit, hold.ledger, hold.id)
        assert one.id != hold.id
    assert hold.commit().amount == (1 << 128) - 1
    assert hold.commit(1, keep_rest=True).flags is ClientFlag.KEEP_REST
    assert hold.release().amount == 0
    assert hold.reverse().amount == hold.amount


def test_a_chain_is_found_from_any_of_its_legs() -> None:
    packed = b"".join(
        [
            *chain_records([transfer()], [5]),
            *chain_records([transfer()] * 3, [5] * 3),
            *chain_records([transfer()], [5]),
        ]
    )
    assert [chain_of(packed, row) for row in range(5)] == [range(1), range(1, 4), range(1, 4), range(1, 4), range(4, 5)]


def test_an_empty_chain_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 8190 legs"):
        chain_records([], [])
