"""Where each entry of the log stands on disk, and its term: 12 bytes of memory an entry, whatever their number."""

from array import array
from bisect import bisect_right


class EntryIndex:
    """Entries `first_index .. last_index`, without gaps; the base is the index just before, whose term is known too.

    Places are positions as `segment_format.position_of` makes them. Terms never fall along the log, so they are
    kept as runs: (first index of the run, term).
    """

    def __init__(self, base_index: int = 0, base_term: int = 0) -> None:
        """Empty, after the base."""
        self.reset(base_index, base_term)

    def reset(self, base_index: int, base_term: int) -> None:
        """Forget everything and go on after `base_index`."""
        self.base_index, self.base_term = base_index, base_term
        self.last_index = base_index
        """The highest index held, or the base if none is."""
        self._places = array("Q")
        self._lengths = array("I")
        self._run_starts: list[int] = []
        self._run_terms: list[int] = []
        self.payload_bytes = 0

    @property
    def first_index(self) -> int:
        """The lowest index held, or the next one if none is."""
        return self.base_index + 1

    @property
    def last_term(self) -> int:
        """Term at `last_index`."""
        return self._run_terms[-1] if self._places else self.base_term

    def append(self, term: int, position: int, length: int) -> int:
        """Add the entry after the last; return its index."""
        index = self.last_index = self.last_index + 1
        if not self._run_terms or self._run_terms[-1] != term:
            self._run_starts.append(index)
            self._run_terms.append(term)
        self._places.append(position)
        self._lengths.append(length)
        self.payload_bytes += length
        return index

    def place(self, index: int) -> tuple[int, int]:
        """Return (position of the record's header, payload bytes); raise IndexError if it is not held."""
        slot = index - self.base_index - 1
        if not 0 <= slot < len(self._places):
            raise IndexError(f"log index {index} is not held: the log has {self.first_index} to {self.last_index}")
        return self._places[slot], self._lengths[slot]

    def term_at(self, index: int) -> int:
        """Term of an entry, or of the base; raise IndexError elsewhere."""
        starts = self._run_starts
        if starts and starts[-1] <= index <= self.last_index:
            return self._run_terms[-1]  # the newest term: nearly every question
        if index == self.base_index:
            return self.base_term
        self.place(index)
        return self._run_terms[bisect_right(self._run_starts, index) - 1]

    def truncate_from(self, index: int) -> None:
        """Drop the entries from `index` on; the base itself stays."""
        kept = max(0, index - self.base_index - 1)
        self.payload_bytes -= sum(self._lengths[kept:])
        del self._places[kept:], self._lengths[kept:]
        self.last_index = self.base_index + len(self._places)
        while self._run_starts and self._run_starts[-1] >= index:
            self._run_starts.pop()
            self._run_terms.pop()

    def forget_to(self, index: int) -> None:
        """Drop the entries up to `index`, which is held and becomes the base."""
        term = self.term_at(index)
        gone = index - self.base_index
        self.payload_bytes -= sum(self._lengths[:gone])
        del self._places[:gone], self._lengths[:gone]
        runs = bisect_right(self._run_starts, index) - 1
        if runs > 0:
            del self._run_starts[:runs], self._run_terms[:runs]
        self.base_index, self.base_term = index, term
