"""A teacher for published queries: it copies from the query and from training products' titles."""

from collections.abc import Mapping, Sequence, Set

from rlcredit.tasks.pools import nearest
from rlcredit.tasks.published.cleaning import words_of
from rlcredit.tasks.teachers import PhraseSource, PhraseTeacher
from rlcredit.types import Prompt

QUERY, EXACT, ALIKE, ANY = 0.35, 0.25, 0.2, 0.2
"""How often a phrase comes from the query, an Exact product's title, the title of a product like
it, or any title."""

NUM_ALIKE = 5
MAX_WORDS = 3


def title_teacher(
    train: Sequence[Prompt], titles: Mapping[str, str], *, hidden: Set[str]
) -> PhraseTeacher:
    """Demonstrations from runs of up to three words of queries and titles.

    Only titles of products that are Exact for a training query and relevant to no held-out one.

    Args:
        train: The prompts that can be demonstrated.
        titles: product_id -> title.
        hidden: Products relevant to held-out prompts, which no demonstration may draw on.
    """
    exact = {prompt.prompt_id: _exact(prompt, hidden) for prompt in train}
    known = sorted({product for products in exact.values() for product in products})
    runs = {product: word_runs(titles[product]) for product in known}
    anything = tuple(phrase for product in known for phrase in runs[product])
    alike = _alike(train, known, titles)
    sources = {}
    for prompt in train:
        own = exact[prompt.prompt_id]
        others = [product for product in alike[prompt.prompt_id] if product not in own]
        sources[prompt.prompt_id] = (
            PhraseSource(weight=QUERY, phrases=word_runs(prompt.query)),
            PhraseSource(
                weight=EXACT, phrases=tuple(run for product in own for run in runs[product])
            ),
            PhraseSource(
                weight=ALIKE,
                phrases=tuple(run for product in others[:NUM_ALIKE] for run in runs[product]),
            ),
            PhraseSource(weight=ANY, phrases=anything),
        )
    return PhraseTeacher(sources=sources)


def word_runs(text: str) -> tuple[str, ...]:
    """All runs of one to three words.

    >>> word_runs("Red tent")
    ('red', 'red tent', 'tent')
    """
    words = words_of(text)
    return tuple(
        " ".join(words[start:end])
        for start in range(len(words))
        for end in range(start + 1, min(start + MAX_WORDS, len(words)) + 1)
    )


def _exact(prompt: Prompt, hidden: Set[str]) -> list[str]:
    return [
        product
        for product, grade in sorted(prompt.relevance.items())
        if grade == 3 and product not in hidden
    ]


def _alike(
    train: Sequence[Prompt], known: Sequence[str], titles: Mapping[str, str]
) -> dict[str, list[str]]:
    """Known products whose titles are nearest to each query, nearest first."""
    if not known:
        return {prompt.prompt_id: [] for prompt in train}
    documents = [titles[product] for product in known]
    rows = nearest([prompt.query for prompt in train], documents, num=4 * NUM_ALIKE)
    return {
        prompt.prompt_id: [str(known[at]) for at in row]
        for prompt, row in zip(train, rows.tolist(), strict=True)
    }
