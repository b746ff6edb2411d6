"""The words of the generated clothes shop, read from ``hm_words.yaml``, and customers' tastes."""

from dataclasses import dataclass
from typing import TypeAlias

from rlcredit.tasks.generated.vocabulary import read_vocabulary

Wordings: TypeAlias = tuple[str, ...]
"""Ways to say one thing; the first is its canonical wording."""


@dataclass(frozen=True, kw_only=True)
class Garment:
    """A product type, where H&M files it, and what is bought after it."""

    wordings: Wordings
    group: str
    department: str
    followed_by: int
    """Row of the type that a customer tends to buy next."""


@dataclass(frozen=True, kw_only=True)
class ShopWords:
    """Everything that the generator of articles says."""

    garments: tuple[Garment, ...]
    colours: tuple[Wordings, ...]
    patterns: tuple[Wordings, ...]
    fits: tuple[Wordings, ...]
    fabrics: tuple[Wordings, ...]
    sections: tuple[Wordings, ...]
    lines: Wordings
    generic: Wordings
    descriptions: Wordings


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What a customer likes: rows of the lists of :class:`ShopWords`."""

    colour: int
    pattern: int
    fit: int
    fabric: int
    section: int


WORDS = read_vocabulary("hm_words.yaml", ShopWords)

TASTES: tuple[Taste, ...] = tuple(
    Taste(
        colour=(row + 3 * (row // 8)) % 8,
        pattern=(3 * row + 1 + row // 8) % 8,
        fit=(5 * row + 2 + 3 * (row // 8)) % 8,
        fabric=(7 * row + 3 + 5 * (row // 8)) % 8,
        section=(row + 4 + 6 * (row // 8)) % 8,
    )
    for row in range(16)
)

MISTAKEN_BY = 4
"""A taste is mistaken for the one so many rows on, with which it has no attribute in common."""

LINES_PER_TASTE = 6


def lines_of(taste: int) -> Wordings:
    """The product lines designed for a taste."""
    return tuple(
        WORDS.lines[(2 * taste + 5 * place) % len(WORDS.lines)] for place in range(LINES_PER_TASTE)
    )
