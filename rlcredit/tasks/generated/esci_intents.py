"""Generated queries with two possible intents: a person for whom one of two things is true.

Such a query names two personas, "lamp for my podcast or for my newborn", of which one is meant. No
text tells which one: a coin does, the pool holds Exact products of both, and the order of the two
says nothing. One search text is a guess; a set of them can hold both (the setting of
arXiv:2603.29871). Both intents lie on one side of the split, so that none is seen in training and
meant in a test.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from rlcredit.tasks.generated.esci_catalogue import (
    CATEGORY_POOL,
    EXACT_POOL,
    USE_POOL,
    Catalogue,
    Generated,
    grades_of,
    true_attributes,
)
from rlcredit.tasks.generated.esci_words import WORDS
from rlcredit.tasks.published.queries import Query
from rlcredit.tasks.settings import SPLITS
from rlcredit.tasks.splits import Pair

_STREAM = 2
"""Stream of the seed that these queries are drawn from: the catalogue and its other queries stay
what they are."""


def with_two_intents(made: Generated, *, share: float, seed: int, pool_size: int) -> Generated:
    """The same catalogue and queries, a share of each split's queries with two possible intents.

    A larger share changes all that a smaller one does. Nothing else changes.

    Args:
        made: All queries have one intent.
        share: Of the queries of each split, in [0, 1].
        seed: Of the draws.
        pool_size: Products per query.

    Raises:
        ValueError: If fewer queries have another intent to take: a pair of the same category, on
            the same side of the split.
    """
    choosing = np.random.default_rng([seed, _STREAM])
    changed: dict[str, Query] = {}
    pairs, others = dict(made.pairs), dict(made.others)
    taken = {query.text for query in made.queries}
    for split in SPLITS:
        own = [query for query in made.queries if query.split == split]
        members = list(dict.fromkeys(made.pairs[query.query_id] for query in own))
        able = [query for query in own if _partners(made.pairs[query.query_id], members)]
        wanted = round(share * len(own))
        if wanted > len(able):
            raise ValueError(
                f"dataset.ambiguous_share={share} asks for {wanted} of {len(own)} {split} queries, "
                f"but {len(able)} have another intent of their category in the {split} split; "
                f"lower it to {len(able) / len(own):.2f} or less"
            )
        for query in (able[row] for row in choosing.permutation(len(able))[:wanted]):
            rng = np.random.default_rng([seed, _STREAM, int(query.query_id)])
            pair = made.pairs[query.query_id]
            nearest = _partners(pair, members)
            other = nearest[rng.integers(len(nearest))]
            text = _text(rng, query.text, pair, other, taken)
            meant, second = (pair, other) if rng.random() < 1 / 2 else (other, pair)
            pairs[query.query_id], others[query.query_id] = meant, second
            grades = _judged(rng, made.catalogue, meant, second, pool_size)
            changed[query.query_id] = replace(query, text=text, grades=grades)
    queries = [changed.get(query.query_id, query) for query in made.queries]
    return replace(made, queries=queries, pairs=pairs, others=others)


def _partners(pair: Pair, members: Sequence[Pair]) -> list[Pair]:
    """The pairs of the same category that share the fewest attributes with this one."""
    own = _wanted(pair)
    shared = {
        other: len(own & _wanted(other))
        for other in members
        if other[0] == pair[0] and other != pair
    }
    return [other for other, count in shared.items() if count == min(shared.values())]


def _wanted(pair: Pair) -> set[tuple[str, int]]:
    """What a pair implies; both features are of one kind."""
    kinds = ("use", "feature", "feature", "style", "material")
    return set(zip(kinds, true_attributes(*pair), strict=True))


def _text(rng: np.random.Generator, text: str, pair: Pair, other: Pair, taken: set[str]) -> str:
    """The query with both personas in a random order; no text that another query has."""
    said = next(s for s in WORDS.personas[pair[1]].surfaces if text.endswith(s))
    start = text.removesuffix(said)
    while True:
        surfaces = WORDS.personas[other[1]].surfaces
        both = [said, surfaces[rng.integers(len(surfaces))]]
        found = start + " or ".join(both[row] for row in rng.permutation(2))
        if found not in taken:
            taken.add(found)
            return found


def _judged(
    rng: np.random.Generator, catalogue: Catalogue, meant: Pair, second: Pair, size: int
) -> dict[str, int]:
    """A pool that is the same mixture for both intents, graded for the one that is meant.

    Pools of fewer than 10 products hold those of the meant one first.
    """
    intents = (meant, second)
    grades = [grades_of(catalogue, *pair) for pair in intents]
    exact = [own == 3 for own in grades]
    either = exact[0] | exact[1]
    same = catalogue.categories == meant[0]
    uses = [true_attributes(*pair)[0] for pair in intents]
    near_use = ~same & np.isin(catalogue.attributes[:, 0], uses)
    parts = (
        *((own, EXACT_POOL) for own in exact),
        (same & ~either, CATEGORY_POOL - EXACT_POOL),
        (near_use, USE_POOL),
        (~either, size),
    )
    drawn = [row for mask, limit in parts for row in rng.permutation(np.flatnonzero(mask))[:limit]]
    pool = sorted(list(dict.fromkeys(drawn))[:size])
    return {catalogue.ids[row]: int(grades[0][row]) for row in pool}
