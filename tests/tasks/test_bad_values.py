"""What is wrong with a value is said at load, with its file, its column and its row."""

import json
from dataclasses import replace

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from rlcredit.retrieval.base import Documents
from rlcredit.tasks import ESCI, GSM8K, HM
from rlcredit.tasks.published.esci_files import EXAMPLES, PRODUCTS
from rlcredit.tasks.published.hm_files import ARTICLES, TRANSACTIONS
from rlcredit.tasks.published.tables import BATCH, read_table
from rlcredit.tasks.settings import Source


def with_column(table, name, values):
    return table.set_column(table.column_names.index(name), name, values)


def with_value(table, name, row, value):
    values = table[name].to_pylist()
    values[row] = value
    return with_column(table, name, pa.array(values))


@pytest.fixture
def esci_with(esci_made, esci_examples, tmp_path):
    def load(*, suffix="parquet", examples=None, products=None):
        tables = {EXAMPLES: examples or esci_examples, PRODUCTS: products or esci_made.products}
        for name, table in tables.items():
            write = pq.write_table if suffix == "parquet" else pa_csv.write_csv
            write(table, tmp_path / f"{name}.{suffix}")
        return ESCI(source=Source.path, path=str(tmp_path)).load()

    return load


@pytest.fixture
def hm_with(hm_made, tmp_path):
    def load(**tables):
        whole = {ARTICLES: hm_made.articles, TRANSACTIONS: hm_made.transactions()} | tables
        for name, table in whole.items():
            pq.write_table(table, tmp_path / f"{name}.parquet")
        return HM(source=Source.path, path=str(tmp_path)).load()

    return load


def gsm8k_with(folder, *, row=None, head=b""):
    for split in ("train", "test"):
        rows = [{"question": f"{split} {k}?", "answer": f"#### {k}"} for k in range(60)]
        lines = [json.dumps(one) for one in rows]
        if row is not None and split == "train":
            lines[2] = row
        (folder / f"{split}.jsonl").write_bytes(head + "\n".join(lines).encode())
    return GSM8K(source=Source.path, path=str(folder), validation_share=0.2).load()


@pytest.mark.parametrize("titles", [None, "", "-"])
def test_titles_without_a_word_are_refused_by_file_and_column(esci_with, esci_made, titles):
    nothing = pa.array([titles] * len(esci_made.products), pa.string())
    with pytest.raises(ValueError, match=rf"column product_title of .*{PRODUCTS}.* no word in its"):
        esci_with(products=with_column(esci_made.products, "product_title", nothing))


def test_a_list_column_is_refused_by_file_and_column(esci_with, esci_made):
    lists = pa.array([["a", "b"]] * len(esci_made.products))
    with pytest.raises(
        ValueError, match=rf"column product_brand of .*{PRODUCTS}.* is stored as list<"
    ):
        esci_with(products=with_column(esci_made.products, "product_brand", lists))


@pytest.mark.parametrize("kind", [pa.bool_(), pa.float64(), pa.dictionary(pa.int8(), pa.string())])
def test_flags_of_any_type_are_read(esci_with, esci_examples, published_esci, kind):
    flags = pa.array(["1"] * len(esci_examples))
    flags = (
        flags.cast(pa.int8()).cast(kind) if not pa.types.is_dictionary(kind) else flags.cast(kind)
    )
    task = esci_with(examples=with_column(esci_examples, "small_version", flags))
    assert task.digest == published_esci.digest


def test_a_flag_that_is_none_is_refused_with_its_row(esci_with, esci_examples):
    with pytest.raises(ValueError, match=rf"small_version 'yes' in row 4 of .*{EXAMPLES}"):
        esci_with(examples=with_value(esci_examples, "small_version", 3, "yes"))


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_bytes_that_are_no_utf8_are_refused_by_file_column_and_row(
    esci_with, esci_made, tmp_path, suffix
):
    titles = [text.encode() for text in esci_made.products["product_title"].to_pylist()]
    titles[5] = b"caf\xe9"
    products = with_column(esci_made.products, "product_title", pa.array(titles, pa.binary()))
    said = rf"column product_title of .*{PRODUCTS}.{suffix}: row 6 is no UTF-8 text"
    if suffix == "csv":
        esci_with(suffix="csv")
        file = tmp_path / f"{PRODUCTS}.csv"
        good = esci_made.products["product_title"][5].as_py().encode()
        file.write_bytes(file.read_bytes().replace(good, b"caf\xe9", 1))
        with pytest.raises(ValueError, match=r"column product_title of .*: row \d+ is no UTF-8"):
            ESCI(source=Source.path, path=str(tmp_path)).load()
    else:
        with pytest.raises(ValueError, match=said):
            esci_with(products=products)


