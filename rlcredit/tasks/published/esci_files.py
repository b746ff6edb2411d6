"""ESCI's published tables: their names, columns and labels."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from rlcredit.tasks.published.cleaning import clean, clean_all
from rlcredit.tasks.published.tables import read_table, table_file, texts_of

EXAMPLES = "shopping_queries_dataset_examples"
PRODUCTS = "shopping_queries_dataset_products"

EXAMPLE_COLUMNS = (
    "query",
    "query_id",
    "product_id",
    "product_locale",
    "esci_label",
    "small_version",
    "split",
)
PRODUCT_COLUMNS = (
    "product_id",
    "product_title",
    "product_description",
    "product_bullet_point",
    "product_brand",
    "product_color",
    "product_locale",
)
INSTRUCTION = (
    "You expand shopping queries. Given a query, list what a product that fits it would say of "
    "itself: its category, brand, features, material, use. Write short phrases separated by "
    "commas inside <answer></answer>."
)
"""System message for models with a chat template."""

GRADES = {"E": 3, "S": 2, "C": 1, "I": 0}
"""Grade of a label, by its first letter: the hub spells the labels out."""


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


def read_files(folder: Path) -> tuple[pa.Table, pa.Table]:
    """Examples and products, every column as text."""
    examples = read_table(table_file(folder, EXAMPLES), EXAMPLE_COLUMNS, text_ids=("product_id",))
    products = read_table(table_file(folder, PRODUCTS), PRODUCT_COLUMNS, text_ids=("product_id",))
    return examples, products


def queries_of(examples: pa.Table) -> list[Query]:
    """The queries of some examples, in file order; a product judged twice keeps its last grade.

    Raises:
        ValueError: If a label or a split is none of ESCI's.
    """
    queries: dict[str, Query] = {}
    columns = ("query_id", "query", "split", "product_id", "esci_label")
    for query_id, text, split, product, label in zip(
        *(texts_of(examples, column) for column in columns), strict=True
    ):
        if label[:1] not in GRADES:
            raise ValueError(f"esci_label {label!r} is none of {', '.join(GRADES)}")
        if split not in ("train", "test"):
            raise ValueError(f"split {split!r} of query {query_id} is neither train nor test")
        query = queries.setdefault(
            query_id, Query(query_id=query_id, text=clean(text), split=split, grades={})
        )
        query.grades[product] = GRADES[label[:1]]
    return list(queries.values())


def product_texts(products: pa.Table, *, max_words: int | None) -> dict[str, str]:
    """product_id -> title, brand, colour, bullet points, description: cleaned, and cut."""
    columns = (
        "product_title",
        "product_brand",
        "product_color",
        "product_bullet_point",
        "product_description",
    )
    cleaned = (clean_all(texts_of(products, column)) for column in columns)
    texts: dict[str, str] = {}
    for product, *parts in zip(texts_of(products, "product_id"), *cleaned, strict=True):
        text = ". ".join(part for part in parts if part)
        texts[product] = text if max_words is None else " ".join(text.split()[:max_words])
    return texts
