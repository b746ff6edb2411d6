"""The words of the generated product catalogue, read from ``esci_words.yaml``."""

from dataclasses import dataclass
from typing import TypeAlias

from rlcredit.tasks.generated.vocabulary import read_vocabulary

Wordings: TypeAlias = tuple[str, ...]
"""Ways to say one thing; the first is its canonical wording."""


@dataclass(frozen=True, kw_only=True)
class Persona:
    """Who asks: what such a person types, and the attributes wanted without saying so."""

    surfaces: Wordings
    kind: int
    """Row of the persona in each category group's table of materials."""
    use: Wordings
    features: tuple[str, str]
    """Canonical wordings of two of the features."""
    style: str
    """Canonical wording of one of the styles."""


@dataclass(frozen=True, kw_only=True)
class ProductWords:
    """Everything that the generator of products and queries says."""

    categories: tuple[Wordings, ...]
    materials: tuple[tuple[Wordings, ...], ...]
    features: tuple[Wordings, ...]
    styles: tuple[Wordings, ...]
    personas: tuple[Persona, ...]
    colours: Wordings
    brands: Wordings
    generic: Wordings
    titles: Wordings
    descriptions: Wordings


CATEGORIES_PER_GROUP = 3
WORDS = read_vocabulary("esci_words.yaml", ProductWords)
