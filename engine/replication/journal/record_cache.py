"""The youngest entries of the log, in memory: bounded by bytes, never giving up one that is not on the disk yet."""

from engine.replication.journal.disk import Bytes


class RecordCache:
    """Records by index, with their CRC-32C; the oldest durable ones leave first."""

    def __init__(self, bytes_max: int) -> None:
        """`bytes_max` bounds the durable records kept."""
        self.bytes_max = bytes_max
        self.bytes = 0
        self._records: dict[int, tuple[Bytes, int]] = {}
        self._oldest = 0

    def get(self, index: int) -> tuple[Bytes, int] | None:
        """Return (record, CRC-32C), or None if it must be read from the disk."""
        return self._records.get(index)

    def put(self, index: int, record: Bytes, crc: int) -> None:
        """Keep the record that was just appended."""
        if not self._records:
            self._oldest = index
        self._records[index] = (record, crc)
        self.bytes += len(record)

    def evict(self, durable_index: int) -> None:
        """Let go of the oldest, up to `durable_index`, until the bound holds."""
        while self.bytes > self.bytes_max and self._oldest <= durable_index and self._records:
            self._drop(self._oldest)
            self._oldest += 1

    def truncate_from(self, index: int) -> None:
        """Drop the records from `index` on."""
        last = self._oldest + len(self._records) - 1
        for gone in range(max(index, self._oldest), last + 1):
            self._drop(gone)

    def forget_to(self, index: int) -> None:
        """Drop the records up to `index`."""
        while self._oldest <= index and self._records:
            self._drop(self._oldest)
            self._oldest += 1

    def clear(self) -> None:
        """Drop all."""
        self._records.clear()
        self.bytes = 0

    def _drop(self, index: int) -> None:
        self.bytes -= len(self._records.pop(index)[0])
