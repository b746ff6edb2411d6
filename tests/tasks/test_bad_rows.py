"""Rows that say too little, too much or the same again: a count says what became of them."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlcredit.retrieval.base import Documents
from rlcredit.tasks import ESCI, HM
from rlcredit.tasks.published.esci_files import EXAMPLES, PRODUCTS
from rlcredit.tasks.published.hm_files import ARTICLES, TRANSACTIONS
from rlcredit.tasks.settings import Source

MARKUP = "<script>alert(1)</script>\x1b[2J\x00 Tent &amp; \u202epegs"


def changed(table, row, values):
    rows = table.to_pylist()
    rows[row] |= values
    return pa.Table.from_pylist(rows, schema=table.schema)


def esci_with(folder, examples, products):
    pq.write_table(examples, folder / f"{EXAMPLES}.parquet")
    pq.write_table(products, folder / f"{PRODUCTS}.parquet")
    return ESCI(source=Source.path, path=str(folder)).load()


def of_first_query(examples):
    """The row of a product that is Exact for a query."""
    return next(k for k, label in enumerate(examples["esci_label"].to_pylist()) if label == "E")


def row_of(table, column, value):
    return table[column].to_pylist().index(value)


def text_of(task, document):
    return task.documents.texts[task.documents.ids.index(document)]


def test_a_product_listed_again_counts_once_with_its_last_row(esci_made, esci_examples, tmp_path):
    again = esci_made.products.slice(3, 1)
    (product,) = again["product_id"].to_pylist()
    last = changed(again, 0, {"product_title": "quite another thing"})
    task = esci_with(tmp_path, esci_examples, pa.concat_tables([esci_made.products, again, last]))
    assert task.counts["products listed again (the last row counts)"] == 2
    assert task.documents.ids.count(product) == 1
    assert text_of(task, product).startswith("quite another thing.")


def test_an_article_listed_again_counts_once_with_its_last_row(hm_made, tmp_path):
    target = hm_made.customers[0].target
    row = row_of(hm_made.articles, "article_id", target)
    again = changed(hm_made.articles.slice(row, 1), 0, {"detail_desc": "quite another thing"})
    pq.write_table(pa.concat_tables([hm_made.articles, again]), tmp_path / f"{ARTICLES}.parquet")
    pq.write_table(hm_made.transactions(), tmp_path / f"{TRANSACTIONS}.parquet")
    task = HM(source=Source.path, path=str(tmp_path)).load()
    assert task.counts["articles listed again (the last row counts)"] == 1
    assert text_of(task, target).endswith("quite another thing")


def test_a_product_without_text_stays_judged_and_is_counted(esci_made, esci_examples, tmp_path):
    silent = esci_examples["product_id"].to_pylist()[of_first_query(esci_examples)]
    nothing = {name: "" for name in esci_made.products.column_names if name.startswith("product_")}
    nothing |= {"product_id": silent, "product_locale": "us", "product_description": "<br/>\x00 "}
    row = row_of(esci_made.products, "product_id", silent)
    task = esci_with(tmp_path, esci_examples, changed(esci_made.products, row, nothing))
    assert task.counts["products without text (no search finds them)"] == 1
    assert text_of(task, silent) == ""
    prompts = (*task.train, *task.validation, *task.test)
    assert any(prompt.relevance.get(silent) == 3 for prompt in prompts)


def test_markup_and_control_characters_reach_no_document(esci_made, esci_examples, tmp_path):
    marked = esci_examples["product_id"].to_pylist()[of_first_query(esci_examples)]
    row = row_of(esci_made.products, "product_id", marked)
    products = changed(esci_made.products, row, {"product_title": MARKUP})
    text = text_of(esci_with(tmp_path, esci_examples, products), marked)
    assert text.startswith("alert(1) [2J Tent & pegs. ")
    assert text.isprintable()


def test_queries_of_nothing_but_markup_are_dropped_and_counted(esci_made, esci_examples, tmp_path):
    query = esci_examples["query_id"].to_pylist()[0]
    texts = [
        " <b></b>\x00" if query_id == query else text
        for query_id, text in zip(
            *(esci_examples[name].to_pylist() for name in ("query_id", "query")), strict=True
        )
    ]
    at = esci_examples.column_names.index("query")
    task = esci_with(
        tmp_path, esci_examples.set_column(at, "query", pa.array(texts)), esci_made.products
    )
    assert task.counts["queries without text (dropped)"] == 1
    assert query not in {p.prompt_id for p in (*task.train, *task.validation, *task.test)}


def test_documents_refuse_an_id_that_occurs_twice():
    with pytest.raises(ValueError, match=r"document id 'a' occurs twice"):
        Documents(ids=("a", "b", "a"), texts=("x", "y", "z"))
    with pytest.raises(ValueError, match="2 document ids for 1 texts"):
        Documents(ids=("a", "b"), texts=("x",))
