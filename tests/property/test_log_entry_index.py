"""The compact index of the log's entries answers as a plain list would."""

from hypothesis import given
from hypothesis import strategies as st

from engine.replication.journal.entry_index import EntryIndex
from engine.replication.journal.record_cache import RecordCache

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 4), st.integers(0, 50)),
        st.tuples(st.just("truncate"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("forget"), st.integers(0, 30), st.just(0)),
        st.tuples(st.just("evict"), st.integers(0, 30), st.just(0)),
    ),
    max_size=60,
)


class PlainLog:
    """Entries as a list of (index, term, length)."""

    def __init__(self) -> None:
        self.base = (5, 1)
        self.entries: list[tuple[int, int, int]] = []

    @property
    def last(self) -> int:
        return self.entries[-1][0] if self.entries else self.base[0]

    def forget_to(self, index: int) -> None:
        kept = [entry for entry in self.entries if entry[0] > index]
        gone = self.entries[: len(self.entries) - len(kept)]
        if gone:
            self.base, self.entries = gone[-1][:2], kept


@given(STEPS)
def test_index_and_cache_agree_with_a_plain_list(steps: list[tuple[str, int, int]]) -> None:
    plain, index, cache = PlainLog(), EntryIndex(5, 1), RecordCache(bytes_max=60)
    for step, number, length in steps:
        if step == "append":
            term = max(number, index.last_term)
            cache.put(index.append(term, 1000 + index.last_index, length), bytes(length), length)
            plain.entries.append((plain.last + 1, term, length))
        elif step == "truncate":
            at = max(plain.base[0] + 1, plain.last - number)
            plain.entries = [entry for entry in plain.entries if entry[0] < at]
            index.truncate_from(at)
            cache.truncate_from(at)
        elif step == "forget":
            at = min(plain.last, plain.base[0] + number)
            plain.forget_to(at)
            index.forget_to(at)
            cache.forget_to(at)
        else:
            cache.evict(plain.base[0] + number)
            held = sum(length for at, _, length in plain.entries if cache.get(at) is not None)
            assert cache.bytes == held
            assert held <= 60 or all(cache.get(at) for at, *_ in plain.entries if at > plain.base[0] + number)
        compare(plain, index, cache)


def compare(plain: PlainLog, index: EntryIndex, cache: RecordCache) -> None:
    assert (index.base_index, index.base_term) == plain.base
    assert (index.first_index, index.last_index) == (plain.base[0] + 1, plain.last)
    assert index.last_term == (plain.entries[-1][1] if plain.entries else plain.base[1])
    assert index.payload_bytes == sum(length for *_, length in plain.entries)
    assert index.term_at(plain.base[0]) == plain.base[1]
    for at, term, length in plain.entries:
        assert index.term_at(at) == term
        assert index.place(at) == (1000 + at - 1, length)
        assert cache.get(at) in (None, (bytes(length), length))
    assert cache.bytes == sum(length for at, _, length in plain.entries if cache.get(at) is not None)
