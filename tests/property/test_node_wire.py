"""The hand-written reading of batches equals the generated classes', on anything."""

import contextlib
import json
import logging

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from engine.core.known import NO_POSITION, RESULT
from engine.rpc.answers import Answered, post_response
from engine.rpc.batch import ATTEMPT_MAX, batch_of, read_batch, words_of_packed
from engine.rpc.faults import CallFailed, invalid
from engine.rpc.logs import JsonFormatter
from engine.rpc.page_tokens import make_token, read_token
from engine.rpc.streams import TIMEOUT_MS_MAX, read_numbered_batch
from postingengine.v1.posting_service_pb2 import PostTransfersRequest, PostTransfersResponse, StreamTransfersRequest
from postingengine.v1.transfer_pb2 import Transfer

PACKED = st.binary(min_size=0, max_size=5 * 128).map(lambda data: data[: len(data) // 128 * 128] or data)
REQUESTS = st.builds(
    PostTransfersRequest,
    packed=PACKED,
    attempt=st.integers(0, (1 << 32) - 1),
    transfers=st.lists(st.builds(Transfer, id=st.binary(max_size=17), code=st.integers(0, 70000)), max_size=2),
)


def by_the_generated_class(data: bytes) -> object:
    """What the batch is, or None where it is invalid."""
    try:
        batch = batch_of(PostTransfersRequest.FromString(data))
    except (DecodeError, CallFailed):
        return None
    return batch.words.tolist(), batch.is_packed, batch.attempt, batch.faults


def by_hand(data: bytes) -> object:
    try:
        batch = read_batch(data)
    except CallFailed:
        return None
    return batch.words.tolist(), batch.is_packed, batch.attempt, batch.faults


@given(REQUESTS)
def test_a_batch_reads_the_same_by_hand_and_by_the_generated_class(request: PostTransfersRequest) -> None:
    data = request.SerializeToString()
    assert by_hand(data) == by_the_generated_class(data)


@given(
    st.lists(
        st.sampled_from(
            [b"\x12\x80\x01" + bytes(128), b"\x18\x05", b"\x18\xff\xff\xff\xff\x7f", b"\x12", b"\x0a\x00", b"\x80"]
        )
    )
)
def test_messages_pieced_together_read_the_same_or_fail_in_both(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert by_hand(data) == by_the_generated_class(data)


@given(st.binary(max_size=300))
def test_garbage_is_refused_never_a_crash(data: bytes) -> None:
    assert by_hand(data) == by_the_generated_class(data)
    with contextlib.suppress(CallFailed):
        read_numbered_batch(data)


@given(st.integers(0, (1 << 64) - 1), REQUESTS, st.integers(0, (1 << 32) - 1))
def test_a_message_of_a_stream_keeps_its_number_its_batch_and_its_time(
    number: int, request: PostTransfersRequest, timeout_ms: int
) -> None:
    message = StreamTransfersRequest(batch_number=number, batch=request, timeout_ms=timeout_ms)
    read = read_numbered_batch(message.SerializeToString())
    assert (read.number, read.timeout_ms) == (number, min(timeout_ms, TIMEOUT_MS_MAX))
    assert PostTransfersRequest.FromString(read.batch) == request


@given(st.integers(1, 20), st.sets(st.integers(0, 19)), st.integers(0, 1 << 40), st.integers(0, 1023))
def test_a_packed_answer_reads_back_as_it_was_given(items: int, faulty: set[int], index: int, group: int) -> None:
    results = np.zeros(items, RESULT)
    results["position"] = np.arange(items)
    results["group"] = group
    faults = [invalid("AMOUNT_ZERO", "The amount is zero.", item=item) for item in sorted(faulty) if item < items]
    data = post_response(Answered(results, faults, ((group, index),)), is_packed=True)
    response = PostTransfersResponse.FromString(data)
    assert np.frombuffer(response.packed_results, RESULT).tolist() == results.tolist()
    assert [fault.index for fault in response.faults] == [fault.item for fault in faults]
    assert [(at.group, at.log_index) for at in response.log_indexes] == ([(group, index)] if index else [])


def test_a_typed_answer_leaves_out_the_position_of_what_was_not_stored() -> None:
    results = np.zeros(2, RESULT)
    results["outcome"] = [1, 14]
    results["position"] = [0, NO_POSITION]
    response = PostTransfersResponse.FromString(post_response(Answered(results, [], ()), is_packed=False))
    assert [one.HasField("position") for one in response.results] == [True, False]


STATES = st.lists(st.one_of(st.integers(0, 1 << 40), st.binary(max_size=60)), max_size=3)


@given(STATES, st.integers(), st.integers())
def test_a_page_token_gives_its_state_to_the_same_arguments_only(state: list[object], one: int, other: int) -> None:
    one, other = one % (1 << 32), other % (1 << 32)
    token = make_token((one,), tuple(state))
    assert read_token(token, (one,)) == state
    if one != other:
        with pytest.raises(CallFailed):
            read_token(token, (other,))


@given(st.text(max_size=80))
def test_a_token_that_is_not_ours_is_refused(token: str) -> None:
    with pytest.raises(CallFailed):
        read_token(token, ())


def test_records_are_copied_so_that_they_are_aligned_and_writable() -> None:
    data = memoryview(b"x" + bytes(256))[1:]
    words = words_of_packed(data)
    assert words.flags.aligned
    assert words.flags.writeable
    assert words.shape == (2, 16)


def test_an_attempt_is_at_least_one_and_fits_its_field() -> None:
    words = bytes(128)
    for given_attempt, kept in ((0, 1), (7, 7), (1 << 31, ATTEMPT_MAX)):
        data = PostTransfersRequest(packed=words, attempt=given_attempt).SerializeToString()
        assert read_batch(data).attempt == kept


def test_a_log_line_is_json_with_the_fields_that_apply() -> None:
    record = logging.LogRecord("engine", logging.INFO, "", 0, "applied %d", (3,), None)
    record.log_index = 12
    line = json.loads(JsonFormatter({"group": 0, "replica": "a"}).format(record))
    assert {key: line[key] for key in ("level", "message", "group", "replica", "log_index")} == {
        "level": "info",
        "message": "applied 3",
        "group": 0,
        "replica": "a",
        "log_index": 12,
    }
