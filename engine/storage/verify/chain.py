"""The audit chain: every block whole, behind the right one, numbered without gaps."""

from collections.abc import Iterator

from engine.storage.block import GENESIS_HASH, Block, BlockDamaged, check_block, decode_block
from engine.storage.head import Head
from engine.storage.journal import Journal
from engine.storage.verify.report import Noted, damaged


def checked_blocks(journal: Journal, head: Head, noted: Noted | None) -> Iterator[Block]:
    """Yield every block from genesis on, each checked against the one before; at the end, the last against `head`.

    A block's arrays are valid until the next one is asked for. Raises DATA_DAMAGED, naming the block.
    """
    before, noted_seen = Head(), noted is None
    for key, data in journal.raw_blocks(lambda cursor: bool(cursor.first())):
        block = _checked(key, data, before)
        header = block.header
        before = Head(header.log_index, header.term, header.end_position, header.hash)
        if noted is not None and header.log_index == noted.log_index:
            noted_seen = True
            if header.hash != noted.hash:
                raise damaged(
                    f"the block of log index {noted.log_index} has hash {header.hash.hex()}, and {noted.hash.hex()} "
                    "was noted: the journal was rewritten"
                )
        yield block
    if not noted_seen and noted is not None:
        raise damaged(f"the journal has no block of log index {noted.log_index}, whose hash was noted")
    if before != head:
        raise damaged(
            f"the journal ends at log index {before.log_index}, position {before.next_position}, the store's head says "
            f"{head.log_index}, {head.next_position}"
        )


def _checked(key: tuple[int, int], data: memoryview, before: Head) -> Block:
    place = f"the journal block at position {key[0]} (log index {key[1]})"
    try:
        header = check_block(data, before.hash if before.log_index else GENESIS_HASH)
    except BlockDamaged as error:
        raise damaged(f"{place} is damaged, {error}") from error
    if key != (header.first_position, header.log_index):
        raise damaged(f"{place} says that it is at {header.first_position} (log index {header.log_index})")
    if header.first_position != before.next_position:
        raise damaged(f"{place} follows position {before.next_position}: rows are missing")
    if header.log_index <= before.log_index or header.term < before.term:
        raise damaged(f"{place} of term {header.term} follows log index {before.log_index} of term {before.term}")
    return decode_block(data)
