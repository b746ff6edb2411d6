"""Reading official files: the generated sets written in their form, and the real fragments."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
import torch
from searching import Search

from rlcredit.evaluation.trec import write_qrels
from rlcredit.identity import digest, numerics_of, without_numerics
from rlcredit.tasks import ESCI, HM
from rlcredit.tasks.base import data_identity
from rlcredit.tasks.published.cleaning import num_tokens, words_of
from rlcredit.tasks.published.esci_files import EXAMPLES, PRODUCTS
from rlcredit.tasks.published.hm_files import ARTICLES, CUSTOMERS, TRANSACTIONS
from rlcredit.tasks.settings import Source

QUERIES = [
    # query_id, query, split, product -> label
    ("1", "red  tent", "train", {"A1": "E", "A2": "S", "A3": "C", "A4": "I"}),
    ("2", "Blue Tent", "train", {"A2": "E"}),
    ("3", "blue tent", "test", {"A2": "E"}),
    ("4", "lamp", "train", {"A3": "S", "A5": "I"}),
    ("5", "what is a5 again", "train", {"A5": "E"}),
    ("6", "the golden lamp please", "train", {"A6": "E"}),
    ("7", "mug", "train", {"A7": "E", "A99": "E"}),
    ("8", "big mug", "test", {"A7": "E"}),
]
TITLES = {
    "A1": "Red tent <b>deluxe</b>",
    "A2": "Tent, blue &amp; white",
    "A3": "Camping chair",
    "A4": "Wool socks",
    "A5": "Reading light",
    "A6": "Golden Lamp",
    "A7": "Coffee mug",
    "A8": "Tent pegs",
    "A9": "Frying pan",
}


@pytest.fixture
def small_esci(tmp_path):
    rows = [
        {
            "query": query,
            "query_id": int(query_id),
            "product_id": product,
            "product_locale": "us",
            "esci_label": label,
            "small_version": 1,
            "split": split,
        }
        for query_id, query, split, labels in QUERIES
        for product, label in labels.items()
    ]
    many = [
        {**rows[0], "query": f"thing {k}", "query_id": 100 + k, "product_id": "A9"}
        for k in range(40)
    ]
    other = [
        {**rows[0], "query_id": 300, "query": "zelt", "product_locale": "de"},
        {**rows[0], "query_id": 301, "query": "easy tent", "small_version": 0},
    ]
    pq.write_table(pa.Table.from_pylist(rows + many + other), tmp_path / f"{EXAMPLES}.parquet")
    products = [
        {
            "product_id": product,
            "product_title": title,
            "product_description": "<p>Nice\x07 thing</p>" if product == "A1" else None,
            "product_bullet_point": "one\ntwo" if product == "A1" else None,
            "product_brand": "Acme" if product == "A1" else None,
            "product_color": "red" if product == "A1" else None,
            "product_locale": "us",
        }
        for product, title in TITLES.items()
    ]
    pq.write_table(pa.Table.from_pylist(products), tmp_path / f"{PRODUCTS}.parquet")
    return ESCI(source=Source.path, path=str(tmp_path), pool_size=6, num_near=2)


def by_id(task):
    return {p.prompt_id: p for p in (*task.train, *task.validation, *task.test)}


def test_labels_become_grades_and_texts_are_cleaned(small_esci):
    task = small_esci.load()
    red = by_id(task)["1"]
    assert red.text == red.query == "red tent"
    assert dict(red.relevance) == {"A1": 3, "A2": 2, "A3": 1, "A4": 0}
    assert {"A1", "A2", "A3", "A4"} <= set(red.pool)
    text = dict(zip(task.documents.ids, task.documents.texts, strict=True))
    assert text["A1"] == "Red tent deluxe. Acme. red. one two. Nice thing"
    assert text["A2"] == "Tent, blue & white"
    assert task.rules == replace(task.rules, max_phrases=None, max_words=None, unique=False)


def test_what_is_dropped_is_counted(small_esci):
    task = small_esci.load()
    assert not {"2", "4", "5", "6", "300", "301"} & set(by_id(task))
    assert {"1", "3", "7", "8"} <= set(by_id(task))
    assert task.counts["judgements read"] == 55
    assert task.counts["judgements of other locales or versions (dropped)"] == 2
    assert task.counts["judgements of unknown products (dropped)"] == 1
    assert task.counts["queries without an Exact product (dropped)"] == 1
    assert task.counts["queries with the id or title of a relevant product (dropped)"] == 2
    assert task.counts["queries that repeat another's text (dropped)"] == 1
    assert task.counts["pools below size"] == 0


def test_the_published_split_is_respected_and_validation_comes_out_of_training(small_esci):
    task = small_esci.load()
    assert {p.prompt_id for p in task.test} == {"3", "8"}
    assert len(task.train) + len(task.validation) == 42
    assert 1 <= len(task.validation) <= 15


def test_pools_hold_near_products_before_random_ones(small_esci):
    pools = [set(by_id(replace(small_esci, seed=k).load())["3"].pool) for k in range(8)]
    always = set.intersection(*pools)
    assert {"A1", "A2", "A8"} & always >= {"A2"}
    assert len(always) == 3  # the judged product and two near ones; the others change with the seed
    assert all("Tent" in TITLES[product] or "tent" in TITLES[product] for product in always)


def test_a_catalogue_smaller_than_the_pool_gives_small_pools_and_counts_them(small_esci):
    task = replace(small_esci, pool_size=101).load()
    assert {len(p.pool) for p in task.train} == {len(task.documents.ids)}
    assert task.counts["pools below size"] == len(by_id(task))


def test_a_limited_catalogue_keeps_every_judged_product(small_esci):
    task = replace(small_esci, max_documents=1).load()
    judged = {document for p in by_id(task).values() for document in p.relevance}
    assert judged <= set(task.documents.ids)
    assert "A8" not in task.documents.ids


def test_limits_keep_the_same_prompts_first(esci_folder):
    whole = ESCI(source=Source.path, path=str(esci_folder), max_train=None).load()
    some = ESCI(source=Source.path, path=str(esci_folder), max_train=50, max_test=7).load()
    assert [p.prompt_id for p in some.train] == [p.prompt_id for p in whole.train[:50]]
    assert len(some.test) == 7


def test_documents_are_cut_to_their_first_words(esci_folder):
    task = ESCI(source=Source.path, path=str(esci_folder), document_words=5).load()
    assert {len(text.split()) for text in task.documents.texts} == {5}


def test_the_title_teacher_never_draws_on_products_relevant_to_a_held_out_query(small_esci):
    task = small_esci.load()
    held_out = {d for p in (*task.validation, *task.test) for d in p.relevant}
    assert {"A2", "A7"} <= held_out
    written = {
        phrase
        for sources in task.teacher.sources.values()
        for source in sources[1:]
        for phrase in source.phrases
    }
    assert not written & {"mug", "coffee", "blue", "white"}
    assert "A9" in held_out or "frying pan" in written


def test_csv_and_parquet_give_the_same_set(hm_folder, tmp_path):
    for name in (ARTICLES, TRANSACTIONS):
        pa_csv.write_csv(pq.read_table(hm_folder / f"{name}.parquet"), tmp_path / f"{name}.csv")
    from_csv = HM(source=Source.path, path=str(tmp_path)).load()
    assert from_csv.digest == HM(source=Source.path, path=str(hm_folder)).load().digest
    assert from_csv.documents.ids[0].startswith("0")


BOUGHT = [
    ("2020-09-01", "c1", "0100000001"),
    ("2020-09-02", "c1", "0100000001"),
    ("2020-09-02", "c1", "0100000002"),
    ("2020-09-05", "c1", "0100000002"),  # bought before: no target
    ("2020-09-05", "c1", "0100000003"),  # has the name of the first article: no target
    ("2020-09-05", "c1", "0100000004"),
    ("2020-09-05", "c2", "0100000004"),  # one day only
    ("2020-09-01", "c3", "0100000001"),
    ("2020-09-02", "c3", "0100000002"),
    ("2020-09-03", "c3", "0100000001"),  # nothing new on the last day
    ("2019-01-01", "c4", "0100000005"),  # too long ago
    ("2020-09-05", "c4", "0100000006"),
    ("2020-09-05", "c5", "0199999999"),  # unknown article
]
NAMES = ["Jade", "Tom", "JADE", "Lily dress", "Ann", "Ben", "Eve", "Kim"]


@pytest.fixture
def small_hm(tmp_path):
    columns = ("product_type_name", "colour_group_name", "section_name", "detail_desc")
    empty = ("product_group_name", "graphical_appearance_name", "department_name")
    empty += ("index_name", "garment_group_name")
    articles = [
        {"article_id": f"010000000{k}", "prod_name": name}
        | dict(zip(columns, ("Top, short", "Unknown", f"Section {k}", "Nice."), strict=True))
        | dict.fromkeys(empty, "")
        for k, name in enumerate(NAMES, 1)
    ]
    bought = [*BOUGHT]
    for k in range(60):
        bought += [("2020-09-01", f"d{k}", "0100000005"), ("2020-09-02", f"d{k}", "0100000006")]
        bought += [("2020-09-03", f"d{k}", "0100000007")]
    rows = [dict(zip(("t_dat", "customer_id", "article_id"), row, strict=True)) for row in bought]
    pq.write_table(pa.Table.from_pylist(articles), tmp_path / f"{ARTICLES}.parquet")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{TRANSACTIONS}.parquet")
    return HM(source=Source.path, path=str(tmp_path), pool_size=3)


def test_a_history_ends_before_the_last_day_and_the_target_is_new(small_hm):
    task = small_hm.load()
    prompt = by_id(task)["c1"]
    assert prompt.text == "jade top short; tom top short"
    assert prompt.query == "jade, tom"
    assert dict(prompt.relevance) == {"0100000004": 3}
    assert "0100000004" in prompt.pool
    assert not {"0100000001", "0100000002", "0100000003"} & set(prompt.pool)


def test_repeats_and_dropped_customers_are_counted(small_hm):
    task = small_hm.load()
    assert set(by_id(task)) == {"c1", *(f"d{k}" for k in range(60))}
    assert task.counts["purchases read"] == len(BOUGHT) + 180
    assert task.counts["purchases before the last days (dropped)"] == 1
    assert task.counts["purchases of unknown articles (dropped)"] == 1
    assert task.counts["repeat purchases within histories (merged)"] == 1
    assert task.counts["repeat purchases of the last day (no targets)"] == 2
    assert task.counts["last-day purchases named in the history (no targets)"] == 1
    assert task.counts["customers without a new purchase on the last day (dropped)"] == 1
    assert task.counts["customers with too short a history (dropped)"] == 3


def test_a_longer_time_reads_older_purchases(small_hm):
    task = replace(small_hm, days=None, min_history=1).load()
    assert "c4" in by_id(task)
    assert task.counts["purchases before the last days (dropped)"] == 0


def test_histories_are_cut_to_their_latest_whole_items(small_hm, real_hm):
    short = replace(small_hm, history_tokens=4).load()
    assert by_id(short)["c1"].text == "tom top short"
    assert by_id(short)["c1"].query == "tom"
    lengths = [num_tokens(p.text) for p in real_hm.train if ";" in p.text]
    assert max(lengths) <= 48
    assert np.mean(lengths) > 15


def test_ages_come_from_the_customers_file_where_there_is_one(small_hm, tmp_path):
    ages = pa.table({"customer_id": ["c1", "d1"], "age": ["34.0", None]})
    plain = data_identity(small_hm)
    pq.write_table(ages, tmp_path / f"{CUSTOMERS}.parquet")
    prompts = by_id(small_hm.load())
    assert prompts["c1"].text == "age 34; jade top short; tom top short"
    assert prompts["d1"].text.startswith("ann ")
    assert data_identity(small_hm) != plain


def test_the_attribute_teacher_never_draws_on_held_out_next_purchases(real_hm):
    held_out = {d for p in (*real_hm.validation, *real_hm.test) for d in p.relevance}
    texts = dict(zip(real_hm.documents.ids, real_hm.documents.texts, strict=True))
    shared = [p for p in real_hm.train if set(p.relevance) & held_out]
    assert shared
    for prompt in shared:
        assert real_hm.teacher.sources[prompt.prompt_id][0].phrases == ()
    for prompt in real_hm.train[:50]:
        (target,) = prompt.relevance
        for phrase in real_hm.teacher.sources[prompt.prompt_id][0].phrases:
            assert set(words_of(phrase)) <= set(words_of(texts[target]))


def test_the_real_fragments_have_the_documented_sizes(real_esci, real_hm):
    assert real_esci.counts["judgements read"] == 3005
    assert real_esci.counts["queries without an Exact product (dropped)"] == 807
    assert len(real_esci.test) == 200
    assert len(real_esci.train) + len(real_esci.validation) > 780
    assert len(real_esci.documents.ids) == 2902
    assert real_hm.counts["purchases read"] == 216349
    assert real_hm.counts["customers"] == 62117
    assert (len(real_hm.train), len(real_hm.validation), len(real_hm.test)) == (1000, 150, 200)
    assert len(real_hm.documents.ids) == 4000


@pytest.mark.parametrize("name", ["real_esci", "real_hm"])
def test_real_demonstrations_find_more_than_chance_and_leave_room(name, request):
    task = request.getfixturevalue(name)
    search = Search(replace(task, test=task.train[:300]))
    generator = torch.Generator().manual_seed(0)
    taught = search.ndcg(lambda prompt: task.teacher(prompt, generator))
    others = dict(zip((p.prompt_id for p in task.train), task.train[1:], strict=False))
    chance = search.ndcg(lambda p: task.teacher(others[p.prompt_id], generator))
    assert taught > 2 * chance
    assert taught < 0.9


def test_judgement_files_hold_every_judgement_grade_0_too(small_esci, esci, esci_made, tmp_path):
    for task, judged in (
        (
            small_esci.load(),
            {q: {d: "ICSE".index(g) for d, g in own.items()} for q, *_, own in QUERIES},
        ),
        (esci, {query.query_id: query.grades for query in esci_made.queries}),
    ):
        write_qrels(tmp_path / "all.qrels", [*task.train, *task.validation, *task.test])
        found = {}
        for line in (tmp_path / "all.qrels").read_text().splitlines():
            query, _, document, grade = line.split()
            found.setdefault(query, {})[document] = int(grade)
        wanted = {query: judged[query] for query in judged.keys() & found.keys()}
        wanted = {q: {d: g for d, g in own.items() if d != "A99"} for q, own in wanted.items()}
        assert len(wanted) >= 4
        assert {query: found[query] for query in wanted} == wanted
        assert 0 in {grade for own in wanted.values() for grade in own.values()}


def test_published_texts_have_a_reading_of_their_own_and_older_runs_are_kin(esci_folder, tmp_path):
    now = data_identity(ESCI(source=Source.path, path=str(esci_folder)))
    assert now["numerics"] == 2
    assert numerics_of({"dataset": now}) == {"dataset": 2}
    before = {key: value for key, value in now.items() if key != "numerics"}
    assert digest(now) != digest(before)
    assert without_numerics(now) == before
    assert "numerics" not in data_identity(ESCI())


def test_a_locale_without_blanks_between_words_is_refused(esci_made, esci_examples, tmp_path):
    titles = pa.array(["アウトドア用大容量ポータブル電源"] * len(esci_made.products))
    at = esci_made.products.column_names.index("product_title")
    products = esci_made.products.set_column(at, "product_title", titles)
    for name, table in ((EXAMPLES, esci_examples), (PRODUCTS, products)):
        at = table.column_names.index("product_locale")
        local = table.set_column(at, "product_locale", pa.array(["jp"] * len(table)))
        pq.write_table(local, tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match=r"dataset.locale=jp, product_title: .* without blanks"):
        ESCI(source=Source.path, path=str(tmp_path), locale="jp").load()
