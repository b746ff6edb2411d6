"""A generated clothes shop in H&M's schema, whose customers have tastes.

A customer's latent taste is a colour, a pattern, a fit, a fabric and a section. The history is made
of articles that mostly share the taste, and its last type tends to decide the next one. The next
purchase shares the taste too, comes from a line that is not in the history, and is all that is
relevant. Train, validation and test customers come from disjoint (taste, next type) pairs, every
half of which is seen in training.
"""

from collections.abc import Sequence
from dataclasses import astuple, dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rlcredit.tasks.generated.hm_words import (
    LINES_PER_TASTE,
    MISTAKEN_BY,
    TASTES,
    WORDS,
    Wordings,
    lines_of,
)
from rlcredit.tasks.splits import Pair, split_pairs

VERSION = "1"
"""Raised with every change of what a seed generates."""

Array = NDArray[np.int64]

KEPT = 0.85
"""Probability with which an article has an attribute of the taste it was designed for."""
CANONICAL = 0.75
"""Probability with which an attribute is named in its canonical wording."""
IN_TASTE = 0.8
"""Share of a history's articles that were designed for the customer's taste."""
FOLLOWS = 0.85
"""Probability with which the history's last type decides the next one."""
HISTORY = (3, 4, 5)

ATTRIBUTES = ("colour", "pattern", "fit", "fabric", "section")
LISTS = (
    WORDS.colours,
    WORDS.patterns,
    WORDS.fits,
    WORDS.fabrics,
    WORDS.sections,
)
HELD_OUT_PER_TASTE = 3
CUSTOMERS_PER_PAIR = {"train": 3, "validation": 5, "test": 5}
NUM_TEST_PAIRS = 32
TYPE_POOL, TASTE_POOL = 30, 15
"""Largest numbers in a pool: other articles of the type, and other ones of the taste."""


@dataclass(frozen=True, kw_only=True)
class Customer:
    """One customer: earlier days' purchases, and a later one."""

    customer_id: str
    split: str
    pair: Pair
    """(taste, product type of the next purchase)."""
    history: tuple[str, ...]
    """article_id of each earlier purchase, oldest first."""
    target: str
    pool: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Shop:
    """Articles with their latent attributes, in one order. N articles."""

    articles: pa.Table
    """H&M's article columns."""
    ids: tuple[str, ...]
    lines: Array
    tastes: Array
    types: Array
    attributes: Array
    """[N, 5]: rows of the colour, pattern, fit, fabric and section in their lists."""

    def shared(self, taste: int) -> Array:
        """[N]: how many attributes of a taste each article has."""
        return (self.attributes == np.array(astuple(TASTES[taste]))).sum(1)


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The generated files and what is known about them."""

    articles: pa.Table
    customers: list[Customer]

    def transactions(self) -> pa.Table:
        """The purchases in H&M's columns, one a day."""
        rows = [
            {
                "t_dat": f"2020-09-{day:02d}",
                "customer_id": customer.customer_id,
                "article_id": article,
                "price": "0.0254",
                "sales_channel_id": "2",
            }
            for customer in self.customers
            for day, article in enumerate((*customer.history, customer.target), 1)
        ]
        return pa.Table.from_pylist(rows)


def generate(seed: int, *, pool_size: int) -> Generated:
    """The articles and customers of a seed."""
    rng = np.random.default_rng([seed, 1])
    shop = _shop(rng)
    splits = split_pairs(
        rng,
        num_rows=len(TASTES),
        num_columns=len(WORDS.garments),
        held_out_per_row=HELD_OUT_PER_TASTE,
        num_test=NUM_TEST_PAIRS,
    )
    customers = [
        _customer(rng, shop, split, pair, pool_size)
        for split, members in splits.items()
        for pair in members
        for _ in range(CUSTOMERS_PER_PAIR[split])
    ]
    return Generated(articles=shop.articles, customers=customers)


def hidden(taste: int) -> dict[str, Wordings]:
    """What a taste implies: attribute -> its wordings."""
    rows = zip(ATTRIBUTES, LISTS, astuple(TASTES[taste]), strict=True)
    return {attribute: lists[row] for attribute, lists, row in rows}


def mistaken(taste: int) -> dict[str, Wordings]:
    """The taste that this one is mistaken for: attribute -> its wordings."""
    return hidden((taste + MISTAKEN_BY) % len(TASTES))


def truth(taste: int, garment: int) -> dict[str, Wordings]:
    """All that is true for a pair, the product type included: attribute -> its wordings."""
    return hidden(taste) | {"product type": WORDS.garments[garment].wordings}


def everything() -> tuple[str, ...]:
    """All that can be said about an article, in its canonical wording."""
    types = (garment.wordings for garment in WORDS.garments)
    return tuple(wordings[0] for wordings in (*(one for lists in LISTS for one in lists), *types))


