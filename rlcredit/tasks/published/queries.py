"""Judged queries of published collections: which are used, what is ranked for them, the teacher."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rlcredit.retrieval.base import Documents
from rlcredit.tasks.pools import fill_pool, nearest
from rlcredit.tasks.published.cleaning import contains_words
from rlcredit.tasks.published.esci_teacher import title_teacher
from rlcredit.tasks.settings import SPLITS, Limits, Parts
from rlcredit.tasks.splits import sample_by_hash, share_of
from rlcredit.text.response import segment_key
from rlcredit.text.words import folded
from rlcredit.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Query:
    """A query with all its judged products."""

    query_id: str
    text: str
    split: str
    grades: dict[str, int]
    """product_id -> grade."""

    @property
    def exact(self) -> list[str]:
        """The Exact products."""
        return [product for product, grade in self.grades.items() if grade == 3]

    @property
    def relevance(self) -> dict[str, int]:
        """The judged products of a grade above 0."""
        return {product: grade for product, grade in self.grades.items() if grade}


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """How a query's pool is filled up."""

    size: int
    num_near: int
    seed: int


def chosen_queries(
    judged: list[Query],
    titles: Mapping[str, str],
    *,
    validation_share: float,
    limits: Limits,
    counts: Counter[str],
) -> list[Query]:
    """The queries that are used, each once; some of the training ones become validation.

    Args:
        judged: Train and test queries with their grades.
        titles: document_id -> title, for queries that name what they look for.
        validation_share: Share of the training queries.
        limits: How many of each split.
        counts: Gets what is dropped, and why.
    """
    queries = _once_each(_usable(judged, titles, counts), counts)
    return _limited(_with_validation(queries, validation_share), limits)


def parts_of(
    queries: list[Query],
    texts: Mapping[str, str],
    titles: Mapping[str, str],
    *,
    pools: PoolPlan,
    instruction: str,
    counts: Counter[str],
) -> Parts:
    """Prompts, documents and a teacher.

    Args:
        queries: Those that are used.
        texts: document_id -> text of what can be searched.
        titles: document_id -> title, which pools and the teacher read.
        pools: How pools are filled up.
        instruction: System message of the prompts.
        counts: Of what was read and dropped.
    """
    documents = Documents(ids=tuple(sorted(texts)), texts=tuple(texts[i] for i in sorted(texts)))
    prompts = _prompts(queries, documents, titles, pools, instruction)
    split_of = {query.query_id: query.split for query in queries}
    counts["pools below size"] = sum(len(prompt.pool) < pools.size for prompt in prompts)
    sides = {s: tuple(p for p in prompts if split_of[p.prompt_id] == s) for s in SPLITS}
    held_out = sides["validation"] + sides["test"]
    hidden = frozenset(product for prompt in held_out for product in prompt.relevant)
    return Parts(
        documents=documents,
        train=sides["train"],
        validation=sides["validation"],
        test=sides["test"],
        teacher=title_teacher(sides["train"], titles, hidden=hidden),
        hidden=hidden,
        counts=dict(counts),
    )


def _usable(queries: list[Query], titles: Mapping[str, str], counts: Counter[str]) -> list[Query]:
    """Queries with an Exact product whose text gives no relevant product away."""
    usable = []
    for query in queries:
        if not query.exact:
            counts["queries without an Exact product (dropped)"] += 1
        elif not query.text:
            counts["queries without text (dropped)"] += 1
        elif _names_a_product(query, titles):
            counts["queries with the id or title of a relevant product (dropped)"] += 1
        else:
            usable.append(query)
    return usable


def _names_a_product(query: Query, titles: Mapping[str, str]) -> bool:
    return any(
        folded(product) in folded(query.text) or contains_words(query.text, titles[product])
        for product in query.relevance
    )


def _once_each(queries: list[Query], counts: Counter[str]) -> list[Query]:
    """Each text once, case and spaces aside; a text of the test split stays there alone."""
    first: dict[str, Query] = {}
    for query in sorted(queries, key=lambda query: query.split):
        first.setdefault(segment_key(query.text), query)
    counts["queries that repeat another's text (dropped)"] = len(queries) - len(first)
    return list(first.values())


def _with_validation(queries: list[Query], share: float) -> list[Query]:
    def side(query: Query) -> str:
        drawn = share_of(segment_key(query.text), purpose="validation") < share
        return "validation" if query.split == "train" and drawn else query.split

    return [replace(query, split=side(query)) for query in queries]


def _limited(queries: list[Query], limits: Limits) -> list[Query]:
    by_id = {query.query_id: query for query in queries}
    chosen: list[str] = []
    for split in SPLITS:
        members = [query.query_id for query in queries if query.split == split]
        chosen += sample_by_hash(members, limits.of(split), purpose="limit")
    return [by_id[query_id] for query_id in chosen]


def catalogue(products: Sequence[str], queries: list[Query], limit: int | None) -> set[str]:
    """All judged products of the queries, and others in hash order up to the limit."""
    judged = {product for query in queries for product in query.grades}
    others = (product for product in products if product not in judged)
    room = None if limit is None else max(0, limit - len(judged))
    return judged | set(sample_by_hash(others, room, purpose="catalogue"))


def _prompts(
    queries: list[Query],
    documents: Documents,
    titles: Mapping[str, str],
    pools: PoolPlan,
    instruction: str,
) -> list[Prompt]:
    if not queries:
        return []
    texts = [" ".join([q.text, *(titles[product] for product in q.exact)]) for q in queries]
    num_near = pools.num_near + max(len(query.grades) for query in queries)
    rows = nearest(texts, [titles[product] for product in documents.ids], num=num_near)
    return [
        _prompt(query, row.tolist(), documents, pools, instruction)
        for query, row in zip(queries, rows, strict=True)
    ]


def _prompt(
    query: Query, near: list[int], documents: Documents, pools: PoolPlan, instruction: str
) -> Prompt:
    room = min(pools.num_near, max(0, pools.size - len(query.grades)))
    unjudged = [documents.ids[row] for row in near if documents.ids[row] not in query.grades]
    return Prompt(
        prompt_id=query.query_id,
        text=query.text,
        query=query.text,
        relevance=query.grades,
        pool=fill_pool(
            [*query.grades, *unjudged[:room]],
            documents.ids,
            size=pools.size,
            seed=pools.seed,
            key=query.query_id,
        ),
        instruction=instruction,
    )
