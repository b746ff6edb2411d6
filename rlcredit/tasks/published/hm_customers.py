"""Prompts, pools and a teacher, made from H&M's published tables."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import TypeAlias

from rlcredit.retrieval.base import Documents
from rlcredit.tasks.pools import fill_pool
from rlcredit.tasks.published.cleaning import contains_words
from rlcredit.tasks.published.hm_files import (
    INSTRUCTION,
    SEPARATOR,
    TRANSACTION_COLUMNS,
    TRANSACTIONS,
    Article,
    check_ids,
    history_text,
    names_of,
    num_shown,
    read_ages,
    read_articles,
)
from rlcredit.tasks.published.hm_teacher import attribute_teacher
from rlcredit.tasks.published.tables import Table, read_table, table_file
from rlcredit.tasks.settings import SPLITS, Limits, Parts
from rlcredit.tasks.splits import sample_by_hash, share_of
from rlcredit.types import Prompt

Purchases: TypeAlias = Mapping[tuple[str, str], int]
"""(day, article_id) -> how often, by day."""


@dataclass(frozen=True, kw_only=True)
class Filters:
    """Which part of H&M is read, and how."""

    days: int | None
    min_history: int
    history_tokens: int
    validation_share: float
    test_share: float


@dataclass(frozen=True, kw_only=True)
class Customer:
    """One customer: earlier days' purchases, and one of a later day."""

    customer_id: str
    split: str
    history: tuple[str, ...]
    """Different articles, oldest first."""
    shown: tuple[str, ...]
    """The latest part of the history, which the prompt names."""
    target: str
    bought: frozenset[str]
    """Everything the customer bought."""


def published_parts(
    folder: Path, *, filters: Filters, limits: Limits, pool_size: int, seed: int
) -> Parts:
    """All that is loaded of a folder with the published files.

    Raises:
        FileNotFoundError: If the articles or the transactions are missing.
        ValueError: If a file is damaged, lacks a column, or holds ids without their leading zeros.
    """
    counts: Counter[str] = Counter()
    purchases = _purchases(folder, filters.days, counts)
    bought = {article for rows in purchases.values() for _, article in rows}
    articles = read_articles(folder, only=bought, counts=counts)
    found = (
        _customer(customer_id, rows, articles, filters, counts)
        for customer_id, rows in purchases.items()
    )
    customers = _limited([customer for customer in found if customer], limits)
    ids = _catalogue(set(articles), customers, limits.documents)
    ages = read_ages(folder)
    prompts = {
        split: tuple(
            _prompt(customer, articles, ids, ages, pool_size=pool_size, seed=seed)
            for customer in customers
            if customer.split == split
        )
        for split in SPLITS
    }
    counts["articles"] = len(ids)
    if silent := sum(not articles[article].text for article in ids):
        counts["articles without text (no search finds them)"] = silent
    counts["pools below size"] = sum(
        len(prompt.pool) < pool_size for side in prompts.values() for prompt in side
    )
    held_out = frozenset(c.target for c in customers if c.split != "train")
    histories = {c.customer_id: (c.target, c.history) for c in customers if c.split == "train"}
    return Parts(
        documents=Documents(ids=ids, texts=tuple(articles[article].text for article in ids)),
        train=prompts["train"],
        validation=prompts["validation"],
        test=prompts["test"],
        teacher=attribute_teacher(histories, articles, hidden=held_out),
        hidden=held_out,
        counts=dict(counts),
    )


def _purchases(folder: Path, days: int | None, counts: Counter[str]) -> dict[str, Purchases]:
    """customer_id -> what was bought, by day and then in the file's order of last purchases."""
    file = table_file(folder, TRANSACTIONS)
    ids = ("customer_id", "article_id")
    table = read_table(file, TRANSACTION_COLUMNS, ids=ids, text_ids=("article_id",))
    first_day = _first_day(table, days)
    purchases: dict[str, dict[tuple[str, str], int]] = {}
    for batch in table.batches():
        check_ids(batch)
        recent = batch.since("t_dat", first_day)
        counts["purchases read"] += len(batch.rows)
        counts["purchases before the last days (dropped)"] += len(batch.rows) - len(recent.rows)
        for day, customer_id, article in zip(
            *(recent.texts(column) for column in TRANSACTION_COLUMNS), strict=True
        ):
            own, bought = purchases.setdefault(customer_id, {}), (day[:10], article)
            own[bought] = own.pop(bought, 0) + 1  # behind all others
    counts["customers"] = len(purchases)
    return {
        customer_id: dict(sorted(bought.items(), key=lambda purchase: purchase[0][0]))
        for customer_id, bought in sorted(purchases.items())
    }