def _shop(rng: np.random.Generator) -> Shop:
    num_types = len(WORDS.garments)
    designs = rng.permutation(len(TASTES) * num_types * LINES_PER_TASTE)
    pairs, places = designs // LINES_PER_TASTE, designs % LINES_PER_TASTE
    tastes, types = pairs // num_types, pairs % num_types
    of_taste = np.array(
        [[WORDS.lines.index(line) for line in lines_of(taste)] for taste in range(len(TASTES))]
    )
    lines = of_taste[tastes, places]
    liked = np.array([astuple(taste) for taste in TASTES])[tastes]
    drawn = np.stack([rng.integers(len(lists), size=len(pairs)) for lists in LISTS], axis=1)
    attributes = np.where(rng.random(liked.shape) < KEPT, liked, drawn)
    numbers = rng.choice(10**9, size=len(pairs), replace=False)
    ids = [f"0{number:09d}" for number in numbers]
    return Shop(
        articles=_articles(rng, ids, types, lines, attributes),
        ids=tuple(ids),
        lines=lines,
        tastes=tastes,
        types=types,
        attributes=attributes,
    )


def _articles(
    rng: np.random.Generator, ids: Sequence[str], types: Array, lines: Array, attributes: Array
) -> pa.Table:
    """H&M's columns; each attribute in a wording of its own wherever it is named."""
    num = len(ids)
    filed = (rng.random(attributes.shape) >= CANONICAL).astype(np.int64)
    said = (rng.random(attributes.shape) >= CANONICAL).astype(np.int64)
    noun = (rng.random(num) >= CANONICAL).astype(np.int64)
    template = rng.integers(len(WORDS.descriptions), size=num)
    rows = []
    for row in range(num):
        kind = WORDS.garments[types[row]]
        lists = [LISTS[at][attributes[row, at]] for at in range(len(LISTS))]
        colour, pattern, _, _, section = (
            one[wording] for one, wording in zip(lists, filed[row], strict=True)
        )
        named = {name: lists[at][said[row, at]] for at, name in enumerate(ATTRIBUTES)}
        description = WORDS.descriptions[template[row]].format(
            garment=kind.wordings[noun[row]], **named
        )
        rows.append(
            {
                "article_id": ids[row],
                "prod_name": f"{WORDS.lines[lines[row]]} {kind.wordings[1]}",
                "product_type_name": kind.wordings[0].capitalize(),
                "product_group_name": "",
                "graphical_appearance_name": pattern.capitalize(),
                "colour_group_name": colour.capitalize(),
                "department_name": kind.department,
                "index_name": "",
                "section_name": section.capitalize(),
                "garment_group_name": kind.group,
                "detail_desc": description[0].upper() + description[1:],
            }
        )
    return pa.Table.from_pylist(rows)


def _customer(
    rng: np.random.Generator, shop: Shop, split: str, pair: Pair, pool_size: int
) -> Customer:
    taste, garment = pair
    shared = shop.shared(taste)
    designed = (shop.tastes == taste) & (shop.types == garment)
    best = np.flatnonzero(designed & (shared == shared[designed].max()))
    target = int(rng.choice(best))
    history = _history(rng, shop, taste, garment, int(shop.lines[target]))
    pool = _pool(rng, shop, target, pair, history, pool_size)
    return Customer(
        customer_id=rng.bytes(32).hex(),
        split=split,
        pair=pair,
        history=tuple(shop.ids[article] for article in history),
        target=shop.ids[target],
        pool=tuple(sorted(shop.ids[article] for article in pool)),
    )


def _history(
    rng: np.random.Generator, shop: Shop, taste: int, garment: int, line: int
) -> list[int]:
    """Articles of other lines than the target's, the last of which announces the next type."""
    before = next(at for at, kind in enumerate(WORDS.garments) if kind.followed_by == garment)
    other_line = shop.lines != line
    in_taste = (shop.tastes == taste) & other_line
    history: list[int] = []
    num_earlier = int(rng.choice(HISTORY)) - 1
    while len(history) < num_earlier:
        drawn = in_taste if rng.random() < IN_TASTE else other_line
        article = int(rng.choice(np.flatnonzero(drawn)))
        if article not in history:
            history.append(article)
    kind = before if rng.random() < FOLLOWS else int(rng.integers(len(WORDS.garments)))
    last = np.flatnonzero(in_taste & (shop.types == kind))
    return [*history, int(rng.choice(np.setdiff1d(last, history)))]


def _pool(
    rng: np.random.Generator,
    shop: Shop,
    target: int,
    pair: Pair,
    history: Sequence[int],
    size: int,
) -> Array:
    """The target and others; none that was bought before, none that would fit as well."""
    taste, garment = pair
    of_type = shop.types == garment
    free = ~(of_type & (shop.shared(taste) >= 3))
    free[[target, *history]] = False
    parts = (
        (free & of_type, TYPE_POOL),
        (free & ~of_type & (shop.tastes == taste), TASTE_POOL),
    )
    drawn = [rng.permutation(np.flatnonzero(mask))[:limit] for mask, limit in parts]
    near = np.concatenate([[target], *drawn])[:size].astype(np.int64)
    free[near] = False
    others = rng.permutation(np.flatnonzero(free))[: size - len(near)]
    return np.concatenate([near, others])
