"""A generated catalogue of any size: the products that queries are about, among distractors.

A distractor is a product of a category that no query asks for, so it is relevant to none. Its words
follow Zipf's law as Mandelbrot has it, p(r) ~ 1 / (r + 2.7) over 2^20 words, and its length is
log-normal. Half of its words are those of its topic, of which there are 4,096: the same law, from
another word on. Features, styles, materials, colours and brands of the catalogue stand among the
words, so a search for them finds distractors too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rlcredit.retrieval.base import Documents
from rlcredit.retrieval.digest import digest
from rlcredit.tasks.generated.esci_words import WORDS
from rlcredit.tasks.stored_texts import stored_texts

VERSION = "1"
"""Raised with every change of what a seed generates."""

_STREAM = 3
"""Stream of the seed: the products that queries are about stay what they are."""
_BLOCK = 2**16
"""Products drawn together."""

_NUM_WORDS = 2**20
_SHIFT = 2.7
_NUM_TOPICS = 4096
_TOPICAL = 0.5
_FIRST, _EVERY = 128, 8
"""The catalogue's own words stand at every eighth rank from here on, as many as there are."""
_LENGTH, _SPREAD, _SHORTEST, _LONGEST = 36, 0.5, 5, 64
"""Median and log-deviation of a product's number of words, and its bounds."""

_SYLLABLES = [onset + vowel for onset in "bcdfghjklmnprstv" for vowel in "aeiou"]
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_NUM_IDS = len(_DIGITS) ** 8


@dataclass(frozen=True, kw_only=True)
class _Products:
    """The documents of a catalogue in order, some of them given."""

    own: Documents
    numbers: NDArray[np.int64]
    """Sorted numbers of all ids, the given ones among them."""
    seed: int

    def parts(self) -> Iterator[list[str]]:
        """Their texts, block by block."""
        given = dict(zip(map(_number, self.own.ids), self.own.texts, strict=True))
        for first in range(0, len(self.numbers), _BLOCK):
            numbers = self.numbers[first : first + _BLOCK].tolist()
            drawn = _texts(np.random.default_rng([self.seed, _STREAM, first]), len(numbers))
            yield [given.get(number, text) for number, text in zip(numbers, drawn, strict=True)]


def with_distractors(own: Documents, *, size: int, seed: int, folder: Path) -> Documents:
    """A catalogue of ``size`` documents in the order of their ids, texts in an Arrow file.

    Args:
        own: The products that queries are about; all of them are in it.
        size: At least as many.
        seed: Of the draws.
        folder: Where the texts are kept, named by all that they depend on.

    Raises:
        OSError: If the texts cannot be written there.
    """
    numbers = _numbers(own.ids, size=size, seed=seed)
    products = _Products(own=own, numbers=numbers, seed=seed)
    name = digest(VERSION, str(seed), str(size), own.ids, own.texts)
    texts = stored_texts(folder / f"{name}.arrow", size, products.parts)
    return Documents(ids=tuple(map(_id, numbers.tolist())), texts=texts)


def _numbers(own: tuple[str, ...], *, size: int, seed: int) -> NDArray[np.int64]:
    """Sorted: those of the given ids, and others drawn without repetition."""
    rng = np.random.default_rng([seed, _STREAM])
    numbers = np.array(sorted(map(_number, own)), dtype=np.int64)
    while len(numbers) < size:
        drawn = np.setdiff1d(rng.integers(_NUM_IDS, size=size - len(numbers)), numbers)
        numbers = np.sort(np.concatenate([numbers, drawn]))
    return numbers


def _id(number: int) -> str:
    """An id of ESCI's form; ids are in the order of their numbers."""
    digits = []
    for _ in range(8):
        number, digit = divmod(number, len(_DIGITS))
        digits.append(_DIGITS[digit])
    return "B0" + "".join(reversed(digits))


def _number(product_id: str) -> int:
    return int(product_id[2:], len(_DIGITS))


def _texts(rng: np.random.Generator, number: int) -> list[str]:
    """Texts of so many distractors."""
    lengths = np.exp(rng.normal(np.log(_LENGTH), _SPREAD, size=number))
    lengths = lengths.astype(np.int64).clip(_SHORTEST, _LONGEST)
    topics = np.repeat(rng.integers(_NUM_TOPICS, size=number), lengths)
    ranks = _ranks(rng, len(topics))
    topical = rng.random(len(topics)) < _TOPICAL
    shift = np.where(topical, (topics + 1) * (_NUM_WORDS // (_NUM_TOPICS + 1)), 0)
    said = _vocabulary()[(ranks + shift) % _NUM_WORDS].tolist()
    ends = np.cumsum(lengths).tolist()
    starts = [0, *ends[:-1]]
    return [" ".join(said[start:end]) for start, end in zip(starts, ends, strict=True)]


def _ranks(rng: np.random.Generator, number: int) -> NDArray[np.int64]:
    """Ranks from 0 of words: the inverse of the law's distribution, taken as continuous."""
    low, high = np.log(_SHIFT), np.log(_NUM_WORDS + _SHIFT)
    drawn = np.exp(low + (high - low) * rng.random(number)) - _SHIFT
    return drawn.astype(np.int64).clip(0, _NUM_WORDS - 1)


@cache
def _vocabulary() -> NDArray[np.object_]:
    """Words by rank: the frequent ones are short. None is a noun, a use or said by a query."""
    named = [*WORDS.features, *WORDS.styles, *(m for table in WORDS.materials for m in table)]
    own = [wording for wordings in named for wording in wordings]
    own = list(dict.fromkeys([*own, *WORDS.colours, *WORDS.brands]))
    asked = [noun for nouns in WORDS.categories for noun in nouns]
    asked += [text for who in WORDS.personas for text in (*who.use, *who.surfaces)]
    barred = {word for text in asked for word in text.split()}
    words = list(islice((word for word in map(_word, count()) if word not in barred), _NUM_WORDS))
    words[_FIRST : _FIRST + _EVERY * len(own) : _EVERY] = own
    return np.array(words, dtype=np.object_)


def _word(rank: int) -> str:
    """Syllables: 80 words of one, then 6,400 of two, then words of three and four."""
    syllables = []
    rank += 1
    while rank:
        rank, syllable = divmod(rank - 1, len(_SYLLABLES))
        syllables.append(_SYLLABLES[syllable])
    return "".join(reversed(syllables))
