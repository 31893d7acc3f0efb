"""Whole batches of plain chains, one leg over two groups, without a Python object for each (DESIGN §7).

What the driver does with a plain chain follows from two small states, so that a table does it for thousands at once.
The table is derived from the driver itself, the digests are those of `engine.core.chains.plan`: batches and single
chains cannot drift apart. Whatever is not plain, or meets another plan or body, goes through
`engine.core.chains.driver`.
"""

import hashlib
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.core.chains.digests import digest_all
from engine.core.chains.driver import answer, next_steps
from engine.core.chains.plan import DIGEST_BYTES, DIGEST_PERSON, PLAN_VERSION, Chain, Plan, Side, chain_of
from engine.core.chains.word import Hold, State, Step, Word
from engine.core.records import RECORD_BYTES, Kind, Words

_FEW: Final = 8
"""Fewer digests than this are quicker one by one."""
_BLANK: Final = hashlib.blake2b(digest_size=DIGEST_BYTES, person=DIGEST_PERSON)
_HEAD_PARTS: Final = 8
"""Of an encoded chain of one leg, two bytes each: header, sides, padding. Its row follows."""
_FAMILIES: Final = (Kind.POST, Kind.RESERVE, Kind.REVERSE)
_KIND_SHIFT: Final = np.uint64(16)
_BYTE: Final = np.uint64(0xFF)


class PlainTable(NamedTuple):
    """What the driver does with a chain of one leg over two groups; all of it follows from the two groups' states.

    Indexed [family, state of the other group, state of the decider], the family being that of the kind
    (`plain_families`); both words of the chain's own plan. Amounts, reasons and words go from the one group to the
    other as they were answered.
    """

    step: npt.NDArray[np.uint8]
    """Shape (3, 9, 9): `Step`. DECIDE, ABORT and ASK go to the decider, all others to the other group."""
    answered: npt.NDArray[np.bool_]
    """Shape (3, 9, 9): the caller may be told the decider's word."""


def plain_table() -> PlainTable:
    """Derive the table from `next_steps` and `answer`, so that batches and single chains cannot drift apart."""
    step = np.zeros((len(_FAMILIES), len(State), len(State)), np.uint8)
    answered = np.zeros(step.shape, np.bool_)
    for family, kind in enumerate(_FAMILIES):
        chain = _plain_chain(kind)
        for other in State:
            for decider in State:
                words = {group: _plain_word(chain, state) for group, state in ((0, other), (1, decider)) if state}
                orders = next_steps(chain, words)
                step[family, other, decider] = orders[0].step if orders else Step.NONE
                answered[family, other, decider] = answer(chain, words) is not None
    return PlainTable(step, answered)


def plain_families(words: Words) -> npt.NDArray[np.uint8]:
    """Return for each record, shape (n, 16), the first index into the table, shape (n,): 1 for RESERVE, 2 for REVERSE
    (its money arrives in the other group), 0 for all others."""
    kinds = (words[:, 15] >> _KIND_SHIFT) & _BYTE
    families: npt.NDArray[np.uint8] = np.zeros(len(words), np.uint8)
    families[kinds == np.uint64(Kind.RESERVE)] = 1
    families[kinds == np.uint64(Kind.REVERSE)] = 2
    return families


def _plain_chain(kind: Kind) -> Chain:
    row = bytearray(RECORD_BYTES)
    row[122] = kind
    return chain_of(bytes(row), Plan((Side(0, 1),), 1))


def _plain_word(chain: Chain, state: State) -> Word:
    return Word(chain, state, (1,), holds=tuple(Hold(State.HELD, 1) for _ in chain.holds))


def plain_digests(
    words: Words, sides: npt.NDArray[np.uint16], deciders: npt.NDArray[np.uint16] | None = None
) -> npt.NDArray[np.uint8]:
    """Return the digest of each record as a chain of one leg, shape (n, 16).

    words: shape (n, 16), C-contiguous. sides: shape (n, 2), the groups of its accounts. deciders: shape (n,); None: the
    group of each credit account decides.
    """
    heads = np.zeros((len(words), _HEAD_PARTS), "<u2")
    heads[:, 0], heads[:, 2], heads[:, 4:6] = PLAN_VERSION, 1, sides
    heads[:, 1] = sides[:, 1] if deciders is None else deciders
    if len(words) < _FEW:
        return np.frombuffer(b"".join(map(_digest, heads, words)), np.uint8).reshape(-1, DIGEST_BYTES)
    digests = np.empty((len(words), 2), np.uint64)
    digest_all(heads.view(np.uint64), words, digests)
    return digests.view(np.uint8)


def _digest(head: npt.NDArray[np.uint16], row: npt.NDArray[np.uint64]) -> bytes:
    hashed = _BLANK.copy()  # a third quicker than to begin with size and person each time
    hashed.update(head.data)
    hashed.update(row.data)
    return hashed.digest()