@pytest.mark.parametrize("label", [None, "NaN"])
def test_a_missing_label_is_refused_by_file_and_row(esci_with, esci_examples, label):
    with pytest.raises(ValueError, match=rf"esci_label '(NaN)?' in row 8 of .*{EXAMPLES}.* E, S"):
        esci_with(examples=with_value(esci_examples, "esci_label", 7, label))
    nan = pa.array([float("nan")] * len(esci_examples))
    with pytest.raises(ValueError, match=r"esci_label '' in row 1 of "):
        esci_with(examples=with_column(esci_examples, "esci_label", nan))


@pytest.mark.parametrize("column", ["query_id", "product_id"])
@pytest.mark.parametrize("odd", ["a b", "a\u00a0b", " ", None])
def test_ids_of_other_than_one_word_are_refused_at_load(esci_with, esci_examples, column, odd):
    with pytest.raises(ValueError, match=rf"^{column} .* in row 3 of .*{EXAMPLES}.* one word"):
        esci_with(examples=with_value(esci_examples, column, 2, odd))


def test_ids_of_products_customers_and_articles_are_refused_alike(
    esci_with, esci_made, hm_with, hm_made
):
    with pytest.raises(ValueError, match=rf"product_id 'B 0' in row 1 of .*{PRODUCTS}"):
        esci_with(products=with_value(esci_made.products, "product_id", 0, "B 0"))
    with pytest.raises(ValueError, match=rf"customer_id 'c 1' in row 2 of .*{TRANSACTIONS}"):
        hm_with(**{TRANSACTIONS: with_value(hm_made.transactions(), "customer_id", 1, "c 1")})
    with pytest.raises(ValueError, match=rf"article_id '01087 5015' in row 1 of .*{ARTICLES}"):
        hm_with(**{ARTICLES: with_value(hm_made.articles, "article_id", 0, "01087 5015")})


def test_documents_of_ones_own_have_ids_of_one_word():
    with pytest.raises(ValueError, match="document id 'a b' holds white space"):
        Documents(ids=("a", "a b"), texts=("x", "y"))


def test_prompts_of_ones_own_have_ids_of_one_word(esci):
    with pytest.raises(ValueError, match="prompt id 'q 1' of esci holds white space"):
        replace(esci, train=(replace(esci.train[0], prompt_id="q 1"),))


def test_half_a_character_is_found_at_load_by_file_and_line(tmp_path):
    row = '{"question": "smile \\ud83d now?", "answer": "#### 7"}'
    with pytest.raises(ValueError, match=r"line 3 of .*train.jsonl holds half a character"):
        gsm8k_with(tmp_path, row=row)
    whole = '{"question": "smile \\ud83d\\ude00 now?", "answer": "#### 7"}'
    assert "smile 😀 now?" in repr(gsm8k_with(tmp_path, row=whole))


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path, hm_made):
    plain = gsm8k_with(tmp_path)
    assert gsm8k_with(tmp_path, head=b"\xef\xbb\xbf").digest == plain.digest
    pa_csv.write_csv(hm_made.articles, tmp_path / "a.csv")
    marked = tmp_path / "b.csv"
    marked.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes())
    read = [
        list(read_table(f, ("article_id",)).rows("article_id"))
        for f in (tmp_path / "a.csv", marked)
    ]
    assert read[0] == read[1]
    assert len(read[0]) == len(hm_made.articles)


def test_rows_are_numbered_across_batches(tmp_path):
    ids = [f"a{k}" for k in range(BATCH + 10)]
    ids[BATCH + 5] = "a b"
    pq.write_table(pa.table({"article_id": ids}), tmp_path / "x.parquet")
    pa_csv.write_csv(pa.table({"article_id": ids}), tmp_path / "x.csv")
    for file in (tmp_path / "x.parquet", tmp_path / "x.csv"):
        table = read_table(file, ("article_id",), ids=("article_id",))
        with pytest.raises(ValueError, match=rf"'a b' in row {BATCH + 6} of {file}"):
            list(table.batches())


def test_a_small_file_of_many_rows_is_read_in_little_memory(tmp_path):
    text = "the same text of some length, over and over again: a file of kilobytes"
    schema = pa.schema([("query", pa.string())])
    with pq.ParquetWriter(tmp_path / "x.parquet", schema) as file:
        file.write_table(pa.table({"query": [text] * 10**6}, schema=schema), row_group_size=10**6)
    assert (tmp_path / "x.parquet").stat().st_size < 2e5
    pool = pa.default_memory_pool()
    before, most, rows = pool.bytes_allocated(), 0, 0
    for batch in read_table(tmp_path / "x.parquet", ("query",)).batches():
        most, rows = max(most, pool.bytes_allocated() - before), rows + len(batch.rows)
    assert rows == 10**6
    assert most < 3e7 < rows * len(text)
