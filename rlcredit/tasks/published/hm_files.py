"""H&M's published tables: their names and columns, and how articles and histories are worded."""

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import pyarrow as pa

from rlcredit.tasks.published.cleaning import clean_all, num_tokens
from rlcredit.tasks.published.tables import SUFFIXES, Batch, read_table, table_file

ARTICLES, TRANSACTIONS, CUSTOMERS = "articles", "transactions_train", "customers"

ID_LENGTH = 10
ARTICLE_COLUMNS = (
    "article_id",
    "prod_name",
    "product_type_name",
    "product_group_name",
    "graphical_appearance_name",
    "colour_group_name",
    "department_name",
    "index_name",
    "section_name",
    "garment_group_name",
    "detail_desc",
)
TRANSACTION_COLUMNS = ("t_dat", "customer_id", "article_id")
CUSTOMER_COLUMNS = ("customer_id", "age")

KAGGLE = "h-and-m-personalized-fashion-recommendations"

SEPARATOR = "; "

INSTRUCTION = (
    "You know fashion. Given what a customer bought, oldest first, list what the article that this "
    "customer buys next would say of itself: product type, colour, pattern, fabric, fit, section. "
    "Write short phrases separated by commas inside <answer></answer>."
)
"""System message for models with a chat template."""


@dataclass(frozen=True, kw_only=True)
class Article:
    """One article, its texts cleaned."""

    article_id: str
    name: str
    product_type: str
    colour: str
    attributes: tuple[str, ...]
    """Type, colour, pattern, department, section, garment group: lower case, each once."""
    text: str
    """What is indexed."""

    @property
    def item(self) -> str:
        """How a history names it: name, type, colour, in lower case."""
        parts = (self.name.casefold(), _phrase(self.product_type), _phrase(self.colour))
        return " ".join(part for part in parts if part)


def read_articles(
    folder: Path, *, only: Container[str], counts: Counter[str]
) -> dict[str, Article]:
    """article_id -> article, of the articles among ``only``; ids that occur again are counted.

    Raises:
        FileNotFoundError: If the file is missing.
        ValueError: If it is damaged, lacks a column, or its ids lost their leading zeros.
    """
    id_column = ("article_id",)
    file = table_file(folder, ARTICLES)
    articles: dict[str, Article] = {}
    listed = 0
    for batch in read_table(file, ARTICLE_COLUMNS, ids=id_column, text_ids=id_column).batches():
        check_ids(batch)
        known = [article in only for article in batch.texts("article_id")]
        listed += sum(known)
        articles |= articles_of(batch.filtered(pa.array(known, pa.bool_())))
    if twice := listed - len(articles):
        counts["articles listed again (the last row counts)"] = twice
    return articles


def articles_of(batch: Batch) -> dict[str, Article]:
    """article_id -> article, from H&M's columns."""
    articles = {}
    columns = (clean_all(batch.texts(column)) for column in ARTICLE_COLUMNS)
    for row in zip(*columns, strict=True):
        article_id, name, kind, group, pattern, colour, department, index = row[:8]
        section, garments, description = row[8:]
        said = (kind, colour, pattern, department, section, garments)
        parts = (name, kind, group, colour, pattern, department, index, section, garments)
        articles[article_id] = Article(
            article_id=article_id,
            name=name,
            product_type=kind,
            colour=colour,
            attributes=tuple(dict.fromkeys(_phrase(text) for text in said if _phrase(text))),
            text=". ".join(part for part in (*parts, description) if part),
        )
    return articles


def has_customers(folder: Path) -> bool:
    """Whether the optional customers' file is there."""
    return any((folder / f"{CUSTOMERS}{suffix}").is_file() for suffix in SUFFIXES)


def read_ages(folder: Path) -> dict[str, int]:
    """customer_id -> age in years, of the customers who gave it; {} without a customers' file.

    Raises:
        ValueError: If an age is no number.
    """
    if not has_customers(folder):
        return {}
    file = table_file(folder, CUSTOMERS)
    ages: dict[str, int] = {}
    for batch in read_table(file, CUSTOMER_COLUMNS, ids=("customer_id",)).batches():
        batch.refuse_unlike("age", r"^(\d+(\.\d*)?)?$", "is no number of years; download it again")
        pairs = zip(*(batch.texts(column) for column in CUSTOMER_COLUMNS), strict=True)
        ages |= {customer_id: int(float(age)) for customer_id, age in pairs if age}
    return ages


def check_ids(batch: Batch) -> None:
    """Refuse ids that were read as numbers somewhere on their way.

    Raises:
        ValueError: If an article's id has not 10 characters.
    """
    rule = (
        f"has not the {ID_LENGTH} characters of H&M's ids (0108775015): they were read as numbers "
        "and lost their leading zeros; export them again as text (pandas: read_csv(..., "
        "dtype={'article_id': str}))"
    )
    batch.refuse_unlike("article_id", f"^.{{{ID_LENGTH}}}$", rule)


def num_shown(items: Sequence[str], max_tokens: int) -> int:
    """How many of the latest items fit, joined, in so many words and punctuation marks.

    Items are never cut in two, and the latest one is always shown.

    >>> num_shown(["strap top black", "jeans blue"], 5)
    1
    >>> num_shown(["strap top black", "jeans blue"], 6)
    2
    """
    latest = (
        num_tokens(SEPARATOR) * (count > 0) + num_tokens(item)
        for count, item in enumerate(reversed(items))
    )
    fitting = sum(length <= max_tokens for length in accumulate(latest))
    return max(fitting, min(1, len(items)))


def history_text(articles: Mapping[str, Article], history: Sequence[str]) -> str:
    """A history as prompts word it, oldest first."""
    return SEPARATOR.join(articles[article].item for article in history)


def names_of(articles: Mapping[str, Article], history: Sequence[str]) -> str:
    """The item names of a history, the raw query of a customer who types none."""
    return ", ".join(articles[article].name.casefold() for article in history)


def _phrase(text: str) -> str:
    """A cell as one phrase: lower case, without commas; "" for H&M's placeholders."""
    phrase = " ".join(text.casefold().replace(",", " ").split())
    return "" if phrase in ("unknown", "undefined", "other") else phrase
