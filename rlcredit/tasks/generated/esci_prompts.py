"""Prompts, catalogue and teacher of the generated product search task."""

from collections.abc import Mapping
from types import MappingProxyType

from rlcredit.retrieval.base import Documents
from rlcredit.tasks.generated import esci_catalogue
from rlcredit.tasks.generated.esci_words import WORDS
from rlcredit.tasks.published.esci_files import INSTRUCTION, product_texts
from rlcredit.tasks.published.queries import Query
from rlcredit.tasks.published.tables import Batch
from rlcredit.tasks.settings import SPLITS, Limits, Parts
from rlcredit.tasks.splits import Pair, sample_by_hash
from rlcredit.tasks.teachers import (
    PhraseSource,
    PhraseTeacher,
    canonical,
    confused_opening,
    confused_sources,
)
from rlcredit.types import Prompt


def generated_parts(made: esci_catalogue.Generated, *, limits: Limits) -> Parts:
    """All that is loaded of a generated set; the judged products of a query are its pool."""
    by_id = {query.query_id: query for query in made.queries}
    prompts: dict[str, tuple[Prompt, ...]] = {}
    for split in SPLITS:
        members = [query.query_id for query in made.queries if query.split == split]
        chosen = sample_by_hash(members, limits.of(split), purpose="limit")
        prompts[split] = tuple(_prompt(by_id[i], made.pairs[i]) for i in chosen)
    products = Batch(origin="the generated products", first=1, rows=made.products)
    texts = product_texts(products, max_words=None)
    ids = tuple(sorted(texts))
    return Parts(
        documents=Documents(ids=ids, texts=tuple(texts[product] for product in ids)),
        train=prompts["train"],
        validation=prompts["validation"],
        test=prompts["test"],
        teacher=teacher(
            {p.prompt_id: made.pairs[p.prompt_id] for p in prompts["train"]}, others=made.others
        ),
        counts={
            "products": len(ids),
            "category-persona pairs": len(set(made.pairs.values())),
            "queries": len(made.queries),
        }
        | ({"queries with two possible intents": len(made.others)} if made.others else {}),
    )


def teacher(
    pairs: Mapping[str, Pair], *, others: Mapping[str, Pair] = MappingProxyType({})
) -> PhraseTeacher:
    """A teacher that takes a persona, and a category, for the neighbouring one half the time.

    Who is mistaken for whom goes round in a circle: were it mutual, two personas would get the same
    demonstrations, and a policy would learn not to tell them apart. Of a query with two possible
    intents it knows no more than the query says: it takes the one for the other half the time.

    Args:
        pairs: prompt_id -> (category, persona).
        others: prompt_id -> what else the query may mean.
    """
    everything = esci_catalogue.everything()
    sources: dict[tuple[Pair, Pair | None], tuple[PhraseSource, ...]] = {}
    meanings = {name: (pair, others.get(name)) for name, pair in pairs.items()}
    for meaning in meanings.values():
        if meaning not in sources:
            pair, other = meaning
            mistaken = esci_catalogue.hidden(*other) if other else esci_catalogue.mistaken(*pair)
            sources[meaning] = confused_sources(
                truth=canonical(esci_catalogue.hidden(*pair)),
                mistaken=canonical(mistaken),
                generic=WORDS.generic,
                anything=everything,
            )
    return PhraseTeacher(
        sources={name: sources[meaning] for name, meaning in meanings.items()},
        openings={
            name: confused_opening(WORDS.categories[category][0], WORDS.categories[category - 1][0])
            for name, (category, _) in pairs.items()
        },
    )


def _prompt(query: Query, pair: Pair) -> Prompt:
    truth = esci_catalogue.truth(*pair)
    return Prompt(
        prompt_id=query.query_id,
        text=query.text,
        query=query.text,
        relevance=query.grades,
        pool=tuple(sorted(query.grades)),
        instruction=INSTRUCTION,
        truth={wording: attribute for attribute, lists in truth.items() for wording in lists},
    )
