"""Prompts, pools and a teacher, made from ESCI's published tables."""

from collections import Counter
from collections.abc import Container, Iterator
from dataclasses import dataclass

import pyarrow as pa

from rlcredit.tasks.published.cleaning import clean_all
from rlcredit.tasks.published.esci_files import (
    INSTRUCTION,
    add_judgements,
    product_texts,
    refuse_unknown,
)
from rlcredit.tasks.published.queries import PoolPlan, Query, catalogue, chosen_queries, parts_of
from rlcredit.tasks.published.tables import Batch, Table
from rlcredit.tasks.settings import Limits, Parts
from rlcredit.text.words import refuse_without_blanks, words


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which part of ESCI is read, and how."""

    locale: str
    small_version: bool
    validation_share: float
    document_words: int | None


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
    queries = chosen_queries(
        judged, titles, validation_share=filters.validation_share, limits=limits, counts=counts
    )
    chosen = catalogue(list(titles), queries, limits.documents)
    texts: dict[str, str] = {}
    for batch in _of_locale(products, filters.locale):
        kept = pa.array([product in chosen for product in batch.texts("product_id")], pa.bool_())
        texts |= product_texts(batch.filtered(kept), max_words=filters.document_words)
    counts["products"] = len(texts)
    if silent := sum(not text for text in texts.values()):
        counts["products without text (no search finds them)"] = silent
    return parts_of(queries, texts, titles, pools=pools, instruction=INSTRUCTION, counts=counts)


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
