"""ESCI's published tables: their names, columns and labels."""

from pathlib import Path

from rlcredit.tasks.published.cleaning import clean, clean_all
from rlcredit.tasks.published.queries import Query
from rlcredit.tasks.published.tables import Batch, Table, read_table, table_file

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
EXAMPLE_IDS = ("query_id", "product_id")
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


def read_files(folder: Path) -> tuple[Table, Table]:
    """Examples and products."""
    files = (table_file(folder, EXAMPLES), table_file(folder, PRODUCTS))
    product = ("product_id",)
    return (
        read_table(files[0], EXAMPLE_COLUMNS, ids=EXAMPLE_IDS, text_ids=product),
        read_table(files[1], PRODUCT_COLUMNS, ids=product, text_ids=product),
    )


def refuse_unknown(examples: Batch) -> None:
    """Refuse labels and splits that are none of ESCI's.

    Raises:
        ValueError: If there is one.
    """
    labels = "".join(GRADES)
    examples.refuse_unlike("esci_label", f"^[{labels}]", f"is none of {', '.join(GRADES)}")
    examples.refuse_unlike("split", "^(train|test)$", "is neither train nor test")


def add_judgements(queries: dict[str, Query], examples: Batch) -> None:
    """Put examples into their queries; a product judged twice keeps its last grade."""
    columns = ("query_id", "query", "split", "product_id", "esci_label")
    for query_id, text, split, product, label in zip(
        *(examples.texts(column) for column in columns), strict=True
    ):
        if query_id not in queries:
            made = Query(query_id=query_id, text=clean(text), split=split, grades={})
            queries[query_id] = made
        queries[query_id].grades[product] = GRADES[label[:1]]


def product_texts(products: Batch, *, max_words: int | None) -> dict[str, str]:
    """product_id -> title, brand, colour, bullet points, description: cleaned, and cut."""
    columns = (
        "product_title",
        "product_brand",
        "product_color",
        "product_bullet_point",
        "product_description",
    )
    cleaned = (clean_all(products.texts(column)) for column in columns)
    texts: dict[str, str] = {}
    for product, *parts in zip(products.texts("product_id"), *cleaned, strict=True):
        text = ". ".join(part for part in parts if part)
        texts[product] = text if max_words is None else " ".join(text.split()[:max_words])
    return texts
