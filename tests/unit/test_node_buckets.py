"""Two groups of one replica each, without a router: their buckets of a split account, made and read by rpc."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.core.known import RESULT
from engine.core.model.state import Event, pack
from engine.core.outcomes import Outcome, ResultFlag
from engine.core.records import AccountFlag, Flag, Kind
from engine.core.split.buckets import Presence, bucket_row, bucket_states, is_share_id, share_id
from engine.peer.v1.peer_service_pb2 import (
    MakeBucketsRequest,
    MakeBucketsResponse,
    ReadBucketsRequest,
    ReadBucketsResponse,
)
from engine.rpc.faults import FAILED_PRECONDITION, INVALID_ARGUMENT, CallFailed, Fault, Reason, fault_of
from engine.rpc.steps import SPLIT_EPOCH_KEY
from engine.service import buckets
from postingengine.v1.account_pb2 import AccountFlag as AccountFlagMessage
from postingengine.v1.posting_service_pb2 import PostTransfersRequest
from tests.running_node import transfer
from tests.unit.test_node_peers import NEVER_MS, Groups, accounts_of, log_index, running

HOME, AWAY = 0, 1
LIMITED = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
BY_DIRECTORY = ((SPLIT_EPOCH_KEY, "7"),)


async def call(groups: Groups, group: int, method: str, request: Any) -> bytes:
    request.cluster_id, request.group = groups.config.cluster_id, group
    name = f"/engine.peer.v1.PeerService/{method}"
    return await groups.clients[group].call(name, request.SerializeToString(), time.monotonic() + 10)


async def make(groups: Groups, group: int, *rows: bytes) -> list[tuple[int, int]]:
    answer = await call(groups, group, "MakeBuckets", MakeBucketsRequest(rows=b"".join(rows), attempt=1))
    results = np.frombuffer(MakeBucketsResponse.FromString(answer).results, RESULT)
    return [(int(one["outcome"]), int(one["flags"])) for one in results]


async def read(groups: Groups, group: int, *ids: bytes, **options: Any) -> tuple[list[Any], ReadBucketsResponse]:
    answer = await call(groups, group, "ReadBuckets", ReadBucketsRequest(ids=b"".join(ids), **options))
    response = ReadBucketsResponse.FromString(answer)
    return list(bucket_states(response.buckets)), response


async def post(groups: Groups, group: int, *transfers: Any, metadata: Any = BY_DIRECTORY) -> Any:
    request = PostTransfersRequest(transfers=transfers)
    return await groups.nodes[group].posting.PostTransfers(request, metadata=metadata, timeout=10)


def row_of(account: bytes, flags: int = LIMITED, **fields: int) -> bytes:
    return bucket_row(account, **{"ledger": 1, "code": 0, "flags": flags, "version": 1, **fields})


async def failed(calling: Any) -> Fault:
    with pytest.raises(CallFailed) as raised:
        await calling
    return raised.value.fault


async def test_buckets_are_made_at_home_and_elsewhere_and_serve_transfers_there(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        split, here = accounts_of(groups.config, HOME, 2)[1], groups.credit
        limited = AccountFlagMessage.ACCOUNT_FLAG_DEBITS_MUST_NOT_EXCEED_CREDITS
        await groups.nodes[HOME].make_accounts(split, flags=[limited])
        response = await post(groups, AWAY, transfer(1, here, split, 5), transfer(2, here, split, 6))
        faults = [fault_of(result.fault) for result in response.results]
        assert [(one.code, one.reason) for one in faults if one] == [(FAILED_PRECONDITION, Reason.BUCKET_MISSING)] * 2
        for group in (HOME, AWAY):
            assert await make(groups, group, row_of(split)) == [(Outcome.BUCKET_MADE, 0)]
            assert await make(groups, group, row_of(split)) == [(Outcome.BUCKET_MADE, ResultFlag.REPLAYED)]
        response = await post(groups, AWAY, transfer(1, here, split, 5), transfer(2, here, split, 6))
        assert [result.outcome for result in response.results] == [Outcome.POSTED] * 2
        response = await post(groups, AWAY, transfer(3, split, here, 4), transfer(4, split, here, 9))
        assert [result.outcome for result in response.results] == [Outcome.POSTED, 0]
        ((home,), _), ((away,), at) = await read(groups, HOME, split), await read(groups, AWAY, split)
        assert (home["presence"], away["presence"]) == (Presence.BUCKET, Presence.BUCKET)
        assert (away["credits_posted_low"], away["debits_posted_low"]) == (11, 4)
        assert (home["group"], away["group"], home["epoch"] > 0, away["epoch"] > 0) == (HOME, AWAY, True, True)
        assert is_share_id(away["share_id"].tobytes())
        assert at.log_index == await log_index(groups, AWAY)
        assert (home["flags"], home["version"], home["ledger"]) == (LIMITED | AccountFlag.BUCKET, 1, 1)


async def test_what_a_group_lacks_or_has_unsplit_is_said(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        found, _ = await read(groups, HOME, groups.debit, groups.credit, b"nobody's account", share_id(0, 1))
        expected = [Presence.ACCOUNT, Presence.ABSENT, Presence.ABSENT, Presence.INTERNAL]
        assert [Presence(int(one["presence"])) for one in found] == expected
        assert found[1]["id"].tobytes() == groups.credit


async def test_the_directory_comes_in_pages_by_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buckets, "BUCKETS_PAGE_MAX", 3)
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        assert (await read(groups, AWAY))[0] == []
        accounts = accounts_of(groups.config, HOME, 7)
        await make(groups, AWAY, *(row_of(account, 0) for account in accounts[:2]))
        assert len((await read(groups, AWAY))[0]) == 2
        await make(groups, AWAY, *(row_of(account, 0) for account in accounts[2:]))
        found: list[Any] = []
        page, answer = await read(groups, AWAY)
        found += page
        while answer.next_epoch:
            page, answer = await read(groups, AWAY, from_epoch=answer.next_epoch)
            found += page
        assert [one["id"].tobytes() for one in found] == accounts
        assert [one["epoch"] for one in found] == sorted(one["epoch"] for one in found)


async def test_a_chain_of_which_one_leg_lacks_its_bucket_is_not_logged_at_all(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        far, here = groups.debit, groups.credit
        other = accounts_of(groups.config, AWAY, 2)[1]
        await groups.nodes[AWAY].make_accounts(other)
        before = await log_index(groups, AWAY)
        legs = transfer(1, here, other, flags=[Flag.LINKED]), transfer(2, here, far)
        response = await post(groups, AWAY, *legs, transfer(3, here, other, amount=0))
        reasons = [fault.reason for fault in (fault_of(one.fault) for one in response.results) if fault]
        assert reasons == [Reason.BUCKET_MISSING, Reason.BUCKET_MISSING, "AMOUNT_ZERO"]
        assert await log_index(groups, AWAY) == before
        response = await post(groups, AWAY, transfer(4, here, far), metadata=())
        assert [one.outcome for one in response.results] == [Outcome.ACCOUNT_IN_ANOTHER_GROUP], "sent by its hash"


async def test_what_no_router_would_send_is_not_logged(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        event = Event(id=b"n" * 16, kind=Kind.BUCKET, debit=groups.debit, ledger=1, timeout_or_version=1)
        wrong = [
            event._replace(kind=Kind.POST, credit=groups.credit, amount=1),
            event._replace(timeout_or_version=0),
            event._replace(flags=AccountFlag.SHARE),
            event._replace(flags=3),
            event._replace(amount=1),
            event._replace(credit=groups.credit),
            event._replace(debit=bytes(16)),
        ]
        for one in wrong:
            fault = await failed(make(groups, HOME, pack(one)))
            assert (fault.code, fault.reason) == (INVALID_ARGUMENT, Reason.BATCH_UNREADABLE)
        for packed in (b"", b"short"):
            assert (await failed(make(groups, HOME, packed))).code == INVALID_ARGUMENT
        assert (await failed(read(groups, HOME, b"odd"))).reason == Reason.ID_LENGTH_INVALID


async def test_refusals_are_stored_nowhere(tmp_path: Path) -> None:
    async with running(tmp_path, courier_grace_ms=NEVER_MS) as groups:
        nobody = accounts_of(groups.config, HOME, 2)[1]
        refused = [row_of(nobody), row_of(share_id(0, 3)), row_of(groups.debit, ledger=99), row_of(groups.debit, 0)]
        outcomes = [Outcome.ACCOUNT_UNKNOWN, Outcome.ACCOUNT_IS_INTERNAL, Outcome.LEDGER_UNKNOWN, Outcome.BUCKET_MADE]
        assert [outcome for outcome, _ in await make(groups, HOME, *refused)] == outcomes
        await groups.nodes[HOME].make_accounts(nobody)
        assert await make(groups, HOME, row_of(nobody, 0)) == [(Outcome.BUCKET_MADE, 0)]
