"""The block format: what goes in comes out, and no altered byte passes."""

import numpy as np
import pytest

from engine.core.known import RESULT, Applied
from engine.storage.block import (
    GENESIS_HASH,
    HEADER_BYTES,
    BlockDamaged,
    check_block,
    decode_block,
    encode_block,
)

PREAMBLE = bytes(range(64)) + b"someone!"


def applied(rows: int = 3, requested: int = 1) -> Applied:
    words = np.arange(rows * 16, dtype=np.uint64).reshape(rows, 16)
    return Applied(
        words,
        np.arange(requested, dtype=np.uint32),
        np.full((requested, 2), 7, np.uint64),
        np.empty(0, RESULT),
        1_700_000_000_000_000_000,
    )


def encoded(rows: int = 3, requested: int = 1, extra: bytes = b"") -> tuple[bytes, bytes]:
    return encode_block(
        applied(rows, requested),
        preamble=PREAMBLE,
        extra=extra,
        log_index=9,
        term=2,
        first_position=40,
        previous=GENESIS_HASH,
    )


@pytest.mark.parametrize("rows", [0, 1, 3])
@pytest.mark.parametrize("extra", [b"", b"settings"])
def test_a_block_comes_back_as_it_was_written(rows: int, extra: bytes) -> None:
    data, digest = encoded(rows, min(rows, 1), extra)
    block = decode_block(data)
    assert block.header.hash == digest
    assert block.header.first_position == 40
    assert block.header.end_position == 40 + rows
    assert (block.header.log_index, block.header.term) == (9, 2)
    assert block.preamble == PREAMBLE
    assert block.extra == extra
    assert np.array_equal(block.rows, applied(rows, 0).rows)


def test_the_requested_amount_overlays_the_moved_one() -> None:
    block = decode_block(encoded()[0])
    assert block.requested().tolist() == [[7, 7], [22, 23], [38, 39]]


def test_every_section_begins_at_a_multiple_of_eight() -> None:
    header = decode_block(encoded(3, 3)[0]).header
    assert [at % 8 for at in (header.rows_at, header.requested_at, header.amounts_at, header.extra_at)] == [0] * 4


def test_any_flipped_byte_is_found() -> None:
    data, _ = encoded(1, 1)
    for at in range(len(data)):
        damaged = bytearray(data)
        damaged[at] ^= 1
        with pytest.raises(BlockDamaged):
            check_block(bytes(damaged), GENESIS_HASH)


@pytest.mark.parametrize("length", [0, HEADER_BYTES - 1, HEADER_BYTES, -1])
def test_a_cut_block_is_found(length: int) -> None:
    with pytest.raises(BlockDamaged):
        check_block(encoded()[0][:length], GENESIS_HASH)


def test_a_block_behind_another_than_it_names_is_found() -> None:
    with pytest.raises(BlockDamaged, match="does not follow"):
        check_block(encoded()[0], bytes([1]) * 32)
