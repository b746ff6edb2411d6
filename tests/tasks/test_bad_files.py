"""What is wrong with a file is said with its name, the rule and the remedy."""

import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from rlcredit.tasks import ESCI, HM
from rlcredit.tasks.base import data_identity
from rlcredit.tasks.published.esci_files import EXAMPLES, PRODUCTS
from rlcredit.tasks.published.hm_files import ARTICLES, CUSTOMERS, TRANSACTIONS
from rlcredit.tasks.settings import Source


def esci_at(folder, **settings):
    return ESCI(source=Source.path, path=str(folder), **settings)


def hm_at(folder, **settings):
    return HM(source=Source.path, path=str(folder), **settings)


def write(folder, **tables):
    for name, table in tables.items():
        pq.write_table(table, folder / f"{name}.parquet")
    return folder


@pytest.mark.parametrize("at", [esci_at, hm_at])
def test_a_missing_folder_is_named(at, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder; it must hold"):
        at(tmp_path / "nowhere").load()
    with pytest.raises(FileNotFoundError, match=r"nowhere is not a folder; it must hold"):
        data_identity(at(tmp_path / "nowhere"))


def test_a_missing_file_is_named_with_what_lies_there(tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=rf"neither {EXAMPLES}.parquet .*found: notes.txt"):
        esci_at(tmp_path).load()
    with pytest.raises(FileNotFoundError, match=rf"neither {TRANSACTIONS}.parquet nor"):
        hm_at(tmp_path).load()


def test_a_path_is_asked_for_at_once():
    with pytest.raises(ValueError, match=r"source=path needs dataset.path"):
        ESCI(source=Source.path)
    with pytest.raises(ValueError, match=r"source=path needs dataset.path"):
        HM(source=Source.path)


def test_a_missing_column_is_named_with_the_expected_and_the_found_ones(
    esci_made, esci_examples, tmp_path
):
    examples = esci_examples.drop_columns(["esci_label"])
    write(tmp_path, **{EXAMPLES: examples, PRODUCTS: esci_made.products})
    with pytest.raises(ValueError, match=r"no column esci_label; expected query, .*found query, "):
        esci_at(tmp_path).load()


def test_a_missing_csv_column_is_named_as_well(hm_made, tmp_path):
    write(tmp_path, **{ARTICLES: hm_made.articles})
    transactions = hm_made.transactions().drop_columns(["t_dat", "customer_id"])
    pa_csv.write_csv(transactions, tmp_path / f"{TRANSACTIONS}.csv")
    with pytest.raises(ValueError, match=r"csv has no column t_dat, customer_id; expected"):
        hm_at(tmp_path).load()


@pytest.mark.parametrize("suffix", ["parquet", "csv"])
def test_an_empty_file_is_refused(hm_made, tmp_path, suffix):
    write(tmp_path, **{ARTICLES: hm_made.articles})
    (tmp_path / f"{TRANSACTIONS}.{suffix}").write_bytes(b"")
    with pytest.raises(ValueError, match=r"is empty \(0 bytes\); download it again"):
        hm_at(tmp_path).load()


def test_a_file_without_rows_is_refused(esci_made, esci_examples, tmp_path):
    write(tmp_path, **{EXAMPLES: esci_examples[:0], PRODUCTS: esci_made.products})
    with pytest.raises(ValueError, match="has no rows"):
        esci_at(tmp_path).load()


def test_a_corrupt_parquet_is_refused(esci_folder, tmp_path):
    for name in (EXAMPLES, PRODUCTS):
        data = (esci_folder / f"{name}.parquet").read_bytes()
        (tmp_path / f"{name}.parquet").write_bytes(data[: len(data) // 2])
    with pytest.raises(
        ValueError, match=rf"{EXAMPLES}.parquet cannot be read, .*download it again"
    ):
        esci_at(tmp_path).load()


def test_a_csv_row_with_too_few_cells_is_refused(hm_made, tmp_path):
    write(tmp_path, **{ARTICLES: hm_made.articles})
    (tmp_path / f"{TRANSACTIONS}.csv").write_text("t_dat,customer_id,article_id\n2020-09-16,a\n")
    with pytest.raises(ValueError, match=r"cannot be read, .*Expected 3 columns"):
        hm_at(tmp_path).load()


@pytest.mark.parametrize("table", [ARTICLES, TRANSACTIONS])
def test_a_csv_whose_ids_were_read_as_numbers_is_refused(hm_made, tmp_path, table):
    tables = {ARTICLES: hm_made.articles, TRANSACTIONS: hm_made.transactions()}
    rows = tables[table]
    at = rows.column_names.index("article_id")
    numbers = pa.array([str(int(i)) for i in rows["article_id"].to_pylist()])
    tables[table] = rows.set_column(at, "article_id", numbers)
    for name, content in tables.items():
        pa_csv.write_csv(content, tmp_path / f"{name}.csv")
    with pytest.raises(
        ValueError, match=r"in row 1 of .*not the 10 characters of H&M's ids .*dtype="
    ):
        hm_at(tmp_path).load()


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64()])
def test_a_parquet_whose_ids_are_numbers_is_refused(hm_made, tmp_path, kind):
    at = hm_made.articles.column_names.index("article_id")
    ids = hm_made.articles["article_id"].cast(pa.int64()).cast(kind)
    articles = hm_made.articles.set_column(at, "article_id", ids)
    write(tmp_path, **{ARTICLES: articles, TRANSACTIONS: hm_made.transactions()})
    with pytest.raises(ValueError, match=r"column article_id .* is stored as (int64|double)"):
        hm_at(tmp_path).load()


def test_a_day_of_another_form_is_refused(hm_made, tmp_path):
    transactions = hm_made.transactions()
    days = pa.array(["16.09.2020"] * len(transactions))
    transactions = transactions.set_column(0, "t_dat", days)
    write(tmp_path, **{ARTICLES: hm_made.articles, TRANSACTIONS: transactions})
    with pytest.raises(ValueError, match=r"t_dat '16.09.2020' .* is no day of the form 2020-09-22"):
        hm_at(tmp_path).load()


def test_an_age_that_is_no_number_is_refused(hm_folder, hm_made, tmp_path):
    write(tmp_path, **{ARTICLES: hm_made.articles, TRANSACTIONS: hm_made.transactions()})
    customers = {"customer_id": [hm_made.customers[0].customer_id], "age": ["old"]}
    write(tmp_path, **{CUSTOMERS: pa.table(customers)})
    with pytest.raises(ValueError, match=r"age 'old' .*customers.parquet is no number of years"):
        hm_at(tmp_path).load()


def test_an_unknown_label_or_split_is_refused(esci_made, esci_examples, tmp_path):
    examples = esci_examples
    for column, value in (("esci_label", "Z"), ("split", "dev")):
        at = examples.column_names.index(column)
        values = pa.array([value] * len(examples))
        odd = examples.set_column(at, column, values)
        write(tmp_path, **{EXAMPLES: odd, PRODUCTS: esci_made.products})
        with pytest.raises(ValueError, match=f"{column} '{value}'"):
            esci_at(tmp_path).load()


def test_a_locale_that_is_not_there_is_refused_with_those_that_are(esci_folder):
    with pytest.raises(ValueError, match=r"dataset.locale=es .*locales found: us"):
        esci_at(esci_folder, locale="es").load()


def test_filters_that_leave_no_training_prompt_say_so(hm_folder):
    with pytest.raises(ValueError, match=r"no train prompts are left of hm after its filters"):
        hm_at(hm_folder, min_history=50).load()


def test_queries_without_an_exact_product_leave_nothing(esci_made, esci_examples, tmp_path):
    examples = esci_examples
    at = examples.column_names.index("esci_label")
    labels = pa.array(["S"] * len(examples))
    examples = examples.set_column(at, "esci_label", labels)
    write(tmp_path, **{EXAMPLES: examples, PRODUCTS: esci_made.products})
    with pytest.raises(ValueError, match=r"queries without an Exact product \(dropped\)': 272"):
        esci_at(tmp_path).load()


def test_hm_is_not_on_the_hub_and_the_remedy_is_a_command():
    with pytest.raises(
        ValueError, match=r"h-and-m-personalized-fashion-recommendations.*rlcredit train"
    ):
        HM(source=Source.hub)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (ESCI, {"validation_share": 1.0}),
        (ESCI, {"pool_size": 1}),
        (ESCI, {"num_near": -1}),
        (ESCI, {"max_test": 0}),
        (ESCI, {"max_phrases": -1}),
        (HM, {"pool_size": 1}),
        (HM, {"history_tokens": 0}),
        (HM, {"min_history": 0}),
        (HM, {"days": 1}),
        (HM, {"validation_share": 0.5, "test_share": 0.5}),
        (HM, {"max_documents": 0}),
        (HM, {"max_words": -1}),
    ],
)
def test_a_setting_out_of_its_range_is_named(cls, settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        cls(**settings)
