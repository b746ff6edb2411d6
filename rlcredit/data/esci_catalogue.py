"""A generated product search task in ESCI's schema, whose queries hide what they want.

A query names a category and a persona. The relevant products share attributes that the persona
implies and the query does not mention: a use, two features, a style, and a material that depends
on the category's group and the persona together. Train, validation and test queries come from
disjoint (category, persona) pairs, every half of which is seen in training. What is true for a
query is kept.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rlcredit.data import esci_vocabulary as words
from rlcredit.data.esci_files import Query
from rlcredit.data.splits import Pair, split_pairs

VERSION = "1"
"""Raised with every change of what a seed generates."""

Array = NDArray[np.int64]

COPIES = 8
"""Products designed for each (category, persona) pair."""
KEPT = 0.8
"""Probability with which a product has an attribute of the persona it was designed for."""
CANONICAL = 0.7
"""Probability with which an attribute is named in its canonical wording."""
NOUN_CANONICAL = 0.7
COLOURED = 0.3
"""Probability with which a query names a colour, which is relevant to nothing."""

ATTRIBUTES = ("use", "feature 1", "feature 2", "style", "material")
HELD_OUT_PER_CATEGORY = 4
QUERIES_PER_PAIR = {"train": 3, "validation": 5, "test": 5}
NUM_TEST_PAIRS = 32
"""Of the held-out pairs; the others are for validation."""

EXACT_POOL, CATEGORY_POOL, USE_POOL = 5, 55, 25
"""Of a pool: at most so many Exact products, other products of the category, and of the use."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Products with their latent attributes, in one order. N products."""

    products: pa.Table
    """ESCI's product columns."""
    ids: NDArray[np.str_]
    categories: Array
    attributes: Array
    """[N, 5]: rows of the use, two features, the style and the material in their lists."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The generated files and what is known about them."""

    products: pa.Table
    """ESCI's product columns."""
    queries: list[Query]
    """All products of a query's pool are judged."""
    pairs: dict[str, Pair]
    """query_id -> (category, persona)."""

    def examples(self) -> pa.Table:
        """The judgements in ESCI's columns; ESCI knows train and test only."""
        rows = [
            {
                "query": query.text,
                "query_id": query.query_id,
                "product_id": product,
                "product_locale": "us",
                "esci_label": "ICSE"[grade],
                "small_version": "1",
                "split": "test" if query.split == "test" else "train",
            }
            for query in self.queries
            for product, grade in query.grades.items()
        ]
        return pa.Table.from_pylist(rows)


def true_attributes(category: int, persona: int) -> tuple[int, int, int, int, int]:
    """What a pair implies, in the order of ``ATTRIBUTES``."""
    who = words.PERSONAS[persona]
    group = category // words.CATEGORIES_PER_GROUP
    feature_1, feature_2 = (_row(words.FEATURES, name) for name in who.features)
    style = _row(words.STYLES, who.style)
    return persona, feature_1, feature_2, style, group * len(words.MATERIALS[0]) + who.kind


def wordings(attributes: Sequence[int]) -> dict[str, words.Wordings]:
    """Attribute -> its wordings, the canonical one first."""
    materials = [material for table in words.MATERIALS for material in table]
    use, feature_1, feature_2, style, material = attributes
    lists = (
        words.PERSONAS[use].use,
        words.FEATURES[feature_1],
        words.FEATURES[feature_2],
        words.STYLES[style],
        materials[material],
    )
    return dict(zip(ATTRIBUTES, lists, strict=True))


def generate(seed: int, *, pool_size: int) -> Generated:
    """The catalogue, queries and judgements of a seed."""
    rng = np.random.default_rng(seed)
    catalogue = _catalogue(rng)
    splits = split_pairs(
        rng,
        num_rows=len(words.CATEGORIES),
        num_columns=len(words.PERSONAS),
        held_out_per_row=HELD_OUT_PER_CATEGORY,
        num_test=NUM_TEST_PAIRS,
    )
    pairs: dict[str, Pair] = {}
    queries: list[Query] = []
    query_ids = [str(query_id) for query_id in rng.permutation(100_000)]
    for split, members in splits.items():
        for pair in members:
            grades = _grades(catalogue, *pair)
            for text in _queries(rng, *pair, QUERIES_PER_PAIR[split]):
                pool = _pool(rng, catalogue, grades, *pair, pool_size)
                judged = zip(catalogue.ids[pool].tolist(), grades[pool].tolist(), strict=True)
                query_id = query_ids[len(queries)]
                pairs[query_id] = pair
                queries.append(
                    Query(query_id=query_id, text=text, split=split, grades=dict(judged))
                )
    return Generated(products=catalogue.products, queries=queries, pairs=pairs)


def hidden(category: int, persona: int) -> dict[str, words.Wordings]:
    """Attribute -> its wordings, of what a pair implies."""
    return wordings(true_attributes(category, persona))


def truth(category: int, persona: int) -> dict[str, words.Wordings]:
    """Attribute -> its wordings, of all that is true for a pair, the category's nouns included."""
    return hidden(category, persona) | {"category": words.CATEGORIES[category]}


def mistaken(category: int, persona: int) -> dict[str, words.Wordings]:
    """Attribute -> its wordings, of what the persona that is mistaken for this one wants."""
    return hidden(category, persona ^ 1)


def every_wording() -> tuple[str, ...]:
    """All that can be said about a product."""
    materials = (wording for table in words.MATERIALS for material in table for wording in material)
    lists = (*words.FEATURES, *words.STYLES, *(who.use for who in words.PERSONAS))
    return (*materials, *(wording for one in lists for wording in one), *words.COLOURS)