def _first_day(table: Table, days: int | None) -> str:
    """The first of the newest so many days; "" where all are read."""
    if days is None:
        return ""
    newest = max(batch.largest("t_dat") for batch in table.batches("t_dat"))[:10]
    try:
        first = date.fromisoformat(newest) - timedelta(days=days - 1)
    except ValueError as error:
        raise ValueError(
            f"t_dat {newest!r} in {table.origin} is no day of the form 2020-09-22; download it "
            "again"
        ) from error
    return first.isoformat()


def _customer(
    customer_id: str,
    bought: Purchases,
    articles: Mapping[str, Article],
    filters: Filters,
    counts: Counter[str],
) -> Customer | None:
    """A purchase of the customer's last day after all earlier ones; None if there is none."""
    known = {purchase: count for purchase, count in bought.items() if purchase[1] in articles}
    num_unknown = sum(bought.values()) - sum(known.values())
    counts["purchases of unknown articles (dropped)"] += num_unknown
    last_day = max((day for day, _ in known), default="")
    earlier = {purchase: count for purchase, count in known.items() if purchase[0] < last_day}
    history = tuple(reversed(dict.fromkeys(article for _, article in reversed(earlier))))
    num_repeated = sum(earlier.values()) - len(history)
    counts["repeat purchases within histories (merged)"] += num_repeated
    if len(history) < filters.min_history:
        counts["customers with too short a history (dropped)"] += 1
        return None
    items = [articles[article].item for article in history]
    shown = history[-num_shown(items, filters.history_tokens) :]
    text = history_text(articles, shown)
    later = dict.fromkeys(article for day, article in known if day == last_day)
    new = [article for article in later if article not in history]
    counts["repeat purchases of the last day (no targets)"] += len(later) - len(new)
    unnamed = [article for article in new if not contains_words(text, articles[article].name)]
    num_named = len(new) - len(unnamed)
    counts["last-day purchases named in the history (no targets)"] += num_named
    if not unnamed:
        counts["customers without a new purchase on the last day (dropped)"] += 1
        return None
    return Customer(
        customer_id=customer_id,
        split=_side(customer_id, filters),
        history=history,
        shown=shown,
        target=sample_by_hash(unnamed, 1, purpose=f"target/{customer_id}")[0],
        bought=frozenset(article for _, article in bought),
    )


def _side(customer_id: str, filters: Filters) -> str:
    drawn = share_of(customer_id, purpose="split")
    if drawn < filters.test_share:
        return "test"
    return "validation" if drawn < filters.test_share + filters.validation_share else "train"


def _limited(customers: Sequence[Customer], limits: Limits) -> list[Customer]:
    by_id = {customer.customer_id: customer for customer in customers}
    chosen: list[str] = []
    for split in SPLITS:
        members = [customer.customer_id for customer in customers if customer.split == split]
        chosen += sample_by_hash(members, limits.of(split), purpose="limit")
    return [by_id[customer_id] for customer_id in chosen]


def _catalogue(sold: set[str], customers: Sequence[Customer], limit: int | None) -> tuple[str, ...]:
    """All targets, and other articles that were sold, in hash order up to the limit; sorted."""
    targets = {customer.target for customer in customers}
    room = None if limit is None else max(0, limit - len(targets))
    return tuple(sorted(targets.union(sample_by_hash(sold - targets, room, purpose="catalogue"))))


def _prompt(
    customer: Customer,
    articles: Mapping[str, Article],
    catalogue: Sequence[str],
    ages: Mapping[str, int],
    *,
    pool_size: int,
    seed: int,
) -> Prompt:
    age = ages.get(customer.customer_id)
    text = history_text(articles, customer.shown)
    return Prompt(
        prompt_id=customer.customer_id,
        text=text if age is None else f"age {age}{SEPARATOR}{text}",
        query=names_of(articles, customer.shown),
        relevance={customer.target: 3},
        pool=fill_pool(
            [customer.target],
            catalogue,
            size=pool_size,
            barred=sorted(customer.bought),
            seed=seed,
            key=customer.customer_id,
        ),
        instruction=INSTRUCTION,
    )
