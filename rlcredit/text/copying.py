"""What a text has copied: single words from its prompt, runs of words from a catalogue."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rlcredit.text.words import words

RUN = 3
"""Words in a run. Two words in a row are often a coincidence ("running shoes")."""

_BITS = 21
"""Bits of a word's number: three fill a 64-bit integer, so that no two runs look alike."""


@dataclass(frozen=True, kw_only=True, eq=False)
class WordRuns:
    """Every run of three consecutive words of a collection of texts; punctuation aside."""

    numbers: Mapping[str, int]
    """Word -> its number, 1 or more. Beyond 2^21 different words the rarest have none."""
    runs: NDArray[np.int64]
    """Sorted, without repetitions."""

    @classmethod
    def of(cls, texts: Sequence[str]) -> "WordRuns":
        """The runs of these texts; a run does not reach from one text into the next.

        The texts are read twice, and their words not kept.
        """
        said = Counter(word for text in texts for word in words(text))
        frequent = said.most_common(2**_BITS - 1)
        numbers = {word: number for number, (word, _) in enumerate(frequent, start=1)}
        runs = [_packed(words(text), numbers) for text in texts]
        return cls(numbers=numbers, runs=np.unique(np.concatenate([*runs, _NOTHING])))

    def copied(self, text: str) -> Iterator[bool]:
        """Say of each word of a text whether it lies in a run that the collection holds."""
        written = words(text)
        packed = _packed(written, self.numbers)
        places = np.searchsorted(self.runs, packed)
        found = np.zeros(len(packed), dtype=bool)
        inside = places < len(self.runs)
        found[inside] = self.runs[places[inside]] == packed[inside]
        starts = np.flatnonzero(found)
        covered = {start + step for start in starts.tolist() for step in range(RUN)}
        return (place in covered for place in range(len(written)))


_NOTHING = np.zeros(0, dtype=np.int64)


def _packed(text: Sequence[str], numbers: Mapping[str, int]) -> NDArray[np.int64]:
    """One integer for each run of a text; -1 where a word has no number."""
    if len(text) < RUN:
        return _NOTHING
    known = np.array([numbers.get(word, 0) for word in text], dtype=np.int64)
    first, second, third = known[:-2], known[1:-1], known[2:]
    packed = (first << 2 * _BITS) | (second << _BITS) | third
    return np.where((first > 0) & (second > 0) & (third > 0), packed, -1)
