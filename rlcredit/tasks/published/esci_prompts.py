"""Prompts, pools and a teacher, made from ESCI's published tables."""

from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa

from rlcredit.retrieval.base import Documents
from rlcredit.tasks.pools import fill_pool, nearest
from rlcredit.tasks.published.cleaning import clean_all, contains_words
from rlcredit.tasks.published.esci_files import (
    INSTRUCTION,
    Query,
    add_judgements,
    product_texts,
    refuse_unknown,
)
from rlcredit.tasks.published.esci_teacher import title_teacher
from rlcredit.tasks.published.tables import Batch, Table
from rlcredit.tasks.settings import SPLITS, Limits, Parts
from rlcredit.tasks.splits import sample_by_hash, share_of
from rlcredit.text.response import segment_key
from rlcredit.text.words import folded, refuse_without_blanks, words
from rlcredit.types import Prompt


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which part of ESCI is read, and how."""

    locale: str
    small_version: bool
    validation_share: float
    document_words: int | None


@dataclass(frozen=True, kw_only=True)
class PoolPlan:
    """How a query's pool is filled up."""

    size: int
    num_near: int
    seed: int


def published_parts(
    examples: Table,
    products: Table,
    *,
    filters: Filters,
    limits: Limits,
    pools: PoolPlan,
) -> Parts:
    """All that is loaded of the published tables.

    Raises:
        ValueError: If a label or a split is none of ESCI's, the titles are no words to compare, or
            the filters leave no judgement.
    """
    counts: Counter[str] = Counter()
    titles = _titles(products, filters.locale, counts)
    judged = _judged(examples, filters, titles, counts)
    queries = _once_each(_usable(judged, titles, counts), counts)
    queries = _limited(_with_validation(queries, filters.validation_share), limits)
    chosen = _catalogue(list(titles), queries, limits.documents)
    texts: dict[str, str] = {}
    for batch in _of_locale(products, filters.locale):
        kept = pa.array([product in chosen for product in batch.texts("product_id")], pa.bool_())
        texts |= product_texts(batch.filtered(kept), max_words=filters.document_words)
    documents = Documents(ids=tuple(sorted(texts)), texts=tuple(texts[i] for i in sorted(texts)))
    prompts = _prompts(queries, documents, titles, pools)
    split_of = {query.query_id: query.split for query in queries}
    counts["products"] = len(texts)
    if silent := sum(not text for text in documents.texts):
        counts["products without text (no search finds them)"] = silent
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


def _of_locale(products: Table, locale: str, *columns: str) -> Iterator[Batch]:
    read = (*columns, "product_locale") if columns else ()
    return (batch.where("product_locale", locale) for batch in products.batches(*read))


def _titles(products: Table, locale: str, counts: Counter[str]) -> dict[str, str]:
    """product_id -> title, cleaned."""
    titles: dict[str, str] = {}
    listed = 0
    for batch in _of_locale(products, locale, "product_id", "product_title"):
        listed += len(batch.rows)
        cleaned = clean_all(batch.texts("product_title"))
        titles |= zip(batch.texts("product_id"), cleaned, strict=True)
    if titles and not any(map(words, titles.values())):
        raise ValueError(
            f"column product_title of {products.origin} holds no word in its {listed} rows of "
            f"dataset.locale={locale}, and titles are what queries are compared with; download it "
            "again"
        )
    refuse_without_blanks(titles.values(), f"dataset.locale={locale}, product_title")
    if twice := listed - len(titles):
        counts["products listed again (the last row counts)"] = twice
    return titles


def _judged(
    examples: Table, filters: Filters, titles: Container[str], counts: Counter[str]
) -> list[Query]:
    """The queries with the judgements that pass the filters, about known products."""
    queries: dict[str, Query] = {}
    locales: set[str] = set()
    passed = 0
    for batch in examples.batches():
        refuse_unknown(batch)
        locales.update(batch.rows["product_locale"].unique().to_pylist())
        kept = batch.where("product_locale", filters.locale)
        if filters.small_version:
            batch.refuse_unlike("small_version", "^[01]$", "is neither 0 nor 1")
            kept = kept.where("small_version", "1")
        mask = [product in titles for product in kept.texts("product_id")]
        add_judgements(queries, kept.filtered(pa.array(mask, pa.bool_())))
        passed += len(mask)
        counts["judgements read"] += len(batch.rows)
        counts["judgements of other locales or versions (dropped)"] += len(batch.rows) - len(mask)
        counts["judgements of unknown products (dropped)"] += len(mask) - sum(mask)
    if not passed:
        raise ValueError(
            f"no judgement has dataset.locale={filters.locale} and dataset.small_version="
            f"{filters.small_version}; locales found: {', '.join(sorted(locales))}"
        )
    return list(queries.values())


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


def _catalogue(products: Sequence[str], queries: list[Query], limit: int | None) -> set[str]:
    """All judged products of the queries, and others in hash order up to the limit."""
    judged = {product for query in queries for product in query.grades}
    others = (product for product in products if product not in judged)
    room = None if limit is None else max(0, limit - len(judged))
    return judged | set(sample_by_hash(others, room, purpose="catalogue"))


def _prompts(
    queries: list[Query], documents: Documents, titles: Mapping[str, str], pools: PoolPlan
) -> list[Prompt]:
    if not queries:
        return []
    texts = [" ".join([q.text, *(titles[product] for product in q.exact)]) for q in queries]
    num_near = pools.num_near + max(len(query.grades) for query in queries)
    rows = nearest(texts, [titles[product] for product in documents.ids], num=num_near)
    return [
        _prompt(query, row.tolist(), documents, pools)
        for query, row in zip(queries, rows, strict=True)
    ]


def _prompt(query: Query, near: list[int], documents: Documents, pools: PoolPlan) -> Prompt:
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
        instruction=INSTRUCTION,
    )