def _row(lists: Sequence[words.Wordings], canonical: str) -> int:
    return next(row for row, wordings in enumerate(lists) if wordings[0] == canonical)


def _catalogue(rng: np.random.Generator) -> Catalogue:
    num_personas = len(words.PERSONAS)
    designs = [
        (category, persona)
        for category in range(len(words.CATEGORIES))
        for persona in range(num_personas)
        for _ in range(COPIES)
    ]
    designs = [designs[row] for row in rng.permutation(len(designs))]
    ids = _product_ids(rng, len(designs))
    attributes = [_designed(rng, category, persona) for category, persona in designs]
    rows = [
        _render(rng, product_id, category, own)
        for product_id, (category, _), own in zip(ids, designs, attributes, strict=True)
    ]
    return Catalogue(
        products=pa.Table.from_pylist(rows),
        ids=np.array(ids),
        categories=np.array([category for category, _ in designs]),
        attributes=np.array(attributes),
    )


def _product_ids(rng: np.random.Generator, num: int) -> list[str]:
    """Ids in ESCI's form that say nothing about the product."""
    alphabet = np.array(list("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    ids = {"".join(alphabet[row]) for row in rng.integers(36, size=(2 * num, 8))}
    return [f"B0{tail}" for tail in sorted(ids, key=lambda tail: tail[::-1])[:num]]


def _designed(rng: np.random.Generator, category: int, persona: int) -> tuple[int, ...]:
    """The persona's attributes, each drawn anew with probability 1 - KEPT."""
    group = category // words.CATEGORIES_PER_GROUP
    num_materials = len(words.MATERIALS[0])
    kept = rng.random(len(ATTRIBUTES)) < KEPT
    drawn = (
        int(rng.integers(len(words.PERSONAS))),
        *(int(row) for row in rng.choice(len(words.FEATURES), size=2, replace=False)),
        int(rng.integers(len(words.STYLES))),
        group * num_materials + int(rng.integers(num_materials)),
    )
    own = [
        true if keep else new
        for true, keep, new in zip(true_attributes(category, persona), kept, drawn, strict=True)
    ]
    if own[1] == own[2]:
        own[2] = (own[2] + 1) % len(words.FEATURES)
    return tuple(own)


def _render(
    rng: np.random.Generator, product_id: str, category: int, attributes: Sequence[int]
) -> dict[str, object]:
    brand = words.BRANDS[rng.integers(len(words.BRANDS))]
    colour = words.COLOURS[rng.integers(len(words.COLOURS))]

    def written(template: str) -> str:
        named = {
            attribute.replace(" ", "_"): _worded(rng, lists, CANONICAL)
            for attribute, lists in wordings(attributes).items()
        }
        noun = _worded(rng, words.CATEGORIES[category], NOUN_CANONICAL)
        text = template.format(brand=brand, colour=colour, noun=noun, **named)
        return text[0].upper() + text[1:]

    return {
        "product_id": product_id,
        "product_title": written(words.TITLES[rng.integers(len(words.TITLES))]),
        "product_description": written(words.DESCRIPTIONS[rng.integers(len(words.DESCRIPTIONS))]),
        "product_bullet_point": "",
        "product_brand": brand,
        "product_color": colour,
        "product_locale": "us",
    }


def _worded(rng: np.random.Generator, wordings: words.Wordings, canonical: float) -> str:
    """The first wording with probability ``canonical``, else one of the others."""
    if rng.random() < canonical:
        return wordings[0]
    return wordings[1 + int(rng.integers(len(wordings) - 1))]


def _queries(rng: np.random.Generator, category: int, persona: int, num: int) -> list[str]:
    """Different queries of one pair; only the category and the persona are in them."""
    queries: dict[str, None] = {}
    while len(queries) < num:
        surfaces = words.PERSONAS[persona].surfaces
        noun = words.CATEGORIES[category][rng.integers(len(words.CATEGORIES[category]))]
        colour = words.COLOURS[rng.integers(len(words.COLOURS))]
        parts = (
            "i need a" if rng.random() < 1 / 2 else "",
            colour if rng.random() < COLOURED else "",
            noun,
            surfaces[rng.integers(len(surfaces))],
        )
        queries[" ".join(part for part in parts if part)] = None
    return list(queries)


def _grades(catalogue: Catalogue, category: int, persona: int) -> Array:
    """Of every product: E = 3, S = 2, C = 1, I = 0."""
    use, feature_1, feature_2, style, material = true_attributes(category, persona)
    own = catalogue.attributes
    shared = (own[:, 0] == use).astype(np.int64) + (own[:, 3] == style) + (own[:, 4] == material)
    shared += np.isin(own[:, 1:3], (feature_1, feature_2)).sum(1)
    same = catalogue.categories == category
    grades = np.where(same & (shared >= 4), 3, np.where(same & (shared >= 2), 2, 0))
    return np.where(~same & (own[:, 0] == use), 1, grades)


def _pool(
    rng: np.random.Generator,
    catalogue: Catalogue,
    grades: Array,
    category: int,
    persona: int,
    size: int,
) -> Array:
    """Rows of the products to rank, in catalogue order: Exact ones, near ones, others."""
    in_category = catalogue.categories == category
    near_use = ~in_category & (catalogue.attributes[:, 0] == persona)
    parts = (
        (grades == 3, EXACT_POOL),
        (in_category & (grades < 3), CATEGORY_POOL),
        (near_use, USE_POOL),
    )
    drawn = [rng.permutation(np.flatnonzero(mask))[:limit] for mask, limit in parts]
    near = np.concatenate(drawn)[:size]
    rest = grades < 3
    rest[near] = False
    others = rng.permutation(np.flatnonzero(rest))[: size - len(near)]
    return np.sort(np.concatenate([near, others]))
