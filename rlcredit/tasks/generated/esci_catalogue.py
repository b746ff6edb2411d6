"""A generated product search task in ESCI's schema, whose queries hide what they want.

A query names a category and a persona. The relevant products share attributes that the persona
implies and the query does not mention: a use, two features, a style, and a material that depends
on the category's group and the persona together. Train, validation and test queries come from
disjoint (category, persona) pairs, every half of which is seen in training. What is true for a
query is kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rlcredit.tasks.generated.esci_words import CATEGORIES_PER_GROUP, WORDS, Wordings
from rlcredit.tasks.published.queries import Query
from rlcredit.tasks.splits import Pair, split_pairs

VERSION = "1"
"""Raised with every change of what a seed generates."""

Array = NDArray[np.int64]

COPIES = 8
"""Products designed for each (category, persona) pair."""
SIZE = len(WORDS.categories) * len(WORDS.personas) * COPIES
"""Products of a catalogue."""
KEPT = 0.8
"""Probability with which a product has an attribute of the persona it was designed for."""
CANONICAL = 0.7
"""Probability with which an attribute is named in its canonical wording."""
NOUN_CANONICAL = 0.7
COLOURED = 0.3
"""Probability with which a query names a colour, which is relevant to nothing."""

ATTRIBUTES = ("use", "feature 1", "feature 2", "style", "material")
LISTS: tuple[tuple[Wordings, ...], ...] = (
    tuple(who.use for who in WORDS.personas),
    WORDS.features,
    WORDS.features,
    WORDS.styles,
    tuple(material for table in WORDS.materials for material in table),
)
"""What each attribute can be; every entry is a canonical wording and a paraphrase."""
HELD_OUT_PER_CATEGORY = 4
QUERIES_PER_PAIR = {"train": 3, "validation": 5, "test": 5}
NUM_TEST_PAIRS = 32
"""Held-out pairs that are for test; the others are for validation."""

EXACT_POOL, CATEGORY_POOL, USE_POOL = 5, 55, 25
"""Largest numbers in a pool: Exact products, others of the category, others of the use."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Products with their latent attributes, in one order. N products."""

    products: pa.Table
    """ESCI's product columns."""
    ids: tuple[str, ...]
    categories: Array
    attributes: Array
    """[N, 5]: rows of the use, two features, the style and the material in their lists."""


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The generated files and what is known about them."""

    catalogue: Catalogue
    queries: list[Query]
    """All products of a query's pool are judged."""
    pairs: dict[str, Pair]
    """query_id -> (category, persona)."""
    others: dict[str, Pair] = field(default_factory=dict)
    """query_id -> what else it may mean, of queries with two possible intents."""

    @property
    def products(self) -> pa.Table:
        """ESCI's product columns."""
        return self.catalogue.products

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


def true_attributes(category: int, persona: int) -> tuple[int, ...]:
    """What a pair implies: a row of each of ``LISTS``."""
    who = WORDS.personas[persona]
    group = category // CATEGORIES_PER_GROUP
    canonical = (who.use[0], *who.features, who.style, WORDS.materials[group][who.kind][0])
    return tuple(
        next(row for row, wordings in enumerate(lists) if wordings[0] == wanted)
        for lists, wanted in zip(LISTS, canonical, strict=True)
    )


def generate(seed: int, *, pool_size: int) -> Generated:
    """The catalogue, queries and judgements of a seed."""
    rng = np.random.default_rng(seed)
    catalogue = _catalogue(rng)
    splits = split_pairs(
        rng,
        num_rows=len(WORDS.categories),
        num_columns=len(WORDS.personas),
        held_out_per_row=HELD_OUT_PER_CATEGORY,
        num_test=NUM_TEST_PAIRS,
    )
    pairs: dict[str, Pair] = {}
    queries: list[Query] = []
    query_ids = [str(query_id) for query_id in rng.permutation(100_000)]
    for split, members in splits.items():
        for pair in members:
            grades = grades_of(catalogue, *pair)
            for text in _queries(rng, *pair, QUERIES_PER_PAIR[split]):
                pool = _pool(rng, catalogue, grades, *pair, pool_size)
                judged = ((catalogue.ids[row], int(grades[row])) for row in pool)
                query_id = query_ids[len(queries)]
                pairs[query_id] = pair
                queries.append(
                    Query(query_id=query_id, text=text, split=split, grades=dict(judged))
                )
    return Generated(catalogue=catalogue, queries=queries, pairs=pairs)


def hidden(category: int, persona: int) -> dict[str, Wordings]:
    """What a pair implies: attribute -> its wordings."""
    rows = zip(ATTRIBUTES, LISTS, true_attributes(category, persona), strict=True)
    return {attribute: lists[row] for attribute, lists, row in rows}


