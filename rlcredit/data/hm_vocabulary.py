"""The words of the generated clothes shop: product types, lines, and customers' tastes.

Attributes are worded as in H&M's catalogue. A customer's history shows names, types and colours;
the pattern, fit, fabric and section that the customer likes must be learnt from the lines bought
before.
"""

from dataclasses import dataclass
from typing import TypeAlias

Wordings: TypeAlias = tuple[str, ...]


def _words(text: str) -> Wordings:
    return tuple(text.split())


@dataclass(frozen=True, kw_only=True)
class Garment:
    """A product type, where H&M files it, and what is bought after it."""

    wordings: Wordings
    group: str
    department: str
    followed_by: int
    """Row of the type that a customer tends to buy next."""


@dataclass(frozen=True, kw_only=True)
class Taste:
    """What a customer likes: rows of the lists below."""

    colour: int
    pattern: int
    fit: int
    fabric: int
    section: int


GARMENTS: tuple[Garment, ...] = (
    Garment(wordings=("jacket", "blouson"), group="Outdoor", department="Outwear", followed_by=1),
    Garment(wordings=("trousers", "pants"), group="Trousers", department="Bottoms", followed_by=2),
    Garment(wordings=("shirt", "button up"), group="Shirts", department="Woven", followed_by=3),
    Garment(wordings=("sweater", "jumper"), group="Knitwear", department="Knits", followed_by=4),
    Garment(wordings=("scarf", "shawl"), group="Accessories", department="Neck", followed_by=5),
    Garment(wordings=("dress", "gown"), group="Dresses", department="Frocks", followed_by=6),
    Garment(wordings=("cardigan", "twinset"), group="Knits", department="Layers", followed_by=7),
    Garment(wordings=("skirt", "kilt"), group="Skirts", department="Hemline", followed_by=8),
    Garment(wordings=("blouse", "tunic"), group="Blouses", department="Tops", followed_by=9),
    Garment(wordings=("boots", "booties"), group="Shoes", department="Heels", followed_by=10),
    Garment(wordings=("tights", "stockings"), group="Hosiery", department="Legs", followed_by=11),
    Garment(wordings=("shorts", "bermudas"), group="Shorts", department="Summer", followed_by=12),
    Garment(wordings=("hoodie", "pullover"), group="Casual", department="Sweats", followed_by=13),
    Garment(wordings=("pyjamas", "sleepwear"), group="Nightwear", department="Bed", followed_by=14),
    Garment(wordings=("bag", "tote"), group="Bags", department="Carry", followed_by=0),
)

COLOURS: tuple[Wordings, ...] = (
    ("dark blue", "navy"),
    ("light pink", "blush"),
    ("off white", "ivory"),
    ("khaki green", "olive"),
    ("black", "jet"),
    ("rust", "terracotta"),
    ("grey", "charcoal"),
    ("yellow", "mustard"),
)

PATTERNS: tuple[Wordings, ...] = (
    ("solid", "plain"),
    ("stripe", "pinstripe"),
    ("check", "tartan"),
    ("melange", "marled"),
    ("floral", "botanical"),
    ("lace", "openwork"),
    ("glittering", "metallic"),
    ("embroidery", "stitched motif"),
)

FITS: tuple[Wordings, ...] = (
    ("oversized", "baggy"),
    ("slim", "tapered"),
    ("cropped", "abbreviated"),
    ("high waist", "belted"),
    ("wrapover", "draped"),
    ("pleated", "gathered"),
    ("ribbed", "textured"),
    ("lined", "quilted"),
)

FABRICS: tuple[Wordings, ...] = (
    ("linen", "flaxen"),
    ("denim", "chambray"),
    ("velvet", "velour"),
    ("cashmere", "mohair"),
    ("satin", "silky"),
    ("corduroy", "needlecord"),
    ("jersey", "interlock"),
    ("poplin", "seersucker"),
)

SECTIONS: tuple[Wordings, ...] = (
    ("everyday collection", "daily basics"),
    ("tailoring", "office wear"),
    ("divided", "young trend"),
    ("premium quality", "couture"),
    ("sport", "activewear"),
    ("lingerie", "intimates"),
    ("mama", "maternity"),
    ("party edition", "evening"),
)

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

LINES: Wordings = _words(
    "Astrid Bianca Celeste Dorian Eloise Farrah Gustav Hedvig Isolde Jasper Katya Leonie "
    "Mirella Nadine Odette Pernille Quincy Rosalind Soraya Tobias Ulrika Vesper Wilma "
    "Xenia Yvette Zelda Ambrose Blythe Corinne Daphne Esmeralda Fabian"
)
"""Product lines; each belongs to three tastes."""

LINES_PER_TASTE = 6

GENERIC: Wordings = (
    "new arrival",
    "great value",
    "best seller",
    "must have",
    "gift idea",
    "top rated",
    "nice thing",
    "seasonal favourite",
)
"""Praise that no article text contains."""

DESCRIPTIONS: Wordings = (
    "{fit} {garment} in {fabric} with a {pattern} look.",
    "{garment} in soft {fabric}. {pattern}, {fit} and easy to combine.",
    "A {fit} {garment}, {pattern}, made from {fabric}.",
)


def lines_of(taste: int) -> Wordings:
    """The product lines designed for a taste."""
    return tuple(LINES[(2 * taste + 5 * place) % len(LINES)] for place in range(LINES_PER_TASTE))
