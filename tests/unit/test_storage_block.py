"""The block format: what goes in comes out, and no altered byte passes."""

from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3

from engine.core.known import RESULT, Applied
from engine.core.log_record import Caller, RecordKind, encode_log_record
from engine.core.records import RECORD, Kind, as_records
from engine.core.settings import Ledger, Settings, SlotRange, encode_settings
from engine.storage.block import (
    GENESIS_HASH,
    HEADER,
    HEADER_BYTES,
    BlockDamaged,
    BlockHeader,
    check_block,
    decode_block,
    encode_block,
    room_for,
)
from tests.storage_histories import opened

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


def encoded(rows: int = 3, requested: int = 1, extra: bytes = b"") -> tuple[bytes | memoryview, bytes]:
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


@pytest.mark.parametrize("extra", [b"", b"steps of it", b"more than there is room for"])
@pytest.mark.parametrize("stored", [16, 15, 3])
def test_a_block_of_rows_in_their_place_is_the_one_that_is_joined(stored: int, extra: bytes) -> None:
    room = room_for(len(PREAMBLE), 16, 11)
    room.rows[:] = applied(16).rows
    blocks = [
        encode_block(
            applied(16, 0)._replace(rows=rows[:stored]),
            preamble=PREAMBLE,
            extra=extra,
            log_index=9,
            term=2,
            first_position=40,
            previous=GENESIS_HASH,
            room=given,
        )
        for rows, given in ((applied(16).rows, None), (room.rows, room), (applied(16).rows, room))
    ]
    assert blocks[0] == blocks[1] == blocks[2]
    fits = len(blocks[0][0]) <= len(room.data)
    assert isinstance(blocks[1][0], memoryview) == (stored > 3 and fits)  # or it would keep a room for a few rows


def test_rows_that_are_not_the_first_of_their_room_are_joined() -> None:
    room = room_for(len(PREAMBLE), 16)
    room.rows[:] = applied(16).rows
    made = applied(16, 0)._replace(rows=room.rows[1:])
    blocks = [
        encode_block(
            made,
            preamble=PREAMBLE,
            extra=b"",
            log_index=9,
            term=2,
            first_position=40,
            previous=GENESIS_HASH,
            room=given,
        )
        for given in (None, room)
    ]
    assert blocks[0] == blocks[1]
    assert isinstance(blocks[1][0], bytes)


@pytest.mark.parametrize("length", [0, HEADER_BYTES - 1, HEADER_BYTES, -1])
def test_a_cut_block_is_found(length: int) -> None:
    with pytest.raises(BlockDamaged):
        check_block(encoded()[0][:length], GENESIS_HASH)


def test_a_block_behind_another_than_it_names_is_found() -> None:
    with pytest.raises(BlockDamaged, match="does not follow"):
        check_block(encoded()[0], bytes([1]) * 32)


GOLDEN = Path(__file__).parents[1] / "golden" / "storage_block_1.hex"
"""A genesis block and an EVENTS block of format version 1, section by section. Never regenerate it."""


def golden_records() -> list[bytes]:
    """Genesis; then two accounts, a RESERVE between them, and a COMMIT of all of it."""
    rows = np.zeros(4, RECORD)
    rows["id"] = [b"\x0a" * 16, b"\x0b" * 16, b"\x01" * 16, b"\x02" * 16]
    rows["ledger"], rows["code"] = 978, 7
    rows["kind"] = [Kind.CREATE_ACCOUNT, Kind.CREATE_ACCOUNT, Kind.RESERVE, Kind.COMMIT]
    rows["debit"][2:], rows["credit"][2:] = b"\x0a" * 16, b"\x0b" * 16
    rows["amount_low"][2:], rows["amount_high"][2:] = [250, (1 << 64) - 1], [0, (1 << 64) - 1]
    rows["followed"][3], rows["reference"][2:], rows["timeout_s"][2] = b"\x01" * 16, b"invoice 2026-114", 60
    rows["effective_at"][2:] = 1_699_920_000_000_000_000
    settings = Settings("00112233445566778899aabbccddeeff", 42, (Ledger(978, "EUR", 2),), (SlotRange(0, 0, 4095),))
    return [
        encode_log_record(
            RecordKind.SETTINGS,
            b"",
            timestamp_ns=1_700_000_000_000_000_000,
            callers=[],
            extra=encode_settings(settings),
        ),
        encode_log_record(
            RecordKind.EVENTS,
            rows.tobytes(),
            timestamp_ns=1_700_000_000_000_000_100,
            callers=[Caller(0, 4, "payroll-ä", 1_699_999_999_000_000_000, 3)],
        ),
    ]


def golden_blocks() -> list[bytes]:
    text = [line for line in GOLDEN.read_text().splitlines() if line and not line.startswith("#")]
    data, blocks = bytes.fromhex("".join(text)), []
    while data:
        length = BlockHeader._make([*HEADER.unpack_from(data)[3:11], b"", b""]).block_bytes
        blocks.append(data[:length])
        data = data[length:]
    return blocks


def test_the_journal_of_two_records_is_as_it_was_when_the_format_was_made(tmp_path: Path) -> None:
    with opened(tmp_path) as machine:
        for log_index, record in enumerate(golden_records(), start=3):
            machine.apply(log_index, 2, record)
        machine.save()
        written = [bytes(data) for _, data in machine.store.journal.raw_blocks(lambda cursor: bool(cursor.first()))]
    assert [data.hex() for data in written] == [data.hex() for data in golden_blocks()]


def test_the_golden_blocks_are_read_and_follow_each_other() -> None:
    previous = GENESIS_HASH
    for data in golden_blocks():
        previous = check_block(data, previous).hash
    block = decode_block(golden_blocks()[1])
    assert (block.header.log_index, block.header.term, block.header.first_position) == (4, 2, 1)
    assert as_records(block.rows.copy())["outcome"].tolist() == [2, 2, 1, 1]
    assert block.requested()[3].tolist() == [(1 << 64) - 1] * 2
    assert block.rows[3, 6:8].tolist() == [250, 0]
    assert b"payroll" in block.preamble


def test_the_hash_is_what_the_format_says() -> None:
    """By the words of the documentation: everything but the 32 bytes of the hash itself."""
    data = golden_blocks()[1]
    assert data[96:128] == blake3(data[:96] + data[128:]).digest()
    assert data[64:96] == golden_blocks()[0][96:128]
