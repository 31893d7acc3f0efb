"""The bytes of a log segment, format version 1: for ever readable."""

from pathlib import Path
from typing import Final

import pytest

from engine.replication.journal.journal import SegmentedLog
from engine.replication.journal.segment_format import (
    RECORD_HEADER_BYTES,
    SEGMENT_HEADER_BYTES,
    Identity,
    RecordHeader,
    RecordKind,
    SegmentHeader,
    StartOfSegment,
    decode_record,
    decode_record_header,
    decode_segment_header,
    decode_start,
    encode_record_header,
    encode_segment_header,
    encode_start,
    headers_after,
    place_of,
    position_of,
    seed_of,
    size_on_disk,
)
from tests.crash_images import Image
from tests.memory_disk import MemoryDisk

GOLDEN: Final = Path(__file__).parents[1] / "golden" / "log_segment_1.hex"
FOLDER: Final = Path("/log")
OWNER: Final = Identity("00112233445566778899aabbccddeeff", 7, "node-ä")
SALT: Final = 0x01020304
SEGMENT_BYTES: Final = 2048
HEADER: Final = RecordHeader(payload_crc=1, length=2, kind=RecordKind.ENTRY, log_index=3, term=4, synced_to=5)


def crc32c_by_the_book(data: bytes, start: int = 0) -> int:
    """Castagnoli, bit by bit, so that a changed library cannot agree with itself."""
    crc = start ^ 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def write_every_kind(disk: MemoryDisk) -> SegmentedLog:
    """One segment with a record of each kind, closed cleanly."""
    log = SegmentedLog.open(FOLDER, OWNER, disk=disk, segment_bytes=SEGMENT_BYTES)
    log.save_vote(1, "node-ä")
    for record in (b"first record", b"second", b"third, of another leader"):
        log.append(1, record)
    log.truncate_from(3)
    log.append(2, b"third")
    log.start_sync()
    log.forget_to(1)
    log.reset(9, 2)
    log.append(3, bytes(range(200)))
    log.close()
    return log


def golden_bytes() -> bytes:
    return bytes.fromhex("".join(line.split("#")[0] for line in GOLDEN.read_text().splitlines()))


def test_version_1_is_written_as_the_golden_file_has_it() -> None:
    disk = MemoryDisk(salt=SALT)
    write_every_kind(disk)
    written = bytes(disk.content(FOLDER / "segment-0000000001"))
    assert written.rstrip(b"\0") == golden_bytes().rstrip(b"\0")


def test_the_golden_file_of_version_1_is_read() -> None:
    content = golden_bytes().ljust(SEGMENT_BYTES, b"\0")
    disk = MemoryDisk(Image({FOLDER / "segment-0000000001": content}))
    log = SegmentedLog.open(FOLDER, OWNER, disk=disk, segment_bytes=SEGMENT_BYTES)
    assert (log.base_index, log.term_at(9), log.last_index, log.last_term) == (9, 2, 10, 3)
    assert (log.term, log.voted_for) == (1, "node-ä")
    assert log.entry_at(10).record == bytes(range(200))
    assert log.recovered.dropped.records == 0


def test_checksums_are_crc32c_and_a_record_header_starts_from_its_seed() -> None:
    data = golden_bytes()
    assert crc32c_by_the_book(b"123456789") == 0xE3069283
    assert int.from_bytes(data[124:128], "little") == crc32c_by_the_book(data[:124])
    seed = SALT + 1
    assert int.from_bytes(data[132:136], "little") == crc32c_by_the_book(data[136:176], seed)
    header = decode_record_header(data, 128, seed)
    assert header is not None
    assert header.payload_crc == crc32c_by_the_book(data[176 : 176 + header.length])


def test_every_kind_stands_in_the_golden_file() -> None:
    kinds = {header.kind for _, header in headers_after(golden_bytes(), 0, SALT + 1)}
    assert kinds == set(RecordKind)


def test_kinds_are_never_renumbered() -> None:
    assert [(kind.name, kind.value) for kind in RecordKind] == [
        ("ENTRY", 1),
        ("META", 2),
        ("TRUNCATE", 3),
        ("BASE", 4),
        ("START", 5),
        ("MARK", 6),
        ("RESET", 7),
    ]


def test_a_segment_header_comes_back() -> None:
    header = SegmentHeader(1, OWNER, 12, SALT, 64 << 20)
    encoded = encode_segment_header(header)
    assert len(encoded) == SEGMENT_HEADER_BYTES
    assert decode_segment_header(encoded) == header


def test_any_flipped_byte_of_a_segment_header_is_seen() -> None:
    encoded = encode_segment_header(SegmentHeader(1, OWNER, 12, SALT, 64 << 20))
    for at in range(len(encoded)):
        assert decode_segment_header(encoded[:at] + bytes([encoded[at] ^ 1]) + encoded[at + 1 :]) is None
    assert decode_segment_header(encoded[:-1]) is None


@pytest.mark.parametrize("replica, cluster", [("r" * 65, "ab" * 16), ("r", "ab" * 15)])
def test_an_identity_that_does_not_fit_is_refused(replica: str, cluster: str) -> None:
    with pytest.raises(ValueError, match="64 bytes"):
        encode_segment_header(SegmentHeader(1, Identity(cluster, 0, replica), 1, 0, 4096))


def test_a_record_header_comes_back_only_under_its_own_seed() -> None:
    encoded = encode_record_header(seed_of(SALT, 1), HEADER)
    assert len(encoded) == RECORD_HEADER_BYTES
    assert decode_record_header(encoded, 0, seed_of(SALT, 1)) == HEADER
    assert all(decode_record_header(encoded, 0, seed_of(SALT, number)) is None for number in range(2, 2000))


def test_any_flipped_byte_of_a_record_is_seen() -> None:
    record = encode_record_header(9, HEADER._replace(payload_crc=crc32c_by_the_book(b"ab"))) + b"ab"
    assert decode_record(record, 0, 9) is not None
    for at in range(len(record)):
        assert decode_record(record[:at] + bytes([record[at] ^ 0x40]) + record[at + 1 :], 0, 9) is None


def test_a_record_that_is_cut_short_is_not_sound() -> None:
    record = encode_record_header(9, HEADER._replace(payload_crc=crc32c_by_the_book(b"ab"))) + b"ab"
    assert all(decode_record(record[:size], 0, 9) is None for size in range(len(record)))


def test_headers_are_found_on_multiples_of_eight_whatever_stands_between() -> None:
    header = encode_record_header(9, HEADER)
    data = b"\xf1REC" + bytes(4) + header + b"\xf1RE" + bytes(5) + header + bytes(1) + header
    assert [offset for offset, _ in headers_after(data, 0, 9)] == [8, 64]


def test_a_start_record_tells_where_the_log_came_from() -> None:
    start = StartOfSegment(position_of(4, 4096), 17, 5, None)
    assert decode_start(encode_start(start)) == start
    assert decode_start(encode_start(start._replace(voted_for="b"))).voted_for == "b"


def test_positions_grow_with_the_log() -> None:
    assert place_of(position_of(3, 4096)) == (3, 4096)
    assert position_of(3, (1 << 32) - 1) < position_of(4, 0)


def test_records_are_padded_to_multiples_of_eight() -> None:
    assert [size_on_disk(length) for length in (0, 1, 8, 9)] == [48, 56, 56, 64]
