"""Prompts, catalogue and teacher of the generated next-purchase task."""

from collections.abc import Mapping

from rlcredit.retrieval.base import Documents
from rlcredit.tasks.generated import hm_catalogue
from rlcredit.tasks.generated.hm_words import TASTES, WORDS
from rlcredit.tasks.published.hm_files import (
    INSTRUCTION,
    Article,
    articles_of,
    history_text,
    names_of,
    num_shown,
)
from rlcredit.tasks.published.tables import Batch
from rlcredit.tasks.settings import SPLITS, Limits, Parts
from rlcredit.tasks.splits import Pair, sample_by_hash
from rlcredit.tasks.teachers import PhraseTeacher, canonical, confused_opening, confused_sources
from rlcredit.types import Prompt


def generated_parts(made: hm_catalogue.Generated, *, limits: Limits, history_tokens: int) -> Parts:
    """All that is loaded of a generated set."""
    articles = articles_of(Batch(origin="the generated articles", first=1, rows=made.articles))
    by_id = {customer.customer_id: customer for customer in made.customers}
    prompts: dict[str, tuple[Prompt, ...]] = {}
    for split in SPLITS:
        members = [c.customer_id for c in made.customers if c.split == split]
        chosen = sample_by_hash(members, limits.of(split), purpose="limit")
        prompts[split] = tuple(_prompt(by_id[i], articles, history_tokens) for i in chosen)
    ids = tuple(sorted(articles))
    return Parts(
        documents=Documents(ids=ids, texts=tuple(articles[article].text for article in ids)),
        train=prompts["train"],
        validation=prompts["validation"],
        test=prompts["test"],
        teacher=teacher({p.prompt_id: by_id[p.prompt_id].pair for p in prompts["train"]}),
        counts={
            "articles": len(ids),
            "taste-type pairs": len({customer.pair for customer in made.customers}),
            "customers": len(made.customers),
        },
    )


def teacher(pairs: Mapping[str, Pair]) -> PhraseTeacher:
    """A teacher that takes a taste for another, and the next type for the last, half the time.

    Args:
        pairs: prompt_id -> (taste, product type).
    """
    everything = hm_catalogue.everything()
    sources = {
        taste: confused_sources(
            truth=canonical(hm_catalogue.hidden(taste)),
            mistaken=canonical(hm_catalogue.mistaken(taste)),
            generic=WORDS.generic,
            anything=everything,
        )
        for taste in range(len(TASTES))
    }
    last = {garment.followed_by: garment.wordings[0] for garment in WORDS.garments}
    return PhraseTeacher(
        sources={name: sources[taste] for name, (taste, _) in pairs.items()},
        openings={
            name: confused_opening(WORDS.garments[garment].wordings[0], last[garment])
            for name, (_, garment) in pairs.items()
        },
    )


def _prompt(
    customer: hm_catalogue.Customer, articles: Mapping[str, Article], history_tokens: int
) -> Prompt:
    truth = hm_catalogue.truth(*customer.pair)
    items = [articles[article].item for article in customer.history]
    shown = customer.history[-num_shown(items, history_tokens) :]
    return Prompt(
        prompt_id=customer.customer_id,
        text=history_text(articles, shown),
        query=names_of(articles, shown),
        relevance={customer.target: 3},
        pool=customer.pool,
        instruction=INSTRUCTION,
        truth={wording: attribute for attribute, lists in truth.items() for wording in lists},
    )
