"""Which hashes of two sets differ in few bits: all pairs, by exclusive or and popcount, in blocks.

Every pair is looked at, since that costs little: 5 to 10 ns for 256 bits on one core, so 5 to 10 s for 61,712 x
15,700 tiles. A tree or an index would be faster only for radii far smaller than ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.pool import each

Words = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

EXAMPLES = 20
"""How many pairs are named; all are counted."""

_BLOCK, _ROWS = 1024, 64
_WORTH_PROCESSES = 2 * 10**8


@dataclass(frozen=True, kw_only=True)
class Hashes:
    """Hashes of one length, as words [n, w]; pairs of which both have one group other than -1 are left out."""

    words: Words
    groups: Numbers

    def __len__(self) -> int:
        """How many."""
        return len(self.words)


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Pairs within the radius.

    Args:
        pairs: how many.
        second: indices of the second set that occur, each once, in order.
        nearest: bits, index of the first and of the second set; the `EXAMPLES` least.
    """

    pairs: int = 0
    second: Numbers
    nearest: tuple[tuple[int, int, int], ...] = ()

    def __add__(self, other: Alike) -> Alike:
        """Both together."""
        return Alike(
            pairs=self.pairs + other.pairs,
            second=np.union1d(self.second, other.second),
            nearest=tuple(sorted((*self.nearest, *other.nearest))[:EXAMPLES]),
        )

    def renumbered(self, first: Sequence[int], second: Sequence[int]) -> Alike:
        """The same with other indices: those that stand at ours."""
        return Alike(
            pairs=self.pairs,
            second=np.array([second[index] for index in self.second], dtype=np.int64),
            nearest=tuple((bits, first[i], second[j]) for bits, i, j in self.nearest),
        )


NONE_ALIKE = Alike(second=np.zeros(0, np.int64))


@dataclass(frozen=True, kw_only=True, eq=False)
class _Block:
    first: Hashes
    second: Hashes
    least: int
    radius: int
    start: int


def hashes(given: Sequence[bytes], groups: Sequence[int]) -> Hashes:
    """Hashes of whole words, with the group of each."""
    words = np.frombuffer(b"".join(given), dtype=np.uint64)
    return Hashes(
        words=words.reshape(len(given), words.size // max(len(given), 1)), groups=np.array(groups, dtype=np.int64)
    )


def alike(first: Hashes, second: Hashes, radius: int, workers: int, *, least: int = 0) -> Alike:
    """The pairs of the two sets that differ in `least` to `radius` bits.

    Args:
        first: one set.
        second: the other.
        radius: greatest difference in bits.
        workers: processes, as by `harness.pool.each`; small sets are compared in this process.
        least: least difference in bits.

    Raises:
        ValueError: a worker was killed.
    """
    if len(first) * len(second) < _WORTH_PROCESSES:
        workers = 1
    work = [
        _Block(
            first=Hashes(words=first.words[at : at + _BLOCK], groups=first.groups[at : at + _BLOCK]),
            second=second,
            least=least,
            radius=radius,
            start=at,
        )
        for at in range(0, len(first), _BLOCK)
    ]
    total = NONE_ALIKE
    for _, found in each(_search, work, workers):
        assert isinstance(found, Alike), found
        total += found
    return total


def _search(block: _Block) -> Alike:
    total = NONE_ALIKE
    first, second = block.first, block.second
    for at in range(0, len(first) if len(second) else 0, _ROWS):
        rows = first.words[at : at + _ROWS]
        bits = np.zeros((len(rows), len(second)), dtype=np.uint16)
        for word in range(rows.shape[1]):
            bits += np.bitwise_count(rows[:, word, None] ^ second.words[None, :, word])
        i, j = np.nonzero((bits >= block.least) & (bits <= block.radius))
        group = first.groups[at + i]
        kept = (group != second.groups[j]) | (group == -1)
        i, j = i[kept], j[kept]
        near = bits[i, j]
        best = np.lexsort((j, i, near))[:EXAMPLES]
        total += Alike(
            pairs=len(i),
            second=np.unique(j),
            nearest=tuple((int(near[k]), int(block.start + at + i[k]), int(j[k])) for k in best),
        )
    return total