def truth(category: int, persona: int) -> dict[str, Wordings]:
    """All that is true for a pair, the category's nouns included: attribute -> its wordings."""
    return hidden(category, persona) | {"category": WORDS.categories[category]}


def mistaken(category: int, persona: int) -> dict[str, Wordings]:
    """What the persona that is mistaken for this one wants: attribute -> its wordings."""
    return hidden(category, (persona + 1) % len(WORDS.personas))


def everything() -> tuple[str, ...]:
    """All that can be said about a product, in its canonical wording."""
    named = dict.fromkeys(wordings[0] for lists in LISTS for wordings in lists)
    return (*named, *WORDS.colours)


def _catalogue(rng: np.random.Generator) -> Catalogue:
    num_personas = len(WORDS.personas)
    designs = rng.permutation(len(WORDS.categories) * num_personas * COPIES) // COPIES
    categories, personas = designs // num_personas, designs % num_personas
    attributes = _designed(rng, categories, personas)
    ids = _product_ids(rng, len(designs))
    brands = rng.integers(len(WORDS.brands), size=len(ids))
    colours = rng.integers(len(WORDS.colours), size=len(ids))
    named = {
        "brand": [WORDS.brands[row] for row in brands],
        "colour": [WORDS.colours[row] for row in colours],
    }
    products = {
        "product_id": ids,
        "product_title": _written(rng, WORDS.titles, categories, attributes, named),
        "product_description": _written(rng, WORDS.descriptions, categories, attributes, named),
        "product_bullet_point": [""] * len(ids),
        "product_brand": named["brand"],
        "product_color": named["colour"],
        "product_locale": ["us"] * len(ids),
    }
    return Catalogue(
        products=pa.table(products), ids=tuple(ids), categories=categories, attributes=attributes
    )


def _product_ids(rng: np.random.Generator, num: int) -> list[str]:
    """Ids in ESCI's form that say nothing about the product."""
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    ids: dict[str, None] = {}
    while len(ids) < num:
        ids["B0" + "".join(alphabet[row] for row in rng.integers(36, size=8))] = None
    return list(ids)


def _designed(rng: np.random.Generator, categories: Array, personas: Array) -> Array:
    """[N, 5]: the personas' attributes, each drawn anew with probability 1 - KEPT."""
    num, num_materials = len(categories), len(WORDS.materials[0])
    true = np.array(
        [
            [true_attributes(category, persona) for persona in range(len(WORDS.personas))]
            for category in range(len(WORDS.categories))
        ]
    )[categories, personas]
    drawn = np.stack([rng.integers(len(lists), size=num) for lists in LISTS], axis=1)
    groups = categories // CATEGORIES_PER_GROUP
    drawn[:, 4] = groups * num_materials + drawn[:, 4] % num_materials
    own = np.where(rng.random((num, len(LISTS))) < KEPT, true, drawn)
    twice = own[:, 1] == own[:, 2]
    own[twice, 2] = (own[twice, 2] + 1) % len(WORDS.features)
    return own


def _written(
    rng: np.random.Generator,
    templates: Wordings,
    categories: Array,
    attributes: Array,
    named: Mapping[str, Sequence[str]],
) -> list[str]:
    """One text per product, each attribute and the noun in a wording of its own."""
    num = len(categories)
    chosen = rng.integers(len(templates), size=num)
    wording = (rng.random(attributes.shape) >= CANONICAL).astype(np.int64)
    noun = np.where(rng.random(num) < NOUN_CANONICAL, 0, rng.integers(1, 3, size=num))
    texts = []
    for row in range(num):
        fields = {name: values[row] for name, values in named.items()}
        fields["noun"] = WORDS.categories[categories[row]][noun[row]]
        for at, attribute in enumerate(ATTRIBUTES):
            fields[attribute.replace(" ", "_")] = LISTS[at][attributes[row, at]][wording[row, at]]
        text = templates[chosen[row]].format(**fields)
        texts.append(text[0].upper() + text[1:])
    return texts


def _queries(rng: np.random.Generator, category: int, persona: int, num: int) -> list[str]:
    """Different queries of one pair; only the category and the persona are in them."""
    queries: dict[str, None] = {}
    while len(queries) < num:
        surfaces = WORDS.personas[persona].surfaces
        noun = WORDS.categories[category][rng.integers(len(WORDS.categories[category]))]
        colour = WORDS.colours[rng.integers(len(WORDS.colours))]
        parts = (
            "i need a" if rng.random() < 1 / 2 else "",
            colour if rng.random() < COLOURED else "",
            noun,
            surfaces[rng.integers(len(surfaces))],
        )
        queries[" ".join(part for part in parts if part)] = None
    return list(queries)


def grades_of(catalogue: Catalogue, category: int, persona: int) -> Array:
    """Grade every product: E = 3, S = 2, C = 1, I = 0."""
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
